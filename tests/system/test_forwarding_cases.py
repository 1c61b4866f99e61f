"""What broke earlier designs of handing over: each case against the whole collector."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from collector.spool.reading import OLDEST
from tests.support.bulk_server import Asked, BulkServer
from tests.support.fleet import hold, report
from tests.support.frames import make_frame
from tests.support.handing_over import (
    NAME,
    SPOOL,
    doubled,
    forward_table,
    has_ended,
    kill,
    numbers_in,
    numbers_in_files,
    progress,
    settled,
    spool_of,
)
from tests.support.spools import read_all
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.collectors import Collector

    MakeCollector = Callable[..., Collector]
    Property = Callable[[str, object], None]

pytestmark = pytest.mark.slow

MiB = 1024 * 1024
SECONDS = 20
PIPELINE = {"type": "illegal_argument_exception", "reason": "pipeline with id [p] does not exist"}


class MoodyServer(BulkServer):
    """One that hangs up, or finds requests too large, as it is told."""

    def __init__(self, **how: Any) -> None:
        super().__init__(**how)
        self.hangs_up = False
        """Whether it does so in place of each answer, without storing anything."""
        self.poison = b""
        """What it hangs up on."""
        self.max_bytes = 100 * MiB

    def answer(self, asked: Asked) -> tuple[int, object]:
        if self.hangs_up or (self.poison and self.poison in asked.body):
            raise ConnectionResetError
        if len(asked.body) > self.max_bytes:
            return 413, {}
        return super().answer(asked)

    def messages(self) -> list[str]:
        """Return the message of each document."""
        return [one["message"] for index in list(self.documents.values()) for one in list(index.values())]

    def count(self) -> int:
        return sum(map(len, list(self.documents.values())))


@pytest.fixture
def server() -> Iterator[MoodyServer]:
    with MoodyServer() as made:
        yield made


def configuration(server: MoodyServer, spool: str = "", **keys: Any) -> str:
    return SPOOL + spool + forward_table(server.url, **keys)


def send(collector: Collector, first: int, behind: int, padding: int = 0, logger: str = "app") -> None:
    """Send numbered records over a connection of its own; return when they are in the file."""
    collector.send(b"".join(record(number, padding, logger) for number in range(first, behind)))
    wanted = f"record {behind - 1:07}"
    within(SECONDS, lambda: any(wanted in line for line in collector.lines(f"{logger}.log")[-1:]), wanted)


def record(number: int, padding: int = 0, logger: str = "app") -> bytes:
    return make_frame(f"record {number:07} {'x' * padding}", logger)


def assert_all_arrived_once(server: MoodyServer, behind: int) -> None:
    assert sorted(numbers_in(server.messages())) == list(range(behind))


def stop(collector: Collector) -> None:
    assert collector.stop() == 0, collector.stderr


# --- beginning ----------------------------------------------------------------------------------------------


def test_all_from_the_first_record_on_arrives_although_the_forwarder_comes_up_later(
    server: MoodyServer, make_collector: MakeCollector
) -> None:
    """The destination begins at the "end" that there was when the worker began, not the forwarder."""
    collector = make_collector(configuration(server)).start()
    send(collector, 0, 100)
    settled(collector, 100)
    stop(collector)
    assert_all_arrived_once(server, 100)


def test_under_socket_activation_a_forwarder_is_a_process_by_itself(
    server: MoodyServer, make_collector: MakeCollector
) -> None:
    collector = make_collector(configuration(server))
    with activated(collector):
        send(collector, 0, 100)
        assert server.count() == 0
        with forwarder(collector):
            settled(collector, 100)
            send(collector, 100, 200)
            settled(collector, 200)
            second = subprocess.run(forward(collector), capture_output=True, text=True, check=False)
            assert (second.returncode, "another forwarder hands over to it" in second.stderr) == (2, True)
        send(collector, 200, 300)
        with forwarder(collector):
            settled(collector, 300)
    assert_all_arrived_once(server, 300)


def forward(collector: Collector) -> list[str]:
    return [*collector.command, "forward", "-c", str(collector.config), "elk"]


@contextmanager
def forwarder(collector: Collector) -> Iterator[None]:
    """Run a forwarder as systemd does; it ends well with SIGTERM."""
    with collector.log.open("ab") as log:
        process = subprocess.Popen(forward(collector), stderr=log)
    try:
        yield
        process.terminate()
        assert process.wait(SECONDS) == 0
    finally:
        process.kill()
        process.wait()


@contextmanager
def activated(collector: Collector) -> Iterator[None]:
    """Run the worker without a guardian, with a socket as systemd passes it; it ends well with SIGTERM."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        collector.port = listener.getsockname()[1]
        command = f'LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" -m collector run -c "$1" 3<&{listener.fileno()}'
        with collector.log.open("ab") as log:
            collector.process = subprocess.Popen(
                ["bash", "-c", command, sys.executable, str(collector.config)],
                pass_fds=[listener.fileno()],
                stderr=log,
            )
        within(SECONDS, lambda: "listening on" in collector.stderr, "it listens")
    yield
    stop(collector)


# --- ending, and being started again ------------------------------------------------------------------------


def test_a_forwarder_that_is_killed_is_started_again_and_doubles_nothing(
    server: MoodyServer, make_collector: MakeCollector
) -> None:
    collector = make_collector(configuration(server)).start()
    send(collector, 0, 100)
    settled(collector, 100)
    first = collector.forwarders["elk"]
    kill(first)
    within(SECONDS, lambda: collector.forwarders.get("elk", first) != first, "another one")
    send(collector, 100, 200)
    settled(collector, 200)
    stop(collector)
    assert_all_arrived_once(server, 200)
    assert f"the forwarder elk, process {first}, was killed by signal 9; another starts" in collector.stderr


def test_a_forwarder_steps_behind_the_worker(make_collector: Callable[..., Collector]) -> None:
    collector = make_collector(SPOOL + forward_table("http://127.0.0.1:1")).start()
    niceness = os.getpriority(os.PRIO_PROCESS, collector.worker)
    within(SECONDS, lambda: NAME in collector.forwarders, "there is a forwarder")
    forwarder = collector.forwarders[NAME]
    within(SECONDS, lambda: os.getpriority(os.PRIO_PROCESS, forwarder) == min(niceness + 10, 19))


def test_without_its_guardian_the_worker_drains_and_the_forwarder_ends(
    server: MoodyServer, make_collector: MakeCollector
) -> None:
    collector = make_collector(configuration(server)).start()
    send(collector, 0, 100)
    assert collector.process
    children = collector.children
    kill(collector.process.pid)
    collector.process.wait()
    within(SECONDS, lambda: all(map(has_ended, children)), "they end")
    assert "stopped: 100 records received" in collector.stderr
    assert "elk: stopped" in collector.stderr
    collector.start()
    settled(collector, 100)
    stop(collector)
    assert_all_arrived_once(server, 100)


def no_answer(sock: socket.socket) -> None:
    """Wait until the other end hangs up."""
    sock.recv(1)


@pytest.mark.parametrize("victim", ["worker", "guardian"])
def test_what_ends_takes_no_longer_than_drain_seconds_although_a_request_hangs(
    server: MoodyServer, make_collector: MakeCollector, victim: str
) -> None:
    """The destination never answers; it has what it was sent all the same, and after a start once."""
    server.store_all_the_same = True
    server.instead["_bulk"].append(no_answer)
    collector = make_collector("[listen]\ndrain_seconds = 4\n" + configuration(server)).start()
    send(collector, 0, 100)
    within(SECONDS, server.count, "the request is there")
    assert collector.process
    children = collector.children
    if victim == "guardian":
        kill(collector.process.pid)
        collector.process.wait()
    else:
        collector.process.send_signal(signal.SIGTERM)
    within(8, lambda: all(map(has_ended, children)) and not collector.running, "the end")
    if victim == "worker":
        assert collector.process.returncode == 0
    server.store_all_the_same = False
    collector.start()
    now = settled(collector, 100)
    stop(collector)
    assert now.duplicate == server.count()
    assert_all_arrived_once(server, 100)


# --- the checkpoint, and the spool --------------------------------------------------------------------------


def test_with_both_slots_of_a_checkpoint_bad_nothing_is_missing_or_doubled(
    server: MoodyServer, make_collector: MakeCollector
) -> None:
    collector = make_collector(configuration(server)).start()
    send(collector, 0, 300)
    settled(collector, 300)
    server.hangs_up = True
    send(collector, 300, 400)
    stop(collector)
    path = spool_of(collector) / "elk.checkpoint"
    path.write_bytes(b"\xff" * path.stat().st_size)
    server.hangs_up = False
    collector.start()
    send(collector, 400, 500)
    now = settled(collector, 500)
    stop(collector)
    assert_all_arrived_once(server, 500)
    assert (now.first, now.duplicate, now.shipped) == (1, 300, 200)
    assert "elk: no slot of its checkpoint is sound" in collector.stderr


def test_what_three_starts_have_left_in_an_outage_and_the_budget_deletes_is_counted_whole(
    server: MoodyServer, make_collector: MakeCollector
) -> None:
    budget = f"max_bytes = {2 * MiB}\nsegment_bytes = {MiB // 2}\n"
    collector = make_collector(configuration(server, budget)).start()
    send(collector, 0, 100)
    settled(collector, 100)
    server.hangs_up = True
    for start in range(1, 4):
        send(collector, start * 2000, start * 2000 + 2000, padding=1000)
        kill(collector.worker) if start == 2 else stop(collector)
        if start != 2:
            collector.start()
        else:
            within(SECONDS, lambda: collector.stderr.count("listening on") == 3, "another worker")
    segments = sum(path.stat().st_size for path in spool_of(collector).glob("*.seg"))
    assert segments < 3 * MiB
    server.hangs_up = False
    send(collector, 8000, 8100)
    now = settled(collector, 6200)
    stop(collector)
    there = numbers_in(server.messages())
    assert doubled(there) == []
    assert set(range(8000, 8100)) <= set(there)
    assert now.numbered == 6200 == len(numbers_in_files(collector))
    assert now.dropped == 6200 - len(there) > 1000
    told = [text for text in server.messages() if "lost before they could be handed over" in text]
    assert sum(int(text.split()[0]) for text in told) == now.dropped


@pytest.mark.parametrize("how", ["emptied", "removed", "moved away"])
def test_when_the_spool_goes_away_while_all_run_what_comes_then_arrives_once(
    server: MoodyServer, make_collector: MakeCollector, how: str
) -> None:
    collector = make_collector(configuration(server)).start()
    send(collector, 0, 200)
    settled(collector, 200)
    spool = spool_of(collector)
    if how == "emptied":
        for path in spool.iterdir():
            path.unlink()
    elif how == "removed":
        shutil.rmtree(spool)
    else:
        spool.rename(spool.with_name(".away"))
    # What was written into a segment that is not there any more is looked for once a second.
    sent = 0

    def is_made_again() -> bool:
        nonlocal sent
        sent += 1
        collector.send(record(200))
        return bool(list(spool.glob("*.seg")))

    within(SECONDS, is_made_again, "a new segment")
    collector.send(b"".join(record(number) for number in range(1000, 1300)))
    within(SECONDS, lambda: {*range(1000, 1300)} <= {*numbers_in(server.messages())}, "they arrive")
    stop(collector)
    assert len(numbers_in_files(collector)) == 200 + sent + 300
    assert doubled([number for number in numbers_in(server.messages()) if number != 200]) == []
    now = progress(collector)
    assert now
    assert (now.balance(), now.waiting) == (0, 0)


def test_a_block_forged_inside_a_message_is_text(server: MoodyServer, make_collector: MakeCollector) -> None:
    """It is one that the same collector has written, of an epoch before."""
    collector = make_collector(configuration(server)).start()
    send(collector, 0, 10)
    stop(collector)
    forged = next(spool_of(collector).glob("*.seg")).read_bytes().decode("latin-1")
    collector.start()
    collector.send(make_frame(forged) + record(10))
    now = settled(collector, 12)
    stop(collector)
    assert now.numbered == 12
    assert_all_arrived_once(server, 11)
    assert len(read_all(spool_of(collector), OLDEST, 1000, MiB)) == 12


# --- destinations -------------------------------------------------------------------------------------------


def test_a_poison_record_that_closes_the_connection_is_the_only_dead_letter(
    server: MoodyServer, make_collector: MakeCollector
) -> None:
    collector = make_collector(configuration(server)).start()
    send(collector, 0, 100)
    settled(collector, 100)
    server.poison = b"record 0000150"
    send(collector, 100, 200)
    now = settled(collector, 200, seconds=120)  # ten times in a row, each with a pause for what is in doubt
    stop(collector)
    assert now.dead == {"closes the connection": 1}
    assert sorted(numbers_in(server.messages())) == [n for n in range(200) if n != 150]


def test_413_at_1_mb_with_records_of_30_kb_loses_none(
    server: MoodyServer, make_collector: MakeCollector, record_property: Property
) -> None:
    server.max_bytes = 1_000_000
    # More than what may wait for the spool comes at once: a sixteenth of this.
    roomy = "[listen]\nmax_buffered_bytes = 1_073_741_824\n"
    collector = make_collector(configuration(server) + roomy).start()
    send(collector, 0, 600, padding=30_000)
    now = settled(collector, 600)
    stop(collector)
    assert (now.shipped, now.dead) == (600, {})
    assert_all_arrived_once(server, 600)
    report(record_property, requests=len(server.asked))


def test_a_deleted_pipeline_at_five_records_a_second_makes_no_dead_letter(
    server: MoodyServer, make_collector: MakeCollector
) -> None:
    collector = make_collector(configuration(server, pipeline="p", reconnect_seconds=1)).start()
    send(collector, 0, 10)
    settled(collector, 10)
    server.errors["record"] = 400, PIPELINE
    sent = 10

    def one_more() -> bool:
        nonlocal sent
        collector.send(record(sent))
        sent += 1
        return server.count() == 10

    for _ in range(4):
        hold(0.2 * 5, one_more, "nothing is stored")
    held = subprocess.run(
        [*collector.command, "forward", "-c", str(collector.config)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "pipeline with id [p] does not exist" in held.stdout
    server.errors.clear()
    now = settled(collector, sent)
    stop(collector)
    assert now.dead == {}
    assert_all_arrived_once(server, sent)


def test_a_balancer_that_shakes_hands_and_hangs_up_makes_no_dead_letter(
    server: MoodyServer, make_collector: MakeCollector
) -> None:
    collector = make_collector(configuration(server)).start()
    send(collector, 0, 100)
    settled(collector, 100)
    server.hangs_up = True
    send(collector, 100, 1100)
    asked = len(server.asked)
    within(60, lambda: len(server.asked) > asked + 12, "it is asked again and again")
    server.hangs_up = False
    now = settled(collector, 1100)
    stop(collector)
    assert now.dead == {}
    # One may be there as short text: it was suspected at the moment when the balancer came back.
    assert sorted(numbers_in(text[text.find("record") :] for text in server.messages())) == list(range(1100))


def test_a_reload_adds_renames_and_takes_out_destinations(
    server: MoodyServer, make_collector: MakeCollector
) -> None:
    with MoodyServer() as other:
        collector = make_collector(configuration(server)).start()
        send(collector, 0, 100)
        settled(collector, 100)
        reload(collector, configuration(server) + forward_table(other.url, "new"))
        send(collector, 100, 200)
        settled(collector, 200)
        settled(collector, 100, "new")
        assert sorted(numbers_in(other.messages())) == list(range(100, 200))
        other.hangs_up = True
        send(collector, 200, 300)
        settled(collector, 300)
        first = collector.forwarders["new"]
        reload(collector, configuration(server) + forward_table(other.url, "renamed"))
        within(SECONDS, lambda: has_ended(first), "that of the former name ends")
        within(SECONDS, lambda: "forward new: taken out of the configuration" in collector.stderr)
        assert "configuration: 100 records were not shipped; its checkpoint stays" in collector.stderr
        other.hangs_up = False
        send(collector, 300, 400)
        settled(collector, 400)
        settled(collector, 100, "renamed")
        assert sorted(numbers_in(other.messages())) == [*range(100, 200), *range(300, 400)]
        assert sorted(collector.forwarders) == ["elk", "renamed"]
        reload(collector, configuration(server) + forward_table(other.url, "new"))
        settled(collector, 300, "new")
        assert sorted(numbers_in(other.messages())) == list(range(100, 400))  # ids are the collector's
        stop(collector)
        assert_all_arrived_once(server, 400)


def reload(collector: Collector, config: str) -> None:
    """Put *config* in force."""
    before = collector.stderr.count("SIGHUP: changed")
    collector.configure(config)
    assert collector.process
    os.kill(collector.process.pid, signal.SIGHUP)
    within(SECONDS, lambda: collector.stderr.count("SIGHUP: changed") > before, "the reload")
