"""Records of log files that are left out."""

from __future__ import annotations

import json
import re
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from collector.config.load import load
from collector.readback.follow import Follower
from tests.support.logs import BEGIN, TRACEBACK, Logs, five_files_and_twenty_backups, text

if TYPE_CHECKING:
    from pathlib import Path


def last_words(output: str) -> list[str]:
    return [line.split()[-1] for line in output.splitlines() if line.startswith("[")]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--since", "10m"], {"boom", "full", "odd", "debugged", "kept"}),
        (["--since", "3h"], {"old", "boom", "full", "odd", "debugged", "kept"}),
        (["--since", "1s"], set()),
        (["--level", "WARNING"], {"boom", "full", "kept"}),
        (["--level", "15"], {"old", "boom", "full", "odd", "kept"}),
        (["--logger", "shop"], {"old", "boom", "full", "odd"}),
        (["--logger", "shop.cart"], {"full", "odd"}),
        (["--grep", "ValueError"], {"boom"}),
        (["--grep", "^.2.*(old|full)$"], {"old", "full"}),
        (["--level", "error", "--logger", "shop", "--since", "1d", "--grep", "b.om"], {"boom"}),
    ],
    ids=" ".join,
)
def test_filters_leave_out_what_they_say(mixed: Logs, arguments: list[str], expected: set[str]) -> None:
    output = mixed.tail(*arguments)
    assert expected == set(last_words(output))
    assert ("boom" in expected) == (TRACEBACK in output)


def test_without_a_time_in_the_format_each_line_is_filtered(tmp_path: Path) -> None:
    logs = Logs(tmp_path, '[format]\ntext = "%(name)s %(levelname)s %(message)s"')
    logs.write("b.log", "b INFO 1\nb ERROR 2\n")
    assert "b ERROR 2\n" == logs.run("--level", "ERROR", "--logger", "b").stdout
    config = load(logs.config)
    with closing(Follower(config, [])) as follower:
        assert [b"b INFO 1", b"b ERROR 2"] == [record for _, record, _ in follower.poll()]


def test_a_message_may_be_what_elsewhere_stands_for_an_absent_value(tmp_path: Path) -> None:
    logs = Logs(tmp_path, '[format]\ntext = "%(asctime)s %(threadName)s %(message)s"')
    logs.write("b.log", "2026-11-22 10:00:00 - -\n")
    fields = json.loads(logs.tail("--json"))
    assert ("-", False) == (fields.get("message"), "thread_name" in fields)


@pytest.mark.slow
@pytest.mark.parametrize(
    "pattern", ["^.2026", "1$", r"\d7$", "ValueError", r"\AT|x", r"\s4 1\d\d\n", "7 \\d 3.\nT", "$"]
)
def test_what_is_found_in_blocks_is_what_is_found_in_each_record(logs: Logs, pattern: str) -> None:
    expected = [
        record
        for record in five_files_and_twenty_backups(logs, text, 1)
        if re.search(pattern, record.removesuffix("\n"))
    ]
    assert "".join(expected) == logs.tail("--grep", pattern)


def test_the_last_of_what_a_filter_leaves(mixed: Logs) -> None:
    assert ["boom"] == last_words(mixed.tail("-n", "1", "--grep", "old|boom"))
    assert 2 == len(last_words(mixed.tail("-n", "2", "--logger", "shop")))


def test_a_logger_that_lines_do_not_tell_is_found_by_its_files(tmp_path: Path) -> None:
    rule = '[[logger]]\nname = "shop.pay"\nfile = "money/all.log"'
    logs = Logs(tmp_path, f'[format]\nutc = true\ntext = "[%(asctime)s]: %(message)s"\n{rule}')
    for name in ("shop.log", "shop_cart.log.2026-11-20.gz", "shopping.log", "money/all.log"):
        logs.write(name, f"[2026-11-22 10:00:00]: {name}\n")
    lines = logs.tail("--logger", "shop").splitlines()
    assert {"shop.log", "shop_cart.log.2026-11-20.gz", "money/all.log"} == {
        line.split()[-1] for line in lines
    }


def test_levels_that_lines_do_not_tell_are_an_error_that_names_the_remedy(tmp_path: Path) -> None:
    result = Logs(tmp_path, '[format]\ntext = "%(asctime)s %(message)s"').run("--level", "INFO")
    assert (2, "") == (result.returncode, result.stdout)
    assert "add %(levelname)s to it" in result.stderr


def test_levels_in_lines_are_known_in_any_case(logs: Logs) -> None:
    names = ("debug", "Info", "warn", "ERROR", "Fatal", "notice")
    logs.write("a.log", "".join(text(BEGIN, "a", name, name) for name in names))
    assert ["warn", "ERROR", "Fatal", "notice"] == last_words(logs.tail("--level", "Warning"))
