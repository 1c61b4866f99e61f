"""PROXY headers, whole and broken."""

from __future__ import annotations

import socket

from collector.wire.proxy_header import MAX_TEXT_BYTES

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
