"""Elasticsearch: where a record goes, what became of it, and that one in doubt is stored once."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

import pytest

from collector.forward.destinations.elasticsearch import Elasticsearch
from collector.forward.verdicts import (
    DUPLICATE,
    FOUND,
    STORED,
    STORED_IN_DOUBT,
    BrokenError,
    BusyError,
    HoldError,
    RefusedError,
    RequestError,
    TooLargeError,
    Verdict,
)
from tests.support.bulk_server import BulkServer, Reply
from tests.support.forwarding import NEXT_DAY, outgoing, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STREAM = "logs-collector-default"
SHARDS_MISSING = Reply(
    503, b'{"error":{"type":"search_phase_execution_exception","reason":"Partial"},"status":503}'
)


@pytest.fixture
def server() -> Iterator[BulkServer]:
    with BulkServer() as one:
        yield one


@pytest.fixture
def make(server: BulkServer) -> Iterator[Callable[..., Elasticsearch]]:
    made: list[Elasticsearch] = []

    def make_one(state: dict[str, Any] | None = None, **keys: Any) -> Elasticsearch:
        how = {"missing_shards_seconds": keys.pop("patience")} if "patience" in keys else {}
        made.append(Elasticsearch(settings(server.url, **keys), **how))
        made[-1].state = dict(state or {})
        return made[-1]

    yield make_one
    for one in made:
        one.close()


def error_body(kind: str, reason: str = "why") -> bytes:
    return json.dumps({"error": {"type": kind, "reason": reason}, "status": 400}).encode()


# --- where a record goes ---


def test_the_index_is_that_of_the_day_of_receipt_in_utc(
    server: BulkServer, make: Callable[..., Elasticsearch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    one = make()
    before = outgoing(one, 1, received=NEXT_DAY // 10**9 // 86400 * 86400 * 10**9 - 1)
    behind = outgoing(one, 2, received=before.received + 1, created=0.0)
    assert [STORED, STORED] == one.send([before, behind], again=False)
    assert {name: list(found) for name, found in server.documents.items()} == {
        "collector-2025.11.22": ["c0ffee-7-1"],
        "collector-2025.11.23": ["c0ffee-7-2"],
    }


def test_the_document_is_that_of_the_record(server: BulkServer, make: Callable[..., Elasticsearch]) -> None:
    one = make()
    one.send([outgoing(one, 23, "hello\nworld", request_id="r")], again=False)
    document = server.documents["collector-2025.11.22"]["c0ffee-7-23"]
    assert [document["message"], document["event"]["sequence"], document["labels"]] == [
        "hello\nworld",
        23,
        {"request_id": "r"},
    ]


def test_a_batch_is_one_request_through_the_pipeline(
    server: BulkServer, make: Callable[..., Elasticsearch]
) -> None:
    one = make(pipeline="a b")
    one.send([outgoing(one, number) for number in range(100)], again=False)
    (asked,) = server.asked
    assert asked.query["pipeline"] == ["a b"]
    assert asked.headers["Content-Type"] == "application/x-ndjson"


# --- what became of it ---

ITEMS: list[tuple[int, str, Verdict | str]] = [
    (409, "version_conflict_engine_exception", DUPLICATE),
    (429, "es_rejected_execution_exception", Verdict("again", "es_rejected_execution_exception")),
    (429, "circuit_breaking_exception", Verdict("again", "circuit_breaking_exception")),
    (503, "unavailable_shards_exception", Verdict("again", "unavailable_shards_exception", doubt=True)),
    (503, "cluster_block_exception", Verdict("again", "cluster_block_exception", doubt=True)),
    (500, "no word", Verdict("again", "http_500", doubt=True)),
    (400, "document_parsing_exception", Verdict("dead", "document_parsing_exception")),
    (400, "mapper_parsing_exception", Verdict("dead", "mapper_parsing_exception")),
    (400, "strict_dynamic_mapping_exception", Verdict("dead", "strict_dynamic_mapping_exception")),
    (400, "illegal_argument_exception", Verdict("dead", "illegal_argument_exception")),
    (413, "", Verdict("dead", "http_413")),
    (403, "cluster_block_exception", "cluster_block_exception"),
    (429, "cluster_block_exception", "cluster_block_exception"),
    (404, "index_not_found_exception", "index_not_found_exception"),
    (400, "index_closed_exception", "index_closed_exception"),
    (400, "invalid_index_name_exception", "invalid_index_name_exception"),
    (400, "validation_exception", "validation_exception"),
    (403, "security_exception", "security_exception"),
    (401, "", "http_401"),
    (404, "something_else", "http_404"),
]


@pytest.mark.parametrize(("status", "kind", "expected"), ITEMS, ids=str)
def test_an_item_is_judged_by_its_error_and_the_others_of_its_request_are_not_touched(
    server: BulkServer, make: Callable[..., Elasticsearch], status: int, kind: str, expected: Verdict | str
) -> None:
    one = make()
    server.errors["poison"] = (status, {"type": kind, "reason": "why"})
    batch = [outgoing(one, number, text) for number, text in enumerate(["a", "poison", "b"])]
    if isinstance(expected, Verdict):
        assert [STORED, expected, STORED] == one.send(batch, again=False)
        return
    with pytest.raises(HoldError) as caught:
        one.send(batch, again=False)
    assert caught.value.reason == expected
    assert caught.value.verdicts == {0: STORED, 2: STORED}
    assert caught.value.remedy
    assert f"{server.url}: HTTP {status} {kind}: why" == str(caught.value)


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("pipeline with id [x] does not exist", "pipeline"),
        (
            "no write index is defined for alias [x]. The write index may be explicitly disabled",
            "write_index",
        ),
    ],
)
def test_an_illegal_argument_that_is_the_destinations_holds(
    server: BulkServer, make: Callable[..., Elasticsearch], reason: str, expected: str
) -> None:
    server.errors["hello"] = (400, {"type": "illegal_argument_exception", "reason": reason})
    one = make()
    with pytest.raises(HoldError) as caught:
        one.send([outgoing(one)], again=False)
    assert caught.value.reason == expected


def test_what_went_to_the_failure_store_is_not_stored(
    server: BulkServer, make: Callable[..., Elasticsearch]
) -> None:
    item = {"create": {"_index": ".fs-x", "status": 201, "failure_store": "used"}}
    server.instead["_bulk"].append(
        Reply(200, json.dumps({"errors": False, "items": [item]}, separators=(",", ":")).encode())
    )
    one = make()
    assert [Verdict("dead", "failure_store")] == one.send([outgoing(one)], again=False)


def answer_for(count: int) -> bytes:
    item = '{"create":{"_index":"i","status":201}}'
    return f'{{"errors":false,"items":[{",".join([item] * count)}]}}'.encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b'{"errors":false}',
        b'{"errors":false,"items":[{}]}',
        b'{"errors":true,"items":[{"create":{"error":{}}}]}',
        b"<html>",
        answer_for(1),
        answer_for(3),
    ],
    ids=lambda body: body.decode()[:40],
)
def test_an_answer_that_is_not_one_for_each_document_is_none(
    server: BulkServer, make: Callable[..., Elasticsearch], body: bytes
) -> None:
    """As VictoriaLogs gives to a body with one broken line."""
    server.instead["_bulk"].append(Reply(200, body))
    one = make()
    batch = [outgoing(one, 1), outgoing(one, 2)]
    with pytest.raises(BrokenError):
        one.send(batch, again=False)
    assert [STORED, STORED] == one.send(batch, again=True)


REQUESTS: list[tuple[int, bytes, type[RequestError], str]] = [
    (413, b"", TooLargeError, ""),
    (400, error_body("parse_exception"), RefusedError, "parse_exception"),
    (422, b"<html>", RefusedError, "http_422"),
    (429, error_body("circuit_breaking_exception"), BusyError, ""),
    (502, b"", BusyError, ""),
    (503, error_body("cluster_block_exception"), BusyError, ""),
    (504, b"", BusyError, ""),
    (408, b"", BusyError, ""),
    (500, b"", BrokenError, ""),
    (202, b"", BrokenError, ""),
    (401, b"Unauthorized", HoldError, "http_401"),
    (403, error_body("security_exception"), HoldError, "security_exception"),
    (404, b"not here", HoldError, "http_404"),
    (407, b"", HoldError, "http_407"),
    (302, b"", HoldError, "http_302"),
    (405, b"", HoldError, "http_405"),
    (400, error_body("validation_exception"), HoldError, "validation_exception"),
    (429, error_body("cluster_block_exception"), HoldError, "cluster_block_exception"),
]


@pytest.mark.parametrize("case", REQUESTS, ids=lambda case: f"{case[0]} {case[3]}")
def test_an_answer_to_the_whole_request(
    server: BulkServer,
    make: Callable[..., Elasticsearch],
    case: tuple[int, bytes, type[RequestError], str],
) -> None:
    status, body, kind, reason = case
    server.instead["_bulk"].append(Reply(status, body, (("Retry-After", "3"),)))
    one = make()
    with pytest.raises(kind, match=f"{server.url}: HTTP {status} ") as caught:
        one.send([outgoing(one)], again=False)
    assert type(caught.value) is kind
    assert getattr(caught.value, "reason", "") == reason
    if isinstance(caught.value, BusyError):
        assert [caught.value.retry_after, caught.value.refused] == [3.0, status == 429]
    assert [STORED] == one.send([outgoing(one)], again=True)


# --- in doubt ---


def lose_the_answer(server: BulkServer, *, times: int = 1) -> None:
    """Have the next requests carried out, and hung up on."""
    server.store_all_the_same = True
    server.instead["_bulk"] += [lambda connection: connection.shutdown(socket.SHUT_RDWR)] * times


def test_an_index_by_the_day_makes_a_doubt_a_conflict(
    server: BulkServer, make: Callable[..., Elasticsearch]
) -> None:
    one = make()
    batch = [outgoing(one, 1)]
    lose_the_answer(server)
    with pytest.raises(BrokenError):
        one.send(batch, again=False)
    assert [DUPLICATE, STORED] == one.send([*batch, outgoing(one, 2)], again=True)


def test_what_is_in_doubt_goes_where_it_went_though_the_index_has_another_name_now(
    server: BulkServer, make: Callable[..., Elasticsearch]
) -> None:
    old = make(index="old-%Y")
    batch = [outgoing(old, 1), outgoing(old, 2)]
    old.send(batch[:1], again=False)
    new = make(old.state, index="new-%Y")
    assert [DUPLICATE, STORED] == new.send([outgoing(new, 1), outgoing(new, 2)], again=True)
    assert server.documents["old-2025"].keys() == {"c0ffee-7-1", "c0ffee-7-2"}
    new.send([outgoing(new, 3)], again=False)
    assert server.documents["new-2025"].keys() == {"c0ffee-7-3"}
    assert new.state == {"index": "new-%Y", "answered": "new-2025"}


def test_a_first_request_by_another_index_that_no_checkpoint_knows_of_doubles_nothing(
    server: BulkServer, make: Callable[..., Elasticsearch]
) -> None:
    """A kill between the answer and the checkpoint: this still has the old name."""
    first = make({"index": "old-%Y"}, index="new-%Y")
    first.send([outgoing(first, 1)], again=False)
    second = make({"index": "old-%Y"}, index="new-%Y")
    assert [DUPLICATE, STORED] == second.send([outgoing(second, 1), outgoing(second, 2)], again=True)
    assert {name: list(found) for name, found in server.documents.items() if found} == {
        "new-2025": ["c0ffee-7-1"],
        "old-2025": ["c0ffee-7-2"],
    }


def in_doubt(
    server: BulkServer, make: Callable[..., Elasticsearch], **keys: Any
) -> tuple[Elasticsearch, list[Any]]:
    """Return a destination with one record stored, and two more whose answer was lost."""
    server.roll_over(STREAM)
    one = make(index=STREAM, **keys)
    one.send([outgoing(one, 1)], again=False)
    batch = [outgoing(one, 2), outgoing(one, 3)]
    lose_the_answer(server)
    with pytest.raises(BrokenError):
        one.send(batch, again=False)
    server.store_all_the_same = False
    server.asked.clear()
    return one, batch


def copies(server: BulkServer, number: int) -> int:
    return sum(f"c0ffee-7-{number}" in found for found in server.documents.values())


def test_a_data_stream_that_was_not_rolled_over_is_not_searched(
    server: BulkServer, make: Callable[..., Elasticsearch]
) -> None:
    one, batch = in_doubt(server, make)
    assert [DUPLICATE, DUPLICATE] == one.send(batch, again=True)
    assert not [asked for asked in server.asked if "_search" in asked.path]


def test_a_data_stream_that_was_rolled_over_is_asked_for_the_ids_and_gets_what_is_missing(
    server: BulkServer, make: Callable[..., Elasticsearch]
) -> None:
    one, batch = in_doubt(server, make)
    server.roll_over(STREAM)
    assert [DUPLICATE, DUPLICATE, STORED] == one.send([*batch, outgoing(one, 4)], again=True)
    paths = [asked.path.partition("?")[0] for asked in server.asked]
    since = f"/.ds-{STREAM}-000001,.ds-{STREAM}-000002"
    searched = [f"{since}/_search", f"{since}/_refresh", f"{since}/_search"]
    assert paths == [f"/_data_stream/{STREAM}", *searched, "/_bulk"]
    assert [1, 1, 1] == [copies(server, number) for number in (2, 3, 4)]


def test_what_is_in_doubt_is_sought_where_the_last_record_without_a_doubt_went_whatever_was_sent_since(
    server: BulkServer, make: Callable[..., Elasticsearch]
) -> None:
    """As after a start, when the doubts are many batches: the first of them goes to the newest index."""
    one, batch = in_doubt(server, make)
    server.roll_over(STREAM)
    assert [STORED] == one.send([outgoing(one, 9)], again=True)
    assert [FOUND, FOUND] == one.send(batch, again=True)
    assert one.state["answered"] == f".ds-{STREAM}-000001"
    one.send([outgoing(one, 10)], again=False)
    assert one.state["answered"] == f".ds-{STREAM}-000002"


def test_only_the_indices_since_the_last_answer_are_asked_and_all_if_that_one_is_gone(
    server: BulkServer, make: Callable[..., Elasticsearch]
) -> None:
    for _ in range(3):
        server.roll_over(STREAM)
    for answered, expected in (("000002", f".ds-{STREAM}-000002,.ds-{STREAM}-000003"), ("000000", STREAM)):
        server.asked.clear()
        one = make({"index": STREAM, "answered": f".ds-{STREAM}-{answered}"}, index=STREAM)
        one.send([outgoing(one, 1)], again=True)
        asked = {asked.path.partition("?")[0] for asked in server.asked if "_search" in asked.path}
        assert {f"/{expected}/_search"} == asked


def test_where_all_are_there_no_empty_body_is_sent(
    server: BulkServer, make: Callable[..., Elasticsearch]
) -> None:
    one, batch = in_doubt(server, make)
    server.roll_over(STREAM)
    assert [FOUND, FOUND] == one.send(batch, again=True)
    assert not [asked for asked in server.asked if "_bulk" in asked.path]


PARTIAL = b'{"timed_out":false,"_shards":{"total":15,"successful":4,"failed":0},"hits":{"hits":[]}}'
TIMED_OUT = b'{"timed_out":true,"_shards":{"total":1,"successful":1,"failed":0},"hits":{"hits":[]}}'


@pytest.mark.parametrize(
    ("path", "reply"),
    [
        ("_search", SHARDS_MISSING),
        ("_search", Reply(200, PARTIAL)),
        ("_search", Reply(200, TIMED_OUT)),
        ("_search", Reply(200, b"")),
        ("_refresh", Reply(200, b'{"_shards":{"total":2,"successful":1,"failed":1}}')),
        ("_refresh", SHARDS_MISSING),
    ],
    ids=["503", "partial", "timed out", "empty", "refresh failed", "refresh 503"],
)
def test_while_shards_are_missing_nothing_is_sent(
    server: BulkServer, make: Callable[..., Elasticsearch], path: str, reply: Reply
) -> None:
    one, batch = in_doubt(server, make)
    server.roll_over(STREAM)
    server.instead[path] += [reply, reply]
    for _ in range(2):
        with pytest.raises(BusyError, match="shards are missing"):
            one.send(batch, again=True)
    assert [FOUND, FOUND] == one.send(batch, again=True)


def test_when_shards_have_been_missing_for_long_the_records_are_sent_and_counted(
    server: BulkServer, make: Callable[..., Elasticsearch]
) -> None:
    one, batch = in_doubt(server, make, patience=0)
    server.roll_over(STREAM)
    server.instead["_search"].append(SHARDS_MISSING)
    assert [STORED_IN_DOUBT, STORED_IN_DOUBT] == one.send(batch, again=True)
    assert [2, 2] == [copies(server, 2), copies(server, 3)]


@pytest.mark.parametrize("path", ["_search", "_refresh"])
def test_where_searching_is_forbidden_the_records_are_sent_and_counted(
    server: BulkServer, make: Callable[..., Elasticsearch], path: str
) -> None:
    one, batch = in_doubt(server, make)
    server.roll_over(STREAM)
    server.instead[path].append(Reply(403, error_body("security_exception")))
    assert [STORED_IN_DOUBT, STORED_IN_DOUBT] == one.send(batch, again=True)


def test_where_data_streams_may_not_be_listed_all_of_it_is_searched(
    server: BulkServer, make: Callable[..., Elasticsearch]
) -> None:
    one, batch = in_doubt(server, make)
    server.roll_over(STREAM)
    server.instead[STREAM].append(Reply(403, error_body("security_exception")))
    assert [FOUND, FOUND] == one.send(batch, again=True)


def test_a_data_stream_that_is_none_holds_and_makes_no_plain_index(
    server: BulkServer, make: Callable[..., Elasticsearch]
) -> None:
    one = make(index=STREAM)
    for act in (one.connect, lambda: one.send([outgoing(one)], again=False)):
        with pytest.raises(HoldError, match=f"index = {STREAM}: no data stream") as caught:
            act()
        assert caught.value.reason == "data_stream"
        assert "`collector forward elk --template`" in caught.value.remedy
    assert not server.documents
    server.roll_over(STREAM)
    assert [STORED] == one.send([outgoing(one)], again=False)


def test_a_plain_index_in_place_of_a_data_stream_holds(
    server: BulkServer, make: Callable[..., Elasticsearch]
) -> None:
    """A real engine says so: there is something of that name, but no data stream."""
    server.instead[STREAM].append(Reply(200, b'{"data_streams":[]}'))
    with pytest.raises(HoldError, match=f"index = {STREAM}: no data stream") as caught:
        make(index=STREAM).connect()
    assert "in place of a plain index of that name" in caught.value.remedy


def test_a_data_stream_that_was_deleted_holds_at_the_next_request(
    server: BulkServer, make: Callable[..., Elasticsearch]
) -> None:
    server.roll_over(STREAM)
    one = make(index=STREAM)
    one.send([outgoing(one, 1)], again=False)
    del server.streams[STREAM]
    one.send([outgoing(one, 2)], again=False)  # which nobody could know
    with pytest.raises(HoldError):
        one.send([outgoing(one, 3)], again=False)


def test_what_is_in_doubt_in_a_data_stream_that_was_deleted_goes_to_the_new_index(
    server: BulkServer, make: Callable[..., Elasticsearch]
) -> None:
    one = make({"index": "logs-gone", "answered": ".ds-logs-gone-000001"})
    assert [STORED] == one.send([outgoing(one)], again=True)
    assert server.documents["collector-2025.11.22"]


# --- commands ---


def test_the_template_fits_the_engine(server: BulkServer, make: Callable[..., Elasticsearch]) -> None:
    found = json.loads(make().template())
    assert found["index_patterns"] == ["collector-*"]
    assert "data_stream" not in found
    fields = found["template"]["mappings"]["properties"]
    assert [fields["labels"]["type"], fields["@timestamp"]["type"]] == ["flat_object", "date_nanos"]
    server.instead[""].append(Reply(200, b'{"version":{"number":"9.1.0","build_flavor":"default"}}'))
    found = json.loads(make(index=STREAM).template())
    assert [found["index_patterns"], found["data_stream"]] == [[STREAM], {}]
    assert found["template"]["mappings"]["properties"]["labels"] == {"type": "flattened"}


@pytest.mark.parametrize(
    ("index", "pattern"),
    [("%Y-logs", "*-logs"), ("a-%Y.%m.%d-b", "a-*-b"), ("a%j", "a*"), ("x-%G-w%V", "x-*-w*")],
)
def test_the_pattern_of_the_template_matches_each_days_index(
    make: Callable[..., Elasticsearch], index: str, pattern: str
) -> None:
    assert json.loads(make(index=index).template())["index_patterns"] == [pattern]


def test_no_template_for_what_is_no_engine(server: BulkServer, make: Callable[..., Elasticsearch]) -> None:
    server.instead[""].append(Reply(200, b"<html>"))
    with pytest.raises(HoldError, match="neither Elasticsearch nor OpenSearch"):
        make().template()


def test_check_finds_nothing_wrong_and_sends_nothing(
    server: BulkServer, make: Callable[..., Elasticsearch]
) -> None:
    server.roll_over(STREAM)
    assert [] == make(index=STREAM).check()
    assert not server.documents


def test_check_names_what_is_wrong_at_each_address(server: BulkServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dead = f"http://127.0.0.1:{listener.getsockname()[1]}"
    faults = Elasticsearch(settings(urls=(server.url, dead), pipeline="p")).check()
    assert [f"{server.url}: pipeline = p: there is none; make it", dead] == [
        faults[0],
        faults[1].partition(": ")[0],
    ]


def test_check_tells_of_a_data_stream_that_is_none_and_of_wrong_credentials(
    server: BulkServer, make: Callable[..., Elasticsearch]
) -> None:
    assert "no data stream" in make(index=STREAM).check()[0]
    server.instead[""].append(Reply(401, b"Unauthorized"))
    assert "HTTP 401" in make().check()[0]


@pytest.mark.parametrize(
    ("index", "remedy"),
    [
        ("c-%Y", "delete it, or wait for the next one, which has the template"),
        (STREAM, f"POST {STREAM}/_rollover"),
    ],
    ids=["an index a year", "data stream"],
)
def test_check_tells_of_an_index_that_is_older_than_its_template(
    server: BulkServer, make: Callable[..., Elasticsearch], index: str, remedy: str
) -> None:
    server.roll_over(STREAM)
    mapped = {"properties": {"labels": {"type": "flat_object"}}}
    older = {"properties": {"labels": {"properties": {"user": {"type": "text"}}}}}

    def reply(*mappings: object) -> Reply:
        indices = {f"in-{number}": {"mappings": one} for number, one in enumerate(mappings, 1)}
        return Reply(200, json.dumps(indices).encode())

    server.instead["_mapping"] += [reply(mapped, older), reply(mapped, {}), reply(older, mapped), reply([])]
    why = "in-2 was made before its template, so that some records will be refused"
    for _ in range(2):
        assert [f"{server.url}: index = {index}: {why}; {remedy}"] == make(index=index).check()
    for _ in range(2):
        assert [] == make(index=index).check()
