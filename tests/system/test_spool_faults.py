"""A spool that is slow, full, read-only, broken, gone or hung costs clients and log files nothing.

It lies on a volume of its own here. What it cannot take is counted; with the volume mended it goes on by
itself, and no record arrives twice.
"""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.bulk_process import BulkProcess
from tests.support.fleet import CONFIG, assert_in_time, delays, lines_in, logging_at, report
from tests.support.handing_over import (
    Numbered,
    doubled,
    forward_table,
    numbers_in,
    numbers_in_files,
    progress,
    settled,
)
from tests.support.volumes import needs_root
from tests.support.waiting import within
from tests.system.test_faults import shut_down

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from collector.forward.progress import Progress
    from tests.support.collectors import Collector
    from tests.support.odd_volume import OddVolume
    from tests.support.volumes import Volumes

    MakeCollector = Callable[..., Collector]
    Property = Callable[[str, object], None]

pytestmark = [pytest.mark.slow, needs_root]

SECONDS = 20
# The pause between two tries has doubled to eight seconds after fifteen, to sixteen after thirty.
RECOVERY_SECONDS = 40
SMALL_RESERVE = "[listen]\nmax_frame_bytes = 1000000\nmax_buffered_bytes = 16000000\n"


@pytest.fixture
def bulk(tmp_path: Path) -> Iterator[BulkProcess]:
    server = BulkProcess(tmp_path)
    server.start()
    yield server
    server.kill()


def configuration(bulk: BulkProcess, spool: Path, more: str = "") -> str:
    return f'{CONFIG}{more}[spool]\ndirectory = "{spool}"\n{forward_table(bulk.url)}'


def in_time(collector: Collector, record_property: Property) -> str:
    """Records are in their file as soon as without a spool; return why that cannot be judged, "" if it is."""
    try:
        assert_in_time(record_property, 0.05, lambda: delays(collector, "other", "other.log", 100, 3))
    except pytest.skip.Exception as unjudged:
        return str(unjudged)
    return ""


def skip_if(unjudged: str) -> None:
    """Skip the rest of a test, which has held everything else."""
    if unjudged:
        pytest.skip(unjudged)


@contextmanager
def steady(collector: Collector) -> Iterator[None]:
    """Log all the time; no application ever stands still, and each record is in a file."""
    with logging_at(collector, 200, [["steady"]]) as clients:
        yield
    total = len(clients[0].sent)
    within(SECONDS, lambda: len(collector.lines("steady.log")) == total, f"{total} records are there")
    assert clients[0].slowest < 1


def assert_counted(collector: Collector, bulk: BulkProcess, now: Progress) -> None:
    """What is in files has arrived, once, but for what is counted as dropped."""
    assert collector.stop() == 0, collector.stderr
    total = lines_in(collector.directory)
    told = [text for text in bulk.messages() if "lost before they could be handed over" in text]
    assert now.numbered == total
    assert now.shipped + now.duplicate == len(bulk.messages()) - len(told) == total - now.dropped
    assert sum(int(text.split()[0]) for text in told) == now.dropped
    assert doubled(numbers_in(bulk.messages())) == []


def finish(collector: Collector, spool: Path) -> Progress:
    """Send one more record, and return the progress when that has arrived too: gaps show behind them."""
    total = lines_in(collector.directory) + 1
    with Numbered(collector, first=9_000_000) as client:
        client.send_all(1)
        client.assert_in_file(9_000_000)
    return settled(collector, total, spool=spool, seconds=2 * RECOVERY_SECONDS)


def test_a_full_volume_costs_the_oldest_which_are_counted_and_goes_on_by_itself(
    volumes: Volumes,
    tmp_path: Path,
    bulk: BulkProcess,
    make_collector: MakeCollector,
    record_property: Property,
) -> None:
    volumes.tmpfs(tmp_path / "volume", "20m")
    spool = tmp_path / "volume" / "spool"
    config = configuration(bulk, spool).replace("[spool]\n", "[spool]\nsegment_bytes = 1000000\n")
    collector = make_collector(config).start()
    with Numbered(collector, padding=1000) as client:
        client.send_all(100)
        settled(collector, 100, spool=spool)
        bulk.kill()
        with steady(collector):
            client.send_all(40_000)
            client.assert_in_file(40_099)
            unjudged = in_time(collector, record_property)
        bulk.start()
    now = finish(collector, spool)
    assert_counted(collector, bulk, now)
    assert 10_000 < now.dropped < 40_000
    report(record_property, dropped=now.dropped)
    skip_if(unjudged)


def test_a_volume_that_is_read_only_for_a_while_costs_what_is_counted(
    odd_volume: OddVolume, bulk: BulkProcess, make_collector: MakeCollector, record_property: Property
) -> None:
    spool = odd_volume.mount / "spool"
    collector = make_collector(configuration(bulk, spool, SMALL_RESERVE)).start()
    with Numbered(collector, padding=1000) as client:
        client.send_all(100)
        settled(collector, 100, spool=spool)
        odd_volume.set(refuse=dict.fromkeys(("write", "create", "rename", "unlink", "mkdir"), "EROFS"))
        with steady(collector):
            client.send_all(5000)
            client.assert_in_file(5099)
            unjudged = in_time(collector, record_property)
        odd_volume.set()
        within(RECOVERY_SECONDS, lambda: "can be written again" in collector.stderr, "it recovers")
    now = finish(collector, spool)
    assert_counted(collector, bulk, now)
    assert 1000 < now.dropped
    report(record_property, dropped=now.dropped)
    skip_if(unjudged)


def test_a_disk_that_breaks_costs_nothing_but_what_it_held(
    volumes: Volumes,
    tmp_path: Path,
    bulk: BulkProcess,
    make_collector: MakeCollector,
    record_property: Property,
) -> None:
    volumes.ext4(tmp_path / "volume")
    spool = tmp_path / "volume" / "spool"
    collector = make_collector(configuration(bulk, spool)).start()
    with Numbered(collector) as client:
        client.send_all(100)
        settled(collector, 100, spool=spool)
        shut_down(tmp_path / "volume")
        with steady(collector):
            client.send_all(1000)
            client.assert_in_file(1099)
            unjudged = in_time(collector, record_property)
        volumes.ext4(tmp_path / "volume")  # over it
        within(RECOVERY_SECONDS, lambda: "can be written again" in collector.stderr, "it recovers")
        client.send_all(1000)
        client.assert_in_file(2099)
    within(RECOVERY_SECONDS, lambda: {*range(1100, 2100)} <= {*numbers_in(bulk.messages())}, "they arrive")
    assert collector.stop() == 0
    assert doubled(numbers_in(bulk.messages())) == []
    assert numbers_in_files(collector) == list(range(2100))
    skip_if(unjudged)


def test_a_slow_volume_delays_no_line(
    odd_volume: OddVolume, bulk: BulkProcess, make_collector: MakeCollector, record_property: Property
) -> None:
    spool = odd_volume.mount / "spool"
    collector = make_collector(configuration(bulk, spool)).start()
    odd_volume.set(slow={"write": 0.5, "fsync": 1, "open": 0.2, "readdir": 0.2})
    with steady(collector), Numbered(collector) as client:
        client.send_all(1000)
        unjudged = in_time(collector, record_property)
        client.assert_in_file(999)
    odd_volume.set()
    now = finish(collector, spool)
    assert_counted(collector, bulk, now)
    assert now.dropped == 0
    skip_if(unjudged)


@pytest.mark.parametrize("when", ["start", "SIGHUP", "work"])
def test_a_volume_that_hangs_costs_nothing(  # noqa: PLR0913, PLR0917 - fixtures
    volumes: Volumes,
    tmp_path: Path,
    bulk: BulkProcess,
    make_collector: MakeCollector,
    record_property: Property,
    when: str,
) -> None:
    volumes.ext4(tmp_path / "volume")
    spool = tmp_path / "volume" / "spool"
    config = configuration(bulk, spool)
    collector = make_collector(config)
    if when == "start":
        volumes.freeze(tmp_path / "volume")
    collector.start()
    if when != "start":
        with Numbered(collector) as client:
            client.send_all(100)
        settled(collector, 100, spool=spool)
        volumes.freeze(tmp_path / "volume")
    if when == "SIGHUP":
        collector.configure(config + forward_table(bulk.url, "other", index="other-%Y.%m.%d"))
        assert collector.process
        os.kill(collector.process.pid, signal.SIGHUP)
        within(SECONDS, lambda: "SIGHUP: changed" in collector.stderr, "the reload")
    with steady(collector):
        unjudged = in_time(collector, record_property)
    volumes.thaw()
    now = finish(collector, spool)
    if when == "SIGHUP":
        other = settled(collector, 1, "other", spool=spool)
        assert (other.dropped, other.shipped) == (0, now.numbered - 100)
        assert collector.stop() == 0
        skip_if(unjudged)
        return
    assert_counted(collector, bulk, now)
    assert now.dropped == 0
    skip_if(unjudged)


def test_a_volume_that_hangs_does_not_delay_the_end(
    volumes: Volumes, tmp_path: Path, bulk: BulkProcess, make_collector: MakeCollector
) -> None:
    volumes.ext4(tmp_path / "volume")
    spool = tmp_path / "volume" / "spool"
    collector = make_collector("[listen]\ndrain_seconds = 2\n" + configuration(bulk, spool)).start()
    with Numbered(collector) as client:
        client.send_all(100)
        client.assert_in_file(99)
        volumes.freeze(tmp_path / "volume")
        client.send_all(100)
        client.assert_in_file(199)
    assert collector.process
    collector.process.send_signal(signal.SIGTERM)
    within(8, lambda: not collector.running, "the end")
    assert "disk did not answer before drain_seconds were over" in collector.stderr
    volumes.thaw()
    assert progress(collector, spool=spool)
