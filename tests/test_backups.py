from __future__ import annotations

import gzip
import os
from typing import TYPE_CHECKING

import pytest

from collector import backups
from collector.backups import Backup, Chores

if TYPE_CHECKING:
    from pathlib import Path

DAY = "2026-11-22"


def make(directory: Path, *names: str) -> str:
    for name in names:
        (directory / name).write_text(f"lines of {name}\n")
    return str(directory / "app.log")


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
    found, _ = backups.of(make(tmp_path, name))
    assert [name.removesuffix(".gz")] == [backup.name for backup in found]


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
    assert ([], []) == backups.of(make(tmp_path, name))


def test_backups_sort_by_time_and_number_not_by_text(tmp_path: Path) -> None:
    names = ["2026-11-21", "2026-11-21.2", "2026-11-21.10", "2026-11-22", "2026-11-22T01-00-00"]
    path = make(tmp_path, *(f"app.log.{name}" for name in reversed(names)))
    assert [f"app.log.{name}" for name in names] == [backup.name for backup in backups.of(path)[0]]


def test_a_backup_beside_its_gzip_counts_once(tmp_path: Path) -> None:
    found, plain = backups.of(make(tmp_path, f"app.log.{DAY}", f"app.log.{DAY}.gz"))
    assert [Backup(DAY, 0, f"app.log.{DAY}")] == found == plain


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
def test_a_new_number_is_above_every_existing_one(tmp_path: Path, existing: list[str], expected: str) -> None:
    path = make(tmp_path, *(f"app.log.{DAY}{suffix}" for suffix in existing))
    assert f"app.log.{DAY}{expected}" == backups.reserve(path, DAY, backups.of(path)[0]).name


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_file_that_appeared_since_the_listing_is_not_taken(tmp_path: Path, suffix: str) -> None:
    path = make(tmp_path, f"app.log.{DAY}{suffix}")
    assert f"app.log.{DAY}.1" == backups.reserve(path, DAY, []).name
    assert (tmp_path / f"app.log.{DAY}{suffix}").read_text()


def test_compressing_keeps_contents_time_and_mode(tmp_path: Path) -> None:
    path = f"{make(tmp_path, f'app.log.{DAY}')}.{DAY}"
    os.utime(path, (1_000_000_000, 1_000_000_000))
    assert (Chores([], []), [], []) == backups.do(Chores([path], []), 0o600)
    assert [f"app.log.{DAY}.gz"] == os.listdir(tmp_path)
    with gzip.open(path + ".gz") as file:
        assert f"lines of app.log.{DAY}\n".encode() == file.read()
    status = os.stat(path + ".gz")
    assert (1_000_000_000, 0o100600) == (status.st_mtime, status.st_mode)


def test_what_a_crash_left_of_compressing_does_not_stop_the_next_try(tmp_path: Path) -> None:
    path = f"{make(tmp_path, f'app.log.{DAY}', f'.app.log.{DAY}.gz.unfinished')}.{DAY}"
    backups.do(Chores([path], []), 0o640)
    assert [f"app.log.{DAY}.gz"] == os.listdir(tmp_path)


def test_deleting_takes_both_forms_and_nothing_else(tmp_path: Path) -> None:
    path = make(tmp_path, f"app.log.{DAY}.gz", f"app.log.{DAY}.1", "app.log")
    backups.do(Chores([], [f"{path}.{DAY}", f"{path}.{DAY}.1", f"{path}.{DAY}.2"]), 0o640)
    assert ["app.log"] == os.listdir(tmp_path)


def test_what_cannot_be_done_comes_back_with_its_reason(tmp_path: Path) -> None:
    path = f"{make(tmp_path)}.{DAY}"
    os.mkdir(path)
    left, errors, _ = backups.do(Chores([path], [path]), 0o640)
    assert Chores([path], [path]) == left
    assert [path, path] == [error.filename for error in errors]


@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_what_was_planted_in_the_directory_is_not_compressed(tmp_path: Path, kind: str) -> None:
    (tmp_path / "outside").write_text("untouched")
    path = tmp_path / f"app.log.{DAY}"
    os.symlink(tmp_path / "outside", path) if kind == "link" else os.mkfifo(path)
    _, errors, _ = backups.do(Chores([str(path)], []), 0o640)
    assert [str(path)] == [error.filename for error in errors]


def test_a_link_in_place_of_the_unfinished_file_is_not_followed(tmp_path: Path) -> None:
    path = f"{make(tmp_path, f'app.log.{DAY}')}.{DAY}"
    (tmp_path / "outside").write_text("untouched")
    os.symlink(tmp_path / "outside", tmp_path / f".app.log.{DAY}.gz.unfinished")
    backups.do(Chores([path], []), 0o640)
    assert (tmp_path / "outside").read_text() == "untouched"
    assert os.path.exists(path + ".gz")
