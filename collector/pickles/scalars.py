"""The scalars of a pickle: integers, floats, bytes and text, escapes undone. Knows no stack and no memo."""

from __future__ import annotations

import codecs
import math
import re
from contextlib import suppress

from collector.pickles.budgets import MAX_DIGITS, MAX_INTEGER_BITS
from collector.pickles.errors import RecordError
from collector.pickles.opcodes import (
    BINBYTES,
    BINBYTES8,
    BINSTRING,
    BINUNICODE8,
    BYTEARRAY8,
    FLOAT,
    INT,
    LONG,
    LONG1,
    LONG4,
    NEWFALSE,
    NEWTRUE,
    SHORT_BINBYTES,
    SHORT_BINUNICODE,
    STRING,
    UNICODE,
    claimed,
    i32,
    line_at,
    u8,
    u32,
    u64,
)

_MAX_INTEGER_BYTES = MAX_INTEGER_BITS // 8
# Rarer scalars and escapes take as long as several bytes of structure, so each counts as that many.
CALL_WEIGHT = 4
_ESCAPE_WEIGHT = 8
_MAX_ESCAPES = 64 * 1024

# Scalars whose argument is a length and as many bytes: how the length is packed, in how many bytes.
_COUNTED = {
    LONG1: (u8, 1),
    LONG4: (i32, 4),
    BINSTRING: (i32, 4),
    SHORT_BINUNICODE: (u8, 1),
    BINUNICODE8: (u64, 8),
    SHORT_BINBYTES: (u8, 1),
    BINBYTES: (u32, 4),
    BINBYTES8: (u64, 8),
    BYTEARRAY8: (u64, 8),
}
SCALARS = frozenset({*_COUNTED, NEWTRUE, NEWFALSE, FLOAT, STRING, UNICODE})
INTEGERS = frozenset({INT, LONG})
_BOOLEANS = {b"00": False, b"01": True}
_ESCAPE = re.compile(rb"""\\(x[0-9A-Fa-f]{2}|[0-3]?[0-7]{1,2}|[\\'"abfnrtv])""")
_ESCAPES = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


def scalar_at(payload: bytes, pos: int, encoding: str) -> tuple[object, int, int]:  # noqa: PLR0911 - one a kind
    """Return the scalar at *pos*, where the next opcode begins, and what the scalar adds to the limit."""
    op = payload[pos]
    if op in _COUNTED:
        unpack, width = _COUNTED[op]
        start = pos + 1 + width
        end = start + unpack(payload, pos + 1)[0]
        length = claimed(payload, start, end)
        data = payload[start:end]
        if op in (LONG1, LONG4):
            return _binary_integer(data), end, 0
        if op == BINSTRING:
            text, charge = _decoded(data, encoding)
            return text, end, length - charge
        if op in (SHORT_BINUNICODE, BINUNICODE8):
            text, charge = _decoded(data)
            return text, end, length - charge
        return bytearray(data) if op == BYTEARRAY8 else data, end, length
    if op in (NEWTRUE, NEWFALSE):
        return op == NEWTRUE, pos + 1, 0
    line, end = line_at(payload, pos + 1)
    if op == STRING:
        text, charge = _quoted(line, encoding)
        return text, end, len(line) - len("''") - charge
    if op == UNICODE:
        text, charge = _decoded(line, "raw-unicode-escape")
        return text, end, len(line) - charge
    return _float(line), end, 0


def _binary_integer(data: bytes) -> int | str:
    if len(data) <= _MAX_INTEGER_BYTES:
        return int.from_bytes(data, "little", signed=True)
    return f"{int.from_bytes(data[-16:], 'little', signed=True):#x}... ({len(data)} bytes)"


def integer(line: bytes, *, long: bool) -> int | str:
    """Return the argument of LONG, or that of INT, which may be a boolean; text of an integer too long."""
    if line in _BOOLEANS:
        return _BOOLEANS[line]
    digits = line.removesuffix(b"L")
    if len(digits) <= MAX_DIGITS:
        return int(digits)
    if not long or not digits.removeprefix(b"-").isdigit():  # INT is for integers of a machine word
        raise RecordError(f"{len(digits)} characters are no integer")
    return f"{digits[:60].decode()}... ({len(digits)} digits)"


def _float(line: bytes) -> float:
    value = float(line[:MAX_DIGITS])
    if len(line) > MAX_DIGITS or (math.isinf(value) and b"n" not in line.lower()):
        raise RecordError("out of range")
    return value


def _quoted(line: bytes, encoding: str) -> tuple[str, int]:
    """Return the text that Python 2 wrote as *line*, with quotes and escapes, and the charge for it."""
    data = line[1:-1]
    if line not in (b"'%b'" % data, b'"%b"' % data):
        raise RecordError("no quotes")
    escapes = data.count(b"\\")
    if 0 < escapes <= _MAX_ESCAPES:
        # Not codecs.escape_decode, which prints a warning for each escape that it does not know.
        data = _ESCAPE.sub(_unescaped, data)
    text, charge = _decoded(data, encoding)
    return text, charge + escapes * _ESCAPE_WEIGHT


def _unescaped(match: re.Match[bytes]) -> bytes:
    escape = match[1]
    if escape[:1] == b"x":
        return bytes.fromhex(escape[1:].decode())
    if escape.isdigit():
        return bytes([int(escape, 8)])
    return _ESCAPES.get(escape, escape)


def _decoded(data: bytes, encoding: str = "") -> tuple[str, int]:
    """Return text in *encoding* ("": that of unicode strings), and the charge for what is not valid in it."""
    try:
        return data.decode(encoding or "utf-8"), 0
    except UnicodeError:
        return undecodable(data, encoding)


def undecodable(data: bytes, encoding: str = "") -> tuple[str, int]:
    """Return text of what is not valid in *encoding*, and the charge for it.

    Nothing is lost: lone surrogates pass, other bytes are escaped, at the price of a call for each of them;
    where they may be so many that this takes long, all is read as Latin-1.
    """
    errors = len(data)
    if codecs.lookup(encoding or "utf-8").name == "utf-8":
        errors -= len(data.decode("utf-8", "ignore").encode())  # quick: here, the codec calls nobody
    if errors > _MAX_ESCAPES:
        return data.decode("latin-1"), 0
    if not encoding:
        with suppress(UnicodeError):
            return data.decode("utf-8", "surrogatepass"), errors * _ESCAPE_WEIGHT
    return data.decode(encoding or "utf-8", "backslashreplace"), errors * _ESCAPE_WEIGHT
