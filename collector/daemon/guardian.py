"""The parent process: holds the sockets, starts the worker and replaces it when it dies.

The sockets outlive the worker, so nobody is refused while there is none: a stock client that is refused
drops everything for up to 30 seconds. They are passed on by systemd's protocol (sd_listen_fds(3)), so the
same worker runs under systemd's socket activation without a guardian. Works as PID 1: it reaps
whatever it inherits and passes signals on. Knows no record and no file, and loads no gevent.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from collector.config.load import ConfigError
from collector.daemon.notify import READY, STOPPING, Notifier
from collector.exits import EXIT_CANNOT_START, EXIT_FAILED, EXIT_OK
from collector.log import answer
from collector.rereading import Rereading
from collector.signals import HANDLED
from collector.zone import read_zone_again

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

log = logging.getLogger(__name__)

LISTEN_FDS_START = 3
"""The first descriptor that systemd's protocol passes."""
PIPE = "COLLECTOR_GUARDIAN_FD"
"""Names, in the worker's environment, the descriptor of a pipe that ends when the guardian does.

Over it the worker tells what systemd is to know: see `Notifier`.
"""

AWAITED = (*HANDLED, signal.SIGCHLD)
# A worker that has lived this long did start: its successor may start at once.
_SETTLED_SECONDS = 1.0
_FIRST_PAUSE_SECONDS = 0.1
_LAST_PAUSE_SECONDS = 5.0
_LOOK_SECONDS = 0.5
_STUCK_LOOKS = 2
_MESSAGE_BYTES = 256


def is_worker() -> bool:
    """Tell whether a guardian or systemd has passed listening sockets to this very process."""
    return os.environ.get("LISTEN_PID") == str(os.getpid())


def run(  # noqa: PLR0913, PLR0917 - what is kept running, and what of
    command: Sequence[str],
    sockets: Sequence[socket.socket],
    unix: str,
    forwarders: Mapping[str, Sequence[str]],
    forwarders_now: Callable[[], Mapping[str, Sequence[str]]],
    drain_seconds: float,
) -> int:
    """Keep a worker and the forwarders running until the worker ends by itself or is told to.

    Return its exit code. *command* starts a worker; *sockets* are closed at the end; *unix* is the path of
    the Unix socket, or "", and is removed at the end. *forwarders* are the commands of forwarders by the
    names of their destinations; *forwarders_now* reads them again, and raises ConfigError or OSError if it
    cannot say. Once told to stop, forwarders have *drain_seconds*.
    """
    bound = _status(unix)
    # Blocked signals wait for sigtimedwait(): no handler runs at a bad moment, and PID 1 gets them too.
    signal.pthread_sigmask(signal.SIG_BLOCK, AWAITED)
    ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
    ours.setblocking(False)  # noqa: FBT003 - its only parameter
    # What the worker tells wakes the guardian, as its end does.
    fcntl.fcntl(ours, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(ours, fcntl.F_SETSIG, signal.SIGCHLD)
    fcntl.fcntl(ours, fcntl.F_SETFL, fcntl.fcntl(ours, fcntl.F_GETFL) | os.O_ASYNC)
    try:
        guardian = _Guardian(command, sockets, theirs, ours, Notifier())
        guardian.choose_forwarders(forwarders)
        return guardian.run(forwarders_now, drain_seconds)
    finally:
        ours.close()
        theirs.close()
        # The path may have become another collector's. While this socket is open no other gets its inode.
        status = _status(unix)
        if bound and status and os.path.samestat(bound, status):
            with suppress(OSError):
                os.unlink(unix)
        for sock in sockets:
            sock.close()


def _status(path: str) -> os.stat_result | None:
    with suppress(OSError):
        return os.lstat(path)
    return None


class _Child:
    """A process that is kept running."""

    def __init__(self, what: str, command: Sequence[str]) -> None:
        self.what = what
        self.command = command
        self.pid = 0
        """0 while it does not run."""
        self.start_at = 0.0
        self._begun = 0.0
        self._pause = 0.0

    def started(self, pid: int) -> None:
        """Note that it runs, as process *pid*."""
        self.pid, self._begun = pid, time.monotonic()

    def ended(self) -> None:
        """Note that it does not run, and when to start it again: later each time it ends at once."""
        now = time.monotonic()
        settled = self.pid and now - self._begun >= _SETTLED_SECONDS
        self._pause = 0.0 if settled else min(max(2 * self._pause, _FIRST_PAUSE_SECONDS), _LAST_PAUSE_SECONDS)
        self.pid, self.start_at = 0, now + self._pause

    def tell(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


class _Guardian:
    """Keeps the children running. The worker's end is the guardian's, unless another one can start."""

    def __init__(
        self,
        command: Sequence[str],
        sockets: Sequence[socket.socket],
        theirs: socket.socket,
        ours: socket.socket,
        notifier: Notifier,
    ) -> None:
        self._sockets = sockets
        self._theirs = theirs
        self._ours = ours
        self._notifier = notifier
        self._worker = _Child("the worker", command)
        self._forwarders: dict[str, _Child] = {}
        self._retired: dict[str, _Child] = {}
        """Forwarders whose destination was taken out, and that have not ended yet."""
        self._stopping = False
        self._has_listened = False
        """Whether the worker has said that it listens."""
        self._looks_at_zombie = 0

    def run(self, forwarders_now: Callable[[], Mapping[str, Sequence[str]]], drain_seconds: float) -> int:
        """Keep them running until the worker has ended for good; return its exit code."""

        def read() -> Mapping[str, Sequence[str]] | None:
            with suppress(ConfigError, OSError):  # the worker says what is wrong
                return forwarders_now()
            return None

        rereading = Rereading(read, lambda: os.kill(os.getpid(), signal.SIGCHLD))  # which wakes this loop
        first = True
        deadline = 0.0
        while True:
            self._start_due()
            if self._take_signal() == signal.SIGHUP:
                rereading.begin()
            if (commands := rereading.take()) is not None and not self._stopping:
                self.choose_forwarders(commands)
            if self._stopping and not deadline:
                deadline = time.monotonic() + drain_seconds
            status = self._reap()
            self._hear()
            if status is None:
                if self._stopping and not self._worker.pid:  # between two workers
                    return EXIT_OK if self._end_forwarders(deadline) else EXIT_FAILED
                continue
            code = os.waitstatus_to_exitcode(status)
            # Only the first worker's failure to start is for the operator to mend: a later one may merely
            # have to wait for a disk to come back.
            if self._stopping or code == EXIT_OK or (first and code == EXIT_CANNOT_START):
                ended = self._end_forwarders(deadline or time.monotonic() + drain_seconds)
                return code if code >= 0 and ended else EXIT_FAILED
            first = False
            lost = "; what it had not written is lost" if self._has_listened else " before it listened"
            pid, self._has_listened = self._worker.pid, False
            self._worker.ended()
            log.error("the worker, process %d, %s%s; another starts", pid, _how(code), lost)

    def choose_forwarders(self, commands: Mapping[str, Sequence[str]]) -> None:
        """Keep those running that have *commands*, by the names of their destinations, and end others."""
        for name in self._forwarders.keys() - commands.keys():
            retired = self._forwarders.pop(name)
            if retired.pid:
                retired.tell(signal.SIGTERM)
                self._retired[name] = retired
        for name in commands.keys() - self._forwarders.keys():
            # One that is ending still has the lock: another one starts behind it.
            back = self._retired.pop(name, None)
            self._forwarders[name] = back or _Child(f"the forwarder {name}", commands[name])

    def _start_due(self) -> None:
        """Start what does not run and has paused for long enough."""
        now = time.monotonic()
        for child in (self._worker, *self._forwarders.values()):
            if not child.pid and child.start_at <= now and not self._stopping:
                sockets = self._sockets if child is self._worker else []
                try:
                    child.started(_start(child.command, sockets, self._theirs, child.what))
                except OSError as error:  # a limit on processes, or no memory
                    child.ended()
                    what = "%s: no process can be made for it, which is tried again: %s"
                    log.error(what, child.what, error, extra={"about": child.what})

    def _take_signal(self) -> int:
        """Wait for a signal, or until something is due, and pass it on; return its number, 0 if none came."""
        now = time.monotonic()
        children = (self._worker, *self._forwarders.values())
        dues = [child.start_at - now for child in children if not child.pid and not self._stopping]
        info = signal.sigtimedwait(AWAITED, max(0.0, min([_LOOK_SECONDS, *dues])))
        if info is None:
            # A thread stuck in the kernel, on a disk that stands still, keeps an ended process around.
            stuck = self._worker.pid and _has_ended(self._worker.pid)
            self._looks_at_zombie = self._looks_at_zombie + 1 if stuck else 0
        elif info.si_signo in HANDLED:
            if info.si_signo == signal.SIGHUP:
                read_zone_again()  # for the lines of this process
            if info.si_signo in (signal.SIGTERM, signal.SIGINT):
                self._stopping = True
                self._notifier.tell(STOPPING)
            self._worker.tell(info.si_signo)
            if info.si_signo != signal.SIGUSR1:
                for child in self._forwarders.values():
                    child.tell(info.si_signo)
        return info.si_signo if info else 0

    def _reap(self) -> int | None:
        """Take note of what has ended; return the wait status of the worker if that has."""
        if self._looks_at_zombie >= _STUCK_LOOKS:
            self._looks_at_zombie = 0
            return EXIT_FAILED << 8
        # One SIGCHLD may stand for several children; as PID 1 some of them are others' orphans.
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == self._worker.pid:
                    return ended[1]
                self._retired = {
                    name: child for name, child in self._retired.items() if child.pid != ended[0]
                }
                for child in self._forwarders.values():
                    if child.pid == ended[0]:
                        child.ended()
                        self._tell_end(child, ended)
        return None

    def _tell_end(self, child: _Child, ended: tuple[int, int]) -> None:
        if not self._stopping:
            how = _how(os.waitstatus_to_exitcode(ended[1]))
            # With 0 ends only what was told to: whose destination was taken out and is back, say.
            level = logging.INFO if ended[1] == EXIT_OK else logging.ERROR
            what = "%s, process %d, %s; another starts"
            log.log(level, what, child.what, ended[0], how, extra={"about": child.what})

    def _end_forwarders(self, deadline: float) -> bool:
        """Let forwarders end what is in flight, until *deadline*, by the monotonic clock.

        Return whether nobody has said a second time that all is to stop: that ends them at once.
        """
        told, self._stopping = self._stopping, True
        self._notifier.tell(STOPPING)
        if not told:  # another signal would cut short what is in flight
            for child in self._forwarders.values():
                child.tell(signal.SIGTERM)
        left = {child.pid for child in (*self._forwarders.values(), *self._retired.values()) if child.pid}
        again = False
        while left and not again and time.monotonic() < deadline:
            info = signal.sigtimedwait(AWAITED, min(_LOOK_SECONDS, max(0.0, deadline - time.monotonic())))
            if info and info.si_signo in (signal.SIGTERM, signal.SIGINT):
                told, again = True, told
            with suppress(ChildProcessError):
                while pid := os.waitpid(-1, os.WNOHANG)[0]:
                    left.discard(pid)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not again

    def _hear(self) -> None:
        """Pass on what the worker tells. While there is none, this process itself is the sign of life."""
        with suppress(BlockingIOError):
            while told := self._ours.recv(_MESSAGE_BYTES):
                self._has_listened |= told == READY
                self._notifier.tell(told)
        if not self._worker.pid:
            self._notifier.alive()


def _how(code: int) -> str:
    return f"was killed by signal {-code}" if code < 0 else f"ended with {code}"


def _start(command: Sequence[str], sockets: Sequence[socket.socket], theirs: socket.socket, what: str) -> int:
    """Start a child, with the sockets from descriptor 3 on if it gets any; return its process id."""
    child = os.fork()
    if child:
        return child
    code = EXIT_FAILED
    try:
        # A group of its own: Ctrl-C on a terminal reaches the guardian alone, which passes it on once.
        os.setpgid(0, 0)
        # Out of the way first: a descriptor that is still needed may have the number that another is to get.
        last = LISTEN_FDS_START + len(sockets)
        given = [*(sock.fileno() for sock in sockets), theirs.fileno()]
        moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, last + 1) for fd in given]
        for number, fd in enumerate(moved, LISTEN_FDS_START):
            os.dup2(fd, number, inheritable=True)
        names = ":".join("unix" if sock.family == socket.AF_UNIX else "tcp" for sock in sockets)
        environment = os.environ | {PIPE: str(last)}
        if sockets:
            environment |= {
                "LISTEN_FDS": str(len(sockets)),
                "LISTEN_PID": str(os.getpid()),
                "LISTEN_FDNAMES": names,
            }
        # Signals stay blocked until the worker can take them: one that comes early must not kill it.
        os.execve(command[0], list(command), environment)  # noqa: S606 - a program and its arguments
    except OSError as error:
        os.write(sys.stderr.fileno(), f"{answer(f'cannot start {what}: {error}')}\n".encode())
        code = EXIT_CANNOT_START
    finally:
        os._exit(code)


def _has_ended(worker: int) -> bool:
    with suppress(OSError), open(f"/proc/{worker}/stat", encoding="utf-8", errors="replace") as stat_file:
        return stat_file.read().rpartition(")")[2].split()[0] == "Z"
    return False
