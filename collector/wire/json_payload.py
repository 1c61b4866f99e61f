"""A payload that is an object of JSON.

Contract: the budgets are those of a pickle, and are counted before anything is parsed.
"""

from __future__ import annotations

import json
import re

from collector.pickles.budgets import MAX_CONTAINERS, MAX_DEPTH, MAX_DIGITS, MAX_STRUCTURE
from collector.pickles.errors import RecordError

MAX_ESCAPES = 256 * 1024
"""The most escapes in its strings: each is a string of its own while it is parsed."""

_JSON = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*\{")
_JSON_BEGINS = frozenset((b"{", b" ", b"\t", b"\r", b"\n", b"\xef"))
_STRING = re.compile(b'"[^"]*"')
_TOO_LONG = re.compile(rb"\d{%d}" % (MAX_DIGITS + 1))
_BRACKETS = bytes(byte for byte in range(256) if byte not in b"{}[]")


class JsonError(RecordError):
    """A JSON object that cannot be read, or not within the budgets."""

    reason = "JSON that cannot be read"


def begins_as_object(payload: bytes) -> bool:
    """Whether *payload* begins as an object of JSON does; no pickle begins so."""
    return payload[:1] in _JSON_BEGINS and _JSON.match(payload) is not None


def read_object(payload: bytes) -> dict[str, object]:
    """Return what *payload*, which begins as an object, says. Raises JsonError."""
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
    """Return the budget that *payload* exceeds, "" if none. What is far too large is not even copied."""
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
