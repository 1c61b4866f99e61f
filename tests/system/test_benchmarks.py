"""The benchmarks measure what they say, and still run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.benchmarks import forwarding, instructions, latency, loads, runs, tables
from tests.benchmarks.processes import cpu_seconds, peak_bytes
from tests.benchmarks.runs import Result
from tests.benchmarks.servers import SERVERS
from tests.benchmarks.workload import CALL_SITES, LATENCY, WORKLOADS, Workload, call_sites, find_python_2
from tests.support.places import TESTS

if TYPE_CHECKING:
    from pathlib import Path

DONE = Result(1000, 0, same=True, seconds=0.5, cpu_seconds=0.002, load_seconds=0.001, peak_bytes=50_000_000)


# --- what is sent -------------------------------------------------------------------------------------------


def test_a_frame_of_the_benchmarks_has_about_640_bytes_on_average(tmp_path: Path) -> None:
    # taskName, since 3.12, makes the difference
    assert 620 <= loads.write(Workload("", records=500), tmp_path).frame_bytes <= 675


def test_the_call_sites_of_the_benchmarks_are_200() -> None:
    assert CALL_SITES == len({(site.path, site.line, site.function) for site in call_sites()}) == 200


@pytest.mark.parametrize("count", [4, 1000])
def test_the_records_of_a_workload_come_from_its_loggers(count: int) -> None:
    records = Workload("", records=10 * count, loggers=count).prepare()
    found = {record.line.split()[2] for record in records}
    assert count * 0.99 <= len(found) <= count


@pytest.mark.parametrize("size", [60, 150, 4000])
def test_messages_have_the_length_they_should_have(size: int) -> None:
    for record in Workload("", records=20, message_bytes=size).prepare():
        assert size == len(record.line.split(b" ", 5)[5]) - 1


@pytest.mark.parametrize("name", WORKLOADS)
def test_rsyslog_is_fed_the_lines_that_the_collector_writes(name: str) -> None:
    workload = WORKLOADS[name]
    if workload.python != "3" and not find_python_2():
        pytest.skip("no Python 2.7")
    for record in replace(workload, records=20).prepare():
        length, _, message = record.syslog.partition(b" ")
        assert int(length) == len(message)
        assert message.split(b" - - ", 1)[1] + b"\n" == record.line


def test_an_extra_is_in_the_frame_and_not_in_the_line() -> None:
    with_extra = list(Workload("", records=5, extra=True).prepare())
    assert [True] * 5 == [b"request_id" in record.frame for record in with_extra]
    assert [False] * 5 == [b"request_id" in record.line for record in with_extra]


@pytest.mark.parametrize(("connections", "busy"), [(1, 0), (3, 0), (64, 5)])
def test_a_workload_has_its_records_in_as_many_streams_as_senders(
    connections: int, busy: int, tmp_path: Path
) -> None:
    streams = loads.write(Workload("", connections=connections, busy=busy, records=100), tmp_path)
    assert (busy or connections) == len(streams.lengths["frames"]) == len(streams.lengths["syslog"])
    frames = (tmp_path / "frames").read_bytes()
    assert (100, sum(streams.lengths["frames"])) == (frames.count(b"threadName"), len(frames))


# --- what is measured ---------------------------------------------------------------------------------------


def test_the_cpu_time_of_a_child_counts_when_it_has_ended_too() -> None:
    before = cpu_seconds(os.getpid())
    subprocess.run([sys.executable, "-c", "for _ in range(2_000_000): pass"], check=True)
    assert cpu_seconds(os.getpid()) - before > 0.02


def test_peak_memory_is_that_of_a_process_and_its_children() -> None:
    alone = peak_bytes(os.getpid())
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE):
        assert peak_bytes(os.getpid()) > alone > 1_000_000


def test_a_record_with_a_traceback_is_one_record(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("[1] a\nTraceback:\n  File\nValueError: [x]\n[2] b\n")
    (tmp_path / "b.log").write_text('{"a": 1}\n{"b": 2}\n')
    (tmp_path / ".c").write_text("[3]\n")
    assert 4 == runs.count_records(tmp_path)


# --- how it is told -----------------------------------------------------------------------------------------


def test_ratios_are_of_one_round_and_a_round_without_a_pair_has_none() -> None:
    twice = DONE._replace(seconds=1.0)
    rounds: dict[str, list[Result | None]] = {"a": [DONE, twice, DONE], "b": [twice, None, DONE]}
    assert [1.0, 2.0] == tables.paired(rounds, "a", "b", lambda one: one.speed)


def test_a_server_that_is_not_installed_is_reported_as_such() -> None:
    text = tables.results({"text-8": {"collector": [DONE], "rsyslog": []}})
    assert re.search(r"^text-8 +collector +2,000 +1 +2.00 +1 +50 +0 +1 of 1$", text, re.MULTILINE), text
    assert re.search(r"^text-8 +rsyslog +not installed$", text, re.MULTILINE), text


def test_targets_are_those_of_what_was_measured() -> None:
    measured = {"text-8": {"collector": [DONE], "rsyslog": [DONE._replace(cpu_seconds=0.004)]}}
    text = tables.targets(measured, {})
    assert re.search(r"^CPU per record / rsyslog's +<= 0.85 +0.50 +0.50 to 0.50 +yes$", text, re.MULTILINE), (
        text
    )
    assert "cookbook" not in text


# --- that it runs -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", SERVERS)
def test_every_server_writes_each_line_of_a_workload_as_it_should_be(name: str, tmp_path: Path) -> None:
    if not SERVERS[name].describe():
        pytest.skip(f"{name} is not installed")
    (tmp_path / "load").mkdir()
    streams = loads.write(Workload("", connections=3, records=1000, exceptions=True), tmp_path / "load")
    (tmp_path / "server").mkdir()
    result = runs.run(SERVERS[name](tmp_path / "server"), streams)
    assert (1000, 0, True) == (result.records, result.lost, result.same)
    assert result.cpu > 0 < result.speed


@pytest.mark.slow
@pytest.mark.parametrize("kind", forwarding.TYPES)
def test_every_record_of_a_spool_is_handed_over_to_a_sink(kind: str, tmp_path: Path) -> None:
    if kind == "fluent":
        pytest.importorskip("msgpack", reason="needs the extra fluent")
    records = forwarding.LEAST_RECORDS
    forwarding.fill(replace(forwarding.RECORDS["extra"], records=records), tmp_path / "filled")
    result = forwarding.run(kind, tmp_path / "filled", records, tmp_path)
    assert (2000, True) == (result.records, result.cpu > 0 < result.speed)


@pytest.mark.slow
def test_latency_is_known_of_every_record(tmp_path: Path) -> None:
    (tmp_path / "load").mkdir()
    paced = latency.write(replace(LATENCY, connections=5, records=1000), tmp_path / "load")
    (tmp_path / "server").mkdir()
    result = latency.run(SERVERS["collector"](tmp_path / "server"), paced, 2000)
    assert 0 == result.lost
    assert 0 < result.p50 <= result.p99 <= result.longest


@pytest.mark.slow
def test_the_benchmarks_print_a_row_for_each_workload_and_server() -> None:
    tiny = ("-n", "1", "--records", "2000", "--workload", "text-1", "end-to-end", "--servers", "collector")
    ended = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", *tiny],
        capture_output=True,
        text=True,
        cwd=TESTS.parent,
        timeout=60,
        check=False,
    )
    assert 0 == ended.returncode, ended.stderr
    for name in ("text-1", "end-to-end"):
        assert re.search(rf"^{name} +collector( +[\d.,]+){{6}} +1 of 1$", ended.stdout, re.MULTILINE), (
            ended.stdout
        )


@pytest.mark.slow
def test_the_instructions_for_a_record_are_the_same_each_time(tmp_path: Path) -> None:
    if not instructions.find_valgrind():
        pytest.skip("needs valgrind")
    counted = []
    for number in range(2):
        home = tmp_path / str(number)
        home.mkdir()
        counted.append(instructions.count(*instructions.CASES["text"], home))
    assert counted[0]["lines"] == pytest.approx(counted[1]["lines"], rel=0.002)
    assert 5_000 < counted[0]["lines"] < counted[0]["files"] < 100_000


def test_without_valgrind_it_is_said_that_instructions_are_not_counted(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", "--instructions"],
        env=os.environ | {"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        cwd=TESTS.parent,
        timeout=60,
        check=False,
    )
    assert (0, "instructions: skipped, valgrind is not installed\n") == (ended.returncode, ended.stdout)
