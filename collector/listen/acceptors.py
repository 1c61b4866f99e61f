"""Acceptors: they take connections off a listening socket while there are places for them.

They know nothing of what is said over a connection.
"""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING, NoReturn

import gevent
from gevent.pool import Pool
from gevent.socket import wait_read

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    Serve = Callable[[socket.socket, object], None]

log = logging.getLogger(__name__)

# After this many, everything else has its turn: those just accepted, and all that is read and written.
_MAX_AT_ONCE = 100
# When no descriptor is left, for example, a client has to leave first.
_PAUSE_SECONDS = 0.1
# Errors that pass once clients leave.
_PASSES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Places(Pool):  # type: ignore[misc] # gevent has no annotations here
    """A pool with a place for each client there may be."""

    size: int

    def resize(self, size: int) -> None:
        """Have *size* places from now on. Clients beyond that stay, and are not replaced when they leave."""
        # The count of free places may become negative, which gevent.pool has no method for.
        self._semaphore.counter += size - self.size - 1
        self.size = size
        self._semaphore.release()  # wakes whoever waits for a place


def accept(listener: socket.socket, places: Pool, serve: Serve) -> NoReturn:
    """Accept clients, and serve each in a greenlet of *places*; while all are taken, nobody is accepted.

    *listener* is a gevent socket that never blocks. The socket passed to *serve* is closed when that ends.
    """
    while True:
        wait_read(listener.fileno())
        for _ in range(_MAX_AT_ONCE):
            while places.full():
                places.wait_available()
            try:
                accepted = _accepted(listener)
            except OSError as error:
                log.error("cannot accept a client, trying again: %s", error)
                gevent.sleep(_PAUSE_SECONDS)
                break
            if not accepted:
                break
            places.spawn(_served, serve, *accepted)


def accept_waiting(listener: socket.socket, serve: Serve) -> OSError | None:
    """Accept everybody who waits in the backlog, however many they are, and nobody after them.

    Returns what has kept some from being accepted for now, such as a lack of descriptors.
    """
    try:
        while accepted := _accepted(listener):
            gevent.spawn(_served, serve, *accepted)
    except OSError as error:
        if error.errno in _PASSES:
            return error
        log.error("cannot accept the clients that wait: %s", error)
    return None


def _accepted(listener: socket.socket) -> tuple[socket.socket, object] | None:
    """Return the next connection and where it comes from; None if there is none. Raises OSError."""
    while True:
        try:
            return listener.accept()
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno not in (errno.ECONNABORTED, errno.EINTR):  # this one has gone; others may wait
                raise


def _served(serve: Serve, sock: socket.socket, address: object) -> None:
    with sock:
        serve(sock, address)
