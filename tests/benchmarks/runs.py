"""One run: a workload, a server, and what it took until the last line was in a file.

The load must cost little itself, for it has the same processors: a thread per connection hands all its bytes
to the kernel in one call, and files are read on from where they ended before.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tests.benchmarks.servers import Server
    from tests.benchmarks.workload import Workload

# How long nothing may happen before a run has failed.
_STALL_SECONDS = 30.0
# How often to look for lines: costs a run of some seconds less than a percent, and makes it as much longer.
_POLL_SECONDS = 0.02
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Result(NamedTuple):
    """What one run took."""

    server: str
    connections: int
    records: int
    frame_bytes: float
    seconds: float
    """From the first byte sent to the last line in a file."""
    cpu_seconds: float
    """Of all processes of the server, in user and kernel mode."""

    @property
    def records_per_second(self) -> float:
        return self.records / self.seconds

    @property
    def cpu_microseconds_per_record(self) -> float:
        return self.cpu_seconds * 1e6 / self.records


def run(name: str, server: Server, workload: Workload) -> Result:
    """Start *server*, send it *workload*, stop it. Raises AssertionError unless each record is one line."""
    streams = workload.streams
    server.start()
    sockets = [socket.create_connection(("127.0.0.1", server.port)) for _ in streams]
    senders = [
        threading.Thread(target=sock.sendall, args=(stream,), daemon=True)
        for sock, stream in zip(sockets, streams, strict=True)
    ]
    lines = Lines(server.directory)
    cpu, begun = cpu_seconds(server.pid), time.monotonic()
    for sender in senders:
        sender.start()
    lines.wait_for(workload.records)
    seconds, cpu = time.monotonic() - begun, cpu_seconds(server.pid) - cpu
    for sender, sock in zip(senders, sockets, strict=True):
        sender.join()
        sock.close()
    server.stop()
    assert workload.records == lines.count(), "there are more lines than records"
    return Result(name, workload.connections, workload.records, workload.frame_bytes, seconds, cpu)


class Lines:
    """The lines in the files of a directory, counted as they come, whatever the files are renamed to."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._read: dict[int, int] = {}
        self._lines = 0

    def count(self) -> int:
        """Return how many lines there are now."""
        for path in self._directory.rglob("[!.]*"):
            try:
                file = path.open("rb")
            except (FileNotFoundError, IsADirectoryError):
                continue  # in the first case it is found under its new name next time
            with file:
                inode = os.fstat(file.fileno()).st_ino
                file.seek(self._read.get(inode, 0))
                new = file.read()
                self._read[inode] = file.tell()
                self._lines += new.count(b"\n")
        return self._lines

    def wait_for(self, expected: int) -> None:
        """Return as soon as there are *expected* lines."""
        count, last_change = 0, time.monotonic()
        while count < expected:
            before, count, now = count, self.count(), time.monotonic()
            if count > before:
                last_change = now
            assert now < last_change + _STALL_SECONDS, f"only {count} of {expected} records are in the files"
            time.sleep(_POLL_SECONDS)


def cpu_seconds(pid: int) -> float:
    """Return what the process *pid*, its children and theirs have used so far (proc(5), /proc/PID/stat)."""
    children: dict[int, list[int]] = {}
    ticks: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # Behind the name in parentheses, which may hold anything: field 4 is the parent, 14 and 15
            # are the times, 16 and 17 those of children that have ended.
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        process = int(stat.parent.name)
        ticks[process] = sum(map(int, fields[11:15]))
        children.setdefault(int(fields[1]), []).append(process)
    found = [pid]
    for process in found:
        found.extend(children.get(process, []))
    return sum(ticks[process] for process in found) / _TICKS_PER_SECOND
