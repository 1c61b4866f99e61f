"""What a record becomes for the forward protocol, field by field."""

from __future__ import annotations

import logging
import struct
import threading
from typing import Any

import msgpack
import pytest

from collector.forward.documents import SHORT_BYTES
from collector.forward.entries import Entries
from tests.support.corpus import PAYLOADS
from tests.support.forwarding import RECEIVED, record_of
from tests.support.frames import make_payload

PEER = "10.0.0.7:51934"


def unpacked(data: bytes) -> tuple[tuple[int, int], dict[str, Any]]:
    """Return the seconds and nanoseconds of an entry, and its map."""
    (kind, moment), fields = msgpack.unpackb(data, ext_hook=lambda *ext: ext)
    assert kind == 0
    return struct.unpack(">II", moment), fields


def entry_of(max_text_bytes: int = 1_000_000, peer: str = PEER, **fields: Any) -> Any:
    record = record_of(make_payload(**fields))
    return unpacked(Entries(max_text_bytes).entry(record, peer, RECEIVED, "c0ffee-7-1"))


def test_a_record_becomes_a_flat_map_with_the_keys_of_a_line_of_json() -> None:
    moment, fields = entry_of(
        message="hello",
        created=1_763_805_599.123456,
        process=17,
        exc_text="Traceback ...\nValueError: x",
        stack_info="Stack ...",
        taskName="Task-1",
        request_id="r",
    )
    assert moment == (1_763_805_599, 123_456_000)
    assert fields == {
        "id": "c0ffee-7-1",
        "level": "INFO",
        "logger": "app",
        "message": "hello",
        "exception": "Traceback ...\nValueError: x",
        "stack": "Stack ...",
        "client": PEER,
        "process": 17,
        "process_name": "MainProcess",
        "thread": threading.get_ident(),
        "thread_name": "MainThread",
        "task_name": "Task-1",
        "file": "/srv/app.py",
        "line": 7,
        "function": "handle",
        "extra": {"request_id": "r"},
    }


def test_a_record_of_ours_has_no_client() -> None:
    assert "client" not in entry_of(peer="")[1]


def test_no_key_is_one_that_receivers_take_for_the_message() -> None:
    """`log`, with Fluent Bit and the OpenTelemetry Collector."""
    for payload in PAYLOADS.values():
        _, fields = unpacked(Entries(1_000_000).entry(record_of(payload), PEER, RECEIVED, "id"))
        assert "log" not in fields


def test_extras_are_text_in_a_map_of_their_own_and_none_is_lost_for_its_key() -> None:
    extras: dict[Any, Any] = {
        "n": 1,
        "ok": True,
        "none": None,
        "list": [1, {"a": 2}],
        "message ": "m",
        "big": 2**70,
    }
    payload = make_payload(level="mine", id="theirs", **{**extras, "created": 1.0})
    record = record_of(payload)
    record[7][1], record[7]["1"] = "int", "text"  # type: ignore[index] # a client could send both
    _, fields = unpacked(Entries(1_000_000).entry(record, PEER, RECEIVED, "c0ffee-7-1"))
    assert [fields["id"], fields["level"]] == ["c0ffee-7-1", "INFO"]
    assert fields["extra"] == {
        "level": "mine",
        "id": "theirs",
        "n": "1",
        "ok": "True",
        "none": "None",
        "list": "[1, {'a': 2}]",
        "message ": "m",
        "big": str(2**70),
        "1": "int, text",
    }


@pytest.mark.parametrize(
    ("created", "expected"),
    [
        (0.0, (0, 0)),
        (1.9999999, (2, 0)),
        (1_763_805_600, (1_763_805_600, 0)),
        (2**32 - 0.5, (2**32 - 1, 500_000_000)),
    ],
    ids=["epoch", "rounded up", "integer", "last"],
)
def test_the_time_is_to_the_microsecond(created: float, expected: tuple[int, int]) -> None:
    moment, fields = entry_of(created=created)
    assert moment == expected
    assert "timestamp" not in fields


@pytest.mark.parametrize(
    ("created", "shown"),
    [
        (2**32 - 1e-7, "2106-02-07T06:28:16.000000Z"),
        (2.0**32, "2106-02-07T06:28:16.000000Z"),
        (253_402_214_399.0, "9999-12-30T23:59:59.000000Z"),
    ],
)
def test_a_time_that_is_too_late_for_an_event_time_stands_beside_that_of_receipt(
    created: float, shown: str
) -> None:
    moment, fields = entry_of(created=created)
    assert [moment, fields["timestamp"]] == [(RECEIVED // 10**9, 0), shown]


def test_integers_that_are_too_long_become_text() -> None:
    _, fields = entry_of(process=2**63, thread=-(2**63), lineno=2**63 - 1)
    assert [fields["process"], fields["thread"], fields["line"]] == [str(2**63), -(2**63), 2**63 - 1]


def test_an_unpaired_surrogate_becomes_text_wherever_it_stands() -> None:
    extra: dict[str, Any] = {"k\udfff": "v\udc80"}
    _, fields = entry_of(message="a\udc80", name="n\ud800", **extra)
    assert [fields["message"], fields["logger"]] == ["a\\udc80", "n\\ud800"]
    assert fields["extra"] == {"k\\udfff": "v\\udc80"}


@pytest.mark.parametrize("size", [999, 1000, 1001])
def test_what_is_longer_than_allowed_is_cut_with_a_mark(size: int) -> None:
    text = "x" * size
    _, fields = entry_of(1000, message=text, exc_text=text, stack_info=text, extra_=text)
    for found in (fields["message"], fields["exception"], fields["stack"], fields["extra"]["extra_"]):
        assert len(found) == min(size, 1000)
        assert found.endswith("... [cut, 1001 bytes]") == (size > 1000)


def test_a_record_reduced_to_text_has_its_time_its_id_and_8_kb() -> None:
    payload = make_payload("m" * 20_000, created=5.25, levelno=logging.ERROR, levelname="ERROR", k="v")
    moment, fields = unpacked(Entries(1_000_000).short(record_of(payload), RECEIVED, "c0ffee-7-1"))
    assert [moment, fields.keys(), fields["id"]] == [(5, 250_000_000), {"id", "message"}, "c0ffee-7-1"]
    assert fields["message"].startswith("ERROR app: mmm")
    assert len(fields["message"]) == SHORT_BYTES


def test_a_second_destination_renders_what_a_first_one_has_rendered_by_its_own_settings() -> None:
    record = record_of(make_payload(exc_text="x" * 100))
    long, short = (unpacked(Entries(size).entry(record, PEER, RECEIVED, "id"))[1] for size in (1000, 50))
    assert [100, 50] == [len(long["exception"]), len(short["exception"])]
