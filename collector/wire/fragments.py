"""One payload becomes one record: what its frame has in common with others is read once.

In the frame of a stock client everything but the message, the three times and the extras is constant: the
logger's name (the head of the frame), the call site, the thread and process (the tail). Each of these
fragments is found again by its exact bytes, in a bounded memory. What has another form is read whole by
`payloads`, and a record is the same either way. Knows no socket and no file.
"""

from __future__ import annotations

from functools import cache
from struct import Struct
from struct import error as StructError  # noqa: N812 - as a class is named
from typing import TYPE_CHECKING, Any, NamedTuple

from collector.pickles.errors import RecordError
from collector.pickles.reader import read, read_items
from collector.stats import Stats
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

# What a frame of Python 3 looks like around what changes. The key order is fixed, and the memo slots are
# numbered in it; a name or a message that is something else in the record too is a reference, and read whole.
_START_3 = b"}q\x00("
_MESSAGE_3 = b"X\x03\x00\x00\x00msgq\x03X"
_NAME_LENGTH_AT = len(_START_3 + b"X\x04\x00\x00\x00nameq\x01X")
_TO_MESSAGE_3 = _NAME_LENGTH_AT + 4 + len(b"q\x02" + _MESSAGE_3)
_CREATED_3 = b"X\x07\x00\x00\x00createdq"
_TO_CREATED_3 = len(_CREATED_3) + len(b"\x15G")
_TIMES_BYTES = 60
_MSECS_3 = b"X\x05\x00\x00\x00msecsq"
_RELATIVE_3 = b"X\x0f\x00\x00\x00relativeCreatedq"
_PROCESS_3 = b"X\x07\x00\x00\x00processq"
_TASK_3 = b"X\x08\x00\x00\x00taskNameq"
_SCALAR_BYTES = {b"N": 1, b"K": 2, b"M": 3, b"J": 5}
_END = b"u."
# The same for Python 2, whose dict has an order of its own.
_START_2 = b"}q\x01(U\x0frelativeCreatedq\x02G"
_ARGS_2 = b"U\x04argsq"
_THREAD_2 = b"U\x06threadq"
_CREATED_2 = b"U\x07createdq"
_TO_CREATED_2 = len(_CREATED_2) + len(b"\rG")
_MSECS_2 = b"U\x05msecsq"
_TO_MSECS_2 = len(_MSECS_2) + len(b"\x10G")
_MESSAGE_2 = b"U\x03msgq"
_TO_MESSAGE_2 = len(_MESSAGE_2) + len(b"\x19")

_BINUNICODE, _BINSTRING, _ = _STRINGS_2 = b"XTU"


@cache
def _times_3(behind: int = 0) -> Callable[[bytes, int], tuple[Any, ...]]:
    """Return what unpacks the three times, the two keys between them, and as many bytes *behind* them."""
    return Struct(f">d13sd23sd{behind}s").unpack_from


_u32 = Struct("<I").unpack_from
_double = Struct(">d").unpack_from

# What is longer is hardly constant, and not remembered.
_MAX_FRAGMENT_BYTES = 2048
# A frame that is longer, not counting its message, or has longer extras, is read whole: within these bounds
# no budget of the reader can run out, so that it would have said the same.
_MAX_READ_BYTES = 64 * 1024
_MAX_FRAGMENTS = 4096


class _Memory(dict[Any, Any]):
    """What fragments have been found to be, by their bytes."""

    def __init__(self, before_clear: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._before_clear = before_clear
        self._unfit: set[Any] = set()
        """Those that cannot be found by their bytes."""

    def learn(self, key: Any, make: Callable[[Any], Any], size: int) -> Any:  # noqa: ANN401 - a Fragment, or several
        """Return what *make* makes of *key*, which has *size* bytes, and remember it; None: it is not fit."""
        if key in self._unfit:
            return None
        found = make(key)
        if size <= _MAX_FRAGMENT_BYTES:
            self.remember(key, found)
        return found

    def remember(self, key: Any, found: Any) -> None:  # noqa: ANN401 - as above
        """Have *found* found by *key*. A full memory is emptied: who is still there comes back at once."""
        if len(self) + len(self._unfit) >= _MAX_FRAGMENTS:
            self._before_clear()
            self.clear()
            self._unfit.clear()
        if found is None:
            self._unfit.add(key)
        else:
            self[key] = found


class _Tail(NamedTuple):
    """The tail that the next frame has too, most likely."""

    unpack: Callable[[bytes, int], tuple[Any, ...]]
    """Unpacks the times and keys, and as many bytes behind them as the tail has."""
    keys: tuple[bytes, bytes]
    """Those of `msecs` and `relativeCreated`, which come with it."""
    data: bytes
    fragment: Fragment
    from_created: int
    """How far from the end of the frame the times begin; 0 where extras follow it."""


class _Python3(NamedTuple):
    """A frame of Python 3, cut at what changes."""

    head: bytes
    site: bytes
    """From the memo slot of the message to the value of `created`."""
    keys: tuple[bytes, bytes]
    """Those of `msecs` and `relativeCreated`."""
    tail: bytes
    """The extras too."""
    message: str
    times: tuple[float, float, float]


class _Python2(NamedTuple):
    """A frame of Python 2, cut at what changes."""

    site: tuple[bytes, bytes, bytes]
    """Pieces that belong to the logger and the call site, but for the name of the process."""
    origin: tuple[bytes, bytes, bytes]
    """Pieces that belong to the process and the thread."""
    message: str
    times: tuple[float, float, float]


class RecordReader:
    """Reads payloads, and remembers the fragments that they have in common."""

    def __init__(self, encoding: str = "utf-8", stats: Stats | None = None) -> None:
        """Read byte strings from Python 2 in *encoding*; have *stats* count by logger and level."""
        self._encoding = encoding
        self._stats = Stats() if stats is None else stats
        self._heads = _Memory(self.count_up)
        self._sites = _Memory(self.count_up)
        self._tails = _Memory()
        self._tails_before_extra = _Memory()
        self._sites_of_python_2 = _Memory(self.count_up)
        self._tails_of_python_2 = _Memory()
        self._seen: set[int] = set()
        """Hashes of heads that have come once, or more often."""
        self._last = _Tail(_times_3(), (b"", b""), b"", Fragment({}), 0)  # which no frame has

    def read(
        self,
        payloads: Iterable[bytes],
        unreadable: list[tuple[bytes, RecordError]],
        in_part: list[tuple[int, str]],
    ) -> Iterator[Record]:
        """Yield the record in each of *payloads* that has one.

        A payload that has none is added to *unreadable*, with the reason. Of one that was decoded in part the
        size is added to *in_part*, with the budget that ran out.
        """
        heads, sites = self._heads, self._sites
        unpack, (last_msecs_key, last_relative_key), last, last_tail, from_created = self._last
        tails = self._tails if from_created else self._tails_before_extra
        extra: Mapping[Any, object] | None
        for payload in payloads:
            # A frame from Python 3 of which all fragments are known. Where they begin is a guess: that the
            # name has less than 256 bytes, and the tail as many as the last one. But these are all of its
            # bytes, so that each fragment is found only where it is.
            try:
                start = _TO_MESSAGE_3 + payload[_NAME_LENGTH_AT]
                head = heads[payload[:start]]
                start += 4
                end = start + _u32(payload, start - 4)[0]
                if from_created:
                    at = len(payload) - from_created
                else:
                    at = payload.index(_CREATED_3, end) + _TO_CREATED_3
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
                extra = NO_EXTRA if from_created else self._extra(payload, at + _TIMES_BYTES + len(last))
                if extra is not None and end <= at and 0.0 <= created < END_OF_TIME:
                    head.count += 1
                    site.count += 1
                    yield head, site, tail, message, created, msecs, relative, extra
                    continue
            try:
                known = None if extra is None else self._of_python_3(payload) or self._of_python_2(payload)
                record = known or self._whole(payload, in_part)
            except RecordError as fault:
                unreadable.append((payload, fault))
                continue
            for fragment in record[:2]:
                fragment.count += 1
                if not fragment.shared:
                    self._count(fragment)
            unpack, (last_msecs_key, last_relative_key), last, last_tail, from_created = self._last
            tails = self._tails if from_created else self._tails_before_extra
            yield record

    def _extra(self, payload: bytes, pos: int) -> dict[Any, object] | None:
        """Return the extras from *pos* on, behind a tail; None if they are to be read with the rest."""
        items = read_items(payload, pos, self._encoding) if len(payload) - pos <= _MAX_READ_BYTES else None
        return items if items is not None and STANDARD.isdisjoint(items) else None

    def count_up(self) -> None:
        """Have *stats* count what was read since the last time; done before fragments are forgotten, too."""
        heads_and_sites = [*self._heads.values(), *self._sites.values()]
        for known in self._sites_of_python_2.values():
            heads_and_sites += known[:2]
        for fragment in heads_and_sites:
            if fragment.count:
                self._count(fragment)

    def _count(self, fragment: Fragment) -> None:
        """Have the records counted that have had *fragment*: a head by logger, a site by level."""
        records, fragment.count = fragment.count, 0
        if "name" in fragment.fields:
            self._stats.count_logger(fragment.fields["name"], records, remembered=fragment.shared)
        else:
            self._stats.count_level(fragment.fields.get("levelname"), records)

    def _whole(self, payload: bytes, in_part: list[tuple[int, str]]) -> Record:
        """Do what read() does for one payload, without fragments. Raises RecordError."""
        fields, over = read_fields(payload, self._encoding)
        record = checked(fields)
        if over:
            in_part.append((len(payload), over))
        return record

    # --- Python 3: head, message, site, three times, tail ---

    def _of_python_3(self, payload: bytes) -> Record | None:
        """Return the record if *payload* has the form of a frame from Python 3, else None."""
        cut = self._cut_python_3(payload)
        if cut is None:
            return None
        head = self._heads.get(cut.head) or self._heads.learn(cut.head, self._head, len(cut.head))
        site = self._sites.get(cut.site) or self._sites.learn(cut.site, self._site, len(cut.site))
        if head is None or site is None:
            return None
        tail = self._tails.get((*cut.keys, cut.tail))
        data, from_created = cut.tail, _TIMES_BYTES + len(cut.tail)
        extra: Mapping[Any, object] | None = NO_EXTRA
        if tail is None:
            end = _end_of_tail(data)
            known, key = self._tails_before_extra, (*cut.keys, data[:end])
            tail = known.get(key) or known.learn(key, self._tail, end)
            if tail is None:
                return None
            if data[end:] == _END:
                # Only a tail without extras is remembered whole: those that change never come back.
                if len(data) <= _MAX_FRAGMENT_BYTES:
                    self._tails.remember((*cut.keys, data), tail)
            else:
                extra = self._extra(data, end)
                data, from_created = data[:end], 0
        if extra is None:
            return None
        if len(data) <= _MAX_FRAGMENT_BYTES:
            self._last = _Tail(_times_3(len(data)), cut.keys, data, tail, from_created)
        return head, site, tail, cut.message, *cut.times, extra

    def _cut_python_3(self, payload: bytes) -> _Python3 | None:
        end_of_head = payload.find(_MESSAGE_3) + len(_MESSAGE_3)
        if not len(_MESSAGE_3) <= end_of_head <= _MAX_FRAGMENT_BYTES:
            return None
        head = payload[:end_of_head]
        if head not in self._heads and self._comes_first(head):
            return None
        start = end_of_head + 4
        try:
            end = start + _u32(payload, end_of_head)[0]
            message = payload[start:end].decode()
            at = payload.index(_CREATED_3, end) + _TO_CREATED_3
            created, msecs_key, msecs, relative_key, relative, _ = _times_3()(payload, at)
        except (ValueError, StructError):
            return None
        if len(payload) - (end - start) > _MAX_READ_BYTES:
            return None
        known_keys = msecs_key.startswith(_MSECS_3) and relative_key.startswith(_RELATIVE_3)
        if not (known_keys and msecs_key[-1:] == relative_key[-1:] == b"G" and 0.0 <= created < END_OF_TIME):
            return None
        keys, times = (msecs_key, relative_key), (created, msecs, relative)
        return _Python3(head, payload[end:at], keys, payload[at + _TIMES_BYTES :], message, times)

    def _comes_first(self, head: bytes) -> bool:
        """Whether *head* comes for the first time.

        To learn a frame of which nothing comes again takes twice as long as to read it whole.
        """
        number = hash(head)
        if number in self._seen:
            return False
        if len(self._seen) >= _MAX_FRAGMENTS:
            self._seen.clear()
        self._seen.add(number)
        return True

    def _head(self, head: bytes) -> Fragment | None:
        if not head.startswith(_START_3):
            return None
        fields = self._plain(head[len(_START_3) : -len(_MESSAGE_3)])
        if fields is None or fields.keys() != HEAD or not isinstance(fields["name"], str):
            return None
        return Fragment(fields, shared=True)

    def _site(self, site: bytes) -> Fragment | None:
        """Return what is between the message and the value of `created`."""
        if len(site) < len(b"q\x04") + _TO_CREATED_3 or site[:1] != b"q" or site[-1:] != b"G":
            return None
        fields = self._plain(site[2:-_TO_CREATED_3])
        fit = None if fields is None else fitted(fields, SITE)
        if fit is None:
            return None
        return Fragment(fit, shared=len(site) <= _MAX_FRAGMENT_BYTES)

    def _tail(self, key: tuple[bytes, bytes, bytes]) -> Fragment | None:
        fields = self._plain(key[-1])
        fit = None if fields is None else fitted(fields, TAIL)
        return None if fit is None else Fragment(fit)

    def _plain(self, fragment: bytes) -> dict[str, object] | None:
        """Return the fields in *fragment* if it says the same in every frame, else None."""
        try:
            reading = read(b"}(" + fragment + _END, self._encoding)
        except RecordError:
            return None
        return reading.value if reading.plain else None  # type: ignore[return-value]

    # --- Python 2: the same fields, in the order of its hashes ---

    def _of_python_2(self, payload: bytes) -> Record | None:
        """Return the record if *payload* has the form of a frame from Python 2, else None."""
        cut = self._cut_python_2(payload)
        if cut is None:
            return None
        sites, tails = self._sites_of_python_2, self._tails_of_python_2
        known = sites.get(cut.site) or sites.learn(cut.site, self._site_of_python_2, _size(cut.site))
        if known is None:
            return None
        head, site, process_name = known
        key = process_name, cut.origin
        size = _size(cut.origin) + len(process_name or "")
        tail = tails.get(key) or tails.learn(key, self._tail_of_python_2, size)
        return None if tail is None else (head, site, tail, cut.message, *cut.times, NO_EXTRA)

    def _cut_python_2(self, payload: bytes) -> _Python2 | None:
        if not payload.startswith(_START_2):
            return None
        first = len(_START_2) + 8
        try:
            args = payload.index(_ARGS_2, first)
            thread = payload.index(_THREAD_2, args)
            second = payload.index(_CREATED_2, thread) + _TO_CREATED_2
            third = payload.index(_MSECS_2, second + 8) + _TO_MSECS_2
            op = payload.index(_MESSAGE_2, third + 8) + _TO_MESSAGE_2
            text_of_python_3 = payload[op] == _BINUNICODE
            if text_of_python_3 or payload[op] == _BINSTRING:
                start = op + 5
                end = start + _u32(payload, op + 1)[0]
            else:
                start = op + 2
                end = start + payload[op + 1]
            message = payload[start:end].decode("utf-8" if text_of_python_3 else self._encoding)
            times = _double(payload, second)[0], _double(payload, third)[0], _double(payload, first - 8)[0]
        except (ValueError, IndexError, StructError):
            return None
        too_long = len(payload) - (end - start) > _MAX_READ_BYTES
        if too_long or end > len(payload) or not 0 <= times[0] < END_OF_TIME:
            return None
        # The opcode of the message goes with what is before it.
        site = payload[args:thread], payload[third + 8 : op + 1], payload[end:]
        origin = payload[first:args], payload[thread:second], payload[second + 8 : third]
        return _Python2(site, origin, message, times)

    def _site_of_python_2(
        self, pieces: tuple[bytes, bytes, bytes]
    ) -> tuple[Fragment, Fragment, str | None] | None:
        """Return head and site, and the name of the process, which stands between them."""
        first, before_message, last = pieces
        rest = last[2:] if last[:1] == b"q" else last
        if before_message[-1] not in _STRINGS_2 or not rest.endswith(_END):
            return None
        fields = self._plain_pieces(first, before_message[: -_TO_MESSAGE_2 - 1], rest[: -len(_END)])
        if fields is None or not isinstance(fields.get("name"), str) or "processName" not in fields:
            return None
        process_name: Any = fields.pop("processName")
        shared = _size(pieces) <= _MAX_FRAGMENT_BYTES
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

    def _tail_of_python_2(self, key: tuple[str | None, tuple[bytes, bytes, bytes]]) -> Fragment | None:
        process_name, (process, thread, thread_name) = key
        if thread[-1:] != b"G" or thread_name[-1:] != b"G":
            return None
        fields = self._plain_pieces(process, thread[:-_TO_CREATED_2], thread_name[:-_TO_MSECS_2])
        fit = None if fields is None or "processName" in fields else fitted(fields, TAIL)
        return None if fit is None else Fragment({**fit, "processName": process_name})

    def _plain_pieces(self, *pieces: bytes) -> dict[str, object] | None:
        """Return the fields of all *pieces* if each says the same in every frame, else None."""
        fields: dict[str, object] = {}
        for piece in pieces:
            found = self._plain(piece)
            if found is None or not fields.keys().isdisjoint(found):
                return None
            fields |= found
        return fields


def _size(pieces: tuple[bytes, ...]) -> int:
    return sum(map(len, pieces))


def _end_of_tail(tail: bytes) -> int:
    """Return where the extras begin: behind `process`, and from Python 3.12 on behind `taskName`."""
    end = tail.find(_PROCESS_3) + len(_PROCESS_3) + 1
    end += _SCALAR_BYTES.get(tail[end : end + 1], 0)
    if tail.startswith(_TASK_3, end):
        end += len(_TASK_3) + 1
        if tail[end : end + 1] == b"X" and end + 5 <= len(tail):  # the name of an asyncio task
            return end + 5 + int(_u32(tail, end + 1)[0]) + len(b"q\x1f")
        end += len(b"N")
    return end
