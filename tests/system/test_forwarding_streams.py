"""The data stream of a real OpenSearch, where an id is unique within one of several indices only.

A search on `_id` would not see what is there twice: records are told apart by numbers of their own.
"""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING

import pytest

from tests.support.fleet import hold, report
from tests.support.handing_over import SPOOL, forward_table, kill
from tests.support.relay import Relay
from tests.support.steady import (
    assert_all_there_once,
    forward,
    held,
    more_is_shipped,
    shipped,
    steadily,
    told_now,
)
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.collectors import Collector
    from tests.support.opensearch import OpenSearch

    MakeCollector = Callable[..., Collector]
    Property = Callable[[str, object], None]

pytestmark = pytest.mark.slow

SECONDS = 30
# The long form: COLLECTOR_ROUNDS=10.
ROUNDS = int(os.environ.get("COLLECTOR_ROUNDS", "1"))
STREAM = "logs-collector-test"


@pytest.fixture
def stream(opensearch: OpenSearch) -> Iterator[str]:
    """Return the name of a data stream that is yet to be made, and is deleted behind the test."""
    yield STREAM
    opensearch.ask("DELETE", f"/_data_stream/{STREAM}")
    opensearch.ask("DELETE", f"/{STREAM}?expand_wildcards=all")
    opensearch.ask("DELETE", f"/_index_template/{STREAM}")


@pytest.fixture
def relay(opensearch: OpenSearch) -> Iterator[Relay]:
    with Relay(opensearch.port) as made:
        yield made


def make_stream(engine: OpenSearch, collector: Collector, shards: int = 1) -> None:
    """Make it as the manual says, by the template that the command prints."""
    template = json.loads(forward(collector, "elk", "--template"))
    template["template"]["settings"] = {"number_of_shards": shards}
    assert engine.ask("PUT", f"/_index_template/{STREAM}", template) == {"acknowledged": True}
    assert engine.ask("PUT", f"/_data_stream/{STREAM}") == {"acknowledged": True}


def roll_over(engine: OpenSearch) -> str:
    """Have the stream write to another index; return the one that it wrote to."""
    answer = engine.ask("POST", f"/{STREAM}/_rollover")
    assert answer["rolled_over"], answer
    return str(answer["old_index"])


@pytest.mark.parametrize("there", ["nothing", "a plain index"])
def test_where_a_data_stream_was_meant_no_plain_index_is_filled(
    opensearch: OpenSearch, make_collector: MakeCollector, stream: str, there: str
) -> None:
    if there == "a plain index":
        opensearch.ask("PUT", f"/{stream}")
    collector = make_collector(SPOOL + forward_table(opensearch.url, index=stream)).start()
    with steadily(collector, 50):
        within(SECONDS, lambda: held(collector) == "data_stream", "it holds")
        hold(1, lambda: held(collector) == "data_stream", "it goes on holding")
        now = told_now(collector)
        assert (now["shipped"], now["dead"]) == (0, {})
        assert now["waiting"] > 10
        found = opensearch.ask("GET", f"/{stream}*/_count")
        assert found["count"] == 0
        assert found["_shards"]["total"] == (1 if there == "a plain index" else 0)
        opensearch.ask("DELETE", f"/{stream}*")
        make_stream(opensearch, collector)
        within(SECONDS, lambda: told_now(collector)["held"] is None, "it goes on by itself")
    assert_all_there_once(collector, lambda: opensearch.messages(stream))
    assert f"index = {stream}: no data stream: create would fill a plain index" in collector.stderr


def is_cut(relay: Relay, before: int) -> None:
    within(SECONDS, lambda: relay.cut > before, "a request without an answer")


@pytest.mark.parametrize(
    ("when", "victim"), [("meanwhile", "nobody"), ("meanwhile", "forwarder"), ("behind it", "nobody")]
)
def test_a_rollover_within_a_doubt_doubles_nothing_while_the_old_request_still_runs(  # noqa: PLR0913, PLR0917 - fixtures
    opensearch: OpenSearch,
    make_collector: MakeCollector,
    relay: Relay,
    stream: str,
    record_property: Property,
    when: str,
    victim: str,
) -> None:
    """The connection breaks at once, and the request of a thousand records goes on, or comes a second later.

    What is in doubt then may be that of a new forwarder.
    """
    collector = make_collector(SPOOL + forward_table(relay.url, index=stream, batch_seconds=2))
    make_stream(opensearch, collector)
    late = threading.Event()
    old: list[str] = []

    if when == "behind it":
        relay.before = lambda: late.wait(1)
    with steadily(collector.start(), 500):
        for _ in range(ROUNDS):
            more_is_shipped(collector)
            cut = relay.cut
            relay.hangs_up = True
            is_cut(relay, cut)
            relay.hangs_up = False
            if when == "meanwhile":
                old.append(roll_over(opensearch))
            if victim == "forwarder":
                kill(collector.forwarders["elk"])
            within(SECONDS, lambda: relay.is_quiet, "it was carried out")
            if when == "behind it":
                old.append(roll_over(opensearch))
    now = assert_all_there_once(collector, lambda: opensearch.messages(stream))
    assert len(set(old)) == ROUNDS
    assert now.duplicate > 0
    report(record_property, duplicate=now.duplicate, in_doubt=now.in_doubt, shipped=now.shipped)


def test_while_shards_are_missing_after_a_kill_what_is_in_doubt_waits(
    opensearch: OpenSearch,
    make_collector: MakeCollector,
    relay: Relay,
    stream: str,
    record_property: Property,
) -> None:
    """A search would be answered in part, and what lies on the missing shards would be sent once more."""
    collector = make_collector(SPOOL + forward_table(relay.url, index=stream))
    make_stream(opensearch, collector, shards=5)
    with steadily(collector.start(), 500):
        within(SECONDS, lambda: shipped(collector) > 500, "records are stored")
        relay.hangs_up = True
        within(SECONDS, lambda: relay.done, "a request was carried out, and not answered")
        shard = opensearch.shard(roll_over(opensearch), 0)
        opensearch.kill()
        relay.hangs_up = False
        aside = shard.rename(shard.with_name("aside"))
        opensearch.start("red")
        within(SECONDS, lambda: relay.searches.count(503) > 1, "what is in doubt is sought")
        stored = shipped(collector)
        hold(3, lambda: shipped(collector) == stored, "nothing is sent")
        partial = opensearch.ask("GET", f"/{stream}/_search?size=0&allow_partial_search_results=true")
        assert 0 < partial["_shards"]["successful"] < partial["_shards"]["total"]
        opensearch.kill()
        aside.rename(shard)
        opensearch.start()
        within(SECONDS, lambda: shipped(collector) > stored, "it goes on by itself")
    now = assert_all_there_once(collector, lambda: opensearch.messages(stream))
    assert now.duplicate > 0
    assert "the forwarder elk, process" not in collector.stderr  # none has ended by itself
    report(record_property, duplicate=now.duplicate, in_doubt=now.in_doubt, shards=partial["_shards"])
