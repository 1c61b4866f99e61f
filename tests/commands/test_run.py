"""The command `run`: its flags, the environment, the token in a file, and the lines that it begins with."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from collector import __version__
from tests.support.admin import ask
from tests.support.bulk_server import BulkServer
from tests.support.commands import run
from tests.support.destinations import destination
from tests.support.frames import make_frame
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.collectors import Collector

    MakeCollector = Callable[..., Collector]

SECONDS = 10


def hang_up(collector: Collector) -> None:
    before = collector.stderr.count("SIGHUP: ")
    assert collector.process
    collector.process.send_signal(signal.SIGHUP)
    within(SECONDS, lambda: collector.stderr.count("SIGHUP: ") > before)


@pytest.mark.parametrize("command", [["run"], []])
def test_flags_go_before_environment_and_file_and_hold_at_a_reload(
    make_collector: MakeCollector, tmp_path: Path, command: list[str]
) -> None:
    collector = make_collector("[listen]\nport = 1\n")
    collector.directory = tmp_path / "by flag"
    arguments = [
        *command,
        "-c",
        str(collector.config),
        "--port",
        "0",
        "--directory",
        str(collector.directory),
    ]
    environment = {
        "COLLECTOR__LISTEN__PORT": "2",
        "COLLECTOR__FILES__DIRECTORY": str(tmp_path / "by variable"),
    }
    with collector.log.open("ab") as log:
        collector.process = subprocess.Popen(
            [*collector.command, *arguments], stderr=log, env=os.environ | environment
        )
    within(SECONDS, lambda: "listening on 127.0.0.1:" in collector.stderr)
    hang_up(collector)
    assert "SIGHUP: changed: nothing; " in collector.stderr
    collector.port = int(re.findall(r"listening on \S+:(\d+)", collector.stderr)[0])
    collector.send(make_frame("one"))
    within(SECONDS, lambda: len(collector.lines("app.log")) == 1)
    assert ["by flag"] == [path.name for path in tmp_path.iterdir() if path.name.startswith("by ")]


@pytest.mark.parametrize(
    ("option", "value", "fault"),
    [
        ("--port", "65536", "must be a whole number from 0 to 65535"),
        ("--port", "x", "must be a whole number from 0 to 65535"),
        ("--directory", "~/logs", "must be the whole path such as"),
        ("--directory", "", "must be a path, without newline, tab or control character"),
    ],
)
def test_a_flag_that_cannot_be_meant_is_wrong_usage(option: str, value: str, fault: str) -> None:
    result = run("run", option, value)
    assert 2 == result.returncode
    assert f"argument {option}: {value}: {fault}" in result.stderr


@pytest.mark.slow
def test_forwarders_go_by_flags_and_environment_too(make_collector: MakeCollector, tmp_path: Path) -> None:
    with BulkServer() as server:
        collector = make_collector(destination(server.url))
        collector.directory = tmp_path / "by flag"
        collector.command = [sys.executable, "-m", "collector"]
        with collector.log.open("ab") as log:
            collector.process = subprocess.Popen(
                [*collector.command, "-c", str(collector.config), "--directory", str(collector.directory)],
                stderr=log,
                env=os.environ | {"COLLECTOR__SPOOL__SYNC_SECONDS": "0"},  # makes the table that is needed
            )
        within(SECONDS, lambda: "listening on 127.0.0.1:" in collector.stderr)
        collector.port = int(re.findall(r"listening on \S+:(\d+)", collector.stderr)[0])
        collector.send(make_frame("one"))
        within(SECONDS, lambda: "one" in str(server.documents), collector.stderr)


def test_the_first_lines_say_what_runs_and_by_what(make_collector: MakeCollector) -> None:
    collector = make_collector("[rollover]\nbackup_count = 3\n")
    collector.start(env=os.environ | {"COLLECTOR__LISTEN__MAX_CLIENTS": "7"})
    begin, listening = collector.stderr.splitlines()[:4], collector.stderr.splitlines()[4]
    assert f"listening on 127.0.0.1:{collector.port}" == listening
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d INFO ", line) for line in begin), begin
    version, configuration, where, limits = (line.partition(" INFO ")[2] for line in begin)
    assert version.startswith(f"collector {__version__}, Python 3.")
    assert version.endswith(f"process {collector.worker} of uid {os.geteuid()}")
    assert f"configuration: {collector.config}, COLLECTOR__LISTEN__MAX_CLIENTS" == configuration
    assert f"listens on 127.0.0.1:{collector.port}; writes to {collector.directory}" == where
    assert limits.startswith("limits: max_clients = 7, max_frame_bytes = 16777216, max_buffered_bytes = 26")
    assert "max_bytes = 0, backup_count = 3; max_total_bytes = 0" in limits


# --- The token in a file -----------------------------------------------------------------------------


def test_the_token_is_read_at_the_start_and_at_sighup(make_collector: MakeCollector, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    collector = make_collector(f'[admin]\nport = 0\ntoken_file = "{token}"\n').start()
    assert [200, 401] == [
        ask(collector, "/api/stats", Authorization=f"Bearer {word}")[0] for word in ("first", "second")
    ]
    token.write_text("second\n")
    hang_up(collector)
    assert "SIGHUP: changed: [admin] token; " in collector.stderr
    assert [401, 200] == [
        ask(collector, "/api/stats", Authorization=f"Bearer {word}")[0] for word in ("first", "second")
    ]
    token.write_text("")
    hang_up(collector)
    within(
        SECONDS, lambda: f'SIGHUP: collector: [admin] token_file = "{token}": is empty; ' in collector.stderr
    )
    assert 200 == ask(collector, "/api/stats", Authorization="Bearer second")[0]


def test_what_asks_the_admin_port_reads_the_token_from_its_file(
    make_collector: MakeCollector, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    collector = make_collector(f'[admin]\nport = 0\ntoken_file = "{token}"\n').start()
    asked = {"COLLECTOR__ADMIN__PORT": str(collector.admin_port)}
    assert "records/s" in run("top", "-c", str(collector.config), "-n", "1", **asked).stdout
    token.unlink()
    ended = run("top", "-c", str(collector.config), "-n", "1", **asked)
    assert 2 == ended.returncode
    assert ended.stderr.startswith(f'collector: [admin] token_file = "{token}": cannot be read: No such file')


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_token_that_cannot_be_read_is_a_fault_with_the_others(command: str, tmp_path: Path) -> None:
    environment = {
        "COLLECTOR__FILES__DIRECTORY": str(tmp_path / "logs"),
        "COLLECTOR__ADMIN__TOKEN_FILE": str(tmp_path / "none"),
        "COLLECTOR__LISTEN__PORT": "x",
    }
    result = run(command, **environment)
    assert 2 == result.returncode
    first, second = result.stderr.splitlines()
    assert first.startswith("COLLECTOR__LISTEN__PORT = ")
    assert second.startswith(f'collector: [admin] token_file = "{tmp_path}/none": cannot be read: ')


def test_who_needs_no_token_need_not_be_able_to_read_it(collector: Collector, tmp_path: Path) -> None:
    unreadable = {"COLLECTOR__ADMIN__TOKEN_FILE": str(tmp_path / "none")}
    sent = run("send", "--port", str(collector.port), "x", **unreadable)
    assert (0, "") == (sent.returncode, sent.stderr)
    within(SECONDS, lambda: collector.lines("root.log"))
    read = run("tail", "-c", str(collector.config), **unreadable)
    assert (0, "") == (read.returncode, read.stderr)


# --- The log as JSON ---------------------------------------------------------------------------------


def test_every_line_of_its_own_log_is_json_if_that_is_the_style(make_collector: MakeCollector) -> None:
    with BulkServer() as server:
        forward = destination(server.url, name="elk")
        collector = make_collector(f'[log]\nstyle = "json"\n[spool]\n{forward}')
        collector.start()
        collector.send(make_frame("one"))
        collector.send(b"\0\0\0\1x")
        within(SECONDS, lambda: "quarantined" in collector.stderr)
        os.kill(collector.worker, signal.SIGKILL)
        within(SECONDS, lambda: collector.stderr.count("listening on") == 2)
        assert 0 == collector.stop()
    lines = [json.loads(line) for line in collector.stderr.splitlines()]
    assert {"timestamp", "level", "logger", "message", "process"} == {key for line in lines for key in line}
    assert 3 <= len({line["process"] for line in lines}), "guardian, workers and forwarder"
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["timestamp"]) for line in lines)
    assert {"INFO", "ERROR"} <= {line["level"] for line in lines}
    assert lines[-1]["message"].startswith("stopped: ")


def test_another_style_holds_from_sighup_on(make_collector: MakeCollector) -> None:
    collector = make_collector().start()
    collector.configure('[log]\nstyle = "json"\n')
    hang_up(collector)
    last = json.loads(collector.stderr.splitlines()[-1])
    assert ("INFO", "SIGHUP: changed: [log] style; reopened: 0 files") == (last["level"], last["message"])
    os.kill(collector.worker, signal.SIGKILL)
    within(SECONDS, lambda: "another starts" in collector.stderr)
    (of_the_guardian,) = [line for line in collector.stderr.splitlines() if "another starts" in line]
    assert "ERROR" == json.loads(of_the_guardian)["level"]


def test_what_keeps_it_from_starting_is_json_once_the_configuration_is_read(
    make_collector: MakeCollector,
) -> None:
    first = make_collector().start()
    second = run("run", "--port", "0", "--directory", str(first.directory), COLLECTOR__LOG__STYLE="json")
    assert 2 == second.returncode
    *_, last = second.stderr.splitlines()
    assert "belongs to another collector, process " in json.loads(last)["message"]


def test_faults_found_while_it_starts_are_json_too(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    environment = {
        "COLLECTOR__LOG__STYLE": "json",
        "COLLECTOR__LISTEN__BACKLOG": "x",
        "COLLECTOR__FILES__DIRECTORY": str(tmp_path / "file"),
        "COLLECTOR__ADMIN__TOKEN_FILE": str(tmp_path / "none"),
    }
    result = run("run", "--port", "0", **environment)
    assert 2 == result.returncode
    messages = [json.loads(line)["message"] for line in result.stderr.splitlines()]
    of_backlog, of_directory, of_token = messages
    assert of_backlog.startswith("COLLECTOR__LISTEN__BACKLOG = ")
    assert of_directory.startswith("collector: cannot write in the directory ")
    assert of_token.startswith("collector: [admin] token_file = ")
