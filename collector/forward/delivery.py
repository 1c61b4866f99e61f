"""What is sent when, and what follows from the answer: batches, halving, pauses, doubt, holding.

One request at a time. What concerns the destination holds, and nothing becomes a dead letter; what concerns a
record is shown by another one that is stored while this one is refused. Sleeps nowhere: `step()` says for how
long there is nothing to do, by a clock that it is given.
"""

from __future__ import annotations

import logging
import random
import time
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING

from collector.escape import escape
from collector.forward.culprits import REFUSED, WITNESSES, Culprits
from collector.forward.holding import LETTERS, SPOOL, Held, Hold, moment
from collector.forward.refusals import Refusals
from collector.forward.verdicts import (
    FOUND,
    STORED,
    STORED_IN_DOUBT,
    BrokenError,
    BusyError,
    HoldError,
    RefusedError,
    RequestError,
    TooLargeError,
)
from collector.log import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from collector.config.tables import Forward
    from collector.forward.dead_letters import Letters
    from collector.forward.verdicts import Destination, Verdict
    from collector.forward.window import Waiting, Window

log = logging.getLogger(__name__)

SENT_AGAIN_AFTER_SECONDS = 2.0
"""An old request may still run where its connection has ended: asked at once, 12 of 12 were doubled there."""
_FIRST_PAUSE_SECONDS = 0.1
_POLL_SECONDS = 0.02
_MAX_WINDOW = 10_000
TOO_LARGE = "too large"
"""Why a record is refused."""


class Delivery:
    """Hands what is in a window over to a destination."""

    def __init__(
        self,
        settings: Forward,
        destination: Destination,
        window: Window,
        letters: Letters,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.hold: Hold | None = None
        self.trouble = ""
        """Why records were not taken the last time, if none has been since."""
        self.last_success = 0.0
        """When a record was last stored, in seconds since 1970; 0: not yet."""
        self.is_idle = False
        """Whether all that could be read has been settled."""
        self.calls = 0
        """How often the destination was connected or sent something: after each, the progress is saved."""
        self._window = window
        self._letters = letters
        self._clock = clock
        self._connected: float | None = None
        """When it was connected; None: it is not."""
        self._max_bytes = settings.batch_bytes
        """How many bytes a request takes at most, until the next connection."""
        self._pause = 0.0
        self._not_before = 0.0
        self._no_doubt_before = clock() + SENT_AGAIN_AFTER_SECONDS
        self._read_at = 0.0
        """When the first of the records that wait was read."""
        self._culprits = Culprits(window)
        self._held = Held()
        self._refusals = Refusals(settings.name)
        self._settings, self._destination = settings, destination
        self._name = settings.name
        window.use(settings, destination)

    @property
    def certificate_days(self) -> float | None:
        """As Destination has it."""
        return self._destination.certificate_days

    def use(self, settings: Forward, destination: Destination, letters: Letters) -> None:
        """Go on with other settings, from the next request on."""
        self._disconnect()
        self._culprits.clear()  # what the former one did, and has stored, shows nothing of this one
        self._culprits = Culprits(self._window)
        self._letters = letters
        self._name = settings.name
        self._settings, self._destination = settings, destination
        self._window.use(settings, destination)
        self._not_before = self._pause = 0.0

    def close(self) -> None:
        """Close the connection, and tell what is untold."""
        self._disconnect()
        self._refusals.tell_all()

    def step(self) -> float:
        """Do one thing: read on, connect, or make a request. Return for how many seconds nothing is to do.

        Raises ReplacedError where all that was read is settled, and the spool is another one now.
        """
        now = self._clock()
        self._refusals.tell(now)
        if now < self._not_before:
            return self._not_before - now
        try:
            self._bury()
        except OSError as error:
            text = f"the dead letters cannot be kept: {error}"
            self.hold_for(LETTERS, text, "make room, or see what keeps them from being written")
            return 0.0
        try:
            batch, wait = self._next(now)
        except OSError as error:
            text = f"the spool cannot be read: {error}"
            self.hold_for(SPOOL, text, "see what keeps this process from reading it")
            return 0.0
        if not batch:
            return wait
        self.calls += 1
        if self._is_connected():
            self._hand_over(batch)
            self._window.advance()
        else:
            self._connect()
        return 0.0

    # --- what comes next ---

    def _next(self, now: float) -> tuple[list[Waiting], float]:
        """Return the records of the next request; or none, and how long to wait before the next step."""
        waiting = self._window.unsettled()
        if suspect := self._culprits.look(waiting):
            return self._next_witness(suspect, waiting), 0.0
        if self._held.wants_newest(now, self._settings.reconnect_seconds):
            self._held.newest = self._window.newest()
            if self._held.newest:
                return [self._held.newest], 0.0
        if not any(one.tries for one in waiting):
            wait = self._fill(waiting, now)
            if wait is not None:
                return [], wait
        batch = self._cut(waiting)
        if self._no_doubt_before > now and any(one.doubt for one in batch):
            return [], self._no_doubt_before - now
        return batch, 0.0

    def _fill(self, waiting: list[Waiting], now: float) -> float | None:
        """Read on until a batch is full or has waited long enough, and return None; else how long to wait."""
        settings = self._settings
        size = sum([one.size for one in waiting])
        wanted, room = settings.request_records - len(waiting), settings.batch_bytes - size
        if wanted <= 0 or room <= 0:
            return None
        if self._window.fill(min(wanted, _MAX_WINDOW - len(self._window.records)), room):
            self._window.advance()
            if not waiting:
                self._read_at = now
            self.is_idle = False
            return 0.0
        if not waiting:
            self.is_idle = not self._window.records
            return _POLL_SECONDS
        left = self._read_at + settings.batch_seconds - now
        return min(left, _POLL_SECONDS) if left > 0 else None

    def _cut(self, waiting: list[Waiting]) -> list[Waiting]:
        """Return the first of those that wait, as many as one request takes."""
        batch = waiting[: min(self._settings.request_records, self._culprits.take)]
        ends = list(accumulate([one.size for one in batch]))
        return batch[: max(1, bisect_right(ends, self._max_bytes))]

    def _next_witness(self, suspect: Waiting, waiting: list[Waiting]) -> list[Waiting]:
        """Return the record that is to show, alone, whether *suspect* was refused for what it is.

        Where there is none, nothing is shown, and the destination holds.
        """
        culprits = self._culprits
        witnesses = culprits.witnesses(suspect, waiting)
        if len(witnesses) < WITNESSES:
            self._window.fill(WITNESSES, self._settings.batch_bytes)
            witnesses = culprits.witnesses(suspect, self._window.unsettled())
        if witness := culprits.untried(witnesses) or culprits.known():
            return witness
        self.hold_for(REFUSED, *culprits.adjourn(suspect))
        return []

    # --- a request, and its answer ---

    def _hand_over(self, batch: list[Waiting]) -> None:
        try:
            verdicts = self._send(batch)
        except RequestError as error:
            self._judge(batch, error.verdicts, holds=isinstance(error, HoldError))
            self._react(batch, error)
        except OSError as error:
            text = str(error) or type(error).__name__
            self._react(batch, BrokenError(text, timed_out=isinstance(error, TimeoutError)))
        else:
            if verdicts.count(STORED) == len(batch):  # as a rule
                for one in batch:
                    one.settled = "stored"
                self._note_settled(batch, stored=True)
                return
            self._judge(batch, dict(enumerate(verdicts)))
            again = sum(1 for verdict in verdicts if verdict.kind == "again")
            doubted = [one for one, verdict in zip(batch, verdicts, strict=True) if verdict.doubt]
            self._in_doubt([one for one in doubted if not one.settled], SENT_AGAIN_AFTER_SECONDS)
            if again == len(batch):
                text = f"none of {counted(len(batch), 'record')} taken: {verdicts[0].reason}"
                self._trouble(BusyError(text))
            elif again:
                self._not_before = self._clock() + _FIRST_PAUSE_SECONDS

    def _send(self, batch: list[Waiting]) -> list[Verdict]:
        """Make one request of records; return as many verdicts. Raises what a destination does."""
        progress = self._window.progress
        self._held.sent()
        again = False
        for one in batch:
            if one.tries:
                progress.retried += 1
            one.tries += 1
            again = again or one.doubt
        try:
            verdicts = self._destination.send([one.outgoing for one in batch], again)
        finally:
            progress.destination = self._destination.state
        if len(verdicts) != len(batch):
            raise BrokenError(f"it has answered for {len(verdicts)} of {counted(len(batch), 'record')}")
        if batch[0] is self._culprits.copy and verdicts == [STORED]:
            return [STORED_IN_DOUBT]
        return verdicts

    def _is_connected(self) -> bool:
        """Tell whether there is a connection that is not too old."""
        return (
            self._connected is not None and self._clock() - self._connected < self._settings.reconnect_seconds
        )

    def _connect(self) -> None:
        """Connect anew. What the destination keeps can be saved before the first request."""
        self._disconnect()
        try:
            self._destination.connect()
        except (RequestError, OSError) as error:
            self._disconnect()
            self._trouble(error)
        else:
            self._connected = self._clock()
        self._window.progress.destination = self._destination.state

    def _disconnect(self) -> None:
        self._destination.close()
        self._connected = None
        self._max_bytes = self._settings.batch_bytes

    def _judge(self, batch: list[Waiting], verdicts: Mapping[int, Verdict], *, holds: bool = False) -> None:
        """Settle the records that have a verdict; *holds*: the destination holds all the same."""
        refused = []
        there: set[Verdict] = set()
        for position, verdict in verdicts.items():
            one = batch[position]
            if verdict.kind in ("stored", "duplicate"):
                one.settled = verdict.kind
                self._window.progress.in_doubt += verdict.doubt
                there.add(verdict)
            elif verdict.kind == "dead":
                refused.append((one, verdict.reason))
        stored = any(verdict.kind == "stored" for verdict in there)
        if there:
            self._note_settled(batch, stored=stored, sent=there != {FOUND}, holds=holds)
        self._culprits.refuse(refused, shown=stored)

    def _note_settled(
        self, batch: list[Waiting], *, stored: bool, sent: bool = True, holds: bool = False
    ) -> None:
        """Draw the conclusions of records that are there now, of which some were *stored*, or just *sent*."""
        self._pause, self.trouble = 0.0, ""
        self._culprits.answered(batch, stored=stored, sent=sent)
        self._refusals.note_reduced(batch)
        if stored:
            self.last_success = time.time()
        if holds:
            return
        self._held.stored()
        if self.hold and not self._held.newest:
            log.warning("%s: takes records again; it held since %s", self._name, moment(self.hold.since))
            self.hold = None

    # --- requests that are refused as a whole, and connections that break ---

    def _react(self, batch: list[Waiting], error: RequestError) -> None:
        """Do what follows from a request without an answer for each of its records."""
        left = [one for one in batch if not one.settled]
        if isinstance(error, HoldError):
            self._held.add(batch, error.reason, self._clock(), self._settings.reconnect_seconds)
            self._trouble(error)
            self._disconnect()  # the next try looks up names, secrets and certificates again
        elif isinstance(error, BusyError):
            if error.refused:
                self._halve_bytes(batch)
            else:
                self._in_doubt(left, SENT_AGAIN_AFTER_SECONDS)
            self._trouble(error)
        elif isinstance(error, TooLargeError):
            if len(batch) > 1:
                self._halve_bytes(batch)
            else:
                self._culprits.refuse([(batch[0], TOO_LARGE)], shown=False)
        elif isinstance(error, RefusedError):
            self._culprits.halve(left, error.reason, alone=len(batch) == 1)
        else:
            self._disconnect()
            timed_out = isinstance(error, BrokenError) and error.timed_out
            self._in_doubt(left, self._settings.timeout_seconds if timed_out else SENT_AGAIN_AFTER_SECONDS)
            if not left:
                return
            if self._culprits.may_have_broken(left):
                log.warning("%s: %s; one of its records may be why", self._name, error)
                self._not_before = self._clock() + _FIRST_PAUSE_SECONDS
                self._culprits.broken(left, alone=len(batch) == 1)
            else:
                self._trouble(error)

    def _halve_bytes(self, batch: list[Waiting]) -> None:
        self._max_bytes = max(1, sum(one.size for one in batch) // 2)

    def _in_doubt(self, records: list[Waiting], seconds: float) -> None:
        if records:
            for one in records:
                one.doubt = True
            self._window.progress.in_doubt += len(records)
            self._no_doubt_before = self._clock() + seconds

    # --- pauses, holding, and the dead ---

    def hold_for(self, reason: str, text: str, remedy: str) -> None:
        """Hold for something that delivery does not see itself."""
        self._trouble(HoldError(reason, text, remedy))

    def _trouble(self, error: Exception) -> None:
        """Say what keeps records from being taken, and wait longer than the last time."""
        wait = self._wait_longer(error.retry_after or 0.0 if isinstance(error, BusyError) else 0.0)
        if any(one.doubt for one in self._window.unsettled()):
            wait = max(wait, self._no_doubt_before - self._clock())
        self.trouble = text = escape(str(error) or type(error).__name__)
        if not isinstance(error, HoldError):
            log.warning("%s: %s; trying again in %.1f s", self._name, text, wait)
            return
        since = self.hold.since if self.hold else time.time()
        self.hold = Hold(error.reason, text, since, error.remedy)
        what = (self._name, moment(since), text, error.advice)
        log.error("%s: holds since %s: %s%s", *what, extra={"about": error.reason})

    def _wait_longer(self, wanted: float) -> float:
        """Make a pause, twice as long as the last one where nothing was stored in between; return it.

        It is no shorter than *wanted* seconds, up to `max_pause_seconds`.
        """
        longest = self._settings.max_pause_seconds
        self._pause = min(max(2 * self._pause, _FIRST_PAUSE_SECONDS), longest)
        # By chance, so that not all come back at once.
        wait = max(self._pause * (1 + random.random()) / 2, min(wanted, longest))  # noqa: S311
        self._not_before = self._clock() + wait
        return wait

    def _bury(self) -> None:
        """Keep the dead, before anything passes them. Raises OSError."""
        dead = [one for one in self._window.records if one.dead and not one.settled]
        if not dead:
            return
        letters = [one for one in dead if not one.dropped]
        if letters:
            self._window.progress.dead_letters_gone += self._letters.add(letters)
        for one in dead:
            one.settled = "dead"
            self._refusals.note_dead(one)
        self._refusals.tell(self._clock())
        self._window.advance()
