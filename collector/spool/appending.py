"""The spool as the worker has it: records are left with it on the hub, and a thread writes them.

It is in nobody's way. Whatever its disk does, no call raises, those for the hub never wait, and what waits to
be written is bounded: beyond that blocks are dropped. Each record has its number from the moment it comes, so
what is dropped, or lost with a disk, is a gap in the numbers, which every destination counts. Knows no
destination.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from collector.log import counted
from collector.spool.reading import Position
from collector.spool.segment_writer import PartlyWrittenError, SegmentWriter, delete_oldest
from collector.spool.segments import Block, SegmentId

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS = 1.0
_LAST_PAUSE_SECONDS = 60.0
_TELL_SECONDS = 60.0
# Packed in portions: all at once would take as much memory again, which the kernel would have to provide anew
# each time; portions of megabytes took half as much CPU again. Where much waits, they are part of it: behind
# each write the thread waits for the interpreter, and would never catch up with what comes meanwhile.
_PORTION_BYTES = 128 * 1024
_PORTIONS = 8
# Of memory that a block takes beside its payloads. A lone record is a block of its own.
_BLOCK_OVERHEAD_BYTES = 400
_size_of = bytes.__sizeof__


class Mark(NamedTuple):
    """A moment between two records: see Spool.position()."""

    given: int
    segment: SegmentId


class Spool:
    """Records on their way into the segments in a directory.

    add(), mark(), tell_drops() and the properties are for the hub. write(), open() and close() are called by
    one thread at a time; sync(), trim(), free() and give_way() by any other, beside them.
    """

    def __init__(  # noqa: PLR0913 - each is a setting of its own
        self,
        directory: str,
        *,
        limit: int,
        max_bytes: int,
        segment_bytes: int,
        sync: bool,
        lock_owner: int = 0,
    ) -> None:
        """*limit* bounds what waits, in bytes of memory. *sync*: as `syncs` has it.

        *lock_owner*: the process to name in the directory's lock; 0: the lock of the log files covers it.
        """
        self.max_bytes = max_bytes
        self.segment_bytes = segment_bytes
        self.limit = limit
        self.spooled_records = 0
        self.dropped_records = 0
        self._writer = SegmentWriter(directory, lock_owner, syncs=sync)
        self._mutex = threading.Lock()
        """For the writer."""
        # Each of these numbers is changed by one thread only: those of what has come by the hub.
        self._waiting: list[tuple[Block, int]] = []
        """With the bytes of memory of each; numbers count from the start of the worker."""
        self._given = 0
        self._come_bytes = self._gone_bytes = 0
        self._written_to = 0
        """The number behind the last one written, as `given` counts."""
        self._untold: tuple[int, int] | None = None
        """Between which numbers records were dropped since that was told."""
        self._untold_records = 0
        self._told_at = -_TELL_SECONDS
        self._base = 0
        """What makes a number of the spool out of one that was given out."""
        self._is_open = self._opening = False
        self._giving_way = self._wants_room = False
        self._pause = self._retry_at = 0.0
        self._write_errors = self._sync_errors = 0

    def add(self, peer: str, payloads: list[bytes], received: int) -> None:
        """Give *payloads* their numbers and have them written; *received* is in ns. Keeps the list."""
        first = self._given
        self._given += len(payloads)
        size = sum(map(_size_of, payloads)) + _BLOCK_OVERHEAD_BYTES
        if self._waiting and self._come_bytes - self._gone_bytes + size > self.limit:
            self._drop(first, len(payloads))
        elif payloads:
            self._come_bytes += size
            self._waiting.append((Block(first, received, peer, payloads), size))

    @property
    def collector_id(self) -> str:
        """The first part of each record's id, "" until the spool is open."""
        return self._writer.collector_id

    @property
    def waiting_bytes(self) -> int:
        """The memory that is taken by what is not written yet."""
        return self._come_bytes - self._gone_bytes

    @property
    def due_in(self) -> float | None:
        """In how many seconds write() has something to do; None: not before a record comes, or resume().

        While open() is at work there is nothing to do either: it may be waiting for a disk that hangs.
        """
        if self._opening or self._giving_way or (self._is_open and not self._waiting):
            return None
        return max(0.0, self._retry_at - time.monotonic())

    @property
    def bytes(self) -> int:
        """What the segments take."""
        return self._writer.others_bytes + self._writer.size

    @property
    def syncs(self) -> bool:
        """Whether sync() is going to be called, so that segments stay open for it when they have ended."""
        return self._writer.syncs

    @syncs.setter
    def syncs(self, value: bool) -> None:
        self._writer.syncs = value

    @property
    def keeps_open(self) -> bool:
        """Whether segments that have ended are open, and wait for sync()."""
        return self._writer.keeps_open

    @property
    def write_errors(self) -> int:
        """How often opening, writing or syncing has failed."""
        return self._write_errors + self._sync_errors

    @property
    def trim_due(self) -> bool:
        """Whether trim() has something to do."""
        return self._wants_room or self.bytes > self.max_bytes

    def mark(self) -> Mark:
        """Mark this moment: what comes from now on is behind it."""
        return Mark(self._given, self._writer.segment)

    def position(self, mark: Mark) -> Position | None:
        """Return where a destination begins that wants what came behind *mark*; None until it is open."""
        if not self._is_open:
            return None
        epoch, index = mark.segment
        return Position(epoch, max(index, 0), 0, self._base + mark.given)

    def tell_drops(self) -> None:
        """Log what was dropped since that was told, once a minute at most. To be called now and then."""
        if self._untold and time.monotonic() - self._told_at >= _TELL_SECONDS:
            self._tell_drops()

    def open(self) -> bool:
        """Begin an epoch, so that the first write() need not; return whether that was possible. May block.

        Later calls make again what was emptied or moved away, so that forwarders need not wait for a record.
        """
        # Once it is open, write() waits here: a line may be in its file only behind its record in the spool.
        self._opening = not self._is_open
        try:
            with self._mutex:
                if not (self._is_open and self._pause):
                    self._survive(self._be_in_place)
        finally:
            self._opening = False
        return self._is_open

    def write(self) -> None:
        """Write all that waits, unless that has failed a short while ago. Before the log lines of the hop."""
        if self.due_in == 0:
            with self._mutex:
                self._survive(self._write)

    def sync(self) -> None:
        """Have what was written outlive a power cut. May block, beside write()."""
        try:
            with self._mutex:
                fds = self._writer.unsynced()
            self._writer.sync_all(fds)
        except OSError as error:
            self._sync_errors += 1
            what = "spool %s: cannot be synced, its last records may not survive a machine crash: %s"
            log.error(what, self._writer.directory, error)

    def trim(self) -> int:
        """Delete the oldest segments as far as they are too many, or in the way of what waits. May block.

        Where there was no room, it is tried again at once if there is some now. Return the bytes.
        """
        wants_room, self._wants_room = self._wants_room, False
        least = max(self.waiting_bytes, 1) if wants_room else 0
        freed = self._delete(lambda: max(self.bytes - self.max_bytes, least))
        if wants_room and freed:
            with self._mutex:
                self._retry_at = 0.0
        return freed

    def free(self, size: int) -> int:
        """Delete the oldest segments until *size* bytes are free; return how many became so. May block."""
        return self._delete(lambda: size)

    def give_way(self) -> int:
        """Make room for the files of the volume, and write nothing until resume(). May block.

        The oldest segment goes, in the end the one that was written last. Return the bytes.
        """
        self._giving_way = True
        freed = self.free(1)
        if not freed:
            with self._mutex, suppress(OSError):
                self._writer.end()
            freed = self.free(1)
        return freed

    def resume(self) -> None:
        """Write again: the files of the volume are written."""
        self._giving_way = False

    def close(self) -> int:
        """Write what waits, sync it, and note the last number; return how many records are not written.

        These have numbers and so make a gap. May block.
        """
        self._retry_at, self._giving_way = 0.0, False
        self.write()
        if self._untold:
            self._tell_drops()
        try:
            with self._mutex:
                self._writer.close(self._base + self._given - 1)
        except OSError as error:
            self._write_errors += 1
            log.error("spool %s: the last number cannot be noted: %s", self._writer.directory, error)
        if self._writer.syncs:
            self.sync()
        return self._waiting_records()

    def _waiting_records(self) -> int:
        return sum(len(block.payloads) for block, _ in self._waiting[:])

    def _drop(self, first: int, count: int) -> None:
        self.dropped_records += count
        self._untold_records += count
        self._untold = (self._untold[0] if self._untold else first, first + count - 1)
        self.tell_drops()

    def _tell_drops(self) -> None:
        """Log what was dropped; its numbers are not known before the spool is open."""
        first, last = self._untold or (0, 0)
        numbers = f", numbered {self._base + first} to {self._base + last}" if self._is_open else ""
        records = counted(self._untold_records, "record", "was", "were")
        what = "spool %s: %s dropped%s: %d bytes wait to be written, and more must not"
        log.error(what, self._writer.directory, records, numbers, self.waiting_bytes)
        self._untold, self._untold_records = None, 0
        self._told_at = time.monotonic()

    def _survive(self, work: Callable[[], None]) -> None:
        """Do *work*, which may fail in any way."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - a fault of ours too must not keep lines from their files
            self._failed(error)
        else:
            if self._pause:
                log.info("spool %s: can be written again", self._writer.directory)
            self._pause = 0.0

    def _failed(self, error: Exception) -> None:
        """End the segment, and have what waits tried again after a pause, in a new one."""
        self._write_errors += 1
        why = error.__cause__ if isinstance(error, PartlyWrittenError) else error
        is_fault = not isinstance(why, OSError)
        self._wants_room |= isinstance(why, OSError) and why.errno in (errno.ENOSPC, errno.EDQUOT)
        with suppress(OSError):  # one more says nothing new
            self._writer.end()
        longest = _LAST_PAUSE_SECONDS if self._is_open else _FIRST_PAUSE_SECONDS
        self._pause = min(max(2 * self._pause, _FIRST_PAUSE_SECONDS), longest)
        self._retry_at = time.monotonic() + self._pause
        waits = counted(self._waiting_records(), "record", "waits", "wait")
        what = "spool %s: cannot be written, %s, tried again in %d s: %s"
        log.error(what, self._writer.directory, waits, self._pause, why, exc_info=error if is_fault else None)

    def _begin(self) -> None:
        self._is_open = False
        first = self._writer.begin()
        self._base = max(self._base, first - self._written_to)
        self._is_open = True

    def _be_in_place(self) -> None:
        if not self._is_open:
            self._begin()
        elif not self._writer.is_in_place():
            log.warning("spool %s: was emptied or moved away, beginning anew", self._writer.directory)
            self._begin()

    def _write(self) -> None:
        self._be_in_place()
        left = len(self._waiting)  # what comes meanwhile is for the next hop
        most_bytes = max(_PORTION_BYTES, self.waiting_bytes // _PORTIONS)
        while left > 0:
            left -= self._write_portion(left, most_bytes)

    def _write_portion(self, most: int, most_bytes: int) -> int:
        """Write the oldest blocks, *most* and about *most_bytes* at most; return how many."""
        size = count = 0
        for _, block_size in islice(self._waiting, most):
            if count and size + block_size > most_bytes:
                break
            size, count = size + block_size, count + 1
        base = self._base
        blocks = [Block(base + block[0], *block[1:]) for block, _ in self._waiting[:count]]
        try:
            self._writer.write(blocks, size, self.segment_bytes)
        except PartlyWrittenError as error:
            self._settle(error.whole)  # they are read, although the one behind them is torn
            raise
        self._settle(count)
        return count

    def _settle(self, count: int) -> None:
        """Forget the oldest *count* blocks, which are written."""
        if count:
            written = self._waiting[:count]
            del self._waiting[:count]
            self._gone_bytes += sum(size for _, size in written)
            self.spooled_records += sum(len(block.payloads) for block, _ in written)
            last = written[-1][0]
            self._written_to = last.first + len(last.payloads)

    def _delete(self, wanted: Callable[[], int]) -> int:
        """Delete the oldest segments until as many bytes are free as are *wanted*; return how many are."""
        freed = 0
        try:
            with self._mutex:
                sizes = self._writer.deletable()
                wanted_bytes = wanted()
            freed = delete_oldest(self._writer.directory, sizes, lambda freed: freed < wanted_bytes)
            with self._mutex:
                self._writer.deleted(freed)
        except OSError as error:
            log.error("spool %s: the oldest segment cannot be deleted: %s", self._writer.directory, error)
        return freed
