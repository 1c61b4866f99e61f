"""Read one pickle, protocols 0 to 5, as data: bytes become plain Python values, and nothing is run.

Contract: `read` returns a Reading or raises RecordError, whatever the bytes, in a time and a memory that the
budgets below bound. No class or function is looked up on a pickle's behalf: `classes` says what becomes of
those it names. A value may contain itself, or one list in so many places that no walk through it would end:
make text of it with `values.brief`, or bound the walk.

Refuses to know what a LogRecord, a socket or a file is, and the module `pickle`: with every global refused,
its unpickler still takes gigabytes, hangs or crashes on frames of a few hundred bytes.

Format: pickletools.py in the standard library, whose names the opcodes have here.
"""

from __future__ import annotations

import codecs
import math
import re
import struct
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from collector.pickles.meanings import masks_itself
from collector.pickles.placeholder import Placeholder
from collector.pickles.rebuild import KEY_TYPES, as_key, is_key, rebuild

MAX_STRUCTURE = 1024 * 1024
"""Bytes other than the contents of strings: 1500 extras have 20 kB; 1 MiB costs up to 0.2 s and 40 MB."""
MAX_CONTAINERS = 100_000
"""Containers, marks, globals, calls, moves on the stack: up to 2 us and 250 bytes of memory for a byte."""
MAX_DEPTH = 100
"""Marks open at once, which is what is under construction; nothing bounds the depth of a finished value."""
MAX_DIGITS = 640
"""Of an integer; a longer one becomes text. Decimals take quadratic time, and may be forbidden to print."""

_MAX_INTEGER_BYTES = 265
_MAX_SLOT = 2**32
_MAX_PROTOCOL = 5
# What takes as long as several bytes of structure counts as more: scalars of the rarer kinds, and escapes.
_CALL_WEIGHT = 4
_ESCAPE_WEIGHT = 8
_MAX_ESCAPES = 64 * 1024

_u8 = struct.Struct("<B").unpack_from
_u16 = struct.Struct("<H").unpack_from
_u32 = struct.Struct("<I").unpack_from
_i32 = struct.Struct("<i").unpack_from
_u64 = struct.Struct("<Q").unpack_from
_f64 = struct.Struct(">d").unpack_from

_BINUNICODE, _SHORT_BINSTRING, _NONE, _BININT1, _BINFLOAT, _BININT2, _BININT = b"XUNKGMJ"
_BINPUT, _LONG_BINPUT, _PUT, _BINGET, _LONG_BINGET, _GET, _MEMOIZE = b"qrphjg\x94"
_MARK, _SETITEMS, _STOP, _EMPTY_DICT, _EMPTY_LIST, _EMPTY_TUPLE, _EMPTY_SET = b"(u.}])\x8f"
_TUPLE, _LIST, _DICT, _FROZENSET, _TUPLE1, _TUPLE2, _TUPLE3 = b"tld\x91\x85\x86\x87"
_APPEND, _APPENDS, _SETITEM, _ADDITEMS, _POP, _POP_MARK, _DUP = b"aes\x90012"
_GLOBAL, _STACK_GLOBAL, _REDUCE, _NEWOBJ, _NEWOBJ_EX, _OBJ, _INST, _BUILD = b"c\x93R\x81\x92oib"
_PROTO, _FRAME, _NEWTRUE, _NEWFALSE, _INT, _LONG, _FLOAT, _STRING, _UNICODE = b"\x80\x95\x88\x89ILFSV"
_LONG1, _LONG4, _BINSTRING, _SHORT_BINUNICODE, _BINUNICODE8 = b"\x8a\x8bT\x8c\x8d"
_SHORT_BINBYTES, _BINBYTES, _BINBYTES8, _BYTEARRAY8 = b"CB\x8e\x96"

# Scalars whose argument is a length and as many bytes, and how the length is packed.
_COUNTED = {
    _LONG1: (_u8, 1),
    _LONG4: (_i32, 4),
    _BINSTRING: (_i32, 4),
    _SHORT_BINUNICODE: (_u8, 1),
    _BINUNICODE8: (_u64, 8),
    _SHORT_BINBYTES: (_u8, 1),
    _BINBYTES: (_u32, 4),
    _BINBYTES8: (_u64, 8),
    _BYTEARRAY8: (_u64, 8),
}
_SCALARS = frozenset({*_COUNTED, _NEWTRUE, _NEWFALSE, _FLOAT, _STRING, _UNICODE})
_INTEGERS = frozenset({_INT, _LONG})
_PUTS = frozenset({_BINPUT, _LONG_BINPUT, _PUT})
_SLOTS = frozenset({_BINGET, _LONG_BINGET, _GET, _PUT})

_BOOLEANS = {b"00": False, b"01": True}
_ESCAPE = re.compile(rb"""\\(x[0-9A-Fa-f]{2}|[0-3]?[0-7]{1,2}|[\\'"abfnrtv])""")
_ESCAPES = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_MAX_PARTS = (
    4  # on the stack, of an object that is not finished: itself, its state, and a key and value of that
)
_NEW = Placeholder("copyreg", "__newobj__")

_OF_PYTHON_2 = frozenset(IMPORT_MAPPING) | {module for module, _ in NAME_MAPPING}
"""Modules of which Python 3 has other names."""
# As a dict with a memo slot begins if its first key is a byte string.
_FROM_PYTHON_2 = re.compile(rb"(?:\x80\x02)?(?:\}q.\(|\(dp\d+\n)[UTS]", re.DOTALL)

_Kind = TypeVar("_Kind", list[object], dict[object, object])


class RecordError(ValueError):
    """The payload cannot be read; the text says at which byte and why, and is fit for a log line."""

    reason = "not a pickle that can be read"
    """The kind of it, as it is counted."""


class _OverBudgetError(Exception):
    """A budget ran out: what has been decoded so far is the result."""


class Reading(NamedTuple):
    """What a payload said."""

    value: object
    over: str
    """The budget that ran out, and *value* is what was decoded until then; "" if all of it was decoded."""
    plain: bool
    """It is one dict of scalars, made at one go, and nothing else.

    Where `read(b"}(" + fragment + b"u.")` is plain, *fragment* says the same in every other plain payload.
    """
    alone: bool
    """It is one dict, filled at one go, and all else was made of what stands inside.

    Where `read(b"}(" + items + b"u.")` is alone, *items* say the same at the end of every payload that is an
    open dict, unless what is before them has used up a budget.
    """


def read(payload: bytes, encoding: str = "utf-8") -> Reading:  # noqa: C901, PLR0912, PLR0915 - calls double its time
    r"""Read *payload*, which is one pickle from its first byte to its last.

    *encoding*, a codec known to exist, is that of byte strings from Python 2; what is not valid in it is
    escaped, `\xe9`. Raises RecordError.
    """
    size = len(payload)
    # The loop ends at `limit`, which every string raises by its length. Only a payload that could exceed the
    # budget pays for that; for any other, `limit` lies beyond its end by more than all weights usually are.
    bound, limit = (size, 2 * MAX_STRUCTURE) if size <= MAX_STRUCTURE else (-1, MAX_STRUCTURE)
    machine = _Machine(payload)
    stack, below, memo = machine.stack, machine.below, machine.memo
    append = stack.append
    root: dict[object, object] = {}
    plain = True
    opened = 0  # how often a mark was set above nothing but what is finished
    chosen = False  # whether there may be integers whose hash their sender has chosen
    closed = pos = 0  # where the last SETITEMS ended; where the opcode in work begins
    try:
        while pos < limit:
            op = payload[pos]  # tested in the order of their frequency; BINPUT nearly always follows a string
            if op == _BINUNICODE:
                start = pos + 5
                end = start + _u32(payload, pos + 1)[0]
                if end > bound:
                    limit += _claimed(payload, start, end)
                try:
                    text = payload[start:end].decode()
                except UnicodeError:
                    text, charge = _undecodable(payload[start:end])
                    limit -= charge
                append(text)
                if payload[end] == _BINPUT:
                    memo[payload[end + 1]] = text
                    pos = end + 2
                else:
                    pos = end
            elif op == _SHORT_BINSTRING:  # what BINUNICODE is to Python 3, this is to Python 2
                start = pos + 2
                end = start + payload[pos + 1]
                if end > bound:
                    limit += _claimed(payload, start, end)
                try:
                    text = payload[start:end].decode(encoding)
                except UnicodeError:
                    text, charge = _undecodable(payload[start:end], encoding)
                    limit -= charge
                append(text)
                if payload[end] == _BINPUT:
                    memo[payload[end + 1]] = text
                    pos = end + 2
                else:
                    pos = end
            elif op == _NONE:
                append(None)
                pos += 1
            elif op == _BININT1:
                append(payload[pos + 1])
                pos += 2
            elif op == _BINFLOAT:
                append(_f64(payload, pos + 1)[0])
                pos += 9
            elif op == _BININT2:
                append(_u16(payload, pos + 1)[0])
                pos += 3
            elif op == _BINPUT:
                memo[payload[pos + 1]] = stack[-1]
                pos += 2
            elif op == _BININT:
                append(_i32(payload, pos + 1)[0])
                pos += 5
            elif op == _LONG_BINPUT:
                memo[_u32(payload, pos + 1)[0]] = stack[-1]
                pos += 5
            elif op in _INTEGERS:  # of more than 32 bits, such as every thread's id
                line, end = _line(payload, pos + 1)
                number = _integer(line, long=op == _LONG)
                append(number)
                chosen = chosen or not is_key(number)
                limit -= _CALL_WEIGHT
                pos = end
            elif op in _SCALARS:
                value, end, credit = _scalar(payload, pos, encoding)
                append(value)
                plain = plain and type(value) is not bytes and type(value) is not bytearray
                chosen = chosen or (type(value) is int and not is_key(value))
                limit += credit - _CALL_WEIGHT
                pos = end
            elif op == _MARK and not below:
                plain = plain and not closed and len(stack) == 1 and stack[0] is root
                opened += 1
                below.append(stack)
                stack = []
                append = stack.append
                pos += 1
            elif op == _SETITEMS:
                items, stack = stack, below.pop()
                append = stack.append
                if plain and not chosen and not len(items) % 2:
                    pairs = iter(items)
                    root.update(zip(pairs, pairs))  # noqa: B905 - saves half a microsecond; the number is even
                else:
                    machine.stack = stack
                    machine.fill(items)
                pos += 1
                closed = pos
            elif op == _EMPTY_DICT and not pos:
                append(root)
                pos = 1
            elif op in _SLOTS:
                slot, end = _slot(payload, pos)
                if op == _PUT:
                    memo[slot] = stack[-1]
                else:
                    append(memo[slot])
                    plain = plain and memo[slot] is not root
                limit -= _CALL_WEIGHT
                pos = end
            elif op == _STOP:
                if pos + 1 != size:
                    raise RecordError("bytes follow it")
                if below or len(stack) != 1:
                    raise RecordError("the stack does not hold one value")
                at_one_go = closed == pos and opened == 1 and stack[0] is root
                return Reading(stack[0], "", plain and at_one_go, at_one_go and not machine.numbered)
            else:
                plain = False
                machine.stack = stack
                machine.pos = pos + 1
                machine.step(op)
                stack = machine.stack
                append = stack.append
                pos = machine.pos
        over = f"more than {MAX_STRUCTURE} bytes of structure"
    except _OverBudgetError as budget:
        stack = machine.stack
        over = str(budget)
    except (IndexError, KeyError, ValueError, struct.error) as fault:
        raise RecordError(_explained(fault, payload, pos)) from None
    return Reading(_salvaged(stack, below), over, plain=False, alone=False)


def read_items(payload: bytes, pos: int, encoding: str = "utf-8") -> dict[Any, object] | None:
    """Return the items from *pos* to the end of a payload whose dict is still open, as `read` does.

    None if they depend on what is before them, or cannot be read.
    """
    items = _usual_items(payload, pos)
    if items is None:
        with suppress(RecordError):
            reading = read(b"}(" + payload[pos:], encoding)
            if reading.alone:
                return reading.value  # type: ignore[return-value] # which is a dict
    return items


def _usual_items(payload: bytes, pos: int) -> dict[Any, object] | None:  # noqa: C901 - as above
    """Return what read_items() does where all is text and numbers, none of them a reference; else None.

    That is what a SocketHandler makes of most extras, and `read` would need three times as long.
    """
    items: dict[Any, object] = {}
    try:
        while payload[pos] == _BINUNICODE:
            start = pos + 5
            end = start + _u32(payload, pos + 1)[0]
            key = payload[start:end].decode()
            if payload[end] != _BINPUT:
                return None
            pos = end + 2
            op = payload[pos]
            if op == _BINUNICODE:
                start = pos + 5
                end = start + _u32(payload, pos + 1)[0]
                items[key] = payload[start:end].decode()
                if payload[end] != _BINPUT:
                    return None
                pos = end + 2
            elif op == _BININT1:
                items[key] = payload[pos + 1]
                pos += 2
            elif op == _BININT2:
                items[key] = _u16(payload, pos + 1)[0]
                pos += 3
            elif op == _BININT:
                items[key] = _i32(payload, pos + 1)[0]
                pos += 5
            elif op == _BINFLOAT:
                items[key] = _f64(payload, pos + 1)[0]
                pos += 9
            elif op == _NONE:
                items[key] = None
                pos += 1
            elif op in _INTEGERS:  # True and False too
                line, pos = _line(payload, pos + 1)
                items[key] = _integer(line, long=op == _LONG)
            else:
                return None
    except (IndexError, ValueError, struct.error):
        return None
    return items if payload[pos:] == b"u." else None


def _explained(fault: Exception, payload: bytes, pos: int) -> str:
    if pos >= len(payload):
        return f"byte {pos}: ends without STOP"
    what = "bytes, values or marks are missing"  # IndexError, struct.error
    if isinstance(fault, RecordError):
        what = str(fault)
    elif isinstance(fault, KeyError):
        what = "a memo slot that was never set"
    elif isinstance(fault, ValueError):
        what = "its argument cannot be read"
    return f"byte {pos}, opcode {payload[pos : pos + 1]!r}: {what}"


def _claimed(payload: bytes, start: int, end: int) -> int:
    """Return the length of an argument; one that goes beyond the payload is refused on the claim alone."""
    if not start <= end <= len(payload):
        raise RecordError(f"claims {end - start} bytes, and {len(payload) - start} follow")
    return end - start


def _line(payload: bytes, pos: int) -> tuple[bytes, int]:
    """Return the line from *pos* on, and where the next one begins."""
    end = payload.index(b"\n", pos)
    return payload[pos:end], end + 1


def _slot(payload: bytes, pos: int) -> tuple[int, int]:
    """Return the argument of an opcode for the memo, and where the next opcode begins."""
    op = payload[pos]
    if op in (_BINGET, _BINPUT):
        return payload[pos + 1], pos + 2
    if op in (_LONG_BINGET, _LONG_BINPUT):
        return _u32(payload, pos + 1)[0], pos + 5
    line, end = _line(payload, pos + 1)
    slot = int(line[:MAX_DIGITS])
    if not 0 <= slot < _MAX_SLOT:  # larger ones could be chosen to collide in the memo
        raise RecordError("not a memo slot")
    return slot, end


def _scalar(payload: bytes, pos: int, encoding: str) -> tuple[object, int, int]:  # noqa: PLR0911 - one a kind
    """Return the scalar at *pos*, where the next opcode begins, and what the scalar adds to the limit."""
    op = payload[pos]
    if op in _COUNTED:
        unpack, width = _COUNTED[op]
        start = pos + 1 + width
        end = start + unpack(payload, pos + 1)[0]
        length = _claimed(payload, start, end)
        data = payload[start:end]
        if op in (_LONG1, _LONG4):
            return _binary_integer(data), end, 0
        if op == _BINSTRING:
            text, charge = _decoded(data, encoding)
            return text, end, length - charge
        if op in (_SHORT_BINUNICODE, _BINUNICODE8):
            text, charge = _decoded(data)
            return text, end, length - charge
        return bytearray(data) if op == _BYTEARRAY8 else data, end, length
    if op in (_NEWTRUE, _NEWFALSE):
        return op == _NEWTRUE, pos + 1, 0
    line, end = _line(payload, pos + 1)
    if op == _STRING:
        text, charge = _quoted(line, encoding)
        return text, end, len(line) - len("''") - charge
    if op == _UNICODE:
        text, charge = _decoded(line, "raw-unicode-escape")
        return text, end, len(line) - charge
    return _float(line), end, 0


def _binary_integer(data: bytes) -> int | str:
    if len(data) <= _MAX_INTEGER_BYTES:
        return int.from_bytes(data, "little", signed=True)
    return f"{int.from_bytes(data[-16:], 'little', signed=True):#x}... ({len(data)} bytes)"


def _integer(line: bytes, *, long: bool) -> int | str:
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
    """Return what Python 2 prints as *line*, quotes and escapes included, and the charge for it."""
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
    """Return text in *encoding* ("": of unicode strings), and the charge for what was not valid in it."""
    try:
        return data.decode(encoding or "utf-8"), 0
    except UnicodeError:
        return _undecodable(data, encoding)


def _undecodable(data: bytes, encoding: str = "") -> tuple[str, int]:
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


class _Machine:
    """The stack, and what the rarer opcodes do to it.

    Too short a stack is an IndexError, and a value that does not fit a RecordError; `read` adds the position.
    """

    __slots__ = ("below", "left", "memo", "numbered", "payload", "pos", "stack")

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.pos = 0
        self.stack: list[object] = []
        """What is above the last mark."""
        self.below: list[list[object]] = []
        """What is below it, a list for each mark."""
        self.memo: dict[int, object] = {}
        self.left = MAX_CONTAINERS
        self.numbered = False
        """Whether anything depends on how many memo slots there are."""

    def spend(self, containers: int) -> None:
        self.left -= containers
        if self.left < 0:
            raise _OverBudgetError(f"more than {MAX_CONTAINERS} containers")

    def step(self, op: int) -> None:  # noqa: C901, PLR0912, PLR0915 - flat: an opcode and what it does
        """Do what *op* says; `pos` is behind it."""
        self.spend(1)
        stack = self.stack
        if op == _MARK:
            if len(self.below) >= MAX_DEPTH:
                raise _OverBudgetError(f"more than {MAX_DEPTH} levels")
            self.below.append(stack)
            self.stack = []
        elif op == _TUPLE:
            self.unmarked().append(tuple(stack))
        elif op == _EMPTY_LIST:
            stack.append([])
        elif op == _EMPTY_DICT:
            stack.append({})
        elif op == _EMPTY_TUPLE:
            stack.append(())
        elif op == _APPENDS:
            self.unmarked()
            self.filled(list).extend(stack)
        elif op == _APPEND:
            item = stack.pop()
            self.filled(list).append(item)
        elif op == _SETITEM:
            value, key = stack.pop(), stack.pop()
            self.fill([key, value])
        elif op == _GLOBAL:
            stack.append(self.named())
        elif op == _REDUCE:
            args, called = stack.pop(), stack.pop()
            self.call(called, args)
        elif op == _BUILD:
            self.build(stack.pop())
        elif op == _OBJ:  # a classic instance of Python 2
            called, *args = stack
            self.unmarked()
            self.call(called, tuple(args))
        elif op == _INST:  # the same in protocol 0
            self.unmarked()
            self.call(self.named(), tuple(stack))
        elif op in (_NEWOBJ, _NEWOBJ_EX):
            keywords = (stack.pop(),) if op == _NEWOBJ_EX else ()
            args, cls = stack.pop(), stack.pop()
            if type(args) is not tuple:
                raise RecordError("calls without a tuple")
            self.spend(len(args))
            self.call(_NEW, (cls, *args, *keywords))
        elif op in (_TUPLE1, _TUPLE2, _TUPLE3):
            length = op - _TUPLE1 + 1
            if len(stack) < length:
                raise IndexError
            stack[-length:] = [tuple(stack[-length:])]
        elif op == _LIST:
            self.unmarked().append(stack)
        elif op == _DICT:
            self.unmarked().append({})
            self.fill(stack)
        elif op in (_EMPTY_SET, _FROZENSET):
            # Never a real set: to hash what a sender chose can hang, or overflow the C stack.
            made = Placeholder("builtins", "set" if op == _EMPTY_SET else "frozenset", ())
            made.items = [] if op == _EMPTY_SET else stack
            (stack if op == _EMPTY_SET else self.unmarked()).append(made)
        elif op == _ADDITEMS:
            if type(self.unmarked()[-1]) is not Placeholder:
                raise RecordError("fills no set")
            self.filled(list).extend(stack)
        elif op == _POP_MARK or (op == _POP and not stack):
            self.unmarked()
        elif op == _POP:
            stack.pop()
        elif op == _DUP:
            stack.append(stack[-1])
        elif op == _STACK_GLOBAL:
            name, module = stack.pop(), stack.pop()
            if type(module) is not str or type(name) is not str:
                raise RecordError("a name that is no text")
            stack.append(Placeholder(module, name))
        elif op == _MEMOIZE:
            self.numbered = True
            self.memo[len(self.memo)] = stack[-1]
        elif op == _PROTO:
            if self.payload[self.pos] > _MAX_PROTOCOL:
                raise RecordError("a protocol yet unknown")
            self.pos += 1
        elif op == _FRAME:
            start = self.pos + 8
            _claimed(self.payload, start, start + _u64(self.payload, self.pos)[0])
            self.pos = start
        else:
            raise RecordError("unknown or refused")

    def unmarked(self) -> list[object]:
        """Take the last mark away; return the stack below it."""
        self.stack = self.below.pop()
        return self.stack

    def named(self) -> Placeholder:
        """Return what stands for the class or function whose module and name follow."""
        line, self.pos = _line(self.payload, self.pos)
        module = line.decode()
        line, self.pos = _line(self.payload, self.pos)
        name = line.decode()
        if module in _OF_PYTHON_2 and not _FROM_PYTHON_2.match(self.payload):
            # Below protocol 3, Python 3 sends these by the names that they have in Python 2.
            module, name = NAME_MAPPING.get((module, name)) or (IMPORT_MAPPING.get(module, module), name)
        return Placeholder(module, name)

    def call(self, called: object, args: object) -> None:
        if type(called) is not Placeholder or type(args) is not tuple:
            raise RecordError("calls no class or function")
        self.spend(1)  # once more: it takes twice as long as making a container
        self.stack.append(rebuild(called, args, self.spend))

    def build(self, state: object) -> None:
        instance = self.stack[-1]
        if type(instance) is not Placeholder or instance.args is None:
            raise RecordError("gives a state to no instance")  # to a class, as an attack, or to a dict
        instance.state = state

    def filled(self, kind: type[_Kind]) -> _Kind:
        """Return the list or dict that opcodes fill: the value on top, or what a placeholder there holds."""
        top = self.stack[-1]
        if isinstance(top, Placeholder) and top.args is not None:
            if top.items is None:
                top.items = kind()
            top = top.items
        if not isinstance(top, kind):
            raise RecordError(f"fills no {kind.__name__}")
        return top

    def fill(self, items: list[object]) -> None:
        """Put keys and values into the dict on top, or into what a placeholder there holds."""
        held = self.filled(dict)
        if len(items) % 2:
            raise RecordError("a key without a value")
        keys = items[::2]
        if not KEY_TYPES.issuperset(map(type, keys)):
            try:
                keys = [as_key(key, self.spend) for key in keys]
            except _OverBudgetError:
                _put(held, items)
                raise
        held.update(zip(keys, items[1::2], strict=True))
        self.spend(1)


def _salvaged(stack: list[object], below: list[list[object]]) -> object:
    """Return what was under construction when a budget ran out, finished as far as it got."""
    below, stack = _without_secrets([*below, stack])
    while below:
        items, stack = stack, below.pop()
        match stack[-1:]:
            case [dict(top)]:
                _put(top, _folded(items))
            case [list(top)]:
                top.extend(items)
            case [Placeholder(args=None) as called]:
                stack[-1] = Placeholder(called.module, called.name, tuple(items))
            case [Placeholder(items=None) as made]:
                made.items = items
            case _:
                stack.append(tuple(items))
    match _folded(stack):
        case [dict(root), *items]:
            _put(root, items)
            return root
        case [value, *_]:
            return value
    return None


def _without_secrets(levels: list[list[object]]) -> tuple[list[list[object]], list[object]]:
    """Take away what would have become the state or the arguments of an object that masks itself."""
    for number, items in enumerate(levels):
        for at in range(max(len(items) - _MAX_PARTS, 0), len(items)):
            item = items[at]
            if type(item) is tuple and item:  # arguments
                item, at = item[0], at - 1  # noqa: PLW2901 - they go too
            if type(item) is Placeholder and masks_itself(item):
                del items[at + 1 :]
                return levels[:number], items
    return levels[:-1], levels[-1]


def _folded(items: list[object]) -> list[object]:
    """Return keys and values after putting the last value into the containers that seem to wait for it."""
    while True:
        match items[-3:]:
            case [*_, list(waiting), list() | dict() | tuple() | Placeholder() as last]:
                waiting.append(last)
                del items[-1]
            case [dict(waiting), key, list() | dict() | tuple() | Placeholder() as last] if not waiting:
                _put(waiting, [key, last])
                del items[-2:]
            case _:
                return items


def _put(held: dict[object, object], items: list[object]) -> None:
    """Put keys and values into a dict, but for an odd end and the keys that only text could stand for."""
    held.update((key, value) for key, value in zip(items[::2], items[1::2], strict=False) if is_key(key))
