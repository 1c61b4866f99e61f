"""Unchanged applications on every Python from 2.7 to 3.14: what they log arrives once, whole, in its file.

The applications are the programs in `tests/clients`, each in a process of its own.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.collectors import Collector, whole_lines
from tests.support.places import CLIENTS
from tests.support.pythons import find_python, run
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

pytestmark = pytest.mark.slow

PYTHONS = ("2.7", "3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14")
# The last gevent for Python 2.7; unlike 21.12.0, which takes six minutes to compile, it has wheels for Linux.
GEVENT_FOR_2_7 = "22.10.2"
MiB = 1024 * 1024


INSTALL_SECONDS = 100

CONFIG = '[format]\ntext = "%(name)s %(levelname)s %(request_id)s %(user)s %(message)s"\n'

TRACEBACK = (
    'Traceback (most recent call last):\n  File "{path}", line {line}, in <module>\n'
    "    raise ValueError(number)\nValueError: {number}"
)
RAISE = "        raise ValueError(number)"

# What the files of a client hold, record by record: the keys and the records follow the logger's name.
EXPECTED: dict[str, Mapping[str, list[str]]] = {
    "plain": {
        ".web": [f" INFO - - record-{number}: 100% of 'it'" for number in range(50)],
        ".db": [f" DEBUG - - record-{number}" for number in range(50)],
    },
    "unicode_text": {
        "": [
            " INFO - - record-0: gr\u00fc\u00dfe \u2603",
            " INFO - - record-1: \u6f22\u5b57 \u2603",
            " INFO - - record-2: \U0001f600 \u2603",
            " INFO - - record-3: e\u0301 \u2603",
            " INFO - - record-4: \u0634\u0643\u0631\u0627 \u2603",
        ],
    },
    "byte_strings": {
        "": [
            " INFO - - record-0: gr\u00fc\u00dfe",
            " INFO - - record-1: \u6f22\u5b57",
            " INFO - - record-2: \U0001f600",
        ],
    },
    "exception": {
        "": [
            f" ERROR - - record-{number}\n"
            + TRACEBACK.format(
                path=CLIENTS / "exception.py",
                line=1 + (CLIENTS / "exception.py").read_text().split(RAISE)[0].count("\n"),
                number=number,
            )
            for number in range(10)
        ],
    },
    "extras": {
        "": [f" WARNING id-{number} (1, None, 2.5) record-{number}" for number in range(10)],
    },
    "megabytes": {
        "": [f" ERROR - - record-{number}: {text * MiB} end" for number, text in enumerate("a\u6f22b")],
    },
    "configured": {
        "": [f" INFO - - record-{number}" for number in range(10)],
    },
}
CASES = [
    pytest.param(version, case, id=f"{version}-{case}")
    for version in PYTHONS
    for case in EXPECTED
    if version == "2.7" or case != "byte_strings"
]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """Return the one collector that all of them log to, each with logger names of its own."""
    collector = Collector(tmp_path_factory.mktemp("clients"), CONFIG).start()
    yield collector
    assert collector.stop() == 0, collector.stderr


@pytest.mark.parametrize(("version", "case"), CASES)
def test_every_record_of_an_application_arrives_once_whole_in_the_right_file(
    shared: Collector, version: str, case: str
) -> None:
    logger = f"py{version}-{case}".replace(".", "")
    expected = {
        f"{logger}{below}".replace(".", "_") + ".log": "".join(f"{logger}{below}{text}\n" for text in records)
        for below, records in EXPECTED[case].items()
    }
    log_with(find_python(version), case, shared, logger)
    assert in_short(expected) == in_short(files_of(shared, logger, expected))


@pytest.mark.parametrize("version", PYTHONS)
def test_forked_children_share_a_handler_and_lose_nothing(shared: Collector, version: str) -> None:
    logger = f"py{version}-forked".replace(".", "")
    expected = records_of_senders(logger, senders=4, records=50)
    log_with(find_python(version), "forked", shared, logger)
    assert expected == by_sender(files_of(shared, logger, {f"{logger}.log": "\n" * 200})[f"{logger}.log"])


@pytest.mark.parametrize("patched", ["2.7", "this Python"])
def test_fifty_greenlets_of_a_monkey_patched_application_log_at_once_and_lose_nothing(
    shared: Collector, patched: str, request: pytest.FixtureRequest
) -> None:
    interpreter = request.getfixturevalue("python_2_7_with_gevent") if patched == "2.7" else sys.executable
    logger = f"monkey_patched-{patched[0]}"
    expected = records_of_senders(logger, senders=50, records=20)
    log_with(interpreter, "monkey_patched", shared, logger)
    assert expected == by_sender(files_of(shared, logger, {f"{logger}.log": "\n" * 1000})[f"{logger}.log"])


# --- clients and what they leave ----------------------------------------------------------------------------


def log_with(python: str, case: str, collector: Collector, logger: str) -> None:
    """Run a client to its end; it must have no complaint."""
    ended = run(python, CLIENTS / f"{case}.py", str(collector.port), logger)
    assert (0, "", "") == (ended.returncode, ended.stdout, ended.stderr)


def files_of(collector: Collector, logger: str, expected: Mapping[str, str]) -> dict[str, str]:
    """Return the files of a logger and those below it, once they have as many lines as is *expected*."""

    def found() -> dict[str, str]:
        return {path.name: whole_lines(path) for path in collector.directory.glob(f"{logger}[._]*")}

    count = sum(text.count("\n") for text in expected.values())
    within(
        10, lambda: sum(text.count("\n") for text in found().values()) >= count, f"{count} lines of {logger}"
    )
    return found()


def in_short(files: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the lines of each file; of very long ones the digest, as nobody could read the difference."""
    return {
        name: [
            line if len(line) < 1000 else f"{line[:80]}... {hashlib.sha256(line.encode()).hexdigest()}"
            for line in text.split("\n")
        ]
        for name, text in files.items()
    }


def records_of_senders(logger: str, senders: int, records: int) -> dict[str, list[str]]:
    return {
        f"sender-{sender}": [
            f"{logger} INFO - - sender-{sender} record-{number}" for number in range(records)
        ]
        for sender in range(senders)
    }


def by_sender(text: str) -> dict[str, list[str]]:
    """Return the lines of each child or greenlet, in their order: among each other they have none."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        found.setdefault(line.split(" ")[-2], []).append(line)
    return found


# --- interpreters -------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def python_2_7_with_gevent(pytestconfig: pytest.Config) -> str:
    """Return a Python 2.7 that has gevent, or skip the test. It is made once and kept in pytest's cache."""
    base = find_python("2.7")
    assert pytestconfig.cache
    kept = pytestconfig.cache.mkdir("python-2.7") / f"gevent-{GEVENT_FOR_2_7}"
    python = kept / "bin/python"
    if not _has_gevent(python):
        shutil.rmtree(kept, ignore_errors=True)
        # Made beside its place and then moved: one that was interrupted must not be taken for a whole one.
        with tempfile.TemporaryDirectory(dir=kept.parent) as beside:
            _install_gevent(base, Path(beside))
            with suppress(OSError):  # who runs the tests beside us was quicker
                (Path(beside) / "env").rename(kept)
    return str(python)


def _has_gevent(python: Path) -> bool:
    return (
        python.exists() and run(python, "-c", "from gevent import monkey; monkey.patch_all()").returncode == 0
    )


def _install_gevent(base: str, home: Path) -> None:
    """Make the virtual environment `home/env`, or skip the test."""
    # virtualenv brings the last pip for Python 2.7; the interpreter's own may be too old to know the wheels.
    tools, python = home / "tools", home / "env/bin/python"
    commands: tuple[list[str | Path], ...] = (
        [base, "-m", "pip", "install", "--target", tools, "virtualenv<20.16"],
        [base, "-m", "virtualenv", "--no-download", home / "env"],
        [python, "-m", "pip", "install", "--only-binary=gevent,greenlet", f"gevent=={GEVENT_FOR_2_7}"],
    )
    for command in commands:
        try:
            ended = run(
                *command, seconds=INSTALL_SECONDS, PYTHONPATH=str(tools) if command[0] == base else ""
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            pytest.skip(f"cannot install gevent {GEVENT_FOR_2_7} for Python 2.7: {error}")
        if ended.returncode:
            why = (ended.stderr or ended.stdout).strip().splitlines()
            pytest.skip(
                f"cannot install gevent {GEVENT_FOR_2_7} for Python 2.7: {why[-1] if why else 'no word'}"
            )
