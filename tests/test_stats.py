"""The counters: the sum that holds at any time, and what they tell of a collector in trouble."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from collector.stats import OTHER, Stats
from tests.support.admin import ADMIN, SECONDS, ask, difference, log, stats
from tests.support.frames import make_frame
from tests.support.places import FLOOD
from tests.support.volumes import needs_root
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.collectors import Collector
    from tests.support.volumes import Volumes

    MakeCollector = Callable[..., Collector]


@pytest.mark.slow
@needs_root
@pytest.mark.parametrize("when_full", ["wait", "drop"])
def test_received_is_written_in_the_reserve_quarantined_and_dropped_at_any_time(
    volumes: Volumes, make_collector: MakeCollector, when_full: str
) -> None:
    collector = make_collector(
        f"{ADMIN}[listen]\nmax_frame_bytes = 100_000\nmax_buffered_bytes = 2_000_000\n"
        f'when_full = "{when_full}"\n[quarantine]\nmax_bytes = 40_000\n[rollover]\nmax_bytes = 500_000\n'
        '[[logger]]\nname = "load.1"\nlevel = "ERROR"\n[[logger]]\nname = "load.2"\nfile = "full/2.log"\n'
    )
    # A volume that is full fills the reserve, where a file that fails by itself has but a part of it.
    volumes.tmpfs(collector.directory / "full", "8m")
    filler = collector.directory / "full/filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    collector.start()
    bad = b"\0\0\0\x04" + b"nope"
    too_large = (200_000).to_bytes(4, "big") + b"}" + bytes(199_999)
    scan = (200_000).to_bytes(4, "big") + b"\x0e\xe0" + bad
    floods = [
        subprocess.Popen([sys.executable, FLOOD, str(collector.port), str(n), "20000"]) for n in range(3)
    ]

    def send_bad_frames() -> None:
        for _ in range(10):
            collector.send(bad * 1000 + make_frame("x" * 50) + too_large + bad + scan)

    sending = threading.Thread(target=send_bad_frames)
    sending.start()
    samples: list[dict[str, Any]] = []
    while len(samples) < 100 or any(flood.poll() is None for flood in floods):
        now = stats(collector)
        samples.append(now["records"])
        full = now["reserve"]["not_reading_seconds"] or now["records"]["dropped"].get("reserve full")
        if full and len(samples) >= 50:
            filler.unlink(missing_ok=True)
    sending.join()
    within(SECONDS, lambda: not stats(collector)["records"]["in_reserve"])
    samples.append(stats(collector)["records"])

    assert [] == [sample for sample in samples if difference(sample)]
    last = samples[-1]
    assert max(sample["in_reserve"] for sample in samples) > 0
    assert all(last["dropped"][why] for why in ("level", "too large", "quarantine full"))
    assert all(last[kind] for kind in ("written", "quarantined"))
    assert (last["dropped"]["reserve full"] > 0) == (when_full == "drop")
    assert 0 == collector.stop()


def test_a_file_that_cannot_be_written_shows_in_age_errors_and_files(make_collector: MakeCollector) -> None:
    collector = make_collector(ADMIN).start()
    (collector.directory / "blocked.log").mkdir()
    log(collector, ("blocked", logging.INFO, "waits"), ("free", logging.INFO, "goes"))
    within(SECONDS, lambda: stats(collector)["write_errors"].get("EISDIR", 0) > 1)
    within(SECONDS, lambda: stats(collector)["records"]["written"])
    now = stats(collector)

    assert (1, 1) == (now["records"]["in_reserve"], now["records"]["written"])
    assert 0 < now["reserve"]["oldest_seconds"] < SECONDS
    assert (1, False) == (now["files"]["open"], now["healthy"])

    (collector.directory / "blocked.log").rmdir()
    within(SECONDS, lambda: stats(collector)["records"]["written"] == 2)
    assert (0, True) == (stats(collector)["reserve"]["oldest_seconds"], stats(collector)["healthy"])


def test_the_time_in_which_nobody_reads_is_counted_while_it_lasts(make_collector: MakeCollector) -> None:
    collector = make_collector(
        f"{ADMIN}[listen]\nmax_frame_bytes = 1000\nmax_buffered_bytes = 4000\n"
    ).start()
    blocked = collector.directory / "app.log"
    blocked.mkdir()
    with collector.connect() as client:
        client.sendall(make_frame("x" * 100) * 100)
        within(SECONDS, lambda: stats(collector)["reserve"]["not_reading_seconds"] > 0.2)
        assert not stats(collector)["healthy"]
        blocked.rmdir()
        within(SECONDS, lambda: stats(collector)["records"]["written"] == 100)
    within(SECONDS, lambda: stats(collector)["healthy"])
    shown = stats(collector)["reserve"]["not_reading_seconds"]

    assert shown == stats(collector)["reserve"]["not_reading_seconds"]


@pytest.mark.quick
def test_records_are_counted_by_logger_and_level_however_they_were_read(
    make_collector: MakeCollector,
) -> None:
    collector = make_collector(f'{ADMIN}[files]\nlevel = "INFO"\n').start()
    log(collector, *[("a", logging.DEBUG, "below"), ("a", logging.ERROR, "x"), ("b", logging.ERROR, "x")] * 3)
    collector.send(b"\0\0\0\x1c" + b"}(X\x04\x00\x00\x00nameX\x01\x00\x00\x00aX\x03\x00\x00\x00msgNu.")
    within(SECONDS, lambda: stats(collector)["records"]["written"] == 7)
    now = stats(collector)

    assert {"DEBUG": 3, "ERROR": 6, "None": 1} == now["levels"]
    assert '[{"name": "a", "records": 7}, {"name": "b", "records": 3}]' in ask(collector, "/api/loggers")[2]
    # The first one of a logger is read whole: it might be its last.
    assert {"hits": 7, "misses": 3} == now["fragments"]


def test_backups_deleted_by_backup_count_are_counted_with_their_bytes(make_collector: MakeCollector) -> None:
    collector = make_collector(f"{ADMIN}[rollover]\nmax_bytes = 100\nbackup_count = 2\n").start()
    log(collector, *[("a", logging.INFO, "x" * 200)] * 6)
    within(SECONDS, lambda: stats(collector)["records"]["written"] == 6)
    within(SECONDS, lambda: stats(collector)["files"]["deleted_backups"] == 3)
    size = len(collector.files()["a.log"])

    assert (5, 3 * size) == (
        stats(collector)["files"]["rollovers"],
        stats(collector)["files"]["deleted_bytes"],
    )


@pytest.mark.slow
def test_a_million_names_of_loggers_take_bounded_memory() -> None:
    counters = Stats()
    for number in range(30_000):
        for name, count in ((f"{number}." * 1000, 1), ("busy", 10)):
            counters.count_logger(name, count, remembered=False)
    (first, *_, last) = counters.loggers(100)

    assert ("busy", 300_000) == first
    assert (OTHER, 30_000 - 99) == last
    assert all(len(name) <= 200 for name, _ in counters.loggers(20_000))
    assert len(counters.loggers(20_000)) <= 10_001


def test_a_logger_that_is_named_like_the_rest_is_counted_with_it() -> None:
    stats = Stats()
    for name, records in (("app", 3), (OTHER, 2), ("quiet", 1)):
        stats.count_logger(name, records, remembered=True)
    assert [("app", 3), (OTHER, 2), ("quiet", 1)] == sorted(stats.loggers(3), key=lambda row: -row[1])
    assert [("app", 3), (OTHER, 3)] == stats.loggers(2)
