from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from collector.spool import epochs
from collector.spool.checkpoint import Checkpoint
from tests.support.spools import make_spool, numbered, numbers_in, segments_of, spool_now

if TYPE_CHECKING:
    from pathlib import Path

YEAR_IN_NS = 365 * 24 * 3600 * 10**9


def begin(directory: Path, above: int = 0) -> epochs.Epoch:
    return epochs.begin(str(directory), "", above)


def test_the_first_begins_above_the_clock_with_number_1(tmp_path: Path) -> None:
    before = time.time_ns()
    first = begin(tmp_path)
    assert before < first.epoch <= time.time_ns() + 1
    assert 1 == first.first


def test_each_start_is_a_new_one_of_the_same_collector(tmp_path: Path) -> None:
    starts = [begin(tmp_path) for _ in range(20)]
    assert sorted({start.epoch for start in starts}) == [start.epoch for start in starts]
    assert 1 == len({start.collector_id for start in starts})


@pytest.mark.parametrize("left", ["epoch", "checkpoint", "segment", "known"])
def test_when_the_clock_was_set_back_whatever_is_left_keeps_epochs_and_numbers_going_on(
    tmp_path: Path, left: str
) -> None:
    """The spool is emptied in between, but for one thing that knows the epoch of a year ahead."""
    ahead = time.time_ns() + YEAR_IN_NS
    expected_number = 43
    if left == "epoch":
        epochs.note(str(tmp_path), ahead, 42)
    elif left == "checkpoint":
        Checkpoint.create(str(tmp_path / "old.checkpoint"), {"position": [1, 0, 0, 7]}).close()
        Checkpoint.create(str(tmp_path / "elk.checkpoint"), {"position": [ahead, 3, 99, 43]}).close()
    elif left == "segment":
        epochs.note(str(tmp_path), ahead - 1, 40)
        spool = make_spool(tmp_path)
        spool_now(spool, numbered(41, 43))
        (tmp_path / epochs.EPOCH_FILE).unlink()
    else:
        expected_number = 1
    begun = begin(tmp_path, ahead if left == "known" else 0)
    assert (ahead + 1, expected_number) == (begun.epoch, begun.first)


def test_a_clock_set_back_makes_no_id_that_was_there_before(tmp_path: Path) -> None:
    epochs.note(str(tmp_path), time.time_ns() + YEAR_IN_NS, 0)
    made = []
    for _ in range(3):
        spool = make_spool(tmp_path)
        spool_now(spool, [b"x"])
        made += [path.name for path in segments_of(tmp_path)]
        for path in segments_of(tmp_path):
            path.unlink()
        spool.close()
    assert 3 == len(set(made))


def test_a_checkpoint_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    """It may be the one that knows the newest epoch."""
    (tmp_path / "elk.checkpoint").mkdir()
    with pytest.raises(IsADirectoryError, match=r"elk\.checkpoint"):
        begin(tmp_path)


def test_numbers_go_on_behind_the_newest_segment_in_which_there_is_one(tmp_path: Path) -> None:
    for first in (1, 3):
        spool_now(make_spool(tmp_path), numbered(first, first + 2))
    newest = segments_of(tmp_path)[-1]
    newest.write_bytes(newest.read_bytes()[:100])
    assert 3 == begin(tmp_path).first


@pytest.mark.parametrize("damage", ["empty", "zeros", "cut", "digit"])
def test_a_damaged_note_is_reported_and_the_rest_decides(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    spool_now(make_spool(tmp_path), numbered(1, 5))
    path = tmp_path / epochs.EPOCH_FILE
    data = path.read_bytes()
    damaged = {"empty": b"", "zeros": bytes(len(data)), "cut": data[:-11], "digit": b"9" + data[1:]}[damage]
    path.write_bytes(damaged)
    assert 5 == begin(tmp_path).first
    assert (damage != "empty") == (f"{path}: not sound" in caplog.text)


def test_a_damaged_id_is_replaced_and_a_sound_one_kept(tmp_path: Path) -> None:
    first = begin(tmp_path).collector_id
    assert first == begin(tmp_path).collector_id
    (tmp_path / "id").write_bytes(bytes(16))
    assert first != begin(tmp_path).collector_id
    (tmp_path / "id").unlink()
    assert first == epochs.begin(str(tmp_path), first, 0).collector_id


def test_an_epoch_is_durable_before_its_first_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    for name in ("fsync", "rename", "writev"):

        def noting(*arguments: object, name: str = name, call: object = getattr(os, name)) -> object:
            what = f"/proc/self/fd/{arguments[0]}" if isinstance(arguments[0], int) else ""
            done.append((name, os.path.basename(os.readlink(what) if what else str(arguments[0]))))
            return call(*arguments)  # type: ignore[operator]

        monkeypatch.setattr(os, name, noting)
    directory = tmp_path / "spool"
    spool_now(make_spool(directory), [b"x"])
    wanted = [
        ("fsync", "epoch.new"),
        ("rename", "epoch.new"),
        ("fsync", "spool"),
        ("writev", segments_of(directory)[0].name),
    ]
    assert wanted == done[-4:]


def test_where_the_epoch_cannot_be_written_nothing_is_spooled_and_numbers_are_given_out(
    tmp_path: Path,
) -> None:
    in_the_way = tmp_path / "epoch.new"
    in_the_way.mkdir()
    spool = make_spool(tmp_path)
    assert not spool.open()
    spool.add("peer", numbered(1, 3), 1)
    spool.write()
    assert [] == segments_of(tmp_path)
    in_the_way.rmdir()
    spool.add("peer", numbered(3, 5), 1)
    assert 0 == spool.close()
    assert [1, 2, 3, 4] == numbers_in(tmp_path)
