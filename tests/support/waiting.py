"""Waiting for a condition, with a deadline."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


# On a quiet machine there are some ninety looks a second: where there are fewer, others had the processors.
_LOOKS_PER_SECOND = 25


def within(seconds: float, condition: Callable[[], object], what: str = "") -> None:
    """Return as soon as *condition* is true; fail when it is not within *seconds*, and as many looks."""
    deadline = time.monotonic() + seconds
    looks = 0
    in_time = True
    while not condition():
        assert in_time, f"not within {seconds} s: {what or condition}"
        time.sleep(0.01)
        looks += 1
        in_time = time.monotonic() < deadline or looks < seconds * _LOOKS_PER_SECOND
