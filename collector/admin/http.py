"""The admin port: metrics, health, the live stream and the page, over HTTP, for reading only.

Contract of the paths: docs/operate.rst. Every answer says that it is no page's but its own, for what it
shows came off the wire. A browser that was led here by another site's name (DNS rebinding) is turned away:
Host must be an address or a name of ours, unless the request has the token, which no other site can have.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import json
import logging
import re
import select
import socket
from functools import partial
from http.cookies import CookieError, SimpleCookie
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs

import gevent
from gevent.pool import Pool
from gevent.pywsgi import LoggingLogAdapter, WSGIHandler, WSGIServer
from gevent.socket import socket as gevent_socket

from collector import levels
from collector.admin.stream import MAX_VIEWERS, Viewer
from collector.greenlets import keep_running, tell
from collector.listen.acceptors import accept
from collector.listen.sockets import host_port, open_tcp
from collector.log import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from collector.admin.status import Status
    from collector.admin.stream import LiveStream
    from collector.config.load import Admin
    from collector.stats import Stats

log = logging.getLogger(__name__)

_PAGE = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
# A request is sent at once and answered at once, so whoever needs long for either is in nobody's way: past
# these numbers the connection goes that has been longest at it. No number is for one address, for behind
# one may be many. Viewers of the stream are in neither; there are MAX_VIEWERS of them.
_MAX_ASKING = 64
_MAX_ANSWERED = 32
FILES = _MAX_ASKING + _MAX_ANSWERED + 2 * MAX_VIEWERS
"""Descriptors that connections take at most: a viewer with a regular expression has one to what searches."""
# As many as come in one turn of the loop: past it the kernel has them ask again after a second.
_BACKLOG = 4096
# From the connection, or the last answer, to the last byte of a request; and so much more to the last one of
# its answer. A stream has its own rule.
_ASKING_SECONDS = 5.0
_ANSWERED_SECONDS = 10.0
# A viewer that takes nothing for so long gives its place to another.
_STALLED_SECONDS = 60.0
_MAX_HEADER_BYTES = 16 * 1024
# Enough for a tenth of a second; what a slow viewer does not take is not piled up in the kernel.
_SEND_BUFFER_BYTES = 256 * 1024
_RETRY_SECONDS = 5.0
_COOKIE = "collector_token"
_STREAM_PARAMETERS = "logger, level, text, regex and written=1"
_WITHOUT_TOKEN = ("/healthz", "/readyz")
_HOW_TO_GET_METRICS = (
    "/metrics needs the library prometheus_client: pip install 'gevent-collector[metrics]'\n"
)
_TEXT, _HTML, _JSON = "text/plain; charset=utf-8", "text/html; charset=utf-8", "application/json"
_FORM = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Collector: token</title>
<form><label>Token, as in [admin] of the configuration: <input name="token" type="password" autofocus></label>
<button>Open</button></form>
</html>
"""


def _hashes(element: str) -> str:
    """Return the sources of a Content-Security-Policy that allow what the page has inline in an *element*."""
    contents = re.findall(rf"<{element}\b[^>]*>(.*?)</{element}>", _PAGE, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in contents]
    return " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"


_POLICY = (
    f"default-src 'none'; script-src {_hashes('script')}; style-src {_hashes('style')}; "
    "img-src data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = [
    ("Content-Security-Policy", _POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
]


class _Answer(NamedTuple):
    """What a path says; a body that is no bytes is sent as it comes."""

    status: str
    kind: str
    body: bytes | Iterable[bytes]
    headers: tuple[tuple[str, str], ...] = ()


def _text(status: str, text: str) -> _Answer:
    return _Answer(status, _TEXT, text.encode())


class AdminPort:
    """Serves the admin port from now on, or as soon as the port is free: collecting does not wait for it."""

    def __init__(self, admin: Admin, status: Status, stream: LiveStream, stats: Stats) -> None:
        self._admin = admin
        self._status = status
        self._stream = stream
        self._stats = stats
        self._paths: dict[str, Callable[[dict[str, Any]], _Answer]] = {
            "/": lambda _: _Answer("200 OK", _HTML, _PAGE.encode()),
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/metrics": self._metrics,
            "/api/stream": self._watch,
            "/api/loggers": lambda _: _json({"loggers": status.loggers()}),
            "/api/clients": lambda _: _json({"clients": status.clients(), "total": status.clients_now}),
            "/api/stats": lambda _: _json(status.totals()),
        }

    def reconfigure(self, admin: Admin) -> None:
        """Ask for another token from now on; the address stays."""
        self._admin = admin

    def start(self) -> None:
        """Begin to serve, and to try again where the port is taken, which is logged."""
        keep_running("admin", self._open, self._stats)

    def _open(self) -> None:
        while True:
            try:
                listeners = open_tcp(self._admin.host, self._admin.port, _BACKLOG)
            except OSError as error:
                log.error("no admin port yet, %s; see [admin] host and port", error.strerror)
                gevent.sleep(_RETRY_SECONDS)
            else:
                break
        server = _Server(self._admin.host, listeners[0].getsockname()[1], self._answer, self._stats)
        # As many as come: the server has limits of its own, and a full pool would keep health out.
        places = Pool()
        for listener in listeners:
            address = listener.getsockname()
            ours = gevent_socket(fileno=listener.detach())
            ours.setblocking(False)  # noqa: FBT003 - its only parameter
            keep_running("admin", partial(accept, ours, places, server.handle), self._stats)
            say(f"admin on {host_port(address)[1]}")

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        """Serve one request, by WSGI."""
        answer = self._checked(environ)
        headers = [*_HEADERS, ("Content-Type", answer.kind), *answer.headers]
        body = answer.body
        if isinstance(body, bytes):
            headers.append(("Content-Length", str(len(body))))
            body = [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
        start_response(answer.status, headers)
        return body

    def _checked(self, environ: dict[str, Any]) -> _Answer:  # noqa: PLR0911 - a check each
        """Answer the request if it may have an answer."""
        path = environ["PATH_INFO"]
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _text("405 Method Not Allowed", "only GET and HEAD: nothing can be changed here\n")
        given = self._given_token(environ)
        has_token = bool(self._admin.token) and hmac.compare_digest(
            given.encode(), self._admin.token.encode()
        )
        # Health is no secret, and whoever checks it asks by a name of its own.
        is_open = has_token or path in _WITHOUT_TOKEN
        if not is_open and not self._is_ours(environ.get("HTTP_HOST", "")):
            words = "this is no name of mine; use my IP address or host name, [admin] names, or a token\n"
            return _text("421 Misdirected Request", words)
        # Other sites' pages could not read the answer, but take all the places of the stream.
        if environ.get("HTTP_SEC_FETCH_SITE") in ("cross-site", "same-site") and path != "/":
            return _text("403 Forbidden", "not from another site's page\n")
        if self._admin.token and not is_open:
            if given:
                address = host_port((environ["REMOTE_ADDR"], 0))[0]
                log.warning("admin: a wrong token from %s", address, extra={"by": address})
            kind, body = (
                (_HTML, _FORM) if path == "/" else (_TEXT, "Authorization: Bearer TOKEN is missing\n")
            )
            return _Answer("401 Unauthorized", kind, body.encode(), (("WWW-Authenticate", "Bearer"),))
        if path == "/" and has_token and "token" in _query(environ):
            # Out of the address, which is shown, kept and shared.
            cookie = f"{_COOKIE}={given}; HttpOnly; SameSite=Strict; Path=/"
            return _Answer("303 See Other", _TEXT, b"", (("Location", "/"), ("Set-Cookie", cookie)))
        if path not in self._paths:
            return _text("404 Not Found", f"there are {' '.join(self._paths)}\n")
        return self._paths[path](environ)

    @staticmethod
    def _given_token(environ: dict[str, Any]) -> str:
        """Return the token that came with the request, "" if none did."""
        scheme, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() == "bearer":
            return str(token.strip())
        if environ["PATH_INFO"] == "/" and (token := _query(environ).get("token", "")):
            return str(token)
        try:
            cookie = SimpleCookie(environ.get("HTTP_COOKIE", "")).get(_COOKIE)
        except CookieError:
            return ""
        return cookie.value if cookie else ""

    def _is_ours(self, host: str) -> bool:
        """Whether Host names this machine as no foreign name server can, or as the operator says."""
        name = re.sub(r":\d*$", "", host).strip("[]").rstrip(".").lower()
        try:
            ipaddress.ip_address(name.partition("%")[0])
        except ValueError:
            names = ("localhost", self._admin.host, socket.gethostname(), *self._admin.names)
            # A browser asks for an international name as the name servers have it.
            return name in [one.rstrip(".").encode("idna").decode().lower() for one in names]
        return True

    def _healthz(self, _environ: dict[str, Any]) -> _Answer:
        fault = self._status.fault()
        return _text("503 Service Unavailable", f"{fault}\n") if fault else _text("200 OK", "ok\n")

    def _readyz(self, _environ: dict[str, Any]) -> _Answer:
        draining = self._status.draining
        return _text("503 Service Unavailable", "draining\n") if draining else _text("200 OK", "ok\n")

    def _metrics(self, _environ: dict[str, Any]) -> _Answer:
        try:
            from collector.admin import metrics  # noqa: PLC0415 - needs an extra, and memory
        except ImportError:
            return _text("501 Not Implemented", _HOW_TO_GET_METRICS)
        return _Answer("200 OK", metrics.CONTENT_TYPE, metrics.render(self._status))

    def _watch(self, environ: dict[str, Any]) -> _Answer:
        if environ["REQUEST_METHOD"] == "HEAD":
            return _Answer("200 OK", "text/event-stream", b"")
        query = _query(environ)
        if not self._stream.claim():
            return _text("503 Service Unavailable", f"{MAX_VIEWERS} watch already\n")
        connection: _Handler = environ["collector.connection"]
        connection.become_a_stream()
        viewer = None
        try:
            level = levels.from_text(query.pop("level", "NOTSET"))
            written = query.pop("written", "") == "1"
            known = {key: query.pop(key, "") for key in ("logger", "text", "regex")}
            if query:
                raise ValueError(f"unknown: {', '.join(query)}; there are {_STREAM_PARAMETERS}")  # noqa: TRY301
            viewer = Viewer(level=level, written=written, **known)
        except ValueError as fault:
            return _text("400 Bad Request", f"{fault}\n")
        except OSError as error:
            return _text("503 Service Unavailable", f"cannot start what searches: {error}\n")
        finally:
            if viewer is None:
                self._stream.release()
        return _Answer("200 OK", "text/event-stream", self._stream.watch(viewer, connection.is_gone))


def _json(value: object) -> _Answer:
    return _Answer("200 OK", _JSON, json.dumps(value).encode())


def _query(environ: dict[str, Any]) -> dict[str, str]:
    return {key: values[-1] for key, values in parse_qs(environ["QUERY_STRING"]).items()}


class _Server(WSGIServer):  # type: ignore[misc] # gevent has no annotations here
    """What the connections have in common. It accepts none by itself: handle() is given them."""

    def __init__(
        self, host: str, port: int, application: Callable[..., Iterable[bytes]], stats: Stats
    ) -> None:
        super().__init__(
            ("", 0),
            application,
            handler_class=_Handler,
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


class _Handler(WSGIHandler):  # type: ignore[misc] # gevent has no annotations here
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
