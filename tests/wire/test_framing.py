from __future__ import annotations

import logging
import pickle
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.wire.framing import FrameSplitter
from tests.support.corpus import STREAMS, frame, frames
from tests.support.proxy_headers import SIGNATURE, TEXT, binary


def framed(*payloads: bytes) -> bytes:
    return b"".join(len(payload).to_bytes(4, "big") + payload for payload in payloads)


def fed(splitter: FrameSplitter, *segments: bytes) -> list[bytes]:
    return [payload for segment in segments for payload in splitter.feed(segment)]


@pytest.mark.parametrize("stream", STREAMS)
def test_a_recorded_stream_gives_the_payload_of_each_frame(stream: str) -> None:
    recorded = [data for _, data in frames(stream)]
    assert [data[4:] for data in recorded] == FrameSplitter(16 << 20).feed(b"".join(recorded))


def test_a_frame_split_at_every_byte_equals_one_piece() -> None:
    data = frame("3.13", "plain")
    for cut in range(1, len(data)):
        assert [data[4:]] == fed(FrameSplitter(1000), data[:cut], data[cut:]), cut


def test_a_stream_fed_byte_by_byte_equals_one_piece() -> None:
    data = framed(b"one", b"", b"three" * 100)
    assert [b"one", b"three" * 100] == fed(FrameSplitter(1000), *(data[i : i + 1] for i in range(len(data))))


@given(st.lists(st.binary(max_size=40), max_size=8), st.lists(st.integers(0, 400), max_size=12))
def test_any_split_of_a_stream_gives_the_same_payloads(payloads: list[bytes], cuts: list[int]) -> None:
    data = framed(*payloads)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    segments = [data[a:b] for a, b in pairwise(places)]
    splitter = FrameSplitter(40)
    assert [payload for payload in payloads if payload] == fed(splitter, *segments)
    assert splitter.partial == 0
    assert splitter.fault is None


@given(st.binary(max_size=200), st.integers(1, 50))
def test_any_bytes_give_payloads_within_the_limit_or_a_fault_and_every_byte_is_accounted_for(
    data: bytes, limit: int
) -> None:
    splitter = FrameSplitter(limit)
    payloads = splitter.feed(data)
    assert all(len(payload) <= limit for payload in payloads)
    if not splitter.fault and not splitter.discarded:
        empty_frames, rest = divmod(len(data) - splitter.partial - len(framed(*payloads)), 4)
        assert (empty_frames >= 0, rest) == (True, 0)
        assert splitter.partial < limit + 4


def test_an_empty_frame_has_no_payload() -> None:
    assert [b"x"] == FrameSplitter(10).feed(framed(b"", b"x", b""))


@pytest.mark.parametrize(
    ("size", "taken"), [(9, True), (10, True), (11, False)], ids=["below", "at", "above"]
)
def test_a_payload_over_the_limit_is_thrown_away_and_noted(size: int, taken: bool) -> None:
    splitter = FrameSplitter(10)
    payload = b"}".ljust(size, b"x")
    assert ([payload] if taken else []) + [b"next"] == splitter.feed(framed(payload, b"next"))
    assert ([] if taken else [size]) == splitter.discarded
    assert splitter.fault is None


def test_a_payload_over_the_limit_is_never_held_and_noted_when_it_is_complete() -> None:
    splitter = FrameSplitter(10)
    for number, byte in enumerate(framed(b"\x80\2" + b"x" * 38)[:-1], 1):
        splitter.feed(bytes([byte]))
        assert splitter.partial <= 5
        assert splitter.inside
        assert number == splitter.come
        assert [] == splitter.discarded
    assert [b"next"] == splitter.feed(b"x" + framed(b"next"))
    assert [40] == splitter.discarded
    assert 0 == splitter.come
    assert not splitter.inside


def pickles() -> dict[str, bytes]:
    record = vars(logging.LogRecord("app", logging.INFO, "/srv/app.py", 7, "hello", None, None))
    values = {
        "a dict": record,
        "a list": [record],
        "a record": logging.LogRecord("a", 1, "", 1, "", None, None),
    }
    return {
        f"{what}, protocol {protocol}": pickle.dumps(value, protocol)
        for what, value in values.items()
        for protocol in range(6)
    }


@pytest.mark.parametrize("payload", pickles().values(), ids=pickles())
def test_what_begins_as_a_pickle_is_a_frame_however_it_is_split(payload: bytes) -> None:
    limit = len(payload) - 1
    for cut in range(1, len(payload) + 4):
        splitter = FrameSplitter(limit)
        data = framed(payload)
        assert [b"next"] == fed(splitter, data[:cut], data[cut:] + framed(b"next"))
        assert [len(payload)] == splitter.discarded


@pytest.mark.parametrize(
    "payload", [b"\x0e\xe0\0\0", b"hello", b"\x80\1", b"\x80\6", b"\0", b"\xff"], ids=repr
)
def test_a_frame_that_is_too_large_and_begins_as_no_pickle_is_none_and_the_end(payload: bytes) -> None:
    data = (20).to_bytes(4, "big") + payload
    whole = FrameSplitter(10)
    assert [b"good"] == whole.feed(framed(b"good") + data + framed(b"late"))
    bytewise = FrameSplitter(10)
    fed(bytewise, *(bytes([byte]) for byte in data))
    for splitter in (whole, bytewise):
        assert ([], False, 0) == (splitter.discarded, splitter.inside, splitter.partial)
        assert "frame of 20 bytes exceeds max_frame_bytes = 10, and does not begin as a pickle" == str(
            splitter.fault
        )


@pytest.mark.parametrize("begun", [b"", b"\x80"], ids=repr)
def test_a_frame_that_is_too_large_is_none_yet_while_nobody_knows_how_it_begins(begun: bytes) -> None:
    splitter = FrameSplitter(10)
    splitter.feed((20).to_bytes(4, "big") + begun)
    assert ([], None, True) == (splitter.discarded, splitter.fault, splitter.inside)


def test_an_rdp_probe_is_no_record() -> None:
    splitter = FrameSplitter(16 << 20)
    splitter.feed(bytes.fromhex("0300 0013 0ee0 0000 0000 0001 0008 0003 0000 00"))
    assert splitter.discarded == []
    assert str(splitter.fault).endswith(
        "frame of 50331667 bytes exceeds max_frame_bytes = 16777216; looks like RDP"
    )


@pytest.mark.parametrize("limit", [10, 16 << 20, 2**28, 2**32 - 1])
@pytest.mark.parametrize(("header", "version"), [(TEXT, 1), (binary(), 2)], ids=["1", "2"])
def test_a_proxy_header_is_never_taken_for_a_length(header: bytes, version: int, limit: int) -> None:
    for cut in range(1, len(header)):
        splitter = FrameSplitter(limit)
        assert [] == fed(splitter, header[:cut], header[cut:] + framed(b"late"))
        assert f"sends a PROXY header (version {version})" == str(splitter.fault)
        assert ([], 0) == (splitter.discarded, splitter.partial)


@pytest.mark.parametrize("begin", [b"PROXIES\n", b"\r\n\r\n\r\n", SIGNATURE[:-1] + b"."], ids=repr)
def test_what_only_begins_like_a_proxy_header_is_judged_as_all_else(begin: bytes) -> None:
    small, large = FrameSplitter(16 << 20), FrameSplitter(2**32 - 1)
    for splitter in (small, large):
        fed(splitter, *(bytes([byte]) for byte in begin))
    assert str(small.fault).endswith("; looks like text")
    assert large.fault is None
    assert large.partial == len(begin)


@pytest.mark.parametrize(
    ("size", "faulty"), [(39, False), (40, False), (41, True)], ids=["below", "at", "above"]
)
def test_a_length_over_four_times_the_limit_is_refused(size: int, faulty: bool) -> None:
    splitter = FrameSplitter(10)
    splitter.feed(size.to_bytes(4, "big"))
    assert faulty == (splitter.fault is not None)


def test_such_a_length_is_refused_before_its_payload_arrives() -> None:
    splitter = FrameSplitter(10)
    assert splitter.feed(b"\xff\xff\xff\xff") == []
    assert str(splitter.fault) == "frame of 4294967295 bytes exceeds max_frame_bytes = 10"


@pytest.mark.parametrize("payload", [b"\x80\x04\x95", b"}q\x00(X", b"(dp0\n"], ids=["4", "1", "0"])
def test_a_record_that_is_far_too_large_is_lost_and_not_without_a_word(payload: bytes) -> None:
    splitter = FrameSplitter(10)
    assert [b"good"] == splitter.feed(framed(b"good") + (1000).to_bytes(4, "big") + payload)
    assert str(splitter.fault) == "frame of 1000 bytes exceeds max_frame_bytes = 10"
    assert [1000] == splitter.discarded


@pytest.mark.parametrize("payload", [b"", b"hello", b"\x80\x99", b"\0\0\0\0"])
def test_what_begins_as_no_pickle_is_no_record_that_is_lost(payload: bytes) -> None:
    splitter = FrameSplitter(10)
    splitter.feed((1000).to_bytes(4, "big") + payload)
    assert splitter.fault
    assert [] == splitter.discarded


def test_a_length_that_ends_in_a_zero_is_not_taken_for_one_in_the_other_order() -> None:
    splitter = FrameSplitter(1 << 24)
    splitter.feed((200_000_000 & ~0xFF).to_bytes(4, "big") + b"Hello")
    assert "looks like" not in str(splitter.fault)


@pytest.mark.parametrize(
    ("first", "what"),
    [
        (b"GET / HTTP/1.1\r\n", "HTTP"),
        (b"\x16\x03\x01\x02\x00", "TLS; see [listen.tls]"),
        (b"SSH-2.0-x\r\n", "SSH"),
        (b'{"message": 1}', "JSON"),
        (b"\x05\0\0\0hello", "a length in little-endian order"),
        (b"<13>Nov 22", "text"),
        (b"\n<13>Nov 22", "text"),
        (b"\r\nhello", "text"),
        (b"\tat app", "text"),
        (b"\x1b[31mred", "text"),
        (b"\xef\xbb\xbf<13>", "text"),
        ("日志".encode(), "text"),
        ("привет".encode(), "text"),
        (b"(dp0\nVname\n", "a pickle without a length"),
        (b"(dp1\nS'name'\n", "a pickle without a length"),
        (b"}q\0(X\4\0\0\0name", "a pickle without a length"),
        (b"\x80\2}q\0(X", "a pickle without a length"),
        (b"\x80\4\x95\0\1\0\0\0\0\0\0", "a pickle without a length"),
        (b"ccopy_reg\n_reconstructor\n", "a pickle without a length"),
        (b"clogging\nLogRecord\n", "a pickle without a length"),
    ],
)
def test_a_fault_names_what_the_header_looks_like(first: bytes, what: str) -> None:
    splitter = FrameSplitter(10)
    splitter.feed(first)
    assert str(splitter.fault).endswith(f"; looks like {what}")


def test_good_frames_ahead_of_a_bad_header_are_still_delivered() -> None:
    splitter = FrameSplitter(10)
    assert [b"good", b"too"] == splitter.feed(framed(b"good", b"too") + b"GET / HTTP/1.1")
    assert splitter.fault
    assert splitter.feed(framed(b"late")) == []


def test_partial_counts_the_bytes_of_the_frame_begun_header_included() -> None:
    splitter = FrameSplitter(10)
    splitter.feed(framed(b"whole") + b"\0\0")
    assert splitter.partial == 2
    splitter.feed(b"\0\x05abc")
    assert splitter.partial == 7
    splitter.feed(b"de")
    assert splitter.partial == 0
