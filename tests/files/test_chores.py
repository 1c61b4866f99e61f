"""What rollovers leave to do: when it is done, what is tried again, and what it says. With real files."""

from __future__ import annotations

import logging
import os
import re
import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import gevent
import pytest

from collector.files import backups, chores
from collector.files.append_file import Outcome
from collector.files.chores import Chores
from collector.files.rotating import RotatingFile
from tests.support.admin import ADMIN, stats
from tests.support.frames import make_frame
from tests.support.handlers import BY_SIZE, Cache
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from collector.config.tables import Rollover
    from collector.files.handler import Handler
    from tests.support.collectors import Collector


class House:
    """The chores of a directory, of which nothing is done but by step(), and whether lines wait."""

    def __init__(self, directory: Path, patience_seconds: float = 5.0) -> None:
        self.cache = Cache(directory)
        self.directory = directory
        self.lines_wait = False
        self.chores = Chores(self.cache.stats, self.busy_at, sync=False, patience_seconds=patience_seconds)
        self._greenlet = gevent.spawn(self.chores.run)

    def busy_at(self) -> float:
        return time.monotonic() if self.lines_wait else 0.0

    def handler(self, name: str = "app.log", *, compress: bool = False, keep: int = 2) -> Handler:
        rollover = replace(BY_SIZE, compress=compress, backup_count=keep)
        return self.cache.get(name, rollover)

    def add(
        self, handler: Handler, *backups: str, made_by: Rollover | None = None, half_made: str = ""
    ) -> None:
        outcome = Outcome()
        outcome.backups, outcome.half_made = backups, half_made
        outcome.made_by = made_by or handler.inbox.rollover
        self.chores.add(handler, outcome)

    def make(self, *names: str) -> None:
        for name in names:
            (self.directory / name).write_text(f"{name}\n")

    def names(self) -> list[str]:
        return sorted(path.name for path in self.directory.iterdir() if path.name[0] != ".")

    def done(self) -> None:
        """Return when there is nothing left to do but what has failed."""
        with gevent.Timeout(30):
            while not self.chores.idle:
                gevent.sleep(0.001)

    def stop(self) -> None:
        self._greenlet.kill()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.stop()


def test_each_deletion_has_a_line_and_is_counted(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "collector")
    house.make("app.log.2026-11-20", "app.log.2026-11-21", "app.log.2026-11-22")
    house.add(house.handler(), "app.log.2026-11-21", "app.log.2026-11-22")
    house.done()
    assert ["app.log.2026-11-21", "app.log.2026-11-22"] == house.names()
    path = house.directory / "app.log.2026-11-20"
    assert f"{path}: deleted, which frees 19 bytes: backup_count = 2" in caplog.messages
    assert {"backup_count": 1, "retention": 0} == house.cache.stats.deleted_backups_total
    assert 19 == house.cache.stats.deleted_bytes_total


@pytest.mark.parametrize(("then", "now", "left"), [(0, 1, 3), (1, 0, 3), (1, 2, 2), (2, 1, 2), (1, 1, 1)])
def test_none_goes_that_the_configuration_keeps_or_has_kept_at_the_rollover(
    house: House, then: int, now: int, left: int
) -> None:
    house.make("app.log.2026-11-20", "app.log.2026-11-21", "app.log.2026-11-22")
    handler = house.handler(keep=now)
    made_by = replace(BY_SIZE, backup_count=then)
    house.add(handler, "app.log.2026-11-22", made_by=made_by)
    house.done()
    assert left == len(house.names())


def test_none_goes_before_it_is_known_what_a_new_configuration_says(house: House) -> None:
    house.make("app.log.2026-11-20", "app.log.2026-11-21")
    handler = house.handler(keep=1)
    handler.inbox.outdated = True
    house.add(handler, "app.log.2026-11-21")
    house.done()
    assert 2 == len(house.names())


def test_nothing_is_begun_while_lines_wait(tmp_path: Path) -> None:
    house = House(tmp_path, patience_seconds=3600.0)
    house.lines_wait = True
    house.make("app.log.2026-11-20", "app.log.2026-11-21")
    house.add(house.handler(keep=1), "app.log.2026-11-21")
    gevent.sleep(0.1)
    assert 2 == len(house.names())
    house.lines_wait = False
    house.done()
    assert ["app.log.2026-11-21"] == house.names()
    house.stop()


def test_lines_that_always_wait_do_not_fill_the_volume(tmp_path: Path) -> None:
    house = House(tmp_path, patience_seconds=0.1)
    house.lines_wait = True
    house.make("app.log.2026-11-20", "app.log.2026-11-21")
    begun = time.monotonic()
    house.add(house.handler(keep=1), "app.log.2026-11-21")
    house.done()
    assert ["app.log.2026-11-21"] == house.names()
    assert time.monotonic() - begun >= 0.1
    house.stop()


@pytest.mark.parametrize("compress", [False, True])
def test_what_lines_still_go_into_is_neither_compressed_nor_deleted(house: House, *, compress: bool) -> None:
    """Where a new file cannot be made after the rename, the old one goes on under the name of the backup."""
    house.make("app.log.2026-11-20", "app.log.2026-11-21")
    handler = house.handler(compress=compress, keep=1)
    house.add(handler, "app.log.2026-11-20", half_made="app.log.2026-11-20")
    house.done()
    assert "app.log.2026-11-20" in house.names()


@pytest.mark.slow
def test_what_fails_is_tried_again_after_a_minute_doubling_to_an_hour(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A thousandth of the time will do here."""
    assert (60, 3600) == (chores._FIRST_PAUSE_SECONDS, chores._LAST_PAUSE_SECONDS)  # noqa: SLF001 - as promised
    monkeypatch.setattr(chores, "_FIRST_PAUSE_SECONDS", 0.06)
    monkeypatch.setattr(chores, "_LAST_PAUSE_SECONDS", 0.36)
    house.make("app.log.2026-11-20", "other.log.2026-11-20")
    in_the_way = house.directory / ".app.log.2026-11-20.gz.unfinished"
    in_the_way.mkdir()
    begun = time.monotonic()
    house.add(house.handler(compress=True), "app.log.2026-11-20")
    house.add(house.handler("other.log", compress=True), "other.log.2026-11-20")
    with gevent.Timeout(30):
        while len(caplog.messages) < 5:
            gevent.sleep(0.001)
    assert time.monotonic() - begun >= 0.06 + 0.12 + 0.24 + 0.36
    in_the_way.rmdir()
    with gevent.Timeout(30):
        while house.names() != ["app.log.2026-11-20.gz", "other.log.2026-11-20.gz"]:
            gevent.sleep(0.001)
    what = f"{house.directory}/app.log.2026-11-20: cannot be compressed, trying again in "
    pauses = [message.removeprefix(what).split()[0] for message in caplog.messages]
    assert ["0.06", "0.12", "0.24", "0.36", "0.36"] == pauses


def test_a_directory_that_is_gone_leaves_nothing_to_do(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    handler = house.cache.get("gone/app.log", BY_SIZE)
    house.add(handler, "app.log.2026-11-20")
    house.done()
    assert [] == caplog.messages


def test_a_fault_of_ours_in_one_file_stops_no_other(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    compress = backups.compress

    def fail_once(path: str, mode: int, sync: bool) -> None:
        if "app.log" in path:
            raise ValueError("of ours")
        compress(path, mode, sync)

    monkeypatch.setattr(backups, "compress", fail_once)
    house.make("app.log.2026-11-20", "other.log.2026-11-20")
    house.add(house.handler(compress=True), "app.log.2026-11-20")
    house.add(house.handler("other.log", compress=True), "other.log.2026-11-20")
    house.done()
    assert ["app.log.2026-11-20", "other.log.2026-11-20.gz"] == house.names()
    assert {"chores": 1} == {where: n for where, n in house.cache.stats.faults_total.items() if n}
    assert "of ours" in caplog.text


def test_what_is_pending_keeps_all_until_it_is_known_what_a_new_configuration_says(house: House) -> None:
    """Also for a file whose handler has been evicted, and hears of nothing any more."""
    house.make("app.log.2026-11-20", "app.log.2026-11-21")
    house.lines_wait = True
    handler = house.handler(keep=1)
    house.add(handler, "app.log.2026-11-21")
    gevent.sleep(0.05)
    handler.inbox.outdated = True
    house.lines_wait = False
    house.done()
    assert 2 == len(house.names())


def test_a_backup_half_made_when_its_handler_is_evicted_is_compressed_after_all(tmp_path: Path) -> None:
    cache = Cache(tmp_path, max_open=1)
    rollover = replace(BY_SIZE, compress=True)
    handler = cache.get("app.log", rollover)
    cache.leave(handler, "0123456789\n")
    cache.settle()
    (tmp_path / "app.log").rename(tmp_path / "app.log.2026-11-20")
    assert isinstance(handler.file, RotatingFile)
    handler.file.half_made = "app.log.2026-11-20"
    cache.write("b.log", "c.log")
    with gevent.Timeout(30):
        while not (tmp_path / "app.log.2026-11-20.gz").exists():
            gevent.sleep(0.001)


# --- in a running collector ---------------------------------------------------------------------------------

TEXT = '[format]\ntext = "%(name)s %(message)s"\n'


def numbers(collector: Collector) -> list[int]:
    return sorted(int(n) for data in collector.files().values() for n in re.findall(rb" (\d{7}) ", data))


@pytest.mark.slow
@pytest.mark.parametrize("keep", [1, 3])
def test_bursts_never_cost_a_newer_backup_for_an_older_one(
    make_collector: Callable[..., Collector], keep: int
) -> None:
    """What is listed while a rollover is still under way was taken for older than what was just made."""
    limits = f'[rollover]\nwhen = "never"\nmax_bytes = 2000\nbackup_count = {keep}\n'
    collector = make_collector(TEXT + limits + ADMIN).start()
    sent = 0
    for burst in range(25):
        with collector.connect() as client:
            for _ in range(4 + burst % 5):
                client.sendall(b"".join(make_frame(f"{sent + n:07} {'-' * 80}") for n in range(100)))
                sent += 100
        within(20, lambda: stats(collector)["records"]["written"] == sent, "all is written")  # noqa: B023
        within(20, lambda: len(collector.files()) == keep + 1, "the others are gone")
        found = numbers(collector)
        assert list(range(found[0], sent)) == found, "the newest are there, without a gap"


@pytest.mark.slow
def test_backup_count_holds_for_files_rolled_over_by_signal_whose_handlers_were_evicted(
    make_collector: Callable[..., Collector],
) -> None:
    config = '[files]\nmax_open = 1\n[rollover]\nwhen = "never"\nbackup_count = 1\n'
    collector = make_collector(TEXT + config + ADMIN).start()
    for n in range(4):
        collector.send(b"".join(make_frame("x", logger) for logger in "abc"))
        within(5, lambda: stats(collector)["records"]["written"] == 3 * (n + 1))  # noqa: B023
        os.kill(collector.worker, signal.SIGUSR1)
        within(5, lambda: stats(collector)["files"]["rollovers"] == 3 * (n + 1), "all are rolled over")  # noqa: B023
    within(5, lambda: len(collector.files()) == 6, "a backup of each is left")
