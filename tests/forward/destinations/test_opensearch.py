"""A real OpenSearch: what it takes, what it refuses, and that it has each record once."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from collector.forward.destinations.elasticsearch import Elasticsearch
from collector.forward.documents import document_renderer
from collector.forward.verdicts import (
    DUPLICATE,
    FOUND,
    STORED,
    BrokenError,
    HoldError,
    Outgoing,
    TooLargeError,
    Verdict,
)
from tests.support.bulk_server import BulkServer
from tests.support.corpus import PAYLOADS, VALUES
from tests.support.forwarding import RECEIVED, outgoing, record_of, settings, spooled
from tests.support.frames import make_payload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.opensearch import OpenSearch

pytestmark = pytest.mark.slow


@pytest.fixture
def name(request: pytest.FixtureRequest, opensearch: OpenSearch) -> Iterator[str]:
    """Return a name for the indices of a test, which are deleted behind it."""
    own = f"t{abs(hash(request.node.name))}"
    yield own
    opensearch.ask("DELETE", f"/_data_stream/{own}*")
    opensearch.ask("DELETE", f"/{own}*?expand_wildcards=all")
    opensearch.ask("DELETE", f"/_index_template/{own}")


@pytest.fixture
def make(opensearch: OpenSearch, name: str) -> Iterator[Callable[..., Elasticsearch]]:
    made: list[Elasticsearch] = []

    def make_one(index: str = "%Y.%m.%d", **keys: Any) -> Elasticsearch:
        made.append(Elasticsearch(settings(opensearch.url, index=name + index, **keys)))
        return made[-1]

    yield make_one
    for one in made:
        one.close()


def put_template(engine: OpenSearch, name: str, one: Elasticsearch) -> None:
    assert engine.ask("PUT", f"/_index_template/{name}", json.loads(one.template())) == {"acknowledged": True}


def test_whatever_real_clients_send_arrives_as_documented_and_once(
    opensearch: OpenSearch, make: Callable[..., Elasticsearch], name: str
) -> None:
    one = make()
    put_template(opensearch, name, one)
    batch, expected = [], {}
    for number, payload in enumerate([*PAYLOADS.values(), *VALUES.values()]):
        record = record_of(payload)
        record_id = f"c0ffee-7-{number}"
        data = one.render(spooled(number), record, record_id)
        text = document_renderer(1_000_000)(record, spooled(number).peer, RECEIVED, number, "")
        expected[record_id] = json.loads(text)
        batch.append(Outgoing(record_id, 7, number, RECEIVED, data))
    assert [STORED] * len(batch) == one.send(batch, again=False)
    assert [DUPLICATE] * len(batch) == one.send(batch, again=True)
    hits = [
        hit for start in range(0, len(batch), 50) for hit in by_number(opensearch, name, start, start + 50)
    ]
    assert {hit["_id"]: hit["_source"] for hit in hits} == expected


def by_number(engine: OpenSearch, index: str, start: int, end: int) -> list[dict[str, Any]]:
    """Return a part of what is there: some documents have a megabyte."""
    engine.ask("POST", f"/{index}*/_refresh")
    query = {"size": end - start, "query": {"range": {"event.sequence": {"gte": start, "lt": end}}}}
    hits: list[dict[str, Any]] = engine.ask("POST", f"/{index}*/_search", query)["hits"]["hits"]
    return hits


def odd_one(one: Elasticsearch, number: int, fields: dict[Any, Any]) -> Outgoing:
    record_id = f"c0ffee-7-{number}"
    payload = make_payload(**fields)
    return Outgoing(
        record_id, 7, number, RECEIVED, one.render(spooled(number), record_of(payload), record_id)
    )


def test_what_is_hard_on_a_mapping_is_stored_by_the_template(
    opensearch: OpenSearch, make: Callable[..., Elasticsearch], name: str
) -> None:
    one = make()
    put_template(opensearch, name, one)
    odd: list[dict[Any, Any]] = [
        {"created": 0.0},
        {"created": 9_223_372_035.999_999},
        {"created": 2e11},
        {"": "", ".": "", "a..b": "", "a": "", "a.b": ""},
        {"long": "x" * 40_000, "k" * 40_000: "v"},
        {"process": 2**70, "thread": -(2**63), "lineno": "seven"},
        {"http": {"a": 1}, "event": 1, "url": "u", "log": [1]},
        {"name": "n" * 40_000, "funcName": "f" * 40_000},
        {f"extra{n}": n for n in range(3000)},
        {"msg": "\x00\x1f\x7f\u2028\ud800"},
    ]
    batch = [odd_one(one, number, extra) for number, extra in enumerate(odd)]
    assert [STORED] * len(odd) == one.send(batch, again=False)
    found = opensearch.ask("GET", f"/{name}*/_mapping")
    (mapping,) = (index["mappings"]["properties"] for index in found.values())
    assert mapping.keys() == json.loads(one.template())["template"]["mappings"]["properties"].keys()


def test_labels_traces_and_microseconds_can_be_searched(
    opensearch: OpenSearch, make: Callable[..., Elasticsearch], name: str
) -> None:
    one = make()
    put_template(opensearch, name, one)
    extra: dict[str, Any] = {"order.id": 7, "otelTraceID": "0af7", "created": 1_700_000_000.123_457}
    one.send([outgoing(one, 1, **extra), outgoing(one, 2)], again=False)
    opensearch.ask("POST", f"/{name}*/_refresh")
    queries: list[dict[str, Any]] = [
        {"term": {"labels.order_id": "7"}},
        {"term": {"trace.id": "0af7"}},
        {
            "range": {
                "@timestamp": {"gte": "2023-11-14T22:13:20.123457Z", "lt": "2023-11-14T22:13:20.123458Z"}
            }
        },
    ]
    for query in queries:
        hits = opensearch.ask("POST", f"/{name}*/_search", {"query": query})["hits"]["hits"]
        assert [hit["_id"] for hit in hits] == ["c0ffee-7-1"], query


def test_a_poison_record_is_refused_alone_and_taken_as_short_text(
    opensearch: OpenSearch, make: Callable[..., Elasticsearch], name: str
) -> None:
    one = make("-%Y")
    mapping = {"properties": {"labels": {"properties": {"n": {"type": "long"}}}}}
    opensearch.ask("PUT", f"/{name}-2025", {"mappings": mapping})
    batch = [outgoing(one, number, n="x" if number == 500 else number) for number in range(1000)]
    verdicts = one.send(batch, again=False)
    assert verdicts.pop(500) == Verdict("dead", "mapper_parsing_exception")
    assert [STORED] * 999 == verdicts
    data = one.render(spooled(500), record_of(make_payload(n="x")), batch[500].id, short=True)
    assert [STORED] == one.send([batch[500]._replace(data=data)], again=True)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("write", "cluster_block_exception"),
        ("read_only_allow_delete", "cluster_block_exception"),
        ("closed", "index_closed_exception"),
        ("no index", "index_not_found_exception"),
        ("shards", "validation_exception"),
        ("pipeline", "pipeline"),
    ],
)
def test_what_is_wrong_with_the_destination_holds_until_it_is_mended(
    opensearch: OpenSearch, make: Callable[..., Elasticsearch], name: str, fault: str, reason: str
) -> None:
    one = make("-%Y", pipeline=f"{name}-p" if fault == "pipeline" else "")
    index = f"/{name}-2025"
    if fault in ("write", "read_only_allow_delete", "closed"):
        opensearch.ask("PUT", index)
    held: dict[str, tuple[str, str, object]] = {
        "write": ("PUT", f"{index}/_settings", {"index.blocks.write": True}),
        "read_only_allow_delete": (
            "PUT",
            f"{index}/_settings",
            {"index.blocks.read_only_allow_delete": True},
        ),
        "closed": ("POST", f"{index}/_close", None),
        "no index": ("PUT", "/_cluster/settings", {"transient": {"action.auto_create_index": False}}),
        "shards": ("PUT", "/_cluster/settings", {"transient": {"cluster.max_shards_per_node": 1}}),
    }
    mended: dict[str, tuple[str, str, object]] = {
        "write": ("PUT", f"{index}/_settings", {"index.blocks.write": None}),
        "read_only_allow_delete": (
            "PUT",
            f"{index}/_settings",
            {"index.blocks.read_only_allow_delete": None},
        ),
        "closed": ("POST", f"{index}/_open", None),
        "no index": ("PUT", "/_cluster/settings", {"transient": {"action.auto_create_index": None}}),
        "shards": ("PUT", "/_cluster/settings", {"transient": {"cluster.max_shards_per_node": None}}),
        "pipeline": ("PUT", f"/_ingest/pipeline/{name}-p", {"processors": []}),
    }
    if fault == "shards":  # one is there already
        opensearch.ask("PUT", f"/{name}-full")
    if fault in held:
        opensearch.ask(*held[fault])
    try:
        with pytest.raises(HoldError) as caught:
            one.send([outgoing(one)], again=False)
    finally:
        opensearch.ask(*mended[fault])
    assert caught.value.reason == reason
    assert [STORED] == one.send([outgoing(one)], again=True)


def test_a_request_above_its_limit_is_too_large(make: Callable[..., Elasticsearch]) -> None:
    one = make()
    record = outgoing(one)
    with pytest.raises(TooLargeError):
        one.send([record._replace(data=record.data + b" " * 105_000_000 + b"\n")], again=False)
    assert [STORED] == one.send([record], again=True)


def test_a_rollover_within_a_doubt_doubles_nothing(
    opensearch: OpenSearch, make: Callable[..., Elasticsearch], name: str
) -> None:
    one = make("-stream")
    with pytest.raises(HoldError) as caught:
        one.connect()
    assert caught.value.reason == "data_stream"
    put_template(opensearch, name, one)
    opensearch.ask("PUT", f"/_data_stream/{name}-stream")
    one.connect()
    batch = [outgoing(one, number) for number in range(100)]
    assert [STORED] * 40 == one.send(batch[:40], again=False)
    for _ in range(2):
        opensearch.ask("POST", f"/{name}-stream/_rollover")
    assert [DUPLICATE] * 40 + [STORED] * 60 == one.send(batch, again=True)
    assert [FOUND] * 100 == one.send(batch, again=True)
    numbers = [hit["_source"]["event"]["sequence"] for hit in opensearch.documents(f"{name}-stream")]
    assert list(range(100)) == numbers


def test_after_kill_9_each_record_is_there_once(
    opensearch: OpenSearch, make: Callable[..., Elasticsearch], name: str
) -> None:
    one = make("-stream", timeout_seconds=60)
    put_template(opensearch, name, one)
    opensearch.ask("PUT", f"/_data_stream/{name}-stream")
    batch = [outgoing(one, number) for number in range(2000)]
    one.send(batch[:1000], again=False)
    opensearch.kill()
    with pytest.raises((BrokenError, OSError)):
        one.send(batch, again=True)
    opensearch.start()
    opensearch.ask("POST", f"/{name}-stream/_rollover")
    verdicts = one.send(batch, again=True)
    assert [DUPLICATE] * 1000 + [STORED] * 1000 == verdicts
    numbers = [hit["_source"]["event"]["sequence"] for hit in opensearch.documents(f"{name}-stream")]
    assert list(range(2000)) == numbers


def test_check_asks_for_the_template_and_the_pipeline(
    opensearch: OpenSearch, make: Callable[..., Elasticsearch], name: str
) -> None:
    one = make(pipeline=f"{name}-p")
    template, pipeline = one.check()
    assert "no index template takes all labels as one field" in template
    assert f"pipeline = {name}-p: there is none" in pipeline
    put_template(opensearch, name, one)
    opensearch.ask("PUT", f"/_ingest/pipeline/{name}-p", {"processors": []})
    assert [] == one.check()


@pytest.mark.parametrize("index", ["%Y.%m.%d", "-stream"], ids=["dated", "data stream"])
def test_check_tells_of_an_index_that_is_older_than_its_template_until_there_is_another(
    opensearch: OpenSearch, make: Callable[..., Elasticsearch], name: str, index: str
) -> None:
    one = make(index)
    if index == "-stream":
        plain = {"index_patterns": [f"{name}*"], "priority": 500, "data_stream": {}}
        opensearch.ask("PUT", f"/_index_template/{name}", plain)
        opensearch.ask("PUT", f"/_data_stream/{name}-stream")
    assert [STORED] == one.send([outgoing(one, 1, received=time.time_ns())], again=False)
    put_template(opensearch, name, one)
    (told,) = one.check()
    assert "was made before its template" in told
    if index == "-stream":
        opensearch.ask("POST", f"/{name}-stream/_rollover")
    else:
        opensearch.ask("DELETE", f"/{name}*")
    assert [] == one.check()


def test_the_server_of_the_other_tests_answers_as_it_does(
    opensearch: OpenSearch, make: Callable[..., Elasticsearch], name: str
) -> None:
    real = make("-stream")
    put_template(opensearch, name, real)
    opensearch.ask("PUT", f"/_data_stream/{name}-stream")
    with BulkServer() as server:
        server.roll_over(f"{name}-stream")
        fake = Elasticsearch(settings(server.url, index=f"{name}-stream"))
        seen = []
        for one in (real, fake):
            said = [one.send([outgoing(one, 1), outgoing(one, 2)], again=False)]
            opensearch.ask("POST", f"/{name}-stream/_rollover")
            server.roll_over(f"{name}-stream")
            said += [one.send([outgoing(one, number) for number in (2, 3)], again=True)]
            said += [one.send([outgoing(one, 3)], again=False)]
            one.close()
            seen.append(said)
        assert seen[0] == seen[1] == [[STORED, STORED], [DUPLICATE, STORED], [DUPLICATE]]
