"""The whole collector hands over, and whatever is killed, each record arrives, and none twice.

Records are told apart by numbers of their own, in the log files and at the destination.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.bulk_process import BulkProcess
from tests.support.fleet import report
from tests.support.handing_over import (
    SPOOL,
    Killer,
    Numbered,
    doubled,
    forward_table,
    numbers_in,
    numbers_in_files,
    sampled,
    settled,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.collectors import Collector
    from tests.support.opensearch import OpenSearch

    Property = Callable[[str, object], None]
    MakeCollector = Callable[..., Collector]

pytestmark = pytest.mark.slow

# The long form: COLLECTOR_KILLS=100, of 2,000 records each.
KILLS = int(os.environ.get("COLLECTOR_KILLS", "20"))
A_KILL = 2000


@pytest.fixture
def bulk(tmp_path: Path) -> Iterator[BulkProcess]:
    server = BulkProcess(tmp_path)
    server.start()
    yield server
    server.kill()


# --- killing everything -------------------------------------------------------------------------------------


def test_whatever_is_killed_each_record_in_a_file_arrives_and_none_twice(
    bulk: BulkProcess, make_collector: MakeCollector, record_property: Property
) -> None:
    collector = make_collector(SPOOL + forward_table(bulk.url))
    victims = ["worker", "forwarder", "guardian", "engine", "all"]
    survive(collector, bulk, victims, bulk.messages, record_property)


def test_a_real_opensearch_has_each_record_once_whatever_is_killed(
    opensearch: OpenSearch, make_collector: MakeCollector, record_property: Property
) -> None:
    collector = make_collector(SPOOL + forward_table(opensearch.url, index="kills-%Y.%m.%d"))
    # It takes twelve seconds to come back.
    victims = ["worker", "forwarder", "guardian"] * 3 + ["engine"]
    survive(collector, opensearch, victims, lambda: opensearch.messages("kills-*"), record_property)


def survive(
    collector: Collector,
    engine: Any,
    victims: list[str],
    arrived: Callable[[], list[str]],
    record_property: Property,
) -> None:
    """Kill *victims*, one after the other, in the middle of bursts, and see what has *arrived* in the end."""
    seed = int.from_bytes(os.urandom(4), "big")
    print("seed:", seed)
    killer = Killer(collector, seed, (engine.kill, engine.start))
    collector.start()
    with sampled(collector) as samples, Numbered(collector) as client:
        for number in range(KILLS):
            aim = client.sent + killer.part_of(A_KILL)
            client.send(A_KILL)
            client.reach(aim)
            killer.kill(victims[number % len(victims)])
            killer.pause(2)
        client.send_all(A_KILL)
        last = client.sent - 1
        client.assert_in_file(last)
        in_files = numbers_in_files(collector)
        now = settled(collector, len(in_files))
    assert collector.stop() == 0
    in_files = numbers_in_files(collector)
    there = numbers_in(arrived())
    report(
        record_property,
        sent=client.sent,
        in_files=len(in_files),
        arrived=len(there),
        duplicate=now.duplicate,
        in_doubt=now.in_doubt,
        samples=len(samples),
    )
    assert doubled(there) == []
    assert sorted(set(in_files) - set(there)) == []
    assert (now.dropped, now.filtered, now.dead) == (0, 0, {})
    assert now.shipped + now.duplicate == now.numbered == len(there)
