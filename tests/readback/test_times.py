"""When a record of a log file was made, as far as its line tells."""

from __future__ import annotations

import json
import re
import string
import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest

from collector.config.checks import time_format
from collector.readback.times import TimeFormat
from tests.support.logs import BEGIN, UTC, Logs, as_json, text

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("line", "datefmt"),
    [
        ("[%(asctime)s]: %(message)s", "%d/%b/%Y:%H:%M:%S"),
        ("%(levelname)-8s %(asctime)s,%(msecs)03d %(message)s", "%Y-%m-%d %H:%M:%S"),
        ("%(asctime)s.%(msecs)03d %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S"),
        ("50%% %(asctime)s %(message)s", "%y%m%d %I:%M:%S %p %z"),
        ("%(message)s %(asctime)s", "%F %T"),
        ("%(asctime)25s|%(message)s", "%A %d %B %Y %H.%M.%S"),
        ("%(asctime)s %(name)s %(levelname)s %(message)s", "%c"),
        ("%(name)s %(asctime)s %(levelname)s %(message)s", "%x %X"),
        ("%(message)s at %(asctime)s", "%D %r"),
    ],
)
def test_the_time_is_found_wherever_the_format_puts_it(tmp_path: Path, line: str, datefmt: str) -> None:
    logs = Logs(tmp_path, f"[format]\nutc = true\ntext = '{line}'\ndatefmt = '{datefmt}'")
    files: dict[str, str] = {"a": "", "b": ""}
    expected = []
    for number in range(30):
        when = BEGIN + timedelta(days=17 * number, seconds=number)
        fields = {
            "asctime": when.strftime(datefmt),
            "msecs": number,
            "name": "a",
            "levelname": "INFO",
            "message": f"m{number}",
        }
        expected.append(line % fields + "\n")
        files["ab"[number % 3 == 0]] += expected[-1]
    for name, contents in files.items():
        logs.write(f"{name}.log", contents)
    assert "".join(expected) == logs.tail()


def test_local_times_and_json_are_merged_by_the_instant(tmp_path: Path) -> None:
    rule = '[[logger]]\nname = "j"\nfile = "j.log"\nformat = { style = "json" }'
    logs = Logs(tmp_path, rule)
    logs.write(
        "a.log", text(BEGIN + timedelta(hours=1), "a", "INFO", "first")
    )  # as a clock in Berlin shows it
    logs.write("j.log", as_json(BEGIN + timedelta(seconds=1), "j", "INFO", "second"))
    assert ["first", "second"] == re.findall("first|second", logs.tail(TZ="Europe/Berlin"))


@pytest.mark.slow
@pytest.mark.parametrize("datefmt", ["%m-%d %H:%M:%S", "%b %e %H:%M:%S", "%a %d %h %T", "%j %T"])
def test_without_a_year_the_nearest_to_the_last_write_is_taken(tmp_path: Path, datefmt: str) -> None:
    logs = Logs(tmp_path, f"[format]\nutc = true\ntext = '%(asctime)s %(message)s'\ndatefmt = '{datefmt}'")
    # Over the end of a year, half a year and a leap year back.
    days = [datetime(2024, 2, 29, 12, tzinfo=timezone.utc) + timedelta(days=60 * n) for n in range(18)]
    expected = []
    for number, when in enumerate(days):
        before = when - timedelta(days=100 if number % 2 else 1)
        contents = [f"{one.strftime(datefmt)} m{one:%Y-%m-%d}\n" for one in (before, when)]
        logs.write(f"app{number}.log", "".join(contents), when + timedelta(seconds=1))
        expected += [f"m{one:%Y-%m-%d}" for one in (before, when)]
    assert sorted(expected) == [line.split()[-1] for line in logs.tail().splitlines()]
    assert sorted(expected)[-5:] == [line.split()[-1] for line in logs.tail("-n", "5").splitlines()]


def test_since_goes_by_the_nearest_year(tmp_path: Path) -> None:
    logs = Logs(tmp_path, "[format]\nutc = true\ntext = '%(asctime)s %(message)s'\ndatefmt = '%m-%d %T'")
    now = datetime.now(timezone.utc)
    times = [now - timedelta(days=days) for days in (170, 40, 1)]
    logs.write("a.log", "".join(f"{one:%m-%d %H:%M:%S} m{n}\n" for n, one in enumerate(times)), now)
    assert ["m1", "m2"] == [line.split()[-1] for line in logs.tail("--since", "50d").splitlines()]


WITH_BLANKS = ["%c", "%d %H:%M", "%A %-d %_k:%M", "%B %l %P", "%X %Z", "%e", "%s", "%^x %T", "%20Od"]


@pytest.mark.slow
@pytest.mark.parametrize("datefmt", WITH_BLANKS)
def test_blanks_in_a_time_move_no_other_field_whether_or_not_it_is_a_date(
    tmp_path: Path, datefmt: str
) -> None:
    line = "%(asctime)s %(name)s %(levelname)s %(message)s"
    logs = Logs(tmp_path, f"[format]\nutc = true\ntext = '{line}'\ndatefmt = '{datefmt}'")
    written = time.strftime(datefmt, time.gmtime((BEGIN - timedelta(days=20)).timestamp()))
    logs.write("app.log", f"{written} app INFO one\n{written} app.web ERROR two three\n")
    fields = [json.loads(one) for one in logs.run("--json").stdout.splitlines()]
    assert [
        {"logger": "app", "level": "INFO", "message": "one"},
        {"logger": "app.web", "level": "ERROR", "message": "two three"},
    ] == [{key: one[key] for key in one if key != "timestamp"} for one in fields]
    assert datefmt == "%c" or {written} == {one["timestamp"] for one in fields}
    assert 2 == logs.run("--logger", "app").stdout.count("\n")
    assert f"{written} app.web ERROR two three\n" == logs.run("--level", "error").stdout


def test_a_time_that_the_format_cuts_ends_where_it_is_cut(tmp_path: Path) -> None:
    logs = Logs(tmp_path, '[format]\ntext = "%(asctime).16s %(levelname)s %(message)s"')
    logs.write("app.log", "2026-11-22 10:00 INFO one\n2026-11-22 10:00 ERROR two\n")
    assert "2026-11-22 10:00 ERROR two\n" == logs.run("--level", "error").stdout


FLAGS = ["", "-", "_", "0", "^", "#", "12", "_12", "012"]
CONVERSIONS = [f"%{flags}{letter}" for flags in FLAGS for letter in string.ascii_letters]
CONVERSIONS = [one for one in CONVERSIONS if one[-1] != "t" or one == "%t"]  # nobody pads a tab
CONVERSIONS += [f"%E{letter}" for letter in "cCxXyY"] + [f"%O{letter}" for letter in "deHImMSuUVwWy"]


def test_what_strftime_makes_of_each_conversion_is_matched_to_its_end() -> None:
    tried = 0
    for conversion in CONVERSIONS:
        try:
            time_format(conversion)
        except ValueError:
            continue
        found = TimeFormat(conversion, utc=True)
        for when in (BEGIN, datetime(2027, 5, 3, 4, 5, 6, tzinfo=timezone.utc)):
            written = time.strftime(conversion, time.gmtime(when.timestamp()))
            match = re.match(found.pattern + r"(?=\|)", f"{written}|")
            assert match, (conversion, written)
            assert match[0] == written, conversion
            assert found.width in (0, len(written)), conversion
            tried += 1
    assert tried > 2 * 30 * len(FLAGS)


UNTIMED = {
    "%H:%M:%S": 'datefmt = "%H:%M:%S" tells no date',
    "%a %H:%M:%S": 'datefmt = "%a %H:%M:%S" tells no date',
    "%d %H:%M": 'datefmt = "%d %H:%M" tells no date',
    "%Y-%m %T": 'datefmt = "%Y-%m %T" tells no date',
    "%s": "has %s, which cannot be read back",
    "%-d.%m.%Y %k:%M": "has %-d and %k, which cannot be read back",
    "%Y-%m-%d %I:%M": "has hours up to 12 without %p",
    "%d.%m.%Y (%Y)": "has %Y twice, which cannot be read back",
    "%D %m": "has a part twice, which cannot be read back",
    "%F %k": "has %k, which cannot be read back",
    "%X": 'datefmt = "%X" tells no date',
    "%x %I:%M": "has hours up to 12 without %p",
}


@pytest.mark.slow
@pytest.mark.parametrize(("datefmt", "why"), UNTIMED.items(), ids=UNTIMED)
def test_a_time_that_cannot_be_used_is_said_as_what_it_is_and_there_is_no_since(
    tmp_path: Path, datefmt: str, why: str
) -> None:
    text = "%(asctime)s %(levelname)s %(message)s"
    logs = Logs(tmp_path, f"[format]\nutc = true\ntext = '{text}'\ndatefmt = '{datefmt}'")
    logs.write("a.log", f"{BEGIN.strftime(datefmt)} INFO one\n")
    result = logs.run()
    assert (0, f"{BEGIN.strftime(datefmt)} INFO one\n") == (result.returncode, result.stdout)
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"collector tail: {logs.directory}/a.log: [format] datefmt = ")
    assert line.endswith(f"{why}; taken as a whole")
    result = logs.run("--since", "10m")
    assert (2, "") == (result.returncode, result.stdout)
    (line,) = result.stderr.splitlines()
    assert line.startswith("collector tail: --since: [format] datefmt = ")
    assert why in line


OF_A_RULE = {
    "datefmt = '%H:%M:%S'": (
        "10:00:00 INFO one",
        "10:00:00 ERROR two",
        'format.datefmt = "%H:%M:%S" tells no date',
    ),
    "datefmt = '%s'": ("1795341600 INFO one", "1795341600 ERROR two", "has %s, which cannot be read back"),
    "text = '%(levelname)s %(message)s'": (
        "INFO one",
        "ERROR two",
        'format.text = "%(levelname)s %(message)s" has no %(asctime)s',
    ),
}


@pytest.mark.parametrize(
    "file", ["pay.log", "pay_card.log", "pay.log.2026-11-22.gz", "pay.log.1", "cash.log"]
)
@pytest.mark.parametrize(("key", "expected"), OF_A_RULE.items(), ids=OF_A_RULE)
def test_lines_are_read_as_the_rule_of_their_file_has_them(
    tmp_path: Path, key: str, expected: tuple[str, str, str], file: str
) -> None:
    general = "[format]\ntext = '%(asctime)s %(levelname)s %(message)s'"
    rule = "[[logger]]\nname = 'pay'" + ("\nfile = 'cash.log'" if file == "cash.log" else "")
    logs = Logs(tmp_path, f"{general}\n{rule}\nformat.{key}")
    one, two, why = expected
    logs.write(file, f"{one}\n{two}\n")
    logs.write("payment.log", "2026-11-22 10:00:00 ERROR three\n")
    result = logs.run("--level", "error")
    assert {two, "2026-11-22 10:00:00 ERROR three"} == set(result.stdout.splitlines())
    (line,) = result.stderr.splitlines()
    assert line.startswith(f'collector tail: {logs.directory / file}: [[logger]] "pay" format.')
    assert line.endswith(f"{why}; taken as a whole")


def test_a_rule_whose_times_begin_as_those_of_others_has_its_own_fields(tmp_path: Path) -> None:
    general = "[format]\nutc = true\ntext = '%(asctime)s %(name)s %(message)s'"
    logs = Logs(
        tmp_path, f"{general}\n[[logger]]\nname = 'b'\nformat.text = '%(asctime)s %(levelname)s %(message)s'"
    )
    for name in "ab":
        logs.write(f"{name}.log", f"2026-11-22 10:00:00 {name} x\n")
    fields = [json.loads(line) for line in logs.tail("--json").splitlines()]
    assert [("a", None), (None, "b")] == [(one.get("logger"), one.get("level")) for one in fields]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("--since 2d", 2),
        ("--since 2d --logger app", 0),
        ("--since 2d --logger pay", 2),
        ("--since 2d --logger pay.card.visa", 2),
        ("--since 2d --logger payment", 0),
        ("--level error", 2),
        ("--level error --logger shop", 2),
        ("--level error --logger shop.till.one", 2),
        ("--level error --logger app", 0),
    ],
)
def test_a_filter_needs_what_it_goes_by_from_the_formats_of_the_wanted_loggers_alone(
    tmp_path: Path, arguments: str, code: int
) -> None:
    rules = """[[logger]]
        name = "pay.card"
        format.datefmt = "%H:%M"
        [[logger]]
        name = "shop.till"
        format.text = "%(asctime)s %(message)s"
        """
    assert code == Logs(tmp_path, f"{UTC}\n{rules}").run(*arguments.split()).returncode


def test_a_file_without_times_is_said_to_be_so_by_the_format_that_it_should_be_in(tmp_path: Path) -> None:
    logs = Logs(tmp_path, f"{UTC}\n[[logger]]\nname = 'b'\nformat.datefmt = '%c'")
    for name in "ab":
        logs.write(f"{name}.log", "no time\n")
    begins = "no line begins with a time as in"
    assert [
        f"collector tail: {logs.directory}/a.log: {begins} [format]; taken as a whole",
        f'collector tail: {logs.directory}/b.log: {begins} [[logger]] "b" format; taken as a whole',
    ] == sorted(logs.run().stderr.splitlines())


REMEDIES = {
    'text = "%(name)s %(message)s"': "has no %(asctime)s; add it",
    'text = "%(asctime).4s %(message)s"': "cuts %(asctime)s; leave it whole",
    'datefmt = "%H:%M"': 'tells no date; set datefmt = "%Y-%m-%d %H:%M:%S", say',
}


@pytest.mark.parametrize(("setting", "remedy"), REMEDIES.items(), ids=REMEDIES)
def test_since_needs_a_time_in_the_format_and_says_how_to_get_it(
    tmp_path: Path, setting: str, remedy: str
) -> None:
    result = Logs(tmp_path, f"[format]\n{setting}").run("--since", "10m")
    assert (2, "") == (result.returncode, result.stdout)
    assert f'collector tail: --since: [format] {setting} {remedy}, or use style = "json"\n' == result.stderr


def test_a_span_longer_than_time_is_all_of_it(logs: Logs) -> None:
    logs.write("a.log", line := text(BEGIN, "a", "INFO", "x"))
    assert line == logs.tail("--since", "999999999w")
