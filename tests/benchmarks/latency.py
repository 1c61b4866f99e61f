"""How long a record takes from `emit` to the file: clients at a steady rate, a reader at the files' ends."""

from __future__ import annotations

import os
import re
import sys
import time
from array import array
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.benchmarks.loads import Load
from tests.benchmarks.processes import cpu_seconds
from tests.benchmarks.runs import files, rest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.benchmarks.servers import Server
    from tests.benchmarks.workload import Workload

RATE = 20_000
"""Records per second, of all clients together."""
SECONDS = 4
_KEPT_RATE = 0.97
_PRIORITY = -15
# Looked so often, a line is seen that much too late, at most: it is part of the result.
_LOOK_SECONDS = 0.0001
_STALL_SECONDS = 10.0
_NUMBER = re.compile(rb"request ([0-9a-f]{16})[\n\"]")


class Latency(NamedTuple):
    """What one run took."""

    rate: float
    """Records per second that were really sent."""
    lost: int
    p50: float
    """Milliseconds, as are the others."""
    p99: float
    longest: float
    cpu: float
    """Microseconds per record, of all processes of the server."""


class Paced(NamedTuple):
    """Frames in the order in which they are sent, and their lengths, as files."""

    workload: Workload
    home: Path


def write(workload: Workload, home: Path) -> Paced:
    """Prepare the clients' records in the directory *home*."""
    lengths = {"frames": array("q"), "syslog": array("q")}
    with (home / "frames").open("wb") as frames, (home / "syslog").open("wb") as syslog:
        for record in workload.prepare():
            frames.write(record.frame)
            syslog.write(record.syslog)
            lengths["frames"].append(len(record.frame))
            lengths["syslog"].append(len(record.syslog))
    for form, numbers in lengths.items():
        (home / f"{form}.lengths").write_bytes(numbers.tobytes())
    return Paced(workload, home)


def run(server: Server, paced: Paced, rate: int) -> Latency:
    """Start *server*, send it all records at *rate*, stop it."""
    connections, form, home = paced.workload.connections, server.takes, paced.home
    of_file = (str(home / form), str(home / f"{form}.lengths"), str(home / "times"))
    script = str(Path(__file__).with_name("pace.py"))
    with _ahead_of_others():
        server.start()
    try:
        command = [sys.executable, script, str(server.port), str(connections), str(rate), *of_file]
        with _ahead_of_others(), Load([command]) as load:
            rest(server.pid)
            cpu = cpu_seconds(server.pid)
            load.begin()
            seen = _watch(server.directory, paced.workload)
            cpu = cpu_seconds(server.pid) - cpu
            load.end()
    finally:
        server.stop()
    sent = array("q", (home / "times").read_bytes())
    waits = sorted((when - sent[number]) / 1e6 for number, when in seen.items())
    return Latency(
        (len(sent) - 1) / (sent[-1] - sent[0]) * 1e9,
        len(sent) - len(waits),
        waits[len(waits) // 2],
        waits[len(waits) * 99 // 100],
        waits[-1],
        cpu * 1e6 / len(sent),
    )


@contextmanager
def _ahead_of_others() -> Iterator[None]:
    """Let what is started, and this process, step ahead of the machine's other work, where that is allowed.

    A process that waits for its turn behind a stranger's compiler says nothing about a server.
    """
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, _PRIORITY)
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, before)


def is_kept(latency: Latency, rate: int) -> bool:
    """Whether the machine could send at *rate*."""
    return latency.rate >= rate * _KEPT_RATE


def _watch(directory: Path, workload: Workload) -> dict[int, int]:
    """Return when each record was first found in a file; they are told apart when all is over."""
    opened: dict[Path, int] = {}
    chunks: list[tuple[int, int, bytes]] = []
    lines, changed = 0, time.monotonic()
    while lines < workload.records and time.monotonic() < changed + _STALL_SECONDS:
        # Each time until all are there: a file that is found late makes its records late.
        if len(opened) < workload.loggers:
            for path in files(directory) if directory.exists() else ():
                if path not in opened:
                    opened[path] = os.open(path, os.O_RDONLY)
        for file in opened.values():
            chunk = os.read(file, 1 << 20)
            if chunk:
                chunks.append((time.monotonic_ns(), file, chunk))
                lines += chunk.count(b"\n")
                changed = time.monotonic()
        time.sleep(_LOOK_SECONDS)
    for file in opened.values():
        os.close(file)
    seen: dict[int, int] = {}
    rest_of: dict[int, bytes] = {}
    for when, file, chunk in chunks:
        data = rest_of.get(file, b"") + chunk
        whole = data.rfind(b"\n") + 1
        rest_of[file] = data[whole:]
        for number in _NUMBER.findall(data, 0, whole):
            seen[int(number, 16)] = when
    return seen
