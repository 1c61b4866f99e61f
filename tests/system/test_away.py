"""What an application notices of its connection to the collector: see docs/clients.rst."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.certificates import tls_table
from tests.support.collectors import messages
from tests.support.pythons import run
from tests.support.texts import shown
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.collectors import Collector

pytestmark = pytest.mark.slow

PAGE = "docs/clients.rst"
TLS = "import logging.handlers, ssl"
FORKING_OVER_TLS = """
import os
def log(message):
    handler.emit(logging.LogRecord("app", logging.INFO, "/srv/app.py", 7, message, None, None))
log("before")
if os.fork():
    os.wait()
    log("after")
else:
    handler.close()
    log("child")
"""


def test_a_child_that_ends_leaves_the_connection_of_its_parent_alone_over_tls_too(
    make_collector: Callable[..., Collector], certificates: Path
) -> None:
    """To close it in the child would tell the collector that this was all."""
    collector = make_collector(tls_table(certificates)).start()
    program = shown(PAGE, TLS).replace('"ca.pem"', f'"{certificates}/ca.pem"')
    program = program.replace('"logs.example.org", 9020', f'"localhost", {collector.port}') + FORKING_OVER_TLS
    ended = run(sys.executable, "-c", program)
    assert (0, "") == (ended.returncode, ended.stderr)
    within(5, lambda: len(messages(collector)) == 3)
    assert ["before", "child", "after"] == sorted(messages(collector), key="before child after".find)
