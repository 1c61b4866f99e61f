"""The runs of several files as one sequence by time, from either end, with one run of each in memory.

Records of one file keep their order. A file is opened when the sequence comes to the time from which on it
may have records.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from heapq import heapify, heappop, heapreplace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from collector.readback.runs import Run

_TURNED = bytes(range(255, -1, -1))


class Stream:
    """The runs of one file, those that come first in the sequence first."""

    def __init__(self, bound: bytes, rank: int, runs: Iterator[Run]) -> None:
        """No record comes before the time *bound*; of one time, that of the lower *rank* is the older."""
        self.bound = bound
        self.rank = rank
        self.runs = runs


def merge(streams: Iterable[Stream], *, newest_first: bool) -> Iterator[tuple[Run, int, int]]:
    """Yield which records of which run come next, from the first of them in the file to behind the last."""

    def place(key: bytes, rank: int) -> tuple[bytes, int]:
        # A key that another one begins with is the lower one, turned or not.
        return (key.translate(_TURNED) + b"\xff", -rank) if newest_first else (key, rank)

    heap: list[tuple[tuple[bytes, int], bytes, Stream, Run | None]] = [
        (place(stream.bound, stream.rank), stream.bound, stream, None) for stream in streams
    ]
    heapify(heap)
    while heap:
        _, _, stream, run = heap[0]
        if run:
            begin, end = run.begin, run.end
            # The next one in the sequence: in a heap, that is one of these.
            following = min(heap[1:3], default=None, key=lambda one: one[0])
            if following:
                _, limit, other, _ = following
                # Records of the same time are taken before those of the other file if they come first.
                cut = bisect_right if (stream.rank < other.rank) else bisect_left
                middle = cut(run.keys, limit, begin, end)
                begin, end = (max(begin, middle), end) if newest_first else (begin, min(end, middle))
            if begin < end:
                yield run, begin, end
            run.begin, run.end = (run.begin, begin) if newest_first else (end, run.end)
        if not run or run.begin == run.end:
            run = next(stream.runs, None)
        if run:
            key = run.keys[run.end - 1] if newest_first else run.keys[run.begin]
            heapreplace(heap, (place(key, stream.rank), key, stream, run))
        else:
            heappop(heap)
