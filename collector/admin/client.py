"""Asks the admin port of a running collector, as `[admin]` in the configuration describes it.

Knows the paths of that port and the form of its answers; what they mean is for the caller. Loads no gevent.
"""

from __future__ import annotations

import json
import urllib.parse
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import TYPE_CHECKING, Any, NamedTuple

from collector.config.tokens import token_of
from collector.escape import escape
from collector.format.json_lines import KEY_OF
from collector.listen.sockets import host_port, to_reach
from collector.log import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from collector.config.tables import Admin

_TIMEOUT_SECONDS = 10.0
_MOST_WORDS = 500
# The stream has something to send every 15 seconds.
_SILENCE_SECONDS = 45.0


class AdminClient:
    """A connection to the admin port, opened by the first request. The caller closes it.

    Raises OSError where the token cannot be read from its file.
    """

    def __init__(self, admin: Admin, timeout_seconds: float = _TIMEOUT_SECONDS) -> None:
        host = to_reach(admin.host)
        self.address = host_port((host, admin.port))[1]
        self._connection = HTTPConnection(host, admin.port, timeout=timeout_seconds)
        token = token_of(admin)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def get(self, path: str, **query: object) -> HTTPResponse:
        """Ask for /api/*path*, leaving out of the query what is empty. Raises OSError and HTTPException."""
        given = urllib.parse.urlencode({key: value for key, value in query.items() if value})
        self._connection.request("GET", f"/api/{path}{given and '?'}{given}", headers=self._headers)
        return self._connection.getresponse()

    def get_json(self, *paths: str) -> dict[str, Any]:
        """Return the answer to each of *paths*, asking for all before the first is parsed.

        Raises OSError with a text that names the address, what is wrong and the remedy.
        """
        with self._explained():
            answers = [self._read(path) for path in paths]
        return {path: self._parse(path, *answer) for path, answer in zip(paths, answers, strict=True)}

    def fault(self) -> str:
        """Return what keeps the collector from being healthy, in its own words; "": nothing does.

        Raises OSError as get_json() does.
        """
        with self._explained():
            self._connection.request("GET", "/healthz")  # which wants no token
            response = self._connection.getresponse()
            body = response.read(_MOST_WORDS).decode("utf-8", "replace").strip()
        if response.status == HTTPStatus.OK:
            return ""
        if response.status == HTTPStatus.SERVICE_UNAVAILABLE and body:
            return escape(body)
        raise OSError(f"{self.address} answers {response.status} {escape(response.reason)} to /healthz")

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Raise what a request raises as OSError, with the address, what is wrong, and the remedy."""
        try:
            yield
        except OSError as error:
            why = error.strerror or str(error) or "no answer"
            remedy = "does a collector run, with this [admin]?"
            raise OSError(f"cannot reach {self.address}: {why}; {remedy}") from error
        except HTTPException as error:
            raise OSError(f"{self.address} does not speak HTTP; see [admin] host and port") from error

    def _read(self, path: str) -> tuple[int, str, bytes]:
        response = self.get(path)
        return response.status, response.reason, response.read()

    def _parse(self, path: str, status: int, reason: str, body: bytes) -> Any:  # noqa: ANN401 - what JSON holds
        if status == HTTPStatus.UNAUTHORIZED:
            raise OSError(
                f"{self.address} wants another token; see [admin] token and token_file of the collector there"
            )
        try:
            return json.loads(body)
        except ValueError as error:
            raise OSError(f"{self.address} answers {status} {escape(reason)} to /api/{path}") from error


class Streamed(NamedTuple):
    """A record of the live stream."""

    logger: str
    time: bytes
    """In UTC, to the microsecond: `2026-11-22T10:00:00.123456`."""
    text: bytes
    """As it stands in its file, without the last newline."""


class Subscription:
    """The live stream: the records of a logger and those below it, from a level on. The caller closes it."""

    def __init__(self, admin: Admin | None, logger: str, level: int) -> None:
        self._admin = admin
        self._logger = logger
        self._level = level
        self._client: AdminClient | None = None
        self._answer: HTTPResponse | None = None

    def connect(self) -> str:
        """Ask for the stream; return why there is none, or ""."""
        if self._admin is None:
            return "there is no [admin] in the configuration"
        if not self._admin.port:
            return "[admin] port = 0 does not tell the port"
        try:
            self._client = client = AdminClient(self._admin, _SILENCE_SECONDS)
        except OSError as error:
            return f"no stream: {error}"
        try:
            self._answer = client.get("stream", logger=self._logger, level=self._level, written=1)
        except (OSError, HTTPException) as error:
            return f"no stream from {client.address}: {error}"
        if self._answer.status != HTTPStatus.OK:
            return f"no stream from {client.address}: {self._answer.status} {self._answer.reason}"
        return ""

    def records(self, say: Callable[[str], None]) -> Iterator[Streamed]:
        """Yield each record until the stream ends; *say* how many were left out.

        Raises OSError, HTTPException, and ValueError where it is no such stream.
        """
        event = ""
        while self._answer and (line := self._answer.readline()):
            name, _, value = line.decode().rstrip("\r\n").partition(": ")
            if name == "event":
                event = value
            elif name == "data" and event == "skipped":
                records = counted(json.loads(value)["records"], "record")
                say(f"{records} left out: this terminal or pipe is too slow")
            elif name == "data" and not event:
                yield _streamed(json.loads(value))
            elif not name:
                event = ""

    def close(self) -> None:
        """Watch no longer."""
        for one in (self._answer, self._client):
            if one:
                one.close()


def _streamed(record: dict[str, Any]) -> Streamed:
    if "written" not in record:
        raise ValueError("records come without their text")
    time = str(record.get(KEY_OF["asctime"], "")).removesuffix("Z")
    text = str(record["written"]).encode("utf-8", "backslashreplace")
    return Streamed(str(record.get(KEY_OF["name"], "")), time.encode(), text)
