"""Requests to a destination that speaks HTTP: one connection, one request at a time, each within its time.

Names, certificates and secrets are looked up at each connection; of several addresses each connection takes
the next. What an answer means is the destination's business. No redirect is followed: that is a fault of the
configuration. Knows no record.
"""

from __future__ import annotations

import base64
import http.client
import io
import os
import re
import ssl
import time
import traceback
import urllib.request
import zlib
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from collector.forward.destinations.tls import client_context, days_left, tls_fault
from collector.forward.verdicts import BrokenError, HoldError

if TYPE_CHECKING:
    import socket
    from typing import Any

    from collector.config.tables import Forward

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""10,000 items, each with a long reason, take a third of it."""
_PIECE_BYTES = 256 * 1024
_GZIP_LEVEL = 1  # 2 us a record; level 6 takes three times as long for a sixth less
_GZIP = 16 + zlib.MAX_WBITS
_PORTS = {"http": 80, "https": 443}
_TUNNEL = re.compile(r"Tunnel connection failed: (?P<status>\d{3})")


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: bytes
    retry_after: float | None
    """Seconds, if it told any."""
    location: str
    """Where a redirect leads."""


class HttpClient:
    """One connection to one of the addresses of a destination."""

    certificate_days: float | None = None
    """As Destination has it."""

    def __init__(self, settings: Forward, timeout_seconds: float | None = None) -> None:
        """Give each request *timeout_seconds*; None: what *settings* say."""
        self._settings = settings
        self._timeout = settings.timeout_seconds if timeout_seconds is None else timeout_seconds
        self._urls = tuple(urlsplit(url) for url in settings.urls or (settings.url,))
        self.addresses = len(self._urls)
        self._connections = 0
        self._connection: http.client.HTTPConnection | None = None
        self._timed: _TimedSocket | None = None
        """That of the connection."""
        self._headers: dict[str, str] = {}
        self._path = ""
        self.where = ""
        """The address of the last connection, for messages."""

    def connect(self) -> None:
        """Close what is open, and connect to the next address. Raises HoldError, OSError."""
        self.close()
        url = self._urls[self._connections % len(self._urls)]
        self._connections += 1
        self.where, self._path = url.geturl(), url.path.rstrip("/")
        self._headers = {"User-Agent": "gevent-collector", **_authorization(self._settings)}
        connection = self._connection = self._prepared(url)
        try:
            connection.connect()
            self.certificate_days = days_left(connection.sock, self._settings.certificate)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            traceback.clear_frames(error.__traceback__)  # http.client leaves a proxy's answer open there
            raise self._as_hold(error) or self._as_os_error(error) from None
        self._timed = connection.sock = _TimedSocket(connection.sock)

    def close(self) -> None:
        """Close the connection, if there is one. Raises nothing."""
        connection, self._connection, self._timed = self._connection, None, None
        if connection:
            with suppress(OSError):
                connection.close()

    def request(self, method: str, path: str, body: bytes = b"", content_type: str = "") -> Answer:
        """Send a request, and return its answer. *path* is below that of the address; *body* is compressed.

        Connects where there is no connection, or the peer has closed it. Raises HoldError and OSError where
        nothing can have been sent, else BrokenError. Where it raises, the connection is closed.
        """
        headers = {"Content-Type": content_type} if body else {}
        if body and self._settings.compression == "gzip":
            headers["Content-Encoding"] = "gzip"
            compressor = zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP)
            body = compressor.compress(body) + compressor.flush()
        connection, timed = self._open()
        timed.begin(self._timeout)
        try:
            connection.request(method, self._path + path, body or None, {**self._headers, **headers})
            answer = connection.getresponse()
            data = answer.read(MAX_ANSWER_BYTES + 1)
            if len(data) > MAX_ANSWER_BYTES:
                raise http.client.HTTPException(f"an answer of more than {MAX_ANSWER_BYTES} bytes")  # noqa: TRY301
            if answer.length:  # read() says nothing of a missing end
                raise http.client.IncompleteRead(data, answer.length)
        except (OSError, http.client.HTTPException) as error:
            # By TLS 1.3 a server may refuse our certificate behind the handshake, while we send already.
            hold = self._as_hold(error) or self._as_hold(timed.ended())
            self.close()
            text = f"{self.where}: {type(error).__name__}: {error}"
            broken = BrokenError(text, timed_out=isinstance(error, TimeoutError))
            raise hold or broken from None
        retry_after = _seconds(answer.getheader("Retry-After") or "")
        return Answer(answer.status, data, retry_after, answer.getheader("Location") or "")

    def _open(self) -> tuple[http.client.HTTPConnection, _TimedSocket]:
        """Return a connection that the peer has not closed, and its socket."""
        # http.client lets go of the socket behind an answer that says so.
        if not (self._connection and self._connection.sock and self._timed) or self._timed.ended():
            self.connect()
        assert self._connection  # noqa: S101 - connect() has made them
        assert self._timed  # noqa: S101
        return self._connection, self._timed

    def _prepared(self, url: SplitResult) -> http.client.HTTPConnection:
        """Return a connection that is still to be made. Raises HoldError."""
        host, port = url.hostname or "", url.port or _PORTS[url.scheme]
        proxy = self._proxy(url)
        near = (host, port) if proxy is None else (proxy.hostname or "", proxy.port or _PORTS["http"])
        credentials = {"Proxy-Authorization": _basic(proxy)} if proxy and proxy.username else {}
        if url.scheme == "http":
            if proxy:  # which is asked for the whole address
                self._path = f"http://{url.netloc}{self._path}"
                self._headers.update(credentials)
            return http.client.HTTPConnection(*near, timeout=self._timeout)
        context = client_context(self._settings)
        context.set_alpn_protocols(["http/1.1"])
        connection = http.client.HTTPSConnection(*near, timeout=self._timeout, context=context)
        if proxy:
            connection.set_tunnel(host, port, credentials)
        return connection

    def _proxy(self, url: SplitResult) -> SplitResult | None:
        """Return the proxy for *url*: that of the settings, else of the environment."""
        text = self._settings.proxy
        if not text and not urllib.request.proxy_bypass(url.hostname or ""):
            text = urllib.request.getproxies().get(url.scheme, "")
        if not text:
            return None
        proxy = urlsplit(text if "://" in text else f"http://{text}")
        if proxy.scheme != "http" or not proxy.hostname:
            shown = proxy._replace(netloc=proxy.netloc.rpartition("@")[2]).geturl()
            remedy = "name it as http://HOST:PORT, or add the host to no_proxy"
            raise HoldError("proxy", f"{self.where}: no proxy that can be used: {shown}", remedy)
        return proxy

    def _as_hold(self, error: Exception | None) -> HoldError | None:
        """Return what an error says of the destination itself; None: it may be well the next time."""
        if isinstance(error, ssl.SSLError):
            return tls_fault(error, self.where)
        refused = _TUNNEL.match(str(error))
        if refused and refused["status"] in ("401", "403", "407"):
            remedy = "give the proxy's credentials in https_proxy, or have it let this host through"
            return HoldError("proxy", f"{self.where}: the proxy refuses: {error}", remedy)
        return None

    def _as_os_error(self, error: Exception) -> OSError:
        """Return *error* as what an unreachable destination raises, with its address.

        Of an OSError the class is kept; else a proxy has answered rubbish.
        """
        kind, text = (type(error), error) if isinstance(error, OSError) else (OSError, repr(error))
        return kind(f"{self.where}: {text}")


class _TimedSocket:
    """A socket as http.client uses one, on which a request and its answer have one time together."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._ends = 0.0

    def begin(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds

    def ended(self) -> Exception | None:
        """Return why nothing more can be sent: the peer has closed it, or has sent what nobody asked for.

        None: it is open. What a server adds to a handshake, as by TLS 1.3, is read here.
        """
        try:
            self._sock.settimeout(0)
            self._sock.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        except (OSError, ValueError) as error:
            return error
        return ConnectionResetError("the peer has closed the connection")

    def _timed(self) -> socket.socket:
        """Return the socket, for one operation. Raises TimeoutError."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request took longer than timeout_seconds")
        self._sock.settimeout(left)
        return self._sock

    def sendall(self, data: Any) -> None:  # noqa: ANN401 - any bytes; what http.client calls
        view = memoryview(data)
        while view:
            view = view[self._timed().send(view[:_PIECE_BYTES]) :]

    def readinto(self, file: io.RawIOBase, buffer: Any) -> int | None:  # noqa: ANN401 - a buffer
        """Read from a *file* of the socket."""
        self._timed()
        return file.readinto(buffer)

    def makefile(self, _mode: str) -> io.BufferedReader:
        # The file keeps the socket open when http.client closes it, as it does before it reads a last answer.
        return io.BufferedReader(_Answering(self, self._sock.makefile("rb", buffering=0)))

    def close(self) -> None:
        self._sock.close()


class _Answering(io.RawIOBase):
    """The answer, as a file; closing it leaves the connection open."""

    def __init__(self, timed: _TimedSocket, file: io.RawIOBase) -> None:
        self._from = timed
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:  # noqa: ANN401 - a buffer
        return self._from.readinto(self._file, buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


def secret(path: str, key: str) -> str:
    """Return the secret in a file, without the whitespace around it; *key* names it in HoldError."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read().strip()
    except (OSError, ValueError) as error:
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    else:
        if text and text.isprintable():
            return text
        why = "it must hold one line of text"
    remedy = "write the secret there, readable for this user; it is read again at the next try"
    raise HoldError("secret", f"{key} = {path}: {why}", remedy)


def _authorization(settings: Forward) -> dict[str, str]:
    """Return the header that shows who we are, if anything is to. Raises HoldError."""
    if settings.token_file:
        return {"Authorization": f"Bearer {secret(settings.token_file, 'token_file')}"}
    if settings.api_key_file:
        key = secret(settings.api_key_file, "api_key_file")  # as `encoded` of the answer, or as id:api_key
        return {"Authorization": f"ApiKey {_base64(key) if ':' in key else key}"}
    if settings.user:
        password = secret(settings.password_file, "password_file")
        return {"Authorization": f"Basic {_base64(f'{settings.user}:{password}')}"}
    return {}


def _basic(proxy: SplitResult) -> str:
    return "Basic " + _base64(f"{unquote(proxy.username or '')}:{unquote(proxy.password or '')}")


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _seconds(retry_after: str) -> float | None:
    """Return how long to wait, by a header that has seconds or a date; None if it has neither."""
    if retry_after.isdecimal():
        return float(retry_after)
    try:
        return max(parsedate_to_datetime(retry_after).timestamp() - time.time(), 0.0)
    except (TypeError, ValueError):
        return None
