"""One record becomes one line of JSON.

What is constant for a logger, a call site or a thread is rendered once and kept with it. What JSON cannot
hold becomes bounded text. Knows no socket and no file.
"""

from __future__ import annotations

import json
import time
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any

from collector.escape import HARMLESS, NEWLINE, one_line
from collector.format.clock import Clock
from collector.pickles.brief import jsonable_values
from collector.wire.records import BELOW

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from collector.wire.records import Fragment, Record

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
"""The key that an attribute of a LogRecord has in a line of JSON, in the order of the line."""
EXTRA = "extra"
"""The key of the extras, which come last."""

_MICROS = 1_000_000
_HARMLESS_IN_JSON = HARMLESS.replace(b'"', b"\n")
# Attributes that stand together in a line.
_ORIGIN = ("process", "processName", "thread", "threadName", "taskName")
_PLACE = ("pathname", "lineno", "funcName")
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


def json_renderer() -> Callable[[Record, str], str]:
    """Return the function that renders a record, from a given `address:port`, as an object of JSON."""
    clock = Clock(f'{{"{KEY_OF["asctime"]}":"%Y-%m-%dT%H:%M:%S.', time.gmtime)

    def render_head(head: Fragment) -> str:
        logger = head.rendered["JSON"] = f'{_members(("name",), head.fields)},"{KEY_OF["message"]}":'
        return logger

    def render_site(site: Fragment) -> tuple[str, str, str]:
        members = [_members(names, site.fields) for names in (("levelname",), BELOW, _PLACE)]
        level, exception, place = members
        made = site.rendered["JSON"] = f'Z"{level}', f'{exception},"{KEY_OF["client"]}":"', place
        return made

    def render_tail(tail: Fragment) -> str:
        origin = tail.rendered["JSON"] = f'"{_members(_ORIGIN, tail.fields)}'
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
        # Most messages need no escapes; finding that out takes a fraction of the time of escaping.
        if message.isascii():
            plain = NEWLINE not in message.encode().translate(_HARMLESS_IN_JSON)
        else:
            plain = message.isprintable() and '"' not in message and "\\" not in message
        quoted = f'"{message}"' if plain else one_line(encode_basestring(message))
        extras = f',"{EXTRA}":{_extra(extra)}' if extra else ""
        digits = "%06d" % micros  # noqa: UP031 - format() takes no float for d, and twice the time
        return f"{clock.text}{digits}{level}{logger}{quoted}{exception}{client}{origin}{place}{extras}}}\n"

    return render


def in_json(text: str) -> str:
    """Return *text* as it stands within the quotes of a line of JSON."""
    return one_line(encode_basestring(text))[1:-1]


def _members(names: Sequence[str], fields: Mapping[str, Any]) -> str:
    """Return the members for those of *names* that *fields* have, a comma before each."""
    present = [(KEY_OF[name], fields[name]) for name in names if fields.get(name) is not None]
    return "".join(f',"{key}":{one_line(_encode(value))}' for key, value in present)


def _extra(extras: Mapping[object, object]) -> str:
    return one_line(_encode(jsonable_values(extras)))
