"""The handler cache: who owns a log file, guarded by semaphores.

A handler takes the lines for its file at once and leaves the writing to the writer of its volume. Its
semaphore is held while its lines are on their way, it rolls over, is reopened or closed: one of these at a
time, and the greenlet that holds it may switch. Knows no socket and no pickle.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_right
from collections import OrderedDict
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import gevent
from gevent.lock import BoundedSemaphore

from collector.backups import Chores
from collector.quarantine import NEVER, Quarantine
from collector.rotating import Lines, RotatingFile
from collector.writer import Writer, volume_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from collector.config import Files, Rollover
    from collector.config import Quarantine as QuarantineTable
    from collector.reserve import Reserve
    from collector.stats import Stats

# Lines for one file go to the disk in portions, so that a long backlog of one does not hold up the others.
_PORTION_BYTES = 4 * 1024 * 1024
_PORTION_RECORDS = 10_000
_POLL_SECONDS = 0.005


class Handler:
    """Owns one log file: the lines that wait for it, and whose turn it is."""

    def __init__(
        self, file: RotatingFile, rollover: Rollover, mode: int, writer: Writer, lines: list[Any]
    ) -> None:
        self.file = file
        self.rollover = rollover
        self.outdated = False
        """Whether the configuration was read again since somebody asked for the handler."""
        self.mode = mode
        self.writer = writer
        self.lines = lines
        """What waits for the writer, a record each: text, or in the quarantine a frame."""
        self.semaphore = BoundedSemaphore(1)
        self.pause = 0.0
        """Seconds between the last two tries to write; 0 while all is well."""
        self.error = ""
        """Why the last try to write failed; "" while all is well."""
        self.retry_at = 0.0
        """When to try again, by the monotonic clock."""
        self.chores = Chores([], [])
        self.changes: list[Callable[[], None]] = []
        """What is to be done to the file between two records, in the writer's thread."""
        self._begun_at = 0.0
        """When the first of `lines` was received, or before."""
        self._mark = (0, 0.0)
        """How many of `lines` were there at a later moment, and that moment: others are younger."""
        self._on_their_way: Lines | None = None

    def leave(self, line: str | bytes) -> None:
        """Take a record; the caller has it written by HandlerCache.submit(). Never waits."""
        if not self.lines:
            self.begin()
        self.lines.append(line)
        # The memory that it takes, which is more than its characters.
        self.writer.left += line.__sizeof__()

    def begin(self) -> None:
        """Take note that `lines`, which is empty, gets some now."""
        self._begun_at = time.monotonic()
        self._mark = 0, self._begun_at
        self.writer.newly_waiting.append(self)

    @property
    def records(self) -> int:
        """Records that are not on disk."""
        return len(self.lines) + (self._on_their_way.records if self._on_their_way else 0)

    def take(self) -> Lines:
        """Return what to write next: what failed before, or else what waits. There must be something.

        Raises MemoryError, and has taken nothing then.
        """
        if self._on_their_way is None:
            taken = self.lines[:_PORTION_RECORDS]
            sizes = [line.__sizeof__() for line in taken]
            held = sum(sizes)
            if held > _PORTION_BYTES:
                count = max(1, bisect_right(list(accumulate(sizes)), _PORTION_BYTES))
                taken, held = taken[:count], sum(sizes[:count])
            lines = self._join(taken)
            lines.since, lines.held = self._begun_at, max(held, len(lines.data))
            self.writer.room.take(lines.held - held)
            self._on_their_way = lines
            del self.lines[: len(taken)]
            marked, marked_at = self._mark
            self._mark = marked - len(taken), marked_at
            if marked <= len(taken):
                self._begun_at = marked_at
                self._mark = len(self.lines), time.monotonic()
        return self._on_their_way

    def _join(self, lines: list[Any]) -> Lines:
        """Return *lines* in one piece."""
        if isinstance(self.file, Quarantine):
            return Lines(b"".join(lines), len(lines), list(accumulate(map(len, lines))))
        # Lone surrogates are legal in a record and not in UTF-8.
        data = "".join(lines).encode("utf-8", "backslashreplace")
        ends = None
        if self.rollover.max_bytes:
            sizes = list(map(len, lines))
            if sum(sizes) != len(data):  # not all are ASCII
                sizes = [len(line.encode("utf-8", "backslashreplace")) for line in lines]
            ends = list(accumulate(sizes))
        return Lines(data, len(lines), ends)

    def count_written(self, stats: Stats, lines: Lines) -> None:
        """Count *lines* as what they are, now that they are on disk."""
        if isinstance(self.file, Quarantine):
            stats.quarantined_records_total += lines.records - self.file.frames_gone
            stats.dropped_records_total["quarantine full"] += self.file.frames_gone
            self.file.frames_gone = 0
        else:
            stats.written_records_total += lines.records
            stats.written_bytes_total += len(lines.data)

    def settled(self) -> None:
        """Forget what take() returned: it is on disk."""
        self._on_their_way = None
        self.pause = self.retry_at = 0.0
        self.error = ""

    @property
    def since(self) -> float:
        """When the oldest of its records that are not on disk was received, or before; there must be one."""
        return self._on_their_way.since if self._on_their_way else self._begun_at


class HandlerCache:
    """Handlers by the path of their file, first those for whose files nothing new has come for longest.

    No method but drain() switches greenlets, so two that ask for one file get one handler.
    """

    def __init__(self, files: Files, quarantine: QuarantineTable, reserve: Reserve, stats: Stats) -> None:
        self._files = files
        self._reserve = reserve
        self._stats = stats
        self._handlers: OrderedDict[str, Handler] = OrderedDict()
        self._lines: dict[str, list[str]] = {}
        """What waits for each file: one list for all handlers that it ever has, for others hold on to it."""
        self._evicted: dict[str, Rollover] = {}
        """The files whose handlers are gone; there are no more than names may make."""
        self._writers: dict[str, Writer] = {}
        self._writer_by_directory: dict[str, Writer] = {}
        self.directory = os.path.realpath(files.directory)
        self.quarantine_file = Quarantine(
            self.directory, quarantine.max_bytes, files.mode, sync=files.sync_seconds > 0
        )
        self.quarantine = Handler(self.quarantine_file, NEVER, files.mode, self._writer(self.directory), [])
        """Takes frames as received, each one of its records."""

    def __len__(self) -> int:
        return len(self._handlers)

    def place(self, path: str, rollover: Rollover) -> tuple[list[str], Writer]:
        """Return where the lines for the file *path* wait, and the writer of its volume, for good."""
        if path in self._handlers:
            # While it has lines that wait nobody asks for it, and it would not hear of another rollover.
            self.get(path, rollover)
        return self._lines.setdefault(path, []), self._writer(os.path.dirname(path))

    def get(self, path: str, rollover: Rollover) -> Handler:
        """Return the handler of the file *path*, which is absolute. Opens nothing."""
        handler = self._handlers.get(path)
        if handler is None:
            self._evicted.pop(path, None)
            file = RotatingFile(path, rollover, self._files.mode, sync=self._files.sync_seconds > 0)
            lines, writer = self.place(path, rollover)
            handler = self._handlers[path] = Handler(file, rollover, self._files.mode, writer, lines)
        else:
            self._handlers.move_to_end(path)
            if handler.outdated:
                handler.outdated = False
                if handler.rollover != rollover:
                    handler.rollover = rollover
                    handler.writer.change(handler, partial(handler.file.set_rollover, rollover))
        return handler

    def submit(self) -> list[Writer]:
        """Have written what was left since the last time; return the writers of that."""
        writers = [writer for writer in self._writers.values() if writer.left]
        for writer in writers:
            writer.submit()
        return writers

    def full(self) -> Collection[Writer]:
        """Return the writers for which nothing more is to be left; none where who leaves it will wait."""
        if self._reserve.waits:
            return ()
        return [writer for writer in self._writers.values() if writer.room.full or self._reserve.full]

    def set_up(self, files: Files, quarantine: QuarantineTable) -> int:
        """Go by other settings and reopen the files; return how many. The directory stays.

        A file has its new rollover with the next record for it, written or not.
        """
        self._files = files
        for writer in self._writers.values():
            writer.sync_every(files.sync_seconds)
        self.quarantine_file.half = quarantine.max_bytes // 2
        for handler in self.all():
            handler.mode = files.mode
            handler.outdated = True
            change = partial(handler.file.set_up, files.mode, sync=files.sync_seconds > 0)
            handler.writer.change(handler, change)
        return len(self._handlers)

    def roll_over(self) -> int:
        """Make a backup of every log file that has lines; return how many files are looked at."""
        for path, rollover in list(self._evicted.items()):
            self.get(path, rollover).outdated = True
        for handler in self._handlers.values():
            # How many backups a file may have is known again with the next record for it.
            handler.writer.change(handler, partial(handler.file.roll_over, trim=not handler.outdated))
        return len(self._handlers)

    def all(self) -> list[Handler]:
        """Return the handlers, the quarantine's last."""
        return [*self._handlers.values(), self.quarantine]

    def directories(self) -> list[str]:
        """Return a directory on each of the volumes that it writes on."""
        by_writer: dict[Writer, str] = {}
        for directory, writer in self._writer_by_directory.items():
            by_writer.setdefault(writer, directory)
        return list(by_writer.values())

    def _writer(self, directory: str) -> Writer:
        writer = self._writer_by_directory.get(directory)
        if writer is None:
            volume = volume_of(directory)
            writer = self._writers.get(volume)
            if writer is None:
                writer = self._writers[volume] = Writer(
                    self._reserve, self._stats, self._files.sync_seconds, self._trim
                )
            self._writer_by_directory[directory] = writer
        return writer

    def _trim(self, out_of_files: bool) -> None:  # noqa: FBT001 - a callback, called in one place
        """Close idle files above max_open, or all where the process has run out of descriptors."""
        surplus = len(self._handlers) - (0 if out_of_files else self._files.max_open)
        if surplus <= 0:
            return
        for path, handler in list(self._handlers.items()):
            if not (handler.records or handler.changes) and handler.semaphore.acquire(blocking=False):
                # Never released: whoever asks for this path from now on gets another handler.
                del self._handlers[path]
                self._evicted[path] = handler.rollover
                handler.writer.close(handler)
                surplus -= 1
                if not surplus:
                    return

    def drain(self, deadline: float) -> list[Handler]:
        """Write what waits and close every file; return the handlers that could not when time is up.

        *deadline* is by the monotonic clock.
        """
        for writer in self._writers.values():
            writer.hurry()
        self._wait_for_writers(deadline)
        handlers = self.all()
        for handler in handlers:
            if not handler.records:
                handler.writer.close(handler)
        self._wait_for_writers(deadline)
        return [handler for handler in handlers if handler.records]

    @property
    def idle(self) -> bool:
        """Whether nothing is left to write, sync, compress or close."""
        return all(writer.idle for writer in self._writers.values())

    def _wait_for_writers(self, deadline: float) -> None:
        while not self.idle and time.monotonic() < deadline:
            gevent.sleep(_POLL_SECONDS)
