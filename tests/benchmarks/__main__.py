"""Send each workload to each server a number of times, and print what it took."""



from __future__ import annotations

import argparse
import os
import platform
import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from tests.benchmarks.runs import run
from tests.benchmarks.servers import SERVERS
from tests.benchmarks.workload import CALL_SITES, LOGGERS, Workload

if TYPE_CHECKING:
    from tests.benchmarks.runs import Result

COLUMNS = ("server", "connections", "bytes/frame", "records/s", "slowest", "fastest", "CPU us/record")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "-n", type=int, default=3, dest="runs", help="how often to run each; the median counts"
    )
    parser.add_argument("--records", type=int, default=200_000, help="of one run")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 64], metavar="N")
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=list(SERVERS), metavar="NAME")
    parser.add_argument(
        "--directory", type=Path, help="for the log files; default: the one for temporary files"
    )
    options = parser.parse_args()
    print(machine(), *(SERVERS[name].describe() for name in options.servers), sep="\n")
    print(
        f"{len(LOGGERS)} loggers, {CALL_SITES} call sites, {options.records} records a run; "
        f"the median of {options.runs} runs, and their slowest and fastest"
    )
    print("", "".join(f"{title:>14}" for title in COLUMNS), sep="\n")
    for connections in options.connections:
        workload = Workload(connections, options.records)
        for name in options.servers:
            print(row([measure(name, workload, options.directory) for _ in range(options.runs)]), flush=True)


def measure(name: str, workload: Workload, directory: Path | None) -> Result:
    """Run a server once, with a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="collector-benchmark-", dir=directory) as home:
        return run(name, SERVERS[name](Path(home)), workload)


def row(results: list[Result]) -> str:
    """Return one line of the table: several runs of one workload on one server."""
    one = results[0]
    speeds = [result.records_per_second for result in results]
    cpu = median(result.cpu_microseconds_per_record for result in results)
    numbers = (one.frame_bytes, median(speeds), min(speeds), max(speeds))
    return (
        f"{one.server:>14}{one.connections:14}"
        + "".join(f"{number:14.0f}" for number in numbers)
        + f"{cpu:14.2f}"
    )


def machine() -> str:
    """Return what the numbers depend on besides the server."""
    names = (line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines())
    model = next(
        (value.strip() for name, _, value in names if name.strip() == "model name"), platform.machine()
    )
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{os.cpu_count()} x {model}, Linux {platform.release()}, {python}"


if __name__ == "__main__":
    main()
