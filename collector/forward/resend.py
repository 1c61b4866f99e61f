"""Sending again what was handed over before: dead letters, or what the spool still holds of a time.

All of it is in doubt, under the ids that it had, and counted by itself: the checkpoint of the destination is
neither read nor written, so that its forwarder may run beside. What of the spool is refused for good becomes
a dead letter, as it did the first time; a dead letter that is refused stays one.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING

from collector.forward.delivery import Delivery
from collector.forward.progress import Progress
from collector.forward.window import Window
from collector.spool.reading import OLDEST, SpoolReader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collector.config.tables import Forward
    from collector.forward.dead_letters import DeadLetters, Letter, Letters
    from collector.forward.process import Told
    from collector.forward.verdicts import Destination
    from collector.forward.window import Source, Waiting
    from collector.spool.reading import Spooled


STOPPED = "told to stop"
"""What ends it that is no fault."""


class Outcome:
    """What came of it, as far as it has come."""

    def __init__(self) -> None:
        self.windows: list[Window] = []
        """All that were begun, one after the other."""
        self.bad_blocks = 0
        """How many blocks of the spool could not be read."""
        self.trouble = ""
        """What ended it before everything was sent, "" if nothing did."""

    @property
    def stored(self) -> int:
        """How many are stored."""
        return sum(window.progress.shipped for window in self.windows)

    @property
    def duplicate(self) -> int:
        """How many were there already."""
        return sum(window.progress.duplicate for window in self.windows)

    @property
    def filtered(self) -> int:
        """How many are not wanted."""
        return sum(window.progress.filtered for window in self.windows)

    @property
    def dead(self) -> dict[str, int]:
        """How many were refused for good, by reason."""
        return dict(sum((Counter(window.progress.dead) for window in self.windows), Counter[str]()))

    @property
    def letters_gone(self) -> int:
        """How many older dead letters went for them."""
        return sum(window.progress.dead_letters_gone for window in self.windows)

    @property
    def unsettled(self) -> set[str]:
        """The ids of what was read last and has no verdict."""
        return {one.spooled.id for window in self.windows[-1:] for one in window.records if not one.settled}


class _Refused:
    """The dead letters that are refused once more: they are where they were."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}
        """By id, why."""

    def add(self, letters: Sequence[Waiting]) -> int:
        """Take note of what was refused. As Letters has it."""
        self.reasons |= {one.outgoing.id: one.dead for one in letters}
        return 0


class _Between:
    """The records of a spool that were received from one time to another, in nanoseconds since 1970."""

    def __init__(self, reader: SpoolReader, since: int, until: int) -> None:
        self._reader = reader
        self._since, self._until = since, until

    def read(self, max_records: int, max_bytes: int) -> list[Spooled]:
        while max_records and (read := self._reader.read(max_records, max_bytes)):
            if found := [one for one in read if self._since <= one.received < self._until]:
                return found
        return []


class _Letters:
    """Dead letters, as records of a spool."""

    def __init__(self, letters: Sequence[Letter]) -> None:
        self.left = [letter.spooled for letter in reversed(letters)]
        """Those that are not read, the next one last."""

    def read(self, max_records: int, max_bytes: int) -> list[Spooled]:
        taken: list[Spooled] = []
        size = 0
        while self.left and len(taken) < max_records and (not taken or size < max_bytes):
            taken.append(self.left.pop())
            size += len(taken[-1].payload)
        return taken


def resend_spooled(  # noqa: PLR0913 - a command's options
    directory: str,
    settings: Forward,
    destination: Destination,
    orders: Told,
    times: tuple[int, int],
    *,
    letters: DeadLetters,
    encoding: str,
    outcome: Outcome,
) -> None:
    """Send what the spool in *directory* holds from one time to before another, in ns since 1970.

    *outcome* tells at any time what came of it. So it does for resend_letters().
    """
    reader = SpoolReader(directory, OLDEST)
    try:
        _resend(
            _Between(reader, *times),
            settings,
            destination,
            orders,
            outcome,
            letters=letters,
            encoding=encoding,
        )
    finally:
        reader.close()
    outcome.bad_blocks = reader.bad_blocks


def resend_letters(  # noqa: PLR0913 - the same
    letters: DeadLetters,
    settings: Forward,
    destination: Destination,
    orders: Told,
    *,
    encoding: str,
    outcome: Outcome,
) -> None:
    """Send all dead letters; what is not stored stays one. Raises OSError."""
    while not outcome.trouble and not outcome.dead and (taken := letters.take()):
        source, refused = _Letters(taken), _Refused()
        _resend(source, settings, destination, orders, outcome, letters=refused, encoding=encoding)
        left = {spooled.id for spooled in source.left} | refused.reasons.keys() | outcome.unsettled
        letters.keep(
            letter._replace(reason=refused.reasons.get(letter.id, letter.reason))
            for letter in taken
            if letter.spooled.id in left
        )


def _resend(  # noqa: PLR0913 - the same
    source: Source,
    settings: Forward,
    destination: Destination,
    orders: Told,
    outcome: Outcome,
    *,
    letters: Letters,
    encoding: str,
) -> None:
    """Send all of a source, until it holds or is told to stop."""
    window = Window(source, Progress.at(OLDEST), encoding, in_doubt=sys.maxsize, has_gaps=False)
    outcome.windows.append(window)
    delivery = Delivery(settings, destination, window, letters)
    try:
        while not delivery.is_idle and not delivery.hold and not orders.stop:
            orders.wait(delivery.step())
    finally:
        delivery.close()
    if delivery.hold:
        outcome.trouble = delivery.hold.text
    elif orders.stop:
        outcome.trouble = STOPPED
