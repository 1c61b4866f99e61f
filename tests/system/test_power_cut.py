"""The power is cut under load: no id comes back, and nothing that was synced is missing.

All that runs is killed, and what it had written in the spool is made what the disk would have after that.
The destination is another machine, and goes on.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.support.bulk_process import BulkProcess
from tests.support.fleet import report
from tests.support.handing_over import (
    Killer,
    Numbered,
    doubled,
    forward_table,
    numbers_in,
    numbers_in_files,
    numbers_in_spool,
    passed,
    sampled,
    spool_of,
)
from tests.support.synced import Disk
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.collectors import Collector

    Property = Callable[[str, object], None]
    MakeCollector = Callable[..., Collector]

pytestmark = pytest.mark.slow

# The long form: COLLECTOR_CUTS=50.
CUTS = int(os.environ.get("COLLECTOR_CUTS", "6"))
BURST = 2000
SECONDS = 20
SPOOL = "[spool]\nsegment_bytes = 500_000\n"


@pytest.fixture
def bulk(tmp_path: Path) -> Iterator[BulkProcess]:
    server = BulkProcess(tmp_path)
    server.start()
    yield server
    server.kill()


def test_after_power_cuts_no_id_is_there_twice_and_nothing_synced_is_missing(
    tmp_path: Path, bulk: BulkProcess, make_collector: MakeCollector, record_property: Property
) -> None:
    collector = make_collector(SPOOL + forward_table(bulk.url))
    killer = Killer(collector, (bulk.kill, bulk.start))
    disk = Disk(spool_of(collector), tmp_path)
    collector.start(env=disk.environment)
    survived: dict[str, int] = {}
    lost = 0
    with sampled(collector) as samples, Numbered(collector) as client:
        for number in range(CUTS):
            first = client.sent
            client.send_all(BURST)
            client.assert_in_file(client.sent - 1)
            synced: dict[str, int] = {}
            if number % 2:
                within(SECONDS, lambda: disk.has_synced("*.seg"), "all segments are synced")
                synced = numbers_in_spool(collector)
                in_files = {one for one in numbers_in_files(collector) if one >= first}
                assert in_files <= {*synced.values()}
                passed(collector)  # what comes now is handed over before it is synced
            else:
                killer.pause(2)
            aim = client.sent + killer.part_of(BURST)
            client.send(BURST)
            client.reach(aim)
            killer.pause(0.3)
            written = numbers_in_spool(collector)
            killer.cut_power(disk)
            left = numbers_in_spool(collector)
            assert synced.items() <= left.items()
            lost += len(written.keys() - left.keys())
            for id_, its in left.items():
                assert survived.setdefault(id_, its) == its
            collector.start(env=disk.environment)
        client.send_all(BURST)
        last = client.sent - 1
        client.assert_in_file(last)
        now = passed(collector)
    assert collector.stop() == 0
    there = {id_: found[0] for id_, message in bulk.by_id().items() if (found := numbers_in([message]))}
    report(
        record_property,
        sent=client.sent,
        arrived=len(there),
        survived=len(survived),
        lost=lost,
        lost_and_arrived=len(there.keys() - survived.keys()),
        duplicate=now.duplicate,
        dropped=now.dropped,
        in_doubt=now.in_doubt,
        samples=len(samples),
    )
    assert numbers_in(bulk.collisions()) == []
    assert doubled(there.values()) == []
    assert survived.items() <= there.items()
    assert last in there.values()
    assert there.keys() - survived.keys()
    assert (now.filtered, now.dead) == (0, {})
