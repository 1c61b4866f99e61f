"""A payload becomes a record, and what its frame has in common with others is read only once.

In the frame of a stock client everything but the message, the three times and the extras is constant: the
name of the logger (the head of the frame), the call site, the thread and the process (the tail). Each of
these fragments is found again by its exact bytes, in a bounded memory. A payload of any other form is read
whole by `payloads`; the record is the same either way. Frames of Python 2 have a module of their own. Knows
no socket and no file.
"""

from __future__ import annotations

import time
from functools import cache
from struct import Struct
from struct import error as StructError  # noqa: N812 - as a class is named
from typing import TYPE_CHECKING, Any, NamedTuple

from collector.pickles.errors import RecordError
from collector.pickles.opcodes import u32
from collector.pickles.reader import read_items
from collector.stats import Stats
from collector.wire.fragment_memory import (
    END,
    MAX_FRAGMENT_BYTES,
    MAX_FRAGMENTS,
    MAX_READ_BYTES,
    Memory,
    constant_fields,
)
from collector.wire.fragments_of_python2 import FragmentsOfPython2
from collector.wire.payloads import read_fields
from collector.wire.records import (
    END_OF_TIME,
    HEAD,
    NO_EXTRA,
    SITE,
    STANDARD,
    TAIL,
    Fragment,
    checked,
    fitted,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from collector.wire.records import Record

    _TailKey = tuple[bytes, bytes, bytes]
    """The keys of `msecs` and `relativeCreated`, and the tail."""

# What stands around the parts that change. The key order is fixed, and the memo slots are numbered in it. A
# frame in which the name or the message is the value of another field too has a reference there: it is read
# whole.
_START = b"}q\x00("
_MESSAGE = b"X\x03\x00\x00\x00msgq\x03X"
_NAME_LENGTH_AT = len(_START + b"X\x04\x00\x00\x00nameq\x01X")
_TO_MESSAGE = _NAME_LENGTH_AT + 4 + len(b"q\x02" + _MESSAGE)
_CREATED = b"X\x07\x00\x00\x00createdq"
_TO_CREATED = len(_CREATED) + len(b"\x15G")
_TIMES_BYTES = 60
_MSECS = b"X\x05\x00\x00\x00msecsq"
_RELATIVE = b"X\x0f\x00\x00\x00relativeCreatedq"
_PROCESS = b"X\x07\x00\x00\x00processq"
_TASK = b"X\x08\x00\x00\x00taskNameq"
_SCALAR_BYTES = {b"N": 1, b"K": 2, b"M": 3, b"J": 5}


@cache
def _times(behind: int = 0) -> Callable[[bytes, int], tuple[Any, ...]]:
    """Return what unpacks the three times, the two keys between them, and as many bytes *behind* them."""
    return Struct(f">d13sd23sd{behind}s").unpack_from


class _Tail(NamedTuple):
    """The tail of the last frame, which the next one most likely has too."""

    unpack: Callable[[bytes, int], tuple[Any, ...]]
    """Unpacks the times, the keys between them, and as many bytes behind them as the tail has."""
    keys: tuple[bytes, bytes]
    """Those of `msecs` and `relativeCreated`."""
    data: bytes
    fragment: Fragment
    extras_follow: bool
    """Whether the frame does not end with it."""


class _Frame(NamedTuple):
    """A frame, cut at what changes."""

    head: bytes
    site: bytes
    """From the memo slot of the message to the value of `created`."""
    keys: tuple[bytes, bytes]
    """Those of `msecs` and `relativeCreated`."""
    tail: bytes
    """With the extras, if there are any."""
    message: str
    times: tuple[float, float, float]


class RecordReader:
    """Makes records of payloads, and remembers the fragments that frames have in common."""

    def __init__(
        self, encoding: str = "utf-8", stats: Stats | None = None, now: Callable[[], float] = time.time
    ) -> None:
        """Read byte strings from Python 2 in *encoding*; have *stats* count by logger and level.

        *now* is asked while the payload is read of a record that has no time, or none that can be.
        """
        self._encoding = encoding
        self._now = now
        self._stats = Stats() if stats is None else stats
        self._heads: Memory[bytes, Fragment] = Memory(self.count_up)
        self._sites: Memory[bytes, Fragment] = Memory(self.count_up)
        self._tails: Memory[_TailKey, Fragment] = Memory()
        """Those up to the end of the frame."""
        self._tails_before_extra: Memory[_TailKey, Fragment] = Memory()
        self._seen: set[int] = set()
        """Hashes of heads that have come at least once."""
        self._last = _Tail(_times(), (b"", b""), b"", Fragment({}), extras_follow=True)  # which no frame has
        self._python_2 = FragmentsOfPython2(encoding, self.count_up)

    def read(
        self,
        payloads: Iterable[bytes],
        unreadable: list[tuple[bytes, RecordError]],
        in_part: list[tuple[int, str]],
    ) -> Iterator[Record]:
        """Yield the record in each of *payloads* that has one.

        Adds a payload that has none to *unreadable*, with the reason, and the size of one that was decoded in
        part to *in_part*, with the budget that ran out.
        """
        heads, sites = self._heads, self._sites
        unpack, (last_msecs_key, last_relative_key), last, last_tail, extras_follow = self._last
        tails = self._tails_before_extra if extras_follow else self._tails
        span = _TIMES_BYTES + len(last)
        extra: Mapping[Any, object] | None
        for payload in payloads:
            # A frame from Python 3 whose fragments are all known. Where they begin is a guess: that the name
            # has fewer than 256 bytes, and the tail as many as the last one. Each fragment is looked up by
            # all of its bytes, so a wrong guess finds nothing.
            try:
                start = _TO_MESSAGE + payload[_NAME_LENGTH_AT]
                head = heads[payload[:start]]
                start += 4
                end = start + u32(payload, start - 4)[0]
                at = payload.index(_CREATED, end) + _TO_CREATED if extras_follow else len(payload) - span
                created, msecs_key, msecs, relative_key, relative, data = unpack(payload, at)
                if data == last and msecs_key == last_msecs_key and relative_key == last_relative_key:
                    tail = last_tail
                else:
                    tail = tails[msecs_key, relative_key, data]
                site = sites[payload[end:at]]
                message = payload[start:end].decode()
            except (LookupError, ValueError, StructError):
                extra = NO_EXTRA  # so far
            else:
                extra = self._extra(payload, at + span) if extras_follow else NO_EXTRA
                if extra is not None and end <= at and 0.0 <= created < END_OF_TIME:
                    head.count += 1
                    site.count += 1
                    yield head, site, tail, message, created, msecs, relative, extra
                    continue
            try:
                record = None
                if extra is not None:
                    record = self._of_python_3(payload) or self._python_2.record_of(payload)
                record = record or self._whole(payload, in_part)
            except RecordError as fault:
                # The frames of a traceback would hold the payload until a garbage collection, hours later.
                fault.__traceback__ = fault.__context__ = None
                unreadable.append((payload, fault))
                continue
            for fragment in record[:2]:
                fragment.count += 1
                if not fragment.shared:
                    self._count(fragment)
            unpack, (last_msecs_key, last_relative_key), last, last_tail, extras_follow = self._last
            tails = self._tails_before_extra if extras_follow else self._tails
            span = _TIMES_BYTES + len(last)
            yield record

    def _extra(self, payload: bytes, pos: int) -> dict[Any, object] | None:
        """Return the extras from *pos* on, behind a tail; None if they are to be read with the rest."""
        items = read_items(payload, pos, self._encoding) if len(payload) - pos <= MAX_READ_BYTES else None
        return items if items is not None and STANDARD.isdisjoint(items) else None

    def count_up(self) -> None:
        """Count what was read since the last time. Happens before fragments are forgotten, too."""
        of_python_3 = (*self._heads.values(), *self._sites.values())
        for fragment in (*of_python_3, *self._python_2.heads_and_sites()):
            if fragment.count:
                self._count(fragment)

    def _count(self, fragment: Fragment) -> None:
        """Have the records with *fragment* counted: by logger if it is a head, by level if it is a site."""
        records, fragment.count = fragment.count, 0
        if "name" in fragment.fields:
            self._stats.count_logger(fragment.fields["name"], records, remembered=fragment.shared)
        else:
            self._stats.count_level(fragment.fields.get("levelname"), records)

    def _whole(self, payload: bytes, in_part: list[tuple[int, str]]) -> Record:
        """Do what read() does for one payload, without fragments. Raises RecordError."""
        fields, over = read_fields(payload, self._encoding)
        record = checked(fields, self._now)
        if over:
            in_part.append((len(payload), over))
        return record

    # --- frames of Python 3: head, message, site, three times, tail ---

    def _of_python_3(self, payload: bytes) -> Record | None:
        """Return the record if *payload* has the form of a frame from Python 3, else None."""
        frame = self._cut(payload)
        if frame is None:
            return None
        head = self._heads.get(frame.head) or self._heads.learn(frame.head, self._head, len(frame.head))
        site = self._sites.get(frame.site) or self._sites.learn(frame.site, self._site, len(frame.site))
        if head is None or site is None:
            return None
        tail = self._tails.get((*frame.keys, frame.tail))
        data, extras_follow = frame.tail, False
        extra: Mapping[Any, object] | None = NO_EXTRA
        if tail is None:
            end = _end_of_tail(data)
            known, key = self._tails_before_extra, (*frame.keys, data[:end])
            tail = known.get(key) or known.learn(key, self._tail, end)
            if tail is None:
                return None
            if data[end:] == END:
                # Only a tail without extras is remembered whole: those that change never come back.
                if len(data) <= MAX_FRAGMENT_BYTES:
                    self._tails.remember((*frame.keys, data), tail)
            else:
                extra = self._extra(data, end)
                data, extras_follow = data[:end], True
        if extra is None:
            return None
        if len(data) <= MAX_FRAGMENT_BYTES:
            self._last = _Tail(_times(len(data)), frame.keys, data, tail, extras_follow)
        return head, site, tail, frame.message, *frame.times, extra

    def _cut(self, payload: bytes) -> _Frame | None:
        end_of_head = payload.find(_MESSAGE) + len(_MESSAGE)
        if not len(_MESSAGE) <= end_of_head <= MAX_FRAGMENT_BYTES:
            return None
        head = payload[:end_of_head]
        if head not in self._heads and self._comes_first(head):
            return None
        start = end_of_head + 4
        try:
            end = start + u32(payload, end_of_head)[0]
            message = payload[start:end].decode()
            at = payload.index(_CREATED, end) + _TO_CREATED
            created, msecs_key, msecs, relative_key, relative, _ = _times()(payload, at)
        except (ValueError, StructError):
            return None
        if len(payload) - (end - start) > MAX_READ_BYTES:
            return None
        known_keys = msecs_key.startswith(_MSECS) and relative_key.startswith(_RELATIVE)
        if not (known_keys and msecs_key[-1:] == relative_key[-1:] == b"G" and 0.0 <= created < END_OF_TIME):
            return None
        keys, times = (msecs_key, relative_key), (created, msecs, relative)
        return _Frame(head, payload[end:at], keys, payload[at + _TIMES_BYTES :], message, times)

    def _comes_first(self, head: bytes) -> bool:
        """Whether *head* has not come before.

        Learning a frame takes twice as long as reading it whole, and is wasted if nothing of it comes again.
        """
        number = hash(head)
        if number in self._seen:
            return False
        if len(self._seen) >= MAX_FRAGMENTS:
            self._seen.clear()
        self._seen.add(number)
        return True

    def _head(self, head: bytes) -> Fragment | None:
        if not head.startswith(_START):
            return None
        fields = constant_fields(head[len(_START) : -len(_MESSAGE)], self._encoding)
        if fields is None or fields.keys() != HEAD or not isinstance(fields["name"], str):
            return None
        return Fragment(fields, shared=True)

    def _site(self, site: bytes) -> Fragment | None:
        """Return what is between the message and the value of `created`."""
        if len(site) < len(b"q\x04") + _TO_CREATED or site[:1] != b"q" or site[-1:] != b"G":
            return None
        fields = constant_fields(site[2:-_TO_CREATED], self._encoding)
        fit = None if fields is None else fitted(fields, SITE)
        if fit is None:
            return None
        return Fragment(fit, shared=len(site) <= MAX_FRAGMENT_BYTES)

    def _tail(self, key: tuple[bytes, bytes, bytes]) -> Fragment | None:
        fields = constant_fields(key[-1], self._encoding)
        fit = None if fields is None else fitted(fields, TAIL)
        return None if fit is None else Fragment(fit)


def _end_of_tail(tail: bytes) -> int:
    """Return where the extras begin: behind `process`, and from Python 3.12 on behind `taskName`."""
    end = tail.find(_PROCESS) + len(_PROCESS) + 1
    end += _SCALAR_BYTES.get(tail[end : end + 1], 0)
    if tail.startswith(_TASK, end):
        end += len(_TASK) + 1
        if tail[end : end + 1] == b"X" and end + 5 <= len(tail):  # the name of an asyncio task
            return end + 5 + int(u32(tail, end + 1)[0]) + len(b"q\x1f")
        end += len(b"N")
    return end
