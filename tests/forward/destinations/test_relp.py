"""RELP as a server of ours breaks it, and as rsyslog speaks it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from collector.config.tables import Forward
from collector.forward.destinations.relp import Relp
from collector.forward.verdicts import STORED, BrokenError, HoldError, Verdict
from tests.support.corpus import STREAMS, payloads
from tests.support.forwarding import outgoing
from tests.support.scripted_server import OK, RelpSession, serving
from tests.support.syslog_messages import parts, rendered
from tests.support.syslog_servers import Rsyslog, relp_tls
from tests.support.waiting import within

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from pathlib import Path

    from collector.forward.verdicts import Outgoing


def settings(address: str, **keys: Any) -> Forward:
    return Forward(
        "central", "relp", address=address, **{"max_record_bytes": 8000, "timeout_seconds": 20, **keys}
    )


def records(destination: Relp, count: int, first: int = 1) -> list[Outgoing]:
    return [outgoing(destination, number, f"message {number}") for number in range(first, first + count)]


Connect = Callable[..., Relp]


@pytest.fixture
def connected() -> Iterator[Connect]:
    """Return what connects to an address, and closes at the end."""
    with ExitStack() as stack:

        def connect(address: str, **keys: Any) -> Relp:
            destination = Relp(settings(address, **keys))
            stack.callback(destination.close)
            destination.connect()
            return destination

        yield connect


# --- a record is stored by its own answer, and by nothing else ---


def test_a_record_is_stored_when_its_own_answer_has_come(connected: Connect) -> None:
    def talk(connection: socket.socket) -> None:
        session = RelpSession(connection)
        session.open()
        sent = [session.read() for _ in range(3)]
        assert [(2, "syslog"), (3, "syslog"), (4, "syslog")] == [(one.number, one.command) for one in sent]
        assert sent[2].data.endswith(b"] message 3")
        for number in (4, 2, 3):  # the order is the server's
            session.answer(number)

    with serving(talk) as address:
        destination = connected(address)
        assert [STORED] * 3 == destination.send(records(destination, 3), again=False)


def test_at_most_a_window_of_records_is_without_an_answer(connected: Connect) -> None:
    def talk(connection: socket.socket) -> None:
        session = RelpSession(connection)
        session.open()
        numbers = [session.read().number for _ in range(4)]
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            session.read()
        connection.settimeout(20)
        session = RelpSession(connection)
        for number in numbers:
            session.answer(number)
        for _ in range(6):
            session.answer(session.read().number)

    with serving(talk) as address:
        destination = connected(address, window=4)
        assert [STORED] * 10 == destination.send(records(destination, 10), again=False)


@pytest.mark.parametrize("window", [1, 2, 3, 128])
def test_every_window_gets_all_through(window: int, connected: Connect) -> None:
    def talk(connection: socket.socket) -> None:
        session = RelpSession(connection)
        session.open()
        for _ in range(300):
            session.answer(session.read().number)

    with serving(talk) as address:
        destination = connected(address, window=window)
        assert [STORED] * 300 == destination.send(records(destination, 300), again=False)


def test_a_record_that_is_refused_costs_no_other_its_verdict(connected: Connect) -> None:
    def talk(connection: socket.socket) -> None:
        session = RelpSession(connection)
        session.open()
        for text in (OK, b"500 error: no room\nfor it", OK):
            session.answer(session.read().number, text)

    with serving(talk) as address:
        destination = connected(address)
        expected = [STORED, Verdict("dead", "rsp 500"), STORED]
        assert expected == destination.send(records(destination, 3), again=False)


# --- breaks: what has no answer has no verdict ---


def answers_first(count: int, then: Any) -> Any:
    """Return a talk in which the first records are answered, and *then* is done with the session."""

    def talk(connection: socket.socket) -> None:
        session = RelpSession(connection)
        session.open()
        for _ in range(count):
            session.answer(session.read().number)
        session.read()
        then(session)

    return talk


@pytest.mark.parametrize(
    ("then", "text"),
    [
        (lambda session: (session.read(), session.read()), "closed by the server"),
        (lambda session: session.answer(0, b"", "serverclose"), "the server closes the session"),
        (lambda session: session.answer(2), "answers number 2, which"),
        (lambda session: session.answer(77), "answers number 77, which"),
        (lambda session: session.answer(4, b"done"), "answers without a code: done"),
        (lambda session: session.answer(4, b"2000 OK"), "answers without a code: 2000"),
        (lambda session: session.answer(4, b""), "answers without a code"),
        (lambda session: session.answer(4, OK, "syslog"), "answers as no RELP server does"),
    ],
    ids=["close", "serverclose", "twice", "unknown", "no code", "four digits", "empty", "no answer"],
)
def test_at_a_break_those_without_an_answer_have_no_verdict(then: Any, text: str, connected: Connect) -> None:
    with serving(answers_first(2, then)) as address:
        destination = connected(address)
        with pytest.raises(BrokenError, match=text) as caught:
            destination.send(records(destination, 5), again=False)
    assert {0: STORED, 1: STORED} == caught.value.verdicts
    assert not caught.value.timed_out
    assert str(caught.value).startswith(f"{address}: ")


def test_a_server_that_says_nothing_any_more_is_left_after_timeout_seconds(connected: Connect) -> None:
    def hang(session: RelpSession) -> None:
        session.read()
        session.read()
        with pytest.raises(EOFError):  # until we close it
            session.read()

    with serving(answers_first(2, hang)) as address:
        destination = connected(address, timeout_seconds=1)
        with pytest.raises(BrokenError, match="timed out") as caught:
            destination.send(records(destination, 5), again=False)
    assert {0: STORED, 1: STORED} == caught.value.verdicts
    assert caught.value.timed_out


def test_a_server_that_takes_nothing_any_more_is_left_after_timeout_seconds(connected: Connect) -> None:
    over = threading.Event()

    def talk(connection: socket.socket) -> None:
        RelpSession(connection).open()
        over.wait(20)

    with serving(talk) as address:
        destination = connected(address, timeout_seconds=1, max_record_bytes=100_000, window=1000)
        large = outgoing(destination, 1, "x" * 90_000)
        with pytest.raises(BrokenError, match="timed out") as caught:
            destination.send([large] * 1000, again=False)
        over.set()
    assert ({}, True) == (caught.value.verdicts, caught.value.timed_out)


def test_a_slow_server_is_given_the_rest_with_the_next_request(connected: Connect) -> None:
    """A window takes half of the time that there is: a break would double it, again and again."""
    slow = threading.Event()

    def talk(connection: socket.socket) -> None:
        session = RelpSession(connection)
        session.open()
        numbers = [session.read().number for _ in range(4)]
        slow.wait(1.1)
        for number in numbers:
            session.answer(number)
        for _ in range(2):
            session.answer(session.read().number)

    with serving(talk) as address:
        destination = connected(address, window=4, timeout_seconds=2)
        batch = records(destination, 6)
        again = Verdict("again", "slow")
        assert [STORED] * 4 + [again] * 2 == destination.send(batch, again=False)
        assert [STORED] * 2 == destination.send(batch[4:], again=False)


def test_behind_a_break_the_next_request_has_a_connection_of_its_own(connected: Connect) -> None:
    with serving(answers_first(0, lambda _: None), answers_first(1, RelpSession.read)) as address:
        destination = connected(address)
        batch = records(destination, 2)
        with pytest.raises(BrokenError):
            destination.send(batch, again=False)
        destination.connect()
        with pytest.raises(BrokenError) as caught:
            destination.send([*batch, *batch], again=True)
    assert {0: STORED} == caught.value.verdicts


def test_a_server_that_went_away_between_two_requests_is_connected_to_anew(connected: Connect) -> None:
    gone = threading.Event()

    def once(connection: socket.socket) -> None:
        session = RelpSession(connection)
        session.open()
        session.answer(session.read().number)
        session.answer(0, b"", "serverclose")
        connection.close()
        gone.set()

    def again(connection: socket.socket) -> None:
        session = RelpSession(connection)
        session.open()
        session.answer(session.read().number)

    with serving(once, again) as address:
        destination = connected(address)
        assert [STORED] == destination.send(records(destination, 1), again=False)
        gone.wait(20)
        assert [STORED] == destination.send(records(destination, 1), again=False)


# --- connecting ---


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"500 no more sessions", "refuses the session: 500 no more sessions"),
        (b"200 OK\nrelp_version=0\ncommands=starttls", "does not offer to take syslog: 200 OK"),
        (b"200 OK", "does not offer to take syslog: 200 OK"),
    ],
    ids=["refused", "other commands", "no offers"],
)
def test_a_session_that_is_not_opened_holds(answer: bytes, text: str, connected: Connect) -> None:
    opening = serving(lambda connection: RelpSession(connection).open(answer))
    with opening as address, pytest.raises(HoldError, match=text) as caught:
        connected(address)
    assert "relp" == caught.value.reason
    assert "imrelp" in caught.value.remedy


def test_a_server_that_speaks_something_else_holds(connected: Connect) -> None:
    def talk(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        connection.recv(1000)

    with serving(talk) as address, pytest.raises(HoldError, match=r"no RELP server does: HTTP/1\.1 400"):
        connected(address)


def test_a_server_that_hangs_up_without_an_answer_does_not_hold(connected: Connect) -> None:
    """A balancer whose servers are all down: it may be well the next time."""
    hanging_up = serving(lambda connection: connection.recv(1000))
    with hanging_up as address, pytest.raises(OSError, match=f"{address}: closed without an answer to open"):
        connected(address)


def test_a_server_that_does_not_answer_the_opening_does_not_hold(connected: Connect) -> None:
    over = threading.Event()
    with serving(lambda _: over.wait(20)) as address:
        with pytest.raises(OSError, match=f"{address}: .*timed out"):
            connected(address, timeout_seconds=1)
        over.set()


def test_closing_ends_the_session_and_waits_for_no_answer_for_long(connected: Connect) -> None:
    def talk(connection: socket.socket) -> None:
        session = RelpSession(connection)
        session.open()
        assert (2, "close", b"") == session.read()
        with pytest.raises(EOFError):
            session.read()

    with serving(talk) as address:
        connected(address).close()


def test_check_tells_each_fault_with_its_remedy() -> None:
    with serving(lambda connection: RelpSession(connection).open(b"500 full")) as address:
        (fault,) = Relp(settings(address)).check()
    assert fault.startswith(
        f"{address}: refuses the session: 500 full; see whether address is that of an imrelp"
    )
    (fault,) = Relp(settings(address)).check()
    assert f"{address}: [Errno 111] Connection refused" == fault
    (fault,) = Relp(settings("no-such-host.invalid:2514")).check()
    assert fault.startswith("no-such-host.invalid:2514: [Errno -")


# --- rsyslog ---

ODD = {
    "newlines and tabs": "two\nlines\tand a tab",
    "controls": "\x1b[31mred  \x01\x7f\x85\u2028\u2029",
    "unicode": "Grüße 中文 🐍",
    "empty": "",
    "blanks": "  in front",
    "a header": "<13>1 2026-11-26T08:00:00Z host app - - - forged",
}


def ids(server: Rsyslog) -> list[int]:
    """Return the numbers of the records that a server has written."""
    return [int(one["data"].partition('id="c0ffee-7-')[2].partition('"')[0]) for one in server.records()]


@pytest.mark.slow
def test_rsyslog_has_every_field_as_it_was_sent(tmp_path: Path, connected: Connect) -> None:
    with Rsyslog(tmp_path) as server:
        destination = connected(f"127.0.0.1:{server.relp}")
        batch = [outgoing(destination, number, text) for number, text in enumerate(ODD.values())]
        batch.append(
            outgoing(destination, 9, "extras", quoted='a"b', bracket="c]d", path="C:\\new", lines="1\n2")
        )
        assert [STORED] * len(batch) == destination.send(batch, again=False)
        destination.close()
        *odd, extras = server.records()
    assert [*ODD.values()] == [one["text"] for one in odd]
    expected = r'[extra@32473 quoted="a\"b" bracket="c\]d" path="C:\\new" lines="1\\n2"]'
    assert extras["data"].endswith(expected)
    known = {"priority": "134", "host": "10.0.0.7", "app_name": "app"}
    assert known == {key: extras[key] for key in known}


@pytest.mark.slow
@pytest.mark.parametrize("stream", [*STREAMS, "values"])
def test_rsyslog_has_what_clients_of_every_python_have_sent(
    tmp_path: Path, stream: str, connected: Connect
) -> None:
    with Rsyslog(tmp_path) as server:
        destination = connected(f"127.0.0.1:{server.relp}")
        batch = [rendered(destination, number, payload) for number, payload in enumerate(payloads(stream))]
        assert [STORED] * len(batch) == destination.send(batch, again=False)
        destination.close()
        written = server.records()
    sent = [parts(one.data) for one in batch]
    assert [one["data"] for one in sent] == [one["data"] for one in written]
    assert [one["text"].removesuffix("\n") for one in sent] == [one["text"] for one in written]


@pytest.mark.slow
@pytest.mark.parametrize("escaped", [False, True], ids=["raw", "escaping as by default"])
def test_rsyslog_keeps_all_of_what_was_cut_for_it(tmp_path: Path, escaped: bool, connected: Connect) -> None:
    """With its default of 8 KiB it acknowledges more, and keeps no more than that."""
    with Rsyslog(tmp_path, escaped=escaped) as server:
        destination = connected(f"127.0.0.1:{server.relp}")
        texts = ("x" * 20_000, "中" * 7_000, ("y" * 39 + "\n") * 499 + "y" * 40)
        batch = [outgoing(destination, number, text) for number, text in enumerate(texts)]
        assert [STORED] * 3 == destination.send(batch, again=False)
        destination.close()
        written = server.records()
    assert all(7_400 < len(one.data) <= 8_000 for one in batch)
    marks = [re.findall(r"\.\.\. \[cut, (\d+) bytes\]$", one["text"]) for one in written]
    assert [["20000"], ["21000"], ["20000"]] == marks


@pytest.mark.slow
@pytest.mark.parametrize("certificate", ["client", ""], ids=["with a certificate", "without"])
def test_rsyslog_takes_records_by_tls_from_who_shows_a_certificate(
    tmp_path: Path, certificates: Path, certificate: str
) -> None:
    keys = {"ca": f"{certificates}/ca.pem"}
    if certificate:
        keys |= {
            "certificate": f"{certificates}/client.pem",
            "private_key": f"{certificates}/client.key",
        }
    with Rsyslog(tmp_path, relp_tls(certificates)) as server:
        destination = Relp(settings(f"127.0.0.1:{server.relp}", **keys))
        if certificate:
            destination.connect()
            assert destination.certificate_days is not None
            assert 1 < destination.certificate_days <= 2
            batch = records(destination, 500)
            assert [STORED] * 500 == destination.send(batch, again=False)
            assert [STORED] * 500 == destination.send(records(destination, 500, 501), again=False)
            destination.close()
            assert [*range(1, 1001)] == ids(server)
        else:
            with pytest.raises(OSError, match="an answer to open; with TLS rsyslog wants a certificate"):
                destination.connect()


@pytest.mark.slow
def test_a_server_whose_certificate_nobody_known_has_signed_holds(
    tmp_path: Path, certificates: Path, connected: Connect
) -> None:
    tls = {
        "tls": '"on"',
        "tls.myCert": f'"{certificates}/server.pem"',
        "tls.myPrivKey": f'"{certificates}/server.key"',
        "tls.caCert": f'"{certificates}/ca.pem"',
    }
    with Rsyslog(tmp_path, tls) as server:
        with pytest.raises(HoldError, match="certificate verify failed") as caught:
            connected(f"127.0.0.1:{server.relp}", ca=f"{certificates}/client.pem")
        assert "tls" == caught.value.reason
        with pytest.raises((HoldError, OSError)):  # without TLS, to a server that wants it
            connected(f"127.0.0.1:{server.relp}", timeout_seconds=2)


@pytest.mark.slow
def test_kill_9_of_rsyslog_in_a_window_loses_nothing_and_doubles_a_window_at_most(
    tmp_path: Path, connected: Connect
) -> None:
    """Its queue is Direct: an answer says that the record is in the file."""
    kills, count = 3, 20_000
    with Rsyslog(tmp_path) as server:
        destination = connected(f"127.0.0.1:{server.relp}")
        left = records(destination, count)
        broken = 0
        for kill in range(kills + 1):
            written = kill * 4000 + 500
            killer = threading.Thread(target=_kill_behind, args=(server, written))
            if kill < kills:
                killer.start()
            left = _sent_until_it_breaks(destination, left)
            if kill < kills:
                killer.join()
                assert left, "it was through before the kill"
                broken += 1
                server.start()
                destination.connect()
        destination.close()
        written_ids = ids(server)
    assert not left
    assert {*range(1, count + 1)} == {*written_ids}
    assert len(written_ids) - count <= 128 * broken
    assert kills == broken


def _kill_behind(server: Rsyslog, records: int) -> None:
    """Kill it once it has written so many."""
    size = records * 100
    within(60, lambda: server.out.exists() and server.out.stat().st_size > size)
    server.kill()


def _sent_until_it_breaks(destination: Relp, left: Sequence[Outgoing]) -> list[Outgoing]:
    """Send records in batches; return those that are without a verdict."""
    left = [*left]
    while left:
        batch = left[:2000]
        try:
            verdicts = dict(enumerate(destination.send(batch, again=True)))
        except BrokenError as error:
            return [one for at, one in enumerate(batch) if at not in error.verdicts] + left[2000:]
        assert [STORED] * len(batch) == [*verdicts.values()]
        left = left[2000:]
    return []
