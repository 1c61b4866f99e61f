"""What was read from the spool and is not settled yet, in its order.

Records are settled in any order, and passed in theirs: the progress moves over the settled ones at the front,
and counts each at that moment. A gap in the numbers becomes a record of ours that tells of it, in no count.
"""

from __future__ import annotations

import json
import logging
import sys
from collections import deque
from datetime import datetime, timezone
from operator import length_hint
from typing import TYPE_CHECKING, Protocol

from collector.forward.verdicts import Outgoing
from collector.log import counted
from collector.spool.reading import ReplacedError
from collector.wire.fragments import RecordReader
from collector.wire.records import level_of, name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from collector.config.tables import Forward
    from collector.forward.progress import Progress
    from collector.forward.verdicts import Destination
    from collector.pickles.errors import RecordError
    from collector.spool.reading import Position, Spooled
    from collector.wire.records import Record

log = logging.getLogger(__name__)

RENDERING, UNREADABLE = "rendering", "unreadable"
"""Why a record is dead that was never sent."""
_BILLION = 1_000_000_000
_MAX_KNOWN = 10_000
_new = tuple.__new__  # what Outgoing() does, without a call of Python


class Source(Protocol):
    """Where records come from: the spool, or the dead letters."""

    def read(self, max_records: int, max_bytes: int) -> Sequence[Spooled]:
        """Return the next ones; none: there are none for now."""


class Waiting:
    """A record that is wanted, until it is settled and passed."""

    # Each is looked at many times: to find them in a dict, or by the class, takes several times as long.
    __slots__ = (
        *("after", "dead", "doubt", "dropped", "filtered", "outgoing", "proofs", "settled", "short"),
        *("shown", "size", "spooled", "suspected", "tries"),
    )
    spooled: Spooled
    filtered: int
    """How many before it are not wanted."""
    doubt: bool
    """Whether it may be stored already."""
    outgoing: Outgoing
    size: int
    """Of what is to be sent, in bytes."""
    tries: int
    settled: str
    """"stored", "duplicate" or "dead", once it is."""
    dead: str
    """Why it is to become a dead letter, once that is certain."""
    suspected: str
    """Why it was refused, alone and as text, while nothing shows that this is for what it is."""
    shown: bool
    """Whether it was refused while another one was stored."""
    proofs: int
    """How often in a row the connection broke for it, alone, and not for the one sent before it."""
    short: str
    """Why it is reduced to text; "": it is not."""
    dropped: int
    """Of a gap: how many numbers are missing."""
    after: Position | None
    """Of a gap: where the progress is behind it."""

    def __init__(self, spooled: Spooled, filtered: int, doubt: bool) -> None:  # noqa: FBT001 - slower by name
        self.spooled = spooled
        self.filtered = filtered
        self.doubt = doubt
        self.size = self.tries = self.proofs = self.dropped = 0
        self.settled = self.dead = self.suspected = self.short = ""
        self.shown = False
        self.after = None


class Window:
    """The records between the progress and what was read last."""

    def __init__(  # noqa: PLR0913 - each says where it begins
        self,
        source: Source,
        progress: Progress,
        encoding: str = "utf-8",
        *,
        in_doubt: int = 0,
        in_doubt_below: int = 0,
        has_gaps: bool = True,
        ahead: Callable[[], Sequence[Spooled]] = tuple,
    ) -> None:
        """Begin at *progress*. The first *in_doubt* records may have been sent, and all numbers below.

        *has_gaps*: what is missing between two numbers was lost, rather than left out by whoever chose them.
        *ahead* returns the newest records there are. `use()` comes before anything else.
        """
        self.progress = progress
        self.records: deque[Waiting] = deque()
        """Those that are not passed."""
        self._reader = RecordReader(encoding, now=self._received)
        self._reading: tuple[Sequence[Spooled], Iterator[bytes]] = (), iter(())
        """What the reader is given, and what of it is left."""
        self._source = source
        self._has_gaps = has_gaps
        self._ahead = ahead
        self._sent_ahead: dict[int, Waiting] = {}
        """By number."""
        self._encoding = encoding
        self._in_doubt = in_doubt
        self._in_doubt_below = in_doubt_below
        self._last: Spooled | None = None
        """The last one read, whether it was wanted or not."""
        self._expected = progress.position.number
        """The number that comes next; 0: any."""
        self._prefix_of, self._prefix = ("", 0), ""
        """What all ids of an epoch begin with."""
        self._filtered = 0
        """How many were read behind the last record that is wanted."""

    def use(self, settings: Forward, destination: Destination) -> None:
        """Filter what is read from now on, and render what is not settled, by other settings."""
        self._name, self._wants = settings.name, settings.wants
        self._known: dict[tuple[object, object], bool] = {}
        self._destination = destination
        for one in self.records:
            if not one.settled and not one.dead:
                self._render(one, self._record_of(one.spooled))

    def unsettled(self) -> list[Waiting]:
        """Return those that have to be sent, the oldest first."""
        return [one for one in self.records if not one.settled and not one.dead]

    def fill(self, max_records: int, max_bytes: int) -> int:
        """Read on, *max_records* at most; return how many were read. Raises OSError.

        Raises ReplacedError, once what was read of the former spool is settled.
        """
        try:
            spooled = self._source.read(max_records, max_bytes)
        except ReplacedError:
            if self.records:
                return 0
            raise
        unreadable: list[tuple[bytes, RecordError]] = []
        self._reading = spooled, iter([one.payload for one in spooled])
        given = iter(spooled)
        for record in self._reader.read(self._reading[1], unreadable, []):
            while unreadable:  # those before it
                unreadable.pop()
                self._take(next(given), None)
            self._take(next(given), record)
        for one in given:
            self._take(one, None)
        if self._sent_ahead:
            for waiting in self.records:
                if ahead := self._sent_ahead.pop(waiting.spooled.number, None):
                    waiting.settled, waiting.doubt = ahead.settled, True
        return len(spooled)

    def newest(self) -> Waiting | None:
        """Return the newest record that is wanted and not read yet, to be sent ahead of the others.

        It is read in its turn all the same; if it is settled by then, it is not sent again.
        """
        for spooled in reversed(self._ahead()):
            record = self._record_of(spooled) if spooled.number >= self._expected else None
            if record is not None and self._is_wanted(record):
                one = self._sent_ahead.setdefault(spooled.number, Waiting(spooled, 0, doubt=True))
                self._render(one, record)
                return None if one.dead else one
        return None

    def advance(self) -> bool:
        """Pass the settled records at the front; tell whether there were any."""
        records, progress = self.records, self.progress
        before, last = progress.position, None
        shipped = 0
        while records and (settled := records[0].settled):
            last = records.popleft()
            if last.filtered:
                progress.filtered += last.filtered
            if last.dropped:  # what is sent in place of a gap is in no count
                progress.dropped += last.dropped
            elif settled == "stored":
                shipped += 1
            elif settled == "duplicate":
                progress.duplicate += 1
            else:
                progress.dead[last.dead] = progress.dead.get(last.dead, 0) + 1
        progress.shipped += shipped
        if not records and self._last:
            progress.filtered += self._filtered
            self._filtered = 0
            progress.position, progress.received = self._last.after, self._last.received
        elif last:
            progress.position, progress.received = last.after or last.spooled.after, last.spooled.received
        progress.know(progress.position.number)
        return progress.position != before

    def render_again(self, one: Waiting, short: str = "") -> None:
        """Render a record that was sent before; a reason as *short* reduces it to text, for a second try."""
        one.short = short
        self._render(one, self._record_of(one.spooled))

    def _take(self, one: Spooled, record: Record | None) -> None:
        """Have the next record wait, if it is wanted; None: it is unreadable."""
        _, _, _, _, number, _, _, _ = one  # by its name it takes as long as all
        if number != self._expected:
            self._jump(one)
        self._expected = number + 1
        self._last = one
        if record is None or self._is_wanted(record):
            self._append(
                Waiting(one, self._filtered, self._in_doubt > 0 or number < self._in_doubt_below), record
            )
        else:
            self._filtered += 1

    def _jump(self, behind: Spooled) -> None:
        """Go on with a number that was not expected."""
        if not self._expected:
            self.progress.begin_at(behind.number)
        elif self._has_gaps:
            self._add_gap(behind)

    def _append(self, one: Waiting, record: Record | None) -> None:
        self._in_doubt -= 1
        self._filtered = 0
        self.records.append(one)
        self._render(one, record)

    def _add_gap(self, behind: Spooled) -> None:
        first, last = self._expected, behind.number - 1
        received = self._last.received if self._last else self.progress.received
        since = f"after {_moment(received)} and " if received else ""
        text = (
            f"{counted(last - first + 1, 'record')} lost before they could be handed over, received {since}"
            f"before {_moment(behind.received)}: numbers {first} to {last} are not in the spool"
        )
        log.error("%s: %s", self._name, text)
        fields = {"name": "collector", "levelno": logging.ERROR, "levelname": "ERROR", "msg": text}
        payload = json.dumps({**fields, "created": behind.received / _BILLION}).encode()
        gap = behind._replace(number=last, peer="", payload=payload)
        in_doubt = self._in_doubt > 0 or behind.number < self._in_doubt_below
        one = Waiting(gap, self._filtered, in_doubt)
        # The position keeps to what was read last; from there the number alone says what comes next.
        position = self._last.after if self._last else self.progress.position
        one.after = position._replace(number=behind.number)
        one.dropped = last - first + 1
        self._append(one, self._record_of(gap))

    def _is_wanted(self, record: Record) -> bool:
        key = record[0].fields["name"], record[1].fields.get("levelno")  # a call for each would be felt
        try:
            return self._known[key]
        except KeyError:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            level = level_of(record)
            wanted = self._wants(name_of(record), sys.maxsize if level is None else level)  # it is below none
            self._known[key] = wanted
            return wanted

    def _received(self) -> float:
        """Return when the record that is being read was received: it was made then, for all we know.

        Told by what is left, as to take note of each record would be felt.
        """
        spooled, left = self._reading
        return spooled[len(spooled) - length_hint(left) - 1].received / _BILLION

    def _record_of(self, spooled: Spooled) -> Record | None:
        before, self._reading = self._reading, ([spooled], iter([spooled.payload]))
        try:
            return next(RecordReader(self._encoding, now=self._received).read(self._reading[1], [], []), None)
        finally:
            self._reading = before

    def _render(self, one: Waiting, record: Record | None) -> None:
        spooled = one.spooled
        collector_id, epoch, _, _, number, received, _, _ = spooled
        if one.dropped:
            id_ = f"{collector_id}-gap-{number - one.dropped + 1}-{number}"
        else:
            if (collector_id, epoch) != self._prefix_of:
                self._prefix_of = collector_id, epoch
                self._prefix = spooled.id.removesuffix(str(number))
            id_ = f"{self._prefix}{number}"
        data = b""
        if record is None:
            one.dead = UNREADABLE
        else:
            try:
                data = self._destination.render(spooled, record, id_, short=bool(one.short))
            except Exception:
                # Anything may come off the wire; if one record cannot be rendered, the next one can.
                log.exception("%s: record %s cannot be rendered", self._name, id_)
                one.dead = RENDERING
        one.size = len(data)
        one.outgoing = _new(Outgoing, (id_, epoch, number, received, data))


def _moment(received: int) -> str:
    """Return a time in nanoseconds since 1970 as text."""
    return f"{datetime.fromtimestamp(received / _BILLION, timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
