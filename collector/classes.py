"""What a pickle's classes and functions become: harmless values, or a Placeholder; and the text of any value.

Contract: nothing that a pickle names is looked up or called. `rebuild` knows a few classes by their names and
makes their values by its own code, from arguments checked one by one; all else becomes a Placeholder. `brief`
never raises, and its text and its time are bounded, whatever the value.

Knows no opcode, no LogRecord, no socket and no file.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from posixpath import join
from types import NoneType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    Spend = Callable[[int], None]
    """Charges so many containers to the reader's budget, or raises because it is used up."""

BRIEF_CHARACTERS = 4000
BRIEF_DEPTH = 6

# An integer is its own hash, modulo this prime: of larger ones a sender can choose thousands that collide.
HASH_MODULUS = 2**61 - 1
KEY_TYPES = frozenset({str, float, bool, NoneType})

_MAX_NAME = 200  # characters
_MAX_KNOWN_NAME = 64
_MAX_TEXT = 200  # of a number or a time zone
_MAX_PATH = 4096  # PATH_MAX of Linux
_MAX_PARTS = 256
_MAX_DURATION = 10**10
_MAX_UUID = 2**128
# 640 digits: PYTHONINTMAXSTRDIGITS cannot forbid so many, and an integer of a reading has no more.
_MAX_PRINTED_BITS = 2126
# Copies are charged as containers, or five bytes could ask for a copy of a megabyte again and again.
_BYTES_PER_CONTAINER = 256
_KEY_CHARACTERS_PER_CONTAINER = 4

_RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg", "pathlib._local": "pathlib"}


class Placeholder:
    """Stands for a class or a function (`args` is None), or for what calling it would have made."""

    __slots__ = ("args", "items", "module", "name", "slot", "state")

    def __init__(self, module: str, name: str, args: tuple[object, ...] | None = None) -> None:
        self.module = module
        self.name = name
        self.args = args
        self.items: list[object] | dict[object, object] | None = None
        self.state: object = None
        self.slot = -1
        """The memo slot that its pickler put it into right after making it; -1: none."""

    def __repr__(self) -> str:
        return brief(self)


def is_key(value: object) -> bool:
    """Tell whether *value* may be a key: whether its hash is quick, and no choice of its sender."""
    return type(value) in KEY_TYPES or (type(value) is int and -HASH_MODULUS < value < HASH_MODULUS)


def as_key(value: object, spend: Spend) -> object:
    """Return *value* if it may be a key, else text that stands for it."""
    if is_key(value):
        return value
    if type(value) is int:
        return str(value)
    text = brief(value)
    spend(1 + len(text) // _KEY_CHARACTERS_PER_CONTAINER)
    return text


def rebuild(called: Placeholder, args: tuple[object, ...], spend: Spend) -> object:
    """Return what stands for the result of calling *called* with *args*."""
    if called.args is not None:
        spend(len(args))
        return Placeholder("", "__call__", (called, *args))
    if len(called.module) + len(called.name) <= _MAX_KNOWN_NAME:
        name = f"{_RENAMED.get(called.module, called.module)}.{called.name}"
        with suppress(ArithmeticError, TypeError, ValueError):  # arguments out of range
            made = _rebuilt(name, args, spend)
            if made is not None:
                return made
    return Placeholder(called.module, called.name, args)


def with_state(instance: Placeholder, state: object) -> object:
    """Return what stands for *instance* in the *state* that it is given."""
    match instance.module, instance.name, state:
        case "uuid", "UUID", {"int": int(number)} if 0 <= number < _MAX_UUID:
            return re.sub(r"^(.{8})(.{4})(.{4})(.{4})", r"\1-\2-\3-\4-", f"{number:032x}")
    instance.state = state
    return instance


def _rebuilt(name: str, args: tuple[object, ...], spend: Spend) -> object:  # noqa: C901, PLR0911, PLR0912 - a table
    """Return what a known class or function makes of arguments that it can take, else None, or raise.

    The real ones take more: bytearray(2**31), encode(text, "punycode") for minutes, a datetime's 255th day.
    """
    match name, args:
        case "_codecs.encode" | "builtins.bytearray", (str(text), "latin1" | "latin-1"):
            spend(len(text) // _BYTES_PER_CONTAINER)
            data = text.encode("latin-1")
            return data if name == "_codecs.encode" else bytearray(data)
        case "builtins.bytearray", (bytes(data),):
            spend(len(data) // _BYTES_PER_CONTAINER)
            return bytearray(data)
        case "builtins.bytearray", ():
            return bytearray()
        case "builtins.bytes", ():
            return b""
        case "builtins.complex", (int() | float() as real, int() | float() as imaginary):
            return complex(real, imaginary)
        case "builtins.getattr", (Placeholder(args=None) as owner, str(attribute)):  # of enums and time zones
            return Placeholder(owner.module, f"{_cut(owner.name)}.{_cut(attribute)}")
        case "collections.OrderedDict", ():
            return {}
        case "collections.OrderedDict", (list(pairs),):  # of Python 2
            spend(len(pairs))
            if all(type(pair) in {list, tuple} for pair in pairs):
                return {as_key(key, spend): value for key, value in pairs}
        case "copyreg._reconstructor", (Placeholder(args=None) as cls, Placeholder(name="object"), None):
            return Placeholder(cls.module, cls.name, ())
        case "copyreg._reconstructor", (Placeholder(args=None) as cls, Placeholder(), base):
            return Placeholder(cls.module, cls.name, (base,))
        case "copyreg.__newobj__" | "copyreg.__newobj_ex__", (Placeholder(args=None) as cls, *rest):
            spend(len(rest))
            return Placeholder(cls.module, cls.name, tuple(rest))
        case "datetime.date", (state,):
            century, year, month, day = _packed(state, 4)
            return date(century << 8 | year, month, day)
        case "datetime.datetime", (state, *zone):
            century, year, month, day, hour, minute, second, *micro = _packed(state, 10)
            moment = datetime(century << 8 | year, month & 127, day, hour, minute, second)  # noqa: DTZ001 - _zoned
            return _zoned(moment.replace(microsecond=int.from_bytes(micro, "big"), fold=month >> 7), zone)
        case "datetime.time", (state, *zone):
            hour, minute, second, *micro = _packed(state, 6)
            return _zoned(
                time(hour & 127, minute, second, int.from_bytes(micro, "big"), fold=hour >> 7), zone
            )
        case "datetime.timedelta", (int(days), int(seconds), int(microseconds)):
            if max(map(abs, (days, seconds, microseconds))) < _MAX_DURATION:
                return timedelta(days, seconds, microseconds)
        case "datetime.timezone", (timedelta() as offset,):
            return timezone(offset)
        case "datetime.timezone", (timedelta() as offset, str(text)) if len(text) <= _MAX_TEXT:
            return timezone(offset, text)
        case "decimal.Decimal", (str(text),) if len(text) <= _MAX_TEXT:
            return Decimal(text)
        case "pathlib.PosixPath" | "pathlib.PurePosixPath", parts if len(parts) <= _MAX_PARTS:
            texts = [part for part in parts if isinstance(part, str)]
            if len(texts) == len(parts) and sum(map(len, texts)) <= _MAX_PATH:
                spend(sum(map(len, texts)) // _BYTES_PER_CONTAINER)
                return join(*texts) if texts else "."
    return None


def _packed(state: object, length: int) -> bytes:
    """Return the state of a date or time; Python 2 sends a byte string, which has been decoded by now."""
    if isinstance(state, str) and len(state) <= length * len(r"\xff"):
        if len(state) == length:
            state = state.encode("latin-1")
        else:
            state = re.sub(
                rb"\\x([0-9a-f]{2})", lambda match: bytes.fromhex(match[1].decode()), state.encode()
            )
    if not isinstance(state, bytes) or len(state) != length:
        raise TypeError
    return state


def _zoned(moment: datetime | time, zone: list[object]) -> object:
    match zone:
        case []:
            return moment
        case [timezone() as known]:
            return moment.replace(tzinfo=known)
        case _:
            return Placeholder("datetime", type(moment).__name__, (moment, *zone))


_NESTED = frozenset({list, tuple, dict, Placeholder})
_PRINTED = frozenset({float, bool, NoneType, complex, Decimal, datetime, date, time, timedelta, timezone})


def brief(value: object) -> str:
    """Return *value* as text: a str as it is, all else in 4000 characters and 6 levels; "..." shows a cut."""
    if type(value) is str:
        return value
    if type(value) not in _NESTED:
        text = _scalar(value, BRIEF_CHARACTERS)
    else:
        writer = _Writer()
        writer.add(value, ())
        text = "".join(writer.pieces)
    return text if len(text) <= BRIEF_CHARACTERS else f"{text[: BRIEF_CHARACTERS - 3]}..."


def _scalar(value: object, room: int) -> str:
    """Return the text of what holds no other values; it is longer than *room* only if it has to be cut."""
    if type(value) is str or type(value) is bytes:
        return repr(value[: room + 1])
    if type(value) is int:
        return str(value) if value.bit_length() <= _MAX_PRINTED_BITS else hex(value)
    if type(value) in _PRINTED:
        return str(value)
    if type(value) is bytearray:
        return f"bytearray({bytes(value[: room + 1])!r})"
    return f"<{type(value).__name__}>"  # no value of a reading


class _Writer:
    """The pieces of a text, and the room left for more: below 0, all that could follow is going to be cut."""

    __slots__ = ("pieces", "room")

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.room = BRIEF_CHARACTERS

    def add(self, value: object, path: tuple[int, ...]) -> None:
        """Add the text of *value*; *path* has the ids of what it stands in, one for each level."""
        if type(value) not in _NESTED:
            self.add_text(_scalar(value, self.room))
        elif len(path) == BRIEF_DEPTH or id(value) in path:
            self.add_text("...")
        elif type(value) is list:
            self.add_all("[", value, "]", (*path, id(value)))
        elif type(value) is tuple:
            self.add_all("(", value, ",)" if len(value) == 1 else ")", (*path, id(value)))
        elif type(value) is dict:
            self.add_all("{", value, "}", (*path, id(value)))
        elif type(value) is Placeholder:
            self.add_placeholder(value, (*path, id(value)))

    def add_text(self, text: str) -> None:
        self.pieces.append(text)
        self.room -= len(text)

    def add_all(self, opening: str, values: Collection[object], closing: str, path: tuple[int, ...]) -> None:
        self.add_text(opening)
        separator = ""
        for value in values:
            self.add_text(separator)
            separator = ", "
            if self.room < 0:
                return
            self.add(value, path)
            if type(values) is dict and self.room >= 0:
                self.add_text(": ")
                self.add(values[value], path)
        self.add_text(closing)

    def add_placeholder(self, value: Placeholder, path: tuple[int, ...]) -> None:
        name = repr(_cut(value.name))[1:-1]
        if value.args is None:
            module = repr(_cut(value.module))[1:-1]
            return self.add_text(f"<{module}.{name}>")
        args, rest = value.args, [part for part in (value.items, value.state) if part is not None]
        if not args and value.items is not None:
            args = (rest.pop(0),)  # set([1, 2]): like the call that would make it
        self.add_all(f"{name}(", args, ")", path)
        for part in rest:
            if self.room >= 0:
                self.add_text(" ")
                self.add(part, path)
        return None


def _cut(name: str) -> str:
    return name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 3]}..."
