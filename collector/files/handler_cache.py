"""The handler cache: who owns a log file, guarded by semaphores.

A handler takes the lines for its file at once and leaves the writing to the writer of its volume. Its
semaphore is held while its lines are on their way, it rolls over, is reopened or closed: one of these at a
time, and the greenlet that holds it may switch. Knows no socket and no pickle.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from bisect import bisect_right
from collections import OrderedDict
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import gevent
from gevent.lock import BoundedSemaphore

from collector.files.directory import LogDirectory, device_of, folded, ignores_case
from collector.files.quarantine import NEVER, Quarantine
from collector.files.rotating import Lines, RotatingFile
from collector.files.volumes import volume_of
from collector.files.writer import Writer
from collector.log import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from collector.config.load import Files, Rollover
    from collector.config.load import Quarantine as QuarantineTable
    from collector.reserve import Reserve
    from collector.stats import Stats

log = logging.getLogger(__name__)

# Lines for one file go to the disk in portions, so that a long backlog of one does not hold up the others.
_PORTION_BYTES = 4 * 1024 * 1024
_PORTION_RECORDS = 10_000
_POLL_SECONDS = 0.005
# A volume that stands still is not to hold up one that is mounted below it for longer.
_TRIAL_SECONDS = 5.0


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
        self.failed_at = 0.0
        """When the last try to write failed, by the monotonic clock; 0 while all is well."""
        self.of_the_volume = False
        """Whether it failed in a way in which all files of a volume may, and no other was written."""
        self.dropped = 0
        """Records dropped since writing began to fail, for too much waits already."""
        self.faults = 0
        """How often the collector itself was at fault with the same lines."""
        self.changes: list[Callable[[], None]] = []
        """What is to be done to the file between two records, in the writer's thread."""
        self._begun_at = 0.0
        """When the first of `lines` was received, or before."""
        self._mark = (0, 0.0)
        """How many of `lines` were there at a later moment, and that moment: others are younger."""
        self._on_their_way: Lines | None = None
        self._measured = 0, 0
        """How many of `lines` were measured, and their bytes: for a file that fails, again and again."""

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

    @property
    def held(self) -> int:
        """Bytes of the reserve that its records take."""
        count, size = self._measured
        size += sum(map(sys.getsizeof, self.lines[count:]))
        self._measured = len(self.lines), size
        return size + (self._on_their_way.held if self._on_their_way else 0)

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
            self._measured = 0, 0
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
        self.pause = self.retry_at = self.failed_at = 0.0
        self.error = ""
        self.of_the_volume = False
        self.dropped = self.faults = 0

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
        self._evicted: dict[str, tuple[Rollover, bool]] = {}
        """The files whose handlers are gone, with what Handler has as `rollover` and `outdated`.

        There are no more than names may make.
        """
        self._writers: dict[str, Writer] = {}
        self._directories: dict[str, tuple[LogDirectory, Writer]] = {}
        self._spellings: dict[str, str] = {}
        """The path of each file as it was spelled first, by what all of its spellings have in common."""
        self.respelled = 0
        """How often a directory was found to ignore case: paths have to be asked for again."""
        self.directory = os.path.realpath(files.directory)
        self._trials: dict[str, gevent.Greenlet] = {}
        """What finds out whether a directory ignores case, by its path."""
        root, writer = self._in_directory(self.directory)
        sync = files.sync_seconds > 0
        self.quarantine_file = Quarantine(root, quarantine.max_bytes, files.mode, sync=sync)
        self.quarantine = Handler(self.quarantine_file, NEVER, files.mode, writer, [])
        """Takes frames as received, each one of its records."""

    def __len__(self) -> int:
        return len(self._handlers)

    def place(self, path: str, rollover: Rollover) -> tuple[list[str], Writer]:
        """Return where the lines for the file *path* wait, and the writer of its volume, for good."""
        if path in self._handlers:
            # While it has lines that wait nobody asks for it, and it would not hear of another rollover.
            self.get(path, rollover)
        _, writer = self._in_directory(os.path.dirname(path))
        self._spellings.setdefault(self._folded(path), path)
        return self._lines.setdefault(path, []), writer

    def spelled(self, path: str) -> str:
        """Return *path* as its file was spelled first: where a volume ignores case they are one."""
        return self._spellings.get(self._folded(path), path)

    def get(self, path: str, rollover: Rollover) -> Handler:
        """Return the handler of the file *path*, which is absolute. Opens nothing."""
        handler = self._handlers.get(path)
        if handler is None:
            self._evicted.pop(path, None)
            directory, _ = self._in_directory(os.path.dirname(path))
            sync = self._files.sync_seconds > 0
            file = RotatingFile(path, rollover, self._files.mode, sync=sync, directory=directory)
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

    def full(self) -> Collection[Writer | str]:
        """Return for what nothing more is to be left: the writers of volumes, and the paths of files.

        No writer is among them where the reserve has its clients wait.
        """
        full: set[Writer | str] = set()
        for writer in self._writers.values():
            if not self._reserve.waits and (writer.room.full or self._reserve.full):
                full.add(writer)
            if writer.failing:
                full |= writer.full_files()
        return full

    def drop(self, path: str, records: int) -> None:
        """Count *records* of the file *path*, which has failed by itself: too much waits for it already."""
        handler = self.quarantine if path == self.quarantine_file.path else self._handlers[path]
        self._stats.dropped_records_total["file"] += records
        if not handler.dropped:
            what = "%s: %s for this file: until it can be written its further records are dropped"
            log.error(what, path, counted(handler.held, "byte", "waits", "wait"), extra={"of": path})
        handler.dropped += records

    def set_up(self, files: Files, quarantine: QuarantineTable) -> int:
        """Go by other settings and reopen the files; return how many. The directory stays.

        A file has its new rollover with the next record for it, written or not.
        """
        self._files = files
        for writer in self._writers.values():
            writer.set_up(files.sync_seconds)
        self._evicted = {path: (rollover, True) for path, (rollover, _) in self._evicted.items()}
        for directory, _ in self._directories.values():
            directory.numbers.forget()  # an operator at work may have moved backups
        self.quarantine_file.half = quarantine.max_bytes // 2
        for handler in self.all():
            handler.mode = files.mode
            handler.outdated = True
            change = partial(handler.file.set_up, files.mode, sync=files.sync_seconds > 0)
            handler.writer.change(handler, change)
        return len(self._handlers)

    def roll_over(self) -> int:
        """Make a backup of every log file that has lines; return how many files are looked at."""
        for path, (rollover, outdated) in list(self._evicted.items()):
            self.get(path, rollover).outdated = outdated
        for handler in self._handlers.values():
            handler.writer.change(handler, handler.file.roll_over)
        return len(self._handlers)

    def all(self) -> list[Handler]:
        """Return the handlers, the quarantine's last."""
        return [*self._handlers.values(), self.quarantine]

    def directories(self) -> list[str]:
        """Return a directory on each of the volumes that it writes on."""
        by_writer: dict[Writer, str] = {}
        for path, (_, writer) in self._directories.items():
            by_writer.setdefault(writer, path)
        return list(by_writer.values())

    def _in_directory(self, path: str) -> tuple[LogDirectory, Writer]:
        """Return what is known of the directory *path*, and the writer of its volume."""
        if path not in self._directories:
            above = None
            if len(path) > len(self.directory):
                above, _ = self._in_directory(os.path.dirname(path))
            volume = volume_of(path)
            writer = self._writers.get(volume)
            if writer is None:
                every = self._files.sync_seconds
                writer = Writer(self._reserve, self._stats, every, self._trim, self._try_again)
                self._writers[volume] = writer
            # Until it was tried it is taken to be as the one above it.
            directory = LogDirectory(path, ignores_case=above is not None and above.ignores_case)
            self._directories[path] = directory, writer
            self._trials[path] = gevent.spawn(self._try, directory, writer)
        return self._directories[path]

    def _try(self, directory: LogDirectory, writer: Writer) -> None:
        """Find out whether *directory* ignores case, in the thread that its files wait for anyway.

        Nothing is written there before that is known: two handlers would open one file.
        """
        above = os.path.dirname(directory.path)
        try:
            if above in self._trials:
                self._trials[above].join(_TRIAL_SECONDS)
            found = writer.in_thread(ignores_case, directory.path)
            directory.device = writer.in_thread(device_of, directory.path)
            if found is None:  # it is yet to be made, and then as the one above it is
                found = self._ignores_case(above)
            if found != directory.ignores_case:
                directory.ignores_case = found
                self._respell()
        finally:
            directory.tried = True
            del self._trials[directory.path]
            writer.wake()

    def _try_again(self, directory: LogDirectory) -> None:
        """Find out about the volume that is mounted at *directory* since it was tried."""
        directory.moved = False
        if directory.path not in self._trials:
            directory.tried = False
            _, writer = self._directories[directory.path]
            self._trials[directory.path] = gevent.spawn(self._try, directory, writer)

    def wait_for_trials(self, seconds: float) -> None:
        """Return when all directories were tried that it has so far, or so many *seconds* later."""
        gevent.joinall(list(self._trials.values()), timeout=seconds)

    def _respell(self) -> None:
        """Let one handler have the lines of each file, now that more spellings are known to be one."""
        self._spellings.clear()
        for path, lines in self._lines.items():
            first = self._spellings.setdefault(self._folded(path), path)
            if first == path or path not in self._handlers:
                continue
            other = self._handlers[path]
            if lines:
                handler = self.get(first, other.rollover)
                if not handler.lines:
                    handler.begin()
                handler.lines += lines
                lines.clear()
                handler.writer.submit()
            if not other.records and other.semaphore.acquire(blocking=False):
                del self._handlers[path]
                other.writer.close(other)
            if first in self._handlers:  # what it has open may be what the other has rolled over
                handler = self._handlers[first]
                handler.writer.change(handler, handler.file.look_again)
        self.respelled += 1

    def _ignores_case(self, path: str) -> bool:
        """Return whether the directory *path* ignores case: as the nearest one above it that is known."""
        while path not in self._directories and len(path) > len(self.directory):
            path = os.path.dirname(path)
        directory, _ = self._directories.get(path, (None, None))
        return directory is not None and directory.ignores_case

    def _folded(self, path: str) -> str:
        """Return what all spellings of *path*, which is below the directory, have in common."""
        return folded(path, self.directory, self._ignores_case)

    def _trim(self, out_of_files: bool) -> None:  # noqa: FBT001 - a callback, called in one place
        """Close idle files above max_open, or all where the process has run out of descriptors."""
        surplus = len(self._handlers) - (0 if out_of_files else self._files.max_open)
        if surplus <= 0:
            return
        for path, handler in list(self._handlers.items()):
            if not (handler.records or handler.changes) and handler.semaphore.acquire(blocking=False):
                # Never released: whoever asks for this path from now on gets another handler.
                del self._handlers[path]
                self._evicted[path] = handler.rollover, handler.outdated
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
