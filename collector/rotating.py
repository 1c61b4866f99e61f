"""One rotating log file: append, roll over, survive what disks do.

Written by one thread at a time and free to block: it knows no greenlet and no socket. Whatever fails raises
OSError or is noted in `trouble`, and the same call can be made again later: nothing is written twice and
nothing left out, so that a full disk costs time, not lines.
"""

from __future__ import annotations

import os
import stat
import time
from bisect import bisect_right
from contextlib import suppress
from typing import TYPE_CHECKING

from collector import backups
from collector.backups import Chores
from collector.periods import Period, Schedule, day

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from collector.backups import Backup
    from collector.config import Rollover

# How often a file's name is looked up again, to find that somebody moved or replaced the file. That the file
# was deleted is seen at once, for lines written after that would be gone.
_LOOK_SECONDS = 1.0
_RETRY_SECONDS = 5.0
# A clock set back by less than this is corrected, not moved: the file goes on until the clock has caught up.
_CLOCK_MOVED_SECONDS = 86_400.0
# Of backups that only [retention] deletes, so many are kept in mind.
_REMEMBERED = 1000
DIRECTORY_MODE = 0o750
# O_NOFOLLOW and O_NONBLOCK: a symbolic link is refused, and a FIFO without a reader does not hang the open.
_OPEN_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


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
        os.chmod(path, DIRECTORY_MODE)  # whatever the umask is


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

    def __init__(
        self,
        path: str,
        rollover: Rollover,
        mode: int,
        *,
        sync: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self.trouble: list[str] = []
        """What went wrong or was mended and stopped nothing; the caller takes it away."""
        self.chores: Chores | None = None
        """What rollovers left to do; the caller takes it away."""
        self.to_sync: list[int] = []
        """Descriptors that only wait to be synced and closed; the caller takes them over."""
        self.rollovers = 0
        self._sync = sync
        self._clock = clock
        self._rollover = rollover
        self._mode = mode
        self._schedule = Schedule(rollover.when, utc=rollover.utc)
        self._fd = -1
        self._size = 0
        self._period = Period(0, "")
        self._written_at = 0.0
        self._look_at = 0.0
        self._roll_at = 0.0
        # Listed once: from then on nobody else makes any, and a directory of thousands takes milliseconds.
        self._listed = False
        self._backups: list[Backup] = []
        self._plain: list[Backup] = []
        self._trims = True

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
                self._look_at = now + _LOOK_SECONDS
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
        self._listed = False  # an operator at work may also have moved backups

    def set_rollover(self, rollover: Rollover) -> None:
        """Go by *rollover* from now on; the file is of the period in which it was last written."""
        self._rollover = rollover
        self._schedule = Schedule(rollover.when, utc=rollover.utc)
        self._period = self._schedule.at(self._written_at)

    def roll_over(self, *, trim: bool = True) -> None:
        """Make a backup of the file now, if there is anything in it. Between two records. Raises OSError.

        Without *trim* no backup goes for it, however many there are.
        """
        now = self._clock()
        if self._fd < 0:
            with suppress(FileNotFoundError):
                if os.stat(self.path, follow_symlinks=False).st_size:
                    self._fd = self._open(now)
        if self._fd >= 0:
            self._look(now)
            if self._size:
                self._trims = trim
                try:
                    self._roll(now)
                finally:
                    self._trims = True

    def close(self) -> None:
        """Let the file go; the next write opens it again. May be called at any time."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._let_go(fd)

    def duplicate_to_sync(self) -> None:
        """Put a duplicate of what is open into `to_sync`. Raises OSError."""
        if self._fd >= 0:
            self.to_sync.append(os.dup(self._fd))

    def _prepare(self, lines: Lines, now: float) -> int:
        """Between two records: follow the name, roll over if due. Return how far to write then."""
        fd = self._fd
        if now >= self._look_at:
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
            if now >= self._roll_at:
                try:
                    self._roll(now)
                except OSError as error:
                    self._roll_at = now + _RETRY_SECONDS
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
        self._look_at = now + _LOOK_SECONDS
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
            self._let_go(self._fd)
            self._fd = fd

    def _let_go(self, fd: int) -> None:
        if self._sync:
            self.to_sync.append(fd)
        else:
            os.close(fd)

    def _open(self, now: float) -> int:
        """Open or make the file, as what it was when it was last written. The caller closes the old one."""
        directory = os.path.dirname(self.path)
        if os.path.realpath(directory) != directory:
            raise OSError(f"a symbolic link is on the way: {directory!r}")
        try:
            fd = os.open(self.path, _OPEN_FLAGS)
        except FileNotFoundError:
            fd = self._create()
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(f"not a regular file: {self.path!r}")  # noqa: TRY301 - closed like any other failure
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
        directory = os.path.dirname(self.path)
        try:
            fd = os.open(self.path, flags, self._mode)
        except FileNotFoundError:
            make_directory(directory)
            fd = os.open(self.path, flags, self._mode)
        try:
            os.fchmod(fd, self._mode)  # whatever the umask is: the operator has named the mode
            if self._sync:
                self.to_sync.append(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except OSError:
            os.close(fd)
            raise
        return fd

    def _roll(self, now: float) -> None:
        """Rename the file, then begin a new one, each step as it stands if the next one fails.

        Once renamed, the name leads nowhere: a new file is still to be made, which is what `_look` does too.
        """
        if not self._listed:
            self._backups, self._plain = backups.of(self.path)
            self._listed = True
        try:
            moved = not os.path.samestat(os.stat(self.path, follow_symlinks=False), os.fstat(self._fd))
        except FileNotFoundError:
            moved = True
        if not moved:
            label = self._period.label or day(now, utc=self._rollover.utc)
            backup = backups.reserve(self.path, label, self._backups)
            name = os.path.join(os.path.dirname(self.path), backup.name)
            try:
                os.rename(self.path, name)
            except OSError:
                with suppress(OSError):
                    os.unlink(name)
                raise
            self._backups = sorted([*self._backups, backup])
            self._plain.append(backup)
        fd = self._open(now)
        self._let_go(self._fd)
        self._fd = fd
        self.rollovers += 1
        self._list_chores()

    def _list_chores(self) -> None:
        kept = self._rollover.backup_count if self._trims else 0
        surplus = self._backups[:-kept] if kept else []
        plain, self._plain = self._plain if self._rollover.compress else [], []
        directory = os.path.dirname(self.path)
        self.chores = self.chores or Chores([], [])
        self.chores.compress.extend(os.path.join(directory, one.name) for one in plain if one not in surplus)
        self.chores.delete.extend(os.path.join(directory, one.name) for one in surplus)
        # Some may be gone already, by [retention] or by hand: it is the newest that give the next its number.
        self._backups = self._backups[-(kept or _REMEMBERED) :]
