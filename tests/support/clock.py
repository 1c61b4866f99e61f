"""A wall clock that a test moves: only that of the collector, and for real, by a preloaded library.

`clock.c` says what it shifts and what not. The library is built where a C compiler is; where there is none,
or where Python does not ask libc for the time (a static one), the test is skipped and says so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_SOURCE = Path(__file__).with_name("clock.c")
_SHIFT_BYTES = 8
_TRIAL_SECONDS = 1_000_000.0
# Shown by the clock, and by the mtime of a file that is made and of one that is written to.
_TRIAL = """
import os, sys, time
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
made = os.fstat(fd).st_mtime
os.utime(fd, (0, 0))
os.write(fd, b"x")
print(time.time(), made, os.fstat(fd).st_mtime)
"""


class Clock:
    """The clock of every process that has its `environment`: how far it is from the right time."""

    def __init__(self, library: Path, file: Path) -> None:
        file.write_bytes(bytes(_SHIFT_BYTES))
        self.offset = 0.0
        """Seconds by which it is ahead."""
        self.environment = {**os.environ, "LD_PRELOAD": str(library), "CLOCK_SHIFT_FILE": str(file)}
        """What to start a collector with: `collector.start(env=clock.environment)`."""
        self._file = file.open("r+b", buffering=0)

    def set(self, offset_seconds: float) -> None:
        """Be so far ahead, or behind where negative; whoever looks after the return sees it."""
        self._file.seek(0)
        self._file.write(int(offset_seconds * 1e9).to_bytes(_SHIFT_BYTES, sys.byteorder, signed=True))
        self.offset = offset_seconds

    def set_to(self, moment: float) -> None:
        """Show *moment*, in seconds since the epoch, and go on from there."""
        self.set(moment - time.time())

    def time(self) -> float:
        """Return what it shows."""
        return time.time() + self.offset

    def close(self) -> None:
        self._file.close()


@pytest.fixture(scope="session")
def clock_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the library, built and tried."""
    home = tmp_path_factory.mktemp("clock")
    library = home / "clock.so"
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("needs cc to build a clock that can be moved")
    options = ["-shared", "-fPIC", "-O", "-Wall", "-Wextra"]
    command = [compiler, *options, "-o", str(library), str(_SOURCE), "-ldl"]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode:
        pytest.skip(f"tests/support/clock.c cannot be built here: {built.stderr.strip()}")
    clock = Clock(library, home / "trial")
    clock.set(_TRIAL_SECONDS)
    trial = [sys.executable, "-c", _TRIAL, str(home / "file")]
    shown = subprocess.run(trial, env=clock.environment, capture_output=True, text=True, check=False)
    clock.close()
    ahead = [float(moment) - time.time() for moment in shown.stdout.split()]
    if not ahead or min(ahead) < _TRIAL_SECONDS / 2:
        pytest.skip(f"the clock of this Python cannot be moved: {ahead} {shown.stderr.strip()}")
    return library


@pytest.fixture
def clock(clock_library: Path, tmp_path: Path) -> Iterator[Clock]:
    """Return a clock of the test's own, which shows the right time at first."""
    clock = Clock(clock_library, tmp_path / "shift")
    yield clock
    clock.close()
