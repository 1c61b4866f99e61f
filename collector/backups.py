"""The backups of one log file: which names are ours, which one is next, which ones have to go.

A backup is `FILE.D`, then `FILE.D.1`, `FILE.D.2`, ..., with `.gz` behind when compressed. A new number is
above every existing one; no backup is ever renamed, no file overwritten, and nothing is deleted whose whole
name has not this form. Everything here may block: it runs in a thread.
"""

from __future__ import annotations

import errno
import gzip
import os
import re
import shutil
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

_FORM = re.compile(r"\.(\d{4}-\d\d-\d\d(?:T\d\d-\d\d-\d\d)?)(?:\.([1-9]\d{0,8}))?(\.gz)?", re.ASCII)
_ENDS = re.compile(_FORM.pattern + r"\Z", re.ASCII)
_COPY_BYTES = 1024 * 1024
# The usual trade: level 9 takes three times the CPU for one or two per cent of the bytes.
_GZIP_LEVEL = 6


class Backup(NamedTuple):
    """A backup by its place in time: tuples sort from the oldest to the newest."""

    label: str
    number: int
    name: str
    """The file's name in its directory, without any `.gz`: a backup keeps it all its life."""


def of(path: str) -> tuple[list[Backup], list[Backup]]:
    """Return the backups of the log file *path*, oldest first, and those not compressed. Raises OSError."""
    directory, base = os.path.split(path)
    found, plain = set(), []
    for name in os.listdir(directory):
        if name.startswith(base) and (match := _FORM.fullmatch(name, len(base))):
            backup = Backup(match[1], int(match[2] or 0), name.removesuffix(".gz"))
            found.add(backup)
            if not match[3]:
                plain.append(backup)
    return sorted(found), sorted(plain)


def split(path: str) -> tuple[str, Backup | None]:
    """Return the log file that *path* is a backup of, and the backup; *path* and None where it is none."""
    base, name = path, os.path.basename(path)
    if match := _ENDS.search(path):
        base = path[: match.start()]
        return base, Backup(match[1], int(match[2] or 0), name.removesuffix(".gz"))
    return base, None


def reserve(path: str, label: str, existing: list[Backup]) -> Backup:
    """Make the next backup of *path* as an empty file that nobody else can have, and return it.

    To rename the log file onto it replaces that empty file, so no other one can be overwritten, whoever
    else works in the directory. Raises OSError.
    """
    numbers = [backup.number for backup in existing if backup.label == label]
    number = max(numbers) + 1 if numbers else 0
    directory, base = os.path.split(path)
    while True:
        name = f"{base}.{label}.{number}" if number else f"{base}.{label}"
        backup = os.path.join(directory, name)
        try:
            if not os.path.lexists(backup + ".gz"):
                os.close(os.open(backup, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
                return Backup(label, number, name)
        except FileExistsError:
            pass  # somebody put a file there since the directory was listed
        number += 1


class Chores(NamedTuple):
    """What a rollover leaves to do, by full paths: it may take its time, beside the writer."""

    compress: list[str]
    delete: list[str]

    def extend(self, more: Chores) -> None:
        """Add *more* to them."""
        self.compress.extend(more.compress)
        self.delete.extend(more.delete)


def do(work: Chores, mode: int, *, sync: bool = False) -> tuple[Chores, list[OSError], list[int]]:
    """Compress and delete; return what is still to do and why, and the size of each backup deleted.

    *mode* is that of the gzip files.

    *sync*: a gzip file is on disk before what it replaces is gone.
    """
    left = Chores([], [])
    errors = []
    deleted: list[int] = []
    tasks: tuple[tuple[list[str], list[str], Callable[[str], None]], ...] = (
        (work.compress, left.compress, lambda path: _compress(path, mode, sync=sync)),
        (work.delete, left.delete, lambda path: deleted.append(delete(path))),
    )
    for paths, still, task in tasks:
        for path in paths:
            try:
                task(path)
            except OSError as error:
                still.append(path)
                errors.append(error)
    return left, errors, [size for size in deleted if size]


def delete(path: str) -> int:
    """Delete a backup, by its path without `.gz`, in whatever form it is; compressing it is given up.

    Return its size; 0: it was gone already. Raises OSError.
    """
    size = 0
    # In this order: one that is compressed at this moment loses its unfinished file and is given up.
    for name in (path, _unfinished(path), path + ".gz"):
        with suppress(FileNotFoundError):
            found = os.lstat(name).st_size
            os.unlink(name)
            size += found
    return size


def _unfinished(path: str) -> str:
    directory, name = os.path.split(path)
    return os.path.join(directory, f".{name}.gz.unfinished")


def _compress(path: str, mode: int, *, sync: bool) -> None:
    """Replace the backup by a gzip file, which has its name only once it is whole."""
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
                open(os.open(unfinished, flags, 0o600), "wb") as raw,
                gzip.GzipFile(os.path.basename(path), "wb", _GZIP_LEVEL, raw) as target,
            ):
                os.fchmod(raw.fileno(), mode)
                shutil.copyfileobj(source, target, _COPY_BYTES)
            if sync:
                with suppress(FileNotFoundError), open(unfinished, "rb") as written:
                    os.fsync(written.fileno())
        except OSError:
            with suppress(OSError):
                os.unlink(unfinished)
            raise
        with suppress(FileNotFoundError):  # deleted meanwhile: then it is not to come back compressed
            os.utime(unfinished, ns=(status.st_atime_ns, status.st_mtime_ns))
            # Replaces at most what a crash between these two lines left behind: numbers are never used twice.
            os.replace(unfinished, path + ".gz")
            os.unlink(path)
