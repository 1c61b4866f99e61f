"""Read one pickle, protocols 0 to 5, as data: bytes become plain Python values, and nothing is run.

Contract: `read` returns a Reading or raises RecordError, whatever the bytes, in a time and a memory that
`budgets` bounds. It looks up no class and no function that a pickle names: `rebuild` says what becomes of
them. A value may contain itself, or one list in so many places that no walk through it would end: make text
of it with `brief`, or bound the walk.

Knows no LogRecord, no socket and no file, nor the module `pickle`: even with every global refused, that
unpickler takes gigabytes, hangs or crashes on frames of a few hundred bytes.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import Any, NamedTuple

from collector.pickles.budgets import MAX_STRUCTURE
from collector.pickles.errors import OverBudgetError, RecordError
from collector.pickles.machine import Machine, salvaged
from collector.pickles.opcodes import (
    BINFLOAT,
    BININT,
    BININT1,
    BININT2,
    BINPUT,
    BINUNICODE,
    EMPTY_DICT,
    LONG,
    LONG_BINPUT,
    MARK,
    NONE,
    PUT,
    SETITEMS,
    SHORT_BINSTRING,
    SLOTS,
    STOP,
    claimed,
    f64,
    i32,
    line_at,
    slot_at,
    u16,
    u32,
)
from collector.pickles.rebuild import is_key
from collector.pickles.scalars import CALL_WEIGHT, INTEGERS, SCALARS, integer, scalar_at, undecodable


class Reading(NamedTuple):
    """What a payload says."""

    value: object
    over: str
    """The budget that ran out, and *value* is what was decoded until then; "" if all of it was decoded."""
    plain: bool
    """The payload is one dict of scalars, filled in one go, and nothing else.

    Where `read(b"}(" + fragment + b"u.")` is plain, *fragment* says the same in every other plain payload.
    """
    alone: bool
    """The payload is one dict, filled in one go, and everything in it was made of what stands inside.

    Where `read(b"}(" + items + b"u.")` is alone, *items* say the same at the end of every payload that is an
    open dict, unless a budget was used up before them.
    """


def read(payload: bytes, encoding: str = "utf-8") -> Reading:  # noqa: C901, PLR0912, PLR0915 - calls double its time
    r"""Read *payload*, which is one pickle from its first byte to its last.

    *encoding*, a codec known to exist, is that of byte strings from Python 2; what is not valid in it is
    escaped, `\xe9`. Raises RecordError.
    """
    size = len(payload)
    # The loop ends at `limit`, which every string raises by its length. Only a payload that could exceed the
    # budget pays for that; for any other, `limit` lies further beyond its end than all weights together
    # usually reach.
    bound, limit = (size, 2 * MAX_STRUCTURE) if size <= MAX_STRUCTURE else (-1, MAX_STRUCTURE)
    machine = Machine(payload)
    stack, below, memo = machine.stack, machine.below, machine.memo
    append = stack.append
    root: dict[object, object] = {}
    plain = True
    opened = 0  # how often a mark was set above nothing but what is finished
    chosen = False  # whether there may be integers whose hash their sender has chosen
    closed = pos = 0  # where the last SETITEMS ended; where the opcode in work begins
    try:
        while pos < limit:
            op = payload[pos]  # tested in the order of frequency; BINPUT nearly always follows a string
            if op == BINUNICODE:
                start = pos + 5
                end = start + u32(payload, pos + 1)[0]
                if end > bound:
                    limit += claimed(payload, start, end)
                try:
                    text = payload[start:end].decode()
                except UnicodeError:
                    text, charge = undecodable(payload[start:end])
                    limit -= charge
                append(text)
                if payload[end] == BINPUT:
                    memo[payload[end + 1]] = text
                    pos = end + 2
                else:
                    pos = end
            elif op == SHORT_BINSTRING:  # what BINUNICODE is to Python 3, this is to Python 2
                start = pos + 2
                end = start + payload[pos + 1]
                if end > bound:
                    limit += claimed(payload, start, end)
                try:
                    text = payload[start:end].decode(encoding)
                except UnicodeError:
                    text, charge = undecodable(payload[start:end], encoding)
                    limit -= charge
                append(text)
                if payload[end] == BINPUT:
                    memo[payload[end + 1]] = text
                    pos = end + 2
                else:
                    pos = end
            elif op == NONE:
                append(None)
                pos += 1
            elif op == BININT1:
                append(payload[pos + 1])
                pos += 2
            elif op == BINFLOAT:
                append(f64(payload, pos + 1)[0])
                pos += 9
            elif op == BININT2:
                append(u16(payload, pos + 1)[0])
                pos += 3
            elif op == BINPUT:
                memo[payload[pos + 1]] = stack[-1]
                pos += 2
            elif op == BININT:
                append(i32(payload, pos + 1)[0])
                pos += 5
            elif op == LONG_BINPUT:
                memo[u32(payload, pos + 1)[0]] = stack[-1]
                pos += 5
            elif op in INTEGERS:  # of more than 32 bits, such as every thread's id
                line, end = line_at(payload, pos + 1)
                number = integer(line, long=op == LONG)
                append(number)
                chosen = chosen or not is_key(number)
                limit -= CALL_WEIGHT
                pos = end
            elif op in SCALARS:
                value, end, credit = scalar_at(payload, pos, encoding)
                append(value)
                plain = plain and type(value) is not bytes and type(value) is not bytearray
                chosen = chosen or (type(value) is int and not is_key(value))
                limit += credit - CALL_WEIGHT
                pos = end
            elif op == MARK and not below:
                plain = plain and not closed and len(stack) == 1 and stack[0] is root
                opened += 1
                below.append(stack)
                stack = []
                append = stack.append
                pos += 1
            elif op == SETITEMS:
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
            elif op == EMPTY_DICT and not pos:
                append(root)
                pos = 1
            elif op in SLOTS:
                slot, end = slot_at(payload, pos)
                if op == PUT:
                    memo[slot] = stack[-1]
                else:
                    append(memo[slot])
                    plain = plain and memo[slot] is not root
                limit -= CALL_WEIGHT
                pos = end
            elif op == STOP:
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
    except OverBudgetError as budget:
        stack = machine.stack
        over = str(budget)
    except (IndexError, KeyError, ValueError, struct.error) as fault:
        raise RecordError(_explained(fault, payload, pos)) from None
    return Reading(salvaged(stack, below), over, plain=False, alone=False)


def read_items(payload: bytes, pos: int, encoding: str = "utf-8") -> dict[Any, object] | None:
    """Return the items from *pos* to the end of a payload whose dict is still open, as `read` does.

    None if they depend on what stands before them, or cannot be read.
    """
    items = _usual_items(payload, pos)
    if items is None:
        with suppress(RecordError):
            reading = read(b"}(" + payload[pos:], encoding)
            if reading.alone:
                return reading.value  # type: ignore[return-value] # which is a dict
    return items


def _usual_items(payload: bytes, pos: int) -> dict[Any, object] | None:  # noqa: C901 - as above
    """Return what read_items() does if everything is text or numbers, and none of it a reference; else None.

    Most extras that a SocketHandler sends are, and `read` would take three times as long.
    """
    items: dict[Any, object] = {}
    try:
        while payload[pos] == BINUNICODE:
            start = pos + 5
            end = start + u32(payload, pos + 1)[0]
            key = payload[start:end].decode()
            if payload[end] != BINPUT:
                return None
            pos = end + 2
            op = payload[pos]
            if op == BINUNICODE:
                start = pos + 5
                end = start + u32(payload, pos + 1)[0]
                items[key] = payload[start:end].decode()
                if payload[end] != BINPUT:
                    return None
                pos = end + 2
            elif op == BININT1:
                items[key] = payload[pos + 1]
                pos += 2
            elif op == BININT2:
                items[key] = u16(payload, pos + 1)[0]
                pos += 3
            elif op == BININT:
                items[key] = i32(payload, pos + 1)[0]
                pos += 5
            elif op == BINFLOAT:
                items[key] = f64(payload, pos + 1)[0]
                pos += 9
            elif op == NONE:
                items[key] = None
                pos += 1
            elif op in INTEGERS:  # True and False too
                line, pos = line_at(payload, pos + 1)
                items[key] = integer(line, long=op == LONG)
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
