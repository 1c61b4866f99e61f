"""The reserve: what is received and not yet on disk, in bytes, bounded.

While there is room the collector reads on, whatever a disk does. Half of it is the most that one volume may
take, so that a stalled disk leaves the other half to the others; a quarter is for frames still incomplete.
"""

from __future__ import annotations

from gevent.event import Event


class Room:
    """Bytes that are held against a limit, and greenlets that wait for them to become fewer."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self._freed = Event()
        self._freed.set()

    @property
    def full(self) -> bool:
        """Whether the limit is reached."""
        return self.held >= self.limit

    def take(self, size: int) -> None:
        """Count *size* bytes as held. Never waits: what has been read is here already."""
        self.held += size
        if self.held >= self.limit:
            self._freed.clear()

    def give_back(self, size: int) -> None:
        """Count *size* bytes as gone, and let go on who waited for that."""
        self.held -= size
        if self.held < self.limit:
            self._freed.set()

    def wait(self) -> None:
        """Return once there is room, at once if there is."""
        self._freed.wait()


class Reserve(Room):
    """The whole of it, in three parts that count towards it."""

    def __init__(self, max_buffered_bytes: int) -> None:
        super().__init__(max_buffered_bytes)
        self.partial_limit = max_buffered_bytes // 4
        self.partial = 0
        """Bytes of incomplete frames, of all clients."""

    def hold_partial(self, change: int) -> bool:
        """Count *change* bytes more of incomplete frames; return whether they are too many."""
        self.partial += change
        if change > 0:
            self.take(change)
        else:
            self.give_back(-change)
        return self.partial > self.partial_limit

    def share(self) -> Room:
        """Return the part that one volume may take."""
        return Room(self.limit // 2)
