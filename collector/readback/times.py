"""Times as a `datefmt` of strftime() writes them, read back.

Times compare as bytes in UTC, whatever format and zone they were written in.
"""

from __future__ import annotations

import datetime
import re
import time
from contextlib import suppress

# Python leaves times in the C locale, whatever that of the environment is, and so does the program.
_EXPANDED = {
    "c": "%a %b %d %H:%M:%S %Y",
    "x": "%m/%d/%y",
    "X": "%H:%M:%S",
    "D": "%m/%d/%y",
    "F": "%Y-%m-%d",
    "R": "%H:%M",
    "T": "%H:%M:%S",
    "r": "%I:%M:%S %p",
    "e": "%d",
    "h": "%b",
    "P": "%p",
    "t": "\t",
}
"""Conversions that strptime() does not know, or asks the locale for, spelled out in those that it does."""
_CONVERSION = re.compile("%([-_0^#]*[0-9]*)[EO]?(.)")
"""Group 1 is what glibc allows in addition, group 2 the letter. E and O mean nothing in the C locale."""
_NUMBER, _WORD = r"\d+", "[A-Za-z]+"
_ZONE = r"[A-Za-z]*(?:[+-]?\d+)?"  # CET, or -03 where a zone has no letters
_PARTS = {
    **dict.fromkeys("mdHIMSyCgklUVW", (r"[\d ]\d", 2, _NUMBER)),  # %e, %k and %l pad with a blank
    **dict.fromkeys("uw", (r"\d", 1, _NUMBER)),
    **dict.fromkeys("YG", (r"\d{4}", 4, _NUMBER)),
    **dict.fromkeys("ab", ("[A-Za-z]{3}", 3, _WORD)),
    **dict.fromkeys("AB", ("[A-Za-z]+", 0, _WORD)),
    "j": (r"\d{3}", 3, _NUMBER),
    "s": (r"-?\d+", 0, r"-?\d+"),
    "p": ("[A-Za-z]{2}", 2, _WORD),
    "z": (r"[+-]\d{4}", 5, r"[+-] *\d+"),
    "Z": (_ZONE, 0, _ZONE),
    "%": ("%", 1, "%"),
}
"""What matches a letter's conversion, its length (0: that varies), and what matches it behind a padding."""
_YEARS = {"Y", "y", "G"}
_MICROS = 1_000_000
_MAX_SECONDS = 253_402_300_799  # the last with a year of four digits
_DAY_SECONDS = 24 * 60 * 60
# Every part of it is another number, to see which parts a datefmt keeps.
_PROBE = datetime.datetime(2019, 11, 23, 14, 35, 46, tzinfo=datetime.timezone.utc)


def time_key(when: float) -> bytes:
    """Return what the time of a record in this second begins with; such bytes compare as times do."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(when)).encode()


def exact_key(when: float) -> bytes:
    """Return the time of a record at this instant, with as many digits as it needs."""
    micros = round(min(max(when, 0), _MAX_SECONDS) * _MICROS)
    fraction = b"%06d" % (micros % _MICROS)
    return time_key(micros // _MICROS) + fraction.rstrip(b"0")


class TimeFormat:
    """A datefmt, in UTC or in local time unless it writes a zone."""

    def __init__(self, datefmt: str, *, utc: bool, now: float | None = None) -> None:
        """*now* is what a time without a year is nearest to; None: this moment."""
        self._given = datefmt
        self._datefmt = _CONVERSION.sub(_expanded, datefmt)
        self._utc = utc
        self._now = time.time() if now is None else now
        self.has_year = any(one[2] in _YEARS for one in _CONVERSION.finditer(self._datefmt))
        self.pattern, self.width = _pattern(self._datefmt)
        """What matches a time, even one that tells no date, and its length in bytes; 0 if that varies."""

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
        """Return why times in this format cannot be read back, as "has ..."; "" if they can."""
        found = self.probe()
        if not found:
            given = [match[0] for match in _CONVERSION.finditer(self._given)]
            unknown = [one for one in given if TimeFormat(one, utc=True).probe() is None]
            unknown += [f"{one} twice" for one in dict.fromkeys(given) if given.count(one) > 1]
            return f"has {' and '.join(unknown) or 'a part twice'}, which cannot be read back"
        if found.date() != _PROBE.date():
            return "tells no date"
        if found.hour not in (0, _PROBE.hour):
            return "has hours up to 12 without %p"
        return ""

    def probe(self) -> datetime.datetime | None:
        """Return what can be read back of an instant in which every part is another number; None: nothing."""
        year, datefmt = ("", self._datefmt) if self.has_year else ("2019 ", f"%Y {self._datefmt}")
        try:
            return datetime.datetime.strptime(year + _PROBE.strftime(self._datefmt), datefmt)  # noqa: DTZ007 - a probe
        except (ValueError, re.error):
            return None

    def _instant(self, text: str, datefmt: str) -> float:
        when = datetime.datetime.strptime(text, datefmt)  # noqa: DTZ007 - see the next line
        if not when.tzinfo and self._utc:
            when = when.replace(tzinfo=datetime.timezone.utc)
        return when.timestamp()


def day_of(when: float) -> int:
    """Return the day of *when*, counted from 1970."""
    return int(when // _DAY_SECONDS)


def _expanded(conversion: re.Match[str]) -> str:
    """Return a conversion in those that strptime() knows, each with what has been added to it."""
    added, letter = conversion.groups()
    return _EXPANDED.get(letter, f"%{letter}").replace("%", f"%{added}")


def _pattern(datefmt: str) -> tuple[str, int]:
    pattern, widths = "", []
    for literal, added, letter in re.findall(f"([^%]+)|{_CONVERSION.pattern}", datefmt):
        plain, width, padded = _PARTS[letter] if letter else (re.escape(literal), len(literal.encode()), "")
        pattern += f"[ 0]*{padded}" if added else plain
        widths.append(0 if added else width)
    return pattern, sum(widths) if all(widths) else 0
