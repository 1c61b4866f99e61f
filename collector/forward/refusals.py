"""The lines that tell of dead letters: one a minute for each reason, however many records are refused.

Such a line is an ERROR, which wakes somebody up; an application whose every record is refused must neither
flood the log nor hide what is refused for another reason. Each line tells how many came since the last one.
"""

from __future__ import annotations

import logging

from collector.escape import escape

log = logging.getLogger(__name__)

_TELL_SECONDS = 60.0


class Refusals:
    """What a destination has refused for good and nobody was told of yet. Its clock is the caller's."""

    def __init__(self, name: str) -> None:
        """*name*: of the destination."""
        self._name = name
        self._told_at: dict[str, float] = {}
        """By reason, of which there is a bounded number."""
        self._untold: dict[str, tuple[str, int]] = {}
        """By reason, the id of the last record and how many there are."""

    def add(self, reason: str, record_id: str) -> None:
        """Take note of one more."""
        self._untold[reason] = record_id, self._untold.get(reason, ("", 0))[1] + 1

    def tell(self, now: float) -> None:
        """Log what is untold, of each reason once it was told of nothing for a minute. To be called often."""
        for reason in list(self._untold):
            if now - self._told_at.get(reason, -_TELL_SECONDS) >= _TELL_SECONDS:
                self._told_at[reason] = now
                self._tell(reason)

    def tell_all(self) -> None:
        """Log what is untold, as nobody will ask again."""
        for reason in list(self._untold):
            self._tell(reason)

    def _tell(self, reason: str) -> None:
        record_id, count = self._untold.pop(reason)
        more = f" (and {count - 1} more since the last such line)" if count > 1 else ""
        what = "%s: record %s is refused for good: %s%s"
        log.error(what, self._name, record_id, escape(reason), more, extra={"about": reason})
