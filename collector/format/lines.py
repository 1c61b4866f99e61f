"""One record becomes one line: text as logging.Formatter would lay it out, or a JSON object.

A format is compiled at start into what is constant for a call site, rendered once and kept with it, and what
stands in between; so are the texts of a logger and a thread, and the time of day is rendered once a second.
So a line costs little more than putting its pieces together. A record is never lost to its own contents: a
conversion that does not fit its value falls back to text, and what JSON cannot hold becomes bounded text.
Text from the wire is an argument, never a format. Knows no socket and no file.
"""

from __future__ import annotations

import json
import re
import time
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any, NamedTuple

from collector.config.checks import TEXT_FIELD
from collector.escape import HARMLESS, NEWLINE, escape, unbroken
from collector.pickles.brief import brief, jsonable_values
from collector.pickles.meanings import scalar_of
from collector.wire.records import HEAD, SITE, STANDARD, TAIL, fields_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from collector.config.tables import Format
    from collector.wire.records import Fragment, Record

    Render = Callable[[Record, str], str]

ABSENT = "-"
_MICROS = 1_000_000
_UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u2028\u2029]")
_HARMLESS_IN_JSON = HARMLESS.replace(b'"', b"\n")
_NUMBER_WIDTH = re.compile(r"%[-#0 +]*(\d*)")


def renderer(form: Format) -> Render:
    """Return the function that renders a record, from a given `address:port`, as *form* says.

    Its result ends in a newline, and may hold others and lone surrogates: encode it with "backslashreplace".
    """
    return _json_renderer() if form.style == "json" else _text_renderer(form)


class _Clock:
    """The time of day of a record, rendered once a second: records of one second follow each other."""

    __slots__ = ("_datefmt", "_zone", "begins", "ends", "text")

    def __init__(self, datefmt: str, zone: Callable[[float], time.struct_time]) -> None:
        self._datefmt = datefmt
        self._zone = zone
        self.begins = self.ends = -1.0
        """The second that `text` is for, and the next one."""
        self.text = ""

    def move(self, created: float) -> None:
        """Render the second of *created*."""
        self.begins = created // 1.0  # all of them floats, which are compared faster than integers
        self.ends = self.begins + 1.0
        self.text = time.strftime(self._datefmt, self._zone(self.begins))

    def at(self, created: float) -> str:
        """Return the text for *created*."""
        if not self.begins <= created < self.ends:
            self.move(created)
        return self.text


# --- text ---------------------------------------------------------------------------------------------------


class _Conversion(NamedTuple):
    """One conversion of a text format."""

    name: str
    spec: str
    """As `%` takes it: "%s", "%03d"."""
    safe: Callable[[str], str]
    """Escapes what came off the wire."""

    def apply(self, value: object) -> str:
        """Return *value* converted, or as text where it does not fit."""
        value = scalar_of(value)
        if value is None and self.name in STANDARD:
            value = ABSENT
        if self.spec[-1] not in "sra" and isinstance(value, (int, float)):
            try:
                return self.safe(self.spec % value)
            except (TypeError, ValueError, OverflowError):
                pass  # %x of 1.5, %d of infinity: the value is shown as text
        return self.as_text(value if isinstance(value, str) else brief(value))

    def as_text(self, text: str) -> str:
        """Return *text* converted; a conversion that asks for a number keeps its width and nothing else."""
        spec = self.spec
        if spec == "%s":
            return self.safe(text)
        if spec[-1] not in "sra":
            width = _NUMBER_WIDTH.match(spec)
            spec = f"%{'-' if '-' in spec else ''}{width[1] if width else ''}s"
        return self.safe(spec % text)


def _compile(form: Format) -> tuple[list[list[str | _Conversion]], list[_Conversion]]:
    """Return the runs of a text format that are constant for a call site, and what is between each two."""
    free_text, other = (escape, escape) if form.newlines == "escape" else (str, unbroken)
    runs: list[list[str | _Conversion]] = [[]]
    changing: list[_Conversion] = []
    done = 0
    for match in TEXT_FIELD.finditer(form.text):
        runs[-1].append(form.text[done : match.start()])
        done = match.end()
        name = match["name"]
        if name is None:
            runs[-1].append("%")
            continue
        precision = "" if match["precision"] is None else f".{match['precision']}"
        spec = f"%{match['flags']}{match['width']}{precision}{match['type']}"
        is_free = name in ("message", "msg", "exc_text", "stack_info")
        conversion = _Conversion(name, spec, free_text if is_free else other)
        if name in SITE:
            runs[-1].append(conversion)
        else:
            changing.append(conversion)
            runs.append([])
    runs[-1].append(form.text[done:])
    return runs, changing


def _text_renderer(form: Format) -> Render:  # noqa: C901 - the layout of a line, in one place
    free_text = escape if form.newlines == "escape" else None
    line_break = "\\n" if form.newlines == "escape" else "\n"
    clock = _Clock(form.datefmt, time.gmtime if form.utc else time.localtime)
    runs, changing = _compile(form)
    others = [_changing(conversion, clock) for conversion in changing]

    def render_constant(site: Fragment) -> list[Any]:
        """Return the runs, and behind them the list of what stands on lines of its own."""
        made: list[Any] = [
            "".join([one if isinstance(one, str) else one.apply(site.fields.get(one.name)) for one in run])
            for run in runs
        ]
        # As logging.Formatter has them.
        below = [str(site.fields[key]) for key in ("exc_text", "stack_info") if site.fields.get(key)]
        made.append(list(map(free_text, below)) if free_text else below)
        site.rendered[clock] = made
        return made

    def render(record: Record, client: str) -> str:
        site = record[1]
        line, *pieces, below = site.rendered.get(clock) or render_constant(site)
        for other, piece in zip(others, pieces, strict=True):
            line += other(record, client) + piece
        return finish(line, below)

    def render_usual(record: Record, _client: str) -> str:
        # The same, three times as fast, where time, logger and message are all that changes, in this order.
        head, site, _, message, created, _, _, _ = record
        try:
            first, second, third, fourth, below = site.rendered[clock]
        except KeyError:
            first, second, third, fourth, below = render_constant(site)
        try:
            name = head.rendered[clock]
        except KeyError:
            name = head.rendered[clock] = changing[1].apply(head.fields["name"])
        if not clock.begins <= created < clock.ends:
            clock.move(created)
        if free_text:
            message = free_text(message)
        if below:
            return finish(f"{first}{clock.text}{second}{name}{third}{message}{fourth}", below)
        return f"{first}{clock.text}{second}{name}{third}{message}{fourth}\n"

    def finish(line: str, below: list[str]) -> str:
        for text in below:
            line += text if line.endswith("\n") else line_break + text
        return line + "\n"

    is_usual = [(one.name, one.spec) for one in changing] == [
        ("asctime", "%s"),
        ("name", "%s"),
        ("message", "%s"),
    ]
    return render_usual if is_usual else render


def _changing(conversion: _Conversion, clock: _Clock) -> Render:
    """Return what renders a conversion whose value changes with the record."""
    name = conversion.name
    if name == "asctime":
        return lambda record, _: conversion.as_text(clock.at(record[4]))
    if name in ("message", "msg"):
        return lambda record, _: conversion.as_text(record[3])
    if name == "client":
        return lambda _, client: conversion.as_text(client)
    if name in HEAD | TAIL:
        index = 0 if name in HEAD else 2

        def kept(record: Record, _client: str) -> str:
            fragment: Fragment = record[index]  # type: ignore[assignment] # mypy knows no index but a literal
            text: str | None = fragment.rendered.get(kept)
            if text is None:
                text = fragment.rendered[kept] = conversion.apply(fragment.fields.get(name))
            return text

        return kept
    if name in STANDARD:
        return lambda record, _: conversion.apply(fields_of(record).get(name))
    return lambda record, _: conversion.apply(record[7].get(name, ABSENT))


# --- JSON ---------------------------------------------------------------------------------------------------

# Members that stand together in a line: key, attribute.
_JSON_LEVEL = (("level", "levelname"),)
_JSON_LOGGER = (("logger", "name"),)
_JSON_EXCEPTION = (("exception", "exc_text"), ("stack", "stack_info"))
_JSON_ORIGIN = (
    ("process", "process"),
    ("process_name", "processName"),
    ("thread", "thread"),
    ("thread_name", "threadName"),
    ("task_name", "taskName"),
)
_JSON_PLACE = (("file", "pathname"), ("line", "lineno"), ("function", "funcName"))
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


def _json_renderer() -> Render:
    clock = _Clock('{"timestamp":"%Y-%m-%dT%H:%M:%S.', time.gmtime)

    def render_head(head: Fragment) -> str:
        logger = head.rendered["JSON"] = f'{_members(_JSON_LOGGER, head.fields)},"message":'
        return logger

    def render_site(site: Fragment) -> tuple[str, str, str]:
        members = [_members(keys, site.fields) for keys in (_JSON_LEVEL, _JSON_EXCEPTION, _JSON_PLACE)]
        level, exception, place = members
        made = site.rendered["JSON"] = f'Z"{level}', f'{exception},"client":"', place
        return made

    def render_tail(tail: Fragment) -> str:
        origin = tail.rendered["JSON"] = f'"{_members(_JSON_ORIGIN, tail.fields)}'
        return origin

    def render(record: Record, client: str) -> str:
        head, site, tail, message, created, _, _, extra = record
        try:
            logger = head.rendered["JSON"]
            level, exception, place = site.rendered["JSON"]
            origin = tail.rendered["JSON"]
        except KeyError:
            logger, origin = render_head(head), render_tail(tail)
            level, exception, place = render_site(site)
        if not clock.begins <= created < clock.ends:
            clock.move(created)
        micros = (created - clock.begins) * _MICROS + 0.5
        if micros >= _MICROS:
            clock.move(clock.ends)
            micros = 0.0
        # Most need no escapes, which takes a fraction of the time to find out.
        if message.isascii():
            plain = NEWLINE not in message.encode().translate(_HARMLESS_IN_JSON)
        else:
            plain = message.isprintable() and '"' not in message and "\\" not in message
        quoted = f'"{message}"' if plain else _one_line(encode_basestring(message))
        extras = f',"extra":{_extra(extra)}' if extra else ""
        digits = "%06d" % micros  # noqa: UP031 - format() takes no float for d, and twice the time
        return f"{clock.text}{digits}{level}{logger}{quoted}{exception}{client}{origin}{place}{extras}}}\n"

    return render


def _members(keys: Sequence[tuple[str, str]], fields: Mapping[str, Any]) -> str:
    """Return the members of those *fields* that are not absent, a comma before each."""
    present = [(key, fields[name]) for key, name in keys if fields.get(name) is not None]
    return "".join(f',"{key}":{_one_line(_encode(value))}' for key, value in present)


def _one_line(text: str) -> str:
    """Return JSON as one line under every splitter, not only those that split at newlines."""
    return _UNSAFE_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _extra(extras: Mapping[object, object]) -> str:
    return _one_line(_encode(jsonable_values(extras)))
