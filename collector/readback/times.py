"""Times as a `datefmt` of strftime() writes them, read back.

Times compare as bytes in UTC, whatever format and zone they were written in.
"""

from __future__ import annotations

import datetime
import re
import time
from contextlib import suppress

from collector.config.toml_text import shown

_EXPANDED = {
    "%F": "%Y-%m-%d",
    "%T": "%H:%M:%S",
    "%R": "%H:%M",
    "%D": "%m/%d/%y",
    "%e": "%d",
    "%h": "%b",
    "%r": "%I:%M:%S %p",
    "%P": "%p",
    "%t": "\t",
}
"""Directives that strptime() does not know, spelled out in those that it does."""
_YEARS = {"%Y", "%y", "%G", "%c", "%x"}
_WIDTHS = {"Y": 4, "m": 2, "d": 2, "H": 2, "I": 2, "M": 2, "S": 2, "y": 2, "j": 3, "z": 5}
_DAY_SECONDS = 24 * 60 * 60
# An instant in which every part is another number, to see which parts a datefmt keeps.
_PROBE = datetime.datetime(2019, 11, 23, 14, 35, 46, tzinfo=datetime.timezone.utc)


def time_key(when: float) -> bytes:
    """Return what the time of a record in this second begins with; such bytes compare as times do."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(when)).encode()


class TimeFormat:
    """A datefmt, in UTC or in local time unless it writes a zone."""

    def __init__(self, datefmt: str, *, utc: bool, now: float | None = None) -> None:
        """*now* is what a time without a year is nearest to; None: this moment."""
        self._given = datefmt
        self._datefmt = re.sub("%.", lambda match: _EXPANDED.get(match[0], match[0]), datefmt)
        self._utc = utc
        self._now = time.time() if now is None else now
        self.has_year = bool(_YEARS.intersection(re.findall("%.", self._datefmt)))
        self.pattern, self.width = _pattern(self._datefmt)
        """What matches a time, and its length in bytes; 0 if that varies."""

    def near(self, day: int) -> TimeFormat:
        """Return the same for lines that were written up to the end of *day*, counted from 1970."""
        return TimeFormat(self._given, utc=self._utc, now=(day + 1) * _DAY_SECONDS)

    def key(self, written: bytes) -> bytes | None:
        """Return the time_key() of a time as it was *written*; None if it is none."""
        try:
            text = written.decode()
            if self.has_year:
                return time_key(self._instant(text, self._datefmt))
            year = time.gmtime(self._now).tm_year
            instants = []
            for one in (year - 1, year, year + 1):
                with suppress(ValueError):  # February has no 29th in that year
                    instants.append(self._instant(f"{one} {text}", f"%Y {self._datefmt}"))
            return time_key(min(instants, key=lambda instant: abs(instant - self._now)))
        except (ValueError, OverflowError):
            return None

    def fault(self) -> str:
        """Return why times in this format cannot be read back; "" if they can."""
        setting = f"[format] datefmt = {shown(self._given)}"
        year, datefmt = ("", self._datefmt) if self.has_year else ("2019 ", f"%Y {self._datefmt}")
        try:
            found = datetime.datetime.strptime(year + _PROBE.strftime(self._datefmt), datefmt)  # noqa: DTZ007 - a probe
        except (ValueError, re.error):
            directives = re.findall("%[-_0^#EO]*[0-9]*.", self._given)
            unknown = [one for one in directives if not _is_readable(one)]
            unknown += [f"{one} twice" for one in dict.fromkeys(directives) if directives.count(one) > 1]
            return f"{setting} has {' and '.join(unknown) or 'a part twice'}, which cannot be read back"
        if found.date() != _PROBE.date():
            return f"{setting} tells no date"
        if found.hour not in (0, _PROBE.hour):
            return f"{setting} has hours up to 12 without %p"
        return ""

    def _instant(self, text: str, datefmt: str) -> float:
        when = datetime.datetime.strptime(text, datefmt)  # noqa: DTZ007 - see the next line
        if not when.tzinfo and self._utc:
            when = when.replace(tzinfo=datetime.timezone.utc)
        return when.timestamp()


def day_of(when: float) -> int:
    """Return the day of *when*, counted from 1970."""
    return int(when // _DAY_SECONDS)


def _pattern(datefmt: str) -> tuple[str, int]:
    pattern, width, fixed = "", 0, True
    for literal, directive in re.findall("([^%]+)|%(.)", datefmt, re.DOTALL):
        if literal or directive == "%":
            pattern += re.escape(literal or "%")
            width += len((literal or "%").encode())
        elif directive == "z":
            pattern += r"[+-]\d{4}"
            width += _WIDTHS["z"]
        elif directive in _WIDTHS:
            pattern += rf"[\d ]{{{_WIDTHS[directive]}}}"  # %e pads with a blank
            width += _WIDTHS[directive]
        else:
            pattern += ".+?"
            fixed = False
    return pattern, width if fixed else 0


def _is_readable(directive: str) -> bool:
    directive = _EXPANDED.get(directive, directive)
    try:
        datetime.datetime.strptime(f"2019 {_PROBE.strftime(directive)}", f"%Y {directive}")  # noqa: DTZ007 - a probe
    except (ValueError, re.error):
        return directive in _YEARS
    return True
