"""While files cannot be written.

A limit on the size of files (EFBIG) stands in for what a single file may have; for a volume it is
a small tmpfs.
"""

from __future__ import annotations

import contextlib
import re
import resource
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.collectors import messages
from tests.support.fleet import timed
from tests.support.frames import make_frame
from tests.support.reserve import LIMIT_BYTES, SMALL, MiB, numbered, sent_in_background, start_limited
from tests.support.volumes import make_room, needs_root
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.collectors import Collector

pytestmark = pytest.mark.slow


def free(collector: Collector) -> None:
    infinite = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(collector.worker, resource.RLIMIT_FSIZE, infinite)


def rss(collector: Collector) -> int:
    status = Path(f"/proc/{collector.worker}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def test_a_short_write_is_completed_and_never_repeated(make_collector: Callable[..., Collector]) -> None:
    collector = start_limited(make_collector, SMALL)
    texts = numbered(300)
    with collector.connect() as client:
        client.sendall(b"".join(map(make_frame, texts)))
        within(5, lambda: "app.log: cannot be written" in collector.stderr)
        assert LIMIT_BYTES == len(collector.files()["app.log"])
        free(collector)
        within(10, lambda: messages(collector) == texts, "every record is there, once and whole")
    within(5, lambda: "app.log: can be written again" in collector.stderr)


def test_a_file_that_cannot_be_written_holds_up_no_other(make_collector: Callable[..., Collector]) -> None:
    collector = start_limited(make_collector, SMALL)
    with collector.connect() as client:
        client.sendall(b"".join(map(make_frame, numbered(500))))
        within(5, lambda: "app.log: cannot be written" in collector.stderr)
        with timed(collector) as seconds:
            client.sendall(make_frame("not held up", "other"))
            within(5, lambda: messages(collector, "other.log") == ["not held up"])
        assert seconds() < 1


@needs_root
def test_reading_stops_when_the_reserve_is_full_and_goes_on_when_it_is_not(
    start_full: Callable[[str], Collector],
) -> None:
    collector = start_full(SMALL)
    texts = numbered(15_000)
    with collector.connect() as client:
        sender = sent_in_background(client, texts)
        within(5, lambda: "app.log: cannot be written" in collector.stderr)
        sender.join(1)
        assert sender.is_alive()
        assert rss(collector) < 80 * MiB
        make_room(collector)
        sender.join(20)
        within(20, lambda: len(collector.lines("app.log")) == len(texts))
        assert texts == messages(collector)


@needs_root
def test_drop_reads_on_drops_and_counts(start_full: Callable[[str], Collector]) -> None:
    collector = start_full(SMALL + 'when_full = "drop"\n')
    texts = numbered(15_000)
    with collector.connect() as client:
        client.sendall(b"".join(map(make_frame, texts)))
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    make_room(collector)
    within(10, lambda: "app.log: can be written again" in collector.stderr)
    assert collector.stop() == 0
    received, written, dropped = map(
        int, re.findall(r"(\d+) (?:records received|written|dropped \(reserve full\))", collector.stderr)
    )
    assert (15_000, 15_000) == (received, written + dropped)
    assert texts[:written] == messages(collector)
    assert dropped > 5000


@needs_root
def test_on_a_full_volume_nothing_is_dropped_although_some_files_have_room_in_their_last_block(
    start_full: Callable[[str], Collector],
) -> None:
    collector = start_full(SMALL)
    collector.send(b"".join(make_frame("small", f"small{n}") for n in range(12)))
    with collector.connect() as big, collector.connect() as small:
        sender = sent_in_background(big, numbered(6000))
        within(5, lambda: "app.log: cannot be written" in collector.stderr)
        for n in range(200):
            small.sendall(make_frame("tiny", f"small{n % 12}"))
            sender.join(0.01)
        assert sender.is_alive(), "it waits"
        make_room(collector)
        sender.join(20)
    within(20, lambda: len(collector.lines("app.log")) == 6000)
    assert collector.stop() == 0
    assert " 0 quarantined, 0 dropped" in collector.stderr


def test_what_cannot_be_written_in_time_is_counted_per_file_and_the_exit_code_is_1(
    make_collector: Callable[..., Collector],
) -> None:
    collector = start_limited(make_collector, SMALL)
    with collector.connect() as client:
        client.sendall(b"".join(map(make_frame, numbered(350))) + make_frame("good", "other"))
        within(5, lambda: "app.log: cannot be written" in collector.stderr)
        with timed(collector) as seconds:
            assert collector.stop() == 1
        assert seconds() < 3
    assert re.search(
        r"ERROR \S+app.log: \d+ records are lost, they could not be written in time", collector.stderr
    )
    received, written, lost = map(
        int,
        re.findall(r"(\d+) (?:records received|written|dropped \(not written in time\))", collector.stderr),
    )
    assert received == written + lost


def test_incomplete_frames_take_no_more_than_a_quarter_and_the_oldest_pays(
    make_collector: Callable[..., Collector],
) -> None:
    collector = make_collector(SMALL).start()
    half_a_frame = make_frame("x" * (900 * 1024))[: 600 * 1024]
    with collector.connect() as oldest, collector.connect() as second:
        oldest.sendall(half_a_frame)
        within(5, lambda: collector.stderr.count(" connected") == 2)
        second.sendall(half_a_frame)
        with contextlib.suppress(ConnectionResetError):  # where it had not been read to its end
            assert oldest.recv(1) == b""
        within(5, lambda: "its was the oldest" in collector.stderr)
        second.sendall(make_frame("x" * (900 * 1024))[600 * 1024 :])
        within(5, lambda: len(collector.lines("app.log")) == 1)
