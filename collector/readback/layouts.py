"""What a line in a log file tells about its record: a format read backwards.

A record begins with a line that has the time where the format puts it; other lines belong to the record above
them, as those of a traceback do. Lines come without their newline. Knows no file.
"""

from __future__ import annotations

import copy
import json
import logging
import re
from itertools import pairwise
from operator import add, itemgetter
from typing import TYPE_CHECKING, Any

from collector.config.checks import TEXT_FIELD
from collector.config.tables import Format, header
from collector.config.toml_text import shown
from collector.format.json_lines import EXTRA, KEY_OF
from collector.format.text_lines import ABSENT
from collector.readback.times import TimeFormat, day_of
from collector.wire.records import STANDARD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collector.config.tables import Config

_NUMBERS = ("lineno", "levelno", "process", "thread", "msecs", "created", "relativeCreated")
_INNER = {"levelname": r"Level -?\d+|\S*?", **dict.fromkeys(_NUMBERS, r"-|-?[\d.]+")}
_WHOLE = re.compile(r"-?\d{1,18}").fullmatch
"""A number as the collector writes it: a line that a client forged may have others."""
_GROUPS = ("name", "levelname", "levelno", "client")
JSON_START = b'{"%s":"' % KEY_OF["asctime"].encode()
"""How a record in JSON begins."""
_JSON_BEGINS = re.escape(JSON_START) + rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)"
_JSON_TIME = TimeFormat("%Y-%m-%dT%H:%M:%S", utc=True)
_JSON_LEVEL = re.compile(rb',"%s":"([^"]*)"' % KEY_OF["levelname"].encode())
_JSON_SECOND = slice(0, len(JSON_START) + len("2026-11-22T10:00:00"))
_JSON_FRACTION = slice(_JSON_SECOND.stop + 1, _JSON_SECOND.stop + 7)
# How many times are remembered, and beginnings of lines that are no time. Lines without a year have a memory
# for each day on which a file was last written.
_MAX_TIMES = 10_000
_MAX_TIMES_OF_A_DAY = 1000


class Layout:
    """How the lines of one format begin, and where in them each attribute stands."""

    def __init__(self, form: Format, place: str = "[format]") -> None:
        """*place* is where the configuration has the format, for messages."""
        self.form = form
        self.place = place
        self.is_json = form.style == "json"
        self.names: list[str] = []
        """The attributes that stand in a line of text, in their order."""
        self.first = JSON_START if self.is_json else _pieces(form.text)[0][0].encode()
        """What each record begins with."""
        self.timed = True
        self.untimed = self.remedy = ""
        """Why the format does not tell when a record was logged, and what to do about it; "" if it does."""
        self._time = TimeFormat(form.datefmt, utc=form.utc) if form.style == "text" else _JSON_TIME
        self._near: dict[int, Layout] = {}
        self._second: slice | None = _JSON_SECOND
        self._fraction: slice | None = _JSON_FRACTION
        self._begin_is_open = True
        self._record = re.compile(b"")
        self._begins = re.compile(_JSON_BEGINS)
        if not self.is_json:
            self._compile(form)
        self._times = _Times(self, _MAX_TIMES)

    def _compile(self, form: Format) -> None:
        """Find out where in a format of text each attribute stands."""
        self._judge()
        width = self._time.width
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
            inner = self._time_pattern(field) if name == "asctime" else _INNER.get(name, ".*?")
            pad = " *" if field["width"] or name in _INNER else ""
            pattern += f"{pad}({inner}){pad}"
            if self._begin_is_open:
                begins += f"{pad}({'' if name == 'asctime' and self.timed else '?:'}{inner}){pad}"
            self.names.append(name)
        if pattern.endswith("(.*?)") and not tail:
            pattern = pattern.removesuffix("?)") + ")"  # ten times as fast
        self._record = re.compile((pattern + re.escape(tail)).encode() + rb"\Z", re.DOTALL)
        self._begins = re.compile((begins + (re.escape(tail) if self._begin_is_open else "")).encode())

    def _judge(self) -> None:
        """Find out why lines of text do not tell when a record was logged, if so."""
        written = [field for _, field in _pieces(self.form.text) if field and field["name"] == "asctime"]
        if not written:
            self.untimed, self.remedy = f"{self.setting('text')} has no %(asctime)s", "add it"
        elif all(field["precision"] is not None for field in written):
            self.untimed, self.remedy = f"{self.setting('text')} cuts %(asctime)s", "leave it whole"
        elif fault := self._time.fault():
            self.untimed = f"{self.setting('datefmt')} {fault}"
            self.remedy = 'set datefmt = "%Y-%m-%d %H:%M:%S", say'

    def setting(self, key: str) -> str:
        """Return a setting of the format as a message has it: place, key and value."""
        dot = " " if self.place == "[format]" else "."
        return f"{self.place}{dot}{key} = {shown(getattr(self.form, key))}"

    def _time_pattern(self, field: re.Match[str]) -> str:
        """Return what matches the time in a line: it may hold blanks, as what is between fields does."""
        return self._time.pattern if field["precision"] is None else f".{{0,{field['precision'] or 0}}}"

    def _find_fraction(self, literal: str, field: re.Match[str]) -> None:
        """Add the *literal* behind the time to the beginning of a line; see whether milliseconds follow."""
        if self._second is not None:
            stop = self._second.stop + len(literal.encode())
            self._second = slice(0, stop)
            if field["name"] == "msecs" and (field["flags"], field["width"]) == ("0", "3"):
                self._fraction = slice(stop, stop + 3)

    def keys(self, lines: Sequence[bytes]) -> list[bytes | None]:
        """Return for each of *lines* the time of the record that begins with it, or None."""
        if not self.timed:
            return [None] * len(lines)
        if self._second is None:
            return [self._times[match[1]] if (match := self._begins.match(line)) else None for line in lines]
        seconds = list(map(self._times.__getitem__, map(itemgetter(self._second), lines)))
        if self._fraction is None:
            return seconds
        if None in seconds:
            cut = itemgetter(self._fraction)
            return [
                None if one is None else one + cut(line) for one, line in zip(seconds, lines, strict=True)
            ]
        return list(map(add, seconds, map(itemgetter(self._fraction), lines)))

    def key_at(self, data: bytes, position: int) -> bytes | None:
        """Return the time of the record that begins in *data* at *position*; None if none begins there."""
        if self._second is None:
            match = self._begins.match(data, position) if self.timed else None
            return self._times[match[1]] if match else None
        second = self._times[data[position : position + self._second.stop]]
        if second is None or self._fraction is None:
            return second
        return second + data[position + self._fraction.start : position + self._fraction.stop]

    def second(self, piece: bytes) -> bytes | None:
        """Return the time in *piece*, which is the beginning of a line or the time alone, to the second."""
        if self._second is not None:
            match = self._begins.match(piece)
            if not match:
                return None
            piece = match[1]
        return self._time.key(piece)

    def near(self, when: float) -> Layout:
        """Return a layout of the same format for lines that were written up to the day of *when*.

        Where the format has no year, the layout goes by that day.
        """
        if self._time.has_year:
            return self
        day = day_of(when)
        if day not in self._near:
            layout = self._near[day] = copy.copy(self)
            layout._time = self._time.near(day)  # noqa: SLF001 - its own class
            layout._times = _Times(layout, _MAX_TIMES_OF_A_DAY)  # noqa: SLF001 - the same
        return self._near[day]

    def fields(self, record: bytes) -> dict[str, Any]:
        """Return the fields of *record* under the keys of a JSON line; {} if it is not of this format."""
        if self.is_json:
            try:
                found = json.loads(record)
            except (ValueError, RecursionError):
                return {}
            return found if isinstance(found, dict) else {}
        match = self._record.match(record)
        fields: dict[str, Any] = {}
        extra: dict[str, str] = {}
        for name, value in zip(self.names, match.groups() if match else (), strict=False):
            text = value.decode("utf-8", "replace")
            if name in KEY_OF and (text != ABSENT or name in ("message", "msg")):
                whole = name in _NUMBERS and _WHOLE(text)
                fields.setdefault(KEY_OF[name], int(text) if whole else text)
            elif name == "levelno" and "levelname" not in self.names and _WHOLE(text):
                fields[KEY_OF["levelname"]] = logging.getLevelName(int(text))
            elif name not in STANDARD:
                extra.setdefault(name, text)
        return {**fields, EXTRA: extra} if extra else fields

    def usual(self, levels: Sequence[str] = ()) -> bytes | None:
        """Return a pattern for the beginning of usual records, up to the message; None: there is none.

        What it matches has the attributes that fields() finds, in groups by their names. With *levels*, it
        matches records of those levels only, and has no groups.
        """
        level = "|".join(map(re.escape, levels))
        if self.is_json:
            text = r'[^"\\]*'
            level = f"(?:{level})" if levels else f"(?P<levelname>{text})"
            name = text if levels else f"(?P<name>{text})"
            members = (
                ("asctime", f'"{text}"'),
                ("levelname", f'"{level}"'),
                ("name", f'"{name}"'),
                ("message", ""),
            )
            return (r"\{" + ",".join(f'"{KEY_OF[key]}":{value}' for key, value in members)).encode()
        *conversions, (tail, _) = _pieces(self.form.text)
        is_usual = conversions and conversions[-1][1]["name"] in ("message", "msg")
        if tail or not is_usual or "\n" in self.form.text:
            return None
        if any(not literal for literal, _ in conversions[1:]) or (levels and "levelname" not in self.names):
            return None
        pattern = ""
        followed_by = [literal[0] for literal, _ in conversions[1:]]
        for (literal, field), stop in zip(conversions, [*followed_by, ""], strict=True):
            name = field["name"]
            # Narrower than the whole pattern has it, and so several times as fast.
            inner = f"[^{re.escape(stop)}\\n]*"
            if name == "asctime":
                is_whole = self._time.width and field["precision"] is None
                inner = f".{{{self._time.width}}}" if is_whole else self._time_pattern(field)
            elif name == "levelname":
                inner = level or rf"Level -?\d+|[^{re.escape(stop)}\s]*"
            elif name in _NUMBERS:
                inner = r"[\d.]+"
            group = f"?P<{name}>" if name in _GROUPS and f"<{name}>" not in pattern and not levels else "?:"
            pad = " *" if field["width"] else ""
            pattern += re.escape(literal) + (f"{pad}({group}{inner}){pad}" if stop else "")
        return pattern.encode()

    def level_at(self, record: bytes) -> tuple[int, int]:
        """Return where the level's name begins and ends in *record*; (0, 0) if it has none."""
        if self.is_json:
            match = _JSON_LEVEL.search(record)
            return match.span(1) if match else (0, 0)
        match = self._record.match(record) if "levelname" in self.names else None
        return match.span(self.names.index("levelname") + 1) if match else (0, 0)

    def tells(self, name: str) -> bool:
        """Whether the lines have an attribute of the record."""
        return self.is_json or name in self.names


class _Times(dict[bytes, "bytes | None"]):
    """Times by their text, which the records of one second share: a look-up costs next to nothing."""

    def __init__(self, layout: Layout, most: int) -> None:
        self._second = layout.second
        self._most = most

    def __missing__(self, piece: bytes) -> bytes | None:
        if len(self) >= self._most:
            self.clear()
        found = self[piece] = self._second(piece)
        return found


def layouts_of(config: Config) -> list[Layout]:
    """Return a layout for each format of *config*, the general one first, and in any case one for JSON."""
    places = {config.format: "[format]"}
    for rule in config.rules:
        places.setdefault(rule.format, f"{header(rule.name)} format")
    layouts = [Layout(form, place) for form, place in places.items()]
    return layouts if any(layout.is_json for layout in layouts) else [*layouts, Layout(Format(style="json"))]


def split_records(data: bytes, layouts: Sequence[Layout], before: bytes) -> tuple[list[bytes], list[bytes]]:
    """Return the records in *data*, which is whole lines, and the time of each.

    Lines ahead of the first record are one, of the time *before*.
    """
    records = data.split(b"\n")
    keys = layouts[0].keys(records)
    if None in keys:
        for layout in layouts[1:]:
            rest = [index for index, key in enumerate(keys) if key is None]
            for index, key in zip(rest, layout.keys([records[index] for index in rest]), strict=True):
                keys[index] = key
        begins = [index for index, key in enumerate(keys) if key is not None]
        if not begins and not all(layout.timed for layout in layouts):
            return records, [before] * len(records)  # nothing but the newline tells them apart
        if not begins or begins[0]:
            begins.insert(0, 0)
        ends = pairwise([*begins, len(records)])
        records = [records[a] if b == a + 1 else b"\n".join(records[a:b]) for a, b in ends]
        keys = [keys[index] or before for index in begins]
    return records, keys  # type: ignore[return-value]  # none is None by now


def _pieces(text: str) -> list[tuple[str, Any]]:
    """Return the conversions of a text format, each with the text before it, then None with the rest."""
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
