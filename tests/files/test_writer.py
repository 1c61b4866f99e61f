"""Faults of ours in what writes: the lines stay, and everything long-lived is started again."""

from __future__ import annotations

import itertools
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gevent
import pytest

from collector.files.chores import Chores
from collector.files.handler import Handler
from collector.files.rotating import RotatingFile
from collector.files.syncing import Syncing
from collector.files.writer import Writer
from tests.support.handlers import BY_SIZE, Cache

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECONDS = 30  # the first pause is one


def failing_once(cache: Cache, monkeypatch: pytest.MonkeyPatch, kind: type, method: str) -> Callable[[], int]:
    """Let a method raise when *cache* calls it next; return what tells how often it did.

    The caches of other tests live on in this process, and may have something to do now and then.
    """
    real: Any = getattr(kind, method)
    calls = 0

    def fail_once(owner: Any, *arguments: object) -> object:
        nonlocal calls
        writers = cache.handlers._writers.values()  # noqa: SLF001 - see above
        path = getattr(getattr(owner, "file", owner), "path", "")
        of_writers = [vars(writer).values() for writer in writers]
        mine = path.startswith(f"{cache.directory}/") or owner in [*writers, *itertools.chain(*of_writers)]
        calls += mine
        if mine and calls == 1:
            raise ValueError("of ours")
        return real(owner, *arguments)

    monkeypatch.setattr(kind, method, fail_once)
    return lambda: calls


def within(condition: Callable[[], object]) -> None:
    with gevent.Timeout(SECONDS):
        while not condition():
            gevent.sleep(0.001)


def faults(cache: Cache) -> dict[str, int]:
    return {where: count for where, count in cache.stats.faults_total.items() if count}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "method"),
    [
        (Writer, "_settle"),
        (Writer, "_lock_due"),
        (Writer, "_hop"),
        (Writer, "_next_retry"),
        (Syncing, "take_over"),
        (Handler, "take"),
        (RotatingFile, "count_written"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_fault_while_lines_are_written_loses_tears_and_doubles_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: type, method: str
) -> None:
    cache = Cache(tmp_path)
    failing_once(cache, monkeypatch, kind, method)
    cache.write("a.log", "b.log", "a.log", "b.log")
    within(lambda: not cache.reserve.held and cache.handlers.idle)
    cache.write("a.log")
    within(lambda: not cache.reserve.held and cache.handlers.idle)
    assert ["to a.log\n" * 3, "to b.log\n" * 2] == [
        (tmp_path / name).read_text() for name in ("a.log", "b.log")
    ]
    assert 5 == cache.stats.written_records_total
    assert {"writer": 1} == faults(cache)
    assert "of ours" in caplog.text


@pytest.mark.slow
def test_a_fault_in_syncing_is_told_and_what_was_written_is_synced_after_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path, sync_seconds=1)
    calls = failing_once(cache, monkeypatch, RotatingFile, "duplicate")
    cache.write("a.log")
    within(lambda: calls() == 2)
    assert {"syncing": 1} == faults(cache)


@pytest.mark.slow
def test_a_fault_in_the_chores_leaves_them_to_be_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path)
    failing_once(cache, monkeypatch, Chores, "_look_after")
    handler = cache.get("a.log", replace(BY_SIZE, backup_count=1))
    for number in range(4):
        cache.leave(handler, f"{number} is a file\n")
        cache.settle()
    within(lambda: 2 == len([path for path in tmp_path.iterdir() if path.name[0] != "."]))
    assert {"chores": 1} == faults(cache)


@pytest.mark.slow
def test_a_fault_that_comes_back_three_times_with_the_same_lines_ends_the_worker(tmp_path: Path) -> None:
    program = f"""
import gevent
from pathlib import Path
from collector.files.rotating import RotatingFile
from tests.support.handlers import Cache

def fail(*_):
    raise ValueError("of ours")

cache = Cache(Path({str(tmp_path)!r}))
cache.write("good.log")
cache.settle()
RotatingFile.count_written = fail
cache.write("bad.log")
gevent.sleep(60)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert 1 == ended.returncode
    assert 3 == ended.stderr.count("ValueError: of ours")
    assert "bad.log: 3 faults with the same lines: this worker ends, for another one to start" in ended.stderr
    assert "to bad.log\n" == (tmp_path / "bad.log").read_text()
