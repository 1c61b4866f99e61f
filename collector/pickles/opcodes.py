"""The opcodes of protocols 0 to 5, and the forms of their arguments.

Format: pickletools.py in the standard library, whose names the opcodes have here.
"""

from __future__ import annotations

import struct

from collector.pickles.budgets import MAX_DIGITS
from collector.pickles.errors import RecordError

BINUNICODE, SHORT_BINSTRING, NONE, BININT1, BINFLOAT, BININT2, BININT = b"XUNKGMJ"
BINPUT, LONG_BINPUT, PUT, BINGET, LONG_BINGET, GET, MEMOIZE = b"qrphjg\x94"
MARK, SETITEMS, STOP, EMPTY_DICT, EMPTY_LIST, EMPTY_TUPLE, EMPTY_SET = b"(u.}])\x8f"
TUPLE, LIST, DICT, FROZENSET, TUPLE1, TUPLE2, TUPLE3 = b"tld\x91\x85\x86\x87"
APPEND, APPENDS, SETITEM, ADDITEMS, POP, POP_MARK, DUP = b"aes\x90012"
GLOBAL, STACK_GLOBAL, REDUCE, NEWOBJ, NEWOBJ_EX, OBJ, INST, BUILD = b"c\x93R\x81\x92oib"
PROTO, FRAME, NEWTRUE, NEWFALSE, INT, LONG, FLOAT, STRING, UNICODE = b"\x80\x95\x88\x89ILFSV"
LONG1, LONG4, BINSTRING, SHORT_BINUNICODE, BINUNICODE8 = b"\x8a\x8bT\x8c\x8d"
SHORT_BINBYTES, BINBYTES, BINBYTES8, BYTEARRAY8 = b"CB\x8e\x96"

SLOTS = frozenset({BINGET, LONG_BINGET, GET, PUT})
"""Those whose argument is a slot of the memo, but for the most frequent ones."""

u8 = struct.Struct("<B").unpack_from
u16 = struct.Struct("<H").unpack_from
u32 = struct.Struct("<I").unpack_from
i32 = struct.Struct("<i").unpack_from
u64 = struct.Struct("<Q").unpack_from
f64 = struct.Struct(">d").unpack_from

_MAX_SLOT = 2**32


def claimed(payload: bytes, start: int, end: int) -> int:
    """Return the length of an argument; one that goes beyond the payload is refused on the claim alone."""
    if not start <= end <= len(payload):
        raise RecordError(f"claims {end - start} bytes, and {len(payload) - start} follow")
    return end - start


def line_at(payload: bytes, pos: int) -> tuple[bytes, int]:
    """Return the line from *pos* on, and where the next one begins."""
    end = payload.index(b"\n", pos)
    return payload[pos:end], end + 1


def slot_at(payload: bytes, pos: int) -> tuple[int, int]:
    """Return the argument of the opcode at *pos*, one of SLOTS, and where the next opcode begins."""
    op = payload[pos]
    if op == BINGET:
        return payload[pos + 1], pos + 2
    if op == LONG_BINGET:
        return u32(payload, pos + 1)[0], pos + 5
    line, end = line_at(payload, pos + 1)
    slot = int(line[:MAX_DIGITS])
    if not 0 <= slot < _MAX_SLOT:  # larger ones could be chosen to collide in the memo
        raise RecordError("not a memo slot")
    return slot, end
