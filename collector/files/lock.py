"""The lock of a directory: one collector has it at a time, for two would tear each other's files apart.

It is a lock on an open file, so the kernel lets it go however the process ends. Knows no greenlet and no
thread: a disk that hangs holds up whoever calls, and one call is to be over before the next is made.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from contextlib import suppress

NAME = ".collector.lock"
# Who only looks whether there is a collector has the lock for a moment.
_LOOK_SECONDS = 0.1


class Lock:
    """Makes a directory this collector's own until it is released. Raises OSError where it cannot."""

    def __init__(self, directory: str, owner: int) -> None:
        """*owner* is the process id that whoever comes second is told."""
        self._directory = directory
        self._owner = owner
        self._fd: int | None = self._take()

    def follow(self) -> None:
        """Take the lock again where its name leads elsewhere: the directory was removed and remade, say.

        Raises OSError; where another collector was quicker, with its process id. Once released it stays so.
        """
        if self._fd is None:
            return
        path = os.path.join(self._directory, NAME)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(self._fd)):
                return
        if os.path.isdir(self._directory):  # else there is nothing to own; whoever writes next remakes it
            old, self._fd = self._fd, self._take()
            os.close(old)

    def release(self) -> None:
        """Let the directory go, although a thread that hangs may keep the process from going."""
        fd, self._fd = self._fd, None
        if fd is not None:
            with suppress(OSError):  # what a disk that is gone says to it; it is closed all the same
                os.close(fd)

    def _take(self) -> int:
        fd = _open(self._directory, os.O_CREAT)
        try:
            deadline = time.monotonic() + _LOOK_SECONDS
            while not _lock(fd, fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    whose = f"belongs to another collector, process {_owner(fd)}"
                    raise OSError(f"the directory {self._directory!r} {whose}")  # noqa: TRY301 - closes it
                time.sleep(_LOOK_SECONDS / 10)
        except OSError:
            os.close(fd)
            raise
        with suppress(OSError):  # a disk that is full is no reason not to start: the number is a courtesy
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{self._owner}\n".encode(), 0)
        return fd


def holder(directory: str) -> str:
    """Return the process id of the collector that has *directory*, "" if none has it. Changes nothing.

    Raises OSError where the lock cannot be opened, as it would be by one that starts.
    """
    if not os.path.lexists(os.path.join(directory, NAME)):
        return ""
    fd = _open(directory)
    try:
        return "" if _lock(fd, fcntl.LOCK_SH) else _owner(fd)
    finally:
        os.close(fd)


def _open(directory: str, how: int = 0) -> int:
    """Open the lock of a directory. Raises OSError, with the remedy."""
    path = os.path.join(directory, NAME)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | how, 0o640)
    except OSError as error:
        raise OSError(
            f"the lock {path!r} cannot be opened: {error.strerror}; see what it is, and whose"
        ) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(f"the lock {path!r} is no regular file; move it away")
    return fd


def _lock(fd: int, how: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(fd, how | fcntl.LOCK_NB)
        return True
    return False


def _owner(fd: int) -> str:
    return os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
