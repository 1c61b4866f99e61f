"""Which keys a table has and what checks each, as the dataclasses in tables declare them, once."""

from __future__ import annotations

import difflib
import functools
from typing import Any, get_args, get_type_hints

from collector.config.tables import Config, Forward, Rule

# How alike keys are that are a slip apart, as `name` and `names` are, not `max_bytes` and `max_files`.
_CLOSE = 0.8
_WRITTEN = {"rules": "logger", "forwards": "forward"}


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    return {_WRITTEN.get(key, key): hint for key, hint in hints.items()}


def _check_of(hint: Any) -> Any:  # noqa: ANN401 - an annotation has no type of its own
    """Return a key's check or, where the key is a table, its dataclass."""
    if isinstance(hint, type):
        return hint
    return hint.__metadata__[0] if hasattr(hint, "__metadata__") else get_args(hint)[0]


@functools.cache
def keys(kind: type) -> dict[str, Any]:
    """Return the keys of a table, each with its check or, where it is itself a table, its dataclass."""
    return {key: _check_of(hint) for key, hint in _hints(kind).items()}


def is_text(kind: type, key: str) -> bool:
    """Tell whether a key takes text alone."""
    return getattr(_hints(kind)[key], "__origin__", None) is str


def suggestion(key: str, kind: type, prefix: str) -> str:
    """Return the remedy for a *key* that its table, below *prefix* in a larger one, does not have."""
    known = keys(kind)
    top, form = (Rule, "{}.{}") if kind is Rule or prefix else (Config, "[{}] {}")
    tables = [(name, check) for name, check in keys(top).items() if isinstance(check, type)]
    # Keys of a destination have their likes in other tables (host, port), where nobody means them.
    same = [form.format(name, key) for name, table in tables if kind is not Forward and key in keys(table)]
    # One of its own table, unless it is further away than the same key elsewhere.
    own = difflib.get_close_matches(key, known, 1, _CLOSE if same else 0.6)
    near = [prefix + name for name in own] + same
    return f"did you mean {' or '.join(near)}?" if near else f"remove it, or use one of {', '.join(known)}"
