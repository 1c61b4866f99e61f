"""What of the records that a collector takes is in its spool, and where destinations begin."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from collector.spool.checkpoint import position_of, read_state
from collector.spool.reading import OLDEST, SpoolReader
from collector.wire.fragments import RecordReader
from collector.wire.framing import frame
from collector.wire.records import message_of
from tests.support.collectors import messages
from tests.support.frames import make_frame
from tests.support.signals import hang_up
from tests.support.spools import numbers_in
from tests.support.tracing import trace_syncs, wait_for
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.collectors import Collector

NOBODY = "http://127.0.0.1:1"  # refuses connections
ELK = f'[[forward]]\nname = "elk"\ntype = "elasticsearch"\nurl = "{NOBODY}"\n'


def spooled(directory: Path) -> list[str]:
    """Return the messages of what is in the spool."""
    reader = SpoolReader(str(directory), OLDEST)
    payloads = [one.payload for one in reader.read(10_000, 10**8)]
    reader.close()
    return [message_of(record) for record in RecordReader().read(payloads, [], [])]


def test_a_record_is_in_the_spool_before_it_is_in_its_file(make_collector: Callable[..., Collector]) -> None:
    collector = make_collector(f"[spool]\n{ELK}").start()
    for number in range(20):
        collector.send(make_frame(f"{number}"))
        within(5, lambda n=number: f"{n}" in messages(collector))  # type: ignore[misc]
        assert f"{number}" == spooled(collector.directory / ".spool")[-1]
    assert collector.stop() == 0
    assert [f"{number}" for number in range(20)] == spooled(collector.directory / ".spool")


def test_only_what_a_destination_wants_and_a_file_has_is_in_the_spool(
    make_collector: Callable[..., Collector],
) -> None:
    wants = 'loggers = ["shop", "bank"]\nexclude = ["shop.cart"]\nlevel = "WARNING"\n'
    also = (
        f'[[forward]]\nname = "audit"\ntype = "elasticsearch"\nurl = "{NOBODY}"\nloggers = ["bank.audit"]\n'
    )
    rule = '[[logger]]\nname = "bank"\nlevel = "ERROR"\n'
    collector = make_collector(f"[spool]\n{ELK}{wants}{also}{rule}").start()
    sent = [
        ("shop", "INFO", ""),
        ("shop", "WARNING", "of shop"),
        ("shop.cart", "ERROR", ""),
        ("shopping", "ERROR", ""),
        ("bank", "WARNING", ""),  # dropped: the rule says ERROR
        ("bank", "ERROR", "of bank"),
        ("bank.audit", "ERROR", "of audit"),
        ("other", "CRITICAL", ""),
    ]
    frames = [make_frame(text or "unwanted", name, logging.getLevelName(level)) for name, level, text in sent]
    collector.send(b"".join([*frames[:4], frame(b"rubbish"), *frames[4:]]))
    within(5, lambda: messages(collector, "bank_audit.log") == ["of audit"])
    assert collector.stop() == 0
    assert ["of shop", "of bank", "of audit"] == spooled(collector.directory / ".spool")


@pytest.mark.slow
def test_with_a_client_at_full_speed_the_spool_keeps_up(make_collector: Callable[..., Collector]) -> None:
    """It waited for the interpreter twice a block, and more than a third was dropped."""
    collector = make_collector(f"[spool]\n{ELK}").start()
    collector.send(make_frame("x" * 200) * 200_000)
    assert collector.stop() == 0
    numbers = numbers_in(collector.directory / ".spool")
    assert len(numbers) > 0.95 * 200_000, f"{numbers[-1] - len(numbers)} were dropped"


def test_without_a_destination_there_is_no_spool(make_collector: Callable[..., Collector]) -> None:
    collector = make_collector("[spool]\n").start()
    collector.send(make_frame("one"))
    within(5, (collector.directory / "app.log").exists)
    assert collector.stop() == 0
    assert not (collector.directory / ".spool").exists()


@pytest.mark.parametrize(("start", "first"), [("end", "two"), ("oldest", "one")])
def test_a_destination_that_a_reload_adds_begins_where_start_says(
    make_collector: Callable[..., Collector], start: str, first: str
) -> None:
    collector = make_collector(f"[spool]\n{ELK}").start()
    collector.send(make_frame("one"))
    within(5, lambda: spooled(collector.directory / ".spool") == ["one"])
    added = ELK.replace("elk", "kibana") + f'start = "{start}"\n'
    hang_up(collector, f"[spool]\n{ELK}{added}")
    collector.send(make_frame("two"))
    path = collector.directory / ".spool" / "kibana.checkpoint"
    within(5, path.exists)
    assert collector.stop() == 0
    position = position_of(read_state(str(path)) or {})
    assert position
    reader = SpoolReader(str(path.parent), position)
    record = reader.read(1, 10**6)[0]
    reader.close()
    assert first.encode() in record.payload


def test_the_numbers_run_on_after_a_stop(make_collector: Callable[..., Collector]) -> None:
    collector = make_collector(f"[spool]\n{ELK}")
    for number in range(3):
        collector.start()
        collector.send(make_frame(f"{number}"))
        within(5, lambda n=number: len(spooled(collector.directory / ".spool")) == n + 1)  # type: ignore[misc]
        assert collector.stop() == 0
    reader = SpoolReader(str(collector.directory / ".spool"), OLDEST)
    records = reader.read(10, 10**6)
    reader.close()
    assert [1, 2, 3] == [one.number for one in records]
    assert 3 == len({one.epoch for one in records})


def test_a_destination_taken_out_is_told_with_what_it_had_not_shipped(
    make_collector: Callable[..., Collector],
) -> None:
    other = ELK.replace("elk", "kibana")
    collector = make_collector(f"[spool]\n{ELK}{other}").start()
    collector.send(make_frame("one") + make_frame("two"))
    within(10, (collector.directory / ".spool" / "elk.checkpoint").exists)
    within(10, lambda: len(spooled(collector.directory / ".spool")) == 2)
    hang_up(collector, f"[spool]\n{other}")
    within(10, lambda: "forward elk: taken out of the configuration" in collector.stderr)
    assert collector.stop() == 0
    assert (collector.directory / ".spool" / "elk.checkpoint").exists()


@pytest.mark.slow
def test_sync_seconds_of_the_spool_takes_hold_at_a_reload_either_way(
    make_collector: Callable[..., Collector], tmp_path: Path
) -> None:
    def table(seconds: int) -> str:
        return f"[spool]\nsync_seconds = {seconds}\nsegment_bytes = 65_536\n{ELK}"

    def synced() -> int:
        return trace.read_text().count(".seg>)")

    collector = make_collector(table(0)).start()
    trace = tmp_path / "trace"
    strace = trace_syncs(collector, trace)
    big = make_frame("x" * 40_000)
    segments = collector.directory / ".spool"

    def fill(count: int) -> None:
        """Have *count* segments: one for each record, unless several come in one hop."""
        while (present := len(list(segments.glob("*.seg")))) < count:
            collector.send(big)
            within(10, lambda: len(list(segments.glob("*.seg"))) > present)

    fill(10)
    within(5, lambda: len(open_segments(collector)) <= 1, "what is never synced is not kept open")
    assert 0 == synced()
    hang_up(collector, table(1))
    collector.send(big)
    within(5, synced)
    hang_up(collector, table(0))
    within(5, lambda: len(open_segments(collector)) <= 1)
    before = synced()
    fill(16)
    within(5, lambda: len(open_segments(collector)) <= 1, "what is never synced is not kept open")
    assert before == synced()
    assert collector.stop() == 0
    wait_for(strace)


def open_segments(collector: Collector) -> list[str]:
    """Return the segments that the worker has open."""
    fds = f"/proc/{collector.worker}/fd"
    links = []
    for fd in os.listdir(fds):
        with suppress(FileNotFoundError):
            links.append(os.readlink(f"{fds}/{fd}"))
    return [link for link in links if link.endswith(".seg")]
