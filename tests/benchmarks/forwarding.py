"""What handing over takes: a forwarder, from a spool that is full to a destination that only answers.

The forwarder is a process as the guardian starts it. Its first answer is held back until it has come to rest,
with one batch read; what is measured begins there and ends with the last answer, and is of all other records.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from collector.config.load import load
from collector.forward import status
from collector.forward.progress import Progress
from collector.spool.appending import Spool
from collector.spool.checkpoint import Checkpoint
from collector.spool.reading import OLDEST
from tests.benchmarks.processes import cpu_seconds, peak_bytes
from tests.benchmarks.runs import rest
from tests.benchmarks.workload import WORKLOADS

if TYPE_CHECKING:
    from tests.benchmarks.workload import Workload

_SINK = Path(__file__).with_name("sink.py")
_NAME = "sink"
# As many frames of a busy client as a read of 64 KiB has.
_BLOCK_RECORDS = 100
_MiB = 1024 * 1024
_STOP_SECONDS = 30
_KEYS = {
    "elasticsearch": 'url = "http://127.0.0.1:{port}"',
    "relp": 'address = "127.0.0.1:{port}"',
    "fluent": 'address = "127.0.0.1:{port}"\ncompression = "none"',
}
TYPES = tuple(_KEYS)
RECORDS = {"text": WORKLOADS["text-8"], "extra": WORKLOADS["extra-8"]}
LEAST_RECORDS = 4000
"""One batch beside the first."""


class Handed(NamedTuple):
    """What one run took."""

    records: int
    seconds: float
    cpu_seconds: float
    """Of the forwarder, in user and kernel mode."""
    peak_bytes: int

    @property
    def speed(self) -> float:
        """Records per second."""
        return self.records / self.seconds

    @property
    def cpu(self) -> float:
        """CPU microseconds per record."""
        return self.cpu_seconds * 1e6 / self.records


def fill(workload: Workload, directory: Path) -> None:
    """Make a spool of the records of *workload*, and the checkpoint of a destination at its beginning."""
    spool = Spool(str(directory), limit=_MiB, max_bytes=2**40, segment_bytes=64 * _MiB, sync=False)
    clients: list[list[bytes]] = [[] for _ in range(workload.senders)]
    for number, record in enumerate(workload.prepare()):
        client = number % workload.senders
        clients[client].append(record.frame[4:])
        if len(clients[client]) == _BLOCK_RECORDS:
            _spool_block(spool, client, clients)
    for client in range(workload.senders):
        _spool_block(spool, client, clients)
    assert not spool.close()
    Checkpoint.create(status.checkpoint_path(str(directory), _NAME), Progress.at(OLDEST).state()).close()


def run(kind: str, spool: Path, records: int, home: Path) -> Handed:
    """Hand the *records* in a copy of *spool* over to a sink of that type. Files are made in *home*."""
    shutil.copytree(spool, home / "spool")
    sink = subprocess.Popen(
        [sys.executable, str(_SINK), kind, str(records)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert sink.stdin
    assert sink.stdout
    with sink:
        try:
            config = home / "collector.toml"
            table = f'name = "{_NAME}"\ntype = "{kind}"\n{_KEYS[kind]}'.format(
                port=int(sink.stdout.readline())
            )
            config.write_text(f'[spool]\ndirectory = "{home}/spool"\n[[forward]]\n{table}\n')
            with (home / "output.txt").open("wb") as output:
                command = [sys.executable, "-m", "collector", "forward", _NAME, "-c", str(config)]
                forwarder = subprocess.Popen(command, stderr=output)
            try:
                assert sink.stdout.readline() == "ready\n", (home / "output.txt").read_text()
                rest(forwarder.pid)
                cpu, begun = cpu_seconds(forwarder.pid), time.monotonic()
                sink.stdin.write("\n")
                sink.stdin.flush()
                assert sink.stdout.readline() == "done\n", (home / "output.txt").read_text()
                seconds, cpu = time.monotonic() - begun, cpu_seconds(forwarder.pid) - cpu
                peak = peak_bytes(forwarder.pid)
            finally:
                forwarder.terminate()
                forwarder.wait(_STOP_SECONDS)
        finally:
            sink.kill()
    return Handed(records - load(str(config)).forwards[0].batch_records, seconds, cpu, peak)


def _spool_block(spool: Spool, client: int, clients: list[list[bytes]]) -> None:
    payloads, clients[client] = clients[client], []
    spool.add(f"10.0.0.7:{50_000 + client}", payloads, time.time_ns())
    spool.write()
