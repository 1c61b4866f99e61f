"""The lock of a directory: one collector holds it at a time, as two would tear each other's files apart.

It is a lock on an open file, so the kernel releases it however the process ends. Knows no greenlet and no
thread: a disk that hangs holds up the caller, and one call must be over before the next is made.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from contextlib import suppress

from collector.files.ownership import refusal

NAME = ".collector.lock"
# A command that only looks whether there is a collector holds the lock for a moment: wait this long for it.
_LOOK_SECONDS = 0.1


class Lock:
    """Makes a directory this collector's own until it is released. Raises OSError if it cannot."""

    def __init__(self, directory: str, owner: int) -> None:
        """*owner* is the process id that a second collector is told."""
        self._directory = directory
        self._owner = owner
        self._fd: int | None = self._take()

    def follow(self) -> None:
        """Take the lock again if its name leads elsewhere: the directory was removed and remade, say.

        Raises OSError; if another collector was quicker, with its process id. A released lock stays released.
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
        """Release the directory, even if a thread that hangs keeps the process from ending."""
        fd, self._fd = self._fd, None
        if fd is not None:
            with suppress(OSError):  # a disk that is gone may say so; the file is closed all the same
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
        with suppress(OSError):  # a full disk is no reason not to start: the number is a courtesy
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{self._owner}\n".encode(), 0)
        return fd


def holder(directory: str) -> str:
    """Return the process id of the collector that holds *directory*, "" if none does. Changes nothing.

    Raises OSError if the lock cannot be opened as a collector that starts would open it.
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
        both = refusal(path, error)
        whose = f"see what it is, and whose{': ' if both else ''}{both}"
        raise OSError(f"the lock {path!r} cannot be opened: {error.strerror}; {whose}") from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(f"the lock {path!r} is not a regular file; move it away")
    return fd


def _lock(fd: int, how: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(fd, how | fcntl.LOCK_NB)
        return True
    return False


def _owner(fd: int) -> str:
    return os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
