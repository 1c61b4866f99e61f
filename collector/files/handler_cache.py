"""The handler cache: the handlers of log files, the writers of volumes, and what waits for each file.

It alone joins them: an inbox knows no handler, a handler no writer. Knows no socket and no pickle.
"""

from __future__ import annotations

import logging
import os
import time
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING

import gevent

from collector.config.tables import Rollover
from collector.files.directory import LogDirectory, device_of, folded, ignores_case
from collector.files.handler import Handler
from collector.files.inbox import Inbox
from collector.files.quarantine import Quarantine, Undecoded
from collector.files.rotating import RotatingFile
from collector.files.volumes import volume_of
from collector.files.writer import Writer
from collector.log import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.config.tables import Files
    from collector.config.tables import Quarantine as QuarantineTable
    from collector.files.syncing import First
    from collector.reserve import Reserve, Room
    from collector.stats import Stats

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.005
# A volume that hangs must not hold up one mounted below it for longer than this.
_TRIAL_SECONDS = 5.0
# No rule applies to the quarantine.
_NO_ROLLOVER = Rollover(when="never", utc=True, max_bytes=0, backup_count=0, compress=False)


class _LogHandler(Handler):
    """The handler of a log file, as opposed to the quarantine's."""

    file: RotatingFile


class HandlerCache:
    """Handlers by the path of their file, the longest idle first.

    No method that looks a file up switches greenlets, so two that ask for one file get one handler.
    """

    def __init__(self, files: Files, quarantine: QuarantineTable, reserve: Reserve, stats: Stats) -> None:
        self._files = files
        self._reserve = reserve
        self._stats = stats
        self._handlers: OrderedDict[str, _LogHandler] = OrderedDict()
        self._inboxes: dict[str, Inbox] = {}
        """By the path of the file, for good: routes hold on to them. `max_files` bounds what names make."""
        self._evicted: set[str] = set()
        """The paths of files whose handlers were evicted."""
        self._writers: dict[str, Writer] = {}
        self._directories: dict[str, tuple[LogDirectory, Writer]] = {}
        self._spellings: dict[str, str] = {}
        """The path of each file as it was spelled first, by what all of its spellings have in common."""
        self.respelled = 0
        """How often it turned out that other spellings are one file: paths must be looked up again then."""
        self.directory = os.path.realpath(files.directory)
        self._trials: dict[str, gevent.Greenlet] = {}
        """The greenlets that find out whether a directory ignores case, by its path."""
        root, writer = self._in_directory(self.directory)
        sync = files.sync_seconds > 0
        self.quarantine_file = Quarantine(root, quarantine.max_bytes, files.mode, sync=sync)
        inbox = Inbox(self.quarantine_file.path, _NO_ROLLOVER, writer.room, writer.arrivals, Undecoded)
        self.quarantine = Handler(self.quarantine_file, inbox)
        """Takes frames as received; these are its records."""

    @property
    def largest_quarantined(self) -> int:
        """The size of the largest frame that the quarantine can keep, its header included."""
        return self.quarantine_file.half

    def __len__(self) -> int:
        return len(self._handlers)

    def inbox(self, path: str, rollover: Rollover) -> Inbox:
        """Return the inbox of the file *path*, which is absolute.

        The first *rollover* passed for it holds; after a reconfigure(), the first one passed since.
        """
        inbox = self._inboxes.get(path)
        if inbox is None:
            _, writer = self._in_directory(os.path.dirname(path))
            self._spellings.setdefault(self._folded(path), path)
            inbox = self._inboxes[path] = Inbox(path, rollover, writer.room, writer.arrivals)
        elif inbox.outdated:
            inbox.outdated = False
            if inbox.rollover != rollover:
                inbox.rollover = rollover
                if handler := self._handlers.get(path):
                    self._change(handler, partial(handler.file.set_rollover, rollover))
        return inbox

    def spelled(self, path: str) -> str:
        """Return *path* as its file was spelled first: if a volume ignores case, all spellings are one."""
        return self._spellings.get(self._folded(path), path)

    def handler(self, inbox: Inbox) -> Handler:
        """Return the handler of the file that *inbox* is for. Opens nothing."""
        path = inbox.path
        if inbox is self.quarantine.inbox:
            return self.quarantine
        handler = self._handlers.get(path)
        if handler is None:
            self._evicted.discard(path)
            directory, _ = self._in_directory(os.path.dirname(path))
            sync = self._files.sync_seconds > 0
            file = RotatingFile(path, inbox.rollover, self._files.mode, sync=sync, directory=directory)
            handler = self._handlers[path] = _LogHandler(file, inbox)
        else:
            self._handlers.move_to_end(path)
        return handler

    def submit(self) -> list[Room]:
        """Have what has arrived since the last call written; return the parts of the reserve that hold it."""
        rooms: list[Room] = []
        for writer in self._writers.values():
            if writer.arrivals.inboxes:
                writer.receive(self.handler)
                rooms.append(writer.room)
        return rooms

    def refusing(self) -> set[Room | Inbox]:
        """Return what takes no more: whole volumes, by their part of the reserve, and single inboxes.

        If the reserve has clients wait, no volume is among them.
        """
        refusing: set[Room | Inbox] = set()
        for writer in self._writers.values():
            if not self._reserve.waits and (writer.room.full or self._reserve.full):
                refusing.add(writer.room)
            refusing |= writer.failures.full_inboxes()
        return refusing

    def drop(self, inbox: Inbox, records: int) -> None:
        """Count *records* for *inbox* as dropped: its file has failed by itself, and too much waits in it."""
        handler = self.handler(inbox)
        self._stats.dropped_records_total["file"] += records
        if not handler.dropped:
            what = "%s: %s for this file: until it can be written its further records are dropped"
            waits = counted(handler.held, "byte", "waits", "wait")
            log.error(what, inbox.path, waits, extra={"about": inbox.path})
        handler.dropped += records

    def reconfigure(self, files: Files, quarantine: QuarantineTable) -> int:
        """Go by other settings and reopen the files; return how many. The directory stays the same.

        A file gets its new rollover settings with the next record for it, whether that is written or not.
        """
        self._files = files
        for writer in self._writers.values():
            writer.reconfigure(files.sync_seconds)
        for inbox in self._inboxes.values():
            inbox.outdated = True
        for directory, _ in self._directories.values():
            directory.numbers.forget()  # an operator at work may have moved backups
        self.quarantine_file.half = quarantine.max_bytes // 2
        for handler in self.all():
            change = partial(handler.file.reconfigure, files.mode, sync=files.sync_seconds > 0)
            self._change(handler, change)
        return len(self._handlers)

    def roll_over(self) -> int:
        """Make a backup of every log file that has lines; return how many files are looked at."""
        for path in list(self._evicted):
            self.handler(self._inboxes[path])
        for handler in self._handlers.values():
            self._change(handler, handler.file.roll_over)
        return len(self._handlers)

    def _change(self, handler: Handler, change: Callable[[], None]) -> None:
        """Have *change* made to a file in its volume's thread, between two records."""
        self._writer(handler).change(handler, change)

    def _writer(self, handler: Handler) -> Writer:
        return self._directories[handler.file.directory.path][1]

    def write_first(self, directory: str, first: First) -> Callable[[], None]:
        """Have *first*, which lies in *directory*, written before the files of its volume.

        Return what wakes its writer.
        """
        writer = self._writer_of(volume_of(directory))
        writer.write_first(first)
        return writer.wake

    def all(self) -> list[Handler]:
        """Return the handlers, the quarantine's last."""
        return [*self._handlers.values(), self.quarantine]

    def directories(self) -> list[str]:
        """Return one directory on each of the volumes written to."""
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
            writer = self._writer_of(volume_of(path))
            # Until it has been tried it is taken to be like the one above it.
            directory = LogDirectory(path, ignores_case=above is not None and above.ignores_case)
            self._directories[path] = directory, writer
            self._trials[path] = gevent.spawn(self._try, directory, writer)
        return self._directories[path]

    def _writer_of(self, volume: str) -> Writer:
        if volume not in self._writers:
            every = self._files.sync_seconds
            writer = Writer(self._reserve, self._stats, every, self._trim, self._try_again)
            self._writers[volume] = writer
        return self._writers[volume]

    def _try(self, directory: LogDirectory, writer: Writer) -> None:
        """Find out whether *directory* ignores case, in the thread that its files wait for anyway.

        Nothing is written there before that is known: two handlers might open one file.
        """
        above = os.path.dirname(directory.path)
        try:
            if above in self._trials:
                self._trials[above].join(_TRIAL_SECONDS)
            found = writer.in_thread(ignores_case, directory.path)
            directory.device = writer.in_thread(device_of, directory.path)
            if found is None:  # it is yet to be made, and will be like the one above it
                found = self._ignores_case(above)
            if found != directory.ignores_case:
                directory.ignores_case = found
                self._respell()
        finally:
            directory.tried = True
            del self._trials[directory.path]
            writer.wake()

    def _try_again(self, directory: LogDirectory) -> None:
        """Try *directory* again: another volume has been mounted there since."""
        directory.moved = False
        if directory.path not in self._trials:
            directory.tried = False
            _, writer = self._directories[directory.path]
            self._trials[directory.path] = gevent.spawn(self._try, directory, writer)

    def wait_for_trials(self, seconds: float) -> None:
        """Return once all directories known so far have been tried, or after *seconds*."""
        gevent.joinall(list(self._trials.values()), timeout=seconds)

    def _respell(self) -> None:
        """Give the lines of each file to one handler, now that more spellings are known to be one."""
        self._spellings.clear()
        for path, inbox in self._inboxes.items():
            first = self._spellings.setdefault(self._folded(path), path)
            if first == path or path not in self._handlers:
                continue
            self._inboxes[first].take_over(inbox)
            self._evict(self._handlers[path])
            if first in self._handlers:  # what it has open may have been rolled over by the other
                handler = self._handlers[first]
                self._change(handler, handler.file.look_again)
        self.submit()
        self.respelled += 1

    def _ignores_case(self, path: str) -> bool:
        """Return whether the directory *path* ignores case, or the nearest one above it that is known."""
        while path not in self._directories and len(path) > len(self.directory):
            path = os.path.dirname(path)
        directory, _ = self._directories.get(path, (None, None))
        return directory is not None and directory.ignores_case

    def _folded(self, path: str) -> str:
        """Return what all spellings of *path*, which is below the directory, have in common."""
        return folded(path, self.directory, self._ignores_case)

    def _trim(self, out_of_files: bool) -> None:  # noqa: FBT001 - a callback, called in one place
        """Close idle files above max_open, or all if the process has run out of descriptors."""
        surplus = len(self._handlers) - (0 if out_of_files else self._files.max_open)
        if surplus <= 0:
            return
        for path, handler in list(self._handlers.items()):
            if self._evict(handler):
                self._evicted.add(path)
                surplus -= 1
                if not surplus:
                    return

    def _evict(self, handler: _LogHandler) -> bool:
        """Have the file of *handler* closed, and forget the handler; return False if it is in use."""
        if handler.records or handler.changes or not handler.semaphore.acquire(blocking=False):
            return False
        # The semaphore is never released: whoever asks for this path from now on gets another handler.
        del self._handlers[handler.file.path]
        self._writer(handler).close(handler)
        return True

    def drain(self, deadline: float) -> list[Handler]:
        """Write what waits and close every file; return the handlers that still have records at *deadline*.

        That is by the monotonic clock.
        """
        for writer in self._writers.values():
            writer.hurry()
        self._wait_for_writers(deadline)
        handlers = self.all()
        for handler in handlers:
            if not handler.records:
                self._writer(handler).close(handler)
        self._wait_for_writers(deadline)
        return [handler for handler in handlers if handler.records]

    @property
    def idle(self) -> bool:
        """Whether nothing is left to write, sync, compress or close."""
        return all(writer.idle for writer in self._writers.values())

    def _wait_for_writers(self, deadline: float) -> None:
        while not self.idle and time.monotonic() < deadline:
            gevent.sleep(_POLL_SECONDS)
