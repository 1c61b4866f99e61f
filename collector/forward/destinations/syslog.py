"""Records go to a syslog server over TCP, octet-counted (RFC 6587, 3.4.1).

The protocol has no acknowledgement. A record counts as stored once the system has taken it to be sent: one
that was on its way when the connection broke is lost, and where the break is seen while a batch is sent, all
of that batch is sent again. Knows neither batches nor pauses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from collector.forward.destinations.connection import Connection, faults_in_connecting
from collector.forward.syslog_lines import SyslogLines
from collector.forward.verdicts import CHECK_SECONDS, STORED, BrokenError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collector.config.tables import Forward
    from collector.forward.verdicts import Outgoing, Verdict
    from collector.spool.reading import Spooled
    from collector.wire.records import Record


class Syslog:
    """One server, at `address`."""

    def __init__(self, settings: Forward, *, timeout_seconds: float | None = None) -> None:
        """Give connecting, and each request, *timeout_seconds*; None: what *settings* say."""
        self.state: dict[str, Any] = {}
        """Nothing: each record is of its own."""
        self.certificate_days: float | None = None
        """As Destination has it."""
        self._settings = settings
        self._timeout = settings.timeout_seconds if timeout_seconds is None else timeout_seconds
        self._lines = SyslogLines(settings.facility, settings.app_name, settings.max_record_bytes)
        self._connection: Connection | None = None

    def connect(self) -> None:
        """Connect anew. Raises HoldError, OSError."""
        self.close()
        connection = Connection(self._settings, self._timeout)
        try:
            self._greet(connection)
        except BaseException:
            connection.close()
            raise
        self._connection, self.certificate_days = connection, connection.certificate_days

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

    def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection:
            self._take_leave(connection)
            connection.close()

    def check(self) -> list[str]:
        """Return what is wrong with it, a line each."""
        probe = type(self)(self._settings, timeout_seconds=min(CHECK_SECONDS, self._timeout))
        return faults_in_connecting(probe, self._settings.address)

    def _ready(self) -> Connection:
        """Return a connection that the server has not ended, with time for a request. Raises as connect()."""
        if not self._connection or self._connection.is_over():
            self._drop()
            self.connect()
        assert self._connection  # noqa: S101 - connect() has made it
        self._connection.begin(self._timeout)
        return self._connection

    def _broken(self, error: OSError, verdicts: dict[int, Verdict] | None = None) -> BrokenError:
        """Close the connection, and return what to raise for it."""
        self._drop()
        text = f"{self._settings.address}: {error}"
        return BrokenError(text, verdicts, timed_out=isinstance(error, TimeoutError))

    def _drop(self) -> None:
        """Close the connection without a word."""
        connection, self._connection = self._connection, None
        if connection:
            connection.close()

    def _greet(self, connection: Connection) -> None:
        """Do what comes before the first record. Raises HoldError, OSError."""

    def _take_leave(self, connection: Connection) -> None:
        """Do what comes behind the last one. Raises nothing."""
