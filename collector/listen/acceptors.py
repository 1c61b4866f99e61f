"""Acceptors: what takes connections off a listening socket, for as long as there are places for them.

Knows nothing of what is said over a connection.
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

# After so many the others have their turn: those just accepted, and all that is read and written.
_MAX_AT_ONCE = 100
# Where there is no descriptor left, say, somebody has to go first.
_PAUSE_SECONDS = 0.1
# What passes as others go.
_PASSES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Places(Pool):  # type: ignore[misc] # gevent has no annotations here
    """As many clients as there may be."""

    size: int

    def resize(self, size: int) -> None:
        """Let so many in from now on. Those above that may stay, and are not replaced when they leave."""
        # The count of free places may become negative, which gevent.pool has no method for.
        self._semaphore.counter += size - self.size - 1
        self.size = size
        self._semaphore.release()  # wakes who waits for a place


def accept(listener: socket.socket, places: Pool, serve: Serve) -> NoReturn:
    """Have each who connects served in a greenlet of *places*; while these are full nobody is accepted.

    *listener* is one of gevent's that never blocks. What *serve* is given is closed once it has ended.
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
    """Accept what waits in the backlog, however many that are, and no more.

    Returns why some are left that may be accepted later: there is no descriptor, say.
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
    """Return who has connected, and from where; None if nobody has. Raises OSError."""
    while True:
        try:
            return listener.accept()
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno not in (errno.ECONNABORTED, errno.EINTR):  # that one has gone again; others wait
                raise


def _served(serve: Serve, sock: socket.socket, address: object) -> None:
    with sock:
        serve(sock, address)
