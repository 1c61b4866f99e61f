"""What a running worker asks of the kernel, seen by strace."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.collectors import Collector


def trace_syncs(collector: Collector, trace: Path) -> subprocess.Popen[str]:
    """Have each fsync() of the worker written to *trace*, until the worker ends: see wait_for().

    Skips the test where strace is missing or may not attach.
    """
    if not shutil.which("strace"):
        pytest.skip("needs strace to see fsync")
    strace = subprocess.Popen(
        # Every thread, the path behind each descriptor, the time of each call.
        ["strace", "-f", "-y", "-ttt", "-e", "trace=fsync", "-o", str(trace), "-p", str(collector.worker)],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert strace.stderr
    answer = strace.stderr.readline()
    if "attached" not in answer:
        strace.wait()
        pytest.skip(answer.strip())
    return strace


def wait_for(strace: subprocess.Popen[str]) -> None:
    """Return when the trace of a worker that has ended is whole."""
    assert strace.stderr
    strace.wait(10)
    strace.stderr.close()
