"""What has been received for one file and waits to be written.

An inbox outlives the handlers of its file: routes hold on to it. Knows no file and no thread.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.config.tables import Rollover
    from collector.reserve import Room

# Lines for one file are written in portions, so that many of one file do not hold up the others.
_PORTION_BYTES = 4 * 1024 * 1024
_PORTION_RECORDS = 10_000


class Inbox(list[Any]):
    """Records that wait for the file *path*, oldest first: lines of text, or in the quarantine frames.

    The first record put in after a measure() adds the inbox to *arrivals*, where the writer looks.
    """

    __slots__ = (
        *("held", "outdated", "path", "put", "rollover", "room"),
        *("_arrivals", "_begun_at", "_first", "_mark", "_measured", "_next", "_size_of"),
    )

    put: Callable[[Any], None]
    """Takes a record, which the caller then has written by HandlerCache.submit(). Never waits."""

    def __init__(
        self, path: str, rollover: Rollover, room: Room, arrivals: list[Inbox], kind: type[str | bytes] = str
    ) -> None:
        """*kind* is the type of a record."""
        super().__init__()
        self.path = path
        self.rollover = rollover
        self.outdated = False
        """Whether the configuration was read again since somebody last asked the cache for this inbox."""
        self.room = room
        """What its volume may take of the reserve."""
        self.held = 0
        """Bytes of memory that its records take, as far as they are measured."""
        # Bound once: in a crowd most batches bring one record.
        self.put = self._first = self._put_first
        self._next = self.append
        self._arrivals = arrivals
        self._size_of = kind.__sizeof__  # of memory, which is more than the characters
        self._measured = 0
        self._begun_at = 0.0
        self._mark = (0, 0.0)

    # No two inboxes are equal, whatever they hold.
    __eq__ = object.__eq__
    __hash__ = object.__hash__  # type: ignore[assignment] # a list has none

    def _put_first(self, record: Any) -> None:  # noqa: ANN401 - str or bytes
        if not self:
            self._begun_at = time.monotonic()
            self._mark = 0, self._begun_at
        self._arrivals.append(self)
        # From here on put() is the list's own method, which costs next to nothing per record.
        self.put = self._next
        self._next(record)

    def measure(self) -> int:
        """Return how many bytes of memory the records that have come since the last time take."""
        self.put = self._first
        measured, self._measured = self._measured, len(self)
        if self._measured - measured == 1:
            size = self._size_of(self[-1])
        else:
            size = sum(map(self._size_of, self[measured:]))
        self.held += size
        return size

    @property
    def since(self) -> float:
        """When the oldest record was received, or earlier, by the monotonic clock; there must be one."""
        return self._begun_at

    def portion(self) -> tuple[list[Any], int]:
        """Return what to write in one go, and the bytes of memory that it takes. There must be something."""
        if self.held <= _PORTION_BYTES and len(self) <= _PORTION_RECORDS:
            return self[: self._measured], self.held
        taken = self[: min(self._measured, _PORTION_RECORDS)]
        sizes = list(map(self._size_of, taken))
        held = sum(sizes)
        if held > _PORTION_BYTES:
            count = max(1, bisect_right(list(accumulate(sizes)), _PORTION_BYTES))
            taken, held = taken[:count], sum(sizes[:count])
        return taken, held

    def forget(self, count: int, held: int) -> None:
        """Remove the *count* oldest records, which take *held* bytes."""
        del self[:count]
        self.held -= held
        self._measured -= count
        # A file may always have lines waiting, and nobody notes when each one came. Known is that there were
        # *marked* records at *marked_at*; those behind them are younger.
        marked, marked_at = self._mark
        self._mark = marked - count, marked_at
        if marked <= count:
            self._begun_at = marked_at
            self._mark = len(self), time.monotonic()

    def take_over(self, other: Inbox) -> None:
        """Take the records of *other*, which was found to be for the same file."""
        for record in other:
            self.put(record)
        other.clear()
        other.room.give_back(other.held)  # they are measured again
        other.held = other._measured = 0
