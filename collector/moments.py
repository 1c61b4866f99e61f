"""Times as people write them: how long ago, a time of day, a date, or both, with a zone or without."""

from __future__ import annotations

import datetime
import re

RULE = (
    "must be how long ago, such as 10m or 1h30m (w, d, h, m, s), or a time such as 20:55, yesterday, "
    '2026-11-25 or "2026-11-25 20:55", with Z or +02:00 behind it or in the zone of this machine'
)

# The page has the same in page/clock.js.
_UNIT_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGO_PART = re.compile("([0-9]{1,9}) ?(min|[smhdw])")
_AGO = re.compile(f"{_AGO_PART.pattern}(?: ?{_AGO_PART.pattern})*")
_TIME = re.compile(
    r"(?:(?P<date>\d{4}-\d\d-\d\d)|(?P<day>today|yesterday))?"
    r"(?:(?:(?<=[\dy])[ t]|^)(?P<clock>\d\d?:\d\d(?::\d\d(?:[.,]\d{1,6})?)?))?"
    r" ?(?P<zone>z|utc|[+-]\d\d(?::?\d\d)?)?",
    re.ASCII,
)


def moment(text: str, now: float, since: float | None = None) -> float:
    """Return the instant that *text* names at the time *now*, in seconds since 1970.

    A time of day is the latest one past. As the end of a span that begins *since* then it is today's, even if
    that is still to come, where yesterday's is not behind that. Raises ValueError, with the rule.
    """
    text = text.lower()
    if text == "now":
        return now
    if _AGO.fullmatch(text):
        ago = sum(int(number) * _UNIT_SECONDS[unit] for number, unit in _AGO_PART.findall(text))
        return max(0.0, now - ago)
    match = _TIME.fullmatch(text)
    if not match or not any(match.group("date", "day", "clock")):
        raise ValueError(RULE)
    try:
        zone = _zone(match["zone"])
        today = datetime.datetime.fromtimestamp(now, zone).date()
        day = datetime.date.fromisoformat(match["date"]) if match["date"] else today
        if match["day"] == "yesterday":
            day -= datetime.timedelta(days=1)
        clock = datetime.time.fromisoformat(_padded(match["clock"]))
        when = _instant(day, clock, zone)
        if not (match["date"] or match["day"]):
            the_day_before = _instant(day - datetime.timedelta(days=1), clock, zone)
            if when > now and (since is None or the_day_before > since):
                when = the_day_before
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{RULE}: {error}") from error
    return when


def _instant(day: datetime.date, clock: datetime.time, zone: datetime.tzinfo | None) -> float:
    return datetime.datetime.combine(day, clock, zone).timestamp()


def _zone(text: str | None) -> datetime.tzinfo | None:
    """Return the zone that is written *text*; None: that of this machine."""
    if text is None:
        return None
    if text in ("z", "utc"):
        return datetime.timezone.utc
    hours, minutes = int(text[1:3]), int(text[-2:] if len(text) > len("+02") else 0)
    offset = datetime.timedelta(hours=hours, minutes=minutes)
    return datetime.timezone(-offset if text[0] == "-" else offset)


def _padded(clock: str | None) -> str:
    """Return a time of day as fromisoformat() of Python 3.10 takes it."""
    whole, dot, fraction = (clock or "00:00").replace(",", ".").partition(".")
    hours, _, rest = whole.partition(":")
    return f"{hours:0>2}:{rest}" + (f".{fraction:0<6}" if dot else "")
