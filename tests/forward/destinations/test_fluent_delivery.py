"""The forward protocol under delivery: none is missing, and what breaks doubles a batch at most."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import msgpack
import pytest

from collector.config import forwards
from collector.forward import status
from collector.forward.delivery import Delivery
from collector.forward.destinations.fluent import Fluent
from collector.forward.progress import Progress
from collector.forward.window import Window
from collector.spool.checkpoint import Checkpoint
from collector.spool.reading import OLDEST, SpoolReader
from tests.support.collectors import Collector, messages
from tests.support.forward_server import ForwardServer, answer, hang_up
from tests.support.frames import make_frame, make_payload
from tests.support.spool_files import SpoolFiles
from tests.support.waiting import within

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from collector.forward.window import Waiting
    from tests.support.forward_server import Talk

BATCH = 50


class Letters:
    """Dead letters, in memory."""

    def __init__(self) -> None:
        self.kept: list[tuple[int, str]] = []
        """Numbers, and why."""

    def add(self, letters: Sequence[Waiting]) -> int:
        self.kept += [(one.outgoing.number, one.dead) for one in letters]
        return 0


class Running:
    """A delivery to a server, by a clock that goes on as soon as there is nothing to do."""

    def __init__(self, spool: SpoolFiles, server: ForwardServer, **keys: Any) -> None:
        self.now = 1000.0
        self.letters, self.progress = Letters(), Progress.at(OLDEST)
        self._reader = SpoolReader(str(spool.directory), OLDEST)
        settings = forwards.forward(
            {"batch_records": BATCH, **keys, "name": "fluentd", "type": "fluent", "address": server.address}
        )
        window = Window(self._reader, self.progress)
        self.delivery = Delivery(settings, Fluent(settings), window, self.letters, lambda: self.now)

    def run(self, until: Callable[[], object] = lambda: False) -> None:
        """Go on until all is settled, or *until* is true."""
        while not self.delivery.is_idle and not until():
            self.now += self.delivery.step()

    def close(self) -> None:
        self.delivery.close()
        self._reader.close()


@pytest.fixture
def server() -> Iterator[ForwardServer]:
    with ForwardServer() as one:
        yield one


@pytest.fixture
def start(spool: SpoolFiles) -> Iterator[Callable[..., Running]]:
    made: list[Running] = []

    def begin(server: ForwardServer, **keys: Any) -> Running:
        made.append(Running(spool, server, **keys))
        return made[-1]

    yield begin
    for one in made:
        one.close()


def has_texts(server: ForwardServer, count: int) -> bool:
    return len(set(server.texts)) >= count


def acknowledge(connection: socket.socket, chunk: str) -> None:
    connection.sendall(msgpack.packb({"ack": chunk}))


def acknowledge_and_hang_up(connection: socket.socket, chunk: str) -> None:
    acknowledge(connection, chunk)
    hang_up(connection, chunk)


def test_whatever_breaks_none_is_missing_and_few_are_doubled(
    spool: SpoolFiles, server: ForwardServer, start: Callable[..., Running]
) -> None:
    count = 2000
    spool.write_payloads([make_payload(f"{n}", name=f"app{n % 3}") for n in range(count)])
    faults: list[Talk] = [hang_up, answer({"ack": "of another"}), answer(b"\xc1"), acknowledge_and_hang_up]
    dice = random.Random(15)  # noqa: S311 - the same faults each time
    # More of them in a row would look as if a record were the reason.
    for _ in range(100):
        server.instead += [dice.choice(faults), *[acknowledge] * dice.randint(1, 4)]
    planned = list(server.instead)
    running = start(server)
    running.run()
    done = planned[: len(planned) - len(server.instead)]
    breaks = sum(talk is not acknowledge for talk in done)
    assert breaks > 20
    times = Counter(server.texts)
    assert times.keys() == {f"{n}" for n in range(count)}
    assert sum(times.values()) - count <= breaks * BATCH
    assert [running.progress.shipped, running.letters.kept] == [count, []]


def test_a_record_that_closes_the_connection_is_found_and_all_others_are_stored_once(
    spool: SpoolFiles, server: ForwardServer, start: Callable[..., Running]
) -> None:
    server.poison = "poison"
    texts = [f"{n}" for n in range(200)]
    spool.write([*texts[:77], "poison", *texts[77:]])
    running = start(server)
    running.run()
    assert [(78, "closes the connection")] == running.letters.kept
    assert Counter(server.texts) == Counter(texts)


def test_a_wrong_key_holds_without_dead_letters_until_it_is_right(
    spool: SpoolFiles, start: Callable[..., Running], tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text("wrong")
    spool.write(["a", "b"])
    with ForwardServer(key="right") as server:
        running = start(server, shared_key_file=str(key))
        running.run(until=lambda: server.connections >= 5)
        assert running.delivery.hold
        assert running.delivery.hold.reason == "handshake"
        key.write_text("right")
        running.run()
        assert [None, ["a", "b"], []] == [running.delivery.hold, server.texts, running.letters.kept]
        running.close()


@pytest.mark.slow
def test_a_forwarder_that_is_killed_again_and_again_leaves_none_out(
    tmp_path: Path, server: ForwardServer
) -> None:
    count, kills = 20_000, 3
    (tmp_path / "logs").mkdir()
    spool = SpoolFiles(tmp_path / "logs/.spool")
    for start in range(0, count, 1000):
        spool.write([f"{n}" for n in range(start, start + 1000)])
    config = tmp_path / "collector.toml"
    config.write_text(
        f'[files]\ndirectory = "{tmp_path}/logs"\n[spool]\n[[forward]]\nname = "fluentd"\ntype = "fluent"\n'
        f'address = "{server.address}"\nstart = "oldest"\nbatch_records = {BATCH}\nmax_pause_seconds = 1\n'
    )
    command = [sys.executable, "-m", "collector", "forward", "-c", str(config), "fluentd"]
    said = tmp_path / "said"
    path = status.checkpoint_path(str(spool.directory), "fluentd")
    Checkpoint.create(path, Progress.at(OLDEST).state()).close()
    for run in range(kills + 1):
        with said.open("ab") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file)
        try:
            wanted = count if run == kills else (run + 1) * count // (kills + 2)
            within(60, partial(has_texts, server, wanted), f"{wanted} records are there")
        finally:
            process.kill()
            process.wait()
    times = Counter(server.texts)
    assert times.keys() == {f"{n}" for n in range(count)}
    assert sum(times.values()) - count <= kills * BATCH


@pytest.mark.slow
def test_a_collector_without_the_package_starts_and_takes_records(
    tmp_path: Path, server: ForwardServer
) -> None:
    without = tmp_path / "without"
    without.mkdir()
    (without / "msgpack.py").write_text("raise ImportError('No module named msgpack')")
    path = os.pathsep.join([str(without), os.environ.get("PYTHONPATH", "")])
    tables = f'[spool]\n[[forward]]\nname = "fluentd"\ntype = "fluent"\naddress = "{server.address}"\n'
    collector = Collector(tmp_path, tables).start(env=os.environ | {"PYTHONPATH": path})
    collector.send(make_frame("hello"))
    assert [0, ["hello"]] == [collector.stop(), messages(collector)]
