"""Looking back over a gigabyte in 100 files and 400 backups, half of them compressed: what it takes.

By CPU time, for others may be busy on the machine. Ten gigabytes: python -m tests.benchmarks.reading_back.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from tests.benchmarks.reading_back import ONCE, Taken, make, tail, zgrep

if TYPE_CHECKING:
    from pathlib import Path

MB = 1_000_000
_LOOKS = 1.5
"""How many bare looks at every line a search for a level may take."""


@pytest.mark.slow
@pytest.mark.parametrize("style", ["text", "json"])
def test_what_is_asked_for_last_is_there_at_once_and_memory_stays_small(tmp_path: Path, style: str) -> None:
    config = make(tmp_path, 500 * MB, style=style)

    def taken(*options: str, lines: int) -> Taken:
        found = tail(config, *options)
        assert lines == found.output.count(b"\n")
        assert 0 < found.memory < 60 * MB
        print(f"{style} {' '.join(options)[:60]}: {found.seconds:.2f} s, {found.cpu:.2f} s CPU")
        return found

    start = taken("-n", "0", lines=0).cpu
    assert taken("-n", "20", lines=20).cpu < 3 * start
    assert taken("-n", "100", "--level", "ERROR", lines=100).cpu < 5 * start
    assert taken("--grep", ONCE, lines=1).cpu < 3 * zgrep(config, ONCE).cpu
    taken("-n", "300000", lines=300_000)
    plain = sorted(str(path) for path in (tmp_path / "logs").iterdir() if path.suffix != ".gz")
    begun = time.process_time()
    errors = _errors(plain)
    look = time.process_time() - begun
    size = sum(map(os.path.getsize, plain))
    cpu = taken("-n", "all", "--level", "ERROR", *plain, lines=errors).cpu - start
    print(f"{style} --level ERROR: {size / MB / cpu:.0f} MB/s; a bare look {size / MB / look:.0f}")
    assert cpu < _LOOKS * look


def _errors(paths: list[str]) -> int:
    """Return in how many lines an error stands, as fast as Python looks at each line by itself."""
    found = 0
    for path in paths:
        with open(path, "rb") as file:
            found += sum(b" ERROR 7 " in line or b'"level":"ERROR"' in line for line in file)
    return found
