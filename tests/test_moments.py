"""Times as people write them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from collector.moments import RULE, moment
from tests.support.moments import IN_UTC, NOW, REFUSED

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10m", "2026-11-26 11:50:00"),
        ("1h30m", "2026-11-26 10:30:00"),
        ("2w", "2026-11-12 12:00:00"),
        ("9:05", "2026-11-26 09:05:00"),
        ("12:00", "2026-11-26 12:00:00"),
        ("12:00:01", "2026-11-25 12:00:01"),
        ("20:55", "2026-11-25 20:55:00"),
        ("20:55Z", "2026-11-25 21:55:00"),
        ("20:55+05:30", "2026-11-25 16:25:00"),
        ("yesterday", "2026-11-25 00:00:00"),
        ("yesterday 10:00", "2026-11-25 10:00:00"),
        ("today", "2026-11-26 00:00:00"),
        ("2026-11-20", "2026-11-20 00:00:00"),
        ("2026-11-25 20:55", "2026-11-25 20:55:00"),
        ("2026-11-25T20:55:07.5", "2026-11-25 20:55:07"),
        ("2026-11-25 20:55:07Z", "2026-11-25 21:55:07"),
        ("2026-07-01 20:55 +02:00", "2026-07-01 20:55:00"),
        ("2027-01-01", "2027-01-01 00:00:00"),
        ("999999999w", "1970-01-01 01:00:00"),
    ],
)
def test_a_time_is_the_one_that_people_mean(text: str, expected: str) -> None:
    now = time.mktime((2026, 11, 26, 12, 0, 0, 0, 0, -1))
    assert expected == time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment(text, now)))


@pytest.mark.parametrize(("text", "expected"), IN_UTC.items())
def test_zone_and_case_may_be_written_in_many_ways(
    text: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    now = moment(NOW, 0)
    assert expected == time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment(text, now)))


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        ("11:55", "12:10", "2026-11-26 12:10:00"),  # which is still to come
        ("11:00", "11:30", "2026-11-26 11:30:00"),
        ("20:55", "21:10", "2026-11-25 21:10:00"),
        ("20:55", "6:00", "2026-11-26 06:00:00"),
        ("2026-11-20", "21:10", "2026-11-25 21:10:00"),
        ("11:55", "yesterday 12:10", "2026-11-25 12:10:00"),
    ],
)
def test_a_span_from_one_time_of_day_to_another_ends_after_it_begins(
    since: str, until: str, expected: str
) -> None:
    now = time.mktime((2026, 11, 26, 12, 0, 0, 0, 0, -1))
    end = moment(until, now, moment(since, now))
    assert expected == time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(end))


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_time_is_refused_with_the_rule(text: str) -> None:
    with pytest.raises(ValueError, match="must be how long ago") as fault:
        moment(text, time.time())
    assert str(fault.value).startswith(RULE)
