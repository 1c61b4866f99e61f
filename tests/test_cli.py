from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import collector
from collector import __version__
from collector.cli import _COMMANDS, _options
from tests.support.commands import run
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.collectors import Collector

COMMANDS = [command[0] for command in _COMMANDS]
COLLECTS = "import sys, collector.__main__, collector.cli, collector.commands.run"


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_the_version_is_told_by_either_option(option: str) -> None:
    result = run(option)
    assert (0, f"collector {__version__}, not compiled\n") == (result.returncode, result.stdout)


def test_the_version_says_whether_it_is_compiled(tmp_path: Path) -> None:
    package = shutil.copytree(Path(collector.__file__).parent, tmp_path / "collector", symlinks=True)
    module = package / "wire" / "fragments.py"
    module.rename(module.with_suffix(EXTENSION_SUFFIXES[0]))  # which is not loaded for that
    told = subprocess.check_output([sys.executable, "-m", "collector", "-V"], cwd=tmp_path, text=True)
    assert f"collector {__version__}, compiled\n" == told


@pytest.mark.quick
def test_send_writes_one_record_through_a_stock_handler(collector: Collector) -> None:
    sent = run("send", "--port", str(collector.port), "--logger", "a.b", "--level", "warning", "two", "words")
    assert (0, "", "") == (sent.returncode, sent.stdout, sent.stderr)
    within(5, lambda: collector.lines("a_b.log"), "the record is in its file")
    assert collector.lines("a_b.log")[0].endswith("]: a.b WARNING 0 two words")


def test_send_exits_with_1_if_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        result = run("send", "--port", str(unused.getsockname()[1]), "x")
    assert result.returncode == 1
    assert result.stderr.startswith("collector send: cannot reach 127.0.0.1:")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["-c {}", "-c{}", "--config {}", "--config={}", "--conf {}", "--conf={}"])
@pytest.mark.parametrize("command", ["", "run", "check", "tail", "top"])
def test_the_configuration_may_be_named_before_the_command(command: str, form: str, tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text("[files]\ndirectory = 5\n")
    before = form.format(config).split()
    expected = run(command or "run", *before)
    actual = run(*before, *command.split())
    assert (2, "") == (expected.returncode, expected.stdout)
    assert (2, "", expected.stderr) == (actual.returncode, actual.stdout, actual.stderr)
    assert f"{config}: [files] directory = 5" in actual.stderr


def test_of_two_configurations_the_one_behind_the_command_holds(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("[files]\ndirectory = 5\n")
    result = run("-c", str(tmp_path / "missing.toml"), "check", "-c", str(tmp_path / "c.toml"))
    assert "directory = 5" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "usage", "fault"),
    [
        (["tial"], "collector [-c FILE]", "tial: no such command; did you mean tail?"),
        (["CHECK"], "collector [-c FILE]", "CHECK: no such command; did you mean check?"),
        (
            ["-c", "x", "chekc", "--json"],
            "collector [-c FILE]",
            "did you mean check?",
        ),
        (["help"], "collector [-c FILE]", "help: no such command; did you mean --help?"),
        (["version"], "collector [-c FILE]", "version: no such command; did you mean --version?"),
        (["xyz"], "collector [-c FILE]", "xyz: no such command; there are run, check, tail, top, "),
        (["tail", "--folow"], "collector tail", "unrecognized arguments: --folow; did you mean --follow?"),
        (["tail", "--sinse=10m"], "collector tail", "did you mean --since?"),
        (
            ["tail", "--since", "soon"],
            "collector tail",
            "argument --since: soon: must be how long ago, such as",
        ),
        (["tail", "--level", "eror"], "collector tail", "did you mean ERROR?"),
        (["check", "x"], "collector check", "unrecognized arguments: x; a configuration is named by -c x"),
        ([__file__], "collector [-c FILE]", f"no such command; a configuration is named by -c {__file__}"),
        (["top", "-n", "-1"], "collector top", "argument -n"),
        (["top", "-n", "\u0663"], "collector top", "argument -n: \u0663: must be a whole number"),
        (["send"], "collector send", "the following arguments are required: MESSAGE"),
        (["--jsno"], "collector run", "unrecognized arguments: --jsno"),
        (["--versoin"], "collector run", "unrecognized arguments: --versoin; did you mean --version?"),
        (["--confg", "x"], "collector run", "did you mean --config?"),
        (
            ["-c", "x", "--port", "9510", "send", "hi"],
            "collector send",
            "--port belongs behind the command: collector send --port ...",
        ),
        (
            ["--json", "tail"],
            "collector tail",
            "--json belongs behind the command: collector tail --json ...",
        ),
        (["-c"], "collector run", "argument -c/--config: expected one argument"),
    ],
)
def test_wrong_usage_is_exit_2_with_the_usage_of_its_command_and_what_was_meant(
    arguments: list[str], usage: str, fault: str
) -> None:
    result = run(*arguments)
    assert (2, "") == (result.returncode, result.stdout)
    assert result.stderr.startswith(f"usage: {usage}")
    assert fault in result.stderr


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_ends_with_an_example_that_could_be_run(command: str) -> None:
    """Of this command, parsed without a fault."""
    words = run(*command.split(), "--help").stdout.splitlines()[-1].split()
    assert ["example:", "collector"] == words[:2]
    assert (command or "run") == _options(words[2:]).command


@pytest.mark.parametrize("command", ["run", "check", "tail", "top", "send"])
def test_help_tells_the_default_of_every_option(command: str) -> None:
    result = run(command, "--help")
    assert 0 == result.returncode
    options = result.stdout.partition("\noptions:\n")[2]
    described = re.findall(r"(?m)^  (-.*(?:\n {10,}.*)*)", options)
    without = ("-h,", "-f,", "-i,", "--json", "--count", "--send")
    assert [] == [
        one for one in described if not one.startswith(without) and "(default: " not in " ".join(one.split())
    ]


@pytest.mark.quick
def test_without_a_command_it_runs(make_collector: Callable[..., Collector]) -> None:
    collector = make_collector()
    with collector.log.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "collector", "-c", str(collector.config)], stderr=log
        )
    collector.process = process
    within(20, lambda: "listening on 127.0.0.1:" in collector.stderr, "listening")


def test_the_configuration_may_be_named_by_the_environment(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text("[files]\ndirectory = 5\n")
    result = run("check", COLLECTOR_CONFIG=str(config))
    assert result.returncode == 2
    assert str(config) in result.stderr


def test_an_empty_variable_names_no_file(tmp_path: Path) -> None:
    environment = os.environ | {"COLLECTOR_CONFIG": ""}
    command = [sys.executable, "-m", "collector", "check"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert (0, b"") == (result.returncode, result.stderr)
    assert f"ok: listens on 127.0.0.1:9020, writes to {tmp_path}/logs\n".encode() == result.stdout
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["run", "check", "tail", "top"])
def test_an_empty_configuration_is_one_line_and_exit_2(command: str, tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.touch()
    result = run(command, "-c", str(config))
    fault = f"{config}: has no table; leave out -c for the defaults, or COLLECTOR_CONFIG\n"
    assert (2, fault) == (result.returncode, result.stderr)
    assert [config] == list(tmp_path.iterdir())


def test_a_directory_is_no_configuration(tmp_path: Path) -> None:
    result = run("check", COLLECTOR_CONFIG=str(tmp_path))
    fault = f"{tmp_path}: cannot be read: Is a directory; give the path of a TOML file\n"
    assert (2, fault) == (result.returncode, result.stderr)


def test_check_exits_with_0_beside_a_running_collector(collector: Collector) -> None:
    result = run("check", "-c", str(collector.config))
    assert (0, "") == (result.returncode, result.stderr)
    assert {} == collector.files()


def test_every_fault_of_a_configuration_is_listed_at_once(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text('[listen]\nport = 70000\n[rollover]\nwhen = "noon"\n[fils]\n')
    for command in ("check", "run"):
        result = run(command, "-c", str(config))
        assert result.returncode == 2
        assert 3 == len(result.stderr.splitlines()), result.stderr
        assert 'when = "noon"' in result.stderr


@pytest.mark.parametrize("command", ["run", "check"])
def test_what_the_machine_lacks_is_listed_with_the_faults_of_the_configuration(
    command: str, tmp_path: Path
) -> None:
    config = tmp_path / "c.toml"
    tls = 'certificate = "a.pem"\nprivate_key = "a.key"\nclient_ca = "b.pem"\n'
    directory = '[files]\ndirectory = "/proc/nope"\n'
    config.write_text(f'[listen]\nallow = ["10.0.0.1/8", "::1", "all"]\n[listen.tls]\n{tls}{directory}')
    result = run(command, "-c", str(config))
    assert result.returncode == 2
    for fault in ("10.0.0.1/8 has host bits set", "'all' does not", "/proc/nope", "a.key", "b.pem"):
        assert fault in result.stderr


def test_a_faulty_directory_is_not_replaced_by_the_default(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text("[files]\ndirectory = 5\n")
    subprocess.run([sys.executable, "-m", "collector", "check", "-c", config], cwd=tmp_path, check=False)
    assert [config] == list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_missing_configuration_is_one_line_and_exit_2(command: str, tmp_path: Path) -> None:
    result = run(command, "-c", str(tmp_path / "missing.toml"))
    assert result.returncode == 2
    assert 1 == len(result.stderr.splitlines())
    assert "missing.toml" in result.stderr


@pytest.mark.parametrize("directory", ["{}/file/logs", "/proc/nope", "/proc/nope/logs"])
@pytest.mark.parametrize("command", ["run", "check"])
def test_a_directory_that_cannot_be_made_is_one_line_and_exit_2(
    command: str, directory: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    directory = directory.format(tmp_path)
    config = tmp_path / "c.toml"
    config.write_text(f'[files]\ndirectory = "{directory}"\n')
    result = run(command, "-c", str(config))
    assert result.returncode == 2
    assert 1 == len(result.stderr.splitlines())
    assert f"{directory!r}" in result.stderr


@pytest.mark.quick
def test_a_port_that_is_taken_is_one_line_and_exit_2(collector: Collector, tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text(f'[listen]\nport = {collector.port}\n[files]\ndirectory = "{tmp_path}/logs"\n')
    result = run("run", "-c", str(config))
    assert result.returncode == 2
    assert 1 == len(result.stderr.splitlines())
    assert result.stderr.startswith(f"collector: cannot listen on 127.0.0.1:{collector.port}: ")


def test_nothing_that_collects_loads_pickle() -> None:
    assert "False" in run_python(f"{COLLECTS}, collector.daemon.worker; print('pickle' in sys.modules)")


def test_the_guardian_loads_no_gevent_and_nothing_of_tls() -> None:
    loaded = run_python(f"{COLLECTS}; print({{'gevent', 'ssl', 'http.client'}} & set(sys.modules))")
    assert "set()\n" == loaded


def run_python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    ).stdout
