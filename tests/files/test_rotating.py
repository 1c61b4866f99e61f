from __future__ import annotations

import gzip
import os
import resource
import shutil
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.files import backups
from collector.files.append_file import Lines, Outcome
from collector.files.backups import Upkeep
from collector.files.directory import make_directory
from collector.files.rotating import RotatingFile
from tests.support.descriptors import no_descriptor_free
from tests.support.handlers import NEVER

if TYPE_CHECKING:
    from pathlib import Path

    from collector.config.tables import Rollover

DAILY = replace(NEVER, when="midnight")
HOURLY = replace(NEVER, when="H")


class Clock:
    """A wall clock that a test sets, and a monotonic one: time passes on both, the first one is also set."""

    def __init__(self, *when: int) -> None:
        self.elapsed = 0.0
        self.set(*when or (2026, 11, 22, 10, 20, 30))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.elapsed += seconds

    def monotonic(self) -> float:
        return self.elapsed

    def set(self, *when: int) -> None:
        self.now = datetime(*when, tzinfo=timezone.utc).timestamp()  # type: ignore[arg-type,misc]

    def __call__(self) -> float:
        return self.now


class File(RotatingFile):
    """Keeps what has come of its calls, and raises what kept it from writing."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.trouble: list[str] = []
        self.made: list[str] = []

    def write(self, lines: Lines) -> Outcome:
        return self._kept(super().write(lines))

    def close(self) -> Outcome:
        return self._kept(super().close())

    def _kept(self, outcome: Outcome) -> Outcome:
        self.trouble += outcome.trouble
        self.made += outcome.backups
        if outcome.error:
            raise outcome.error
        return outcome


def open_file(directory: Path, rollover: Rollover, clock: Clock | None = None) -> File:
    clock = clock or Clock()
    return File(str(directory / "app.log"), rollover, 0o640, clock=clock, monotonic=clock.monotonic)


def write(file: File, *records: str) -> Lines:
    encoded = [record.encode() for record in records]
    ends = [sum(map(len, encoded[: i + 1])) for i in range(len(encoded))]
    lines = Lines(b"".join(encoded), len(records), ends)
    file.write(lines)
    return lines


def do_chores(file: File, rollover: Rollover) -> None:
    order = file.directory.numbers.order
    upkeep = Upkeep(rollover.backup_count, rollover.compress, max(order.values(), default=0))
    directory = os.path.dirname(file.path)
    tasks = backups.survey(directory, {"app.log": upkeep}, order, file.directory.fold)["app.log"]
    for path in tasks.delete:
        backups.delete(path)
    for path in tasks.compress:
        backups.compress(path, 0o640)
    file.made.clear()


def files(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir() if path.is_file()}


def touch(path: Path, text: str, *when: int) -> None:
    path.write_text(text)
    then = datetime(*when, tzinfo=timezone.utc).timestamp()  # type: ignore[arg-type,misc]
    os.utime(path, (then, then))


def test_lines_are_appended(tmp_path: Path) -> None:
    (tmp_path / "app.log").write_text("old\n")
    write(open_file(tmp_path, NEVER), "new\n")
    assert {"app.log": "old\nnew\n"} == files(tmp_path)


def test_a_new_file_has_the_mode_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write(open_file(tmp_path, NEVER), "x\n")
    finally:
        os.umask(before)
    assert 0o100640 == (tmp_path / "app.log").stat().st_mode


def test_missing_directories_are_made_for_the_group_to_read(tmp_path: Path) -> None:
    write(open_file(tmp_path / "a", NEVER), "x\n")
    assert {"app.log": "x\n"} == files(tmp_path / "a")
    assert 0o40750 == (tmp_path / "a").stat().st_mode


def test_where_nothing_can_be_made_the_reason_comes_back() -> None:
    """There, mkdir says ENOENT however many parents exist."""
    with pytest.raises(FileNotFoundError):
        make_directory("/proc/nope/logs")


def test_a_last_line_that_a_kill_cut_gets_its_newline(tmp_path: Path) -> None:
    (tmp_path / "app.log").write_text("whole\nto")
    file = open_file(tmp_path, NEVER)
    write(file, "new\n")
    assert {"app.log": "whole\nto\nnew\n"} == files(tmp_path)
    assert len(file.trouble) == 1


@pytest.mark.parametrize("kind", ["link", "dangling link", "fifo", "directory"])
def test_what_is_no_regular_file_is_refused_not_followed(tmp_path: Path, kind: str) -> None:
    outside = tmp_path / "outside"
    outside.write_text("untouched")
    (tmp_path / "logs").mkdir()
    path = tmp_path / "logs" / "app.log"
    {
        "link": lambda: path.symlink_to(outside),
        "dangling link": lambda: path.symlink_to(tmp_path / "nowhere"),
        "fifo": lambda: os.mkfifo(path),
        "directory": lambda: os.mkdir(path),
    }[kind]()
    with pytest.raises(OSError, match=r"app\.log"):
        write(open_file(tmp_path / "logs", NEVER), "x\n")
    assert "untouched" == outside.read_text()
    assert not (tmp_path / "nowhere").exists()


# --- by time ---


def test_a_file_rolls_over_before_the_first_line_of_a_new_period(tmp_path: Path) -> None:
    clock = Clock(2026, 11, 22, 23, 59, 59)
    file = open_file(tmp_path, DAILY, clock)
    write(file, "sunday\n")
    clock.set(2026, 11, 23)
    write(file, "monday\n")
    assert {"app.log.2026-11-22": "sunday\n", "app.log": "monday\n"} == files(tmp_path)


def test_a_backup_is_named_by_the_start_of_its_own_period_however_late_it_rolls(tmp_path: Path) -> None:
    clock = Clock(2026, 11, 1, 10, 20)
    file = open_file(tmp_path, HOURLY, clock)
    write(file, "old\n")
    clock.set(2026, 11, 22, 10, 20)
    write(file, "new\n")
    assert {"app.log.2026-11-01T10-00-00": "old\n", "app.log": "new\n"} == files(tmp_path)


def test_a_restart_does_not_postpone_a_rollover(tmp_path: Path) -> None:
    # cpython issue 84649: restarted more often than the period, TimedRotatingFileHandler never rolls over.
    touch(tmp_path / "app.log", "friday\n", 2026, 11, 20, 23, 59)
    write(open_file(tmp_path, DAILY), "sunday\n")
    assert {"app.log.2026-11-20": "friday\n", "app.log": "sunday\n"} == files(tmp_path)


def test_a_restart_within_the_period_goes_on_in_the_same_file(tmp_path: Path) -> None:
    touch(tmp_path / "app.log", "morning\n", 2026, 11, 22, 0, 0)
    write(open_file(tmp_path, DAILY), "noon\n")
    assert {"app.log": "morning\nnoon\n"} == files(tmp_path)


def test_an_empty_file_never_rolls_over(tmp_path: Path) -> None:
    # cpython issue 116263.
    touch(tmp_path / "app.log", "", 2026, 11, 20, 23, 59)
    write(open_file(tmp_path, replace(DAILY, max_bytes=1)), "longer than max_bytes\n")
    assert {"app.log": "longer than max_bytes\n"} == files(tmp_path)


def test_a_clock_set_back_a_little_does_not_roll_over(tmp_path: Path) -> None:
    clock = Clock(2026, 11, 23, 0, 0, 1)
    file = open_file(tmp_path, DAILY, clock)
    write(file, "a\n")
    clock.set(2026, 11, 22, 23, 59, 58)
    write(file, "b\n")
    assert {"app.log": "a\nb\n"} == files(tmp_path)


def test_a_clock_that_was_years_ahead_does_not_end_rollover(tmp_path: Path) -> None:
    touch(tmp_path / "app.log", "from the future\n", 2037, 1, 1)
    clock = Clock()
    file = open_file(tmp_path, DAILY, clock)
    write(file, "today\n")
    clock.set(2026, 11, 23)
    write(file, "tomorrow\n")
    assert {
        "app.log.2037-01-01": "from the future\n",
        "app.log.2026-11-22": "today\n",
        "app.log": "tomorrow\n",
    } == files(tmp_path)


# --- by size ---


@pytest.mark.parametrize(
    ("size", "rolls"), [(9, False), (10, False), (11, True)], ids=["below", "at", "above"]
)
def test_a_file_rolls_over_where_the_next_line_would_pass_max_bytes(
    tmp_path: Path, size: int, rolls: bool
) -> None:
    file = open_file(tmp_path, replace(NEVER, max_bytes=10))
    write(file, "four\n")
    write(file, "x" * (size - 6) + "\n")
    assert rolls == ("app.log.2026-11-22" in files(tmp_path))


def test_sizes_are_bytes(tmp_path: Path) -> None:
    # RotatingFileHandler counts characters: 3 of these are 4 characters a line and 10 bytes.
    file = open_file(tmp_path, replace(NEVER, max_bytes=20))
    for _ in range(3):
        write(file, "日本語\n")
    assert {"app.log.2026-11-22": "日本語\n日本語\n", "app.log": "日本語\n"} == files(tmp_path)


def test_a_batch_is_split_where_the_next_line_would_pass_max_bytes(tmp_path: Path) -> None:
    file = open_file(tmp_path, replace(NEVER, max_bytes=10))
    write(file, "111\n", "222\n", "333\n", "444\n", "555\n")
    assert {
        "app.log.2026-11-22": "111\n222\n",
        "app.log.2026-11-22.1": "333\n444\n",
        "app.log": "555\n",
    } == files(tmp_path)


def test_a_record_of_several_lines_is_never_split(tmp_path: Path) -> None:
    file = open_file(tmp_path, replace(NEVER, max_bytes=10))
    write(file, "111\n", "22\n22\n22\n")
    assert {"app.log.2026-11-22": "111\n", "app.log": "22\n22\n22\n"} == files(tmp_path)


def test_only_a_single_longer_line_exceeds_max_bytes(tmp_path: Path) -> None:
    file = open_file(tmp_path, replace(NEVER, max_bytes=10))
    write(file, "1\n", "longer than ten\n", "2\n")
    assert {
        "app.log.2026-11-22": "1\n",
        "app.log.2026-11-22.1": "longer than ten\n",
        "app.log": "2\n",
    } == files(tmp_path)


def test_the_size_that_a_file_had_before_a_restart_counts(tmp_path: Path) -> None:
    (tmp_path / "app.log").write_text("12345678\n")
    write(open_file(tmp_path, replace(NEVER, max_bytes=10), Clock()), "x\n")
    assert {"app.log.2026-11-22": "12345678\n", "app.log": "x\n"} == files(tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    batches=st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=8), max_size=8),
    max_bytes=st.integers(0, 40),
)
def test_whatever_the_sizes_nothing_is_lost_doubled_torn_or_out_of_order(
    tmp_path: Path, batches: list[list[int]], max_bytes: int
) -> None:
    directory = tmp_path / "logs"
    shutil.rmtree(directory, ignore_errors=True)
    file = open_file(directory, replace(NEVER, max_bytes=max_bytes))
    expected: list[str] = []
    for batch in batches:
        records = [f"{len(expected) + i}{'x' * size}\n" for i, size in enumerate(batch)]
        expected += records
        write(file, *records)
    file.close()
    if not expected:
        return
    in_order = [*file.made, "app.log"]
    found = [(directory / name).read_text().splitlines(keepends=True) for name in in_order]
    assert expected == [line for lines in found for line in lines]
    if max_bytes:
        assert all(len(lines) == 1 or sum(map(len, lines)) <= max_bytes for lines in found)


# --- backups ---


def test_backups_are_never_overwritten(tmp_path: Path) -> None:
    # cpython issue 88352: TimedRotatingFileHandler deletes a backup of the same name.
    touch(tmp_path / "app.log.2026-11-22", "of somebody\n", 2026, 11, 22)
    clock = Clock()
    file = open_file(tmp_path, DAILY, clock)
    write(file, "sunday\n")
    clock.set(2026, 11, 23)
    write(file, "monday\n")
    assert {
        "app.log.2026-11-22": "of somebody\n",
        "app.log.2026-11-22.1": "sunday\n",
        "app.log": "monday\n",
    } == files(tmp_path)


def test_time_and_size_together_number_the_backups_of_a_period(tmp_path: Path) -> None:
    clock = Clock()
    file = open_file(tmp_path, replace(DAILY, max_bytes=5), clock)
    write(file, "111\n", "222\n", "333\n")
    clock.set(2026, 11, 23)
    write(file, "444\n")
    assert {
        "app.log.2026-11-22": "111\n",
        "app.log.2026-11-22.1": "222\n",
        "app.log.2026-11-22.2": "333\n",
        "app.log": "444\n",
    } == files(tmp_path)


@pytest.mark.parametrize("restart", [False, True], ids=["one run", "restarted"])
def test_backup_count_keeps_the_newest_and_numbers_go_on(tmp_path: Path, restart: bool) -> None:
    rule = replace(NEVER, max_bytes=1, backup_count=2)
    file = open_file(tmp_path, rule)
    for n in range(6):
        if restart:
            file = open_file(tmp_path, rule)
        write(file, f"{n}\n")
        do_chores(file, rule)
    assert {"app.log.2026-11-22.3": "3\n", "app.log.2026-11-22.4": "4\n", "app.log": "5\n"} == files(tmp_path)


def test_backup_count_deletes_only_what_the_collector_made(tmp_path: Path) -> None:
    # cpython issue 90221: files whose names only begin alike are deleted too.
    foreign = ["app.log.2020-01-01.old", "app.log.1", "app.log.error.log.2020-01-01", "app.log.2020-01-01~"]
    for name in foreign:
        (tmp_path / name).write_text("foreign")
    (tmp_path / "app.log.2020-01-01.gz").write_text("ours")
    rule = replace(NEVER, max_bytes=1, backup_count=1)
    file = open_file(tmp_path, rule)
    write(file, "1\n", "2\n")
    do_chores(file, rule)
    assert sorted([*foreign, "app.log.2026-11-22", "app.log"]) == sorted(files(tmp_path))


def test_compress_leaves_gzip_files_that_hold_every_line(tmp_path: Path) -> None:
    rule = replace(NEVER, max_bytes=1, compress=True)
    file = open_file(tmp_path, rule)
    for n in range(3):
        write(file, f"{n}\n")
        do_chores(file, rule)
    assert ["app.log", "app.log.2026-11-22.1.gz", "app.log.2026-11-22.gz"] == sorted(os.listdir(tmp_path))
    assert b"0\n" == gzip.decompress((tmp_path / "app.log.2026-11-22.gz").read_bytes())


# --- faults ---


def test_a_rollover_that_fails_lets_lines_go_on_into_the_old_file(tmp_path: Path) -> None:
    clock = Clock()
    file = open_file(tmp_path, replace(NEVER, max_bytes=5), clock)
    write(file, "111\n")
    with no_descriptor_free():
        write(file, "222\n")
    assert "111\n222\n" == (tmp_path / "app.log").read_text()
    assert "cannot roll over" in file.trouble[0]
    clock.wait(5)
    clock.now -= 3600  # set back meanwhile
    write(file, "333\n")
    assert ["111\n222\n", "333\n"] == [
        (tmp_path / name).read_text() for name in ("app.log.2026-11-22", "app.log")
    ]


def test_a_file_that_was_deleted_is_made_anew_with_every_line_since(tmp_path: Path) -> None:
    file = open_file(tmp_path / "logs", NEVER)
    write(file, "gone\n")
    shutil.rmtree(tmp_path / "logs")
    write(file, "here\n")
    write(file, "too\n")
    assert {"app.log": "here\ntoo\n"} == files(tmp_path / "logs")


def test_a_file_that_was_moved_away_is_made_anew(tmp_path: Path) -> None:
    clock = Clock()
    file = open_file(tmp_path, NEVER, clock)
    write(file, "old\n")
    (tmp_path / "app.log").rename(tmp_path / "moved")
    clock.wait(1)
    clock.now -= 3600  # set back meanwhile
    write(file, "new\n")
    assert {"moved": "old\n", "app.log": "new\n"} == files(tmp_path)


def test_what_took_the_name_of_a_moved_file_is_not_renamed(tmp_path: Path) -> None:
    file = open_file(tmp_path, replace(NEVER, max_bytes=5))
    write(file, "111\n")
    (tmp_path / "app.log").rename(tmp_path / "moved")
    (tmp_path / "app.log").write_text("new\n")
    write(file, "222\n")
    assert {"moved": "111\n", "app.log": "new\n222\n"} == files(tmp_path)


def test_two_handlers_on_one_file_lose_nothing(tmp_path: Path) -> None:
    # cpython issue 130108. A collector has one handler a file; a second process must not cost a line either.
    rule = replace(NEVER, max_bytes=50)
    pair = open_file(tmp_path, rule), open_file(tmp_path, rule)
    for n in range(40):
        write(pair[n % 2], f"line {n:04}\n")
    found = [line for text in files(tmp_path).values() for line in text.splitlines()]
    assert [f"line {n:04}" for n in range(40)] == sorted(found)


def test_a_full_file_that_is_deleted_lets_the_room_go_and_loses_nothing(tmp_path: Path) -> None:
    file = open_file(tmp_path, NEVER)
    write(file, "before\n")
    lines = Lines(b"x" * 50 + b"\n", 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            file.write(lines)
        os.unlink(file.path)
        with pytest.raises(OSError, match="too large"):
            file.write(lines)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    file.write(lines)
    assert {"app.log": "x" * 50 + "\n"} == files(tmp_path)


def test_lines_whose_ends_nobody_had_to_know_are_written_as_a_whole(tmp_path: Path) -> None:
    """They were on their way when another configuration gave their file a max_bytes."""
    file = open_file(tmp_path, replace(NEVER, max_bytes=4))
    write(file, "3\n")
    file.write(Lines(b"a\nb\nc\nd\n", 4))
    assert {"3\n", "a\nb\nc\nd\n"} == set(files(tmp_path).values())
