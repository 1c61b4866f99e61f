"""Waiting for a condition, with a deadline."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def within(seconds: float, condition: Callable[[], object], what: str = "") -> None:
    """Return as soon as *condition* is true; fail when it is not within *seconds*."""
    deadline = time.monotonic() + seconds
    in_time = True
    while not condition():
        assert in_time, f"not within {seconds} s: {what or condition}"
        time.sleep(0.01)
        in_time = time.monotonic() < deadline  # once more after it: we may have stood still ourselves
