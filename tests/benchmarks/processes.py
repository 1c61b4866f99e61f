"""What processes have used so far: proc(5), and the clocks of clock_getcpuclockid(3)."""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_CLOCK_OF_ALL_TIME = 2  # CPUCLOCK_SCHED: user and kernel mode, of all threads, those that ended too


def family(pid: int) -> dict[int, float]:
    """Return the process *pid*, its children and theirs, with the CPU seconds of children each has buried."""
    children: dict[int, list[int]] = {}
    buried: dict[int, float] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # Behind the name in parentheses, which may hold anything: field 4 is the parent, 16 and 17 are
            # the times of children that have ended.
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        process = int(stat.parent.name)
        buried[process] = sum(map(int, fields[13:15])) / _TICKS_PER_SECOND
        children.setdefault(int(fields[1]), []).append(process)
    found = [pid]
    for process in found:
        found.extend(children.get(process, []))
    return {process: buried[process] for process in found if process in buried}


def cpu_seconds(pid: int) -> float:
    """Return what the process *pid*, its children and theirs have used, in user and kernel mode.

    That is utime + stime of /proc/PID/stat, but in nanoseconds, where those are in hundredths of a second.
    """
    used = 0.0
    for process, buried in family(pid).items():
        used += buried
        with contextlib.suppress(OSError):
            used += time.clock_gettime(~process << 3 | _CLOCK_OF_ALL_TIME)
    return used


def peak_bytes(pid: int) -> int:
    """Return the sum of the most memory each of them had (VmHWM): what they share counts for each."""
    peak = 0
    for process in family(pid):
        status = Path(f"/proc/{process}/status").read_text()
        found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
        peak += int(found[1]) * 1024 if found else 0
    return peak
