"""Frames of Python 2: the same fields as those of Python 3, in the order of its hashes.

The name of the process stands among the fields of the call site, and the message among both. Extras change
that order, so a frame with extras has another form, and is not for this module.
"""

from __future__ import annotations

from struct import error as StructError  # noqa: N812 - as a class is named
from typing import TYPE_CHECKING, Any, NamedTuple

from collector.pickles.opcodes import BINSTRING, BINUNICODE, SHORT_BINSTRING, f64, u32
from collector.wire.fragment_memory import (
    END,
    MAX_FRAGMENT_BYTES,
    MAX_READ_BYTES,
    Memory,
    constant_fields,
)
from collector.wire.records import END_OF_TIME, NO_EXTRA, SITE, TAIL, Fragment, fitted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from collector.wire.records import Record

    _Pieces = tuple[bytes, bytes, bytes]

# What stands around the parts that change. The key order is fixed, and the memo slots are numbered in it.
_START = b"}q\x01(U\x0frelativeCreatedq\x02G"
_ARGS = b"U\x04argsq"
_THREAD = b"U\x06threadq"
_CREATED = b"U\x07createdq"
_TO_CREATED = len(_CREATED) + len(b"\rG")
_MSECS = b"U\x05msecsq"
_TO_MSECS = len(_MSECS) + len(b"\x10G")
_MESSAGE = b"U\x03msgq"
_TO_MESSAGE = len(_MESSAGE) + len(b"\x19")
_TIME_BYTES = 8
_STRINGS = frozenset({BINUNICODE, BINSTRING, SHORT_BINSTRING})


class _Frame(NamedTuple):
    """A frame, cut at what changes."""

    site: _Pieces
    """Those that belong to the logger and the call site, but for the name of the process."""
    origin: _Pieces
    """Those that belong to the process and the thread."""
    message: str
    times: tuple[float, float, float]


class FragmentsOfPython2:
    """Makes records of frames from Python 2, and remembers the fragments that they have in common."""

    def __init__(self, encoding: str, before_clear: Callable[[], None]) -> None:
        """Read byte strings in *encoding*; call *before_clear* before heads or sites are forgotten."""
        self._encoding = encoding
        self._heads: Memory[str, Fragment] = Memory(before_clear)
        self._sites: Memory[_Pieces, tuple[Fragment, Fragment, str | None]] = Memory(before_clear)
        """Head, site, and the name of the process, which stands between them."""
        self._tails: Memory[tuple[str | None, _Pieces], Fragment] = Memory()

    def record_of(self, payload: bytes) -> Record | None:
        """Return the record if *payload* has the form of a frame from Python 2, else None."""
        frame = self._cut(payload)
        if frame is None:
            return None
        known = self._sites.get(frame.site) or self._sites.learn(frame.site, self._site, _size(frame.site))
        if known is None:
            return None
        head, site, process_name = known
        key = process_name, frame.origin
        size = _size(frame.origin) + len(process_name or "")
        tail = self._tails.get(key) or self._tails.learn(key, self._tail, size)
        return None if tail is None else (head, site, tail, frame.message, *frame.times, NO_EXTRA)

    def heads_and_sites(self) -> Iterator[Fragment]:
        """Yield what is remembered and counts records; some of it more than once."""
        yield from self._heads.values()
        for head, site, _ in self._sites.values():
            yield from (head, site)

    def _cut(self, payload: bytes) -> _Frame | None:
        if not payload.startswith(_START):
            return None
        first = len(_START) + _TIME_BYTES
        try:
            args = payload.index(_ARGS, first)
            thread = payload.index(_THREAD, args)
            second = payload.index(_CREATED, thread) + _TO_CREATED
            third = payload.index(_MSECS, second + _TIME_BYTES) + _TO_MSECS
            op = payload.index(_MESSAGE, third + _TIME_BYTES) + _TO_MESSAGE
            is_unicode = payload[op] == BINUNICODE
            if is_unicode or payload[op] == BINSTRING:
                start = op + 5
                end = start + u32(payload, op + 1)[0]
            else:
                start = op + 2
                end = start + payload[op + 1]
            message = payload[start:end].decode("utf-8" if is_unicode else self._encoding)
            times = f64(payload, second)[0], f64(payload, third)[0], f64(payload, len(_START))[0]
        except (ValueError, IndexError, StructError):
            return None
        too_long = len(payload) - (end - start) > MAX_READ_BYTES
        if too_long or end > len(payload) or not 0 <= times[0] < END_OF_TIME:
            return None
        # The opcode of the message goes with what is before it.
        site = payload[args:thread], payload[third + _TIME_BYTES : op + 1], payload[end:]
        origin = payload[first:args], payload[thread:second], payload[second + _TIME_BYTES : third]
        return _Frame(site, origin, message, times)

    def _site(self, pieces: _Pieces) -> tuple[Fragment, Fragment, str | None] | None:
        first, before_message, last = pieces
        rest = last[2:] if last[:1] == b"q" else last
        if before_message[-1] not in _STRINGS or not rest.endswith(END):
            return None
        fields = self._fields(first, before_message[: -_TO_MESSAGE - 1], rest[: -len(END)])
        if fields is None or not isinstance(fields.get("name"), str) or "processName" not in fields:
            return None
        process_name: Any = fields.pop("processName")
        shared = _size(pieces) <= MAX_FRAGMENT_BYTES
        # One head for all call sites of a logger, as it has one in Python 3.
        name: Any = fields.pop("name")
        head = self._heads.get(name)
        if head is None:
            head = Fragment({"name": name}, shared=shared)
            if shared:
                self._heads.remember(name, head)
        fit = fitted(fields, SITE)
        if fit is None or fitted({"processName": process_name}, TAIL) != {"processName": process_name}:
            return None
        return head, Fragment(fit, shared=shared), process_name

    def _tail(self, key: tuple[str | None, _Pieces]) -> Fragment | None:
        process_name, (process, thread, thread_name) = key
        if thread[-1:] != b"G" or thread_name[-1:] != b"G":
            return None
        fields = self._fields(process, thread[:-_TO_CREATED], thread_name[:-_TO_MSECS])
        fit = None if fields is None or "processName" in fields else fitted(fields, TAIL)
        return None if fit is None else Fragment({**fit, "processName": process_name})

    def _fields(self, *pieces: bytes) -> dict[str, object] | None:
        """Return the fields of all *pieces* if each says the same in every frame, else None."""
        fields: dict[str, object] = {}
        for piece in pieces:
            found = constant_fields(piece, self._encoding)
            if found is None or not fields.keys().isdisjoint(found):
                return None
            fields |= found
        return fields


def _size(pieces: tuple[bytes, ...]) -> int:
    return sum(map(len, pieces))
