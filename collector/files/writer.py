"""The writer of a volume: it takes the waiting lines of all its files to the disk, in one hop to a thread.

A write to a regular file blocks every greenlet, and a hop to a thread costs fifty times as much as writing
one more file once there. So greenlets leave lines in an inbox and go on. The writer fetches them again and
again while there are any, with a short pause in between: a lone record is written at once, and under load
batches grow. Syncing has a thread of its own, and so have the chores that rollovers leave. Knows no socket
and no name.
"""

from __future__ import annotations

import errno
import logging
import time
from typing import TYPE_CHECKING, TypeVar

from gevent.event import Event

from collector.exits import EXIT_FAILED, end_at_once
from collector.files.append_file import Outcome
from collector.files.chores import Chores
from collector.files.failures import NO_ROOM, Failures, explained, remedy
from collector.files.inbox import Arrivals
from collector.files.syncing import Syncing
from collector.files.writer_thread import WriterThread
from collector.greenlets import keep_running, tell
from collector.log import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.files.append_file import Lines
    from collector.files.directory import LogDirectory
    from collector.files.handler import Handler
    from collector.files.inbox import Inbox
    from collector.files.syncing import First
    from collector.reserve import Reserve
    from collector.stats import Stats

log = logging.getLogger(__name__)

_Given = TypeVar("_Given")
_Result = TypeVar("_Result")

# A disk that is full or gone is tried again soon, then less and less often.
_FIRST_PAUSE_SECONDS = 0.1
_LAST_PAUSE_SECONDS = 5.0
# A hop for every second record would cost as much as everything else. A lone record finds the writer waiting;
# what comes right behind it is written with all that comes within this time.
_PAUSE_SECONDS = 0.0003
# After this many faults of ours with the same lines, only a new worker can go on.
_MAX_FAULTS = 3
_FAULT_PAUSE_SECONDS = 1.0
# Rolling thousands of idle files over takes seconds: lines must not wait for all of them.
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
        """*on_idle* is called after each hop, and told whether the process has run out of descriptors.

        *on_moved* is called with a directory that is now on another volume.
        """
        self.room = reserve.share()
        self.arrivals = Arrivals()
        """What has come since the last receive()."""
        self.first: First | None = None
        self.failures = Failures(self.room)
        self._stats = stats
        self._on_idle = on_idle
        self._on_moved = on_moved
        self._ready: dict[Handler, None] = {}
        self._closing: list[Handler] = []
        self._at_work = False
        self._wake = Event()
        self._last_pause = _LAST_PAUSE_SECONDS
        self._batch: dict[Handler, _Job] = {}
        """The jobs of the hop under way, each with its handler locked."""
        self._thread = WriterThread()
        self._syncing = Syncing(sync_seconds, self._thread)
        self._chores = Chores(stats, self._busy_at, sync=bool(sync_seconds))
        keep_running("writer", self._run, stats)
        keep_running("syncing", self._syncing.run, stats)
        keep_running("chores", self._chores.run, stats)

    def receive(self, handler_of: Callable[[Inbox], Handler]) -> None:
        """Queue what has arrived for writing, and empty `arrivals`."""
        now = time.monotonic()
        for inbox in dict.fromkeys(self.arrivals.inboxes):
            if not inbox.since and inbox:  # else its handler is among those that wait, or in a hop
                self._ready[handler_of(inbox)] = None
                inbox.since = now
        self.arrivals.inboxes.clear()
        self.room.take(sum(map(str.__sizeof__, self.arrivals.lines)))
        self.arrivals.lines.clear()
        self._wake.set()

    def change(self, handler: Handler, change: Callable[[], None]) -> None:
        """Have *change* made to the file of *handler* in the next hop, between two records."""
        handler.changes.append(change)
        handler.retry_at = 0.0
        self._ready[handler] = None
        self._wake.set()

    def write_first(self, first: First) -> None:
        """Have *first* written before the lines of each hop, and synced before their files."""
        self.first = self._syncing.first = first

    def reconfigure(self, sync_seconds: float) -> None:
        """Sync every *sync_seconds* from now on; 0: leave it to the kernel."""
        self._chores.reconfigure(sync=bool(sync_seconds))
        self._syncing.reconfigure(sync_seconds)

    def close(self, handler: Handler) -> None:
        """Close the file of *handler* in the next hop; it has no records, and its changes are given up."""
        self._ready.pop(handler, None)
        self._closing.append(handler)
        self._wake.set()

    @property
    def idle(self) -> bool:
        """Whether nothing is left to write, sync, compress or close."""
        busy = self.arrivals.inboxes or self._ready or self._closing or self._at_work
        return not busy and self._syncing.idle and self._chores.idle

    def hurry(self) -> None:
        """Retry more often from now on: the end is near."""
        self._last_pause = _FIRST_PAUSE_SECONDS
        for handler in self._ready:
            handler.retry_at = 0.0
        self._chores.hurry()
        self._wake.set()

    def in_thread(self, call: Callable[[_Given], _Result], given: _Given) -> _Result:
        """Call *call* in the thread that writes, and return its result. Raises what it raises."""
        return self._thread.apply(call, (given,))

    def wake(self) -> None:
        """Look again at what waits."""
        self._wake.set()

    def _busy_at(self) -> float:
        """Return when lines that could be written last waited: on a full disk, chores make room for them."""
        waits = self._at_work or any(not handler.pause for handler in self._ready)
        return time.monotonic() if waits else self.failures.written_at

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
        """Write all that waits and is not held up, in one hop to the thread."""
        self._lock_due()
        closing = [_Job(handler, None, []) for handler in self._closing]
        self._closing = []
        batch = list(self._batch.values())
        first = self.first
        if not batch and not closing and not (first and first.due_in == 0):
            return
        self._at_work = True
        self._thread.apply(_work, ([*closing, *batch], first))
        self._at_work = False
        self._syncing.take_over(
            [(job.handler.file.path, fd) for job in (*closing, *batch) for fd in job.outcome.to_sync]
        )
        now = time.monotonic()
        written = any(job.lines and not job.outcome.error for job in batch)
        if written:
            self.failures.wrote(now)
        for job in closing:
            self._report(job)
        freed = 0
        for job in batch:
            try:
                freed += self._settle(job, now)
            except Exception as fault:  # noqa: BLE001 - in one file, it must not hold up the others
                self._count_fault(job.handler, fault)
            else:
                del self._batch[job.handler]
                job.handler.semaphore.release()
        self.room.give_back(freed)
        errors = [job.outcome.error for job in batch if job.outcome.error]
        if first:
            first.after_hop(no_room=any(error.errno in NO_ROOM for error in errors), written=written)
        self._on_idle(any(error.errno == errno.EMFILE for error in errors))

    def _count_fault(self, handler: Handler, fault: Exception) -> None:
        """Log and count a fault of ours; what waits for *handler* is tried again after a pause."""
        tell("writer", fault, self._stats, f"the lines for {handler.file.path} are tried again")
        handler.faults += 1
        if handler.faults == _MAX_FAULTS:
            what = "%s: %d faults with the same lines: this worker ends, for another one to start"
            log.error(what, handler.file.path, handler.faults)
            end_at_once(EXIT_FAILED)
        handler.retry_at = time.monotonic() + _FAULT_PAUSE_SECONDS

    def _take_back(self) -> None:
        """Release the handlers that a fault has left locked; their lines and changes wait as before."""
        while self._batch:
            handler, job = self._batch.popitem()
            handler.changes[:0] = job.changes
            if handler.records or handler.changes:
                self._ready[handler] = None
            handler.semaphore.release()

    def _next_retry(self) -> float | None:
        """Return the seconds until something is due, unless more is received; None: nothing will be."""
        at = min((handler.retry_at for handler in self._ready if handler.file.directory.tried), default=None)
        due_in = [self.first.due_in if self.first else None, None if at is None else at - time.monotonic()]
        return min((max(0.0, seconds) for seconds in due_in if seconds is not None), default=None)

    def _lock_due(self) -> None:
        """Lock the handlers that are due, and make them the batch."""
        now = time.monotonic()
        changes_alone = 0
        for handler in list(self._ready):
            if handler.retry_at > now or not handler.file.directory.tried:
                continue
            waits = handler.records
            if not waits:
                changes_alone += 1
                if changes_alone > _MAX_CHANGES:
                    continue
            try:
                lines = handler.take() if waits else None
            except MemoryError:
                what = counted(waits, "record", "waits", "wait")
                log.error("%s: no memory to write, %s", handler.file.path, what)
                handler.retry_at = now + _LAST_PAUSE_SECONDS
                continue
            except Exception as fault:  # noqa: BLE001 - as in _hop()
                self._count_fault(handler, fault)
                continue
            handler.semaphore.acquire()
            del self._ready[handler]
            changes, handler.changes = handler.changes, []
            self._batch[handler] = _Job(handler, lines, changes)

    def _settle(self, job: _Job, now: float) -> int:
        """Back on the hub at *now*, count what is on disk, and see that the rest is tried again.

        Return the bytes of the reserve that are free now.
        """
        handler, freed = job.handler, 0
        self._report(job)
        if job.changes:
            handler.changes[:0], job.changes = job.changes, []
        if job.lines is None:
            pass
        elif job.outcome.error is None:
            self._written(handler, job.lines)
            freed = job.lines.held
        else:
            self._failed(job, job.outcome.error, now)
        if handler.records or handler.changes:
            self._ready[handler] = None
        return freed

    def _report(self, job: _Job) -> None:
        """Log and count what came of the calls to a file, and pass on what they leave to do."""
        handler, outcome = job.handler, job.outcome
        file = handler.file
        for trouble in outcome.trouble:
            log.warning("%s: %s", file.path, trouble)
        if outcome.error and job.lines is None:
            what = "%s: closed with an error, the last lines may be lost: %s"
            log.error(what, file.path, outcome.error)
        if outcome.frames_gone:
            self._stats.quarantined_records_total -= outcome.frames_gone
            self._stats.dropped_records_total["quarantine full"] += outcome.frames_gone
        if outcome.backups:
            self._stats.rollovers_total += outcome.rollovers
            self._chores.add(handler, outcome)
        if file.directory.moved:
            self._on_moved(file.directory)

    def _written(self, handler: Handler, lines: Lines) -> None:
        """Count what is on disk."""
        handler.file.count_written(lines, self._stats)
        if handler.error:
            log.info("%s: can be written again%s", handler.file.path, _but_dropped(handler))
        handler.settled()
        self.failures.by_themselves.discard(handler)
        self._syncing.wrote(handler.file)

    def _failed(self, job: _Job, error: OSError, now: float) -> None:
        """Have what could not be written tried again after a pause."""
        handler = job.handler
        self._stats.count_write_error(error)
        if error.__cause__:
            tell("writer", error.__cause__, self._stats, f"{handler.file.path} is tried again")
        by_itself = self.failures.judge(handler, error, now, self._ready)
        handler.error, handler.failed_at = f"{error}", now
        # The first failure of each file is logged, however many fail. Of retries, and of errors that files
        # share, the limit leaves most out.
        about = "" if handler.pause or error.errno == errno.EMFILE else handler.file.path
        to_do = job.remedy if by_itself and not handler.pause else ""
        waits = counted(handler.records, "record", "waits", "wait")
        why = (handler.file.path, waits, error, to_do)
        log.error("%s: cannot be written, %s: %s%s", *why, extra={"about": about})
        handler.pause = min(max(2 * handler.pause, _FIRST_PAUSE_SECONDS), self._last_pause)
        handler.retry_at = now + handler.pause


class _Job:
    """One file's part of a hop: what to change and what to write, and what came of it."""

    __slots__ = ("changes", "handler", "lines", "outcome", "remedy")

    outcome: Outcome
    """What has come of run()."""
    remedy: str
    """What to do about the error of that, if it has one."""

    def __init__(self, handler: Handler, lines: Lines | None, changes: list[Callable[[], None]]) -> None:
        self.handler = handler
        self.lines = lines
        """None: nothing waits, and the file is to be closed."""
        self.changes = changes

    def run(self) -> None:
        """Run in the thread. Inside a record nothing is changed: that waits for a later hop."""
        file = self.handler.file
        while self.changes and (self.lines is None or self.lines.at_boundary()):
            try:
                self.changes.pop(0)()
            except OSError as error:
                log.error("%s: cannot roll over; signal again: %s", file.path, error)
        # If nothing waits, the next line opens the file anew, whatever becomes of it until then.
        self.outcome = file.close() if self.lines is None else file.write(self.lines)


def _work(jobs: list[_Job], first: First | None) -> None:
    """Run in the thread: one file after the other, so that none can stop the others; then pause."""
    if first:
        first.write()
    for job in jobs:
        try:
            job.run()
        except Exception as fault:  # noqa: BLE001 - of ours, in one file: it must not stop the others
            job.outcome = Outcome()
            job.outcome.error = OSError(f"a fault in the collector: {fault!r}")
            job.outcome.error.__cause__ = fault
        if job.outcome.error:
            job.remedy = remedy(job.outcome.error, job.handler.file.path)
            job.outcome.error = explained(job.outcome.error, job.handler.file.directory.path)
    # Here, because on the hub a pause lasts as long as the longest batch of any client.
    time.sleep(_PAUSE_SECONDS)


def _but_dropped(handler: Handler) -> str:
    dropped = counted(handler.dropped, "record", "was", "were")
    return f"; {dropped} dropped meanwhile" if handler.dropped else ""
