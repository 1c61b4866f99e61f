"""What a payload says of a record: as a pickle, or as an object of JSON.

Contract: `read_fields` returns the attributes of a LogRecord, or raises RecordError, in a time and a memory
that budgets bound. A payload that is neither is named by what it looks like.
"""

from __future__ import annotations

import re
from typing import Any

from collector.pickles.errors import RecordError
from collector.pickles.meanings import attributes_of
from collector.pickles.reader import read
from collector.wire.framing import begins_as_pickle, is_text
from collector.wire.json_payload import begins_as_object, read_object
from collector.wire.records import NEEDED, NoRecordError

_LOOKED_AT = 1024
_FORMS = {
    "gzip": re.compile(rb"\x1f\x8b"),
    "zlib": re.compile(rb"\x78[\x01\x5e\x9c\xda]"),
    "bzip2": re.compile(b"BZh[1-9]"),
    "xz": re.compile(rb"\xfd7zXZ\0"),
    "Zstandard": re.compile(rb"\x28\xb5\x2f\xfd"),
    "msgpack": re.compile(
        # A map of more than 15, or an array or a smaller map that begins with text or a map. No UTF-8 does.
        rb"\xde[\0-\x7f]|\xdf\0"
        rb"|(?:[\x81-\x9f]|\xdc[\0-\x7f].|\xdd[\0-\x7f]...)[\xa0-\xbf\xd9\x81-\x8f\xde]",
        re.DOTALL,
    ),
}


def read_fields(payload: bytes, encoding: str = "utf-8") -> tuple[dict[Any, object], str]:
    """Return the attributes that a payload holds, and the budget of a pickle that ran out, "" if none did.

    Those of a pickled LogRecord, or of an object like it, are in its state. Raises RecordError.
    """
    if begins_as_object(payload):
        fields = read_object(payload)
        if NEEDED.isdisjoint(fields):
            raise NoRecordError(fields, "JSON: ")
        return fields, ""
    try:
        value, over, *_ = read(payload, encoding)
    except RecordError as fault:
        looks = looks_like(payload)
        if looks:
            raise RecordError(f"{fault}; looks like {looks}") from None
        raise
    attributes = value if isinstance(value, dict) else attributes_of(value)
    if attributes is None:
        raise NoRecordError(value)
    return attributes, over


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
