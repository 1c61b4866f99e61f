"""What a line in a log file tells of its record: a format read backwards.

A record begins where the time stands as the format puts it; lines that do not begin one belong to the record
above them, as those of a traceback do. Times compare as bytes in UTC, whatever format and zone they were
written in. Lines come without their newline. Knows no file.
"""

from __future__ import annotations

import copy
import datetime
import json
import logging
import re
import time
from contextlib import suppress
from itertools import pairwise
from operator import add, itemgetter
from typing import TYPE_CHECKING, Any

from collector.config.checks import TEXT_FIELD
from collector.config.load import Format
from collector.config.toml_text import shown
from collector.wire.records import STANDARD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collector.config.load import Config

KEY_OF = {
    "asctime": "timestamp",
    "levelname": "level",
    "name": "logger",
    "message": "message",
    "msg": "message",
    "exc_text": "exception",
    "stack_info": "stack",
    "client": "client",
    "process": "process",
    "processName": "process_name",
    "thread": "thread",
    "threadName": "thread_name",
    "taskName": "task_name",
    "pathname": "file",
    "lineno": "line",
    "funcName": "function",
}
"""The key in a JSON line of an attribute of a LogRecord."""

_NUMBERS = ("lineno", "levelno", "process", "thread", "msecs", "created", "relativeCreated")
_INNER = {"levelname": r"Level -?\d+|\S*?", **dict.fromkeys(_NUMBERS, r"-|-?[\d.]+")}
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
_YEARS = {"%Y", "%y", "%G", "%c", "%x"}
_WIDTHS = {"Y": 4, "m": 2, "d": 2, "H": 2, "I": 2, "M": 2, "S": 2, "y": 2, "j": 3, "z": 5}
_JSON_BEGINS = rb'\{"timestamp":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)'
_JSON_LEVEL = re.compile(rb',"level":"([^"]*)"')
_JSON_SECOND = slice(0, 33)
_JSON_FRACTION = slice(34, 40)
# Distinct seconds remembered, and beginnings of lines that are no time. For lines without a year there is a
# memory for each day on which a file was written last.
_MAX_TIMES = 100_000
_MAX_TIMES_OF_A_DAY = 1000
_DAY_SECONDS = 24 * 60 * 60
# An instant whose every part is another number, to see what a datefmt tells of it.
_PROBE = datetime.datetime(2019, 11, 23, 14, 35, 46, tzinfo=datetime.timezone.utc)


class Layout:
    """How the lines of one format begin, and what stands where in them."""

    def __init__(self, form: Format) -> None:
        self.form = form
        self.is_json = form.style == "json"
        self.names: list[str] = []
        """The attributes that stand in a line of text, in their order."""
        self.timed = True
        self.untimed = ""
        """Why the format does not tell when a record was logged, "" if it does."""
        self._yearless = False
        self._now = time.time()
        """What a time without a year is nearest to."""
        self._near: dict[int, Layout] = {}
        self._second: slice | None = _JSON_SECOND
        self._fraction: slice | None = _JSON_FRACTION
        self._begin_is_open = True
        self._record = re.compile(b"")
        self._datefmt = "%Y-%m-%dT%H:%M:%S"
        self._begins = re.compile(_JSON_BEGINS)
        if not self.is_json:
            self._read(form)
        self._times = _Times(self, _MAX_TIMES)

    def _read(self, form: Format) -> None:
        """Find what stands where in a format of text."""
        self._datefmt = re.sub("%.", lambda match: _EXPANDED.get(match[0], match[0]), form.datefmt)
        self._yearless = not _YEARS.intersection(re.findall("%.", self._datefmt))
        self.untimed = _why_untimed(form, self._datefmt, yearless=self._yearless)
        stamp, width = _pattern_of_time(self._datefmt)
        self.timed = False
        self._second = self._fraction = None
        begins, pattern = "", ""
        *conversions, (tail, _) = _pieces(form.text)
        for literal, field in conversions:
            pattern += re.escape(literal)
            begins += re.escape(literal) if self._begin_is_open else ""
            name = field["name"]
            if self._begin_is_open and self.timed:
                self._begin_is_open = False
                self._find_fraction(literal, field)
            elif name == "asctime" and field["precision"] is None and not self.untimed:
                self.timed = True
                if width and not field["width"] and not self.names:
                    self._second = slice(0, len(literal.encode()) + width)
                inner = stamp
            if name != "asctime" or not self.timed:
                inner = _INNER.get(name, ".*?")
            pad = " *" if field["width"] or name in _INNER else ""
            pattern += f"{pad}({inner}){pad}"
            if self._begin_is_open:
                begins += f"{pad}({'' if name == 'asctime' and self.timed else '?:'}{inner}){pad}"
            self.names.append(name)
        if pattern.endswith("(.*?)") and not tail:
            pattern = pattern.removesuffix("?)") + ")"  # ten times as fast
        self._record = re.compile((pattern + re.escape(tail)).encode() + rb"\Z", re.DOTALL)
        self._begins = re.compile((begins + (re.escape(tail) if self._begin_is_open else "")).encode())

    def _find_fraction(self, literal: str, field: re.Match[str]) -> None:
        """Add the *literal* behind the time to the beginning of a line; see whether milliseconds follow."""
        if self._second is not None:
            stop = self._second.stop + len(literal.encode())
            self._second = slice(0, stop)
            if field["name"] == "msecs" and (field["flags"], field["width"]) == ("0", "3"):
                self._fraction = slice(stop, stop + 3)

    def keys(self, lines: Sequence[bytes]) -> list[bytes | None]:
        """Return for each of *lines* the time of the record that it begins, None where it begins none."""
        if not self.timed:
            return [None] * len(lines)
        if self._second is None:
            return [self._times[match[1]] if (match := self._begins.match(line)) else None for line in lines]
        seconds = list(map(self._times.__getitem__, map(itemgetter(self._second), lines)))
        if self._fraction is None or None in seconds:
            cut = itemgetter(self._fraction or slice(0))
            return [
                None if one is None else one + cut(line) for one, line in zip(seconds, lines, strict=True)
            ]
        return list(map(add, seconds, map(itemgetter(self._fraction), lines)))

    def key_at(self, data: bytes, position: int) -> bytes | None:
        """Return the time of the record that begins in *data* at *position*, None if none begins there."""
        if self._second is None:
            match = self._begins.match(data, position) if self.timed else None
            return self._times[match[1]] if match else None
        second = self._times[data[position : position + self._second.stop]]
        if second is None or self._fraction is None:
            return second
        return second + data[position + self._fraction.start : position + self._fraction.stop]

    def second(self, piece: bytes) -> bytes | None:
        """Return the time that *piece*, the beginning of a line or the time in it, tells to the second."""
        if self._second is not None:
            match = self._begins.match(piece)
            if not match:
                return None
            piece = match[1]
        try:
            text = piece.decode()
            if not self._yearless:
                return time_key(self._instant(text, self._datefmt))
            year = time.gmtime(self._now).tm_year
            instants = []
            for one in (year - 1, year, year + 1):
                with suppress(ValueError):  # February has no 29th in that year
                    instants.append(self._instant(f"{one} {text}", f"%Y {self._datefmt}"))
            return time_key(min(instants, key=lambda instant: abs(instant - self._now)))
        except (ValueError, OverflowError):
            return None

    def _instant(self, text: str, datefmt: str) -> float:
        when = datetime.datetime.strptime(text, datefmt)  # noqa: DTZ007 - see the next line
        if not when.tzinfo and (self.is_json or self.form.utc):
            when = when.replace(tzinfo=datetime.timezone.utc)
        return when.timestamp()

    def near(self, when: float) -> Layout:
        """Return a layout of the same format for lines that were written up to *when*, by the day.

        It tells by that which year is meant where the format does not.
        """
        if not self._yearless:
            return self
        day = int(when // _DAY_SECONDS)
        if day not in self._near:
            layout = self._near[day] = copy.copy(self)
            layout._now = (day + 1) * _DAY_SECONDS  # noqa: SLF001 - its own class
            layout._times = _Times(layout, _MAX_TIMES_OF_A_DAY)  # noqa: SLF001 - the same
        return self._near[day]

    def fields(self, record: bytes) -> dict[str, Any]:
        """Return what *record* tells by the keys of a JSON line; {} where it is not of this format."""
        if self.is_json:
            try:
                found = json.loads(record)
            except ValueError:
                return {}
            return found if isinstance(found, dict) else {}
        match = self._record.match(record)
        fields: dict[str, Any] = {}
        extra: dict[str, str] = {}
        for name, value in zip(self.names, match.groups() if match else (), strict=False):
            text = value.decode("utf-8", "replace")
            if name in KEY_OF and text != "-":
                whole = name in _NUMBERS and text.lstrip("-").isdecimal()
                fields.setdefault(KEY_OF[name], int(text) if whole else text)
            elif name == "levelno" and "levelname" not in self.names and text.isdecimal():
                fields["level"] = logging.getLevelName(int(text))
            elif name not in STANDARD:
                extra.setdefault(name, text)
        return {**fields, "extra": extra} if extra else fields

    def level_at(self, record: bytes) -> tuple[int, int]:
        """Return where the level's name stands in *record*, from and to; (0, 0) if nowhere."""
        if self.is_json:
            match = _JSON_LEVEL.search(record)
            return match.span(1) if match else (0, 0)
        match = self._record.match(record) if "levelname" in self.names else None
        return match.span(self.names.index("levelname") + 1) if match else (0, 0)

    def tells(self, name: str) -> bool:
        """Whether its lines tell an attribute of the record."""
        return self.is_json or name in self.names


class _Times(dict[bytes, "bytes | None"]):
    """Times by their text. Records of one second follow each other, and a look-up costs next to nothing."""

    def __init__(self, layout: Layout, most: int) -> None:
        self._second = layout.second
        self._most = most

    def __missing__(self, piece: bytes) -> bytes | None:
        if len(self) >= self._most:
            self.clear()
        found = self[piece] = self._second(piece)
        return found


def layouts_of(config: Config) -> list[Layout]:
    """Return a layout for each format that *config* has, the general one first, and for JSON."""
    layouts = [
        Layout(form) for form in dict.fromkeys([config.format, *(rule.format for rule in config.rules)])
    ]
    return layouts if any(layout.is_json for layout in layouts) else [*layouts, Layout(Format(style="json"))]


def time_key(when: float) -> bytes:
    """Return what the time of a record in this second begins with; compares as time does."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(when)).encode()


def split(data: bytes, layouts: Sequence[Layout], before: bytes) -> tuple[list[bytes], list[bytes]]:
    """Return the records in *data*, whole lines, and the time of each; what begins none has that *before*."""
    records = data.split(b"\n")
    keys = layouts[0].keys(records)
    if None in keys:
        for layout in layouts[1:]:
            rest = [index for index, key in enumerate(keys) if key is None]
            for index, key in zip(rest, layout.keys([records[index] for index in rest]), strict=True):
                keys[index] = key
        begins = [index for index, key in enumerate(keys) if key is not None]
        if not begins and not all(layout.timed for layout in layouts):
            return records, [before] * len(records)  # there is nothing to tell them by but the newline
        if not begins or begins[0]:
            begins.insert(0, 0)
        ends = pairwise([*begins, len(records)])
        records = [records[a] if b == a + 1 else b"\n".join(records[a:b]) for a, b in ends]
        keys = [keys[index] or before for index in begins]
    return records, keys  # type: ignore[return-value]  # none is None by now


def _pattern_of_time(datefmt: str) -> tuple[str, int]:
    """Return what matches a time by *datefmt*, and its width; 0 if that differs."""
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


def _why_untimed(form: Format, datefmt: str, *, yearless: bool) -> str:
    """Return why lines of a text format do not tell when a record was logged; "" if they do."""
    times = [field for _, field in _pieces(form.text) if field and field["name"] == "asctime"]
    if not times:
        return f"[format] text = {shown(form.text)} has no %(asctime)s"
    if all(field["precision"] is not None for field in times):
        return f"[format] text = {shown(form.text)} cuts %(asctime)s"
    place = f"[format] datefmt = {shown(form.datefmt)}"
    text, datefmt = (f"2019 {_PROBE.strftime(datefmt)}", f"%Y {datefmt}") if yearless else ("", datefmt)
    try:
        found = datetime.datetime.strptime(text or _PROBE.strftime(datefmt), datefmt)  # noqa: DTZ007 - a probe
    except (ValueError, re.error):
        conversions = re.findall("%[-_0^#EO]*[0-9]*.", form.datefmt)
        unknown = [one for one in conversions if not _is_readable(one)]
        unknown += [f"{one} twice" for one in dict.fromkeys(conversions) if conversions.count(one) > 1]
        return f"{place} has {' and '.join(unknown) or 'a part twice'}, which cannot be read back"
    if found.date() != _PROBE.date():
        return f"{place} tells no date"
    if found.hour not in (0, _PROBE.hour):
        return f"{place} has hours up to 12 without %p"
    return ""


def _is_readable(conversion: str) -> bool:
    conversion = _EXPANDED.get(conversion, conversion)
    try:
        datetime.datetime.strptime(f"2019 {_PROBE.strftime(conversion)}", f"%Y {conversion}")  # noqa: DTZ007 - a probe
    except (ValueError, re.error):
        return conversion in _YEARS
    return True


def _pieces(text: str) -> list[tuple[str, Any]]:
    """Return the conversions of a text format, each with the text before it; None with what is left."""
    pieces: list[tuple[str, Any]] = []
    literal, done = "", 0
    for match in TEXT_FIELD.finditer(text):
        literal += text[done : match.start()]
        done = match.end()
        if match["name"] is None:
            literal += "%"
        else:
            pieces.append((literal, match))
            literal = ""
    return [*pieces, (literal + text[done:], None)]
