"""The search for the record for which a destination refuses a request, or closes the connection.

A request is halved until a record is alone; that is tried as text; and it counts as refused for what it is
only once another one is stored: one of the same request, or one of those behind it, sent alone. Whatever
refuses everything is no fault of a record.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from collector.forward.window import Waiting, Window

WITNESSES = 20
"""How many records behind one that is refused may show that it is the record, and not the destination."""
REFUSED = "refused"
_BREAKS = 3


class Culprits:
    """What is known so far, of the records in a window."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._breaks = 0
        self._broken_at = 0
        """How often in a row the connection broke, and at which first number."""
        self.suspect: Waiting | None = None
        """The record of which the request at hand is to show something: it is sent another one, alone."""
        self.forget()

    def forget(self) -> None:
        """Suspect nothing."""
        self.take = sys.maxsize
        """How many records a request takes at most."""
        self._until = -1
        """The number of the last record that may be the culprit."""
        self._is_shown = False
        """Whether another one of them has been stored meanwhile."""
        self._tried: set[int] = set()
        """The numbers of those behind a suspect that were sent alone, and not stored."""

    def look(self, waiting: list[Waiting]) -> Waiting | None:
        """See where the search is, before a request out of those that wait; return the suspect, if any."""
        self.suspect = next((one for one in waiting if one.suspected), None)
        if self.suspect is None and waiting and not self._is_among(waiting[0]):
            self.forget()
        return self.suspect

    @staticmethod
    def witnesses(suspect: Waiting, waiting: list[Waiting]) -> list[Waiting]:
        """Return those that may show something of the suspect, whether they were tried or not."""
        behind = waiting[waiting.index(suspect) + 1 :]
        return [one for one in behind if not one.suspected][:WITNESSES]

    def untried(self, witnesses: Iterable[Waiting]) -> list[Waiting]:
        """Return the first one that was not tried, if there is one."""
        return [one for one in witnesses if one.spooled.number not in self._tried][:1]

    def acquit(self, waiting: Iterable[Waiting]) -> None:
        """Clear all records: it is the destination."""
        for one in waiting:
            one.suspected, one.shown = "", False
            if one.short:
                self._window.render_again(one, short=False)
        self.forget()

    def stored(self, batch: list[Waiting]) -> None:
        """Draw the conclusions of some records of a request that were stored."""
        suspects = [one for one in self._window.records if one.suspected]
        if suspects:
            # They are sent once more: what kept them from being stored may be over, as it is for others.
            for one in suspects:
                one.suspected = ""
            self._begin(suspects)
            self._is_shown = True
        elif self._is_among(batch[0]):
            self._is_shown = True

    def settled(self) -> None:
        """Take note that the connection has brought an answer for some."""
        self._breaks = 0

    def refuse(self, refused: list[tuple[Waiting, str]], *, shown: bool) -> None:
        """Take note of records that are refused, with the reason; *shown*: another one is stored."""
        if self.suspect:
            self._tried.update(one.spooled.number for one, _ in refused)
            return
        shown = shown or self._is_shown
        for one, reason in refused:
            one.shown = one.shown or shown
            if not one.short:
                self._window.render_again(one, short=True)
                continue
            if one.shown:
                one.dead = reason or REFUSED
                self._is_shown = False
            else:
                one.suspected = reason or REFUSED
            self.take = sys.maxsize

    def halve(self, left: list[Waiting], reason: str, *, alone: bool) -> None:
        """Have the next request be half of what is left; one that was *alone* is the culprit."""
        if alone:
            self.refuse([(left[0], reason)], shown=False)
        else:
            if not self._is_among(left[0]):
                self._begin(left)
            self.take = (len(left) + 1) // 2

    def may_have_broken(self, left: list[Waiting]) -> bool:
        """Count that the connection broke; tell whether one of those left without a verdict may be why."""
        first = left[0].spooled.number
        self._breaks = self._breaks + 1 if first == self._broken_at else 1
        self._broken_at = first
        return self._breaks >= _BREAKS or self._is_among(left[0]) or self.suspect is not None

    def _begin(self, batch: list[Waiting]) -> None:
        self.forget()
        self._until = batch[-1].spooled.number
        self.take = len(batch)

    def _is_among(self, one: Waiting) -> bool:
        return one.spooled.number <= self._until
