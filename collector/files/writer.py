"""The writer of a volume: takes the pending lines of all its files to the disk, in one hop to a thread.

A write to a regular file blocks every greenlet, and a hop to a thread costs fifty times what it costs to
write one more file once there. So whoever has lines leaves them with their handler and goes on; the writer
fetches them again and again while there are any, with a short pause in between: a lone record is written at
once, and under load batches grow. Syncing has a thread of its own, beside it, and so have the chores that
rollovers leave. Knows no socket and no name.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import gevent
from gevent.event import Event
from gevent.threadpool import ThreadPool

from collector.exits import EXIT_FAILED, end_at_once
from collector.files.chores import Chores
from collector.files.rotating import NOT_REGULAR
from collector.files.writer_thread import WriterThread
from collector.greenlets import keep_running, tell
from collector.log import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.files.directory import LogDirectory
    from collector.files.handler_cache import Handler
    from collector.files.rotating import Lines
    from collector.reserve import Reserve
    from collector.stats import Stats

log = logging.getLogger(__name__)

_Given = TypeVar("_Given")
_Result = TypeVar("_Result")

# A disk that is full or gone is asked again soon, then ever more seldom.
_FIRST_PAUSE_SECONDS = 0.1
_LAST_PAUSE_SECONDS = 5.0
# Whoever else holds a handler's semaphore has it for one short step.
_LOCKED_SECONDS = 0.01
# A hop for every second record would take as much as all the rest. A lone record finds the writer waiting;
# what comes right behind it is written with all that comes within this time.
_PAUSE_SECONDS = 0.0003
# Of a volume, or of the process: all files fail alike.
_OF_THE_VOLUME = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
_GONE = (
    errno.ENOTCONN,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.ENODEV,
)  # a volume behind a network or a process
_OUT_OF_FILES = (errno.EMFILE, errno.ENFILE)
# So many faults of ours with the same lines, and a new worker is the only one that can go on.
_MAX_FAULTS = 3
_FAULT_PAUSE_SECONDS = 1.0
# Of what the volume may take of the reserve: what waits for one file that has failed by itself, and for all.
_SHARE_OF_ONE_FILE = 1 / 8
_SHARE_OF_ALL_FILES = 1 / 2
# To roll thousands of idle files over takes seconds: lines are not to wait for all of that.
_MAX_CHANGES = 200


class Writer:
    """Writes the files of one volume. `room` is its part of the reserve."""

    def __init__(
        self,
        reserve: Reserve,
        stats: Stats,
        sync_seconds: float,
        on_idle: Callable[[bool], None],
        on_moved: Callable[[LogDirectory], None],
    ) -> None:
        """*on_idle* is called after each hop, with whether open files have run out.

        *on_moved* is called with a directory that is on another volume now.
        """
        self.room = reserve.share()
        self._reserve = reserve
        self._stats = stats
        self._on_idle = on_idle
        self._on_moved = on_moved
        self.left = 0
        """Bytes that were left with its handlers since the last submit()."""
        self.newly_waiting: list[Handler] = []
        """Those of them that had nothing to write before."""
        self._ready: dict[Handler, None] = {}
        self._closing: list[Handler] = []
        self._dirty: set[Handler] = set()
        self._sync_seconds = sync_seconds
        self._sync_changed = Event()
        self._at_work = False
        self._at_work_beside = 0
        self._wake = Event()
        self._last_pause = _LAST_PAUSE_SECONDS
        self._batch: dict[Handler, _Job] = {}
        """Those of the hop under way, each with its handler locked."""
        self._written_at = 0.0
        self._written_before = 0.0  # in the last hop before that one that wrote anything
        """When something was written last, by the monotonic clock."""
        self.failing: set[Handler] = set()
        """Those whose files have failed by themselves."""
        self._thread = WriterThread()
        self._syncing = ThreadPool(1)
        self._chores = Chores(stats, self._busy_at)
        self._chores.sync = bool(sync_seconds)
        keep_running("writer", self._run, stats)
        keep_running("syncing", self._sync_again_and_again, stats)
        keep_running("chores", self._chores.run, stats)

    def submit(self) -> None:
        """Take over what was left with the handlers."""
        self.room.take(self.left)
        self.left = 0
        self._ready.update(dict.fromkeys(self.newly_waiting))
        self.newly_waiting.clear()
        self._wake.set()

    def change(self, handler: Handler, change: Callable[[], None]) -> None:
        """Have *change* made to the file of *handler* in the next hop, between two records."""
        handler.changes.append(change)
        handler.retry_at = 0.0
        self._ready[handler] = None
        self._wake.set()

    def set_up(self, sync_seconds: float) -> None:
        """Go by a configuration that was read again: sync so often; 0: leave it to the kernel."""
        self._sync_seconds = sync_seconds
        self._chores.sync = bool(sync_seconds)
        self._chores.outdate()
        self._sync_changed.set()

    def close(self, handler: Handler) -> None:
        """Close the file of *handler*, which the caller has locked and forgotten."""
        self._ready.pop(handler, None)
        self._closing.append(handler)
        self._wake.set()

    @property
    def idle(self) -> bool:
        """Whether all that was submitted is on disk or closed."""
        busy = self._ready or self._closing or self._at_work or self._at_work_beside
        return not busy and self._chores.idle

    def hurry(self) -> None:
        """Retry more often from now on: the end is near."""
        self._last_pause = _FIRST_PAUSE_SECONDS
        for handler in self._ready:
            handler.retry_at = 0.0
        self._chores.hurry()
        self._wake.set()

    def full_files(self) -> set[str]:
        """Return the paths of the files that have failed by themselves, if too much waits for them.

        One file is to stop neither those who log elsewhere nor, with what waits for it, this volume.
        """
        may_take = self.room.allowance
        held = {handler: handler.held for handler in self.failing}
        all_of_them = sum(held.values()) >= _SHARE_OF_ALL_FILES * may_take
        return {
            handler.file.path
            for handler, size in held.items()
            if all_of_them or size >= _SHARE_OF_ONE_FILE * may_take
        }

    def in_thread(self, call: Callable[[_Given], _Result], given: _Given) -> _Result:
        """Call *call* in the thread that writes, and return its result. Raises what it raises."""
        return self._thread.apply(call, (given,))

    def wake(self) -> None:
        """Look again at what waits."""
        self._wake.set()

    def _busy_at(self) -> float:
        """Return when lines last waited that could be written: where the disk is full, chores make room."""
        waits = self._at_work or any(not handler.pause for handler in self._ready)
        return time.monotonic() if waits else self._written_at

    def _run(self) -> None:
        self._at_work = False
        self._wake.set()  # what a fault has interrupted is still to be done
        while True:
            self._wake.wait(self._next_retry())
            self._wake.clear()
            try:
                self._hop()
            finally:
                self._take_back()

    def _hop(self) -> None:
        """Write what waits and is not held up, all of it in one hop to the thread."""
        self._lock_due()
        closing, self._closing = self._closing, []
        batch = list(self._batch.values())
        if not batch and not closing:
            return
        self._at_work = True
        self._thread.apply(_work, (closing, batch))
        self._at_work = False
        self._sync_beside([*closing, *(job.handler for job in batch)])
        for handler in closing:
            self._hand_over(handler)
        now = time.monotonic()
        if any(job.lines and not job.error for job in batch):
            self._written_before, self._written_at = self._written_at, now
        for job in batch:
            try:
                self._settle(job, now)
            except Exception as fault:  # noqa: BLE001 - in one file it is not to hold up the others
                self._count_fault(job.handler, fault)
            else:
                del self._batch[job.handler]
                job.handler.semaphore.release()
        self._on_idle(any(job.error and job.error.errno == errno.EMFILE for job in batch))

    def _count_fault(self, handler: Handler, fault: Exception) -> None:
        """Take note of a fault of ours; what waits for *handler* is tried again after a pause."""
        tell("writer", fault, self._stats, f"the lines for {handler.file.path} are tried again")
        handler.faults += 1
        if handler.faults == _MAX_FAULTS:
            what = "%s: %d faults with the same lines: this worker ends, for another one to start"
            log.error(what, handler.file.path, handler.faults)
            end_at_once(EXIT_FAILED)
        handler.retry_at = time.monotonic() + _FAULT_PAUSE_SECONDS

    def _take_back(self) -> None:
        """Let go of the handlers that a fault has left locked; their lines and changes wait as before."""
        while self._batch:
            handler, job = self._batch.popitem()
            handler.changes[:0] = job.changes
            if handler.records or handler.changes:
                self._ready[handler] = None
            handler.semaphore.release()

    def _next_retry(self) -> float | None:
        """Return for how many seconds there is nothing to do but for what is submitted meanwhile."""
        at = min((handler.retry_at for handler in self._ready if handler.file.directory.tried), default=None)
        return None if at is None else max(0.0, at - time.monotonic())

    def _lock_due(self) -> None:
        """Lock the handlers that are due, and make them the batch."""
        now = time.monotonic()
        changes_alone = 0
        for handler in list(self._ready):
            if handler.retry_at > now or not handler.file.directory.tried:
                continue
            if not handler.records:
                changes_alone += 1
                if changes_alone > _MAX_CHANGES:
                    continue
            if handler.semaphore.acquire(blocking=False):
                try:
                    lines = handler.take() if handler.records else None
                except MemoryError:
                    waits = counted(handler.records, "record", "waits", "wait")
                    log.error("%s: no memory to write, %s", handler.file.path, waits)
                    handler.semaphore.release()
                    handler.retry_at = now + _LAST_PAUSE_SECONDS
                    continue
                except Exception as fault:  # noqa: BLE001 - as in _hop()
                    handler.semaphore.release()
                    self._count_fault(handler, fault)
                    continue
                del self._ready[handler]
                changes, handler.changes = handler.changes, []
                self._batch[handler] = _Job(handler, lines, changes)
            else:
                handler.retry_at = now + _LOCKED_SECONDS

    def _settle(self, job: _Job, now: float) -> None:
        """Back on the hub at the time *now*: count what is on disk, see that the rest is tried again."""
        handler, lines, error = job.handler, job.lines, job.error
        file = handler.file
        for trouble in file.trouble:
            log.warning("%s: %s", file.path, trouble)
        file.trouble.clear()
        self._hand_over(handler)
        handler.changes[:0], job.changes = job.changes, []
        if lines is None:
            pass
        elif error is None:
            handler.count_written(self._stats, lines)
            self.room.give_back(lines.held)
            if handler.error:
                log.info("%s: can be written again%s", file.path, _but_dropped(handler))
            handler.settled()
            self.failing.discard(handler)
            if self._sync_seconds:
                self._dirty.add(handler)
        else:
            self._failed(handler, error, now)
        if handler.records or handler.changes:
            self._ready[handler] = None

    def _hand_over(self, handler: Handler) -> None:
        """Count the rollovers of *handler*, and have what they leave to do done."""
        file = handler.file
        self._stats.rollovers_total += file.rollovers
        file.rollovers = 0
        if file.made:
            made, file.made = file.made, []
            self._chores.add(handler, made)
        if file.directory.moved:
            self._on_moved(file.directory)

    def _failed(self, handler: Handler, error: OSError, now: float) -> None:
        """Have what could not be written tried again after a pause."""
        self._stats.count_write_error(error)
        if error.__cause__:
            tell("writer", error.__cause__, self._stats, f"{handler.file.path} is tried again")
        by_itself = self._is_by_itself(handler, error, now)
        (self.failing.add if by_itself else self.failing.discard)(handler)
        handler.of_the_volume = error.errno in _OF_THE_VOLUME and not by_itself
        handler.error, handler.failed_at = f"{error}", now
        # However many fail, the first failure of each is told; of retries, and of what they share, the limit
        # leaves most out.
        of = "" if handler.pause or error.errno == errno.EMFILE else handler.file.path
        remedy = _remedy(error) if by_itself and not handler.pause else ""
        waits = counted(handler.records, "record", "waits", "wait")
        why = (handler.file.path, waits, error, remedy)
        log.error("%s: cannot be written, %s: %s%s", *why, extra={"of": of})
        handler.pause = min(max(2 * handler.pause, _FIRST_PAUSE_SECONDS), self._last_pause)
        handler.retry_at = now + handler.pause

    def _is_by_itself(self, handler: Handler, error: OSError, now: float) -> bool:
        """Return whether it is this file alone that cannot be written, and its volume is well."""
        if error.errno in _OUT_OF_FILES:
            return False
        if isinstance(error, NoRoomError):
            return False  # the others write into what they have left of their last blocks
        if error.errno not in _OF_THE_VOLUME:
            return True
        # What was written in this hop went into other files, and so did what was since the last try. That
        # nothing was may be because of what waits for this file: nobody is read.
        if self._written_at == now:
            # Nothing was written since its last try: the volume may have come back in the middle of this hop.
            return handler in self.failing or handler.failed_at <= self._written_before
        known = handler in self.failing or self._written_at >= (handler.failed_at or now)
        return known and not any(other.of_the_volume for other in self._ready if other is not handler)

    def _sync_again_and_again(self) -> None:
        """Sync what was written, all files at once; a write never waits for it."""
        while True:
            self._sync_changed.wait(self._sync_seconds or None)
            self._sync_changed.clear()
            dirty, self._dirty = list(self._dirty), set()
            if dirty:
                try:
                    self._thread.apply(_duplicate, (dirty,))
                    # Waited for: a disk that takes longer than sync_seconds gets one round at a time.
                    self._syncing.apply(_sync, (_taken(dirty),))
                except BaseException:
                    self._dirty.update(dirty)
                    raise

    def _sync_beside(self, handlers: list[Handler]) -> None:
        if given := _taken(handlers):
            self._beside_the_writer(self._syncing.apply, _sync, (given,))

    def _beside_the_writer(self, call: Callable[..., object], *arguments: object) -> None:
        def work() -> None:
            try:
                call(*arguments)
            finally:
                self._at_work_beside -= 1

        self._at_work_beside += 1
        gevent.spawn(work)


class _Job:
    """One file's part of a hop: what to change and what to write, and how that failed."""

    __slots__ = ("changes", "error", "handler", "lines")

    def __init__(self, handler: Handler, lines: Lines | None, changes: list[Callable[[], None]]) -> None:
        self.handler = handler
        self.lines = lines
        self.changes = changes
        self.error: OSError | None = None

    def do(self) -> None:
        """In the thread. Raises OSError where lines cannot be written."""
        if self.changes and (self.lines is None or self.lines.at_boundary()):
            self._change()
        if self.lines is None:
            # Nothing waits for this file: the next line opens it anew, whatever becomes of it until then.
            _close(self.handler)
        else:
            self.handler.file.write(self.lines)
            self._change()

    def _change(self) -> None:
        while self.changes:
            try:
                self.changes.pop(0)()
            except OSError as error:
                log.error("%s: cannot roll over; signal again: %s", self.handler.file.path, error)


def _work(closing: list[Handler], batch: list[_Job]) -> None:
    """In the thread: one file after the other, so that none can stop the others; then pause."""
    for handler in closing:
        _close(handler)
    for job in batch:
        try:
            job.do()
        except OSError as error:
            job.error = _explained(error, job.handler.file.directory.path)
        except Exception as fault:  # noqa: BLE001 - of ours, in one file: it is not to stop the others
            job.error = OSError(f"a fault in the collector: {fault!r}")
            job.error.__cause__ = fault
    # Here, for on the hub it would take as long as the longest batch of all clients.
    time.sleep(_PAUSE_SECONDS)


class NoRoomError(OSError):
    """There is no block left on the volume, for any file."""


def _explained(error: OSError, directory: str) -> OSError:
    """Return *error*, as a NoRoomError if it is one. In the thread."""
    if error.errno == errno.ENOSPC:
        with suppress(OSError):
            volume = os.statvfs(directory)
            if not (volume.f_bfree if os.geteuid() == 0 else volume.f_bavail):
                return NoRoomError(*error.args)
    return error


def _remedy(error: OSError) -> str:
    """Return what to do about a file that cannot be written, "" where *error* says it all."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return "; see who owns it"
    if error.errno in NOT_REGULAR:
        return "; move it away; to silence a logger, give it a [[logger]] rule with level = 100"
    return ""


def _but_dropped(handler: Handler) -> str:
    dropped = counted(handler.dropped, "record", "was", "were")
    return f"; {dropped} dropped meanwhile" if handler.dropped else ""


def _close(handler: Handler) -> None:
    try:
        handler.file.close()
    except OSError as error:
        log.error("%s: closed with an error, the last lines may be lost: %s", handler.file.path, error)


def _taken(handlers: list[Handler]) -> list[tuple[str, int]]:
    """Take over the descriptors that wait to be synced; the thread may add to them meanwhile."""
    given = []
    for handler in handlers:
        while handler.file.to_sync:
            given.append((handler.file.path, handler.file.to_sync.pop()))
    return given


def _duplicate(handlers: list[Handler]) -> None:
    """In the thread, where no file is closed meanwhile."""
    for handler in handlers:
        try:
            handler.file.duplicate_to_sync()
        except OSError as error:
            log.error("%s: cannot be synced: %s", handler.file.path, error)


def _sync(given: list[tuple[str, int]]) -> None:
    """Beside the writer: sync and close each of the descriptors *given*, which are of those paths."""
    for path, fd in given:
        for step in (os.fsync, os.close):
            try:
                step(fd)
            except OSError as error:
                what = "cannot be synced, its last lines may not survive a machine crash"
                log.error("%s: %s: %s", path, what, error)
