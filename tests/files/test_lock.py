from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from collector.files.lock import NAME, Lock
from tests.support.collectors import messages
from tests.support.commands import run
from tests.support.frames import make_frame
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.collectors import Collector


def test_the_second_is_told_whose_it_is_until_the_first_lets_go(tmp_path: Path) -> None:
    first = Lock(str(tmp_path), 4711)
    with pytest.raises(OSError, match="belongs to another collector, process 4711"):
        Lock(str(tmp_path), 1)
    first.release()
    Lock(str(tmp_path), 1).release()


def test_it_follows_its_directory_when_that_is_replaced(tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    first = Lock(str(directory), 4711)
    directory.rename(tmp_path / "away")
    first.follow()
    assert not directory.exists()
    directory.mkdir()
    first.follow()
    with pytest.raises(OSError, match="process 4711"):
        Lock(str(directory), 1)
    Lock(str(tmp_path / "away"), 1).release()
    first.release()


def test_it_is_taken_again_when_only_the_file_was_deleted(tmp_path: Path) -> None:
    first = Lock(str(tmp_path), 4711)
    (tmp_path / NAME).unlink()
    first.follow()
    with pytest.raises(OSError, match="process 4711"):
        Lock(str(tmp_path), 1)
    first.release()


def test_who_finds_another_in_the_new_directory_says_so_and_takes_it_once_that_is_gone(
    tmp_path: Path,
) -> None:
    first = Lock(str(tmp_path), 4711)
    (tmp_path / NAME).unlink()
    second = Lock(str(tmp_path), 4712)
    with pytest.raises(OSError, match="belongs to another collector, process 4712"):
        first.follow()
    second.release()
    first.follow()
    with pytest.raises(OSError, match="process 4711"):
        Lock(str(tmp_path), 1)
    first.release()


def test_released_it_stays_so_and_closes_no_other_descriptor(tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    first = Lock(str(directory), 4711)
    first.release()
    with open(os.devnull, "rb") as other:  # takes the number that has become free
        directory.rename(tmp_path / "away")
        directory.mkdir()
        first.follow()
        first.release()
        assert other.read() == b""
    assert not list(directory.iterdir())


def test_no_second_collector_starts_on_a_directory_that_was_removed_and_remade(collector: Collector) -> None:
    collector.send(make_frame("gone"))
    within(5, lambda: messages(collector))
    shutil.rmtree(collector.directory)
    collector.send(make_frame("here"))
    within(5, lambda: messages(collector) == ["here"])
    within(5, (collector.directory / NAME).exists)
    assert "belongs to another collector" in run("run", "-c", str(collector.config)).stderr


def test_a_collector_that_has_lost_its_directory_to_another_says_so(collector: Collector) -> None:
    os.unlink(collector.directory / NAME)
    lock = Lock(str(collector.directory), 4711)
    within(5, lambda: "without the lock" in collector.stderr)
    assert "process 4711" in collector.stderr
    lock.release()


@pytest.mark.parametrize("kind", ["directory", "FIFO", "symbolic link"])
def test_what_is_no_regular_file_in_its_place_is_one_line_and_exit_2(
    make_collector: Callable[..., Collector], kind: str
) -> None:
    collector = make_collector()
    collector.directory.mkdir()
    path = collector.directory / NAME
    if kind == "directory":
        path.mkdir()
    elif kind == "FIFO":
        os.mkfifo(path)
    else:
        path.symlink_to("elsewhere")
    result = run("run", "-c", str(collector.config))
    assert result.returncode == 2
    assert 1 == len(result.stderr.splitlines()), result.stderr
    assert f"the lock '{path}'" in result.stderr
    assert "Errno" not in result.stderr
