"""The tables [spool] and [[forward]]: what they may say, what it means, what is said if they are wrong."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import TYPE_CHECKING

import pytest

from collector.config.forward_checks import FACILITIES, TYPES
from collector.config.forwards import forward, keys_of
from collector.config.load import ConfigError, load
from collector.config.tables import Config, Files, Forward, Spool
from tests.support.places import MANUAL

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Load = Callable[[str], Config]
    Faults = Callable[[str], list[str]]

SERVERS = dict.fromkeys(("relp", "syslog", "fluent"), "address = 'logs.example.org:2514'")
SERVERS["elasticsearch"] = "url = 'https://es.example.org:9200'"
KEYS = [field.name for field in fields(Forward)]
LISTS = ("urls", "loggers", "exclude")
# What a key needs to stand beside it.
BESIDES = {
    "certificate": "private_key = 'a.key'\nca = 'ca.pem'",
    "private_key": "certificate = 'a.pem'\nca = 'ca.pem'",
    "user": "password_file = 'p'",
    "password_file": "user = 'ann'",
    "max_bytes": "segment_bytes = 65_536",
    "segment_bytes": "max_bytes = 2_147_483_648",
}


def table(kind: str, text: str = "", name: str = "a") -> str:
    """Return a destination that has what its type needs, and *text* below that."""
    return f"[[forward]]\nname = '{name}'\ntype = '{kind}'\n{SERVERS[kind]}\n{text}\n"


def spooled(*tables: str) -> str:
    return "[spool]\n" + "".join(tables)


def with_key(key: str, value: str) -> str:
    """Return a destination of the first type that has *key*, with it."""
    kind = next(kind for kind in TYPES if key in keys_of(kind))
    lines = [f"{key} = {value}", *BESIDES.get(key, "").split("\n")]
    own = {"name": "'a'", "type": f"'{kind}'"}
    lines += [f"{other} = {given}" for other, given in own.items() if other != key]
    if key not in ("url", "urls", "address"):
        lines.append(SERVERS[kind])
    return spooled("[[forward]]\n" + "\n".join(lines))


@pytest.fixture
def only(config: Load) -> Callable[[str], Forward]:
    """Return a function that loads the one destination of a text."""

    def only(text: str) -> Forward:
        (forward,) = config(text).forwards
        return forward

    return only


# --- The defaults and the manual ---------------------------------------------------------------------


def test_the_defaults_of_the_spool_are_those_of_the_contract(config: Load) -> None:
    expected = Spool(directory="", max_bytes=1_073_741_824, segment_bytes=16_777_216, sync_seconds=1)
    assert expected == config("[spool]").spool


def test_the_defaults_of_a_destination_are_those_of_the_contract(only: Callable[[str], Forward]) -> None:
    assert only(spooled(table("elasticsearch"))) == Forward(
        name="a",
        type="elasticsearch",
        url="https://es.example.org:9200",
        urls=(),
        address="",
        loggers=(),
        exclude=(),
        level=0,
        start="end",
        batch_records=2000,
        batch_bytes=5_000_000,
        batch_seconds=1.0,
        timeout_seconds=60,
        max_pause_seconds=60,
        reconnect_seconds=300,
        max_record_bytes=1_000_000,
        dead_letter_bytes=67_108_864,
        compression="gzip",
        ca="",
        certificate="",
        private_key="",
        user="",
        password_file="",
        api_key_file="",
        token_file="",
        proxy="",
        index="collector-%Y.%m.%d",
        pipeline="",
        facility="local0",
        app_name="{logger}",
        window=128,
        tag="collector.{logger}",
        shared_key_file="",
    )


@pytest.mark.parametrize(
    ("kind", "seconds", "size"),
    [("elasticsearch", 1, 1_000_000), ("relp", 0, 8000), ("syslog", 0, 8000), ("fluent", 0, 1_000_000)],
)
def test_a_type_has_defaults_of_its_own(
    only: Callable[[str], Forward], kind: str, seconds: float, size: int
) -> None:
    made = only(spooled(table(kind)))
    assert (seconds, size) == (made.batch_seconds, made.max_record_bytes)
    assert 2.5 == only(spooled(table(kind, "batch_seconds = 2.5"))).batch_seconds
    assert 5000 == only(spooled(table(kind, "max_record_bytes = 5000"))).max_record_bytes


def shown_in_the_manual(header: str) -> dict[str, str]:
    """Return the lines of a table that is a comment in the manual, by their keys."""
    text = MANUAL.read_text(encoding="utf-8")
    section = text[text.index(f"\n# {header}\n") :].partition("\n\n\n")[0]
    return {key: line for line, key in re.findall(r"(?m)^# ((\w+) = .*)$", section)}


def test_the_manual_shows_the_spool_with_its_defaults(config: Load) -> None:
    shown = shown_in_the_manual("[spool]")
    assert [field.name for field in fields(Spool)] == list(shown)
    assert Spool() == config("\n".join(["[spool]", *shown.values()])).spool


@pytest.mark.parametrize("kind", TYPES)
def test_the_manual_shows_each_key_of_a_destination_with_its_default(
    only: Callable[[str], Forward], kind: str
) -> None:
    shown = shown_in_the_manual("[[forward]]")
    assert KEYS == list(shown)
    # Those of other types may not stand here, and these three have other defaults for some.
    kept = set(keys_of(kind)) - {"name", "type", "url", "address", "batch_seconds", "max_record_bytes"}
    made = only(spooled(table(kind, "\n".join(shown[key] for key in shown if key in kept))))
    assert made == only(spooled(table(kind)))


def test_a_destination_made_by_hand_has_the_defaults_of_its_type(only: Callable[[str], Forward]) -> None:
    values = {"name": "a", "type": "relp", "address": "logs.example.org:2514"}
    assert forward(values) == only(spooled(table("relp")))


# --- What is accepted --------------------------------------------------------------------------------


def test_destinations_stand_in_their_order(config: Load) -> None:
    made = config(spooled(*(table(kind, name=f"{kind}_1-x") for kind in TYPES))).forwards
    assert [(f"{kind}_1-x", kind) for kind in TYPES] == [(each.name, each.type) for each in made]


def test_without_a_directory_of_its_own_the_spool_lies_with_the_log_files() -> None:
    files = Files(directory="/var/log/app")
    assert "/var/log/app/.spool" == Config(files=files, spool=Spool()).spool_directory
    assert "/spool" == Config(files=files, spool=Spool(directory="/spool")).spool_directory


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("name", "'elk-2_b'", "elk-2_b"),
        ("name", f"'{'a' * 64}'", "a" * 64),
        ("url", "'http://127.0.0.1:9200'", "http://127.0.0.1:9200"),
        ("url", "'https://[::1]:9200/es/'", "https://[::1]:9200/es/"),
        ("url", "'https://es.example.org'", "https://es.example.org"),
        ("urls", "['https://a:1', 'https://b:2']", ("https://a:1", "https://b:2")),
        ("address", "'127.0.0.1:1'", "127.0.0.1:1"),
        ("address", "'logs:65535'", "logs:65535"),
        ("address", "'[fe80::1%eth0]:514'", "[fe80::1%eth0]:514"),
        ("loggers", "['root', 'a.b']", ("root", "a.b")),
        ("exclude", "['a.b']", ("a.b",)),
        ("level", "'warning'", 30),
        ("level", "25", 25),
        ("start", "'oldest'", "oldest"),
        ("batch_seconds", "0.5", 0.5),
        ("compression", "'none'", "none"),
        ("proxy", "'http://proxy:3128'", "http://proxy:3128"),
        ("index", "'logs-collector-default'", "logs-collector-default"),
        ("index", "'a-%F'", "a-%F"),
        ("index", "'.a_%G.%V.%u'", ".a_%G.%V.%u"),
        ("index", "'%Y-%j'", "%Y-%j"),
        ("pipeline", "'geo ip'", "geo ip"),
        ("facility", "'kern'", "kern"),
        ("facility", "'local7'", "local7"),
        ("app_name", "'shop/{logger}'", "shop/{logger}"),
        ("app_name", f"'{'a' * 48}'", "a" * 48),
        ("tag", "'app.{logger}.log'", "app.{logger}.log"),
        ("user", "'Ann Lee'", "Ann Lee"),
        ("ca", "'ca.pem'", "ca.pem"),
        ("certificate", "'a.pem'", "a.pem"),
        ("token_file", "'/run/secrets/token'", "/run/secrets/token"),
        ("api_key_file", "'key'", "key"),
        ("shared_key_file", "'key'", "key"),
    ],
)
def test_a_value_is_accepted(only: Callable[[str], Forward], key: str, value: str, expected: object) -> None:
    assert expected == getattr(only(with_key(key, value)), key)


@pytest.mark.parametrize(
    ("address", "expected"),
    [("logs.example.org:2514", ("logs.example.org", 2514)), ("[::1]:514", ("::1", 514))],
)
def test_an_address_is_a_host_and_a_port(
    only: Callable[[str], Forward], address: str, expected: tuple[str, int]
) -> None:
    assert expected == only(with_key("address", f"'{address}'")).host_and_port


def test_the_facilities_stand_at_their_numbers() -> None:
    """RFC 5424, table 1."""
    assert [0, 3, 10, 16, 23] == [
        FACILITIES.index(name) for name in ("kern", "daemon", "authpriv", "local0", "local7")
    ]
    assert 24 == len(set(FACILITIES))


LIMITS = [
    ("batch_records", 1, 10_000),
    ("batch_bytes", 1, 100_000_000),
    ("batch_seconds", 0, 86_400),
    ("timeout_seconds", 1, 86_400),
    ("max_pause_seconds", 1, 86_400),
    ("reconnect_seconds", 1, 86_400),
    ("max_record_bytes", 480, 100_000_000),
    ("dead_letter_bytes", 4096, 2**40),
    ("window", 1, 10_000),
]
SPOOL_LIMITS = [
    ("max_bytes", 131_072, 2**63 - 1),
    ("segment_bytes", 65_536, 2**30),
    ("sync_seconds", 0, 86_400),
]


@pytest.mark.parametrize(("key", "low", "high"), LIMITS)
def test_a_number_of_a_destination_is_within_its_limits(
    only: Callable[[str], Forward], faults: Faults, key: str, low: int, high: int
) -> None:
    for value in (low, low + 1, high - 1, high):
        assert value == getattr(only(with_key(key, str(value))), key)
    for value in (low - 1, high + 1):
        (fault,) = faults(with_key(key, str(value)))
        assert fault.startswith(f'[[forward]] "a" {key} = {value}: must be a ')
        assert fault.endswith(f" from {low} to {high}, without quotes")


@pytest.mark.parametrize(("key", "low", "high"), SPOOL_LIMITS)
def test_a_number_of_the_spool_is_within_its_limits(
    config: Load, faults: Faults, key: str, low: int, high: int
) -> None:
    besides = BESIDES.get(key, "")
    for value in (low, low + 1, high - 1, high):
        assert value == getattr(config(f"[spool]\n{key} = {value}\n{besides}").spool, key)
    for value in (low - 1, high + 1):
        (fault,) = faults(f"[spool]\n{key} = {value}\n{besides}")
        assert fault.startswith(f"[spool] {key} = {value}: must be a ")
        assert fault.endswith(f" from {low} to {high}, without quotes")


# --- What is refused ---------------------------------------------------------------------------------


def test_all_faults_are_told_at_once(faults: Faults) -> None:
    text = """
        [[forward]]
        name = "elk"
        type = "opensearch"
        pasword_file = "p"
        level = "LOUD"
        [[forward]]
        name = "elk"
        type = "relp"
        address = "logs.example.org"
        batch_records = 10_001
        index = "a"
        [[forward]]
        type = "fluent"
        user = "ann"
        [[forward]]
        name = "ELK"
    """
    expected = [
        "[spool]: is needed where there is a [[forward]]; add a line [spool]",
        '[[forward]] "elk" type = "opensearch": must be one of elasticsearch, relp, syslog, fluent; did you mean elasticsearch?',  # noqa: E501 - as it is shown
        '[[forward]] "elk" pasword_file = "p": unknown; did you mean password_file?',
        '[[forward]] "elk" level = "LOUD": must be one of NOTSET, DEBUG, INFO, WARNING, WARN, ERROR, CRITICAL, FATAL, or a whole number from 0 up, without quotes',  # noqa: E501 - the same
        '[[forward]] number 2 address = "logs.example.org": must be a host and a port from 1 to 65535, such as "logs.example.org:2514" or "[::1]:2514"',  # noqa: E501 - the same
        "[[forward]] number 2 batch_records = 10001: must be a whole number from 1 to 10000, without quotes",
        '[[forward]] number 2 name = "elk": is that of another destination; choose a name of its own',
        '[[forward]] number 2 index = "a": is for elasticsearch, not for relp; remove it',
        "[[forward]] number 3: has no name; add it",
        '[[forward]] number 3: has no address; add address = "HOST:PORT"',
        '[[forward]] number 3 user = "ann": needs password_file, the file of that user\'s password; add it',
        '[[forward]] number 3 user = "ann": needs shared_key_file, without which no server asks for a user; add it',  # noqa: E501 - the same
        '[[forward]] number 4 name = "ELK": must be 1 to 64 of the characters a-z, 0-9, _ and -, in quotes',
        "[[forward]] number 4: has no type; add one of elasticsearch, relp, syslog, fluent",
    ]
    assert expected == faults(text)


@pytest.mark.parametrize("key", KEYS)
def test_a_value_of_the_wrong_type_is_refused_for_every_key(faults: Faults, key: str) -> None:
    for value in ("{}", '["a", ""]', "nan", "true", '"\\u0007"'):
        (fault, *_) = faults(with_key(key, value))
        assert f" {key} = " in fault
        assert ": must be " in fault


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "''"),
        ("name", f"'{'a' * 65}'"),
        ("name", "'a.b'"),
        ("name", "'é'"),
        ("type", "''"),
        ("type", "'Relp'"),
        ("url", "''"),
        ("url", "'es.example.org:9200'"),
        ("url", "'ftp://es.example.org'"),
        ("url", "'https://'"),
        ("url", "'https://a b'"),
        ("url", "'https://a:0'"),
        ("url", "'https://a:65536'"),
        ("url", "'https://[::1'"),
        ("url", "'https://a/?b=c'"),
        ("url", "'https://a/#b'"),
        ("urls", "'https://a'"),
        ("urls", "['https://a', 'b']"),
        ("address", "''"),
        ("address", "'logs.example.org'"),
        ("address", "'::1:514'"),
        ("address", "'[logs]:514'"),
        ("address", "'logs:0'"),
        ("address", "'logs:65536'"),
        ("address", "'tcp://logs:514'"),
        ("address", "'lo gs:514'"),
        ("loggers", "['a.']"),
        ("exclude", "'a'"),
        ("start", "'newest'"),
        ("compression", "'zstd'"),
        ("proxy", "'https://proxy:3128'"),
        ("proxy", "'proxy:3128'"),
        ("facility", "'LOCAL0'"),
        ("facility", "16"),
        ("app_name", "''"),
        ("app_name", f"'{'a' * 49}'"),
        ("app_name", "'my app'"),
        ("app_name", "'café'"),
        ("app_name", "'{name}'"),
        ("tag", "''"),
        ("tag", "'my tag'"),
        ("tag", "'{client}'"),
        ("user", "'ann:b'"),
    ],
)
def test_a_value_is_refused(faults: Faults, key: str, value: str) -> None:
    (fault, *_) = faults(with_key(key, value))
    assert f" {key} = " in fault
    assert ": must be " in fault


@pytest.mark.parametrize(
    ("key", "path"),
    [(key, path) for key in KEYS if key.endswith("_file") for path in ("~/a", "$HOME/a")]
    + [(key, "~/a") for key in ("ca", "certificate", "private_key")],
)
def test_what_a_shell_would_have_expanded_is_refused(faults: Faults, key: str, path: str) -> None:
    (fault,) = faults(with_key(key, f"'{path}'"))
    assert fault.endswith("~ and $NAME mean nothing here")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("opensearch", "elasticsearch"),
        ("Elastic", "elasticsearch"),
        ("rsyslog", "syslog"),
        ("fluentd", "fluent"),
        ("fluent-bit", "fluent"),
    ],
)
def test_an_unknown_type_is_answered_with_the_nearest(faults: Faults, given: str, meant: str) -> None:
    (fault,) = faults(with_key("type", f"'{given}'"))
    assert fault.endswith(f"must be one of elasticsearch, relp, syslog, fluent; did you mean {meant}?")


@pytest.mark.parametrize("given", ["kafka", "otlp"])
def test_a_type_like_no_other_is_answered_with_all(faults: Faults, given: str) -> None:
    (fault,) = faults(with_key("type", f"'{given}'"))
    assert fault.endswith("must be one of elasticsearch, relp, syslog, fluent")


@pytest.mark.parametrize(
    "index",
    [*("a-%Y", "a-%Y.%m", "a-%d", "a-%m.%d", "a-%G.%V", "a-%%", "a-%f"), "a-%F-%H", "a-%Y.%m.%d.%M", "a-%s"],
)
def test_an_index_with_conversions_is_one_a_day(faults: Faults, index: str) -> None:
    (fault,) = faults(with_key("index", f"'{index}'"))
    assert fault.startswith(f'[[forward]] "a" index = "{index}": must give each day one index')
    assert fault.endswith("as collector-%Y.%m.%d does; or have no %, for a data stream")


@pytest.mark.parametrize(
    "index",
    ["Logs", "a-%d.%b.%Y", "_a", "-a", "+a", "..", "a b", "a/b", "a,b", "a:b", "a*", "é", "<a-%F>", "%F%%"],
)
def test_the_name_of_an_index_is_one_that_engines_take(faults: Faults, index: str) -> None:
    (fault,) = faults(with_key("index", f"'{index}'"))
    assert ": must make a name of a-z, 0-9 and -._+, a letter or digit first" in fault


@pytest.mark.parametrize(("length", "accepted"), [(253, True), (254, True), (255, False)])
def test_the_name_of_an_index_has_up_to_255_characters(
    only: Callable[[str], Forward], length: int, accepted: bool
) -> None:
    text = with_key("index", f"'.{'a' * length}'")
    if accepted:
        assert only(text).index
    else:
        with pytest.raises(ConfigError, match="of up to 255 characters"):
            only(text)


# --- What does not fit together ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "kind"), [(key, kind) for kind in TYPES for key in KEYS if key not in keys_of(kind)]
)
def test_a_key_of_another_type_is_refused_with_the_remedy(faults: Faults, key: str, kind: str) -> None:
    value = {"window": "1", "compression": "'none'", "facility": "'user'", "address": "'a:1'"}.get(key, "'x'")
    value = {"url": "'https://a'", "urls": "['https://a']", "proxy": "'http://a'"}.get(key, value)
    (fault,) = faults(spooled(table(kind, f"{key} = {value}")))
    assert f", not for {kind}; " in fault
    remedy = {"url": "write address", "urls": "write address", "address": "write url"}.get(key, "remove it")
    assert fault.endswith(remedy)


def test_the_keys_that_only_some_types_have_are_those_of_the_contract() -> None:
    common = set.intersection(*(set(keys_of(kind)) for kind in TYPES))
    credentials = {"user", "password_file"}
    assert {kind: set(keys_of(kind)) - common for kind in TYPES} == {
        "elasticsearch": credentials
        | {"url", "urls", "api_key_file", "token_file", "proxy", "index", "pipeline", "compression"},
        "relp": {"address", "facility", "app_name", "window"},
        "syslog": {"address", "facility", "app_name", "window"},
        "fluent": credentials | {"address", "tag", "shared_key_file", "compression"},
    }


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [
        ("elasticsearch", 'has no url; add url = "https://HOST:PORT"'),
        *((kind, 'has no address; add address = "HOST:PORT"') for kind in ("relp", "syslog", "fluent")),
    ],
)
def test_a_destination_without_a_server_is_refused(faults: Faults, kind: str, remedy: str) -> None:
    text = f"[spool]\n[[forward]]\nname = 'a'\ntype = '{kind}'\n"
    assert [f'[[forward]] "a": {remedy}'] == faults(text)
    if kind == "elasticsearch":
        assert [f'[[forward]] "a": {remedy}'] == faults(f"{text}urls = []")


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (
            "elasticsearch",
            "urls = ['https://b']",
            'url = "https://es.example.org:9200": names a server as urls does; remove one of the two',
        ),
        ("relp", "certificate = 'c'\nca = 'ca'", 'certificate = "c": needs private_key, its key; add it'),
        ("relp", "private_key = 'k'", 'private_key = "k": needs certificate, which it is the key of; add it'),
        (
            "fluent",
            "certificate = 'c'\nprivate_key = 'k'",
            'certificate = "c": needs ca, which makes the connection TLS and says whom to trust; add it',
        ),
        (
            "elasticsearch",
            "user = 'ann'",
            'user = "ann": needs password_file, the file of that user\'s password; add it',
        ),
        (
            "elasticsearch",
            "password_file = 'p'",
            'password_file = "p": needs user, whose password it is; add it',
        ),
        (
            "elasticsearch",
            "token_file = 't'\napi_key_file = 'k'",
            'token_file = "t": is one way to be known there, api_key_file another; remove one of the two',
        ),
        (
            "elasticsearch",
            "user = 'ann'\npassword_file = 'p'\ntoken_file = 't'",
            'token_file = "t": is one way to be known there, user another; remove one of the two',
        ),
        (
            "fluent",
            "user = 'ann'\npassword_file = 'p'",
            'user = "ann": needs shared_key_file, without which no server asks for a user; add it',
        ),
        (
            "relp",
            "loggers = ['a', 'b']\nexclude = ['b']",
            'exclude = ["b"]: has b, as loggers has; remove it from one of the two',
        ),
    ],
)
def test_a_contradiction_is_refused_with_the_remedy(
    faults: Faults, kind: str, text: str, expected: str
) -> None:
    assert [f'[[forward]] "a" {expected}'] == faults(spooled(table(kind, text)))


@pytest.mark.parametrize("server", ["url = 'http://a'", "urls = ['https://b', 'http://a']"])
def test_what_is_for_tls_is_refused_where_a_server_is_asked_without(faults: Faults, server: str) -> None:
    text = f"[spool]\n[[forward]]\nname = 'a'\ntype = 'elasticsearch'\n{server}\nca = 'ca.pem'"
    fault = '[[forward]] "a" ca = "ca.pem": is for TLS, and there is a URL with http://; write https://'
    assert [fault] == faults(text)


def test_a_faulty_value_makes_no_contradiction_as_well(faults: Faults) -> None:
    pair = "certificate = 'c'\nprivate_key = 5\nca = 'ca'"
    assert 1 == len(faults(spooled(table("relp", pair))))
    assert 1 == len(faults("[spool]\n[[forward]]\nname = 'a'\ntype = 'relp'\naddress = ''"))
    assert 1 == len(faults(f"spool = 5\n{table('relp')}"))
    assert 1 == len(faults("[spool]\nmax_bytes = 131_072\nsegment_bytes = -1"))


def test_there_is_one_fault_however_many_destinations_lack_the_spool(faults: Faults) -> None:
    fault = "[spool]: is needed where there is a [[forward]]; add a line [spool]"
    assert [fault] == faults(table("relp", name="a") + table("fluent", name="b"))


@pytest.mark.parametrize(
    ("size", "accepted"), [(131_071 * 2, False), (131_072 * 2, True), (131_073 * 2, True)]
)
def test_the_spool_has_room_for_two_segments(faults: Faults, config: Load, size: int, accepted: bool) -> None:
    text = f"[spool]\nsegment_bytes = 131_072\nmax_bytes = {size}"
    rule = "must be at least twice segment_bytes = 131072; raise it to 262144"
    if accepted:
        assert config(text).spool
    else:
        assert [f"[spool] max_bytes = {size}: {rule}"] == faults(text)


@pytest.mark.parametrize("directory", ["logs", "./logs/", "a/../logs"])
def test_the_spool_is_not_the_directory_of_the_log_files(faults: Faults, directory: str) -> None:
    (fault,) = faults(f"[spool]\ndirectory = '{directory}'")
    assert fault.endswith('is the directory of the log files; choose another, or "" for .spool in it')


@pytest.mark.parametrize("key", ["password", "token", "api_key", "shared_key", "Secret"])
def test_a_secret_in_the_file_is_refused_and_not_shown(faults: Faults, key: str) -> None:
    (fault,) = faults(spooled(table("fluent", f"{key} = 'hunter2'")))
    assert fault.startswith(f'[[forward]] "a" {key} = "***": unknown; ')


@pytest.mark.parametrize(
    "server",
    [
        f"url = 'https://ann:hunter2{'x' * 100}@es.example.org'",
        "url = 'https://ann:hunter2/@es.example.org'",
        "urls = ['https://a', 'https://ann:hunter2@b']",
        "url = 'https://a'\nproxy = 'http://ann:hunter2@b'",
        "url = 'ann:hunter2@b'",
    ],
)
def test_a_secret_in_a_url_is_refused_and_not_shown(faults: Faults, server: str) -> None:
    (fault,) = faults(f"[spool]\n[[forward]]\nname = 'a'\ntype = 'elasticsearch'\n{server}")
    assert "hunter2" not in fault
    assert "***@" in fault


def test_a_destination_with_a_fault_does_not_spoil_the_others(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(spooled(table("relp", "window = 0", "a"), table("fluent", "", "b")))
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert caught.value.config
    assert ["b"] == [each.name for each in caught.value.config.forwards]
    assert {('[[forward]] "a"', "window")} == caught.value.unsure


@pytest.mark.parametrize(
    "line", ["name = elk", "type = relp", "address = logs:514", "private_key = key.pem", "address: logs:514"]
)
def test_of_a_destination_with_a_line_that_is_no_toml_only_the_line_is_told(
    tmp_path: Path, line: str
) -> None:
    key = re.split("[ :]", line)[0]
    rest = [each for each in table("relp").split("\n") if not each.startswith(f"{key} =")]
    file = tmp_path / "c.toml"
    file.write_text("\n".join(["[spool]", *rest, line, ""]), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(file)
    (fault,) = caught.value.faults
    assert f'"{line}" is no [table]' in fault
    assert caught.value.config
    assert () == caught.value.config.forwards


# --- Which records it wants --------------------------------------------------------------------------


def wants(logger: str, level_of_record: int = 20, **settings: object) -> bool:
    values = {"name": "a", "type": "relp", "address": "a:1", **settings}
    return forward(values).wants(logger, level_of_record)


@pytest.mark.parametrize("logger", ["root", "", "a", "a.b.c"])
def test_without_lists_it_wants_every_logger(logger: str) -> None:
    assert wants(logger)


@pytest.mark.parametrize(
    ("logger", "wanted"),
    [("a", True), ("a.b", True), ("a.b.c", True), ("ab", False), ("b", False), ("", False)],
)
def test_it_wants_the_loggers_that_are_listed_and_those_below(logger: str, wanted: bool) -> None:
    assert wanted == wants(logger, loggers=("x.y", "a"))
    assert wanted != wants(logger, exclude=("x.y", "a"))


@pytest.mark.parametrize(
    ("logger", "wanted"),
    [
        *(("web", True), ("web.errors", True), ("other", False)),
        *(("web.access", False), ("web.access.slow", False), ("web.access.slow.a", False)),
        *(("web.access.fast", True), ("web.access.fast.x", True)),
    ],
)
def test_the_longest_name_decides(logger: str, wanted: bool) -> None:
    assert wanted == wants(logger, loggers=("web", "web.access.fast"), exclude=("web.access",))


def test_root_is_the_root_logger_alone() -> None:
    assert [True, False, False] == [wants(logger, loggers=("root",)) for logger in ("root", "root.x", "a")]
    assert [False, True, True] == [wants(logger, exclude=("root",)) for logger in ("root", "root.x", "a")]


def test_it_wants_records_from_its_level_on() -> None:
    assert [False, True, True] == [wants("a", level, level=30) for level in (29, 30, 31)]


def test_a_list_and_a_level_must_both_let_a_record_through() -> None:
    assert not wants("b", 40, level=30, loggers=("a",))
    assert not wants("a", 20, level=30, loggers=("a",))
