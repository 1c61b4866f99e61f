"""Where a collector's time goes: py-spy looks at its worker while it takes a workload."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.loads import Load
from tests.benchmarks.processes import family
from tests.benchmarks.runs import rest

if TYPE_CHECKING:
    from tests.benchmarks.loads import Streams
    from tests.benchmarks.servers import Server

_LINES = 40
_TIMES_A_SECOND = "1000"
_STOP_SECONDS = 60


def find_py_spy() -> str | None:
    """Return py-spy of this Python or on PATH, or None."""
    return shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")


def profile(server: Server, streams: Streams, home: Path, *, by_line: bool) -> str:
    """Run *server* under a workload; return its functions, or lines, by the share of the time in them."""
    spy = find_py_spy()
    assert spy, "py-spy is not installed: pip install py-spy"
    server.start()
    try:
        worker = list(family(server.pid))[-1]
        stacks = home / "stacks.txt"
        with Load(streams.commands(server.takes, server.port)) as load:
            rest(server.pid)
            how = ["--rate", _TIMES_A_SECOND, "--nonblocking", "--format", "raw", "--threads"]
            if not by_line:
                how.append("--function")
            with subprocess.Popen(
                [spy, "record", "--pid", str(worker), "--output", str(stacks), *how],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ) as spying:
                load.begin()
                load.end()
                rest(server.pid)
                spying.send_signal(2)
                spying.wait(_STOP_SECONDS)
    finally:
        server.stop()
    return _summary(stacks.read_text())


def _summary(stacks: str) -> str:
    """Return the shares of what stood on top of the stacks, and of what was in them anywhere."""
    own: Counter[str] = Counter()
    all_in: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        own[frames[-1]] += int(count)
        for frame in set(frames):
            all_in[frame] += int(count)
    total = sum(own.values()) or 1
    lines = ["  own    all  where"]
    for frame, _ in sorted(all_in.items(), key=lambda item: -own[item[0]])[:_LINES]:
        lines.append(f"{own[frame] / total:5.1%} {all_in[frame] / total:6.1%}  {frame}")
    return "\n".join([*lines, f"{total} samples", ""])
