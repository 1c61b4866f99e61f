"""The benchmarks measure what they say, and still run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.workload import CALL_SITES, LOGGERS, Workload, call_sites


def test_a_frame_of_the_benchmarks_has_about_640_bytes_on_average() -> None:
    assert 620 <= Workload(1, 500).frame_bytes <= 670  # taskName, since 3.12, makes the difference


def test_the_call_sites_of_the_benchmarks_are_200_in_4_loggers() -> None:
    sites = call_sites()
    assert (200, 4) == (CALL_SITES, len(LOGGERS))
    assert len({(site.path, site.line, site.function) for site in sites}) == CALL_SITES
    assert {site.logger for site in sites} == set(LOGGERS)


@pytest.mark.parametrize("connections", [1, 3, 64])
def test_a_workload_has_its_records_in_as_many_streams_as_connections(connections: int) -> None:
    streams = Workload(connections, 100).streams
    assert (connections, 100) == (len(streams), sum(stream.count(b"threadName") for stream in streams))


@pytest.mark.slow
def test_the_benchmarks_print_a_row_for_each_number_of_connections() -> None:
    tiny = ("-n", "1", "--records", "2000", "--connections", "1", "3")
    ended = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", *tiny],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
        timeout=60,
        check=False,
    )
    assert (0, "") == (ended.returncode, ended.stderr)
    assert re.search(
        r"^ *collector +1( +[\d.]+){5}\n *collector +3( +[\d.]+){5}$", ended.stdout, re.MULTILINE
    ), ended.stdout
