"""What rollovers leave to do on a volume: delete the surplus backups, compress the others.

Chores have a thread of their own beside the writer's, and take their time: none is begun while lines wait for
the volume, up to a limit, and a directory is listed once for all of its files. Knows no record.
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, TypeVar

import gevent
from gevent.event import Event
from gevent.threadpool import ThreadPool

from collector.files import backups
from collector.files.backups import Upkeep
from collector.greenlets import tell
from collector.log import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.config.tables import Rollover
    from collector.files.append_file import Outcome
    from collector.files.backups import Tasks
    from collector.files.handler import Handler
    from collector.stats import Stats

    _Result = TypeVar("_Result")

log = logging.getLogger(__name__)

# A volume for which lines always wait must not fill up with what nobody deletes.
_PATIENCE_SECONDS = 5.0
_LOOK_SECONDS = 0.01
# Lines come with gaps. Listing a directory of thousands in each gap would take longer than the chores: they
# wait for a gap of this length, but not for long, in case no client ever leaves one.
_QUIET_SECONDS = 0.2
_MOST_SECONDS = 1.0
# What fails is tried again after a minute, then less and less often.
_FIRST_PAUSE_SECONDS = 60.0
_LAST_PAUSE_SECONDS = 3600.0


class _File:
    """A log file whose backups give something to do."""

    handler: Handler
    rollover: Rollover
    """The settings under which the last of its backups was made."""

    def __init__(self) -> None:
        self.half_made = ""
        """The name of a backup that lines still go into."""
        self.last = 0
        """The place of its newest backup in the order in which those of its directory were made."""
        self.due = 0.0
        """When to begin, by the monotonic clock: later than now if the last try has failed."""
        self.pause = 0.0
        """Seconds between the last two tries."""


class Chores:
    """Does the chores for the files of one volume."""

    def __init__(
        self,
        stats: Stats,
        busy_at: Callable[[], float],
        *,
        sync: bool,
        patience_seconds: float = _PATIENCE_SECONDS,
    ) -> None:
        """*busy_at* tells when lines that could be written last waited, by the monotonic clock.

        With *sync* a compressed backup is on disk before the original goes. After *patience_seconds* chores
        are done although lines wait.
        """
        self._sync = sync
        self._stats = stats
        self._busy_at = busy_at
        self._files: dict[str, _File] = {}
        """By path."""
        self._at_work: dict[str, _File] = {}
        self._patience_seconds = patience_seconds
        self._patience_ends = 0.0
        self._wake = Event()
        self._thread = ThreadPool(1)

    def reconfigure(self, *, sync: bool) -> None:
        """Go by this setting from now on."""
        self._sync = sync

    def add(self, handler: Handler, outcome: Outcome) -> None:
        """Look after the backups of *handler*, of which those in *outcome* are new."""
        made_by, order = outcome.made_by, handler.file.directory.numbers.order
        if not (made_by and (made_by.backup_count or made_by.compress)):
            for name in outcome.backups:
                order.pop(name, None)
            return
        file = self._files.setdefault(handler.file.path, _File())
        file.handler, file.rollover, file.half_made = handler, made_by, outcome.half_made
        file.last = max([file.last, *(order.get(name, 0) for name in outcome.backups)])
        file.due = file.pause = 0.0
        self._wake.set()

    @property
    def idle(self) -> bool:
        """Whether nothing is left to do except what has failed before."""
        now = time.monotonic()
        return not self._at_work and all(file.due > now for file in self._files.values())

    def hurry(self) -> None:
        """Let no lines go first from now on: the end is near."""
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
            self._patience_ends = now + min(self._patience_seconds, _MOST_SECONDS)
            self._let_lines_go_first(_QUIET_SECONDS)
            self._patience_ends = now + self._patience_seconds
            now = time.monotonic()
            self._at_work = {path: file for path, file in self._files.items() if file.due <= now}
            for path in self._at_work:
                del self._files[path]
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
        known = files[0].handler.file.directory
        self._let_lines_go_first()
        wanted: dict[str, Upkeep] = {}
        by_name: dict[str, list[_File]] = {}
        for file in files:
            name = known.fold(os.path.basename(file.handler.file.path))
            by_name.setdefault(name, []).append(file)
            wanted.setdefault(name, _upkeep(file))
        order = known.numbers.order
        found = self._in_thread(backups.survey, directory, wanted, order, known.fold)
        for name, spellings in by_name.items():
            file = spellings[0]
            for other in spellings[1:]:  # the volume was just found to ignore case: they are one file
                del self._at_work[other.handler.file.path]
            pause = min(max(2 * file.pause, _FIRST_PAUSE_SECONDS), _LAST_PAUSE_SECONDS)
            if isinstance(found, OSError):
                # A directory that was removed has no backups.
                failed = not isinstance(found, FileNotFoundError)
                if failed:
                    what = "%s: its backups cannot be listed, trying again in %g s: %s"
                    log.error(what, file.handler.file.path, pause, found)
            else:
                failed = self._carry_out(found[name], file, pause)
            if not failed:
                del self._at_work[file.handler.file.path]
            else:
                file.pause = pause
                file.due = time.monotonic() + pause
                self._put_back(file)
        # From now on their times give their order, as with all others.
        for name, number in list(order.items()):
            upkeep = wanted.get(known.fold(backups.split(name)[0]))
            if upkeep and number <= upkeep.last:
                del order[name]

    def _put_back(self, file: _File) -> None:
        path = file.handler.file.path
        del self._at_work[path]
        self._files.setdefault(path, file)  # if it rolled over meanwhile, the new entry stays, due at once

    def _carry_out(self, tasks: Tasks, file: _File, pause: float) -> bool:
        """Return whether a task has failed, and is to be tried again after *pause* seconds."""
        handler = file.handler
        failed = False
        for path in tasks.delete:
            self._let_lines_go_first()
            size = self._in_thread(backups.delete, path)
            if isinstance(size, OSError):
                failed = True
                log.error("%s: cannot be deleted, trying again in %g s: %s", path, pause, size)
            elif size:
                self._stats.deleted_backups_total["backup_count"] += 1
                self._stats.deleted_bytes_total += size
                why = f"backup_count = {handler.inbox.rollover.backup_count}"
                log.info("%s: deleted, which frees %s: %s", path, counted(size, "byte"), why)
        for path in tasks.compress:
            self._let_lines_go_first()
            fault = self._in_thread(backups.compress, path, handler.file.mode, self._sync)
            if fault:
                failed = True
                log.error("%s: cannot be compressed, trying again in %g s: %s", path, pause, fault)
        return failed

    def _let_lines_go_first(self, quiet_seconds: float = 0.0) -> None:
        """Return once no lines have waited for *quiet_seconds*, or patience has run out."""
        while (now := time.monotonic()) < self._patience_ends and self._busy_at() + quiet_seconds >= now:
            gevent.sleep(_LOOK_SECONDS)

    def _in_thread(self, call: Callable[..., _Result], *arguments: object) -> _Result | OSError:
        """Return what *call* returns, or how it failed: one file must not stop the others."""
        try:
            return self._thread.apply(call, arguments)  # type: ignore[no-any-return] # gevent has no annotations
        except OSError as error:
            return error
        except Exception as fault:  # noqa: BLE001 - see above
            tell("chores", fault, self._stats)
            return OSError(repr(fault))


def _upkeep(file: _File) -> Upkeep:
    # The configuration may have been read again since the rollover: what the old or the new one keeps stays.
    # What the new one says is known only with the next record for the file.
    inbox = file.handler.inbox
    counts = (file.rollover.backup_count, inbox.rollover.backup_count)
    keep = max(counts) if all(counts) and not inbox.outdated else 0
    return Upkeep(keep, file.rollover.compress, file.last, file.half_made)
