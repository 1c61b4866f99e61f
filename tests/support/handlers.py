"""Handlers over a directory of the test, and rollovers for them."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import gevent

from collector.config.load import load
from collector.config.tables import Config, Rollover
from collector.files.handler_cache import HandlerCache
from collector.reserve import Reserve
from collector.stats import Stats

if TYPE_CHECKING:
    from pathlib import Path

    from collector.files.handler import Handler

DEFAULTS: Config = load(None)
NEVER = Rollover(when="never", utc=True, max_bytes=0, backup_count=0, compress=False)
BY_SIZE = replace(NEVER, max_bytes=10, backup_count=2)


class Cache:
    """A handler cache over a directory of the test's, and what it counts."""

    def __init__(self, directory: Path, **files: int) -> None:
        self.directory = directory
        self.stats = Stats()
        self.reserve = Reserve(1_000_000)
        self.handlers = HandlerCache(
            replace(DEFAULTS.files, directory=str(directory), **files),  # type: ignore[arg-type]
            DEFAULTS.quarantine,
            self.reserve,
            self.stats,
        )

    def get(self, name: str, rollover: Rollover = DEFAULTS.rollover) -> Handler:
        return self.handlers.handler(self.handlers.inbox(str(self.directory / name), rollover))

    def leave(self, handler: Handler, *lines: str) -> None:
        for line in lines:
            handler.inbox.put(line)
        self.handlers.submit()

    def write(self, *names: str) -> None:
        for name in names:
            self.leave(self.get(name), f"to {name}\n")

    def settle(self) -> None:
        with gevent.Timeout(30):
            while self.reserve.held or not self.handlers.idle:
                gevent.sleep(0.001)

    def open_files(self) -> set[str]:
        paths = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
        return {os.path.basename(path) for path in paths if os.path.dirname(path) == str(self.directory)}
