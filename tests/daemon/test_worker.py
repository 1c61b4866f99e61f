"""The end of a worker: what it waits for, and the lock that it keeps until then."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import gevent
import pytest

from collector.daemon.worker import LockFollower
from collector.files.lock import NAME, Lock
from collector.stats import Stats
from tests.support.admin import watching

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.collectors import Collector


class Hanging(Lock):
    """A lock whose directory is on a disk that hangs as long as the test wants."""

    def __init__(self, directory: str, owner: int) -> None:
        super().__init__(directory, owner)
        self.asked = threading.Event()
        self.thawed = threading.Event()
        self.followed = threading.Event()

    def follow(self) -> None:
        self.asked.set()
        self.thawed.wait()
        super().follow()
        self.followed.set()


def seen(event: threading.Event) -> None:
    """Wait for what a thread does; greenlets go on meanwhile."""
    deadline = time.monotonic() + 5
    while not event.is_set():
        assert time.monotonic() < deadline
        gevent.sleep(0.01)


@pytest.mark.slow
def test_at_the_end_it_is_released_after_the_last_look_at_its_directory(tmp_path: Path) -> None:
    lock = Hanging(str(tmp_path), 4711)
    follower = LockFollower(lock, Stats())
    seen(lock.asked)
    (tmp_path / NAME).unlink()
    gevent.spawn_later(0.1, lock.thawed.set)
    follower.end(time.monotonic() + 5)
    assert lock.followed.is_set()
    Lock(str(tmp_path), 1).release()


@pytest.mark.slow
def test_at_the_end_a_disk_that_hangs_is_not_waited_for_and_its_lock_is_left_alone_until_it_comes_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lock = Hanging(str(tmp_path), 4711)
    follower = LockFollower(lock, Stats())
    seen(lock.asked)
    begun = time.monotonic()
    follower.end(begun + 0.1)
    assert time.monotonic() - begun < 3
    assert "the disk of the directory hangs" in caplog.text
    with pytest.raises(OSError, match="process 4711"):
        Lock(str(tmp_path), 1)
    lock.thawed.set()
    seen(lock.followed)


@pytest.mark.slow
def test_a_stop_with_a_page_open_ends_with_the_totals_and_never_without_the_lock(
    make_collector: Callable[..., Collector],
) -> None:
    """Those who watch are given a third of a second in the end, in which the lock is followed no more.

    It was looked at once a second: a dozen stops find that time.
    """
    collectors = [make_collector("[admin]\nport = 0\n").start() for _ in range(12)]
    with ExitStack() as viewers:
        for collector in collectors:
            viewers.enter_context(watching(collector))
        for collector in collectors:
            assert 0 == collector.stop()
    for collector in collectors:
        assert "stopped: " in collector.stderr.splitlines()[-1]
        assert "without the lock" not in collector.stderr
        assert "Traceback" not in collector.stderr
