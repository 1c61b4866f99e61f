"""A server of the forward protocol, in a thread: what engines do, and what they do at the worst time.

The tests against engines that are not ours hold it to what those do.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import socket
import ssl
import struct
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import msgpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from typing_extensions import Self

    Talk = Callable[[socket.socket, str], None]
    """What is done with a connection in place of acknowledging a chunk; it may raise HangUp."""

NAME = "server.test"


class HangUp(Exception):  # noqa: N818 - an order
    """The connection is closed."""


class Entry(NamedTuple):
    nanoseconds: int
    fields: dict[str, Any]


class Message(NamedTuple):
    """A message as it came, its entries unpacked."""

    tag: str
    entries: list[Entry]
    options: dict[str, Any]
    data: bytes
    """The entries as they came."""


class ForwardServer:
    """A server on a port of this machine; what it has acknowledged and stored is in `messages`."""

    def __init__(  # noqa: PLR0913 - each is an option of real ones
        self,
        certificates: Path | None = None,
        *,
        client_ca: bool = False,
        key: str = "",
        users: dict[str, str] | None = None,
        asks_for_user: bool = True,
        keepalive: bool = True,
    ) -> None:
        self.messages: list[Message] = []
        self.greetings: list[list[Any]] = []
        """Each PING, strings as bytes."""
        self.connections = 0
        self.instead: list[Talk] = []
        """What is done with the next messages, once they are stored."""
        self.before_storing = False
        """Whether that is done without storing them."""
        self.poison = "no message has this"
        """A text; for a message that has it in an entry, the connection is closed, and nothing is stored."""
        self.helo: bytes | None = None
        """What is said first in place of HELO."""
        self.proof: str | None = None
        """What is shown in PONG in place of the proof that it knows the key."""
        self._key, self._users, self._asks, self._keepalive = key, users or {}, asks_for_user, keepalive
        self._context: ssl.SSLContext | None = None
        if certificates:
            self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self._context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
            if client_ca:
                self._context.verify_mode = ssl.CERT_REQUIRED
                self._context.load_verify_locations(certificates / "ca.pem")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self._listener, *self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()
        self._listener.close()

    def stop_listening(self) -> None:
        """Take no further connections, for good."""
        self._listener.shutdown(socket.SHUT_RDWR)

    @property
    def texts(self) -> list[str]:
        """The texts of all entries, in their order."""
        return [entry.fields["message"] for message in self.messages for entry in message.entries]

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError, HangUp):
            if self._context:
                connection = self._context.wrap_socket(connection, server_side=True)
                self._open.append(connection)
            with connection:
                said = _said(connection)
                if self.helo is not None:
                    connection.sendall(self.helo)
                elif self._key and not self._welcomes(connection, said):
                    return
                for tag, data, options in said:
                    self._take(connection, Message(tag.decode(), *_entries(data, options), data))
                    if not self._keepalive:
                        next(said, None)  # what comes now is lost
                        return

    def _take(self, connection: socket.socket, message: Message) -> None:
        if any(self.poison in entry.fields["message"] for entry in message.entries):
            raise HangUp
        talk = self.instead.pop(0) if self.instead else None
        chunk = message.options["chunk"]
        if not (talk and self.before_storing):
            self.messages.append(message)
        if talk:
            talk(connection, chunk)
        else:
            connection.sendall(msgpack.packb({"ack": chunk}))

    def _welcomes(self, connection: socket.socket, said: Iterator[Any]) -> bool:
        """Shake hands; tell whether the peer is let in."""
        nonce, salt = os.urandom(16), os.urandom(16) if self._users and self._asks else b""
        helo = {"nonce": nonce, "auth": salt, "keepalive": self._keepalive}
        # As Fluent Bit does it: a string, whether it is text or not.
        connection.sendall(msgpack.packb(["HELO", helo], use_bin_type=False))
        ping = next(said, None)
        if not isinstance(ping, list) or ping[:1] != [b"PING"]:
            return False
        self.greetings.append(ping)
        _, host, key_salt, proof, user, password = ping
        fault = ""
        if proof.decode() != _hash(key_salt, host, nonce, self._key.encode()):
            fault = "shared_key mismatch"
        elif salt and password.decode() != _hash(salt, user, self._users.get(user.decode(), "?").encode()):
            fault = "username/password mismatch"
        own = _hash(key_salt, NAME.encode(), nonce, self._key.encode())
        shown = "" if fault else own if self.proof is None else self.proof
        connection.sendall(msgpack.packb(["PONG", not fault, fault, NAME, shown]))
        return not fault


def hang_up(_: socket.socket, __: str) -> None:
    raise HangUp


def answer(value: object) -> Talk:
    """Return what answers with *value*, or with bytes as they are."""
    data = value if isinstance(value, bytes) else msgpack.packb(value)
    return lambda connection, _: connection.sendall(data)


def stay_silent(_: socket.socket, __: str) -> None:
    pass


def _said(connection: socket.socket) -> Iterator[Any]:
    unpacker = msgpack.Unpacker(raw=True, max_buffer_size=2**31 - 1)
    while data := connection.recv(65536):
        unpacker.feed(data)
        yield from unpacker


def _entries(data: bytes, options: dict[bytes, Any]) -> tuple[list[Entry], dict[str, Any]]:
    texts = {
        key.decode(): value.decode() if isinstance(value, bytes) else value for key, value in options.items()
    }
    if texts.get("compressed") == "gzip":
        data = gzip.decompress(data)
    unpacker = msgpack.Unpacker(max_buffer_size=2**31 - 1, ext_hook=_nanoseconds)
    unpacker.feed(data)
    return [Entry(*entry) for entry in unpacker], texts


def _nanoseconds(kind: int, data: bytes) -> int:
    assert kind == 0
    seconds, nanoseconds = struct.unpack(">II", data)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


def _hash(*parts: bytes) -> str:
    return hashlib.sha512(b"".join(parts)).hexdigest()
