"""Records go to Fluentd, Fluent Bit or whatever else speaks the forward protocol, version 1.

The records of a tag go in one message, PackedForward, with the id of a chunk; they are stored when that id
comes back, and not before. What an acknowledgement is worth, the server's buffer decides. No server looks for
an id that it had before: what is sent again is there twice. The protocol: fluent/fluentd, wiki,
Forward-Protocol-Specification-v1. Knows neither batches nor pauses.
"""

from __future__ import annotations

import re
import ssl
import time
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING

import msgpack

from collector.forward.destinations.connected import Connected
from collector.forward.destinations.fluent_handshake import Credentials, Handshake, read_helo, shown
from collector.forward.destinations.http import secret
from collector.forward.entries import Entries
from collector.forward.verdicts import STORED, BrokenError, HoldError, RequestError, Verdict
from collector.wire.records import name_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from collector.config.tables import Forward
    from collector.forward.destinations.connection import Connection
    from collector.forward.verdicts import Outgoing
    from collector.spool.reading import Spooled
    from collector.wire.records import Record

MAX_ANSWER_BYTES = 64 * 1024
"""The longest that is known, HELO and PONG, have a few hundred."""
MAX_LOGGER_CHARACTERS = 500
"""Of a tag: Fluent Bit keeps it with each of its chunks, in 64 kB together with all else."""
HELO_SECONDS = 1
"""How long check() listens whether a server wants a shared key where we have none."""

_GZIP_LEVEL = 1  # as over HTTP
_GZIP = 16 + zlib.MAX_WBITS
_SLOW = Verdict("again", "slow")
_SIZE_BYTES = 4
_LAST_WORDS_SECONDS = 1
# A tag chooses where a record goes, and becomes part of the names of files there.
_NOT_IN_TAGS = re.compile(r"[^\w.-]")


class AnswerError(ConnectionError):
    """What came is not what the protocol has there."""


class Fluent(Connected):
    """One server, at `address`. `{logger}` in `tag` stands for the name of the logger."""

    def __init__(self, settings: Forward, *, timeout_seconds: float | None = None) -> None:
        """Give connecting, and each message, *timeout_seconds*; None: what *settings* say."""
        super().__init__(settings, timeout_seconds=timeout_seconds)
        self._entries = Entries(settings.max_record_bytes)
        self._answers = msgpack.Unpacker()
        self._keepalive = True
        """Whether the server leaves the connection open behind a message."""

    def render(self, spooled: Spooled, record: Record, id: str, *, short: bool = False) -> bytes:  # noqa: A002
        """Return a record as its entry, behind the tag and the tag's size."""
        head = record[0]
        tag: bytes
        try:
            tag = head.rendered[self]
        except KeyError:
            tag = head.rendered[self] = self._tag(name_of(record))
        if short:
            return tag + self._entries.short(record, spooled.received, id)
        return tag + self._entries.entry(record, spooled.peer, spooled.received, id)

    def send(self, batch: Sequence[Outgoing], again: bool) -> list[Verdict]:  # noqa: ARG002, FBT001 - the protocol
        """Send the records of each tag, and wait for the acknowledgement before those of the next one.

        With a server that is slow, the half of the time that it is given, no further tags are sent, but left
        for the next request: the connection need not break for it.
        """
        late = time.monotonic() + self._timeout / 2
        by_tag: dict[bytes, dict[int, bytes]] = {}
        for position, one in enumerate(batch):
            end = _SIZE_BYTES + int.from_bytes(one.data[:_SIZE_BYTES], "big")
            by_tag.setdefault(one.data[_SIZE_BYTES:end], {})[position] = one.data[end:]
        verdicts: dict[int, Verdict] = {}
        for tag, entries in by_tag.items():
            if verdicts and time.monotonic() >= late:
                break
            try:
                # Sent again, the same records are the same chunk, so that a server's log shows it.
                chunk = f"{batch[min(entries)].id}-{batch[max(entries)].number}"
                self._hand_over(chunk, self._message(chunk, tag.decode(), entries.values()))
            except RequestError as error:
                self.close()
                error.verdicts = verdicts
                raise
            except OSError as error:
                self.close()
                raise BrokenError(str(error), verdicts) from None
            verdicts.update(dict.fromkeys(entries, STORED))
        return [verdicts.get(position, _SLOW) for position in range(len(batch))]

    def _probe(self, seconds: float) -> Fluent:
        return _Probe(self._settings, timeout_seconds=seconds)

    def _tag(self, logger: str) -> bytes:
        """Return what stands before an entry: the size of the tag, and the tag."""
        name = _NOT_IN_TAGS.sub("_", logger[:MAX_LOGGER_CHARACTERS]) or "_"
        tag = self._settings.tag.replace("{logger}", name).encode()
        return len(tag).to_bytes(_SIZE_BYTES, "big") + tag

    def _hand_over(self, chunk: str, message: bytes) -> None:
        """Have a message acknowledged. Raises HoldError, BrokenError, OSError."""
        connection = self._ready()
        try:
            connection.send(message)
            answer = self._read(connection)
        except OSError as error:
            raise _hold_in(connection, error) or BrokenError(
                f"{connection.where}: {error}", timed_out=isinstance(error, TimeoutError)
            ) from None
        if answer != {b"ack": chunk.encode()}:
            self._refuse_helo(answer)
            raise BrokenError(f"{self._settings.address}: answers {shown(answer)} to chunk {chunk}")
        if not self._keepalive:
            self.close()

    def _message(self, chunk: str, tag: str, entries: Collection[bytes]) -> bytes:
        options: dict[str, str | int] = {"size": len(entries), "chunk": chunk}
        packed = b"".join(entries)
        if self._settings.compression == "gzip":
            compressor = zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP)
            packed = compressor.compress(packed) + compressor.flush()
            options["compressed"] = "gzip"
        message: bytes = msgpack.packb((tag, packed, options))
        return message

    def _greet(self, connection: Connection) -> None:
        """Shake hands where there is a shared key. Raises HoldError, OSError."""
        # As bytes: the random part of HELO may come as a string, and be no text.
        self._answers = msgpack.Unpacker(raw=True, max_buffer_size=MAX_ANSWER_BYTES)
        self._keepalive = True
        settings, where = self._settings, self._settings.address
        if not settings.shared_key_file:
            return
        password = secret(settings.password_file, "password_file") if settings.user else ""
        credentials = Credentials(
            secret(settings.shared_key_file, "shared_key_file"), settings.user, password
        )
        try:
            said = self._read(connection)
            helo = read_helo(said)
            if helo is None:
                remedy = (
                    "see whether address is that of a forward input, and whether both or neither have TLS"
                )
                raise HoldError("handshake", f"{where}: says {shown(said)} in place of HELO", remedy)
            handshake = Handshake(helo, credentials)
            connection.send(msgpack.packb(handshake.ping()))
            fault = handshake.fault(self._read(connection))
        except TimeoutError:
            why = "it hangs, or wants no shared key, and shared_key_file is to be removed"
            raise OSError(f"{where}: no HELO, or no answer to PING, in time: {why}") from None
        except OSError as error:
            raise connection.fault(error) from None
        if fault:
            remedy = (
                "see that shared_key_file has that server's key, that user and password_file are those of a "
                "user there if it asks for one, and that it takes this host"
            )
            raise HoldError("handshake", f"{where}: {fault}", remedy)
        self._keepalive = helo.keepalive

    def _read(self, connection: Connection) -> object:
        """Return the next thing that the server says, strings as bytes. Raises OSError."""
        try:
            while True:
                with suppress(msgpack.OutOfData):
                    return self._answers.unpack()
                self._answers.feed(connection.receive())
        except (ValueError, msgpack.UnpackException) as error:
            raise AnswerError(f"says what is no MessagePack, or too much of it: {error!r}") from None

    def _refuse_helo(self, said: object) -> None:
        """Raise HoldError if a server wants a shared key, and we have none."""
        if read_helo(said):
            text = f"{self._settings.address}: asks for a shared key (HELO), and there is no shared_key_file"
            raise HoldError("handshake", text, "write that server's key to a file, and name it there")


class _Probe(Fluent):
    """One that listens, without a shared key, whether the server wants one."""

    def _greet(self, connection: Connection) -> None:
        super()._greet(connection)
        if not self._settings.shared_key_file:
            connection.begin(min(HELO_SECONDS, self._timeout))
            try:
                self._refuse_helo(self._read(connection))
            except TimeoutError:
                pass
            except OSError as error:
                raise connection.fault(error) from None


def _hold_in(connection: Connection, error: OSError) -> HoldError | None:
    """Return what an error says of the server itself, if anything: TLS may have refused us.

    By TLS 1.3 a server does so behind the handshake, while we send already: then it is still to be read.
    """
    try:
        if not isinstance(error, (TimeoutError, AnswerError)):
            connection.begin(_LAST_WORDS_SECONDS)
            connection.receive()
    except ssl.SSLError as last:
        error = last
    except OSError:
        pass
    fault = connection.fault(error)
    return fault if isinstance(fault, HoldError) else None
