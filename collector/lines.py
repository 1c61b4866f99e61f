"""One record becomes one line: text as logging.Formatter would lay it out, or a JSON object.

A format is compiled at start into pieces. What is constant for a fragment of a record (the logger, the call
site, the thread) is rendered once and kept with the fragment, the time of day once a second; so a line costs
little more than putting its pieces together. A record is never lost to its own contents: a conversion that
does not fit its value falls back to text, and what JSON cannot hold becomes bounded text. Text from the wire
is an argument, never a format. Knows no socket and no file.
"""

from __future__ import annotations

import json
import re
import time
from json.encoder import encode_basestring
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from collector.config import TEXT_FIELD
from collector.pickles import brief
from collector.records import HEAD, SITE, STANDARD, TAIL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from collector.config import Format
    from collector.records import Fragment, Record

    Render = Callable[[Record, str], str]
    Pieces = Callable[[Fragment], tuple[str, ...]]

ABSENT = "-"
_FIRST = ["asctime", "message"]
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\\\\]")
_UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u2028\u2029]")
_NUMBER_WIDTH = re.compile(r"%[-#0 +]*(\d*)")


def renderer(form: Format) -> Render:
    """Return the function that renders a record, from a given `address:port`, as *form* says.

    Its result ends in a newline, and may hold others and lone surrogates: encode it with "backslashreplace".
    """
    return _json_renderer() if form.style == "json" else _text_renderer(form)


def escape(text: str) -> str:
    r"""Write C0 and C1 controls, U+2028, U+2029 and the backslash as Python would: `\n`, `\x1b`, `\\`."""
    if text.isprintable() and "\\" not in text:  # both run in C: nearly every text ends here
        return text
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def _clock(datefmt: str, zone: Callable[[float], time.struct_time]) -> Callable[[float], str]:
    """Return a strftime for `created` that works once a second: records of one second follow each other."""
    second, text = -1, ""

    def asctime(created: float) -> str:
        nonlocal second, text
        if int(created) != second:
            second = int(created)
            text = time.strftime(datefmt, zone(second))
        return text

    return asctime


def _kept(render: Callable[[Mapping[str, Any]], tuple[str, ...]]) -> Pieces:
    """Return a function that renders the fields of a fragment once, and keeps the pieces with it."""

    def pieces(fragment: Fragment) -> tuple[str, ...]:
        try:
            return fragment.rendered[render]  # type: ignore[no-any-return]
        except KeyError:
            made = fragment.rendered[render] = render(fragment.fields)
            return made

    return pieces


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


def _text_renderer(form: Format) -> Render:  # noqa: C901 - the layout of a line, in one place
    """Compile the text format: a template, and for each place in it the piece that goes there."""
    free_text = escape if form.newlines == "escape" else str
    line_break = "\\n" if form.newlines == "escape" else "\n"
    asctime = _clock(form.datefmt, time.gmtime if form.utc else time.localtime)
    # Time and message are in nearly every format as they are, and come first; then what is constant.
    heads: list[_Conversion] = []
    sites: list[_Conversion] = []
    tails: list[_Conversion] = []
    others: list[Render] = []
    places: list[tuple[list[Any], int]] = []

    def compiled(match: re.Match[str]) -> str:
        name = match["name"]
        if name is None:
            return "%%"
        precision = "" if match["precision"] is None else f".{match['precision']}"
        spec = f"%{match['flags']}{match['width']}{precision}{match['type']}"
        if spec == "%s" and name in _FIRST:
            places.append((_FIRST, _FIRST.index(name)))
            return "%s"
        is_free = name in ("message", "msg", "exc_text", "stack_info")
        conversion = _Conversion(name, spec, free_text if is_free else escape)
        for keys, conversions in ((HEAD, heads), (SITE, sites), (TAIL, tails)):
            if name in keys:
                places.append((conversions, len(conversions)))
                conversions.append(conversion)
                break
        else:
            places.append((others, len(others)))
            others.append(_changing(conversion, asctime))
        return "%s"

    template = TEXT_FIELD.sub(compiled, form.text)
    groups: list[list[Any]] = [_FIRST, heads, sites, tails, others]
    begin = {id(group): sum(map(len, groups[:number])) for number, group in enumerate(groups)}
    order = [begin[id(group)] + index for group, index in places]
    in_order: Callable[[tuple[str, ...]], Any] = itemgetter(*order) if order else lambda _: ()
    head_pieces, site_pieces, tail_pieces = _constant(heads), _constant(sites), _constant(tails)

    def render(record: Record, client: str) -> str:
        head, site, tail, message, created, _, _, _ = record
        pieces = (asctime(created), free_text(message), *head_pieces(head), *site_pieces(site))
        if tails or others:
            pieces += tail_pieces(tail)
            pieces += tuple([other(record, client) for other in others])
        line: str = template % in_order(pieces)
        fields = site.fields
        if fields.get("exc_text") or fields.get("stack_info"):
            for key in ("exc_text", "stack_info"):
                if fields.get(key):
                    # On lines of their own, as logging.Formatter has them.
                    line += "" if line.endswith("\n") else line_break
                    line += free_text(str(fields[key]))
        return line + "\n"

    return render


def _constant(conversions: Sequence[_Conversion]) -> Pieces:
    return _kept(lambda fields: tuple(one.apply(fields.get(one.name)) for one in conversions))


def _changing(conversion: _Conversion, asctime: Callable[[float], str]) -> Render:
    """Return what renders a conversion whose value changes with the record."""
    name = conversion.name
    if name == "asctime":
        return lambda record, _: conversion.as_text(asctime(record.created))
    if name in ("message", "msg"):
        return lambda record, _: conversion.as_text(record.message)
    if name == "client":
        return lambda _, client: conversion.as_text(client)
    if name in STANDARD:
        return lambda record, _: conversion.apply(record.fields.get(name))
    return lambda record, _: conversion.apply(record.extra.get(name, ABSENT))


# --- JSON ---------------------------------------------------------------------------------------------------

# A few references can stand for gigabytes (2**60 leaves in 200 bytes): past these an extra is brief text.
# The numbers are those of the largest value a frame can hold without references.
_MAX_JSON_NODES = 100_000
_MAX_JSON_CHARACTERS = 16 * 1024 * 1024
_MAX_JSON_DEPTH = 100

# Groups of members that stand together in a line, by the fragment they are constant in: key, attribute.
_JSON_HEAD = ((("logger", "name"),),)
_JSON_SITE = (
    (("level", "levelname"),),
    (("exception", "exc_text"), ("stack", "stack_info")),
    (("file", "pathname"), ("line", "lineno"), ("function", "funcName")),
)
_JSON_TAIL = (
    (
        ("process", "process"),
        ("process_name", "processName"),
        ("thread", "thread"),
        ("thread_name", "threadName"),
        ("task_name", "taskName"),
    ),
)
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


def _json_renderer() -> Render:
    seconds = _clock("%Y-%m-%dT%H:%M:%S", time.gmtime)
    head_pieces, site_pieces, tail_pieces = _members(_JSON_HEAD), _members(_JSON_SITE), _members(_JSON_TAIL)

    def render(record: Record, client: str) -> str:
        whole, micros = divmod(round(record.created * 1_000_000), 1_000_000)
        message = encode_basestring(record.message)
        if not record.message.isprintable():
            message = _one_line(message)
        (logger,) = head_pieces(record.head)
        level, exception, place = site_pieces(record.site)
        (origin,) = tail_pieces(record.tail)
        extra = f',"extra":{_extra(record.extra)}' if record.extra else ""
        return (
            f'{{"timestamp":"{seconds(whole)}.{micros:06d}Z"{level}{logger},"message":{message}{exception}'
            f',"client":"{client}"{origin}{place}{extra}}}\n'
        )

    return render


def _members(groups: Sequence[Sequence[tuple[str, str]]]) -> Pieces:
    """Return what renders, for each group, the members that are not absent, a comma before each."""
    return _kept(
        lambda fields: tuple(
            "".join(
                f',"{key}":{_one_line(_encode(fields[name]))}'
                for key, name in group
                if fields.get(name) is not None
            )
            for group in groups
        )
    )


def _one_line(text: str) -> str:
    """Return JSON as one line under every splitter, not only those that split at newlines."""
    return _UNSAFE_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _extra(extras: Mapping[object, object]) -> str:
    return _one_line(_encode({_key(key): jsonable(value) for key, value in extras.items()}))


def jsonable(value: object) -> object:
    """Return *value* as JSON can hold it: its own containers and scalars, and text for everything else."""
    budget = [_MAX_JSON_NODES, _MAX_JSON_CHARACTERS]
    try:
        return _jsonable(value, budget, _MAX_JSON_DEPTH)
    except _TooMuchError:
        return brief(value)


class _TooMuchError(Exception):
    """A value would take more than its budget."""


def _jsonable(value: object, budget: list[int], depth: int) -> object:
    budget[0] -= 1
    if budget[0] < 0 or budget[1] < 0 or not depth:
        raise _TooMuchError
    if isinstance(value, str):
        budget[1] -= len(value)
        return value
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, (list, tuple)):
        return [_jsonable(item, budget, depth - 1) for item in value]
    if isinstance(value, dict):
        return {_key(key): _jsonable(item, budget, depth - 1) for key, item in value.items()}
    if isinstance(value, float) and value - value == 0:  # NaN and the infinities differ from themselves
        return value
    return _jsonable(brief(value), budget, depth)


def _key(key: object) -> str:
    return key if isinstance(key, str) else brief(key)
