"""The runs of several files as one sequence by time, from either end, with one run of each in memory.

Records of one file keep their order. A file is opened when the sequence comes to the time from which on it
may have records.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from heapq import heapify, heappop, heapreplace
from operator import itemgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from collector.readback.runs import Run

_TURNED = bytes(range(255, -1, -1))


class Stream:
    """What one file has, that first which comes first in the sequence."""

    def __init__(self, bound: bytes, rank: int, runs: Iterator[Run | bytes]) -> None:
        """No record comes before the time *bound*; of one time, that of the lower *rank* is the older.

        Among its *runs* stand further bounds, where the file has nothing for long.
        """
        self.bound = bound
        self.rank = rank
        self.runs = runs


class Merge:
    """The sequence, which can be gone through once."""

    def __init__(self, streams: Iterable[Stream], *, newest_first: bool) -> None:
        self._newest_first = newest_first
        self._heap: list[tuple[tuple[bytes, int], bytes, Stream, Run | None]] = [
            (self._place(stream.bound, stream.rank), stream.bound, stream, None) for stream in streams
        ]
        heapify(self._heap)

    @property
    def reached(self) -> bytes | None:
        """The time that it has come to, at any moment: none comes before that; None: to the end."""
        return self._heap[0][1] if self._heap else None

    @property
    def rank(self) -> int | None:
        """The rank of the stream that it is at; None: it has come to the end."""
        return self._heap[0][2].rank if self._heap else None

    def __iter__(self) -> Iterator[tuple[Run, int, int]]:
        """Yield which records of which run come next, from the first in its file to behind the last."""
        heap, newest_first = self._heap, self._newest_first
        while heap:
            _, _, stream, run = heap[0]
            if run:
                begin, end = run.begin, run.end
                # The next one in the sequence: in a heap, that is one of these.
                following = min(heap[1:3], default=None, key=itemgetter(0))
                if following:
                    _, limit, other, _ = following
                    # Records of the same time are taken before those of the other file if they come first.
                    cut = bisect_right if (stream.rank < other.rank) else bisect_left
                    middle = cut(run.keys, limit, begin, end)
                    begin, end = (max(begin, middle), end) if newest_first else (begin, min(end, middle))
                if begin < end:
                    yield run, begin, end
                run.begin, run.end = (run.begin, begin) if newest_first else (end, run.end)
            now = run if run and run.begin < run.end else next(stream.runs, None)
            if now is None:
                heappop(heap)
            elif isinstance(now, bytes):
                heapreplace(heap, (self._place(now, stream.rank), now, stream, None))
            else:
                key = now.keys[now.end - 1] if newest_first else now.keys[now.begin]
                heapreplace(heap, (self._place(key, stream.rank), key, stream, now))

    def _place(self, key: bytes, rank: int) -> tuple[bytes, int]:
        # A key that another one begins with is the lower one, turned or not.
        return (key.translate(_TURNED) + b"\xff", -rank) if self._newest_first else (key, rank)
