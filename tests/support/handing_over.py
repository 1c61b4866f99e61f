"""A whole collector that hands over: its configuration, its records by number, its checkpoint."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from collector.forward import status
from collector.forward.progress import Progress
from collector.spool.checkpoint import SLOT_BYTES, read_state
from collector.spool.reading import OLDEST, SpoolReader
from tests.support.frames import make_frame
from tests.support.spools import read_all
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.support.collectors import Collector
    from tests.support.synced import Disk

NAME = "elk"
SPOOL = "[spool]\n"
_NUMBER = re.compile(rb"(?<!client \d )record (\d{7})")
_MARK = "0000000"
_PER_SECOND = 20_000
_AT_ONCE = 200
_SECONDS = 30


def forward_table(url: str, name: str = NAME, **keys: object) -> str:
    """Return the table of an engine that is handed a batch each twentieth of a second."""
    return destination_table("elasticsearch", name, url=url, **{"batch_seconds": 0.05, **keys})


def destination_table(kind: str, name: str = NAME, **keys: object) -> str:
    """Return the table of a destination of any type, which is tried each second at least."""
    text = f'[[forward]]\nname = "{name}"\ntype = "{kind}"\n'
    for key, value in {"max_pause_seconds": 1, **keys}.items():
        text += f'{key} = "{value}"\n' if isinstance(value, str) else f"{key} = {value}\n"
    return text


def spool_of(collector: Collector) -> Path:
    return collector.directory / ".spool"


def progress(collector: Collector, name: str = NAME, spool: Path | None = None) -> Progress | None:
    """Return what the checkpoint of a destination says now; None: it has none yet."""
    with suppress(FileNotFoundError):
        state = read_state(status.checkpoint_path(str(spool or spool_of(collector)), name))
        return Progress.of(state) if state else None
    return None


def assert_balanced(now: Progress) -> None:
    """The equation of a checkpoint holds."""
    assert now.balance() == 0, now
    assert now.waiting >= 0, now


def settled(
    collector: Collector,
    count: int,
    name: str = NAME,
    *,
    spool: Path | None = None,
    seconds: float = _SECONDS,
) -> Progress:
    """Return the progress once *count* numbers are given out and all are done with."""

    def done() -> bool:
        now = progress(collector, name, spool)
        return now is not None and now.numbered >= count and now.waiting == 0

    try:
        within(seconds, done, f"{count} records are handed over")
    finally:
        now = progress(collector, name, spool)
        print(now)
    assert now
    assert_balanced(now)
    return now


def passed(collector: Collector) -> Progress:
    """Return the progress once all that is in the spool is done with."""
    reader = SpoolReader(str(spool_of(collector)), OLDEST)

    def done() -> bool:
        now = progress(collector)
        return now is not None and now.position.number >= reader.end().number

    within(_SECONDS, done, "all in the spool is handed over")
    reader.close()
    now = progress(collector)
    assert now
    assert_balanced(now)
    return now


def numbers_in_files(collector: Collector) -> list[int]:
    return [int(found) for data in collector.files().values() for found in _NUMBER.findall(data)]


def numbers_in_spool(collector: Collector) -> dict[str, int]:
    """Return the numbers of the records that are in the spool, by their ids."""
    return {
        spooled.id: int(found[1])
        for spooled in read_all(spool_of(collector))
        if (found := _NUMBER.search(spooled.payload))
    }


def numbers_in(messages: Iterable[str]) -> list[int]:
    """Return the numbers of records that a destination has, but not what is told of gaps."""
    return [int(found[1]) for message in messages if (found := _NUMBER.match(message.encode()))]


def doubled(numbers: Iterable[int]) -> list[int]:
    return [number for number, times in Counter(numbers).items() if times > 1]


class Numbered:
    """A client that sends numbered records, 20,000 a second, whatever becomes of its connection."""

    def __init__(self, collector: Collector, padding: int = 300, first: int = 0) -> None:
        self._collector = collector
        self._before, self._behind = make_frame(f"record {_MARK} {'x' * padding}").split(_MARK.encode())
        self.sent = self._wanted = first
        """The number of the next one: all before it have been sent, or a connection has ended."""
        self._stop = threading.Event()
        self._more = threading.Event()
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Numbered:  # noqa: PYI034 - typing has no Self before 3.11
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._more.set()
        if sock := self._socket:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._hang_up()

    def send(self, count: int) -> None:
        """Have *count* more sent; return at once."""
        self._wanted += count
        self._more.set()

    def send_all(self, count: int) -> None:
        """Send *count* more, and return when the collector can read them."""
        self.send(count)
        within(_SECONDS, lambda: self.sent == self._wanted, f"{self._wanted} records are sent")

    def reach(self, number: int) -> None:
        """Return when all before *number* have been sent."""
        within(_SECONDS, lambda: self.sent >= number, f"{number} records are sent")

    def assert_in_file(self, number: int) -> None:
        """Return when a record is in a file."""
        wanted = b"record %07d" % number
        collector = self._collector
        within(_SECONDS, lambda: any(wanted in data for data in collector.files().values()), str(wanted))

    def frames(self, first: int, behind: int) -> bytes:
        return b"".join(self._before + b"%07d" % number + self._behind for number in range(first, behind))

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            if self.sent == self._wanted:
                self._more.wait()
                self._more.clear()
                due = time.monotonic()
            elif self._socket or self._connect():
                behind = min(self.sent + _AT_ONCE, self._wanted)
                self._send(self.frames(self.sent, behind))
                self.sent = behind
                due += _AT_ONCE / _PER_SECOND
                self._stop.wait(max(0.0, due - time.monotonic()))
            else:
                self._stop.wait(0.02)

    def _connect(self) -> bool:
        with suppress(OSError):
            self._socket = socket.create_connection(("127.0.0.1", self._collector.port), timeout=30)
            return True
        return False

    def _send(self, frames: bytes) -> None:
        try:
            assert self._socket
            self._socket.sendall(frames)
        except OSError:  # what of it was read is found in the files
            self._hang_up()

    def _hang_up(self) -> None:
        sock, self._socket = self._socket, None
        if sock:
            sock.close()


@contextmanager
def sampled(collector: Collector, name: str = NAME) -> Iterator[list[Progress]]:
    """Read the checkpoint again and again; in each sample the equation holds."""
    samples: list[Progress] = []
    faults: list[Exception] = []
    stop = threading.Event()

    def sample() -> None:
        while not stop.wait(0.02):
            try:
                if now := progress(collector, name):
                    samples.append(now)
            except Exception as fault:  # noqa: BLE001 - told by the test's own thread
                faults.append(fault)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        stop.set()
        thread.join()
    assert faults == []
    for now in samples:
        assert_balanced(now)


def has_ended(process: int) -> bool:
    """Tell whether a process has ended, whether or not somebody has asked how."""
    with suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    return True


def kill(*processes: int) -> None:
    """End processes by SIGKILL; return when they have ended."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    within(_SECONDS, lambda: all(map(has_ended, processes)), f"{processes} have ended")


class Killer:
    """Kills one process of a collector, or all of them, and sees to it that all run again."""

    def __init__(self, collector: Collector, engine: tuple[Callable[[], None], ...]) -> None:
        """*engine*: how the destination is killed, and started again."""
        seed = int.from_bytes(os.urandom(4), "big")
        print("seed:", seed)
        self._collector = collector
        self.chance = random.Random(seed)  # noqa: S311 - the same kills for the same seed
        self._kill_engine, self._start_engine = engine

    def pause(self, seconds: float) -> None:
        """Let the collector work for some time up to *seconds*."""
        time.sleep(self.chance.uniform(0, seconds))

    def part_of(self, count: int) -> int:
        return self.chance.randrange(count)

    def kill(self, victim: str) -> None:
        collector = self._collector
        assert collector.process
        if victim == "worker":
            within(_SECONDS, lambda: len(collector.children) > len(collector.forwarders), "there is a worker")
            kill(collector.worker)
        elif victim == "forwarder":
            within(_SECONDS, lambda: NAME in collector.forwarders, "there is a forwarder")
            kill(collector.forwarders[NAME])
        elif victim == "engine":
            self._kill_engine()
            self._start_engine()
        else:
            self._kill_guardian(*(collector.children if victim == "all" else ()))

    def cut_power(self, disk: Disk) -> None:
        """Kill all but the destination; leave what *disk* may have then."""
        collector = self._collector
        assert collector.process
        kill(collector.process.pid, *collector.children)
        collector.process.wait()
        disk.cut(self.chance, SLOT_BYTES)

    def _kill_guardian(self, *others: int) -> None:
        """Kill the guardian, and *others*; those left end by themselves. Start all again."""
        collector = self._collector
        assert collector.process
        left = collector.children
        for process in (collector.process.pid, *others):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        collector.process.wait()
        if others:
            self._kill_engine()
        within(_SECONDS, lambda: all(map(has_ended, left)), "worker and forwarder end with the guardian")
        if others:
            self._start_engine()
        collector.start()
