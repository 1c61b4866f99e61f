"""What is sent: frames like those of real applications, all of them prepared before anything is measured.

Each frame is made by a stock SocketHandler from a LogRecord of its own. As in an application, the records of
a process come from a few loggers and some hundred call sites, and differ in their time and what they tell.
"""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from functools import cached_property
from logging.handlers import SocketHandler
from typing import NamedTuple

LOGGERS = ("shop.orders", "shop.payments", "shop.search.index", "shop.web")
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


class CallSite(NamedTuple):
    """A line of an application that logs."""

    logger: str
    level: int
    path: str
    line: int
    function: str
    template: str


@dataclass(frozen=True)
class Workload:
    """Records that are sent over a number of connections at once."""

    connections: int
    records: int

    @cached_property
    def streams(self) -> list[bytes]:
        """All that each connection sends."""
        share, more = divmod(self.records, self.connections)
        return [b"".join(frames(process, share + (process < more))) for process in range(self.connections)]

    @property
    def frame_bytes(self) -> float:
        """The average length of a frame, with its prefix."""
        return sum(map(len, self.streams)) / self.records


def call_sites() -> list[CallSite]:
    """Return the lines that log, the same ones each time."""
    chosen = random.Random(0)  # noqa: S311 - to be the same each time is its purpose
    sites = []
    for number in range(CALL_SITES):
        logger = LOGGERS[number % len(LOGGERS)]
        words = " ".join(chosen.choices(WORDS, k=chosen.randint(8, 15)))
        sites.append(
            CallSite(
                logger,
                chosen.choice(LEVELS),
                f"/app/{logger.split('.')[1]}/views{number // 16}.py",
                chosen.randint(10, 999),
                f"view_{number}",
                f"{words} %s: %d items in %.3f s, request %s",
            )
        )
    return sites


def frames(process: int, count: int) -> list[bytes]:
    """Return what one process sends: *count* frames."""
    pickler = SocketHandler("", 0)
    chosen = random.Random(process)  # noqa: S311 - as above
    sites = call_sites()
    made = []
    for _ in range(count):
        site = chosen.choice(sites)
        details = (
            f"user{chosen.randrange(10**6)}",
            chosen.randrange(100),
            chosen.random(),
            f"{chosen.getrandbits(64):016x}",
        )
        record = logging.LogRecord(
            site.logger, site.level, site.path, site.line, site.template, details, None, site.function
        )
        record.process = 1000 + process
        made.append(pickler.makePickle(record))
    return made
