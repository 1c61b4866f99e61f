"""README and the docs: they render, their links lead somewhere, and what they tell to do can be done.

Each command in them is run by a test that RUN_BY names, or has a reason in NOT_RUN.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.parse
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from docutils import nodes

from collector import cli
from collector.config.load import load
from collector.config.tables import Config
from tests.support.bulk_server import BulkServer
from tests.support.collectors import Collector, messages
from tests.support.frames import make_frame
from tests.support.places import HOME
from tests.support.pythons import run
from tests.support.texts import TEXTS, blocks, document, inline, shown
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.opensearch import OpenSearch

    MakeCollector = Callable[..., Collector]

INSTALL_SECONDS = 300
README_LINES = 150
PORT = 9020
CONFIG_FILE = "/etc/collector/collector.toml"
OF_CLIENTS = "test_an_application_that_is_set_up_as_the_docs_have_it_has_its_line_at_once"
OF_TAIL = "test_the_docs_commands_for_reading_back_work"
OF_THE_FIRST_MINUTE = "test_the_first_thirty_seconds_are_as_readme_has_them"
OF_OPENSEARCH = "test_the_thirty_seconds_of_handing_over_are_as_the_docs_have_them"
OF_LETTERS = "test_dead_letters_are_shown_and_sent_again_as_the_docs_have_it"
OF_SYSTEMD = "test_the_files_that_systemd_needs_are_installed_as_the_docs_have_it"
OF_THE_PAGE_OF_CLIENTS = (
    *(
        "cat logs/",
        "celery -A tasks worker",
        "curl http://127.0.0.1:8000/",
        "gunicorn --bind",
        "uvicorn app:app",
    ),
    *("python3 log_config.py", "python3 from_file.py", "python3 manage.py shell", "python3 work.py"),
    *("python3 in_a_loop.py", "python3 patched.py", "python3 over_tls.py", "python3 with_", "python3 -c "),
)
RUN_BY = {
    "collector check -c collector.toml --send": "test_one_record_is_sent_to_each_and_its_verdict_is_told",
    "python3 -m venv .venv && .venv/bin/pip install --quiet . && .venv/bin/collector": OF_THE_FIRST_MINUTE,
    "python3 hello.py": OF_THE_FIRST_MINUTE,
    "cat logs/app_web.log": OF_THE_FIRST_MINUTE,
    **dict.fromkeys(OF_THE_PAGE_OF_CLIENTS, OF_CLIENTS),
    ".venv/bin/collector send --logger app.web hello": OF_THE_FIRST_MINUTE,
    "journalctl -f -o cat -u app | collector send": "test_a_journal_is_sent_as_the_docs_have_it",
    "collector tail ": OF_TAIL,
    "collector forward -c collector.toml": OF_OPENSEARCH,
    "collector -c collector.toml": OF_OPENSEARCH,
    "collector send -c collector.toml": OF_OPENSEARCH,
    "curl ": OF_OPENSEARCH,
    "collector forward elk ": OF_LETTERS,
    "collector quarantine ": "test_it_is_listed_shown_and_replayed_as_the_docs_have_it",
    "openssl req": "test_the_certificate_that_the_docs_make_is_accepted",
    "ln -s /opt/collector": OF_SYSTEMD,
    "install -": OF_SYSTEMD,
    "sed -i": OF_SYSTEMD,
    "(umask 077": OF_SYSTEMD,
    "mkdir -p /etc/systemd": OF_SYSTEMD,
    "printf '[Service]": OF_SYSTEMD,
    "curl -H": OF_SYSTEMD,
    "docs/configuration.py > docs/configuration.rst": "test_the_page_of_the_configuration_is_its_manual",
    "kill -HUP PID": "test_one_line_says_what_was_done",
    "kill -USR1 PID": "test_every_file_that_has_lines_is_rolled_over",
}
_IMAGE = "test_docker.py builds and runs the image, with names and a port of its own"
_SYSTEMD = "needs systemd as process 1; test_deployment.py has the units verified, test_notify.py runs them"
_CI = "is a part of .ci/run, which runs this test"
NOT_RUN = {
    "docker run -d --name opensearch": "needs OpenSearch's image; a test has a node of its own",
    "docker build": _IMAGE,
    "docker run": _IMAGE,
    "docker exec": _IMAGE,
    "docker stop": _IMAGE,
    "docker kill": f"{_IMAGE}; test_reload.py sends the signals",
    "docker compose": "needs the images of Prometheus and Grafana; test_deployment.py reads the file",
    "kubectl": "needs a cluster; test_kubernetes.py holds the file against its schemas",
    "systemctl": _SYSTEMD,
    "runuser": _SYSTEMD,
    "python3 -m venv /opt/collector": "installs as the first command of README does, which is run",
    "chown 10001": "needs an image that runs as 10001, and that is tested",
    "pip install 'gevent-collector[": "needs a release on PyPI",
    "python -m tests.benchmarks": "takes an hour; test_benchmarks.py runs the parts",
    "python -m tests.fuzz": _CI,
    "python3 -m venv .venv": _CI,
    ".venv/bin/python -m pytest": _CI,
    ". .venv/bin/activate": "sets variables of a shell",
    "pip install --quiet -e": "needs the network; .ci/run installs the same extra from a wheel",
    "pytest": _CI,
    "coverage": "takes longer than the whole suite, which .ci/run runs without it",
    "ruff": _CI,
    "mypy": _CI,
    ".ci/run": "runs this test",
}
PROGRAMS = re.compile(
    r"(\.venv/bin/collector|(\S*/)?(docker|systemctl|runuser|kill|chown|pip|python3?|pytest)) [^=]+"
)


def commands() -> Iterator[str]:
    """Yield every command of the texts: in blocks of a shell, and between double backquotes."""
    for name in TEXTS:
        for language, text in blocks(name):
            if language == "sh":
                yield from filter(None, (line.strip() for line in text.replace("\\\n", "").split("\n")))
            elif language == "console":
                yield from re.findall(r"(?m)^\$ (.*)", text)
        yield from filter(PROGRAMS.fullmatch, inline(name))


def known(command: str) -> list[str]:
    return [begin for begin in (*RUN_BY, *NOT_RUN) if command.startswith(begin)]


# --- how they read ---


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_renders_without_a_warning(name: str) -> None:
    assert document(name).findall(nodes.title)


@pytest.mark.parametrize("name", TEXTS)
def test_each_link_within_the_project_leads_to_a_file_and_a_section(name: str) -> None:
    wrong = []
    links = [link.get("refuri", "") for link in document(name).findall(nodes.reference)]
    links += [image["uri"] for image in document(name).findall(nodes.image)]
    for link in filter(None, links):
        parts = urllib.parse.urlsplit(link)
        if parts.scheme:
            continue
        target = os.path.normpath(os.path.join(os.path.dirname(name), parts.path))
        if not (HOME / target).is_file():
            wrong.append(link)
        elif parts.fragment:
            ids = [one for section in document(target).findall(nodes.section) for one in section["ids"]]
            wrong += [] if parts.fragment in ids else [link]
    assert not wrong


def test_readme_is_short_and_leads_to_every_other_text() -> None:
    text = (HOME / "README.rst").read_text(encoding="utf-8")
    assert text.count("\n") <= README_LINES
    assert [] == [name for name in TEXTS if name != "README.rst" and f"<{name}>" not in text]


def test_the_top_level_holds_no_more_than_a_reader_needs() -> None:
    if (HOME / "PKG-INFO").exists():  # an sdist, unpacked
        paths = [path.name for path in HOME.iterdir() if path.name != "PKG-INFO"]
    else:
        listed = subprocess.run(["git", "ls-files"], cwd=HOME, capture_output=True, text=True, check=False)
        if listed.returncode:
            pytest.skip(f"not in a clone: {listed.stderr.strip()}")
        paths = listed.stdout.splitlines()
    top = {path.partition("/")[0] for path in paths if not path.startswith(".")}
    assert top <= {
        *("collector", "docs", "etc", "tests"),
        *("Dockerfile", "LICENSE", "pyproject.toml"),
        *("README.rst", "CHANGELOG.rst", "CONTRIBUTING.rst"),
    }


def test_the_page_of_the_configuration_is_its_manual() -> None:
    made = subprocess.run(["docs/configuration.py"], cwd=HOME, capture_output=True, text=True, check=True)
    assert made.stdout == (HOME / "docs/configuration.rst").read_text(encoding="utf-8")


def test_every_test_that_the_architecture_names_exists() -> None:
    there = set()
    for path in (HOME / "tests").rglob("test_*.py"):
        there |= set(re.findall(r"(?m)^def (test_\w+)", path.read_text(encoding="utf-8")))
    named = {one for one in inline("docs/architecture.rst") if one.startswith("test_")}
    assert len(named) > 10
    assert named <= there


# --- what they tell to do ---


def test_each_command_is_run_by_a_test_or_there_is_a_reason_why_not() -> None:
    assert [] == [command for command in commands() if not known(command)]


def test_no_command_is_held_that_no_text_has() -> None:
    has = set(commands())
    assert [] == [begin for begin in (*RUN_BY, *NOT_RUN) if not any(one.startswith(begin) for one in has)]


def test_the_tests_that_run_commands_exist() -> None:
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (HOME / "tests").rglob("test_*.py"))
    assert [] == [test for test in RUN_BY.values() if f"\ndef {test}" not in sources]


@pytest.mark.parametrize("name", TEXTS)
def test_commands_of_the_collector_have_options_that_it_has(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "\n".join([*inline(name), *(block.text for block in blocks(name))])
    used = re.findall(r"(?m)^\s*(?:\$ )?(?:\S*/)?collector (?:-c \S+ )?([a-z]+)\b([^|\n#]*)", words)
    for command, rest in used:
        with pytest.raises(SystemExit, match="0"):
            cli.main([command, "--help"])
        options = capsys.readouterr().out
        assert [] == [one for one in re.findall(r"(?<![\w-])--?[a-z]+", rest) if one not in options]


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_said_to_be_python_is(name: str) -> None:
    for block in blocks(name):
        if block.language == "python":
            compile(block.text, name, "exec")


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_said_to_be_a_configuration_can_be_loaded(name: str, tmp_path: Path) -> None:
    for number, block in enumerate(blocks(name)):
        if block.language == "toml":
            file = tmp_path / f"{number}.toml"
            file.write_text(block.text, encoding="utf-8")
            assert load(file) != Config() or "[listen.tls]" in block.text


@pytest.mark.slow
def test_the_first_thirty_seconds_are_as_readme_has_them(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            free.bind(("127.0.0.1", PORT))
        except OSError as error:
            pytest.skip(f"port {PORT}: {error}")
    clone = tmp_path / "clone"
    ignored = shutil.ignore_patterns(".*", "*.egg-info", "build", "__pycache__", "tests", "logs")
    shutil.copytree(HOME, clone, ignore=ignored)
    (first,) = [command for command in commands() if command.endswith("&& .venv/bin/collector")]
    install, _, start = first.rpartition(" && ")
    installed = run("bash", "-c", f"cd {clone} && {install}", seconds=INSTALL_SECONDS)
    if installed.returncode:
        pytest.skip(f"cannot install: {installed.stderr.strip()[-200:]}")
    (clone / "hello.py").write_text(shown("README.rst", "import logging"))
    log = tmp_path / "stderr.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(start, cwd=clone, stderr=output)
    try:
        within(20, lambda: f"listening on 127.0.0.1:{PORT}" in log.read_text())
        for command in ("python3 hello.py", ".venv/bin/collector send --logger app.web hello"):
            ended = run("bash", "-c", f"cd {clone} && {command}")
            assert (0, "", "") == (ended.returncode, ended.stdout, ended.stderr)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
    lines = run("bash", "-c", f"cd {clone} && cat logs/app_web.log").stdout.splitlines()
    expected = shown("README.rst", "$ python3 hello.py").splitlines()[2]
    assert [after_the_time(expected), "app.web INFO 0 hello"] == [after_the_time(line) for line in lines]


def after_the_time(line: str) -> str:
    return line.partition("]: ")[2]


@pytest.fixture
def collector_on_path(tmp_path: Path) -> str:
    """Return a PATH on which `collector` is the one that is tested."""
    programs = tmp_path / "bin"
    programs.mkdir()
    program = programs / "collector"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m collector "$@"\n')
    program.chmod(0o700)
    return f"{programs}:{os.environ['PATH']}"


@pytest.mark.parametrize(
    "command", [line for line in shown("docs/operate.rst", "collector tail").splitlines() if "-f" not in line]
)
def test_the_docs_commands_for_reading_back_work(
    command: str, tmp_path: Path, collector_on_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(timezone.utc)
    behind = timedelta(hours=now.hour - 12)  # by a clock on which it is about noon, 20:58 was yesterday
    when = (now - behind - timedelta(days=1)).replace(hour=20, minute=58) + behind
    record = {
        "timestamp": f"{when:%Y-%m-%dT%H:%M:%S.%f}Z",
        "level": "ERROR",
        "logger": "payments",
        "message": "order 42",
        "client": "10.0.0.7:50000",
    }
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "payments.log").write_text(json.dumps(record, separators=(",", ":")) + "\n")
    (tmp_path / "copied.log.gz").write_bytes(gzip.compress((logs / "payments.log").read_bytes()))
    config = tmp_path / "collector.toml"
    config.write_text('[files]\ndirectory = "logs"\n[format]\nstyle = "json"\n')
    monkeypatch.chdir(tmp_path)
    zone = f"noon{now.hour - 12:+}"
    ended = run("bash", "-c", command, PATH=collector_on_path, COLLECTOR_CONFIG=str(config), TZ=zone)
    assert (0, "") == (ended.returncode, ended.stderr)
    assert ("1 ERROR" if "--count" in command else "order 42") in ended.stdout


def test_the_docs_command_for_following_works(collector: Collector, collector_on_path: str) -> None:
    (command,) = [line for line in shown("docs/operate.rst", "collector tail").splitlines() if "-f" in line]
    environ = os.environ | {"PATH": collector_on_path, "COLLECTOR_CONFIG": str(collector.config)}
    collector.send(make_frame("before"))
    within(5, lambda: messages(collector) == ["before"])
    with subprocess.Popen(
        ["bash", "-c", f"exec {command}"], stdout=subprocess.PIPE, text=True, env=environ
    ) as tail:
        assert tail.stdout
        assert tail.stdout.readline().endswith("before\n")
        collector.send(make_frame("after"))
        assert tail.stdout.readline().endswith("after\n")
        tail.terminate()


def test_a_journal_is_sent_as_the_docs_have_it(
    collector: Collector, collector_on_path: str, tmp_path: Path
) -> None:
    journalctl = tmp_path / "bin/journalctl"
    journalctl.write_text("#!/bin/sh\necho one\necho two\n")
    journalctl.chmod(0o700)
    (command,) = [one for one in commands() if one.startswith("journalctl")]
    config = tmp_path / "to.toml"
    config.write_text(f"[listen]\nport = {collector.port}\n")
    ended = run("bash", "-c", command.replace(CONFIG_FILE, str(config)), PATH=collector_on_path)
    assert (0, "") == (ended.returncode, ended.stderr)
    within(5, lambda: [line[-3:] for line in collector.lines("app.log")] == ["one", "two"])


@pytest.mark.slow
def test_the_files_that_systemd_needs_are_installed_as_the_docs_have_it(
    make_collector: MakeCollector, tmp_path: Path
) -> None:
    pytest.importorskip("prometheus_client", reason="without the extra `metrics`")
    for directory in ("usr/local/bin", "etc/systemd/system"):
        (tmp_path / directory).mkdir(parents=True)
    steps = ("python3 -m venv /opt/collector", "(umask 077", "install -m 0644 etc/collector-forward@")
    block = "".join(shown("docs/deploy.rst", begins) for begins in steps)
    there = re.sub(r" (?=/(opt|usr|etc)/)", f" {tmp_path}", block).splitlines()
    files = [line for line in there if not re.match(r"python3|systemctl|curl", line)]
    ended = run("bash", "-ec", f"cd {HOME}; " + "; ".join(files))
    assert (0, "") == (ended.returncode, ended.stderr)

    units = {path.name for path in (tmp_path / "etc/systemd/system").iterdir()}
    assert {"collector.socket", "collector.service", "collector-forward@.service"} == units - {
        "collector.service.d"
    }
    for unit in ("collector.service", "collector-forward@.service"):
        (exec_start,) = re.findall(
            r"(?m)^ExecStart=(\S+) (?:run|forward) -c (\S+)", (HOME / "etc" / unit).read_text()
        )
        assert ("/usr/local/bin/collector", CONFIG_FILE) == exec_start
    assert (tmp_path / "usr/local/bin/collector").is_symlink()

    token = tmp_path / "etc/collector/token"
    drop_in = (tmp_path / "etc/systemd/system/collector.service.d/token.conf").read_text()
    assert "[Service]\nLoadCredential=token:/etc/collector/token\n" == drop_in
    assert 0 == token.stat().st_mode & 0o077, "for root alone"
    config = (tmp_path / "etc/collector/collector.toml").read_text()
    for systemds, ours in (
        ("/run/credentials/collector.service/token", str(token)),
        ("/var/log/collector", str(tmp_path / "logs")),
        (f"port = {PORT}\n", "port = 0\n"),
        ("[admin]\n", "[admin]\nport = 0\n"),
    ):
        assert systemds in config
        config = config.replace(systemds, ours)
    collector = make_collector(config, directory=tmp_path / "logs").start()
    (curl,) = [line for line in there if line.startswith("curl")]
    asked = run("bash", "-c", curl.replace(":9021", f":{collector.admin_port}"))
    assert "\ncollector_healthy 1.0\n" in asked.stdout


# --- handing over ---

SEARCHABLE_SECONDS = 30
ENGINE = "http://127.0.0.1:9200"
FIGURES = re.compile(
    r"\d{4}-\d\d-\d\dT[\d:]+Z|\b[0-9a-f]{16}-[0-9a-f]{16}\b|\d+\.0\.0\.\d+:\d+|(?<=process )\d+"
)


def start_as_forward_has_it(engine: str, make_collector: MakeCollector) -> Collector:
    """Start a collector with the configuration of docs/forward.rst, at a port that is told to `send`."""
    (config,) = [
        block.text for block in blocks("docs/forward.rst") if ENGINE in block.text and "[[" in block.text
    ]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    collector = make_collector(f"[listen]\nport = {port}\n{config.replace(ENGINE, engine)}")
    return collector.start()


def like(text: str) -> list[str]:
    """Return the lines of a text, without what is another one each time."""
    return FIGURES.sub("...", text).splitlines()


@pytest.mark.slow
def test_the_thirty_seconds_of_handing_over_are_as_the_docs_have_them(
    opensearch: OpenSearch, make_collector: MakeCollector, collector_on_path: str, tmp_path: Path
) -> None:
    def do(command: str) -> subprocess.CompletedProcess[str]:
        command = command.replace(ENGINE, opensearch.url).replace("collector.toml", str(collector.config))
        command = command.replace("template.json", str(tmp_path / "template.json"))
        ended = run("bash", "-ec", command, PATH=collector_on_path)
        assert ended.returncode == 0, ended.stderr
        return ended

    collector = start_as_forward_has_it(opensearch.url, make_collector)
    make_template, start = shown("docs/forward.rst", "collector forward -c").rsplit("collector -c", 1)
    assert start == " collector.toml\n"
    assert '"acknowledged":true' in do(make_template).stdout
    send, search = shown("docs/forward.rst", "collector send -c").splitlines()
    do(send)
    within(SEARCHABLE_SECONDS, lambda: '"message" : "hello"' in do(search).stdout)
    command, status = shown("docs/forward.rst", "$ collector forward -c").removeprefix("$ ").split("\n", 1)
    within(5, lambda: like(status) == like(do(command).stdout), "the status, which is written each second")


@pytest.mark.slow
def test_dead_letters_are_shown_and_sent_again_as_the_docs_have_it(
    make_collector: MakeCollector, collector_on_path: str
) -> None:
    def do(command: str) -> str:
        ended = run("bash", "-c", command, PATH=collector_on_path, COLLECTOR_CONFIG=str(collector.config))
        assert (0, "") == (ended.returncode, ended.stderr)
        return ended.stdout

    with BulkServer() as server:
        server.errors["order 42"] = (400, {"type": "mapper_parsing_exception", "reason": "no number"})
        collector = start_as_forward_has_it(server.url, make_collector)
        for text in ("one", "two", "three", "order 42 failed", "another"):
            collector.send(make_frame(text, "app.web"))
        within(10, lambda: "is refused for good" in collector.stderr)
        (told,) = [line for line in collector.stderr.splitlines() if "refused" in line]
        assert like(shown("docs/forward.rst", "ERROR elk:")) == like(told.partition(" ")[2].partition(" ")[2])
        show, letter, resend, outcome = shown("docs/forward.rst", "$ collector forward elk").splitlines()
        assert like(letter) == like(do(show.removeprefix("$ ")))
        (spool,) = collector.directory.glob(".spool")
        found = {path.name for path in spool.iterdir()}
        server.errors.clear()
        assert like(outcome) == like(do(resend.removeprefix("$ ")))
        ago, between = shown("docs/forward.rst", "collector forward elk --resend").splitlines()
        assert do(ago) == "0 stored, 5 there already, 0 filtered, 0 refused\n"
        assert do(between).endswith(" refused\n")
    collector.stop()
    found |= {path.name for path in spool.iterdir()}
    named = {re.sub(r"^.*(?=\.seg|\.new)", "*", name.replace("elk", "NAME")) for name in found}
    assert named <= {text.astext() for text in document("docs/forward.rst").findall(nodes.literal)}
    assert {"*.seg", "NAME.dead", "NAME.resend.lock", "NAME.status.json"} <= named


@pytest.mark.skipif(not shutil.which("rsyslogd"), reason="needs rsyslog")
def test_rsyslog_takes_the_configuration_that_the_docs_have_for_it(tmp_path: Path) -> None:
    path = tmp_path / "rsyslog.conf"
    plain, tls = (shown("docs/forward.rst", text) for text in ("global(maxMessageSize", "input(type="))
    path.write_text(plain + tls.replace("/etc/rsyslog", str(tmp_path)))
    for name in re.findall(r'"/etc/rsyslog/(\S+?)"', tls):
        (tmp_path / name).touch()
    ended = run("rsyslogd", "-N1", "-f", str(path))
    if "imrelp" in ended.stderr and "could not load module" in ended.stderr:
        pytest.skip("needs rsyslog's module for RELP")
    assert 0 == ended.returncode, ended.stderr
