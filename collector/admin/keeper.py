"""Keeps what the page shows of the past over restarts: counts by level, and the groups of exceptions.

They are written beside everything else, in a thread of their own: a disk that hangs or is full costs what
would have been kept, and nothing else. Without [admin] there is no keeper.
"""

from __future__ import annotations

import logging
import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import gevent
from gevent.threadpool import ThreadPool

from collector.admin import counts, exceptions
from collector.admin.cells import CellFile
from collector.admin.counts import Counts
from collector.admin.exceptions import Exceptions
from collector.greenlets import keep_running

if TYPE_CHECKING:
    from collector.stats import Stats

log = logging.getLogger(__name__)

# Divides a minute, so that no stretch of time lies in two. It is what a kill -9 costs.
_PERIOD_SECONDS = 10.0
_RETRY_SECONDS = 60.0
_CLOSE_SECONDS = 1.0


class Keeper:
    """What is remembered, and the files that it is in."""

    def __init__(self, directory: str, stats: Stats) -> None:
        self.counts = Counts()
        self.exceptions = Exceptions()
        self._stats = stats
        self._thread = ThreadPool(1)
        self._kept: list[tuple[CellFile, Any]] = [
            (CellFile(os.path.join(directory, name), room.TITLE, room.CELLS, room.CELL_BYTES), kept)
            for name, room, kept in (
                (".counts", counts, self.counts),
                (".exceptions", exceptions, self.exceptions),
            )
        ]
        self._loaded: set[CellFile] = set()

    def start(self) -> None:
        """Begin to count by the minute, and to write."""
        keep_running("counts", self._count, self._stats)
        for file, kept in self._kept:
            keep_running(os.path.basename(file.path)[1:], partial(self._keep, file, kept), self._stats)

    def look(self) -> None:
        """Have the counts up to date."""
        self.counts.look(self._stats.levels(), time.time(), _PERIOD_SECONDS)

    def close(self, deadline: float) -> None:
        """Write what has changed, if the disk answers in time."""
        seconds = min(max(deadline - time.monotonic(), 0.0), _CLOSE_SECONDS)
        with gevent.Timeout(seconds, False):  # noqa: FBT003 - gevent's way to raise nothing
            for file, kept in self._kept:
                self._save(file, kept)

    def _count(self) -> None:
        while True:
            self.look()
            gevent.sleep(_PERIOD_SECONDS - time.time() % _PERIOD_SECONDS)

    def _keep(self, file: CellFile, kept: Any) -> None:  # noqa: ANN401 - Counts or Exceptions
        while not self._load(file, kept):
            gevent.sleep(_RETRY_SECONDS)
        while True:
            gevent.sleep(self._save(file, kept))

    def _load(self, file: CellFile, kept: Any) -> bool:  # noqa: ANN401 - the same
        """Take over what a file has. Until that has succeeded nothing is written: it would be lost."""
        try:
            read = self._thread.apply(lambda: kept.parsed(file.read()))
        except OSError as error:
            what = "%s cannot be read: %s; trying again in %d s"
            log.warning(what, file.path, error.strerror, _RETRY_SECONDS, extra={"about": file.path})
            return False
        kept.adopt(read)
        self._loaded.add(file)
        return True

    def _save(self, file: CellFile, kept: Any) -> float:  # noqa: ANN401 - the same
        """Write what has changed; return how long to wait until the next time."""
        self.look()  # else what came since the last look would wait for the next time, too
        changes = kept.changes() if file in self._loaded else {}
        if file not in self._loaded or (file.is_known and not changes):
            return _PERIOD_SECONDS
        try:
            write = file.write
            if not self._thread.apply(file.is_same):
                changes, write = kept.everything(), file.begin
            self._thread.apply(lambda: write((at, kept.encoded(one)) for at, one in changes.items()))
        except OSError as error:
            what = "%s cannot be written: %s; after a restart the page knows less of the past"
            log.warning(what, file.path, error.strerror, extra={"about": file.path})
            return _RETRY_SECONDS
        return _PERIOD_SECONDS
