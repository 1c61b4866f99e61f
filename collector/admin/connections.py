"""The connections of the admin port: HTTP by gevent's pywsgi, bounded in number, size and time."""

from __future__ import annotations

import logging
import select
import socket
from io import BytesIO
from typing import TYPE_CHECKING, Any

import gevent
from gevent.pywsgi import LoggingLogAdapter, WSGIHandler, WSGIServer

from collector.admin.stream import MAX_VIEWERS
from collector.greenlets import tell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from collector.stats import Stats

log = logging.getLogger(__name__)

# A request is sent at once and answered at once, so whoever needs long for either is in nobody's way: past
# these numbers the connection goes that has been longest at it. No number is for one address, for behind
# one may be many. Viewers of the stream are in neither; there are MAX_VIEWERS of them.
_MAX_ASKING = 64
_MAX_ANSWERED = 32
FILES = _MAX_ASKING + _MAX_ANSWERED + 2 * MAX_VIEWERS
"""Descriptors that connections take at most: a viewer with a regular expression has one to what searches."""
# From the connection, or the last answer, to the last byte of a request; and so much more to the last one of
# its answer. A stream has its own rule.
_ASKING_SECONDS = 5.0
_ANSWERED_SECONDS = 10.0
# A viewer that takes nothing for so long gives its place to another.
_STALLED_SECONDS = 60.0
_MAX_HEADER_BYTES = 16 * 1024
# Enough for a tenth of a second; what a slow viewer does not take is not piled up in the kernel.
_SEND_BUFFER_BYTES = 256 * 1024


class HttpServer(WSGIServer):  # type: ignore[misc] # gevent has no annotations here
    """What the connections have in common. It accepts none by itself: handle() is given them."""

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
        self.asking = _Latest(_MAX_ASKING)
        """Connections with a request that is not there yet, kept alive after an answer or not."""
        self.answered = _Latest(_MAX_ANSWERED)


class _Latest:
    """So many greenlets, the latest: to let another one in ends the one that came first."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._greenlets: dict[gevent.Greenlet, None] = {}

    def let_in(self, greenlet: gevent.Greenlet) -> None:
        """Take *greenlet* for the last that has come."""
        self._greenlets[greenlet] = None
        if len(self._greenlets) > self._number:
            first = next(iter(self._greenlets))
            self.let_go(first)
            first.kill(block=False)

    def let_go(self, greenlet: gevent.Greenlet) -> None:
        """Count *greenlet* no longer, if it was counted."""
        self._greenlets.pop(greenlet, None)


class Connection(WSGIHandler):  # type: ignore[misc] # gevent has no annotations here
    """A connection: what pywsgi leaves unbounded is bounded here, and its errors go to our log."""

    def handle(self) -> None:
        """Serve one request after the other, while the limits let it."""
        self._greenlet = gevent.getcurrent()
        try:
            super().handle()
        finally:
            self.server.asking.let_go(self._greenlet)
            self.server.answered.let_go(self._greenlet)

    def handle_one_request(self) -> object:
        """Serve one request in time, or end the connection."""
        self.server.answered.let_go(self._greenlet)
        self.server.asking.let_in(self._greenlet)
        with (
            gevent.Timeout(_ASKING_SECONDS + _ANSWERED_SECONDS, False) as self._answered_by,  # noqa: FBT003 - gevent's way to raise nothing
            gevent.Timeout(_ASKING_SECONDS, False) as self._asked_by,  # noqa: FBT003 - the same
        ):
            done = super().handle_one_request()
            gevent.sleep(0)  # one request may lie behind the other: all else has its turn in between
            return done
        return None

    def MessageClass(self, rfile: Any, _: object) -> Any:  # noqa: ANN401, N802 - pywsgi's names and types
        """Read the headers, of which a hundred may have 64 KiB each otherwise."""
        lines, size = [], 0
        while (line := rfile.readline(_MAX_HEADER_BYTES)) not in (b"\r\n", b"\n", b""):
            size += len(line)
            if size >= _MAX_HEADER_BYTES:
                raise ValueError(f"more than {_MAX_HEADER_BYTES} bytes of headers")
            lines.append(line)
        return super().MessageClass(BytesIO(b"".join([*lines, b"\r\n"])), 0)

    def read_request(self, raw_requestline: str) -> bool:
        """Refuse a body, which no path has a use for and pywsgi would read to its end."""
        super().read_request(raw_requestline)
        if self.content_length or "transfer-encoding" in self.headers:
            raise ValueError("a body")
        self._asked_by.cancel()
        self.server.asking.let_go(self._greenlet)
        self.server.answered.let_in(self._greenlet)
        return True

    def get_environ(self) -> dict[str, Any]:
        """Let the stream look at the connection."""
        return {**super().get_environ(), "collector.connection": self}

    def become_a_stream(self) -> None:
        """From now on the viewer has time, as long as it takes something now and then."""
        self._answered_by.cancel()
        self.server.answered.let_go(self._greenlet)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        self.socket.settimeout(_STALLED_SECONDS)
        self.close_connection = True

    def is_gone(self) -> bool:
        """Whether the other side has hung up."""
        # Not by reading: what it has sent behind its request would lie in front of the end.
        poll = select.poll()
        poll.register(self.socket.fileno(), select.POLLRDHUP)
        return bool(poll.poll(0))

    def handle_error(self, _: type, error: BaseException, __: object) -> None:
        """Log a fault of ours; that a connection ends or takes too long is none."""
        self.close_connection = True
        if isinstance(error, OSError | gevent.Timeout | gevent.GreenletExit):
            return
        tell("admin", error, self.server.stats, "a request is answered with 500")
        self._send_error_response_if_possible(500)

    def _handle_client_error(self, error: BaseException) -> tuple[str, bytes]:
        log.debug("admin: a bad request from %s: %s", self.client_address, error)
        return "400", b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
