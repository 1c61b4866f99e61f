"""The search for the record for which a destination refuses a request, or closes the connection.

A request is halved until a record is alone; that is tried as text; and it counts as refused for what it is
only once another one is stored: one of the same request, or one of those behind it, sent alone. Whatever
refuses everything is no fault of a record.

A refusal names the request that it is for; a connection that breaks names nothing, and may break for nothing
that was sent. So one that breaks shows something of a record only if the request before it was answered, and
only if that happens PROOFS times in a row, with a record behind it stored, alone, before each time. A record
as good as any other passes or another one breaks before that: where each of both breaks at random, one time
in two, which is the worst, it is taken for a culprit three times in a million.

Where none is behind it, as in a quiet hour, the last one that is stored is sent again in its place.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from collector.forward.window import Waiting

if TYPE_CHECKING:
    from collections.abc import Iterable

    from collector.forward.window import Window

WITNESSES = 20
"""How many records behind one that is refused may show that it is the record, and not the destination."""
PROOFS = 10
"""How often in a row it has to be shown that a record breaks the connection; then once more of its text."""
COPIES = PROOFS + 1
"""How often one record that is stored may be stored again to show it: what that takes, once."""
REFUSED = "refused"
BREAKS = "closes the connection"
_FIRST_BREAKS = 3


class Culprits:
    """What is known so far, of the records in a window."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._breaks = 0
        self._broken_at = 0
        """How often in a row the connection broke, and at which first number."""
        self.suspect: Waiting | None = None
        """The record of which the request at hand is to show something: it is sent another one, alone."""
        self._known: Waiting | None = None
        """The last record that was answered for: it is stored."""
        self._copies = 0
        """How often it may be stored again."""
        self.copy: Waiting | None = None
        """It, as it was sent again last: settled by itself, and in no window."""
        self.forget()

    def forget(self) -> None:
        """Suspect nothing."""
        self.take = sys.maxsize
        """How many records a request takes at most."""
        self._until = -1
        """The number of the last record that may be the culprit."""
        self._is_shown = False
        """Whether another one has been stored meanwhile: it is no fault of the destination to refuse one."""
        self._is_borne = False
        """Whether the last request was answered: the connection does not break for each record."""
        self._tried: set[int] = set()
        """The numbers of those behind a suspect that were sent alone, and not stored."""

    def clear(self) -> None:
        """Hold nothing that was seen before against any record."""
        for one in self._window.unsettled():
            self._clear(one)
        self.forget()

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

    def known(self) -> list[Waiting]:
        """Return a record that is stored, to be sent again for want of others, if that may show something."""
        known = self._known
        if not known or not self._copies or known.spooled.number in self._tried:
            return []
        self.copy = Waiting(known.spooled, 0, doubt=True)
        self.copy.outgoing = known.outgoing
        return [self.copy]

    def adjourn(self, suspect: Waiting) -> tuple[str, str]:
        """Find no more witnesses, and return what holds, and the remedy.

        Where those since the last break speak against it, it stays the suspect. Else it is the destination,
        and all records are cleared.
        """
        id_, reason = suspect.outgoing.id, suspect.suspected
        if suspect.proofs:
            self._try_again([suspect])
            text = f"{reason} at record {id_}, and there are none behind it to show why"
            return text, "see there why; what comes behind it is handed over, and shows it"
        self.clear()
        text = f"refuses record {id_} ({reason}) and all others that were tried"
        return text, "see there why; none of them becomes a dead letter"

    def answered(self, batch: list[Waiting], *, stored: bool, sent: bool) -> None:
        """Draw the conclusions of a request that has settled some records, of which some were *stored*.

        *sent*: or were there, as the answer to sending them says. Who asks beforehand sends nothing.
        """
        if not sent:
            self._copies = 0
            return
        self._breaks = 0
        if batch[0] is self.copy:
            self._copies -= stored
        else:
            self._known, self._copies = next(one for one in reversed(batch) if one.settled), COPIES
        suspects = [one for one in self._window.records if one.suspected]
        # One that is there already shows that the connection bears one, but not that a record is taken now.
        if suspects and (stored or all(one.suspected == BREAKS for one in suspects)):
            # They are sent once more: what kept them from being stored may be over, as it is for others.
            self._try_again(suspects)
            self._is_shown, self._is_borne = stored, True
        elif suspects:
            self._copies = 0  # it would be there already once more
        elif self._is_among(batch[0]):
            self._is_shown = self._is_borne = self._is_shown or stored

    def refuse(self, refused: list[tuple[Waiting, str]], *, shown: bool) -> None:
        """Take note of records that are refused, with the reason; *shown*: another one is stored."""
        if self.suspect:
            self._tried.update(one.spooled.number for one, _ in refused)
            return
        shown = shown or self._is_shown
        for one, reason in refused:
            one.shown = one.shown or shown
            if not one.short:
                self._window.render_again(one, reason or REFUSED)
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
        return self._breaks >= _FIRST_BREAKS or self._is_among(left[0]) or self.suspect is not None

    def broken(self, left: list[Waiting], *, alone: bool) -> None:
        """Draw the conclusions of a connection that broke, for one of these perhaps."""
        if self.suspect:  # a witness: so it breaks without the suspect, too
            self._tried.add(left[0].spooled.number)
            if self.suspect.suspected == BREAKS:
                self._clear(self.suspect, suspected=BREAKS)
        elif alone:
            self._broken_alone(left[0])
        else:
            self.halve(left, BREAKS, alone=False)
            self._until = left[-1].spooled.number  # those behind were not sent
            self._is_shown = self._is_borne = False

    def _broken_alone(self, one: Waiting) -> None:
        one.proofs += self._is_borne
        if one.proofs > PROOFS:
            one.dead = BREAKS
        else:
            if one.proofs == PROOFS and not one.short:
                self._window.render_again(one, BREAKS)
            one.suspected = BREAKS
        self.take = sys.maxsize
        self._is_shown = self._is_borne = False

    def _clear(self, one: Waiting, *, suspected: str = "") -> None:
        """Hold nothing that was seen before against a record."""
        one.suspected, one.shown, one.proofs = suspected, False, 0
        if one.short:
            self._window.render_again(one)

    def _try_again(self, suspects: list[Waiting]) -> None:
        tried = self._tried
        for one in suspects:
            one.suspected = ""
        self._begin(suspects)
        self._tried = tried

    def _begin(self, batch: list[Waiting]) -> None:
        self.forget()
        self._until = batch[-1].spooled.number
        self.take = len(batch)

    def _is_among(self, one: Waiting) -> bool:
        return one.spooled.number <= self._until
