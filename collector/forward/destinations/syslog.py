"""Records go to a syslog server over TCP, octet-counted (RFC 6587, 3.4.1).

The protocol has no acknowledgement. A record counts as stored once the system has taken it to be sent: one
that was on its way when the connection broke is lost, and where the break is seen while a batch is sent, all
of that batch is sent again. Knows neither batches nor pauses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from collector.forward.destinations.connected import Connected
from collector.forward.syslog_lines import SyslogLines
from collector.forward.verdicts import STORED, BrokenError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collector.config.tables import Forward
    from collector.forward.verdicts import Outgoing, Verdict
    from collector.spool.reading import Spooled
    from collector.wire.records import Record


class Syslog(Connected):
    """One server, at `address`."""

    _max_extras = 240
    """syslog-ng keeps 255 parameters of a message, our fields among them, and says nothing of the others."""

    def __init__(self, settings: Forward, *, timeout_seconds: float | None = None) -> None:
        """Give connecting, and each request, *timeout_seconds*; None: what *settings* say."""
        super().__init__(settings, timeout_seconds=timeout_seconds)
        self._lines = SyslogLines(
            settings.facility, settings.app_name, settings.max_record_bytes, self._max_extras
        )

    def render(self, spooled: Spooled, record: Record, id: str, *, short: bool = False) -> bytes:  # noqa: A002
        """Return a record as one message, without what frames it."""
        return (self._lines.short if short else self._lines.line)(record, spooled.peer, id)

    def send(self, batch: Sequence[Outgoing], again: bool) -> list[Verdict]:  # noqa: ARG002, FBT001 - the protocol
        """Send records, and call all of them stored once the system has taken them to be sent."""
        connection, window = self._ready(), self._settings.window
        try:
            for begin in range(0, len(batch), window):
                if begin and connection.is_over():
                    raise ConnectionResetError("the server has hung up")
                some = batch[begin : begin + window]
                connection.send(b"".join([b"%d %b" % (len(one.data), one.data) for one in some]))
        except OSError as error:
            raise self._broken(error) from None
        return [STORED] * len(batch)

    def _broken(self, error: OSError, verdicts: dict[int, Verdict] | None = None) -> BrokenError:
        """Close the connection, and return what to raise for it."""
        self._drop()
        text = f"{self._settings.address}: {error}"
        return BrokenError(text, verdicts, timed_out=isinstance(error, TimeoutError))
