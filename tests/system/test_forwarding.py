"""The whole collector hands over, and whatever is killed, each record arrives, and none twice.

Records are told apart by numbers of their own, in the log files and at the destination.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.bulk_process import BulkProcess
from tests.support.fleet import report
from tests.support.forward_engines import NpmServer, npm_modules
from tests.support.handing_over import (
    SPOOL,
    Killer,
    Numbered,
    destination_table,
    forward_table,
    numbers_in,
    numbers_in_files,
    passed,
    sampled,
    settled,
)
from tests.support.syslog_servers import Rsyslog, relp_tls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.collectors import Collector
    from tests.support.opensearch import OpenSearch

    Property = Callable[[str, object], None]
    MakeCollector = Callable[..., Collector]

__all__ = ["npm_modules"]

pytestmark = pytest.mark.slow

# The long form: COLLECTOR_KILLS=100, of 2,000 records each.
KILLS = int(os.environ.get("COLLECTOR_KILLS", "0"))
A_KILL = 2000
WINDOW, BATCH = 128, 200
IN_THE_MIDDLE = ["forwarder", "engine", "worker", "forwarder", "engine", "guardian", "engine", "all"]


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
    others = ["worker", "forwarder", "guardian"]
    victims = others * 3 + ["engine"] + others * 3 + ["worker"]
    survive(collector, opensearch, victims, lambda: opensearch.messages("kills-*"), record_property)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_rsyslog_lacks_no_record_and_has_a_window_a_kill_twice_at_most(
    tmp_path: Path,
    certificates: Path,
    make_collector: MakeCollector,
    record_property: Property,
    tls: bool,
) -> None:
    keys = {"certificate": "client.pem", "private_key": "client.key", "ca": "ca.pem"} if tls else {}
    own = {key: f"{certificates}/{file}" for key, file in keys.items()}
    with Rsyslog(tmp_path, relp_tls(certificates) if tls else None) as server:
        table = destination_table("relp", address=f"127.0.0.1:{server.relp}", window=WINDOW, **own)
        collector = make_collector(SPOOL + table)

        def arrived() -> list[str]:
            return [one["text"] for one in server.records()]

        survive(collector, server, IN_THE_MIDDLE, arrived, record_property, may_double=WINDOW)


def test_a_forward_server_lacks_no_record_and_has_a_batch_a_kill_twice_at_most(
    tmp_path: Path, npm_modules: Path, make_collector: MakeCollector, record_property: Property
) -> None:
    with NpmServer(npm_modules, tmp_path) as server:
        collector = make_collector(
            SPOOL + destination_table("fluent", address=server.address, batch_records=BATCH)
        )

        def arrived() -> list[str]:
            return [one.fields["message"] for one in server.received()]

        survive(collector, server, IN_THE_MIDDLE, arrived, record_property, may_double=BATCH)


def survive(  # noqa: PLR0913 - what a case is made of
    collector: Collector,
    engine: Any,
    victims: list[str],
    arrived: Callable[[], list[str]],
    record_property: Property,
    *,
    may_double: int = 0,
) -> None:
    """Kill *victims*, one after the other, in the middle of bursts, and see what has *arrived* in the end.

    Where a kill of forwarder or engine may double as many records as *may_double*, it falls into handing
    over for sure.
    """
    killer = Killer(collector, (engine.kill, engine.start))
    kills = KILLS or (len(victims) if may_double else 20)
    collector.start()
    bursts: list[int] = []
    """The first number of each."""
    with sampled(collector) as samples, Numbered(collector) as client:
        for number in range(kills):
            if may_double:
                client.send_all(0)  # the rest of the last burst: what comes twice is told by bursts
                passed(collector)
            bursts.append(client.sent)
            aim = client.sent + killer.part_of(A_KILL)
            client.send(A_KILL)
            client.reach(aim)
            killer.kill(victims[number % len(victims)])
            if not may_double:
                killer.pause(2)
        client.send_all(A_KILL)
        last = client.sent - 1
        client.assert_in_file(last)
        in_files = numbers_in_files(collector)
        now = settled(collector, len(in_files))
    assert collector.stop() == 0
    in_files = numbers_in_files(collector)
    arrivals = numbers_in(arrived())
    there = {*arrivals}
    twice = Counter(bisect_right(bursts, one) - 1 for one in (Counter(arrivals) - Counter(there)).elements())
    report(
        record_property,
        kills=kills,
        sent=client.sent,
        in_files=len(in_files),
        arrived=len(there),
        doubled={f"{kill}: {victims[kill % len(victims)]}": count for kill, count in twice.items()},
        duplicate=now.duplicate,
        in_doubt=now.in_doubt,
        samples=len(samples),
    )
    for kill, count in twice.items():
        assert victims[kill % len(victims)] in {"forwarder", "engine", "all"}
        assert count <= may_double
    assert {*in_files} - there == set()
    assert (now.dropped, now.filtered, now.dead) == (0, 0, {})
    assert now.shipped + now.duplicate == now.numbered == len(there)
