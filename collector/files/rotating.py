"""One rotating log file: append, roll over, survive what disks do.

Written by one thread at a time and free to block: it knows no greenlet and no socket. Whatever fails raises
OSError or is noted in `trouble`, and the same call can be made again later: nothing is written twice and
nothing left out, so that a full disk costs time, not lines.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from bisect import bisect_right
from contextlib import suppress
from typing import TYPE_CHECKING

from collector.files.directory import LogDirectory, refuse_links
from collector.files.periods import Period, Schedule, day

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from collector.config.load import Rollover

# How often a file's name is looked up again, to find that somebody moved or replaced the file. That the file
# was deleted is seen at once, for lines written after that would be gone.
_LOOK_SECONDS = 1.0
_RETRY_SECONDS = 5.0
# A clock set back by less than this is corrected, not moved: the file goes on until the clock has caught up.
_CLOCK_MOVED_SECONDS = 86_400.0
DIRECTORY_MODE = 0o750
# O_NOFOLLOW and O_NONBLOCK: a symbolic link is refused, and a FIFO without a reader does not hang the open.
_OPEN_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
NOT_REGULAR = (errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EINVAL)
"""What opening a symbolic link, a directory, a socket and a device or a FIFO comes to."""


def make_directory(path: str) -> None:
    """Make a directory and what is missing above it, for the owner to write and the group to read.

    Unlike os.makedirs, which gives the mode to the last one only. Raises OSError, not if it exists.
    """
    try:
        _make_one_directory(path)
    except FileNotFoundError:
        make_directory(os.path.dirname(path))
        _make_one_directory(path)  # where nothing can be made, as in /proc, the reason is the same again


def _make_one_directory(path: str) -> None:
    try:
        os.mkdir(path, DIRECTORY_MODE)
    except FileExistsError:
        if not os.path.isdir(path):
            raise
    else:
        # Whatever the umask is. A volume that refuses it makes its directories as it does its files.
        with suppress(OSError):
            os.chmod(path, DIRECTORY_MODE)


class Lines:
    """Whole records for one file, as bytes, and how far they have got."""

    __slots__ = ("begun", "data", "done", "ends", "held", "records", "since")

    def __init__(self, data: bytes, records: int, ends: Sequence[int] | None = None) -> None:
        self.data = data
        self.records = records
        self.done = 0
        """Bytes that are in the file."""
        self.begun = 0
        """Where the file that is open now began to get them."""
        self.ends = ends
        """Where each record ends; None where nobody will ask."""
        self.since = 0.0
        """When the first of them was received, by the monotonic clock."""
        self.held = 0
        """Bytes of the reserve that they took."""

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


class RotatingFile:
    """A log file and its backups, by one rule of rollover."""

    def __init__(  # noqa: PLR0913 - two of them are for tests
        self,
        path: str,
        rollover: Rollover,
        mode: int,
        *,
        sync: bool = False,
        directory: LogDirectory | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """*directory* is what all files of one share; left out, this is the only one.

        Periods and labels go by *clock*, what comes after so many seconds by *monotonic*.
        """
        self.path = path
        self.directory = directory or LogDirectory(os.path.dirname(path))
        self.trouble: list[str] = []
        """What went wrong or was mended and stopped nothing; the caller takes it away."""
        self.made: list[str] = []
        """The names of the backups that rollovers have made, oldest first; the caller takes them away."""
        self.made_by = rollover
        """What held when the last of them was made."""
        self.half_made = ""
        """The name of a backup that lines still go into, as there is no new file yet; else ""."""
        self.to_sync: list[int] = []
        """Descriptors that only wait to be synced and closed; the caller takes them over."""
        self.rollovers = 0
        self._sync = sync
        self._clock = clock
        self._monotonic = monotonic
        self._rollover = rollover
        self._mode = mode
        self._schedule = Schedule(rollover.when, utc=rollover.utc)
        self._fd = -1
        self._size = 0
        self._period = Period(0, "")
        self._written_at = 0.0
        self._look_at = 0.0
        self._roll_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether it holds a descriptor."""
        return self._fd >= 0

    def write(self, lines: Lines) -> None:
        """Append what is not `done` of *lines*, rolling over where due. Raises OSError; call again later."""
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
                    # Deleted to make room, perhaps: it holds the room until it is let go.
                    self.close()
                    lines.done = lines.begun
                raise
            lines.done += written
            self._size += written
            self._written_at = now
            if lines.done == len(lines.data) and not os.fstat(self._fd).st_nlink:
                # Deleted, and these lines with it: nobody can read them, so they are not doubled.
                self.close()
                lines.done = lines.begun

    def set_up(self, mode: int, *, sync: bool) -> None:
        """Go by these from now on, and follow the name with the next line, not only after a while."""
        self._mode = mode
        self._sync = sync
        self._look_at = 0.0
        self.set_rollover(self._rollover)  # the machine may have another time zone

    def look_again(self) -> None:
        """Follow the name with the next line, not only after a while."""
        self._look_at = 0.0

    def set_rollover(self, rollover: Rollover) -> None:
        """Go by *rollover* from now on; the file is of the period in which it was last written."""
        self._rollover = rollover
        self._schedule = Schedule(rollover.when, utc=rollover.utc)
        self._period = self._schedule.at(self._written_at)

    def roll_over(self) -> None:
        """Make a backup of the file now, if there is anything in it. Between two records. Raises OSError."""
        now = self._clock()
        if self._fd < 0:
            with suppress(FileNotFoundError):
                if os.stat(self.path, follow_symlinks=False).st_size:
                    self._fd = self._open(now)
        if self._fd >= 0:
            self._look(now)
            if self._size:
                self._roll(now)

    def close(self) -> None:
        """Let the file go; the next write opens it again. May be called at any time."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._let_go(fd)
            self._finish_backup()

    def duplicate_to_sync(self) -> None:
        """Put a duplicate of what is open into `to_sync`. Raises OSError."""
        if self._fd >= 0:
            self.to_sync.append(os.dup(self._fd))

    def _prepare(self, lines: Lines, now: float) -> int:
        """Between two records: follow the name, roll over if due. Return how far to write then."""
        fd = self._fd
        if self._monotonic() >= self._look_at:
            self._look(now)
        limit = self._rollover.max_bytes
        stop = lines.fit(limit - self._size) if limit else len(lines.data)
        period = self._schedule.at(now)
        over = period.order > self._period.order or (
            period.order < self._period.order and now < self._written_at - _CLOCK_MOVED_SECONDS
        )
        if self._size and (over or stop == lines.done):
            # Until the step that failed succeeds, the old file takes the lines.
            stop = len(lines.data)
            if self._monotonic() >= self._roll_at:
                try:
                    self._roll(now)
                except OSError as error:
                    self._roll_at = self._monotonic() + _RETRY_SECONDS
                    self.trouble.append(f"cannot roll over, writing on into the old file: {error}")
                else:
                    stop = lines.fit(limit) if limit else stop
        if not self._size:
            self._period = period
        if self._fd != fd:
            lines.begun = lines.done
        return stop if stop > lines.done else lines.next_end()

    def _look(self, now: float) -> None:
        """Open the file anew if its name leads elsewhere: moved by logrotate, or its directory replaced."""
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
            self.trouble.append(f"moved away and cannot be made anew, writing on into the old file: {error}")
        else:
            self._replace(fd)

    def _let_go(self, fd: int) -> None:
        if self._sync:
            self.to_sync.append(fd)
        else:
            os.close(fd)

    def _open(self, now: float) -> int:
        """Open or make the file, as what it was when it was last written. The caller closes the old one."""
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
                raise OSError(errno.EINVAL, "not a regular file", self.path)  # noqa: TRY301 - closed as any failure
            if self.directory.tried and status.st_dev != self.directory.device:
                self.directory.moved = True
            size = self._mend(fd, status.st_size)
        except OSError:
            os.close(fd)
            raise
        self._size = size
        # All of its lines are of the period in which the last one was written: so a restart does not matter.
        self._written_at = status.st_mtime if size else now
        self._period = self._schedule.at(self._written_at)
        return fd

    def _mend(self, fd: int, size: int) -> int:
        """Finish what a kill has cut; return the size of the file then."""
        if size and os.pread(fd, 1, size - 1) != b"\n":
            size += os.write(fd, b"\n")
            self.trouble.append("did not end in a newline (a kill can cut the last line): added one")
        return size

    def _create(self) -> int:
        flags = _OPEN_FLAGS | os.O_CREAT | os.O_EXCL
        try:
            fd = os.open(self.path, flags, self._mode)
        except FileNotFoundError:
            make_directory(self.directory.path)
            fd = os.open(self.path, flags, self._mode)
        try:
            os.fchmod(fd, self._mode)  # whatever the umask is: the operator has named the mode
        except OSError as error:
            if trouble := self.directory.mode_refused(error):
                self.trouble.append(trouble)
        try:
            if self._sync:
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
                self.to_sync.append(os.open(self.directory.path, flags))
        except OSError:
            os.close(fd)
            raise
        return fd

    def _roll(self, now: float) -> None:
        """Rename the file, then begin a new one, each step as it stands if the next one fails.

        Once renamed, the name leads nowhere: a new file is still to be made, which is what `_look` does too.
        """
        try:
            moved = not os.path.samestat(os.stat(self.path, follow_symlinks=False), os.fstat(self._fd))
        except FileNotFoundError:
            moved = True
        if not moved:
            label = self._period.label or day(now, utc=self._rollover.utc)
            backup = self.directory.numbers.make(self.path, label)
            self.half_made = backup
            self.made.append(backup)
            self.made_by = self._rollover
            self.rollovers += 1
        self._replace(self._open(now))

    def _replace(self, fd: int) -> None:
        """Go on in the file *fd*."""
        self._let_go(self._fd)
        self._fd = fd
        self._finish_backup()

    def _finish_backup(self) -> None:
        if self.half_made:
            if self.half_made not in self.made:  # the caller was told, and could not compress it yet
                self.made.append(self.half_made)
            self.half_made = ""
