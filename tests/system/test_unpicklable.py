"""Extras that cannot be pickled, which stock handlers drop: the handler of the docs sends them as text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.support.environments import environment
from tests.support.places import CLIENTS
from tests.support.pythons import find_python, run
from tests.support.texts import shown
from tests.support.waiting import within

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.collectors import Collector

pytestmark = pytest.mark.slow

SITE = CLIENTS / "django_site.py"
DJANGO = {"2.7": "django<2", "3.9": "django<5", "3.12": "django"}
PLAIN = """
import logging, logging.handlers, sys, threading, text_handler
log = logging.getLogger("app")
log.setLevel(10)
log.addHandler(text_handler.TextSocketHandler("127.0.0.1", int(sys.argv[1])))
log.info("a lock %s", "there", extra={"x": threading.Lock(), "n": 1})
try:
    1 / 0
except ZeroDivisionError:
    log.exception("a traceback", extra={"x": lambda: 1})
"""


@pytest.fixture
def handler(tmp_path: Path) -> str:
    """Return where the handler that the docs show is a module."""
    code = shown("docs/clients.rst", "import copy, ")
    assert len([line for line in code.splitlines() if line.strip()]) < 16
    (tmp_path / "text_handler.py").write_text(code)
    return str(tmp_path)


@pytest.mark.parametrize("version", DJANGO)
def test_djangos_records_arrive_with_the_request_as_text(
    version: str, collector: Collector, handler: str, pytestconfig: pytest.Config
) -> None:
    python = environment(pytestconfig, version, (DJANGO[version],))
    ended = run(python, SITE, str(collector.port), "text_handler.TextSocketHandler", PYTHONPATH=handler)
    assert (0, "200 OK 404 Not Found 500 Internal Server Error") == (
        ended.returncode,
        " ".join(ended.stdout.split()),
    ), ended.stderr
    assert "cannot pickle" not in ended.stderr
    assert "Logging error" not in ended.stderr
    within(5, lambda: len(collector.lines("django_request.log")) > 3)
    lines = collector.lines("django_request.log")
    assert re.search(r"django\.request WARNING \d+ Not Found: /missing$", lines[0])
    assert re.search(r"django\.request ERROR \d+ Internal Server Error: /boom$", lines[1])
    assert lines[-1] == "ValueError: boom"
    assert collector.lines("app.log")[0].endswith(" ok")


def test_a_stock_handler_drops_them_and_says_so(
    collector: Collector, handler: str, pytestconfig: pytest.Config
) -> None:
    """What the docs say to look for."""
    python = environment(pytestconfig, "3.12", (DJANGO["3.12"],))
    ended = run(python, SITE, str(collector.port), "logging.handlers.SocketHandler", PYTHONPATH=handler)
    assert ended.stderr.count("--- Logging error ---") == 3
    assert "cannot pickle" in ended.stderr
    assert collector.stop() == 0
    assert not collector.files()


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.8", "3.11", "3.13", "3.14"])
def test_each_value_is_tried_alone(version: str, collector: Collector, handler: str) -> None:
    collector.configure('[format]\ntext = "%(message)s %(n)s %(x)s"\n')
    collector.stop()
    collector.start()
    ended = run(find_python(version), "-c", PLAIN, str(collector.port), PYTHONPATH=handler)
    assert (0, "") == (ended.returncode, ended.stderr)
    within(5, lambda: len(collector.lines("app.log")) > 2)
    first, second, *traceback = collector.lines("app.log")
    assert re.match(r"a lock there 1 <.*lock", first)
    assert second.startswith("a traceback - <function <lambda> at 0x")
    assert traceback[0] == "Traceback (most recent call last):"
    assert traceback[-1].startswith("ZeroDivisionError: ")
