"""One record becomes one line: text as logging.Formatter would lay it out, or a JSON object.

A record is never lost to its own contents: a conversion that does not fit its value falls back to text, and
what JSON cannot hold becomes bounded text. Text from the wire is an argument, never a format. Knows no
socket and no file.
"""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING

from collector.config import TEXT_FIELD
from collector.pickles import brief
from collector.records import STANDARD

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.config import Format
    from collector.records import Record

ABSENT = "-"
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\\\\]")
_UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u2028\u2029]")


def renderer(form: Format) -> Callable[[Record, str], str]:
    """Return the function that renders a record, from a given `address:port`, as *form* says.

    Its result ends in a newline, and may hold others and lone surrogates: encode it with "backslashreplace".
    """
    return _json_renderer() if form.style == "json" else _text_renderer(form)


def escape(text: str) -> str:
    r"""Write C0 and C1 controls, U+2028, U+2029 and the backslash as Python would: `\n`, `\x1b`, `\\`."""
    if text.isprintable() and "\\" not in text:  # both run in C: nearly every text ends here
        return text
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


# --- text ---------------------------------------------------------------------------------------------------


def _text_renderer(form: Format) -> Callable[[Record, str], str]:
    """Compile the text format: the literal text becomes a template of %s, each conversion a function."""
    asctime = _clock(form.datefmt, time.gmtime if form.utc else time.localtime)
    free_text = escape if form.newlines == "escape" else str
    line_break = "\\n" if form.newlines == "escape" else "\n"
    conversions: list[Callable[[Record, str], str]] = []

    def compiled(match: re.Match[str]) -> str:
        name = match["name"]
        if name is None:
            return "%%"
        precision = "" if match["precision"] is None else f".{match['precision']}"
        spec = f"%{match['flags']}{match['width']}{precision}{match['type']}"
        conversions.append(_conversion(name, spec, asctime, free_text))
        return "%s"

    template = TEXT_FIELD.sub(compiled, form.text)

    def render(record: Record, client: str) -> str:
        line = template % tuple([convert(record, client) for convert in conversions])
        fields = record.fields
        for name in ("exc_text", "stack_info"):
            text = fields.get(name)
            if text:
                # As logging.Formatter joins them.
                line += free_text(text) if line.endswith("\n") else line_break + free_text(text)  # type: ignore[arg-type]
        return line + "\n"

    return render


def _conversion(
    name: str, spec: str, asctime: Callable[[float], str], free_text: Callable[[str], str]
) -> Callable[[Record, str], str]:
    as_text = _as_text(spec)
    if name == "asctime":
        return lambda record, _: as_text(asctime(record.created))
    if name == "message":
        return lambda record, _: free_text(as_text(record.message))
    if name == "client":
        return lambda _, client: as_text(client)
    if name in ("msg", "exc_text", "stack_info"):
        return lambda record, _: free_text(as_text(str(record.fields.get(name) or ABSENT)))
    absent = (None, ABSENT) if name in STANDARD else (ABSENT,)

    def convert(record: Record, _: str) -> str:
        value = record.fields.get(name, ABSENT)
        if value in absent:
            return as_text(ABSENT)
        if spec[-1] not in "sra" and isinstance(value, (int, float)):
            try:
                return escape(spec % value)
            except (TypeError, ValueError, OverflowError):
                pass  # %x of 1.5, %d of infinity: the value is shown as text
        return escape(as_text(value if isinstance(value, str) else brief(value)))

    return convert


def _as_text(spec: str) -> Callable[[str], str]:
    """Return how *spec* shows text: one that asks for a number keeps its width and nothing else."""
    if spec == "%s":
        return str
    if spec[-1] not in "sra":
        width = re.match(r"%[-#0 +]*(\d*)", spec)
        spec = f"%{'-' if '-' in spec else ''}{width[1].lstrip('0') if width else ''}s"
    return lambda text: spec % text


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


# --- JSON ---------------------------------------------------------------------------------------------------

# Keys in the order of a line, with the attribute of a LogRecord that each one shows.
_JSON_FIELDS = (
    ("exception", "exc_text"),
    ("stack", "stack_info"),
    ("process", "process"),
    ("process_name", "processName"),
    ("thread", "thread"),
    ("thread_name", "threadName"),
    ("task_name", "taskName"),
    ("file", "pathname"),
    ("line", "lineno"),
    ("function", "funcName"),
)
# A few references can stand for gigabytes (2**60 leaves in 200 bytes): past these an extra is brief text.
# The numbers are those of the largest value a frame can hold without references.
_MAX_JSON_NODES = 100_000
_MAX_JSON_CHARACTERS = 16 * 1024 * 1024
_MAX_JSON_DEPTH = 100


def _json_renderer() -> Callable[[Record, str], str]:
    encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode
    seconds = _clock("%Y-%m-%dT%H:%M:%S", time.gmtime)

    def render(record: Record, client: str) -> str:
        fields = record.fields
        whole, micros = divmod(round(record.created * 1_000_000), 1_000_000)
        line: dict[str, object] = {
            "timestamp": f"{seconds(whole)}.{micros:06d}Z",
            "level": fields.get("levelname"),
            "logger": record.name,
            "message": record.message,
            "client": client,
        }
        for key, name in _JSON_FIELDS:
            line[key] = fields.get(name)
        line = {key: value for key, value in line.items() if value is not None}
        extra = {_key(key): jsonable(value) for key, value in fields.items() if key not in STANDARD}
        if extra:
            line["extra"] = extra
        text = encode(line)
        if not text.isprintable():
            # One line under every splitter, not only those that split at "\n".
            text = _UNSAFE_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
        return text + "\n"

    return render


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
