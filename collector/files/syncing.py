"""Syncing: it brings what a volume's writer has written to the disk, beside the writing, never in its way."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Protocol

import gevent
from gevent.event import Event
from gevent.threadpool import ThreadPool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collector.files.append_file import AppendFile
    from collector.files.writer_thread import WriterThread

log = logging.getLogger(__name__)


class First(Protocol):
    """What is written before the lines of each hop: the spool, on its volume."""

    @property
    def due_in(self) -> float | None:
        """In how many seconds write() has something to do; None: not before the writer is woken."""

    def write(self) -> None:
        """Write what waits, in the writer's thread. Raises nothing."""

    def sync(self) -> None:
        """Sync what was written, before the files are. In another thread; raises nothing."""

    def after_hop(self, *, no_room: bool, written: bool) -> None:
        """Learn, on the hub, whether a file of the volume had no room, and whether one was written."""


class Syncing:
    """Syncs the files of one volume: in each round, all those written since the last one."""

    def __init__(self, seconds: float, writer_thread: WriterThread) -> None:
        """Sync every *seconds*; 0: leave it to the kernel. Files are closed only in *writer_thread*."""
        self._seconds = seconds
        self._changed = Event()
        self._dirty: set[AppendFile] = set()
        self._writer_thread = writer_thread
        self._thread = ThreadPool(1)
        self._at_work = 0
        self.first: First | None = None

    def reconfigure(self, seconds: float) -> None:
        """Sync every *seconds* from now on; 0: leave it to the kernel."""
        self._seconds = seconds
        self._changed.set()

    @property
    def idle(self) -> bool:
        """Whether no descriptor waits to be synced and closed."""
        return not self._at_work

    def wrote(self, file: AppendFile) -> None:
        """Have what was written to *file* synced in the next round."""
        if self._seconds:
            self._dirty.add(file)

    def run(self) -> None:
        """Sync again and again."""
        while True:
            self._changed.wait(self._seconds or None)
            self._changed.clear()
            dirty, self._dirty = list(self._dirty), set()
            if dirty:
                try:
                    given = self._writer_thread.apply(_duplicates, (dirty,))
                    # Waited for: a disk that takes longer than sync_seconds gets one round at a time.
                    self._thread.apply(_sync, (given, self.first))
                except BaseException:
                    self._dirty.update(dirty)
                    raise

    def take_over(self, given: Sequence[tuple[str, int]]) -> None:
        """Sync and close the descriptors *given*, each with the path of its file. Returns at once."""
        if given:
            self._at_work += 1
            gevent.spawn(self._sync_beside, given)

    def _sync_beside(self, given: Sequence[tuple[str, int]]) -> None:
        try:
            self._thread.apply(_sync, (given,))
        finally:
            self._at_work -= 1


def _duplicates(files: list[AppendFile]) -> list[tuple[str, int]]:
    """Run in the writer's thread, where no file is closed meanwhile."""
    given = []
    for file in files:
        try:
            fd = file.duplicate()
        except OSError as error:
            log.error("%s: cannot be synced: %s", file.path, error)
        else:
            if fd is not None:
                given.append((file.path, fd))
    return given


def _sync(given: Sequence[tuple[str, int]], first: First | None = None) -> None:
    """Run in a thread beside the writer's."""
    if first:
        first.sync()
    for path, fd in given:
        for step in (os.fsync, os.close):
            try:
                step(fd)
            except OSError as error:
                what = "cannot be synced, its last lines may not survive a machine crash"
                log.error("%s: %s: %s", path, what, error)
