"""Levels of logging as people write them: names in any case, and numbers."""

from __future__ import annotations

import difflib
import logging

# Python reads this many quickly; a longer number, cut to them, is still above every level.
_DIGITS = 18
NAMES = ("NOTSET", "DEBUG", "INFO", "WARNING", "WARN", "ERROR", "CRITICAL", "FATAL")
"""The standard ones, in their order; some are two names of one."""


def from_text(text: str) -> int:
    """Return the level whose name or number *text* is. Raises ValueError, with the rule."""
    if text.isascii() and text.isdecimal():
        return int((text.lstrip("0") or "0")[:_DIGITS])
    return from_name(text)


def known(name: str) -> int | None:
    """Return the level called *name*, in any case; None if it is no standard one."""
    upper = name.upper()
    return int(getattr(logging, upper)) if upper in NAMES else None


def written(level: int) -> str | int:
    """Return how people write a level: by its name, if it has a standard one."""
    name = logging.getLevelName(level)
    return name if known(name) == level else level


def from_name(name: str, number: str = "a whole number from 0 up") -> int:
    """Return the level called *name*, in any case.

    Raises ValueError, with the rule, in which *number* says what else it may be.
    """
    level = known(name)
    if level is not None:
        return level
    near = difflib.get_close_matches(name.upper(), NAMES, 1)
    rule = f"must be one of {', '.join(NAMES)}, or {number}"
    raise ValueError(f"{rule}; did you mean {near[0]}?" if near else rule)
