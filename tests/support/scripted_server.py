"""A server that does what it is told for each connection: what real ones do seldom, or at the worst time."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Talk = Callable[[socket.socket], object]
    """What is done with a connection, which is closed behind it."""

SECONDS = 20
"""How long it waits for whatever is to come."""
OPENED = b"200 OK\nrelp_version=0\nrelp_software=of a test\ncommands=syslog"
OK = b"200 OK"
_HEADER = re.compile(rb"(\d+) (\w+) (\d+)(?: (?!\n))?")


@contextmanager
def serving(*talks: Talk) -> Iterator[str]:
    """Serve connections one after the other, each by the next of *talks*; yield the address.

    An assertion that fails in one of them fails the test, as does one that is not over at the end.
    """
    faults: list[BaseException] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(SECONDS)

        def serve() -> None:
            try:
                for talk in talks:
                    connection, _ = listening.accept()
                    with connection:
                        connection.settimeout(SECONDS)
                        talk(connection)
            except BaseException as fault:  # noqa: BLE001 - the test's thread raises it
                faults.append(fault)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        host, port = listening.getsockname()
        yield f"{host}:{port}"
        thread.join(2 * SECONDS)
    if faults:
        raise faults[0]


class Frame(NamedTuple):
    number: int
    command: str
    data: bytes


class RelpSession:
    """The server's side of RELP on one connection, frame by frame."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._read = b""

    def read(self) -> Frame:
        """Return the next frame. Raises EOFError."""
        while not (header := _HEADER.match(self._read)) or len(self._read) <= header.end() + int(header[3]):
            data = self._connection.recv(65536)
            if not data:
                raise EOFError
            self._read += data
        end = header.end() + int(header[3])
        data, self._read = self._read[header.end() : end], self._read[end + 1 :]
        return Frame(int(header[1]), header[2].decode(), data)

    def open(self, answer: bytes = OPENED) -> None:
        number, command, _ = self.read()
        assert command == "open"
        self.answer(number, answer)

    def answer(self, number: int, text: bytes = OK, command: str = "rsp") -> None:
        self._connection.sendall(b"%d %b %d %b\n" % (number, command.encode(), len(text), text))
