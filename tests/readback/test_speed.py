"""Looking back over a gigabyte in 100 files and 400 backups, half of them compressed: what it takes.

By CPU time, for others may be busy on the machine. Ten gigabytes: python -m tests.benchmarks.reading_back.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.benchmarks.reading_back import ONCE, Taken, make, tail, zgrep

if TYPE_CHECKING:
    from pathlib import Path

MB = 1_000_000


@pytest.mark.slow
@pytest.mark.parametrize("style", ["text", "json"])
def test_what_is_asked_for_last_is_there_at_once_and_memory_stays_small(tmp_path: Path, style: str) -> None:
    config = make(tmp_path, 500 * MB, style=style)

    def taken(*options: str, lines: int) -> Taken:
        found = tail(config, *options)
        assert lines == found.output.count(b"\n")
        assert found.memory < 60 * MB
        print(f"{style} {' '.join(options)[:60]}: {found.seconds:.2f} s, {found.cpu:.2f} s CPU")
        return found

    assert taken("-n", "20", lines=20).cpu < 0.5
    assert taken("-n", "100", "--level", "ERROR", lines=100).cpu < 1
    assert taken("--grep", ONCE, lines=1).cpu < 3 * zgrep(config, ONCE).cpu
    taken("-n", "300000", lines=300_000)
    plain = sorted(str(path) for path in (tmp_path / "logs").iterdir() if path.suffix != ".gz")
    size = sum(map(os.path.getsize, plain))
    rate = size / MB / taken("-n", "all", "--level", "ERROR", *plain, lines=_errors(plain)).cpu
    print(f"{style} --level ERROR: {rate:.0f} MB/s")
    # Two thirds of what a machine does that has nothing else to do.
    assert rate > 170


def _errors(paths: list[str]) -> int:
    found = 0
    for path in paths:
        with open(path, "rb") as file:
            found += sum(b" ERROR 7 " in line or b'"level":"ERROR"' in line for line in file)
    return found
