"""The command `tail`: what it reads back, in which order, and what it goes on with."""

from __future__ import annotations

import gzip
import json
import os
import pty
import random
import re
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from collector.admin.client import Subscription
from collector.commands.tail import follow
from collector.config.load import load
from collector.config.tables import Admin, Config, Format
from collector.files import inventory
from collector.readback.follow import Follower
from collector.readback.merge import merge
from collector.readback.sources import Source, open_all
from tests.support.collectors import whole_lines
from tests.support.frames import make_frame
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.collectors import Collector

    MakeCollector = Callable[..., Collector]

BEGIN = datetime(2026, 11, 22, 10, tzinfo=timezone.utc)
UTC = "[format]\nutc = true"
TRACEBACK = 'Traceback (most recent call last):\n  File "app.py", line 1, in <module>\nValueError: 1\n'


def text(when: datetime, logger: str, level: str, message: str) -> str:
    return f"[{when:%Y-%m-%d %H:%M:%S}]: {logger} {level} 7 {message}\n"


def as_json(when: datetime, logger: str, level: str, message: str) -> str:
    stamp = f"{when:%Y-%m-%dT%H:%M:%S.%f}Z"
    record = {"timestamp": stamp, "level": level, "logger": logger, "message": message}
    return json.dumps(record, separators=(",", ":")) + "\n"


class Logs:
    """A directory of log files, and `collector tail` for it."""

    def __init__(self, home: Path, config: str = UTC) -> None:
        self.directory = home / "logs"
        self.directory.mkdir()
        self.config = home / "c.toml"
        self.config.write_text(f'[files]\ndirectory = "{self.directory}"\n{config}\n')

    def write(self, name: str, contents: str, when: datetime = BEGIN) -> None:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(contents.encode()) if name.endswith(".gz") else contents.encode())
        os.utime(path, (when.timestamp(), when.timestamp()))

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "collector", "tail", "-c", self.config, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=os.environ | environment,
        )

    def tail(self, *arguments: str, **environment: str) -> str:
        result = self.run(*arguments, **environment)
        assert (0, "") == (result.returncode, result.stderr)
        return result.stdout


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    return Logs(tmp_path)


def five_files_and_twenty_backups(logs: Logs, line: Callable[..., str], seconds: float) -> list[str]:
    """Write them, records in random places, and return all records by time."""
    chance = random.Random(5)  # noqa: S311 - the same for ever
    records: list[tuple[datetime, str]] = []
    for app in range(5):
        when = BEGIN + timedelta(seconds=app, microseconds=app)
        for part in range(5):
            contents = ""
            for number in range(200):
                # A time of its own for each, so that there is one order only.
                when += timedelta(seconds=5 * chance.randrange(1, 5)) * seconds
                record = line(when, f"app{app}", "INFO", f"{part} {number}")
                if line is text and number % 50 == 7:
                    record += TRACEBACK
                records.append((when, record))
                contents += record
            name = f"app{app}.log.2026-11-22.{part + 1}" + (".gz" if part % 2 else "")
            logs.write(f"app{app}.log" if part == 4 else name, contents, when)
    return [record for _, record in sorted(records)]


@pytest.mark.quick
@pytest.mark.parametrize(
    ("line", "seconds", "config"),
    [(text, 1, UTC), (as_json, 0.0001, '[format]\nstyle = "json"'), (as_json, 1, UTC)],
    ids=["text", "json", "json from before the format was text"],
)
def test_five_files_and_twenty_backups_come_out_sorted_by_time(
    tmp_path: Path, line: Callable[..., str], seconds: float, config: str
) -> None:
    logs = Logs(tmp_path, config)
    expected = five_files_and_twenty_backups(logs, line, seconds)
    assert 5000 == len(expected)
    assert "".join(expected) == logs.tail()
    # The same where each record is looked at.
    assert "".join(expected) == logs.tail("--grep", ".")


@pytest.mark.quick
def test_the_last_records_are_read_from_the_ends(logs: Logs) -> None:
    expected = five_files_and_twenty_backups(logs, text, 1)
    for number in (1, 10, 1500):
        assert "".join(expected[-number:]) == logs.tail("-n", str(number))
    assert "" == logs.tail("-n", "0")


def test_the_last_records_are_the_newest_though_a_file_rolled_over_within_their_second(logs: Logs) -> None:
    lines = [text(BEGIN, "a", "INFO", str(number)) for number in range(10)]
    logs.write("a.log.2026-11-22", "".join(lines[:5]), BEGIN + timedelta(seconds=0.2))
    logs.write("a.log", "".join(lines[5:]), BEGIN + timedelta(seconds=0.7))
    for number in (3, 8):
        assert "".join(lines[-number:]) == logs.tail("-n", str(number))


def test_files_that_overlap_with_records_of_the_same_second_lose_and_double_nothing(logs: Logs) -> None:
    chance = random.Random(6)  # noqa: S311 - the same for ever
    expected = []
    for app in range(4):
        when = BEGIN
        contents = ""
        for number in range(3000):
            when += timedelta(seconds=chance.choice([0, 0, 0, 0, 1, 30]))
            contents += text(when, f"app{app}", "INFO", "x" * chance.choice([1, 100, 2000]) + f" {number}")
        expected += contents.splitlines()
        logs.write(f"app{app}.log", contents)
    lines = logs.tail().splitlines()
    assert sorted(expected) == sorted(lines)
    assert lines == sorted(lines, key=lambda line: line[:22])
    for app in range(4):
        own = [line for line in lines if f"app{app}" in line]
        assert own == [line for line in expected if f"app{app}" in line]  # in their order


def test_records_of_one_file_keep_their_order_though_a_client_clock_is_wrong(logs: Logs) -> None:
    contents = [text(BEGIN + timedelta(seconds=s), "app", "INFO", str(s)) for s in (5, 1, 6, 2, 9)]
    logs.write("app.log", "".join(contents))
    logs.write("b.log", other := text(BEGIN + timedelta(seconds=7), "b", "INFO", "b"))
    assert "".join([*contents[:4], other, contents[4]]) == logs.tail()


def test_records_far_larger_than_a_block_stay_whole(logs: Logs) -> None:
    large = text(BEGIN, "app", "INFO", "begin\n" + "x" * 80 + ("y" * 99 + "\n") * 50_000 + "end")
    after = text(BEGIN + timedelta(seconds=2), "app", "INFO", "after")
    between = text(BEGIN + timedelta(seconds=1), "b", "INFO", "between")
    logs.write("app.log", large + after)
    logs.write("b.log", between)
    assert large + between + after == logs.tail()


def test_an_empty_line_before_a_record_larger_than_a_block_is_not_the_end(logs: Logs) -> None:
    large = text(BEGIN, "app", "INFO", "x" * 3_000_000)
    logs.write("app.log", "\n" + large)
    assert "\n" + large == logs.tail()


def test_a_last_line_without_its_newline_gets_one(logs: Logs) -> None:
    logs.write("app.log", "[2026-11-22 10:00:00]: app INFO 7 cut")
    assert "[2026-11-22 10:00:00]: app INFO 7 cut\n" == logs.tail()


@pytest.mark.parametrize(
    ("line", "datefmt"),
    [
        ("[%(asctime)s]: %(message)s", "%d/%b/%Y:%H:%M:%S"),
        ("%(levelname)-8s %(asctime)s,%(msecs)03d %(message)s", "%Y-%m-%d %H:%M:%S"),
        ("%(asctime)s.%(msecs)03d %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S"),
        ("50%% %(asctime)s %(message)s", "%y%m%d %I:%M:%S %p %z"),
        ("%(message)s %(asctime)s", "%F %T"),
        ("%(asctime)25s|%(message)s", "%A %d %B %Y %H.%M.%S"),
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


def test_a_file_of_a_rule_is_said_to_be_what_the_rule_makes_it(tmp_path: Path) -> None:
    rule = "[[logger]]\nname = 'b'\nfile = 'b.log'\nformat.text = '%(message)s'\n"
    logs = Logs(tmp_path, f"{UTC}\n{rule}")
    logs.write("a.log", "no time\n")
    logs.write("b.log", "one\n")
    lines = sorted(logs.run().stderr.splitlines())
    assert "a.log: no line begins with a time as in [format]; taken as a whole" in lines[0]
    assert 'b.log: [format] text = "%(message)s" has no %(asctime)s; taken as a whole' in lines[1]


def test_since_needs_a_time_in_the_format(tmp_path: Path) -> None:
    result = Logs(tmp_path, '[format]\ntext = "%(name)s %(message)s"').run("--since", "10m")
    assert (2, "") == (result.returncode, result.stdout)
    assert '--since: [format] text = "%(name)s %(message)s" has no %(asctime)s; ' in result.stderr


def test_a_span_longer_than_time_is_all_of_it(logs: Logs) -> None:
    logs.write("a.log", line := text(BEGIN, "a", "INFO", "x"))
    assert line == logs.tail("--since", "999999999w")


@pytest.mark.quick
def test_what_logrotate_has_made_is_read(logs: Logs) -> None:
    names = ["app.log-20261120.gz", "app.log.3.gz", "app.log-2026112110", "app.log-20261121-1795478400"]
    names += ["app.log-20261122", "app.log.2.gz", "app.log.1", "app.log.2026-11-22", "app.log"]
    expected = ""
    for number, name in enumerate(names):
        when = BEGIN + timedelta(minutes=number)
        logs.write(name, line := text(when, "app", "INFO", name), when)
        expected += line
    for name in ("app.log.0", "app.log.old", "app.log-2026", "app.log.1.bz2", "other.txt.1"):
        logs.write(name, "no\n")
    assert expected == logs.tail()
    assert expected == logs.tail("--grep", "app")
    assert "".join(expected.splitlines(keepends=True)[-4:]) == logs.tail("-n", "4")


def test_what_logrotate_has_made_is_not_the_collectors_to_count_or_delete(logs: Logs) -> None:
    for name in ("app.log", "app.log.1", "app.log-20261122.gz", "app.log.2026-11-22"):
        logs.write(name, "x\n")
    found = {os.path.basename(one.path) for one in inventory.find(load(logs.config))}
    assert {"app.log", "app.log.2026-11-22"} == found


def test_files_that_logrotate_renames_while_they_are_read_are_read_once_and_whole(logs: Logs) -> None:
    for number, name in enumerate(("app.log.2.gz", "app.log.1", "app.log")):
        logs.write(name, text(BEGIN + timedelta(minutes=number), "app", "INFO", name))
    opened = open_all(load(logs.config))
    for name, to in (("app.log.2.gz", "app.log.3.gz"), ("app.log.1", "app.log.2"), ("app.log", "app.log.1")):
        (logs.directory / name).rename(logs.directory / to)
    logs.write("app.log", text(BEGIN + timedelta(minutes=9), "app", "INFO", "new"))
    pieces = [piece for records in merge([one for one in opened if one.peek()]) for piece in records]
    assert ["app.log.2.gz", "app.log.1", "app.log"] == [piece.decode().split()[-1] for piece in pieces]


def test_a_file_that_logrotate_moves_is_followed_while_it_is_written_and_nothing_is_shown_twice(
    logs: Logs,
) -> None:
    logs.write("app.log", text(BEGIN, "app", "INFO", "old"))
    logs.write("app.log.1", text(BEGIN, "app", "INFO", "older"))
    config = load(logs.config)
    opened = open_all(config)
    with closing(Follower(config, opened)) as follower:
        for source in opened:
            source.close()

        def shown() -> list[str]:
            return [record.decode().split()[-1] for _, record, _ in follower.poll()]

        assert [] == shown()
        (logs.directory / "app.log.1").rename(logs.directory / "app.log.2")
        (logs.directory / "app.log").rename(logs.directory / "app.log.1")
        assert [] == shown()
        with (logs.directory / "app.log.1").open("a") as moved:
            for word in ("late", "later"):
                moved.write(text(BEGIN, "app", "INFO", word))
                moved.flush()
                assert [word] == shown()
        logs.write("app.log", text(BEGIN, "app", "INFO", "new"))
        assert ["new"] == shown()
        (logs.directory / "app.log.2.gz").write_bytes(
            gzip.compress((logs.directory / "app.log.2").read_bytes())
        )
        (logs.directory / "app.log.2").unlink()
        # As copytruncate does it.
        (logs.directory / "app.log.3").write_bytes((logs.directory / "app.log").read_bytes())
        assert [] == shown()


def test_without_a_time_in_the_format_each_file_is_taken_as_a_whole_and_that_is_said(tmp_path: Path) -> None:
    logs = Logs(tmp_path, '[format]\ntext = "%(name)s %(message)s"')
    logs.write("b.log", "b 1\nb 2\n", BEGIN)
    logs.write("a.log", "a 1\n\na 2\n", BEGIN + timedelta(days=1))
    result = logs.run()
    assert "b 1\nb 2\na 1\n\na 2\n" == result.stdout
    assert 2 == result.stderr.count("taken as a whole")
    assert 0 == result.returncode


# --- filters ------------------------------------------------------------------------------------------------


@pytest.fixture
def mixed(tmp_path: Path) -> Logs:
    logs = Logs(tmp_path, UTC)
    now = datetime.now(timezone.utc)
    old, new = now - timedelta(hours=2), now - timedelta(minutes=2)
    logs.write(
        "shop.log", text(old, "shop", "INFO", "old") + text(new, "shop", "ERROR", "boom") + TRACEBACK, now
    )
    logs.write(
        "shop_cart.log",
        text(new, "shop.cart", "WARNING", "full") + text(new, "shop.cart", "Level 15", "odd"),
        now,
    )
    logs.write("shopping.log", text(new, "shopping", "DEBUG", "INFO 5 debugged"), now)
    logs.write("custom.log", text(new, "custom", "NOTICE", "kept"), now)
    return logs


def last_words(output: str) -> list[str]:
    return [line.split()[-1] for line in output.splitlines() if line.startswith("[")]


@pytest.mark.quick
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


@pytest.mark.quick
@pytest.mark.parametrize("wrong", ["--since=soon", "--grep=(", "--level=LOUD", "-n=-1"])
def test_wrong_usage_is_exit_2(logs: Logs, wrong: str) -> None:
    assert 2 == logs.run(wrong).returncode


# --- output -------------------------------------------------------------------------------------------------


@pytest.mark.quick
def test_json_has_the_fields_that_the_format_has(mixed: Logs) -> None:
    records = [
        json.loads(line) for line in mixed.tail("--json", "--logger", "shop", "--since", "10m").splitlines()
    ]
    boom = next(record for record in records if record["level"] == "ERROR")
    stamp = boom.pop("timestamp")
    assert {"level": "ERROR", "logger": "shop", "line": 7, "message": "boom\n" + TRACEBACK.rstrip()} == boom
    assert datetime.fromisoformat(stamp.replace("Z", "+00:00")) <= datetime.now(timezone.utc)
    assert {"ERROR", "WARNING", "Level 15"} == {record["level"] for record in records}


def on_a_terminal(logs: Logs, **environment: str) -> str:
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "collector", "tail", "-c", str(logs.config)]
    with subprocess.Popen(command, stdout=slave, env=os.environ | environment) as process:
        process.wait(30)
    os.close(slave)
    output = os.read(master, 65_536).decode()
    os.close(master)
    return output


def test_on_a_terminal_the_level_has_a_colour_and_nothing_in_a_record_commands(logs: Logs) -> None:
    logs.write("INFO.log", text(BEGIN, "INFO", "ERROR", "evil \x1b[2J \x9b2J end"))
    output = on_a_terminal(logs)
    assert "INFO \x1b[31mERROR\x1b[0m 7 evil \\x1b[2J \\x9b2J end" in output
    assert "\x1b" not in on_a_terminal(logs, NO_COLOR="1")


@pytest.mark.quick
def test_whoever_has_seen_enough_ends_it_quietly(logs: Logs) -> None:
    logs.write("app.log", text(BEGIN, "app", "INFO", "x" * 100) * 50_000)
    command = f"{sys.executable} -m collector tail -c {logs.config} | head -n 1; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, check=False, timeout=30)
    assert (0, b"", 1) == (result.returncode, result.stderr, result.stdout.count(b"\n"))


@pytest.mark.quick
def test_what_cannot_be_read_is_named_and_the_rest_is_shown(logs: Logs) -> None:
    logs.write("app.log", text(BEGIN, "app", "INFO", "whole"))
    damaged = gzip.compress(os.urandom(100_000))[:50_000]
    (logs.directory / "app.log.2026-11-21.gz").write_bytes(damaged)
    result = logs.run()
    assert result.returncode == 1
    assert "whole" in result.stdout
    assert "app.log.2026-11-21.gz: cannot be read to its end" in result.stderr


def test_a_missing_directory_is_exit_1_and_is_not_made(tmp_path: Path) -> None:
    logs = Logs(tmp_path)
    logs.directory.rmdir()
    result = logs.run()
    assert result.returncode == 1
    assert "see [files] directory" in result.stderr
    assert not logs.directory.exists()


def test_what_is_not_the_collectors_is_not_read(logs: Logs) -> None:
    (logs.directory / "outside").write_text("secret")
    logs.write("notes.txt", "notes\n")
    logs.write(".quarantine", "frames")
    (logs.directory / "app.log").symlink_to(logs.directory / "outside")
    assert "" == logs.tail()


# --- while it changes ---------------------------------------------------------------------------------------


def test_a_file_rolled_over_and_compressed_while_it_is_read_is_read_once_and_whole(logs: Logs) -> None:
    lines = [text(BEGIN + timedelta(seconds=s), "app", "INFO", f"{s}") for s in range(60_000)]
    logs.write("app.log.2026-11-21", "".join(lines[:30_000]))
    logs.write("app.log", "".join(lines[30_000:]))
    opened = open_all(load(logs.config))
    pieces = merge([source for source in opened if source.peek()])
    read = [b"\n".join(next(pieces))]
    path = logs.directory / "app.log"
    path.rename(f"{path}.2026-11-22")
    logs.write("app.log", text(BEGIN + timedelta(days=1), "app", "INFO", "later"))
    subprocess.run(["gzip", f"{path}.2026-11-21"], check=True)
    subprocess.run(["gzip", f"{path}.2026-11-22"], check=True)
    read += [b"\n".join(piece) for piece in pieces if piece]
    assert "".join(lines) == b"\n".join(read).decode() + "\n"


@pytest.fixture
def following() -> Iterator[Callable[[Path], Any]]:
    """Return a function that starts `tail -f`, and returns what tells its output so far."""
    processes = []

    def start(config: Path) -> Callable[[], str]:
        output = config.with_name("tail.txt")
        with output.open("wb") as file:
            command = [sys.executable, "-m", "collector", "tail", "-f", "-n", "2", "-c", str(config)]
            processes.append(subprocess.Popen(command, stdout=file, stderr=file))
        within(20, lambda: "following the files" in whole_lines(output), "it follows")
        return lambda: whole_lines(output)

    yield start
    for process in processes:
        process.terminate()
        process.wait(10)


@pytest.mark.quick
def test_without_an_admin_port_the_files_are_followed_over_rollovers(
    make_collector: MakeCollector, following: Callable[[Path], Callable[[], str]]
) -> None:
    rollover = '[rollover]\nwhen = "never"\nmax_bytes = 2000\nbackup_count = 0'
    collector = make_collector(rollover).start()
    for number in range(5):
        collector.send(make_frame(f"before {number}."))
    within(5, lambda: len(collector.lines("app.log")) == 5)
    output = following(collector.config)
    for number in range(200):
        collector.send(make_frame(f"record {number}.", logger=f"app{number % 2}"))
    within(10, lambda: output().count("record ") >= 200, "all records are shown")
    assert ["3", "4"] == re.findall(r"before (\d+)", output())
    for half in (0, 1):
        numbers = [int(n) for n in re.findall(rf"app{half} INFO 7 record (\d+)\.", output())]
        assert list(range(half, 200, 2)) == numbers
    assert len(collector.files()) > 5


class _Admin(BaseHTTPRequestHandler):
    """The stream as the collector's admin port sends it: two records, one note, and the end."""

    requests: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        self.requests.append((self.path, self.headers["Authorization"]))
        if self.headers["Authorization"] != "Bearer secret":
            self.send_error(401)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for message in ("one", "twö"):
            record = {
                "timestamp": "2026-11-22T10:00:00.123456Z",
                "level": "ERROR",
                "logger": "app.web",
                "message": message,
                "exception": TRACEBACK.rstrip(),
                "client": "10.0.0.7:51934",
                "file": "/srv/app.py",
                "line": 7,
                "levelno": 40,
                "written": f"[2026-11-22 10:00:00]: app.web ERROR 7 {message}\n{TRACEBACK.rstrip()}",
            }
            self.wfile.write(f"data: {json.dumps(record)}\n\n: keep-alive\n\n".encode())
        self.wfile.write(b'event: skipped\ndata: {"records": 12}\n\n')

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def admin() -> Iterator[ThreadingHTTPServer]:
    _Admin.requests = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Admin)
    threading.Thread(target=server.serve_forever).start()
    yield server
    server.shutdown()
    server.server_close()


def with_admin(config: Config, port: int, token: str) -> Config:
    return replace(config, admin=Admin("0.0.0.0", port, token))  # noqa: S104 - as it may be configured


def texts(batches: Iterator[list[tuple[Source, bytes, bytes]]]) -> list[bytes]:
    """Return the records of the next batch that has any."""
    return [record for _, record, _ in next(batch for batch in batches if batch)]


def test_the_stream_of_the_admin_port_is_shown_as_the_files_would_have_it(
    logs: Logs, admin: ThreadingHTTPServer
) -> None:
    config = with_admin(load(logs.config), admin.server_port, "secret")
    with closing(Follower(config, [])) as follower:
        batches = follow(config, follower, Subscription(config.admin, "app", 30), print)
        for message in ("one", "twö"):
            expected = f"[2026-11-22 10:00:00]: app.web ERROR 7 {message}\n{TRACEBACK.rstrip()}"
            assert [expected.encode()] == texts(batches)
    assert [("/api/stream?logger=app&level=30&written=1", "Bearer secret")] == _Admin.requests


@pytest.mark.parametrize("form", [UTC, "[format]\ntext = '%(message)s'"], ids=["timed", "no time"])
def test_what_is_in_a_file_and_in_the_stream_is_shown_once(
    tmp_path: Path, admin: ThreadingHTTPServer, form: str
) -> None:
    logs = Logs(tmp_path, form)
    config = with_admin(load(logs.config), admin.server_port, "secret")
    one = f"[2026-11-22 10:00:00]: app.web ERROR 7 one\n{TRACEBACK.rstrip()}"
    with closing(Follower(config, [])) as follower:
        logs.write("app_web.log", one + "\n")
        batches = follow(config, follower, Subscription(config.admin, "", 0), print)
        two = one.replace(" one", " twö")
        # Where no line tells a time, each line of the file is a record.
        assert [one.encode(), two.encode()] == [b"\n".join(texts(batches)) for _ in range(2)]


@pytest.mark.quick
def test_when_the_stream_ends_the_files_are_followed(logs: Logs, admin: ThreadingHTTPServer) -> None:
    config = with_admin(load(logs.config), admin.server_port, "secret")
    said: list[str] = []

    def append() -> None:
        within(10, lambda: len(said) == 2)
        logs.write("app.log", "[2026-11-22 10:00:01]: app INFO 7 from the file\n")

    writer = threading.Thread(target=append)
    writer.start()
    with closing(Follower(config, [])) as follower:
        batches = follow(config, follower, Subscription(config.admin, "", 0), said.append)
        assert [1, 1] == [len(texts(batches)), len(texts(batches))]
        assert [b"[2026-11-22 10:00:01]: app INFO 7 from the file"] == texts(batches)
    writer.join()
    assert said[0].startswith("12 records left out")
    assert "the stream has ended; following the files" == said[1]


def test_a_token_that_is_refused_is_said(logs: Logs, admin: ThreadingHTTPServer) -> None:
    config = with_admin(load(logs.config), admin.server_port, "wrong")
    assert "401 Unauthorized" in Subscription(config.admin, "", 0).connect()


# --- speed and memory ---------------------------------------------------------------------------------------

MB = 1_000_000


def measured(*command: object) -> tuple[float, float, int]:
    """Run *command* with output to nowhere; return seconds of wall and of CPU, and the bytes of memory."""
    begun = time.monotonic()
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL)
    # Not ru_maxrss, which begins with what the process that forked had.
    memory = 0
    while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
        with suppress(OSError):
            peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
            memory = int(peak[1]) * 1024 if peak else memory
        time.sleep(0.01)
    _, process.returncode, usage = ended
    assert process.returncode == 0
    return time.monotonic() - begun, usage.ru_utime + usage.ru_stime, memory


@pytest.mark.slow
@pytest.mark.parametrize("overlapping", [False, True], ids=["one after the other", "all at the same time"])
def test_a_gigabyte_is_read_at_100_mb_a_second_in_constant_memory(
    tmp_path: Path, *, overlapping: bool
) -> None:
    """By CPU time, for others may be busy on the machine, and with a seventh of it."""
    logs = Logs(tmp_path)
    total = 0
    for app in range(5):
        with (logs.directory / f"app{app}.log").open("w") as file:
            for second in range(2000):
                when = BEGIN + timedelta(seconds=second + (0 if overlapping else 10_000 * app))
                line = text(when, f"app{app}", "INFO", "GET /api/v1/orders/12345 200 took 12.3 ms for alice")
                total += file.write(line * 200 + (TRACEBACK if second % 10 == 0 else ""))
    files = sorted(logs.directory.iterdir())
    command = [sys.executable, "-m", "collector", "tail", "-c", str(logs.config)]
    wall, cpu, memory = measured(*command)
    grep_wall, _, _ = measured(*command, "--grep", "12.3 m.*alice")
    cat, _, _ = measured("cat", *files)
    few_wall, _, _ = measured(*command, "--grep", r"1970 .*alice|ValueError: 2")
    # Piped, for grep stops at the first line where nobody reads.
    grep, _, _ = measured("sh", "-c", 'grep -h "12.3 m.*alice" "$@" | cat', "sh", *files)
    print(
        f"{total / MB:.0f} MB: tail {total / MB / wall:.0f} MB/s ({total / MB / cpu:.0f} by CPU time), "
        f"{memory / MB:.0f} MB of memory; with --grep "
        f"{total / MB / grep_wall:.0f} MB/s where all is found, {total / MB / few_wall:.0f} where nothing; "
        f"cat {total / MB / cat:.0f} MB/s, grep {total / MB / grep:.0f} MB/s"
    )
    assert total / cpu > 100 * MB
    assert memory < 80 * MB
    assert Format().text == load(logs.config).format.text  # the default is what was measured
