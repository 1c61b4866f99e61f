"""Servers that are not ours: what they are sent arrives with its fields, and they shake hands with us."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgpack
import pytest

from collector.config import forwards
from collector.forward.destinations.fluent import Fluent
from collector.forward.verdicts import STORED, HoldError, Outgoing
from tests.support.certificates import certificates
from tests.support.corpus import PAYLOADS, VALUES
from tests.support.forward_engines import Engine, NpmServer, OtelCollector, Received, npm_modules, otelcol
from tests.support.forwarding import RECEIVED, outgoing, record_of, spooled
from tests.support.frames import make_payload
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["certificates", "npm_modules", "otelcol"]

pytestmark = pytest.mark.slow

KEY = "a shared key"
SECURITY = {"serverHostname": "server.test", "sharedKey": KEY}


@pytest.fixture(params=["npm", "otelcol"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "npm":
        server: Engine = NpmServer(request.getfixturevalue("npm_modules"), tmp_path)
    else:
        server = OtelCollector(request.getfixturevalue("otelcol"), tmp_path)
    with server:
        yield server


@pytest.fixture
def make() -> Iterator[Callable[..., Fluent]]:
    made: list[Fluent] = []

    def make_one(server: Engine, **keys: Any) -> Fluent:
        address = {"name": "fluentd", "type": "fluent", "address": server.address}
        made.append(Fluent(forwards.forward({**keys, **address})))
        return made[-1]

    yield make_one
    for one in made:
        one.close()


def rendered(one: Fluent, payloads: list[bytes]) -> tuple[list[Outgoing], list[Received]]:
    """Return records to be sent, and what is to arrive."""
    batch, expected = [], []
    for number, payload in enumerate(payloads):
        record_id = f"c0ffee-7-{number}"
        data = one.render(spooled(number), record_of(payload), record_id)
        batch.append(Outgoing(record_id, 7, number, RECEIVED, data))
        end = 4 + int.from_bytes(data[:4], "big")
        moment, fields = msgpack.unpackb(data[end:], ext_hook=lambda _, ext: ext)
        nanoseconds = int.from_bytes(moment[:4], "big") * 10**9 + int.from_bytes(moment[4:], "big")
        expected.append(Received(data[4:end].decode(), nanoseconds, fields))
    return batch, expected


def by_id(received: list[Received]) -> dict[str, Received]:
    return {one.fields["id"]: one for one in received}


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_whatever_real_clients_send_arrives_with_its_fields_time_and_tag(
    engine: Engine, make: Callable[..., Fluent], compression: str
) -> None:
    one = make(engine, compression=compression)
    batch, expected = rendered(one, [*PAYLOADS.values(), *VALUES.values()])
    assert [STORED] * len(batch) == one.send(batch, again=False)
    within(30, lambda: len(engine.received()) >= len(batch), "all arrive")
    received = engine.received()
    assert by_id(received) == by_id(expected)
    assert len(received) == len(batch)


def test_what_is_hard_on_messagepack_arrives(engine: Engine, make: Callable[..., Fluent]) -> None:
    # Of so many MessagePack counts by four bytes; the other one looks through all of them for each.
    many = 70_000 if isinstance(engine, NpmServer) else 7000
    odd: list[dict[Any, Any]] = [
        {"created": 0.0},
        {"created": 2**32 - 1.0},
        {"created": 2.0**32},
        {"process": 2**53, "thread": -(2**53), "lineno": "seven"},
        {"message": "m", "log": {"a": 1}, "tag": "t", "": "", "k" * 70_000: "v"},
        {"name": "n" * 40_000},
        {f"extra{n}": n for n in range(many)},
        {"msg": "\x00\x1f\x7f\u2028\ud800\U0001f600"},
        {"msg": "x" * 900_000, "exc_text": "y" * 900_000},
    ]
    one = make(engine)
    batch, expected = rendered(one, [make_payload(**{"message": "", **fields}) for fields in odd])
    assert [STORED] * len(batch) == one.send(batch, again=False)
    within(30, lambda: len(engine.received()) >= len(batch), "all arrive")
    assert by_id(engine.received()) == by_id(expected)


def test_nothing_is_wrong_with_an_engine_that_asks_for_no_key(
    engine: Engine, make: Callable[..., Fluent]
) -> None:
    assert [] == make(engine).check()


@pytest.mark.parametrize(
    ("key", "user", "password", "expected"),
    [
        (KEY, "joe", "secret", ""),
        ("another", "joe", "secret", "shared key mismatch"),
        (KEY, "joe", "wrong", "username/password mismatch"),
        (KEY, "", "", "missing authentication information"),
    ],
)
def test_key_user_and_password_are_those_of_the_protocol(  # noqa: PLR0913, PLR0917 - what a case is made of
    npm_modules: Path,
    tmp_path: Path,
    make: Callable[..., Fluent],
    key: str,
    user: str,
    password: str,
    expected: str,
) -> None:
    (tmp_path / "key").write_text(key)
    (tmp_path / "password").write_text(password)
    keys = {"user": user, "password_file": str(tmp_path / "password")} if user else {}
    security = {**SECURITY, "authorize": True, "userDict": {"joe": "secret"}}
    with NpmServer(npm_modules, tmp_path, security=security) as server:
        one = make(server, shared_key_file=str(tmp_path / "key"), **keys)
        if expected:
            with pytest.raises(HoldError, match=expected):
                one.connect()
        else:
            one.connect()
            assert [STORED] == one.send([outgoing(one, 1)], again=False)


def test_a_key_that_is_wanted_is_told(npm_modules: Path, tmp_path: Path, make: Callable[..., Fluent]) -> None:
    with NpmServer(npm_modules, tmp_path, security={**SECURITY, "authorize": False}) as server:
        one = make(server)
        with pytest.raises(HoldError, match="asks for a shared key"):
            one.send([outgoing(one, 1)], again=False)
        assert "asks for a shared key" in one.check()[0]


def test_a_key_is_shown_within_tls(
    npm_modules: Path, tmp_path: Path, make: Callable[..., Fluent], certificates: Path
) -> None:
    (tmp_path / "key").write_text(KEY)
    tls = {"key": f"{certificates}/server.key", "cert": f"{certificates}/server.pem"}
    with NpmServer(
        npm_modules, tmp_path, tlsOptions=tls, security={**SECURITY, "authorize": False}
    ) as server:
        one = make(server, ca=f"{certificates}/ca.pem", shared_key_file=str(tmp_path / "key"))
        batch = [outgoing(one, number, "x" * 100_000) for number in range(20)]
        assert [STORED] * 20 == one.send(batch, again=False)
        within(10, lambda: len(server.received()) == len(batch), "all arrive")
