"""The scalars and arrays of numpy: what their bytes say, by our own code.

Contract: returns a value, or raises TypeError, ValueError or LookupError: if the bytes are not numpy's, or if
an array has more than 100 elements.
Format: numpy's `dtype.__reduce__` and `ndarray.__reduce__`; numpy 1 and 2, and numpy under Python 2.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal, localcontext

from collector.pickles.placeholder import Placeholder, Text, raw_bytes

MAX_ELEMENTS = 100
_MAX_DIMENSIONS = 64
_MAX_ITEM_BYTES = 64 * 1024

_NOT_A_TIME = -(2**63)
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - numpy knows no zones
_CYCLE_YEARS, _CYCLE_SECONDS = 400, 146_097 * 86_400
# By the unit's name: what timedelta64 calls it, and for those of fixed length how many a second has or lasts.
_UNITS = {
    "Y": "years",
    "M": "months",
    "W": "weeks",
    "D": "days",
    "h": "hours",
    "m": "minutes",
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "μs": "microseconds",
    "ns": "nanoseconds",
    "ps": "picoseconds",
    "fs": "femtoseconds",
    "as": "attoseconds",
    "generic": "generic time units",
}
_SECONDS = {"W": 604_800, "D": 86_400, "h": 3_600, "m": 60, "s": 1}
_DIGITS = {"ms": 3, "us": 6, "μs": 6, "ns": 9, "ps": 12, "fs": 15, "as": 18}
_FLOATS = {2: ("e", 5), 4: ("f", 9), 8: ("d", 17)}
_FLOAT_SIZES = frozenset({*_FLOATS, 12, 16})
_COMPLEX_SIZES = frozenset(2 * size for size in _FLOAT_SIZES)
_LONG_BIAS, _LONG_SPECIAL, _ALL_BITS = 16383 + 63, 0x7FFF, 2**64 - 1
_LEAST_SHIFT = -1000  # of what a double holds with all of its bits


@dataclass(frozen=True)
class _Kind:
    """What a dtype says of each element."""

    kind: str
    """Its letter: b i u f c M m S U O; T is S of Python 2."""
    size: int
    """In bytes."""
    order: str
    """Of the bytes, as `struct` has it."""
    unit: str
    """Of a datetime64 or timedelta64."""
    count: int
    """How many of these units one element counts."""


def scalar(args: tuple[object, ...]) -> object:
    """Return the value of a call of numpy's `scalar`."""
    dtype, data = args
    kind = _of_text(_kind(dtype), data)
    return _element(kind, raw_bytes(data, kind.size))


def array(instance: Placeholder) -> object:
    """Return an array as nested lists: what `_reconstruct` makes and a state fills."""
    match instance.state:
        case (_, tuple(shape), dtype, fortran, data):
            return _nested(shape, _kind(dtype), data, fortran=bool(fortran))
    raise TypeError


def array_of_buffer(args: tuple[object, ...]) -> object:
    """Return the array of a call of numpy's `_frombuffer`, which protocol 5 has."""
    data, dtype, shape, order = args
    if type(shape) is not tuple:
        raise TypeError
    return _nested(shape, _kind(dtype), data, fortran=order == "F")


def _kind(dtype: object) -> _Kind:
    if not isinstance(dtype, Placeholder) or dtype.known_as != ("numpy", "dtype"):
        raise TypeError
    name, state = (dtype.args or (None,))[0], dtype.state
    if type(name) is not str or type(state) is not tuple or state[2:5] != (None, None, None):
        raise TypeError  # structured
    kind, size = name[:1], int(name[1:] or "0")
    if kind in ("U", "S"):
        size = state[5]
    elif kind == "O":
        size = 1
    of_floats = {"f": _FLOAT_SIZES, "c": _COMPLEX_SIZES}.get(kind)
    if of_floats and size not in of_floats:
        raise ValueError
    if kind not in "biufcMmSUO" or type(size) is not int or not 0 <= size <= _MAX_ITEM_BYTES:
        raise TypeError
    unit, count = "", 1
    if kind in "Mm":
        _, (unit, count, *_) = state[8]
        unit = unit.decode() if isinstance(unit, bytes) else unit
        if type(unit) is not str or unit not in _UNITS or type(count) is not int:
            raise TypeError
    return _Kind(kind, size, ">" if state[1] == ">" else "<", unit, count)


def _nested(shape: tuple[object, ...], kind: _Kind, data: object, *, fortran: bool) -> object:
    sizes = [size for size in shape if type(size) is int and 0 <= size <= MAX_ELEMENTS]
    count = math.prod(sizes)
    if len(sizes) != len(shape) or len(sizes) > _MAX_DIMENSIONS:
        raise ValueError
    if math.prod(size or 1 for size in sizes) > MAX_ELEMENTS:  # lists of nothing are as many lists
        raise ValueError
    if kind.kind == "O":
        if type(data) is not list or len(data) != count:
            raise TypeError
        flat: list[object] = list(data)
    else:
        if count * kind.size > _MAX_ITEM_BYTES:
            raise ValueError
        kind = _of_text(kind, data)
        data = raw_bytes(data, count * kind.size)
        flat = [_element(kind, data[at * kind.size : (at + 1) * kind.size]) for at in range(count)]
    if fortran:
        flat = [flat[_fortran(at, sizes)] for at in range(count)]
    return _rows(flat, sizes) if sizes else flat[0]


def _rows(flat: list[object], sizes: list[int]) -> list[object]:
    if len(sizes) == 1:
        return flat
    width = math.prod(sizes[1:])
    return [_rows(flat[at * width : (at + 1) * width], sizes[1:]) for at in range(sizes[0])]


def _of_text(kind: _Kind, data: object) -> _Kind:
    """Return the kind of what has the byte strings of Python 2, which are text."""
    return replace(kind, kind="T") if kind.kind == "S" and isinstance(data, str) else kind


def _fortran(at: int, sizes: list[int]) -> int:
    """Return the column-major index of the element whose row-major index is *at*."""
    place, stride, index = 0, 1, []
    for size in reversed(sizes):
        at, one = divmod(at, size)
        index.append(one)
    for one, size in zip(reversed(index), sizes, strict=True):
        place += one * stride
        stride *= size
    return place


def _element(kind: _Kind, data: bytes) -> object:  # noqa: PLR0911 - a kind each
    big = kind.order == ">"
    match kind.kind:
        case "b":
            return data != b"\0"
        case "i" | "u":
            return int.from_bytes(data, "big" if big else "little", signed=kind.kind == "i")
        case "f":
            return _float(data, kind.order)
        case "c":
            half = len(data) // 2
            parts = [_float(piece, kind.order) for piece in (data[:half], data[half:])]
            return complex(*map(float, parts))
        case "U":
            return data.decode(f"utf-32-{'be' if big else 'le'}", "surrogatepass").rstrip("\0")
        case "S":
            return data.rstrip(b"\0")
        case "T":
            return data.rstrip(b"\0").decode("utf-8", "backslashreplace")
        case _:
            number = int.from_bytes(data, "big" if big else "little", signed=True)
            if number == _NOT_A_TIME:
                return Text("NaT")
            made = _moment if kind.kind == "M" else _duration
            return Text(made(number * kind.count, kind.unit))


def _float(data: bytes, order: str) -> float | Text:
    """Return a number with as few digits as tell it from its neighbours, as numpy prints it."""
    if len(data) not in _FLOATS:
        return _long_double(data)
    code, digits = _FLOATS[len(data)]
    number: float = struct.unpack(order + code, data)[0]
    if code == "d" or not math.isfinite(number):
        return number
    for precision in range(1, digits):
        short = float(f"{number:.{precision}g}")
        try:
            if struct.pack(order + code, short) == data:
                return short
        except OverflowError:  # rounded beyond the largest
            continue
    return number


def _long_double(data: bytes) -> float | Text:
    """Return a number of x86's 80 bits, which 12 or 16 bytes hold."""
    mantissa, exponent = struct.unpack_from("<QH", data)
    sign, exponent = (-1 if exponent & 0x8000 else 1), exponent & 0x7FFF
    if exponent == _LONG_SPECIAL:
        return math.nan if mantissa << 1 & _ALL_BITS else sign * math.inf
    shift = exponent - _LONG_BIAS
    number = sign * math.ldexp(mantissa, shift)
    if not mantissa % 2**11 and shift > _LEAST_SHIFT:
        return number  # a double has all of its bits
    with localcontext() as context:
        context.prec = 60
        exact, half = mantissa * Decimal(2) ** shift, Decimal(2) ** (shift - 1)
        for digits in (18, 19, 20, 21):
            short = Decimal(f"{exact:.{digits - 1}e}")
            if abs(short - exact) < half:
                break
    plain = 1e-4 <= abs(number) < 1e16  # noqa: PLR2004 - as numpy and Python print floats
    short = sign * short.normalize()
    return Text(f"{short:f}" if plain else f"{short:e}")


def _moment(number: int, unit: str) -> str:
    """Return the text of a datetime64, a *number* of units since 1970."""
    if unit == "Y":
        return f"{1970 + number:04}"
    if unit == "M":
        return f"{1970 + number // 12:04}-{number % 12 + 1:02}"
    digits = _DIGITS.get(unit, 0)
    if not digits:
        seconds, rest = number * _SECONDS[unit], 0
    else:
        seconds, rest = divmod(number, 10**digits)
    # The calendar repeats itself, and Python's knows fewer years.
    cycles, seconds = divmod(seconds, _CYCLE_SECONDS)
    moment = _EPOCH + timedelta(seconds=seconds)
    day = f"{moment.year + _CYCLE_YEARS * cycles:04}-{moment:%m-%d}"
    if unit in ("W", "D"):
        return day
    time = moment.time().isoformat(timespec={"h": "hours", "m": "minutes"}.get(unit, "seconds"))
    text = f"{day}T{time}"
    return f"{text}.{rest:0{digits}}" if digits else text


def _duration(number: int, unit: str) -> str:
    return f"{number} {_UNITS[unit]}"
