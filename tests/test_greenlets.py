"""What runs as long as the collector does runs again after a fault, which is logged and counted."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import sys
from typing import TYPE_CHECKING

import gevent
import pytest
from gevent.event import Event
from gevent.threadpool import ThreadPool

from collector import greenlets
from collector.greenlets import keep_running
from collector.stats import Stats
from tests.support.admin import ask, stats, watching
from tests.support.collectors import Collector, messages
from tests.support.frames import make_frame
from tests.support.places import TESTS
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECONDS = 10
RAISE_ONCE = TESTS / "support/raise_once.py"


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make pauses a thousand times shorter."""
    for name in ("_FIRST_PAUSE_SECONDS", "_LAST_PAUSE_SECONDS", "_SETTLED_SECONDS"):
        monkeypatch.setattr(greenlets, name, getattr(greenlets, name) / 1000)


def failing(
    times: int, raised: Callable[[], BaseException] = lambda: ValueError("once")
) -> list[BaseException]:
    return [raised() for _ in range(times)]


def runner(faults: list[BaseException], runs: list[int]) -> Callable[[], None]:
    """Return what raises each of *faults* in turn and then returns; *runs* grows by one each time."""

    def run() -> None:
        runs.append(len(runs))
        if faults:
            raise faults.pop(0)

    return run


def pauses(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage().rpartition("again in ")[2] for record in caplog.records]


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(
    "fault",
    [ValueError("x"), OSError(5, "x"), MemoryError(), RecursionError(), gevent.Timeout(1)],
    ids=["value", "disk", "memory", "recursion", "time-out"],
)
def test_what_has_raised_runs_again_and_is_logged_and_counted(
    caplog: pytest.LogCaptureFixture, fault: BaseException
) -> None:
    stats, runs = Stats(), list[int]()
    keep_running("here", runner([fault], runs), stats).join(SECONDS)
    assert [0, 1] == runs
    assert {"here": 1} == stats.faults_total
    (record,) = caplog.records
    assert logging.ERROR == record.levelno
    assert record.getMessage().startswith("here: a fault in the collector; started again in ")
    assert record.exc_info
    assert fault is record.exc_info[1]
    assert "in run" in caplog.text, "the traceback"


def test_it_is_counted_from_zero_on_and_what_returns_is_over() -> None:
    stats, runs = Stats(), list[int]()
    keep_running("here", runner([], runs), stats).join(SECONDS)
    assert [0] == runs
    assert {"here": 0} == stats.faults_total


@pytest.mark.usefixtures("hurried")
def test_the_pause_doubles_up_to_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    runs: list[int] = []
    keep_running("here", runner(failing(8), runs), Stats()).join(SECONDS)
    expected = [f"{seconds / 1000:g} s" for seconds in (1, 2, 4, 8, 16, 32, 60, 60)]
    assert expected == pauses(caplog)


@pytest.mark.usefixtures("hurried")
def test_what_has_run_for_a_minute_begins_with_a_second_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    faults = failing(3)

    def run() -> None:
        if len(faults) == 1:
            gevent.sleep(0.07)
        if faults:
            raise faults.pop()

    keep_running("here", run, Stats()).join(SECONDS)
    assert ["0.001 s", "0.002 s", "0.001 s"] == pauses(caplog)


def test_to_kill_it_ends_it_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    stats = Stats()
    greenlet = keep_running("here", Event().wait, stats)
    gevent.sleep(0)
    greenlet.kill()
    assert greenlet.dead
    assert {"here": 0} == stats.faults_total
    assert not caplog.records


@pytest.mark.usefixtures("hurried")
def test_a_log_that_raises_keeps_nothing_from_running_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(greenlets.log, "error", no_memory)
    stats, runs = Stats(), list[int]()
    keep_running("here", runner(failing(2), runs), stats).join(SECONDS)
    assert [0, 1, 2] == runs
    assert {"here": 2} == stats.faults_total


# --- All others ---


@pytest.fixture
def told() -> Iterator[Stats]:
    """Have told what raises in any greenlet, until the end of the test."""
    stats = Stats()
    greenlets.tell_uncaught(stats)
    yield stats
    del gevent.get_hub().handle_error


def test_a_greenlet_that_raises_is_logged_and_counted_by_its_module_and_not_printed(
    told: Stats, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    # A function of ours that raises, for it is given nothing that it needs.
    gevent.spawn(greenlets.tell, None, None, None).join(SECONDS)
    assert {"greenlets": 1} == told.faults_total
    assert "greenlets: a fault in the collector" in caplog.text
    assert "Traceback" in caplog.text
    assert ("", "") == capfd.readouterr()


def test_what_raises_outside_of_ours_is_told_too(told: Stats, caplog: pytest.LogCaptureFixture) -> None:
    gevent.spawn(int, "x").join(SECONDS)
    assert {"gevent": 1} == told.faults_total
    assert "invalid literal" in caplog.text


def test_a_signal_whose_handling_raises_ends_nothing_and_the_next_is_handled(told: Stats) -> None:
    runs: list[int] = []
    handled = Event()
    run = runner(failing(1), runs)

    def handle() -> None:
        try:
            run()
        finally:
            handled.set()

    handler = gevent.signal_handler(signal.SIGUSR2, handle)
    try:
        for _ in range(2):
            handled.clear()
            os.kill(os.getpid(), signal.SIGUSR2)
            assert handled.wait(SECONDS)
    finally:
        handler.cancel()
    assert [0, 1] == runs
    assert 1 == told.faults_total.total()


def test_what_a_thread_raises_is_left_to_its_caller(told: Stats, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ZeroDivisionError):
        ThreadPool(1).apply(divmod, (1, 0))
    assert not told.faults_total
    assert not caplog.records


def test_what_is_killed_is_no_fault(told: Stats) -> None:
    greenlet = gevent.spawn(gevent.sleep, SECONDS)
    gevent.sleep(0)
    greenlet.kill()
    assert not told.faults_total


# --- A collector with a fault ---


class Spoiled(Collector):
    """A collector in which a function raises at its first call."""

    def __init__(self, home: Path, target: str) -> None:
        super().__init__(home, "[admin]\nport = 0\n[retention]\nmax_age_days = 1000\n")
        self.target = target
        self.command = [sys.executable, str(RAISE_ONCE), target]

    def told(self, where: str) -> None:
        """Wait until the fault is in the log, and counted, and what raised was called again."""
        within(SECONDS, lambda: re.search(rf" ERROR {where}[ \d.:]*: a fault in", self.stderr), "in the log")
        assert f"RuntimeError: {self.target} raises once" in self.stderr
        assert 1 == self.stderr.count("Traceback")
        within(SECONDS, lambda: f"{self.target} is called again" in self.stderr, "called again")
        assert f'collector_faults_total{{where="{where}"}} 1.0' in ask(self, "/metrics")[2]
        assert {where: 1} == {name: count for name, count in stats(self)["faults"].items() if count}


@pytest.fixture
def spoiled(tmp_path: Path) -> Iterator[Callable[[str], Spoiled]]:
    """Return a function that starts a collector in which the function of a name raises once."""
    started: list[Spoiled] = []

    def start(target: str) -> Spoiled:
        started.append(Spoiled(tmp_path, target))
        return started[0].start()  # type: ignore[return-value]

    yield start
    assert 0 == started[0].stop()
    assert "stopped: " in started[0].stderr.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "where"),
    [
        ("collector.listen.server:Server._sweep", "sweep"),
        ("collector.files.lock:Lock.follow", "lock"),
        ("collector.daemon.worker:_follow_guardian", "guardian"),
        ("collector.files.retention:enforce", "retention"),
        ("collector.files.handler_cache:HandlerCache.directories", "volumes"),
        ("collector.admin.http:open_tcp", "admin"),
    ],
    ids=lambda text: text.rpartition(":")[2],
)
def test_what_runs_all_the_time_runs_again(
    spoiled: Callable[[str], Spoiled], target: str, where: str
) -> None:
    spoiled(target).told(where)


@pytest.mark.slow
def test_an_acceptor_goes_on_and_who_came_meanwhile_is_read(spoiled: Callable[[str], Spoiled]) -> None:
    collector = spoiled("collector.listen.acceptors:_accepted")
    collector.send(make_frame("patience"))
    within(SECONDS, lambda: messages(collector) == ["patience"])
    collector.told("accept")


@pytest.mark.slow
def test_the_acceptor_of_the_admin_port_goes_on(spoiled: Callable[[str], Spoiled]) -> None:
    collector = spoiled("collector.listen.acceptors:_accepted")
    assert 200 == ask(collector, "/healthz")[0]
    collector.told("admin")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "where"),
    [("collector.listen.client:Client._read", "client"), ("collector.listen.server:Client", "server")],
    ids=lambda text: text.rpartition(":")[2],
)
def test_a_client_whose_greenlet_raises_is_hung_up_and_the_next_is_read(
    spoiled: Callable[[str], Spoiled], target: str, where: str
) -> None:
    collector = spoiled(target)
    with collector.connect() as client:
        assert client.recv(1) == b""
    collector.send(make_frame("next"))
    within(SECONDS, lambda: messages(collector) == ["next"])
    collector.told(where)


@pytest.mark.slow
def test_a_record_whose_rendering_raises_costs_itself_alone(spoiled: Callable[[str], Spoiled]) -> None:
    collector = spoiled("collector.format.clock:Clock.move")
    collector.send(b"".join(map(make_frame, ("one", "two", "three"))))
    within(SECONDS, lambda: messages(collector) == ["two", "three"])
    collector.told("render")
    assert 0 == collector.stop()
    assert (
        "3 records received from 1 client, 2 written, 0 quarantined, 1 dropped (unreadable)"
        in collector.stderr
    )


@pytest.mark.slow
def test_a_client_whose_end_raises_is_not_waited_for(spoiled: Callable[[str], Spoiled]) -> None:
    collector = spoiled("collector.listen.client:Client._tell_end")
    for message in ("one", "two"):
        collector.send(make_frame(message))
    within(SECONDS, lambda: messages(collector) == ["one", "two"])
    collector.told("client")
    assert 0 == stats(collector)["clients"]["now"]


@pytest.mark.slow
def test_what_is_received_is_written_though_the_drain_of_clients_raises(tmp_path: Path) -> None:
    collector = Spoiled(tmp_path, "collector.listen.server:Server.drain")
    collector.start()
    collector.send(make_frame("kept") * 10_000)
    assert 1 == collector.stop()
    assert 10_000 == len(messages(collector))
    assert " ERROR drain: a fault in the collector; clients may not be read to the end" in collector.stderr
    assert "stopped: 10000 records received" in collector.stderr.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("collector.admin.status:Status.fault", "/healthz"),
        ("collector.admin.status:Status.totals", "/api/stats"),
        ("collector.admin.status:Status.loggers", "/api/loggers"),
        ("collector.admin.metrics:render", "/metrics"),
    ],
)
def test_a_request_that_raises_is_answered_and_the_next_is_served(
    spoiled: Callable[[str], Spoiled], target: str, path: str
) -> None:
    collector = spoiled(target)
    assert 500 == ask(collector, path)[0]
    assert 200 == ask(collector, path)[0]
    collector.told("admin")


@pytest.mark.slow
def test_a_viewer_whose_stream_raises_stops_no_other(spoiled: Callable[[str], Spoiled]) -> None:
    collector = spoiled("collector.admin.stream:Viewer.take")
    with socket.create_connection(("127.0.0.1", collector.admin_port), SECONDS) as first:
        first.sendall(b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert first.recv(1000).startswith(b"HTTP/1.1 500 ")
    with watching(collector) as viewer:
        collector.send(make_frame("seen"))
        assert "seen" == viewer.message()
        assert 1 == stats(collector)["viewers"]
    collector.told("admin")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "number", "done"),
    [
        ("collector.daemon.reload:Reloader._reload", signal.SIGHUP, "SIGHUP: changed: nothing"),
        ("collector.daemon.reload:Reloader._prepare", signal.SIGHUP, "SIGHUP: changed: nothing"),
        (
            "collector.files.handler_cache:HandlerCache.roll_over",
            signal.SIGUSR1,
            "those of 0 files that have lines",
        ),
    ],
    ids=lambda value: str(value).rpartition(":")[2],
)
def test_a_signal_whose_handling_raises_is_told_and_the_next_one_works(
    spoiled: Callable[[str], Spoiled], target: str, number: signal.Signals, done: str
) -> None:
    collector = spoiled(target)
    worker = collector.worker
    os.kill(worker, number)
    within(SECONDS, lambda: "a fault in the collector" in collector.stderr, "in the log")
    assert done not in collector.stderr
    os.kill(worker, number)
    within(SECONDS, lambda: done in collector.stderr, "done")
    collector.told("reload")
    assert worker == collector.worker
