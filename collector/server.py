"""Clients: accept them, read them fairly, account for every byte, and at the end drain them.

One greenlet per client: it reads what is there, hands the complete frames on as one batch and gives way. It
knows neither what is in a frame nor where a record goes.
"""

from __future__ import annotations

import array
import errno
import fcntl
import logging
import socket
import termios
import time
from typing import TYPE_CHECKING, Protocol

import gevent
from gevent.pool import Pool
from gevent.server import StreamServer

from collector.framing import FrameSplitter

if TYPE_CHECKING:
    from collector.config import Listen
    from collector.reserve import Reserve
    from collector.stats import Stats

log = logging.getLogger(__name__)

# Large enough that a busy client costs one system call for a hundred records; small enough that ten thousand
# busy ones, each with one piece read, stay within the reserve.
_READ_BYTES = 64 * 1024
_READ_BYTES_WHEN_TIGHT = 4 * 1024
_POLL_SECONDS = 0.01
# While draining, what lay in a socket is read in any case. A client that has sent more meanwhile is read until
# its socket is empty, for this part of drain_seconds; who never stops loses the rest, as it would later.
_PATIENCE = 1 / 4
# sleep(0) would come back up to 50 times before the loop looks at any other socket. An idle watcher of the
# highest priority comes back once a turn of the loop, and lets it look without waiting.
_ONCE_A_TURN = 2


class Deliver(Protocol):
    """What takes a batch; it may wait, and must not raise."""

    def __call__(self, payloads: list[bytes], host: str, peer: str) -> None:
        """Take *payloads*, which the client *peer* (`address:port`) at *host* has sent."""


def open_listener(listen: Listen) -> socket.socket:
    """Return a bound, listening, non-blocking socket. Raises OSError. The caller closes it."""
    family, kind, proto, _, address = socket.getaddrinfo(
        listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, proto)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(listen.backlog)
        listener.setblocking(False)  # noqa: FBT003 - its only parameter
    except OSError:
        listener.close()
        raise
    return listener


def host_port(address: object) -> tuple[str, str]:
    """Return the host of a socket address, and `host:port`; both are "unix" for a Unix socket."""
    if not isinstance(address, tuple):
        return "unix", "unix"
    host, port = address[:2]
    return host, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Client:
    """One connection."""

    def __init__(self, sock: socket.socket, address: object, max_frame_bytes: int) -> None:
        self.sock = sock
        self.host, self.peer = host_port(address)
        self.splitter = FrameSplitter(max_frame_bytes)
        self.records = 0
        self.bytes = 0
        self.to_read = 0
        """While draining: bytes that lay in the socket when that began and are not read."""
        self.closing = ""
        """Why the collector ends this connection, if it does."""


class _AcceptError(OSError):
    """accept() failed; it has been logged, and gevent tries again after a pause."""


class Server(StreamServer):  # type: ignore[misc] # gevent has no annotations here
    """Accepts clients while there are fewer than max_clients and reads each in a greenlet of its own."""

    def __init__(
        self, listener: socket.socket, listen: Listen, deliver: Deliver, reserve: Reserve, stats: Stats
    ) -> None:
        # The Pool is the limit: while it is full nobody is accepted, which is not to accept and hang up.
        super().__init__(listener, self._serve, spawn=Pool(listen.max_clients))
        hub = gevent.get_hub()
        hub.NOT_ERROR = (*hub.NOT_ERROR, _AcceptError)  # it is in the log already: no traceback on stderr
        self._listen = listen
        self._deliver = deliver
        self._reserve = reserve
        self._stats = stats
        self._clients: set[Client] = set()
        # Those with a frame begun, the one that began it first in front.
        self._partial: dict[Client, None] = {}
        self._patience_ends = 0.0

    def do_read(self) -> object:
        """Accept one client. Overrides StreamServer's to say in our words what went wrong."""
        try:
            return super().do_read()
        except OSError as error:
            if error.errno in (errno.ECONNABORTED, errno.EINTR):
                return None
            log.error("cannot accept a client, trying again: %s", error)
            raise _AcceptError(*error.args) from error

    def drain(self, deadline: float) -> int:
        """Stop accepting, read what lies in the sockets, hang up; return how many were not read to the end.

        What waits in the backlog is accepted first. *deadline* is by the monotonic clock.
        """
        self.stop_accepting()
        while (accepted := self._accept_waiting()) is not None:
            gevent.spawn(self._serve, *accepted)
        gevent.sleep(0)  # lets those just accepted begin
        self.close()
        self._patience_ends = time.monotonic() + _PATIENCE * self._listen.drain_seconds
        for client in self._clients:
            client.to_read = _bytes_waiting(client.sock)
        quiet: set[Client] = set()
        while self._clients and time.monotonic() < deadline:
            empty = {client for client in self._clients if not _bytes_waiting(client.sock)}
            for client in empty & quiet:
                # Empty twice in a row. This wakes the greenlet, which reads the end, or what has just come.
                _shut(client.sock, socket.SHUT_RD)
            quiet = empty
            gevent.sleep(_POLL_SECONDS)
        return len(self._clients)

    def _accept_waiting(self) -> tuple[socket.socket, object] | None:
        try:
            return super().do_read()  # type: ignore[no-any-return]
        except OSError as error:
            log.error("clients in the backlog are lost: %s", error)
            return None

    def _serve(self, sock: socket.socket, address: object) -> None:
        """Read one client to its end. Closes the socket."""
        client = Client(sock, address, self._listen.max_frame_bytes)
        self._clients.add(client)
        self._stats.clients += 1
        self._stats.clients_total += 1
        log.info("client %s connected", client.peer)
        how = ""
        try:
            how = self._read(client)
        except OSError as error:
            how = f"{error.strerror or error}"
        except Exception:  # one client's greenlet is not to end without a word, whatever it tripped over
            log.exception("client %s: a fault in the collector; closing", client.peer)
            how = "a fault in the collector"
        finally:
            self._forget(client, how)

    def _read(self, client: Client) -> str:
        """Read until the end of the stream; return why it ended, "" if the client just hung up."""
        recv = client.sock.recv
        feed = client.splitter.feed
        reserve = self._reserve
        wait = self._listen.when_full == "wait"
        while True:
            if wait and reserve.full:
                reserve.wait()
            data = recv(_READ_BYTES if reserve.held * 2 < reserve.limit else _READ_BYTES_WHEN_TIGHT)
            if not data or client.closing:
                return client.closing
            client.bytes += len(data)
            self._stats.received_bytes_total += len(data)
            before = client.splitter.partial
            payloads = feed(data)
            self._account(client, before, begun=bool(payloads))
            if payloads:
                client.records += len(payloads)
                self._deliver(payloads, client.host, client.peer)
            if client.splitter.fault:
                return f"{client.splitter.fault}; closing"
            if self._patience_ends:
                client.to_read -= len(data)
                if client.to_read <= 0 and time.monotonic() >= self._patience_ends:
                    return "still sending while draining"
            gevent.idle(_ONCE_A_TURN)  # a busy client gives way after each batch

    def _account(self, client: Client, before: int, *, begun: bool) -> None:
        """Hold the change in incomplete bytes against the reserve; too many cost the oldest client."""
        partial = client.splitter.partial
        if begun or not partial:
            self._partial.pop(client, None)
        if partial:
            self._partial.setdefault(client)
        if partial != before and self._reserve.hold_partial(partial - before):
            oldest = next(iter(self._partial))
            oldest.closing = (
                "incomplete frames have used up their part of the reserve, and its was the oldest"
            )
            self._partial.pop(oldest)
            # At once, for the next bytes of somebody else are not to cost a second one.
            self._reserve.hold_partial(-oldest.splitter.partial)
            _shut(oldest.sock, socket.SHUT_RDWR)

    def _forget(self, client: Client, how: str) -> None:
        client.sock.close()
        self._clients.discard(client)
        self._partial.pop(client, None)
        self._stats.clients -= 1
        partial = client.splitter.partial
        if partial:
            if not client.closing:
                self._reserve.hold_partial(-partial)
            self._stats.cut_frames_total += 1
            log.warning(
                "client %s went away inside a frame, of which %d bytes had come", client.peer, partial
            )
        why = f": {how}" if how else ""
        level = logging.WARNING if client.splitter.fault or client.closing else logging.INFO
        log.log(
            level,
            "client %s disconnected after %d records, %d bytes%s",
            client.peer,
            client.records,
            client.bytes,
            why,
        )


def _bytes_waiting(sock: socket.socket) -> int:
    """Return how many bytes lie in the socket unread (FIONREAD, tcp(7)); 0 where it is closed."""
    waiting = array.array("i", [0])
    try:
        fcntl.ioctl(sock.fileno(), termios.FIONREAD, waiting)
    except (OSError, ValueError):
        return 0
    return waiting[0]


def _shut(sock: socket.socket, how: int) -> None:
    """Shut the connection down, so that its greenlet reads what is there and then the end.

    gevent's own shutdown() would raise in that greenlet instead, and what is there would be lost.
    """
    try:
        sock._sock.shutdown(how)  # type: ignore[attr-defined] # noqa: SLF001 - see above
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            log.warning("cannot shut a socket down: %s", error)
