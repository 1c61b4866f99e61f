"""Clients by the dozen that number their records, what became of these, and how long they took."""

from __future__ import annotations

import logging
import math
import os
import re
import threading
import time
from collections import Counter
from contextlib import closing, contextmanager, suppress
from logging.handlers import SocketHandler
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from tests.support.collectors import Collector

# By name, client and number every line tells whether it is whole.
CONFIG = '[format]\ntext = "%(name)s %(message)s"\n'
_JOIN_SECONDS = 10
_STANDSTILL_SECONDS = 0.02
_CALM_SECONDS = 0.1
_CALM_DEADLINE_SECONDS = 1
# A machine that stands still for more of the time than this says nothing about a 99th percentile.
_MAX_STANDSTILL = 0.005
_MAX_WAITED = 0.05
# Nor does one of which others use more than this part.
_MAX_OTHERS = 0.2
_ATTEMPTS = 3
_LOOK_SECONDS = 0.0005


class Machine:
    """What the machine does to a thread that asks for nothing but to be woken every millisecond.

    Where its host or its other users stop it for a tenth of a second, every delay is as long, whoever is
    measured.
    """

    def __init__(self) -> None:
        self._begun = self._paused_at = time.monotonic()
        self._paused = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Machine:  # noqa: PYI034 - typing has no Self before 3.11
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def standstill(self) -> float:
        """Which part of the time it has stood still."""
        return self._paused / (time.monotonic() - self._begun)

    def wait_until_calm(self) -> None:
        """Return when it has not stood still for a moment, or after a second if it always does."""
        deadline = time.monotonic() + _CALM_DEADLINE_SECONDS
        while time.monotonic() < min(deadline, self._paused_at + _CALM_SECONDS):
            time.sleep(0.001)

    def _watch(self) -> None:
        before = time.monotonic()
        while not self._stop.wait(0.001):
            now = time.monotonic()
            if now - before > _STANDSTILL_SECONDS:
                self._paused += now - before
                self._paused_at = now
            before = now


@contextmanager
def timed(collector: Collector) -> Iterator[Callable[[], float]]:
    """Return a function that tells how many seconds the block has taken.

    The time in which we or the collector could run and had no CPU does not count: others may use the machine.
    """
    assert collector.process
    processes = (os.getpid(), collector.process.pid, collector.worker)
    waited: dict[int, float] = {}
    stop = threading.Event()

    def look() -> None:
        for process in processes:
            waited[process] = max(waited.get(process, 0), waited_for_a_cpu(process))

    def watch() -> None:
        while not stop.wait(0.01):
            look()

    look()
    before = sum(waited.values())
    begun = time.monotonic()
    took = 0.0
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield lambda: took
    finally:
        took = time.monotonic() - begun
        stop.set()
        thread.join()
        took -= sum(waited.values()) - before


def own_clock(collector: Collector) -> Callable[[], float]:
    """Return a clock, in seconds, that stands while we or the collector could run and have no CPU."""
    assert collector.process
    processes = (os.getpid(), collector.process.pid, collector.worker)
    return lambda: time.monotonic() - sum(map(waited_for_a_cpu, processes))


def waited_for_a_cpu(process: int) -> float:
    """Return for how many seconds the main thread of a process was ready to run, and others had the CPUs.

    0 where it has ended or the kernel does not tell. See schedstat in sched-stats.rst of the kernel.
    """
    with suppress(OSError), open(f"/proc/{process}/schedstat") as file:
        return int(file.read().split()[1]) / 1e9
    return 0


def _cpu_of_others() -> float:
    """Return the seconds of CPU that went to processes other than this one and those it has started."""
    ticks = os.sysconf("SC_CLK_TCK")
    user, nice, system, _, _, irq, soft_irq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    parents: dict[int, int] = {}
    used: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            words = path.read_text(errors="replace").rpartition(")")[2].split()
            parents[int(path.parent.name)] = int(words[1])
            used[int(path.parent.name)] = sum(map(int, words[11:15]))  # with its children that have ended
    own = {os.getpid()}
    while more := {process for process, parent in parents.items() if parent in own} - own:
        own |= more
    total = user + nice + system + irq + soft_irq + steal
    return (total - sum(used.get(process, 0) for process in own)) / ticks


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
            own = any(part.startswith(".") for part in path.relative_to(directory).parts)
            if path.is_file() and not own:
                with suppress(FileNotFoundError):
                    count += path.read_bytes().count(b"\n")
    return count


def delays(collector: Collector, logger: str, file: str, rate: float, seconds: float) -> list[float]:
    """Send a record of *logger* again and again; return after how many seconds each could be read in *file*.

    The records keep to their times whether those before them have been written or not. Returns only when
    all are there.
    """
    path = collector.directory / file
    sent: list[float] = []
    took: list[float] = []
    total = int(rate * seconds)
    path.touch()
    with path.open("rb", buffering=0) as lines, closing(SocketHandler("127.0.0.1", collector.port)) as client:
        lines.seek(0, os.SEEK_END)
        begun = time.monotonic()
        while len(took) < total:
            now = time.monotonic()
            assert now < begun + seconds + _JOIN_SECONDS, (
                f"only {len(took)} of {len(sent)} records are written"
            )
            if len(sent) < total and now >= begun + len(sent) / rate:
                sent.append(now)
                client.emit(logging.LogRecord(logger, logging.INFO, __file__, 1, "paced", None, None))
            written = len(took) + lines.read(1 << 20).count(b"\n")
            now = time.monotonic()
            took.extend(now - moment for moment in sent[len(took) : written])
            time.sleep(_LOOK_SECONDS)
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
        print(f"{name}: {text}")


def assert_in_time(
    record_property: Callable[[str, object], None],
    limit_seconds: float,
    measure: Callable[[], Sequence[float]],
    percent: float = 99,
) -> None:
    """So many *percent* of the delays that *measure* returns are below *limit_seconds*; they are reported.

    Only a miss while the machine itself stood still, or while others used much of it, is measured again; if
    that happens each time, the test is skipped, and says so.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        with Machine() as machine:
            machine.wait_until_calm()
            others = _cpu_of_others()
            begun = time.monotonic()
            took = measure()
            used = (_cpu_of_others() - others) / (time.monotonic() - begun) / (os.cpu_count() or 1)
            standstill = machine.standstill
        delay = percentile(took, percent)
        figures = {f"p{each}_ms": percentile(took, each) * 1000 for each in (50, percent, 100)}
        shares = {"machine_stood_still_percent": standstill * 100, "others_used_percent": used * 100}
        report(record_property, attempt=attempt, **figures, **shares)
        if delay < limit_seconds or (standstill <= _MAX_STANDSTILL and used <= _MAX_OTHERS):
            break
    not_judged(delay >= limit_seconds, standstill, f"{delay * 1000:.0f} ms", used=used)
    assert delay < limit_seconds


def not_judged(
    missed: bool, standstill: float, figure: str, *, waited: float = 0.0, used: float = 0.0
) -> None:
    """Skip a test that has *missed* its limit while the machine stood still.

    *waited* is the part of the time in which the process in question waited for a CPU, *used* the part of the
    machine that others used.
    """
    if missed and standstill > _MAX_STANDSTILL:
        pytest.skip(f"{figure}, but the machine itself stood still for {standstill:.1%} of the time")
    if missed and waited > _MAX_WAITED:
        pytest.skip(f"{figure}, but it waited for a CPU for {waited:.1%} of the time")
    if missed and used > _MAX_OTHERS:
        pytest.skip(f"{figure}, but others used {used:.0%} of the machine")
