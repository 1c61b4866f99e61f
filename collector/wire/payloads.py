"""What a payload says of a record: as a pickle, or as a JSON object. All else is named by what it looks like.

Contract: `read_fields` returns the attributes of a LogRecord, or raises RecordError, in a time and a memory
that budgets bound: `pickles` counts them, and here they are counted before JSON is parsed.
"""

from __future__ import annotations

import json
import re
from typing import Any

from collector.pickles.budgets import MAX_CONTAINERS, MAX_DEPTH, MAX_DIGITS, MAX_STRUCTURE
from collector.pickles.errors import RecordError
from collector.pickles.meanings import fields_of
from collector.pickles.reader import read
from collector.wire.framing import begins_as_pickle, is_text
from collector.wire.records import NoRecordError

MAX_ESCAPES = 256 * 1024
"""In the strings of JSON: each of them becomes a string for a while."""

_JSON = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*\{")
_JSON_BEGINS = frozenset((b"{", b" ", b"\t", b"\r", b"\n", b"\xef"))
_STRING = re.compile(b'"[^"]*"')
_TOO_LONG = re.compile(rb"\d{%d}" % (MAX_DIGITS + 1))
_BRACKETS = bytes(byte for byte in range(256) if byte not in b"{}[]")
_LOOKED_AT = 1024
_FORMS = {
    "gzip": re.compile(rb"\x1f\x8b"),
    "zlib": re.compile(rb"\x78[\x01\x5e\x9c\xda]"),
    "bzip2": re.compile(b"BZh[1-9]"),
    "xz": re.compile(rb"\xfd7zXZ\0"),
    "Zstandard": re.compile(rb"\x28\xb5\x2f\xfd"),
    "msgpack": re.compile(
        rb"(?:[\x81-\x9f]|[\xdc\xde]..|[\xdd\xdf]....)[\xa0-\xbf\xd9\x81-\x8f\xde]", re.DOTALL
    ),
}


class JsonError(RecordError):
    """A JSON object that cannot be read, or not within the budgets."""

    reason = "JSON that cannot be read"


def read_fields(payload: bytes, encoding: str = "utf-8") -> tuple[dict[Any, object], str]:
    """Return the attributes that a payload tells, and the budget of a pickle that ran out, "" if none did.

    A pickled LogRecord, or an object like it, is read as its `__dict__`. Raises RecordError.
    """
    if payload[:1] in _JSON_BEGINS and _JSON.match(payload):
        return _of_json(payload), ""
    try:
        value, over, *_ = read(payload, encoding)
    except RecordError as fault:
        looks = looks_like(payload)
        if looks:
            raise RecordError(f"{fault}; looks like {looks}") from None
        raise
    fields = value if isinstance(value, dict) else fields_of(value)
    if fields is None:
        raise NoRecordError(value)
    return fields, over


def _of_json(payload: bytes) -> dict[str, object]:
    fault = _over_budget(payload)
    if not fault:
        try:
            fields: dict[str, object] = json.loads(payload.decode("utf-8-sig"))
        except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
            fault = str(error)[:200]
        else:
            return fields
    raise JsonError(f"looks like JSON: {fault}")


def _over_budget(payload: bytes) -> str:  # noqa: PLR0911 - a budget each
    """Return the budget that JSON would use up, "" if none. What is far too much is not even copied."""
    if payload.count(b"\\") > MAX_ESCAPES:
        return f"more than {MAX_ESCAPES} escapes"
    if payload.count(b'"') > 2 * MAX_CONTAINERS:
        return f"more than {MAX_CONTAINERS} strings"
    # Without escapes, a string ends at the next quote.
    outside = _STRING.sub(b"", payload.replace(b"\\\\", b"").replace(b'\\"', b""))
    outside = outside.translate(None, b" \t\r\n")
    if len(outside) > MAX_STRUCTURE:
        return f"more than {MAX_STRUCTURE} bytes of structure"
    if _TOO_LONG.search(outside):
        return f"more than {MAX_DIGITS} digits"
    brackets = outside.translate(None, _BRACKETS)
    if len(brackets) > 2 * MAX_CONTAINERS:
        return f"more than {MAX_CONTAINERS} containers"
    depth = 0
    for bracket in brackets:
        depth += 1 if bracket in b"{[" else -1
        if depth > MAX_DEPTH:
            return f"more than {MAX_DEPTH} levels"
    return ""


def looks_like(payload: bytes) -> str:
    """Return what a payload that is no pickle looks like, "" if it looks like nothing else."""
    if begins_as_pickle(payload):
        return ""
    for what, form in _FORMS.items():
        if form.match(payload):
            return what
    if not is_text(payload[:_LOOKED_AT]):
        return ""
    return "JSON" if payload.lstrip()[:1] in (b"{", b"[") else "text"
