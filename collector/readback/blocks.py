"""A block: records that follow each other in one file, told apart only as far as that is needed.

A block is taken from its front, up to one time after another, until it is empty. Records of one file keep
their order: one that is dated before the record above it counts as of that one's time.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, TypeAlias

from collector.readback.layouts import split_records

if TYPE_CHECKING:
    import re
    from collections.abc import Sequence

    from collector.readback.layouts import Layout

    Records = tuple[list[bytes], list[bytes]]
    """Records, and the time of each."""
    AnyBlock: TypeAlias = "Block | UntimedBlock"

_STEP_BYTES = 512


class Block:
    """Whole records as they stand in the file, without the last newline."""

    def __init__(self, data: bytes, layouts: Sequence[Layout], floor: bytes) -> None:
        """*floor* is the time of the record above."""
        self._data = data
        self._layouts = layouts
        self._floor = floor
        self._taken = 0
        self.low = max(floor, self._key_at(0) or b"")
        """The time of the first record that is left."""
        self.high = max(self.low, self._key_at(last_begin(data, layouts)) or b"")
        """The time of the last record."""

    def take(self, limit: bytes) -> list[bytes]:
        """Take the records up to the time *limit*, in one piece: all that are left from `high` on."""
        begin, end = self._taken, len(self._data) + 1
        if limit < self.high:
            end, key = self._find_later(limit)
            self.low = max(self.low, key or b"")
        self._taken = end
        return [self._data[begin : end - 1]]

    def split(self) -> Records:
        """Return all its records, and the time of each."""
        return self._in_order(*split_records(self._data, self._layouts, self._floor))

    def find(self, search: re.Pattern[str]) -> Records:
        """Return, of all its records, at least those in which *search* finds something."""
        if not self._data.isascii():  # characters are not where bytes are
            return self.split()
        data, text = self._data, self._data.decode()
        records: list[bytes] = []
        keys: list[bytes] = []
        end = 0
        while end < len(text) and (match := search.search(text, end)):
            begin = match.start()
            while (begin := data.rfind(b"\n", end, begin) + 1) and not self._key_at(begin):
                begin -= 1
            begin = max(begin, end)
            keys.append(self._key_at(begin) or self._floor)
            end = self._begin_from(max(begin, match.start()) + 1)[0]
            records.append(data[begin : end - 1])
        return self._in_order(records, keys)

    def _in_order(self, records: list[bytes], keys: list[bytes]) -> Records:
        if keys and (keys[0] < self._floor or keys != sorted(keys)):
            keys = list(accumulate([max(self._floor, keys[0]), *keys[1:]], max))
        return records, keys

    def _find_later(self, limit: bytes) -> tuple[int, bytes | None]:
        """Return where the first record left begins that is later than *limit*, and its time.

        In wider and wider steps first, then halving: most runs are short or very long.
        """
        early, step = self._taken, 0
        while True:
            late, key = self._begin_from(early + 1 + step)
            if key is None or key > limit:
                break
            early, step = late, 4 * step + _STEP_BYTES
        if not step:
            return late, key
        while late - early > 1:
            middle = (early + 1 + late) // 2 if late - early > _STEP_BYTES else early + 1
            found, key = self._begin_from(middle)
            if key is not None and key <= limit and found < late:
                early = found
            elif middle == early + 1:
                return found, key
            else:
                late = middle
        return late, None

    def _begin_from(self, position: int) -> tuple[int, bytes | None]:
        """Return where the first record at *position* or behind begins, and its time; the end and None."""
        find, data = self._data.find, self._data
        while position := find(b"\n", position - 1) + 1:
            if key := self._key_at(position):
                return position, key
            position += 1
        return len(data) + 1, None

    def _key_at(self, position: int) -> bytes | None:
        return key_at(self._data, position, self._layouts)


class UntimedBlock:
    """Lines of a format that tells no time: each is a record, and all are of one time."""

    def __init__(self, data: bytes, time: bytes) -> None:
        self._data = data
        self.low = self.high = time

    def take(self, _: bytes) -> list[bytes]:
        """Take all records, in one piece."""
        return [self._data]

    def split(self) -> Records:
        """Return its records, and the time of each."""
        records = self._data.split(b"\n")
        return records, [self.low] * len(records)

    def find(self, _: re.Pattern[str]) -> Records:
        """Return all its records: they are too short for a search to save anything."""
        return self.split()


class Selection:
    """Those records of a block that somebody has selected."""

    def __init__(self, block: AnyBlock, records: list[bytes], keys: list[bytes]) -> None:
        self._records = records
        self._keys = keys
        self._taken = 0
        self.low = block.low
        self.high = block.high

    def take(self, limit: bytes) -> list[bytes]:
        """Take the records up to the time *limit*: all that are left from `high` on."""
        begin, end = self._taken, len(self._keys)
        if limit < self.high:
            end = bisect_right(self._keys, limit, begin)
            self.low = self._keys[end] if end < len(self._keys) else self.high
        self._taken = end
        return self._records[begin:end]


def last_begin(data: bytes, layouts: Sequence[Layout]) -> int:
    """Return where the last record in *data* begins that is not the first; 0 if there is one only."""
    end = len(data)
    while (end := data.rfind(b"\n", 0, end)) >= 0:
        if key_at(data, end + 1, layouts):
            return end + 1
    return 0


def key_at(data: bytes, position: int, layouts: Sequence[Layout]) -> bytes | None:
    """Return the time of the record that begins in *data* at *position*; None if none begins there."""
    for layout in layouts:
        if key := layout.key_at(data, position):
            return key
    return None
