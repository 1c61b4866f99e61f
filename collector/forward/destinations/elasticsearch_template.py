"""The index template for our documents, as the engine that answers can have it. Knows no connection."""

from __future__ import annotations

import json
import re
from typing import Any

LABELS = ("flattened", "flat_object")
"""The type for all labels as one field: that of Elasticsearch, and that of OpenSearch."""

_KEYWORD = {"type": "keyword", "ignore_above": 1024}
_TEXT = {"type": "text"}
_LONG = {"type": "long"}
_TIME = {"type": "date_nanos"}  # `date` keeps milliseconds
_PRIORITY = 500
"""Of two templates that match, the higher one counts alone; Elastic's own for `logs-*-*` has 100."""


def index_patterns(index: str) -> list[str]:
    """Return the patterns of all indices that *index* makes: a data stream's name, or text for strftime."""
    return [re.sub(r"(?:%.|\*)(?:[-._]?%.)*", "*", index)]


def template(index: str, labels: str) -> str:
    """Return the JSON for `PUT _index_template/NAME`; *labels* is the type that the engine has for them."""
    name = {"name": _KEYWORD}
    file = {"name": _KEYWORD, "path": _KEYWORD, "line": _LONG}
    fields: dict[str, Any] = {
        "@timestamp": _TIME,
        "message": _TEXT,
        "log": {"level": _KEYWORD, "logger": _KEYWORD, "origin": {"file": file, "function": _KEYWORD}},
        "event": {"severity": _LONG, "created": _TIME, "sequence": _LONG},
        "error": {"type": _KEYWORD, "message": _TEXT, "stack_trace": _TEXT},
        "process": {"pid": _LONG, **name, "thread": {"id": _LONG, **name}},
        "client": {"address": _KEYWORD, "port": _LONG},
        "service": name,
        "trace": {"id": _KEYWORD},
        "span": {"id": _KEYWORD},
        "labels": {"type": labels},
    }
    made: dict[str, Any] = {"index_patterns": index_patterns(index), "priority": _PRIORITY}
    if "%" not in index:
        made["data_stream"] = {}
    made["template"] = {"mappings": {"properties": {key: _mapping(value) for key, value in fields.items()}}}
    return json.dumps(made, indent=2)


def _mapping(field: dict[str, Any]) -> dict[str, Any]:
    """Return the mapping of a field, or of an object whose fields are given: a type is text."""
    if isinstance(field.get("type"), str):
        return field
    return {"properties": {key: _mapping(value) for key, value in field.items()}}
