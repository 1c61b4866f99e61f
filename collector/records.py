"""One payload becomes one record: the fields of a LogRecord, each of the type it should have.

A field that cannot be what it should be is replaced, by bounded text where it is shown, and the record lives
on. No LogRecord is built from the wire: a key named like a method is only a key. Knows no socket and no file.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from collector.pickles import RecordError, brief, read

if TYPE_CHECKING:
    from collections.abc import Mapping

# `message` and `asctime` are left behind by formatters that ran in the client before the SocketHandler did.
STANDARD = frozenset(
    (
        *("name", "msg", "args", "levelname", "levelno", "pathname", "filename", "module", "exc_info"),
        *("exc_text", "stack_info", "lineno", "funcName", "created", "msecs", "relativeCreated", "thread"),
        *("threadName", "processName", "process", "taskName", "message", "asctime"),
    )
)
"""Attributes that logging itself puts into a record; any other key is an extra."""

_END_OF_TIME = 253_402_214_400.0
"""9999-12-31: a day short of what strftime can print, for the time zones east of Greenwich."""


class Record(NamedTuple):
    """A record as lines are made of it."""

    name: str
    levelno: int | None
    """None where the client sent no integer: such a record is below no level."""
    message: str
    created: float
    fields: Mapping[str, object]
    """All of its attributes, checked; what is not in STANDARD is an extra."""


def read_record(payload: bytes, encoding: str = "utf-8") -> tuple[Record, str]:
    """Return the record in *payload*, and "" or the reason why only a part of it could be decoded.

    *encoding* is that of byte strings from Python 2. Raises RecordError where there is no record to be had.
    """
    value, over, _ = read(payload, encoding)
    if not isinstance(value, dict) or not ("msg" in value or "name" in value):
        raise RecordError(f"not the fields of a LogRecord but {brief(value)[:200]}")
    return _checked(value), over


def _checked(fields: dict[str, object]) -> Record:
    name = fields.get("name")
    if not isinstance(name, str):
        fields["name"] = name = "root" if name is None else brief(name)
    message = fields.get("msg")
    if not isinstance(message, str):
        message = brief(message)
    args = fields.get("args")
    if args is not None:
        # Stock clients have merged them in. Formatting somebody's text with somebody's values can take a GB.
        message += f" {brief(args)}"
    fields["msg"] = fields["message"] = message
    created = fields.get("created")
    if type(created) not in (float, int) or not 0 <= created < _END_OF_TIME:  # type: ignore[operator]
        fields["created"] = created = time.time()
        fields["msecs"] = created % 1 * 1000
    for key in _TEXTS:
        text = fields.get(key)
        if text is not None and not isinstance(text, str):
            fields[key] = brief(text)
    for key in _INTEGERS:
        number = fields.get(key)
        if number is not None and type(number) is not int:
            fields[key] = brief(number)
    levelno = fields.get("levelno")
    return Record(name, levelno if type(levelno) is int else None, message, created, fields)  # type: ignore[arg-type]


_TEXTS = (
    "levelname",
    "exc_text",
    "stack_info",
    "pathname",
    "filename",
    "module",
    "funcName",
    "threadName",
    "processName",
)
_INTEGERS = ("levelno", "lineno", "process", "thread")
