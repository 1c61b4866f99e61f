"""One run: a workload, a server, and what it took until the last line was in a file.

While it runs, files are only asked for their sizes; their lines are counted once, when it has ended.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from tests.benchmarks.loads import Load
from tests.benchmarks.processes import cpu_seconds, peak_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.benchmarks.loads import Streams
    from tests.benchmarks.servers import Server

# How long no file may grow before what is missing is lost.
_STALL_SECONDS = 15.0
# After how long it is looked whether all lines are there, where the number of bytes is not known.
_PAUSE_SECONDS = 0.5
_POLL_SECONDS = 0.03
# Accepting a thousand connections is no part of a run: it begins when the server has come to rest.
_REST_SECONDS = 0.1
_REST_CPU_SECONDS = 0.005
_LONGEST_REST_SECONDS = 5.0


class Result(NamedTuple):
    """What one run took."""

    records: int
    lost: int
    same: bool
    """Whether the files have just the bytes they should have, or nobody knows these."""
    seconds: float
    """From the first byte sent to the last write to a file."""
    cpu_seconds: float
    """Of all processes of the server, in user and kernel mode."""
    load_seconds: float
    """CPU seconds of the load."""
    peak_bytes: int
    """Memory of all processes of the server, each at its peak."""

    @property
    def speed(self) -> float:
        """Records per second."""
        return self.records / self.seconds

    @property
    def cpu(self) -> float:
        """CPU microseconds per record."""
        return self.cpu_seconds * 1e6 / self.records

    @property
    def load(self) -> float:
        """CPU microseconds per record that the load took."""
        return self.load_seconds * 1e6 / self.records


def run(server: Server, streams: Streams) -> Result:
    """Start *server*, send it a workload, stop it."""
    records = streams.workload.records
    line_bytes = 0 if server.json else streams.line_bytes
    server.start()
    try:
        with Load(streams.commands(server.takes, server.port)) as load:
            rest(server.pid)
            cpu, begun = cpu_seconds(server.pid), time.time()
            load.begin()
            ended = _wait(server, line_bytes, records)
            cpu, peak = cpu_seconds(server.pid) - cpu, peak_bytes(server.pid)
            load_seconds = load.end()
    finally:
        server.stop()
    found = count_records(server.directory)
    same = not line_bytes or line_bytes == _size(server.directory)[0]
    return Result(records, records - found, same, ended - begun, cpu, load_seconds, peak)


def rest(pid: int) -> None:
    """Wait until a server does nothing."""
    deadline = time.monotonic() + _LONGEST_REST_SECONDS
    before = cpu_seconds(pid)
    while time.monotonic() < deadline:
        time.sleep(_REST_SECONDS)
        now = cpu_seconds(pid)
        if now - before < _REST_CPU_SECONDS:
            return
        before = now


def count_records(directory: Path) -> int:
    """Return how many there are: all but the lines of tracebacks begin with "[" or "{"."""
    found = 0
    for path in files(directory):
        data = path.read_bytes()
        found += data.startswith((b"[", b"{")) + data.count(b"\n[") + data.count(b"\n{")
    return found


def files(directory: Path) -> Iterator[Path]:
    """Yield a server's log files."""
    return (path for path in directory.iterdir() if not path.name.startswith("."))


def _size(directory: Path) -> tuple[int, float]:
    """Return the bytes in all files, and when the last of them were written."""
    stats = [path.stat() for path in files(directory)] if directory.exists() else []
    return sum(stat.st_size for stat in stats), max((stat.st_mtime for stat in stats), default=0)


def _wait(server: Server, line_bytes: int, records: int) -> float:
    """Return when the last line was written."""
    before, changed = -1, time.monotonic()
    while True:
        size, written = _size(server.directory)
        now = time.monotonic()
        if line_bytes and size >= line_bytes:
            return written
        if size > before:
            before, changed = size, now
        if now > changed + _STALL_SECONDS:
            return written
        if not line_bytes and now > changed + _PAUSE_SECONDS:
            if count_records(server.directory) >= records:
                return written
            time.sleep(_PAUSE_SECONDS)
        time.sleep(_POLL_SECONDS)
