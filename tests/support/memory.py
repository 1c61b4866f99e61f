"""How much memory Python objects take that are made meanwhile and still there."""

from __future__ import annotations

import gc
import tracemalloc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def memory_taken() -> Iterator[Callable[[], int]]:
    """Yield a function that returns how many bytes more there are than at its last call, or at first."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]

    def taken() -> int:
        nonlocal before
        gc.collect()
        now = tracemalloc.get_traced_memory()[0]
        before, grown = now, now - before
        return grown

    try:
        yield taken
    finally:
        tracemalloc.stop()
