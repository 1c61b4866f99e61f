from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from collector.config import environment
from collector.config.holding import holding
from collector.config.load import load, settings
from tests.support.places import MANUAL

if TYPE_CHECKING:
    from pathlib import Path

FILE = """\
listen.tls = { certificate = "x.pem" }
[files]
mode = "600"
level = "warn"

[admin]
token = "s3cret"
names = ["a.example", "b.example"]
[retention]
max_age_days = 0.00001
[format]
text = '%(message)s "\\	é'
[spool]
[[logger]]
name = "a.b"
rollover = { utc = true }
[[logger]]
name = "a"
level = 25
format.utc = true
[logger.rollover]
when = "H"
[[logger]]
name = "root"
file = "r.log"
[[logger]]
name = "root.x"
[[forward]]
name = "elk"
type = "elasticsearch"
urls = ["http://a:9200", "http://b:9200"]
[[forward]]
name = "away"
type = "relp"
address = "[::1]:2514"
"""


@pytest.fixture(autouse=True)
def without_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in environment.ours(os.environ):
        monkeypatch.delenv(name)


def shown(path: Path | None) -> str:
    return "\n".join(holding(settings(path), str(path or ""))) + "\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "c.toml"
    file.write_text(FILE, encoding="utf-8")
    return file


def test_read_again_it_means_the_same_but_for_secrets(tmp_path: Path, file: Path) -> None:
    again = tmp_path / "again.toml"
    again.write_text(shown(file).replace("***", "s3cret"), encoding="utf-8")
    assert load(file) == load(again)


@pytest.mark.parametrize("path", [None, MANUAL])
def test_the_defaults_read_again_are_the_defaults(tmp_path: Path, path: Path | None) -> None:
    again = tmp_path / "again.toml"
    again.write_text(shown(path), encoding="utf-8")
    assert load(None) == load(again)


def test_each_value_says_where_it_comes_from(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLLECTOR__LISTEN__PORT", "9510")
    monkeypatch.setenv("COLLECTOR__FORMAT__DATEFMT", "%X")
    text = shown(file)
    values = [line for line in text.splitlines() if not re.match(r"\[|# no table|\Z", line)]
    assert [] == [line for line in values if "  # from " not in line]
    assert "port = 9510  # from environment: COLLECTOR__LISTEN__PORT\n" in text
    assert f'tls.certificate = "x.pem"  # from {file}, line 1\n' in text
    assert 'tls.private_key = "server.key"  # from default\n' in text
    assert f'mode = "0600"  # from {file}, line 3\n' in text
    assert f'level = "WARNING"  # from {file}, line 4\n' in text
    assert f"max_age_days = 0.00001  # from {file}, line 10\n" in text


def test_a_rule_has_the_place_of_each_value_that_it_has_from_above(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLLECTOR__FORMAT__DATEFMT", "%X")
    rules = dict(re.findall(r'\[\[logger\]\]\nname = "(.*?)"(.*?)(?=\n\n|\Z)', shown(file), re.DOTALL))
    assert ["a", "a.b", "root", "root.x"] == sorted(rules)
    assert f"level = 25  # from {file}, line 19\n" in rules["a.b"]
    assert f"rollover.utc = true  # from {file}, line 16\n" in rules["a.b"]
    assert f'rollover.when = "H"  # from {file}, line 22\n' in rules["a.b"]
    assert f"format.utc = true  # from {file}, line 20\n" in rules["a.b"]
    assert 'format.datefmt = "%X"  # from environment: COLLECTOR__FORMAT__DATEFMT\n' in rules["a.b"]
    assert f'level = "WARNING"  # from {file}, line 4\n' in rules["root"]
    assert f'file = "r.log"  # from {file}, line 25\n' in rules["root"]
    assert 'file = ""  # from default\n' in rules["root.x"], "what holds for root holds for root alone"


def test_a_destination_has_the_keys_and_the_defaults_of_its_type(file: Path) -> None:
    elk, away = shown(file).split("[[forward]]")[1:]
    assert f'urls = ["http://a:9200", "http://b:9200"]  # from {file}, line 31\n' in elk
    assert "address" not in elk
    assert "max_record_bytes = 8000  # from default\n" in away
    assert "urls" not in away


def test_secrets_are_not_shown(file: Path) -> None:
    text = shown(file)
    assert "s3cret" not in text
    assert f'token = "***"  # from {file}, line 7\n' in text
    assert 'token_file = ""  # from default\n' in text


def test_a_table_that_is_absent_is_said_to_be() -> None:
    text = shown(None)
    for table in ("# no table [admin]", "# no table [spool]", "# no table [listen.tls]"):
        assert f"\n{table}\n" in text


def test_the_name_of_the_file_breaks_no_line(tmp_path: Path) -> None:
    file = tmp_path / "a\nb\x1b.toml"
    file.write_text("[listen]\nport = 1\n")
    assert f"port = 1  # from {tmp_path}/a\\nb\\x1b.toml, line 2\n" in shown(file)
