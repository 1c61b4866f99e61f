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

from collector.exits import EXIT_CANNOT_START, EXIT_FAILED, EXIT_OK
from collector.signals import HANDLED
from collector.zone import read_zone_again

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)

LISTEN_FDS_START = 3
"""The first descriptor that systemd's protocol passes."""
PIPE = "COLLECTOR_GUARDIAN_FD"
"""Names, in the worker's environment, the descriptor of a pipe that ends when the guardian does.

The worker writes a byte to it once it listens.
"""

AWAITED = (*HANDLED, signal.SIGCHLD)
# A worker that has lived this long did start: its successor may start at once.
_SETTLED_SECONDS = 1.0
_FIRST_PAUSE_SECONDS = 0.1
_LAST_PAUSE_SECONDS = 5.0
_LOOK_SECONDS = 0.5
_STUCK_LOOKS = 2
_PIPE_BYTES = 64


def is_worker() -> bool:
    """Tell whether a guardian or systemd has passed listening sockets to this very process."""
    return os.environ.get("LISTEN_PID") == str(os.getpid())


def run(command: Sequence[str], sockets: Sequence[socket.socket], unix: str) -> int:
    """Keep a worker running until one ends by itself or is told to; return the exit code.

    *command* starts a worker; *sockets* are closed at the end; *unix* is the path of the Unix socket, or "",
    and is removed at the end.
    """
    bound = _status(unix)
    # Blocked signals wait for sigtimedwait(): no handler runs at a bad moment, and PID 1 gets them too.
    signal.pthread_sigmask(signal.SIG_BLOCK, AWAITED)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)  # noqa: FBT003 - its only parameter
    try:
        return _keep_running(command, sockets, ours, theirs)
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


def _keep_running(
    command: Sequence[str], sockets: Sequence[socket.socket], ours: socket.socket, theirs: socket.socket
) -> int:
    pause = 0.0
    first = True
    while True:
        begun = time.monotonic()
        worker = _start(command, sockets, theirs)
        status, stopping = _wait(worker)
        code = os.waitstatus_to_exitcode(status)
        # Only the first worker's failure to start is for the operator to mend: a later one may merely have to
        # wait for a disk to come back.
        if stopping or code == EXIT_OK or (first and code == EXIT_CANNOT_START):
            return code if code >= 0 else EXIT_FAILED
        first = False
        how = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
        settled = time.monotonic() - begun >= _SETTLED_SECONDS
        pause = 0.0 if settled else min(max(2 * pause, _FIRST_PAUSE_SECONDS), _LAST_PAUSE_SECONDS)
        lost = "; what it had not written is lost" if _has_listened(ours) else " before it listened"
        log.error("the worker, process %d, %s%s; another starts", worker, how, lost)
        if _told_to_stop(pause):
            return EXIT_OK


def listening(pipe: int) -> None:
    """Tell the guardian, from the worker, that what has been read can be lost from now on."""
    with suppress(OSError):  # the guardian has gone: there is nobody to tell
        os.write(pipe, b"1")


def _has_listened(ours: socket.socket) -> bool:
    """Tell whether the worker that has ended had said that it listens."""
    try:
        return bool(ours.recv(_PIPE_BYTES))
    except BlockingIOError:
        return False


def _start(command: Sequence[str], sockets: Sequence[socket.socket], theirs: socket.socket) -> int:
    """Start a worker with the sockets from descriptor 3 on; return its process id."""
    worker = os.fork()
    if worker:
        return worker
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
        environment = os.environ | {
            "LISTEN_FDS": str(len(sockets)),
            "LISTEN_PID": str(os.getpid()),
            "LISTEN_FDNAMES": names,
            PIPE: str(last),
        }
        # Signals stay blocked until the worker can take them: one that comes early must not kill it.
        os.execve(command[0], list(command), environment)  # noqa: S606 - a program and its arguments
    except OSError as error:
        os.write(sys.stderr.fileno(), f"cannot start the worker: {error}\n".encode())
    finally:
        os._exit(EXIT_FAILED)


def _wait(worker: int) -> tuple[int, bool]:
    """Pass signals on until *worker* has ended; return its wait status, and whether it was told to."""
    stopping = False
    stuck = 0
    while True:
        info = signal.sigtimedwait(AWAITED, _LOOK_SECONDS)
        if info is None:
            # A thread stuck in the kernel, on a disk that stands still, keeps an ended process around.
            stuck = stuck + 1 if _has_ended(worker) else 0
            if stuck == _STUCK_LOOKS:
                return EXIT_FAILED << 8, stopping
        elif info.si_signo in HANDLED:
            if info.si_signo == signal.SIGHUP:
                read_zone_again()  # for the lines of this process
            stopping = stopping or info.si_signo in (signal.SIGTERM, signal.SIGINT)
            with suppress(ProcessLookupError):
                os.kill(worker, info.si_signo)
        # One SIGCHLD may stand for several children; as PID 1 some of them are others' orphans.
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == worker:
                    return ended[1], stopping


def _has_ended(worker: int) -> bool:
    with suppress(OSError), open(f"/proc/{worker}/stat", encoding="utf-8", errors="replace") as stat_file:
        return stat_file.read().rpartition(")")[2].split()[0] == "Z"
    return False


def _told_to_stop(seconds: float) -> bool:
    """Wait before the next worker starts; return whether a signal to stop came meanwhile."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        info = signal.sigtimedwait(AWAITED, left)
        if info and info.si_signo in (signal.SIGTERM, signal.SIGINT):
            return True
        if info and info.si_signo == signal.SIGHUP:
            read_zone_again()
    return False
