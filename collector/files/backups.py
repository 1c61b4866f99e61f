"""The backups of log files: which names are ours, which one is next, which ones have to go.

A backup is `FILE.D`, then `FILE.D.1`, `FILE.D.2`, ..., followed by `.gz` when compressed. A new number is
above every existing one; no backup is ever renamed, no file is overwritten, and nothing is deleted unless its
whole name has this form. Everything here may block: it runs in a thread.
"""

from __future__ import annotations

import ctypes
import errno
import gzip
import os
import shutil
import stat
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from collector.names import BACKUP

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_COPY_BYTES = 1024 * 1024
# The usual trade: level 9 takes three times the CPU for one or two per cent of the bytes.
_GZIP_LEVEL = 6
# A file server's clock may differ from ours by seconds: mtimes up to this far ahead may mean now.
_AHEAD_NS = 5 * 10**9
# After this many new numbers the directory is listed again: most of those backups are gone by then.
_MAX_NEW_NUMBERS = 1000


# renameat2(2) renames, but never onto another file. musl lacks it, and so do some file systems.
_renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1
_NOT_SUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


class Backup(NamedTuple):
    """A backup, by its name. Names give no order: labels go back with the clock, and with the time zone."""

    label: str
    number: int
    name: str
    """The file's name in its directory, without any `.gz`: a backup keeps it all its life."""


def split(path: str) -> tuple[str, Backup | None]:
    """Return the log file that *path* is a backup of, and the backup; *path* and None if it is none."""
    if match := BACKUP.search(path):
        name = os.path.basename(path).removesuffix(".gz")
        return path[: match.start()], Backup(match[1], int(match[2] or 0), name)
    return path, None


def age(written_ns: int, now_ns: int, backup: Backup) -> tuple[int, str, int]:
    """Return a key that sorts backups from the oldest to the newest, by the time of their last line.

    A time ahead of *now_ns* is from a clock that has been set right since: the line was written before now,
    and nobody knows when. So it counts as older than every other.
    """
    return written_ns if written_ns <= now_ns + _AHEAD_NS else -1, backup.label, backup.number


class Numbers:
    """Numbers for new backups in one directory, and the order in which these were made.

    The directory is listed once, for all of its files: nobody else makes backups there from then on.
    """

    def __init__(self, directory: str) -> None:
        self.order: dict[str, int] = {}
        """The names of backups that are not surveyed yet, each with a number: the later, the larger."""
        self._directory = directory
        self._last = 0
        self._highest: dict[str, int] = {}
        self._new = 0
        self._listed = False

    def forget(self) -> None:
        """List the directory again before the next number. May be called from another thread."""
        self._listed = False

    def make(self, path: str, label: str) -> str:
        """Turn the log file *path* into its next backup, under a name that no other file has; return that.

        Raises OSError.
        """
        if not self._listed:
            self._list()
        first = f"{os.path.basename(path)}.{label}"
        number = self._highest.get(first, -1) + 1
        while True:
            name = f"{first}.{number}" if number else first
            backup = os.path.join(self._directory, name)
            self._last += 1
            self.order[name] = self._last  # first: it can be listed as soon as it exists
            try:
                if not os.path.lexists(backup + ".gz"):
                    _rename(path, backup)
                    break
            except FileExistsError:
                pass  # the one without a number, or one put there since the directory was listed
            except OSError:
                del self.order[name]
                raise
            del self.order[name]
            number += 1
        self._highest[first] = number
        self._new += 1
        if self._new > _MAX_NEW_NUMBERS:
            self.forget()
        return name

    def _list(self) -> None:
        highest: dict[str, int] = {}
        for name in os.listdir(self._directory):
            # Names without a number are left out: trying one tells as much, and takes no memory.
            if (match := BACKUP.search(name)) and match[2]:
                first = name[: match.end(1)]
                highest[first] = max(highest.get(first, 0), int(match[2]))
        self._highest, self._new, self._listed = highest, 0, True


def _rename(old: str, new: str) -> None:
    """Rename a file; raise FileExistsError if there is one named *new*, whoever made it, and whenever.

    Raises OSError.
    """
    if _renameat2:
        if not _renameat2(_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), _RENAME_NOREPLACE):
            return
        number = ctypes.get_errno()
        if number not in _NOT_SUPPORTED:
            raise OSError(number, os.strerror(number), old, None, new)
    # An empty file holds the name until it is replaced.
    os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        os.rename(old, new)
    except OSError:
        with suppress(OSError):
            # Over a network only the answer may have been lost: then the file is not empty any more.
            if os.lstat(new).st_size:
                return
            os.unlink(new)
        raise


class Upkeep(NamedTuple):
    """What is wanted of the backups of one log file after a rollover."""

    keep: int
    """How many of them; 0: all."""
    compress: bool
    last: int
    """The place in `Numbers.order` of the newest one to be looked at: later ones do not count yet."""
    half_made: str = ""
    """The name of the one that lines still go into, as in RotatingFile: it is left alone."""


class Tasks(NamedTuple):
    """What that makes to do: full paths, without any `.gz`."""

    delete: list[str]
    compress: list[str]


def survey(
    directory: str, files: Mapping[str, Upkeep], order: Mapping[str, int], fold: Callable[[str], str]
) -> dict[str, Tasks]:
    """List *directory* once; return what is to be done for each of the log *files* in it. Raises OSError.

    The names in *files* are folded by *fold*, as those of backups are before they are compared. *order* is
    that of `Numbers`: backups in it are newer than all others, whatever the clock says; it may grow.
    """
    found: dict[str, dict[str, tuple[int, Backup]]] = {base: {} for base in files}
    plain: set[str] = set()
    with os.scandir(directory) as entries:
        for entry in entries:
            match = BACKUP.search(entry.name)
            if not match or (base := fold(entry.name[: match.start()])) not in files:
                continue
            with suppress(FileNotFoundError):  # [retention] was quicker
                status = entry.stat(follow_symlinks=False)
                if not stat.S_ISREG(status.st_mode):
                    continue  # not ours
                name = entry.name.removesuffix(".gz")
                # Noted once, even if a crash has left both forms.
                found[base][name] = status.st_mtime_ns, Backup(match[1], int(match[2] or 0), name)
                if not match[3]:
                    plain.add(name)
    now_ns = time.time_ns()  # only now: listing a large directory takes time
    tasks = {}
    for base, upkeep in files.items():
        ages = {
            name: (order.get(name, 0), age(written_ns, now_ns, backup))
            for name, (written_ns, backup) in found[base].items()
            if order.get(name, 0) <= upkeep.last
        }
        in_order = sorted(ages, key=ages.__getitem__)
        kept = in_order[-upkeep.keep :]
        surplus = in_order[: len(in_order) - len(kept)]
        rest = [name for name in kept if name in plain] if upkeep.compress else []
        tasks[base] = Tasks(
            *(
                [os.path.join(directory, name) for name in names if name != upkeep.half_made]
                for names in (surplus, rest)
            )
        )
    return tasks


def delete(path: str) -> int:
    """Delete a backup, by its path without `.gz`, in whatever form it is, even while it is being compressed.

    Returns its size; 0: it was gone already. Raises OSError.
    """
    size = 0
    # In this order: a compression under way loses its unfinished file, and gives up.
    for name in (path, _unfinished(path), path + ".gz"):
        with suppress(FileNotFoundError):
            found = os.lstat(name).st_size
            os.unlink(name)
            size += found
    return size


def _unfinished(path: str) -> str:
    directory, name = os.path.split(path)
    return os.path.join(directory, f".{name}.gz.unfinished")


def compress(path: str, mode: int, sync: bool = False) -> None:  # noqa: FBT001, FBT002 - named where it is called
    """Replace the backup by a gzip file with *mode*, which gets its name only once it is whole.

    With *sync* the gzip file is on disk before the original goes. Raises OSError.
    """
    unfinished = _unfinished(path)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # compressed already, or removed
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", path)
    with open(fd, "rb") as source:
        try:
            with suppress(FileNotFoundError):
                os.unlink(unfinished)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with (
                open(os.open(unfinished, flags, mode), "wb") as raw,
                gzip.GzipFile(os.path.basename(path), "wb", _GZIP_LEVEL, raw) as target,
            ):
                with suppress(OSError):  # logged when the log file was made
                    os.fchmod(raw.fileno(), mode)
                shutil.copyfileobj(source, target, _COPY_BYTES)
            if sync:
                with suppress(FileNotFoundError), open(unfinished, "rb") as written:
                    os.fsync(written.fileno())
            with suppress(FileNotFoundError):  # deleted meanwhile: it must not come back compressed
                _set_times(unfinished, status)
                # Replaces at most what a crash before unlink() left: numbers are never used twice.
                os.replace(unfinished, path + ".gz")
                if os.path.samestat(os.lstat(path), status):
                    os.unlink(path)
        except OSError:
            with suppress(OSError):
                os.unlink(unfinished)
            raise


def _set_times(path: str, status: os.stat_result) -> None:
    """Give the file the times in *status*. Raises FileNotFoundError."""
    try:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    except FileNotFoundError:
        raise
    except OSError:
        pass  # a volume that refuses times as it refuses modes: there the last line is from now
