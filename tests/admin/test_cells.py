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
    file.write([(1, b"one"), (99, b"last")])
    file.write([(1, b"1"), (2, b"two")])

    assert {1: b"1", 2: b"two", 99: b"last"} == read(tmp_path / "file")


def test_an_empty_cell_is_none(tmp_path: Path) -> None:
    file = cells(tmp_path / "file")
    file.write([(1, b"one"), (2, b"two")])
    file.write([(1, b"")])

    assert {2: b"two"} == read(tmp_path / "file")


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    cells(tmp_path / "file").write([])

    assert 0o600 == (tmp_path / "file").stat().st_mode & 0o777


def test_where_there_is_no_file_there_are_no_cells(tmp_path: Path) -> None:
    assert {} == read(tmp_path / "file")


def test_a_file_of_another_kind_is_not_read_and_begun_anew(tmp_path: Path) -> None:
    cells(tmp_path / "file", "cells 0").write([(1, b"another form"), (50, b"x")])

    assert {} == read(tmp_path / "file")
    cells(tmp_path / "file").write([(2, b"two")])
    assert {2: b"two"} == read(tmp_path / "file")


def test_it_is_the_same_until_it_is_removed_or_replaced(tmp_path: Path) -> None:
    file = cells(tmp_path / "file")
    assert not file.is_same()
    file.write([(1, b"one")])
    assert file.is_same()
    cells(tmp_path / "other").write([(1, b"another's")])
    (tmp_path / "other").rename(tmp_path / "file")
    assert not file.is_same()
    (tmp_path / "file").unlink()
    assert not file.is_same()


def test_a_file_that_was_removed_is_begun_anew(tmp_path: Path) -> None:
    """A new one may have the number of the one removed just before."""
    file = cells(tmp_path / "file")
    file.write([(1, b"one")])
    (tmp_path / "file").unlink()
    file.write([(2, b"two")])

    assert {2: b"two"} == read(tmp_path / "file")


def test_a_cell_that_is_cut_off_is_none(tmp_path: Path) -> None:
    cells(tmp_path / "file").write([(1, b"one"), (2, b"two")])
    os.truncate(tmp_path / "file", 2 * 64 + 10)

    assert {1: b"one"} == read(tmp_path / "file")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"somebody's")
    (tmp_path / "file").symlink_to(tmp_path / "target")
    for call in (cells(tmp_path / "file").read, lambda: cells(tmp_path / "file").write([(1, b"one")])):
        with pytest.raises(OSError, match="symbolic links"):
            call()

    assert b"somebody's" == (tmp_path / "target").read_bytes()


def test_on_a_full_volume_it_fails_and_is_not_the_same_until_it_was_written_whole(
    tmp_path: Path, volumes: Volumes
) -> None:
    volumes.tmpfs(tmp_path / "volume", "16k")
    filler = tmp_path / "volume" / "filler"
    filler.write_bytes(bytes(12 * 1024))
    file = CellFile(str(tmp_path / "volume" / "file"), "cells 1", 10, 4096)
    file.write([])
    with pytest.raises(OSError, match="No space left"):
        file.write([(at, b"x" * 4096) for at in range(1, 10)])
    assert (False, False) == (file.is_known, file.is_same())

    filler.unlink()
    within(1, lambda: not filler.exists())
    file.write([(1, b"one")])
    assert file.is_same()
