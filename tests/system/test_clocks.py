"""Clocks that were wrong for a while: which backups go, and when a file is looked at again.

The clock is moved for real, for the collector alone (tests/support/clock.py), and so are the mtimes of what
it writes. Not tested: `max_age_days` under a clock that is ahead, where every backup is as old as it says;
the time zone read again at SIGHUP, which belongs to reloading.
"""

from __future__ import annotations

import calendar
import os
import re
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.admin import ADMIN, ask
from tests.support.frames import make_frame
from tests.support.numbered import BACKUPS, MAX_BYTES, SECONDS, Numbered, restart, rollover
from tests.support.volumes import needs_root, run
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.clock import Clock
    from tests.support.collectors import Collector

    MakeCollector = Callable[..., Collector]

pytestmark = pytest.mark.slow

HOUR, DAY = 3600, 86_400


ROUNDS = BACKUPS + 2


IN_2099 = calendar.timegm((2099, 1, 1, 0, 0, 0))
IN_1970 = calendar.timegm((1970, 1, 2, 0, 0, 0))
DELETED = re.compile(r" INFO (\S+): deleted, which frees (\d+) bytes: (.*)$", re.MULTILINE)


def metric(collector: Collector, name: str) -> float:
    """Return the value of a metric, named with its labels."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", ask(collector, "/metrics")[2], re.MULTILINE)
    assert found, name
    return float(found[1])


# --- which backups go ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "compressed"])
@pytest.mark.parametrize("by", ["size", "time"])
@pytest.mark.parametrize("restarts", [False, True], ids=["running", "restarted"])
@pytest.mark.parametrize(
    "wrong",
    [2 * DAY, IN_2099 - time.time(), IN_1970 - time.time()],
    ids=["two days ahead", "in 2099", "in 1970"],
)
def test_the_newest_backups_stay_while_a_clock_is_wrong_and_once_it_is_right(  # noqa: PLR0913 - all cases
    clock: Clock,
    make_collector: MakeCollector,
    wrong: float,
    by: str,
    *,
    restarts: bool,
    compress: bool,
) -> None:
    collector = make_collector(rollover(by, compress=compress)).start(env=clock.environment)
    records = Numbered(collector)
    second = 0
    for offset in (0, wrong, 0):
        if records.sent and restarts:
            restart(collector, env=clock.environment)
        for _ in range(ROUNDS):
            second += 2
            clock.set(offset + second)
            records.send(30)
            records.settle(BACKUPS, compress=compress)
            records.assert_newest()
        assert BACKUPS == len(records.backups())


@pytest.mark.parametrize("ahead", [HOUR, 2 * DAY, IN_2099 - time.time()], ids=["hour", "two days", "in 2099"])
def test_one_backup_from_the_future_costs_none_that_are_made_later(
    clock: Clock, make_collector: MakeCollector, ahead: float
) -> None:
    """It counts as older than every other, so it is the first to go."""
    collector = make_collector(rollover("size", compress=False)).start(env=clock.environment)
    records = Numbered(collector)
    records.send(30)
    clock.set(ahead)
    records.send(30)
    clock.set(0)
    records.send(30)  # the file had lines from the future; those behind them are of now
    right_again = records.sent
    for _ in range(BACKUPS):
        records.send(20)
        records.settle(BACKUPS, compress=False)
        assert set(range(right_again, records.sent)) <= set(records.in_files())


@pytest.mark.parametrize("how", ["utc, by SIGHUP", "utc, by restart", "zone, by restart"])
def test_the_newest_backups_stay_when_labels_go_back_by_half_a_day(
    clock: Clock, make_collector: MakeCollector, how: str
) -> None:
    east = clock.environment | {"TZ": "Pacific/Kiritimati"}  # UTC+14
    collector = make_collector(rollover("time", compress=False)).start(env=east)
    records = Numbered(collector)
    for second in range(2, 4 * ROUNDS, 2):
        clock.set(second)
        if second == 2 * ROUNDS:
            if how.startswith("utc"):
                collector.configure(rollover("time", compress=False, more="utc = true\n"))
            if how.endswith("SIGHUP"):
                assert collector.process
                collector.process.send_signal(signal.SIGHUP)
                within(SECONDS, lambda: "SIGHUP: changed: " in collector.stderr, "another configuration")
            else:
                restart(collector, env=clock.environment | {"TZ": "UTC"})
        records.send(5)
        records.settle(BACKUPS, compress=False)
        records.assert_newest()
    assert BACKUPS == len(records.backups())


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "compressed"])
def test_the_night_that_daylight_saving_ends_costs_no_record(
    clock: Clock, make_collector: MakeCollector, *, compress: bool
) -> None:
    """At 01:00 UTC 03:00 CEST becomes 02:00 CET: for an hour labels are told a second time."""
    config = f'[rollover]\nwhen = "M"\nbackup_count = 30\ncompress = {str(compress).lower()}\n'
    begin = calendar.timegm((2026, 10, 25, 0, 20, 0))
    clock.set_to(begin)
    collector = make_collector(config).start(env=clock.environment | {"TZ": "Europe/Berlin"})
    records = Numbered(collector)
    for minute in range(110):
        clock.set_to(begin + 60 * minute)
        records.send(1)
        records.settle(30, compress=compress)
        assert max(0, minute - 30) == records.in_files()[0], f"after {minute} minutes"
        records.assert_newest()
    assert 30 == len(records.backups())


def test_each_backup_that_goes_for_backup_count_is_told_and_counted(make_collector: MakeCollector) -> None:
    collector = make_collector(rollover("size", compress=False, backups=2) + ADMIN).start()
    records = Numbered(collector)
    for _ in range(5):
        records.send(30)
    records.settle(2, compress=False)
    gone = metric(collector, "collector_rollovers_total") - 2
    within(SECONDS, lambda: gone <= len(DELETED.findall(collector.stderr)), "each is told")
    told = DELETED.findall(collector.stderr)
    assert gone == len(told)
    assert len(told) == len({path for path, _, _ in told})
    for path, size, why in told:
        assert "backup_count = 2" == why
        assert path.startswith(f"{collector.directory}/app.log.2")
        assert not os.path.lexists(path)
        assert 0 < int(size) <= MAX_BYTES
    name = 'collector_deleted_backups_total{by="%s"}'
    within(SECONDS, lambda: gone == metric(collector, name % "backup_count"), "each is counted")
    assert 0 == metric(collector, name % "retention")


def test_retention_takes_what_is_from_the_future_for_oldest_and_is_counted_by_itself(
    make_collector: MakeCollector,
) -> None:
    """Whatever the label says, and whichever file it is of."""
    collector = make_collector("[retention]\nmax_total_bytes = 2500\n" + ADMIN)
    collector.directory.mkdir()
    now = time.time()
    for name, age in {
        "app.log.2026-01-01": 3 * DAY,
        "app.log.2026-01-02": 2 * DAY,
        "app.log.2025-12-31": -DAY,
        "web.log.2026-01-03": -2 * DAY,
    }.items():
        path = collector.directory / name
        path.write_bytes(b"x" * 1000)
        os.utime(path, (now - age, now - age))
    collector.start()
    within(SECONDS, lambda: len(DELETED.findall(collector.stderr)) >= 2)
    assert {"app.log.2026-01-01", "app.log.2026-01-02"} == collector.files().keys()
    assert {"[retention] max_total_bytes = 2500"} == {why for _, _, why in DELETED.findall(collector.stderr)}
    name = 'collector_deleted_backups_total{by="%s"}'
    within(SECONDS, lambda: 2 == metric(collector, name % "retention"), "they are counted")
    assert 0 == metric(collector, name % "backup_count")


# --- intervals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [(0, -HOUR), (0, HOUR), (IN_2099 - time.time(), 0), (0, IN_1970 - time.time())],
    ids=["an hour back", "an hour ahead", "back from 2099", "back to 1970"],
)
def test_a_file_that_is_moved_away_is_found_missing_within_a_second_whatever_the_clock_does(
    clock: Clock, make_collector: MakeCollector, before: float, after: float
) -> None:
    clock.set(before)
    collector = make_collector('[rollover]\nwhen = "never"\n').start(env=clock.environment)
    records = Numbered(collector)
    records.send(1)
    clock.set(after)
    records.send(1)
    file = collector.directory / "app.log"
    file.rename(collector.directory / "moved")

    def made_anew() -> bool:
        collector.send(make_frame("again"))
        return file.exists()

    within(3, made_anew, "lines go into a new app.log")


@needs_root
@pytest.mark.parametrize("after", [-HOUR, 0, HOUR], ids=["an hour back", "right", "an hour ahead"])
def test_a_rollover_that_failed_is_tried_again_after_five_seconds_whatever_the_clock_does(
    clock: Clock, make_collector: MakeCollector, after: float
) -> None:
    config = f'[rollover]\nwhen = "never"\nmax_bytes = {MAX_BYTES}\n'
    collector = make_collector(config).start(env=clock.environment)
    records = Numbered(collector)
    records.send(5)
    file = collector.directory / "app.log"
    run("mount", "--bind", file, file)  # as `docker run -v FILE:FILE` does: it cannot be renamed
    try:
        records.send(30)
        within(SECONDS, lambda: "cannot roll over" in collector.stderr)
        clock.set(after)
    finally:
        subprocess.run(["umount", file], check=True)

    def rolled_over() -> bool:
        records.send(1)
        return bool(records.backups())

    within(7, rolled_over, "it is tried again")
    records.assert_newest()
