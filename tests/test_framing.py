from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.framing import FrameSplitter
from tests.corpus import STREAMS, frame, frames


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
    if not splitter.fault:
        empty_frames, rest = divmod(len(data) - splitter.partial - len(framed(*payloads)), 4)
        assert (empty_frames >= 0, rest) == (True, 0)
        assert splitter.partial < limit + 4


def test_an_empty_frame_has_no_payload() -> None:
    assert [b"x"] == FrameSplitter(10).feed(framed(b"", b"x", b""))


@pytest.mark.parametrize(
    ("size", "faulty"), [(9, False), (10, False), (11, True)], ids=["below", "at", "above"]
)
def test_a_length_over_the_limit_is_refused(size: int, faulty: bool) -> None:
    splitter = FrameSplitter(10)
    splitter.feed(size.to_bytes(4, "big"))
    assert faulty == (splitter.fault is not None)


def test_a_length_over_the_limit_is_refused_before_its_payload_arrives() -> None:
    splitter = FrameSplitter(10)
    assert splitter.feed(b"\xff\xff\xff\xff") == []
    assert str(splitter.fault) == "frame of 4294967295 bytes exceeds max_frame_bytes = 10"


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
