"""Octet-counted syslog over TCP, to rsyslog, to syslog-ng, and to a server that breaks it."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from collector.config.tables import Forward
from collector.forward.destinations.syslog import Syslog
from collector.forward.verdicts import STORED, BrokenError, HoldError
from tests.support.corpus import STREAMS, payloads
from tests.support.forwarding import outgoing
from tests.support.scripted_server import serving
from tests.support.syslog_messages import parts, rendered
from tests.support.syslog_servers import Rsyslog, Server, SyslogNg
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Connect = Callable[..., Syslog]

TEXTS = [
    "two\nlines\tand a tab",
    "\x1b[31mred \x01\x7f",
    "Grüße 中文 🐍",
    "",
    "  in front",
    "12 <13>1 - - - - - - forged",
]


def settings(address: str, **keys: Any) -> Forward:
    return Forward(
        "central", "syslog", address=address, **{"max_record_bytes": 8000, "timeout_seconds": 20, **keys}
    )


@pytest.fixture
def connected() -> Iterator[Connect]:
    """Return what connects to an address, and closes at the end."""
    with ExitStack() as stack:

        def connect(address: str, **keys: Any) -> Syslog:
            destination = Syslog(settings(address, **keys))
            stack.callback(destination.close)
            destination.connect()
            return destination

        yield connect


def test_each_record_has_its_length_before_it(connected: Connect) -> None:
    taken = bytearray()

    def talk(connection: socket.socket) -> None:
        while data := connection.recv(65536):
            taken.extend(data)

    with serving(talk) as address:
        destination = connected(address)
        batch = [outgoing(destination, number, text) for number, text in enumerate(TEXTS)]
        assert [STORED] * len(TEXTS) == destination.send(batch, again=False)
        destination.close()
    assert b"".join(b"%d %b" % (len(one.data), one.data) for one in batch) == taken


def test_a_break_that_is_seen_while_sending_leaves_all_without_a_verdict(connected: Connect) -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(1000)  # and closes, with more to come

    with serving(talk) as address:
        destination = connected(address, max_record_bytes=100_000)
        large = outgoing(destination, 1, "x" * 90_000)
        with pytest.raises(BrokenError, match=f"{address}: ") as caught:
            destination.send([large] * 1000, again=False)
    assert ({}, False) == (caught.value.verdicts, caught.value.timed_out)


def test_after_each_window_it_looks_whether_the_server_has_hung_up(connected: Connect) -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(1)
        connection.shutdown(socket.SHUT_WR)  # and reads on, so that no sending fails
        while connection.recv(65536):
            pass

    with serving(talk) as address:
        destination = connected(address, window=1)
        batch = [outgoing(destination, number, "x") for number in range(10_000)]
        with pytest.raises(BrokenError, match="the server has hung up"):
            destination.send(batch, again=False)


def test_a_server_that_takes_nothing_any_more_is_left_after_timeout_seconds(connected: Connect) -> None:
    over = threading.Event()
    with serving(lambda _: over.wait(20)) as address:
        destination = connected(address, max_record_bytes=100_000, timeout_seconds=1)
        large = outgoing(destination, 1, "x" * 90_000)
        with pytest.raises(BrokenError, match="timed out") as caught:
            destination.send([large] * 1000, again=False)
        over.set()
    assert caught.value.timed_out


def test_a_server_that_went_away_between_two_requests_is_connected_to_anew(connected: Connect) -> None:
    """What is sent to it would be lost."""
    taken = bytearray()

    def read_all(connection: socket.socket) -> None:
        while data := connection.recv(65536):
            taken.extend(data)

    gone = threading.Event()

    def go(connection: socket.socket) -> None:
        connection.close()
        gone.set()

    with serving(go, read_all) as address:
        destination = connected(address)
        gone.wait(20)
        one = outgoing(destination, 1, "hello")
        assert [STORED] == destination.send([one], again=False)
        destination.close()
    assert b"%d %b" % (len(one.data), one.data) == taken


def test_check_tells_that_nobody_listens() -> None:
    with serving() as address:
        pass
    assert [f"{address}: [Errno 111] Connection refused"] == Syslog(settings(address)).check()


@pytest.fixture(params=["rsyslog", "syslog-ng"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    made = Rsyslog(tmp_path) if request.param == "rsyslog" else SyslogNg(tmp_path, request.config)
    with made:
        yield made


@pytest.mark.slow
def test_a_server_has_every_field_as_it_was_sent(server: Server, connected: Connect) -> None:
    destination = connected(f"127.0.0.1:{server.tcp}")
    batch = [outgoing(destination, number, text) for number, text in enumerate(TEXTS)]
    batch.append(
        outgoing(destination, 9, "extras", quoted='a"b', bracket="c]d", path="C:\\new", lines="1\n2")
    )
    assert [STORED] * len(batch) == destination.send(batch, again=False)
    destination.close()
    within(20, lambda: len(server.records()) == len(batch))
    *odd, extras = server.records()
    assert TEXTS == [one["text"] for one in odd]
    expected = r'[extra@32473 quoted="a\"b" bracket="c\]d" path="C:\\new" lines="1\\n2"]'
    assert extras["data"].endswith(expected)
    known = {"priority": "134", "host": "10.0.0.7", "app_name": "app"}
    assert known == {key: extras[key] for key in known}


@pytest.mark.slow
@pytest.mark.parametrize("stream", [*STREAMS, "values"])
def test_a_server_has_what_clients_of_every_python_have_sent(
    server: Server, stream: str, connected: Connect
) -> None:
    destination = connected(f"127.0.0.1:{server.tcp}")
    batch = [rendered(destination, number, payload) for number, payload in enumerate(payloads(stream))]
    assert [STORED] * len(batch) == destination.send(batch, again=False)
    destination.close()
    within(20, lambda: len(server.records()) == len(batch), "all arrive")
    sent, written = [parts(one.data) for one in batch], server.records()
    assert [one["data"] for one in sent] == [one["data"] for one in written]
    assert [one["text"].removesuffix("\n") for one in sent] == [one["text"] for one in written]
    for name in ("priority", "host", "app_name", "process"):  # of what is not there one has "-", the other ""
        assert [one[name] for one in sent] == [one[name] or "-" for one in written]
    assert [one["time"] for one in sent] == [one["time"].replace("+00:00", "Z") for one in written]


@pytest.mark.slow
def test_a_record_of_20_kb_comes_cut_and_alone(server: Server, connected: Connect) -> None:
    """rsyslog would make three of it, syslog-ng would drop the connection at one that is too long for it."""
    destination = connected(f"127.0.0.1:{server.tcp}")
    destination.send([outgoing(destination, number, "x" * 20_000) for number in range(3)], again=False)
    destination.close()
    within(20, lambda: len(server.records()) == 3)
    assert all(one["text"].endswith("x... [cut, 20000 bytes]") for one in server.records())


@pytest.mark.slow
def test_syslog_ng_takes_records_by_tls_from_who_shows_a_certificate(
    tmp_path: Path, certificates: Path, connected: Connect, pytestconfig: pytest.Config
) -> None:
    with SyslogNg(tmp_path, pytestconfig, certificates) as server:
        address = f"127.0.0.1:{server.tcp}"
        own = {"certificate": f"{certificates}/client.pem", "private_key": f"{certificates}/client.key"}
        destination = connected(address, ca=f"{certificates}/ca.pem", **own)
        assert destination.certificate_days is not None
        assert 1 < destination.certificate_days <= 2
        batch = [outgoing(destination, number, f"message {number}") for number in range(1000)]
        assert [STORED] * 1000 == destination.send(batch, again=False)
        destination.close()
        within(20, lambda: len(server.records()) == 1000)
        assert [f"message {number}" for number in range(1000)] == [one["text"] for one in server.records()]
        (warning,) = Syslog(settings(address, ca=f"{certificates}/ca.pem", **own)).check()
        assert warning.startswith(f"{address}: a certificate ends in ")
        with pytest.raises(HoldError, match="certificate verify failed"):
            connected(address, ca=f"{certificates}/client.pem")
