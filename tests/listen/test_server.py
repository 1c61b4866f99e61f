from __future__ import annotations

import contextlib
import resource
import signal
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.collectors import STOP_SECONDS, messages
from tests.support.corpus import frame
from tests.support.fleet import timed
from tests.support.frames import make_frame
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.collectors import Collector


@pytest.mark.quick
def test_a_record_sent_alone_is_written_at_once(collector: Collector) -> None:
    with collector.connect() as client:
        client.sendall(make_frame("hello"))
        within(2, lambda: messages(collector) == ["hello"])


@pytest.mark.quick
def test_a_frame_may_arrive_byte_by_byte(collector: Collector) -> None:
    with collector.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in make_frame("slow") + make_frame("too"):
            client.sendall(bytes([byte]))
        within(5, lambda: messages(collector) == ["slow", "too"])


def since_it_listens(collector: Collector) -> list[str]:
    """Return the lines of the log behind those that it begins with."""
    return collector.stderr.partition("listening on")[2].splitlines()[1:]


@pytest.mark.quick
def test_clients_come_and_go_in_the_log_with_records_and_bytes(collector: Collector) -> None:
    data = make_frame("one") + make_frame("two")
    collector.send(data)
    within(5, lambda: "disconnected" in collector.stderr)
    came, went = since_it_listens(collector)
    assert came.split(" client ")[1].endswith(" connected")
    assert went.endswith(f"disconnected after 2 records, {len(data)} bytes")


@pytest.mark.quick
def test_an_end_inside_a_frame_is_logged_with_its_bytes_and_costs_nothing_else(collector: Collector) -> None:
    collector.send(make_frame("whole") + make_frame("cut")[:100])
    within(5, lambda: "disconnected" in collector.stderr)
    (line,) = [line for line in since_it_listens(collector) if " connected" not in line]
    assert " WARNING " in line
    assert line.endswith("went away inside a frame, of which 100 bytes had come")
    within(5, lambda: messages(collector) == ["whole"])


@pytest.mark.parametrize("payload", [b"not a pickle", b"N.", b"}.", b"\x80\x02."], ids=repr)
def test_a_payload_that_cannot_be_read_costs_itself_and_not_its_connection(
    collector: Collector, payload: bytes
) -> None:
    with collector.connect() as client:
        bad = len(payload).to_bytes(4, "big") + payload
        client.sendall(make_frame("before") + bad + make_frame("after"))
        within(5, lambda: messages(collector) == ["before", "after"])
        client.sendall(make_frame("later"))
        within(5, lambda: messages(collector) == ["before", "after", "later"])
    within(5, lambda: f"frame of {len(payload)} bytes quarantined" in collector.stderr)


def test_a_million_bad_payloads_do_not_flood_the_log(collector: Collector) -> None:
    collector.send(b"\0\0\0\1N" * 100_000 + make_frame("after"))
    within(10, lambda: messages(collector) == ["after"])
    assert collector.stop() == 0
    # So many, and one that tells how many were left out.
    assert 20 + 1 == collector.stderr.count("frame of 1 byte quarantined")
    assert collector.stderr.endswith("1 written, 100000 quarantined, 0 dropped\n")


@pytest.mark.quick
def test_a_frame_over_the_limit_ends_its_own_connection_only(collector: Collector) -> None:
    with collector.connect() as good:
        collector.send(make_frame("before") + b"GET / HTTP/1.1\r\n\r\n")
        good.sendall(make_frame("after"))
        within(5, lambda: messages(collector) == ["before", "after"])
    line = "frame of 1195725856 bytes exceeds max_frame_bytes = 16777216; looks like HTTP; closing"
    within(5, lambda: line in collector.stderr)


def test_a_busy_client_does_not_starve_others(collector: Collector) -> None:
    blob = make_frame("busy", "busy") * 5000
    delays = []

    def keep_sending(client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client.sendall(blob)

    with collector.connect() as busy, collector.connect() as quiet:
        sender = threading.Thread(target=keep_sending, args=(busy,))
        sender.start()
        for n in range(20):
            with timed(collector) as seconds:
                quiet.sendall(make_frame(str(n)))
                within(5, lambda n=n: len(messages(collector)) > n)  # type: ignore[misc]
            delays.append(seconds())
        busy.shutdown(socket.SHUT_RDWR)
        sender.join()
    assert sorted(delays)[10] < 0.1
    within(5, lambda: len(collector.lines("busy.log")) > 1000)


@pytest.mark.quick
def test_at_max_clients_further_ones_wait_in_the_backlog(make_collector: Callable[..., Collector]) -> None:
    collector = make_collector("[listen]\nmax_clients = 2\n").start()
    first, second = collector.connect(), collector.connect()
    with second, collector.connect() as third:
        with first:
            third.sendall(make_frame("patient"))
            first.sendall(make_frame("first"))
            second.sendall(make_frame("second"))
            within(5, lambda: sorted(messages(collector)) == ["first", "second"])
            within(5, lambda: collector.stderr.count(" connected") >= 2)
            assert 2 == collector.stderr.count(" connected")
        within(5, lambda: "patient" in messages(collector))


def test_the_soft_limit_on_open_files_is_raised_to_the_hard_one(
    make_collector: Callable[..., Collector],
) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]

    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))

    collector = make_collector().start(preexec_fn=lower)
    assert (hard, hard) == resource.prlimit(collector.worker, resource.RLIMIT_NOFILE)


def test_a_hard_limit_too_low_for_max_clients_is_warned_of(make_collector: Callable[..., Collector]) -> None:
    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1000, 1000))

    collector = make_collector().start(preexec_fn=lower)
    within(5, lambda: "the limit on open files is 1000: only 500 clients are served" in collector.stderr)


def test_the_admin_port_has_descriptors_for_all_its_connections_and_searches(
    make_collector: Callable[..., Collector],
) -> None:
    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1000, 1000))

    collector = make_collector("[files]\nmax_open = 100\n[admin]\nport = 0\n").start(preexec_fn=lower)
    left = 1000 - 100 - 64 - (64 + 32 + 32 + 12)
    within(5, lambda: f"only {left} clients are served" in collector.stderr)


def test_where_descriptors_are_few_fewer_clients_are_served_and_the_others_wait(
    make_collector: Callable[..., Collector],
) -> None:
    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))

    collector = make_collector().start(preexec_fn=lower)
    clients = [collector.connect() for _ in range(30)]
    try:
        for n, client in enumerate(clients):
            client.sendall(make_frame(str(n)))
        within(10, lambda: len(messages(collector)) == 20)
    finally:
        for client in clients:
            client.close()
    within(10, lambda: len(messages(collector)) == 30)


# --- stopping ---


@pytest.mark.quick
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_was_received_before_a_signal_is_on_disk_after_exit_0(collector: Collector, number: int) -> None:
    with collector.connect() as client:
        client.sendall(make_frame("kept") * 5000)
        assert collector.stop(number) == 0
    assert 5000 == len(messages(collector))
    assert (
        "stopped: 5000 records received from 1 client, 5000 written, 0 quarantined, 0 dropped"
        in collector.stderr
    )


def test_what_waits_in_the_backlog_is_accepted_and_read_before_the_end(
    make_collector: Callable[..., Collector],
) -> None:
    collector = make_collector("[listen]\nmax_clients = 1\n").start()
    with collector.connect() as first, collector.connect() as second:
        first.sendall(make_frame("first"))
        second.sendall(make_frame("second"))
        within(5, lambda: messages(collector) == ["first"])
        assert collector.stop() == 0
    assert ["first", "second"] == messages(collector)


def test_without_a_descriptor_what_waits_is_accepted_as_those_before_it_go(
    make_collector: Callable[..., Collector],
) -> None:
    collector = make_collector("[listen]\nmax_clients = 1\n").start()
    with contextlib.ExitStack() as clients:
        for n in range(20):
            clients.enter_context(collector.connect()).sendall(make_frame(f"{n}"))
        within(5, lambda: messages(collector) == ["0"])
        used = {int(path.name) for path in Path(f"/proc/{collector.worker}/fd").iterdir()}
        lowest_free = min(set(range(len(used) + 1)) - used)
        resource.prlimit(collector.worker, resource.RLIMIT_NOFILE, (lowest_free, lowest_free))
        assert 0 == collector.stop()
    assert sorted(map(str, range(20))) == sorted(messages(collector))
    assert " ERROR " not in collector.stderr


def test_what_waits_and_could_not_be_accepted_in_time_is_told_and_exit_1(
    make_collector: Callable[..., Collector],
) -> None:
    collector = make_collector("[listen]\nmax_clients = 1\ndrain_seconds = 1\n").start()
    with collector.connect() as first, collector.connect() as second:
        first.sendall(make_frame("first"))
        second.sendall(make_frame("second"))
        within(5, lambda: messages(collector) == ["first"])
        resource.prlimit(collector.worker, resource.RLIMIT_NOFILE, (3, 3))
        assert 1 == collector.stop()
    words = (
        "clients that wait were not accepted before drain_seconds were over: [Errno 24] Too many open files"
    )
    assert words in collector.stderr
    assert collector.stderr.splitlines()[-1].endswith("1 written, 0 quarantined, 0 dropped")


def test_an_idle_client_does_not_delay_the_end(collector: Collector) -> None:
    with collector.connect():
        within(5, lambda: " connected" in collector.stderr)
        with timed(collector) as seconds:
            assert collector.stop() == 0
        assert seconds() < 2


def test_a_client_that_never_stops_sending_does_not_delay_the_end(collector: Collector) -> None:
    blob = make_frame("endless") * 1000
    deadline = time.monotonic() + STOP_SECONDS
    with collector.connect() as client:
        client.sendall(blob)
        client.settimeout(0.05)
        assert collector.process
        with timed(collector) as seconds:
            collector.process.send_signal(signal.SIGTERM)
            while collector.running:
                assert time.monotonic() < deadline
                with contextlib.suppress(OSError):
                    client.send(blob)
    assert seconds() < 5
    assert collector.process.returncode == 0


@pytest.mark.quick
def test_the_frames_of_a_python_2_client_are_read(collector: Collector) -> None:
    collector.send(frame("2.7", "typical"))
    within(5, lambda: collector.lines("app_web_request.log"))
    assert collector.lines("app_web_request.log")[0].endswith("GET /api/v1/items/42 200 OK in 12.5 ms")


def test_loggers_with_other_limits_may_share_a_file(make_collector: Callable[..., Collector]) -> None:
    rules = '[[logger]]\nname = "a.b"\nfile = "a_b.log"\nrollover = { max_bytes = 1000, backup_count = 0 }\n'
    collector = make_collector(rules).start()
    with collector.connect() as one, collector.connect() as other:
        for _ in range(20):
            one.sendall(make_frame("x" * 50, "a.b") * 10)
            other.sendall(make_frame("x" * 50, "a_b") * 10)
        within(10, lambda: sum(data.count(b"\n") for data in collector.files().values()) == 400)
    assert collector.stop() == 0
    assert max(map(len, collector.files().values())) <= 1000
