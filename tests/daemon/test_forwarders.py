"""What the worker sees of forwarders, by their locks and the files in which they tell their status."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from collector.daemon.forwarders import FREE_SECONDS, Seen
from collector.forward import lock, status
from collector.forward.holding import Hold
from collector.forward.progress import Progress
from collector.spool.checkpoint import Checkpoint
from collector.spool.reading import Position

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1000.0
"""By the monotonic clock."""


def progress(number: int = 101) -> Progress:
    return Progress(Position(7, 0, 0, number), first=1, numbered=110, shipped=number - 1)


class Files:
    """A destination's files in a spool."""

    def __init__(self, directory: Path) -> None:
        self.directory = str(directory)

    def tell(self, process: int, **changes: Any) -> None:
        """Put a status there, as a forwarder tells it."""
        said = status.status_of(progress(), hold=None, oldest=None, last_success=0, certificate_days=None)
        status.write(self.directory, "elk", said | {"process": process} | changes)

    def take(self) -> int:
        return lock.take(status.lock_path(self.directory, "elk"))

    def read(self) -> dict[str, Any]:
        return status.read(self.directory, "elk")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_it_is_up_while_its_lock_is_held_whatever_its_status_says(files: Files) -> None:
    seen = Seen("elk")
    seen.learn(files.read(), NOW)
    assert {"name": "elk", "up": False, "restarts": 0} == seen.state()

    files.tell(7)
    held = files.take()
    seen.learn(files.read(), NOW)
    assert seen.state()["up"]

    os.close(held)
    seen.learn(files.read(), NOW)
    assert (False, 100) == (seen.state()["up"], seen.state()["shipped"])


def test_that_none_has_run_for_a_minute_is_an_error_once_until_one_has(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "collector")
    seen = Seen("elk")
    for second in range(int(FREE_SECONDS)):
        seen.learn(files.read(), NOW + second)
    assert [] == caplog.messages

    for second in range(10):
        seen.learn(files.read(), NOW + FREE_SECONDS + second)
    assert ["ERROR"] == [record.levelname for record in caplog.records]
    assert caplog.messages[0].startswith("forward elk: no forwarder has run for 60 s, ")

    held = files.take()
    seen.learn(files.read(), NOW + 80)
    assert ["forward elk: there is a forwarder again"] == caplog.messages[1:]

    os.close(held)
    for later in (0, FREE_SECONDS - 1):
        seen.learn(files.read(), NOW + 81 + later)
    assert 2 == len(caplog.messages), "a minute from when it ended"
    seen.learn(files.read(), NOW + 81 + FREE_SECONDS)
    assert 3 == len(caplog.messages)


def test_another_process_is_a_restart(files: Files) -> None:
    files.tell(6)  # of an earlier start
    seen = Seen("elk")
    for process, restarts in [(7, 0), (7, 0), (8, 1), (8, 1), (9, 2)]:
        held = files.take()
        os.pwrite(held, b"%d\n      " % process, 0)
        seen.learn(files.read(), NOW)
        os.close(held)
        seen.learn(files.read(), NOW)
        assert restarts == seen.state()["restarts"]


def test_before_the_first_status_the_checkpoint_tells_the_counters(files: Files) -> None:
    Checkpoint.create(status.checkpoint_path(files.directory, "elk"), progress().state()).close()
    seen = Seen("elk")
    seen.learn(files.read(), NOW)
    assert (110, 100, 10) == tuple(seen.state()[key] for key in ("numbered", "shipped", "waiting"))


def test_what_is_said_has_its_age_and_what_waits_waits_on(files: Files) -> None:
    now = time.time()
    hold = Hold("credentials", "401 Unauthorized", now - 300)
    files.tell(
        7, time=now - 100, lag_seconds=5.0, last_success=now - 200, held=hold._asdict(), certificate_days=12.5
    )
    seen = Seen("elk")
    seen.learn(files.read(), NOW)
    state = seen.state()
    assert (100, 105, 200) == pytest.approx(
        (state["age_seconds"], state["lag_seconds"], state["last_success_seconds"]), abs=5
    )
    assert "credentials" == state["held"]["reason"]
    assert state["held"]["seconds"] == pytest.approx(300, abs=5)
    assert 12.5 == state["certificate_days"]

    files.tell(7, time=now - 100, waiting=0)
    seen.learn(files.read(), NOW)
    assert (0, None, None) == tuple(
        seen.state()[key] for key in ("lag_seconds", "held", "last_success_seconds")
    )


def test_a_clock_that_was_set_back_makes_no_age_below_0(files: Files) -> None:
    files.tell(7, time=time.time() + 3600, last_success=time.time() + 3600)
    seen = Seen("elk")
    seen.learn(files.read(), NOW)
    assert (0, 0) == (seen.state()["age_seconds"], seen.state()["last_success_seconds"])


def test_a_status_of_another_version_is_none(files: Files) -> None:
    files.tell(7)
    said = files.read()
    del said["retried"]
    seen = Seen("elk")
    seen.learn(said, NOW)
    assert "shipped" not in seen.state()


def test_what_cannot_be_read_is_told_once_and_what_was_seen_last_stays(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    files.tell(7)
    seen = Seen("elk")
    seen.learn(files.read(), NOW)
    for _ in range(3):
        seen.learn("Input/output error", NOW)
    assert ["forward elk: its status cannot be read: Input/output error"] == caplog.messages
    assert 100 == seen.state()["shipped"]
    seen.learn(files.read(), NOW)
    seen.learn("Input/output error", NOW)
    assert 2 == len(caplog.messages)
