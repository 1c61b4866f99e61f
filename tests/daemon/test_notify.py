"""What systemd is told, at a socket such as it gives a service: sd_notify(3)."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, NamedTuple

import pytest

from collector.daemon.notify import READY, Notifier
from tests.support.collectors import START_SECONDS
from tests.support.destinations import NOBODY, destination
from tests.support.frames import make_frame
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.collectors import Collector

    MakeCollector = Callable[..., Collector]

PERIOD_SECONDS = 1
"""Of the watchdog: in each, four signs of life are due."""
SILENCE_SECONDS = 3 * PERIOD_SECONDS
_CREDENTIALS = struct.Struct("3i")
ALIVE = "WATCHDOG=1"


class Told(NamedTuple):
    text: str
    by: int
    """The process that has told it, as the kernel knows it: systemd listens to no other."""


class Systemd:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._sock.bind(address.replace("@", "\0"))

    def close(self) -> None:
        self._sock.close()

    def next(self, seconds: float = START_SECONDS) -> Told:
        self._sock.settimeout(seconds)
        data, ancillary, _, _ = self._sock.recvmsg(4096, socket.CMSG_SPACE(_CREDENTIALS.size))
        return Told(data.decode(), _CREDENTIALS.unpack(ancillary[0][2])[0])

    def next_state(self) -> Told:
        """Return what is told next that is no sign of life."""
        while (told := self.next()).text == ALIVE:
            pass
        return told

    def signs(self, number: int) -> set[int]:
        """Wait for so many signs of life, and nothing else; return who has given them."""
        told = [self.next() for _ in range(number)]
        assert {ALIVE: number} == Counter(one.text for one in told)
        return {one.by for one in told}

    def fall_silent(self) -> bool:
        """Tell whether there is no sign of life any more."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                self.next(SILENCE_SECONDS)
            except TimeoutError:
                return True
        return False

    def environment(self) -> str:
        """Return what systemd sets for a service, as assignments of a shell that becomes it."""
        period = PERIOD_SECONDS * 1_000_000
        return f"NOTIFY_SOCKET='{self.address}' WATCHDOG_USEC={period} WATCHDOG_PID=$$"


@pytest.fixture
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    with closing(Systemd(getattr(request, "param", "") + str(tmp_path / "notify"))) as made:
        yield made


@contextmanager
def service(collector: Collector, systemd: Systemd, *, activated: bool) -> Iterator[int]:
    """Run a collector as systemd does, with a socket unit or without; yield its process id."""
    with ExitStack() as stack:
        command = f'{systemd.environment()} exec "$0" -m collector run -c "$1"'
        fds: list[int] = []
        if activated:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            fds = [listener.fileno()]
            command = f"LISTEN_PID=$$ LISTEN_FDS=1 {command} 3<&{fds[0]}"
        with collector.log.open("ab") as log:
            collector.process = subprocess.Popen(
                ["bash", "-c", command, sys.executable, str(collector.config)], pass_fds=fds, stderr=log
            )
        yield collector.process.pid


@pytest.mark.parametrize("systemd", ["", "@"], ids=["a path", "an abstract address"], indirect=True)
@pytest.mark.parametrize("activated", [True, False], ids=["with a socket unit", "without"])
def test_the_process_that_systemd_has_started_tells_how_it_stands(
    make_collector: MakeCollector, systemd: Systemd, *, activated: bool
) -> None:
    collector = make_collector()
    with service(collector, systemd, activated=activated) as process:
        assert ("READY=1", process) == systemd.next()
        within(5, lambda: "listening on" in collector.stderr)
        assert {process} == systemd.signs(3)
        before = time.monotonic_ns() // 1000
        os.kill(process, signal.SIGHUP)
        reloading = systemd.next_state()
        state, at = reloading.text.split("\n")
        assert ("RELOADING=1", process) == (state, reloading.by)
        name, usec = at.split("=")
        assert ("MONOTONIC_USEC", True) == (name, before < int(usec) < time.monotonic_ns() // 1000)
        assert ("READY=1", process) == systemd.next_state()
        within(5, lambda: "SIGHUP: changed: nothing" in collector.stderr)
        assert {process} == systemd.signs(3)
        os.kill(process, signal.SIGTERM)
        assert ("STOPPING=1", process) == systemd.next_state()
        assert 0 == collector.stop()


@pytest.mark.parametrize("activated", [True, False], ids=["with a socket unit", "without"])
def test_a_reload_with_faults_is_over_as_well(
    make_collector: MakeCollector, systemd: Systemd, *, activated: bool
) -> None:
    collector = make_collector()
    with service(collector, systemd, activated=activated) as process:
        assert "READY=1" == systemd.next().text
        collector.config.write_text("[fils]")
        os.kill(process, signal.SIGHUP)
        assert systemd.next_state().text.startswith("RELOADING=1\n")
        assert "READY=1" == systemd.next_state().text
        within(5, lambda: "the running configuration stays" in collector.stderr)
        assert 0 == collector.stop()


def test_a_worker_that_is_replaced_is_no_matter_of_systemds(
    make_collector: MakeCollector, systemd: Systemd
) -> None:
    collector = make_collector()
    with service(collector, systemd, activated=False) as process:
        assert "READY=1" == systemd.next().text
        for count in (1, 2):
            within(START_SECONDS, lambda count=count: collector.stderr.count("listening on") == count)  # type: ignore[misc]
            os.kill(collector.worker, signal.SIGKILL)
            assert {process} == systemd.signs(3)
        assert 0 == collector.stop()
        assert "STOPPING=1" == systemd.next_state().text


def test_while_workers_cannot_start_the_guardian_is_alive(
    make_collector: MakeCollector, systemd: Systemd
) -> None:
    collector = make_collector()
    with service(collector, systemd, activated=False) as process:
        assert "READY=1" == systemd.next().text
        collector.config.write_text("[fils]")
        os.kill(collector.worker, signal.SIGKILL)
        within(START_SECONDS, lambda: " ended with 2 before it listened" in collector.stderr)
        assert {process} == systemd.signs(8)
        collector.stop(signal.SIGKILL)


def test_a_worker_that_hangs_gives_no_sign_of_life_through_its_guardian(
    make_collector: MakeCollector, systemd: Systemd
) -> None:
    collector = make_collector()
    with service(collector, systemd, activated=False):
        assert "READY=1" == systemd.next().text
        worker = collector.worker
        os.kill(worker, signal.SIGSTOP)
        assert systemd.fall_silent()
        os.kill(worker, signal.SIGCONT)
        systemd.signs(1)
        assert 0 == collector.stop()


def test_a_hub_that_hangs_gives_no_sign_of_life_though_threads_of_the_worker_go_on(
    make_collector: MakeCollector, systemd: Systemd, tmp_path: Path
) -> None:
    """As when a call on the hub blocks: here the worker waits to open a pipe that nobody writes to."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    hang = tmp_path / "sitecustomize.py"
    hang.write_text(
        "import collector.daemon.reload as reload\n"
        f"reload.roll_over = lambda handlers: open({str(pipe)!r}).close()\n"
    )
    collector = make_collector()
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", path)
        with service(collector, systemd, activated=True) as process:
            assert "READY=1" == systemd.next().text
            assert {process} == systemd.signs(2)
            os.kill(process, signal.SIGUSR1)
            assert systemd.fall_silent()
            pipe.write_text("")
            assert {process} == systemd.signs(2)
            os.kill(process, signal.SIGUSR1)
            assert systemd.fall_silent()
            assert -signal.SIGABRT == collector.stop(signal.SIGABRT)  # as systemd does then
            assert f'File "{hang}", line 2 in <lambda>' in collector.stderr


def test_a_forwarder_in_a_service_of_its_own_tells_how_it_stands(
    make_collector: MakeCollector, systemd: Systemd, tmp_path: Path
) -> None:
    """It is ready before there is a spool, as the collector starts after it."""
    collector = make_collector("[spool]\n" + destination(NOBODY, more="timeout_seconds = 1"))
    command = f'{systemd.environment()} exec "$0" -m collector forward -c "$1" elk'
    with collector.log.open("ab") as log:
        forwarder = subprocess.Popen(
            ["bash", "-c", command, sys.executable, str(collector.config)], stderr=log
        )
    try:
        process = forwarder.pid
        assert ("WATCHDOG_USEC=10000000", process) == systemd.next()
        assert ("READY=1", process) == systemd.next()
        assert {process} == systemd.signs(3)
        with (
            closing(Systemd(str(tmp_path / "of the collector"))) as other,
            service(collector, other, activated=True),  # which leaves forwarders to systemd
        ):
            assert "READY=1" == other.next().text
            os.kill(process, signal.SIGHUP)
            reloading = systemd.next_state()
            assert (True, process) == (reloading.text.startswith("RELOADING=1\nMONOTONIC_"), reloading.by)
            assert ("READY=1", process) == systemd.next_state()
            assert 0 == collector.stop()
        os.kill(process, signal.SIGSTOP)
        assert systemd.fall_silent()
        os.kill(process, signal.SIGCONT)
        os.kill(process, signal.SIGTERM)
        assert ("STOPPING=1", process) == systemd.next_state()
        assert 0 == forwarder.wait(START_SECONDS)
    finally:
        forwarder.kill()


def test_nobody_speaks_for_the_process_that_systemd_has_started(
    make_collector: MakeCollector, systemd: Systemd
) -> None:
    collector = make_collector(f"[spool]\n{destination(NOBODY)}")
    with service(collector, systemd, activated=False):
        assert "READY=1" == systemd.next().text
        within(5, lambda: collector.forwarders)
        for child in collector.children:
            with open(f"/proc/{child}/environ", encoding="utf-8") as environ:
                names = {line.partition("=")[0] for line in environ.read().split("\0")}
            assert names.isdisjoint({"NOTIFY_SOCKET", "WATCHDOG_PID"})
        assert 0 == collector.stop()


@pytest.mark.quick
def test_who_is_not_the_process_that_is_watched_gives_no_sign_of_life(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where ExecStart= is a shell that starts the collector."""
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert 0.0 == Notifier().seconds
    assert not {"WATCHDOG_USEC", "WATCHDOG_PID"} & os.environ.keys()
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert 0.5 == Notifier().seconds


@pytest.mark.quick
def test_a_socket_that_is_not_there_is_a_warning_and_no_reason_to_stop(
    make_collector: MakeCollector, tmp_path: Path
) -> None:
    collector = make_collector().start(env=os.environ | {"NOTIFY_SOCKET": str(tmp_path / "missing")})
    within(5, lambda: "WARNING systemd cannot be told READY=1: [Errno 2] No such file" in collector.stderr)
    collector.send(make_frame("received"))
    within(5, lambda: collector.lines("app.log"))
    assert 0 == collector.stop()


@pytest.mark.quick
def test_without_systemd_nobody_is_told_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    notifier = Notifier()
    notifier.tell(READY)
    notifier.alive()
    assert 0.0 == notifier.seconds
