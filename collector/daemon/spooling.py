"""The spool in the worker: what goes into it, when it is written and synced, and where destinations begin.

The writer of its volume writes it before the lines of each hop, so what is in a file is in the spool too.
All else that may block is done once a second, or when it is due, in a thread of its own.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import Event
from gevent.threadpool import ThreadPool

from collector.daemon.forwarders import Forwarders
from collector.forward import lock, status
from collector.forward.progress import Progress
from collector.greenlets import keep_running
from collector.log import counted
from collector.spool.appending import Spool
from collector.spool.checkpoint import SUFFIX, Checkpoint, read_state
from collector.spool.reading import OLDEST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from collector.config.tables import Config, Forward
    from collector.files.handler_cache import HandlerCache
    from collector.spool.appending import Mark
    from collector.stats import Stats

log = logging.getLogger(__name__)

# What may wait to be written, beside the reserve, as a part of what that may take.
_PART_OF_RESERVE = 16
_EVERY_SECONDS = 1.0
# So long a full disk is left to the log files.
_LEAST_SECONDS = 0.1
# So long a forwarder whose destination was taken out may take to end.
_END_SECONDS = 10.0
_LOOK_SECONDS = 0.2


class Spooling:
    """The spool of a worker, from the first configuration on that has a destination."""

    def __init__(self, config: Config, handlers: HandlerCache, stats: Stats, owner: int) -> None:
        """Touch no disk yet. *owner*: the process to name in the lock of a spool that lies elsewhere."""
        self.spool: Spool | None = None
        """None as long as nobody has wanted it."""
        self._forwarders: Forwarders
        """There if the spool is."""
        self.directory = ""
        self._config = config
        self._handlers = handlers
        self._stats = stats
        self._owner = owner
        self._thread = ThreadPool(1)
        self._wake = Event()
        self._wake_writer: Callable[[], None]
        self._greenlet: gevent.Greenlet
        self._beginnings: dict[str, tuple[Forward, Mark]] = {}
        """Destinations that may have no checkpoint yet, and where they begin then."""
        self._no_room = False
        self._synced_at = time.monotonic()
        self._begin([])

    def reconfigure(self, config: Config) -> None:
        """Go by *config* from now on. The directory stays. Never waits."""
        before, self._config = self._config.forwards, config
        self._begin(before)
        if not self.spool:
            return
        names = [forward.name for forward in config.forwards]
        self._forwarders.follow(names)
        for gone in (forward.name for forward in before if forward.name not in names):
            self._beginnings.pop(gone, None)
            gevent.spawn(self._tell_taken_out, gone, self.spool.mark())

    def add(self, peer: str, payloads: list[bytes]) -> None:
        """Give *payloads*, a list that is kept, their numbers, and have them written. Never waits."""
        if self.spool and payloads:
            self.spool.add(peer, payloads, time.time_ns())
            self._wake_writer()

    def open(self, seconds: float) -> None:
        """Return once the spool is open, or cannot be, or after *seconds*: collecting begins without it."""
        if not self.spool:
            return
        with gevent.Timeout(seconds, False):  # noqa: FBT003 - gevent's way to raise nothing
            self._thread.apply(self._do_due)
            return
        what = "spool %s: its disk has not answered for %d s; collecting begins, and what comes waits for it"
        log.error(what, self.directory, seconds)

    def state(self) -> dict[str, Any]:
        """Return what is to be seen of the spool and the destinations; {} if there never was one."""
        if not (spool := self.spool):
            return {}
        state = {
            "directory": self.directory,
            "records": spool.spooled_records,
            "bytes": spool.bytes,
            "max_bytes": spool.max_bytes,
            "waiting_bytes": spool.waiting_bytes,
            "dropped": spool.dropped_records,
            "write_errors": spool.write_errors,
        }
        return {"spool": state, "forwards": self._forwarders.state()}

    def free(self, device: int, size: int) -> int:
        """Delete the oldest segments if they lie on *device*; return the bytes, *size* at least if possible.

        For a thread: it may block. Raises nothing.
        """
        try:
            if not self.spool or os.stat(self.directory).st_dev != device:
                return 0
        except OSError:
            return 0
        if freed := self.spool.free(size):
            frees = counted(freed, "byte")
            what = "spool %s: the oldest segments are deleted, which frees %s: [retention] min_free_bytes"
            log.info(what, self.directory, frees)
        return freed

    def drain(self) -> None:
        """Learn that forwarders are being stopped, as the worker is."""
        if self.spool:
            self._forwarders.end()

    def close(self, deadline: float) -> None:
        """Write what waits, and note the last number, until *deadline*, by the monotonic clock."""
        if not self.spool:
            return
        self._greenlet.kill()
        left = None
        with gevent.Timeout(max(deadline - time.monotonic(), _LEAST_SECONDS), False):  # noqa: FBT003 - as above
            left = self._thread.apply(self.spool.close)
        if left is None:
            log.error("spool %s: its disk did not answer before drain_seconds were over", self.directory)
        elif left:
            records = counted(left, "record", "was", "were")
            log.error("spool %s: %s not written in time", self.directory, records)

    # --- what the writer of its volume asks: see files.syncing.First ---

    @property
    def due_in(self) -> float | None:
        """In how many seconds write() has something to do; None: not before the writer is woken."""
        return self.spool.due_in if self.spool else None

    def write(self) -> None:
        """Write what waits, in the writer's thread. Raises nothing."""
        if self.spool:
            self.spool.write()

    def sync(self) -> None:
        """Sync what was written, in another thread. Raises nothing."""
        if self.spool:
            self.spool.sync()

    def after_hop(self, *, no_room: bool, written: bool) -> None:
        """Make room where a file of the volume has none, and write on once such files are written."""
        if not self.spool:
            return
        if no_room:
            self._no_room = True
            self._wake.set()
        elif written and self._no_room:
            self._no_room = False
            self.spool.resume()
            self._wake_writer()
        if self.spool.trim_due:
            self._wake.set()

    # --- beside it ---

    def _begin(self, before: Iterable[Forward]) -> None:
        """Have the spool written if anybody wants it, and destinations begin that were not there *before*."""
        settings, forwards = self._config.spool, self._config.forwards
        if not forwards or not settings:
            return
        limit = self._config.listen.max_buffered_bytes // _PART_OF_RESERVE
        syncs = bool(settings.sync_seconds or self._config.files.sync_seconds)
        if self.spool:
            self.spool.syncs = syncs
            self.spool.limit = limit
            self.spool.max_bytes, self.spool.segment_bytes = settings.max_bytes, settings.segment_bytes
        else:
            above, name = os.path.split(os.path.abspath(self._config.spool_directory))
            self.directory = os.path.join(os.path.realpath(above), name)
            # The lock of the log files covers what lies below them.
            is_below = self.directory.startswith(f"{self._handlers.directory}{os.sep}")
            self.spool = Spool(
                self.directory,
                limit=limit,
                max_bytes=settings.max_bytes,
                segment_bytes=settings.segment_bytes,
                sync=syncs,
                lock_owner=0 if is_below else self._owner,
            )
            self._wake_writer = self._handlers.write_first(self.directory, self)
            self._greenlet = keep_running("spool", self._run, self._stats)
            self._forwarders = Forwarders(self.directory, self._stats)
            self._forwarders.follow(forward.name for forward in forwards)
        known = {forward.name for forward in before}
        mark = self.spool.mark()
        self._beginnings |= {each.name: (each, mark) for each in forwards if each.name not in known}
        self._wake.set()

    def _run(self) -> None:
        self._thread.apply(self._tell_left_before)
        while True:
            self._wake.wait(_EVERY_SECONDS)
            self._wake.clear()
            self._thread.apply(self._do_due)
            if self.spool:
                self.spool.tell_drops()
                if self.spool.due_in == 0:  # it was opened, or got room: the writer did not wait for that
                    self._wake_writer()

    def _do_due(self) -> None:
        """Do, in the thread, what is due and may block."""
        spool = self.spool
        if not spool:
            return
        if spool.open():
            self._begin_destinations(spool)
        if self._no_room:
            spool.give_way()
        if spool.trim_due:
            spool.trim()
        every = self._config.spool.sync_seconds if self._config.spool else 0
        if not every and spool.keeps_open:  # for the log files, which are synced behind it, or were until now
            every = self._config.files.sync_seconds or _LEAST_SECONDS
        if every and time.monotonic() - self._synced_at >= every:
            spool.sync()
            self._synced_at = time.monotonic()

    def _begin_destinations(self, spool: Spool) -> None:
        """Make the checkpoints that are missing; one that is there holds."""
        for name, (forward, mark) in list(self._beginnings.items()):
            path = os.path.join(self.directory, name + SUFFIX)
            try:
                if not os.path.lexists(path):
                    position = OLDEST if forward.start == "oldest" else spool.position(mark)
                    if not position:
                        continue
                    Checkpoint.create(path, Progress.at(position).state()).close()
            except OSError as error:
                what = "forward %s: its checkpoint cannot be made, which is tried again: %s"
                log.error(what, name, error, extra={"about": name})
            else:
                self._beginnings.pop(name, None)

    # --- destinations that are there no more ---

    def _tell_left_before(self) -> None:
        """Say, in the thread, what destinations had not shipped that were taken out between two starts."""
        names = {forward.name for forward in self._config.forwards}
        with suppress(OSError):  # opening it says what is wrong
            for file in sorted(os.listdir(self.directory)):
                if file.endswith(SUFFIX) and (name := file.removesuffix(SUFFIX)) not in names:
                    self._tell_left(name, None)

    def _tell_taken_out(self, name: str, mark: Mark) -> None:
        """Say, once its forwarder has ended, what a destination had not shipped of what is before *mark*."""
        deadline = time.monotonic() + _END_SECONDS
        path = status.lock_path(self.directory, name)
        while time.monotonic() < deadline and self._thread.apply(_is_held, (path,)):
            gevent.sleep(_LOOK_SECONDS)
        if all(forward.name != name for forward in self._config.forwards):  # else it is back
            self._thread.apply(self._tell_left, (name, mark))

    def _tell_left(self, name: str, mark: Mark | None) -> None:
        """Say, in the thread, what a destination had not shipped; without a *mark* only if there is any."""
        left: int | None = None
        with suppress(OSError, KeyError, TypeError):
            if state := read_state(status.checkpoint_path(self.directory, name)):
                progress = Progress.of(state)
                end = self.spool.position(mark) if self.spool and mark else None
                left = progress.waiting
                if progress.position.number and end:
                    left = max(0, end.number - progress.position.number)
        if left == 0 and not mark:
            return
        records = "nobody knows how many were" if left is None else counted(left, "record", "was", "were")
        what = "forward %s: taken out of the configuration: %s not shipped; its checkpoint stays in %s"
        log.warning(what, name, records, self.directory)


def _is_held(path: str) -> bool:
    with suppress(OSError):
        return lock.holder(path) is not None
    return False
