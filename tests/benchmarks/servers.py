"""What can be measured: servers that take stock clients' frames and write a line for each into files."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Protocol

from collector import __version__
from tests.conftest import Collector

if TYPE_CHECKING:
    from pathlib import Path


class Server(Protocol):
    """A server in processes of its own, which are the one of `pid` and its descendants."""

    directory: Path
    """Where its files are and no others."""
    port: int
    pid: int

    def __init__(self, home: Path) -> None:
        """Prepare it to run with all its files in *home*, which exists and is empty."""

    @staticmethod
    def describe() -> str:
        """Return its name and version, and what it runs on."""

    def start(self) -> None:
        """Return once it can accept clients."""

    def stop(self) -> None:
        """End it; raises AssertionError if it did not end as it should."""


class ThisCollector:
    """The collector of this checkout, with its defaults."""

    port = 0
    pid = 0

    def __init__(self, home: Path) -> None:
        self._collector = Collector(home, "")
        self.directory = self._collector.directory

    @staticmethod
    def describe() -> str:
        return f"collector {__version__}, gevent {version('gevent')}, greenlet {version('greenlet')}"

    def start(self) -> None:
        self._collector.start()
        assert self._collector.process
        self.port, self.pid = self._collector.port, self._collector.process.pid

    def stop(self) -> None:
        assert self._collector.stop() == 0, self._collector.stderr


SERVERS: dict[str, type[Server]] = {"collector": ThisCollector}
