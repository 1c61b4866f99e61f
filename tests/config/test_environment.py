"""The variables that stand for keys: what they may say, what goes before what, and what is wrong with one."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
from typing import TYPE_CHECKING

import pytest

from collector.config import environment
from collector.config.load import ConfigError, load
from collector.config.tables import Admin, Config, Rule, Spool, Tls

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Load = Callable[[str], Config]
    Faults = Callable[[str], list[str]]


@pytest.fixture(autouse=True)
def without_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in environment.ours(os.environ):
        monkeypatch.delenv(name)


def faults_of(path: Path | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path)
    return caught.value.faults


def test_every_key_of_every_table_has_a_variable_and_no_other_has() -> None:
    tables = {
        field.name: type(getattr(Config(admin=Admin(), spool=Spool()), field.name))
        for field in dataclasses.fields(Config)
        if field.name not in ("rules", "forwards")
    }
    expected = {
        f"COLLECTOR__{table}__{field.name}".upper()
        for table, kind in tables.items()
        for field in dataclasses.fields(kind)
    }
    expected |= {f"COLLECTOR__LISTEN__TLS__{field.name}".upper() for field in dataclasses.fields(Tls)}
    assert expected == set(environment.known())


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("LISTEN__PORT", "9510", 9510),
        ("LISTEN__PORT", " 9510\n", 9510),
        ("LISTEN__MAX_CLIENTS", "20_000", 20_000),
        ("LISTEN__HOST", "::", "::"),
        ("LISTEN__UNIX", "", ""),
        ("LISTEN__DRAIN_SECONDS", "0.5", 0.5),
        ("LISTEN__ALLOW", '["10.0.0.0/8"]', (ipaddress.ip_network("10.0.0.0/8"),)),
        ("LISTEN__ALLOW", "[\n  '10.0.0.0/8',\n]\n", (ipaddress.ip_network("10.0.0.0/8"),)),
        ("LISTEN__ALLOW", "[]", ()),
        ("FILES__DIRECTORY", "/srv/日志 #1", "/srv/日志 #1"),
        ("FILES__DIRECTORY", "true", "true"),
        ("FILES__NAME", "{client}/{logger}.log", "{client}/{logger}.log"),
        ("FILES__MODE", "0600", 0o600),
        ("FILES__MODE", "600", 0o600),
        ("FILES__LEVEL", "warning", 30),
        ("FILES__LEVEL", "25", 25),
        ("ROLLOVER__COMPRESS", "true", True),
        ("ROLLOVER__WHEN", "H", "H"),
        ("FORMAT__TEXT", '"%(message)s"', '"%(message)s"'),
        ("FORMAT__TEXT", r"%(message)s\n", r"%(message)s\n"),
        ("LOG__STYLE", "json", "json"),
        ("ADMIN__NAMES", '["logs.example.org"]', ("logs.example.org",)),
        ("SPOOL__MAX_BYTES", "1_000_000_000", 1_000_000_000),
    ],
)
def test_text_is_taken_as_it_is_and_all_else_as_toml(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, expected: object
) -> None:
    monkeypatch.setenv(f"COLLECTOR__{name}", text)
    table, key = name.lower().split("__")
    assert expected == getattr(getattr(load(None), table), key)


def test_a_variable_goes_before_the_file_and_that_before_the_default(
    config: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLLECTOR__LISTEN__PORT", "9511")
    listen = config("[listen]\nport = 9510\nbacklog = 5").listen
    assert (9511, 5, 10_000) == (listen.port, listen.backlog, listen.max_clients)


@pytest.mark.parametrize(
    ("name", "value"),
    [("ADMIN__PORT", "9031"), ("SPOOL__SYNC_SECONDS", "2"), ("LISTEN__TLS__CLIENT_CA", "ca.pem")],
)
def test_a_variable_makes_its_table(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"COLLECTOR__{name}", value)
    made = {
        "ADMIN": load(None).admin == Admin(port=9031),
        "SPOOL": load(None).spool == Spool(sync_seconds=2),
        "LISTEN": load(None).listen.tls == Tls(client_ca="ca.pem"),
    }
    assert [name.partition("__")[0]] == [table for table, is_made in made.items() if is_made]


def test_a_table_in_a_table_may_be_given_whole_and_goes_before_the_file_key_by_key(
    config: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLLECTOR__LISTEN__TLS", '{ certificate = "a.pem" }')
    monkeypatch.setenv("COLLECTOR__LISTEN__TLS__CLIENT_CA", "ca.pem")
    file = '[listen.tls]\ncertificate = "b.pem"\nprivate_key = "b.key"'
    assert Tls("a.pem", "b.key", "ca.pem") == config(file).listen.tls


def test_rules_stand_on_what_variables_say(config: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLLECTOR__ROLLOVER__BACKUP_COUNT", "3")
    (rule,) = config('[[logger]]\nname = "a"\nrollover = { utc = true }').rules
    assert isinstance(rule, Rule)
    assert (3, True) == (rule.rollover.backup_count, rule.rollover.utc)


@pytest.mark.parametrize(
    "name",
    ["COLLECTOR_PORT", "COLLECTOR_SERVICE_HOST", "COLLECTOR_LISTEN__PORT", "COLLECTORS__X", "_COLLECTOR__X"],
)
def test_a_variable_of_another_form_is_nobody_s_business(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "tcp://10.0.0.1:9020")
    assert Config() == load(None)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("COLLECTOR__LISTEN__PROT", "unknown; did you mean COLLECTOR__LISTEN__PORT?"),
        ("COLLECTOR__LISTEN_PORT", "unknown; did you mean COLLECTOR__LISTEN__PORT?"),
        ("collector__listen__port", "unknown; did you mean COLLECTOR__LISTEN__PORT?"),
        ("COLLECTOR__Listen__Port", "unknown; did you mean COLLECTOR__LISTEN__PORT?"),
        ("COLLECTOR__PORT", "unknown; did you mean COLLECTOR__LISTEN__PORT or COLLECTOR__ADMIN__PORT?"),
        ("COLLECTOR__LISTEN__TLS__CERT", "unknown; did you mean COLLECTOR__LISTEN__TLS__CERTIFICATE?"),
        ("COLLECTOR__XYZZY__QQQ", "unknown; remove it"),
        ("COLLECTOR__", "unknown; remove it"),
        ("COLLECTOR__LISTEN", "is a table; name a key of it, as COLLECTOR__LISTEN__HOST does"),
        (
            "COLLECTOR__LOGGER__LEVEL",
            "[[logger]] and [[forward]] are for the file alone; remove it, and write them there",
        ),
        (
            "COLLECTOR__FORWARD__URL",
            "[[logger]] and [[forward]] are for the file alone; remove it, and write them there",
        ),
    ],
)
def test_a_variable_that_names_no_key_is_a_fault_without_its_value(
    monkeypatch: pytest.MonkeyPatch, name: str, fault: str
) -> None:
    monkeypatch.setenv(name, "s3cret")
    assert [f"{name}: {fault}"] == faults_of()


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("LISTEN__PORT", "many", '"many": must be a whole number from 0 to 65535'),
        (
            "LISTEN__PORT",
            '"9020"',
            '"\\"9020\\"": must be a whole number from 0 to 65535; leave out the quotes around it',
        ),
        (
            "ADMIN__HOST",
            '"::"',
            '"\\"::\\"": must be an IP address or a host name, without port; :: is every address; leave out the quotes around it',  # noqa: E501 - what is said
        ),
        (
            "LOG__STYLE",
            "'json'",
            "\"'json'\": must be one of text, json; did you mean json?; leave out the quotes around it",
        ),
        ("ROLLOVER__UTC", '"true"', '"\\"true\\"": must be true or false; leave out the quotes around it'),
        ("LISTEN__PORT", "9020\nbacklog = 5", '"9020\\nbacklog = 5": must be a whole number from 0 to 65535'),
        ("LISTEN__PORT", "65536", '"65536": must be a whole number from 0 to 65535'),
        (
            "LISTEN__PORT",
            "",
            '"": must be a whole number from 0 to 65535; unset it, for what holds without it',
        ),
        (
            "ROLLOVER__MAX_BYTES",
            "10 MiB",
            '"10 MiB": must be a whole number from 0 to 9223372036854775807; a number has no unit here; in bytes 10 MiB is 10_485_760',  # noqa: E501 - what is said
        ),
        ("ROLLOVER__UTC", "True", '"True": must be true or false'),
        ("ROLLOVER__UTC", "1", '"1": must be true or false'),
        ("ROLLOVER__WHEN", "noon", '"noon": must be one of S, M, H, midnight, W0-W6, never'),
        (
            "LISTEN__ALLOW",
            "10.0.0.0/8",
            '"10.0.0.0/8": must be a list of networks in quotes, such as ["10.0.0.0/8", "::1"]',
        ),
        (
            "FILES__DIRECTORY",
            "",
            '"": must be a path, without newline, tab or control character; unset it, for what holds without it',  # noqa: E501 - the same
        ),
        (
            "FILES__DIRECTORY",
            "a\x1b[2J\u0085",
            '"a\\u001b[2J\\u0085": must be a path, without newline, tab or control character',
        ),
        ("FILES__DIRECTORY", "a\udcff", '"a\udcff": must be UTF-8'),
        (
            "FILES__DIRECTORY",
            '"/srv/logs"',
            '"\\"/srv/logs\\"": must be without the quotes around it, which would be a part of the name',
        ),
        (
            "FILES__NAME",
            "'{logger}.log'",
            "\"'{logger}.log'\": must be without the quotes around it, which would be a part of the name",
        ),
        ("LISTEN__TLS", "server.pem", '"server.pem": must be a table, such as { certificate = ... }'),
        (
            "LISTEN__TLS",
            "",
            '"": must be a table, such as { certificate = ... }; unset it, for what holds without it',
        ),
        (
            "ADMIN__TOKEN",
            '"s3cret"',
            '"***": must be text of letters, digits and -._~ alone, or empty for none; leave out the quotes around it',  # noqa: E501 - the same
        ),
        (
            "ADMIN__TOKEN",
            "s3 cret",
            '"***": must be text of letters, digits and -._~ alone, or empty for none',
        ),
    ],
)
def test_a_fault_has_the_variable_for_its_place(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, fault: str
) -> None:
    monkeypatch.setenv(f"COLLECTOR__{name}", text)
    assert [f"COLLECTOR__{name} = {fault}"] == faults_of()


def test_a_key_in_a_table_given_whole_has_its_own_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLLECTOR__LISTEN__TLS", '{ certificate = 5, privat_key = "x" }')
    assert [
        "COLLECTOR__LISTEN__TLS certificate = 5: must be a path in quotes, without newline, tab or control character",  # noqa: E501 - the same
        'COLLECTOR__LISTEN__TLS privat_key = "x": unknown; did you mean tls.private_key?',
    ] == faults_of()


def test_a_key_given_by_two_variables_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLLECTOR__LISTEN__TLS", '{ certificate = "a.pem" }')
    monkeypatch.setenv("COLLECTOR__LISTEN__TLS__CERTIFICATE", "a.pem")
    assert [
        "COLLECTOR__LISTEN__TLS__CERTIFICATE: COLLECTOR__LISTEN__TLS certificate gives it too; remove one of the two"  # noqa: E501 - the same
    ] == faults_of()


def test_a_contradiction_is_told_of_the_variable_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLLECTOR__ADMIN__PORT", "9020")
    assert ["COLLECTOR__ADMIN__PORT = 9020: is the port of [listen] too; choose another"] == faults_of()


def test_a_default_that_a_variable_contradicts_is_told_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLLECTOR__LISTEN__MAX_FRAME_BYTES", "100_000_000")
    (fault,) = faults_of()
    assert fault.startswith("the defaults: [listen] max_buffered_bytes = 268435456: must be at least 4 times")


def test_the_faults_of_file_and_environment_are_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is to be right by itself: what goes before it may be gone tomorrow."""
    file = tmp_path / "c.toml"
    file.write_text('[listen]\nport = "x"\n[rollover]\nwhen = "noon"\n')
    monkeypatch.setenv("COLLECTOR__LISTEN__PORT", "9020")
    monkeypatch.setenv("COLLECTOR__FILES__DOTS", "x")
    monkeypatch.setenv("COLLECTOR__NO__SUCH", "x")
    assert [
        f"{file}: [listen] port",
        f"{file}: [rollover] when",
        "COLLECTOR__FILES__DOTS",
        "COLLECTOR__NO__SUCH",
    ] == [fault.partition(" = ")[0].partition(": unknown")[0] for fault in faults_of(file)]


def test_an_unknown_variable_leaves_nothing_sure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or `check` would blame the default directory for COLLECTOR__FILES__DIRECTRY."""
    monkeypatch.setenv("COLLECTOR__FILES__DIRECTRY", "/data")
    with pytest.raises(ConfigError) as caught:
        load(None)
    assert ("[files]", "") in caught.value.unsure


def test_a_file_without_a_table_is_refused_whatever_variables_say(
    faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLLECTOR__LISTEN__PORT", "9510")
    assert ["has no table; leave out -c for the defaults, or COLLECTOR_CONFIG"] == faults("")


# --- Secrets -----------------------------------------------------------------------------------------

SECRET = "s3cret-0123"  # noqa: S105 - nothing opens by it


@pytest.mark.parametrize(
    "text",
    [
        f'[admin]\ntoken = "{SECRET} x"',
        f'[admin]\ntokn = "{SECRET}"',
        f'[admin]\ntoken = "{SECRET}',
        f"[admin]\ntoken = {SECRET}",
        f'admin = {{ token = "{SECRET}, port = 1 }}',
        f'[[forward]]\nname = "a"\ntype = "elasticsearch"\nurl = "https://joe:{SECRET}@es"',
        f'[[forward]]\nname = "a"\ntype = "elasticsearch"\nurl = "https://joe:{SECRET}@es',
        f'[[forward]]\nname = "a"\ntype = "elasticsearch"\nurls = ["https://joe:{SECRET}@es", "x"]',
        f'[[forward]]\nname = "a"\ntype = "elasticsearch"\nurl = "https://es"\npassword = "{SECRET}"',
    ],
)
def test_no_message_shows_a_secret(faults: Faults, text: str) -> None:
    assert [] == [fault for fault in faults(text) if SECRET in fault]


def test_the_token_stands_in_one_place(faults: Faults) -> None:
    assert ['[admin] token_file = "/t": stands beside token; remove one of the two'] == faults(
        '[admin]\ntoken = "a"\ntoken_file = "/t"'
    )
