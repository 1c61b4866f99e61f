"""Fluentd's forward protocol: nothing is stored before its acknowledgement, and both sides know the key."""

from __future__ import annotations

import socket
import sys
import threading
from typing import TYPE_CHECKING, Any

import msgpack
import pytest

from collector.config import forwards
from collector.forward import choose
from collector.forward.destinations.fluent import MAX_ANSWER_BYTES, Fluent
from collector.forward.verdicts import STORED, BrokenError, HoldError, Outgoing, Verdict
from tests.support.certificates import certificates
from tests.support.forward_server import ForwardServer, answer, hang_up, stay_silent
from tests.support.forwarding import RECEIVED, outgoing, record_of, spooled
from tests.support.frames import make_payload
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["certificates"]

KEY = "a shared key"


@pytest.fixture
def server() -> Iterator[ForwardServer]:
    with ForwardServer() as one:
        yield one


@pytest.fixture
def make() -> Iterator[Callable[..., Fluent]]:
    made: list[Fluent] = []

    def make_one(server: ForwardServer | str, **keys: Any) -> Fluent:
        address = server if isinstance(server, str) else server.address
        made.append(
            Fluent(forwards.forward({**keys, "name": "fluentd", "type": "fluent", "address": address}))
        )
        return made[-1]

    yield make_one
    for one in made:
        one.close()


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], str]:
    """Return what writes a file of that name, and returns its path."""

    def write_one(name: str, text: str) -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write_one


# --- messages ---


def test_a_batch_is_one_message_with_the_id_of_its_chunk(
    server: ForwardServer, make: Callable[..., Fluent]
) -> None:
    one = make(server)
    batch = [outgoing(one, number, f"m{number}", created=5.25) for number in (3, 4, 9)]
    assert [STORED] * 3 == one.send(batch, again=False)
    (message,) = server.messages
    assert [message.tag, message.options] == [
        "collector.app",
        {"size": 3, "chunk": "c0ffee-7-3-9", "compressed": "gzip"},
    ]
    assert [(5_250_000_000, "m3"), (5_250_000_000, "m4"), (5_250_000_000, "m9")] == [
        (entry.nanoseconds, entry.fields["message"]) for entry in message.entries
    ]
    assert [f"c0ffee-7-{number}" for number in (3, 4, 9)] == [entry.fields["id"] for entry in message.entries]


def test_without_compression_the_entries_go_as_they_are(
    server: ForwardServer, make: Callable[..., Fluent]
) -> None:
    one = make(server, compression="none")
    one.send([outgoing(one, 1)], again=False)
    assert server.messages[0].options == {"size": 1, "chunk": "c0ffee-7-1-1"}
    assert b"hello" in server.messages[0].data


def test_each_tag_has_a_message_of_its_own_with_its_records_in_their_order(
    server: ForwardServer, make: Callable[..., Fluent]
) -> None:
    one = make(server)
    loggers = ["web", "db", "web", "db.pool", "web"]
    batch = [outgoing(one, number, f"m{number}", name=name) for number, name in enumerate(loggers)]
    assert [STORED] * 5 == one.send(batch, again=False)
    found = [
        (message.tag, message.options["chunk"], [entry.fields["message"] for entry in message.entries])
        for message in server.messages
    ]
    assert found == [
        ("collector.web", "c0ffee-7-0-4", ["m0", "m2", "m4"]),
        ("collector.db", "c0ffee-7-1-1", ["m1"]),
        ("collector.db.pool", "c0ffee-7-3-3", ["m3"]),
    ]
    assert server.connections == 1


@pytest.mark.parametrize(
    ("logger", "tag"),
    [
        ("app", "a.app.b"),
        ("größe", "a.größe.b"),
        ("../../etc/x y\n", "a..._.._etc_x_y_.b"),
        ("\ud800", "a._.b"),
        ("", "a._.b"),
        ("n" * 500, f"a.{'n' * 500}.b"),
        ("n" * 501, f"a.{'n' * 500}.b"),
    ],
    ids=["plain", "letters", "path", "surrogate", "empty", "at the limit", "above it"],
)
def test_the_name_of_a_logger_in_a_tag_has_no_more_than_letters_digits_and_dots(
    server: ForwardServer, make: Callable[..., Fluent], logger: str, tag: str
) -> None:
    one = make(server, tag="a.{logger}.b")
    one.send([outgoing(one, 1, name=logger)], again=False)
    assert server.messages[0].tag == tag


def test_a_tag_without_a_logger_is_that_of_all(server: ForwardServer, make: Callable[..., Fluent]) -> None:
    one = make(server, tag="all")
    one.send([outgoing(one, 1, name="a"), outgoing(one, 2, name="b")], again=False)
    assert ["all"] == [message.tag for message in server.messages]


def test_records_of_10_mb_arrive_whole(server: ForwardServer, make: Callable[..., Fluent]) -> None:
    one = make(server, max_record_bytes=16_000_000)
    texts = [letter * 10_000_000 for letter in "ab"]
    batch = [outgoing(one, number, text) for number, text in enumerate(texts)]
    assert [STORED, STORED] == one.send(batch, again=False)
    assert server.texts == texts


def test_a_record_reduced_to_text_has_the_tag_of_the_whole_one(
    server: ForwardServer, make: Callable[..., Fluent]
) -> None:
    one = make(server)
    record = record_of(make_payload("m" * 10_000, k="v"))
    data = one.render(spooled(1), record, "c0ffee-7-1", short=True)
    assert [STORED] == one.send([Outgoing("c0ffee-7-1", 7, 1, RECEIVED, data)], again=True)
    assert server.messages[0].tag == "collector.app"
    assert server.messages[0].entries[0].fields.keys() == {"id", "message"}


# --- acknowledgements ---


def test_a_chunk_is_stored_by_its_own_acknowledgement_only(
    server: ForwardServer, make: Callable[..., Fluent]
) -> None:
    one = make(server)
    for wrong in ({"ack": "c0ffee-7-2-2"}, {"ack": None}, {}, ["ack"], None, 1, {"ack": b"c0ffee-7-1-1x"}):
        server.instead.append(answer(wrong))
        with pytest.raises(BrokenError, match=r"answers .* to chunk c0ffee-7-1-1") as caught:
            one.send([outgoing(one, 1)], again=False)
        assert [{}, False] == [caught.value.verdicts, caught.value.timed_out]
    assert [STORED] == one.send([outgoing(one, 1)], again=True)
    assert server.connections == 8, "each wrong one closes the connection"


@pytest.mark.parametrize(
    "answered",
    [b"\xc1", b"\xdf" + b"\xff" * 4 + b"a" * 100, b"\xdb" + MAX_ANSWER_BYTES.to_bytes(4, "big") * 30_000],
    ids=["no MessagePack", "a map without end", "too much"],
)
def test_what_is_no_answer_at_all_breaks_the_connection(
    server: ForwardServer, make: Callable[..., Fluent], answered: bytes
) -> None:
    def answer_and_leave(connection: socket.socket, _: str) -> None:
        connection.sendall(answered)
        connection.shutdown(socket.SHUT_WR)

    server.instead.append(answer_and_leave)
    one = make(server)
    with pytest.raises(BrokenError, match="no MessagePack, or too much of it"):
        one.send([outgoing(one, 1)], again=False)
    assert [STORED] == one.send([outgoing(one, 1)], again=True)


@pytest.mark.parametrize("before_storing", [True, False])
def test_a_break_leaves_those_without_an_acknowledgement_without_a_verdict(
    server: ForwardServer, make: Callable[..., Fluent], *, before_storing: bool
) -> None:
    one = make(server)
    one.connect()
    batch = [outgoing(one, number, f"m{number}", name=name) for number, name in enumerate("abca")]

    def acknowledge(connection: socket.socket, chunk: str) -> None:
        connection.sendall(msgpack.packb({"ack": chunk}))
        server.before_storing = before_storing

    server.instead += [acknowledge, hang_up]
    with pytest.raises(BrokenError) as caught:
        one.send(batch, again=False)
    assert [{0: STORED, 3: STORED}, False] == [caught.value.verdicts, caught.value.timed_out]
    left = batch[1:3]
    assert [STORED, STORED] == one.send(left, again=True)
    assert server.texts == ["m0", "m3", *([] if before_storing else ["m1"]), "m1", "m2"]


def test_a_server_that_hangs_times_out_and_its_request_may_still_run(
    server: ForwardServer, make: Callable[..., Fluent]
) -> None:
    one = make(server, timeout_seconds=0.2)
    server.instead.append(stay_silent)
    with pytest.raises(BrokenError, match=r"timed out|longer") as caught:
        one.send([outgoing(one, 1)], again=False)
    assert caught.value.timed_out


def test_a_server_that_does_not_read_times_out(make: Callable[..., Fluent]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one = make(f"127.0.0.1:{listener.getsockname()[1]}", timeout_seconds=0.3, compression="none")
        with pytest.raises(BrokenError) as caught:
            one.send([outgoing(one, number, "x" * 1_000_000) for number in range(10)], again=False)
        assert caught.value.timed_out


def test_a_slow_server_gets_no_further_tags_and_they_are_in_no_doubt(
    server: ForwardServer, make: Callable[..., Fluent]
) -> None:
    one = make(server, timeout_seconds=1)
    late = threading.Event()

    def wait(connection: socket.socket, chunk: str) -> None:
        late.wait(0.6)
        connection.sendall(msgpack.packb({"ack": chunk}))

    server.instead.append(wait)
    batch = [outgoing(one, number, name=name) for number, name in enumerate("abc")]
    slow = Verdict("again", "slow")
    assert [STORED, slow, slow] == one.send(batch, again=False)
    assert ["collector.a"] == [message.tag for message in server.messages]


def test_a_connection_that_the_server_has_closed_is_made_anew_and_nothing_is_in_doubt(
    server: ForwardServer, make: Callable[..., Fluent]
) -> None:
    one = make(server)

    def acknowledge_and_leave(connection: socket.socket, chunk: str) -> None:
        connection.sendall(msgpack.packb({"ack": chunk}))
        connection.shutdown(socket.SHUT_WR)

    server.instead.append(acknowledge_and_leave)
    assert [STORED] == one.send([outgoing(one, 1)], again=False)
    assert one._connection  # noqa: SLF001 - to wait until its end is here
    within(10, one._connection.is_over)  # noqa: SLF001
    assert [STORED] == one.send([outgoing(one, 2)], again=False)
    assert server.connections == 2


def test_what_was_acknowledged_is_stored_though_no_further_connection_can_be_made(
    server: ForwardServer, make: Callable[..., Fluent]
) -> None:
    one = make(server)
    one.connect()

    def acknowledge_and_go(connection: socket.socket, chunk: str) -> None:
        server.stop_listening()
        connection.sendall(msgpack.packb({"ack": chunk}))
        connection.shutdown(socket.SHUT_RDWR)

    server.instead.append(acknowledge_and_go)
    with pytest.raises(BrokenError) as caught:
        one.send([outgoing(one, number, name=name) for number, name in enumerate("ab")], again=False)
    assert {0: STORED} == caught.value.verdicts


def test_where_nobody_listens_is_named(make: Callable[..., Fluent]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    one = make(address)
    with pytest.raises(OSError, match=f"{address}: .*refused"):
        one.connect()


# --- shared keys ---


@pytest.fixture
def guarded() -> Iterator[ForwardServer]:
    with ForwardServer(key=KEY) as one:
        yield one


def test_with_the_shared_key_records_are_taken(
    guarded: ForwardServer, make: Callable[..., Fluent], write: Callable[[str, str], str]
) -> None:
    one = make(guarded, shared_key_file=write("key", f"{KEY}\n"))
    one.connect()
    assert [STORED] == one.send([outgoing(one, 1)], again=False)
    ((_, host, salt, _, user, password),) = guarded.greetings
    assert host.decode() == f"{socket.gethostname()}.collector", "not that of a server on this host"
    assert [32, b"", b""] == [len(salt), user, password]


def test_nothing_that_is_shown_is_shown_twice(
    guarded: ForwardServer, make: Callable[..., Fluent], write: Callable[[str, str], str]
) -> None:
    one = make(guarded, shared_key_file=write("key", KEY))
    one.connect()
    one.connect()
    first, second = guarded.greetings
    assert [first[2] != second[2], first[3] != second[3]] == [True, True]


def test_a_wrong_key_holds_and_what_the_server_says_is_told(
    guarded: ForwardServer, make: Callable[..., Fluent], write: Callable[[str, str], str]
) -> None:
    one = make(guarded, shared_key_file=write("key", "another"))
    for act in (one.connect, lambda: one.send([outgoing(one, 1)], again=False)):
        with pytest.raises(HoldError, match="refuses us: shared_key mismatch") as caught:
            act()
        assert caught.value.reason == "handshake"
        assert "shared_key_file" in caught.value.remedy
    write("key", KEY)
    one.connect()  # it is read again


def test_a_server_that_cannot_show_that_it_knows_the_key_gets_nothing(
    guarded: ForwardServer, make: Callable[..., Fluent], write: Callable[[str, str], str]
) -> None:
    guarded.proof = "0" * 128
    one = make(guarded, shared_key_file=write("key", KEY))
    with pytest.raises(HoldError, match="does not know the shared key itself"):
        one.send([outgoing(one, 1)], again=False)
    assert not guarded.messages


def test_helo_in_place_of_an_acknowledgement_means_that_a_key_is_wanted(
    guarded: ForwardServer, make: Callable[..., Fluent]
) -> None:
    one = make(guarded)
    with pytest.raises(HoldError, match=r"asks for a shared key \(HELO\), and there is no shared_key_file"):
        one.send([outgoing(one, 1)], again=False)
    one.connect()
    with pytest.raises(HoldError, match="asks for a shared key"):
        one.send([outgoing(one, 1)], again=False)


def test_a_key_where_none_is_wanted_is_named_as_what_may_be_wrong(
    server: ForwardServer, make: Callable[..., Fluent], write: Callable[[str, str], str]
) -> None:
    one = make(server, shared_key_file=write("key", KEY), timeout_seconds=0.2)
    with pytest.raises(OSError, match=r"no HELO.*it hangs, or wants no shared key"):
        one.connect()


@pytest.mark.parametrize("said", [b"SSH-2.0-OpenSSH_9.6\r\n", b"\xc1", msgpack.packb(["HELLO", {}])])
def test_what_is_no_helo_does_not_pass_for_one(
    guarded: ForwardServer, make: Callable[..., Fluent], write: Callable[[str, str], str], said: bytes
) -> None:
    guarded.helo = said
    one = make(guarded, shared_key_file=write("key", KEY))
    with pytest.raises((HoldError, OSError), match=r"in place of HELO|no MessagePack"):
        one.connect()


@pytest.mark.parametrize("asks", [True, False])
def test_user_and_password_are_shown_where_they_are_asked_for(
    make: Callable[..., Fluent], write: Callable[[str, str], str], *, asks: bool
) -> None:
    files = {"shared_key_file": write("key", KEY), "password_file": write("password", "secret")}
    with ForwardServer(key=KEY, users={"joe": "secret"}, asks_for_user=asks) as server:
        one = make(server, user="joe", **files)
        assert [STORED] == one.send([outgoing(one, 1)], again=False)
        assert server.greetings[0][4] == (b"joe" if asks else b"")


@pytest.mark.parametrize(("user", "password"), [("joe", "wrong"), ("jane", "secret"), ("", "")])
def test_who_is_not_known_holds(
    make: Callable[..., Fluent], write: Callable[[str, str], str], user: str, password: str
) -> None:
    who = {"user": user, "password_file": write("password", password)} if user else {}
    with ForwardServer(key=KEY, users={"joe": "secret"}) as server:
        one = make(server, shared_key_file=write("key", KEY), **who)
        with pytest.raises(HoldError, match="username/password mismatch"):
            one.connect()


def test_secrets_that_are_missing_hold(
    guarded: ForwardServer, make: Callable[..., Fluent], tmp_path: Path
) -> None:
    one = make(guarded, shared_key_file=str(tmp_path / "none"))
    with pytest.raises(HoldError, match=r"shared_key_file = .*No such file") as caught:
        one.connect()
    assert caught.value.reason == "secret"


def test_a_server_that_takes_one_message_a_connection_gets_one_for_each(
    make: Callable[..., Fluent], write: Callable[[str, str], str]
) -> None:
    with ForwardServer(key=KEY, keepalive=False) as server:
        one = make(server, shared_key_file=write("key", KEY))
        batch = [outgoing(one, number, name=name) for number, name in enumerate("abc")]
        assert [STORED] * 3 == one.send(batch, again=False)
        assert server.connections == 3


# --- TLS ---


def test_tls_begins_with_the_first_byte_and_tells_when_the_certificate_ends(
    make: Callable[..., Fluent], certificates: Path, write: Callable[[str, str], str]
) -> None:
    with ForwardServer(certificates, key=KEY) as server:
        one = make(server, ca=f"{certificates}/ca.pem", shared_key_file=write("key", KEY))
        one.connect()
        assert [STORED] == one.send([outgoing(one, 1, "x" * 1_000_000)], again=False)
        assert one.certificate_days is not None
        assert 1.9 < one.certificate_days <= 2


def test_a_client_certificate_is_shown(make: Callable[..., Fluent], certificates: Path) -> None:
    keys = {
        key: f"{certificates}/client.{end}" for key, end in (("certificate", "pem"), ("private_key", "key"))
    }
    with ForwardServer(certificates, client_ca=True) as server:
        one = make(server, ca=f"{certificates}/ca.pem", **keys)
        assert [STORED] == one.send([outgoing(one, 1)], again=False)
        without = make(server, ca=f"{certificates}/ca.pem")
        for _ in range(20):
            with pytest.raises(HoldError, match="certificate required") as caught:
                without.send([outgoing(without, 2)], again=False)
            assert caught.value.reason == "tls"


def test_a_certificate_that_nobody_trusted_has_signed_holds(
    make: Callable[..., Fluent], certificates: Path
) -> None:
    with ForwardServer(certificates) as server:
        one = make(server, ca=f"{certificates}/client.pem")
        with pytest.raises(HoldError, match="certificate verify failed"):
            one.connect()


def test_plain_words_to_a_server_that_speaks_tls_are_no_acknowledgement(
    make: Callable[..., Fluent], certificates: Path
) -> None:
    with ForwardServer(certificates) as server:
        one = make(server)
        with pytest.raises(BrokenError):
            one.send([outgoing(one, 1)], again=False)


# --- check, and the package ---


def test_check_finds_nothing_wrong_and_sends_nothing(
    server: ForwardServer,
    guarded: ForwardServer,
    make: Callable[..., Fluent],
    write: Callable[[str, str], str],
) -> None:
    assert [] == make(server).check()
    assert [] == make(guarded, shared_key_file=write("key", KEY)).check()
    assert not server.messages
    assert not guarded.messages


def test_check_tells_of_a_key_that_is_wanted_or_wrong_and_of_who_does_not_answer(
    guarded: ForwardServer, make: Callable[..., Fluent], write: Callable[[str, str], str]
) -> None:
    (fault,) = make(guarded).check()
    assert "asks for a shared key" in fault
    (fault,) = make(guarded, shared_key_file=write("key", "another")).check()
    assert "refuses us: shared_key mismatch; see that" in fault
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    (fault,) = make(address).check()
    assert fault.startswith(address)


def test_check_tells_of_a_certificate_that_is_wanted_and_of_one_that_ends_soon(
    make: Callable[..., Fluent], certificates: Path
) -> None:
    with ForwardServer(certificates, client_ca=True) as server:
        (fault,) = make(server, ca=f"{certificates}/ca.pem").check()
        assert "certificate required" in fault
    with ForwardServer(certificates) as server:
        assert [f"{server.address}: a certificate ends in 2.0 days; renew it"] == make(
            server, ca=f"{certificates}/ca.pem"
        ).check()


def test_check_tells_that_a_server_hangs_up(server: ForwardServer, make: Callable[..., Fluent]) -> None:
    server.helo = b"\xc1"
    (fault,) = make(server).check()
    assert fault.startswith(f"{server.address}: says what is no MessagePack")


def test_without_the_package_the_destination_holds_and_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "msgpack", None)
    for name in ("collector.forward.destinations.fluent", "collector.forward.entries"):
        monkeypatch.delitem(sys.modules, name)
    one = choose.make(forwards.forward({"name": "fluentd", "type": "fluent", "address": "127.0.0.1:1"}))
    with pytest.raises(HoldError, match="fluent needs a package") as caught:
        one.connect()
    assert [caught.value.reason, "pip install 'gevent-collector[fluent]'" in caught.value.remedy] == [
        "package",
        True,
    ]
    assert "gevent-collector[fluent]" in one.check()[0]
