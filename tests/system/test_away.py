"""What an application notices while the collector is away, and its stock handler: see docs/clients.rst."""

from __future__ import annotations

import json
import logging
import queue
import re
import socket
import sys
import time
from contextlib import contextmanager
from itertools import accumulate
from logging.handlers import QueueListener, SocketHandler
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.certificates import tls_table
from tests.support.collectors import messages
from tests.support.places import CLIENTS
from tests.support.pythons import find_python, run
from tests.support.texts import document, inline, shown
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.collectors import Collector

pytestmark = pytest.mark.slow

PAGE = "docs/clients.rst"
PYTHONS = ("2.7", "3.6", "3.10", "3.13", "3.14")
SPARE = "import logging, logging.handlers\n\nclass SpareSocketHandler"
QUEUE = "import asyncio"
KEPT = """
log = logging.getLogger("app")
log.setLevel(logging.INFO)
log.addHandler(SpareSocketHandler("127.0.0.1", {port}))
log.info("kept %d", 1)
"""
TLS = "import logging.handlers, ssl"
FORKING = """
import logging, logging.handlers, os
log = logging.getLogger("app")
log.setLevel(logging.INFO)
handler = logging.handlers.SocketHandler("127.0.0.1", {port})
log.addHandler(handler)
{line}
log.info("the parent")
children = [os.fork() for _ in range(2)]
log.info("one of four")
"""
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


@contextmanager
def nobody() -> Iterator[int]:
    """Yield a port at which this machine refuses connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@contextmanager
def no_answer() -> Iterator[int]:
    """Yield a port at which nothing is answered, as by a machine that is down: its backlog is full."""
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for client in (first, second):
            client.settimeout(0)
            client.connect_ex(full.getsockname())
        yield full.getsockname()[1]


def record(message: str) -> logging.LogRecord:
    return logging.LogRecord("app", logging.INFO, "/srv/app.py", 7, message, None, None)


def seconds_to_emit(handler: logging.Handler, count: int) -> float:
    begun = time.monotonic()
    for number in range(count):
        handler.emit(record(f"{number}"))
    return time.monotonic() - begun


# --- the back-off ---


@pytest.mark.parametrize("version", PYTHONS)
def test_a_stock_handler_waits_as_the_docs_say(version: str) -> None:
    with nobody() as port:
        ended = run(find_python(version), CLIENTS / "away.py", str(port))
    assert (0, "") == (ended.returncode, ended.stderr)
    *waits, last, again, _ = map(int, ended.stdout.split())
    assert last == again
    text = " ".join(document(PAGE).astext().split())
    assert f"waits for 1 second, then {', '.join(map(str, waits[1:]))} and {last}, before" in text
    (found,) = re.findall(r"after (\d+) seconds away, the first record came (\d+) seconds later", text)
    away, later = map(int, found)
    assert away + later == next(attempt for attempt in accumulate(waits) if attempt >= away)
    assert f"up to {last} seconds longer than the collector did" in text


def test_a_handler_stays_away_for_retry_max_longer_than_the_collector_at_most(
    make_collector: Callable[..., Collector],
) -> None:
    with nobody() as port:
        collector = make_collector(f"[listen]\nport = {port}\n")
    handler = SocketHandler("127.0.0.1", collector.start().port)
    handler.retryStart, handler.retryMax = 0.1, 0.4
    sent: list[str] = []
    taken: list[str] = []

    def log() -> bool:
        sent.append(f"{len(sent)}")
        handler.emit(record(sent[-1]))
        if handler.sock:
            taken.append(sent[-1])
        return handler.sock is not None

    assert log()
    assert collector.stop() == 0
    within(10, lambda: not log() and handler.retryTime and handler.retryPeriod == 0.4)  # type: ignore[attr-defined]
    collector.start()
    back, at_last = time.time(), handler.retryTime
    assert at_last
    assert at_last <= back + handler.retryMax
    within(5, log)
    assert time.time() >= at_last
    within(5, lambda: taken[-1] in messages(collector))
    lost = [one for one in taken if one not in messages(collector)]
    # By the kernel, which took it when the collector had gone and the handler had not noticed.
    assert lost in ([], taken[1:2])
    assert [one for one in taken if one not in lost] == messages(collector)
    assert len(sent) > len(taken)
    handler.close()


def test_retry_max_is_set_in_a_dictionary_as_the_docs_have_it() -> None:
    (entry,) = [one for one in inline(PAGE) if "retryMax" in one and one.startswith('".":')]
    program = shown(PAGE, "import logging.config\n\nLOGGING").replace('"class":', f'{entry}, "class":')
    ended = run(sys.executable, "-c", f"{program}    print(logging.getLogger().handlers[0].retryMax)")
    assert ("1\n", "") == (ended.stdout, ended.stderr)


def test_a_machine_that_does_not_answer_costs_a_second_for_each_attempt() -> None:
    """With `retryMax = 1` the next attempt is due when one has ended."""
    with no_answer() as port:
        handler = SocketHandler("127.0.0.1", port)
        handler.retryMax = 1
        assert seconds_to_emit(handler, 2) > 1.9


# --- what is lost ---


@pytest.mark.parametrize("version", PYTHONS)
def test_what_cannot_be_sent_is_on_stderr(version: str, collector: Collector) -> None:
    program = shown(PAGE, SPARE) + KEPT
    with nobody() as port:
        ended = run(find_python(version), "-c", program.format(port=port))
    assert (0, "kept 1\n") == (ended.returncode, ended.stderr)
    ended = run(find_python(version), "-c", program.format(port=collector.port))
    assert (0, "") == (ended.returncode, ended.stderr)
    within(5, lambda: [line[-6:] for line in collector.lines("app.log")] == ["kept 1"])


# --- the queue ---


def handler_before(waiting: queue.Queue[Any]) -> logging.Handler:
    names: dict[str, Any] = {}
    exec(shown(PAGE, QUEUE).partition("\nwaiting = ")[0], names)  # noqa: S102 - as shown
    return names["RecordQueueHandler"](waiting)  # type: ignore[no-any-return]


def test_with_a_queue_between_nobody_waits_for_a_machine_that_does_not_answer() -> None:
    waiting: queue.Queue[Any] = queue.Queue(100)
    handler = handler_before(waiting)
    with no_answer() as port:
        listener = QueueListener(waiting, SocketHandler("127.0.0.1", port))
        listener.start()
        assert seconds_to_emit(handler, 50) < 0.9
        listener.stop()


def test_what_a_full_queue_refuses_is_told_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    handler = handler_before(queue.Queue(2))
    for _ in range(3):
        handler.emit(record(""))
    told = capsys.readouterr().err
    assert 1 == told.count("--- Logging error ---") == told.count("\nqueue.Full\n")


def test_a_traceback_comes_through_the_queue_apart_from_its_message(
    make_collector: Callable[..., Collector],
) -> None:
    collector = make_collector('[format]\nstyle = "json"\n').start()
    info = 'logging.getLogger("app.web").info("hello from %s", "asyncio")'
    failing = f"try: 1 / 0\n    except ZeroDivisionError: {info.replace('info', 'exception')}"
    program = shown(PAGE, QUEUE).replace(info, failing).replace("9020", str(collector.port))
    ended = run(sys.executable, "-c", program)
    assert (0, "") == (ended.returncode, ended.stderr)
    within(5, lambda: collector.lines("app_web.log"))
    (line,) = map(json.loads, collector.lines("app_web.log"))
    assert "hello from asyncio" == line["message"]
    assert line["exception"].endswith("ZeroDivisionError: division by zero")


# --- forks ---


@pytest.mark.parametrize(("connections", "line"), [(1, ""), (4, shown(PAGE, "os.register_at_fork"))])
def test_children_have_connections_of_their_own_by_the_line_of_the_docs(
    connections: int, line: str, collector: Collector
) -> None:
    """Without it, they write into that of their parent."""
    program = FORKING.format(port=collector.port, line=line)
    ended = run(sys.executable, "-c", program)
    assert (0, "") == (ended.returncode, ended.stderr)
    within(5, lambda: len(collector.lines("app.log")) == 5)
    within(5, lambda: collector.stderr.count(" connected\n") == connections)


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
