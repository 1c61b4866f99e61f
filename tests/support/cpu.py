"""What CPU a piece of the collector takes."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self


class Cpu:
    """Adds up the CPU seconds of the blocks that are run with it.

    Other threads do not count, and there is no collection of garbage, which would look through all that
    thousands of tests have left.
    """

    seconds = 0.0

    def __enter__(self) -> Self:
        gc.disable()
        self._begun = time.thread_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds += time.thread_time() - self._begun
        gc.enable()
