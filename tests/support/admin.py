"""The admin port of a running collector, asked over HTTP."""

from __future__ import annotations

import http.client
import json
import logging
from contextlib import closing, contextmanager
from logging.handlers import SocketHandler
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.collectors import Collector

ADMIN = "[admin]\nport = 0\n"
SECONDS = 10


def ask(
    collector: Collector, path: str, method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], str]:
    """Return status, headers and body of an answer; in names of *headers*, `_` stands for `-`."""
    with closing(
        http.client.HTTPConnection("127.0.0.1", collector.admin_port, timeout=SECONDS)
    ) as connection:
        connection.request(method, path, headers={name.replace("_", "-"): v for name, v in headers.items()})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()


def stats(collector: Collector) -> dict[str, Any]:
    status, _, body = ask(collector, "/api/stats")
    assert status == 200
    return json.loads(body)  # type: ignore[no-any-return]


def refused(collector: Collector) -> dict[str, int]:
    """Return how many clients were refused, by reason, without those for which none was."""
    return {why: count for why, count in stats(collector)["clients"]["refused"].items() if count}


class Viewer:
    """One who watches the stream."""

    def __init__(self, collector: Collector, query: str = "") -> None:
        # The process that looks for a regular expression is nice: a busy machine gives it little time.
        patience = 10 * SECONDS
        self._connection = http.client.HTTPConnection("127.0.0.1", collector.admin_port, timeout=patience)
        self._connection.request("GET", f"/api/stream?{query}")
        self.answer = self._connection.getresponse()
        if self.answer.status == 200:
            assert b": keep-alive" in self.answer.readline()  # from now on it misses nothing

    def event(self) -> tuple[str, Any]:
        """Return the next event, its name and its data."""
        name = "message"
        while line := self.answer.readline().decode().rstrip("\n"):
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                self.answer.readline()
                return name, json.loads(line.removeprefix("data: "))
        return self.event() if not self.answer.closed else ("", None)

    def message(self) -> str:
        name, record = self.event()
        assert name == "message", record
        return str(record["message"])

    def close(self) -> None:
        self._connection.close()


@contextmanager
def watching(collector: Collector, query: str = "") -> Iterator[Viewer]:
    viewer = Viewer(collector, query)
    try:
        yield viewer
    finally:
        viewer.close()


def log(collector: Collector, *records: tuple[str, int, str]) -> None:
    """Send records (logger, level, message) through one stock handler."""
    handler = SocketHandler("127.0.0.1", collector.port)
    for logger, level, message in records:
        handler.emit(logging.LogRecord(logger, level, __file__, 1, message, None, None))
    handler.close()


def difference(records: dict[str, Any]) -> int:
    """Return how many records are received and not accounted for."""
    kept = records["written"] + records["in_reserve"] + records["quarantined"]
    return int(records["received"] - kept - sum(records["dropped"].values()))
