"""A connection to a destination that speaks neither HTTP nor a protocol of a library: TCP, with TLS by `ca`.

What is done on it has its time as a whole, however many operations it takes. Knows no protocol.
"""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from collector.forward.destinations.tls import client_context, days_left, tls_fault

if TYPE_CHECKING:
    from collector.config.tables import Forward
    from collector.forward.verdicts import HoldError

_PIECE_BYTES = 256 * 1024
_RECEIVED_BYTES = 64 * 1024


class Connection:
    """One connection; whoever makes it closes it."""

    def __init__(self, settings: Forward, seconds: float) -> None:
        """Connect, and shake hands where it is TLS. Raises HoldError, OSError."""
        self.where = settings.address
        self.certificate_days: float | None = None
        """As Destination has it."""
        self.begin(seconds)
        context = client_context(settings) if settings.ca else None
        host, port = settings.host_and_port
        try:
            # Each address of the host is tried.
            self._socket = socket.create_connection((host, port), seconds)
        except OSError as error:
            raise self.fault(error) from None
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if context:
                self._socket.settimeout(self._left())
                self._socket = context.wrap_socket(self._socket, server_hostname=host)
                self.certificate_days = days_left(self._socket, settings.certificate)
        except OSError as error:
            self.close()
            raise self.fault(error) from None

    def begin(self, seconds: float) -> None:
        """Give all that follows *seconds*, up to the next call."""
        self._ends = time.monotonic() + seconds

    def send(self, data: bytes) -> None:
        """Send all of *data*. Raises OSError; a TimeoutError once the time is over."""
        view = memoryview(data)
        while view:
            self._socket.settimeout(self._left())
            view = view[self._socket.send(view[:_PIECE_BYTES]) :]

    def receive(self) -> bytes:
        """Wait for bytes, and return those that are there. Raises OSError, at the end of all too."""
        self._socket.settimeout(self._left())
        # The peer's system keeps small pieces until those before are acknowledged (Nagle), and ours does that
        # after 40 ms: 2,700 answers of RELP a second, in place of 24,000. It has to be said each time.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        data = self._socket.recv(_RECEIVED_BYTES)
        if not data:
            raise ConnectionResetError("closed by the server")
        return data

    def is_over(self) -> bool:
        """Tell whether the peer has ended it, or said anything, while nothing was to come."""
        self._socket.settimeout(0)
        try:
            self._socket.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):  # in TLS, what is there may be for TLS alone
            return False
        except OSError:
            return True
        return True

    def close(self) -> None:
        """Close it. Raises nothing."""
        with suppress(OSError):
            self._socket.close()

    def fault(self, error: OSError) -> HoldError | OSError:
        """Return what to raise for an error while connecting: what TLS refuses holds."""
        held = tls_fault(error, self.where) if isinstance(error, ssl.SSLError) else None
        return held or OSError(f"{self.where}: {error}")

    def _left(self) -> float:
        """Return how much time is left, in seconds. Raises TimeoutError."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left
