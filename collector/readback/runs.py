"""Runs: records of one file that follow each other, of which a merge takes one part after another."""

from __future__ import annotations

from itertools import accumulate
from operator import add
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collector.readback.sources import Source


class Run:
    """Records of one block, or some of them, in the order of the file."""

    __slots__ = ("_offsets", "begin", "end", "is_hit", "keys", "records", "source")

    def __init__(
        self,
        source: Source,
        records: list[bytes],
        keys: list[bytes],
        offsets: int | list[int],
        is_hit: Sequence[bool] | None = None,
    ) -> None:
        """*offsets* tells where they begin in the file, or where the first does, if nothing is left out.

        *is_hit* tells which ones were asked for, and are not the context of one; None: all were.
        """
        self.source = source
        self.records = records
        self.keys = keys
        self._offsets = offsets
        self.is_hit = is_hit
        self.begin = 0
        """The first record that is not taken yet."""
        self.end = len(records)
        """Behind the last one that is not."""

    @property
    def offsets(self) -> list[int]:
        """Where each record begins in the file."""
        if isinstance(self._offsets, int):
            ends = accumulate(map(len, self.records), initial=self._offsets)
            self._offsets = list(map(add, ends, range(len(self.records))))  # of each newline a byte
        return self._offsets

    def part(self, wanted: Sequence[int]) -> Run:
        """Return a run of those records alone whose places are *wanted*, in their order."""
        if len(wanted) == len(self.records):
            return self
        records, keys, offsets, is_hit = self.records, self.keys, self.offsets, self.is_hit
        return Run(
            self.source,
            [records[index] for index in wanted],
            [keys[index] for index in wanted],
            [offsets[index] for index in wanted],
            is_hit and [is_hit[index] for index in wanted],
        )
