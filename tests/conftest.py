"""The fixtures that tests share; what else they share lies in `tests/support`."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.support.collectors import Collector
from tests.support.volumes import Volumes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

STARTING = {"make_collector", "shared", "logs"}
"""Fixtures by which a test starts the program."""

pytest_plugins = [
    f"tests.support.{name}" for name in ("certificates", "clock", "logs", "odd_volume", "opensearch", "pages")
]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what starts a collector or `tail`: up to a quarter of a second for each of hundreds."""
    for item in items:
        starting = STARTING.intersection(getattr(item, "fixturenames", ()))
        if starting and not item.get_closest_marker("quick"):
            item.add_marker("slow")


@pytest.fixture
def make_collector(tmp_path: Path) -> Iterator[Callable[..., Collector]]:
    """Return a function that makes collectors; those still running at the end of the test are killed."""
    made: list[Collector] = []

    def make(config: str = "", **how: object) -> Collector:
        home = tmp_path / f"collector{len(made)}"
        home.mkdir()
        made.append(Collector(home, config, **how))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for collector in made:
        if collector.running:
            children = collector.children
            collector.stop(signal.SIGKILL)
            # Else they would drain, into a directory that is being removed and beside the next test.
            for child in children:
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)


@pytest.fixture
def collector(make_collector: Callable[..., Collector]) -> Collector:
    """Return a running collector with the defaults."""
    return make_collector().start()


@pytest.fixture
def volumes(tmp_path: Path) -> Iterator[Volumes]:
    made = Volumes(tmp_path)
    try:
        yield made
    finally:
        made.remove_all()


@pytest.fixture
def start_full(make_collector: Callable[..., Collector], volumes: Volumes) -> Callable[[str], Collector]:
    """Return a function that starts a collector on a volume that is too small; make_room() mends that."""

    def start(config: str) -> Collector:
        collector = make_collector(config)
        volumes.tmpfs(collector.directory, "300k")
        return collector.start()

    return start
