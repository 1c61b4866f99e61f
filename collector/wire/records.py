"""The contents of a payload become a record: the fields of a LogRecord, each of the type it should have.

A field of any other type is replaced, by bounded text where it is shown, and the record is kept. No LogRecord
is built from the wire: a key named like a method is only a key. Knows no socket and no file.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from collector import levels
from collector.pickles.brief import brief
from collector.pickles.errors import RecordError
from collector.pickles.meanings import scalar_of
from collector.pickles.placeholder import Placeholder
from collector.wire.merging import merged

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HEAD = frozenset({"name"})
SITE = frozenset(
    (
        *("args", "levelname", "levelno", "pathname", "filename", "module", "exc_info", "exc_text"),
        *("stack_info", "lineno", "funcName"),
    )
)
TAIL = frozenset({"thread", "threadName", "processName", "process", "taskName"})
TIMES = frozenset({"created", "msecs", "relativeCreated"})
# `message` and `asctime` are left behind by formatters that ran in the client before the SocketHandler did.
STANDARD = HEAD | SITE | TAIL | TIMES | {"msg", "message", "asctime"}
"""Attributes that logging itself puts into a record; any other key is an extra."""
NEEDED = frozenset({"name", "msg", "message"})
"""What has none of these attributes is no record."""

END_OF_TIME = 253_402_214_400.0
"""9999-12-31: strftime can print a day more, which time zones east of Greenwich need."""

BELOW = ("exc_text", "stack_info")
"""What stands on lines of its own, below the message, in this order."""
_TEXTS = frozenset(
    (
        *("levelname", *BELOW, "pathname", "filename", "module", "funcName"),
        *("threadName", "processName", "taskName"),
    )
)
_INTEGERS = frozenset({"levelno", "lineno", "process", "thread"})

_USUAL = dict.fromkeys(_TEXTS.difference(BELOW), str) | dict.fromkeys(_INTEGERS, int)
"""The types by which a field is seen to fit without a call: a call for each field would be felt."""


class NoRecordError(RecordError):
    """The payload can be read, but does not hold the fields of a LogRecord."""

    reason = "not the fields of a LogRecord"

    def __init__(self, value: object, form: str = "") -> None:
        """Take what the payload holds; *form* is that of a payload that is no pickle."""
        super().__init__(f"{self.reason} but {form}{brief(value)[:200]}")


class Fragment:
    """Fields that frames have in common, and the pieces of lines made of them."""

    __slots__ = ("count", "fields", "raises", "rendered", "shared")

    def __init__(self, fields: Mapping[str, object], *, shared: bool = False) -> None:
        self.fields = fields
        self.count = 0
        """How many records with it are not yet in the statistics, if it is a head or a site."""
        self.shared = shared
        """Whether it is remembered, so that other records will have this very object; of a head or a site."""
        self.raises = bool(fields.get("exc_text"))
        """Whether it has a traceback."""
        self.rendered: dict[object, Any] = {}
        """What renderers keep here for the next record with this fragment: a little for each format."""


Record = tuple[Fragment, Fragment, Fragment, str, float, object, object, "Mapping[object, object]"]
"""What a line is made of: head, site, tail, message, created, msecs, relativeCreated, extras.

The fields are checked, and those of head, site and tail are constant in many frames. A plain tuple: making
and unpacking a NamedTuple takes a tenth of all the time for a record. Code that runs for every record unpacks
it; all other code asks the functions below.
"""


def head_of(record: Record) -> Fragment:
    """Return the fragment that has the name of the logger."""
    return record[0]


def name_of(record: Record) -> str:
    """Return the name of the logger."""
    return record[0].fields["name"]  # type: ignore[return-value] # HEAD has text


def message_of(record: Record) -> str:
    """Return the message, its arguments merged in."""
    return record[3]


def traceback_of(record: Record) -> str:
    """Return the text of the exception, "" if there was none."""
    return str(record[1].fields.get("exc_text") or "")


def level_of(record: Record) -> int | None:
    """Return the level, None if the client sent no integer: such a record is below no level."""
    level = record[1].fields.get("levelno")
    return level if type(level) is int else None


def fields_of(record: Record) -> dict[Any, object]:
    """Return all attributes in one dict, extras included."""
    head, site, tail, message, created, msecs, relative_created, extra = record
    fields: dict[Any, object] = {"message": message, "created": created, "msecs": msecs}
    fields["relativeCreated"] = relative_created
    return {**fields, **head.fields, **site.fields, **tail.fields, **extra}


NO_EXTRA: Mapping[object, object] = {}


def checked(fields: dict[Any, object], now: Callable[[], float] = time.time) -> Record:  # noqa: C901 - calls would be felt
    """Return the record that has the attributes *fields*. Raises NoRecordError if no record could.

    *now* says which time it has if its own is none.
    """
    if NEEDED.isdisjoint(fields):
        raise NoRecordError(fields)
    name = fields.get("name")
    created, msecs = fields.get("created"), fields.get("msecs")
    if type(created) is Placeholder:
        created = scalar_of(created)
    if type(created) not in (float, int) or not 0 <= created < END_OF_TIME:  # type: ignore[operator]
        created, msecs = now(), None
    if type(msecs) is not float and not (type(msecs) is int and 0 <= msecs < 1000):  # noqa: PLR2004 - of a second
        msecs = min(round(created % 1 * 1000, 3), 999.999)  # type: ignore[operator] # a number by now
    site, tail, extra = {}, {}, {}
    for key, value in fields.items():
        if key in SITE:
            site[key] = value if value is None or type(value) is _USUAL.get(key) else _fit(key, value)
        elif key in TAIL:
            tail[key] = value if value is None or type(value) is _USUAL.get(key) else _fit(key, value)
        elif key not in STANDARD:
            extra[key] = value
    _complete(site)
    relative = fields.get("relativeCreated")
    if type(name) is not str:
        name = "root" if name is None else brief(name)
    message = fields.get("msg")
    if type(message) is not str or not message or fields.get("args") is not None:
        message = _message(fields)
    head = Fragment({"name": name})
    return head, Fragment(site), Fragment(tail), message, created, msecs, relative, extra  # type: ignore[return-value]


def _message(fields: Mapping[Any, object]) -> str:
    """Return the text of a record whose client did not merge the message into one, as stock clients do."""
    message, args = fields.get("msg"), fields.get("args")
    if message is None or message == "":
        left = fields.get("message")
        if left is not None or message is None:
            message, args = "" if left is None else left, None
    text = brief(message)
    if args is None or args in ((), [], {}):
        return text
    with_args = merged(text, args)
    return f"{text} {brief(args)}" if with_args is None else with_args


def _fit(key: str, value: object) -> object:
    """Return *value* if it is what the field should hold, else its text; None if it says nothing."""
    if type(value) is Placeholder:
        value = scalar_of(value)
    if key in BELOW and (not value or (isinstance(value, str) and value.isspace())):
        return None  # what picologging and loguru send with a record that has none
    if key in _INTEGERS and type(value) is float and value.is_integer():
        return int(value)  # JSON of other languages has one kind of number
    if value is None or (type(value) is str if key in _TEXTS else type(value) is int or key not in _INTEGERS):
        return value
    return brief(value)


def _complete(site: dict[str, object]) -> None:
    """Add what a client left out of a call site and has sent in another form."""
    number = site.get("levelno")
    name = site.get("levelname")
    if name is None and type(number) is int:
        site["levelname"] = logging.getLevelName(number)
    if number is None and type(name) is str:
        site["levelno"] = levels.known(name)
    if site.get("exc_text") is None and isinstance(site.get("exc_info"), str):
        site["exc_text"] = _fit("exc_text", site["exc_info"])


def fitted(fields: Mapping[str, object], keys: frozenset[str]) -> dict[str, object] | None:
    """Return *fields* as checked() makes them; None if not all are among *keys*, or if arguments are left."""
    if not fields.keys() <= keys or fields.get("args") is not None:
        return None
    made = {key: _fit(key, value) for key, value in fields.items()}
    if keys is SITE:
        _complete(made)
    return made
