"""A stretch of one file that a query asks for."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class Span(NamedTuple):
    """Which records of one file a query's `after` and `before` leave."""

    low: bytes = b""
    """The time of the first."""
    high: bytes | None = None
    """The time behind the last; None: there is no end."""
    begin: int = 0
    """Where the first may begin in the file."""
    end: int | None = None
    """Where none may begin any more."""

    def part(self, keys: list[bytes], offsets: Callable[[], list[int]]) -> range:
        """Return which records of a block are in the span, by their times and where they begin."""
        begin, end = bisect_left(keys, self.low), len(keys)
        if self.high is not None:
            end = bisect_left(keys, self.high)
        if self.begin:
            begin = max(begin, bisect_left(offsets(), self.begin))
        if self.end is not None:
            end = min(end, bisect_left(offsets(), self.end))
        return range(begin, max(begin, end))
