"""Waiting for a condition, with a deadline."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def within(seconds: float, condition: Callable[[], object], what: str = "") -> None:
    """Return as soon as *condition* is true; fail when it is not within *seconds*.

    That is on a machine with a processor for whatever wants to run. Elsewhere it may take as many times
    longer as there are processes for each.
    """
    begun = time.monotonic()
    in_time = True
    while not condition():
        assert in_time, f"not within {seconds} s: {what or condition}"
        time.sleep(0.01)
        # Once more after it: we may have stood still ourselves.
        in_time = time.monotonic() < begun + seconds * crowding()


def crowding() -> float:
    """Return how many processes want to run for each processor, but at least 1."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
