from __future__ import annotations

import os
import shutil
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.spool.checkpoint import Checkpoint
from collector.spool.reading import OLDEST, Position, ReplacedError, SpoolReader
from collector.spool.segments import HEADER_BYTES
from tests.support.spools import (
    PEER,
    make_spool,
    numbered,
    numbers_in,
    payloads_in,
    read_all,
    segments_of,
    spool_now,
)

if TYPE_CHECKING:
    from pathlib import Path

    from collector.spool.appending import Spool

in_any_directory = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30
)


def spool_of(directory: Path, *sizes: int, **how: int) -> Spool:
    """Return a spool into which blocks of so many records, numbered from 1 on, are written."""
    spool = make_spool(directory, **how)
    first = 1
    for size in sizes:
        spool_now(spool, numbered(first, first + size), received=first)
        first += size
    return spool


def test_a_record_comes_with_all_that_was_known_of_it(tmp_path: Path) -> None:
    spool = spool_of(tmp_path, 2, 1)
    one, two, three = read_all(tmp_path)
    assert [(1, 1), (2, 1), (3, 3)] == [(spooled.number, spooled.received) for spooled in (one, two, three)]
    assert {PEER} == {one.peer, two.peer, three.peer}
    assert numbered(1, 4) == [one.payload, two.payload, three.payload]
    assert f"{spool.collector_id}-{one.epoch:016x}-3" == three.id
    assert segments_of(tmp_path)[0].name == one.after.segment.name
    assert [2, 3, 4] == [spooled.after.number for spooled in (one, two, three)]


def test_a_read_takes_as_many_and_as_large_as_asked_but_for_a_single_larger_one(tmp_path: Path) -> None:
    spool = make_spool(tmp_path)
    spool_now(spool, [b"a" * 10, b"b" * 10, b"c" * 100, b"d" * 10])
    reader = SpoolReader(str(tmp_path), OLDEST)
    assert [10, 10] == [len(spooled.payload) for spooled in reader.read(9, 20)]
    assert [100] == [len(spooled.payload) for spooled in reader.read(9, 20)]
    assert [] == reader.read(0, 20)
    assert [10] == [len(spooled.payload) for spooled in reader.read(1, 0)]
    assert [] == reader.read(9, 20)
    spool_now(spool, [b"e"])
    assert [b"e"] == [spooled.payload for spooled in reader.read(9, 20)]
    reader.close()


@pytest.mark.parametrize("size", [0, 1, HEADER_BYTES - 1])
def test_a_segment_whose_first_write_a_kill_has_cut_short_is_skipped_and_nothing_is_bad(
    tmp_path: Path, size: int
) -> None:
    spool_of(tmp_path, 2)
    (segment,) = segments_of(tmp_path)
    segment.write_bytes(segment.read_bytes()[:size])
    spool_now(make_spool(tmp_path), numbered(3, 4))
    reader = SpoolReader(str(tmp_path), OLDEST)
    assert numbered(3, 4) == [spooled.payload for spooled in reader.read(9, 999)]
    assert 0 == reader.bad_blocks
    reader.close()


@in_any_directory
@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=12),
    segment_bytes=st.integers(1, 500),
    at_once=st.integers(1, 7),
)
def test_from_behind_any_record_a_reader_finds_exactly_the_rest(
    tmp_path: Path, sizes: list[int], segment_bytes: int, at_once: int
) -> None:
    directory = tmp_path / "spool"
    shutil.rmtree(directory, ignore_errors=True)
    spool_of(directory, *sizes, segment_bytes=segment_bytes)
    everything = read_all(directory, records=at_once)
    assert list(range(1, sum(sizes) + 1)) == [spooled.number for spooled in everything]
    for index, spooled in enumerate(everything):
        assert everything[index + 1 :] == read_all(directory, spooled.after, records=at_once)


def test_what_is_missing_is_a_jump_in_the_numbers(tmp_path: Path) -> None:
    spool_of(tmp_path, 3, 3, 3, segment_bytes=100)
    first, second, third = segments_of(tmp_path)
    second.unlink()
    assert [1, 2, 3, 7, 8, 9] == numbers_in(tmp_path)
    first.unlink()
    assert [7, 8, 9] == [spooled.number for spooled in read_all(tmp_path, Position(0, 0, 0, 2))]
    assert third.exists()


def test_the_loss_is_counted_whole_when_the_budget_deletes_what_three_starts_have_left(
    tmp_path: Path,
) -> None:
    spool_of(tmp_path, 2).close()
    behind = read_all(tmp_path)[-1].after
    Checkpoint.create(str(tmp_path / "elk.checkpoint"), {"position": list(behind)}).close()
    for _ in range(3):
        spool_of(tmp_path, 3, 3).close()
    last = spool_of(tmp_path, 1, max_bytes=1)
    last.trim()
    assert 1 == len(segments_of(tmp_path))
    (record,) = read_all(tmp_path, behind)
    assert 18 == record.number - behind.number


def test_numbers_that_were_read_are_skipped_wherever_they_stand(tmp_path: Path) -> None:
    spool_of(tmp_path, 3, 3)
    assert [5, 6] == [spooled.number for spooled in read_all(tmp_path, Position(0, 0, 0, 5))]
    assert [] == read_all(tmp_path, Position(0, 0, 0, 7))


def test_an_incomplete_block_is_waited_for_until_a_later_segment_was_there_before_the_read(
    tmp_path: Path,
) -> None:
    spool_of(tmp_path / "whole", 2, 2)
    data = segments_of(tmp_path / "whole")[0].read_bytes()
    directory = tmp_path / "spool"
    directory.mkdir()
    growing = directory / segments_of(tmp_path / "whole")[0].name
    reader = SpoolReader(str(directory), OLDEST)
    read = []
    for end in range(len(data) + 1):
        growing.write_bytes(data[:end])
        read += reader.read(9, 999)
    assert [1, 2, 3, 4] == [spooled.number for spooled in read]
    reader.close()

    growing.write_bytes(data[:-1])
    reader = SpoolReader(str(directory), OLDEST)
    assert [1, 2] == [spooled.number for spooled in reader.read(9, 999)]
    spool_now(make_spool(directory), numbered(3, 5))
    assert [3, 4] == [spooled.number for spooled in reader.read(9, 999)]
    assert 0 == reader.bad_blocks
    reader.close()


@pytest.mark.slow
def test_blocks_written_while_a_reader_looks_for_one_are_all_read(tmp_path: Path) -> None:
    """The first of two, where none was a moment ago, is no damaged one ahead of the second."""
    spool = make_spool(tmp_path)
    spool.open()

    def write() -> None:
        for number in range(1, 40_001, 2):
            spool.add(PEER, numbered(number, number + 1), 1)
            spool.add(PEER, numbered(number + 1, number + 2), 1)
            spool.write()

    thread = threading.Thread(target=write)
    thread.start()
    reader = SpoolReader(str(tmp_path), OLDEST)
    found: list[int] = []
    is_written = False
    while not is_written:
        is_written = not thread.is_alive()
        while some := reader.read(1000, 1_000_000):
            found += [spooled.number for spooled in some]
    reader.close()
    assert found == list(range(1, 40_001))
    assert reader.bad_blocks == 0


def test_a_damaged_block_is_counted_and_costs_its_own_records_only(tmp_path: Path) -> None:
    spool_of(tmp_path, 2, 2, 2)
    (segment,) = segments_of(tmp_path)
    data = segment.read_bytes()
    segment.write_bytes(data.replace(b"00000003", b"00000009"))
    reader = SpoolReader(str(tmp_path), OLDEST)
    assert [1, 2, 5, 6] == [spooled.number for spooled in reader.read(9, 999)]
    assert 1 == reader.bad_blocks
    reader.close()


def test_a_segment_without_a_sound_header_is_waited_for_and_then_skipped(tmp_path: Path) -> None:
    spool = spool_of(tmp_path, 2)
    (segment,) = segments_of(tmp_path)
    data = segment.read_bytes()
    segment.write_bytes(b"\0" + data[1:])
    reader = SpoolReader(str(tmp_path), OLDEST)
    assert [] == reader.read(9, 999)
    assert 0 == reader.bad_blocks
    spool.segment_bytes = 1
    spool_now(spool, numbered(3, 4))
    assert [3] == [spooled.number for spooled in reader.read(9, 999)]
    assert 1 == reader.bad_blocks
    reader.close()


@in_any_directory
@given(
    at=st.floats(0, 1, exclude_max=True),
    length=st.integers(1, 200),
    damage=st.sampled_from(["zero", "cut", "flip"]),
    which=st.integers(0, 2),
)
def test_whatever_becomes_of_a_segment_what_is_read_was_written_and_the_others_are_read_whole(
    tmp_path: Path, at: float, length: int, damage: str, which: int
) -> None:
    directory = tmp_path / "spool"
    shutil.rmtree(directory, ignore_errors=True)
    spool_of(directory, 3, 2, 1, 4, 2, 3, 1, segment_bytes=200)
    segments = segments_of(directory)
    path = segments[which % len(segments)]
    untouched = [one for one in read_all(directory) if one.after.segment.name != path.name]
    data = bytearray(path.read_bytes())
    begin = int(at * len(data))
    if damage == "cut":
        del data[begin:]
    else:
        for byte in range(begin, min(begin + length, len(data))):
            data[byte] = 0 if damage == "zero" else data[byte] ^ 0xFF
    path.write_bytes(data)
    read = read_all(directory)
    assert sorted({one.number for one in read}) == [one.number for one in read]
    assert all(one.payload.startswith(b"%08d" % one.number) for one in read)
    assert set(untouched) <= set(read)


def test_a_position_above_every_segment_waits_for_the_next_epoch(tmp_path: Path) -> None:
    spool_of(tmp_path, 3).close()
    (segment,) = segments_of(tmp_path)
    behind = read_all(tmp_path)[-1].after
    segment.unlink()
    reader = SpoolReader(str(tmp_path), behind)
    assert [] == reader.read(9, 999)
    spool_now(make_spool(tmp_path), numbered(4, 6))
    assert [4, 5] == [spooled.number for spooled in reader.read(9, 999)]
    reader.close()


def test_a_position_behind_the_end_of_a_segment_that_was_cut_back_goes_on_in_the_next(tmp_path: Path) -> None:
    spool_of(tmp_path, 3, 3)
    behind = read_all(tmp_path)[-1].after
    Checkpoint.create(str(tmp_path / "elk.checkpoint"), {"position": list(behind)}).close()
    (segment,) = segments_of(tmp_path)
    segment.write_bytes(segment.read_bytes()[:150])
    reader = SpoolReader(str(tmp_path), behind)
    assert [] == reader.read(9, 999)
    spool_of(tmp_path, 3)
    assert [7, 8, 9] == [spooled.number for spooled in reader.read(9, 999)]
    reader.close()


def test_a_segment_deleted_while_it_is_read_is_read_to_its_end(tmp_path: Path) -> None:
    spool_of(tmp_path, 3, 3, segment_bytes=100)
    reader = SpoolReader(str(tmp_path), OLDEST)
    assert [1] == [spooled.number for spooled in reader.read(1, 999)]
    segments_of(tmp_path)[0].unlink()
    assert [2, 3, 4, 5, 6] == [spooled.number for spooled in reader.read(9, 999)]
    reader.close()


def test_an_error_behind_records_is_met_at_the_next_read_and_costs_none_of_them(tmp_path: Path) -> None:
    spool_of(tmp_path, 2, 2, segment_bytes=100)
    second = segments_of(tmp_path)[1]
    aside = tmp_path / "aside"
    second.rename(aside)
    second.mkdir()
    reader = SpoolReader(str(tmp_path), OLDEST)
    assert [1, 2] == [spooled.number for spooled in reader.read(9, 999)]
    for _ in range(2):
        with pytest.raises(IsADirectoryError, match=second.name):
            reader.read(9, 999)
    reader.close()
    second.rmdir()
    aside.rename(second)
    assert [3, 4] == [spooled.number for spooled in reader.read(9, 999)]
    reader.close()


def test_another_spool_in_its_place_is_told_from_the_one_that_was_read(tmp_path: Path) -> None:
    directory = tmp_path / "spool"
    spool_of(directory, 3)
    reader = SpoolReader(str(directory), OLDEST)
    assert 3 == len(reader.read(9, 999))
    shutil.rmtree(directory)
    spool_of(directory, 2)
    with pytest.raises(ReplacedError, match="is another one now"):
        reader.read(9, 999)
    reader.close()


def test_the_end_and_the_id_say_what_there_is(tmp_path: Path) -> None:
    reader = SpoolReader(str(tmp_path), OLDEST)
    assert OLDEST == reader.end()
    assert "" == reader.collector_id
    spool = spool_of(tmp_path, 3, 3, segment_bytes=100)
    assert reader.collector_id == spool.collector_id
    last = read_all(tmp_path)[-1].after
    assert last == reader.end() == reader.end()
    spool_now(spool, numbered(7, 9))
    assert 9 == reader.end().number
    for path in segments_of(tmp_path)[1:]:
        path.unlink()
    assert 9 == reader.end().number
    reader.close()


def test_the_end_goes_on_in_the_next_segment_and_a_new_reader_finds_it_at_once(tmp_path: Path) -> None:
    reader = SpoolReader(str(tmp_path), OLDEST)
    spool = make_spool(tmp_path, segment_bytes=200)
    for number in range(1, 20):
        spool_now(spool, numbered(number, number + 1))
        assert number + 1 == reader.end().number
        assert reader.end() == SpoolReader(str(tmp_path), OLDEST).end()
    reader.close()


def test_a_spool_that_is_not_there_is_an_error_and_not_an_empty_one(tmp_path: Path) -> None:
    reader = SpoolReader(str(tmp_path / "none"), OLDEST)
    for call in (reader.end, lambda: reader.read(1, 1)):
        with pytest.raises(FileNotFoundError):
            call()


def test_one_segment_is_open_at_a_time(tmp_path: Path) -> None:
    spool_of(tmp_path, *[1] * 20, segment_bytes=1).close()
    before = os.listdir("/proc/self/fd")
    reader = SpoolReader(str(tmp_path), OLDEST)
    assert 20 == len(reader.read(99, 9999))
    assert len(before) + 1 == len(os.listdir("/proc/self/fd"))
    reader.close()
    assert before == os.listdir("/proc/self/fd")
    assert 20 == len(payloads_in(tmp_path))
