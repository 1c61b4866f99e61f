"""Records go to rsyslog by RELP, each with a transaction of its own: stored is what its own `rsp 200` says.

A window of them is on its way at a time; at a break those without an answer are without a verdict. What an
answer is worth, the server's queue decides. The protocol: doc/relp.html of librelp. Knows neither batches nor
pauses.
"""

from __future__ import annotations

import logging
import re
import ssl
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from collector.escape import escape
from collector.forward.destinations.relp_answers import OK, Answers, FramingError
from collector.forward.destinations.syslog import Syslog
from collector.forward.verdicts import STORED, HoldError, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collector.config.tables import Forward
    from collector.forward.destinations.connection import Connection
    from collector.forward.verdicts import Outgoing

log = logging.getLogger(__name__)

_SLOW = Verdict("again", "slow")
_LEAVING_SECONDS = 1
_MAX_NUMBER = 999_999_999
_OFFERS = b"relp_version=0\nrelp_software=gevent-collector\ncommands=syslog"
_CODE = re.compile(rb"([0-9]{3})(?![^ \n])")
_SHOWN_BYTES = 200


class Relp(Syslog):
    """One server, at `address`."""

    _max_extras = sys.maxsize  # rsyslog keeps all

    def __init__(self, settings: Forward, *, timeout_seconds: float | None = None) -> None:
        super().__init__(settings, timeout_seconds=timeout_seconds)
        self._answers = Answers()
        self._number = 0
        """That of the last transaction."""

    def send(self, batch: Sequence[Outgoing], again: bool) -> list[Verdict]:  # noqa: ARG002, FBT001 - the protocol
        """Send records, and wait for the answer to each.

        With a server that is slow, the half of the time that it is given, no further ones are sent, but
        left for the next request: the connection need not break for it.
        """
        connection = self._ready()
        late = time.monotonic() + self._timeout / 2
        verdicts: dict[int, Verdict] = {}
        pending: dict[int, int] = {}
        """Numbers of transactions, and positions in the batch."""
        sent = 0
        try:
            while pending or (sent < len(batch) and time.monotonic() < late):
                # Not one by one as answers come: that takes two calls of the system for each record.
                if len(pending) <= self._settings.window // 2 and time.monotonic() < late:
                    more = batch[sent : sent + self._settings.window - len(pending)]
                    connection.send(self._frames(more, pending, sent))
                    sent += len(more)
                self._take(connection.receive(), pending, verdicts)
        except OSError as error:
            broken = self._broken(error, verdicts)
            if len(verdicts) < len(batch):
                raise broken from None
        return [verdicts.get(position, _SLOW) for position in range(len(batch))]

    def _frames(self, records: Sequence[Outgoing], pending: dict[int, int], position: int) -> bytes:
        """Return frames for *records*, of which the first is at *position*, and have them waited for."""
        frames = []
        number = self._number
        for position_, one in enumerate(records, position):
            number = number % _MAX_NUMBER + 1
            pending[number] = position_
            frames.append(b"%d syslog %d %b\n" % (number, len(one.data), one.data))
        self._number = number
        return b"".join(frames)

    def _take(self, data: bytes, pending: dict[int, int], verdicts: dict[int, Verdict]) -> None:
        """Settle what *data* answers. Raises OSError where it is no answer to anything."""
        for numbers, text in self._answers.feed(data):
            verdict = STORED if text == OK else self._verdict(text)
            for number in numbers:
                position = pending.pop(number, None)
                if position is None:
                    raise FramingError(f"answers number {number}, which it was not sent")
                verdicts[position] = verdict

    def _verdict(self, text: bytes) -> Verdict:
        code = _CODE.match(text)
        if not code:
            raise FramingError(f"answers without a code: {_shown(text)}")
        if code[1] == b"200":
            return STORED
        log.warning("%s: %s refuses a record: %s", self._settings.name, self._settings.address, _shown(text))
        return Verdict("dead", f"rsp {code[1].decode()}")

    def _greet(self, connection: Connection) -> None:
        """Open the session. Raises HoldError where there is no server that takes syslog by RELP."""
        self._answers = Answers()
        self._number = 1
        where = self._settings.address
        remedy = "see whether address is that of an imrelp input, and whether both or neither have TLS"
        try:
            connection.send(b"1 open %d %b\n" % (len(_OFFERS), _OFFERS))
            while not (answers := list(self._answers.feed(connection.receive()))):
                pass
        except FramingError as error:
            raise HoldError("relp", f"{where}: {error}", remedy) from None
        except (ConnectionError, ssl.SSLEOFError):  # as rsyslog does with a certificate that is not permitted
            why = "see why in the server's log"
            if self._settings.ca and not self._settings.certificate:
                why = f"with TLS rsyslog wants a certificate, and none is given, or {why}"
            raise OSError(f"{where}: closed without an answer to open; {why}") from None
        except OSError as error:
            raise connection.fault(error) from None
        numbers, text = answers[0]
        code = _CODE.match(text)
        offers = dict(line.split(b"=", 1) for line in text.split(b"\n") if b"=" in line)
        if numbers != [1] or not code or code[1] != b"200":
            raise HoldError("relp", f"{where}: refuses the session: {_shown(text)}", remedy)
        if b"syslog" not in offers.get(b"commands", b"").split(b","):
            raise HoldError("relp", f"{where}: does not offer to take syslog: {_shown(text)}", remedy)

    def _take_leave(self, connection: Connection) -> None:
        """Close the session, and wait a little for the answer: a server logs a connection that just ends."""
        connection.begin(_LEAVING_SECONDS)
        with suppress(OSError):
            connection.send(b"%d close 0\n" % (self._number % _MAX_NUMBER + 1))
            while True:
                connection.receive()


def _shown(text: bytes) -> str:
    return escape(text[:_SHOWN_BYTES].decode("utf-8", "replace"))
