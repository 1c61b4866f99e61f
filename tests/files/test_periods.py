from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from collector.files.periods import Schedule, day

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def in_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ZoneInfo]]:
    """Return a function that sets the local time zone of the process."""

    def set_zone(name: str) -> ZoneInfo:
        monkeypatch.setenv("TZ", name)
        time.tzset()
        return ZoneInfo(name)

    yield set_zone
    monkeypatch.undo()
    time.tzset()


def utc(*when: int) -> float:
    return datetime(*when, tzinfo=timezone.utc).timestamp()  # type: ignore[arg-type,misc]


def changes(schedule: Schedule, start: float, stop: float, step: float) -> list[tuple[float, str]]:
    """Return when the period changes between two instants, looking every *step* seconds, and to what."""
    found = []
    period = schedule.at(start)
    now = start
    while now < stop:
        now += step
        if schedule.at(now) != period:
            period = schedule.at(now)
            found.append((now, period.label))
    return found


@pytest.mark.parametrize(
    ("when", "label"),
    [
        ("S", "2026-11-22T10-20-30"),
        ("M", "2026-11-22T10-20-00"),
        ("H", "2026-11-22T10-00-00"),
        ("midnight", "2026-11-22"),
        ("never", ""),
    ],
)
def test_the_label_is_the_start_of_the_period(when: str, label: str) -> None:
    assert label == Schedule(when, utc=True).at(utc(2026, 11, 22, 10, 20, 30)).label


@pytest.mark.parametrize(
    ("when", "start"),
    [(f"W{n}", f"2026-11-{17 + n}" if n < 6 else "2026-11-16") for n in range(7)],
)
def test_a_week_begins_at_the_midnight_that_ends_the_weekday_named(when: str, start: str) -> None:
    # Sunday, 22 November. logging.handlers: W0 rolls over when a Monday has ended.
    sunday = Schedule(when, utc=True).at(utc(2026, 11, 22, 12))
    assert start == sunday.label
    begin = utc(*map(int, start.split("-")))
    assert sunday == Schedule(when, utc=True).at(begin)
    assert sunday != Schedule(when, utc=True).at(begin - 1)


def test_weekly_rollover_is_when_logging_handlers_has_it(tmp_path: object) -> None:
    from logging.handlers import TimedRotatingFileHandler

    now = utc(2026, 11, 18, 12)
    for n in range(7):
        handler = TimedRotatingFileHandler(f"{tmp_path}/x.log", f"W{n}", utc=True, delay=True)
        theirs = handler.computeRollover(int(now))
        schedule = Schedule(f"W{n}", utc=True)
        assert schedule.at(theirs - 1) == schedule.at(now)
        assert schedule.at(theirs) != schedule.at(now)


@pytest.mark.parametrize(
    ("zone", "around", "hours"),
    [
        ("Europe/Berlin", (2026, 3, 29), 23),
        ("Europe/Berlin", (2026, 10, 25), 25),
        ("America/New_York", (2026, 3, 8), 23),
        ("America/New_York", (2026, 11, 1), 25),
        ("Australia/Lord_Howe", (2026, 4, 5), 24.5),
        ("America/Santiago", (2026, 9, 6), 23),
    ],
    ids=str,
)
def test_a_day_of_changing_clocks_is_one_period(
    in_zone: Callable[[str], ZoneInfo], zone: str, around: tuple[int, int, int], hours: float
) -> None:
    # cpython issue 86410: TimedRotatingFileHandler rolls at the wrong hour on these days.
    local = in_zone(zone)
    noon_before = datetime(*around, 12, tzinfo=local).timestamp() - 86400
    found = changes(Schedule("midnight", utc=False), noon_before, noon_before + 3 * 86400, 60)
    assert [f"{label}" for _, label in found[:2]] == [
        f"{around[0]}-{around[1]:02}-{around[2]:02}",
        f"{around[0]}-{around[1]:02}-{around[2] + 1:02}",
    ]
    assert hours == (found[1][0] - found[0][0]) / 3600


def test_the_hour_that_an_autumn_night_repeats_is_two_periods(in_zone: Callable[[str], ZoneInfo]) -> None:
    in_zone("Europe/Berlin")
    found = changes(Schedule("H", utc=False), utc(2026, 10, 24, 23, 30), utc(2026, 10, 25, 2, 30), 60)
    assert [
        (utc(2026, 10, 25, 0), "2026-10-25T02-00-00"),
        (utc(2026, 10, 25, 1), "2026-10-25T02-00-00"),
        (utc(2026, 10, 25, 2), "2026-10-25T03-00-00"),
    ] == found


def test_the_hour_that_a_spring_night_leaves_out_has_no_period(in_zone: Callable[[str], ZoneInfo]) -> None:
    in_zone("Europe/Berlin")
    found = changes(Schedule("H", utc=False), utc(2026, 3, 28, 23, 30), utc(2026, 3, 29, 1, 30), 60)
    assert [label for _, label in found] == ["2026-03-29T01-00-00", "2026-03-29T03-00-00"]


def test_later_periods_have_a_larger_order() -> None:
    for when in ("S", "M", "H", "midnight", "W3"):
        schedule = Schedule(when, utc=True)
        assert schedule.at(utc(2026, 12, 31)).order < schedule.at(utc(2027, 1, 8)).order


def test_a_clock_set_back_is_answered_like_any_other_instant() -> None:
    schedule = Schedule("H", utc=True)
    later, earlier = utc(2026, 11, 22, 10), utc(2026, 11, 22, 8)
    assert [schedule.at(later).label, schedule.at(earlier).label] == [
        "2026-11-22T10-00-00",
        "2026-11-22T08-00-00",
    ]


def test_the_day_is_local_or_utc(in_zone: Callable[[str], ZoneInfo]) -> None:
    in_zone("Asia/Tokyo")
    now = utc(2026, 11, 22, 20)
    assert ["2026-11-23", "2026-11-22"] == [day(now, utc=False), day(now, utc=True)]
