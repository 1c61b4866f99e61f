"""A real Prometheus, which scrapes what a test has running."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from tests.support.waiting import within

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self

START_SECONDS = 20
SECONDS = 10


def need(program: str) -> None:
    """Skip the test where Prometheus is not installed."""
    if not shutil.which(program):
        pytest.skip(f"needs {program}: Debian's package prometheus")


class Prometheus:
    """One with a configuration, at a port of its own, until the block ends."""

    def __init__(self, home: Path, config: Path) -> None:
        need("prometheus")
        self._log = home / "prometheus.log"
        self._command = [
            *("prometheus", f"--config.file={config}", f"--storage.tsdb.path={home / 'series'}"),
            "--web.listen-address=127.0.0.1:0",
        ]
        self._port = 0

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stderr=log)
        within(START_SECONDS, lambda: "ready to receive" in self.log or self._process.poll(), "it is ready")
        assert self._process.poll() is None, self.log
        self._port = int(re.findall(r'"Listening on" address=127\.0\.0\.1:(\d+)', self.log)[0])
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(SECONDS)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def ask(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer; what Prometheus calls an error fails the test."""
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=SECONDS)) as connection:
            connection.request("GET", f"/api/v1/{path}?{urlencode(parameters)}")
            answer = json.load(connection.getresponse())
        assert answer["status"] == "success", answer
        return answer["data"]

    def values(self, query: str) -> list[float]:
        """Return what each of a query's series has now."""
        return [float(one["value"][1]) for one in self.ask("query", query=query)["result"]]
