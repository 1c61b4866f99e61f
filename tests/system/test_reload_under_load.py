"""SIGHUP, and logrotate from outside, while eight clients send at full speed: every record is there once.

The clients have 400,000 records, and more for as long as it takes: all of it happens under load.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import socket
import subprocess
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.support.fleet import report, timed
from tests.support.flood import CLIENTS, LOAD_SECONDS, LOGGERS, RECORDS, start_clients_until_told, tell
from tests.support.frames import make_frame
from tests.support.reserve import SMALL as SMALL_RESERVE
from tests.support.reserve import numbered, sent_in_background, start_limited
from tests.support.signals import hang_up
from tests.support.texts import shown
from tests.support.volumes import needs_root
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.collectors import Collector

    MakeCollector = Callable[..., Collector]
    Property = Callable[[str, object], None]

pytestmark = pytest.mark.slow

# What is different before each of ten signals: rollover, format and files.
TEXT = '[format]\ntext = "%(name)s %(message)s"\n'
OTHER_TEXT = '[format]\ntext = "then %(name)s %(message)s"\n'
JSON = '[format]\nstyle = "json"\n'
SMALL = "[rollover]\nmax_bytes = 100_000\nbackup_count = 0\n"
SECONDS = '[rollover]\nwhen = "S"\nbackup_count = 0\ncompress = true\n'
ONE_FILE = '[[logger]]\nname = "load"\nfile = "all.log"\n'
CONFIGS = [
    TEXT + SMALL,
    OTHER_TEXT + SECONDS,
    TEXT + '[files]\nname = "{client}/{logger}.log"\n',
    JSON + SMALL + "[files]\nsync_seconds = 0.1\n",
    TEXT + ONE_FILE + "rollover = { max_bytes = 500_000, backup_count = 0 }\n",
    JSON + '[files]\ndots = "."\n',
    TEXT + SECONDS + ONE_FILE,
    TEXT + '[files]\ndots = "/"\nmax_open = 1\n',
    OTHER_TEXT + SMALL + '[listen]\nwhen_full = "drop"\n',
    TEXT,
]
STEP_BYTES = 1_000_000
ROTATIONS = 5
LOGROTATE = shutil.which("logrotate") or shutil.which("logrotate", path="/usr/sbin")
needs_logrotate = pytest.mark.skipif(LOGROTATE is None, reason="needs logrotate")
_MESSAGE = re.compile(r"client (\d) record (\d{7}) (-*) end")


class Found(NamedTuple):
    """What is in a directory: records by client and number, each with how often, and lines that are none."""

    records: Counter[tuple[int, int]]
    torn: list[bytes]

    @property
    def doubled(self) -> int:
        return sum(1 for times in self.records.values() if times > 1)

    def missing(self, sent: int) -> int:
        return sent - len(self.records)


def found(directory: Path) -> Found:
    """Read every file below *directory*, of whatever name, but the collector's own."""
    result = Found(Counter(), [])
    for path in directory.rglob("*"):
        if path.is_file() and not path.name.startswith("."):
            data = path.read_bytes()
            data = gzip.decompress(data) if path.suffix == ".gz" else data
            for line in data.splitlines(keepends=True):
                record = whole(line)
                if record is None:
                    result.torn.append(line)
                else:
                    result.records[record] += 1
    return result


def whole(line: bytes) -> tuple[int, int] | None:
    """Return the client and the number of a record, in any of the formats; None if it is not whole."""
    try:
        if line.startswith(b"{") and line.endswith(b"\n"):
            message = json.loads(line)["message"]
        else:
            message = re.fullmatch(r"(?:then )?load\.\d (.*)\n", line.decode())[1]  # type: ignore[index]
    except (ValueError, TypeError):
        return None
    match = _MESSAGE.fullmatch(message)
    if not match or len(match[3]) != int(match[2]) % 7 * 10:
        return None
    return int(match[1]), int(match[2])


def bytes_in(directory: Path) -> int:
    total = 0
    for path in directory.rglob("*"):
        with suppress(FileNotFoundError):  # compressed meanwhile
            total += path.stat().st_size
    return total


def all_read(collector: Collector) -> bool:
    return collector.stderr.count(" disconnected ") == CLIENTS


def test_ten_reloads_of_rollover_format_and_files_lose_and_double_none_of_400000_records(
    make_collector: MakeCollector, record_property: Property
) -> None:
    collector = make_collector(TEXT).start()
    clients = start_clients_until_told(collector, RECORDS)
    for config in CONFIGS:
        target = bytes_in(collector.directory) + STEP_BYTES
        within(
            LOAD_SECONDS,
            lambda target=target: bytes_in(collector.directory) >= target,  # type: ignore[misc]
        )
        hang_up(collector, config)
    under_load = " disconnected " not in collector.stderr
    sent = tell(clients)
    within(LOAD_SECONDS, lambda: all_read(collector))
    assert collector.stop() == 0
    result = found(collector.directory)
    files = len(collector.files())
    report(record_property, records=len(result.records), files=files, last_line=collector.stderr[-150:])
    assert under_load, "the last signal came when a client had sent all it has"
    assert (0, 0, []) == (result.missing(sent), result.doubled, result.torn)
    assert f" {sent} written, 0 quarantined, 0 dropped" in collector.stderr
    assert collector.stderr.count(" connected") == CLIENTS
    assert "ERROR" not in collector.stderr


# --- a disk that takes nothing ---


@needs_root
def test_a_client_that_waits_for_a_full_reserve_goes_on_when_when_full_becomes_drop(
    start_full: Callable[[str], Collector],
) -> None:
    collector = start_full(SMALL_RESERVE)
    with collector.connect() as client:
        sender = sent_in_background(client, numbered(15_000))
        within(5, lambda: "app.log: cannot be written" in collector.stderr)
        sender.join(1)
        assert sender.is_alive()
        hang_up(collector, SMALL_RESERVE + 'when_full = "drop"\n')
        within(30, lambda: not sender.is_alive(), "all is read")
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    within(5, lambda: "disconnected after 15000 records" in collector.stderr)


def test_a_shorter_drain_seconds_holds_for_the_stop(make_collector: MakeCollector) -> None:
    collector = start_limited(
        make_collector, SMALL_RESERVE.replace("drain_seconds = 1", "drain_seconds = 60")
    )
    collector.send(b"".join(map(make_frame, numbered(500))))
    within(5, lambda: "app.log: cannot be written" in collector.stderr)
    hang_up(collector, SMALL_RESERVE)
    with timed(collector) as seconds:
        assert collector.stop() == 1
    assert seconds() < 5


# --- logrotate ----------------------------------------------------------------------------------------------


def logrotate(home: Path, stanza: str) -> None:
    """Run logrotate as cron would, though all is due."""
    config = home / "logrotate.conf"
    config.write_text(stanza)
    config.chmod(0o600)
    assert LOGROTATE
    command = [LOGROTATE, "--force", "--state", str(home / "state"), str(config)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (0, "") == (result.returncode, result.stderr)


def rotate_under_load(collector: Collector, home: Path, stanza: str) -> int:
    """Let all clients send while logrotate runs five times; return how many records they have sent."""
    clients = start_clients_until_told(collector, RECORDS)
    for _ in range(ROTATIONS):
        target = bytes_in(collector.directory) + STEP_BYTES
        within(
            LOAD_SECONDS,
            lambda target=target: bytes_in(collector.directory) >= target,  # type: ignore[misc]
        )
        logrotate(home, stanza)
    assert " disconnected " not in collector.stderr, "all rotations were under load"
    sent = tell(clients)
    within(LOAD_SECONDS, lambda: all_read(collector))
    return sent


def stanza_of_the_docs(collector: Collector) -> str:
    """Return what the docs have for logrotate, for this collector."""
    assert collector.process
    stanza = shown("docs/operate.rst", "/var/log/collector/*.log ")
    stanza = stanza.replace("/var/log/collector", str(collector.directory))
    assert "systemctl reload collector" in stanza
    return stanza.replace("systemctl reload collector", f"kill -HUP {collector.process.pid}")


@needs_logrotate
def test_logrotate_as_the_docs_have_it_reaches_files_in_directories_below(
    make_collector: MakeCollector, tmp_path: Path
) -> None:
    collector = make_collector(f'{TEXT}[files]\ndots = "/"\n[rollover]\nwhen = "never"\n').start()
    names = ("app", "app.web", "app.web.errors")
    for turn, text in enumerate(("first", "second")):
        for name in names:
            collector.send(make_frame(text, name))
        within(5, lambda text=text: text in "".join(collector.lines("app/web/errors.log")))  # type: ignore[misc]
        logrotate(tmp_path, stanza_of_the_docs(collector))
        within(5, lambda turn=turn: collector.stderr.count("SIGHUP: changed") == turn + 1)  # type: ignore[misc]
    assert collector.stop() == 0
    assert {
        f"{name.replace('.', '/')}.log{end}": f"{name} {text}"
        for name in names
        for end, text in ((".1", "second"), (".2.gz", "first"))
    } == {
        name: (gzip.decompress(data) if name.endswith(".gz") else data).decode().rstrip("\n")
        for name, data in collector.files().items()
    }


@needs_logrotate
def test_logrotate_as_the_docs_have_it_loses_and_doubles_none_of_400000_records(
    make_collector: MakeCollector, tmp_path: Path, record_property: Property
) -> None:
    collector = make_collector(TEXT + '[rollover]\nwhen = "never"\n').start()
    stanza = stanza_of_the_docs(collector)
    sent = rotate_under_load(collector, tmp_path, stanza)
    assert collector.stop() == 0
    result = found(collector.directory)
    names = collector.files().keys()
    report(record_property, records=len(result.records), files=len(names))
    assert (0, 0, []) == (result.missing(sent), result.doubled, result.torn)
    generations = [f".{ROTATIONS}.gz", ".2.gz", ".1", ""]
    assert {f"load_{n}.log{end}" for n in range(LOGGERS) for end in generations} <= names
    assert ROTATIONS == collector.stderr.count("SIGHUP: changed: nothing")


@needs_logrotate
def test_the_collector_goes_on_as_it_should_after_copytruncate(
    make_collector: MakeCollector, tmp_path: Path, record_property: Property
) -> None:
    """What is written between copy and truncation is lost, as logrotate's manual says; nothing else is."""
    collector = make_collector(TEXT + '[rollover]\nwhen = "never"\n').start()
    stanza = f"{collector.directory}/*.log {{\n  rotate 100\n  copytruncate\n}}\n"
    sent = rotate_under_load(collector, tmp_path, stanza)
    after = range(1000)
    collector.send(b"".join(make_frame(f"after {n}", "load.0") for n in after))
    assert collector.stop() == 0
    lines = (collector.directory / "load_0.log").read_text().splitlines()
    assert [f"load.0 after {n}" for n in after] == lines[-len(after) :]
    assert not [name for name, data in collector.files().items() if b"\0" in data], "no file has a hole"
    result = found(collector.directory)
    torn = len(result.torn) - len(after)
    report(record_property, lost_by_logrotate=result.missing(sent), torn_by_logrotate=torn)
    assert result.doubled == 0
    # A copy may end, and what is written after the truncation begin, inside a line.
    assert torn <= 2 * ROTATIONS * LOGGERS
    assert f"{sent + len(after)} written" in collector.stderr
    assert os.stat(collector.directory / "load_0.log").st_size == len("\n".join(lines)) + 1
