"""The connections of the admin port: HTTP by gevent's pywsgi, bounded in number, size and time."""

from __future__ import annotations

import logging
import re
import select
import socket
from io import BytesIO
from typing import TYPE_CHECKING, Any

import gevent
from gevent.pywsgi import LoggingLogAdapter, WSGIHandler, WSGIServer

from collector.admin.queries import MAX_QUERIES
from collector.admin.stream import MAX_VIEWERS
from collector.greenlets import tell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from collector.stats import Stats

log = logging.getLogger(__name__)

# A request is sent at once and answered at once, so a connection that takes long over either can be spared:
# past these numbers the one goes that has taken longest. There is no limit for one address, since many people
# may be behind it. Viewers of the stream count in neither; there are MAX_VIEWERS of them.
_MAX_ASKING = 64
_MAX_ANSWERED = 32
FILES = _MAX_ASKING + _MAX_ANSWERED + 2 * MAX_VIEWERS + 3 * MAX_QUERIES
"""The most descriptors that connections take.

A viewer with a regular expression has one more, to its process; who asks for records has two."""
# How long a request may take, from the connection or the last answer to its last byte, and how much longer
# its answer may. A stream has a rule of its own.
_ASKING_SECONDS = 5.0
_ANSWERED_SECONDS = 10.0
# A viewer that takes nothing for this long makes room for another.
_STALLED_SECONDS = 60.0
_MAX_HEADER_BYTES = 16 * 1024
# Enough for a tenth of a second: what a slow viewer does not take is not to pile up in the kernel.
_SEND_BUFFER_BYTES = 256 * 1024

_QUERY = re.compile(r"\?\S*")


class HttpServer(WSGIServer):  # type: ignore[misc] # gevent has no annotations here
    """What the connections have in common. It accepts none itself: handle() is given each."""

    def __init__(
        self, host: str, port: int, application: Callable[..., Iterable[bytes]], stats: Stats
    ) -> None:
        super().__init__(
            ("", 0),
            application,
            handler_class=Connection,
            log=LoggingLogAdapter(log, logging.DEBUG),
            error_log=LoggingLogAdapter(log, logging.DEBUG),
            environ={"SERVER_NAME": host, "SERVER_PORT": str(port)},
        )
        self.stats = stats
        self.asking = _Newest(_MAX_ASKING)
        """Connections whose next request, or first, has not wholly arrived."""
        self.answered = _Newest(_MAX_ANSWERED)
        """Connections whose answer is on its way."""


class _Newest:
    """A limited number of greenlets: past it, adding one ends the oldest."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._greenlets: dict[gevent.Greenlet, None] = {}

    def add(self, greenlet: gevent.Greenlet) -> None:
        """Count *greenlet* as the newest."""
        self._greenlets[greenlet] = None
        if len(self._greenlets) > self._number:
            first = next(iter(self._greenlets))
            self.discard(first)
            first.kill(block=False)

    def discard(self, greenlet: gevent.Greenlet) -> None:
        """Stop counting *greenlet*, if it is counted."""
        self._greenlets.pop(greenlet, None)


class Connection(WSGIHandler):  # type: ignore[misc] # gevent has no annotations here
    """One connection: bounds what pywsgi leaves unbounded, and sends its errors to our log."""

    def handle(self) -> None:
        """Serve one request after another, within the limits."""
        # Headers and body are sent apart: the kernel would hold the body back until those are acknowledged.
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._greenlet = gevent.getcurrent()
        self._answered_by = gevent.Timeout()
        try:
            super().handle()
        finally:
            self._answered_by.close()
            self.server.asking.discard(self._greenlet)
            self.server.answered.discard(self._greenlet)

    def handle_one_request(self) -> object:
        """Serve one request in time, or end the connection."""
        self.server.asking.add(self._greenlet)
        with (
            gevent.Timeout(_ASKING_SECONDS + _ANSWERED_SECONDS, False) as self._answered_by,  # noqa: FBT003 - gevent's way to raise nothing
            gevent.Timeout(_ASKING_SECONDS, False) as self._asked_by,  # noqa: FBT003 - the same
        ):
            done = super().handle_one_request()
            # Now, as others have their turn first: meanwhile it is none whose answer, or request, takes long.
            self.server.answered.discard(self._greenlet)
            gevent.sleep(0)  # requests may wait one behind another: everything else has its turn in between
            self._answered_by.close()  # it may be another by now
            return done
        return None

    def MessageClass(self, rfile: Any, _: object) -> Any:  # noqa: ANN401, N802 - pywsgi's names and types
        """Read the headers, within a limit: pywsgi would take a hundred of 64 KiB each."""
        lines, size = [], 0
        while (line := rfile.readline(_MAX_HEADER_BYTES)) not in (b"\r\n", b"\n", b""):
            size += len(line)
            if size >= _MAX_HEADER_BYTES:
                raise ValueError(f"more than {_MAX_HEADER_BYTES} bytes of headers")
            lines.append(line)
        return super().MessageClass(BytesIO(b"".join([*lines, b"\r\n"])), 0)

    def read_request(self, raw_requestline: str) -> bool:
        """Read a request, refusing a body: no path has a use for one, and pywsgi would read it to its end."""
        super().read_request(raw_requestline)
        if self.content_length or "transfer-encoding" in self.headers:
            raise ValueError("a body")
        self._asked_by.cancel()
        self.server.asking.discard(self._greenlet)
        self.server.answered.add(self._greenlet)
        return True

    def format_request(self) -> str:
        """Return the line of the log for a request, without its query: a token may stand there."""
        return _QUERY.sub("?***", super().format_request())

    def get_environ(self) -> dict[str, Any]:
        """Add the connection, for the live stream."""
        return {**super().get_environ(), "collector.connection": self}

    def allow(self, seconds: float) -> None:
        """Let the answer take so long from now on. Only for as many at a time as FILES provides for."""
        self._answered_by.close()
        self._answered_by = gevent.Timeout.start_new(seconds)
        self.server.answered.discard(self._greenlet)

    def become_a_stream(self) -> None:
        """Give the viewer all the time it wants, as long as it takes something now and then."""
        self._answered_by.close()
        self.server.answered.discard(self._greenlet)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        self.socket.settimeout(_STALLED_SECONDS)
        self.close_connection = True

    def is_gone(self) -> bool:
        """Whether the other side has hung up."""
        # Not by reading, which would first find whatever was sent behind the request.
        poll = select.poll()
        poll.register(self.socket.fileno(), select.POLLRDHUP)
        return bool(poll.poll(0))

    def handle_error(self, _: type, error: BaseException, __: object) -> None:
        """Log *error* if it is a fault of ours, rather than a connection that has ended or taken too long."""
        self.close_connection = True
        if isinstance(error, OSError | gevent.Timeout | gevent.GreenletExit):
            return
        tell("admin", error, self.server.stats, "a request is answered with 500")
        self._send_error_response_if_possible(500)

    def _handle_client_error(self, error: BaseException) -> tuple[str, bytes]:
        log.debug("admin: a bad request from %s: %s", self.client_address, error)
        return "400", b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
