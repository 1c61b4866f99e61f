"""Faults made real: full, frozen and broken file systems, directories gone, descriptors used up, `kill -9`.

The clients are stock SocketHandlers. They cannot be told that a record was lost, so what they have sent is
compared with what is in the files. Whatever needs root and cannot have it is skipped, and says why.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import logging
import os
import re
import resource
import shutil
import signal
import threading
import time
from logging.handlers import SocketHandler
from typing import TYPE_CHECKING

import pytest

from tests.support.collectors import messages, whole_lines
from tests.support.fleet import (
    ALL_ONCE,
    CONFIG,
    Machine,
    account,
    assert_in_time,
    delays,
    hold,
    lines_in,
    logging_at,
    not_judged,
    report,
    waited_for_a_cpu,
)
from tests.support.frames import make_frame
from tests.support.tracing import trace_syncs, wait_for
from tests.support.volumes import bound_by_permissions, needs_root, run
from tests.support.waiting import within

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.collectors import Collector
    from tests.support.fleet import Client
    from tests.support.volumes import Volumes

    MakeCollector = Callable[..., Collector]
    Property = Callable[[str, object], None]

pytestmark = pytest.mark.slow

MiB = 1024 * 1024
FAULT_SECONDS = 5
# The pause between two tries grows to 5 s: so long after its cause has gone a fault may last.
RECOVERY_SECONDS = 10
MAX_LINES_PER_KIND = 20
FOUR_LOGGERS = [[f"app{n}"] for n in range(4)]


# linux/ext4.h: _IOR('X', 125, __u32), and to shut down once everything is on disk
EXT4_IOC_SHUTDOWN = 0x8004587D
EXT4_GOING_FLAGS_DEFAULT = 0


def assert_all_once(collector: Collector, clients: list[Client]) -> None:
    """Each record that *clients* have sent is in a file once, whole, and the collector knows no other."""
    total = sum(len(client.sent) for client in clients)
    within(RECOVERY_SECONDS, lambda: lines_in(collector.directory) >= total, f"{total} records are there")
    assert collector.stop() == 0
    assert account(clients, collector.files()) == ALL_ONCE
    assert f"stopped: {total} records received" in collector.stderr
    assert f" {total} written, 0 quarantined, 0 dropped" in collector.stderr


def errors(collector: Collector, text: str) -> list[str]:
    return [line for line in collector.stderr.splitlines() if " ERROR " in line and text in line]


def assert_named(collector: Collector, path: Path, why: str) -> None:
    """The fault of *path* is on stderr, in a limited number of lines, and so is its end."""
    assert errors(collector, f"{path}: cannot be written, ")
    assert errors(collector, why)
    assert len(errors(collector, "cannot be written")) <= MAX_LINES_PER_KIND + len(FOUR_LOGGERS)
    assert f"{path}: can be written again" in collector.stderr


# --- nothing can be written for a while ---------------------------------------------------------------------


@needs_root
def test_a_full_volume_costs_no_record_and_tears_and_doubles_none(
    volumes: Volumes, make_collector: MakeCollector, record_property: Property
) -> None:
    collector = make_collector(CONFIG)
    volumes.tmpfs(collector.directory, "2m")
    collector.start()
    with logging_at(collector, 500, FOUR_LOGGERS, padding=1000) as clients:
        within(10, lambda: errors(collector, "No space left on device"), "the volume is full")
        hold(FAULT_SECONDS, lambda: collector.running, "the collector goes on")
        assert lines_in(collector.directory) < sum(len(client.sent) for client in clients)
        run("mount", "-o", "remount,size=100m", collector.directory)
        within(RECOVERY_SECONDS, lambda: "can be written again" in collector.stderr)
    assert_all_once(collector, clients)
    assert_named(collector, collector.directory / "app0.log", "No space left on device")
    slowest = max(client.slowest for client in clients)
    assert slowest < 1, "no application stood still for the second after which it drops records"
    report(
        record_property,
        records=sum(len(client.sent) for client in clients),
        errors_logged=len(errors(collector, "cannot be written")),
        slowest_emit_ms=slowest * 1000,
    )


def test_a_directory_that_cannot_be_written_for_a_while_costs_no_record(
    make_collector: MakeCollector, record_property: Property
) -> None:
    collector = make_collector(CONFIG)
    collector.start(preexec_fn=bound_by_permissions if os.geteuid() == 0 else None)
    collector.directory.chmod(0o555)
    try:
        with logging_at(collector, 100, FOUR_LOGGERS) as clients:
            within(5, lambda: len(errors(collector, "Permission denied")) >= len(FOUR_LOGGERS))
            hold(FAULT_SECONDS, lambda: lines_in(collector.directory) == 0, "nothing can be made there")
            collector.directory.chmod(0o750)
            within(RECOVERY_SECONDS, lambda: collector.stderr.count("can be written again") == 4)
    finally:
        collector.directory.chmod(0o750)
    assert_all_once(collector, clients)
    for n in range(4):
        assert_named(collector, collector.directory / f"app{n}.log", "Permission denied")
    report(
        record_property,
        records=sum(len(client.sent) for client in clients),
        errors_logged=len(errors(collector, "cannot be written")),
    )


def few_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))


def test_more_loggers_than_descriptors_cost_no_record(
    make_collector: MakeCollector, record_property: Property
) -> None:
    collector = make_collector(CONFIG).start(preexec_fn=few_descriptors)
    loggers = [[f"app{client}_{n}" for n in range(75)] for client in range(4)]
    with logging_at(collector, 250, loggers) as clients:
        hold(FAULT_SECONDS, lambda: collector.running, "the collector goes on")
    assert_all_once(collector, clients)
    assert len(collector.files()) == 300
    # At the end one more line tells how many were left out.
    assert len(errors(collector, "")) <= MAX_LINES_PER_KIND + 1, errors(collector, "")
    report(
        record_property,
        records=sum(len(client.sent) for client in clients),
        too_many_open_files_logged=len(errors(collector, "Too many open files")),
        slowest_emit_ms=max(client.slowest for client in clients) * 1000,
    )


def test_a_batch_for_more_files_than_there_are_descriptors_is_written_soon(
    make_collector: MakeCollector, record_property: Property
) -> None:
    collector = make_collector(CONFIG).start(preexec_fn=few_descriptors)
    begun = time.monotonic()
    collector.send(b"".join(make_frame("one of many", f"app{n}") for n in range(300)))
    within(RECOVERY_SECONDS, lambda: lines_in(collector.directory) == 300)
    report(record_property, written_after_s=time.monotonic() - begun)


def test_idle_files_give_way_when_there_are_no_descriptors_for_clients(
    make_collector: MakeCollector,
) -> None:
    collector = make_collector(CONFIG).start(preexec_fn=few_descriptors)
    with collector.connect() as first:
        # Below the limit by a few: so many files are open, and idle, that no writer has run into it.
        free = 95 - len(os.listdir(f"/proc/{collector.worker}/fd"))
        for n in range(free):
            first.sendall(make_frame("hello", f"app{n}"))
            within(5, lambda n=n: lines_in(collector.directory) == n + 1)  # type: ignore[misc]
        with contextlib.ExitStack() as stack:
            for _ in range(20):
                client = stack.enter_context(collector.connect())
                client.sendall(make_frame("new here", "app0"))
            within(5, lambda: len(collector.lines("app0.log")) == 21, "every client is read")


@needs_root
def test_a_disk_that_answers_eio_and_is_replaced_costs_no_record(
    volumes: Volumes, make_collector: MakeCollector, record_property: Property
) -> None:
    collector = make_collector(CONFIG)
    image = volumes.ext4(collector.directory)
    collector.start()
    with logging_at(collector, 100, FOUR_LOGGERS) as clients:
        within(5, lambda: lines_in(collector.directory) > 100)
        shut_down(collector.directory)
        within(5, lambda: errors(collector, "Input/output error"), "the disk is broken")
        hold(FAULT_SECONDS, lambda: collector.running, "the collector goes on")
        volumes.detach(collector.directory)
        volumes.ext4(collector.directory)
        within(RECOVERY_SECONDS, lambda: collector.stderr.count("can be written again") == 4)
    assert collector.stop() == 0
    files = collector.files()
    old = collector.directory.parent / "old"
    old.mkdir()
    volumes.mount(image, old)
    files |= {f"old/{path.name}": path.read_bytes() for path in old.glob("*.log")}
    assert account(clients, files) == ALL_ONCE
    assert_named(collector, collector.directory / "app0.log", "Input/output error")
    report(record_property, records=sum(len(client.sent) for client in clients))


def shut_down(where: Path) -> None:
    """Have the ext4 at *where* put everything on disk and answer EIO from then on."""
    fd = os.open(where, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_DEFAULT.to_bytes(4, "little"))
    except OSError as error:
        pytest.skip(f"EXT4_IOC_SHUTDOWN: {error}")
    finally:
        os.close(fd)


# --- the directory goes away --------------------------------------------------------------------------------


def test_nothing_sent_after_the_directory_was_removed_is_lost(
    make_collector: MakeCollector, record_property: Property
) -> None:
    collector = make_collector(CONFIG).start()
    with logging_at(collector, 250, FOUR_LOGGERS) as clients:
        within(5, lambda: lines_in(collector.directory) > 500)
        within(5, lambda: removed(collector.directory))
        removed_at = time.monotonic()
        within(5, lambda: lines_in(collector.directory) > 500, "the directory was made anew")
    assert collector.stop() == 0
    missing, doubled, torn = account(clients, collector.files())
    assert ([], {}) == (doubled, torn)
    assert [] == [(number, n) for number, n in missing if clients[number].sent[n] > removed_at]
    report(record_property, records=sum(len(client.sent) for client in clients), removed=len(missing))


def removed(directory: Path) -> bool:
    """Do `rm -rf`; return whether nobody was quicker in making something there anew."""
    with contextlib.suppress(OSError):
        shutil.rmtree(directory)
        return True
    return False


def test_nothing_is_lost_when_the_directory_is_replaced_by_another(
    make_collector: MakeCollector, record_property: Property
) -> None:
    collector = make_collector(CONFIG).start()
    away = collector.directory.with_name("away")
    with logging_at(collector, 250, FOUR_LOGGERS) as clients:
        within(5, lambda: lines_in(collector.directory) > 500)
        collector.directory.rename(away)
        collector.directory.mkdir(exist_ok=True)
        within(5, lambda: lines_in(collector.directory) > 500, "the new directory is used")
    assert collector.stop() == 0
    files = collector.files()
    assert {f"app{n}.log" for n in range(4)} == files.keys()
    files |= {f"away/{path.name}": path.read_bytes() for path in away.glob("*.log")}
    assert account(clients, files) == ALL_ONCE
    report(
        record_property,
        records=sum(len(client.sent) for client in clients),
        records_in_the_old_one=lines_in(away),
    )


# --- a disk stands still ------------------------------------------------------------------------------------


@needs_root
def test_a_frozen_volume_delays_no_other_and_loses_nothing(
    volumes: Volumes, make_collector: MakeCollector, record_property: Property
) -> None:
    collector = make_collector(CONFIG + stalled_rules(1))
    volumes.ext4(collector.directory / "volume0")
    collector.start()
    with logging_at(collector, 100, [["stalled0"]]) as clients:
        within(5, lambda: lines_in(collector.directory) > 10)

        def delays_beside_a_frozen_volume() -> list[float]:
            volumes.freeze(collector.directory / "volume0")
            before = lines_in(collector.directory / "volume0")
            took = delays(collector, "other", "other.log", 100, FAULT_SECONDS)
            assert before == lines_in(collector.directory / "volume0"), "it is frozen indeed"
            volumes.thaw()
            return took

        assert_in_time(record_property, 0.05, delays_beside_a_frozen_volume)
    assert_stalled_records_are_all_there(collector, clients)
    slowest = max(client.slowest for client in clients)
    report(record_property, records_of_the_frozen=len(clients[0].sent), slowest_emit_ms=slowest * 1000)
    assert slowest < 1, "its application did not stand still either"


@needs_root
def test_ten_frozen_volumes_stall_nothing_but_themselves(
    volumes: Volumes, make_collector: MakeCollector, record_property: Property
) -> None:
    collector = make_collector(CONFIG + stalled_rules(10))
    for n in range(10):
        volumes.ext4(collector.directory / f"volume{n}")
    collector.start()
    with logging_at(collector, 50, [[f"stalled{n}"] for n in range(10)]) as clients:
        within(5, lambda: len(stalled_files(collector)) == 10)
        for n in range(10):
            volumes.freeze(collector.directory / f"volume{n}")
        assert_in_time(record_property, 0.05, lambda: delays(collector, "other", "other.log", 100, 5))
        volumes.thaw()
    assert_stalled_records_are_all_there(collector, clients)


@needs_root
def test_ten_frozen_volumes_with_as_many_firehoses_leave_a_part_of_the_reserve_to_the_others(
    volumes: Volumes, make_collector: MakeCollector, record_property: Property
) -> None:
    """Each takes what a volume may have of the reserve, which is not to be all of it in sum."""
    reserve = f"[listen]\nmax_frame_bytes = {4 * MiB}\nmax_buffered_bytes = {16 * MiB}\n"
    collector = make_collector(reserve + CONFIG + stalled_rules(10))
    for n in range(10):
        volumes.ext4(collector.directory / f"volume{n}")
    collector.start()
    with contextlib.ExitStack() as firehoses:
        for n in range(10):
            volumes.freeze(collector.directory / f"volume{n}")
            firehoses.enter_context(contextlib.closing(blocked(collector, f"stalled{n}")))
        assert_in_time(record_property, 0.05, lambda: delays(collector, "other", "other.log", 100, 3))
        volumes.thaw()


def blocked(collector: Collector, logger: str) -> socket.socket:
    """Return a client that has sent records of *logger* until nobody read them for half a second."""
    client = collector.connect()
    client.settimeout(0.5)
    blob = make_frame("x" * 1000, logger) * 1000
    with contextlib.suppress(TimeoutError):
        while True:
            client.sendall(blob)
    return client


@needs_root
def test_a_frozen_volume_does_not_delay_the_end(volumes: Volumes, make_collector: MakeCollector) -> None:
    """A thread that is stuck in the kernel cannot be killed: it is not to be waited for."""
    collector = make_collector("[listen]\ndrain_seconds = 1\n" + CONFIG + stalled_rules(1))
    volumes.ext4(collector.directory / "volume0")
    collector.start()
    volumes.freeze(collector.directory / "volume0")
    collector.send(make_frame("for ever", "stalled0") + make_frame("written", "other"))
    within(5, lambda: collector.lines("other.log"))
    assert collector.process
    collector.process.send_signal(signal.SIGTERM)
    within(5, lambda: not collector.running, "the end")
    assert collector.process.returncode == 1
    assert "stalled.log: 1 record is lost, it could not be written in time" in collector.stderr


def stalled_rules(count: int) -> str:
    """Return rules that put each of so many loggers on a volume of its own."""
    return "".join(f'[[logger]]\nname = "stalled{n}"\nfile = "volume{n}/stalled.log"\n' for n in range(count))


def stalled_files(collector: Collector) -> list[Path]:
    return list(collector.directory.glob("volume*/stalled.log"))


def assert_stalled_records_are_all_there(collector: Collector, clients: list[Client]) -> None:
    total = sum(len(client.sent) for client in clients)
    others = len(collector.lines("other.log"))
    within(RECOVERY_SECONDS, lambda: lines_in(collector.directory) >= total + others)
    assert collector.stop() == 0
    files = collector.files()
    del files["other.log"]
    assert account(clients, files) == ALL_ONCE


# --- the worker is killed -----------------------------------------------------------------------------------

KILLS = 10
KILL_EVERY_SECONDS = 1.5
STOCK_CLIENTS = 50


def test_kill_9_of_the_worker_costs_each_connection_about_two_records_and_refuses_nobody(
    make_collector: MakeCollector, record_property: Property
) -> None:
    collector = make_collector(CONFIG).start()
    with (
        Machine() as machine,
        connecting_all_the_time(collector) as attempts,
        logging_at(collector, 20, [[f"app{n % 5}"] for n in range(STOCK_CLIENTS)]) as clients,
    ):
        within(5, lambda: lines_in(collector.directory) > STOCK_CLIENTS)
        waited = 0.0
        for n in range(KILLS):
            # What a worker has not been given the time to read is lost with it.
            machine.wait_until_calm()
            waited += waited_for_a_cpu(collector.worker)
            os.kill(collector.worker, signal.SIGKILL)
            hold(KILL_EVERY_SECONDS, lambda: collector.running, "the guardian lives")
            within(5, lambda n=n: collector.stderr.count("listening on") == n + 2)  # type: ignore[misc]
    assert collector.stop() == 0
    missing, doubled, torn = account(clients, collector.files())
    lost = len(missing) / STOCK_CLIENTS / KILLS
    most_torn = max((len(lines) for lines in torn.values()), default=0)
    report(
        record_property,
        lost_per_connection_and_kill=f"{lost:.3f}",
        records=sum(len(client.sent) for client in clients),
        torn_lines=sum(map(len, torn.values())),
        connections_tried=len(attempts),
        slowest_connect_ms=max(took for _, took in attempts) * 1000,
        machine_stood_still_percent=machine.standstill * 100,
        workers_waited_percent=waited / KILLS / KILL_EVERY_SECONDS * 100,
    )
    assert [] == [error for error, _ in attempts if error]
    assert [] == doubled
    assert most_torn <= KILLS
    figure = f"{lost:.3f} records lost per connection and kill"
    not_judged(lost > 2.1, machine.standstill, figure, waited=waited / KILLS / KILL_EVERY_SECONDS)
    assert lost <= 2.1


@contextlib.contextmanager
def connecting_all_the_time(collector: Collector) -> Iterator[list[tuple[str, float]]]:
    """Connect again and again; give for each attempt the error, if any, and the seconds it took."""
    attempts: list[tuple[str, float]] = []
    stop = threading.Event()

    def connect() -> None:
        while not stop.wait(0.005):
            begun = time.monotonic()
            error = ""
            try:
                collector.connect().close()
            except OSError as fault:
                error = str(fault)
            attempts.append((error, time.monotonic() - begun))

    thread = threading.Thread(target=connect)
    thread.start()
    try:
        yield attempts
    finally:
        stop.set()
        thread.join()


# --- sync_seconds -------------------------------------------------------------------------------------------


def test_with_sync_seconds_1_a_busy_file_is_synced_once_a_second_and_at_the_end(
    make_collector: MakeCollector, tmp_path: Path, record_property: Property
) -> None:
    collector = make_collector("[files]\nsync_seconds = 1\n").start()
    trace = tmp_path / "trace"
    strace = trace_syncs(collector, trace)
    client = SocketHandler("127.0.0.1", collector.port)
    begun = time.time()
    n = 0
    while time.time() < begun + FAULT_SECONDS:
        client.emit(logging.LogRecord("app", logging.INFO, "app.py", 7, str(n), None, None))
        n += 1
        within(5, lambda n=n: len(messages(collector)) == n)  # type: ignore[misc]
    client.close()
    stopped = time.time()
    assert collector.stop() == 0
    wait_for(strace)
    synced = [
        float(match[1])
        for match in re.finditer(r"^\d+ +([\d.]+) fsync\(\d+<\S*/app.log>", whole_lines(trace), re.MULTILINE)
    ]
    under_load = [moment for moment in synced if moment < stopped]
    gaps = [later - earlier for earlier, later in itertools.pairwise(under_load)]
    report(record_property, records=n, fsyncs_in_5_s=len(under_load), longest_gap_ms=max(gaps) * 1000)
    assert 3 <= len(under_load) <= FAULT_SECONDS + 1
    assert max(gaps) < 2
    assert synced[-1] > stopped, "at the end too"
