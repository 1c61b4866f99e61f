"""Which files below the directory are the collector's, by name: log files and backups, not the quarantine.

A name is the collector's if the configuration can make it from some logger and client. So what others put
into the directory is not counted, read back or deleted, unless it is named as a logger's file would be.
Symbolic links are not followed. Nothing here is opened. It may block.
"""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING, NamedTuple

from collector.files import backups
from collector.files.backups import Backup
from collector.names import LOGGER_PATTERNS, OVERFLOW_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from collector.config.tables import Config

_CLIENT = r"[\w.:%-]+"
# What logrotate adds to a name: a number, or with dateext a date, perhaps with an hour or seconds since 1970.
# It is told by `extension` what stays behind that.
_ROTATED = re.compile(
    r"(?:\.(?:0|[1-9]\d{0,3})|-\d{8}(?:\d\d)?(?:-\d{1,10})?)(?P<extension>\.\w+)??(?:\.gz)?\Z", re.ASCII
)


class Found(NamedTuple):
    """A file of the collector's."""

    path: str
    base: str
    """Its log file: the path below the directory."""
    backup: Backup | None
    """None: it is the log file itself, still being written."""
    status: os.stat_result


def number(found: Found) -> tuple[int, int]:
    """Return what identifies a file even when it is renamed."""
    return found.status.st_dev, found.status.st_ino


def log_name(config: Config) -> re.Pattern[str]:
    """Return a pattern for the path of a log file below the directory; group `logger` is its `{logger}`."""
    name = re.escape(config.files.name)
    for field, group, pattern in (
        (r"\{logger\}", "logger", LOGGER_PATTERNS[config.files.dots]),
        (r"\{client\}", "client", _CLIENT),
    ):
        name = name.replace(field, f"(?P<{group}>{pattern})", 1).replace(field, f"(?P={group})")
    fixed = [re.escape(rule.file) for rule in config.rules if rule.file]
    return re.compile("|".join([name, re.escape(OVERFLOW_FILE), *fixed]))


def _split(path: str) -> tuple[str, Backup | None]:
    """Do what backups.split() does, with backups that logrotate has made too."""
    base, backup = backups.split(path)
    if not backup and (match := _ROTATED.search(path)):
        return path[: match.start()] + (match["extension"] or ""), Backup("", 0, os.path.basename(path))
    return base, backup


def given(config: Config, path: str) -> Found:
    """Return what the name of the file at *path* tells, which may be anybody's.

    Raises OSError, also if it is no regular file.
    """
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        raise OSError(f"{path}: it is a directory; name the files in it")
    if not stat.S_ISREG(status.st_mode):
        raise OSError(
            f"{path}: not a regular file, and nothing else can be read from its end; save it as one"
        )
    real = os.path.realpath(path)
    name = os.path.relpath(real, os.path.realpath(config.files.directory))
    if name.startswith(".."):
        name = os.path.basename(real)
    base, backup = (name, None) if log_name(config).fullmatch(name) else _split(name)
    return Found(real, base, backup, status)


def find(config: Config, *, rotated: bool = False) -> Iterator[Found]:
    """Yield the log files and backups, in no order. Raises OSError if the directory cannot be listed.

    With *rotated*, also what logrotate has made of them, as backups without a label: these may be read, but
    are neither counted nor deleted.
    """
    is_log = log_name(config).fullmatch
    root = os.path.realpath(config.files.directory)
    waiting = [""]
    while waiting:
        below = waiting.pop()
        try:
            entries = list(os.scandir(os.path.join(root, below)))
        except (FileNotFoundError, PermissionError):  # removed meanwhile; or somebody's own, like lost+found
            if below:
                continue
            raise
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = os.path.join(below, entry.name)
            if entry.is_dir(follow_symlinks=False):
                waiting.append(name)
                continue
            base, backup = _split(name) if rotated and not is_log(name) else backups.split(name)
            if not is_log(base):
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # renamed or removed meanwhile
            if stat.S_ISREG(status.st_mode):
                yield Found(entry.path, base, backup, status)
