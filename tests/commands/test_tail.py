"""The command `tail`: what it prints, and what it goes on with. What it reads: tests/readback."""

from __future__ import annotations

import gzip
import json
import os
import pty
import re
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from collector.admin.client import Subscription
from collector.commands.tail import follow
from collector.config.load import load
from collector.config.tables import Admin, Config
from collector.readback.follow import Follower
from tests.support.collectors import whole_lines
from tests.support.frames import make_frame
from tests.support.logs import BEGIN, TRACEBACK, UTC, Logs, text
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from collector.readback.sources import Source
    from tests.support.collectors import Collector

    MakeCollector = Callable[..., Collector]


@pytest.mark.quick
@pytest.mark.parametrize("wrong", ["--since=soon", "--grep=(", "--level=LOUD", "-n=-1"])
def test_wrong_usage_is_exit_2(logs: Logs, wrong: str) -> None:
    assert 2 == logs.run(wrong).returncode


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ("--until soon", "argument --until: soon: must be how long ago, such as 10m"),
        (
            "--since 25:00",
            "25:00: must be how long ago, such as 10m or 1h30m (w, d, h, m, s), or a time such as 20:55",
        ),
        ("-n some", "argument -n/--number: some: must be a whole number from 0 to 999999999, or all"),
        ("-C 1001", "argument -C/--context: 1001: must be a whole number from 0 to 1000"),
        ("-f --until 10m", "-f shows what is written to the directory from now on; leave out FILE, --until"),
        ("-f a.log", "-f shows what is written to the directory from now on; leave out FILE, --until"),
        ("--count -n 5", "--count counts all that --since, --until and the filters leave; leave out -n"),
        ("--client 10.0.0.7", "--client: lines of [format] text = "),
        (
            "--since 2026-11-26T20:55Z --until 2026-11-25T21:10Z",
            "--until is 2026-11-25 21:10:00, and --since is 2026-11-26 20:55:00: there is nothing between",
        ),
        ("--since today --until today", "there is nothing between"),
        ("-5", "collector tail: -5: the last 5 are -n 5, and a file of this name is ./-5"),
        ("-", "collector tail: -: save standard input to a file, and a file of this name is ./-"),
    ],
)
def test_wrong_usage_names_value_rule_and_remedy(logs: Logs, arguments: str, fault: str) -> None:
    result = logs.run(*arguments.split(), TZ="UTC")
    assert (2, "") == (result.returncode, result.stdout)
    assert fault in " ".join(result.stderr.split())


# --- what is asked ------------------------------------------------------------------------------------------


def tailed(logs: Logs, arguments: str) -> list[str]:
    """Return the last words of what `tail` prints with these *arguments* and no others."""
    command = [sys.executable, "-m", "collector", "tail", "-c", str(logs.config), *arguments.split()]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    return [line.split()[-1] for line in output.splitlines()]


@pytest.fixture
def hundred(tmp_path: Path) -> Logs:
    """Return two files with 50 records each in turn, a second after the other."""
    logs = Logs(tmp_path, UTC)
    for name in "ab":
        numbers = range(int(name == "b"), 100, 2)
        lines = [
            text(BEGIN + timedelta(seconds=n), name, "INFO" if n % 10 else "ERROR", f"{n}") for n in numbers
        ]
        logs.write(f"{name}.log", "".join(lines), BEGIN + timedelta(seconds=100))
    return logs


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", range(90, 100)),
        ("--level ERROR", range(0, 100, 10)),
        ("--logger a", range(80, 100, 2)),
        ("-n 3", range(97, 100)),
        ("-n all", range(100)),
        ("--until 2026-11-22T10:00:05Z", range(5)),
        ("--since 2026-11-22T10:00:03Z --until 2026-11-22T10:00:05Z", range(3, 5)),
        ("--since 2026-11-22T10:00:03Z -n 2", range(98, 100)),
        ("--since 2026-11-22T11:00:10+01:00 --until 2026-11-22T10:00:12Z", range(10, 12)),
        ("--grep [12]5$", [15, 25]),
        ("--grep INfo.7.1[1-3] -i", [11, 12, 13]),
        ("--grep INfo.7.1[1-3]", []),
        ("--level ERROR --until 2026-11-22T10:00:25Z -n 2", [10, 20]),
    ],
    ids=str,
)
def test_what_is_asked_is_shown_and_nothing_else(hundred: Logs, arguments: str, expected: list[int]) -> None:
    assert list(map(str, expected)) == tailed(hundred, arguments)


@pytest.mark.parametrize("number", ["", "-n 2 "])
def test_context_is_of_the_same_file_and_gaps_are_marked_as_grep_does(hundred: Logs, number: str) -> None:
    ask = number + "--logger a --grep [24]0$"
    assert ["18", "20", "22", "--", "38", "40", "42"] == tailed(hundred, f"{ask} -C 1")
    assert ["18", "20", "--", "38", "40"] == tailed(hundred, f"{ask} -B 1")
    assert ["20", "22", "24", "--", "40", "42", "44"] == tailed(hundred, f"{ask} -A 2")
    assert ["18", "20", "22", "24", "--", "38", "40", "42", "44"] == tailed(hundred, f"{ask} -C 1 -A 2")


def test_the_last_that_are_found_have_their_context_and_others_none(logs: Logs) -> None:
    def write(name: str, letters: str, seconds: float) -> None:
        lines = []
        for number, letter in enumerate(letters):
            when, level = BEGIN + timedelta(seconds=number * seconds), "ERROR" if letter.isupper() else "INFO"
            lines.append(text(when, name, level, name + letter))
        logs.write(f"{name}.log", "".join(lines))

    write("a", "aBcdefGh", 10)
    write("b", "aBcdefghijklmnopqrSt", 4)
    ask = "--level ERROR"
    assert ["br", "bS", "bt"] == tailed(logs, f"{ask} -n 1 -C 1")
    assert ["bq", "br", "bS"] == tailed(logs, f"{ask} -n 1 -B 2")
    assert ["bS", "bt"] == tailed(logs, f"{ask} -n 1 -A 2")
    # In the file whose records are far apart, context is older than what would be found next in the other.
    assert ["ae", "af", "aG", "--", "bq", "br", "bS"] == tailed(logs, f"{ask} -n 2 -B 2")
    shown = [one for one in tailed(logs, f"{ask} -n 2 -B 7") if one != "--"]
    assert "aa aB ac ad ae bl bm af bn bo aG bp bq br bS" == " ".join(shown)


def test_files_from_elsewhere_are_read_alone_and_one_that_is_not_there_is_said(
    hundred: Logs, tmp_path: Path
) -> None:
    other = tmp_path / "copied.log"
    other.write_text(text(BEGIN, "x.y", "INFO", "copied") + text(BEGIN, "z", "INFO", "too"))
    zipped = tmp_path / "app.log.2026-11-21.gz"
    zipped.write_bytes(gzip.compress(text(BEGIN - timedelta(days=1), "app", "INFO", "zipped").encode()))
    assert ["zipped", "copied", "too"] == tailed(hundred, f"{other} {zipped}")
    assert ["copied"] == tailed(hundred, f"--logger x {other} {zipped}")
    result = hundred.run(str(tmp_path / "none.log"), str(other))
    assert (1, 2) == (result.returncode, result.stdout.count("\n"))
    assert f"collector tail: {tmp_path}/none.log: No such file or directory\n" == result.stderr
    other.write_text("no line of ours\n")
    assert {"message": "no line of ours"} == json.loads(hundred.run("--json", str(other)).stdout)
    result = hundred.run(str(tmp_path))
    assert f"collector tail: {tmp_path}: it is a directory; name the files in it\n" == result.stderr
    os.mkfifo(tmp_path / "pipe")
    result = hundred.run(str(tmp_path / "pipe"))
    assert result.stderr.startswith(
        f"collector tail: {tmp_path}/pipe: not a regular file, and nothing else can"
    )


def test_counts_are_by_level_and_logger(hundred: Logs) -> None:
    assert ["10 ERROR a", "40 INFO a", "50 INFO b"] == [
        " ".join(line.split()) for line in hundred.tail("--count").splitlines()
    ]
    counts = [json.loads(line) for line in hundred.tail("--count", "--json", "--level", "error").splitlines()]
    assert [{"logger": "a", "level": "ERROR", "count": 10}] == counts


@pytest.mark.parametrize("style", ["text", "json"])
def test_clients_are_told_by_address_with_the_port_or_without(tmp_path: Path, style: str) -> None:
    logs = Logs(tmp_path, f'[format]\nstyle = "{style}"\ntext = "%(asctime)s %(client)s %(message)s"')
    clients = ("10.0.0.7:51934", "10.0.0.70:51934", "[fe80::1]:5", "unix")
    lines = [f"2026-11-22 10:00:00 {client} {client}\n" for client in clients]
    if style == "json":
        stamp = "2026-11-22T10:00:00.000000Z"
        lines = [f'{{"timestamp":"{stamp}","message":"x","client":"{client}"}}\n' for client in clients]
    logs.write("app.log", "".join(lines))
    for asked, expected in (("10.0.0.7", 0), ("10.0.0.70:51934", 1), ("fe80::1", 2), ("unix", 3)):
        assert lines[expected] == logs.tail("--client", asked)


@pytest.mark.slow
def test_what_takes_long_is_shown_where_only_errors_go_to_a_terminal(logs: Logs) -> None:
    master, slave = pty.openpty()
    logs.write("app.log", text(BEGIN, "app", "INFO", "x" * 1000) * 50_000)
    command = [sys.executable, "-m", "collector", "tail", "-c", str(logs.config), "-n", "all"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=slave) as process:
        assert process.stdout
        begun = time.monotonic()
        process.stdout.read(10_000)
        within(10, lambda: time.monotonic() > begun + 2.5, "it takes long")
        process.stdout.read()
    os.close(slave)
    shown = os.read(master, 65_536).decode()
    os.close(master)
    assert re.search(r"\rcollector tail: \d+ of at most 5\d MB read", shown)
    assert shown.endswith("\r\x1b[K")


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
    lines = "".join(text(BEGIN, "app", "INFO", os.urandom(20).hex()) for _ in range(1000))
    damaged = gzip.compress(lines.encode())[:20_000]
    (logs.directory / "app.log.2026-11-21.gz").write_bytes(damaged)
    result = logs.run()
    assert result.returncode == 1
    assert "whole" in result.stdout
    assert lines[:20_000] in result.stdout  # as far as it can be read
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


@pytest.mark.slow
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
