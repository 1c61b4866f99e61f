"""One file that cannot be written, on a volume that is well: what it costs itself, and others nothing.

The faults are real: `ln -s /dev/null noisy.log` (people silence a logger so), a directory or a FIFO of that
name, a file of another owner, one that its volume alone refuses. A volume on which nothing can be written is
another matter: there nothing is dropped under "wait" (test_faults.py fills, freezes and breaks some).
Not tested: what a bad file holds beside a volume that stands still, which leaves less for all.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.admin import ADMIN, ask, stats
from tests.support.collectors import send_to_the_end
from tests.support.fleet import ALL_ONCE, CONFIG, account, logging_at, own_clock
from tests.support.frames import make_frame
from tests.support.volumes import bound_by_permissions, needs_root
from tests.support.waiting import within

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.collectors import Collector
    from tests.support.odd_volume import OddVolume

    MakeCollector = Callable[..., Collector]

pytestmark = pytest.mark.slow

SECONDS = 10
RESERVE_BYTES = 8_000_000
# What a volume may hold of it where no other has any, what one bad file may hold, and all of them together.
VOLUME_BYTES = RESERVE_BYTES // 2
FILE_BYTES = VOLUME_BYTES // 8
FILES_BYTES = VOLUME_BYTES // 2
# What is read at once from a client is judged at once, and some may be on its way to the file.
BATCH_BYTES = 600_000
MESSAGE_CHARACTERS = 1000
# More than the whole reserve.
FLOOD = 9000
STRANGER = 12_345
# A client gives up after as long, and drops its record.
STALLED_SECONDS = 1

KINDS = [
    "link to /dev/null",
    "directory",
    "FIFO",
    pytest.param("file of another owner", marks=needs_root),
]
each_kind = pytest.mark.parametrize("kind", KINDS)
each_way = pytest.mark.parametrize("when_full", ["wait", "drop"])


def spoil(path: Path, kind: str) -> None:
    """Put something at *path* that cannot be written."""
    path.parent.mkdir(exist_ok=True)
    if kind == "link to /dev/null":
        path.symlink_to("/dev/null")
    elif kind == "directory":
        path.mkdir()
    elif kind == "FIFO":
        os.mkfifo(path)
    else:
        path.touch(0o600)
        os.chown(path, STRANGER, STRANGER)


def mend(path: Path, kind: str) -> None:
    """Do what an operator would."""
    if kind == "directory":
        path.rmdir()
    elif kind == "file of another owner":
        os.chown(path, os.geteuid(), os.getegid())
    else:
        path.unlink()


def config(when_full: str) -> str:
    limits = f'max_frame_bytes = 100_000\nmax_buffered_bytes = {RESERVE_BYTES}\nwhen_full = "{when_full}"\n'
    return f"[listen]\n{limits}{CONFIG}{ADMIN}"


def start(collector: Collector, kind: str) -> Collector:
    """Start it; for a file of another owner as one that permissions bind, as they do nobody who is root."""
    binds = os.geteuid() == 0 and kind == "file of another owner"
    return collector.start(preexec_fn=bound_by_permissions if binds else None)


@pytest.fixture
def spoilt(make_collector: MakeCollector) -> Callable[[str, str], Collector]:
    """Return a function that starts a collector whose bad.log cannot be written."""

    def spoilt(kind: str, when_full: str) -> Collector:
        collector = make_collector(config(when_full))
        spoil(collector.directory / "bad.log", kind)
        return start(collector, kind)

    return spoilt


def flood(collector: Collector, *loggers: str, count: int = FLOOD) -> float:
    """Send so many numbered records over one connection, to each of *loggers* in turn; all are read then.

    Return for how many seconds the client stood still at most, at once.
    """
    records = [numbered(loggers[n % len(loggers)], n) for n in range(count)]
    longest = 0.0
    now = own_clock(collector)
    with collector.connect() as client:
        for first in range(0, count, 100):
            begun = now()
            client.sendall(b"".join(records[first : first + 100]))
            longest = max(longest, now() - begun)
        begun = now()
        send_to_the_end(client, b"")
        return max(longest, now() - begun)


def know_as_bad(collector: Collector, *loggers: str) -> None:
    """Send a record for each of the bad files; return when the collector knows that they are.

    Until it has tried it holds for a file as much as for any other.
    """
    for logger in loggers:
        flood(collector, logger, count=1)
    for logger in loggers:
        within(SECONDS, lambda: errors(collector, collector.directory / f"{logger}.log"), "an ERROR")  # noqa: B023


def numbered(logger: str, number: int) -> bytes:
    return make_frame(f"{number:06} {'-' * MESSAGE_CHARACTERS}", logger)


def numbers(collector: Collector, name: str) -> list[int]:
    return [int(line.split()[1]) for line in collector.lines(name)]


def sample(collector: Collector) -> dict[str, Any]:
    """Return the totals, which add up at any moment."""
    totals = stats(collector)
    records = totals["records"]
    accounted = records["written"] + records["in_reserve"] + records["quarantined"]
    assert records["received"] == accounted + sum(records["dropped"].values())
    return totals


def received(collector: Collector, count: int) -> bool:
    return int(sample(collector)["records"]["received"]) == count


def errors(collector: Collector, path: Path) -> list[str]:
    return [line for line in collector.stderr.splitlines() if " ERROR " in line and str(path) in line]


def assert_good_is_written(collector: Collector, clients: list[Any]) -> None:
    """Every record for good.log is in it once, and its client did not stand still."""
    (client,) = clients
    within(SECONDS, lambda: len(collector.lines("good.log")) >= len(client.sent), "good.log is written")
    files = {"good.log": (collector.directory / "good.log").read_bytes()}
    assert account(clients, files) == ALL_ONCE
    assert client.slowest < STALLED_SECONDS


@each_way
@each_kind
def test_a_bad_file_costs_no_other_a_record_and_stops_no_client(
    spoilt: Callable[[str, str], Collector], kind: str, when_full: str
) -> None:
    collector = spoilt(kind, when_full)
    with logging_at(collector, 100, [["good"]]) as clients:
        stalled = flood(collector, "bad")
        seen = len(collector.lines("good.log"))
        within(SECONDS, lambda: len(collector.lines("good.log")) >= seen + 100, "good.log goes on")
    assert stalled < STALLED_SECONDS, "nor the client of the bad one"
    assert_good_is_written(collector, clients)


@each_way
@each_kind
def test_a_bad_file_holds_an_eighth_and_the_rest_of_its_records_is_dropped_and_counted(
    spoilt: Callable[[str, str], Collector], kind: str, when_full: str
) -> None:
    collector = spoilt(kind, when_full)
    know_as_bad(collector, "bad")
    flood(collector, "bad")
    within(SECONDS, lambda: received(collector, 1 + FLOOD), "all are read")
    totals = sample(collector)
    assert FILE_BYTES / 2 < totals["reserve"]["bytes"] < FILE_BYTES + BATCH_BYTES
    assert {"file"} == {reason for reason, count in totals["records"]["dropped"].items() if count}
    dropped, held = totals["records"]["dropped"]["file"], totals["records"]["in_reserve"]
    assert 1 + FLOOD == dropped + held
    assert (
        f'collector_dropped_records_total{{reason="file"}} {float(dropped)}' in ask(collector, "/metrics")[2]
    )


@each_way
@each_kind
def test_a_bad_file_that_is_mended_gets_what_was_held_and_goes_on_by_itself(
    spoilt: Callable[[str, str], Collector], kind: str, when_full: str
) -> None:
    collector = spoilt(kind, when_full)
    flood(collector, "bad")
    within(SECONDS, lambda: received(collector, FLOOD), "all are read")
    held = sample(collector)["records"]["in_reserve"]
    path = collector.directory / "bad.log"
    mend(path, kind)
    within(SECONDS, lambda: len(collector.lines("bad.log")) >= held, "it is written")
    assert list(range(held)) == numbers(collector, "bad.log")
    collector.send(numbered("bad", FLOOD))
    within(SECONDS, lambda: numbers(collector, "bad.log")[-1] == FLOOD, "it goes on")
    within(SECONDS, lambda: sample(collector)["records"]["in_reserve"] == 0, "it counts as written")
    assert held + 1 == sample(collector)["records"]["written"]
    within(SECONDS, lambda: f"{path}: can be written again" in collector.stderr)
    assert 200 == ask(collector, "/healthz")[0]


@each_kind
def test_a_bad_file_is_told_and_is_the_reason_why_health_fails(
    spoilt: Callable[[str, str], Collector], kind: str
) -> None:
    collector = spoilt(kind, "wait")
    path = collector.directory / "bad.log"
    assert 200 == ask(collector, "/healthz")[0]
    flood(collector, "bad", count=1000)
    within(SECONDS, lambda: errors(collector, path), "an ERROR")
    status, _, why = ask(collector, "/healthz")
    assert 503 == status
    assert str(path) in why
    mend(path, kind)
    within(SECONDS, lambda: 200 == ask(collector, "/healthz")[0], "it is well again")


@each_way
def test_a_link_to_dev_null_is_told_once_with_the_remedy(
    spoilt: Callable[[str, str], Collector], when_full: str
) -> None:
    collector = spoilt("link to /dev/null", when_full)
    path = collector.directory / "bad.log"
    for _ in range(3):
        flood(collector, "bad")
    within(SECONDS, lambda: received(collector, 3 * FLOOD), "all are read")
    within(SECONDS, lambda: sum(stats(collector)["write_errors"].values()) >= 4, "it is tried again")
    (line,) = [line for line in errors(collector, path) if "level = 100" in line]
    assert "/dev/null" in line


@each_way
@pytest.mark.parametrize("kind", ["link to /dev/null", "directory"])
def test_eight_bad_files_hold_half_of_what_the_volume_may(
    make_collector: MakeCollector, kind: str, when_full: str
) -> None:
    collector = make_collector(config(when_full))
    paths = [collector.directory / f"bad{n}.log" for n in range(8)]
    for path in paths:
        spoil(path, kind)
    collector.start()
    know_as_bad(collector, *(path.stem for path in paths))
    with logging_at(collector, 100, [["good"]]) as clients, some_floods(collector, len(paths)) as floods:
        most = 0
        now = own_clock(collector)
        while floods:
            client, rest = floods.pop(0)
            begun = now()
            client.sendall(rest[:100_000])
            assert now() - begun < STALLED_SECONDS, "none of their clients stands still"
            if rest[100_000:]:
                floods.append((client, rest[100_000:]))
            most = max(most, sample(collector)["reserve"]["bytes"])
    assert most < FILES_BYTES + BATCH_BYTES
    assert_good_is_written(collector, clients)
    for path in paths:
        assert errors(collector, path), "each is told"
        mend(path, kind)
    within(SECONDS, lambda: sample(collector)["records"]["in_reserve"] == 0, "what was held is written")
    written = sum(len(collector.lines(path.name)) for path in paths)
    assert 8 * (1 + FLOOD // 2) == written + sample(collector)["records"]["dropped"]["file"]


@contextlib.contextmanager
def some_floods(collector: Collector, count: int) -> Iterator[list[tuple[socket.socket, bytes]]]:
    """Give for each of bad0 to bad7 a client and what it is to send."""
    with contextlib.ExitStack() as clients:
        yield [
            (
                clients.enter_context(collector.connect()),
                b"".join(numbered(f"bad{bad}", n) for n in range(FLOOD // 2)),
            )
            for bad in range(count)
        ]


@each_way
@pytest.mark.parametrize("error", ["EACCES", "EPERM", "EIO", "EDQUOT", "ENOSPC"])
def test_a_file_that_alone_cannot_be_written_while_others_are_has_failed_by_itself(
    odd_volume: OddVolume, make_collector: MakeCollector, error: str, when_full: str
) -> None:
    """Where another file of the volume is written in the same hop, the volume is well, whatever the error."""
    odd_volume.set(refuse={"write bad.log": error})
    collector = make_collector(config(when_full), directory=odd_volume.mount / "logs").start()
    for done in range(FLOOD // 10, FLOOD + 1, FLOOD // 10):
        flood(collector, "bad", "good", count=FLOOD // 5)  # no more than such a file system can take at once
        within(SECONDS, lambda: len(collector.lines("good.log")) == done, "good.log is written")  # noqa: B023
    totals = sample(collector)
    assert {"file"} == {reason for reason, count in totals["records"]["dropped"].items() if count}
    odd_volume.set()
    within(SECONDS, lambda: sample(collector)["records"]["in_reserve"] == 0, "what was held is written")
    assert FLOOD == len(collector.lines("bad.log")) + totals["records"]["dropped"]["file"]


@pytest.mark.parametrize(
    "error", ["EDQUOT", "EIO", "EROFS", "ENOSPC", "ENOTCONN", "ESTALE", "ETIMEDOUT", "ENODEV"]
)
def test_a_volume_on_which_nothing_can_be_written_drops_nothing_where_clients_are_to_wait(
    odd_volume: OddVolume, make_collector: MakeCollector, error: str
) -> None:
    collector = make_collector(config("wait"), directory=odd_volume.mount / "logs").start()
    odd_volume.set(refuse={"write": error})
    sent = 0
    with collector.connect() as client:
        client.settimeout(STALLED_SECONDS / 2)
        rest = b"".join(numbered(f"app{n % 2}", n) for n in range(2 * FLOOD))
        with contextlib.suppress(TimeoutError):
            while rest[sent:]:
                sent += client.send(rest[sent : sent + 100_000])
        assert rest[sent:], "reading has stopped"
        assert 0 == sum(sample(collector)["records"]["dropped"].values())
        odd_volume.set(refuse={"write app0.log": error})  # it comes back between two files
        within(SECONDS, lambda: collector.lines("app1.log"), "the other file is written")
        odd_volume.set()
        client.settimeout(SECONDS)
        send_to_the_end(client, rest[sent:])
    within(SECONDS, lambda: received(collector, 2 * FLOOD), "all are read")
    within(SECONDS, lambda: sample(collector)["records"]["in_reserve"] == 0, "all are written")
    for n in range(2):
        assert list(range(n, 2 * FLOOD, 2)) == numbers(collector, f"app{n}.log")
