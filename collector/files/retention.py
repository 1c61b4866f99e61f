"""Retention for the whole directory: past a limit of bytes, age or free space, the oldest backups go.

The age of a backup is that of its last line, the file's mtime, which compressing keeps. Names of different
files cannot be compared: 2026-11-22 may stand for a day or a week, in UTC or not, and with max_bytes alone
for the day of the rollover. The order is that of `backup_count`: see backups.age().

The checks run in a thread of their own, one at a time: a disk that hangs holds up nothing else.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import gevent
from gevent.threadpool import ThreadPool

from collector.config.tables import Retention as Limits
from collector.files import backups, inventory
from collector.files.directory import refuse_links
from collector.greenlets import keep_running
from collector.log import counted
from collector.names import ENTRIES

if TYPE_CHECKING:
    from collector.config.tables import Config
    from collector.files.inventory import Found
    from collector.stats import Stats

log = logging.getLogger(__name__)

_EVERY_SECONDS = 60.0
_LOOK_SECONDS = 1.0
# Listing a hundred thousand files takes a second, and everything else must get its share of the time.
_PAUSE_FACTOR = 20
_DAY_SECONDS = 86_400
_BLOCK_BYTES = 512
_ALL = float("inf")
NO_LIMITS = Limits()

FreeFirst = Callable[[int, int], int]
"""Frees room on a device, a number of bytes at least if it can, before backups go; returns the bytes freed.

It may block, and raises nothing.
"""


def _nothing(device: int, size: int) -> int:  # noqa: ARG001 - as FreeFirst
    return 0


class _Expendable(NamedTuple):
    """A backup in all its forms: compressing leaves two for a moment. Sorts from the oldest to the newest."""

    age: tuple[int, str, int]
    """As backups.age() has it."""
    written_ns: int
    path: str
    """Without any `.gz`."""
    files: list[Found]

    @property
    def size(self) -> int:
        return sum(file.status.st_size for file in self.files)

    @property
    def device(self) -> int:
        return self.files[0].status.st_dev

    @property
    def frees(self) -> int:
        """Bytes that the volume gets back."""
        return sum(file.status.st_blocks * _BLOCK_BYTES for file in self.files if file.status.st_nlink == 1)


class Retention:
    """Checks the directory at the start, at every rollover and each minute, while there is a limit."""

    def __init__(self, stats: Stats, free_first: FreeFirst) -> None:
        self._stats = stats
        self._free_first = free_first
        self._thread = ThreadPool(1)
        self._greenlet: gevent.Greenlet | None = None
        self._config: Config | None = None
        self._out_of_reach: set[str] = set()

    def reconfigure(self, config: Config) -> None:
        """Go by *config* from now on. Never waits."""
        self._config = config
        if config.retention != NO_LIMITS and not self._greenlet:  # a greenlet is false once it has ended
            self._greenlet = keep_running("retention", self._run, self._stats)

    def _run(self) -> None:
        while (config := self._config) and config.retention != NO_LIMITS:
            rollovers, begun = self._stats.rollovers_total, time.monotonic()
            try:
                done = self._thread.apply(enforce, (config, time.time(), self._free_first))
            except OSError as error:
                log.error("[retention] cannot be checked: %s", error)
            else:
                self._stats.deleted_backups_total["retention"] += done.backups
                self._stats.deleted_bytes_total += done.size
                for limit in done.out_of_reach.keys() - self._out_of_reach:
                    log.warning("[retention] %s: %s", limit, done.out_of_reach[limit])
                self._out_of_reach = set(done.out_of_reach)
            gevent.sleep(min(_PAUSE_FACTOR * (time.monotonic() - begun), _EVERY_SECONDS))
            while (
                self._stats.rollovers_total == rollovers
                and self._config is config
                and time.monotonic() < begun + _EVERY_SECONDS
            ):
                gevent.sleep(_LOOK_SECONDS)


class Done(NamedTuple):
    """What a check has deleted, and the limits that it could not reach, each with the reason."""

    backups: int
    size: int
    out_of_reach: dict[str, str]


def enforce(config: Config, now: float, free_first: FreeFirst = _nothing) -> Done:
    """Delete what is past the limits at the time *now*, and log each deletion. It may block.

    Raises OSError if the directory cannot be read.
    """
    return _Check(config, now).run(free_first)


class _Check:
    """One look at the directory, and what follows from it."""

    def __init__(self, config: Config, now: float) -> None:
        self._limits = config.retention
        self._oldest = now - self._limits.max_age_days * _DAY_SECONDS
        self._root = os.path.realpath(config.files.directory)
        volumes = {os.stat(self._root).st_dev: self._root}
        self._total = 0
        self._gone: list[_Expendable] = []
        by_path: dict[str, _Expendable] = {}
        for name in (*ENTRIES, *ENTRIES.values()):
            with suppress(FileNotFoundError):
                self._total += os.lstat(os.path.join(self._root, name)).st_size
        everything = list(inventory.find(config))
        # Only now: listing a large directory takes time, and lines written meanwhile are not from the future.
        now_ns = max(int(now * 1e9), time.time_ns())
        for found in everything:
            self._total += found.status.st_size
            volumes.setdefault(found.status.st_dev, os.path.dirname(found.path))
            if found.backup:
                path = found.path.removesuffix(".gz")
                written_ns = found.status.st_mtime_ns
                age = backups.age(written_ns, now_ns, found.backup)
                backup = _Expendable(age, written_ns, path, [])
                by_path.setdefault(path, backup).files.append(found)
        self._left = sorted(by_path.values())
        # Asked once, before anything is deleted: room comes back late, and not while somebody reads the file.
        self._free = {device: (path, _free_bytes(path)) for device, path in volumes.items()}

    def run(self, free_first: FreeFirst) -> Done:
        limits, out_of_reach = self._limits, {}
        if limits.max_age_days:
            why = f"max_age_days = {limits.max_age_days}"
            self._delete([one for one in self._left if one.written_ns / 1e9 < self._oldest], _ALL, why)
        if limits.max_total_bytes:
            why = f"max_total_bytes = {limits.max_total_bytes}"
            over = self._total - sum(one.size for one in self._gone) - limits.max_total_bytes
            if (over := over - self._delete(self._left, over, why)) > 0:
                out_of_reach[why] = (
                    f"{counted(over, 'byte')} over, and no backup is left to delete; "
                    "files in use are never deleted: raise it, or set max_bytes in [rollover]"
                )
        if limits.min_free_bytes:
            for device, (path, free) in self._free.items():
                why = f"min_free_bytes = {limits.min_free_bytes}"
                short = limits.min_free_bytes - free
                short -= sum(one.frees for one in self._gone if one.device == device)
                short -= free_first(device, short) if short > 0 else 0
                own = [one for one in self._left if one.device == device]
                if (short := short - self._delete(own, short, why, freed=True)) > 0:
                    out_of_reach[f"{why} at {path}"] = (
                        f"{counted(short, 'byte')} short, and no backup is left to delete: "
                        "make room, or lower it"
                    )
        return Done(len(self._gone), sum(one.size for one in self._gone), out_of_reach)

    def _delete(self, candidates: list[_Expendable], much: float, why: str, *, freed: bool = False) -> int:
        """Delete the first of *candidates* until *much* is gone; return how much is.

        What counts is their size or, if *freed*, what the volume gets back.
        """
        gone = 0
        for one in list(candidates):
            if gone >= much:
                break
            try:
                self._delete_one(one)
            except OSError as error:
                log.error("a backup cannot be deleted, by [retention] %s: %s", why, error)
                continue
            self._left.remove(one)
            self._gone.append(one)
            gone += one.frees if freed else one.size
            frees = counted(one.size, "byte")
            log.info("%s: deleted, which frees %s: [retention] %s", one.path, frees, why)
        return gone

    def _delete_one(self, one: _Expendable) -> None:
        """Delete a backup if it is still where and what it was. Raises OSError."""
        refuse_links(os.path.dirname(one.path))
        for file in one.files:
            try:
                if not os.path.samestat(os.lstat(file.path), file.status):
                    raise OSError(f"replaced meanwhile: {file.path!r}")
            except FileNotFoundError:
                pass  # compressed or removed meanwhile
        backups.delete(one.path)


def _free_bytes(path: str) -> int:
    volume = os.statvfs(path)
    return volume.f_bavail * volume.f_frsize
