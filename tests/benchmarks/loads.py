"""The load: processes apart from the one that measures, which do nothing that could be done beforehand."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from typing_extensions import Self

    from tests.benchmarks.workload import Workload

_HERE = Path(__file__).parent
_END_SECONDS = 60


class Streams(NamedTuple):
    """A workload as files: all that each connection sends, one after the other, as frames and as syslog."""

    workload: Workload
    home: Path
    lengths: dict[str, list[int]]
    line_bytes: int
    """Of all lines together; 0 if nobody knows."""

    @property
    def frame_bytes(self) -> float:
        """The average length of a frame, with its prefix."""
        return sum(self.lengths["frames"]) / self.workload.records if self.lengths else 0

    def commands(self, form: str, port: int) -> list[list[str]]:
        """Return what sends all of it to *port*, in one form."""
        work = self.workload
        if work.stock_clients:
            counts = [
                work.records // work.connections + (n < work.records % work.connections)
                for n in range(work.connections)
            ]
            return [
                [sys.executable, str(_HERE / "stock_client.py"), str(port), str(n), str(count)]
                for n, count in enumerate(counts)
            ]
        lengths = json.dumps(self.lengths[form])
        stream = str(self.home / form)
        return [
            [sys.executable, str(_HERE / "send.py"), str(port), str(work.connections), stream, lengths],
        ]


def write(workload: Workload, home: Path) -> Streams:
    """Prepare a workload in the directory *home*."""
    if workload.stock_clients:
        return Streams(workload, home, {}, 0)
    streams = {form: [bytearray() for _ in range(workload.senders)] for form in ("frames", "syslog")}
    line_bytes = 0
    for number, record in enumerate(workload.prepare()):
        streams["frames"][number % workload.senders] += record.frame
        streams["syslog"][number % workload.senders] += record.syslog
        line_bytes += len(record.line)
    for form, parts in streams.items():
        with (home / form).open("wb") as file:
            file.writelines(parts)
    lengths = {form: [len(part) for part in parts] for form, parts in streams.items()}
    return Streams(workload, home, lengths, line_bytes)


class Load:
    """Processes that say when they are ready, begin together, and tell the CPU seconds they used."""

    def __init__(self, commands: Sequence[Sequence[str]]) -> None:
        self._processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for command in commands
        ]
        self._said: list[str] = []

    def __enter__(self) -> Self:
        for process in self._processes:
            assert process.stdout
            assert process.stdout.readline() == "ready\n", "a load could not begin"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with ExitStack() as stack:
            for process in self._processes:
                stack.enter_context(process)  # which closes its stdin, and so it hangs up
                if error:
                    process.kill()

    def begin(self) -> None:
        """Send all of it."""
        for process in self._processes:
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()

    def end(self) -> float:
        """Wait until everything is sent; return the CPU seconds that took."""
        for process in self._processes:
            assert process.stdout
            self._said.append(process.stdout.readline())
        assert all(self._said), "a load ended early"
        return sum(map(float, self._said))
