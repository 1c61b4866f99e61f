"""The reserve: the bounded memory, in bytes, for what is received and not yet on disk.

While there is room the collector reads on, whatever a disk does. A volume may take half of what the others
leave, so however many disks stall, some is always left for the next one. It does not know what the bytes are.
"""

from __future__ import annotations

import time

from gevent.event import Event

# What a volume may take also grows when others need less, so those waiting look again this often.
_LOOK_SECONDS = 0.1


class Stopwatch:
    """The time during which at least one greenlet has been waiting."""

    def __init__(self) -> None:
        self.running = 0
        """How many are waiting now."""
        self._before = 0.0
        self._begun = 0.0

    def __enter__(self) -> None:
        if not self.running:
            self._begun = time.monotonic()
        self.running += 1

    def __exit__(self, *_: object) -> None:
        self.running -= 1
        if not self.running:
            self._before += time.monotonic() - self._begun

    @property
    def seconds(self) -> float:
        """The time it shows, running or not."""
        return self._before + (time.monotonic() - self._begun if self.running else 0.0)


class Room:
    """Bytes held against a limit, and the greenlets that wait for them to become fewer."""

    def __init__(self, limit: int, not_reading: Stopwatch, *, waits: bool = True) -> None:
        self.limit = limit
        self.not_reading = not_reading
        """Runs while anybody waits: whoever waits does not read meanwhile."""
        self.waits = waits
        """Whether to wait when it is full, as `when_full` says."""
        self.held = 0
        self._freed = Event()

    @property
    def full(self) -> bool:
        """Whether the limit is reached."""
        return self.held >= self.limit

    def take(self, size: int) -> None:
        """Count *size* bytes as held. Never waits: what has been read is already here."""
        self.held += size

    def give_back(self, size: int) -> None:
        """Count *size* bytes as gone, and wake those waiting."""
        self.held -= size
        self._freed.set()
        self._freed.clear()

    def wait(self) -> None:
        """Return once there is room, or nobody is to wait for room any more."""
        if self.waits and self.full:
            with self.not_reading:
                while self.waits and self.full:
                    self._freed.wait(_LOOK_SECONDS)


class Reserve(Room):
    """The whole reserve."""

    def __init__(self, max_buffered_bytes: int, *, waits: bool = True) -> None:
        super().__init__(max_buffered_bytes, Stopwatch(), waits=waits)
        self._shares: list[Share] = []

    def reconfigure(self, max_buffered_bytes: int, *, waits: bool) -> None:
        """Go by these settings from now on; those with nothing left to wait for go on. What is held stays."""
        for room in (self, *self._shares):
            room.limit, room.waits = max_buffered_bytes, waits

    def share(self) -> Share:
        """Return a new part, for one volume."""
        share = Share(self)
        self._shares.append(share)
        return share


class Share(Room):
    """The part of the reserve that one volume may take."""

    def __init__(self, reserve: Reserve) -> None:
        super().__init__(reserve.limit, reserve.not_reading, waits=reserve.waits)
        self._reserve = reserve

    @property
    def allowance(self) -> int:
        """How many bytes it may take: half of what the others leave."""
        return (self.limit - (self._reserve.held - self.held)) // 2

    @property
    def full(self) -> bool:
        """Whether its allowance is used up."""
        return self.held >= self.allowance

    def take(self, size: int) -> None:
        """Count *size* bytes as held, here and in the reserve."""
        super().take(size)
        self._reserve.take(size)

    def give_back(self, size: int) -> None:
        """Count *size* bytes as gone, here and in the reserve."""
        super().give_back(size)
        self._reserve.give_back(size)
