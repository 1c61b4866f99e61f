"""What is sent: frames like those of real applications, all of them prepared before anything is measured.

Each frame is made by a stock SocketHandler from a LogRecord of its own. As in an application, the records of
a process come from a few loggers and some hundred call sites, and differ in their time and what they tell.
Beside the frames stand the same records as rsyslog takes them: finished lines as RFC 5424 and 6587 have them.
"""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cache
from logging.handlers import SocketHandler
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CALL_SITES = 200
LEVELS = (logging.DEBUG, *[logging.INFO] * 6, logging.WARNING, logging.WARNING, logging.ERROR)
WORDS = (
    "order",
    "customer",
    "basket",
    "payment",
    "accepted",
    "from",
    "session",
    "cache",
    "warehouse",
    "took",
)
EXCEPTION_EVERY = 10
_RECORDS_A_SECOND = 10_000
_THREAD = 140_123_456_789_504
# As the collector writes it, with its defaults.
FORMATTER = logging.Formatter(
    "[%(asctime)s]: %(name)s %(levelname)s %(lineno)s %(message)s", "%Y-%m-%d %H:%M:%S"
)
# RFC 5424, section 6.2.1: facility 1, user-level messages, and a severity.
_PRIORITIES = {logging.DEBUG: 15, logging.INFO: 14, logging.WARNING: 12, logging.ERROR: 11}
_FRAMES_2 = Path(__file__).with_name("frames_of_python_2.py")


class CallSite(NamedTuple):
    """A line of an application that logs."""

    level: int
    path: str
    line: int
    function: str
    words: str


class Prepared(NamedTuple):
    """What was made of one record."""

    frame: bytes
    line: bytes
    """As it is to stand in a file."""
    syslog: bytes


@dataclass(frozen=True)
class Workload:
    """Records that are sent over a number of connections at once."""

    name: str
    servers: tuple[str, ...] = ("collector", "rsyslog")
    """Those it is for, unless the command line says otherwise."""
    connections: int = 8
    busy: int = 0
    """How many of the connections send anything; 0: all."""
    records: int = 200_000
    loggers: int = 4
    message_bytes: int = 150
    python: str = "3"
    extra: bool = False
    """Whether each record has one, with a value of its own."""
    exceptions: bool = False
    """Whether each tenth record has a traceback."""
    stock_clients: bool = False
    """Whether each connection is a Python process that logs; then nothing is prepared."""
    begins: float = 0.0
    """When the first record was made, for records that are to be the same each time; 0: now."""

    @property
    def senders(self) -> int:
        return self.busy or self.connections

    def prepare(self) -> Iterator[Prepared]:
        """Yield the records, in the order of their times; number N is sent by connection N % senders."""
        if self.python == "3":
            yield from self._prepare(SocketHandler("", 0).makePickle)
            return
        python_2 = find_python_2()
        assert python_2, "no Python 2.7"
        with closing(_Python2(python_2)) as other:
            yield from self._prepare(other.frame)

    def _prepare(self, make_frame: Callable[[logging.LogRecord], bytes]) -> Iterator[Prepared]:
        chosen = random.Random(0)  # noqa: S311 - to be the same each time is its purpose
        sites = call_sites()
        for number in range(self.records):
            place = chosen.randrange(len(sites))
            logger = place if self.loggers < len(sites) else chosen.randrange(self.loggers)
            record = self._record(chosen, number, sites[place], logger_name(logger % self.loggers))
            line = FORMATTER.format(record)
            # What formatting leaves behind would be sent along; the exception's text is made by any handler.
            del record.message, record.asctime
            yield Prepared(make_frame(record), line.encode() + b"\n", _syslog(record, line))

    def _record(self, chosen: random.Random, number: int, site: CallSite, logger: str) -> logging.LogRecord:
        details = f"user{chosen.randrange(10**6):06}", chosen.randrange(100), chosen.random(), number
        end = " %s: %d items in %.3f s, request %016x"
        template = site.words[: max(0, self.message_bytes - len(end % details))] + end
        exception = None
        if self.exceptions and number % EXCEPTION_EVERY == 0:
            exception = _raised(number)
        record = logging.LogRecord(
            logger, site.level, site.path, site.line, template, details, exception, site.function
        )
        record.process = 1000 + number % self.senders
        if self.begins:
            elapsed = number / _RECORDS_A_SECOND
            record.created, record.relativeCreated = self.begins + elapsed, elapsed * 1000
            record.msecs = float(int(elapsed % 1 * 1000))
            record.thread = _THREAD
        if self.extra:
            record.request_id = f"{chosen.getrandbits(128):032x}"
        return record


def logger_name(number: int) -> str:
    """Return one of up to a thousand and more names, some 15 characters long."""
    area = ("orders", "payments", "search.index", "web")[number % 4]
    return f"shop.{area}.{number:04}" if number >= 4 else f"shop.{area}"


@cache
def call_sites() -> list[CallSite]:
    """Return the lines that log, the same ones each time."""
    chosen = random.Random(0)  # noqa: S311 - as above
    sites = []
    for number in range(CALL_SITES):
        words = " ".join(chosen.choices(WORDS, k=1000))
        path = f"/app/{('orders', 'payments', 'search', 'web')[number % 4]}/views{number // 16}.py"
        sites.append(CallSite(chosen.choice(LEVELS), path, chosen.randint(10, 999), f"view_{number}", words))
    return sites


def _raised(number: int) -> tuple[type[ValueError], ValueError, None] | None:
    try:
        int(f"order {number}")
    except ValueError:
        return sys.exc_info()  # type: ignore[return-value]
    return None


def _syslog(record: logging.LogRecord, line: str) -> bytes:
    when = datetime.fromtimestamp(record.created, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    header = f"<{_PRIORITIES[record.levelno]}>1 {when} host {record.name} {record.process} - -"
    message = f"{header} {line}".encode()
    return b"%d %b" % (len(message), message)


# --- Python 2 -----------------------------------------------------------------------------------------------


@cache
def find_python_2() -> str | None:
    """Return a Python 2.7 of pyenv or on PATH, or None."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = [*map(str, pyenv.glob("versions/2.7.*/bin/python")), shutil.which("python2.7")]
    for python in filter(None, found):
        # pyenv's shim for one that is not chosen only says so.
        if not subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode:
            return python
    return None


class _Python2:
    """Makes frames by the SocketHandler of another Python, which gets the attributes as JSON."""

    def __init__(self, python: str) -> None:
        command = [python, str(_FRAMES_2)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def frame(self, record: logging.LogRecord) -> bytes:
        fields = record.__dict__ | {"msg": record.getMessage(), "args": None, "exc_info": None}
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(fields).encode() + b"\n")
        self._process.stdin.flush()
        prefix = self._process.stdout.read(4)
        return prefix + self._process.stdout.read(int.from_bytes(prefix, "big"))

    def close(self) -> None:
        self._process.communicate()


# --- the list -----------------------------------------------------------------------------------------------

_ALL = ("collector", "collector-json", "rsyslog", "twisted", "cookbook")
WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("text-8", _ALL),
        Workload("extra-8", extra=True),
        Workload("crowd", connections=1000, busy=100, loggers=1000),
        Workload("long-8", records=40_000, message_bytes=4000),
        # These are not in the target table.
        Workload("text-1", connections=1),
        Workload("text-64", _ALL, connections=64),
        Workload("text-1000", connections=1000),
        Workload("loggers-8", loggers=1000),
        Workload("short-8", message_bytes=60),
        Workload("exceptions-8", ("collector", "collector-json", "rsyslog"), exceptions=True),
        Workload("json-extra-8", ("collector", "collector-json"), extra=True),
        Workload("python2.7-8", ("collector", "rsyslog", "twisted"), python="2.7"),
        Workload("end-to-end", ("collector", "twisted", "cookbook"), stock_clients=True),
    )
}
LATENCY = Workload("latency", ("collector", "rsyslog", "twisted", "cookbook"), connections=50)
DEFAULT = ("text-8", "extra-8", "crowd", "long-8", "latency")
