"""Servers of the forward protocol that are not ours: npm's `@fluent-org/logger`, the OpenTelemetry Collector.

Both are made once, and kept in pytest's cache; a test for which they cannot be is skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.support.syslog_servers import free_port
from tests.support.waiting import within

if TYPE_CHECKING:
    from typing_extensions import Self

_SERVER = Path(__file__).with_name("fluent_node") / "server.js"
_INSTALL_SECONDS = 120
_BUILD_SECONDS = 600
_START_SECONDS = 30
_VERSION = "0.161.0"
_BUILDER = f"go.opentelemetry.io/collector/cmd/builder@v{_VERSION}"
_CONTRIB = "github.com/open-telemetry/opentelemetry-collector-contrib"
_PARTS = f"""
dist: {{ name: otelcol, output_path: ./built, version: {_VERSION} }}
receivers: [ gomod: {_CONTRIB}/receiver/fluentforwardreceiver v{_VERSION} ]
exporters: [ gomod: {_CONTRIB}/exporter/fileexporter v{_VERSION} ]
"""
_SETTINGS = """
receivers: {{ fluent_forward: {{ endpoint: "127.0.0.1:{port}" }} }}
exporters: {{ file: {{ path: "{out}", flush_interval: 50ms }} }}
service:
  telemetry: {{ metrics: {{ level: none }} }}
  pipelines: {{ logs: {{ receivers: [fluent_forward], exporters: [file] }} }}
"""


class Received(NamedTuple):
    """An entry as an engine shows it."""

    tag: str
    nanoseconds: int
    fields: dict[str, Any]


class Engine:
    """A server in a directory of its own. To be used with `with`, which ends it."""

    def __init__(self, home: Path, command: list[str], port: int, **environment: str) -> None:
        """Have it started by *command*, which makes it listen on *port*."""
        self.out = home / "out"
        self.address = f"127.0.0.1:{port}"
        self._home, self._command, self._port = home, command, port
        self._environment = {**os.environ, **environment}
        self._output = home / "output"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and return when it can be connected to."""
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                self._command, cwd=self._home, stdout=output, stderr=output, env=self._environment
            )
        within(_START_SECONDS, self._answers, "a server answers")

    def kill(self) -> None:
        """End it by SIGKILL; start() may follow."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def lines(self) -> list[Any]:
        """Return what it has written, line by line of JSON."""
        text = self.out.read_text() if self.out.exists() else ""
        return [json.loads(line) for line in text.split("\n")[:-1]]  # the last one may not be whole

    def received(self) -> list[Received]:
        raise NotImplementedError

    def _answers(self) -> bool:
        assert self._process
        assert self._process.poll() is None, self._output.read_text()[-2000:]
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", self._port)).close()
            return True
        return False


class NpmServer(Engine):
    """`FluentServer` with its own options."""

    def __init__(self, modules: Path, home: Path, **options: object) -> None:
        port = free_port()
        settings = json.dumps({"listenOptions": {"host": "127.0.0.1", "port": port}, **options})
        command = ["node", str(_SERVER), str(home / "out"), settings]
        super().__init__(home, command, port, NODE_PATH=str(modules / "node_modules"))

    def received(self) -> list[Received]:
        return [
            Received(line["tag"], line["seconds"] * 10**9 + line["nanoseconds"], line["fields"])
            for line in self.lines()
        ]


class OtelCollector(Engine):
    """The OpenTelemetry Collector with its receiver for this protocol, which writes to a file."""

    def __init__(self, program: Path, home: Path) -> None:
        port = free_port()
        (home / "otelcol.yaml").write_text(_SETTINGS.format(port=port, out=home / "out"))
        super().__init__(home, [str(program), "--config", str(home / "otelcol.yaml")], port)

    def received(self) -> list[Received]:
        records = [
            record
            for line in self.lines()
            for resource in line["resourceLogs"]
            for scope in resource["scopeLogs"]
            for record in scope["logRecords"]
        ]
        found = []
        for record in records:
            fields = _value({"kvlistValue": {"values": record["attributes"]}})
            tag = fields.pop("fluent.tag")
            fields["message"] = _value(record["body"])
            found.append(Received(tag, int(record.get("timeUnixNano", 0)), fields))
        return found


@pytest.fixture(scope="session")
def npm_modules(request: pytest.FixtureRequest) -> Path:
    """Return the directory with the package of npm's server, or skip the test."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("needs Node.js and npm to run a real forward server")
    return _kept(
        request,
        "fluent-logger-1.0.10",
        lambda beside: shutil.copy(_SERVER.with_name("package.json"), beside),
        ["npm", "install", "--silent", "--no-audit", "--no-fund"],
        _INSTALL_SECONDS,
    )


@pytest.fixture(scope="session")
def otelcol(request: pytest.FixtureRequest) -> Path:
    """Return the program of the OpenTelemetry Collector, or skip the test."""
    if not shutil.which("go"):
        pytest.skip("needs Go to build a real OpenTelemetry Collector")
    built = _kept(
        request,
        f"otelcol-{_VERSION}",
        lambda beside: (beside / "parts.yaml").write_text(_PARTS),
        ["go", "run", _BUILDER, "--config", "parts.yaml"],
        _BUILD_SECONDS,
    )
    return built / "built/otelcol"


def _kept(request: pytest.FixtureRequest, name: str, begin: Any, command: list[str], seconds: int) -> Path:
    """Return a directory in pytest's cache, in which *command* was run once, or skip the test."""
    cache = request.config.cache
    assert cache
    kept = cache.mkdir("engines") / name
    if not kept.exists():
        # Made beside its place and then moved: half of it must not be taken for all.
        with tempfile.TemporaryDirectory(dir=kept.parent) as directory:
            beside = Path(directory) / "made"
            beside.mkdir()
            begin(beside)
            try:
                ran = subprocess.run(
                    command, cwd=beside, capture_output=True, text=True, check=False, timeout=seconds
                )
            except subprocess.TimeoutExpired:
                pytest.skip(f"{' '.join(command)}: not within {seconds} s")
            if ran.returncode:
                pytest.skip(f"{' '.join(command)}: {(ran.stderr or ran.stdout).strip()[-300:]}")
            with suppress(OSError):
                os.rename(beside, kept)
    return kept


def _value(value: dict[str, Any]) -> Any:
    """Return a value of OTLP's JSON."""
    if "kvlistValue" in value:
        return {one.get("key", ""): _value(one["value"]) for one in value["kvlistValue"].get("values", [])}
    if "intValue" in value:
        return int(value["intValue"])
    return value.get("stringValue", "")
