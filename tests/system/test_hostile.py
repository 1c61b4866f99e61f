"""The hostile corpus against a running collector, with a good client beside it.

Each case is all that one connection sends. Its manifest says what a collector should do ("expect"), which
other answers are right ("accept"), and what must be found in the files ("check").
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.collectors import Collector, whole_lines
from tests.support.corpus import hostile
from tests.support.fleet import own_clock, timed
from tests.support.frames import make_frame
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# A case costs less than a second; on a slow machine it may be more. The figures are printed.
pytestmark = pytest.mark.slow

MAX_SECONDS = 5.0
MAX_GROWTH_KB = 64 * 1024
PWNED = Path("/tmp/PWNED")  # noqa: S108 - where the corpus would leave its mark
CONFIG = '[listen]\nframe_timeout_seconds = 1\n[format]\nstyle = "json"\n'


class GoodClient:
    """Sends a record every 20 ms, and sees when each one is readable in its file."""

    def __init__(self, collector: Collector) -> None:
        self.sent: list[float] = []
        self.seen: list[float] = []
        self._file = collector.directory / "good.log"
        self._now = own_clock(collector)
        self._sock = collector.connect()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=work) for work in (self._send, self._look)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        while not self._stop.wait(0.02):
            self.sent.append(self._now())
            self._sock.sendall(make_frame(str(len(self.sent)), "good"))
        self._sock.close()

    def _look(self) -> None:
        done = 0
        while not (self._stop.is_set() and len(self.seen) == len(self.sent)):
            with contextlib.suppress(FileNotFoundError), self._file.open("rb") as file:
                file.seek(done)
                new = file.read()
                done += len(new)
                self.seen.extend([self._now()] * new.count(b"\n"))
            time.sleep(0.005)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    collector = Collector(tmp_path_factory.mktemp("victim"), CONFIG).start()
    # First of all: after the case that floods with names, new ones have no file of their own.
    collector.send(make_frame("first", "sentinel"))
    within(10, lambda: collector.lines("sentinel.log"), "the first record is written")
    good = GoodClient(collector)
    worker = collector.worker
    yield collector
    within(10, lambda: good.seen, "a record of the good client is written")
    good.stop()
    assert len(good.sent) == len(good.seen), "a record of the good client is lost"
    delays = sorted(seen - sent for sent, seen in zip(good.sent, good.seen, strict=True))
    p99 = delays[len(delays) * 99 // 100]
    print(f"good client: {len(delays)} records, p99 {p99:.3f} s, max {delays[-1]:.3f} s")
    assert delays[-1] < MAX_SECONDS
    assert worker == collector.worker, "the worker was replaced"
    assert collector.stop() == 0


def lines_of(collector: Collector) -> list[dict[str, Any]]:
    paths = [collector.directory / name for name in collector.files() if name != "good.log"]
    return [json.loads(line) for path in paths for line in whole_lines(path).split("\n")[:-1]]


def peak_kb(collector: Collector) -> int:
    """Return the peak of resident memory, and start a new one."""
    process = Path(f"/proc/{collector.worker}")
    status = (process / "status").read_text()
    (process / "clear_refs").write_text("5")
    return int(status.split("VmHWM:")[1].split()[0])


def as_utf16(text: str) -> bytes:
    """A pair of lone surrogates is a character once it has been through JSON."""
    return text.encode("utf-16", "surrogatepass")


def send(collector: Collector, case: dict[str, Any], sentinel: bytes) -> None:
    """Send all of a case and the sentinel behind it; behind broken framing, over a connection of its own."""
    if case["layer"] != "framing":
        collector.send(case["data"] + sentinel)
        return
    if case.get("eof", True):
        collector.send(case["data"])
    else:
        with collector.connect() as client, contextlib.suppress(ConnectionError):
            client.sendall(case["data"])
            assert client.recv(1) == b""
    collector.send(sentinel)


def answer_of(log: str, written: int, case: dict[str, Any]) -> str:
    if "written in part" in log:
        return "write_partial"
    if "inside a frame" in log or "; closing" in log:
        return "close"
    good_behind_bad = case["expect"] == "drop" and ("check" in case or case["layer"] == "framing")
    return "write" if written > good_behind_bad else "drop"


CASES = [case for case in hostile() if case["name"] != "name_flood"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["name"]))
def test_each_case_gets_an_answer_that_its_manifest_accepts(victim: Collector, case: dict[str, Any]) -> None:
    outside = set(victim.directory.parent.iterdir())
    before, log_before = len(lines_of(victim)), len(victim.stderr)
    peak_kb(victim)
    resident = peak_kb(victim)
    sentinel = f"after {case['name']} {time.monotonic()}"
    with timed(victim) as seconds:
        send(victim, case, make_frame(sentinel, "sentinel"))
        within(20, lambda: any(sentinel in line for line in victim.lines("sentinel.log")), "it is written")
    assert seconds() < MAX_SECONDS
    assert peak_kb(victim) - resident < MAX_GROWTH_KB
    connections = 2 if case["layer"] == "framing" else 1
    within(5, lambda: victim.stderr.count(" disconnected after", log_before) == connections)

    found = lines_of(victim)
    check = case.get("check", {})
    written = len(found) - before - 1
    assert answer_of(victim.stderr[log_before:], written, case) in case["accept"]
    if check.get("message") is not None:
        assert as_utf16(check["message"]) in [as_utf16(line["message"]) for line in found]
    if check.get("name") is not None:
        assert check["name"] in [line["logger"] for line in found]
    assert not PWNED.exists()
    assert outside == set(victim.directory.parent.iterdir())
    assert all(
        not path.is_symlink() and (path.is_dir() or path.is_file()) for path in victim.directory.rglob("*")
    )


def test_a_flood_of_names_makes_max_files_files_and_loses_no_record(
    make_collector: Callable[..., Collector],
) -> None:
    collector = make_collector("[files]\nmax_files = 1000\n").start()
    flood = next(case for case in hostile() if case["name"] == "name_flood")
    resident = peak_kb(collector)
    collector.send(flood["data"])
    within(
        20, lambda: sum(data.count(b"\n") for data in collector.files().values()) == flood["check"]["count"]
    )
    assert peak_kb(collector) - resident < MAX_GROWTH_KB
    assert 1001 == len(collector.files())
    descriptors = len(list(Path(f"/proc/{collector.worker}/fd").iterdir()))
    assert descriptors < 600
    assert collector.stop() == 0
