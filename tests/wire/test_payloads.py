"""Payloads that are pickles of other things, JSON, or nothing that can be read."""

from __future__ import annotations

import bz2
import gzip
import json
import logging
import lzma
import pickle
import tracemalloc
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from collector.pickles.budgets import MAX_CONTAINERS, MAX_DEPTH, MAX_DIGITS, MAX_STRUCTURE
from collector.pickles.errors import RecordError
from collector.wire.json_payload import MAX_ESCAPES
from collector.wire.payloads import looks_like, read_fields
from tests.support.corpus import PAYLOADS
from tests.support.cpu import Cpu
from tests.support.frames import make_frame, make_payload
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.collectors import Collector

MiB = 1024 * 1024
RECORD = {"name": "app", "msg": "%s is %d", "args": ["x", 5], "levelno": 30, "request": {"id": [1, None]}}


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("start", ["", " \n", "\ufeff"], ids=["at once", "space", "BOM"])
def test_a_json_object_is_read_as_a_record(indent: int | None, start: str) -> None:
    payload = (start + json.dumps(RECORD, indent=indent)).encode()
    assert read_fields(payload) == (RECORD, "")


@pytest.mark.parametrize(
    "text", ['quo"te', "back\\slash", '\\"', '\\\\"', "日本", "\ud800", "{[" * 200, "9" * 1000]
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_what_stands_in_the_strings_of_json_counts_for_nothing(text: str, ascii_only: bool) -> None:
    if not ascii_only and "\ud800" in text:
        pytest.skip("no UTF-8")
    fields = {"msg": text, text: [text, {text: 1}]}
    assert read_fields(json.dumps(fields, ensure_ascii=ascii_only).encode())[0] == fields


def nested(depth: int) -> bytes:
    return b'{"msg":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


@pytest.mark.parametrize(
    ("make", "limit"),
    [
        pytest.param(nested, MAX_DEPTH, id="levels"),
        pytest.param(lambda n: b'{"msg":' + b"9" * n + b"}", MAX_DIGITS, id="digits"),
        pytest.param(lambda n: b'{"msg":[' + b"[]," * (n - 3) + b"[]]}", MAX_CONTAINERS, id="containers"),
        pytest.param(
            lambda n: b'{"msg":[' + b"10," * ((n - 10) // 3) + b"1]}", MAX_STRUCTURE, id="structure"
        ),
        pytest.param(lambda n: b'{"msg":"' + b"\\n" * n + b'"}', MAX_ESCAPES, id="escapes"),
        pytest.param(lambda n: b'{"msg":[' + b'"",' * (n - 2) + b'""]}', MAX_CONTAINERS, id="strings"),
    ],
)
def test_json_below_at_and_above_a_budget(make: Callable[[int], bytes], limit: int) -> None:
    for below in (limit - 5, limit):
        assert "msg" in read_fields(make(below))[0]
    with pytest.raises(RecordError, match="looks like JSON: more than"):
        read_fields(make(limit + 20))


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit",
    [
        b"[",
        b"{",
        b'{"',
        b'"',
        b"\\",
        b'\\"',
        b'"a",',
        b'{"a":',
        b"[],",
        b"0,",
        b"9",
        b" ",
        b"\\u1234",
        b"1e9,",
    ],
    ids=repr,
)
@pytest.mark.parametrize("start", [b"{", b'{"msg":"', b'{"msg":['], ids=repr)
def test_16_mib_of_json_cost_little(start: bytes, unit: bytes) -> None:
    payload = start + unit * ((16 * MiB - 10) // len(unit))
    tracemalloc.start()
    try:
        with Cpu() as cpu, pytest.raises(RecordError):
            read_fields(payload)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 * MiB
    assert cpu.seconds < 1


@pytest.mark.parametrize(
    "payload",
    [b'{"msg":', b'{"msg": "a"} b', b'{"msg": nope}', b"{'msg': 'a'}", b'{"msg": "\xff"}', b"{}x"],
    ids=repr,
)
def test_what_only_begins_as_json_is_refused(payload: bytes) -> None:
    with pytest.raises(RecordError, match="looks like JSON: "):
        read_fields(payload)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickled_log_record_is_read_as_its_attributes(protocol: int) -> None:
    record = logging.LogRecord("app", 20, "/srv/app.py", 7, "%s!", ("hi",), None)
    assert record.__dict__ == read_fields(pickle.dumps(record, protocol))[0]


@pytest.mark.parametrize("value", [[{"msg": "a"}], "text", None, 5, (1, 2)], ids=repr)
def test_a_pickle_of_something_else_is_no_record(value: object) -> None:
    with pytest.raises(RecordError, match="not the fields of a LogRecord but"):
        read_fields(pickle.dumps(value, 1))


def test_an_object_of_json_that_is_no_record_is_said_to_be_json() -> None:
    with pytest.raises(RecordError, match=r"not the fields of a LogRecord but JSON: \{'level': 'INFO'\}"):
        read_fields(b'{"level": "INFO"}')


PICKLE = pickle.dumps(RECORD, 1)
OTHERS = {
    "gzip": gzip.compress(PICKLE),
    "bzip2": bz2.compress(PICKLE),
    "xz": lzma.compress(PICKLE),
    "msgpack": b"\x85\xa4name\xa3app\xa3msg\xa2hi",
    "JSON": b'[{"msg": "a"}]',
    "text": "grüße aus dem Log\n".encode(),
}
CASES: list[Any] = [
    *(pytest.param(what, data, id=what) for what, data in OTHERS.items()),
    *(pytest.param("zlib", zlib.compress(PICKLE, level), id=f"zlib {level}") for level in (1, 6, 9)),
    pytest.param("msgpack", b"\xde\x00\x14\xa4name\xa3app", id="a larger map of msgpack"),
    pytest.param("msgpack", b"\xde\x00\x10\x01\xa1a", id="one whose keys are no text"),
    pytest.param("msgpack", b"\xdf\x00\x01\x00\x00\xda\x01\x00", id="the largest map of msgpack"),
    pytest.param("text", "\u0783\u07c0".encode(), id="text that begins as a map of msgpack could"),
    pytest.param("text", "\u0710\u0722\u072b".encode(), id="text that begins as an array of msgpack could"),
    pytest.param("msgpack", b"\x92\xa1a\xa1b", id="an array of msgpack"),
    pytest.param("text", b"connection refused", id="text that begins as a pickle could"),
    pytest.param("text", b"<14>1 2026-11-26T00:00:00Z h app - - - syslog", id="syslog"),
]


@pytest.mark.parametrize(("what", "payload"), CASES)
def test_a_payload_that_is_no_pickle_is_named_by_what_it_looks_like(what: str, payload: bytes) -> None:
    with pytest.raises(RecordError, match=f"; looks like {what}$"):
        read_fields(payload)


def test_a_damaged_pickle_looks_like_nothing_else() -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        payload = pickle.dumps(RECORD, protocol)
        assert looks_like(payload) == looks_like(payload[:20]) == ""
    for payload in PAYLOADS.values():
        assert looks_like(payload) == ""


@pytest.mark.parametrize("what", OTHERS)
def test_the_line_of_a_quarantined_payload_says_what_it_looks_like(collector: Collector, what: str) -> None:
    data = OTHERS[what]
    collector.send(len(data).to_bytes(4, "big") + data + make_frame("after", "app"))
    within(5, lambda: " quarantined: byte 0, " in collector.stderr)
    assert f"; looks like {what}\n" in collector.stderr


@pytest.mark.quick
def test_json_is_written_beside_pickles_to_the_file_of_its_logger(collector: Collector) -> None:
    data = json.dumps(RECORD).encode()
    payload = make_payload("stock")
    frames = [len(one).to_bytes(4, "big") + one for one in (data, payload, data)]
    collector.send(b"".join(frames))
    assert collector.stop() == 0
    lines = collector.lines("app.log")
    assert ["x is 5", "stock", "x is 5"] == [line.rpartition("]: app ")[2].split(" ", 2)[2] for line in lines]
    assert "WARNING" in lines[0]
