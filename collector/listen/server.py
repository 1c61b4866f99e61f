"""Clients: accept them, read them fairly, account for every byte, and at the end drain them.

One greenlet per client: it reads what is there, hands the complete frames on as one batch and gives way. It
knows neither what is in a frame nor where a record goes.
"""

from __future__ import annotations

import array
import errno
import fcntl
import logging
import re
import select
import socket
import termios
import time
from functools import partial
from typing import TYPE_CHECKING, Protocol

import gevent
from gevent.socket import socket as gevent_socket
from gevent.socket import wait
from gevent.ssl import SSLContext, SSLSocket

from collector.greenlets import keep_running
from collector.listen.acceptors import Places, accept, accept_waiting
from collector.listen.incomplete import IncompleteFrames
from collector.listen.sockets import host_port, is_in
from collector.listen.tls import load
from collector.log import counted
from collector.stats import (
    BROKEN_PROXY_HEADER,
    LOST_ALL,
    NO_HANDSHAKE,
    NO_PROXY_HEADER,
    NOT_IN_ALLOW,
    PROXY_HEADER,
)
from collector.wire.framing import FrameError, FrameSplitter, is_of_an_application
from collector.wire.proxy_header import ProxyHeader

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from collector.config.tables import Listen
    from collector.listen.tls import ServerTls
    from collector.reserve import Reserve
    from collector.stats import Stats

log = logging.getLogger(__name__)

# A client is read in pieces of twice what came last: a busy one costs a system call for hundreds of records,
# a quiet one little memory. When the reserve is half full pieces are small, so that ten thousand stay within.
_READ_BYTES = 256 * 1024
_READ_BYTES_WHEN_TIGHT = 4 * 1024
# A piece of tiny frames has 13,000: too many to keep others waiting for.
_MAX_BATCH = 1000
_POLL_SECONDS = 0.01
_READABLE = 1  # of a watcher: libev's EV_READ
_SWEEP_SECONDS = 1.0
# Far more than a handshake across the world takes, or a PROXY header; who stalls holds a place among
# max_clients for no longer.
_HANDSHAKE_SECONDS = 10.0
_LOOK_BYTES = 4096
# A client whose machine is gone is found after two minutes: a minute of silence, then four probes.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4))
# While draining, what lay in a socket is read in any case. A client that has sent more meanwhile is read
# until its socket is empty, for this part of drain_seconds; who never stops loses the rest.
_PATIENCE = 1 / 4
# sleep(0) would come back up to 50 times before the loop looks at any other socket. An idle watcher of the
# highest priority comes back once a turn of the loop, and lets it look without waiting.
_ONCE_A_TURN = 2
_NUMBER = re.compile(r"\d+")
_NOT_ALLOWED = "its address is not in [listen] allow"
_TLS_RECORD = b"\x16"  # as every handshake begins


class Deliver(Protocol):
    """What takes a batch; it may wait, and must not raise."""

    def __call__(self, payloads: list[bytes], host: str, peer: str) -> None:
        """Take *payloads*, which the client *peer* (`address:port`) at *host* has sent."""


class _RefusedError(Exception):
    """A client is not served: why, the reason by which it is counted, and the level at which it is told."""

    def __init__(self, reason: str, why: str, level: int = logging.ERROR) -> None:
        super().__init__(why)
        self.reason = reason
        self.level = level


class Client:
    """One connection."""

    def __init__(self, sock: socket.socket, address: object, max_frame_bytes: int) -> None:
        self.sock = sock
        self.host, self.peer = host_port(address)
        self.splitter = FrameSplitter(max_frame_bytes)
        self.since = time.monotonic()
        """When it connected."""
        self.records = 0
        self.bytes = 0
        self.begun_at = 0.0
        """When it began the frame it is inside of, by the monotonic clock, less the time nobody read."""
        self.waiting = False
        """Whether the collector does not read it at the moment."""
        self.to_read = 0
        """Once it is to be hung up: bytes that lay in the socket when that began and are not read."""
        self.closing = ""
        """Why the collector ends this connection, if it does."""
        self.refused = False
        """Whether its address was taken out of `allow`: what has come is still read."""
        self.known = False
        """Whether it is known who it is: no PROXY header of it is to come."""
        self.proxied = False
        """Whether it is known by a PROXY header, and not by the address of the socket."""
        self.misled = ""
        """What it has sent instead of records, where an operator must act."""

    def become(self, address: tuple[str, int] | None) -> None:
        """Be the client that a PROXY header names; None: the proxy itself."""
        self.proxied = True
        if address:
            self.host, self.peer = host_port(address)


class Server:
    """Accepts clients while there are fewer than *max_clients* and reads each in a greenlet of its own."""

    def __init__(  # noqa: PLR0913, PLR0917 - what it connects
        self,
        listeners: Sequence[socket.socket],
        listen: Listen,
        max_clients: int,
        deliver: Deliver,
        reserve: Reserve,
        stats: Stats,
    ) -> None:
        # They are the limit: while none is free nobody is accepted, which is not to accept and hang up.
        self._places = Places(max_clients)
        self._listeners = [gevent_socket(fileno=listener.detach()) for listener in listeners]
        self._acceptors: list[gevent.Greenlet] = []
        self.tls = load(listen.tls, SSLContext) if listen.tls else None
        """What those who come are served with."""
        self._listen = listen
        self._deliver = deliver
        self._reserve = reserve
        self._stats = stats
        stats.faults_total["client"] += 0  # from zero on, as those of what keeps running
        self._clients: set[Client] = set()
        self._incomplete: IncompleteFrames[Client] = IncompleteFrames(reserve)
        self._patience_ends = 0.0

    @property
    def clients(self) -> Collection[Client]:
        """Those that are connected."""
        return self._clients

    def start(self) -> list[str]:
        """Begin to accept; return the addresses, `host:port` or the path of a Unix socket."""
        if self.tls:
            self.tls.warn()
        addresses = []
        for listener in self._listeners:
            listener.setblocking(False)  # noqa: FBT003 - its only parameter
            run = partial(accept, listener, self._places, self._serve)
            self._acceptors.append(keep_running("accept", run, self._stats))
            address = listener.getsockname()
            addresses.append(address if isinstance(address, str) else host_port(address)[1])
        keep_running("sweep", self._sweep, self._stats)
        return addresses

    def reconfigure(self, listen: Listen, tls: ServerTls | None, max_clients: int, deliver: Deliver) -> None:
        """Go by these from now on, for those connected too; *tls* is for those who come. Addresses stay.

        Who may no longer connect is read to the end of what has come, and then closed.
        """
        self._listen = listen
        self.tls = tls
        if tls:
            tls.warn()
        self._deliver = deliver
        self._places.resize(max_clients)
        for client in self._clients:
            client.splitter.max_frame_bytes = listen.max_frame_bytes
            if client.known and not self._allowed(client.host):
                client.refused = True
                client.to_read = _bytes_waiting(client.sock)
                _shut(client.sock, socket.SHUT_RD)

    def drain(self, deadline: float) -> bool:
        """Stop accepting, read what lies in the sockets, hang up; return whether all were read to the end.

        What waits in the backlog is accepted, however long there is no descriptor for it. What is left at the
        *deadline*, by the monotonic clock, is logged.
        """
        gevent.killall(self._acceptors)
        self._patience_ends = time.monotonic() + _PATIENCE * self._listen.drain_seconds
        for client in self._clients:
            client.to_read = _bytes_waiting(client.sock)
        quiet: set[Client] = set()
        fault = self._accept_waiting()
        while (self._clients or fault) and time.monotonic() < deadline:
            empty = {client for client in self._clients if not _bytes_waiting(client.sock)}
            for client in empty & quiet:
                # Empty twice in a row. This wakes the greenlet, which reads the end, or what has just come.
                _shut(client.sock, socket.SHUT_RD)
            quiet = empty
            gevent.sleep(_POLL_SECONDS)
            fault = self._accept_waiting()
        if fault:
            log.error("clients that wait were not accepted before drain_seconds were over: %s", fault)
        if self._clients:
            left = len(self._clients)
            clients = counted(left, "client", "was", "were")
            log.error("%s not read to the end before drain_seconds were over", clients)
        return not (fault or self._clients)

    def _accept_waiting(self) -> OSError | None:
        """Accept what waits in the backlogs; close those that are empty, and return why others are not."""
        fault = None
        for listener in self._listeners[:]:
            if why := accept_waiting(listener, self._serve):
                fault = why
            else:
                self._listeners.remove(listener)
                listener.close()
        gevent.sleep(0)  # lets those just accepted begin
        return fault

    def _serve(self, sock: socket.socket, address: object) -> None:
        """Read one client to its end. Closes the socket."""
        client = Client(sock, address, self._listen.max_frame_bytes)
        if self._patience_ends:
            client.to_read = _bytes_waiting(sock)
        self._clients.add(client)
        self._stats.clients += 1
        self._stats.clients_total += 1
        try:
            if self._admit(client):
                log.info("client %s connected", client.peer, extra={"by": client.host})
                self._receive(client)
        finally:  # whatever became of it, it is not to be waited for
            self._clients.discard(client)
            self._stats.clients -= 1
            client.sock.close()

    def _receive(self, client: Client) -> None:
        """Read a client that may connect to its end, and tell of that."""
        how = ""
        try:
            self._prepare_socket(client)
            how = self._read(client) if self._shake_hands(client) else _ended(client)
        except OSError as error:
            how = client.closing or f"{error.strerror or error}"
        except FrameError as fault:
            how = f"{fault}{self._blame(client, fault)}; closing"
        except Exception:  # one client's greenlet is not to end without a word, whatever it tripped over
            by = {"by": client.host}
            log.exception("client %s: a fault in the collector; closing", client.peer, extra=by)
            self._stats.faults_total["client"] += 1
            how = "a fault in the collector"
        finally:
            self._forget(client, how)

    def _admit(self, client: Client) -> bool:
        """Tell whether a client may connect, once it is known who it is; what speaks against it is logged."""
        try:
            if is_in(client.host, self._listen.proxy_protocol) and not self._identify(client):
                log.info(
                    "client %s went away before its PROXY header", client.peer, extra={"by": client.host}
                )
                return False
            client.known = True
            if not self._allowed(client.host):
                raise _RefusedError(NOT_IN_ALLOW, _NOT_ALLOWED, logging.WARNING)  # noqa: TRY301 - told below
        except _RefusedError as refused:
            self._stats.refused_clients_total[refused.reason] += 1
            kind = {"of": refused.reason, "by": client.host}
            log.log(refused.level, "client %s is refused: %s", client.peer, refused, extra=kind)
            return False
        return True

    def _identify(self, client: Client) -> bool:
        """Take off the header that a proxy of ours has sent, and go by it; False: the client has gone before.

        What follows the header is left in the socket: it may be a handshake. Raises _RefusedError.
        """
        header = ProxyHeader()
        wrong = ""
        try:
            with gevent.Timeout(_HANDSHAKE_SECONDS, TimeoutError(f"not within {_HANDSHAKE_SECONDS:.0f} s")):
                _take_header(client.sock, header)
        except OSError as error:
            wrong = str(error) if isinstance(error, TimeoutError) else ""  # a reset is an end as any other
        if header.complete:
            client.become(header.client)
            return True
        wrong = wrong or header.fault
        if not wrong and (not header.taken or self._patience_ends):
            return False
        if header.version:
            raise _RefusedError(BROKEN_PROXY_HEADER, f"its PROXY header is broken: {wrong or 'cut short'}")
        remedy = "its address is in [listen] proxy_protocol: have it send one, or take the address out"
        raise _RefusedError(NO_PROXY_HEADER, f"it sends no PROXY header, and {remedy}")

    def _blame(self, client: Client, fault: FrameError) -> str:
        """Count what costs an application all its records; return the remedy, if there is more to say."""
        if fault.looks_like not in LOST_ALL:
            return ""
        client.misled = fault.looks_like
        self._stats.refused_clients_total[client.misled] += 1
        if client.misled != PROXY_HEADER:
            return ""
        if client.host == "unix":
            return ", and the Unix socket takes none; have the proxy leave it out"
        if client.proxied:
            return " behind another; have the last proxy take the header of the one before it"
        remedy = "add it if that is a proxy of yours, else have it leave the header out"
        return f", and its address is not in [listen] proxy_protocol; {remedy}"

    def _allowed(self, host: str) -> bool:
        allow = self._listen.allow
        return not allow or host == "unix" or is_in(host, allow)

    @staticmethod
    def _prepare_socket(client: Client) -> None:
        """Turn keepalive on. Raises OSError."""
        if client.host != "unix":
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEPALIVE:
                client.sock.setsockopt(socket.IPPROTO_TCP, option, value)

    def _shake_hands(self, client: Client) -> bool:
        """Do the TLS handshake where there is one; return False if the client left before its first byte.

        That is what a health check does, and no fault. Raises OSError and FrameError.
        """
        tls = self.tls
        if not tls or client.host == "unix":
            return True
        begin = b""
        try:
            with gevent.Timeout(_HANDSHAKE_SECONDS, TimeoutError("not in time")):
                begin = client.sock.recv(_LOOK_BYTES, socket.MSG_PEEK)
                if begin:
                    self._look_for_header(client)
                    _encrypt(client, tls.context)
                    _acknowledge(client)  # the end of the handshake, which has no answer
        except OSError as error:
            # One that a stop has cut short is no fault.
            if (begin or isinstance(error, TimeoutError)) and not self._patience_ends:
                self._stats.refused_clients_total[NO_HANDSHAKE] += 1
                why = str(error)
                if begin and not begin.startswith(_TLS_RECORD):
                    why = "it sends no TLS; see README, Security"
                    if is_of_an_application(begin, self._listen.max_frame_bytes):
                        client.misled = "no TLS"
                client.closing = f"no TLS handshake: {why}"
            raise
        return bool(begin)

    def _look_for_header(self, client: Client) -> None:
        """Raise FrameError if a PROXY header comes where a handshake should, of which nothing is read."""
        header = ProxyHeader()
        _take_header(client.sock, header, signature_only=True)  # a handshake begins with another byte
        if header.version:
            raise FrameError.of_proxy(header.version)

    def _read(self, client: Client) -> str:
        """Read until the end of the stream; return why it ended, "" if the client just hung up.

        Raises FrameError, and OSError.
        """
        recv = client.sock.recv
        splitter = client.splitter
        feed = splitter.feed
        reserve = self._reserve
        # What lies in a TLS connection decrypted is not seen by who waits for the socket.
        pending = client.sock.pending if isinstance(client.sock, SSLSocket) else int
        readable = gevent.get_hub().loop.io(client.sock.fileno(), _READABLE)
        inside = False
        size = _READ_BYTES_WHEN_TIGHT
        while True:
            if reserve.full and reserve.waits:
                self._not_reading(client, reserve.wait)
            asked = size if reserve.held * 2 < reserve.limit else _READ_BYTES_WHEN_TIGHT
            data = recv(asked)
            if client.closing or not data:
                return _ended(client)
            size = min(max(2 * len(data), _READ_BYTES_WHEN_TIGHT), _READ_BYTES)
            client.bytes += len(data)
            self._stats.received_bytes_total += len(data)
            payloads = feed(data)
            was_inside, inside = inside, splitter.inside
            if inside or was_inside:
                self._account(client, anew=bool(payloads or splitter.discarded))
            if splitter.discarded:
                self._count_discarded(client)
            if payloads:
                self._not_reading(client, self._hand_on, client, payloads)
            if splitter.fault:
                raise splitter.fault
            if (self._patience_ends or client.refused) and (why := self._read_enough(client, len(data))):
                return why
            filled = len(data) == asked
            del data, payloads  # a hundred busy clients would keep 50 MB while they wait for their turn
            if not filled and not pending():
                _acknowledge(client)
                wait(readable)  # who asks once more is most likely told to wait, which takes as long as this
            else:
                gevent.idle(_ONCE_A_TURN)  # a busy client gives way after each full piece

    def _read_enough(self, client: Client, size: int) -> str:
        """Count what is read of a client that is to be hung up; return why it ends now, "" if it goes on."""
        client.to_read -= size
        if client.to_read > 0:
            return ""
        if client.refused:
            return _NOT_ALLOWED
        return "still sending while draining" if time.monotonic() >= self._patience_ends else ""

    def _hand_on(self, client: Client, payloads: list[bytes]) -> None:
        client.records += len(payloads)
        for begin in range(0, len(payloads), _MAX_BATCH):
            if begin:
                gevent.idle(_ONCE_A_TURN)
            self._deliver(payloads[begin : begin + _MAX_BATCH], client.host, client.peer)

    def _not_reading(self, client: Client, call: Callable[..., None], *arguments: object) -> None:
        """Do what may wait: a client is not to be blamed for the time in which nobody reads it."""
        begun = time.monotonic()
        client.waiting = True
        call(*arguments)
        client.waiting = False
        client.begun_at += time.monotonic() - begun

    def _account(self, client: Client, *, anew: bool) -> None:
        """Hold what has come of an incomplete frame, *anew* for another; too much costs the oldest client."""
        if not client.splitter.inside:
            self._incomplete.release(client)
            return
        if anew or client not in self._incomplete:
            client.begun_at = time.monotonic()
        if oldest := self._incomplete.hold(client, client.splitter.partial, anew=anew):
            self._end(
                oldest, "incomplete frames have used up their part of the reserve, and its was the oldest"
            )

    def _end(self, client: Client, why: str) -> None:
        """End a connection from outside its greenlet; what it held counts no longer."""
        client.closing = why
        self._incomplete.release(client)
        _shut(client.sock, socket.SHUT_RDWR)

    def _count_discarded(self, client: Client) -> None:
        for size in client.splitter.discarded:
            client.records += 1
            self._stats.received_records_total += 1
            self._stats.dropped_records_total["too large"] += 1
            limit = self._listen.max_frame_bytes
            text, by = "client %s: frame of %s dropped: max_frame_bytes = %d", {"by": client.host}
            log.error(text, client.peer, counted(size, "byte"), limit, extra=by)
        client.splitter.discarded.clear()

    def _sweep(self) -> None:
        """Once a second: close who has begun a frame and not finished it in time."""
        while True:
            gevent.sleep(_SWEEP_SECONDS)
            limit = self._listen.frame_timeout_seconds
            late = time.monotonic() - limit
            for client in self._incomplete.owners():
                # What lies in the socket may be the rest of the frame: then it is us who are late.
                if client.begun_at <= late and not client.waiting and not _bytes_waiting(client.sock):
                    self._end(client, f"a frame was not finished within frame_timeout_seconds = {limit}")

    def _forget(self, client: Client, how: str) -> None:
        self._incomplete.release(client)
        if client.splitter.inside:
            self._stats.cut_frames_total += 1
            inside = f"inside a frame, of which {counted(client.splitter.come, 'byte')} had come"
            how = f"{how}; {inside}" if how else f"went away {inside}"
        odd = client.splitter.fault or client.closing or client.refused or client.splitter.inside
        level = logging.ERROR if client.misled else logging.WARNING if odd else logging.INFO
        went = "client %s disconnected after %s, %s%s"
        why = f": {how}" if how else ""
        # One reason, whatever the numbers in it: there are only so many.
        kind = {"of": client.misled or _NUMBER.sub("N", how), "by": client.host}
        records, size = counted(client.records, "record"), counted(client.bytes, "byte")
        log.log(level, went, client.peer, records, size, why, extra=kind)


def _ended(client: Client) -> str:
    """Return why a connection ended whose stream has, "" if the client just hung up."""
    return client.closing or (_NOT_ALLOWED if client.refused else "")


def _encrypt(client: Client, context: SSLContext) -> None:
    """Do the handshake with a client that has begun it. Raises OSError."""
    # It takes up to a millisecond of CPU. Of a thousand clients that come at once the last have given up by
    # their turn: what is spent on these makes those behind them give up too.
    poll = select.poll()
    poll.register(client.sock.fileno(), select.POLLRDHUP)
    if poll.poll(0):
        raise OSError("it has hung up meanwhile")
    client.sock = sock = context.wrap_socket(client.sock, server_side=True, do_handshake_on_connect=False)
    sock.do_handshake()


def _take_header(sock: socket.socket, header: ProxyHeader, *, signature_only: bool = False) -> None:
    """Read a PROXY header until it is complete, or shows a fault, or the connection ends; nothing behind it.

    With *signature_only* until its version is known. Raises OSError.
    """
    while not (header.complete or header.fault or (signature_only and header.version)):
        seen = sock.recv(_LOOK_BYTES, socket.MSG_PEEK)
        if not seen:
            return
        sock.recv(header.feed(seen))


def _bytes_waiting(sock: socket.socket) -> int:
    """Return how many bytes lie in the socket unread (FIONREAD, tcp(7)); 0 where it is closed."""
    if isinstance(sock, SSLSocket) and (decrypted := sock.pending()):
        return int(decrypted)
    waiting = array.array("i", [0])
    try:
        fcntl.ioctl(sock.fileno(), termios.FIONREAD, waiting)
    except (OSError, ValueError):
        return 0
    return waiting[0]


def _acknowledge(client: Client) -> None:
    """Have what was read acknowledged now, and not up to 40 ms later.

    Until then a stock client, which leaves Nagle's algorithm on, holds its next small segment back.
    """
    if client.host != "unix":
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def _shut(sock: socket.socket, how: int) -> None:
    """Shut the connection down, so that its greenlet reads what is there and then the end.

    gevent's own shutdown() would raise in that greenlet instead, and what is there would be lost.
    """
    try:
        sock._sock.shutdown(how)  # type: ignore[attr-defined] # noqa: SLF001 - see above
    except OSError as error:
        if error.errno not in (errno.ENOTCONN, errno.EBADF):
            log.warning("cannot shut a socket down: %s", error)
