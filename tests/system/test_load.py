"""Eight clients at full speed, files that roll over every few milliseconds: nothing is lost, doubled or torn.

First they send all they have; then SIGTERM comes while they are sending.
"""

from __future__ import annotations

import re
import signal
from collections import Counter
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.support.collectors import Collector
from tests.support.flood import CLIENTS, LOAD_SECONDS, LOGGERS, RECORDS, start_clients, wait_for
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow


WITHOUT_END = 0


MAX_BYTES = 1_000_000


# By then each file has rolled over twice, and several megabytes more are on their way.
FILES_BEFORE_STOP = 12

CONFIG = f"""
[rollover]
when = "never"
max_bytes = {MAX_BYTES}
backup_count = 0
[format]
text = "%(name)s %(message)s"
"""


class Line(NamedTuple):
    logger: int
    client: int
    number: int


class Collected(NamedTuple):
    """What a collector has left behind."""

    exit_code: int
    last_line: str
    files: dict[str, list[bytes]]
    """By logger, the contents of the backups and the file, oldest first."""
    lines: dict[str, list[Line]]
    """By logger, its whole lines in the order of the files."""
    torn: list[bytes]
    """What is not a whole line."""


def collected(collector: Collector) -> Collected:
    """Stop *collector* and read what is in its directory."""
    exit_code = collector.stop()
    contents = collector.files()
    files = {
        f"load_{n}.log": [contents[name] for name in in_order(contents, f"load_{n}.log")]
        for n in range(LOGGERS)
    }
    assert sum(map(len, files.values())) == len(contents), "there are files of other names"
    lines: dict[str, list[Line]] = {name: [] for name in files}
    torn: list[bytes] = []
    for name, parts in files.items():
        for part in parts:
            for text in part.splitlines(keepends=True):
                line = whole(text)
                if line:
                    lines[name].append(line)
                else:
                    torn.append(text)
    return Collected(exit_code, collector.stderr.splitlines()[-1], files, lines, torn)


def in_order(names: dict[str, bytes], base: str) -> list[str]:
    """Return the backups of a file, FILE.D, FILE.D.1, FILE.D.2, ..., and then the file."""
    backup = re.compile(re.escape(base) + r"\.(\d{4}-\d\d-\d\d)(?:\.(\d+))?")
    found = [match for match in map(backup.fullmatch, names) if match]
    return [match[0] for match in sorted(found, key=lambda match: (match[1], int(match[2] or 0)))] + [base]


def whole(text: bytes) -> Line | None:
    """Return what a line says, None if it is not just as its client meant it."""
    match = re.fullmatch(rb"load\.(\d) client (\d) record (\d{7}) (-*) end\n", text)
    if not match or len(match[4]) != int(match[3]) % 7 * 10:
        return None
    return Line(int(match[1]), int(match[2]), int(match[3]))


@contextmanager
def running(home: Path) -> Iterator[Collector]:
    """Run a collector that does not outlive the block: without it, clients without end find one too."""
    collector = Collector(home, CONFIG).start()
    try:
        yield collector
    finally:
        if collector.running:
            collector.stop(signal.SIGKILL)


# --- all that they have -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Collected:
    """Return what is there after all clients have sent all their records and hung up."""
    with running(tmp_path_factory.mktemp("load")) as collector:
        wait_for(start_clients(collector, RECORDS))
        within(LOAD_SECONDS, lambda: collector.stderr.count(" disconnected ") == CLIENTS)
        return collected(collector)


def test_none_of_400000_records_is_missing(everything: Collected) -> None:
    expected = {Line(n % LOGGERS, client, n) for client in range(CLIENTS) for n in range(RECORDS)}
    assert not expected.difference(*everything.lines.values())


def test_none_of_400000_records_is_there_twice(everything: Collected) -> None:
    times = Counter(line for lines in everything.lines.values() for line in lines)
    assert not [line for line, count in times.items() if count > 1]


def test_no_line_of_the_load_is_torn(everything: Collected) -> None:
    assert [] == everything.torn


def test_each_record_of_the_load_is_in_the_file_of_its_logger(everything: Collected) -> None:
    loggers = {name: {line.logger for line in lines} for name, lines in everything.lines.items()}
    assert {f"load_{n}.log": {n} for n in range(LOGGERS)} == loggers


def test_the_order_of_a_client_in_a_file_is_kept_across_its_backups(everything: Collected) -> None:
    for lines in everything.lines.values():
        for client in range(CLIENTS):
            numbers = [line.number for line in lines if line.client == client]
            assert numbers == sorted(numbers)


def test_no_file_of_the_load_is_larger_than_max_bytes(everything: Collected) -> None:
    assert not [len(part) for parts in everything.files.values() for part in parts if len(part) > MAX_BYTES]


def test_every_backup_of_the_load_is_so_full_that_the_next_line_did_not_fit(everything: Collected) -> None:
    for parts in everything.files.values():
        for part, following in pairwise(parts):
            assert len(part) + following.index(b"\n") + 1 > MAX_BYTES


# --- SIGTERM in the middle ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Collected:
    """Return what is there after SIGTERM has come while all clients were sending."""
    with running(tmp_path_factory.mktemp("interrupted")) as collector:
        clients = start_clients(collector, WITHOUT_END)

        def well_under_way() -> bool:
            files = len(list(collector.directory.iterdir()))
            return files >= FILES_BEFORE_STOP and collector.stderr.count(" connected") == CLIENTS

        within(LOAD_SECONDS, well_under_way)
        found = collected(collector)
        wait_for(clients)
        return found


def test_a_stop_under_load_ends_with_exit_code_0(interrupted: Collected) -> None:
    assert interrupted.exit_code == 0


def test_a_stop_under_load_writes_as_many_records_as_were_received_and_says_how_many(
    interrupted: Collected,
) -> None:
    count = sum(map(len, interrupted.lines.values()))
    expected = (
        f"stopped: {count} records received from {CLIENTS} clients, {count} written, 0 quarantined, 0 dropped"
    )
    assert expected == interrupted.last_line.split(" INFO ")[1]


def test_a_stop_under_load_tears_no_line(interrupted: Collected) -> None:
    assert [] == interrupted.torn


def test_a_stop_under_load_leaves_the_first_records_of_each_client_without_a_gap(
    interrupted: Collected,
) -> None:
    received = [sorted(each) for each in by_client(interrupted)]
    assert [list(range(len(numbers))) for numbers in received] == received


def test_a_stop_under_load_leaves_the_records_of_each_client_and_file_in_order(
    interrupted: Collected,
) -> None:
    for logger, lines in enumerate(interrupted.lines.values()):
        for client in range(CLIENTS):
            numbers = [line.number for line in lines if line.client == client]
            assert list(range(logger, len(numbers) * LOGGERS, LOGGERS)) == numbers


def by_client(found: Collected) -> list[list[int]]:
    """Return the numbers of each client's records, of all files."""
    numbers: list[list[int]] = [[] for _ in range(CLIENTS)]
    for lines in found.lines.values():
        for line in lines:
            numbers[line.client].append(line.number)
    return numbers
