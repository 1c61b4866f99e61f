from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from collector.forward import lock, status
from collector.forward.progress import Progress
from collector.signals import HANDLED
from collector.spool.checkpoint import Checkpoint, read_state
from collector.spool.reading import OLDEST, Position
from tests.support.line_destination import HangUp, Sink
from tests.support.spool_files import RECEIVED, SpoolFiles
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow


class ForwarderProcess:
    """A forwarder of "elk" that runs, with all that it says."""

    def __init__(self, directory: Path, port: int, said: Path, settings: dict[str, Any]) -> None:
        command = [sys.executable, "-m", "tests.support.forwarder", str(directory), str(port)]
        self.said = said
        with said.open("ab") as file:
            # As the guardian starts it: a signal that comes early waits until it can be taken.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
            try:
                self.process = subprocess.Popen(
                    [*command, json.dumps(settings)], stdout=file, stderr=subprocess.STDOUT
                )
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(10)

    def says(self, text: str) -> None:
        within(15, lambda: text in self.said.read_text(), f"says {text!r}")


@pytest.fixture
def start(spool: SpoolFiles, sink: Sink, tmp_path: Path) -> Iterator[Callable[..., ForwarderProcess]]:
    started: list[ForwarderProcess] = []

    def begin(**settings: Any) -> ForwarderProcess:
        started.append(ForwarderProcess(spool.directory, sink.port, tmp_path / "said", settings))
        return started[-1]

    yield begin
    for one in started:
        one.kill()


def make_checkpoint(spool: SpoolFiles, position: Position = OLDEST) -> None:
    path = status.checkpoint_path(str(spool.directory), "elk")
    Checkpoint.create(path, Progress.at(position).state()).close()


def saved(spool: SpoolFiles) -> Progress:
    """Return the progress that was saved; the equation holds in each."""
    state = read_state(status.checkpoint_path(str(spool.directory), "elk"))
    assert state
    progress = Progress.of(state)
    assert progress.balance() == 0
    return progress


def numbered(count: int, first: int = 1) -> list[str]:
    return [f"record {number}" for number in range(first, first + count)]


def test_what_is_spooled_is_handed_over_and_counted_in_the_checkpoint(
    spool: SpoolFiles, sink: Sink, start: Callable[..., ForwarderProcess]
) -> None:
    make_checkpoint(spool)
    spool.write(numbered(10))
    forwarder = start()
    within(10, lambda: len(sink.stored) == 10)
    spool.write(numbered(5, 11))
    within(10, lambda: len(sink.stored) == 15)
    assert forwarder.stop() == 0
    progress = saved(spool)
    assert (15, 15, 0) == (progress.numbered, progress.shipped, progress.waiting)
    assert numbered(15) == sink.texts


def test_one_without_a_checkpoint_waits_and_says_so_after_ten_seconds(
    spool: SpoolFiles, sink: Sink, start: Callable[..., ForwarderProcess]
) -> None:
    spool.write(["a"])
    forwarder = start()
    forwarder.says("elk: has waited 10 seconds for its checkpoint, which a running collector makes")
    assert {} == sink.stored
    make_checkpoint(spool)
    within(10, lambda: sink.texts == ["a"])


def test_one_without_a_spool_waits_for_it(
    spool: SpoolFiles, sink: Sink, start: Callable[..., ForwarderProcess], tmp_path: Path
) -> None:
    aside = spool.directory.rename(tmp_path / "aside")
    forwarder = start()
    forwarder.says("elk: waits for the spool in ")
    aside.rename(spool.directory)
    make_checkpoint(spool)
    spool.write(["a"])
    within(10, lambda: sink.texts == ["a"])


def test_a_second_one_ends_and_names_the_first(
    spool: SpoolFiles, sink: Sink, start: Callable[..., ForwarderProcess]
) -> None:
    make_checkpoint(spool)
    spool.write(["a"])
    first = start()
    within(10, lambda: sink.stored)
    second = start()
    assert second.process.wait(10) == 2
    second.says(f"is held by process {first.process.pid}")


def test_it_holds_its_lock_again_once_the_spool_was_emptied(
    spool: SpoolFiles, sink: Sink, start: Callable[..., ForwarderProcess]
) -> None:
    make_checkpoint(spool)
    spool.write(["a"])
    first = start()
    within(10, lambda: sink.stored)
    for path in spool.directory.iterdir():
        path.unlink()
    within(10, lambda: lock.holder(str(spool.directory / "elk.lock")) == first.process.pid)
    second = start()
    assert second.process.wait(10) == 2
    assert first.stop() == 0


def test_where_another_one_has_taken_its_lock_meanwhile_it_ends(
    spool: SpoolFiles, sink: Sink, start: Callable[..., ForwarderProcess]
) -> None:
    make_checkpoint(spool)
    spool.write(["a"])
    first = start()
    within(10, lambda: sink.stored)
    spool.directory.rename(spool.directory.with_name("away"))
    beside = spool.directory.with_name("beside")
    beside.mkdir()
    held = lock.take(str(beside / "elk.lock"))
    beside.rename(spool.directory)
    assert first.process.wait(10) == 2
    first.says(f"is held by process {os.getpid()}")
    os.close(held)


def test_both_slots_bad_means_all_once_more_in_doubt_and_counted_from_zero(
    spool: SpoolFiles, sink: Sink, start: Callable[..., ForwarderProcess]
) -> None:
    make_checkpoint(spool)
    spool.write(numbered(10))
    forwarder = start()
    within(10, lambda: len(sink.stored) == 10)
    assert forwarder.stop() == 0
    path = spool.directory / "elk.checkpoint"
    path.write_bytes(b"\xff" * path.stat().st_size)
    sink.requests.clear()
    forwarder = start()
    within(10, lambda: sink.duplicates == 10)
    assert forwarder.stop() == 0
    forwarder.says("no slot of its checkpoint is sound")
    assert (True, numbered(10)) == sink.requests[0]
    progress = saved(spool)
    assert (10, 0, 10) == (progress.numbered, progress.shipped, progress.duplicate)


def test_killed_again_and_again_nothing_is_missing_and_the_equation_holds(
    spool: SpoolFiles, sink: Sink, start: Callable[..., ForwarderProcess]
) -> None:
    """Each kill leaves at most what was in flight, which is stored once by its id."""
    make_checkpoint(spool)
    dice = random.Random(15)  # noqa: S311 - the same ones each time
    total = 0
    for _ in range(8):
        forwarder = start(batch_records=50)
        for _ in range(4):
            spool.write(numbered(200, total + 1), skipped=dice.randrange(2))
            total += 200
        sink.requests.clear()
        requests = dice.randrange(1, 12)
        within(20, partial(lambda least: len(sink.requests) >= least, requests))
        forwarder.kill()
        saved(spool)
    forwarder = start(batch_records=2000)
    within(60, lambda: saved(spool).waiting == 0 and saved(spool).passed == spool.number - 1)
    assert forwarder.stop() == 0
    progress = saved(spool)
    assert numbered(total) == [text for text in sink.texts if text.startswith("record")]
    assert progress.dropped == spool.number - 1 - total
    assert progress.shipped + progress.duplicate == total


def test_told_to_stop_it_ends_with_the_request_in_flight_and_starts_no_other(
    spool: SpoolFiles, sink: Sink, start: Callable[..., ForwarderProcess]
) -> None:
    make_checkpoint(spool)
    spool.write(numbered(4))
    forwarder = start(batch_records=2)

    def stop_meanwhile(_: list[str]) -> None:
        forwarder.process.terminate()
        # The order to stop is taken by a thread of the forwarder: answered at once, it could come too late.
        within(5, lambda: "SIGTERM" not in pending(forwarder.process.pid))

    sink.order = stop_meanwhile
    assert forwarder.process.wait(10) == 0
    assert numbered(2) == sink.texts
    assert saved(spool).shipped == 2


def pending(pid: int) -> str:
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        fields = dict(line.split(":\t", 1) for line in file)
    waiting = int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)
    return "SIGTERM" if waiting >> (signal.SIGTERM - 1) & 1 else ""


def test_a_request_that_does_not_end_is_left_at_the_deadline(
    spool: SpoolFiles, sink: Sink, start: Callable[..., ForwarderProcess]
) -> None:
    make_checkpoint(spool)
    spool.write(numbered(2))
    forwarder = start()

    def stay(_: list[str]) -> None:
        within(20, lambda: forwarder.process.poll() is not None)
        raise HangUp

    sink.order = stay
    within(10, lambda: sink.requests)
    assert forwarder.stop() == 1
    assert saved(spool).passed == 0


def test_sighup_has_the_settings_read_again(
    spool: SpoolFiles, sink: Sink, start: Callable[..., ForwarderProcess]
) -> None:
    make_checkpoint(spool)
    spool.write(["a"])
    forwarder = start()
    within(10, lambda: sink.stored)
    forwarder.process.send_signal(signal.SIGHUP)
    forwarder.says("reloaded")
    spool.write(["b"])
    within(10, lambda: sink.texts == ["a", "b"])


def test_settings_on_a_disk_that_hangs_keep_nothing_from_being_handed_over(
    spool: SpoolFiles, sink: Sink, start: Callable[..., ForwarderProcess]
) -> None:
    make_checkpoint(spool)
    spool.write(["a"])
    forwarder = start()
    within(10, lambda: sink.stored)
    hung = spool.directory / "hung"
    os.mkfifo(hung)
    forwarder.process.send_signal(signal.SIGHUP)
    pipes: list[int] = []

    def is_read() -> bool:
        with suppress(OSError):  # nobody reads it yet
            pipes.append(os.open(hung, os.O_WRONLY | os.O_NONBLOCK))
        return bool(pipes)

    within(10, is_read)
    spool.write(["b"])
    within(10, lambda: sink.texts == ["a", "b"])
    os.close(pipes[0])
    forwarder.says("reloaded")
    assert forwarder.stop() == 0


def test_the_status_says_what_waits_what_holds_and_who_runs(
    spool: SpoolFiles, sink: Sink, start: Callable[..., ForwarderProcess]
) -> None:
    directory = str(spool.directory)
    assert {"running": False, "holder": 0} == status.read(directory, "elk")
    make_checkpoint(spool, Position(0, 0, 0, 1))
    assert (0, False) == (status.read(directory, "elk")["shipped"], status.read(directory, "elk")["running"])
    spool.write(numbered(3))
    sink.order = lambda _: {"error": "hold"}
    forwarder = start()
    within(10, lambda: status.read(directory, "elk").get("held"))
    told = status.read(directory, "elk")
    assert {"reason": "closed", "text": "the index is closed", "remedy": "open it"}.items() <= told[
        "held"
    ].items()
    assert (3, 3, 0, True) == (told["numbered"], told["waiting"], told["shipped"], told["running"])
    assert forwarder.process.pid == told["process"]
    assert told["lag_seconds"] > 0
    forwarder.kill()
    assert status.read(directory, "elk")["running"] is False


def test_the_status_says_what_is_tried_again_until_it_succeeds(
    spool: SpoolFiles, sink: Sink, start: Callable[..., ForwarderProcess]
) -> None:
    directory = str(spool.directory)
    make_checkpoint(spool)
    spool.write(numbered(3))
    sink.order = lambda _: {"error": "busy"}
    start()
    within(10, lambda: status.read(directory, "elk").get("trouble") == "503")
    sink.order = lambda _: None
    within(10, lambda: status.read(directory, "elk")["trouble"] == "")
    assert status.read(directory, "elk")["shipped"] == 3


def test_the_status_is_told_each_second_of_a_long_pause(
    spool: SpoolFiles, sink: Sink, start: Callable[..., ForwarderProcess]
) -> None:
    directory = str(spool.directory)
    make_checkpoint(spool)
    spool.write(numbered(3))
    sink.order = lambda _: {"error": "hold"}
    start()
    within(20, lambda: len(sink.requests) == 7, "a pause of 3.2 seconds at least")
    spool.write(numbered(4, 4))
    within(2, lambda: status.read(directory, "elk")["waiting"] == 7)


def test_while_a_request_hangs_and_while_none_runs_the_status_tells_what_waits(
    spool: SpoolFiles, sink: Sink, start: Callable[..., ForwarderProcess]
) -> None:
    directory = str(spool.directory)
    make_checkpoint(spool)
    spool.write(numbered(3))
    hung = threading.Event()

    def hang(_: object) -> dict[str, Any]:
        hung.wait(60)
        return {}

    forwarder = start()
    within(10, lambda: len(sink.stored) == 3)
    within(10, lambda: status.read(directory, "elk").get("shipped") == 3)
    sink.order = hang
    spool.write(numbered(4, 4))

    def waits(count: int) -> bool:
        told = status.read(directory, "elk")
        assert told["numbered"] == told["shipped"] + told["waiting"]
        return bool(told["waiting"] == count)

    within(10, lambda: waits(4))
    forwarder.kill()
    hung.set()
    spool.write(numbered(2, 8))
    within(10, lambda: waits(6))
    told = status.read(directory, "elk")
    assert (9, 3, False) == (told["numbered"], told["shipped"], told["running"])
    assert told["lag_seconds"] == pytest.approx(told["time"] - RECEIVED / 1e9 - 4, abs=0.1)


def test_the_lag_of_a_backlog_is_told_between_two_requests_too(
    spool: SpoolFiles, sink: Sink, start: Callable[..., ForwarderProcess]
) -> None:
    directory = str(spool.directory)
    make_checkpoint(spool, Position(0, 0, 0, 1))
    for text in numbered(1000):
        spool.write([text])
    never = threading.Event()

    def slowly(_: list[str]) -> None:
        never.wait(0.2)

    sink.order = slowly
    start(batch_records=1)
    within(10, lambda: status.read(directory, "elk").get("shipped"))
    told = status.read(directory, "elk")
    assert told["waiting"] > 900
    # They were received a second after each other.
    assert told["lag_seconds"] == pytest.approx(told["time"] - RECEIVED / 1e9 - told["next"], abs=1.1)


def test_a_new_spool_in_its_place_is_handed_over_from_its_beginning(
    spool: SpoolFiles, sink: Sink, start: Callable[..., ForwarderProcess], tmp_path: Path
) -> None:
    make_checkpoint(spool)
    spool.write(numbered(3))
    forwarder = start()
    within(10, lambda: len(sink.stored) == 3)
    for path in spool.directory.glob("*.seg"):
        path.unlink()
    (spool.directory / "id").write_text("1" * 16)
    other = SpoolFiles(tmp_path / "other", collector="1" * 16, epoch=1)
    other.write(["anew"])
    for path in other.directory.glob("*.seg"):
        path.rename(spool.directory / path.name)
    within(10, lambda: "anew" in sink.texts)
    assert forwarder.stop() == 0
    progress = saved(spool)
    assert (4, 4) == (progress.numbered, progress.shipped)


def test_to_ask_for_the_lock_does_not_take_it(tmp_path: Path) -> None:
    path = str(tmp_path / "elk.lock")
    assert lock.holder(path) is None
    held = lock.take(path)
    assert os.getpid() == lock.holder(path)
    with pytest.raises(lock.HeldError, match=f"held by process {os.getpid()}"):
        lock.take(path)
    os.close(held)
    assert lock.holder(path) is None
    os.close(lock.take(path))
