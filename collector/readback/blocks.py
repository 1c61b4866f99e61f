"""A file as blocks of whole records, which are the same from either end.

A block is the records that begin in one stretch of the file; stretches are of one length. A record is of the
time that its line tells, but records of one file keep their order: one that is dated before the record above
it counts as of that one's time. That reaches as far as the block. What time it is between two blocks is told
by the records on both sides together, so that one whose clock is wrong moves nothing but its own block.
"""

from __future__ import annotations

from itertools import accumulate, chain
from typing import TYPE_CHECKING

from collector.readback.layouts import split_records

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from collector.readback.layouts import Layout
    from collector.readback.log_file import LogFile

_WITNESSES = 5
"""How many records of a block tell the time at its edge."""
_NEWLINE = ord("\n")
_LINE_BYTES = 4096


class Block:
    """Whole records as they stand in the file, without the last newline."""

    __slots__ = ("data", "high", "low", "offset")

    def __init__(self, data: bytes, offset: int) -> None:
        """*offset* is where it begins in the file, in bytes that are not compressed."""
        self.data = data.removesuffix(b"\n")
        self.offset = offset
        self.low: Block | bytes | None = b""
        """The block before it, as long as it is linked; or the time at its beginning."""
        self.high: Block | bytes | None = None
        """The block behind it; or the time at its end, None where the file ends."""


class Cutter:
    """Cuts a file, which is open, into blocks, and those into records."""

    def __init__(
        self, file: LogFile, layouts: Sequence[Layout], first: bytes, stretch: int, *, timed: bool
    ) -> None:
        """*first* is the time of lines ahead of the first record.

        If lines are not *timed*, each of them is a record, and all are of that time.
        """
        self._file = file
        self._layouts = layouts
        self._first = first
        self._time = None if timed else first
        self._stretch = stretch

    def forward(self, begin: int = 0) -> Iterator[Block]:
        """Yield the blocks from *begin* on, where a record does; all of them if the file is compressed."""
        read = self._file.reader(begin)
        offset = 0 if self._file.compressed else begin
        data, at_end = b"", False
        while True:
            seen = (offset // self._stretch + 1) * self._stretch - offset
            cut = -1
            while cut < 0:
                if len(data) >= seen:
                    cut, seen = self._find_begin(data, seen, whole=at_end)
                if at_end:
                    break
                if cut < 0:
                    more = read(max(seen - len(data) + _LINE_BYTES, len(data) // 2))
                    at_end = not more
                    data += more
            if cut < 0:
                if data:
                    yield Block(data, offset)
                return
            block = Block(data[:cut], offset)
            data, offset = data[cut:], offset + cut
            yield block
            del block  # nobody knows when the next one is asked for

    def backward(self, end: int) -> Iterator[Block]:
        """Yield the blocks before *end*, where a record or the file does, the last one first."""
        tail: list[bytes] = []  # of a record that begins farther up, the last piece first
        while end > 0:
            begin = (end - 1) // self._stretch * self._stretch
            lead = min(begin, 1)  # a newline there makes the stretch begin with a line
            data = self._file.read_at(begin - lead, end)
            if len(data) < end - begin + lead:
                return  # it cannot be read, or was truncated
            cut = 0 if not begin else -1
            if begin and b"\n" in data:
                cut, _ = self._find_begin(data + _first_line(tail), lead, whole=True)
            if 0 <= cut < len(data):
                yield Block(data[cut:] + b"".join(reversed(tail)), begin - lead + cut)
                tail = [data[lead:cut]] if cut > lead else []
            else:
                tail.append(data[lead:])
            end = begin

    def edge(self, stretch: int) -> int:
        """Return where the first record begins that begins in this *stretch*, from 0 on, or behind it."""
        begin = stretch * self._stretch - 1
        if begin < 0:
            return 0
        data, seen, cut, at_end = b"", 1, -1, False
        while cut < 0 and not at_end:
            more = self._file.read_at(begin + len(data), begin + len(data) + max(_LINE_BYTES, len(data)))
            at_end = not more
            data += more
            if len(data) >= seen:
                cut, seen = self._find_begin(data, seen, whole=at_end)
        return self._file.end if cut < 0 else begin + cut

    def time_at(self, edge: int) -> bytes | None:
        """Return what time it is where a record begins; None where the file ends."""
        older, newer = next(self.backward(edge), None), next(self.forward(edge), None)
        if not newer:
            return None
        return self.between(older, newer) if older else b""

    def stretch_of(self, offset: int) -> int:
        """Return the number of the stretch, from 0 on, that *offset* is in."""
        return offset // self._stretch

    def between(self, older: Block, newer: Block) -> bytes:
        """Return what time it is between two blocks that follow each other."""
        if self._time is not None:
            return self._time
        last, first = self._last_keys(older.data), self._first_keys(newer.data)
        number = min(len(last), len(first))
        return sorted(last[:number] + first[:number])[number]

    def link(
        self, blocks: Iterable[Block], low: bytes, high: bytes | None, *, newest_first: bool
    ) -> Iterator[Block]:
        """Yield *blocks*, each linked to those beside it; *low* and *high* are the times at both ends."""
        before: Block | bytes | None = high if newest_first else low
        block: Block | None = None
        for following in chain(blocks, [None]):
            if block:
                after = following or (low if newest_first else high)
                block.low, block.high = (after, before) if newest_first else (before, after)
                before = None  # held no longer than the block needs it
                yield block
                told = block.low if newest_first else block.high
                before = told if isinstance(told, bytes) else block
                block.low = block.high = None
            block = following

    def times(self, block: Block) -> tuple[bytes, bytes | None]:
        """Return the time at the beginning of a linked block, and at its end, None where the file ends."""
        if isinstance(block.low, Block):
            block.low = self.between(block.low, block)
        if isinstance(block.high, Block):
            block.high = self.between(block, block.high)
        return block.low or b"", block.high

    def split(self, block: Block, end: int | None = None) -> tuple[list[bytes], list[bytes]]:
        """Return the records of a linked block, and the time of each; or those before *end* alone.

        They are then no longer in the block.
        """
        low, high = self.times(block)
        data, block.data = block.data, b""
        if self._time is not None:
            records = data.split(b"\n")
            return records, [self._time] * len(records)
        records, keys = split_records(data if end is None else data[:end], self._layouts, self._first)
        if keys[0] < low or keys != sorted(keys) or (high is not None and keys[-1] > high):
            high = max(low, max(keys) if high is None else high)
            keys = list(accumulate((min(max(key, low), high) for key in keys), max))
        return records, keys

    def begin_of(self, data: bytes, position: int, least: int) -> int:
        """Return where the record begins that has *position*, or *least* if none does behind that."""
        while (begin := data.rfind(b"\n", least, position) + 1) > least and self._key_at(data, begin) is None:
            position = begin - 1
        return max(begin, least)

    def end_of(self, data: bytes, position: int) -> int:
        """Return where the next record begins, behind *position*; without one, one past the end."""
        cut, _ = self._find_begin(data, position + 1, whole=True)
        return len(data) + 1 if cut < 0 else cut

    def _find_begin(self, data: bytes, position: int, *, whole: bool) -> tuple[int, int]:
        """Return where the first record at *position* or behind begins, or -1, and where to look on.

        With *whole*, the data end where a line does; without, nobody knows yet what its last line is.
        """
        if position > len(data):
            return -1, position
        if position and data[position - 1] != _NEWLINE:
            position = data.find(b"\n", position) + 1 or len(data)
            if data[-1] != _NEWLINE and position == len(data):
                return -1, position
        while position < len(data):
            end = data.find(b"\n", position)
            if end < 0 and not whole:
                return -1, position
            if self._key_at(data, position) is not None:
                return position, position
            position = end + 1 if end >= 0 else len(data)
        return -1, position

    def _key_at(self, data: bytes, position: int) -> bytes | None:
        if self._time is not None:
            return self._time
        for layout in self._layouts:
            if key := layout.key_at(data, position):
                return key
        return None

    def _first_keys(self, data: bytes) -> list[bytes]:
        keys = [self._key_at(data, 0) or self._first]
        position = 0
        while len(keys) < _WITNESSES and (position := data.find(b"\n", position) + 1):
            if (key := self._key_at(data, position)) is not None:
                keys.append(key)
        return keys

    def _last_keys(self, data: bytes) -> list[bytes]:
        keys: list[bytes] = []
        end = len(data)
        while len(keys) < _WITNESSES and (end := data.rfind(b"\n", 0, end)) >= 0:
            if (key := self._key_at(data, end + 1)) is not None:
                keys.append(key)
        if len(keys) < _WITNESSES:
            keys.append(self._key_at(data, 0) or self._first)
        return keys


def _first_line(tail: Sequence[bytes]) -> bytes:
    line = b""
    for piece in reversed(tail):
        end = piece.find(b"\n") + 1
        line += piece[:end] if end else piece
        if end:
            break
    return line
