"""Measure the collector and its peers side by side, in turn, and print tables of what it took."""

from __future__ import annotations

import argparse
import os
import pickle
import platform
import resource
import sys
import tempfile
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

from tests.benchmarks import forwarding, instructions, latency, loads, profiling, runs, tables
from tests.benchmarks.servers import SERVERS
from tests.benchmarks.workload import DEFAULT, LATENCY, WORKLOADS, Workload, find_python_2

NAMES = (*WORKLOADS, LATENCY.name)
# Below this a machine that cannot keep the rate is measured as it is.
_LOWEST_RATE = 1000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "-n", type=int, default=5, dest="rounds", help="how often to run each; the median counts; default: 5"
    )
    parser.add_argument(
        "--workload",
        nargs="+",
        choices=(*NAMES, "all"),
        default=DEFAULT,
        metavar="NAME",
        help=f"of {', '.join(NAMES)}; all; default: {', '.join(DEFAULT)}",
    )
    parser.add_argument(
        "--servers",
        nargs="+",
        choices=SERVERS,
        metavar="NAME",
        help=f"of {', '.join(SERVERS)}; default: those that a workload is for",
    )
    parser.add_argument(
        "--records", type=int, default=200_000, help="of one run; fewer where they are large; default: 200000"
    )
    parser.add_argument(
        "--rate", type=int, default=latency.RATE, help="of latency, records/s; default: 20000"
    )
    parser.add_argument("--directory", type=Path, help="for all files; default: the one for temporary files")
    parser.add_argument(
        "--profile",
        type=Path,
        metavar="FILE",
        help="write where the collector's time goes, and measure nothing",
    )
    parser.add_argument(
        "--instructions",
        action="store_true",
        help="count the instructions for a record, from frames to lines, by valgrind; measure nothing else",
    )
    parser.add_argument(
        "--forward",
        action="store_true",
        help="measure handing over instead: the collector with and without a spool, and each forwarder",
    )
    parser.add_argument("--lines", action="store_true", help="in a profile: lines, not functions")
    options = parser.parse_args()
    if options.instructions:
        _count(options)
        return
    # A server has a descriptor per connection and per file.
    _raise_open_files()
    names = NAMES if "all" in options.workload else options.workload
    if options.forward:
        _forward(options)
    elif options.profile:
        _profile(options, [name for name in names if name in WORKLOADS])
    else:
        _measure(options, names)


def _measure(options: argparse.Namespace, names: list[str] | tuple[str, ...]) -> None:
    measured: dict[str, dict[str, list[runs.Result | None]]] = {}
    waits: dict[str, list[latency.Latency]] = {}
    servers: set[str] = set()
    for name in names:
        workload = _sized(WORKLOADS.get(name, LATENCY), options.records)
        chosen = list(options.servers or workload.servers)
        if workload.python != "3" and not find_python_2():
            _say(f"{name}: there is no Python {workload.python}")
            continue
        servers.update(chosen)
        with _directory(options) as home:
            if name == LATENCY.name:
                waits = _latencies(
                    options,
                    latency.write(replace(LATENCY, records=options.rate * latency.SECONDS), home),
                    chosen,
                )
            else:
                measured[name] = _rounds(options, loads.write(workload, home), chosen)
    print(_heading(options, [name for name in SERVERS if name in servers]))
    for text in (
        tables.results(measured) if measured else "",
        tables.latencies(waits) if waits else "",
        tables.targets(measured, waits),
    ):
        if text:
            print("", text, sep="\n")


def _count(options: argparse.Namespace) -> None:
    """Print the instructions for a record. Where there is no valgrind, it says so."""
    if not instructions.find_valgrind():
        print("instructions: skipped, valgrind is not installed")
        return
    counted = {}
    for case in instructions.CASES:
        _say(f"instructions: {case}")
        with _directory(options) as home:
            counted[case] = instructions.count(*instructions.CASES[case], home)
    print(tables.instructions(counted))


def _forward(options: argparse.Namespace) -> None:
    """Measure handing over, and print tables of it."""
    name, servers = "text-8", [tables.OURS, "collector-spool"]
    with _directory(options) as home:
        streams = loads.write(_sized(WORKLOADS[name], options.records), home)
        measured = {name: _rounds(options, streams, servers)}
    handed: dict[str, list[forwarding.Handed]] = {}
    records = max(options.records, forwarding.LEAST_RECORDS)
    with _directory(options) as spools:
        for kind, workload in forwarding.RECORDS.items():
            forwarding.fill(replace(workload, records=records), spools / kind)
        for number in range(options.rounds):
            for destination, kind in product(forwarding.TYPES, forwarding.RECORDS):
                with _directory(options) as home:
                    result = forwarding.run(destination, spools / kind, records, home)
                case = f"{destination}, {kind}"
                handed.setdefault(case, []).append(result)
                _say(
                    f"forward {number + 1}: {case:>20}{result.speed:10.0f} records/s"
                    f"{result.cpu:8.2f} us of CPU{result.peak_bytes / 1e6:6.0f} MB"
                )
    print(_heading(options, servers))
    for text in (tables.results(measured), tables.targets(measured, {}), tables.handed(handed)):
        print("", text, sep="\n")


def _sized(workload: Workload, records: int) -> Workload:
    return replace(workload, records=max(1, workload.records * records // 200_000))


def _rounds(
    options: argparse.Namespace, streams: loads.Streams, chosen: list[str]
) -> dict[str, list[runs.Result | None]]:
    name = streams.workload.name
    _say(f"{name}: {streams.workload.records} records, frames of {streams.frame_bytes:.0f} bytes on average")
    results: dict[str, list[runs.Result | None]] = {server: [] for server in chosen}
    for number in range(options.rounds):
        for server in chosen:
            if not SERVERS[server].describe():
                continue
            with _directory(options) as home:
                try:
                    result = runs.run(SERVERS[server](home), streams)
                except (AssertionError, OSError) as error:
                    _say(f"{name}: {server}: {error!r}")
                    results[server].append(None)
                    continue
            results[server].append(result)
            remark = "" if result.same else ", FILES DIFFER FROM WHAT THEY SHOULD BE"
            _say(
                f"{name} {number + 1}: {server:>14}{result.speed:10.0f} records/s{result.cpu:8.2f} us of CPU"
                f"{result.peak_bytes / 1e6:6.0f} MB, {result.lost} lost, load {result.load:.2f} us{remark}"
            )
    return results


def _latencies(
    options: argparse.Namespace, paced: latency.Paced, chosen: list[str]
) -> dict[str, list[latency.Latency]]:
    results: dict[str, list[latency.Latency]] = {server: [] for server in chosen}
    rate = options.rate
    number = 0
    while number < options.rounds:
        kept = False
        for server in chosen:
            if not SERVERS[server].describe():
                continue
            with _directory(options) as home:
                try:
                    result = latency.run(SERVERS[server](home), paced, rate)
                except (AssertionError, OSError) as error:
                    _say(f"latency: {server}: {error!r}")
                    continue
            _say(
                f"latency {number + 1}: {server:>14}{result.rate:10.0f} records/s, p50 {result.p50:.2f} "
                f"p99 {result.p99:.2f} max {result.longest:.1f} ms, {result.lost} lost"
            )
            results[server].append(result)
            kept = kept or latency.is_kept(result, rate)
        number += 1
        # A server that is too slow holds its clients up. If all of them do, it is the machine.
        if not kept and rate > _LOWEST_RATE:
            rate //= 2
            _say(f"latency: this machine cannot send at that rate; again at {rate} records/s")
            results, number = {server: [] for server in chosen}, 0
    return results


def _profile(options: argparse.Namespace, names: list[str]) -> None:
    texts = []
    for name in names:
        with _directory(options) as home, _directory(options) as logs:
            streams = loads.write(_sized(WORKLOADS[name], options.records), home)
            for server in [server for server in options.servers or [tables.OURS] if server != "rsyslog"]:
                text = profiling.profile(SERVERS[server](logs), streams, home, by_line=options.lines)
                texts.append(f"{server}, {name}\n{text}")
    options.profile.write_text("\n".join(texts))


def _directory(options: argparse.Namespace) -> _Directory:
    return _Directory(options.directory)


class _Directory(tempfile.TemporaryDirectory[str]):
    """A directory that is gone with its block."""

    def __init__(self, parent: Path | None) -> None:
        super().__init__(prefix="collector-benchmark-", dir=parent)

    def __enter__(self) -> Path:  # type: ignore[override]
        return Path(self.name)


def _raise_open_files() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _heading(options: argparse.Namespace, servers: list[str]) -> str:
    """Return what the numbers depend on besides the servers."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(":") for line in lines)
    model = next(
        (value.strip() for name, _, value in names if name.strip() == "model name"), platform.machine()
    )
    python = f"{platform.python_implementation()} {platform.python_version()}"
    said = [SERVERS[server].describe() for server in servers]
    command = " ".join(["python -m tests.benchmarks", *sys.argv[1:]])
    return "\n".join(
        (
            f"{os.cpu_count()} x {model}, Linux {platform.release()}, load {os.getloadavg()[0]:.1f}",
            f"{python}, whose pickle.loads takes {_yardstick():.1f} us for a frame of 650 bytes",
            "; ".join(dict.fromkeys(text for text in said if text)),
            f"``{command}``",
            f"Medians of {options.rounds} rounds. Ratio: the collector's figure over the server's.",
        )
    )


def _yardstick() -> float:
    """Return how many microseconds pickle.loads takes for a frame: what the machine is worth just now."""
    frames = [record.frame[4:] for record in Workload("", records=2000).prepare()]
    begun = time.process_time()
    for frame in frames:
        pickle.loads(frame)  # noqa: S301 - made here
    return (time.process_time() - begun) * 1e6 / len(frames)


def _say(text: str) -> None:
    """Tell how far it is, beside the tables."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
