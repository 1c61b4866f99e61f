"""What destinations have in common that have one connection, to `address`: it is made, kept, ended and tried.

What is said at its beginning and at its end, and all between, is the business of each. Knows no protocol.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from collector.forward.destinations.connection import Connection
from collector.forward.destinations.tls import FEW_DAYS
from collector.forward.verdicts import CHECK_SECONDS, HoldError

if TYPE_CHECKING:
    from collector.config.tables import Forward


class Connected:
    """One server, at `address`."""

    def __init__(self, settings: Forward, *, timeout_seconds: float | None = None) -> None:
        """Give connecting, and each request, *timeout_seconds*; None: what *settings* say."""
        self.state: dict[str, Any] = {}
        """Nothing: each request is of its own."""
        self.certificate_days: float | None = None
        """As Destination has it."""
        self._settings = settings
        self._timeout = settings.timeout_seconds if timeout_seconds is None else timeout_seconds
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

    def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection:
            self._take_leave(connection)
            connection.close()

    def check(self) -> list[str]:
        """Return what is wrong with it, a line each. Another one is connected for that, and closed."""
        probe = self._probe(min(CHECK_SECONDS, self._timeout))
        try:
            probe.connect()
        except HoldError as error:
            return [f"{error}; {error.remedy}"]
        except OSError as error:
            return [str(error)]
        finally:
            probe.close()
        days = probe.certificate_days
        few = days is not None and days < FEW_DAYS
        return [f"{self._settings.address}: a certificate ends in {days:.1f} days; renew it"] if few else []

    def _probe(self, seconds: float) -> Connected:
        """Return one for check()."""
        return type(self)(self._settings, timeout_seconds=seconds)

    def _ready(self) -> Connection:
        """Return a connection that the server has not ended, with time for a request. Raises as connect()."""
        if not self._connection or self._connection.is_over():
            self._drop()
            self.connect()
        assert self._connection  # noqa: S101 - connect() has made it
        self._connection.begin(self._timeout)
        return self._connection

    def _drop(self) -> None:
        """Close the connection without a word."""
        connection, self._connection = self._connection, None
        if connection:
            connection.close()

    def _greet(self, connection: Connection) -> None:
        """Do what comes before the first record. Raises HoldError, OSError."""

    def _take_leave(self, connection: Connection) -> None:
        """Do what comes behind the last one. Raises nothing."""
