"""The applications of docs/clients.rst: saved and started as the page has it, each has its line.

Frameworks come from PyPI, into environments of their own that are made once.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.support.certificates import tls_table
from tests.support.environments import environment
from tests.support.places import CLIENTS
from tests.support.pythons import find_python, run
from tests.support.texts import blocks, section, shown
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.collectors import Collector

pytestmark = pytest.mark.slow

PAGE = "docs/clients.rst"
THIS = f"{sys.version_info.major}.{sys.version_info.minor}"
ANSWER_SECONDS = 30
STOP_SECONDS = 20
LOG_CONFIG = "import logging.config\n\nLOGGING"


class Application(NamedTuple):
    files: dict[str, str]
    """The names under which blocks of the page are saved, and how each block begins."""
    requirements: tuple[str, ...] = ()
    connections: int = 1
    """Processes that log: none may share the connection of another."""


APPLICATIONS = {
    "Clients": Application({"hello.py": "import logging, logging.handlers\nlog = "}),
    "logging.config": Application(
        {
            "logging.ini": "[loggers]",
            "from_file.py": "import logging.config\nlogging.config.fileConfig",
        },
        connections=2,
    ),
    "Flask and gunicorn": Application(
        {
            "app.py": "import logging.config\nfrom flask",
            "gunicorn.conf.py": "import logging.config\n\nlogconfig_dict",
        },
        ("flask", "gunicorn"),
        connections=2,
    ),
    "FastAPI and uvicorn": Application({"app.py": "import logging\nfrom fastapi"}, ("fastapi", "uvicorn")),
    "Django": Application(
        {"mysite/settings.py": "LOGGING = {", "mysite/logs.py": "import copy, logging.handlers, pickle"},
        ("django",),
    ),
    "Celery": Application({"tasks.py": "import logging.config\nfrom celery"}, ("celery",), connections=2),
    "Airflow": Application({"log_config.py": "from copy import deepcopy"}),
    "Processes that fork": Application({"work.py": "import logging.config\nimport multiprocessing"}),
    "asyncio, and whatever must not wait": Application({"in_a_loop.py": "import asyncio"}),
    "gevent, monkey-patched": Application({"patched.py": "from gevent import"}, ("gevent",)),
    "loguru": Application({"with_loguru.py": "import logging.handlers\nfrom loguru"}, ("loguru",)),
    "structlog": Application(
        {"with_structlog.py": "import logging.config\nimport structlog"}, ("structlog",)
    ),
}
ON_OTHER_PYTHONS = ("Clients", "logging.config", "Processes that fork")
CASES = [
    *((title, THIS) for title in APPLICATIONS),
    *((title, version) for title in ON_OTHER_PYTHONS for version in ("2.7", "3.6", "3.14")),
]
RUN_ELSEWHERE = {
    "os.register_at_fork": "test_children_have_connections_of_their_own_by_the_line_of_the_docs",
    "import logging, logging.handlers\n\nclass Spare": "test_what_cannot_be_sent_is_on_stderr",
    "import logging.handlers, ssl": "test_a_line_comes_over_tls_as_the_docs_have_it",
    "log = logging.getLogger": "test_a_line_comes_over_tls_as_the_docs_have_it",
}


class Place:
    """The directory in which a reader of the page works, with a collector that writes into `logs`."""

    def __init__(self, collector: Collector, python: str) -> None:
        self.collector = collector
        self.home = collector.directory.parent
        self.python = python
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._ports = {"9020": str(collector.port), "8000": str(free.getsockname()[1])}

    def save(self, name: str, text: str) -> None:
        """Append *text* to a file."""
        path = self.home / name
        path.parent.mkdir(exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(self._here(text))

    def follow(self, console: str, servers: ExitStack) -> None:
        """Enter what a block of the page shows, and wait for the line that it shows."""
        for entered in re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]:
            command, *output = entered.splitlines()
            if command.endswith(" &"):
                servers.enter_context(self._serving(command.removesuffix(" &")))
            elif command.startswith("curl "):
                self._await(command, lambda ended: ended.returncode == 0)
            elif command.startswith("cat "):
                self._await(command, partial(ends_with, output[-1]))
            else:
                self.enter(command)

    def enter(self, command: str) -> str:
        """Run a command to its end, and return what it prints."""
        ended = self.run(command)
        assert 0 == ended.returncode, ended.stderr
        assert "Logging error" not in ended.stderr
        return ended.stdout

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        return run("bash", "-c", self._script(command), seconds=ANSWER_SECONDS)

    def _await(self, command: str, condition: Callable[[subprocess.CompletedProcess[str]], bool]) -> None:
        within(ANSWER_SECONDS, lambda: condition(self.run(command)), command)

    @contextmanager
    def _serving(self, command: str) -> Iterator[None]:
        """Let a server run, with all that it starts."""
        with (self.home / "server.txt").open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-c", self._script(command)],
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            yield
            process.terminate()
            assert process.wait(STOP_SECONDS) in (0, -signal.SIGTERM)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert "Logging error" not in (self.home / "server.txt").read_text()

    def _script(self, command: str) -> str:
        """Return a script for a shell. Programs of pip name the place where their environment was made."""
        program, _, rest = command.partition(" ")
        there = Path(self.python).with_name(program)
        if program == "python3":
            program = self.python
        elif there.exists():
            program = f"{self.python} {there}"
        return f"cd {self.home} && exec {program} {self._here(rest)}"

    def _here(self, text: str) -> str:
        for shown_port, port in self._ports.items():
            text = text.replace(shown_port, port)
        return text


def ends_with(line: str, ended: subprocess.CompletedProcess[str]) -> bool:
    """Tell whether *line*, but for its time, is the last one that a command has printed."""
    after_the_time = line.partition("]")[2]
    return ended.stdout.rstrip("\n").rpartition("]")[2] == after_the_time


def arrange(title: str, version: str, collector: Collector, config: pytest.Config) -> Place:
    """Save what the page tells to save for an application, where its framework is."""
    files, requirements, _ = APPLICATIONS[title]
    python = environment(config, version, requirements) if requirements else find_python(version)
    place = Place(collector, python)
    if title == "Django":
        place.enter("python3 -m django startproject mysite .")
    if title == "Airflow":
        (place.home / "airflow").symlink_to(CLIENTS / "airflow")
    else:
        place.save("log_config.py", shown(PAGE, LOG_CONFIG))
    for name, begins in files.items():
        place.save(name, shown(PAGE, begins))
    return place


def connections(collector: Collector) -> int:
    return len(re.findall(r"connected$", collector.stderr, re.MULTILINE))


def test_each_program_of_the_page_is_run_by_a_test() -> None:
    programs = [block.text for block in blocks(PAGE) if block.language in ("python", "ini")]
    saved = [begins for application in APPLICATIONS.values() for begins in application.files.values()]
    assert [] == [text for text in programs if not text.startswith((LOG_CONFIG, *saved, *RUN_ELSEWHERE))]
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parents[1].rglob("test_*.py"))
    assert [] == [test for test in RUN_ELSEWHERE.values() if f"\ndef {test}(" not in tests]


@pytest.mark.parametrize(("title", "version"), CASES)
def test_an_application_that_is_set_up_as_the_docs_have_it_has_its_line_at_once(
    title: str, version: str, collector: Collector, pytestconfig: pytest.Config
) -> None:
    place = arrange(title, version, collector, pytestconfig)
    shows, names = section(PAGE, title)
    with ExitStack() as servers:
        for block in shows:
            if block.language == "console":
                place.follow(block.text, servers)
        for name in names:
            if name.startswith("logs/"):
                within(5, (place.home / name).exists, name)
    assert APPLICATIONS[title].connections <= connections(collector)


def test_gunicorns_workers_do_not_share_its_connection_if_the_application_is_loaded_before_the_fork(
    collector: Collector, pytestconfig: pytest.Config
) -> None:
    place = arrange("Flask and gunicorn", THIS, collector, pytestconfig)
    (console,) = [
        block.text for block in section(PAGE, "Flask and gunicorn")[0] if block.language == "console"
    ]
    with ExitStack() as servers:
        place.follow(console.replace("app:app", "--preload app:app"), servers)
    assert 2 == connections(collector)


def test_djangos_own_handlers_are_left(collector: Collector, pytestconfig: pytest.Config) -> None:
    place = arrange("Django", THIS, collector, pytestconfig)
    handlers = place.enter(
        "python3 manage.py shell -c 'import logging; print(logging.getLogger(\"django\").handlers)'"
    )
    assert ["StreamHandler", "AdminEmailHandler"] == re.findall(r"\w+Handler", handlers)


def test_airflows_records_come_once_and_masked(collector: Collector, pytestconfig: pytest.Config) -> None:
    place = arrange("Airflow", THIS, collector, pytestconfig)
    for logger, file in (("airflow.task", "airflow_task.log"), ("airflow.jobs", "airflow_jobs.log")):
        place.enter(
            f"""python3 -c "import airflow, logging; logging.getLogger('{logger}').info('a secret')" """
        )
        within(5, (collector.directory / file).exists, file)
    assert collector.stop() == 0
    assert {"airflow_task.log": "a ***", "airflow_jobs.log": "a ***"} == {
        name: data.decode().strip().partition(" 1 ")[2] for name, data in collector.files().items()
    }


@pytest.mark.parametrize("disabled", ["False", "True"])
def test_loggers_made_before_are_heard_only_without_disable_existing_loggers(
    disabled: str, collector: Collector
) -> None:
    """Which is true where a dictionary does not have it."""
    line = '    "disable_existing_loggers": False,\n'
    dictionary = shown(PAGE, LOG_CONFIG).replace(line, line if disabled == "False" else "")
    place = Place(collector, sys.executable)
    place.save("log_config.py", dictionary)
    place.save("before.py", "import logging; log = logging.getLogger('made.before')\n")
    place.save("application.py", "import before\nfrom log_config import LOGGING, logging\n")
    place.save("application.py", "logging.config.dictConfig(LOGGING); before.log.info('here')\n")
    place.save("application.py", "logging.getLogger('made.after').info('here')\n")
    place.enter("python3 application.py")
    within(5, lambda: collector.lines("made_after.log"))
    assert collector.stop() == 0
    assert (disabled == "False") == ("made_before.log" in collector.files())


def test_a_line_comes_over_tls_as_the_docs_have_it(
    make_collector: Callable[..., Collector], certificates: Path
) -> None:
    place = Place(make_collector(tls_table(certificates)).start(), sys.executable)
    *program, console = (block.text for block in section(PAGE, "TLS")[0])
    for text in program:
        here = text.replace("ca.pem", f"{certificates}/ca.pem").replace("logs.example.org", "localhost")
        place.save("over_tls.py", f"{here}\n")
    with ExitStack() as servers:
        place.follow(console, servers)
