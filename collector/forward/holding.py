"""What a destination holds for, and the one case in which its records become dead letters all the same.

An index of an older day may be closed or gone for good while today's takes all: its records would keep back
everything that was received since. That is seen by the newest record that waits, sent alone.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collector.forward.window import Waiting

LETTERS, SPOOL, CHECKPOINT = "dead letters", "spool", "checkpoint"
"""Why a destination holds, beside REFUSED and what it says itself."""


class Hold(NamedTuple):
    """Why nothing is handed over, and since when."""

    reason: str
    text: str
    since: float
    """Seconds since 1970."""
    remedy: str = ""


def moment(seconds: float) -> str:
    """Return a time in seconds since 1970 as text, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


class Held:
    """The records that a destination has answered with holding, and whether a newer one is taken."""

    def __init__(self) -> None:
        self._records: list[Waiting] = []
        self._reason = ""
        self._since = 0.0
        """Since when it has held for that reason, and stored nothing but newer ones."""
        self._newer_is_taken = False
        """Whether a newer one was stored, the last time."""
        self._newest_is_next = False
        self.newest: Waiting | None = None
        """The record that is sent alone, ahead of all that waits between; None: no such one is."""

    def add(self, batch: list[Waiting], reason: str, now: float, seconds: float) -> None:
        """Take note of a request that was answered so; after *seconds* of that, what it is for is dead."""
        if self.newest:
            self._newer_is_taken = False
            return
        left = [one for one in batch if not one.settled]
        if not self._records or reason != self._reason:
            self._since, self._newer_is_taken = now, False
        self._records, self._reason = left or self._records, reason
        if left and left[-1] is not batch[-1]:
            self._newer_is_taken = True
        # Refused once more after a newer one was taken: what kept both from being stored would be over.
        if self._newer_is_taken and now - self._since >= seconds:
            for one in left:
                one.dead = reason
            self._newer_is_taken = False
        self._newest_is_next = not self._newer_is_taken

    def wants_newest(self, now: float, seconds: float) -> bool:
        """Tell whether the newest record is to be sent: each second time, once it has held for so long."""
        self.newest = None
        if not self._newest_is_next or now - self._since < seconds:
            return False
        return any(not one.settled and not one.dead for one in self._records)

    def sent(self) -> None:
        """Take note of a request: the one after it is for all that waits."""
        self._newest_is_next = False

    def stored(self) -> None:
        """Draw the conclusion of records that were stored, or of the newest one that is there already."""
        if self.newest:
            self._newer_is_taken = True
        else:
            self._records = []
