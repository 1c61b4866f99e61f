"""The paths of the admin port: metrics, health, the live stream, the past and the page, for reading only.

docs/operate.rst has the contract of the paths. What the answers show came off the wire, so each tells the
browser that no other site's page may use it. A browser that another site's name has led here (DNS rebinding)
is turned away: Host must be an address or a name of ours, unless the request has the token, which no other
site can have.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import json
import logging
import math
import re
import socket
import time
from contextlib import closing
from functools import partial
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs

import gevent
from gevent.pool import Pool
from gevent.socket import socket as gevent_socket

from collector.admin import past
from collector.admin.connections import HttpServer
from collector.admin.queries import MAX_QUERIES, WAIT_SECONDS, Queries
from collector.admin.query_process import Request
from collector.admin.stream import MAX_VIEWERS, Viewer, event
from collector.greenlets import keep_running
from collector.listen.acceptors import accept
from collector.listen.sockets import host_port, open_tcp
from collector.log import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from collector.admin.connections import Connection
    from collector.admin.keeper import Keeper
    from collector.admin.queries import Answer
    from collector.admin.status import Status
    from collector.admin.stream import History, LiveStream
    from collector.config.tables import Admin, Config
    from collector.stats import Stats

log = logging.getLogger(__name__)

# What may come in one turn of the loop: past it the kernel makes clients ask again after a second.
_BACKLOG = 4096
_USUAL_SPAN_SECONDS = 60 * 60
_GROUPS_IN_A_PIECE = 20
# What comes meanwhile waits: a viewer who wants more goes on from the cursor.
_HISTORY_SECONDS = 3.0
# By which the clocks of clients may differ from ours.
_CLOCKS_SECONDS = 5.0
_STREAM_PARAMETERS = ("logger", "level", "text", "regex", "written", "last")
_RETRY_SECONDS = 5.0
_COOKIE = "collector_token"
_WITHOUT_TOKEN = ("/healthz", "/readyz")
_HOW_TO_GET_METRICS = (
    "/metrics needs the library prometheus_client: pip install 'gevent-collector[metrics]'\n"
)
_BAD, _UNAVAILABLE = "400 Bad Request", "503 Service Unavailable"
_ALL_SEARCH = f"{MAX_QUERIES} questions are being answered already: ask again in {WAIT_SECONDS:.0f} s\n"
_TEXT, _HTML, _JSON = "text/plain; charset=utf-8", "text/html; charset=utf-8", "application/json"
_KINDS = {".html": _HTML, ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
_PAGE = {
    file.name: file.read_bytes()
    for file in Path(__file__).with_name("page").iterdir()
    if file.suffix in _KINDS
}
"""The files of the page, by their names. Its document is `/`, the others stand below `/page/`."""
_FORM = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>Collector: token</title>
<form><label>Token, as in [admin] of the configuration: <input name="token" type="password" autofocus></label>
<button>Open</button></form>
<p role="alert">{words}</p>
<script>{script}</script>
</html>
"""
# The address is shown, kept in the history and shared: what was tried is not to stay in it.
_FORGET = "history.replaceState(null, '', location.pathname + location.hash)"


def _hash(content: str) -> str:
    """Return the source of a Content-Security-Policy that allows what stands inline in a document."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


_POLICY = (
    f"default-src 'none'; script-src 'self' {_hash(_FORGET)}; style-src 'self'; "
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
    """The answer to a request; a body of pieces is sent as they come."""

    status: str
    kind: str
    body: bytes | Iterable[bytes]
    headers: tuple[tuple[str, str], ...] = ()


def _file_of_the_page(name: str, _environ: dict[str, Any]) -> _Answer:
    return _Answer("200 OK", _KINDS[Path(name).suffix], _PAGE[name])


def _text(status: str, text: str) -> _Answer:
    return _Answer(status, _TEXT, text.encode())


class AdminPort:
    """Answers requests, from when the port is free: collecting does not wait for that."""

    def __init__(
        self, config: Config, status: Status, stream: LiveStream, keeper: Keeper, stats: Stats
    ) -> None:
        """*config* has an [admin]."""
        self._queries = Queries(config)
        self._status = status
        self._stream = stream
        self._keeper = keeper
        self._stats = stats
        self._paths: dict[str, Callable[[dict[str, Any]], _Answer]] = {
            "/": partial(_file_of_the_page, "page.html"),
            **{f"/page/{name}": partial(_file_of_the_page, name) for name in _PAGE if name != "page.html"},
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/metrics": self._metrics,
            "/api/stream": self._watch,
            "/api/records": self._records,
            "/api/counts": self._counts,
            "/api/exceptions": self._exceptions,
            "/api/loggers": lambda _: _json({"loggers": status.loggers()}),
            "/api/clients": lambda _: _json({"clients": status.clients(), "total": status.clients_now}),
            "/api/stats": lambda _: _json(status.totals()),
        }

    @property
    def _admin(self) -> Admin:
        assert self._queries.config.admin  # noqa: S101 - else there would be no port
        return self._queries.config.admin

    def reconfigure(self, config: Config) -> None:
        """Go by *config* from now on; the address stays."""
        self._queries.config = config

    def start(self) -> None:
        """Begin to serve. Where the port is taken, that is logged and tried again."""
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
        server = HttpServer(self._admin.host, listeners[0].getsockname()[1], self._answer, self._stats)
        # Without a limit: the server has limits of its own, and a full pool would keep health checks out.
        pool = Pool()
        for listener in listeners:
            address = listener.getsockname()
            ours = gevent_socket(fileno=listener.detach())
            ours.setblocking(False)  # noqa: FBT003 - its only parameter
            keep_running("admin", partial(accept, ours, pool, server.handle), self._stats)
            say(f"admin on {host_port(address)[1]}")

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        """Serve one request, as a WSGI application."""
        answer = self._checked_answer(environ)
        headers = [*_HEADERS, ("Content-Type", answer.kind), *answer.headers]
        body = answer.body
        if isinstance(body, bytes):
            headers.append(("Content-Length", str(len(body))))
            body = [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
        start_response(answer.status, headers)
        return body

    def _checked_answer(self, environ: dict[str, Any]) -> _Answer:  # noqa: PLR0911 - a check each
        """Answer a request, or say why it is refused."""
        path = environ["PATH_INFO"]
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _text("405 Method Not Allowed", "only GET and HEAD: nothing can be changed here\n")
        given = self._given_token(environ)
        has_token = bool(self._admin.token) and hmac.compare_digest(
            given.encode(), self._admin.token.encode()
        )
        # Health is no secret, and what checks it may use any name for this machine.
        is_open = has_token or path in _WITHOUT_TOKEN
        if not is_open and not self._is_our_name(environ.get("HTTP_HOST", "")):
            words = "this is not one of my names; use my IP address or host name, [admin] names, or a token\n"
            return _text("421 Misdirected Request", words)
        # Another site's page could not read the answer, but could use up the viewers of the stream.
        if environ.get("HTTP_SEC_FETCH_SITE") in ("cross-site", "same-site") and path != "/":
            return _text("403 Forbidden", "not from another site's page\n")
        if self._admin.token and not is_open:
            if given:
                address = host_port((environ["REMOTE_ADDR"], 0))[0]
                log.warning("admin: a wrong token from %s", address, extra={"cause": address})
            form = _FORM.format(words="This token is wrong." if given else "", script=_FORGET)
            kind, body = (_HTML, form) if path == "/" else (_TEXT, "Authorization: Bearer TOKEN is missing\n")
            return _Answer("401 Unauthorized", kind, body.encode(), (("WWW-Authenticate", "Bearer"),))
        if path == "/" and has_token and "token" in _query(environ):
            # Away from the address, which is shown, kept in the history and shared.
            cookie = f"{_COOKIE}={given}; HttpOnly; SameSite=Strict; Path=/"
            return _Answer("303 See Other", _TEXT, b"", (("Location", "/"), ("Set-Cookie", cookie)))
        if path not in self._paths:
            known = [known for known in self._paths if not known.startswith("/page/")]
            return _text("404 Not Found", f"there are {' '.join(known)}\n")
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

    def _is_our_name(self, host: str) -> bool:
        """Whether Host is an address, which no foreign name server can give, or a name of this machine."""
        name = re.sub(r":\d*$", "", host).strip("[]").rstrip(".").lower()
        try:
            ipaddress.ip_address(name.partition("%")[0])
        except ValueError:
            names = ("localhost", self._admin.host, socket.gethostname(), *self._admin.names)
            # A browser sends an international name in its encoded form, as name servers have it.
            return name in [one.rstrip(".").encode("idna").decode().lower() for one in names]
        return True

    def _healthz(self, _environ: dict[str, Any]) -> _Answer:
        fault = self._status.fault()
        return _text(_UNAVAILABLE, f"{fault}\n") if fault else _text("200 OK", "ok\n")

    def _readyz(self, _environ: dict[str, Any]) -> _Answer:
        draining = self._status.draining
        return _text(_UNAVAILABLE, "draining\n") if draining else _text("200 OK", "ok\n")

    def _metrics(self, _environ: dict[str, Any]) -> _Answer:
        try:
            from collector.admin import metrics  # noqa: PLC0415 - needs an extra, and takes memory
        except ImportError:
            return _text("501 Not Implemented", _HOW_TO_GET_METRICS)
        return _Answer("200 OK", metrics.CONTENT_TYPE, metrics.render(self._status))

    def _records(self, environ: dict[str, Any]) -> _Answer:
        if environ["REQUEST_METHOD"] == "HEAD":
            return _json({})
        connection: Connection = environ["collector.connection"]
        try:
            request = past.request(_query(environ))
            answer = self._queries.ask(request, connection.is_gone, connection.allow)
        except ValueError as fault:
            return _text(_BAD, f"{fault}\n")
        except OSError as error:
            return _text(_UNAVAILABLE, f"cannot start what searches: {error}\n")
        if answer is None:
            retry = (("Retry-After", f"{WAIT_SECONDS:.0f}"),)
            return _Answer(_UNAVAILABLE, _TEXT, _ALL_SEARCH.encode(), retry)
        return _Answer("200 OK", _JSON, _found(answer))

    def _counts(self, environ: dict[str, Any]) -> _Answer:
        given, now = _query(environ), time.time()
        try:
            past.refuse_unknown(given, ("from", "to"))
            begin = past.time_of(given, "from", now - _USUAL_SPAN_SECONDS)
            end = past.time_of(given, "to", now)
        except ValueError as fault:
            return _text(_BAD, f"{fault}\n")
        self._keeper.look()
        return _json(self._keeper.counts.between(begin, end, now))

    def _exceptions(self, environ: dict[str, Any]) -> _Answer:
        given = _query(environ)
        try:
            past.refuse_unknown(given, ("since",))
            since = past.time_of(given, "since", math.inf)
        except ValueError as fault:
            return _text(_BAD, f"{fault}\n")
        exceptions = self._keeper.exceptions
        groups = exceptions.groups(since)
        # They may take megabytes, and a page asks for them each second.
        tag = f'"{exceptions.version}-{sum(group["new"] for group in groups)}"'
        headers = (("ETag", tag),)
        if environ.get("HTTP_IF_NONE_MATCH") == tag:
            return _Answer("304 Not Modified", _JSON, b"", headers)
        return _Answer("200 OK", _JSON, _groups(groups, exceptions.skipped), headers)

    def _watch(self, environ: dict[str, Any]) -> _Answer:
        if environ["REQUEST_METHOD"] == "HEAD":
            return _Answer("200 OK", "text/event-stream", b"")
        query = _query(environ)
        if not self._stream.claim():
            return _text(_UNAVAILABLE, f"{MAX_VIEWERS} watch already\n")
        connection: Connection = environ["collector.connection"]
        connection.become_a_stream()
        viewer = None
        try:
            past.refuse_unknown(query, _STREAM_PARAMETERS)
            written = query.get("written", "") == "1"
            last = past.count(query, "last", 0)
            filters = past.filters_of(query)
            asked = Request(
                filters,
                last,
                newest_first=False,
                written=written,
                seconds=_HISTORY_SECONDS,
                passed_from=time.time() - _CLOCKS_SECONDS,
            )
            viewer = Viewer(
                written=written,
                behind=bool(last),
                **{key: filters[key] for key in ("level", "logger", "text", "regex") if key in filters},
            )
        except ValueError as fault:
            return _text(_BAD, f"{fault}\n")
        except OSError as error:
            return _text(_UNAVAILABLE, f"cannot start what searches: {error}\n")
        finally:
            if viewer is None:
                self._stream.release()
        history = self._history(asked, connection.is_gone) if last else None
        return _Answer("200 OK", "text/event-stream", self._stream.watch(viewer, connection.is_gone, history))

    def _history(self, request: Request, is_gone: Callable[[], bool]) -> History:
        """Yield the events of the last records, and then one that says whether that was all."""
        why = _ALL_SEARCH.rstrip("\n")
        try:
            answer = self._queries.ask(request, is_gone)
        except (ValueError, OSError) as fault:
            answer, why = None, str(fault)
        if answer is None:
            yield event("history", {"cursor": "", "complete": False, "why": why}), []
            return
        with closing(answer):
            for found in answer.records():
                yield b"".join(b"data: %b\n\n" % record for _, record in found), [mark for mark, _ in found]
        yield event("history", answer.end), answer.passed


def _found(answer: Answer) -> Iterator[bytes]:
    """Yield an answer in pieces, as it comes."""
    with closing(answer):
        yield b'{"records": ['
        comma = b""
        for found in answer.records():
            if found:
                yield comma + b", ".join(record for _, record in found)
                comma = b", "
        yield b"], " + json.dumps(answer.end).encode()[1:]


def _groups(groups: list[dict[str, Any]], skipped: int) -> Iterator[bytes]:
    """Yield groups in pieces, so that others have their turn: together they may take megabytes."""
    yield b'{"groups": ['
    for at in range(0, len(groups), _GROUPS_IN_A_PIECE):
        piece = json.dumps(groups[at : at + _GROUPS_IN_A_PIECE]).encode()[1:-1]
        yield (b", " if at else b"") + piece
        gevent.sleep(0)
    yield b'], "skipped": %d}' % skipped


def _json(value: object) -> _Answer:
    return _Answer("200 OK", _JSON, json.dumps(value).encode())


def _query(environ: dict[str, Any]) -> dict[str, str]:
    return {key: values[-1] for key, values in parse_qs(environ["QUERY_STRING"]).items()}
