"""Documents: the fields of ECS by the names of Python's own formatter, and any record as valid JSON."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.forward.documents import MAX_LABEL_BYTES, SHORT_BYTES, cut, document_renderer, short_document
from collector.wire.records import checked
from tests.support.corpus import PAYLOADS
from tests.support.forwarding import RECEIVED, record_of
from tests.support.frames import make_payload

FIELDS: dict[Any, object] = {
    "name": "app.web",
    "msg": "hello",
    "args": None,
    "levelname": "INFO",
    "levelno": 20,
    "pathname": "/srv/app.py",
    "filename": "app.py",
    "module": "app",
    "lineno": 42,
    "funcName": "handle",
    "created": 1_700_000_000.25,
    "msecs": 250.0,
    "relativeCreated": 1.0,
    "thread": 140_000,
    "threadName": "MainThread",
    "processName": "MainProcess",
    "process": 7,
}
RAISED = """Traceback (most recent call last):
  File "/srv/app.py", line 1, in <module>
    int("x")
    ~~~^^^^^
"""


def document(limit: int = 1_000_000, peer: str = "10.0.0.7:51934", **changed: Any) -> dict[str, Any]:
    render = document_renderer(limit)
    text = render(checked({**FIELDS, **changed}), peer, RECEIVED, 23, "")
    assert text.find("\n") == len(text) - 1
    found: dict[str, Any] = json.loads(text.encode(), object_pairs_hook=without_doubles)
    return found


def without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def labels(**extra: Any) -> dict[str, str]:
    found: dict[str, str] = document(**extra)["labels"]
    return found


def test_a_record_has_the_fields_of_ecs_and_leaves_out_what_is_absent() -> None:
    assert document() == {
        "@timestamp": "2023-11-14T22:13:20.250000Z",
        "message": "hello",
        "log": {
            "level": "info",
            "logger": "app.web",
            "origin": {"file": {"name": "app.py", "path": "/srv/app.py", "line": 42}, "function": "handle"},
        },
        "event": {"severity": 20, "created": "2025-11-22T10:00:00.000000Z", "sequence": 23},
        "process": {"pid": 7, "name": "MainProcess", "thread": {"id": 140_000, "name": "MainThread"}},
        "client": {"address": "10.0.0.7", "port": 51934},
    }


def test_a_record_with_next_to_nothing_is_a_document() -> None:
    text = document_renderer(1000)(checked({"msg": "m", "created": 1.5}), "unix", RECEIVED, 1, "")
    assert json.loads(text) == {
        "@timestamp": "1970-01-01T00:00:01.500000Z",
        "message": "m",
        "log": {"logger": "root"},
        "event": {"created": "2025-11-22T10:00:00.000000Z", "sequence": 1},
        "client": {"address": "unix"},
    }


def test_what_was_rendered_before_does_not_show_in_the_next_record() -> None:
    render = document_renderer(1000)
    first, second = checked(FIELDS), checked({**FIELDS, "name": "b", "process": 8, "created": 5.999_999_9})
    for record, peer, received in ((first, "a:1", 0), (second, "[::1]:2", 10**9), (first, "a:1", 0)):
        alone = document_renderer(1000)(record, peer, received, 1, "")
        assert alone == render(record, peer, received, 1, "")
    assert json.loads(render(second, "[::1]:2", 0, 1, ""))["client"] == {"address": "::1", "port": 2}
    assert json.loads(render(second, "a:1", 0, 1, ""))["@timestamp"] == "1970-01-01T00:00:06.000000Z"


@pytest.mark.parametrize(
    ("exception", "expected"),
    [
        (f"{RAISED}ValueError: bad\nin two lines", {"type": "ValueError", "message": "bad\nin two lines"}),
        (f"{RAISED}KeyboardInterrupt", {"type": "KeyboardInterrupt"}),
        (
            f"{RAISED}a.b.Error: x\n\nDuring handling ...:\n\n{RAISED}OSError: y",
            {"type": "OSError", "message": "y"},
        ),
        ("shop.Refused: no", {"type": "shop.Refused", "message": "no"}),
        ("no exception at all, but text", {}),
        (RAISED, {}),
    ],
    ids=["message of two lines", "no message", "chained", "no frames", "text", "cut off"],
)
def test_type_and_message_of_an_exception_stand_behind_its_last_frame(
    exception: str, expected: dict[str, str]
) -> None:
    assert {**expected, "stack_trace": exception} == document(exc_text=exception)["error"]


def test_a_stack_stands_behind_the_traceback_or_alone() -> None:
    assert document(stack_info="S")["error"] == {"stack_trace": "S"}
    assert document(exc_text="E: m", stack_info="S")["error"]["stack_trace"] == "E: m\nS"


def test_extras_are_text_under_labels_whatever_they_are() -> None:
    assert labels(request_id="r", n=1, ok=True, x=None, f=1.5, nested={"a": [1]}, http={"a": 1}) == {
        "request_id": "r",
        "n": "1",
        "ok": "True",
        "x": "None",
        "f": "1.5",
        "nested": "{'a': [1]}",
        "http": "{'a': 1}",
    }


def test_dots_in_keys_become_underscores_and_values_of_keys_made_the_same_stand_together() -> None:
    assert labels(**{"a.b": "1", "a_b": "2", "": "3", ".": "4", "a..b": "5"}) == {
        "a_b": "1, 2",
        "_": "3, 4",
        "a__b": "5",
    }


def test_what_the_schema_has_no_number_for_becomes_a_label() -> None:
    found = document(process=2**64, thread=-(2**63), lineno="x", taskName="t-1", task_name="mine")
    assert found["labels"] == {"process": "18446744073709551616", "lineno": "x", "task_name": "t-1, mine"}
    assert found["process"]["thread"]["id"] == -(2**63)


def test_ids_of_open_telemetry_are_those_of_a_trace() -> None:
    found = document(otelTraceID="0af7", otelSpanID="b7ad", otelServiceName="shop", otelTraceSampled=True)
    assert [found["trace"], found["span"], found["service"]] == [
        {"id": "0af7"},
        {"id": "b7ad"},
        {"name": "shop"},
    ]
    assert found["labels"] == {"otelTraceSampled": "True"}
    none = document(otelTraceID="0", otelSpanID="0", otelServiceName="")
    assert not {"trace", "span", "service", "labels"} & none.keys()


@pytest.mark.parametrize("created", [9_223_372_036.0, 1e11])
def test_a_time_that_date_nanos_cannot_hold_becomes_the_time_received(created: float) -> None:
    found = document(created=created)
    assert [found["@timestamp"], found["labels"]] == [
        "2025-11-22T10:00:00.000000Z",
        {"created": str(created)},
    ]
    assert document(created=9_223_372_035.5)["@timestamp"] == "2262-04-11T23:47:15.500000Z"


@pytest.mark.parametrize("text", ["m", "\N{SNOWMAN}", "\N{PILE OF POO}"])
@pytest.mark.parametrize("key", ["msg", "exc_text"])
def test_what_is_longer_than_max_record_bytes_is_cut_with_a_mark(text: str, key: str) -> None:
    def shown(value: str) -> str:
        found = document(1200, **{key: value})
        whole: str = found["message"] if key == "msg" else found["error"]["stack_trace"]
        return whole

    fits = text * (1200 // len(text.encode()))
    assert shown(fits) == fits
    made = shown(fits + text)
    mark = f"... [cut, {1200 + len(text.encode())} bytes]"
    assert made.endswith(mark)
    assert fits.startswith(made.removesuffix(mark))
    assert 1196 < len(made.encode()) <= 1200


def test_a_label_is_cut_to_eight_kilobytes() -> None:
    found = labels(fits="x" * MAX_LABEL_BYTES, over="x" * (MAX_LABEL_BYTES + 1), **{"k" * 600: "v"})
    assert found["fits"] == "x" * MAX_LABEL_BYTES
    assert found["over"].endswith(f"... [cut, {MAX_LABEL_BYTES + 1} bytes]")
    assert max(len(value) for value in found.values()) <= MAX_LABEL_BYTES
    assert {"k" * (500 - len("... [cut, 600 bytes]")) + "... [cut, 600 bytes]"} < found.keys()


def test_keys_by_the_thousand_that_become_the_same_take_no_time_and_no_room() -> None:
    keys = {"".join(name): "v" * 100 for name in itertools.product("._", repeat=12)}
    assert {"_" * 12} == labels(**keys).keys()
    assert all(len(value) <= MAX_LABEL_BYTES for value in labels(**keys).values())


@given(st.text())
def test_any_message_comes_back(message: str) -> None:
    assert document(msg=message)["message"] == message


@pytest.mark.parametrize("place", ["msg", "name", "levelname", "exc_text", "threadName", "extra", "k\udc80"])
def test_an_unpaired_surrogate_becomes_text_wherever_it_stands(place: str) -> None:
    changed: dict[str, Any] = {place: "a\udc80\n\"b'"}
    found = document(**changed)
    assert "\\\\udc80" in json.dumps(found)
    assert "\\\\udc80" in json.dumps(json.loads(short_document(checked({**FIELDS, "msg": "\udc80"}), 0, "")))


@pytest.mark.parametrize("case", PAYLOADS, ids="-".join)
def test_what_real_clients_send_becomes_a_document_and_a_short_one(case: tuple[str, str]) -> None:
    record = record_of(PAYLOADS[case])
    text = document_renderer(1_000_000)(record, "10.0.0.7:1", RECEIVED, 1, "")
    found = json.loads(text.encode(), object_pairs_hook=without_doubles)
    assert found["log"]["logger"] == record[0].fields["name"]
    message = record[3].encode("utf-8", "backslashreplace").decode()
    assert found["message"] == cut(message, 1_000_000)
    assert all(type(value) is str for value in found.get("labels", {}).values())
    assert json.loads(short_document(record, RECEIVED, "").encode()).keys() == {"@timestamp", "message"}


def test_a_short_document_is_all_of_it_as_text_of_eight_kilobytes() -> None:
    record = record_of(make_payload("hello", exc_text="E: m", stack_info="S", secret=1, created=1e11))
    assert json.loads(short_document(record, RECEIVED, "")) == {
        "@timestamp": "2025-11-22T10:00:00.000000Z",
        "message": "INFO app: hello\nE: m\nS",
    }
    long = json.loads(short_document(record_of(make_payload("x" * 10_000, created=1.25)), RECEIVED, ""))
    assert long["@timestamp"] == "1970-01-01T00:00:01.250000Z"
    assert len(long["message"]) == SHORT_BYTES
