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
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timezone
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
