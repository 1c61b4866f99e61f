"""The configuration: what a file may say, what it means, and what is said about a file that is wrong.

Not tested: a file without read permission, for the tests may run as root, whom no permission stops.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import warnings
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.config.checks import TEXT_FIELD
from collector.config.load import MAX_FILE_BYTES, ConfigError, load, parse
from collector.config.tables import (
    Admin,
    Config,
    Files,
    Format,
    Listen,
    Log,
    Quarantine,
    Retention,
    Rollover,
    Rule,
    Spool,
    Tls,
)
from tests.support.places import MANUAL

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Load = Callable[[str], Config]
    Faults = Callable[[str], list[str]]

TABLES = {
    "listen": Listen,
    "files": Files,
    "rollover": Rollover,
    "retention": Retention,
    "format": Format,
    "quarantine": Quarantine,
    "log": Log,
    "admin": Admin,
    "spool": Spool,
}
KEYS = [(table, field.name) for table, kind in TABLES.items() for field in dataclasses.fields(kind)]
KEYS.remove(("listen", "tls"))  # a table, absent by default
ADMIN = [key for key in KEYS if key[0] == "admin"]
SPOOL = [key for key in KEYS if key[0] == "spool"]
NETWORKS = [("listen", "allow"), ("listen", "proxy_protocol")]


# --- The defaults and the manual ---------------------------------------------------------------------


def test_the_defaults_are_those_of_the_contract() -> None:
    assert load(None) == Config(
        listen=Listen(
            host="127.0.0.1",
            port=9020,
            backlog=4096,
            max_clients=10_000,
            max_frame_bytes=16_777_216,
            max_buffered_bytes=268_435_456,
            when_full="wait",
            drain_seconds=8,
            python2_encoding="utf-8",
            unix="",
            allow=(),
            proxy_protocol=(),
            frame_timeout_seconds=60,
            tls=None,
        ),
        files=Files(
            directory="logs",
            name="{logger}.log",
            dots="_",
            level=0,
            mode=0o640,
            max_files=4096,
            max_open=512,
            sync_seconds=0,
        ),
        rollover=Rollover(when="midnight", utc=False, max_bytes=0, backup_count=7, compress=False),
        retention=Retention(max_total_bytes=0, max_age_days=0, min_free_bytes=0),
        format=Format(
            style="text",
            text="[%(asctime)s]: %(name)s %(levelname)s %(lineno)s %(message)s",
            datefmt="%Y-%m-%d %H:%M:%S",
            utc=False,
            newlines="keep",
        ),
        quarantine=Quarantine(max_bytes=67_108_864),
        log=Log(level=20, style="text"),
        admin=None,
        spool=None,
        rules=(),
        forwards=(),
    )


@pytest.mark.parametrize("text", ["[files]", "files = {}", "[listen.tls]", '[[logger]]\nname = "a"'])
def test_a_table_without_keys_will_do(config: Load, text: str) -> None:
    assert load(None).files == config(text).files


@pytest.mark.parametrize(
    "text", ["", "\n", " \t\r\n\n", "# port = 1", "# [files]\n\n#", "logger = []", "forward = []"]
)
def test_a_file_without_a_table_is_refused_with_the_remedy(faults: Faults, text: str) -> None:
    assert ["has no table; leave out -c for the defaults, or COLLECTOR_CONFIG"] == faults(text)


def test_no_file_at_all_is_a_fault_with_the_remedy() -> None:
    with pytest.raises(ConfigError) as caught:
        load("")
    assert ["-c is empty: name a file, or leave out -c for the defaults"] == caught.value.faults


def test_keys_above_any_table_have_their_own_remedy_and_no_other(faults: Faults) -> None:
    assert ["port = 9020: unknown; did you mean [listen] port or [admin] port?"] == faults("port = 9020")


def test_the_manual_shows_the_defaults() -> None:
    assert load(None) == load(MANUAL)


def test_the_manual_opens_no_admin_port_and_shows_the_table_with_its_defaults(config: Load) -> None:
    manual = MANUAL.read_text(encoding="utf-8")
    assert not re.search(r"(?m)^\[admin\]", manual)
    shown = re.findall(
        r"(?m)^# (\[admin\]|(?:host|port|token|token_file|names) = .*)$",
        manual[manual.index("# [admin]") : manual.index("# [spool]")],
    )
    assert len(ADMIN) + 1 == len(shown)
    assert (
        Admin(host="127.0.0.1", port=9021, token="", token_file="", names=())
        == config("\n".join(shown)).admin
    )


def test_an_admin_table_without_keys_is_an_admin_port(config: Load) -> None:
    assert config("[admin]").admin == Admin()


def test_the_admin_port_cannot_be_the_one_for_records(faults: Faults) -> None:
    assert faults("[admin]\nport = 9020") == [
        "[admin] port = 9020: is the port of [listen] too; choose another"
    ]


@pytest.mark.parametrize("token", ["a b", "a;b", "\u00e9", "a/b"])
def test_a_token_fits_into_a_url_and_a_cookie(faults: Faults, token: str) -> None:
    (fault,) = faults(f'[admin]\ntoken = "{token}"')
    assert "must be text in quotes of letters, digits and -._~ alone" in fault


def test_the_manual_shows_every_key_and_no_other() -> None:
    shown = parse(MANUAL.read_text(encoding="utf-8"), "manual")

    assert sorted(set(KEYS) - set(ADMIN) - set(SPOOL)) == sorted(
        (table, key) for table, keys in shown.items() for key in keys
    )


def test_the_table_for_tls_that_the_manual_shows_has_its_defaults(config: Load) -> None:
    lines = MANUAL.read_text(encoding="utf-8").split("\n")
    begin = lines.index("# [listen.tls]")
    shown = "\n".join(line[2:] for line in lines[begin : begin + 4])
    assert Tls("server.pem", "server.key", "") == config(shown).listen.tls
    assert config("[listen.tls]").listen.tls == config(shown).listen.tls


@pytest.mark.parametrize(("table", "key"), NETWORKS)
def test_networks_and_addresses_may_be_listed(config: Load, table: str, key: str) -> None:
    listen = config(f'[{table}]\n{key} = ["10.0.0.0/8", "::1", "192.0.2.7"]').listen
    assert ["10.0.0.0/8", "::1/128", "192.0.2.7/32"] == [str(network) for network in getattr(listen, key)]


@pytest.mark.parametrize(("table", "key"), NETWORKS)
@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:a00:0/104", "10.0.0.0/8"),
        ("::ffff:192.0.2.7", "192.0.2.7/32"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::fffe:0:0/95", "::fffe:0:0/95"),
        ("::/0", "::/0"),
        ("::10.0.0.0/104", "::a00:0/104"),
    ],
)
def test_an_ipv4_mapped_network_means_the_ipv4_one(
    config: Load, table: str, key: str, given: str, meant: str
) -> None:
    listen = getattr(config(f"[{table}]\n{key} = ['{given}']"), table)
    assert (ipaddress.ip_network(meant),) == getattr(listen, key)


@pytest.mark.parametrize(("table", "key"), NETWORKS)
@pytest.mark.parametrize(
    "value", ['"10.0.0.0/8"', '["10.0.0.1/8"]', '["localhost"]', '["10.0.0.0/33"]', "{}"]
)
def test_what_is_no_list_of_networks_is_refused(faults: Faults, table: str, key: str, value: str) -> None:
    (fault,) = faults(f"[{table}]\n{key} = {value}")
    assert fault.startswith(f"[{table}] {key} = ")


def test_an_array_left_open_at_the_end_of_the_file_does_not_let_everybody_in(faults: Faults) -> None:
    (fault,) = faults('[listen]\nallow = ["10.0.0.0/8"')
    assert fault.startswith("line 2: ")


@pytest.mark.parametrize(
    ("size", "valid"), [(106, True), (107, True), (108, False)], ids=["below", "at", "above"]
)
def test_the_path_of_a_unix_socket_fits_the_kernels_structure(
    config: Load, faults: Faults, size: int, valid: bool
) -> None:
    text = f'[listen]\nunix = "{"x" * size}"'
    assert config(text).listen.unix if valid else faults(text)


def test_the_manual_explains_every_key() -> None:
    lines = MANUAL.read_text(encoding="utf-8").split("\n")
    keys = [number for number, line in enumerate(lines) if re.match("[a-z]", line)]

    assert [] == [lines[number] for number in keys if not lines[number - 1].startswith("# ")]


def test_the_example_of_a_rule_in_the_manual_holds(config: Load) -> None:
    text = re.sub(r"(?m)^#(?=[\[a-z])", "", MANUAL.read_text(encoding="utf-8"))

    rule = Rule(
        name="payments",
        level=30,
        file="payments/all.log",
        rollover=Rollover(max_bytes=10_000_000, backup_count=30),
        format=Format(style="json"),
    )
    assert dataclasses.replace(load(MANUAL), rules=(rule,)) == config(text)


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        load(None).listen.port = 1  # type: ignore[misc]  # this is what is tested


# --- What is accepted --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "key", "value", "expected"),
    [
        ("listen", "host", '"0.0.0.0"', "0.0.0.0"),  # noqa: S104 - nothing is bound here
        ("listen", "host", '"::"', "::"),
        ("listen", "host", '"fe80::1%eth0"', "fe80::1%eth0"),
        ("listen", "host", '"logs.example.org"', "logs.example.org"),
        ("listen", "host", f'"{"x." * 126}x"', "x." * 126 + "x"),
        ("listen", "host", f'"{"x." * 126}"', "x." * 126),
        ("listen", "host", '"bücher.example"', "bücher.example"),
        ("listen", "when_full", '"drop"', "drop"),
        ("listen", "drain_seconds", "0.5", 0.5),
        ("listen", "python2_encoding", '"latin-1"', "latin-1"),
        ("listen", "python2_encoding", '"UTF8"', "UTF8"),
        ("listen", "python2_encoding", '"cp1252"', "cp1252"),
        ("listen", "python2_encoding", '"gb18030"', "gb18030"),
        ("listen", "python2_encoding", '"shift_jis"', "shift_jis"),
        ("listen", "python2_encoding", '"ascii"', "ascii"),
        ("files", "directory", '"/var/log/a b"', "/var/log/a b"),
        ("files", "dots", '"."', "."),
        ("files", "dots", '"/"', "/"),
        ("files", "level", '"NOTSET"', 0),
        ("files", "level", '"DEBUG"', 10),
        ("files", "level", '"INFO"', 20),
        ("files", "level", '"WARNING"', 30),
        ("files", "level", '"WARN"', 30),
        ("files", "level", '"warning"', 30),
        ("files", "level", '"Critical"', 50),
        ("log", "level", '"fatal"', 50),
        ("files", "level", '"ERROR"', 40),
        ("files", "level", '"CRITICAL"', 50),
        ("files", "level", '"FATAL"', 50),
        ("files", "level", "0", 0),
        ("files", "level", "25", 25),
        ("log", "level", "35", 35),
        ("files", "mode", '"0600"', 0o600),
        ("files", "mode", '"600"', 0o600),
        ("files", "mode", '"0666"', 0o666),
        ("rollover", "when", '"S"', "S"),
        ("rollover", "when", '"M"', "M"),
        ("rollover", "when", '"H"', "H"),
        ("rollover", "when", '"W0"', "W0"),
        ("rollover", "when", '"W6"', "W6"),
        ("rollover", "when", '"never"', "never"),
        ("rollover", "utc", "true", True),
        ("rollover", "compress", "true", True),
        ("format", "style", '"json"', "json"),
        ("format", "utc", "true", True),
        ("format", "newlines", '"escape"', "escape"),
        ("format", "datefmt", '"%d.%m. %H h"', "%d.%m. %H h"),
        ("format", "datefmt", '"%Y\\t%j"', "%Y\t%j"),
    ],
)
def test_a_value_is_accepted(config: Load, table: str, key: str, value: str, expected: object) -> None:
    assert expected == getattr(getattr(config(f"[{table}]\n{key} = {value}"), table), key)


LIMITS = [
    ("listen", "port", 0, 65_535),
    ("listen", "backlog", 1, 65_535),
    ("listen", "max_clients", 1, 1_000_000),
    ("listen", "max_frame_bytes", 1, 4_294_967_295),
    ("listen", "max_buffered_bytes", 4, 2**40),
    ("listen", "drain_seconds", 0, 86_400),
    ("files", "max_files", 1, 1_000_000),
    ("files", "max_open", 1, 1_000_000),
    ("rollover", "max_bytes", 0, 2**63 - 1),
    ("rollover", "backup_count", 0, 1_000_000),
]
# What the other half of max_buffered_bytes >= 4 * max_frame_bytes must be for the limits of one.
BESIDES = {
    "max_frame_bytes": "max_buffered_bytes = 1_099_511_627_776",
    "max_buffered_bytes": "max_frame_bytes = 1",
}


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        pytest.param(table, key, value, id=f"{table}.{key}={value}")
        for table, key, low, high in LIMITS
        for value in (low, low + 1, high - 1, high)
    ],
)
def test_a_number_at_or_within_its_limits_is_accepted(config: Load, table: str, key: str, value: int) -> None:
    text = f"[{table}]\n{key} = {value}\n{BESIDES.get(key, '')}"

    assert value == getattr(getattr(config(text), table), key)


@pytest.mark.parametrize(
    ("table", "key", "value", "limits"),
    [
        pytest.param(table, key, value, f" from {low} to {high}, without quotes", id=f"{table}.{key}={value}")
        for table, key, low, high in LIMITS
        for value in (low - 1, high + 1)
    ],
)
def test_a_number_beyond_its_limits_is_refused_and_they_are_told(
    faults: Faults, table: str, key: str, value: int, limits: str
) -> None:
    (fault,) = faults(f"[{table}]\n{key} = {value}\n{BESIDES.get(key, '')}")

    assert fault.startswith(f"[{table}] {key} = {value}: must be a ")
    assert fault.endswith(limits)


# --- What is refused ---------------------------------------------------------------------------------


def test_a_fault_names_file_table_key_value_and_rule(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('[rollover]\nwhen = "noon"\n')

    with pytest.raises(ConfigError) as caught:
        load(file)

    assert str(caught.value) == (
        f'{file}: [rollover] when = "noon": must be one of S, M, H, midnight, W0-W6, never'
    )


def test_all_faults_are_told_at_once(faults: Faults) -> None:
    text = """
        [listen]
        prot = 9020
        backlog = "many"
        max_frame_bytes = 100
        max_buffered_bytes = 399
        [history]
        max_age_days = 1
        [rollover]
        backup_count = -1
        [[logger]]
        name = "a"
        level = "LOUD"
        rollover.wen = "H"
        [[logger]]
        name = "b"
        file = "b.log"
        [[logger]]
        name = "c"
        file = "b.log"
        format.utc = true
    """
    expected = [
        "[listen] prot = 9020: unknown; did you mean port?",
        '[listen] backlog = "many": must be a whole number from 1 to 65535, without quotes',
        "[history]: unknown; remove it, or use one of listen, files, rollover, retention, format, quarantine, log, admin, spool, logger, forward",  # noqa: E501 - the same
        "[rollover] backup_count = -1: must be a whole number from 0 to 1000000, without quotes",
        "[listen] max_buffered_bytes = 399: must be at least 4 times max_frame_bytes = 100; raise it to 400",
        '[[logger]] "a" level = "LOUD": must be one of NOTSET, DEBUG, INFO, WARNING, WARN, ERROR, CRITICAL, FATAL, or a whole number from 0 up, without quotes',  # noqa: E501 - the same
        '[[logger]] "a" rollover.wen = "H": unknown; did you mean rollover.when?',
        '[[logger]] "c" file = "b.log": is the same file as [[logger]] "b" file, but differs in format.utc; set these alike, or name another file',  # noqa: E501 - the same
    ]
    assert expected == faults(text)


@pytest.mark.parametrize(
    ("table", "key"), [key for key in KEYS if key not in (*NETWORKS, ("admin", "names"))]
)
@pytest.mark.parametrize("value", ["[]", "{}", '["a"]', "nan"])
def test_a_value_of_the_wrong_type_is_refused_for_every_key(
    faults: Faults, table: str, key: str, value: str
) -> None:
    (fault,) = faults(f"[{table}]\n{key} = {value}")

    assert fault.startswith(f"[{table}] {key} = ")
    assert "must " in fault


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("listen", "host", '""'),
        ("listen", "host", "127"),
        ("listen", "host", '"10.0.0.7:9020"'),
        ("listen", "host", '"local host"'),
        ("listen", "host", '"localhost "'),
        ("listen", "host", '"a..b"'),
        ("listen", "host", f'"{"x" * 64}.org"'),
        ("listen", "host", '"a\\u0000b"'),
        ("listen", "host", f'"{"x." * 127}"'),
        ("listen", "port", '"9020"'),
        ("listen", "port", "true"),
        ("listen", "port", "9020.0"),
        ("listen", "when_full", '"Wait"'),
        ("listen", "drain_seconds", '"8"'),
        ("listen", "drain_seconds", "true"),
        ("listen", "drain_seconds", "-0.5"),
        ("listen", "drain_seconds", "inf"),
        ("listen", "drain_seconds", "nan"),
        ("listen", "python2_encoding", '""'),
        ("listen", "python2_encoding", '"klingon"'),
        ("listen", "python2_encoding", '"utf-8\\u0000"'),
        ("listen", "python2_encoding", '"hex"'),
        ("listen", "python2_encoding", '"base64"'),
        ("listen", "python2_encoding", '"zlib"'),
        ("listen", "python2_encoding", '"rot13"'),
        ("listen", "python2_encoding", '"idna"'),
        ("listen", "python2_encoding", '"PunyCode"'),
        ("listen", "python2_encoding", '"undefined"'),
        ("listen", "python2_encoding", '"unicode_escape"'),
        ("listen", "python2_encoding", '"raw_unicode_escape"'),
        ("listen", "python2_encoding", '"utf-16"'),
        ("listen", "python2_encoding", '"utf-32"'),
        ("listen", "python2_encoding", '"utf-7"'),
        ("listen", "python2_encoding", '"hz"'),
        ("listen", "python2_encoding", '"cp037"'),
        ("files", "directory", '""'),
        ("files", "directory", '"a\\u0000b"'),
        ("files", "dots", '"-"'),
        ("files", "dots", '""'),
        ("files", "level", '"LOUD"'),
        ("files", "level", '"30"'),
        ("files", "level", "-1"),
        ("files", "level", "true"),
        ("files", "level", "30.0"),
        ("log", "level", '""'),
        ("files", "mode", "640"),
        ("files", "mode", '"0440"'),
        ("files", "mode", '"0240"'),
        ("files", "mode", '"64"'),
        ("files", "mode", '"00640"'),
        ("files", "mode", '"4640"'),
        ("files", "mode", '"0648"'),
        ("files", "mode", '"0o640"'),
        ("files", "mode", '"\u0660640"'),
        ("rollover", "when", '"D"'),
        ("rollover", "when", '"h"'),
        ("rollover", "when", '"W7"'),
        ("rollover", "when", '"W"'),
        ("rollover", "utc", '"true"'),
        ("rollover", "utc", "1"),
        ("rollover", "compress", "0"),
        ("format", "style", '"JSON"'),
        ("format", "newlines", '"drop"'),
        ("format", "datefmt", '""'),
        ("format", "datefmt", '"%Y%n%m"'),
        ("format", "datefmt", '"%Y\\n%m"'),
        ("format", "datefmt", '"%Y\\u0000"'),
        ("format", "datefmt", '"\\u2028"'),
    ],
)
def test_a_value_is_refused(faults: Faults, table: str, key: str, value: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (fault,) = faults(f"[{table}]\n{key} = {value}")

    assert fault.startswith(f"[{table}] {key} = ")
    assert ": must be " in fault


@pytest.mark.parametrize(
    ("table", "key", "value", "meant"),
    [
        ("rollover", "when", "midnigt", "midnight"),
        ("rollover", "when", "Never", "never"),
        ("rollover", "when", "h", "H"),
        ("rollover", "when", "w0", "W0"),
        ("format", "newlines", "escpae", "escape"),
        ("format", "style", "jsno", "json"),
        ("format", "style", "JSON", "json"),
        ("listen", "when_full", "dorp", "drop"),
    ],
)
def test_a_misspelt_choice_is_refused_with_the_likely_one(
    faults: Faults, table: str, key: str, value: str, meant: str
) -> None:
    (fault,) = faults(f"[{table}]\n{key} = '{value}'")
    assert fault.endswith(f"; did you mean {meant}?")


PATHS = [
    ("files", "directory"),
    ("spool", "directory"),
    ("listen", "unix"),
    ("listen", "tls.certificate"),
    ("listen", "tls.private_key"),
    ("listen", "tls.client_ca"),
]


@pytest.mark.parametrize(("table", "key"), PATHS)
@pytest.mark.parametrize(
    "path", ["~/a.log", "~ann/a.log", "$HOME/a.log", "a/${HOME}/b.log", "logs-$HOST.log"]
)
def test_what_a_shell_would_have_expanded_is_refused_with_the_remedy(
    faults: Faults, monkeypatch: pytest.MonkeyPatch, table: str, key: str, path: str
) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.delenv("HOST", raising=False)
    (fault,) = faults(f'[{table}]\n{key} = "{path}"')
    assert fault.startswith(f'[{table}] {key} = "{path}": must be the whole path')
    assert fault.endswith("~ and $NAME mean nothing here")
    example = path.replace("~/", "/home/ann/").replace("$HOME", "/home/ann").replace("${HOME}", "/home/ann")
    assert (f"such as {example}:" in fault) == (example != path)


@pytest.mark.parametrize("place", ["[files]\nname", "[[logger]]\nname = 'a'\nfile"])
@pytest.mark.parametrize("name", ["~/a.log", "$HOME.log", "a/${HOME}/b.log"])
def test_a_file_that_a_shell_would_have_placed_is_refused_as_one_below_the_directory(
    faults: Faults, place: str, name: str
) -> None:
    (fault,) = faults(f"{place} = '{name}'")
    assert "such as" not in fault
    assert fault.endswith(
        ": must be a name below the directory, in which ~ and $NAME mean nothing; "
        "for another place set [files] directory"
    )


@pytest.mark.parametrize("path", ["a~/b~", "/a/~b", "cash$/5$", "$", "a$5"])
def test_other_tildes_and_dollars_are_parts_of_a_path(config: Load, path: str) -> None:
    assert path == config(f"[files]\ndirectory = '{path}'").files.directory


@pytest.mark.parametrize(("table", "key"), PATHS)
@pytest.mark.parametrize("path", ['"C:\\temp"', '"C:\\bin"', '"C:\\new"', '"C:\\u0007"'])
def test_an_escape_in_a_path_is_refused(faults: Faults, table: str, key: str, path: str) -> None:
    (fault,) = faults(f"[{table}]\n{key} = {path}")
    assert "tab" in fault or "control character" in fault


@pytest.mark.parametrize(
    ("table", "key", "given", "remedy"),
    [
        ("rollover", "max_bytes", "256MiB", "in bytes 256MiB is 268_435_456"),
        ("rollover", "max_bytes", "256 MiB", "in bytes 256 MiB is 268_435_456"),
        ("rollover", "max_bytes", "1_000kB", "in bytes 1_000kB is 1_000_000"),
        ("rollover", "max_bytes", "1G", "in bytes 1G is 1_073_741_824"),
        ("rollover", "max_bytes", "10d", "it is in bytes"),
        ("listen", "frame_timeout_seconds", "8s", "in seconds 8s is 8"),
        ("listen", "frame_timeout_seconds", "1m", "in seconds 1m is 60"),
        ("listen", "frame_timeout_seconds", "1.5h", "in seconds 1.5h is 5_400"),
        ("listen", "frame_timeout_seconds", "500ms", "in seconds 500ms is 0.5"),
        ("listen", "frame_timeout_seconds", "2 minutes", "in seconds 2 minutes is 120"),
        ("listen", "drain_seconds", "5MB", "it is in seconds"),
        ("retention", "max_age_days", "7d", "in days 7d is 7"),
        ("retention", "max_age_days", "7 days", "in days 7 days is 7"),
        ("retention", "max_age_days", "1w", "in days 1w is 7"),
        ("retention", "max_age_days", "36h", "in days 36h is 1.5"),
        ("retention", "max_age_days", "1m", "it is in days"),
        ("listen", "max_clients", "10k", "as a count 10k is 10_000"),
        ("files", "max_files", "1M", "as a count 1M is 1_000_000"),
    ],
)
def test_a_number_with_a_unit_is_refused_with_the_number_it_means(
    faults: Faults, table: str, key: str, given: str, remedy: str
) -> None:
    for text in (
        f'[{table}]\n{key} = "{given}"',
        f"[{table}]\n{key} = {given}  # a comment",
        f"{table} = {{ {key} = {given} }}",
    ):
        (fault,) = faults(text)
        assert fault.endswith(f"; a number has no unit here; {remedy}")


def test_a_number_of_any_length_with_a_unit_is_refused(faults: Faults) -> None:
    assert 1 == len(faults(f'[rollover]\nmax_bytes = "{"9" * 400}k"'))


def test_a_number_of_a_rule_tells_its_unit_too(faults: Faults) -> None:
    (fault,) = faults("[[logger]]\nname = 'a'\nrollover = { utc = true, max_bytes = 1kB }")
    assert fault.endswith("; in bytes 1kB is 1_000")


def test_a_count_with_a_unit_that_makes_no_number_of_it_is_refused_as_a_count(faults: Faults) -> None:
    (fault,) = faults('[rollover]\nbackup_count = "7d"')
    assert fault.endswith(" from 0 to 1000000, without quotes; a count has no unit")
    (fault,) = faults("[rollover]\nwhen = 7d")
    assert fault.endswith("; a count has no unit; text needs quotes")


@pytest.mark.parametrize("path", [r"C:\logs", r"C:\data\x", "D:\\", r"\\server\share"])
def test_a_lone_backslash_in_quotes_is_refused_with_the_remedy(faults: Faults, path: str) -> None:
    (fault,) = faults(f'[files]\ndirectory = "{path}"')
    assert "single quotes" in fault


def test_a_long_value_is_shown_in_part(faults: Faults) -> None:
    (fault,) = faults(f'[rollover]\nwhen = "{"x" * 1000}"')

    assert fault == f'[rollover] when = "{"x" * 99}...: must be one of S, M, H, midnight, W0-W6, never'


@pytest.mark.parametrize(
    ("frame", "buffered", "accepted"),
    [(100, 399, False), (100, 400, True), (100, 401, True)],
    ids=["below", "at", "above"],
)
def test_the_reserve_is_at_least_four_times_the_largest_frame(
    config: Load, frame: int, buffered: int, accepted: bool
) -> None:
    text = f"[listen]\nmax_frame_bytes = {frame}\nmax_buffered_bytes = {buffered}"

    if accepted:
        assert buffered == config(text).listen.max_buffered_bytes
    else:
        with pytest.raises(ConfigError, match=r"max_buffered_bytes = 399: must be .* max_frame_bytes = 100"):
            config(text)


def test_a_faulty_value_makes_no_contradiction_as_well(faults: Faults) -> None:
    assert 1 == len(faults("[listen]\nmax_frame_bytes = -1\nmax_buffered_bytes = 4"))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[listen]\nhots = 1", "[listen] hots = 1: unknown; did you mean host?"),
        ("[listne]\nport = 1", "[listne]: unknown; did you mean listen?"),
        ("port = 1", "port = 1: unknown; did you mean [listen] port or [admin] port?"),
        ("utc = true", "utc = true: unknown; did you mean [rollover] utc or [format] utc?"),
        (
            "[files]\nmax_bytes = 1",
            "[files] max_bytes = 1: unknown; did you mean [rollover] max_bytes or [quarantine] max_bytes or [spool] max_bytes?",  # noqa: E501 - the same
        ),
        ('[admin]\nname = ["a"]', '[admin] name = ["a"]: unknown; did you mean names or [files] name?'),
        ("[log]\nxyz = 1", "[log] xyz = 1: unknown; remove it, or use one of level, style"),
        (
            "[[logger]]\nname = 'a'\nmax_bytes = 1",
            '[[logger]] "a" max_bytes = 1: unknown; did you mean rollover.max_bytes?',
        ),
        (
            "[[logger]]\nname = 'a'\nrollover.style = 'json'",
            '[[logger]] "a" rollover.style = "json": unknown; did you mean format.style?',
        ),
        (
            "[[logger]]\nname = 'a'\nformat.txt = 'b'",
            '[[logger]] "a" format.txt = "b": unknown; did you mean format.text?',
        ),
        ("[[loger]]\nname = 'a'", 'loger = [{"name": "a"}]: unknown; did you mean logger?'),
        ("rules = []", "rules = []: unknown; did you mean files?"),
        ("listen = 1", "listen = 1: must be a table; write listen.KEY = VALUE"),
        ("[[listen]]\nport = 1", 'listen = [{"port": 1}]: must be a table; write listen.KEY = VALUE'),
        ("[logger]\nname = 'a'", "[logger]: must be tables, each below a [[logger]] of its own"),
        ("logger = ['a']", 'logger = ["a"]: must be tables, each below a [[logger]] of its own'),
        (
            "[[logger]]\nname = 'a'\nrollover = 'H'",
            '[[logger]] "a" rollover = "H": must be a table; write rollover.KEY = VALUE',
        ),
    ],
)
def test_a_misplaced_or_misspelt_key_is_refused_with_the_likely_one(
    faults: Faults, text: str, fault: str
) -> None:
    assert [fault] == faults(text)


# --- Names of files ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "{logger}.log",
        "{client}/{logger}.log",
        "{logger}-{client}.log",
        "{logger}/all.log",
        "apps/{logger}.txt",
        "all.log",
        "log",
        "{logger} (1).日志",
        "{logger}.log.2026-11-22x",
        "{logger}x2026-11-22.log",
        "2026-11-22/{logger}.log",
        "_overflow.log.log",
        "a/_overflow.log",
    ],
)
def test_a_name_of_files_is_accepted(config: Load, name: str) -> None:
    assert name == config(f"[files]\nname = '{name}'").files.name


NO_NAMES = {
    "": "text in quotes, not empty",
    "{logger}": "must end in fixed text; add .log",
    "a.{client}": "must end in fixed text; add .log",
    "{name}.log": "must have no braces but {logger} and {client}",
    "{logger.log": "must have no braces but {logger} and {client}",
    "{{logger}}.log": "must have no braces but {logger} and {client}",
    "{logger!r}.log": "must have no braces but {logger} and {client}",
    "{log{client}ger}.log": "must have no braces but {logger} and {client}",
    "{}.log": "must have no braces but {logger} and {client}",
    "/var/log/{logger}.log": "must lie below the directory",
    "{logger}.log/": "must lie below the directory",
    "{logger}//a.log": "must lie below the directory",
    "../{logger}.log": "must lie below the directory",
    "a/../{logger}.log": "must lie below the directory",
    "a/./{logger}.log": "must lie below the directory",
    "..": "must lie below the directory",
    ".": "must lie below the directory",
    ".{logger}.log": "must lie below the directory",
    "{logger}/.log": "must lie below the directory",
    ".collector.lock": "must lie below the directory",
    "{logger}\\t.log": "must have no tab",
    "{logger}\\n.log": "without newline or control character",
    "{logger}\\u0000.log": "without newline or control character",
    "{logger}\\u0085.log": "without newline or control character",
    "{logger}.2026-11-22": "must not end as backups do",
    "{logger}.log.2026-11-22": "must not end as backups do",
    "{logger}.log.2026-11-22.3": "must not end as backups do",
    "{logger}.log.2026-11-22.gz": "must not end as backups do",
    "{logger}.log.2026-11-22T10-00-00": "must not end as backups do",
    "{logger}.log.2026-11-22T10-00-00.3.gz": "must not end as backups do",
    "all.log.2026-11-22T10-00-00.gz": "must not end as backups do",
    "{logger}.gz": "must not end as backups do",
    "{logger}-11-22": "must not end as backups do",
    "{logger}.1": "must not end as backups do",
    "_overflow.log": "must not be _overflow.log",
    "_overflow.log/{logger}.log": "must not be _overflow.log",
    "{logger}{logger}.log": "must have at most 225 bytes a part",
}


@pytest.mark.parametrize(("name", "rule"), NO_NAMES.items(), ids=map(ascii, NO_NAMES))
def test_a_name_of_files_is_refused(faults: Faults, name: str, rule: str) -> None:
    (fault,) = faults(f'[files]\nname = "{name}"')

    assert fault.startswith("[files] name = ")
    assert rule in fault


@pytest.mark.parametrize(
    "name", ["{logger}.gz", "a/b.log.2026-11-22", "../a.log", "a//b", "_overflow.log", "a{b"]
)
def test_the_file_of_a_rule_is_as_strict_as_the_name_of_files(config: Load, name: str) -> None:
    with pytest.raises(ConfigError):
        config(f"[[logger]]\nname = 'a'\nfile = '{name}'")


@pytest.mark.parametrize("file", ["{logger}.log", "a/{client}.log"])
def test_the_file_of_a_rule_is_fixed_text(faults: Faults, file: str) -> None:
    (fault,) = faults(f"[[logger]]\nname = 'a'\nfile = '{file}'")

    assert "must be fixed text; only [files] name has the fields" in fault


@pytest.mark.parametrize(
    ("name", "accepted"),
    [
        ("x" * 224, True),
        ("x" * 225, True),
        ("x" * 226, False),
        ("é" * 112, True),
        ("é" * 113, False),
        ("{logger}" + "x" * 45, True),
        ("{logger}" + "x" * 46, False),
        ("{client}/" + "x" * 225, True),
        ("{client}/" + "x" * 226, False),
        ("{client}" + "x" * 186, True),
        ("{client}" + "x" * 187, False),
        ("/".join(["x" * 199] * 5) + "/xxxx", True),
        ("/".join(["x" * 199] * 5) + "/xxxxx", True),
        ("/".join(["x" * 199] * 5) + "/xxxxxx", False),
    ],
)
def test_a_name_of_files_leaves_room_for_fields_and_backups(config: Load, name: str, accepted: bool) -> None:
    text = f"[files]\nname = '{name}'"
    if accepted:
        assert name == config(text).files.name
    else:
        with pytest.raises(ConfigError, match="must have at most 225 bytes a part, 1000 in all"):
            config(text)


# --- The text format ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "%(message)s",
        "100 %% %(message)s",
        "%%",
        "%(msecs)03d|%(levelname)-8s|%(lineno)+5d|%(x)#x|%(y) d",
        "%(ratio)10.3f%(name).20s%(a)r%(b)a%(c)c%(e).s",
        "%(request id)s %(a.b-c)s %(größe)s",
        "%(x)1000s%(x).1000s",
        "%(message)s\t%(client)s",
        "no field at all",
    ],
)
def test_a_text_format_is_accepted(config: Load, text: str) -> None:
    assert text == config(f"[format]\ntext = '{text}'").format.text


@pytest.mark.parametrize(
    ("text", "positions"),
    [
        ("%", "1"),
        ("100 % %(message)s", "5"),
        ("%(message)s 100%", "16"),
        ("%s %(message)s", "1"),
        ("%(message)", "1"),
        ("%(message", "1"),
        ("%(message)y", "1"),
        ("%(message)S", "1"),
        ("%()s", "1"),
        ("%(a(b))s", "1"),
        ("%(a)*d", "1"),
        ("%(a).*d", "1"),
        ("%(a)1001d", "1"),
        ("%(a)10000d", "1"),
        ("%(a).1001d", "1"),
        ("%(a)999999999d", "1"),
        ("%(a)ld", "1"),
        ("%(a)٣d", "1"),
        ("%%%", "3"),
        ("%(a)s%d%(b)s%", "6, 13"),
        ("%5%", "1, 3"),
        ("%d" * 10, "1, 3, 5, 7, 9, 11, 13, 15, 17"),
    ],
)
def test_a_text_format_is_refused_and_the_position_told(faults: Faults, text: str, positions: str) -> None:
    (fault,) = faults(f"[format]\ntext = '{text}'")

    assert f"has a stray % at position {positions}; write %% for a percent sign" in fault


@pytest.mark.parametrize(
    "text",
    ["", "a\\nb", "a\\rb", "a\\u0000b", "a\\u001bb", "a\\u007fb", "a\\u0085b", "a\\u2028b", "a\\u2029b"],
)
def test_a_text_format_is_one_line(faults: Faults, text: str) -> None:
    (fault,) = faults(f'[format]\ntext = "{text}"')

    assert "must be text in quotes, not empty, without newline or control character but tab" in fault


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("{message}", ["{message}, did you mean %(message)s?"]),
        (
            "%(asctime)s {levelname:<8} {message!r}",
            ["{levelname:<8}, did you mean %(levelname)s?", "{message!r}"],
        ),
        (
            "$asctime ${message}",
            ["$asctime, did you mean %(asctime)s?", "${message}, did you mean %(message)s?"],
        ),
    ],
)
def test_fields_of_another_style_are_refused_with_what_was_meant(
    faults: Faults, text: str, meant: list[str]
) -> None:
    (fault,) = faults(f"[format]\ntext = '{text}'")
    assert "must have its fields as %(name)s" in fault
    assert all(each in fault for each in meant)


@pytest.mark.parametrize("text", ['{"message": "%(message)s"}', "{%(message)s}", "{cost} $5 %(message)s"])
def test_other_braces_and_dollars_are_text(config: Load, text: str) -> None:
    assert text == config(f"[format]\ntext = '{text}'").format.text


def test_a_text_format_without_the_message_is_odd_wherever_it_is(config: Load) -> None:
    rules = "".join(
        f"[[logger]]\nname = '{name}'\nformat = {{ {form} }}\n"
        for name, form in (
            ("a", "text = '%(name)s'"),
            ("b", "style = 'json'"),
            ("c", "text = '%(msg)s'"),
            ("d", "utc = true"),
        )
    )
    general, own = config(f"[format]\ntext = '%(asctime)s'\n{rules}").oddities()
    assert (
        general == '[format] text = "%(asctime)s": has no %(message)s: no message will be in any file; add it'
    )
    assert own.startswith('[[logger]] "a" format.text = "%(name)s": has no %(message)s')


@pytest.mark.parametrize("datefmt", ["YYYY-MM-DD", "{asctime}", "100 %%"])
def test_a_time_format_without_a_conversion_is_odd_wherever_it_is(config: Load, datefmt: str) -> None:
    rule = "[[logger]]\nname = 'a'\n"
    (general,) = config(f"[format]\ndatefmt = '{datefmt}'\n{rule}").oddities()
    assert general == (
        f'[format] datefmt = "{datefmt}": has no conversion: each line will have this text for its time; '
        "write one, such as %Y-%m-%d %H:%M:%S"
    )
    (own,) = config(f"{rule}format.datefmt = '{datefmt}'\n").oddities()
    assert own.startswith(f'[[logger]] "a" format.datefmt = "{datefmt}": has no conversion: ')


@pytest.mark.parametrize(
    "form", ["style = 'json'", "text = '%(message)s'", "text = '%%(asctime)s %(message)s'"]
)
def test_a_time_format_that_no_line_has_is_not_odd(config: Load, form: str) -> None:
    assert [] == config(f"[format]\ndatefmt = 'YYYY'\n{form}").oddities()


def test_a_misspelt_message_is_named(config: Load) -> None:
    (line,) = config("[format]\ntext = '%(asctime)s %(mesage)s'").oddities()
    assert line.endswith("; is %(mesage)s misspelt?")


@pytest.mark.parametrize(
    "names",
    ['"a"', "[1]", '[""]', '["a:1"]', '["*.example.org"]', '["http://a"]', '["a/b"]', '["a b"]', '["a..b"]'],
)
def test_what_are_no_names_is_refused(faults: Faults, names: str) -> None:
    (fault,) = faults(f"[admin]\nnames = {names}")
    assert ("must be a list of host names in quotes" in fault) == (names != "[1]")


@pytest.mark.parametrize("flag", ["True", "FALSE", "yes", "off", "On  # a comment"])
def test_what_is_almost_true_or_false_is_refused_with_the_remedy(faults: Faults, flag: str) -> None:
    (fault,) = faults(f"[rollover]\ncompress = {flag}")
    assert fault.endswith("; write true or false, in small letters")


@pytest.mark.parametrize("form", ["", "style = 'json'\ntext = '%(name)s'", "text = '%(message).80s'"])
def test_other_formats_are_not_odd(config: Load, form: str) -> None:
    assert [] == config(f"[format]\n{form}").oddities()


@pytest.mark.parametrize(
    ("datefmt", "meant"),
    [
        ("%H:%M:%S.%f", "%f, did you mean %(msecs)03d in text?"),
        ("%S,%L", "%L, did you mean %(msecs)03d in text?"),
        ("%i:%M", "%i, did you mean %I?"),
        ("%Y-%J", "%J, did you mean %j?"),
        ("%H:%M%:z", "%:z, did you mean %z?"),
        ("%Ef", "%Ef, did you mean"),
        ("%H 100%", "%, write %% for a percent sign"),
        ("50% %H", "% , write %% for a percent sign"),
    ],
)
def test_a_conversion_that_does_not_exist_is_refused_with_what_was_meant(
    faults: Faults, datefmt: str, meant: str
) -> None:
    (fault,) = faults(f"[format]\ndatefmt = '{datefmt}'")
    assert fault.startswith(
        f'[format] datefmt = "{datefmt}": must have conversions of strftime alone; it has '
    )
    assert meant in fault


@pytest.mark.parametrize(
    "datefmt",
    [*(f"%{one}" for one in "aAbBcCdDeFgGhHIjklmMpPrRsStTuUVwWxXyYzZ%"), "%-d", "%_H", "%^a", "%Ey", "%Od"],
)
def test_every_conversion_of_c99_and_glibc_is_accepted(config: Load, datefmt: str) -> None:
    assert f"x {datefmt}" == config(f"[format]\ndatefmt = 'x {datefmt}'").format.datefmt


def test_a_text_field_gives_name_flags_width_precision_and_type() -> None:
    fields = [field.groupdict("") for field in TEXT_FIELD.finditer("%% %(msecs)03d %(x)-+12.3f")]

    assert fields == [
        {"name": "", "flags": "", "width": "", "precision": "", "type": ""},
        {"name": "msecs", "flags": "0", "width": "3", "precision": "", "type": "d"},
        {"name": "x", "flags": "-+", "width": "12", "precision": "3", "type": "f"},
    ]


def test_a_doubled_percent_sign_is_a_text_field_without_name() -> None:
    field = TEXT_FIELD.fullmatch("%%")

    assert field is not None
    assert field["name"] is None


@given(st.text(alphabet="%()sd0123456789.*-x aé", max_size=12))
def test_a_text_format_that_is_accepted_formats_numbers(text: str) -> None:
    """Python refuses no conversion that TEXT_FIELD accepts, and makes no more of one than it may."""

    class Numbers(dict[str, int]):
        def __missing__(self, key: str) -> int:
            return 65

    rest = TEXT_FIELD.sub("", text)
    if "%" not in rest:
        assert len(text % Numbers()) <= 12 * 1010


# --- Rules -------------------------------------------------------------------------------------------


def names(config: Config) -> list[str]:
    return [rule.name for rule in config.rules]


def rule(config: Config, name: str) -> Rule:
    return next(rule for rule in config.rules if rule.name == name)


def test_a_rule_is_complete_by_what_holds_in_general(config: Load) -> None:
    text = """
        [files]
        level = "INFO"
        [rollover]
        when = "H"
        [format]
        utc = true
        [[logger]]
        name = "a"
    """
    assert config(text).rules == (Rule("a", 20, "", Rollover(when="H"), Format(utc=True)),)


def test_a_rule_changes_key_by_key(config: Load) -> None:
    text = """
        [rollover]
        when = "H"
        max_bytes = 1000
        [[logger]]
        name = "a"
        rollover = { max_bytes = 2000, compress = true }
        format.style = "json"
        [[logger]]
        name = "b"
        level = 5
        [logger.format]
        newlines = "escape"
    """
    assert config(text).rules == (
        Rule("a", 0, "", Rollover(when="H", max_bytes=2000, compress=True), Format(style="json")),
        Rule("b", 5, "", Rollover(when="H", max_bytes=1000), Format(newlines="escape")),
    )


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_rules_merge_from_shorter_to_longer_names_in_any_order(config: Load, order: tuple[int, ...]) -> None:
    rules = (
        "[[logger]]\nname = 'a'\nlevel = 'INFO'\nfile = 'a.log'\nrollover.when = 'H'\n",
        "[[logger]]\nname = 'a.b'\nlevel = 'ERROR'\nfile = 'b.log'\nrollover.utc = true\n",
        "[[logger]]\nname = 'a.b.c.d'\nfile = 'd.log'\nrollover.max_bytes = 9\nformat.style = 'json'\n",
    )
    assert config("".join(rules[at] for at in order)).rules == (
        Rule("a.b.c.d", 40, "d.log", Rollover(when="H", utc=True, max_bytes=9), Format(style="json")),
        Rule("a.b", 40, "b.log", Rollover(when="H", utc=True), Format()),
        Rule("a", 20, "a.log", Rollover(when="H"), Format()),
    )


def test_a_rule_inherits_its_file(config: Load) -> None:
    text = "[[logger]]\nname = 'a'\nfile = 'x.log'\n[[logger]]\nname = 'a.b'\nlevel = 5\n"

    assert "x.log" == rule(config(text), "a.b").file


def test_an_empty_file_in_a_rule_means_the_name_of_files_again(config: Load) -> None:
    text = "[[logger]]\nname = 'a'\nfile = 'x.log'\n[[logger]]\nname = 'a.b'\nfile = ''\n"

    assert "" == rule(config(text), "a.b").file


def test_a_name_that_only_begins_alike_inherits_nothing(config: Load) -> None:
    text = "[[logger]]\nname = 'pay'\nlevel = 5\n[[logger]]\nname = 'payments'\n"

    assert 0 == rule(config(text), "payments").level


def test_the_rule_of_the_root_logger_is_above_no_other(config: Load) -> None:
    text = "".join(f"[[logger]]\nname = '{name}'\n" for name in ("a", "root.x", "root.x.y"))
    config_ = config(text + "[[logger]]\nname = 'root'\nlevel = 5\n")

    assert {"a": 0, "root.x": 0, "root.x.y": 0, "root": 5} == {
        rule.name: rule.level for rule in config_.rules
    }


def test_a_rule_below_one_named_root_is_above_others_as_any_is(config: Load) -> None:
    text = "[[logger]]\nname = 'root.x'\nlevel = 5\n[[logger]]\nname = 'root.x.y'\n"

    assert 5 == rule(config(text), "root.x.y").level


def test_rules_come_with_the_longest_names_first(config: Load) -> None:
    given = ("b", "a.b", "root", "a", "a.b.c.d", "a.bb")

    actual = names(config("".join(f"[[logger]]\nname = '{name}'\n" for name in given)))

    assert ["a.b.c.d", "a.bb", "root", "a.b", "a", "b"] == actual


@pytest.mark.parametrize("name", ["payments", "a.b", "a b", "é", "a/b", "..a".strip("."), "root", "1"])
def test_the_name_of_a_logger_is_accepted(config: Load, name: str) -> None:
    assert [name] == names(config(f"[[logger]]\nname = '{name}'"))


@pytest.mark.parametrize(
    ("length", "accepted"), [(999, True), (1000, True), (1001, False)], ids=["below", "at", "above"]
)
def test_the_name_of_a_logger_has_up_to_a_thousand_characters(
    config: Load, length: int, accepted: bool
) -> None:
    text = f"[[logger]]\nname = '{'x' * length}'"
    if accepted:
        assert ["x" * length] == names(config(text))
    else:
        with pytest.raises(ConfigError, match="must be the name of a logger"):
            config(text)


@pytest.mark.parametrize("name", ["''", "'.a'", "'a.'", "'a..b'", "'.'", "5", "true", "[]", "['a']"])
def test_the_name_of_no_logger_is_refused_and_the_rule_told_by_its_number(faults: Faults, name: str) -> None:
    (fault,) = faults(f"[[logger]]\nname = 'x'\n[[logger]]\nname = {name}\n")

    assert fault.startswith("[[logger]] number 2 name = ")
    assert fault.endswith(
        "must be the name of a logger in quotes: up to 1000 characters, no dot at an end, no two in a row"
    )


def test_a_rule_without_name_is_refused(faults: Faults) -> None:
    fault = "[[logger]] number 1: has no name; add the logger that it is for"

    assert [fault] == faults("[[logger]]\nlevel = 5")


def test_two_rules_of_one_name_are_refused(faults: Faults) -> None:
    fault = '[[logger]] number 3 name = "a": has a rule already; join the two'

    assert [fault] == faults("[[logger]]\nname = 'a'\n[[logger]]\nname = 'b'\n[[logger]]\nname = 'a'\n")


@pytest.mark.parametrize(
    ("rules", "fault"),
    [
        pytest.param(
            "[[logger]]\nname = 'a'\nfile = 'x.log'\n[[logger]]\nname = 'bb'\nfile = 'x.log'\n"
            "rollover = { when = 'H', utc = true }\n",
            '[[logger]] "bb" file = "x.log": is the same file as [[logger]] "a" file, but differs in '
            "rollover.when, rollover.utc; set these alike, or name another file",
            id="rules-that-name-one-file",
        ),
        pytest.param(
            "[[logger]]\nname = 'a'\nfile = 'x.log'\n[[logger]]\nname = 'a.b'\nformat.style = 'json'\n",
            '[[logger]] "a.b" file = "x.log": is the same file as [[logger]] "a" file, but differs in '
            "format.style; set these alike, or name another file",
            id="a-rule-that-inherits-its-file",
        ),
        pytest.param(
            "[[logger]]\nname = 'a.b'\nrollover.utc = true\n[[logger]]\nname = 'a_b'\n",
            '[[logger]] "a_b" file = "a_b.log": is the same file as [[logger]] "a.b" file, but differs in '
            "rollover.utc; set these alike, or name another file",
            id="names-that-dots-bring-together",
        ),
        pytest.param(
            "[[logger]]\nname = 'a'\nrollover.utc = true\n[[logger]]\nname = 'bb'\nfile = 'a.log'\n",
            '[[logger]] "bb" file = "a.log": is the same file as [[logger]] "a" file, but differs in '
            "rollover.utc; set these alike, or name another file",
            id="the-file-that-another-rule-has-by-its-name",
        ),
        pytest.param(
            "[[logger]]\nname = 'a b'\nrollover.utc = true\n[[logger]]\nname = 'bb'\nfile = 'a%20b.log'\n",
            '[[logger]] "bb" file = "a%20b.log": is the same file as [[logger]] "a b" file, but differs in '
            "rollover.utc; set these alike, or name another file",
            id="the-file-of-a-name-with-an-escape",
        ),
        pytest.param(
            "[files]\nname = 'all.log'\n[[logger]]\nname = 'a'\nformat.style = 'json'\n",
            '[[logger]] "a" file = "all.log": is the same file as [files] name, but differs in format.style; '
            "set these alike, or name another file",
            id="the-one-file-of-everybody",
        ),
        pytest.param(
            "[[logger]]\nname = 'a'\nfile = 'x.txt'\n[[logger]]\nname = 'b'\nfile = 'x.txt/y/b.log'\n",
            '[[logger]] "b" file = "x.txt/y/b.log": lies below the file of [[logger]] "a" file, '
            "which is not a directory; name another file",
            id="a-file-below-a-file",
        ),
        pytest.param(
            "[files]\nname = 'apps/{logger}.log'\n[[logger]]\nname = 'a'\nfile = 'apps'\n",
            '[files] name = "apps/{logger}.log": lies below the file of [[logger]] "a" file, '
            "which is not a directory; name another file",
            id="a-file-where-files-need-a-directory",
        ),
        pytest.param(
            "[[logger]]\nname = 'a'\nfile = 'b.log/a.txt'\n",
            '[[logger]] "a" file = "b.log/a.txt": lies below b.log, which may be the file of a logger; '
            "name another directory",
            id="a-directory-like-the-file-of-a-logger",
        ),
        pytest.param(
            "[files]\ndots = '/'\n[[logger]]\nname = 'a'\nfile = 'b'\n",
            '[[logger]] "a" file = "b": may be the directory of a logger, as dots = "/" makes '
            "directories of names; add .log",
            id="a-file-like-the-directory-of-a-logger",
        ),
        pytest.param(
            "[files]\ndots = '/'\nname = '{logger}/all'\n",
            '[files] name = "{logger}/all": may be the directory of a logger, as dots = "/" makes '
            "directories of names; add .log",
            id="files-like-the-directories-of-loggers",
        ),
    ],
)
def test_files_that_could_not_be_written_are_refused(faults: Faults, rules: str, fault: str) -> None:
    assert [fault] == faults(rules)


def test_a_logger_whose_name_is_escaped_has_a_file_of_its_own(config: Load) -> None:
    config("[[logger]]\nname = 'a/b'\nrollover.utc = true\n[[logger]]\nname = 'bb'\nfile = 'a/b.log'\n")


@pytest.mark.parametrize(
    "rules",
    [
        pytest.param(
            "[[logger]]\nname = 'a'\nfile = 'x.log'\nlevel = 5\n[[logger]]\nname = 'b'\nfile = 'x.log'\n",
            id="one-file-and-two-levels",
        ),
        pytest.param(
            "[[logger]]\nname = 'a'\nfile = 'x.log'\nrollover.when = 'H'\n"
            "[[logger]]\nname = 'b'\nfile = 'x.log'\nrollover.when = 'H'\n",
            id="one-file-in-agreement",
        ),
        pytest.param(
            "[rollover]\nwhen = 'noon'\n[[logger]]\nname = 'a'\nfile = 'x.log'\n"
            "[[logger]]\nname = 'b'\nfile = 'x.log'\nrollover.when = 'Q'\n",
            id="a-rule-with-a-fault-of-its-own",
        ),
        pytest.param(
            "[files]\ndots = '.'\n[[logger]]\nname = 'a.b'\nrollover.utc = true\n[[logger]]\nname = 'a_b'\n",
            id="names-that-dots-keep-apart",
        ),
        pytest.param(
            "[[logger]]\nname = 'a'\nfile = 'other.log'\nrollover.utc = true\n", id="perhaps-a-logger"
        ),
        pytest.param(
            "[files]\ndots = '/'\n[[logger]]\nname = 'a'\nfile = 'b/c.log'\n", id="a-dot-in-the-file"
        ),
        pytest.param("[[logger]]\nname = 'a'\nfile = 'a'\n", id="no-directories-of-loggers"),
    ],
)
def test_files_that_can_be_written_are_no_contradiction(config: Load, rules: str) -> None:
    try:
        config(rules)
    except ConfigError as error:
        assert [] == [fault for fault in error.faults if "must be one of" not in fault]  # noqa: PT017 - or none


# --- The file ----------------------------------------------------------------------------------------


def only_fault(path: str | Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path)
    (fault,) = caught.value.faults
    return fault


def test_a_missing_file_is_one_fault(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"

    assert only_fault(file) == (
        f"{file}: cannot be read: No such file or directory; give the path of a TOML file"
    )


def test_a_directory_is_one_fault(tmp_path: Path) -> None:
    assert only_fault(str(tmp_path)) == (
        f"{tmp_path}: cannot be read: Is a directory; give the path of a TOML file"
    )


def test_a_path_with_nul_is_one_fault() -> None:
    assert "cannot be read: embedded null byte; give the path" in only_fault("a\0b")


def test_a_file_that_is_not_utf8_is_one_fault_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_bytes(b"[listen]\n# caf\xe9\n")

    assert only_fault(file) == f"{file}: line 2: is not UTF-8; save the file in that encoding"


def test_a_byte_order_mark_which_no_editor_shows_is_named(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_bytes(b"\xef\xbb\xbf[listen]\nport = 9020\n")

    assert only_fault(file) == f"{file}: line 1: begins with a byte order mark; save the file without one"


def test_a_file_without_end_is_one_fault() -> None:
    assert only_fault("/dev/zero") == (
        "/dev/zero: is larger than 1048576 bytes; give the path of a TOML file"
    )


@pytest.mark.parametrize(
    ("size", "accepted"), [(-1, True), (0, True), (1, False)], ids=["below", "at", "above"]
)
def test_a_file_is_read_up_to_a_mebibyte(tmp_path: Path, size: int, accepted: bool) -> None:
    file = tmp_path / "c.toml"
    file.write_bytes(b"[files]\n".ljust(MAX_FILE_BYTES + size, b"#"))

    if accepted:
        assert load(None) == load(file)
    else:
        assert f"is larger than {MAX_FILE_BYTES} bytes" in only_fault(file)
