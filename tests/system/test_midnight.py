"""Midnight: every file rolls over at the same moment, in a directory with the backups of weeks.

No line is to wait for that, and the CPU it takes is not to grow with files times directory entries. Hundreds
of files stand for thousands, so that the tests are done within a minute. Not tested: disks on which a rename
or a listing takes long.
"""

from __future__ import annotations

import calendar
import contextlib
import datetime
import gzip
import os
import re
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.support.admin import ADMIN, ask, stats
from tests.support.fleet import report
from tests.support.frames import make_frame
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.clock import Clock
    from tests.support.collectors import Collector

    MakeCollector = Callable[..., Collector]

pytestmark = pytest.mark.slow

DAY = 86_400
EVENING = calendar.timegm((2026, 11, 25, 23, 59, 20))
SECONDS = 30
LATE_SECONDS = 1
# A file costs a rename, a new file and a deletion, and its part of a listing.
CPU_SECONDS_PER_FILE = 0.002
GZIP_SECONDS_PER_FILE = 0.003
_BACKUP = re.compile(r"(.*\.log)\.\d{4}-\d\d-\d\d(\.gz)?")


class Midnight(NamedTuple):
    """What a midnight took."""

    oldest: float
    """Seconds that a record waited for its file, at most, as the collector says."""
    latest: float
    """Seconds after which a record for another file was in that, at most."""
    cpu: float
    """Seconds of CPU, with all that the rollovers have left to do."""
    no_cpu: float
    """Seconds in which its hub could have run and others had the CPU."""
    health: set[int]


class House:
    """A collector with many files that have as many backups each."""

    def __init__(self, collector: Collector, clock: Clock, files: int, backups: int) -> None:
        self.collector, self.clock = collector, clock
        self.files, self.backups = files, backups
        self._probes = 0

    def make_backups(self) -> None:
        self.collector.directory.mkdir()
        data = gzip.compress(b"old\n")
        for age in range(self.backups):
            day = datetime.date(2026, 11, 24) - datetime.timedelta(age)
            at = calendar.timegm(day.timetuple()) + DAY - 60
            for n in range(self.files):
                path = self.collector.directory / f"app_l{n}.log.{day}.gz"
                path.write_bytes(data)
                os.utime(path, (at, at))

    def fill(self) -> None:
        """Send a record for each file."""
        self.collector.send(b"".join(make_frame("x" * 100, f"app.l{n}") for n in range(self.files)))

    def pass_midnight(self, day: int, *, compress: bool) -> Midnight:
        """Let the next day begin, write into each file; return when nothing is left to do."""
        rollovers = stats(self.collector)["files"]["rollovers"]
        cpu, no_cpu = cpu_seconds(self.collector.worker), seconds_without_cpu(self.collector.worker)
        deadline = time.monotonic() + SECONDS
        latest = 0.0
        with watching(self.collector) as seen:
            self.clock.set_to(EVENING + 60 + day * DAY)
            self.fill()
            while True:
                latest = max(latest, self.probe())
                rolled = stats(self.collector)["files"]["rollovers"] - rollovers
                if rolled >= self.files and self.settled(compress=compress):
                    break
                assert time.monotonic() < deadline, "the rollovers and what they leave to do take too long"
        cpu = cpu_seconds(self.collector.worker) - cpu
        no_cpu = seconds_without_cpu(self.collector.worker) - no_cpu
        return Midnight(max(seen.oldest), latest, cpu, no_cpu, seen.health)

    def probe(self) -> float:
        """Return after how many seconds a record for a file that has no backups is written."""
        self._probes += 1
        text = f"probe {self._probes} ends"
        begun = time.monotonic()
        self.collector.send(make_frame(text, "good"))
        within(SECONDS, lambda: any(text in line for line in self.collector.lines("good.log")), text)
        return time.monotonic() - begun

    def settled(self, *, compress: bool) -> bool:
        """Whether backup_count holds for every file, and all is compressed that is to be."""
        found: Counter[str] = Counter()
        for name in os.listdir(self.collector.directory):
            if (match := _BACKUP.fullmatch(name)) and name.startswith("app_"):
                if compress and not match[2]:
                    return False
                found[match[1]] += 1
        return len(found) == self.files and set(found.values()) == {self.backups}


class Seen(NamedTuple):
    """What the admin port has answered."""

    oldest: list[float]
    health: set[int]


@contextlib.contextmanager
def watching(collector: Collector) -> Iterator[Seen]:
    """Ask the admin port all the time."""
    seen, stop = Seen([], set()), threading.Event()

    def ask_again_and_again() -> None:
        while not stop.wait(0.05):
            seen.oldest.append(stats(collector)["reserve"]["oldest_seconds"])
            seen.health.add(ask(collector, "/healthz")[0])

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask_again_and_again)
        try:
            yield seen
        finally:
            stop.set()
    asking.result()


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def seconds_without_cpu(pid: int) -> float:
    """See sched-stats.rst of the kernel, which tells it of the first thread: the hub's."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "compressed"])
@pytest.mark.parametrize(
    ("files", "backups", "max_open"),
    [(500, 7, 64), (300, 30, 512)],
    ids=["500 files x 7 backups, few open", "300 files x 30 backups"],
)
def test_no_line_waits_for_what_midnight_leaves_to_do(  # noqa: PLR0913, PLR0917 - all cases
    clock: Clock,
    make_collector: MakeCollector,
    record_property: Callable[[str, object], None],
    files: int,
    backups: int,
    max_open: int,
    *,
    compress: bool,
) -> None:
    rollover = f"[rollover]\nbackup_count = {backups}\ncompress = {str(compress).lower()}\n"
    collector = make_collector(f"[files]\nmax_open = {max_open}\n{rollover}{ADMIN}")
    house = House(collector, clock, files, backups)
    house.make_backups()
    clock.set_to(EVENING)
    collector.start(env=clock.environment | {"TZ": "UTC"})
    house.fill()
    within(SECONDS, lambda: stats(collector)["records"]["in_reserve"] == 0, "the first records are written")
    for day in range(2):
        took = house.pass_midnight(day, compress=compress)
        report(record_property, **{f"midnight_{day}": str(took)})
        assert {200} == took.health
        late = max(took.oldest, took.latest)
        if LATE_SECONDS <= late < LATE_SECONDS + took.no_cpu:
            pytest.skip(f"a line waited {late:.1f} s, but others had the CPU for {took.no_cpu:.1f} s of that")
        assert late < LATE_SECONDS
        assert took.cpu < files * (CPU_SECONDS_PER_FILE + compress * GZIP_SECONDS_PER_FILE)
    assert collector.stop() == 0
