"""What may be asked of the past over HTTP: the parameters of a path, checked; each fault with its rule."""

from __future__ import annotations

import math
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from collector import levels
from collector.admin.query_process import MAX_RECORDS, Request

if TYPE_CHECKING:
    from collections.abc import Collection

USUAL_RECORDS = 200
_TEXTS = ("logger", "text", "regex", "client")
_BOUNDS = ("before", "after")
_TIMES = "seconds since 1970, or a time such as 2026-11-26T10:00:00Z"


def request(given: dict[str, str]) -> Request:
    """Return what /api/records is asked. Raises ValueError, with the rule."""
    refuse_unknown(given, (*_BOUNDS, "level", *_TEXTS, "limit"))
    bounds = {key: _bound(given[key]) for key in _BOUNDS if given.get(key)}
    filters = filters_of(given) | {key: given[key] for key in ("client",) if given.get(key)}
    return Request({**filters, **bounds}, count(given, "limit", USUAL_RECORDS))


def filters_of(given: dict[str, str]) -> dict[str, Any]:
    """Return the filters that history and the live stream have in common, as the fields of a Query."""
    found: dict[str, Any] = {key: given[key] for key in ("logger", "text", "regex") if given.get(key)}
    return {**found, "level": levels.from_text(given.get("level", "NOTSET")), "ignore_case": True}


def count(given: dict[str, str], key: str, usual: int) -> int:
    """Return how many records are wanted."""
    text = given.get(key, str(usual))
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_RECORDS))):
        raise ValueError(f"{key} = {text[:100]}: must be a whole number from 0 to {MAX_RECORDS}")
    if int(text) > MAX_RECORDS:
        raise ValueError(f"{key} = {text}: must be a whole number from 0 to {MAX_RECORDS}")
    return int(text)


def time_of(given: dict[str, str], key: str, usual: float) -> float:
    """Return a time in seconds since 1970. Raises ValueError, with the rule."""
    if not (text := given.get(key, "")):
        return usual
    when = _time(text)
    if when is None:
        raise ValueError(f"{key} = {text[:100]}: must be {_TIMES}")
    return when


def refuse_unknown(given: Collection[str], known: Collection[str]) -> None:
    """Raise ValueError if a parameter is given that is not *known*."""
    if unknown := [key for key in given if key not in known]:
        raise ValueError(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")


def _bound(text: str) -> float | str:
    """Return a time, or what may be the cursor of a record: that is judged where it is read."""
    when = _time(text)
    return text if when is None else when


def _time(text: str) -> float | None:
    with suppress(ValueError, OverflowError):
        seconds = float(text)
        return seconds if math.isfinite(seconds) else None
    with suppress(ValueError, OverflowError):
        # Until Python 3.11 it knows no Z. Without a zone it is a time of this machine.
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    return None
