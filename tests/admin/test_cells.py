"""A file of cells: what is written in place is there after a restart, whatever the file is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from collector.admin.cells import CellFile
from tests.support.waiting import within

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.volumes import Volumes


def cells(path: Path, title: str = "cells 1") -> CellFile:
    return CellFile(str(path), title, 100, 64)


def read(path: Path, title: str = "cells 1") -> dict[int, bytes]:
    return {at: cell.rstrip(b"\0") for at, cell in cells(path, title).read().items()}


def test_what_is_written_is_read_by_the_next(tmp_path: Path) -> None:
    file = cells(tmp_path / "file")
    file.begin([(1, b"one"), (99, b"last")])
    file.write([(1, b"1"), (2, b"two")])

    assert {1: b"1", 2: b"two", 99: b"last"} == read(tmp_path / "file")


def test_an_empty_cell_is_none(tmp_path: Path) -> None:
    file = cells(tmp_path / "file")
    file.begin([(1, b"one"), (2, b"two")])
    file.write([(1, b"")])

    assert {2: b"two"} == read(tmp_path / "file")


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    cells(tmp_path / "file").begin([])

    assert 0o600 == (tmp_path / "file").stat().st_mode & 0o777


def test_where_there_is_no_file_there_are_no_cells(tmp_path: Path) -> None:
    assert {} == read(tmp_path / "file")


def test_a_file_of_another_kind_is_not_read_and_begun_anew(tmp_path: Path) -> None:
    cells(tmp_path / "file", "cells 0").begin([(1, b"another form"), (50, b"x")])

    assert {} == read(tmp_path / "file")
    cells(tmp_path / "file").begin([(2, b"two")])
    assert {2: b"two"} == read(tmp_path / "file")


def test_it_is_the_same_until_it_is_removed_replaced_or_emptied(tmp_path: Path) -> None:
    file = cells(tmp_path / "file")
    assert not file.is_same()
    file.begin([(1, b"one")])
    assert file.is_same()
    os.truncate(tmp_path / "file", 0)
    assert not file.is_same()
    file.begin([(1, b"one")])
    cells(tmp_path / "other").begin([(1, b"another's")])
    (tmp_path / "other").rename(tmp_path / "file")
    assert not file.is_same()
    (tmp_path / "file").unlink()
    assert not file.is_same()
    with pytest.raises(FileNotFoundError):
        file.write([(1, b"one")])


def test_a_cell_that_is_cut_off_is_none(tmp_path: Path) -> None:
    cells(tmp_path / "file").begin([(1, b"one"), (2, b"two")])
    os.truncate(tmp_path / "file", 2 * 68 + 10)

    assert {1: b"one"} == read(tmp_path / "file")


@pytest.mark.parametrize("at", [0, 10, 63, 64, 67])
def test_a_cell_that_is_damaged_is_none_and_costs_no_other(at: int, tmp_path: Path) -> None:
    cells(tmp_path / "file").begin([(1, b"one"), (2, b"two")])
    data = bytearray((tmp_path / "file").read_bytes())
    data[68 + at] ^= 1
    (tmp_path / "file").write_bytes(data)

    assert {2: b"two"} == read(tmp_path / "file")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"somebody's")
    (tmp_path / "file").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic links"):
        cells(tmp_path / "file").read()
    cells(tmp_path / "file").begin([(1, b"one")])

    assert {1: b"one"} == read(tmp_path / "file")
    assert b"somebody's" == (tmp_path / "target").read_bytes()


def test_a_volume_that_is_full_costs_nothing_of_what_is_there(tmp_path: Path, volumes: Volumes) -> None:
    home = tmp_path / "volume"
    volumes.tmpfs(home, "24k")
    file = CellFile(str(home / "file"), "cells 1", 10, 4092)
    file.begin([(1, b"one"), (2, b"two")])
    filler = home / "filler"
    filler.write_bytes(bytes(3 * 4096))
    with pytest.raises(OSError, match="No space left"):
        file.write([(2, b"2"), (3, b"three")])
    assert (False, False) == (file.is_known, file.is_same())
    with pytest.raises(OSError, match="No space left"):
        file.begin([(1, b"one"), (2, b"2"), (3, b"three")])
    assert ["file", "filler"] == sorted(os.listdir(home))
    assert {1: b"one", 2: b"2"} == {
        at: cell.rstrip(b"\0") for at, cell in CellFile(file.path, "cells 1", 10, 4092).read().items()
    }

    filler.unlink()
    within(1, lambda: not filler.exists())
    file.begin([(1, b"one")])
    assert file.is_same()
