"""How a server of the forward protocol and we show each other that both know a shared key, and who we are.

The server says HELO, we PING, it PONG; what is hashed has a random part of either side, so that nothing can
be used again. The protocol: fluent/fluentd, wiki, Forward-Protocol-Specification-v1. Knows no socket.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import socket
from typing import NamedTuple

from collector.escape import escape

_PONG_PARTS = 5
_SHOWN_CHARACTERS = 200


class Credentials(NamedTuple):
    """What a server may ask for."""

    shared_key: str
    user: str = ""
    password: str = ""


class Helo(NamedTuple):
    """What a server that wants a shared key says first."""

    nonce: bytes
    auth_salt: bytes
    """b"": it asks for no user."""
    keepalive: bool
    """Whether the connection outlives the first message."""


def read_helo(answer: object) -> Helo | None:
    """Return what a server has said, strings as bytes; None: it is no HELO."""
    if not isinstance(answer, list) or answer[:1] != [b"HELO"]:
        return None
    options = answer[1] if len(answer) > 1 and isinstance(answer[1], dict) else {}
    nonce, salt = (options.get(key) for key in (b"nonce", b"auth"))
    return Helo(
        nonce if isinstance(nonce, bytes) else b"",
        salt if isinstance(salt, bytes) else b"",
        options.get(b"keepalive") is not False,
    )


class Handshake:
    """The answer to one HELO."""

    def __init__(self, helo: Helo, credentials: Credentials) -> None:
        self._helo = helo
        self._key = credentials.shared_key.encode()
        self._salt = secrets.token_hex(16)  # text: Fluent Bit takes nothing else
        self._credentials = credentials
        # A server that has our host's name takes it for a server that sends to itself, and refuses.
        self._host = f"{socket.gethostname()}.collector"

    def ping(self) -> list[str]:
        """Return what is to be sent. The user is only told to a server that asks for one."""
        user, password = "", ""
        if self._helo.auth_salt and self._credentials.user:
            user = self._credentials.user
            password = _hash(self._helo.auth_salt, user, self._credentials.password)
        return ["PING", self._host, self._salt, self._hash(self._host), user, password]

    def fault(self, pong: object) -> str:
        """Return what is wrong with the answer of the server, in words; "": nothing, it knows the key."""
        if not isinstance(pong, list) or len(pong) != _PONG_PARTS or pong[0] != b"PONG":
            return f"answers {shown(pong)} to PING"
        _, is_welcome, reason, server, proof = pong
        if is_welcome is not True:
            return f"refuses us: {shown(reason)}"
        if not isinstance(server, bytes) or not isinstance(proof, bytes):
            return f"answers {shown(pong)} to PING"
        if not hmac.compare_digest(proof, self._hash(server).encode()):
            return "does not know the shared key itself"
        return ""

    def _hash(self, host: str | bytes) -> str:
        return _hash(self._salt, host, self._helo.nonce, self._key)


def shown(answer: object) -> str:
    """Return what a server has said as a piece of a message."""
    text = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else repr(answer)
    return escape(text[:_SHOWN_CHARACTERS])


def _hash(*parts: str | bytes) -> str:
    return hashlib.sha512(
        b"".join(part if isinstance(part, bytes) else part.encode() for part in parts)
    ).hexdigest()
