"""A destination of the simplest kind: a line of JSON for a request, and one for the answer.

`Sink` is the server; it follows orders. `LineDestination` is what a forwarder uses.
"""

from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from collector.forward.verdicts import (
    BrokenError,
    BusyError,
    HoldError,
    Outgoing,
    RefusedError,
    TooLargeError,
    Verdict,
)
from collector.wire.records import message_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from collector.spool.reading import Spooled
    from collector.wire.records import Record

SHORT = "short: "


class LineDestination:
    """What talks to a Sink on a port of this machine."""

    def __init__(self, port: int, timeout: float = 60) -> None:
        self.state: dict[str, Any] = {}
        self.certificate_days: float | None = None
        self.port = port
        self.timeout = timeout
        self._socket: socket.socket | None = None

    def connect(self) -> None:
        self._socket = socket.create_connection(("127.0.0.1", self.port), self.timeout)
        self._lines = self._socket.makefile("rb")
        self.state["connections"] = self.state.get("connections", 0) + 1

    def render(self, spooled: Spooled, record: Record, id: str, *, short: bool = False) -> bytes:  # noqa: A002, ARG002
        text = message_of(record)
        if text == "cannot be rendered":
            raise ValueError(text)
        return (SHORT * short + text).encode()

    def send(self, batch: Sequence[Outgoing], again: bool) -> list[Verdict]:
        assert self._socket
        records = [[one.id, one.data.decode()] for one in batch]
        self._socket.sendall(json.dumps([again, records]).encode() + b"\n")
        line = self._lines.readline()
        if not line.endswith(b"\n"):
            raise BrokenError("it hung up")
        answer = json.loads(line)
        verdicts = {int(position): Verdict(*one) for position, one in answer.get("verdicts", {}).items()}
        match answer.get("error"):
            case None:
                return [verdicts[position] for position in range(len(batch))]
            case "hold":
                raise HoldError("closed", "the index is closed", "open it", verdicts)
            case "broken":
                raise BrokenError("it answered in part", verdicts)
            case "busy":
                raise BusyError("503", answer.get("retry_after"))
            case "429":
                raise BusyError("429", answer.get("retry_after"), refused=True)
            case "413":
                raise TooLargeError("413")
            case _:
                raise RefusedError("400", "400")

    def close(self) -> None:
        if self._socket:
            self._lines.close()
            self._socket.close()
            self._socket = None

    def check(self) -> list[str]:
        return []


class HangUp(Exception):  # noqa: N818 - an order
    """The connection is closed, without an answer; what was stored stays stored."""


class Sink:
    """A server that stores records by their ids, and does as it is told."""

    def __init__(self) -> None:
        self.stored: dict[str, str] = {}
        self.requests: list[tuple[bool, list[str]]] = []
        """Of each: whether it was said to come again, and the texts."""
        self.records: list[list[str]] = []
        """The ids and texts of the last request."""
        self.duplicates = 0
        self.order: Callable[[list[str]], dict[str, Any] | None] = lambda _: None
        """Given the texts of a request: an answer in place of the usual one, or None. May raise HangUp."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def texts(self) -> list[str]:
        return list(self.stored.values())

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def store(self, records: list[list[str]]) -> dict[int, list[str]]:
        """Store records as usual; return the verdicts."""
        verdicts = {}
        for position, (key, text) in enumerate(records):
            verdicts[position] = ["duplicate" if key in self.stored else "stored"]
            self.duplicates += key in self.stored
            self.stored.setdefault(key, text)
        return verdicts

    def refuse(self, *texts: str, kind: str = "dead") -> Callable[[list[str]], dict[str, Any] | None]:
        """Return the order to refuse the records with these texts, short or not, and to store all others."""

        def order(request: list[str]) -> dict[str, Any]:
            records = self.records
            refused = [position for position, text in enumerate(request) if text.removeprefix(SHORT) in texts]
            rest = [one for position, one in enumerate(records) if position not in refused]
            stored = iter(self.store(rest).values())
            verdicts = [
                [kind, "mapper"] if position in refused else next(stored) for position in range(len(records))
            ]
            return {"verdicts": dict(enumerate(verdicts))}

        return order

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        # Whoever is killed resets its connection.
        with suppress(ConnectionError), connection, connection.makefile("rb") as lines:
            for line in lines:
                again, self.records = json.loads(line)
                texts = [text for _, text in self.records]
                self.requests.append((again, texts))
                try:
                    answer = self.order(texts)
                except HangUp:
                    return
                if answer is None:
                    answer = {"verdicts": self.store(self.records)}
                connection.sendall(json.dumps(answer).encode() + b"\n")
