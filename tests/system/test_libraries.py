"""Real libraries: their values, pickled in every protocol, and what other packages for logging send.

The values are those of the program `tests/clients/values.py`; the environments are installed from PyPI.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from collector.pickles.brief import brief, jsonable
from collector.pickles.reader import read
from tests.support.environments import environment
from tests.support.places import CLIENTS
from tests.support.pythons import find_python, run
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.collectors import Collector

pytestmark = pytest.mark.slow

CLIENT = CLIENTS / "values.py"
CLIENT_SECONDS = 100
ANYWHERE = ("attrs", "pymongo", "python-dateutil", "pytz", "tzdata", "markupsafe", "pandas")
LIBRARIES = {
    "3.12": (
        *ANYWHERE,
        *("numpy>=2", "pendulum", "django", "pydantic>=2", "starlette", "httpx", "yarl", "multidict"),
        *("frozendict", "immutabledict", "sortedcontainers", "bidict", "sqlalchemy", "requests"),
        *("ciso8601", "aniso8601", "arrow"),
    ),
    "3.9": (*ANYWHERE, "numpy<2", "pandas<3", "pendulum<3", "django<5", "pydantic<2", "frozendict", "yarl"),
    "2.7": (*ANYWHERE, "numpy", "django<2", "ipaddress", "enum34"),
}
LEAST = {"3.12": 1500, "3.9": 1300, "2.7": 500}
"""Pickles that each environment makes, so that none passes for having made nothing."""


@pytest.mark.parametrize("version", LIBRARIES)
def test_values_of_libraries_are_shown_as_they_show_themselves(
    version: str, pytestconfig: pytest.Config
) -> None:
    python = environment(pytestconfig, version, LIBRARIES[version])
    ended = run(python, CLIENT, seconds=CLIENT_SECONDS)
    assert ended.returncode == 0, ended.stderr
    wrong = []
    lines = ended.stdout.splitlines()
    for case in map(json.loads, lines):
        fields = read(base64.b64decode(case["payload"])).value
        assert isinstance(fields, dict)
        text, found = brief(fields["x"]), jsonable(fields["x"])
        if case["text"] not in (None, text) or case.get("json", found) != found:
            wrong.append((case["name"], case["protocol"], case["text"], text, found))
    assert not wrong
    assert len(lines) > LEAST[version]


@pytest.mark.parametrize("version", ["3.6", "3.7", "3.8", "3.10", "3.11", "3.13"])
def test_values_of_the_standard_library_are_shown_as_they_show_themselves(version: str) -> None:
    ended = run(find_python(version), CLIENT, seconds=CLIENT_SECONDS)
    assert ended.returncode == 0, ended.stderr
    for case in map(json.loads, ended.stdout.splitlines()):
        fields = read(base64.b64decode(case["payload"])).value
        assert isinstance(fields, dict)
        assert case["text"] in (None, brief(fields["x"])), case["name"]
        assert case.get("json", found := jsonable(fields["x"])) == found


@pytest.mark.parametrize("style", ["text", "json"])
def test_records_of_picologging_loguru_and_structlog_say_no_more_than_they_were_told(
    style: str, make_collector: Callable[..., Collector], pytestconfig: pytest.Config
) -> None:
    python = environment(pytestconfig, "3.12", ("picologging", "loguru", "structlog"))
    collector = make_collector(
        f'[format]\nstyle = "{style}"\ntext = "%(levelname)s %(message)s %(user)s"\n'
    ).start()
    ended = run(python, CLIENT.with_name("other_loggers.py"), str(collector.port))
    assert (0, "") == (ended.returncode, ended.stderr)
    files = ("pico.log", "__main__.log", "struct.log")
    within(5, lambda: sum("bad" in line for name in files for line in collector.lines(name)) == 3)
    for name in files:
        first, second, *below = collector.lines(name)
        if style == "text":
            assert first == f"INFO hello {'ann' if name == 'struct.log' else '-'}"
            assert "ValueError: 5" in below
            assert "False" not in below
        else:
            assert not {"exception", "stack"} & json.loads(first).keys()
            line = json.loads(second)
            assert line["level"] == "ERROR"
            assert "ValueError: 5" in line.get("exception", line["message"])
            assert "stack" not in line
            assert json.loads(first).get("extra", {}).get("user", "ann") == "ann"
