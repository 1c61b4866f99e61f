"""One record becomes one line of JSON.

What is constant for a logger, a call site or a thread is rendered once and kept with it. What JSON cannot
hold becomes bounded text. Knows no socket and no file.
"""

from __future__ import annotations

import json
import re
import time
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any

from collector.escape import HARMLESS, NEWLINE
from collector.format.clock import Clock
from collector.pickles.brief import jsonable_values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from collector.wire.records import Fragment, Record

_MICROS = 1_000_000
_UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u2028\u2029]")
_HARMLESS_IN_JSON = HARMLESS.replace(b'"', b"\n")
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


def json_renderer() -> Callable[[Record, str], str]:
    """Return the function that renders a record, from a given `address:port`, as an object of JSON."""
    clock = Clock('{"timestamp":"%Y-%m-%dT%H:%M:%S.', time.gmtime)

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
