"""The lock of a destination: one process hands over to it at a time.

It lies on an open file description, so that whoever only asks takes nothing: a forwarder that starts at that
moment is not turned away, and closing another descriptor of the file does not release it.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from struct import Struct

_FLOCK = Struct("hhqqi0q")  # struct flock: type, whence, start, length, pid


class HeldError(Exception):
    """Another process has the lock: `.pid`, 0 if it did not say."""

    def __init__(self, path: str, pid: int) -> None:
        super().__init__(f"{path!r} is held by process {pid or 'unknown'}")
        self.pid = pid


def take(path: str) -> int:
    """Take the lock at *path*; return its descriptor, which the caller closes. Raises HeldError, OSError."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except BlockingIOError:
        pid = _pid(fd)
        os.close(fd)
        raise HeldError(path, pid) from None
    except OSError:
        os.close(fd)
        raise
    with suppress(OSError):  # a full disk is no reason not to start: the number is a courtesy
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def follow(path: str, fd: int) -> int:
    """Return the descriptor of the lock at *path* that was taken as *fd*: another one, if it was removed.

    The lock is taken again then, in a spool that was emptied, say, and *fd* is closed. Raises HeldError if
    another process was quicker, OSError.
    """
    with suppress(FileNotFoundError):
        if os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(fd)):
            return fd
    taken = take(path)
    os.close(fd)
    return taken


def holder(path: str) -> int | None:
    """Return the process id of whoever holds the lock at *path*, 0 if unknown; None: nobody does.

    Raises OSError, but not for a lock that was never taken.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        asked = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        return None if _FLOCK.unpack(asked)[0] == fcntl.F_UNLCK else _pid(fd)
    finally:
        os.close(fd)


def _pid(fd: int) -> int:
    text = os.pread(fd, 20, 0).strip()
    return int(text) if text.isdigit() else 0
