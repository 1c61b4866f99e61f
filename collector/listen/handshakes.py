"""What is said on a connection before its first frame: a proxy's header, and the TLS handshake.

Each is bounded in time. No byte behind a header is read: it belongs to what comes next.
"""

from __future__ import annotations

import logging
import select
import socket
from typing import TYPE_CHECKING

import gevent

from collector.stats import BROKEN_PROXY_HEADER, NO_PROXY_HEADER
from collector.wire.framing import FrameError, is_of_an_application
from collector.wire.proxy_header import ProxyHeader

if TYPE_CHECKING:
    from gevent.ssl import SSLContext, SSLSocket

    from collector.listen.service import Service

HANDSHAKE_SECONDS = 10.0
"""Far more than a handshake across the world takes, or a PROXY header. A client that stalls holds its place
among max_clients no longer than this."""

_KNOCK_SECONDS = 1.0
_LOOK_BYTES = 4096
_TLS_RECORD = b"\x16"  # as every handshake begins


class RefusedError(Exception):
    """A client is not served: why, the reason it is counted under, and the level at which it is logged."""

    def __init__(self, reason: str, why: str, level: int = logging.ERROR) -> None:
        super().__init__(why)
        self.reason = reason
        self.level = level


def read_proxy_header(sock: socket.socket, service: Service) -> ProxyHeader | None:
    """Read the header that a proxy of ours sends; None: the client went away before its first byte.

    A client that a stop cuts short has gone away as well. Raises RefusedError.
    """
    header = ProxyHeader()
    wrong = ""
    try:
        with gevent.Timeout(HANDSHAKE_SECONDS, TimeoutError(f"not within {HANDSHAKE_SECONDS:.0f} s")):
            _take_header(sock, header)
    except OSError as error:
        wrong = str(error) if isinstance(error, TimeoutError) else ""  # a reset is an end like any other
    if header.complete:
        return header
    wrong = wrong or header.fault
    if not wrong and (not header.taken or service.draining):
        return None
    if header.version:
        raise RefusedError(BROKEN_PROXY_HEADER, f"its PROXY header is broken: {wrong or 'cut short'}")
    remedy = "its address is in [listen] proxy_protocol: have it send one, or take the address out"
    raise RefusedError(NO_PROXY_HEADER, f"it sends no PROXY header, and {remedy}")


def refuse_proxy_header(sock: socket.socket) -> None:
    """Raise FrameError if a PROXY header comes where a TLS handshake should; reads nothing of a handshake."""
    header = ProxyHeader()
    _take_header(sock, header, signature_only=True)
    if header.version:
        raise FrameError.of_proxy(header.version)


def first_bytes(sock: socket.socket) -> bytes:
    """Wait for what a client sends first and return it, still unread; b"": it has gone. Raises OSError."""
    return sock.recv(_LOOK_BYTES, socket.MSG_PEEK)


def has_only_knocked(sock: socket.socket) -> bool:
    """Tell whether a client has gone without a byte. Waits until that is known, but a second at most."""
    try:
        with gevent.Timeout(_KNOCK_SECONDS, TimeoutError()):
            return not first_bytes(sock)
    except TimeoutError:
        return False
    except OSError:  # a reset is an end like any other
        return True


def with_tls(sock: socket.socket, context: SSLContext) -> SSLSocket:
    """Return the socket of a client that has begun a handshake, which is still to be done.

    *sock* is of no use any more. Raises OSError if the client has hung up meanwhile.
    """
    # A handshake takes up to a millisecond of CPU. Of a thousand clients that come at once, the last have
    # given up by their turn: time spent on them makes those behind them give up too.
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLRDHUP)
    if poll.poll(0):
        raise OSError("it has hung up meanwhile")
    return context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)


def explain_no_tls(begin: bytes, max_frame_bytes: int) -> tuple[str, str]:
    """Explain a handshake that failed by its first bytes: why, and what an application has sent instead.

    Both are "" if those say nothing.
    """
    if not begin or begin.startswith(_TLS_RECORD):
        return "", ""
    misled = "no TLS" if is_of_an_application(begin, max_frame_bytes) else ""
    return "it sends no TLS; see docs/clients.rst, TLS", misled


def _take_header(sock: socket.socket, header: ProxyHeader, *, signature_only: bool = False) -> None:
    """Read a PROXY header until it is complete, or shows a fault, or the connection ends; nothing behind it.

    With *signature_only* it reads until the version is known. Raises OSError.
    """
    while not (header.complete or header.fault or (signature_only and header.version)):
        seen = sock.recv(_LOOK_BYTES, socket.MSG_PEEK)
        if not seen:
            return
        sock.recv(header.feed(seen))
