"""One client's connection: who is behind it, how far it has come, and the reading of what it sends.

It is read by a greenlet of its own, which takes what is there, hands the complete frames on as one batch, and
gives way. It knows neither what is in a frame nor where a record goes.
"""

from __future__ import annotations

import array
import errno
import fcntl
import logging
import re
import socket
import termios
import time
from enum import Enum
from typing import TYPE_CHECKING

import gevent
from gevent.socket import wait
from gevent.ssl import SSLSocket

from collector.listen.handshakes import (
    HANDSHAKE_SECONDS,
    RefusedError,
    explain_no_tls,
    first_bytes,
    has_only_knocked,
    read_proxy_header,
    refuse_proxy_header,
    with_tls,
)
from collector.listen.sockets import host_port, is_in, is_of_this_machine
from collector.log import counted
from collector.stats import LOST_ALL, NO_HANDSHAKE, NOT_IN_ALLOW, PROXY_HEADER
from collector.wire.framing import FrameError, FrameSplitter

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.listen.incomplete import IncompleteFrames
    from collector.listen.service import Service

log = logging.getLogger(__name__)

# A client is read in pieces of twice what came last: a busy one costs a system call for hundreds of records,
# a quiet one little memory. When the reserve is half full pieces are small, so that ten thousand stay within.
_READ_BYTES = 256 * 1024
_READ_BYTES_WHEN_TIGHT = 4 * 1024
# A piece of tiny frames has 13,000 of them: too many for others to wait for.
_MAX_BATCH = 1000
_READABLE = 1  # of a watcher: libev's EV_READ
# A client whose machine is gone is found after two minutes: a minute of silence, then four probes.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4))
# sleep(0) would come back up to 50 times before the loop looks at any other socket. An idle watcher of the
# highest priority comes back once a turn of the loop, and lets it look without waiting.
_ONCE_A_TURN = 2
_NUMBER = re.compile(r"\d+")
_NOT_ALLOWED = "its address is not in [listen] allow"


class State(Enum):
    """How far a connection has come. It only ever moves down this list, and may skip LEAVING.

    Draining is not among them: it concerns all clients, wherever they are, and is the service's to know.
    """

    ARRIVED = "arrived"
    """Who it is is not known yet: a PROXY header may be to come. A client that is refused gets no further."""
    ADMITTED = "admitted"
    """It may connect: the TLS handshake, if there is to be one, is done, and then its frames are read."""
    LEAVING = "leaving"
    """Its address was taken out of `allow`: what had come by then is read, and nothing else."""
    ENDED = "ended"
    """The collector has ended it, or it has gone: nothing of it is read, and it holds nothing."""


class Client:
    """One connection."""

    def __init__(
        self, sock: socket.socket, address: object, service: Service, incomplete: IncompleteFrames[Client]
    ) -> None:
        self.sock = sock
        self.host, self.peer = host_port(address)
        self.since = time.monotonic()
        """When it connected."""
        self.records = 0
        self.bytes = 0
        self.begun_at = 0.0
        """When it began the frame it is inside of, by the monotonic clock, less the time nobody read."""
        self.waiting = False
        """Whether the collector does not read it at the moment."""
        self._state = State.ARRIVED
        self._why = ""
        """Once it is LEAVING, or ENDED by the collector: the reason."""
        self._proxied = False
        """Whether it is known by a PROXY header, and not by the address of the socket."""
        self._misled = ""
        """What it has sent instead of records, where an operator must act."""
        self._to_read = 0
        """Once it is to be hung up: how many of the bytes that lay in the socket then are not yet read."""
        self._service = service
        self._incomplete = incomplete
        self._splitter = FrameSplitter(service.listen.max_frame_bytes)

    # --- What the server does with it ---

    def only_knocks(self) -> bool:
        """Tell whether it comes from this machine and has gone without a byte, as `collector health` does.

        That is no client, whatever one would have had to send first, and no event.
        """
        if not is_of_this_machine(self.host, host_port(self.sock.getsockname())[0]):
            return False
        knocks = has_only_knocked(self.sock)
        if knocks:
            log.debug("client %s went away without a byte", self.peer, extra={"cause": self.host})
        return knocks

    def admit(self) -> bool:
        """Tell whether it may connect, once it is known who it is; the reason is logged if it may not."""
        try:
            if is_in(self.host, self._service.listen.proxy_protocol):
                header = read_proxy_header(self.sock, self._service)
                if not header:
                    cause = {"cause": self.host}
                    log.info("client %s went away before its PROXY header", self.peer, extra=cause)
                    return False
                self._proxied = True
                if header.client:  # else it is the proxy itself
                    self.host, self.peer = host_port(header.client)
            if not self._service.allows(self.host):
                raise RefusedError(NOT_IN_ALLOW, _NOT_ALLOWED, logging.WARNING)  # noqa: TRY301 - logged below
        except RefusedError as refused:
            self._service.stats.refused_clients_total[refused.reason] += 1
            kind = {"about": refused.reason, "cause": self.host}
            log.log(refused.level, "client %s is refused: %s", self.peer, refused, extra=kind)
            return False
        self._state = State.ADMITTED
        return True

    def receive(self) -> None:
        """Read an admitted client to its end, which is logged in any case. The caller closes the socket."""
        log.info("client %s connected", self.peer, extra={"cause": self.host})
        how = ""
        try:
            self._prepare_socket()
            how = self._read() if self._shake_hands() else self._why
        except OSError as error:
            how = self._why if self._state is State.ENDED else f"{error.strerror or error}"
        except FrameError as fault:
            how = f"{fault}{self._blame(fault)}; closing"
        except Exception:  # whatever a client's greenlet trips over, it does not end without a word
            cause = {"cause": self.host}
            log.exception("client %s: a fault in the collector; closing", self.peer, extra=cause)
            self._service.stats.faults_total["client"] += 1
            how = "a fault in the collector"
        finally:
            self._finish(self._why)
            self._tell_end(how)

    def reconfigure(self) -> None:
        """Go by the settings that the service has now."""
        listen = self._service.listen
        self._splitter.max_frame_bytes = listen.max_frame_bytes
        if self._state is State.ADMITTED and not self._service.allows(self.host):
            self._state = State.LEAVING
            self._why = _NOT_ALLOWED
            self.note_what_has_come()
            self.shut(socket.SHUT_RD)

    def note_what_has_come(self) -> None:
        """Note what lies in the socket: it is to be hung up, and so much is read in any case."""
        self._to_read = self.bytes_waiting()

    def hang_up(self, why: str) -> None:
        """End the connection from outside its greenlet."""
        self._finish(why)
        self.shut(socket.SHUT_RDWR)

    def bytes_waiting(self) -> int:
        """Return how many bytes lie in the socket unread (FIONREAD, tcp(7)); 0 where it is closed."""
        if isinstance(self.sock, SSLSocket) and (decrypted := self.sock.pending()):
            return int(decrypted)
        waiting = array.array("i", [0])
        try:
            fcntl.ioctl(self.sock.fileno(), termios.FIONREAD, waiting)
        except (OSError, ValueError):
            return 0
        return waiting[0]

    def shut(self, how: int) -> None:
        """Shut the connection down, so that its greenlet reads what is there and then the end.

        gevent's own shutdown() would raise in that greenlet instead, and what is there would be lost.
        """
        try:
            self.sock._sock.shutdown(how)  # type: ignore[attr-defined] # noqa: SLF001 - see above
        except OSError as error:
            if error.errno not in (errno.ENOTCONN, errno.EBADF):
                log.warning("cannot shut a socket down: %s", error)

    # --- Before the first frame ---

    def _prepare_socket(self) -> None:
        """Turn keepalive on. Raises OSError."""
        if self.host != "unix":
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEPALIVE:
                self.sock.setsockopt(socket.IPPROTO_TCP, option, value)

    def _shake_hands(self) -> bool:
        """Do the TLS handshake if there is to be one; return False if the client left before its first byte.

        A health check does that, and it is no fault. Raises OSError and FrameError.
        """
        tls = self._service.tls
        if not tls or self.host == "unix":
            return True
        begin = b""
        try:
            with gevent.Timeout(HANDSHAKE_SECONDS, TimeoutError("not in time")):
                begin = first_bytes(self.sock)
                if begin:
                    refuse_proxy_header(self.sock)
                    self.sock = sock = with_tls(self.sock, tls.context)
                    sock.do_handshake()
                    self._acknowledge()  # the end of the handshake, which has no answer
        except OSError as error:
            # One that a stop has cut short is no fault.
            if (begin or isinstance(error, TimeoutError)) and not self._service.draining:
                self._service.stats.refused_clients_total[NO_HANDSHAKE] += 1
                why, self._misled = explain_no_tls(begin, self._service.listen.max_frame_bytes)
                self._finish(f"no TLS handshake: {why or error}")
            raise
        return bool(begin)

    # --- Reading ---

    def _read(self) -> str:
        """Read until the end of the stream; return why it ended, "" if the client just hung up.

        Raises FrameError, and OSError.
        """
        service, splitter, recv = self._service, self._splitter, self.sock.recv
        feed, reserve, stats = splitter.feed, service.reserve, service.stats
        leaving, ended = State.LEAVING, State.ENDED
        # Whoever waits for the socket does not see what lies in a TLS connection, decrypted.
        pending = self.sock.pending if isinstance(self.sock, SSLSocket) else int
        readable = gevent.get_hub().loop.io(self.sock.fileno(), _READABLE)
        inside = False
        size = _READ_BYTES_WHEN_TIGHT
        while True:
            if reserve.full and reserve.waits:
                self._not_reading(reserve.wait)
            asked = size if reserve.held * 2 < reserve.limit else _READ_BYTES_WHEN_TIGHT
            data = recv(asked)
            if self._state is ended or not data:
                return self._why
            size = min(max(2 * len(data), _READ_BYTES_WHEN_TIGHT), _READ_BYTES)
            self.bytes += len(data)
            stats.received_bytes_total += len(data)
            payloads = feed(data)
            was_inside, inside = inside, splitter.inside
            if inside or was_inside:
                self._account(anew=bool(payloads or splitter.discarded))
            if splitter.discarded:
                self._count_discarded()
            if payloads:
                self._not_reading(self._hand_on, payloads)
            if splitter.fault:
                raise splitter.fault
            if (service.draining or self._state is leaving) and (why := self._read_enough(len(data))):
                return why
            filled = len(data) == asked
            del data, payloads  # a hundred busy clients would keep 50 MB while they wait for their turn
            if not filled and not pending():
                self._acknowledge()
                wait(readable)  # another recv() would most likely say that there is nothing, and take as long
            else:
                gevent.idle(_ONCE_A_TURN)  # a busy client gives way after each full piece

    def _read_enough(self, size: int) -> str:
        """Count what is read of a client that is to be hung up; return why it ends now, "" if it goes on."""
        self._to_read -= size
        if self._to_read > 0:
            return ""
        if self._state is State.LEAVING:
            return self._why
        return "still sending while draining" if time.monotonic() >= self._service.patience_ends else ""

    def _hand_on(self, payloads: list[bytes]) -> None:
        self.records += len(payloads)
        for begin in range(0, len(payloads), _MAX_BATCH):
            if begin:
                gevent.idle(_ONCE_A_TURN)
            self._service.deliver(payloads[begin : begin + _MAX_BATCH], self.host, self.peer)

    def _not_reading(self, call: Callable[..., None], *arguments: object) -> None:
        """Make a call that may wait: a client is not blamed for the time in which nobody reads it."""
        begun = time.monotonic()
        self.waiting = True
        call(*arguments)
        self.waiting = False
        self.begun_at += time.monotonic() - begun

    def _account(self, *, anew: bool) -> None:
        """Hold what has come of an incomplete frame, *anew* for another; too much costs the oldest client."""
        if not self._splitter.inside:
            self._incomplete.release(self)
            return
        if anew or self not in self._incomplete:
            self.begun_at = time.monotonic()
        if oldest := self._incomplete.hold(self, self._splitter.partial, anew=anew):
            why = "incomplete frames have used up their part of the reserve, and its was the oldest"
            oldest.hang_up(why)

    def _count_discarded(self) -> None:
        service = self._service
        for size in self._splitter.discarded:
            self.records += 1
            service.stats.received_records_total += 1
            service.stats.dropped_records_total["too large"] += 1
            limit = service.listen.max_frame_bytes
            text, cause = "client %s: frame of %s dropped: max_frame_bytes = %d", {"cause": self.host}
            log.error(text, self.peer, counted(size, "byte"), limit, extra=cause)
        self._splitter.discarded.clear()

    def _acknowledge(self) -> None:
        """Have what was read acknowledged now, and not up to 40 ms later.

        Until then a stock client, which leaves Nagle's algorithm on, holds its next small segment back.
        """
        if self.host != "unix":
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    # --- The end ---

    def _finish(self, why: str) -> None:
        """Be ENDED: nothing more is read, and what it holds is given back."""
        self._state = State.ENDED
        self._why = why
        self._incomplete.release(self)

    def _blame(self, fault: FrameError) -> str:
        """Count what costs an application all its records; return the remedy, if there is more to say."""
        if fault.looks_like not in LOST_ALL:
            return ""
        self._misled = fault.looks_like
        self._service.stats.refused_clients_total[self._misled] += 1
        if self._misled != PROXY_HEADER:
            return ""
        if self.host == "unix":
            return ", and the Unix socket takes none; have the proxy leave it out"
        if self._proxied:
            return " behind another; have the last proxy take the header of the one before it"
        remedy = "add it if that is a proxy of yours, else have it leave the header out"
        return f", and its address is not in [listen] proxy_protocol; {remedy}"

    def _tell_end(self, how: str) -> None:
        """Log that it has gone, after how much, and why."""
        splitter = self._splitter
        if splitter.inside:
            self._service.stats.cut_frames_total += 1
            inside = f"inside a frame, of which {counted(splitter.come, 'byte')} had come"
            how = f"{how}; {inside}" if how else f"went away {inside}"
        odd = splitter.fault or self._why or splitter.inside
        level = logging.ERROR if self._misled else logging.WARNING if odd else logging.INFO
        went = "client %s disconnected after %s, %s%s"
        why = f": {how}" if how else ""
        # The reason without its numbers, so that there are few of them.
        kind = {"about": self._misled or _NUMBER.sub("N", how), "cause": self.host}
        records, size = counted(self.records, "record"), counted(self.bytes, "byte")
        log.log(level, went, self.peer, records, size, why, extra=kind)
