"""Clients by the dozen that number their records, what became of these, and how long they took."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import threading
import time
from collections import Counter
from contextlib import contextmanager
from logging.handlers import SocketHandler
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from tests.conftest import Collector

# By name, client and number every line tells whether it is whole.
CONFIG = '[format]\ntext = "%(name)s %(message)s"\n'
_JOIN_SECONDS = 30
_LOOK_SECONDS = 0.0005


class Client:
    """A thread that logs at a steady rate through a stock SocketHandler, until it is told to stop."""

    def __init__(self, port: int, number: int, loggers: Sequence[str], rate: float, padding: int = 0) -> None:
        self.number = number
        self.loggers = loggers
        self.padding = padding
        self.sent: list[float] = []
        """When each record was about to be sent, by the monotonic clock."""
        self.slowest = 0.0
        """Seconds that the longest emit() took: so long the application stood still."""
        self._port = port
        self._pause = 1 / rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def join(self) -> None:
        self._thread.join(_JOIN_SECONDS)
        assert not self._thread.is_alive(), "a client cannot end: it is stuck in emit()"

    def line(self, n: int) -> bytes:
        """Return what is to stand in a file for record *n*."""
        return f"{self.loggers[n % len(self.loggers)]} {self._message(n)}\n".encode()

    def _message(self, n: int) -> str:
        return f"client {self.number} record {n:07} {'-' * (self.padding + n % 7 * 10)} end"

    def _run(self) -> None:
        handler = SocketHandler("127.0.0.1", self._port)
        due = time.monotonic()
        while not self._stop.wait(due - time.monotonic()):
            n = len(self.sent)
            logger = self.loggers[n % len(self.loggers)]
            record = logging.LogRecord(logger, logging.INFO, __file__, 1, self._message(n), None, None)
            begun = time.monotonic()
            self.sent.append(begun)
            handler.emit(record)
            self.slowest = max(self.slowest, time.monotonic() - begun)
            due = max(due + self._pause, begun)
        handler.close()


@contextmanager
def logging_at(
    collector: Collector, rate: float, loggers: Sequence[Sequence[str]], padding: int = 0
) -> Iterator[list[Client]]:
    """Let a client for each of *loggers* log into those, *rate* records a second, until the block ends."""
    clients = [Client(collector.port, n, names, rate, padding) for n, names in enumerate(loggers)]
    for client in clients:
        client.start()
    try:
        yield clients
    finally:
        for client in clients:
            client.stop()
        for client in clients:
            client.join()


class Account(NamedTuple):
    """What became of the records of some clients: (client, number) of each, and the lines that are none."""

    missing: list[tuple[int, int]]
    doubled: list[tuple[int, int]]
    torn: dict[str, list[bytes]]
    """By file."""


ALL_ONCE = Account([], [], {})
_LINE = re.compile(rb"\S+ client (\d+) record (\d{7}) -* end\n")


def account(clients: Sequence[Client], files: dict[str, bytes]) -> Account:
    """Compare what *clients* have sent with what is in *files*, in every file of whatever name."""
    times: Counter[tuple[int, int]] = Counter()
    torn: dict[str, list[bytes]] = {}
    for name, contents in files.items():
        for text in contents.splitlines(keepends=True):
            match = _LINE.fullmatch(text)
            if match and clients[int(match[1])].line(int(match[2])) == text:
                times[int(match[1]), int(match[2])] += 1
            else:
                torn.setdefault(name, []).append(text)
    sent = {(client.number, n) for client in clients for n in range(len(client.sent))}
    return Account(
        sorted(sent - times.keys()), sorted(record for record, count in times.items() if count > 1), torn
    )


def lines_in(*directories: Path) -> int:
    """Return how many lines the files below *directories* have, the collector's own left out."""
    count = 0
    for directory in directories:
        for path in directory.rglob("*"):
            if path.is_file() and not path.name.startswith("."):
                with contextlib.suppress(FileNotFoundError):
                    count += path.read_bytes().count(b"\n")
    return count


def delays(collector: Collector, logger: str, file: str, rate: float, seconds: float) -> list[float]:
    """Send a record of *logger* again and again; return after how many seconds each could be read in *file*.

    The records keep to their times whether those before them have been written or not. Returns only when
    all are there.
    """
    path = collector.directory / file
    client = SocketHandler("127.0.0.1", collector.port)
    sent: list[float] = []
    took: list[float] = []
    fd = -1
    begun = time.monotonic()
    deadline = begun + seconds + _JOIN_SECONDS
    total = int(rate * seconds)
    while len(took) < total:
        now = time.monotonic()
        assert now < deadline, f"only {len(took)} of {len(sent)} records have reached {path}"
        if len(sent) < total and now >= begun + len(sent) / rate:
            sent.append(now)
            client.emit(logging.LogRecord(logger, logging.INFO, __file__, 1, "paced", None, None))
        if fd < 0:
            with contextlib.suppress(FileNotFoundError):
                fd = os.open(path, os.O_RDONLY)
        count = os.read(fd, 1 << 20).count(b"\n") if fd >= 0 else 0
        now = time.monotonic()
        took.extend(now - begun for begun in sent[len(took) : len(took) + count])
        time.sleep(_LOOK_SECONDS)
    os.close(fd)
    client.close()
    return took


def percentile(values: Iterable[float], percent: float) -> float:
    ordered = sorted(values)
    return ordered[math.ceil(len(ordered) * percent / 100) - 1]


def hold(seconds: float, condition: Callable[[], object], what: str) -> None:
    """Return after *seconds*; fail as soon as *condition* is not true meanwhile."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert condition(), what
        time.sleep(0.05)


def report(record_property: Callable[[str, object], None], **figures: object) -> None:
    """Put *figures* into the report of a test: `pytest -rP` and JUnit's XML show them."""
    for name, value in figures.items():
        text = f"{value:.1f}" if isinstance(value, float) else str(value)
        record_property(name, text)
        print(f"{name}: {text}")  # noqa: T201 - a figure is to be seen


def delay_figures(took: Sequence[float]) -> dict[str, float]:
    """Return the figures of *took* to report, in milliseconds."""
    return {f"p{percent}_ms": percentile(took, percent) * 1000 for percent in (50, 99, 100)}
