"""The command `send`: sends records through a stock SocketHandler to where a configuration listens.

Nothing that collects loads this module, as logging.handlers brings pickle with it.
"""

from __future__ import annotations

import logging.handlers
import socket
import ssl
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from collector.config.load import load
from collector.exits import EXIT_CANNOT_START, EXIT_FAILED, EXIT_OK
from collector.listen.sockets import host_port, to_reach
from collector.listen.tls import client_context

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from collector.config.tables import Tls

# Over TLS a hang-up comes in several forms.
_HANG_UPS = (ssl.SSLEOFError, ssl.SSLZeroReturnError)
# A collector whose reserve is full may not read for a while.
_READ_SECONDS = 10.0


class _TlsHandler(logging.handlers.SocketHandler):
    def __init__(self, host: str, port: int, context: ssl.SSLContext) -> None:
        super().__init__(host, port)
        self._context = context

    def makeSocket(self, timeout: float = 1) -> socket.socket:  # noqa: N802 - the handler's name
        return self._context.wrap_socket(super().makeSocket(timeout))


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit code. Raises ConfigError and TlsError."""
    listen = load(options.config).listen
    host = to_reach(options.host or listen.host)
    port = listen.port if options.port is None else options.port
    # A Unix socket has no TLS, so that no client needs a certificate there.
    asked = options.host or options.port is not None
    unix = listen.unix if not asked and (not port or (listen.tls and listen.tls.client_ca)) else ""
    if not (port or unix):
        _say("[listen] port = 0 does not tell the port; give it by --port")
        return EXIT_CANNOT_START
    where = unix or host_port((host, port))[1]
    handler = _handler(host, port, unix, listen.tls)
    connected = False
    try:
        with handler.makeSocket() as sock:
            connected = True
            sock.settimeout(_READ_SECONDS)
            for record in _records(options):
                sock.sendall(handler.makePickle(record))
            _wait_until_read(sock)
    except (OSError, UnicodeError) as error:  # UnicodeError: the name of no host
        why = getattr(error, "strerror", None) or error
        _say(f"{where} has not read all: {why}" if connected else f"cannot reach {where}: {why}")
        return EXIT_FAILED
    except KeyboardInterrupt:
        pass
    return EXIT_OK


def _handler(host: str, port: int, unix: str, tls: Tls | None) -> logging.handlers.SocketHandler:
    if unix:
        return logging.handlers.SocketHandler(unix, None)
    return _TlsHandler(host, port, client_context(tls)) if tls else logging.handlers.SocketHandler(host, port)


def _records(options: argparse.Namespace) -> Iterator[logging.LogRecord]:
    """Yield the record of the message, or one of each line of standard input as it comes."""
    texts: Iterator[str] = iter([" ".join(options.message)])
    if options.message == ["-"]:
        if sys.stdin is None:  # closed: there is nothing to send
            return
        texts = (line.rstrip(b"\r\n").decode("utf-8", "backslashreplace") for line in sys.stdin.buffer)
    for text in texts:
        yield logging.LogRecord(options.logger, options.level, __file__, 0, text, None, None, "send")


def _wait_until_read(sock: socket.socket) -> None:
    """Say that this was all, and wait until the collector hangs up. Raises OSError if it has not read all."""
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


def _say(text: str) -> None:
    print(f"collector send: {text}", file=sys.stderr)  # noqa: T201 - it is the command's answer
