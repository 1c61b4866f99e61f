"""Many clients, and bad ones: who sends well is served all the same, and who does nothing costs little."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.collectors import messages
from tests.support.fleet import assert_in_time, delays, hold, report, timed
from tests.support.frames import make_frame
from tests.support.places import FLOOD
from tests.support.waiting import within

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    from tests.support.collectors import Collector

    MakeCollector = Callable[..., Collector]
    Property = Callable[[str, object], None]

pytestmark = pytest.mark.slow

MiB = 1024 * 1024


def still_connected(client: socket.socket) -> bool:
    """The collector sends nothing, so all there can be to read is the end."""
    poller = select.poll()
    poller.register(client, select.POLLIN)
    return not poller.poll(0)


@contextmanager
def repeated(seconds: float, action: Callable[[], None]) -> Iterator[None]:
    """Do *action* every so many *seconds*, beside the block."""
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(seconds):
            action()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def firehoses(collector: Collector, number: int) -> Iterator[None]:
    """Run so many clients that send what they can."""
    command = [sys.executable, str(FLOOD), str(collector.port)]
    running = [subprocess.Popen([*command, str(n), "0"]) for n in range(number)]
    try:
        yield
        assert [None] * number == [firehose.poll() for firehose in running]
    finally:
        for firehose in running:
            firehose.kill()
            firehose.wait()


# --- bad company --------------------------------------------------------------------------------------------


def test_a_paced_client_is_served_in_time_beside_slow_silent_broken_and_greedy_ones(
    make_collector: MakeCollector, record_property: Property
) -> None:
    collector = make_collector().start()
    frame = make_frame("a byte a second", "slow")
    position = iter(range(len(frame)))
    broken = iter(range(50))

    def send_a_byte_each() -> None:
        n = next(position)
        for client in slow:
            client.send(frame[n : n + 1])

    def hang_up_inside_a_frame() -> None:
        if next(broken, None) is not None:
            with collector.connect() as client:
                client.send(frame[: len(frame) // 2])

    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(collector.connect()) for _ in range(20)]
        silent = [stack.enter_context(collector.connect()) for _ in range(200)]
        stack.enter_context(repeated(1, send_a_byte_each))
        stack.enter_context(firehoses(collector, 4))
        within(10, lambda: len(list(collector.directory.glob("load_*.log"))) == 4)
        stack.enter_context(repeated(0.08, hang_up_inside_a_frame))
        assert_in_time(record_property, 0.1, lambda: delays(collector, "paced", "paced.log", 100, 5))
        within(10, lambda: next(broken, None) is None)
        assert all(map(still_connected, slow + silent))
    flooded = sum(path.stat().st_size for path in collector.directory.glob("load_*.log*"))
    report(record_property, firehose_mb=flooded / MiB)
    assert collector.stop() == 0
    dropped, received, written = (
        int(re.search(rf"(\d+) {what}", collector.stderr.splitlines()[-1])[1])  # type: ignore[index]
        for what in ("dropped", "records received", "written")
    )
    assert (0, received) == (dropped, written)


# --- nine thousand that do nothing --------------------------------------------------------------------------

IDLE = 9000
NEWCOMERS = 100


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Let this process, and the collector that it starts, have as many open files as the machine grants."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] != resource.RLIM_INFINITY and before[1] < IDLE + 1000:
        pytest.skip(f"needs {IDLE + 1000} open files: the hard limit is {before[1]} (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def memory(pid: int) -> int:
    """Return the proportional set size of a process, in bytes (proc_pid_smaps(5))."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(text.split("\nPss:")[1].split()[0]) * 1024


@pytest.mark.usefixtures("many_descriptors")
def test_9000_idle_clients_cost_little_and_delay_nobody(
    make_collector: MakeCollector, record_property: Property
) -> None:
    collector = make_collector("[log]\nlevel = 'WARNING'\n").start()
    assert collector.process
    alone = memory(collector.process.pid) + memory(collector.worker)
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(collector.connect()) for _ in range(IDLE)]
        within(20, lambda: len(os.listdir(f"/proc/{collector.worker}/fd")) > IDLE)
        numbers = count()
        served(collector, next(numbers))
        crowded = memory(collector.process.pid) + memory(collector.worker)
        report(record_property, all_processes_mb=crowded / MiB, without_clients_mb=alone / MiB)
        assert crowded < 300 * MiB
        assert_in_time(
            record_property,
            0.05,
            lambda: [served(collector, next(numbers)) for _ in range(NEWCOMERS)],
        )
        assert all(map(still_connected, idle))
        begun = time.monotonic()
        assert collector.stop() == 0
        report(record_property, drain_seconds=time.monotonic() - begun)


def served(collector: Collector, n: int) -> float:
    """Connect and send a record; return the seconds until it could be read in its file."""
    path = collector.directory / "newcomer.log"
    begun = time.monotonic()
    with collector.connect() as client:
        client.sendall(make_frame(str(n), "newcomer"))
        while not (path.exists() and path.read_bytes().count(b"\n") > n):
            assert time.monotonic() < begun + 10, "a new client is not served"
            time.sleep(0.0005)
        return time.monotonic() - begun


# --- frame_timeout_seconds ----------------------------------------------------------------------------------

ONE_SECOND = "[listen]\nframe_timeout_seconds = 1\n"


def test_a_client_inside_a_frame_is_closed_after_frame_timeout_seconds_and_not_before(
    make_collector: MakeCollector, record_property: Property
) -> None:
    collector = make_collector(ONE_SECOND).start()
    with collector.connect() as client:
        begun = time.monotonic()
        with timed(collector) as seconds:
            client.sendall(make_frame("whole") + make_frame("cut")[:100])
            assert client.recv(1) == b""
        after = time.monotonic() - begun
    report(record_property, closed_after_s=after)
    assert after >= 1
    assert seconds() < 3
    within(5, lambda: "a frame was not finished within frame_timeout_seconds = 1" in collector.stderr)
    within(5, lambda: messages(collector) == ["whole"])


def test_a_client_that_sends_bytes_but_never_finishes_its_frame_is_closed_too(
    make_collector: MakeCollector,
) -> None:
    collector = make_collector(ONE_SECOND).start()
    with collector.connect() as client:
        begun = time.monotonic()
        with timed(collector) as seconds:
            for byte in make_frame("slow"):
                if not still_connected(client):
                    break
                with contextlib.suppress(OSError):
                    client.sendall(bytes([byte]))
                hold(0.1, lambda: collector.running, "the collector goes on")
        assert time.monotonic() - begun >= 1
        assert seconds() < 5


def test_a_client_that_is_always_inside_a_frame_and_finishes_those_thrown_away_is_not_closed(
    make_collector: MakeCollector,
) -> None:
    collector = make_collector(f"{ONE_SECOND}max_frame_bytes = 1000\n").start()
    too_large = (2000).to_bytes(4, "big") + b"}".ljust(2000, b"x")
    with collector.connect() as client:
        client.sendall(too_large[:100])
        for _ in range(15):
            hold(0.2, lambda: still_connected(client), "it makes progress")
            client.sendall(too_large[100:] + too_large[:100])
        client.sendall(too_large[100:] + make_frame("next"))
        within(5, lambda: messages(collector) == ["next"])


def test_a_client_between_frames_is_never_closed(make_collector: MakeCollector) -> None:
    collector = make_collector(ONE_SECOND).start()
    with collector.connect() as silent, collector.connect() as client:
        client.sendall(make_frame("one"))
        hold(4, lambda: still_connected(client) and still_connected(silent), "nobody is closed")
        silent.sendall(make_frame("two"))
        within(5, lambda: messages(collector) == ["one", "two"])


@pytest.mark.parametrize("in_the_socket", [1.0, 0.8], ids=["the whole rest", "a part of the rest"])
def test_time_in_which_the_collector_does_not_read_does_not_count(
    make_collector: MakeCollector, in_the_socket: float
) -> None:
    collector = make_collector(ONE_SECOND).start()
    worker = collector.worker
    frame = make_frame("x" * 1000)
    come = round(in_the_socket * len(frame))
    with collector.connect() as client:
        client.sendall(frame[:500])
        within(5, lambda: " connected" in collector.stderr)
        os.kill(worker, signal.SIGSTOP)
        try:
            client.sendall(frame[500:come])
            hold(3, lambda: still_connected(client), "nobody closes it")
        finally:
            os.kill(worker, signal.SIGCONT)
        collector.send(make_frame("meanwhile", "other"))
        within(5, lambda: messages(collector, "other.log") == ["meanwhile"], "it has looked at all of them")
        assert still_connected(client), "it has had no time to finish its frame"
        client.sendall(frame[come:] + make_frame("next"))
        within(5, lambda: messages(collector) == ["x" * 1000, "next"])
