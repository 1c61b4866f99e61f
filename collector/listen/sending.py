"""A connection to where a configuration listens, for the commands that send something there."""

from __future__ import annotations

import fcntl
import os
import socket
import ssl
import struct
import termios
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from collector.listen.sockets import host_port, is_in, to_reach
from collector.listen.tls import client_context

if TYPE_CHECKING:
    import ipaddress

    from collector.config.tables import Listen

# As long as a stock SocketHandler waits.
_CONNECT_SECONDS = 1.0
# A collector whose reserve is full may not read for a while.
_READ_SECONDS = 10.0
_POLL_SECONDS = 0.005
# By which a proxy says that a connection is its own (doc/proxy-protocol.txt of HAProxy).
_FOR_ITSELF = b"PROXY UNKNOWN\r\n"
# Over TLS a hang-up comes in several forms.
_HANG_UPS = (ssl.SSLEOFError, ssl.SSLZeroReturnError)


class Way(NamedTuple):
    """How a collector is reached."""

    host: str
    port: int
    unix: str
    """The path of its Unix socket, "" if it is reached over TCP."""
    tls: ssl.SSLContext | None
    proxies: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]
    """From whose addresses it wants a PROXY header."""

    @classmethod
    def to(cls, listen: Listen, host: str | None = None, port: int | None = None) -> Way | None:
        """Return the way to what *listen* names, or to another host and port; None: nobody knows the port.

        Raises TlsError.
        """
        # A Unix socket has no TLS, so that no client needs a certificate there.
        asked = host or port is not None
        port = listen.port if port is None else port
        unix = listen.unix if not asked and (not port or (listen.tls and listen.tls.client_ca)) else ""
        if not (port or unix):
            return None
        tls = client_context(listen.tls) if listen.tls and not unix else None
        return cls(to_reach(host or listen.host), port, unix, tls, listen.proxy_protocol)

    def __str__(self) -> str:
        return self.unix or host_port((self.host, self.port))[1]

    def connect(self) -> socket.socket:
        """Connect. Raises OSError, and UnicodeError for the name of no host."""
        if self.unix:
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.settimeout(_CONNECT_SECONDS)
                sock.connect(self.unix)
            except OSError:
                sock.close()
                raise
        else:
            sock = socket.create_connection((self.host, self.port), timeout=_CONNECT_SECONDS)
            if is_in(host_port(sock.getsockname())[0], self.proxies):
                sock.sendall(_FOR_ITSELF)
            sock = self.tls.wrap_socket(sock) if self.tls else sock
        sock.settimeout(_READ_SECONDS)
        return sock


def wait_until_read(sock: socket.socket) -> None:
    """Say that this was all, and wait until the collector hangs up. Raises OSError if it has not read all."""
    # What comes after it has hung up is never acknowledged, but refused: too late to be seen below, perhaps.
    deadline = time.monotonic() + _READ_SECONDS
    while _unacknowledged(sock):
        if error := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(error, os.strerror(error))
        if time.monotonic() > deadline:
            raise TimeoutError("timed out")
        time.sleep(_POLL_SECONDS)
    if isinstance(sock, ssl.SSLSocket):
        # unwrap() would wait for an answer, and take the refusal of a certificate for one.
        sock.settimeout(0)
        with suppress(ssl.SSLWantReadError, *_HANG_UPS):
            sock.unwrap()
        sock.settimeout(_READ_SECONDS)
    else:
        sock.shutdown(socket.SHUT_WR)
    with suppress(*_HANG_UPS):
        sock.recv(1)


def _unacknowledged(sock: socket.socket) -> int:
    """Return how many bytes were sent and are not known to have arrived (SIOCOUTQ, tcp(7))."""
    waiting: int = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
    return waiting
