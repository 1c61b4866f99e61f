"""A server between a forwarder and an engine, where connections break although requests are carried out."""

from __future__ import annotations

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from tests.support.serving import Serving

if TYPE_CHECKING:
    from collections.abc import Callable

_SECONDS = 60
_KEPT = ("content-type", "content-encoding")


class Relay(Serving):
    """Passes requests on, and their answers back. To be used with `with`."""

    def __init__(self, port: int) -> None:
        """Pass them on to *port*."""
        self._engine = port
        self.hangs_up = False
        """Whether a `_bulk` gets no answer."""
        self.before: Callable[[], object] = lambda: None
        """What is done before a `_bulk` is passed on, once nobody waits for its answer any more."""
        self.cut = self.done = 0
        """How many `_bulk` got no answer, and how many of those the engine has carried out."""
        self.searches: list[int] = []
        """The status of each answer to a search."""
        self._lock = threading.Lock()
        super().__init__(ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self)))
        self.url = f"http://127.0.0.1:{self.port}"

    @property
    def is_quiet(self) -> bool:
        """Whether all that were cut are carried out."""
        return self.done == self.cut

    def ask(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """Return status and body of the engine's answer. Raises OSError, http.client.HTTPException."""
        connection = http.client.HTTPConnection("127.0.0.1", self._engine, timeout=_SECONDS)
        try:
            connection.request(method, path, body or None, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def carry_out(self, path: str, headers: dict[str, str], body: bytes) -> None:
        """Pass a `_bulk` on although nobody waits for its answer."""
        with self._lock:
            self.cut += 1
        self.before()
        status, _ = self.ask("POST", path, headers, body)
        with self._lock:
            self.done += status == http.HTTPStatus.OK


def _handler_of(relay: Relay) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name: value for name, value in self.headers.items() if name.lower() in _KEPT}
            if relay.hangs_up and self.path.startswith("/_bulk"):
                self.close_connection = True
                what = (self.path, headers, body)
                threading.Thread(target=relay.carry_out, args=what, daemon=True).start()
                return
            try:
                status, data = relay.ask(self.command, self.path, headers, body)
            except (OSError, http.client.HTTPException):  # the engine is down
                self.close_connection = True
                return
            if "/_search" in self.path:
                relay.searches.append(status)
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = respond  # noqa: N815 - as http.server calls them

        def log_message(self, *_: object) -> None:
            pass

    return Handler
