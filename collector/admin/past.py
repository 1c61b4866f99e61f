"""What may be asked of the past over HTTP: the parameters of a path, checked; each fault with its rule."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from collector import levels
from collector.admin.query_process import MAX_RECORDS, Request
from collector.moments import RULE, moment
from collector.readback.query import Place

if TYPE_CHECKING:
    from collections.abc import Collection

USUAL_RECORDS = 200
_TEXTS = ("logger", "text", "regex", "client")
_BOUNDS = ("after", "before")
_RULE = f"{RULE} (in an address, + is written %2B); or seconds since 1970"


def request(given: dict[str, str]) -> Request:
    """Return what /api/records is asked. Raises ValueError, with the rule."""
    refuse_unknown(given, ("before", "after", "level", *_TEXTS, "limit"))
    bounds: dict[str, float | str] = {}
    for key in _BOUNDS:
        if given.get(key):
            after = bounds.get("after")
            bounds[key] = _bound(given, key, after if isinstance(after, float) else None)
    filters = filters_of(given) | {key: given[key] for key in ("client",) if given.get(key)}
    return Request({**filters, **bounds}, count(given, "limit", USUAL_RECORDS))


def filters_of(given: dict[str, str]) -> dict[str, Any]:
    """Return the filters that history and the live stream have in common, as the fields of a Query."""
    found: dict[str, Any] = {key: given[key] for key in ("logger", "text", "regex") if given.get(key)}
    level = given.get("level", "NOTSET")
    try:
        return {**found, "level": levels.from_text(level), "ignore_case": True}
    except ValueError as fault:
        raise ValueError(f"level = {level[:100]}: {fault}") from fault


def count(given: dict[str, str], key: str, usual: int) -> int:
    """Return how many records are wanted."""
    text = given.get(key, str(usual))
    is_short = text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_RECORDS))
    if not is_short or int(text) > MAX_RECORDS:
        raise ValueError(f"{key} = {text[:100]}: must be a whole number from 0 to {MAX_RECORDS}")
    return int(text)


def time_of(given: dict[str, str], key: str, usual: float) -> float:
    """Return a time in seconds since 1970. Raises ValueError, with the rule."""
    if not (text := given.get(key, "")):
        return usual
    with suppress(ValueError):
        return _time(text)
    raise ValueError(f"{key} = {text[:100]}: {_RULE}")


def refuse_unknown(given: Collection[str], known: Collection[str]) -> None:
    """Raise ValueError if a parameter is given that is not *known*."""
    if unknown := [key for key in given if key not in known]:
        raise ValueError(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")


def _bound(given: dict[str, str], key: str, since: float | None) -> float | str:
    """Return a time, or the cursor of a record. Raises ValueError, with the rule."""
    text = given[key]
    with suppress(ValueError):
        return _time(text, since)
    with suppress(ValueError, RecursionError):
        Place.of(text)
        return text
    raise ValueError(f"{key} = {text[:100]}: {_RULE}; or the cursor of a record")


def _time(text: str, since: float | None = None) -> float:
    """Return seconds since 1970. *since* is as for moment(). Raises ValueError."""
    with suppress(ValueError):
        if math.isfinite(seconds := float(text)):
            return seconds
    return moment(text, time.time(), since)
