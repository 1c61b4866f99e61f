from __future__ import annotations

import os
import resource
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import gevent
import pytest

from collector.files.volumes import volume_of
from collector.reserve import Reserve
from tests.support.handlers import DEFAULTS, Cache

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path)


def test_who_asks_for_one_file_gets_one_handler(cache: Cache) -> None:
    assert cache.get("a.log") is cache.get("a.log")
    assert cache.get("a.log") is not cache.get("b.log")


def test_greenlets_that_write_to_one_file_lose_and_tear_nothing(cache: Cache, tmp_path: Path) -> None:
    def write(who: int) -> None:
        for n in range(50):
            cache.leave(cache.get("a.log"), f"{who} {n}\n")
            gevent.sleep(0)

    gevent.joinall([gevent.spawn(write, who) for who in range(20)], raise_error=True)
    cache.settle()
    lines = (tmp_path / "a.log").read_text().splitlines()
    assert sorted(f"{who} {n}" for who in range(20) for n in range(50)) == sorted(lines)
    for who in range(20):
        assert [f"{who} {n}" for n in range(50)] == [line for line in lines if line.split()[0] == str(who)]


@pytest.mark.parametrize("count", [3, 4, 5], ids=["below", "at", "above"])
def test_idle_files_above_max_open_are_closed_the_least_recently_used_first(
    tmp_path: Path, count: int
) -> None:
    cache = Cache(tmp_path, max_open=4)
    for n in range(count):
        cache.write(f"{n}.log")
        cache.settle()
    assert {f"{n}.log" for n in range(max(0, count - 4), count)} == cache.open_files()


def test_a_handler_with_lines_is_never_evicted(tmp_path: Path) -> None:
    cache = Cache(tmp_path, max_open=1)
    kept = cache.get("kept.log")
    cache.leave(kept, "1\n")
    cache.write(*(f"{n}.log" for n in range(10)))
    assert kept is cache.get("kept.log")
    cache.settle()
    assert (tmp_path / "kept.log").read_text() == "1\n"


def test_a_handler_whose_semaphore_is_held_is_never_evicted(tmp_path: Path) -> None:
    cache = Cache(tmp_path, max_open=1)
    kept = cache.get("kept.log")
    with kept.semaphore:
        cache.write("a.log", "b.log", "c.log")
        cache.settle()
        assert kept is cache.get("kept.log")


def test_an_evicted_file_is_opened_again_where_it_ended(tmp_path: Path) -> None:
    cache = Cache(tmp_path, max_open=1)
    for name in ("a.log", "b.log", "a.log"):
        cache.write(name)
        cache.settle()
    assert (tmp_path / "a.log").read_text() == "to a.log\nto a.log\n"


def test_the_cache_does_not_grow_with_the_files_it_has_seen(tmp_path: Path) -> None:
    cache = Cache(tmp_path, max_open=3)
    for n in range(50):
        cache.write(f"{n}.log")
        cache.settle()
    assert 3 == len(cache.handlers)


def test_what_is_on_disk_is_no_longer_held(cache: Cache) -> None:
    cache.write("a.log", "b.log")
    assert 2 * sys.getsizeof("to a.log\n") == cache.reserve.held
    cache.settle()
    assert (0, 2, 18) == (
        cache.reserve.held,
        cache.stats.written_records_total,
        cache.stats.written_bytes_total,
    )


def test_a_volume_is_told_without_touching_it() -> None:
    assert volume_of("/proc/self") != volume_of("/tmp")  # noqa: S108 - any directory will do
    device = os.stat("/proc").st_dev
    assert f"{os.major(device)}:{os.minor(device)}" == volume_of("/proc/does/not/exist")


def test_mounts_are_told_by_whole_names() -> None:
    assert volume_of("/procession") == volume_of("/")


def test_however_many_volumes_stall_there_is_room_for_one_more() -> None:
    reserve = Reserve(1_000_000)
    shares = [reserve.share() for _ in range(10)]
    for share in shares:
        while not share.full:
            share.take(100)
        assert not reserve.full
    assert shares[0].held == 500_000
    assert not reserve.share().full


# --- changes to a file ---


@pytest.mark.parametrize("max_bytes", [0, 1000], ids=["unknown ends", "known ends"])
def test_a_record_half_written_to_a_full_disk_is_finished_before_its_file_is_changed(
    cache: Cache, tmp_path: Path, max_bytes: int
) -> None:
    """A limit on the size of files (EFBIG) stands in for the full disk."""
    handler = cache.get("a.log", replace(DEFAULTS.rollover, max_bytes=max_bytes))
    moved = tmp_path / "moved"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        cache.leave(handler, "0123456789abcde\n", "end\n")
        with gevent.Timeout(30):
            while not handler.pause:
                gevent.sleep(0.001)
        assert "0123456789" == (tmp_path / "a.log").read_text()
        (tmp_path / "a.log").rename(moved)
        cache.handlers.reconfigure(DEFAULTS.files, DEFAULTS.quarantine)
        cache.handlers.roll_over()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    cache.settle()
    assert moved.read_text().startswith("0123456789abcde\n")
    lines = [path.read_text() for path in tmp_path.iterdir() if path.is_file()]
    assert "0123456789abcde\nend\n" == "".join(sorted(lines))


def test_a_file_that_waits_to_be_changed_is_not_evicted(tmp_path: Path) -> None:
    cache = Cache(tmp_path, max_open=1)
    cache.write("a.log", "b.log")
    cache.settle()
    cache.handlers.roll_over()
    cache.settle()
    assert 4 == len([path for path in tmp_path.iterdir() if path.name[0] != "."])
    assert cache.handlers.idle


def test_who_waits_for_room_goes_on_when_nobody_is_to_wait_any_more() -> None:
    reserve = Reserve(100)
    share = reserve.share()
    share.take(100)
    waiting = [gevent.spawn(reserve.wait), gevent.spawn(share.wait)]
    gevent.sleep(0)
    assert not any(greenlet.dead for greenlet in waiting)
    reserve.reconfigure(100, waits=False)
    gevent.joinall(waiting, timeout=5)
    assert all(greenlet.dead for greenlet in waiting)


def test_a_larger_reserve_has_room_at_once() -> None:
    reserve = Reserve(100)
    share = reserve.share()
    share.take(100)
    assert (True, True) == (reserve.full, share.full)
    reserve.reconfigure(1000, waits=True)
    assert (False, False) == (reserve.full, share.full)


@pytest.mark.slow
def test_lines_do_not_wait_until_all_idle_files_have_rolled_over(cache: Cache, tmp_path: Path) -> None:
    names = [f"{n}.log" for n in range(1000)]
    cache.write(*names)
    cache.settle()
    cache.handlers.roll_over()
    cache.write("new.log")
    with gevent.Timeout(30):
        while not (tmp_path / "new.log").exists():
            gevent.sleep(0)
    assert any(handler.changes for handler in cache.handlers.all())
    cache.settle()
    assert 2 * 1000 + 1 == len(list(tmp_path.glob("*.log*")))


# --- what waits ---


def test_a_long_backlog_is_taken_in_portions_and_in_order(cache: Cache) -> None:
    handler = cache.get("a.log")
    for number in range(25_000):
        handler.inbox.put(f"{number}\n")
    cache.handlers.submit()
    portions = []
    while handler.records:
        portions.append(handler.take())
        handler.settled()
    assert [10_000, 10_000, 5_000] == [portion.records for portion in portions]
    assert "".join(f"{number}\n" for number in range(25_000)).encode() == b"".join(
        portion.data for portion in portions
    )


def test_portions_are_bounded_by_bytes_too_but_for_a_single_line(cache: Cache) -> None:
    handler = cache.get("a.log")
    for size in (3, 5, 1, 1):
        handler.inbox.put("x" * (size << 20))
    cache.handlers.submit()
    records = []
    while handler.records:
        records.append(handler.take().records)
        handler.settled()
    assert [1, 1, 2] == records


def test_how_long_the_oldest_record_waits_does_not_grow_while_others_follow_it(cache: Cache) -> None:
    """A file that always has lines waiting is behind by no more than the lines that wait."""
    handler = cache.get("a.log")
    moments = []
    for _ in range(5):
        for _ in range(10_500):
            handler.inbox.put("x\n")
        cache.handlers.submit()
        handler.take()
        handler.settled()
        moments.append(time.monotonic())
    assert 2500 == handler.records  # all of them from the last round
    assert moments[2] <= handler.since <= moments[4]


TEXTS = {"ASCII": "plain", "CJK": "\u6c49\u5b57", "Latin-1": "\xfc\xe4", "surrogate": "\ud800"}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_what_is_on_its_way_counts_with_all_its_bytes_and_is_given_back(cache: Cache, text: str) -> None:
    handler = cache.get("a.log")
    for _ in range(1000):
        handler.inbox.put(text * 100 + "\n")
    cache.handlers.submit()
    lines = handler.take()
    assert len(lines.data) <= cache.reserve.held == lines.held
    cache.settle()
    assert (0, 0) == (handler.records, cache.reserve.held)


def test_a_file_that_cannot_be_written_has_the_rollover_that_was_asked_for_last(cache: Cache) -> None:
    handler = cache.get("a.log")
    cache.leave(handler, "it waits\n")
    cache.handlers.reconfigure(DEFAULTS.files, DEFAULTS.quarantine)
    rollover = replace(DEFAULTS.rollover, backup_count=1)
    cache.get("a.log", rollover)
    assert (rollover, False) == (handler.inbox.rollover, handler.inbox.outdated)
    assert 2 == len(handler.changes)
