"""Numbered records through rollovers: which of them are in files."""

from __future__ import annotations

import gzip
import re
from typing import TYPE_CHECKING

from tests.support.frames import make_frame
from tests.support.waiting import within

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.collectors import Collector

# Below what one round sends, so that each round is a rollover at least.
MAX_BYTES = 2000
BACKUPS = 4
SECONDS = 10


class Numbered:
    """Sends records that are numbered, and knows which of them are in files."""

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        self.sent = 0

    def send(self, count: int) -> None:
        """Send so many more; return when the last one is in the file."""
        last = self.sent + count
        self.collector.send(b"".join(make_frame(f"{n:06} {'-' * 50}") for n in range(self.sent, last)))
        self.sent = last
        wanted = f" {last - 1:06} "
        within(SECONDS, lambda: any(wanted in line for line in self.collector.lines("app.log")[-1:]), wanted)

    def backups(self) -> list[Path]:
        """Return the backups in whatever form, what is unfinished too."""
        return [path for path in self.collector.directory.iterdir() if "app.log." in path.name]

    def settle(self, count: int, *, compress: bool) -> None:
        """Return when what rollovers have left to do is done."""

        def done() -> bool:
            found = self.backups()
            return len(found) <= count and not any(
                path.name.startswith(".") or (compress and path.suffix != ".gz") for path in found
            )

        within(SECONDS, done, "what is beyond backup_count is deleted, the rest compressed")

    def in_files(self) -> list[int]:
        """Return the numbers of the records in the file and its backups."""
        found: list[int] = []
        for path in [self.collector.directory / "app.log", *self.backups()]:
            data = path.read_bytes()
            if path.suffix == ".gz":
                data = gzip.decompress(data)
            found += [int(number) for number in re.findall(rb" (\d{6}) ", data)]
        return sorted(found)

    def assert_newest(self) -> None:
        """What is in files is what was sent last, without a gap."""
        found = self.in_files()
        assert list(range(found[0], self.sent)) == found


def restart(collector: Collector, **how: object) -> None:
    assert collector.stop() == 0
    collector.start(**how)


def rollover(by: str, *, compress: bool, backups: int = BACKUPS, more: str = "") -> str:
    """Return a configuration that rolls over by size or each second."""
    when = f'when = "never"\nmax_bytes = {MAX_BYTES}' if by == "size" else 'when = "S"'
    return f"[rollover]\n{when}\nbackup_count = {backups}\ncompress = {str(compress).lower()}\n{more}"
