"""Acceptors on real sockets: who is served when, and what does not stop them."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

import gevent
import pytest
from gevent.event import Event
from gevent.pool import Pool
from gevent.socket import create_connection
from gevent.socket import socket as gevent_socket

from collector.greenlets import tell_uncaught
from collector.listen.acceptors import accept, accept_waiting
from collector.stats import Stats
from tests.support.descriptors import no_descriptor_free

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECONDS = 5


class Served:
    """Serves by saying so, and holds its place until it is told to go on."""

    def __init__(self) -> None:
        self.go_on = Event()
        self.go_on.set()
        self.number = 0

    def __call__(self, sock: socket.socket, _: object) -> None:
        self.number += 1
        sock.sendall(b"x")
        self.go_on.wait()


@pytest.fixture
def listener() -> Iterator[gevent_socket]:
    opened = gevent_socket()
    opened.bind(("127.0.0.1", 0))
    opened.listen(100)
    opened.setblocking(False)  # noqa: FBT003 - its only parameter
    yield opened
    opened.close()


@pytest.fixture
def start(listener: gevent_socket) -> Iterator[Callable[..., None]]:
    """Return a function that starts an acceptor."""
    started: list[gevent.Greenlet] = []

    def start(serve: object, places: int = 100) -> None:
        started.append(gevent.spawn(accept, listener, Pool(places), serve))

    yield start
    assert not started[0].ready(), "nothing ends it but the end of the test"
    gevent.killall(started)


def connect(listener: gevent_socket) -> socket.socket:
    client: socket.socket = create_connection(listener.getsockname(), SECONDS)
    return client


def soon(condition: Callable[[], bool]) -> None:
    """Wait for *condition*; greenlets go on meanwhile."""
    with gevent.Timeout(SECONDS):
        while not condition():
            gevent.sleep(0.01)


def test_who_connects_is_served_and_then_closed(listener: gevent_socket, start: Callable[..., None]) -> None:
    start(Served())
    with connect(listener) as client:
        assert [b"x", b""] == [client.recv(1), client.recv(1)]


def test_while_all_places_are_taken_nobody_is_accepted(
    listener: gevent_socket, start: Callable[..., None]
) -> None:
    served = Served()
    served.go_on.clear()
    start(served, places=2)
    clients = [connect(listener) for _ in range(4)]
    assert [b"x", b"x"] == [client.recv(1) for client in clients[:2]]
    clients[2].settimeout(0.1)
    with pytest.raises(TimeoutError):
        clients[2].recv(1)
    clients[2].settimeout(SECONDS)
    assert 2 == served.number
    served.go_on.set()
    assert [b"x", b"x"] == [client.recv(1) for client in clients[2:]]
    for client in clients:
        client.close()


def test_without_a_descriptor_it_waits_for_one(
    listener: gevent_socket, start: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    start(Served())
    with connect(listener) as client:
        with no_descriptor_free():
            soon(lambda: "cannot accept a client, trying again: [Errno 24] Too many open" in caplog.text)
        assert b"x" == client.recv(1)


def test_a_socket_that_listens_no_more_does_not_end_it(
    listener: gevent_socket, start: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever else has the socket may shut it down: gevent's own server would be gone for good."""
    start(Served())
    gevent.sleep(0)
    with socket.socket(fileno=os.dup(listener.fileno())) as same:
        same.shutdown(socket.SHUT_RD)
    soon(lambda: "cannot accept a client" in caplog.text)
    listener.listen(100)
    with connect(listener) as client:
        assert b"x" == client.recv(1)


def test_who_is_served_with_a_fault_is_closed_and_the_next_is_served(
    listener: gevent_socket, start: Callable[..., None]
) -> None:
    stats, served = Stats(), Served()
    tell_uncaught(stats)

    def serve(sock: socket.socket, address: object) -> None:
        served(sock, address)
        if served.number == 1:
            raise ValueError("once")

    start(serve)
    try:
        for _ in range(2):
            with connect(listener) as client:
                assert [b"x", b""] == [client.recv(1), client.recv(1)]
    finally:
        del gevent.get_hub().handle_error
    assert {"acceptors": 1} == stats.faults_total


def test_who_waits_is_accepted_however_many_and_no_more(listener: gevent_socket) -> None:
    clients = [connect(listener) for _ in range(50)]
    served = Served()
    assert accept_waiting(listener, served) is None
    gevent.sleep(0)
    assert 50 == served.number
    assert [b"x"] * 50 == [client.recv(1) for client in clients]
    for client in clients:
        client.close()


def test_who_waits_while_there_is_no_descriptor_is_accepted_later(listener: gevent_socket) -> None:
    served = Served()
    with connect(listener) as client:
        with no_descriptor_free():
            why = accept_waiting(listener, served)
        assert why
        assert why.errno == errno.EMFILE
        assert accept_waiting(listener, served) is None
        assert b"x" == client.recv(1)


def test_nobody_waits_where_nothing_listens_any_more(
    listener: gevent_socket, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket(fileno=os.dup(listener.fileno())) as same:
        same.shutdown(socket.SHUT_RD)
    assert accept_waiting(listener, Served()) is None
    assert "cannot accept the clients that wait" in caplog.text
