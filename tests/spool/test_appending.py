from __future__ import annotations

import os
import shutil
import threading
import time
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from collector.files.lock import Lock
from collector.spool import epochs
from collector.spool.reading import OLDEST, Position, SpoolReader
from tests.support.descriptors import no_descriptor_free
from tests.support.spools import (
    MiB,
    make_spool,
    numbered,
    numbers_in,
    payloads_in,
    read_all,
    segments_of,
    spool_now,
)
from tests.support.volumes import files_at_most, needs_root, run
from tests.support.waiting import within

if TYPE_CHECKING:
    from pathlib import Path

    from collector.spool.appending import Spool
    from tests.support.volumes import Volumes


def until_it_looks_again() -> None:
    """Return when the second is over in which it trusts its names."""
    begun = time.monotonic()
    within(3, lambda: time.monotonic() - begun > 1.1)


def write_again(spool: Spool) -> None:
    """Write when the pause behind a failure is over."""
    within(3, lambda: spool.due_in == 0)
    spool.write()


def test_nothing_is_touched_before_it_is_opened_and_all_is_for_its_owner_only(tmp_path: Path) -> None:
    directory = tmp_path / "logs" / ".spool"
    spool = make_spool(directory)
    spool.add("peer", [b"x"], 1)
    assert [] == list(tmp_path.iterdir())
    spool.write()
    assert {".spool": 0o700} == {
        path.name: path.stat().st_mode & 0o777 for path in directory.parent.iterdir()
    }
    assert 0o750 == directory.parent.stat().st_mode & 0o777
    assert 3 == len(list(directory.iterdir()))
    assert {0o600} == {path.stat().st_mode & 0o777 for path in directory.iterdir()}


def test_numbers_run_on_over_stops_and_kills_and_each_start_has_segments_of_its_own(tmp_path: Path) -> None:
    spool = make_spool(tmp_path)
    spool_now(spool, numbered(1, 4))
    assert 0 == spool.close()
    spool_now(make_spool(tmp_path), numbered(4, 6))  # never closed
    spool_now(make_spool(tmp_path), numbered(6, 7))
    assert numbered(1, 7) == payloads_in(tmp_path)
    assert [1, 2, 3, 4, 5, 6] == numbers_in(tmp_path)
    assert 3 == len({one.epoch for one in read_all(tmp_path)}) == len(segments_of(tmp_path))


def test_all_that_waits_goes_into_one_block_a_call_and_an_empty_one_makes_none(tmp_path: Path) -> None:
    spool = make_spool(tmp_path)
    spool.add("one", numbered(1, 3), 7)
    spool.add("none", [], 8)
    spool.add("two", numbered(3, 4), 9)
    assert spool.waiting_bytes > 60
    spool.write()
    assert [("one", 7), ("one", 7), ("two", 9)] == [(one.peer, one.received) for one in read_all(tmp_path)]
    assert (3, 0, 0) == (spool.spooled_records, spool.waiting_bytes, spool.dropped_records)
    assert spool.bytes == segments_of(tmp_path)[0].stat().st_size


def test_very_many_blocks_of_one_hop_are_all_written(tmp_path: Path) -> None:
    spool = make_spool(tmp_path)
    payloads = numbered(1, 3000)
    for payload in payloads:
        spool.add("peer", [payload], 1)
    spool.write()
    assert payloads == payloads_in(tmp_path)


def test_a_segment_ends_before_it_would_pass_its_size_and_a_larger_block_has_one_of_its_own(
    tmp_path: Path,
) -> None:
    spool = make_spool(tmp_path, segment_bytes=2000)
    for first, size in ((1, 100), (2, 100), (3, 5000), (4, 100)):
        spool_now(spool, numbered(first, first + 1, size))
    sizes = [path.stat().st_size for path in segments_of(tmp_path)]
    assert [True, False, True] == [size < 2000 for size in sizes]
    assert [1, 2, 3, 4] == numbers_in(tmp_path)
    assert [0, 1, 2] == sorted({one.index for one in read_all(tmp_path)})


def test_past_the_last_index_a_new_epoch_begins(tmp_path: Path) -> None:
    spool = make_spool(tmp_path, segment_bytes=1)
    spool_now(spool, numbered(1, 2))
    spool._writer.segment = spool._writer.segment._replace(index=999_998)  # noqa: SLF001 - a million segments
    for number in (2, 3):
        spool_now(spool, numbered(number, number + 1))
    assert [0, 999_999, 0] == [one.index for one in read_all(tmp_path)]
    assert [1, 2, 3] == numbers_in(tmp_path)


def test_a_block_is_dropped_if_others_wait_and_it_would_pass_the_limit_and_is_a_gap(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = make_spool(tmp_path, limit=2000)
    spool.open()
    spool.add("peer", numbered(1, 2, 5000), 1)  # alone: whatever its size
    spool.add("peer", numbered(2, 4), 1)
    spool.add("peer", numbered(4, 5), 1)
    spool.write()
    spool_now(spool, numbered(5, 6))
    assert [1, 5] == numbers_in(tmp_path)
    assert (2, 3) == (spool.spooled_records, spool.dropped_records)
    assert "2 records were dropped, numbered 2 to 3:" in caplog.text
    assert "numbered 4" not in caplog.text  # told a minute later, or
    spool.close()
    assert "1 record was dropped, numbered 4 to 4:" in caplog.text


@pytest.mark.parametrize(("more", "dropped"), [(0, 0), (1, 1)], ids=["at", "above"])
def test_the_limit_is_of_memory(tmp_path: Path, more: int, dropped: int) -> None:
    spool = make_spool(tmp_path)
    spool.add("peer", [bytes(100)], 1)
    one = spool.waiting_bytes
    spool = make_spool(tmp_path, limit=2 * one)
    spool.add("peer", [bytes(100)], 1)
    spool.add("peer", [bytes(100 + more)], 1)
    assert dropped == spool.dropped_records


def test_a_stop_notes_the_last_number_given_out_so_that_what_was_dropped_last_is_a_gap(
    tmp_path: Path,
) -> None:
    spool = make_spool(tmp_path, limit=1000)
    spool_now(spool, numbered(1, 3))
    spool.add("peer", numbered(3, 4), 1)
    spool.add("peer", numbered(4, 9, 1000), 1)
    assert 0 == spool.close()
    spool_now(make_spool(tmp_path), numbered(9, 10))
    assert [1, 2, 3, 9] == numbers_in(tmp_path)
    assert numbered(9, 10) == payloads_in(tmp_path)[-1:]


def test_what_cannot_be_written_in_the_end_is_told_and_a_gap(tmp_path: Path) -> None:
    spool = make_spool(tmp_path)
    spool_now(spool, numbered(1, 3))
    spool.add("peer", numbered(3, 7, 1000), 1)
    with files_at_most(700):
        assert 4 == spool.close()
    spool_now(make_spool(tmp_path), numbered(7, 8))
    assert [1, 2, 7] == numbers_in(tmp_path)


@pytest.mark.slow
def test_a_directory_that_cannot_be_made_costs_nothing_but_what_passes_the_limit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "spool"
    directory.touch()
    spool = make_spool(directory, limit=2000)
    assert not spool.open()
    mark = spool.mark()
    assert spool.position(mark) is None
    assert spool.due_in
    for first in range(1, 11):
        spool.add("peer", numbered(first, first + 1, 300), 1)
        spool.write()
    assert 1 == spool.write_errors  # within the first second there is one try
    kept = 10 - spool.dropped_records
    assert 0 < kept < 10
    assert f"spool {directory}: cannot be written, 0 records wait, tried again in 1 s:" in caplog.text
    directory.unlink()
    caplog.set_level("INFO")
    write_again(spool)
    spool_now(spool, numbered(11, 12))
    assert [*range(1, kept + 1), 11] == numbers_in(directory)
    assert "can be written again" in caplog.text
    position = spool.position(mark)
    assert position is not None
    assert [*range(1, kept + 1), 11] == [one.number for one in read_all(directory, position)]


def test_after_a_failed_write_its_blocks_go_into_a_new_segment_with_the_same_numbers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = make_spool(tmp_path)
    spool_now(spool, numbered(1, 3))
    for first in (3, 5, 7):
        spool.add("peer", numbered(first, first + 2, 200), 1)
    with files_at_most(segments_of(tmp_path)[0].stat().st_size + 700):
        spool.write()
    assert (1, 4) == (spool.write_errors, spool.spooled_records)  # one of the three is whole
    assert "cannot be written, 4 records wait" in caplog.text
    assert [1, 2, 3, 4] == numbers_in(tmp_path)
    reader = SpoolReader(str(tmp_path), OLDEST)
    assert 4 == len(reader.read(99, 9999))
    assert 0 == spool.close()
    assert [5, 6, 7, 8] == [one.number for one in reader.read(99, 9999)]
    assert 0 == reader.bad_blocks
    reader.close()
    assert [one[:8] for one in numbered(1, 9)] == [one[:8] for one in payloads_in(tmp_path)]
    assert [0, 0, 0, 0, 1, 1, 1, 1] == [one.index for one in read_all(tmp_path)]


def test_a_segment_that_took_nothing_leaves_no_file(tmp_path: Path) -> None:
    spool = make_spool(tmp_path)
    assert spool.open()
    spool.add("peer", [b"x"], 1)
    with files_at_most(0):
        spool.write()
    assert [] == segments_of(tmp_path)
    assert 0 == spool.close()
    assert [1] == numbers_in(tmp_path)


def test_the_pause_behind_failures_doubles_to_a_minute_and_ends_with_the_first_success(
    tmp_path: Path,
) -> None:
    spool = make_spool(tmp_path)
    spool.open()
    spool.add("peer", [b"x"], 1)
    pauses = []
    with files_at_most(0):
        for _ in range(8):
            spool._retry_at = 0  # noqa: SLF001 - minutes
            spool.write()
            pauses.append(round(spool.due_in or 0))
    assert [1, 2, 4, 8, 16, 32, 60, 60] == pauses
    spool._retry_at = 0  # noqa: SLF001
    spool.write()
    spool.add("peer", [b"x"], 1)
    with files_at_most(0):
        spool.write()
    assert round(spool.due_in or 0) == 1


def test_a_fault_of_ours_is_survived_with_its_traceback(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = make_spool(tmp_path)
    spool_now(spool, ["no bytes"])  # type: ignore[list-item]
    spool.add("peer", [b"x"], 1)
    spool.write()
    assert 1 == spool.write_errors
    assert "TypeError" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("how", ["removed", "emptied", "moved", "remade", "segment"])
def test_emptied_by_hand_all_is_made_again_and_numbers_go_on(tmp_path: Path, how: str) -> None:
    directory = tmp_path / "spool"
    directory.mkdir()
    epochs.note(str(directory), 1, 40)
    spool = make_spool(directory)
    spool_now(spool, numbered(41, 43))
    collector_id, (one, *_) = spool.collector_id, read_all(directory)
    if how == "removed":
        shutil.rmtree(directory)
    elif how == "emptied":
        for path in directory.iterdir():
            path.unlink()
    elif how == "segment":
        segments_of(directory)[0].unlink()
    else:
        directory.rename(tmp_path / "away")
    if how == "remade":
        directory.mkdir()
    until_it_looks_again()
    spool_now(spool, numbered(43, 45))
    if spool.waiting_bytes:
        write_again(spool)
    records = read_all(directory)
    assert [(43, collector_id), (44, collector_id)] == [(one.number, one.collector_id) for one in records]
    assert one.id not in {one.id for one in records}
    assert how == "segment" or records[0].epoch > one.epoch
    assert {"id", "epoch", records[0].after.segment.name} == {path.name for path in directory.iterdir()}
    spool.close()
    assert (45, collector_id) == epochs.begin(str(directory), "", 0)[::-2]


@pytest.mark.slow
def test_what_was_removed_by_hand_is_made_again_before_a_record_comes(tmp_path: Path) -> None:
    """Forwarders keep their progress there; until a record came, each told every second that it could not."""
    directory = tmp_path / "spool"
    spool = make_spool(directory)
    spool_now(spool, numbered(1, 3))
    shutil.rmtree(directory)
    until_it_looks_again()
    assert spool.open()
    assert {"id", "epoch"} == {path.name for path in directory.iterdir()}
    spool_now(spool, numbered(3, 4))
    assert [3] == numbers_in(directory)


@pytest.mark.slow
def test_numbers_go_on_behind_those_of_a_spool_that_was_put_in_its_place(tmp_path: Path) -> None:
    directory = tmp_path / "spool"
    spool = make_spool(directory)
    spool_now(spool, numbered(1, 3))
    directory.rename(tmp_path / "away")
    directory.mkdir()
    epochs.note(str(directory), 1, 40)
    until_it_looks_again()
    spool_now(spool, numbered(41, 43))
    assert [41, 42] == numbers_in(directory)
    spool.close()


@pytest.mark.slow
def test_what_was_written_into_a_deleted_segment_is_written_again(tmp_path: Path) -> None:
    """Within the second in which nobody looks at its name."""
    directory = tmp_path / "spool"
    spool = make_spool(directory)
    spool_now(spool, numbered(1, 3))
    shutil.rmtree(directory)
    spool_now(spool, numbered(3, 5))
    write_again(spool)
    assert [3, 4] == numbers_in(directory)


def test_a_new_destination_begins_at_its_mark_however_late_that_is_asked_for(tmp_path: Path) -> None:
    spool = make_spool(tmp_path, segment_bytes=100)
    first = spool.mark()
    spool.add("peer", numbered(1, 3), 1)
    second = spool.mark()
    spool.add("peer", numbered(3, 4), 1)
    spool.write()
    third = spool.mark()
    for number in range(4, 9):
        spool_now(spool, numbered(number, number + 1))
    for mark, number in ((first, 1), (second, 3), (third, 4)):
        position = spool.position(mark)
        assert position is not None
        assert number == position.number
        assert [*range(number, 9)] == [one.number for one in read_all(tmp_path, position)]
    assert spool.position(third) == Position(read_all(tmp_path)[0].epoch, 0, 0, 4)


def test_beyond_max_bytes_the_oldest_go_and_the_gap_is_whole(tmp_path: Path) -> None:
    spool = make_spool(tmp_path, segment_bytes=1000, max_bytes=5000)
    for number in range(1, 11):
        spool_now(spool, numbered(number, number + 1, 900))
    assert spool.trim_due
    assert 10 * segments_of(tmp_path)[0].stat().st_size == spool.bytes
    freed = spool.trim()
    assert not spool.trim_due
    assert sum(path.stat().st_size for path in segments_of(tmp_path)) == spool.bytes <= 5000
    assert [7, 8, 9, 10] == numbers_in(tmp_path) or [6, 7, 8, 9, 10] == numbers_in(tmp_path)
    assert freed + spool.bytes == 10 * segments_of(tmp_path)[0].stat().st_size
    assert 0 == spool.trim()


def test_the_budget_counts_what_earlier_starts_have_left_and_what_others_have_deleted(tmp_path: Path) -> None:
    for number in range(1, 6):
        spool_now(make_spool(tmp_path), numbered(number, number + 1, 900))
    spool = make_spool(tmp_path, max_bytes=2500)
    spool.open()
    assert spool.trim_due
    for path in segments_of(tmp_path)[:4]:
        path.unlink()
    assert 0 == spool.trim()
    assert not spool.trim_due
    assert [5] == numbers_in(tmp_path)


def test_the_segment_that_is_written_is_never_trimmed(tmp_path: Path) -> None:
    spool = make_spool(tmp_path, max_bytes=1)
    spool_now(spool, numbered(1, 2))
    assert 0 == spool.trim()
    assert 0 == spool.free(1)
    spool_now(spool, numbered(2, 3))
    assert [1, 2] == numbers_in(tmp_path)


def test_room_for_others_is_made_from_the_oldest_on_until_it_is_enough(tmp_path: Path) -> None:
    spool = make_spool(tmp_path, segment_bytes=1)
    for number in range(1, 6):
        spool_now(spool, numbered(number, number + 1, 900))
    size = segments_of(tmp_path)[0].stat().st_size
    assert size == spool.free(size)
    assert 2 * size == spool.free(size + 1)
    assert [4, 5] == numbers_in(tmp_path)
    assert 2 * size == spool.bytes


def test_giving_way_it_writes_nothing_until_the_files_of_the_volume_are_written(tmp_path: Path) -> None:
    spool = make_spool(tmp_path, segment_bytes=1)
    for number in (1, 2):
        spool_now(spool, numbered(number, number + 1))
    size = spool.bytes // 2
    assert size == spool.give_way()
    assert [2] == numbers_in(tmp_path)
    assert size == spool.give_way()  # that which was written goes too, in the end
    assert 0 == spool.give_way() == spool.bytes
    spool_now(spool, numbered(3, 4))
    assert spool.due_in is None
    assert [] == segments_of(tmp_path)
    spool.resume()
    assert 0 == spool.due_in
    spool.write()
    assert [3] == numbers_in(tmp_path)


def test_what_was_deleted_takes_up_no_room_although_it_was_never_synced(tmp_path: Path) -> None:
    spool = make_spool(tmp_path, segment_bytes=1)
    spool.open()
    before = os.listdir("/proc/self/fd")
    for number in range(1, 5):
        spool_now(spool, numbered(number, number + 1))
    assert 4 == len(os.listdir("/proc/self/fd")) - len(before)
    spool.free(1)
    assert 3 == len(os.listdir("/proc/self/fd")) - len(before)
    for _ in range(3):
        spool.give_way()
    assert before == os.listdir("/proc/self/fd")
    assert 0 == spool.bytes
    spool.sync()


def test_only_one_collector_has_a_directory_of_its_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = make_spool(tmp_path, lock_owner=4711)
    assert first.open()
    second = make_spool(tmp_path, lock_owner=4712)
    assert not second.open()
    assert "belongs to another collector, process 4711" in caplog.text
    first.close()
    Lock(str(tmp_path), 1).release()


@pytest.mark.slow
def test_the_lock_follows_a_directory_that_was_removed_and_remade(tmp_path: Path) -> None:
    directory = tmp_path / "spool"
    spool = make_spool(directory, lock_owner=4711)
    spool_now(spool, numbered(1, 2))
    shutil.rmtree(directory)
    spool_now(spool, numbered(2, 3))
    write_again(spool)
    for _ in range(2):
        with pytest.raises(OSError, match="process 4711"):
            Lock(str(directory), 1)
        (directory / ".collector.lock").unlink()
        until_it_looks_again()
        spool_now(spool, numbered(3, 4))
    spool.close()


def test_a_segment_that_cannot_be_deleted_is_told_and_keeps_no_other_from_being_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = make_spool(tmp_path, segment_bytes=1)
    spool_now(spool, numbered(1, 2))
    spool_now(spool, numbered(2, 3))
    first = segments_of(tmp_path)[0]
    first.unlink()
    first.mkdir()
    assert 0 == spool.free(1)
    assert "the oldest segment cannot be deleted" in caplog.text
    first.rmdir()
    spool_now(spool, numbered(3, 4))
    assert [2, 3] == numbers_in(tmp_path)


def test_a_last_number_that_cannot_be_noted_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool = make_spool(tmp_path)
    spool_now(spool, numbered(1, 3))
    (tmp_path / "epoch.new").mkdir()
    assert 0 == spool.close()
    assert f"spool {tmp_path}: the last number cannot be noted" in caplog.text
    (tmp_path / "epoch.new").rmdir()
    spool_now(make_spool(tmp_path), numbered(3, 4))
    assert [1, 2, 3] == numbers_in(tmp_path)


def test_with_no_descriptor_free_it_is_synced_later(tmp_path: Path, fsyncs: list[str]) -> None:
    spool = make_spool(tmp_path)
    spool_now(spool, numbered(1, 3))
    fsyncs.clear()
    with no_descriptor_free():
        spool.sync()
    assert [] == fsyncs
    assert 1 == spool.write_errors
    spool.sync()
    assert segments_of(tmp_path)[0].name == fsyncs[0]


def test_while_it_is_being_opened_write_waits_for_nobody(tmp_path: Path) -> None:
    """Opening may hang with its disk; the lock of another collector keeps it for a tenth of a second."""
    other = Lock(str(tmp_path), 4711)
    spool = make_spool(tmp_path, lock_owner=4712)
    spool.add("peer", [b"x"], 1)
    opening = threading.Thread(target=spool.open)
    opening.start()
    within(1, lambda: spool.due_in is None)
    begun = time.monotonic()
    spool.write()
    assert time.monotonic() - begun < 0.05
    opening.join()
    other.release()


def test_each_segment_is_synced_and_once_its_directory(tmp_path: Path, fsyncs: list[str]) -> None:
    spool = make_spool(tmp_path, segment_bytes=100)
    spool.open()
    fsyncs.clear()
    spool_now(spool, numbered(1, 2))
    spool.sync()
    first = segments_of(tmp_path)[0].name
    assert [first, tmp_path.name] == fsyncs
    spool.sync()
    assert 2 == len(fsyncs)
    spool_now(spool, numbered(2, 3))
    spool_now(spool, numbered(3, 4))
    fsyncs.clear()
    spool.sync()
    _, second, third = [path.name for path in segments_of(tmp_path)]
    assert [second, third, tmp_path.name] == fsyncs
    spool_now(spool, numbered(4, 5))
    fsyncs.clear()
    spool.close()
    assert segments_of(tmp_path)[3].name in fsyncs


def test_what_is_never_synced_is_not_kept_open(tmp_path: Path) -> None:
    spool = make_spool(tmp_path, segment_bytes=1, sync=False)
    spool_now(spool, numbered(1, 2))
    before = os.listdir("/proc/self/fd")
    for number in range(2, 10):
        spool_now(spool, numbered(number, number + 1))
    assert before == os.listdir("/proc/self/fd")
    spool.close()
    assert len(before) - 1 == len(os.listdir("/proc/self/fd"))


def test_what_cannot_be_synced_is_told_and_counted_and_synced_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, fsyncs: list[str]
) -> None:
    directory = tmp_path / "spool"
    spool = make_spool(directory)
    spool_now(spool, [b"x"])
    directory.rename(tmp_path / "away")
    spool.sync()
    assert 1 == spool.write_errors
    assert f"spool {directory}: cannot be synced" in caplog.text
    (tmp_path / "away").rename(directory)
    fsyncs.clear()
    spool.sync()
    assert ["spool"] == fsyncs
    assert 1 == spool.write_errors


def test_lone_records_take_no_more_memory_than_is_counted(tmp_path: Path) -> None:
    spool = make_spool(tmp_path, limit=MiB)
    tracemalloc.start()
    try:
        number = 0
        while not spool.dropped_records:
            number += 1
            spool.add("peer", numbered(number, number + 1, 40), 10**18 + number)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert MiB / 2 < taken < 1.1 * MiB


@pytest.mark.slow
def test_what_comes_while_others_are_written_is_neither_lost_nor_doubled_nor_miscounted(
    tmp_path: Path,
) -> None:
    spool = make_spool(tmp_path, segment_bytes=100_000)
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            spool.write()
            if spool.trim_due:
                spool.trim()

    writing = threading.Thread(target=write)
    writing.start()
    total = 20_000
    for number in range(1, total + 1, 2):
        spool.add("peer", numbered(number, number + 2), 1)
    within(20, lambda: spool.spooled_records == total)
    done.set()
    writing.join()
    assert 0 == spool.waiting_bytes == spool.dropped_records
    assert list(range(1, total + 1)) == numbers_in(tmp_path)
    assert numbered(1, total + 1) == payloads_in(tmp_path)
    assert sum(path.stat().st_size for path in segments_of(tmp_path)) == spool.bytes


@needs_root
@pytest.mark.slow
def test_on_a_volume_that_is_read_only_for_a_while_all_is_written_in_the_end(
    tmp_path: Path, volumes: Volumes
) -> None:
    home = tmp_path / "home"
    volumes.tmpfs(home, "4m")
    first = make_spool(home / "spool")
    spool_now(first, numbered(1, 3))
    first.close()
    run("mount", "-o", "remount,ro", home)
    spool = make_spool(home / "spool")
    assert not spool.open()
    spool_now(spool, numbered(3, 5))
    spool_now(spool, numbered(5, 7))
    assert spool.write_errors == 1
    run("mount", "-o", "remount,rw", home)
    write_again(spool)
    assert [1, 2, 3, 4, 5, 6] == numbers_in(home / "spool")
    spool.close()


@needs_root
@pytest.mark.slow
def test_on_a_volume_that_hangs_nothing_waits_but_the_thread_and_the_loss_is_a_gap(
    tmp_path: Path, volumes: Volumes
) -> None:
    home = tmp_path / "home"
    volumes.ext4(home)
    spool = make_spool(home / "spool", limit=10_000)
    spool_now(spool, numbered(1, 3))
    mark = spool.mark()
    volumes.freeze(home)
    spool.add("peer", numbered(3, 5), 1)
    writing = threading.Thread(target=spool.write)
    writing.start()
    begun = time.monotonic()
    for number in range(5, 105):
        spool.add("peer", numbered(number, number + 1, 1000), 1)
        spool.tell_drops()
    assert spool.position(mark)
    assert spool.trim_due is (spool.due_in is None)
    assert time.monotonic() - begun < 1
    assert writing.is_alive()
    assert spool.waiting_bytes <= 10_000
    dropped = spool.dropped_records
    assert dropped > 80
    volumes.thaw()
    writing.join()
    spool_now(spool, numbered(105, 106))
    assert [*range(1, 105 - dropped), 105] == numbers_in(home / "spool")
    spool.close()


@needs_root
@pytest.mark.slow
def test_a_full_volume_of_its_own_costs_the_oldest_and_it_goes_on_by_itself(
    tmp_path: Path, volumes: Volumes
) -> None:
    home = tmp_path / "small"
    volumes.tmpfs(home, "20m")
    spool = make_spool(home / "spool", limit=4 * MiB, segment_bytes=2 * MiB)
    deadline = time.monotonic() + 30
    number, size = 1, 100_000
    while spool.write_errors < 2:
        assert time.monotonic() < deadline
        if spool.waiting_bytes < 3 * MiB:
            spool_now(spool, numbered(number, number + 1, size))
            number += 1
        else:
            spool.write()
        spool.sync()
        if spool.trim_due:
            spool.trim()
    if spool.trim_due:
        spool.trim()
    write_again(spool)
    spool_now(spool, numbered(number, number + 1, size))
    assert 0 == spool.waiting_bytes == spool.dropped_records
    numbers = numbers_in(home / "spool")
    assert number == numbers[-1]
    assert list(range(numbers[0], number + 1)) == numbers
    assert 1 < numbers[0] < number - 50
    spool.close()


@needs_root
@pytest.mark.slow
def test_without_room_the_oldest_make_it_for_all_that_waits_which_is_written_at_once(
    tmp_path: Path, volumes: Volumes
) -> None:
    """A segment for each pause would be less than what comes meanwhile."""
    home = tmp_path / "small"
    volumes.tmpfs(home, "20m")
    spool = make_spool(home / "spool", limit=8 * MiB, segment_bytes=MiB)
    number, size = 1, 100_000
    while not spool.write_errors:
        spool_now(spool, numbered(number, number + 1, size))
        number += 1
    for more in range(number, number + 60):
        spool.add("10.0.0.7:51934", numbered(more, more + 1, size), 1)
    assert spool.waiting_bytes > 6_000_000
    spool.trim()
    spool.write()
    assert (spool.waiting_bytes, spool.dropped_records, spool.write_errors) == (0, 0, 1)
    numbers = numbers_in(home / "spool")
    assert list(range(numbers[0], number + 60)) == numbers
    spool.close()
