"""Clients as a crowd: accept them within the limits, watch over all of them, and drain them at the end.

Every client is served by a greenlet of its own; see client.py.
"""

from __future__ import annotations

import logging
import socket
import time
from functools import partial
from typing import TYPE_CHECKING

import gevent
from gevent.socket import socket as gevent_socket
from gevent.ssl import SSLContext

from collector.greenlets import keep_running
from collector.listen.acceptors import Places, accept, accept_waiting
from collector.listen.client import Client
from collector.listen.incomplete import IncompleteFrames
from collector.listen.service import Deliver, Service
from collector.listen.sockets import host_port
from collector.listen.tls import load_tls
from collector.log import counted

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from collector.config.tables import Listen
    from collector.listen.tls import ServerTls
    from collector.reserve import Reserve
    from collector.stats import Stats

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.01
_SWEEP_SECONDS = 1.0
# While draining, what lay in a socket is read in any case. A client that has sent more meanwhile is read
# until its socket is empty, for this part of drain_seconds; one that never stops loses the rest.
_PATIENCE = 1 / 4


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
        # The limit on clients. While no place is free nobody is accepted: waiting in the backlog costs a
        # client nothing, being hung up costs it records.
        self._places = Places(max_clients)
        self._listeners = [gevent_socket(fileno=listener.detach()) for listener in listeners]
        self._acceptors: list[gevent.Greenlet] = []
        tls = load_tls(listen.tls, SSLContext) if listen.tls else None
        self._service = Service(listen, tls, deliver, reserve, stats)
        self._incomplete: IncompleteFrames[Client] = IncompleteFrames(reserve)
        self._clients: set[Client] = set()
        self._stats = stats
        stats.faults_total["client"] += 0  # from zero on, like those of what keeps running

    @property
    def clients(self) -> Collection[Client]:
        """Those that are connected."""
        return self._clients

    @property
    def tls(self) -> ServerTls | None:
        """What new clients are served with."""
        return self._service.tls

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
        """Go by these settings from now on; *tls* holds for clients to come. The addresses stay.

        A client that may no longer connect is read to the end of what has come, and then hung up.
        """
        service = self._service
        service.listen, service.tls, service.deliver = listen, tls, deliver
        if tls:
            tls.warn()
        self._places.resize(max_clients)
        for client in self._clients:
            client.reconfigure()

    def drain(self, deadline: float) -> bool:
        """Stop accepting, read what lies in the sockets, hang up; return whether all were read to the end.

        Those in the backlog are accepted, however long they wait for a descriptor. What is left when the
        monotonic clock shows *deadline* is logged.
        """
        gevent.killall(self._acceptors)
        patience = _PATIENCE * self._service.listen.drain_seconds
        self._service.patience_ends = time.monotonic() + patience
        for client in self._clients:
            client.note_what_has_come()
        quiet: set[Client] = set()
        fault = self._accept_waiting()
        while (self._clients or fault) and time.monotonic() < deadline:
            empty = {client for client in self._clients if not client.bytes_waiting()}
            for client in empty & quiet:
                # Empty twice in a row. This wakes the greenlet, which reads the end, or what has just come.
                client.shut(socket.SHUT_RD)
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
        """Accept everybody in the backlogs; close those that are empty, and return why others are not."""
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
        """Serve one client to its end. Closes the socket."""
        client = Client(sock, address, self._service, self._incomplete)
        if self._service.draining:
            client.note_what_has_come()
        self._clients.add(client)
        self._stats.clients += 1
        try:
            if client.only_knocks():
                return
            self._stats.clients_total += 1
            if client.admit():
                client.receive()
        finally:  # whatever became of the client, a drain must not wait for it
            self._clients.discard(client)
            self._stats.clients -= 1
            client.sock.close()

    def _sweep(self) -> None:
        """Once a second, hang up those who have begun a frame and not finished it in time."""
        while True:
            gevent.sleep(_SWEEP_SECONDS)
            limit = self._service.listen.frame_timeout_seconds
            late = time.monotonic() - limit
            for client in self._incomplete.owners():
                # What lies in the socket may be the rest of the frame: then we are the ones who are late.
                if client.begun_at <= late and not client.waiting and not client.bytes_waiting():
                    client.hang_up(f"a frame was not finished within frame_timeout_seconds = {limit}")
