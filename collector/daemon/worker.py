"""The process that collects: wires the rooms together, runs until it is told to stop, and drains.

A record passes them in this order: listen (bytes from a client), wire (frames, then fields), daemon.routing
(which file it goes to), format (its line there), files (the line on disk).
"""

from __future__ import annotations

import faulthandler
import logging
import os
import platform
import signal
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import gevent
from gevent.event import Event
from gevent.socket import wait_read
from gevent.threadpool import ThreadPool

from collector import __version__
from collector.admin.keeper import Keeper
from collector.admin.status import Status
from collector.admin.stream import LiveStream
from collector.daemon import guardian
from collector.daemon.descriptors import share_descriptors
from collector.daemon.notify import READY, STOPPING, Notifier
from collector.daemon.reload import Reloader, roll_over
from collector.daemon.routing import Router, renderers
from collector.daemon.spooling import Spooling
from collector.escape import escape
from collector.exits import EXIT_FAILED, EXIT_OK, end_at_once
from collector.files.handler_cache import HandlerCache
from collector.files.lock import Lock
from collector.files.retention import Retention
from collector.greenlets import keep_running, tell, tell_uncaught
from collector.listen.server import Server
from collector.listen.sockets import take_over
from collector.log import counted, say, say_last
from collector.reserve import Reserve
from collector.stats import Stats

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from collector.config.tables import Config

log = logging.getLogger(__name__)

# The part of drain_seconds that reading clients may take. If a stalled disk holds them up, the rest is left
# for closing the files on other disks.
_SHARE_OF_CLIENTS = 7 / 8
_LOCK_SECONDS = 1.0
# A disk that stands still is no reason to keep clients waiting.
_TRIAL_SECONDS = 2.0
_SPOOL_SECONDS = 5.0
# Enough to close a file on a busy machine.
_RELEASE_SECONDS = 0.5
_NO_SOCKETS = "passes no sockets from descriptor 3 on, although LISTEN_PID is this process; unset LISTEN_PID"
# Whoever signals all processes at once reaches the worker twice, as the guardian passes its own signal on.
_SAME_SECONDS = 0.2


def run(config: Config, read_again: Callable[[], Config], source: str) -> NoReturn:
    """Collect from the sockets passed to this process until told to stop, then drain and end the process.

    *read_again* returns the configuration as it is now, or raises ConfigError; *source* names what it comes
    from. Raises OSError where it cannot start.
    """
    listeners = _passed_sockets()
    # If there is a guardian, that is the process that an operator would stop.
    owner = os.getppid() if guardian.PIPE in os.environ else os.getpid()
    lock = Lock(os.path.realpath(config.files.directory), owner)
    stats = Stats()
    tell_uncaught(stats)
    reserve = Reserve(config.listen.max_buffered_bytes, waits=config.listen.when_full == "wait")
    max_clients, max_open = share_descriptors(config)
    handlers = HandlerCache(replace(config.files, max_open=max_open), config.quarantine, reserve, stats)
    handlers.wait_for_trials(_TRIAL_SECONDS)
    spooling = Spooling(config, handlers, stats, owner)
    spooling.open(_SPOOL_SECONDS)
    stream = LiveStream()
    keeper = Keeper(os.path.realpath(config.files.directory), stats) if config.admin else None
    router = Router(config, renderers(config), handlers, stats, stream, spooling, keeper)
    server = Server(listeners, config.listen, max_clients, router.deliver, reserve, stats)
    status = Status(server, handlers, reserve, stats, stream, spooling.state)
    stop = _Stop(handlers, reserve, stats)
    retention = Retention(stats, spooling.free)
    admin_port = None
    if keeper:
        from collector.admin.http import AdminPort  # noqa: PLC0415 - a web server takes memory

        admin_port = AdminPort(config, status, stream, keeper, stats)
    notifier = _notifier(stop, stats)
    reloader = Reloader(
        *(config, read_again, router, handlers, server, retention, admin_port, reserve, stats),
        *(spooling, notifier),
    )
    gevent.signal_handler(signal.SIGHUP, reloader.reload)
    gevent.signal_handler(signal.SIGUSR1, roll_over, handlers)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, guardian.AWAITED)
    _introduce(source, server.start(), config, max_clients)
    if keeper and admin_port:
        status.start()
        keeper.start()
        admin_port.start()
    notifier.tell(READY)
    follower = LockFollower(lock, stats)
    retention.reconfigure(config)
    stop.wait()
    notifier.tell(STOPPING)
    status.draining = True
    spooling.drain()
    deadline = time.monotonic() + reloader.config.listen.drain_seconds
    code = _drain(server, handlers, deadline, stats)
    spooling.close(deadline)
    if keeper:
        keeper.close(deadline)
    stream.drain()
    follower.end(deadline)
    _end(code, handlers, stats)


def _introduce(source: str, addresses: list[str], config: Config, max_clients: int) -> None:
    """Say what runs and what it goes by, where records come in and go, and the limits that may be met."""
    log.info(
        "collector %s, Python %s, process %d of uid %d",
        *(__version__, platform.python_version(), os.getpid(), os.geteuid()),
    )
    log.info("configuration: %s", source)
    directory = escape(os.path.realpath(config.files.directory))
    log.info("listens on %s; writes to %s", ", ".join(map(escape, addresses)), directory)
    listen, rollover, retention = config.listen, config.rollover, config.retention
    log.info(
        "limits: max_clients = %d, max_frame_bytes = %d, max_buffered_bytes = %d; max_bytes = %d, "
        "backup_count = %d; max_total_bytes = %d, max_age_days = %g, min_free_bytes = %d",
        *(max_clients, listen.max_frame_bytes, listen.max_buffered_bytes),
        *(rollover.max_bytes, rollover.backup_count),
        *(retention.max_total_bytes, retention.max_age_days, retention.min_free_bytes),
    )
    for address in addresses:
        # At any level of the log: this line is how others learn the port, and that they can connect.
        say(f"listening on {address}")


def _passed_sockets() -> list[socket.socket]:
    """Take over the sockets of systemd's protocol. Raises OSError where there are none that listen."""
    given = os.environ.pop("LISTEN_FDS", "")
    for name in ("LISTEN_PID", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    first = guardian.LISTEN_FDS_START
    try:
        fds = range(first, first + int(given))
        for fd in fds:
            os.fstat(fd)
    except (OSError, ValueError) as error:
        raise OSError(f"LISTEN_FDS = {given!r} {_NO_SOCKETS}: {error}") from error
    if not fds:
        raise OSError(f"LISTEN_FDS = {given!r} {_NO_SOCKETS}")
    sockets = [take_over(fd) for fd in fds]
    for sock in sockets:
        sock.set_inheritable(False)
        sock.setblocking(False)  # noqa: FBT003 - its only parameter
    return sockets


class _Stop:
    """Whether the collector was told to stop, and so drains. Told again, it ends at once."""

    def __init__(self, handlers: HandlerCache, reserve: Reserve, stats: Stats) -> None:
        self._handlers = handlers
        self._reserve = reserve
        self._stats = stats
        self._told = Event()
        self._told_at = 0.0
        for number in (signal.SIGTERM, signal.SIGINT):
            gevent.signal_handler(number, self.tell, number.name)

    def tell(self, why: str) -> None:
        if not self._told.is_set():
            self._told_at = time.monotonic()
            self._told.set()
            log.info("%s: draining", why)
        elif time.monotonic() - self._told_at >= _SAME_SECONDS:
            left = counted(self._reserve.held, "byte", "is", "are")
            log.error("%s again: stopping at once, %s not written", why, left)
            _end(EXIT_FAILED, self._handlers, self._stats)

    def wait(self) -> None:
        self._told.wait()


class LockFollower:
    """Moves the lock when the directory is removed or replaced, so that no second collector starts."""

    def __init__(self, lock: Lock, stats: Stats) -> None:
        self._lock = lock
        self._thread = ThreadPool(1)  # of its own, as the disk may hang
        self._greenlet = keep_running("lock", self._run, stats)

    def end(self, deadline: float) -> None:
        """Stop following, and release the lock once that has ended; wait for it until *deadline*.

        A look at the directory that is under way is never overtaken: it would take the lock back, or close
        another file's descriptor instead of its own.
        """
        self._greenlet.kill()
        seconds = max(deadline - time.monotonic(), _RELEASE_SECONDS)
        with gevent.Timeout(seconds, False):  # noqa: FBT003 - gevent's way to raise nothing
            self._thread.apply(self._lock.release)  # it waits for its turn
            return
        log.warning("the lock is kept until the process has gone: the disk of the directory hangs")

    def _run(self) -> None:
        while True:
            gevent.sleep(_LOCK_SECONDS)
            try:
                self._thread.apply(self._lock.follow)
            except OSError as error:
                log.error("collecting on without the lock: %s", error)


def _notifier(stop: _Stop, stats: Stats) -> Notifier:
    """Return what tells systemd or the guardian how this process stands, which stops if the guardian ends."""
    pipe = int(os.environ.pop(guardian.PIPE, "0"))
    notifier = Notifier(pipe)
    if pipe:
        keep_running("guardian", partial(_follow_guardian, pipe, stop), stats)
    if notifier.seconds:
        faulthandler.enable()  # where it hangs is told when systemd ends it, by SIGABRT
        keep_running("watchdog", partial(_show_life, notifier), stats)
    return notifier


def _follow_guardian(pipe: int, stop: _Stop) -> None:
    wait_read(pipe)
    stop.tell("the guardian has ended")


def _show_life(notifier: Notifier) -> None:
    """Give signs of life for as long as greenlets get their turns."""
    while True:
        notifier.alive()
        gevent.sleep(notifier.seconds)


def _drain(server: Server, handlers: HandlerCache, deadline: float, stats: Stats) -> int:
    """Read clients to the end, then write and close files, until *deadline*; return the exit code."""
    now = time.monotonic()
    all_read = False
    try:
        all_read = server.drain(now + _SHARE_OF_CLIENTS * (deadline - now))
    except Exception as fault:  # noqa: BLE001 - whatever it is, what was received is written
        tell("drain", fault, stats, "clients may not be read to the end")
    if not handlers.drain(deadline) and not handlers.idle:
        log.error("not all files were synced, compressed and closed before drain_seconds were over")
    return EXIT_OK if all_read and handlers.idle else EXIT_FAILED


def _end(code: int, handlers: HandlerCache, stats: Stats) -> NoReturn:
    """Log what is lost, and the totals, and end the process now."""
    for handler in handlers.all():
        if handler.records:
            stats.dropped_records_total["not written in time"] += handler.records
            lost = counted(handler.records, "record", "is lost, it", "are lost, they")
            log.error("%s: %s could not be written in time", handler.file.path, lost)
    say_last(f"stopped: {stats.summary()}")
    end_at_once(code)
