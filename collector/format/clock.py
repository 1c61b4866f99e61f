"""The time of day of a record, rendered once a second. Knows no record."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    """Renders the time of a record, once a second: records of one second follow each other."""

    __slots__ = ("_datefmt", "_zone", "begins", "ends", "text")

    def __init__(self, datefmt: str, zone: Callable[[float], time.struct_time]) -> None:
        self._datefmt = datefmt
        self._zone = zone
        self.begins = self.ends = -1.0
        """The second that `text` is for, and the next one."""
        self.text = ""

    def move(self, created: float) -> None:
        """Render the second of *created*."""
        self.begins = created // 1.0  # all of them floats, which are compared faster than integers
        self.ends = self.begins + 1.0
        self.text = time.strftime(self._datefmt, self._zone(self.begins))

    def at(self, created: float) -> str:
        """Return the text for *created*."""
        if not self.begins <= created < self.ends:
            self.move(created)
        return self.text
