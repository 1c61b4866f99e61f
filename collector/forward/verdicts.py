"""What a destination is, and what it can say of the records that it is sent.

A verdict concerns one record, an error the whole request or the destination itself. Delivery knows these
words and nothing of any protocol; a destination knows its protocol and nothing of retries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from collector.spool.reading import Spooled
    from collector.wire.records import Record


CHECK_SECONDS = 5
"""What check() may take for each address."""


class Verdict(NamedTuple):
    """What became of one record."""

    kind: Literal["stored", "duplicate", "again", "dead"]
    """Stored; there already; not taken this time; refused for what it is."""
    reason: str = ""
    """Of "again" and "dead": a short word, one of a bounded number, for metrics; of "duplicate": FOUND."""
    doubt: bool = False
    """Of "again": whether it may be stored all the same (a 5xx of its own); of "stored": whether it may be
    there twice, as nobody could say if it was there before."""


STORED = Verdict("stored")
DUPLICATE = Verdict("duplicate")
FOUND = Verdict("duplicate", "found")
"""There already, as was asked; nothing of the request was sent, so it shows nothing of what is taken."""
STORED_IN_DOUBT = Verdict("stored", doubt=True)


class RequestError(Exception):
    """A request has come to nothing, or to a part of it."""

    def __init__(self, text: str, verdicts: Mapping[int, Verdict] | None = None) -> None:
        super().__init__(text)
        self.verdicts = verdicts or {}
        """Those that are known all the same, by position in the batch."""


class HoldError(RequestError):
    """It is the destination that is at fault, or we are in its eyes: no record becomes a dead letter.

    With verdicts for some, it is only what the others are to go into: one index of several, say.
    """

    def __init__(
        self, reason: str, text: str, remedy: str = "", verdicts: Mapping[int, Verdict] | None = None
    ) -> None:
        super().__init__(text, verdicts)
        self.reason = reason
        """A short word for metrics, one of a bounded number."""
        self.remedy = remedy
        """What an operator can do about it."""

    @property
    def advice(self) -> str:
        """The remedy as it follows the text, "" if there is none."""
        return f"; {self.remedy}" if self.remedy else ""


class BrokenError(RequestError):
    """There was no answer, or part of one: all that was sent and has no verdict is in doubt.

    An OSError that send() raises means the same for the whole batch; a TimeoutError says that the old request
    may still run.
    """

    def __init__(
        self, text: str, verdicts: Mapping[int, Verdict] | None = None, *, timed_out: bool = False
    ) -> None:
        super().__init__(text, verdicts)
        self.timed_out = timed_out
        """Whether the request may still run there: it is given `timeout_seconds` more."""


class BusyError(RequestError):
    """The destination takes nothing for now: 429, 502, 503, 504 for the whole request."""

    def __init__(self, text: str, retry_after: float | None = None, *, refused: bool = False) -> None:
        super().__init__(text)
        self.retry_after = retry_after
        """Seconds, where it has said so."""
        self.refused = refused
        """429: nothing of it is stored, and its size may be why. Else all of it is in doubt."""


class TooLargeError(RequestError):
    """The request is refused for its size (413): it is halved, down to one record."""


class RefusedError(RequestError):
    """The request is refused for a culprit within (400, 422): it is halved until that is alone."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason
        """A short word for metrics, one of a bounded number."""


class Outgoing(NamedTuple):
    """A record on its way to a destination."""

    id: str
    """`<collector id>-<epoch>-<number>`; a gap's is `<collector id>-gap-<first>-<last>`."""
    epoch: int
    number: int
    received: int
    """Nanoseconds since 1970."""
    data: bytes
    """As the destination's own render() made it."""


class Destination(Protocol):
    """A system that records are handed over to. One thread calls it, one call at a time."""

    state: dict[str, Any]
    """What its checkpoint keeps for it, as JSON: pattern and target in use, which address answered last.

    Given before the first connect(), saved after each send(); the destination alone knows what is in it.
    """
    certificate_days: float | None
    """How long the nearer of both certificates of the last connection is valid; None: there is none."""

    def connect(self) -> None:
        """Look up names, secrets and certificates again, and connect. Raises RequestError, OSError."""

    def render(self, spooled: Spooled, record: Record, id: str, *, short: bool = False) -> bytes:  # noqa: A002
        """Return one record as it is to be sent; *short*: reduced to text, for a second try.

        Whatever it raises makes the record a dead letter.
        """

    def send(self, batch: Sequence[Outgoing], again: bool) -> list[Verdict]:  # noqa: FBT001 - the protocol
        """Send records, and return a verdict for each. *again*: some of them may be stored there already.

        Raises the errors above, and OSError; the connection is closed then, and made anew before the next.
        """

    def close(self) -> None:
        """Close the connection, if there is one. Raises nothing."""

    def check(self) -> list[str]:
        """Return what is wrong with it, a line each. It is connected, tried and closed, and sent nothing."""
