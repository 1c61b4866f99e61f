"""A handler: it owns one log file, and knows what is on its way to the disk and how the last try went."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gevent.lock import BoundedSemaphore

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.files.append_file import AppendFile, Lines
    from collector.files.inbox import Inbox


class Handler:
    """Owns one log file, from its first line until it is evicted."""

    def __init__(self, file: AppendFile, inbox: Inbox) -> None:
        self.file = file
        self.inbox = inbox
        self.semaphore = BoundedSemaphore(1)
        """Held by the writer while the file is in its thread, and for good by whoever evicts the handler.

        The writer never finds it held: an evicted handler has no lines and no changes, and gets none.
        """
        self.pause = 0.0
        """Seconds between the last two tries to write; 0 while all is well."""
        self.error = ""
        """Why the last try to write failed; "" while all is well."""
        self.retry_at = 0.0
        """When to try again, by the monotonic clock."""
        self.failed_at = 0.0
        """When the last try to write failed, by the monotonic clock; 0 while all is well."""
        self.of_the_volume = False
        """Whether it failed as all files of a volume may, and is not known to have failed by itself."""
        self.dropped = 0
        """Records dropped since writing began to fail, because too much was waiting."""
        self.faults = 0
        """How often the collector itself was at fault with the same lines."""
        self.changes: list[Callable[[], None]] = []
        """What is to be done to the file between two records, in the writer's thread."""
        self._on_their_way: Lines | None = None

    @property
    def records(self) -> int:
        """Records that are not on disk."""
        return len(self.inbox) + (self._on_their_way.records if self._on_their_way else 0)

    @property
    def held(self) -> int:
        """Bytes of the reserve that its records take."""
        return self.inbox.held + (self._on_their_way.held if self._on_their_way else 0)

    @property
    def since(self) -> float:
        """When the oldest of its records that are not on disk was received, or earlier; there must be one."""
        return self._on_their_way.since if self._on_their_way else self.inbox.since

    def take(self) -> Lines:
        """Return what to write next: what failed before, else what waits. There must be something.

        Raises MemoryError; nothing is taken then.
        """
        if self._on_their_way is None:
            inbox = self.inbox
            records, held = inbox.portion()
            lines = self.file.join(records, ends=bool(inbox.rollover.max_bytes))
            lines.since, lines.held = inbox.since, held
            if len(lines.data) > held:
                inbox.room.take(len(lines.data) - held)
                lines.held = len(lines.data)
            self._on_their_way = lines
            inbox.forget(len(records), held)
        return self._on_their_way

    def settled(self) -> None:
        """Forget what take() returned: it is on disk."""
        self._on_their_way = None
        self.pause = self.retry_at = self.failed_at = 0.0
        self.error = ""
        self.of_the_volume = False
        self.dropped = self.faults = 0
