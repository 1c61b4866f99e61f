"""How many instructions a record costs, from its frame to its line: valgrind's callgrind counts them.

Unlike seconds they are the same each time, whatever else the machine does, to a part in a thousand: so two
commits can be compared. What is counted is frames_to_lines.py, run twice: with the rounds of reads in which
it gets to know loggers and call sites, and with more. The difference is what the further records cost.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.workload import WORKLOADS

if TYPE_CHECKING:
    from tests.benchmarks.workload import Workload

# Of all connections together: 64 KiB of each of eight, 5 KiB of each of a hundred.
_ROUND_BYTES = 512 * 1024
_WARM_ROUNDS = 4
_ROUNDS = 12
_SMALLEST_FRAME_BYTES = 500
_BEGINS = 1_700_000_000.0
_DRIVER = Path(__file__).with_name("frames_to_lines.py")
_SECONDS = 600

GOALS = ("lines", "files")
"""A record becomes a line that is left for the writer, or the line is written too."""
_TEXT, _JSON = "text", "json"
CASES = {
    "text": (WORKLOADS["text-8"], _TEXT),
    "JSON": (WORKLOADS["text-8"], _JSON),
    "extra": (WORKLOADS["extra-8"], _TEXT),
    "crowd": (WORKLOADS["crowd"], _TEXT),
}
"""Workloads, and the style of the lines."""


def find_valgrind() -> str | None:
    """Return valgrind, or None."""
    return shutil.which("valgrind")


def count(workload: Workload, style: str, home: Path) -> dict[str, float]:
    """Return the instructions for a record of *workload*, by how far it goes. Files are made in *home*."""
    reads = home / "reads"
    _write(workload, reads)
    config = home / "collector.toml"
    (home / "logs").mkdir()
    config.write_text(f'[files]\ndirectory = "{home}/logs"\n[format]\nstyle = "{style}"\n')
    return {goal: _difference(goal, config, reads) for goal in GOALS}


def _difference(goal: str, config: Path, reads: Path) -> float:
    _run([], config, reads, 0, goal)  # without valgrind, so that no module is compiled under it
    valgrind = find_valgrind()
    assert valgrind, "valgrind is not installed"
    callgrind = [valgrind, "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    runs = []
    for rounds in (_WARM_ROUNDS, _ROUNDS):
        ended = _run(callgrind, config, reads, rounds, goal)
        runs.append((int(re.findall(r"Collected : (\d+)", ended.stderr)[-1]), int(ended.stdout)))
    (before, records_before), (after, records) = runs
    return (after - before) / (records - records_before)


def _write(workload: Workload, path: Path) -> None:
    """Cut what each connection sends into reads, for frames_to_lines.py."""
    records = _ROUNDS * _ROUND_BYTES // _SMALLEST_FRAME_BYTES
    streams = [bytearray() for _ in range(workload.senders)]
    for number, record in enumerate(replace(workload, records=records, begins=_BEGINS).prepare()):
        streams[number % workload.senders] += record.frame
    size = _ROUND_BYTES // workload.senders
    assert min(map(len, streams)) >= _ROUNDS * size
    with path.open("wb") as file:
        file.write(b"%d\n" % workload.senders)
        for at in range(0, _ROUNDS * size, size):
            for stream in streams:
                file.write(size.to_bytes(4, "big") + stream[at : at + size])


def _run(
    under: list[str], config: Path, reads: Path, rounds: int, goal: str
) -> subprocess.CompletedProcess[str]:
    """Run frames_to_lines.py, which prints how many records there were."""
    # The order of sets and the size of the environment make a difference, if a small one.
    environment = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return subprocess.run(
        [*under, sys.executable, str(_DRIVER), str(config), str(reads), str(rounds), goal],
        env=environment | {"PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=True,
    )
