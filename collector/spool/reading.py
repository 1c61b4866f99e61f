"""Reading the spool, from a position on: what a forwarder does, while the worker writes and deletes segments.

The records of a reader have numbers that only ever grow. Where one is missing between two of them, it was
dropped, or deleted with its segment: the caller counts it by that, and by nothing else. A reader waits for
nobody: it returns what is there.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from contextlib import suppress
from itertools import accumulate, count, repeat
from typing import TYPE_CHECKING, NamedTuple

from collector.spool.segments import SegmentFile, SegmentId, segments_in

if TYPE_CHECKING:
    from collector.spool.segments import Block

ID_FILE = "id"


class Position(NamedTuple):
    """Where in the spool to read on."""

    epoch: int
    index: int  # type: ignore[assignment] # as in SegmentId
    """Of the segment within its epoch."""
    offset: int
    """Where a block begins in it; 0: at the first one."""
    number: int
    """The next one expected: lower ones are skipped. 0: whichever comes first."""

    @property
    def segment(self) -> SegmentId:
        """The segment that it is in."""
        return SegmentId(self.epoch, self.index)


OLDEST = Position(0, 0, 0, 0)
"""Where all that the spool holds is still to be read."""


class Spooled(NamedTuple):
    """A record as it lies in the spool."""

    collector_id: str
    epoch: int
    index: int  # type: ignore[assignment] # as in SegmentId
    offset: int
    """Where to read on behind it: at its own block, or if it is the last one there at the next."""
    number: int
    received: int
    """In nanoseconds since 1970."""
    peer: str
    payload: bytes

    @property
    def id(self) -> str:
        """What no other record has, ever."""
        return f"{self.collector_id}-{self.epoch:016x}-{self.number}"

    @property
    def after(self) -> Position:
        """The position of a checkpoint behind this record."""
        return Position(self.epoch, self.index, self.offset, self.number + 1)


class ReplacedError(Exception):
    """Another spool has taken the place of the one that was read, with numbers of its own: begin anew."""


class SpoolReader:
    """Reads the records in *directory* from *position* on. Keeps at most one segment open."""

    def __init__(self, directory: str, position: Position) -> None:
        """Remember where to begin: nothing is opened yet."""
        self.bad_blocks = 0
        """How many blocks were not sound, and what cannot be made out at a segment's end: their numbers are
        missing."""
        self._directory = directory
        self._segment = position.segment
        self._offset = position.offset
        self._expected = position.number
        self._file: SegmentFile | None = None
        self._collector_id = ""
        self._pending: list[Spooled] = []
        """The rest of a block that was read in part."""
        self._pending_bytes = 0
        self._end = EndFinder(directory)

    @property
    def collector_id(self) -> str:
        """The id that the spool has now, "" if there is none. Raises OSError."""
        with suppress(FileNotFoundError), open(os.path.join(self._directory, ID_FILE), "rb") as file:
            return file.read(100).decode("ascii", "replace").strip()
        return ""

    def read(self, max_records: int, max_bytes: int) -> list[Spooled]:
        """Return the next records: so many at most, and as large together, but for a single larger one.

        [] if there are none for now. Raises OSError, then nothing is skipped; ReplacedError.
        """
        taken: list[Spooled] = []
        segments = None
        size = 0
        while len(taken) < max_records:
            if not self._pending:
                try:
                    if segments is None:
                        segments = self._listed()
                    if not self._next_block(segments):
                        break
                except (OSError, ReplacedError):
                    if not taken:
                        raise
                    break  # it will be met again, with the next call
            some, some_bytes = self._fitting(max_records - len(taken), max_bytes - size, alone=not taken)
            if not some:
                break
            taken += some
            size += some_bytes
        return taken

    def end(self) -> Position:
        """Return where the newest sound block ends, OLDEST if there is none. Raises OSError."""
        return self._end.find()

    def close(self) -> None:
        """Let go of the segment that is open."""
        if self._file:
            self._file.close()
            self._file = None

    def _fitting(self, max_records: int, max_bytes: int, *, alone: bool) -> tuple[list[Spooled], int]:
        """Take the pending records that fit, one at least if it is *alone*; return their size too."""
        some, size = self._pending, self._pending_bytes
        if len(some) > max_records or size > max_bytes:
            ends = list(accumulate(len(one.payload) for one in some[:max_records]))
            fitting = bisect_right(ends, max_bytes) or int(alone)
            some, size = some[:fitting], ends[fitting - 1] if fitting else 0
        self._pending = self._pending[len(some) :]
        self._pending_bytes -= size
        return some, size

    def _listed(self) -> list[SegmentId]:
        """List the segments from the one that is read on, before it is read: see _next_block()."""
        segments = segments_in(self._directory)
        known, self._collector_id = self._collector_id, self.collector_id or self._collector_id
        if known not in ("", self._collector_id) and self._segment not in segments:
            raise ReplacedError(f"the spool in {self._directory!r} is another one now: {self._collector_id}")
        return [segment for segment in segments if segment >= self._segment]

    def _next_block(self, segments: list[SegmentId]) -> bool:
        """Fill `_pending` from the next block with a number that was not read; return whether there is one.

        Once there is a later segment nothing is written to an earlier one. So if a later one was listed
        before this one was read, what was read is all of it.
        """
        while True:
            later = next((segment for segment in segments if segment > self._segment), None)
            try:
                block_found = self._in_segment(ended=later is not None)
            except OSError:
                if self._segment in segments or later is None:
                    raise
                block_found = False  # it went with a disk that broke: what was left in it is a gap
            if block_found:
                return True
            if later is None:
                return False
            self.close()
            self._segment, self._offset = later, 0

    def _in_segment(self, *, ended: bool) -> bool:
        if self._file is None:
            try:
                self._file = SegmentFile(
                    os.path.join(self._directory, self._segment.name), self._segment.epoch
                )
            except FileNotFoundError:
                return False
        header = self._file.header
        if header is None:
            self.bad_blocks += ended and not self._file.lacks_header
            return False
        while True:
            found = self._file.find(self._offset, ended=ended)
            self.bad_blocks += found.bad
            self._offset = found.end
            if found.block is None:
                return False
            if found.block.first + len(found.block.payloads) > self._expected:
                self._take(found.block, header.collector_id, found.start, found.end)
                return True

    def _take(self, block: Block, collector_id: str, start: int, end: int) -> None:
        first, received, peer, payloads = block
        self._expected, known = first + len(payloads), max(self._expected - first, 0)
        payloads = payloads[known:]
        columns = (
            *(repeat(one) for one in (collector_id, *self._segment, start)),
            *(count(first + known), repeat(received), repeat(peer), payloads),
        )
        # What Spooled._make() does, without a call of Python for each record.
        self._pending = list(map(tuple.__new__, repeat(Spooled), zip(*columns, strict=False)))
        self._pending[-1] = self._pending[-1]._replace(offset=end)
        self._pending_bytes = sum(map(len, payloads))


class EndFinder:
    """Finds the end of the spool again and again, without reading twice what has not changed."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._known = OLDEST

    def find(self) -> Position:
        """Return where the newest sound block ends, OLDEST if there is none. Raises OSError."""
        segments = segments_in(self._directory)
        if not segments:
            self._known = OLDEST
        for segment in reversed(segments):
            if segment < self._known.segment:
                break
            offset = self._known.offset if segment == self._known.segment else 0
            with suppress(FileNotFoundError):
                if end := self._end_of(segment, offset):
                    self._known = end
                    break
        return self._known

    def _end_of(self, segment: SegmentId, offset: int) -> Position | None:
        file = SegmentFile(os.path.join(self._directory, segment.name), segment.epoch)
        try:
            last = file.last(offset) if file.header else None
        finally:
            file.close()
        return Position(*segment, *last) if last else None
