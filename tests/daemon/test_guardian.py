from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.bulk_server import Asked, BulkServer
from tests.support.collectors import START_SECONDS, messages
from tests.support.destinations import NOBODY, destination, told
from tests.support.frames import make_frame
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.collectors import Collector


def gone(pid: int) -> bool:
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.quick
def test_a_worker_that_dies_is_replaced_at_once_on_the_same_port(collector: Collector) -> None:
    before = collector.worker
    os.kill(before, signal.SIGKILL)
    collector.send(make_frame("sent to nobody yet"))
    within(5, lambda: messages(collector) == ["sent to nobody yet"])
    assert before != collector.worker
    within(5, lambda: "was killed by signal 9" in collector.stderr)


def test_only_a_worker_that_has_listened_is_said_to_have_lost_something(collector: Collector) -> None:
    os.kill(collector.worker, signal.SIGKILL)
    lost = "was killed by signal 9; what it had not written is lost; another starts"
    within(5, lambda: lost in collector.stderr)
    within(START_SECONDS, lambda: collector.stderr.count("listening on") == 2, "another worker")
    good = collector.config.read_text()
    collector.config.write_text("[fils]")  # so that the next ones do not start
    os.kill(collector.worker, signal.SIGKILL)
    within(START_SECONDS, lambda: " ended with 2 before it listened; another starts" in collector.stderr)
    assert 2 == collector.stderr.count("what it had not written is lost; another starts")
    collector.config.write_text(good)
    within(START_SECONDS, lambda: collector.stderr.count("listening on") == 3, "another worker")


def test_no_connection_is_refused_while_workers_die(collector: Collector) -> None:
    for n in range(5):
        os.kill(collector.worker, signal.SIGKILL)
        for _ in range(20):
            collector.connect().close()
        within(10, lambda n=n: collector.stderr.count("listening on") > n + 1)  # type: ignore[misc]


def test_a_worker_that_keeps_dying_is_started_after_growing_pauses(collector: Collector) -> None:
    begun = time.monotonic()
    for n in range(4):
        within(10, lambda n=n: collector.stderr.count("listening on") > n)  # type: ignore[misc]
        os.kill(collector.worker, signal.SIGKILL)
    within(10, lambda: collector.stderr.count("listening on") == 5)
    assert time.monotonic() - begun > 0.1 + 0.2 + 0.4


@pytest.mark.quick
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_passed_on_and_the_workers_exit_code_comes_back(
    collector: Collector, number: int
) -> None:
    worker = collector.worker
    assert collector.stop(number) == 0
    assert gone(worker)
    assert "stopped: 0 records received" in collector.stderr


def test_ctrl_c_on_a_terminal_reaches_the_worker_once(make_collector: Callable[..., Collector]) -> None:
    collector = make_collector().start(start_new_session=True)
    assert collector.process
    assert os.getpgid(collector.worker) != os.getpgid(collector.process.pid)
    os.killpg(collector.process.pid, signal.SIGINT)
    assert collector.process.wait(10) == 0
    assert 1 == collector.stderr.count("SIGINT: draining")


def test_a_second_signal_stops_at_once_with_1(make_collector: Callable[..., Collector]) -> None:
    collector = make_collector("[listen]\ndrain_seconds = 60\n").start()
    with collector.connect() as client:
        client.sendall(make_frame("begun")[:50])
        within(5, lambda: " connected" in collector.stderr)
        assert collector.process
        stopped = collector.worker
        os.kill(stopped, signal.SIGSTOP)
        collector.process.send_signal(signal.SIGTERM)
        collector.process.send_signal(signal.SIGINT)
        os.kill(stopped, signal.SIGCONT)
        assert collector.process.wait(10) in (0, 1)


def test_when_the_guardian_is_killed_the_worker_drains_and_leaves_port_and_lock_free(
    collector: Collector,
) -> None:
    worker = collector.worker
    assert collector.process
    with collector.connect() as client:
        client.sendall(make_frame("not lost") * 1000)
        os.kill(collector.process.pid, signal.SIGKILL)
        within(10, lambda: gone(worker))
    assert 1000 == len(messages(collector))
    assert "the guardian has ended: draining" in collector.stderr
    assert "cannot be told" not in collector.stderr, "there is no systemd"
    collector.process.wait()
    collector.configure(f"[listen]\nport = {collector.port}\n")
    collector.start()
    assert "stopped: 1000 records received" in collector.stderr


def test_a_second_collector_on_the_directory_refuses_to_start_and_names_the_first(
    collector: Collector, make_collector: Callable[..., Collector]
) -> None:
    assert collector.process
    second = make_collector(f'[files]\ndirectory = "{collector.directory}"\n')
    result = subprocess.run(
        [sys.executable, "-m", "collector", "run", "-c", str(second.config)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.returncode == 2
    assert [f"process {collector.process.pid}"] == re.findall(
        r"belongs to another collector, (process \d+)", result.stderr
    )
    collector.send(make_frame("undisturbed"))
    within(5, lambda: messages(collector) == ["undisturbed"])


def test_a_stale_lock_is_no_hindrance(make_collector: Callable[..., Collector]) -> None:
    collector = make_collector()
    collector.directory.mkdir()
    (collector.directory / ".collector.lock").write_text("1\n")
    collector.start()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a process namespace of its own")
def test_as_the_first_process_of_a_container_it_reaps_and_passes_signals_on(
    make_collector: Callable[..., Collector],
) -> None:
    collector = make_collector()
    unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    with collector.log.open("ab") as log:
        process = subprocess.Popen(
            [*unshare, sys.executable, "-m", "collector", "run", "-c", str(collector.config)],
            stderr=log,
        )
    collector.process = process
    within(20, lambda: "listening on" in collector.stderr)
    first = collector.worker  # of unshare: the guardian
    orphan = ["nsenter", "--target", str(first), "--pid", "--mount", "sh", "-c", "sleep 0.1 & exit"]
    for _ in range(3):
        subprocess.run(orphan, check=True)
    children = Path(f"/proc/{first}/task/{first}/children")
    within(5, lambda: len(children.read_text().split()) == 1, "only the worker is left")
    os.kill(first, signal.SIGHUP)
    within(5, lambda: "SIGHUP: changed: nothing" in collector.stderr)
    os.kill(first, signal.SIGUSR1)
    within(5, lambda: "SIGUSR1: rolling over" in collector.stderr)
    os.kill(first, signal.SIGTERM)
    assert process.wait(10) == 0
    assert "stopped: 0 records received" in collector.stderr


@pytest.mark.skipif(not shutil.which("systemd-socket-activate"), reason="needs systemd-socket-activate")
def test_under_systemds_socket_activation_the_worker_runs_without_a_guardian(
    make_collector: Callable[..., Collector],
) -> None:
    collector = make_collector()
    with socket.create_server(("127.0.0.1", 0)) as free:
        collector.port = free.getsockname()[1]
    activate = ["systemd-socket-activate", "--listen", f"127.0.0.1:{collector.port}", "--fdname", "collector"]
    with collector.log.open("ab") as log:
        collector.process = subprocess.Popen(
            [*activate, sys.executable, "-m", "collector", "run", "-c", str(collector.config)], stderr=log
        )
    within(10, lambda: "Listening on" in collector.stderr)
    collector.send(make_frame("activated"))
    within(5, lambda: messages(collector) == ["activated"])
    children = Path(f"/proc/{collector.process.pid}/task/{collector.process.pid}/children").read_text()
    assert children == ""
    assert collector.stop() == 0


@pytest.mark.parametrize("count", ["", "0", "-1", "1", "three", "99999999999"])
def test_who_is_passed_no_sockets_although_it_is_the_worker_exits_with_2_and_a_line(
    make_collector: Callable[..., Collector], count: str
) -> None:
    collector = make_collector()
    command = f'LISTEN_PID=$$ LISTEN_FDS={count} exec "$0" -m collector run -c "$1"'
    result = subprocess.run(
        ["sh", "-c", command, sys.executable, str(collector.config)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.returncode == 2
    assert 1 == len(result.stderr.splitlines()), result.stderr
    assert f"LISTEN_FDS = '{count}' passes no sockets" in result.stderr


def connection() -> int:
    ours, theirs = socket.socketpair()
    theirs.close()
    return ours.detach()


def pipe() -> int:
    read_end, write_end = os.pipe()
    os.close(write_end)
    return read_end


def unconnected(*kind: int) -> int:
    try:
        return socket.socket(*kind).detach()
    except OSError as error:
        pytest.skip(f"no such sockets here: {error}")


# What makes a descriptor, and what is said of it. With Accept=yes systemd passes a connection.
PASSED: dict[str, tuple[Callable[[], int], str]] = {
    "a connection": (connection, "does not listen: with Accept=yes"),
    "a closed socket": (unconnected, "does not listen: with Accept=yes"),
    "datagrams": (partial(unconnected, socket.AF_INET, socket.SOCK_DGRAM), "is not a stream socket"),
    "packets": (partial(unconnected, socket.AF_UNIX, socket.SOCK_SEQPACKET), "is not a stream socket"),
    "netlink": (partial(unconnected, socket.AF_NETLINK, socket.SOCK_RAW), "is of address family 16,"),
    "vsock": (partial(unconnected, socket.AF_VSOCK, socket.SOCK_STREAM), "is of address family 40,"),
    "a pipe": (pipe, "is not a socket"),
    "a device": (partial(os.open, os.devnull, os.O_RDONLY), "is not a socket"),
    "a directory": (partial(os.open, "/", os.O_RDONLY), "is not a socket"),
}


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "behind a good one"])
@pytest.mark.parametrize("kind", PASSED)
def test_what_is_passed_and_no_listening_stream_is_refused_with_the_remedy(
    make_collector: Callable[..., Collector], kind: str, *, alone: bool
) -> None:
    make, fault = PASSED[kind]
    collector = make_collector()
    wrong = make()
    with socket.create_server(("127.0.0.1", 0)) as good:
        fds = [wrong] if alone else [good.fileno(), wrong]
        moved = " ".join(f"{number}<&{fd}" for number, fd in enumerate(fds, 3))
        command = f'LISTEN_PID=$$ LISTEN_FDS={len(fds)} exec "$0" -m collector run -c "$1" {moved}'
        result = subprocess.run(
            ["bash", "-c", command, sys.executable, str(collector.config)],
            pass_fds=fds,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    os.close(wrong)
    assert 2 == result.returncode
    remedy = "; the socket unit needs ListenStream=, with a path or an address of IPv4 or IPv6, and Accept=no"
    assert result.stderr.startswith(f"collector: descriptor {2 + len(fds)} {fault}"), result.stderr
    assert [remedy] == [line[-len(remedy) :] for line in result.stderr.splitlines()]


@pytest.mark.skipif(not shutil.which("systemd-socket-activate"), reason="needs systemd-socket-activate")
@pytest.mark.parametrize(("option", "kind"), [("--accept", "STREAM"), ("--datagram", "DGRAM")])
def test_systemds_other_kinds_of_activation_end_with_a_line(
    make_collector: Callable[..., Collector], option: str, kind: str
) -> None:
    collector = make_collector()
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    activate = ["systemd-socket-activate", option, "--listen", f"127.0.0.1:{address[1]}"]
    with collector.log.open("ab") as log:
        collector.process = subprocess.Popen(
            [*activate, sys.executable, "-m", "collector", "run", "-c", str(collector.config)], stderr=log
        )
    within(10, lambda: "Listening on" in collector.stderr)
    with socket.socket(type=getattr(socket, f"SOCK_{kind}")) as client:
        client.connect(address)
        client.send(make_frame("to nobody"))
        within(10, lambda: "collector: descriptor 3 " in collector.stderr)
    collector.process.terminate()
    collector.process.wait(10)


def test_a_signal_that_comes_before_the_worker_is_ready_still_drains_it(
    make_collector: Callable[..., Collector],
) -> None:
    collector = make_collector()
    with collector.log.open("ab") as log:
        collector.process = subprocess.Popen(
            [sys.executable, "-m", "collector", "run", "-c", str(collector.config)], stderr=log
        )
    guardian = collector.process.pid
    children = Path(f"/proc/{guardian}/task/{guardian}/children")
    within(10, children.read_text)
    assert collector.stop() == 0
    assert "stopped: 0 records received" in collector.stderr


def test_a_signal_that_comes_before_the_configuration_is_read_still_drains_it(
    make_collector: Callable[..., Collector],
) -> None:
    """As a FIFO the configuration is read when the test writes it: by the guardian, then by its worker."""
    collector = make_collector()
    config = collector.config.read_text()
    collector.config.unlink()
    os.mkfifo(collector.config)
    command = [sys.executable, "-m", "collector", "run", "-c", str(collector.config)]
    with collector.log.open("ab") as log:
        process = collector.process = subprocess.Popen(command, stderr=log)
    with collector.config.open("w") as fifo:
        process.send_signal(signal.SIGTERM)
        fifo.write(config)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    within(10, lambda: process.poll() is not None or children.read_text(), "there is a worker")
    assert collector.running, process.returncode
    with collector.config.open("w") as fifo:
        fifo.write(config)
    assert process.wait(20) == 0
    assert "stopped: 0 records received" in collector.stderr


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_taken_by_no_socket(
    make_collector: Callable[..., Collector], closed: str
) -> None:
    collector = make_collector()
    with socket.create_server(("127.0.0.1", 0)) as free:
        collector.port = free.getsockname()[1]
    collector.configure(f"[listen]\nport = {collector.port}\n")
    command = f'exec "$0" -m collector run -c "$1" {closed}'
    collector.process = subprocess.Popen(["sh", "-c", command, sys.executable, str(collector.config)])

    def accepts() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", collector.port)) == 0

    within(20, accepts)
    collector.send(make_frame("stored"))
    within(5, lambda: messages(collector) == ["stored"])
    for pid in (collector.process.pid, collector.worker):
        assert os.readlink(f"/proc/{pid}/fd/2") == "/dev/null"
    assert collector.stop() == 0


def test_a_later_worker_that_cannot_start_is_tried_again(collector: Collector) -> None:
    config = collector.config.read_text()
    collector.config.write_text("[files]\ndirectory = 5\n")
    os.kill(collector.worker, signal.SIGKILL)
    within(10, lambda: "ended with 2" in collector.stderr)
    collector.config.write_text(config)
    collector.send(make_frame("patience"))
    within(15, lambda: messages(collector) == ["patience"])


WITHOUT_PYTHON = """
from collector import log
from collector.daemon import guardian
log.set_up(20, "json")
raise SystemExit(guardian.run(["/nowhere/python"], [], "", {}, dict, 1))
"""


def test_a_first_worker_that_cannot_even_be_started_ends_it_with_2_in_the_form_of_the_log() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_PYTHON], capture_output=True, timeout=START_SECONDS, check=False
    )
    fault = "cannot start the worker: [Errno 2] No such file or directory: '/nowhere/python'"
    events = [json.loads(line) for line in ended.stderr.splitlines()]
    assert (2, [("ERROR", fault)]) == (
        ended.returncode,
        [(event["level"], event["message"]) for event in events],
    )


@contextmanager
def no_more_processes(pid: int) -> Iterator[None]:
    """Keep a process from starting others, as where a container has as many as it may."""
    groups = [Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")]
    group = next((each for each in groups if (each / "cgroup.procs").exists()), groups[0]) / f"of-{pid}"
    before = Path(f"/proc/{pid}/cgroup").read_text()
    try:
        group.mkdir()
        (group / "pids.max").write_text("0")
    except OSError as error:
        with suppress(OSError):
            group.rmdir()
        pytest.skip(f"needs a control group that limits processes: {error}")
    ours = next(
        line.rpartition(":")[2] for line in before.splitlines() if ":pids:" in line or line.startswith("0::")
    )
    try:
        (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        (group.parent / ours.lstrip("/") / "cgroup.procs").write_text(str(pid))
        group.rmdir()


def test_a_worker_that_no_process_can_be_made_for_is_tried_again(collector: Collector) -> None:
    assert collector.process
    with no_more_processes(collector.process.pid):
        os.kill(collector.worker, signal.SIGKILL)
        within(10, lambda: "the worker: no process can be made for it" in collector.stderr)
    collector.send(make_frame("patience"))
    within(15, lambda: messages(collector) == ["patience"])


# --- the configuration on a disk that hangs ---


@contextmanager
def hung(path: Path) -> Iterator[None]:
    """Have whoever reads a file wait, as on a disk that hangs: it is a pipe that nobody writes to."""
    beside = path.with_suffix(".good")
    path.rename(beside)
    os.mkfifo(path)
    pipe = path.with_suffix(".pipe")
    os.link(path, pipe)
    try:
        yield
    finally:
        beside.rename(path)
        os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))  # who waits reads that it is empty


@pytest.mark.slow
def test_a_configuration_on_a_disk_that_hangs_keeps_no_signal_from_being_passed_on(
    make_collector: Callable[..., Collector],
) -> None:
    collector = make_collector(f"[listen]\ndrain_seconds = 2\n[spool]\n{destination(NOBODY)}").start()
    assert collector.process
    with hung(collector.config):
        for _ in range(2):
            collector.process.send_signal(signal.SIGHUP)
        within(10, lambda: collector.process and len(threads(collector.process.pid)) > 1, "it reads")
        collector.send(make_frame("not lost"))
        begun = time.monotonic()
        assert 0 == collector.stop()
        assert time.monotonic() - begun < 8
    assert ["not lost"] == messages(collector)


@pytest.mark.slow
def test_a_configuration_on_a_disk_that_hangs_keeps_no_worker_from_being_replaced(
    make_collector: Callable[..., Collector],
) -> None:
    collector = make_collector().start()
    assert collector.process
    before = collector.worker
    with hung(collector.config):
        collector.process.send_signal(signal.SIGHUP)
        within(10, lambda: collector.process and len(threads(collector.process.pid)) > 1, "it reads")
        os.kill(before, signal.SIGKILL)
        within(10, lambda: [pid for pid in collector.children if pid != before], "another one starts")
    collector.config.write_text(f"{collector.config.read_text()}[spool]\n{destination(NOBODY)}")
    within(START_SECONDS, lambda: collector.stderr.count("listening on") == 2, "it is there again")
    collector.process.send_signal(signal.SIGHUP)
    within(10, lambda: "elk" in collector.forwarders, "and what was read since holds")


def threads(process: int) -> list[str]:
    return os.listdir(f"/proc/{process}/task")


# --- stopping while a forwarder has a request in flight ---


class SlowServer(BulkServer):
    """Answers no request for records before it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_answer = threading.Event()

    def answer(self, asked: Asked) -> tuple[int, object]:
        if asked.method == "POST":
            self.may_answer.wait(START_SECONDS)
        return super().answer(asked)


@pytest.fixture
def slow_server() -> Iterator[SlowServer]:
    with SlowServer() as server:
        yield server
        server.may_answer.set()


def stopping(make_collector: Callable[..., Collector], server: SlowServer) -> Collector:
    """Return a collector that stops: its worker has ended, and a request of the forwarder is in flight."""
    collector = make_collector(f"[spool]\n{destination(server.url)}").start()
    collector.send(make_frame("asked"))
    within(15, lambda: any(asked.method == "POST" for asked in server.asked), "a request")
    assert collector.process
    (forwarder,) = collector.forwarders.values()
    collector.process.terminate()
    within(15, lambda: collector.children == [forwarder], "the worker has ended")
    return collector


@pytest.mark.slow
def test_a_request_in_flight_is_answered_before_the_end(
    make_collector: Callable[..., Collector], slow_server: SlowServer
) -> None:
    collector = stopping(make_collector, slow_server)
    slow_server.may_answer.set()
    assert collector.process
    assert collector.process.wait(15) == 0
    assert "elk: stopped" in collector.stderr
    assert told(collector.directory / ".spool")["shipped"] == 1


@pytest.mark.slow
def test_a_second_signal_waits_for_no_answer(
    make_collector: Callable[..., Collector], slow_server: SlowServer
) -> None:
    collector = stopping(make_collector, slow_server)
    assert collector.stop() == 1
    assert not slow_server.may_answer.is_set()
