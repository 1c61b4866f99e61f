"""What rollovers leave to do on a volume: delete the backups that are too many, compress the others.

It has a thread of its own beside the writer's, and takes its time: a directory is listed once for all of its
files, and nothing is begun while lines wait for the volume, up to a limit. Knows no record.
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, TypeVar

import gevent
from gevent.event import Event
from gevent.threadpool import ThreadPool

from collector import backups
from collector.backups import Upkeep
from collector.greenlets import tell

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.backups import Tasks
    from collector.handlers import Handler
    from collector.stats import Stats

    _Result = TypeVar("_Result")

log = logging.getLogger(__name__)

# A volume that always has lines waiting must not fill up with what nobody deletes.
_PATIENCE_SECONDS = 5.0
_LOOK_SECONDS = 0.01
# What fails is tried again after a minute, then ever more seldom.
_FIRST_PAUSE_SECONDS = 60.0
_LAST_PAUSE_SECONDS = 3600.0


class _File:
    """A log file with something to do."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.rollover = handler.file.made_by
        self.made: list[str] = []
        """The backups made since the last time, oldest first."""
        self.due = 0.0
        """When, by the monotonic clock."""
        self.pause = 0.0
        """Seconds since the last try, which failed; 0: it is the first."""


class Chores:
    """Does them, for the files of one volume."""

    def __init__(self, stats: Stats, lines_wait: Callable[[], bool]) -> None:
        self.sync = False
        """Whether what is compressed is on disk before what it replaces is gone."""
        self._stats = stats
        self._lines_wait = lines_wait
        self._files: dict[str, _File] = {}
        """By path."""
        self._at_work: dict[str, _File] = {}
        self._patience_seconds = _PATIENCE_SECONDS
        self._patience_ends = 0.0
        self._wake = Event()
        self._thread = ThreadPool(1)

    def add(self, handler: Handler, made: list[str]) -> None:
        """Look after the backups of *handler*, of which *made* are new."""
        file = self._files.setdefault(handler.file.path, _File(handler))
        file.handler = handler
        file.rollover = handler.file.made_by
        file.made += made
        file.due = 0.0
        self._wake.set()

    @property
    def idle(self) -> bool:
        """Whether nothing is left to do but what has failed before."""
        return not self._at_work and all(file.pause for file in self._files.values())

    def hurry(self) -> None:
        """Wait for no lines from now on: the end is near."""
        self._patience_seconds = self._patience_ends = 0.0

    def run(self) -> None:
        """Do what there is to do, for ever."""
        # What a fault has left undone is still to be done.
        for file in list(self._at_work.values()):
            self._put_back(file)
        while True:
            self._wake.wait(self._next_due())
            self._wake.clear()
            now = time.monotonic()
            self._at_work = {path: file for path, file in self._files.items() if file.due <= now}
            for path in self._at_work:
                del self._files[path]
            self._patience_ends = now + self._patience_seconds
            by_directory: dict[str, list[_File]] = {}
            for file in self._at_work.values():
                by_directory.setdefault(file.handler.file.directory.path, []).append(file)
            for directory, files in by_directory.items():
                self._look_after(directory, files)

    def _next_due(self) -> float | None:
        if not self._files:
            return None
        return max(0.0, min(file.due for file in self._files.values()) - time.monotonic())

    def _look_after(self, directory: str, files: list[_File]) -> None:
        """Do what there is to do for *files*, which are in one *directory*."""
        fold = files[0].handler.file.directory.fold
        by_name = {fold(os.path.basename(file.handler.file.path)): file for file in files}
        wanted = {name: _upkeep(file) for name, file in by_name.items()}
        self._let_lines_go_first()
        found = self._in_thread(backups.survey, directory, wanted, time.time_ns(), fold)
        for name, file in by_name.items():
            pause = min(max(2 * file.pause, _FIRST_PAUSE_SECONDS), _LAST_PAUSE_SECONDS)
            if isinstance(found, OSError):
                # What was removed has no backups.
                failed = not isinstance(found, FileNotFoundError)
                if failed:
                    what = "%s: its backups cannot be listed, trying again in %g s: %s"
                    log.error(what, file.handler.file.path, pause, found)
            else:
                failed = self._do(found[name], file, pause)
            if not failed:
                del self._at_work[file.handler.file.path]
            else:
                file.pause = pause
                file.due = time.monotonic() + pause
                self._put_back(file)

    def _put_back(self, file: _File) -> None:
        path = file.handler.file.path
        del self._at_work[path]
        if later := self._files.get(path):  # there was a rollover meanwhile
            later.made[:0] = file.made
        else:
            self._files[path] = file

    def _do(self, tasks: Tasks, file: _File, pause: float) -> bool:
        """Return whether something has failed, and is to be tried again after *pause* seconds."""
        log_file, handler = file.handler.file, file.handler
        failed = False
        for path in tasks.delete:
            self._let_lines_go_first()
            if os.path.basename(path) == log_file.half_made:
                continue
            size = self._in_thread(backups.delete, path)
            if isinstance(size, OSError):
                failed = True
                log.error("%s: cannot be deleted, trying again in %g s: %s", path, pause, size)
            elif size:
                self._stats.deleted_backups_total["backup_count"] += 1
                self._stats.deleted_bytes_total += size
                why = f"backup_count = {handler.rollover.backup_count}"
                log.info("%s: deleted, which frees %d bytes: %s", path, size, why)
        for path in tasks.compress:
            self._let_lines_go_first()
            if os.path.basename(path) == log_file.half_made:
                continue
            fault = self._in_thread(backups.compress, path, handler.mode, self.sync)
            if fault:
                failed = True
                log.error("%s: cannot be compressed, trying again in %g s: %s", path, pause, fault)
        return failed

    def _let_lines_go_first(self) -> None:
        while self._lines_wait() and time.monotonic() < self._patience_ends:
            gevent.sleep(_LOOK_SECONDS)

    def _in_thread(self, call: Callable[..., _Result], *arguments: object) -> _Result | OSError:
        """Return what *call* does, or how it has failed: one file is not to stop the others."""
        try:
            return self._thread.apply(call, arguments)  # type: ignore[no-any-return] # gevent has no annotations
        except OSError as error:
            return error
        except Exception as fault:  # noqa: BLE001 - see above
            tell("chores", fault, self._stats)
            return OSError(repr(fault))


def _upkeep(file: _File) -> Upkeep:
    # The configuration may have been read again since the rollover: none goes that either of the two keeps.
    # What it says now is known with the next record for the file.
    handler = file.handler
    counts = (file.rollover.backup_count, handler.rollover.backup_count)
    keep = max(counts) if all(counts) and not handler.outdated else 0
    return Upkeep(keep, file.rollover.compress, tuple(file.made))
