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


class Source(Protocol):
    """Where records come from: the spool, or the dead letters."""

    def read(self, max_records: int, max_bytes: int) -> Sequence[Spooled]:
        """Return the next ones; none: there are none for now."""


class Waiting:
    """A record that is wanted, until it is settled and passed."""

    # Of the class until they change: to set all of them in each would take as long as reading the record.
    after: Position | None = None
    """Of a gap: where the progress is behind it."""
    dropped = 0
    """Of a gap: how many numbers are missing."""
    settled = ""
    """"stored", "duplicate" or "dead", once it is."""
    dead = ""
    """Why it is to become a dead letter, once that is certain."""
    suspected = ""
    """Why it was refused, alone and as text, while nothing shows that this is for what it is."""
    shown = False
    """Whether it was refused while another one was stored."""
    proofs = 0
    """How often in a row the connection broke for it, alone, and not for the one sent before it."""
    short = False
    """Whether it is reduced to text."""
    tries = 0
    outgoing: Outgoing

    def __init__(self, spooled: Spooled, filtered: int, *, doubt: bool) -> None:
        self.spooled = spooled
        self.filtered = filtered
        """How many before it are not wanted."""
        self.doubt = doubt
        """Whether it may be stored already."""


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
        records: list[Record | None] = list(self._reader.read(self._reading[1], unreadable, []))
        if unreadable:
            refused = {id(payload) for payload, _ in unreadable}
            readable = iter(records)
            records = [None if id(one.payload) in refused else next(readable) for one in spooled]
        for one, record in zip(spooled, records, strict=True):
            if one.number != self._expected:
                self._jump(one)
            self._expected = one.number + 1
            self._last = one
            if record is None or self._is_wanted(record):
                self._append(Waiting(one, self._filtered, doubt=self._is_in_doubt(one)), record)
            else:
                self._filtered += 1
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
        while records and records[0].settled:
            last = records.popleft()
            progress.filtered += last.filtered
            progress.dropped += last.dropped
            if last.dropped:  # what is sent in place of a gap is in no count
                continue
            if last.settled == "stored":
                progress.shipped += 1
            elif last.settled == "duplicate":
                progress.duplicate += 1
            else:
                progress.dead[last.dead] = progress.dead.get(last.dead, 0) + 1
        if not records and self._last:
            progress.filtered += self._filtered
            self._filtered = 0
            progress.position, progress.received = self._last.after, self._last.received
        elif last:
            progress.position, progress.received = last.after or last.spooled.after, last.spooled.received
        progress.know(progress.position.number)
        return progress.position != before

    def render_again(self, one: Waiting, *, short: bool) -> None:
        """Render a record that was sent before: *short* reduces it to text, for a second try."""
        one.short = short
        self._render(one, self._record_of(one.spooled))

    def _jump(self, behind: Spooled) -> None:
        """Go on with a number that was not expected."""
        if not self._expected:
            self.progress.begin_at(behind.number)
        elif self._has_gaps:
            self._add_gap(behind)

    def _append(self, one: Waiting, record: Record | None) -> None:
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
        one = Waiting(gap, self._filtered, doubt=self._is_in_doubt(behind))
        # The position keeps to what was read last; from there the number alone says what comes next.
        position = self._last.after if self._last else self.progress.position
        one.after = position._replace(number=behind.number)
        one.dropped = last - first + 1
        self._append(one, self._record_of(gap))

    def _is_in_doubt(self, spooled: Spooled) -> bool:
        self._in_doubt -= 1
        return self._in_doubt >= 0 or spooled.number < self._in_doubt_below

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
        self._reading = [spooled], iter([spooled.payload])
        return next(RecordReader(self._encoding, now=self._received).read(self._reading[1], [], []), None)

    def _render(self, one: Waiting, record: Record | None) -> None:
        spooled = one.spooled
        if one.dropped:
            id_ = f"{spooled.collector_id}-gap-{spooled.number - one.dropped + 1}-{spooled.number}"
        else:
            if (spooled.collector_id, spooled.epoch) != self._prefix_of:
                self._prefix_of = spooled.collector_id, spooled.epoch
                self._prefix = spooled.id.removesuffix(str(spooled.number))
            id_ = f"{self._prefix}{spooled.number}"
        data = b""
        if record is None:
            one.dead = UNREADABLE
        else:
            try:
                data = self._destination.render(spooled, record, id_, short=one.short)
            except Exception:
                # Anything may come off the wire; if one record cannot be rendered, the next one can.
                log.exception("%s: record %s cannot be rendered", self._name, id_)
                one.dead = RENDERING
        one.outgoing = Outgoing(id_, spooled.epoch, spooled.number, spooled.received, data)


def _moment(received: int) -> str:
    """Return a time in nanoseconds since 1970 as text."""
    return f"{datetime.fromtimestamp(received / _BILLION, timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
