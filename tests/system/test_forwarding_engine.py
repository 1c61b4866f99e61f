"""A real OpenSearch that is down, busy, full or wrongly set up: nothing is lost, doubled or given up for it.

Records are told apart by numbers of their own, in the log files and in the engine.
"""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.admin import ADMIN, ask
from tests.support.fleet import hold, report
from tests.support.frames import make_frame
from tests.support.handing_over import SPOOL, Numbered, forward_table, settled, spool_of
from tests.support.opensearch import OpenSearch
from tests.support.steady import assert_all_there_once, forward, held, shipped, steadily, told_now
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.collectors import Collector

    MakeCollector = Callable[..., Collector]
    Property = Callable[[str, object], None]

pytestmark = pytest.mark.slow

SECONDS = 30
# The long form: COLLECTOR_OUTAGE_SECONDS=60.
OUTAGE_SECONDS = float(os.environ.get("COLLECTOR_OUTAGE_SECONDS", "10"))
UNDER_LOAD = 500
"""Records a second."""
INFO_SECONDS = 10
"""How often the engine looks at its disk: it takes no less."""


@pytest.fixture(scope="module")
def opensearch(opensearch_jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSearch]:
    """Return a node where one write waits for a thread at most, so that a second one is turned away."""
    more = {"thread_pool.write.queue_size": 1, "cluster.info.update.interval": f"{INFO_SECONDS}s"}
    node = OpenSearch(opensearch_jars, tmp_path_factory.mktemp("opensearch"), **more)
    try:
        node.start()
        yield node
    finally:
        node.kill()


def configuration(engine: OpenSearch, index: str, more: str = "", **keys: Any) -> str:
    return SPOOL + more + forward_table(engine.url, index=index + "-%Y.%m.%d", **keys)


# --- down, and busy -----------------------------------------------------------------------------------------


def test_an_engine_that_is_down_under_load_gets_all_once_it_is_back(
    opensearch: OpenSearch, make_collector: MakeCollector, record_property: Property
) -> None:
    collector = make_collector(configuration(opensearch, "outage", ADMIN)).start()
    with steadily(collector, UNDER_LOAD) as client:
        within(SECONDS, lambda: shipped(collector) > UNDER_LOAD, "records are stored")
        opensearch.kill()
        before = client.sent
        hold(OUTAGE_SECONDS, lambda: ask(collector, "/readyz")[0] == 200, "it stays ready")
        waited, sent_meanwhile = told_now(collector), client.sent - before
        opensearch.start()
        up = time.monotonic()
        within(SECONDS, lambda: told_now(collector)["lag_seconds"] < 1, "it has caught up")
        caught_up = time.monotonic() - up
    now = assert_all_there_once(collector, lambda: opensearch.messages("outage-*"))
    assert waited["held"] is None  # nobody has to do anything about it
    assert waited["waiting"] > sent_meanwhile / 2  # that was told up to a second or two ago
    report(
        record_property,
        sent=client.sent,
        waited=waited["waiting"],
        duplicate=now.duplicate,
        in_doubt=now.in_doubt,
        seconds_to_catch_up=caught_up,
    )


def test_of_a_request_that_is_turned_away_in_part_only_those_items_are_sent_again(
    opensearch: OpenSearch, make_collector: MakeCollector, record_property: Property
) -> None:
    """Five shards are five writes: one for each of the few threads, one that waits, and the rest."""
    template = {"index_patterns": ["busy-*"], "template": {"settings": {"number_of_shards": 5}}}
    opensearch.ask("PUT", "/_index_template/busy", template)
    collector = make_collector(configuration(opensearch, "busy")).start()
    with Numbered(collector) as client:
        client.send_all(10_000)
        client.assert_in_file(9_999)
    begun = time.monotonic()
    now = assert_all_there_once(collector, lambda: opensearch.messages("busy-*"))
    assert now.retried > 1000
    assert now.duplicate == 0  # what was stored would be there already
    assert now.in_doubt == 0
    report(record_property, retried=now.retried, seconds=time.monotonic() - begun)


# --- records that are refused -------------------------------------------------------------------------------


def test_dead_letters_are_exactly_those_that_do_not_fit_the_mapping(
    opensearch: OpenSearch, make_collector: MakeCollector, record_property: Property
) -> None:
    mapping = {"properties": {"message": {"type": "long"}}}
    template = {"index_patterns": ["poison-*"], "template": {"mappings": mapping}}
    opensearch.ask("PUT", "/_index_template/poison", template)
    collector = make_collector(configuration(opensearch, "poison", ADMIN)).start()
    poison = range(500, 10_000, 1000)
    texts = [f"poison {number}" if number in poison else str(number) for number in range(10_000)]
    begun = time.monotonic()
    collector.send(b"".join(map(make_frame, texts)))
    now = settled(collector, len(texts))
    seconds = time.monotonic() - begun
    assert now.dead == {"mapper_parsing_exception": len(poison)}
    assert now.shipped == len(texts) - len(poison)
    dead = [line.split(" ", 5) for line in forward(collector, "elk", "--dead").splitlines()]
    assert [line[-1] for line in dead] == [f"poison {number}" for number in poison]
    assert {line[2] for line in dead} == {"mapper_parsing_exception"}
    owner = (spool_of(collector) / "id").read_text().strip()
    ids = [re.fullmatch(r"(\w+)-\w+-(\d+)", line[1]) for line in dead]
    assert [(found[1], int(found[2])) for found in ids if found] == [
        (owner, number + 1)
        for number in poison  # the first record is number 1
    ]
    assert "is refused for good: mapper_parsing_exception" in collector.stderr
    metric = 'collector_forward_dead_letter_records_total{forward="elk",reason="mapper_parsing_exception"} 10'
    within(SECONDS, lambda: metric in ask(collector, "/metrics")[2], metric)
    there = opensearch.messages("poison-*")
    assert sorted(there, key=int) == [text for text in texts if text.isdecimal()]
    assert collector.stop() == 0
    report(record_property, seconds=seconds, retried=now.retried)


def test_what_fits_as_text_makes_no_dead_letter(
    opensearch: OpenSearch, make_collector: MakeCollector, record_property: Property
) -> None:
    """The field that does not fit is left out of the short text."""
    mapping = {"properties": {"process": {"properties": {"name": {"type": "ip"}}}}}
    template = {"index_patterns": ["text-*"], "template": {"mappings": mapping}}
    opensearch.ask("PUT", "/_index_template/text", template)
    collector = make_collector(configuration(opensearch, "text")).start()
    with Numbered(collector) as client:
        client.send_all(1000)
        client.assert_in_file(999)
    now = assert_all_there_once(collector, lambda: opensearch.messages("text-*"))
    report(record_property, retried=now.retried)


# --- what is wrong with the engine --------------------------------------------------------------------------


def settings(engine: OpenSearch, **transient: object) -> None:
    """Change the settings of a cluster; None: as it was."""
    named = {f"cluster.{name}": value for name, value in transient.items()}
    assert engine.ask("PUT", "/_cluster/settings", {"transient": named})["acknowledged"]


def watermarks(engine: OpenSearch, free: str | None) -> None:
    """Have an engine with less than *free* on its disk take nothing more."""
    disk = "routing.allocation.disk"
    names = [f"{disk}.watermark.{name}" for name in ("low", "high", "flood_stage")]
    settings(engine, **{f"{disk}.threshold_enabled": True, **dict.fromkeys(names, free)})


FAULTS: dict[str, tuple[str, Callable[[OpenSearch], Any], Callable[[OpenSearch], Any]]] = {
    "a full disk": (
        "cluster_block_exception",
        lambda engine: watermarks(engine, "1000000gb"),
        lambda engine: watermarks(engine, None),
    ),
    "a deleted pipeline": (
        "pipeline",
        lambda engine: engine.ask("DELETE", "/_ingest/pipeline/p"),
        lambda engine: engine.ask("PUT", "/_ingest/pipeline/p", {"processors": []}),
    ),
    "too many shards": (
        "validation_exception",
        lambda engine: settings(engine, max_shards_per_node=1),
        lambda engine: settings(engine, max_shards_per_node=None),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_with_the_engine_holds_and_alarms_until_it_is_mended(
    opensearch: OpenSearch, make_collector: MakeCollector, record_property: Property, fault: str
) -> None:
    """At five records a second each request is for a few of them, and any could be taken for the culprit."""
    reason, breaks, mends = FAULTS[fault]
    mends(opensearch)
    index = fault.replace(" ", "-")
    pipeline = "p" if fault == "a deleted pipeline" else ""
    config = configuration(opensearch, index, ADMIN, pipeline=pipeline, reconnect_seconds=1)
    collector = make_collector(config)
    if fault == "too many shards":  # which keep a new index from being made
        opensearch.ask("PUT", "/other")
        breaks(opensearch)
    begun = time.monotonic()
    try:
        with steadily(collector.start(), 5):
            if fault != "too many shards":
                within(SECONDS, lambda: shipped(collector), "records are stored")
                breaks(opensearch)
            within(SECONDS, lambda: held(collector) == reason, reason)
            took = time.monotonic() - begun
            stored = shipped(collector)
            hold(2, lambda: held(collector) == reason, "it holds")
            within(SECONDS, lambda: told_now(collector)["waiting"] > 10, "records wait")
            now = told_now(collector)
            assert (now["shipped"], now["dead"]) == (stored, {})
            metrics = ask(collector, "/metrics")[2]
            assert f'collector_forward_held{{forward="elk",reason="{reason}"}} 1.0' in metrics
            assert ask(collector, "/healthz")[0] == 200
            mends(opensearch)
            begun = time.monotonic()
            within(SECONDS, lambda: told_now(collector)["held"] is None, "it goes on by itself")
            back = time.monotonic() - begun
    finally:
        mends(opensearch)
    assert_all_there_once(collector, lambda: opensearch.messages(index + "-*"))
    assert re.search(rf"ERROR elk: holds since \S+: \S+ HTTP \d+ .*{reason}", collector.stderr)
    assert "elk: takes records again; it held since" in collector.stderr
    report(record_property, seconds_until_it_holds=took, seconds_until_it_goes_on=back)
