"""When a file's time is over: the periods of `[rollover] when`, aligned to the wall clock.

Two instants are in one period if the wall clock says so, whatever happened between them: a restart, a pause,
a change of daylight saving time. Days are compared by date, so a day of 23 or 25 hours is one period; hours
by the instant they began, so the hour that an autumn night repeats is two. Knows no file.
"""

from __future__ import annotations

import datetime
import time
from typing import NamedTuple

# Every known change of daylight saving time is at a quarter of an hour.
_QUARTER_SECONDS = 900


class Period(NamedTuple):
    """A stretch of wall-clock time that shares one file."""

    order: int
    """Larger for later periods of the same schedule; no unit."""
    label: str
    """Its start, as in the name of a backup; "" if only its size rolls a file over."""


def day(now: float, *, utc: bool) -> str:
    """Return the date at *now*, as in the name of a backup."""
    return time.strftime("%Y-%m-%d", time.gmtime(now) if utc else time.localtime(now))


class Schedule:
    """Tells the period of an instant, for one setting of `when` and `utc`; not for use by two threads."""

    def __init__(self, when: str, *, utc: bool) -> None:
        self._when = when
        self._broken_down = time.gmtime if utc else time.localtime
        self._since = self._until = 0.0
        self._period = Period(0, "")

    def at(self, now: float) -> Period:
        """Return the period that the instant *now* (seconds since the epoch) is in."""
        if self._when == "never":
            return self._period
        if not self._since <= now < self._until:
            self._period, self._since, self._until = self._find(int(now))
        return self._period

    def _find(self, now: int) -> tuple[Period, float, float]:
        """Return the period of *now* and the span for which that answer surely holds."""
        local = self._broken_down(now)
        quarter = now - now % _QUARTER_SECONDS
        if self._when in ("S", "M", "H"):
            length, start = {
                "S": (1, now),
                "M": (60, now - local.tm_sec),
                "H": (_QUARTER_SECONDS, now - local.tm_sec - 60 * local.tm_min),
            }[self._when]
            label = time.strftime("%Y-%m-%dT%H-%M-%S", self._broken_down(start))
            since = quarter if self._when == "H" else start
            return Period(start, label), since, since + length
        date = datetime.date(local.tm_year, local.tm_mon, local.tm_mday)
        if self._when != "midnight":
            # As in logging.handlers: "W0" rolls over at the midnight that ends a Monday.
            date -= datetime.timedelta((local.tm_wday - int(self._when[1]) - 1) % 7)
        return Period(date.toordinal(), date.isoformat()), quarter, quarter + _QUARTER_SECONDS
