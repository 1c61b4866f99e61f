from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.wire.proxy_header import ProxyHeader, version_of
from tests.support.memory import memory_taken
from tests.support.proxy_headers import BROKEN, HEADERS, SIGNATURE, TEXT

NONE = {
    "a frame": b"\0\0\0\x05hello",
    "a handshake": b"\x16\x03\x01\x02\0",
    "HTTP": b"PUT / HTTP/1.1\r\n",
    "nearly version 1": b"PROXYTCP4",
    "in small letters": b"proxy TCP4",
    "nearly version 2": SIGNATURE[:-1] + b"\r",
    "empty lines": b"\r\n\r\n\r\n",
}


def fed(header: ProxyHeader, *segments: bytes) -> bytes:
    """Feed segments as a server does; return what is left of them."""
    left = b""
    for segment in segments:
        left += segment
        left = left[header.feed(left) :]
    return left


@pytest.mark.parametrize(("data", "client"), HEADERS.values(), ids=HEADERS)
def test_a_header_names_the_client_and_leaves_what_follows(
    data: bytes, client: tuple[str, int] | None
) -> None:
    header = ProxyHeader()
    assert b"\0\0\0\x05hello" == fed(header, data + b"\0\0\0\x05hello")
    assert (True, "", client, len(data)) == (header.complete, header.fault, header.client, header.taken)


@pytest.mark.parametrize(("data", "client"), HEADERS.values(), ids=HEADERS)
def test_a_header_split_at_every_byte_equals_one_piece(data: bytes, client: tuple[str, int] | None) -> None:
    header = ProxyHeader()
    for n in range(len(data)):
        assert not header.complete
        assert b"" == fed(header, data[n : n + 1])
    assert (True, client) == (header.complete, header.client)


@pytest.mark.parametrize("data", NONE.values(), ids=NONE)
def test_what_is_no_header_is_none_and_nothing_of_it_is_taken(data: bytes) -> None:
    header = ProxyHeader()
    assert data == fed(header, data)
    assert (0, "there is none", 0) == (header.version, header.fault, header.taken)


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_a_broken_header_is_a_fault(data: bytes) -> None:
    header = ProxyHeader()
    fed(header, data)
    assert (False, True, None) == (header.complete, bool(header.fault), header.client)
    assert header.version


@pytest.mark.parametrize(
    ("size", "complete"), [(106, True), (107, True), (108, False)], ids=["below", "at", "above"]
)
def test_a_line_has_at_most_107_bytes(size: int, complete: bool) -> None:
    header = ProxyHeader()
    fed(header, b"PROXY UNKNOWN".ljust(size - 2) + b"\r\n")
    assert (complete, not complete) == (header.complete, bool(header.fault))


def test_of_a_long_header_only_what_names_the_client_is_held() -> None:
    header = ProxyHeader()
    with memory_taken() as taken:
        fed(header, SIGNATURE + b"\x21\x11\xff\xff", *[bytes(100)] * 600)
        assert taken() < 20_000  # of 60,000
    assert not header.complete
    assert not header.fault


def test_a_begin_tells_its_version_or_that_more_has_to_come() -> None:
    assert [None] * 6 + [1, 1] == [version_of(b"PROXY T"[:n]) for n in range(8)]
    assert [None] * 12 + [2, 2] == [version_of((SIGNATURE + b"!")[:n]) for n in range(14)]
    assert [0, 0, 0] == [version_of(data) for data in (b"p", b"PROXX", b"\r\n\r\n\r")]


pieces = st.lists(
    st.one_of(
        st.binary(max_size=60),
        st.sampled_from([data for data, _ in HEADERS.values() if len(data) < 1000]),
        st.sampled_from(list(BROKEN.values())),
        st.sampled_from([TEXT[:9], SIGNATURE, SIGNATURE + b"\x21\x11\xff\xff", b"\r\n"]),
    ),
    max_size=4,
)


@given(pieces, st.lists(st.integers(0, 500), max_size=12))
def test_any_bytes_split_anywhere_are_a_header_none_or_wait_for_more(
    parts: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(parts)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    whole, header = ProxyHeader(), ProxyHeader()
    left = fed(whole, data)
    rest = b""
    for a, b in pairwise(places):
        rest += data[a:b]
        taken = header.feed(rest)
        assert 0 <= taken <= len(rest)
        assert not (header.complete and header.fault)
        if not header.complete and not header.fault:
            assert taken == len(rest), "what is kept back would be waited for in vain"
        rest = rest[taken:]
    told = [(each.version, each.complete, each.fault, each.client) for each in (whole, header)]
    assert told[0] == told[1]
    if whole.complete:
        assert left == rest
