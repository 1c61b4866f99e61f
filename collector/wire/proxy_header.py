"""The header by which a proxy says whose connection it passes on: versions 1 and 2 of the PROXY protocol.

A pure value machine, as framing is: bytes in, and out comes who the client is, that there is no header, or
that more has to come. Whatever the bytes, it raises nothing and holds at most MAX_TEXT_BYTES. It knows no
socket, nor who may send a header.

Format: doc/proxy-protocol.txt of HAProxy.
"""

from __future__ import annotations

import ipaddress
import re
from struct import Struct

MAX_TEXT_BYTES = 107
"""The longest header of version 1, its line's end included. Version 2 has up to 16 + 65,535 bytes, of which
52 are held: what follows the addresses is passed over, since a proxy may tell more of its client than who it
is."""
SIGNATURE_BYTES = 12

_SIGNATURES = {1: b"PROXY ", 2: b"\r\n\r\n\0\r\nQUIT\n"}
_BINARY = Struct("!12xBBH")  # behind the signature: version and command, family and protocol, bytes to come
_LOCAL, _PROXY = 0x20, 0x21
# By address family: both addresses and both ports. With AF_UNIX they are paths on the proxy's machine, with
# AF_UNSPEC there are none.
_UNSPEC, _INET, _INET6, _UNIX = 0, 1, 2, 3
_ADDRESSES = {
    _UNSPEC: Struct(""),
    _INET: Struct("!4s4xH2x"),
    _INET6: Struct("!16s16xH2x"),
    _UNIX: Struct("216x"),
}
_Kind = type[ipaddress.IPv4Address] | type[ipaddress.IPv6Address]
_NAMED: dict[int, _Kind] = {_INET: ipaddress.IPv4Address, _INET6: ipaddress.IPv6Address}
_PROTOCOLS = (0, 1, 2)  # none said, stream, datagram
_NAMED_BY_TEXT: dict[str, _Kind] = {"TCP4": ipaddress.IPv4Address, "TCP6": ipaddress.IPv6Address}
_PORT = re.compile("0|[1-9][0-9]{0,4}")
_MAX_PORT = 65_535


def version_of(begin: bytes) -> int | None:
    """Return the version of the header that begins with *begin*, 0 if none does; None: too short to tell."""
    for version, signature in _SIGNATURES.items():
        if begin.startswith(signature):
            return version
        if signature.startswith(begin):
            return None
    return 0


class ProxyHeader:
    """The header of one connection, however its segments fall."""

    __slots__ = ("_held", "_to_skip", "client", "complete", "fault", "taken", "version")

    def __init__(self) -> None:
        self.version = 0
        """1 or 2, once it is known; 0 with a `fault`: there is no header."""
        self.taken = 0
        """Its bytes so far."""
        self.complete = False
        self.fault = ""
        """What is wrong with it, fit for a log line."""
        self.client: tuple[str, int] | None = None
        """Address and port of the client that it names; None if the proxy speaks for itself."""
        self._held = b""
        self._to_skip = 0

    def feed(self, data: bytes) -> int:
        """Take what of *data* belongs to the header; return how many bytes that is.

        What follows them is the client's. 0 once the header is complete or has a `fault`.
        """
        if self.complete or self.fault:
            return 0
        if self._to_skip:
            taken = min(self._to_skip, len(data))
            self._to_skip -= taken
            self.complete = not self._to_skip
        else:
            before = len(self._held)
            self._held += data[: MAX_TEXT_BYTES - before]
            try:
                size = self._size()
            except ValueError as fault:
                self.fault = str(fault)
                return 0
            taken = min(size, before + len(data)) - before
            if self.complete:
                self._to_skip = size - before - taken
                self.complete = not self._to_skip
                self._held = b""
        self.taken += taken
        return taken

    def _size(self) -> int:
        """Return how many bytes the header has; while that is not known, how many are held.

        Sets `complete` where what matters of it is held. Raises ValueError with what is wrong.
        """
        version = version_of(self._held)
        if version is None:
            return len(self._held)
        if not version:
            raise ValueError("there is none")
        self.version = version
        return self._text_size() if version == 1 else self._binary_size()

    def _text_size(self) -> int:
        end = self._held.find(b"\r\n")
        if end < 0:
            if len(self._held) == MAX_TEXT_BYTES:
                raise ValueError(f"its line has no end within {MAX_TEXT_BYTES} bytes")
            return len(self._held)
        self.client = _named_by_text(self._held[:end])
        self.complete = True
        return end + 2

    def _binary_size(self) -> int:
        if len(self._held) < _BINARY.size:
            return len(self._held)
        command, how, length = _BINARY.unpack_from(self._held)
        if command == _PROXY:
            family, protocol = how >> 4, how & 0xF
            if family not in _ADDRESSES or protocol not in _PROTOCOLS:
                raise ValueError(f"0x{how:02x} is no address family and protocol")
            addresses = _ADDRESSES[family]
            if length < addresses.size:
                raise ValueError(f"its addresses take {addresses.size} bytes, and it has {length}")
            if family in _NAMED and protocol:
                if len(self._held) < _BINARY.size + addresses.size:
                    return len(self._held)
                source, port = addresses.unpack_from(self._held, _BINARY.size)
                self.client = _shown(_NAMED[family](source)), port
        elif command != _LOCAL:
            raise ValueError(f"0x{command:02x} is no version and command")
        self.complete = True
        return int(_BINARY.size + length)


def _named_by_text(line: bytes) -> tuple[str, int] | None:
    """Return the client that a line of version 1 names. Raises ValueError with what is wrong."""
    fields = line.decode("latin-1").split(" ")[1:]
    if fields[0] == "UNKNOWN":
        return None
    try:
        kind = _NAMED_BY_TEXT[fields[0]]
        # A zone, behind "%", means something on the proxy's machine only.
        source, _ = (kind(text.partition("%")[0]) for text in fields[1:3])
        port, _ = (_port(text) for text in fields[3:])
    except (KeyError, ValueError) as error:
        raise ValueError(f"it is no line of version 1: {line!r}") from error
    return _shown(source), port


def _port(text: str) -> int:
    if not _PORT.fullmatch(text) or int(text) > _MAX_PORT:
        raise ValueError(text)
    return int(text)


def _shown(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """Return an address as text; one of IPv4 that is written as IPv6 (::ffff:192.0.2.1) as IPv4."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
