"""One record becomes one line of text, laid out as logging.Formatter would lay it out.

A format is compiled, at start, into the parts that are constant for a call site, which are rendered once and
kept with it, and the parts in between. The texts of a logger and a thread are kept too, so a line costs
little more than putting its pieces together. A record is never lost to its own contents: where a conversion
does not fit its value, the value is shown as text. Text from the wire is an argument, never a format. Knows
no socket and no file.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from collector.config.checks import TEXT_FIELD
from collector.escape import escape, unbroken
from collector.format.clock import Clock
from collector.pickles.brief import brief
from collector.pickles.meanings import scalar_of
from collector.wire.records import BELOW, HEAD, SITE, STANDARD, TAIL, fields_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.config.tables import Format
    from collector.wire.records import Fragment, Record

    Render = Callable[[Record, str], str]

ABSENT = "-"
"""Stands for a value that a record does not have."""
_NUMBER_WIDTH = re.compile(r"%[-#0 +]*(\d*)")


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
    """Return the parts of a text format that are constant for a call site, and what stands between them."""
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
        is_free = name in ("message", "msg", *BELOW)
        conversion = _Conversion(name, spec, free_text if is_free else other)
        if name in SITE:
            runs[-1].append(conversion)
        else:
            changing.append(conversion)
            runs.append([])
    runs[-1].append(form.text[done:])
    return runs, changing


def text_renderer(form: Format) -> Render:  # noqa: C901 - the layout of a line, in one place
    """Return the function that renders a record, from a given `address:port`, by the text of *form*."""
    free_text = escape if form.newlines == "escape" else None
    line_break = "\\n" if form.newlines == "escape" else "\n"
    clock = Clock(form.datefmt, time.gmtime if form.utc else time.localtime)
    runs, changing = _compile(form)
    others = [_changing(conversion, clock) for conversion in changing]

    def render_constant(site: Fragment) -> list[Any]:
        """Return the runs, and behind them the list of what stands on lines of its own."""
        made: list[Any] = [
            "".join([one if isinstance(one, str) else one.apply(site.fields.get(one.name)) for one in run])
            for run in runs
        ]
        # As logging.Formatter has them.
        below = [str(site.fields[key]) for key in BELOW if site.fields.get(key)]
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
        # The same, three times as fast, if nothing changes but time, logger and message, in this order.
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


def _changing(conversion: _Conversion, clock: Clock) -> Render:
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
