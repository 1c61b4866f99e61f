"""Groups of exceptions: counted and bounded, at a small cost whatever comes, and kept over restarts."""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING, Any

import pytest

from collector.admin.cells import CellFile
from collector.admin.exceptions import CELL_BYTES, CELLS, MAX_GROUPS, TITLE, Exceptions
from collector.wire.records import checked
from tests.support.cpu import Cpu

if TYPE_CHECKING:
    from pathlib import Path

    from collector.wire.records import Record

WEEK = 7 * 24 * 60 * 60


def record(traceback: str, logger: str = "app", message: str = "failed") -> Record:
    made = logging.LogRecord(logger, logging.ERROR, "/srv/app.py", 7, message, None, None)
    return checked({**made.__dict__, "exc_text": traceback})


def traceback(kind: str = "app.Broken", value: object = 1, path: str = "/srv/app/run.py") -> str:
    return (
        f'Traceback (most recent call last):\n  File "{path}", line {value}, in go\n    go()\n{kind}: {value}'
    )


def noticed(*records: Record) -> Exceptions:
    exceptions = Exceptions()
    for each in records:
        exceptions.notice([each])
    return exceptions


def shown(exceptions: Exceptions, *keys: str) -> list[tuple[Any, ...]]:
    return [tuple(group[key] for key in keys) for group in exceptions.groups(0.0)]


def file_of(path: Path) -> CellFile:
    return CellFile(str(path / ".exceptions"), TITLE, CELLS, CELL_BYTES)


def write(exceptions: Exceptions, path: Path) -> None:
    file_of(path).begin((at, exceptions.encoded(group)) for at, group in exceptions.everything().items())


def read(path: Path) -> Exceptions:
    exceptions = Exceptions()
    exceptions.adopt(exceptions.parsed(file_of(path).read()))
    return exceptions


def test_tracebacks_of_one_kind_are_one_group_with_the_latest_message() -> None:
    begun = time.time()
    exceptions = noticed(*(record(traceback(value=n), f"app.{n % 2}", f"order {n}") for n in range(5)))
    (group,) = exceptions.groups(begun)

    assert ("app.Broken", ["app/run.py:go"], 5, True) == (
        *(group[key] for key in ("class", "frames", "count", "new")),
    )
    assert (["app.0", "app.1"], "order 4", "app.Broken: 4") == (
        *(group[key] for key in ("loggers", "message", "error")),
    )
    assert traceback(value=4) == group["traceback"]
    assert begun <= group["first"] <= group["last"] <= time.time()


def test_records_of_one_call_site_in_a_batch_are_counted_at_once() -> None:
    one, other = record(traceback()), record(traceback("app.OtherError"))
    exceptions = Exceptions()
    exceptions.notice([one] * 1000 + [other])

    assert {("app.Broken", 1000), ("app.OtherError", 1)} == set(shown(exceptions, "class", "count"))


def test_those_that_are_new_since_a_time_come_first_and_then_the_latest() -> None:
    exceptions = noticed(record(traceback("app.OldError")), record(traceback("app.OlderError")))
    since = time.time()
    exceptions.notice([record(traceback("app.NewError"))])
    exceptions.notice([record(traceback("app.OldError"))])

    assert [("app.NewError", True), ("app.OldError", False), ("app.OlderError", False)] == [
        (group["class"], group["new"]) for group in exceptions.groups(since)
    ]


@pytest.mark.slow
def test_there_are_at_most_1000_groups_and_those_seen_least_and_longest_ago_go() -> None:
    exceptions = Exceptions()
    for kind in ("Often", "Often", "First", *range(MAX_GROUPS + 5)):
        skipped = -1
        while exceptions.skipped > skipped:  # until there is time for it
            skipped = exceptions.skipped
            exceptions.notice([record(traceback(f"app.E{kind}"))])
    kinds = [kind for (kind,) in shown(exceptions, "class")]

    assert MAX_GROUPS == len(kinds)
    assert "app.EOften" in kinds
    assert "app.EFirst" not in kinds
    assert f"app.E{MAX_GROUPS + 4}" in kinds


def test_a_flood_of_tracebacks_takes_a_small_share_of_the_time_and_what_is_left_out_is_counted() -> None:
    exceptions, sent, cpu = Exceptions(), 0, Cpu()
    # Fewer kinds than there is room for: one that makes room takes its count with it.
    texts = [traceback(f"app.E{n % 900}", n) for n in range(4000)]
    batches = [[record(text) for text in texts[at : at + 200]] for at in range(0, len(texts), 200)]
    begun = time.monotonic()
    while time.monotonic() - begun < 2:
        with cpu:
            for batch in batches:
                exceptions.notice(batch)
        sent += sum(map(len, batches))
        time.sleep(0.01)  # as between two reads, in which others work
    counted = sum(count for (count,) in shown(exceptions, "count"))

    assert sent == counted + exceptions.skipped
    assert exceptions.skipped > counted > 0
    assert cpu.seconds < 0.1 * (time.monotonic() - begun)


@pytest.mark.parametrize("text", [traceback(value="x" * 200_000), "\ud800", "\x00", "x" * 70_000])
def test_whatever_a_traceback_is_it_fits_and_is_kept(text: str, tmp_path: Path) -> None:
    exceptions = noticed(record(text, "l" * 5000, "m" * 100_000))
    write(exceptions, tmp_path)

    assert exceptions.groups(0.0) == read(tmp_path).groups(0.0)
    assert len(json.dumps(exceptions.groups(0.0))) < CELL_BYTES


def test_a_group_of_the_widest_characters_fits_its_cell() -> None:
    wide = "\U0001f40d"
    exceptions = noticed(*(record(traceback(path=f"/{wide * 300}/{n}.py"), wide * n) for n in range(1, 30)))
    exceptions.notice([record(traceback(value=wide * 9000), wide * 300, wide * 2000)])
    cells = exceptions.everything()

    assert all(0 < len(exceptions.encoded(group)) <= CELL_BYTES for group in cells.values())


def test_groups_are_there_after_a_restart_and_go_on(tmp_path: Path) -> None:
    before = noticed(
        record(traceback()), record(traceback(value=2), "app.b"), record(traceback("app.OtherError"))
    )
    write(before, tmp_path)
    after = read(tmp_path)
    assert before.groups(0.0) == after.groups(0.0)
    after.notice([record(traceback(value=3), "app.c")])

    assert [("app.Broken", 3, ["app", "app.b", "app.c"]), ("app.OtherError", 1, ["app"])] == shown(
        after, "class", "count", "loggers"
    )


def test_what_came_before_the_file_could_be_read_is_added(tmp_path: Path) -> None:
    """A disk that hangs at the start costs no group and no count."""
    write(noticed(record(traceback()), record(traceback("app.OldError"))), tmp_path)
    after = noticed(record(traceback(value=2), "app.b"), record(traceback("app.NewError")))
    after.adopt(after.parsed(file_of(tmp_path).read()))

    assert {("app.Broken", 2), ("app.OldError", 1), ("app.NewError", 1)} == set(
        shown(after, "class", "count")
    )
    assert len(after.everything()) == 3


def test_only_groups_that_changed_are_written() -> None:
    exceptions = noticed(record(traceback()), record(traceback("app.OtherError")))
    assert 2 == len(exceptions.changes())
    exceptions.notice([record(traceback(value=2))])

    assert 1 == len(exceptions.changes())
    assert {} == exceptions.changes()


def test_a_group_that_a_crash_has_torn_costs_no_other(tmp_path: Path) -> None:
    write(noticed(record(traceback()), record(traceback("app.OtherError"))), tmp_path)
    path = tmp_path / ".exceptions"
    data = path.read_bytes()
    path.write_bytes(data[: CELL_BYTES + 50] + bytes(100) + data[CELL_BYTES + 150 :])

    assert 1 == len(read(tmp_path).groups(0.0))


def test_what_was_not_seen_for_a_week_is_gone_from_the_file_too(tmp_path: Path) -> None:
    exceptions = noticed(record(traceback()), record(traceback("app.OtherError")))
    cells = {at: json.loads(exceptions.encoded(group)) for at, group in exceptions.everything().items()}
    old = next(at for at, kept in cells.items() if kept["class"] == "app.Broken")
    cells[old]["last"] -= WEEK + 1
    file_of(tmp_path).begin((at, json.dumps(kept).encode()) for at, kept in cells.items())
    after = read(tmp_path)

    assert [("app.OtherError",)] == shown(after, "class")
    assert {old: b""} == {at: after.encoded(group) for at, group in after.changes().items()}


def test_what_is_ahead_of_a_clock_that_was_set_back_is_of_now(tmp_path: Path) -> None:
    """Else it would be kept until the clock has come there, and a week more."""
    exceptions = noticed(record(traceback()))
    (cell,) = exceptions.everything()
    (kept,) = exceptions.groups(0.0)
    ahead = {**kept, "first": kept["first"] + WEEK, "last": kept["last"] + WEEK}
    file_of(tmp_path).begin([(cell, json.dumps(ahead).encode())])
    ((first, last),) = shown(read(tmp_path), "first", "last")

    assert kept["last"] < first == last <= time.time()


def test_a_group_that_a_crash_has_left_in_two_cells_is_one(tmp_path: Path) -> None:
    exceptions = noticed(record(traceback()))
    ((cell, group),) = exceptions.everything().items()
    data = exceptions.encoded(group)
    file_of(tmp_path).begin([(cell, data), (cell + 5, data)])
    after = read(tmp_path)

    assert [("app.Broken", 1)] == shown(after, "class", "count")
    assert 1 == len(after.everything())
