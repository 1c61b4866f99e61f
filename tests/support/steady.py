"""A client that goes on logging, some records a second, and what is told meanwhile of a destination."""

from __future__ import annotations

import subprocess
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from tests.support.destinations import told
from tests.support.frames import make_frame
from tests.support.handing_over import NAME, doubled, numbers_in, numbers_in_files, settled, spool_of
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from collector.forward.progress import Progress
    from tests.support.collectors import Collector

SECONDS = 30


class Steady:
    """What a client has sent, by a connection that nothing may break."""

    def __init__(self, first: int) -> None:
        self.first = self.sent = first
        """The number of the next record."""


@contextmanager
def steadily(collector: Collector, per_second: float, first: int = 0) -> Iterator[Steady]:
    """Send *per_second* numbered records, one by one, for as long as the block takes."""
    client = Steady(first)
    stop = threading.Event()
    faults: list[OSError] = []

    def send() -> None:
        try:
            with collector.connect() as sock:
                while not stop.wait(1 / per_second):
                    sock.sendall(make_frame(f"record {client.sent:07}"))
                    client.sent += 1
        except OSError as fault:
            faults.append(fault)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield client
    finally:
        stop.set()
        thread.join()
    assert faults == []
    within(SECONDS, lambda: len(numbers_in_files(collector)) >= client.sent - first, "all are in the file")


def told_now(collector: Collector, name: str = NAME) -> dict[str, Any]:
    """Return the status of a destination, {} if it has none yet."""
    with suppress(ValueError):
        return told(spool_of(collector), name)
    return {}


def shipped(collector: Collector) -> int:
    """Return how many records were stored."""
    return int(told_now(collector).get("shipped", 0))


def more_is_shipped(collector: Collector) -> None:
    """Return once more records are stored than before."""
    before = shipped(collector)
    within(SECONDS, lambda: shipped(collector) > before, "more records are stored")


def held(collector: Collector, name: str = NAME) -> str:
    """Return for what a destination holds, "" if it does not."""
    return str((told_now(collector, name).get("held") or {}).get("reason", ""))


def forward(collector: Collector, *arguments: str) -> str:
    """Return what the command `forward` says."""
    command = [*collector.command, "forward", "-c", str(collector.config), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def assert_all_there_once(
    collector: Collector, arrived: Callable[[], Iterable[str]], *, seconds: float = SECONDS
) -> Progress:
    """All that is in files *arrived*, none of it twice, and there is no dead letter. Stops the collector.

    A record may be there as short text: it was suspected at the moment when all was well again.
    """
    now = settled(collector, len(numbers_in_files(collector)), seconds=seconds)
    assert collector.stop() == 0, collector.stderr
    there = numbers_in(text[max(text.find("record"), 0) :] for text in arrived())
    assert doubled(there) == []
    assert sorted(there) == sorted(numbers_in_files(collector))
    assert (now.dead, now.dropped) == ({}, 0)
    assert now.shipped + now.duplicate == now.numbered == len(there)
    return now
