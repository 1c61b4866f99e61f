"""The lines that tell of records that were refused: one a minute for each reason, however many there are.

One for dead letters is an ERROR, which wakes somebody up; one for records of which the text alone is stored,
a WARNING. An application whose every record is refused must neither flood the log nor hide what is refused
for another reason. Each line tells how many came since the last one.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from collector.escape import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collector.forward.window import Waiting

log = logging.getLogger(__name__)

_TELL_SECONDS = 60.0


class _Kind(NamedTuple):
    """What one line tells of."""

    level: int
    what: str
    reason: str
    """There is a bounded number of them."""


class Refusals:
    """What a destination has refused and nobody was told of yet. Its clock is the caller's."""

    def __init__(self, name: str) -> None:
        """*name*: of the destination."""
        self._name = name
        self._told_at: dict[_Kind, float] = {}
        self._untold: dict[_Kind, tuple[str, int]] = {}
        """The id of the last record and how many there are."""

    def note_dead(self, one: Waiting) -> None:
        """Take note of a record that is a dead letter now."""
        self._note(_Kind(logging.ERROR, "is refused for good", one.dead), one)

    def note_reduced(self, batch: Sequence[Waiting]) -> None:
        """Take note of those that are stored, but reduced to text."""
        for one in batch:
            if one.short and one.settled == "stored":
                self._note(_Kind(logging.WARNING, "is refused as it is, and stored as text", one.short), one)

    def tell(self, now: float) -> None:
        """Log what is untold, of each kind once it was told of nothing for a minute. To be called often."""
        for kind in list(self._untold):
            if now - self._told_at.get(kind, -_TELL_SECONDS) >= _TELL_SECONDS:
                self._told_at[kind] = now
                self._tell(kind)

    def tell_all(self) -> None:
        """Log what is untold, as nobody will ask again."""
        for kind in list(self._untold):
            self._tell(kind)

    def _note(self, kind: _Kind, one: Waiting) -> None:
        self._untold[kind] = one.outgoing.id, self._untold.get(kind, ("", 0))[1] + 1

    def _tell(self, kind: _Kind) -> None:
        record_id, count = self._untold.pop(kind)
        more = f" (and {count - 1} more since the last such line)" if count > 1 else ""
        level, what, reason = kind
        text = "%s: record %s %s: %s%s"
        log.log(level, text, self._name, record_id, what, escape(reason), more, extra={"about": reason})
