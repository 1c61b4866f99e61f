from __future__ import annotations

import gzip
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from collector.files import backups
from collector.files.backups import Numbers, Tasks, Upkeep
from collector.files.directory import fold
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

DAY = "2026-11-22"
HOUR = 3600
NOW = time.time()


def make(directory: Path, *names: str) -> str:
    for name in names:
        (directory / name).write_text(f"lines of {name}\n")
    return str(directory / "app.log")


def survey(
    directory: Path, keep: int = 0, *, compress: bool = False, made: Sequence[str] = (), later: str = ""
) -> Tasks:
    """Return what is to be done for app.log, by names; *later* is still being made."""
    order = {name: number for number, name in enumerate([*made, later], 1) if name}
    wanted = {"app.log": Upkeep(keep, compress, len(made))}
    tasks = backups.survey(str(directory), wanted, order, lambda name: name)["app.log"]
    return Tasks(*([os.path.basename(path) for path in paths] for paths in tasks))


def written(directory: Path, hours_ago: dict[str, float]) -> None:
    """Make backups of app.log, whose last lines are so old."""
    for suffix, hours in hours_ago.items():
        path = directory / f"app.log.{suffix}"
        path.write_text(f"{suffix}\n")
        os.utime(path, (NOW - hours * HOUR,) * 2)


@pytest.mark.parametrize(
    "name",
    [
        "app.log.2026-11-22",
        "app.log.2026-11-22.1",
        "app.log.2026-11-22.12",
        "app.log.2026-11-22T10-00-00",
        "app.log.2026-11-22T10-00-00.3",
        "app.log.2026-11-22.gz",
        "app.log.2026-11-22.1.gz",
    ],
)
def test_a_name_of_this_form_is_a_backup(tmp_path: Path, name: str) -> None:
    make(tmp_path, name, "app.log.2026-11-23")
    assert [name.removesuffix(".gz")] == survey(tmp_path, 1, made=["app.log.2026-11-23"]).delete


@pytest.mark.parametrize(
    "name",
    [
        "app.log",
        "app.log.1",
        "app.log.bak",
        "app.log.2026-11-22.old",
        "app.log.2026-11-22.0",
        "app.log.2026-11-22.01",
        "app.log.2026-11-22.gz.gz",
        "app.log.2026-11-22T10",
        "app.log.2026-1-2",
        "app.log.2026-11-22\n",
        "app.log.٢٠٢٦-11-22",
        "app.log2026-11-22",
        "app.log.error.log.2026-11-22",
        "my.app.log.2026-11-22",
        "app.log.2026-11-22.1.gz.unfinished",
        "app2.log.2026-11-22",
    ],
)
def test_no_other_name_is(tmp_path: Path, name: str) -> None:
    # cpython issue 90221: TimedRotatingFileHandler deletes files of others.
    newest = "app.log.2026-11-23"
    make(tmp_path, name, newest)
    assert Tasks([], [newest]) == survey(tmp_path, 1, compress=True, made=[newest])


# --- which have to go ---


def test_the_backup_whose_last_line_is_oldest_goes_first_whatever_its_label(tmp_path: Path) -> None:
    written(tmp_path, {"2099-01-01": 3, "2026-11-22": 2, "1970-01-01": 1})
    assert ["app.log.2099-01-01", "app.log.2026-11-22"] == survey(tmp_path, 1).delete


def test_of_one_time_label_and_number_tell_which_is_older(tmp_path: Path) -> None:
    names = ["2026-11-21", "2026-11-21.2", "2026-11-21.10", "2026-11-22", "2026-11-22T01-00-00", "2026-11-23"]
    written(tmp_path, dict.fromkeys(reversed(names), 1))
    assert [f"app.log.{name}" for name in names[:-1]] == survey(tmp_path, 1).delete


def test_a_backup_from_the_future_is_older_than_every_other(tmp_path: Path) -> None:
    written(tmp_path, {"2026-11-20": 48, "2026-11-21": 24, "2026-11-22": -1, "2026-11-23": -9999})
    assert ["app.log.2026-11-22", "app.log.2026-11-23", "app.log.2026-11-20"] == survey(tmp_path, 1).delete


def test_a_file_server_whose_clock_is_a_little_ahead_makes_nothing_older(tmp_path: Path) -> None:
    written(tmp_path, {"2026-11-21": 1 / HOUR, "2026-11-22": -1 / HOUR})
    assert ["app.log.2026-11-21"] == survey(tmp_path, 1).delete


def test_what_was_just_made_never_goes_for_another_whatever_its_time(tmp_path: Path) -> None:
    written(tmp_path, {"2026-11-20": 2, "2026-11-21": 1, "2026-11-22": -24, "2026-11-22.1": 5000})
    made = ["app.log.2026-11-22", "app.log.2026-11-22.1"]
    assert ["app.log.2026-11-20", "app.log.2026-11-21"] == survey(tmp_path, 2, made=made).delete
    assert "app.log.2026-11-22.1" not in survey(tmp_path, 1, made=made).delete


def test_of_more_that_were_just_made_than_may_stay_the_first_go(tmp_path: Path) -> None:
    written(tmp_path, {f"{DAY}.{number}": 1 for number in range(1, 6)})
    made = [f"app.log.{DAY}.{number}" for number in range(1, 6)]
    assert made[:3] == survey(tmp_path, 2, made=made).delete


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_what_is_still_being_made_neither_goes_nor_counts_nor_is_compressed(
    tmp_path: Path, keep: int
) -> None:
    """It was listed before its rollover was told of: perhaps empty, for the log to be renamed onto it."""
    written(tmp_path, {"2026-11-20": 2, "2026-11-21": 1, "2026-11-22": 0})
    tasks = survey(tmp_path, keep, compress=True, made=["app.log.2026-11-21"], later="app.log.2026-11-22")
    kept = ["app.log.2026-11-20", "app.log.2026-11-21"][-keep:]
    assert Tasks([] if keep > 1 else ["app.log.2026-11-20"], kept) == tasks


def test_a_backup_beside_its_gzip_counts_once(tmp_path: Path) -> None:
    written(tmp_path, {"2026-11-21": 2, DAY: 1, f"{DAY}.gz": 1})
    assert Tasks([], ["app.log.2026-11-21", f"app.log.{DAY}"]) == survey(tmp_path, 2, compress=True)


def test_what_goes_is_not_compressed_before(tmp_path: Path) -> None:
    written(tmp_path, {"2026-11-21": 2, "2026-11-22": 1})
    assert Tasks(["app.log.2026-11-21"], ["app.log.2026-11-22"]) == survey(tmp_path, 1, compress=True)


def test_one_listing_serves_all_files_of_a_directory(tmp_path: Path) -> None:
    make(tmp_path, *(f"{name}.log.{DAY}{number}" for name in "abc" for number in ("", ".1")))
    wanted = {"a.log": Upkeep(1, False, 0), "b.log": Upkeep(0, True, 0)}  # noqa: FBT003 - a case
    tasks = backups.survey(str(tmp_path), wanted, {}, lambda name: name)
    assert {"a.log", "b.log"} == tasks.keys()
    assert [f"{tmp_path}/a.log.{DAY}"] == tasks["a.log"].delete
    assert [f"{tmp_path}/b.log.{DAY}", f"{tmp_path}/b.log.{DAY}.1"] == tasks["b.log"].compress


def test_where_case_is_ignored_backups_of_all_spellings_are_of_one_file(tmp_path: Path) -> None:
    make(tmp_path, "App.log.2026-11-20", "app.log.2026-11-21", "APP.log.2026-11-22")
    tasks = backups.survey(str(tmp_path), {"app.log": Upkeep(1, False, 0)}, {}, fold)  # noqa: FBT003
    assert 2 == len(tasks["app.log"].delete)


@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_what_was_planted_in_the_directory_is_left_alone(tmp_path: Path, kind: str) -> None:
    (tmp_path / "outside").write_text("untouched")
    path = tmp_path / "app.log.2020-01-01"
    {
        "link": lambda: path.symlink_to(tmp_path / "outside"),
        "fifo": lambda: os.mkfifo(path),
        "directory": lambda: os.mkdir(path),
    }[kind]()
    make(tmp_path, f"app.log.{DAY}")
    assert Tasks([], [f"app.log.{DAY}"]) == survey(tmp_path, 1, compress=True)
    with pytest.raises(OSError, match=str(path)):
        backups.compress(str(path), 0o640)


# --- names and numbers ---


@pytest.fixture(params=["renameat2", "placeholder"])
def roll(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], str]:
    """Return a function that makes app.log a backup, in each way that there is, and returns its name."""
    if request.param == "placeholder":
        monkeypatch.setattr(backups, "_renameat2", None)
    numbers = Numbers(str(tmp_path))

    def roll() -> str:
        (tmp_path / "app.log").write_text("live\n")
        name = numbers.make(str(tmp_path / "app.log"), DAY)
        assert (tmp_path / name).read_text() == "live\n"
        assert not (tmp_path / "app.log").exists()
        return name

    roll.numbers = numbers  # type: ignore[attr-defined]
    return roll


@pytest.mark.parametrize(
    ("existing", "expected"),
    [
        ([], ""),
        ([""], ".1"),
        (["", ".1"], ".2"),
        ([".3"], ".4"),
        (["", ".9", ".10"], ".11"),
        ([".gz"], ".1"),
        ([".7.gz"], ".8"),
    ],
)
def test_a_new_number_is_above_every_existing_one(
    tmp_path: Path, roll: Callable[[], str], existing: list[str], expected: str
) -> None:
    make(tmp_path, *(f"app.log.{DAY}{suffix}" for suffix in existing))
    assert f"app.log.{DAY}{expected}" == roll()


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_file_that_appeared_since_the_listing_is_not_taken(
    tmp_path: Path, roll: Callable[[], str], suffix: str
) -> None:
    roll()
    make(tmp_path, f"app.log.{DAY}.1{suffix}")
    assert f"app.log.{DAY}.2" == roll()
    assert (tmp_path / f"app.log.{DAY}.1{suffix}").read_text().startswith("lines of")


def test_no_number_comes_again_although_its_backup_is_gone(tmp_path: Path, roll: Callable[[], str]) -> None:
    for expected in ("", ".1", ".2"):
        name = roll()
        assert f"app.log.{DAY}{expected}" == name
        (tmp_path / name).unlink()


def test_once_forgotten_numbers_are_those_of_what_is_there(tmp_path: Path, roll: Callable[[], str]) -> None:
    roll()
    make(tmp_path, f"app.log.{DAY}.7")
    roll.numbers.forget()  # type: ignore[attr-defined]
    assert f"app.log.{DAY}.8" == roll()


def test_what_cannot_be_renamed_keeps_its_name_and_leaves_nothing(
    tmp_path: Path, roll: Callable[[], str]
) -> None:
    with pytest.raises(FileNotFoundError):
        roll.numbers.make(str(tmp_path / "missing.log"), DAY)  # type: ignore[attr-defined]
    assert [] == list(tmp_path.iterdir())
    assert {} == roll.numbers.order  # type: ignore[attr-defined]


# --- compressing and deleting ---


def test_compressing_keeps_contents_time_and_mode(tmp_path: Path) -> None:
    path = f"{make(tmp_path, f'app.log.{DAY}')}.{DAY}"
    os.utime(path, (1_000_000_000, 1_000_000_000))
    backups.compress(path, 0o600)
    assert [f"app.log.{DAY}.gz"] == os.listdir(tmp_path)
    with gzip.open(path + ".gz") as file:
        assert f"lines of app.log.{DAY}\n".encode() == file.read()
    status = os.stat(path + ".gz")
    assert (1_000_000_000, 0o100600) == (status.st_mtime, status.st_mode)


def test_what_a_crash_left_of_compressing_does_not_stop_the_next_try(tmp_path: Path) -> None:
    path = f"{make(tmp_path, f'app.log.{DAY}', f'.app.log.{DAY}.gz.unfinished')}.{DAY}"
    backups.compress(path, 0o640)
    assert [f"app.log.{DAY}.gz"] == os.listdir(tmp_path)


def test_deleting_takes_both_forms_and_nothing_else(tmp_path: Path) -> None:
    path = make(tmp_path, f"app.log.{DAY}.gz", f"app.log.{DAY}.1", "app.log")
    for suffix in ("", ".1", ".2"):
        backups.delete(f"{path}.{DAY}{suffix}")
    assert ["app.log"] == os.listdir(tmp_path)


def test_deleting_tells_how_many_bytes_that_was(tmp_path: Path) -> None:
    path = make(tmp_path, f"app.log.{DAY}")
    assert len(f"lines of app.log.{DAY}\n") == backups.delete(f"{path}.{DAY}")
    assert 0 == backups.delete(f"{path}.{DAY}")


@pytest.mark.parametrize("task", [backups.delete, lambda path: backups.compress(path, 0o640)])
def test_what_cannot_be_done_says_what_it_was(tmp_path: Path, task: Callable[[str], object]) -> None:
    path = tmp_path / f"app.log.{DAY}"
    path.mkdir()
    with pytest.raises(OSError, match=str(path)):
        task(str(path))


def test_a_backup_deleted_while_it_is_compressed_does_not_come_back(tmp_path: Path) -> None:
    path = tmp_path / f"app.log.{DAY}"
    path.write_bytes(os.urandom(10_000_000))
    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(backups.compress, str(path), 0o640, sync=True)
        within(10, (tmp_path / f".app.log.{DAY}.gz.unfinished").exists, "compressing has begun")
        backups.delete(str(path))
        done.result()
    assert [] == list(tmp_path.iterdir())


def test_a_link_in_place_of_the_unfinished_file_is_not_followed(tmp_path: Path) -> None:
    path = f"{make(tmp_path, f'app.log.{DAY}')}.{DAY}"
    (tmp_path / "outside").write_text("untouched")
    os.symlink(tmp_path / "outside", tmp_path / f".app.log.{DAY}.gz.unfinished")
    backups.compress(path, 0o640)
    assert (tmp_path / "outside").read_text() == "untouched"
    assert os.path.exists(path + ".gz")
