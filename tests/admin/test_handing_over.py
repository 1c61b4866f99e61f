"""What the admin port shows of the spool and of destinations, whose state is no matter of health."""

from __future__ import annotations

import logging
import os
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.admin import ADMIN, SECONDS, ask, log, stats
from tests.support.bulk_server import BulkServer, Reply
from tests.support.destinations import NOBODY, destination, told
from tests.support.places import HOME
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.collectors import Collector

    MakeCollector = Callable[..., Collector]

# A forwarder takes its first records for sent already, and waits with them.
PATIENCE = 30
CONTRACT = {
    "collector_spooled_records_total",
    "collector_spool_bytes",
    "collector_spool_write_errors_total",
    *(
        f"collector_forward_{name}"
        for name in (
            *("up", "shipped_records_total", "duplicate_records_total", "retried_records_total"),
            *("filtered_records_total", "in_doubt_records_total", "dead_letter_records_total"),
            *("dropped_records_total", "bad_blocks_total", "waiting_records", "lag_seconds", "held"),
            *("last_success_seconds", "certificate_days", "restarts_total"),
        )
    ),
}
REFUSED = {"type": "mapper_parsing_exception", "reason": "no number"}


@pytest.fixture
def server() -> Iterator[BulkServer]:
    with BulkServer() as server:
        yield server


def forward(collector: Collector, name: str = "elk") -> dict[str, Any]:
    (found,) = [one for one in stats(collector)["forwards"] if one["name"] == name]
    return found  # type: ignore[no-any-return]


def samples(collector: Collector) -> dict[str, float]:
    """Return the samples of all metrics of handing over, by name and labels."""
    pytest.importorskip("prometheus_client", reason="without the extra `metrics`")
    text = ask(collector, "/metrics")[2]
    lines = [line.rpartition(" ")[::2] for line in text.splitlines() if not line.startswith("#")]
    return {
        name: float(value)
        for name, value in lines
        if re.match(r"collector_(forward_|spool)", name) and "_created" not in name
    }


def test_what_was_handed_over_is_counted_and_the_equation_holds(
    make_collector: MakeCollector, server: BulkServer
) -> None:
    server.errors["poison"] = (400, REFUSED)
    collector = make_collector(f"{ADMIN}[spool]\n{destination(server.url)}").start()
    records = [("app", logging.INFO, f"number {number}") for number in range(50)]
    log(collector, *records, ("app", logging.INFO, "poison"))
    within(PATIENCE, lambda: forward(collector).get("dead"), "a dead letter")
    within(PATIENCE, lambda: forward(collector)["shipped"] == 50, "shipped")
    state = forward(collector)

    assert (True, 0, 0, 51) == tuple(state[key] for key in ("up", "restarts", "waiting", "numbered"))
    assert [1] == list(state["dead"].values())
    assert state["last_success_seconds"] < PATIENCE
    assert state["age_seconds"] < SECONDS
    spool = stats(collector)["spool"]
    assert (51, 0, 0) == (spool["records"], spool["waiting_bytes"], spool["write_errors"])
    assert spool["bytes"] > 0

    found = samples(collector)
    (reason,) = state["dead"]
    assert 50 == found['collector_forward_shipped_records_total{forward="elk"}']
    assert 1 == found[f'collector_forward_dead_letter_records_total{{forward="elk",reason="{reason}"}}']
    assert 1 == found['collector_forward_up{forward="elk"}']
    assert 51 == found["collector_spooled_records_total"]


def test_each_metric_of_the_contract_is_there_and_in_the_docs(
    make_collector: MakeCollector, server: BulkServer
) -> None:
    pytest.importorskip("prometheus_client", reason="without the extra `metrics`")
    collector = make_collector(f"{ADMIN}[spool]\n{destination(server.url)}").start()
    within(PATIENCE, lambda: "waiting" in forward(collector))
    families = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\w+)$", ask(collector, "/metrics")[2], re.MULTILINE):
        families.add(name)
        assert name.endswith("_total") == (kind == "counter"), name

    assert set() == CONTRACT - families
    ours = {name for name in families if re.match(r"collector_(forward_|spool)", name)}
    assert set() == ours - set(re.findall(r"collector_\w+", (HOME / "docs/operate.rst").read_text()))


def test_dead_letters_that_went_for_newer_ones_are_counted(
    make_collector: MakeCollector, server: BulkServer
) -> None:
    server.errors["poison"] = (400, REFUSED)
    few = "dead_letter_bytes = 4096\n"
    collector = make_collector(f"{ADMIN}[spool]\n{destination(server.url)}{few}").start()
    log(collector, ("app", logging.INFO, "good"), *[("app", logging.INFO, "poison")] * 50)
    within(PATIENCE, lambda: sum(forward(collector).get("dead", {}).values()) == 50, "dead letters")
    state = forward(collector)
    assert 0 < state["dead_letters_gone"] < 50
    found = samples(collector)['collector_forward_dead_letters_gone_total{forward="elk"}']
    assert state["dead_letters_gone"] == found


def test_a_destination_that_is_down_is_no_matter_of_health(make_collector: MakeCollector) -> None:
    collector = make_collector(f"{ADMIN}[spool]\n{destination(NOBODY)}").start()
    log(collector, ("app", logging.INFO, "waits"))
    within(PATIENCE, lambda: forward(collector).get("waiting") == 1)
    within(PATIENCE, lambda: forward(collector)["lag_seconds"] > 2)

    assert [200, 200] == [ask(collector, path)[0] for path in ("/healthz", "/readyz")]
    assert stats(collector)["healthy"]
    assert forward(collector)["up"]
    found = samples(collector)
    assert 1 == found['collector_forward_waiting_records{forward="elk"}']
    assert found['collector_forward_lag_seconds{forward="elk"}'] > 2


def test_why_a_destination_holds_is_told(make_collector: MakeCollector, server: BulkServer) -> None:
    collector = make_collector(f"{ADMIN}[spool]\n{destination(server.url)}").start()
    server.instead["_bulk"] = [Reply(401, b"{}")] * 1000
    log(collector, ("app", logging.INFO, "waits"))
    within(PATIENCE, lambda: forward(collector).get("held"))
    held = forward(collector)["held"]

    assert "401" in held["text"]
    assert 0 <= held["seconds"] < PATIENCE
    assert 1 == samples(collector)[f'collector_forward_held{{forward="elk",reason="{held["reason"]}"}}']
    assert 200 == ask(collector, "/healthz")[0]

    server.instead["_bulk"] = []
    within(2 * PATIENCE, lambda: forward(collector)["shipped"] == 1)
    assert None is forward(collector)["held"]
    assert [] == [name for name in samples(collector) if "_held" in name]


def test_a_spool_that_cannot_be_written_is_no_matter_of_health(make_collector: MakeCollector) -> None:
    collector = make_collector(f"{ADMIN}[spool]\n{destination(NOBODY)}")
    collector.directory.mkdir()
    (collector.directory / ".spool").write_text("no directory")
    collector.start()
    log(collector, ("app", logging.INFO, "collected"))
    within(SECONDS, lambda: collector.lines("app.log"))
    within(SECONDS, lambda: stats(collector)["spool"]["write_errors"] > 1)

    assert [200, 200] == [ask(collector, path)[0] for path in ("/healthz", "/readyz")]
    assert samples(collector)["collector_spool_write_errors_total"] > 1
    assert stats(collector)["spool"]["waiting_bytes"] > 0
    assert (0, {"name": "elk", "up": False, "restarts": 0}) == (
        stats(collector)["spool"]["records"],
        forward(collector),
    )


def test_a_forwarder_that_was_killed_is_a_restart(make_collector: MakeCollector) -> None:
    collector = make_collector(f"{ADMIN}[spool]\n{destination(NOBODY)}").start()
    within(PATIENCE, lambda: forward(collector)["up"] and told(collector.directory / ".spool"))
    first = told(collector.directory / ".spool")["process"]
    os.kill(first, signal.SIGKILL)
    within(PATIENCE, lambda: forward(collector)["restarts"] == 1)

    within(PATIENCE, lambda: forward(collector)["up"])
    within(PATIENCE, lambda: told(collector.directory / ".spool")["process"] != first)
    assert 1 == samples(collector)['collector_forward_restarts_total{forward="elk"}']


def test_without_a_destination_there_is_nothing_of_it(make_collector: MakeCollector) -> None:
    collector = make_collector(f"{ADMIN}[spool]\n").start()
    state = stats(collector)

    assert [] == [key for key in ("spool", "forwards") if key in state]
    assert set() == {"spool", "forwarders"} & state["faults"].keys(), "nothing runs for it"
    assert {} == samples(collector)
    assert not (collector.directory / ".spool").exists()
