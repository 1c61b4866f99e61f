from __future__ import annotations

import socket
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.wire.proxy_header import MAX_TEXT_BYTES, ProxyHeader, version_of

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
INET = socket.inet_aton("192.0.2.7") + socket.inet_aton("10.0.0.1") + b"\x12\x67\x23\x3c"
UNIX = b"/run/client".ljust(108, b"\0") + b"/run/proxy".ljust(108, b"\0")
NAMED = ("192.0.2.7", 4711)
TEXT = b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 9020\r\n"


def inet6(source: str) -> bytes:
    return (
        socket.inet_pton(socket.AF_INET6, source)
        + socket.inet_pton(socket.AF_INET6, "::1")
        + b"\x12\x67\x23\x3c"
    )


def binary(addresses: bytes = INET, how: int = 0x11, command: int = 0x21, tlvs: bytes = b"") -> bytes:
    body = addresses + tlvs
    return SIGNATURE + bytes([command, how]) + len(body).to_bytes(2, "big") + body


def text(line: str) -> bytes:
    return f"PROXY {line}\r\n".encode()


# What each header is to be taken for: the client that it names, None for the proxy itself.
HEADERS = {
    "1, IPv4": (TEXT, NAMED),
    "1, IPv6": (text("TCP6 2001:db8::7 2001:db8::1 4711 9020"), ("2001:db8::7", 4711)),
    "1, IPv6 written out": (
        text("TCP6 2001:0DB8:0000:0000:0000:0000:0000:0007 ::1 4711 9020"),
        ("2001:db8::7", 4711),
    ),
    "1, IPv4 as IPv6": (text("TCP6 ::ffff:192.0.2.7 ::ffff:10.0.0.1 4711 9020"), NAMED),
    "1, IPv6 with a zone": (text("TCP6 fe80::7%eth0 fe80::1 4711 9020"), ("fe80::7", 4711)),
    "1, ports at their limits": (text("TCP4 192.0.2.7 10.0.0.1 0 65535"), ("192.0.2.7", 0)),
    "1, unknown": (text("UNKNOWN"), None),
    "1, unknown with addresses": (text("UNKNOWN " + "f" * 90), None),
    "2, IPv4": (binary(), NAMED),
    "2, IPv6": (binary(inet6("2001:db8::7"), 0x21), ("2001:db8::7", 4711)),
    "2, IPv4 as IPv6": (binary(inet6("::ffff:192.0.2.7"), 0x21), NAMED),
    "2, datagrams": (binary(how=0x12), NAMED),
    "2, with TLVs": (binary(tlvs=b"\x04\0\x05aaaaa"), NAMED),
    "2, as long as may be": (binary(tlvs=bytes(65_535 - len(INET))), NAMED),
    "2, a Unix socket": (binary(UNIX, 0x31), None),
    "2, unspecified": (binary(b"", 0x00), None),
    "2, unspecified, with bytes": (binary(b"whatever", 0x00), None),
    "2, no protocol": (binary(how=0x10), None),
    "2, local": (binary(b"", 0x00, 0x20), None),
    "2, local, with addresses": (binary(command=0x20), None),
    "2, local, with what is no family": (binary(b"abc", 0xFF, 0x20), None),
}
NONE = {
    "a frame": b"\0\0\0\x05hello",
    "a handshake": b"\x16\x03\x01\x02\0",
    "HTTP": b"PUT / HTTP/1.1\r\n",
    "nearly version 1": b"PROXYTCP4",
    "in small letters": b"proxy TCP4",
    "nearly version 2": SIGNATURE[:-1] + b"\r",
    "empty lines": b"\r\n\r\n\r\n",
}
BROKEN = {
    "1, too few fields": text("TCP4 192.0.2.7 10.0.0.1 4711"),
    "1, too many fields": text("TCP4 192.0.2.7 10.0.0.1 4711 9020 1"),
    "1, two spaces": text("TCP4  192.0.2.7 10.0.0.1 4711 9020"),
    "1, nothing": text(""),
    "1, another protocol": text("UDP4 192.0.2.7 10.0.0.1 4711 9020"),
    "1, an address of the other family": text("TCP4 ::1 ::1 4711 9020"),
    "1, no address": text("TCP4 192.0.2.256 10.0.0.1 4711 9020"),
    "1, the other is no address": text("TCP4 192.0.2.7 ../.. 4711 9020"),
    "1, a port above the limit": text("TCP4 192.0.2.7 10.0.0.1 65536 9020"),
    "1, a port with a zero first": text("TCP4 192.0.2.7 10.0.0.1 04711 9020"),
    "1, a port with a sign": text("TCP4 192.0.2.7 10.0.0.1 +1 9020"),
    "1, not ASCII": "PROXY TCP4 ١٩٢.0.2.7 10.0.0.1 4711 9020\r\n".encode(),
    "1, only a newline": TEXT.replace(b"\r", b"") + bytes(MAX_TEXT_BYTES),
    "1, a line without end": b"PROXY UNKNOWN " + b"x" * MAX_TEXT_BYTES,
    "2, another version": binary(command=0x11),
    "2, another command": binary(command=0x22),
    "2, another family": binary(how=0x41),
    "2, another protocol": binary(how=0x13),
    "2, addresses cut short": binary(INET[:-1]),
    "2, addresses of IPv6 cut short": binary(how=0x21),
    "2, addresses of Unix cut short": binary(UNIX[:-1], 0x31),
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
        assert len(header._held) <= MAX_TEXT_BYTES  # noqa: SLF001 - its bound
        assert 0 <= taken <= len(rest)
        assert not (header.complete and header.fault)
        if not header.complete and not header.fault:
            assert taken == len(rest), "what is kept back would be waited for in vain"
        rest = rest[taken:]
    told = [(each.version, each.complete, each.fault, each.client) for each in (whole, header)]
    assert told[0] == told[1]
    if whole.complete:
        assert left == rest
