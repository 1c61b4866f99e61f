"""A log file that is only ever appended to: opened, written, followed by its name, synced, closed.

It is used by one thread at a time, and may block: it knows no greenlet and no socket. A call that fails can
be repeated later: nothing is written twice and nothing left out, so a full disk costs time, not lines. Its
subclasses say when a new file is due: see RotatingFile and Quarantine.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from abc import ABC, abstractmethod
from bisect import bisect_right
from typing import TYPE_CHECKING, Any

from collector.files.directory import LogDirectory, make_directory, refuse_links

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from collector.config.tables import Rollover
    from collector.stats import Stats

# How often a file's name is looked up again, to find that somebody moved or replaced the file. A deletion is
# seen at once: lines written after it would be gone.
_LOOK_SECONDS = 1.0
# O_NOFOLLOW refuses a symbolic link, and O_NONBLOCK keeps a FIFO without a reader from hanging the open.
_OPEN_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
NOT_REGULAR = (errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EINVAL)
"""What opening a symbolic link, a directory, a socket, and a device or a FIFO fails with."""


class Lines:
    """Whole records for one file, as bytes, and how far they have got."""

    __slots__ = ("begun", "data", "done", "ends", "held", "records", "since")

    def __init__(self, data: bytes, records: int, ends: Sequence[int] | None = None) -> None:
        self.data = data
        self.records = records
        self.done = 0
        """Bytes that are in the file."""
        self.begun = 0
        """The first of the bytes that go into the file open now."""
        self.ends = ends
        """Where each record ends; None if nobody will ask."""
        self.since = 0.0
        """When the first of them was received, by the monotonic clock."""
        self.held = 0
        """Bytes of the reserve that they take."""

    def at_boundary(self) -> bool:
        """Whether the next byte begins a record."""
        if not self.done:
            return True
        return self.ends is not None and self.ends[bisect_right(self.ends, self.done) - 1] == self.done

    def fit(self, room: int) -> int:
        """Return the end of the last record within *room* bytes from here, or `done` if none fits."""
        if len(self.data) - self.done <= room:
            return len(self.data)
        if self.ends is None:
            return self.done
        index = bisect_right(self.ends, self.done + room)
        return max(self.ends[index - 1], self.done) if index else self.done

    def next_end(self) -> int:
        """Return the end of the record that the next byte belongs to."""
        return len(self.data) if self.ends is None else self.ends[bisect_right(self.ends, self.done)]


class Outcome:
    """What came of the calls to a file since its last outcome, for the caller to deal with.

    Most often nothing did: so what stands here is of the class, and an object has only what is different.
    """

    error: OSError | None = None
    """Why not everything was written, or what closing a file failed with."""
    trouble: tuple[str, ...] = ()
    """What went wrong or was mended without stopping anything."""
    backups: tuple[str, ...] = ()
    """The names of those that rollovers have made, or that have only now become whole, oldest first."""
    made_by: Rollover | None = None
    """The settings under which the last of them was made."""
    half_made: str = ""
    """The one of them that lines still go into, because there is no new file yet."""
    rollovers: int = 0
    to_sync: tuple[int, ...] = ()
    """Descriptors that are still to be synced and closed: they are the caller's now."""
    frames_gone: int = 0
    """How many older frames were deleted from the quarantine."""


class AppendFile(ABC):
    """A file, known by its path, to which whole records are appended."""

    def __init__(  # noqa: PLR0913 - two of them are for tests
        self,
        path: str,
        mode: int,
        *,
        sync: bool = False,
        directory: LogDirectory | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """*directory* is shared by all files in it; without it, this file is the only one.

        Times that are shown, or compared with those of files, come from *clock*, and delays from *monotonic*.
        """
        self.path = path
        self.directory = directory or LogDirectory(os.path.dirname(path))
        self.mode = mode
        self._sync = sync
        self._clock = clock
        self._monotonic = monotonic
        self._outcome = Outcome()
        self._fd = -1
        self._size = 0
        self._written_at = 0.0
        self._look_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether it holds a descriptor."""
        return self._fd >= 0

    @abstractmethod
    def join(self, records: list[Any], *, ends: bool) -> Lines:
        """Return *records*, as the inbox holds them, in one piece; with their *ends* if these matter."""

    @abstractmethod
    def count_written(self, lines: Lines, stats: Stats) -> None:
        """Count *lines*, now that they are in the file, as records or as frames."""

    @abstractmethod
    def _prepare(self, lines: Lines, now: float) -> int:
        """Between two records, follow the name, and begin a new file if due. Return how far to write."""

    @abstractmethod
    def _mend(self, fd: int, size: int) -> int:
        """Mend what a kill has cut in a file of *size* bytes; return its new size."""

    def write(self, lines: Lines) -> Outcome:
        """Append those bytes of *lines* that are not `done`; after an error, call again later."""
        try:
            self._write(lines)
        except OSError as error:
            self._outcome.error = error
        return self._take_outcome()

    def _write(self, lines: Lines) -> None:
        now = self._clock()
        while lines.done < len(lines.data):
            if self._fd < 0:
                self._fd = self._open(now)
                self._look_at = self._monotonic() + _LOOK_SECONDS
                lines.begun = lines.done
            stop = self._prepare(lines, now) if lines.at_boundary() else lines.next_end()
            try:
                written = os.write(self._fd, memoryview(lines.data)[lines.done : stop])
            except OSError:
                if not os.fstat(self._fd).st_nlink:
                    # Perhaps deleted to make room, which it takes up until it is closed.
                    self._close()
                    lines.done = lines.begun
                raise
            lines.done += written
            self._size += written
            self._written_at = now
            if lines.done == len(lines.data) and not os.fstat(self._fd).st_nlink:
                # Deleted, and these lines with it: nobody can read them, so they will not be there twice.
                self._close()
                lines.done = lines.begun

    def reconfigure(self, mode: int, *, sync: bool) -> None:
        """Go by these settings from now on, and follow the name with the next line, not after a while."""
        self.mode = mode
        self._sync = sync
        self._look_at = 0.0

    def look_again(self) -> None:
        """Follow the name with the next line, not only after a while."""
        self._look_at = 0.0

    def close(self) -> Outcome:
        """Close the file; the next write opens it again. May be called at any time."""
        try:
            self._close()
        except OSError as error:
            self._outcome.error = error
        return self._take_outcome()

    def duplicate(self) -> int | None:
        """Return a duplicate of the descriptor, for the caller to close; None if none is open.

        Raises OSError.
        """
        return os.dup(self._fd) if self._fd >= 0 else None

    def _take_outcome(self) -> Outcome:
        outcome, self._outcome = self._outcome, Outcome()
        return outcome

    def _close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._let_go(fd)

    def _look(self, now: float) -> None:
        """Reopen the file if its name leads elsewhere: logrotate moved it, or its directory was replaced."""
        self._look_at = self._monotonic() + _LOOK_SECONDS
        try:
            status = os.fstat(self._fd)
            if os.path.samestat(os.stat(self.path, follow_symlinks=False), status):
                self._size = min(self._size, status.st_size)  # logrotate's copytruncate empties it in place
                return
        except OSError:
            pass  # what is wrong with the name will show when it is opened
        try:
            fd = self._open(now)
        except OSError as error:
            trouble = f"moved away and cannot be made anew, writing on into the old file: {error}"
            self._outcome.trouble += (trouble,)
        else:
            self._replace(fd)

    def _let_go(self, fd: int) -> None:
        if self._sync:
            self._outcome.to_sync += (fd,)
        else:
            os.close(fd)

    def _open(self, now: float) -> int:
        """Open or make the file, and note its size and its last write. The caller closes the old one."""
        refuse_links(self.directory.path)
        try:
            fd = os.open(self.path, _OPEN_FLAGS)
        except FileNotFoundError:
            fd = self._create()
        except OSError as error:
            if error.errno == errno.ELOOP:
                why = f"a symbolic link, to {os.readlink(self.path)!r}, is not followed"
                raise OSError(errno.ELOOP, why, self.path) from None
            raise
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "not a regular file", self.path)  # noqa: TRY301 - closed below
            if self.directory.tried and status.st_dev != self.directory.device:
                self.directory.moved = True
            size = self._mend(fd, status.st_size)
        except OSError:
            os.close(fd)
            raise
        self._size = size
        self._written_at = status.st_mtime if size else now
        return fd

    def _create(self) -> int:
        flags = _OPEN_FLAGS | os.O_CREAT | os.O_EXCL
        try:
            fd = os.open(self.path, flags, self.mode)
        except FileNotFoundError:
            make_directory(self.directory.path)
            fd = os.open(self.path, flags, self.mode)
        try:
            os.fchmod(fd, self.mode)  # whatever the umask is: the operator has named the mode
        except OSError as error:
            if trouble := self.directory.mode_refused(error):
                self._outcome.trouble += (trouble,)
        try:
            if self._sync:
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
                self._outcome.to_sync += (os.open(self.directory.path, flags),)
        except OSError:
            os.close(fd)
            raise
        return fd

    def _replace(self, fd: int) -> None:
        """Continue in the file *fd*."""
        self._let_go(self._fd)
        self._fd = fd
