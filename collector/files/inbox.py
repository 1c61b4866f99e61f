"""What has been received for one file and waits to be written.

An inbox outlives the handlers of its file: routes hold on to it. Knows no file and no thread.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collector.config.tables import Rollover
    from collector.reserve import Room

# Lines for one file are written in portions, so that many of one file do not hold up the others.
_PORTION_BYTES = 4 * 1024 * 1024
_PORTION_RECORDS = 10_000


class Arrivals:
    """What has come for the files of a volume since its writer last looked, in the order in which it came."""

    __slots__ = ("inboxes", "lines")

    def __init__(self) -> None:
        self.inboxes: list[Inbox] = []
        """The inbox of each record."""
        self.lines: list[str] = []
        """Lines that are yet to be counted as held; they are in their inboxes too."""


class Inbox(list[Any]):
    """Records that wait for the file *path*, oldest first: lines of text, or frames for the quarantine."""

    __slots__ = (
        *("arrivals", "outdated", "path", "rollover", "room", "since"),
        *("_held", "_marked", "_marked_at", "_measured", "_size_of"),
    )

    def __init__(
        self, path: str, rollover: Rollover, room: Room, arrivals: Arrivals, kind: type[object] = str
    ) -> None:
        """*kind* is the type of a record."""
        super().__init__()
        self.arrivals = arrivals
        """Where the writer of its volume looks."""
        self.path = path
        self.rollover = rollover
        self.outdated = False
        """Whether the configuration was read again since somebody last asked the cache for this inbox."""
        self.room = room
        """What its volume may take of the reserve."""
        self.since = 0.0
        """When the oldest record was received, or earlier, by the monotonic clock; 0: there is none."""
        self._size_of = kind.__sizeof__  # of memory, which is more than the characters
        # Measured is what somebody asks for: most lines wait in short batches, which are taken whole.
        self._held, self._measured = 0, 0
        # Lines may always be waiting, and nobody notes when each arrived. What is known since some were taken
        # and others left: at `_marked_at` there were `_marked` records, and any behind them are younger.
        self._marked, self._marked_at = 0, 0.0

    # No two inboxes are equal, whatever they hold.
    __eq__ = object.__eq__
    __hash__ = object.__hash__  # type: ignore[assignment] # a list has none

    def put(self, record: Any) -> None:  # noqa: ANN401 - as `kind` says
        """Take a record, which the caller then has written by HandlerCache.submit(). Never waits."""
        self.arrivals.inboxes.append(self)
        self.append(record)
        self.room.take(self._size_of(record))

    @property
    def held(self) -> int:
        """Bytes of memory that its records take."""
        if self._measured < len(self):
            self._held += sum(map(self._size_of, self[self._measured :]))
            self._measured = len(self)
        return self._held

    def portion(self) -> tuple[list[Any], int]:
        """Return what to write in one go, and the bytes of memory that it takes. There must be something."""
        if self.held <= _PORTION_BYTES and len(self) <= _PORTION_RECORDS:
            return self[:], self.held
        taken = self[:_PORTION_RECORDS]
        sizes = list(map(self._size_of, taken))
        held = sum(sizes)
        if held > _PORTION_BYTES:
            count = max(1, bisect_right(list(accumulate(sizes)), _PORTION_BYTES))
            taken, held = taken[:count], sum(sizes[:count])
        return taken, held

    def forget(self, count: int, held: int) -> None:
        """Remove the *count* oldest records, which take *held* bytes."""
        del self[:count]
        self._held -= held
        self._measured -= count
        if not self:
            self.since = 0.0
            self._marked = 0
        elif self._marked > count:
            self._marked -= count
        else:
            if self._marked:
                self.since = self._marked_at
            self._marked, self._marked_at = len(self), time.monotonic()

    def take_over(self, other: Inbox) -> None:
        """Take the records of *other*, which was found to be for the same file."""
        for record in other:
            self.put(record)
        other.room.give_back(other.held)  # put() has counted them again
        other.forget(len(other), other.held)
