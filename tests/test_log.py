from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from collector.log import Limit, counted
from tests.support.collectors import messages
from tests.support.frames import make_frame
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.collectors import Collector


def event(
    level: int = logging.ERROR, text: str = "it broke: %s", argument: str = "x", **extra: str
) -> logging.LogRecord:
    record = logging.LogRecord("collector", level, "", 0, text, (argument,), None)
    record.__dict__.update(extra)
    return record


def a_minute_later(monkeypatch: pytest.MonkeyPatch) -> None:
    later = time.monotonic() + 61
    monkeypatch.setattr("collector.log.time.monotonic", lambda: later)


@pytest.mark.parametrize(
    ("level", "allowed"), [(logging.INFO, 1000), (logging.WARNING, 20), (logging.ERROR, 20)]
)
def test_a_kind_of_event_has_so_many_lines_a_minute(level: int, allowed: int) -> None:
    limit = Limit()
    assert allowed == sum(limit.filter(event(level)) for _ in range(allowed + 100))


def test_the_next_line_tells_how_many_were_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = Limit()
    for n in range(123):
        limit.filter(event(argument=str(n)))
    a_minute_later(monkeypatch)
    later = event(argument="later")
    assert limit.filter(later)
    assert later.getMessage() == "it broke: later (103 more like it left out)"


def test_one_level_does_not_use_up_the_lines_of_another() -> None:
    limit = Limit()
    for _ in range(100):
        limit.filter(event(logging.INFO))
    assert limit.filter(event(logging.WARNING))


def test_one_kind_does_not_use_up_the_lines_of_another() -> None:
    limit = Limit()
    for _ in range(100):
        limit.filter(event())
    assert limit.filter(event(text="something else: %s"))


def test_one_reason_does_not_use_up_the_lines_of_another() -> None:
    limit = Limit()
    for _ in range(100):
        limit.filter(event(about="plain", cause="192.0.2.1"))
    assert limit.filter(event(about="expired", cause="192.0.2.1"))


def test_one_client_does_not_use_up_the_lines_of_another() -> None:
    limit = Limit()
    for _ in range(100):
        limit.filter(event(about="plain", cause="192.0.2.1"))
    assert 20 == sum(limit.filter(event(about="plain", cause="192.0.2.2")) for _ in range(100))


@pytest.mark.parametrize(("level", "allowed"), [(logging.INFO, 2000), (logging.WARNING, 200)])
def test_a_flood_of_addresses_floods_neither_the_log_nor_the_memory(level: int, allowed: int) -> None:
    limit = Limit()
    for n in range(allowed):
        assert limit.filter(event(level, cause=f"first {n}"))
    tracemalloc.start()
    try:
        assert 0 == sum(limit.filter(event(level, cause=f"2001:db8::{n:x}")) for n in range(20_000))
        assert tracemalloc.get_traced_memory()[0] < 20_000
    finally:
        tracemalloc.stop()


def test_a_hundred_busy_clients_leave_the_others_a_first_line_and_share_the_further_ones() -> None:
    limit = Limit()
    written = sum(limit.filter(event(cause=f"192.0.2.{n}")) for _ in range(100) for n in range(100))
    assert 100 + 200 == written
    assert limit.filter(event(cause="198.51.100.1"))
    assert not limit.filter(event(cause="198.51.100.1"))


def test_the_next_line_tells_who_caused_most_of_what_was_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = Limit()
    for address, events in (("192.0.2.1", 30), ("192.0.2.2", 120), ("192.0.2.3", 5)):
        for _ in range(events):
            limit.filter(event(cause=address))
    a_minute_later(monkeypatch)
    later = event(cause="192.0.2.3")
    assert limit.filter(later)
    told = "it broke: x (110 more like it left out, 100 of them by 192.0.2.2)"
    assert told == later.getMessage()


def test_of_a_flood_of_addresses_the_next_line_tells_how_many_were_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit = Limit()
    for n in range(5000):
        limit.filter(event(cause=f"2001:db8::{n:x}"))
    a_minute_later(monkeypatch)
    later = event(cause="2001:db8::1")
    assert limit.filter(later)
    assert later.getMessage() == "it broke: x (4800 more like it left out, 4800 of them by others)"


def test_at_the_end_an_example_tells_what_was_left_out() -> None:
    code = """
import logging
from collector import log
log.set_up(logging.INFO)
for number in range(30):
    by = f"192.0.2.{number % 2}"
    logging.getLogger("collector").error("client %s: %d bytes", by, number, extra={"about": "x", "cause": by})
    logging.getLogger("collector").error("the same %s for all", "word", extra={"about": str(number < 25)})
log.say_last("the end")
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    last = result.stderr.splitlines()[-2:]
    assert "%" not in result.stderr
    assert last[0].endswith(" ERROR 5 more left out like: the same word for all")
    assert last[1].endswith(" INFO the end")


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 records wait"), (1, "1 record waits"), (2, "2 records wait")]
)
def test_a_number_has_its_noun(number: int, text: str) -> None:
    assert text == counted(number, "record", "waits", "wait")
    assert text.rpartition(" ")[0] == counted(number, "record")


def test_a_number_may_have_its_thousands_apart() -> None:
    assert "12,345 records wait" == counted(12345, "record", "waits", "wait", form=",")


def test_no_line_counts_one_as_many(make_collector: Callable[..., Collector]) -> None:
    collector = make_collector().start()
    collector.send(make_frame("one"))
    collector.send(b"\0\0\0\1x")
    within(5, lambda: "frame of 1 byte quarantined: " in collector.stderr)
    within(5, lambda: "disconnected after 1 record, " in collector.stderr)
    collector.stop(signal.SIGTERM)
    assert "stopped: 2 records received from 2 clients, 1 written, 1 quarantined" in collector.stderr
    assert [] == re.findall(r"(?<![\d.])1 (?:records|bytes|clients|files|lines)\b.*", collector.stderr)


def test_several_faults_of_a_batch_are_limited_by_reason_and_client(collector: Collector) -> None:
    no_record = b"\0\0\0\2N."
    no_pickle = b"\0\0\0\1x"
    collector.send(no_pickle * 200 + no_record + make_frame("after"))
    within(5, lambda: messages(collector) == ["after"])
    with socket.create_connection(("127.0.0.1", collector.port), source_address=("127.0.0.2", 0)) as other:
        other.sendall(no_pickle)
        within(5, lambda: "client 127.0.0.2:" in collector.stderr)
        within(5, lambda: collector.stderr.count("frame of 1 byte quarantined") == 21)
    assert 1 == collector.stderr.count("frame of 2 bytes quarantined")
    assert collector.stop() == 0
    assert re.search(r"180 more left out like: client \S+: frame of 1 byte quarantined: ", collector.stderr)
    assert ", 180 of them by 127.0.0.1\n" in collector.stderr


def test_however_many_files_cannot_be_written_each_is_named(collector: Collector) -> None:
    names = [f"app{n}" for n in range(50)]
    for name in names:
        (collector.directory / f"{name}.log").mkdir()
    collector.send(b"".join(make_frame("x", name) for name in names))
    for name in names:
        within(5, lambda name=name: f"{name}.log: cannot be written" in collector.stderr)  # type: ignore[misc]
    within(5, lambda: collector.stderr.count("cannot be written") > 50, "some retries are told too")
    assert collector.stderr.count("cannot be written") <= 70
    for name in names:
        (collector.directory / f"{name}.log").rmdir()
    within(10, lambda: len(collector.files()) == 50)


@pytest.mark.quick
def test_text_from_the_wire_is_escaped_and_cut(collector: Collector) -> None:
    name = b"c__main__\nEvil\x1b[2J" + b"x" * 5000 + b"\n)R."
    collector.send(len(name).to_bytes(4, "big") + name)
    within(5, lambda: "quarantined" in collector.stderr)
    (line,) = [line for line in collector.stderr.splitlines() if "quarantined" in line]
    assert line.isprintable()
    assert len(line) < 600


AS_JSON = """
import logging
from collector import log
log.set_up(logging.INFO, "json")
try:
    raise ValueError("from the wire\\n\\x1b[2J\\u2028\\x85" + 100_000 * "x")
except ValueError:
    logging.getLogger("collector.listen.client").exception("a \\"fault\\" of %s", "世界")
log.say("listening on HOST:PORT")
print(log.answer("one\\ntwo"))
log.say_last("the end")
logging.shutdown()
"""


def test_as_json_an_event_is_an_object_on_one_line() -> None:
    result = subprocess.run(
        [sys.executable, "-c", AS_JSON], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert result.stderr.replace("\n", "").isprintable()
    assert 3 == len(result.stderr.splitlines())
    fault, said, last = (json.loads(line) for line in result.stderr.splitlines())
    assert ("ERROR", "collector.listen.client") == (fault["level"], fault["logger"])
    assert 'a "fault" of 世界' == fault["message"]
    assert "ValueError: from the wire\n\x1b[2J\u2028\x85xxx" in fault["exception"]
    assert len(fault["exception"]) < 10_010
    assert ("INFO", "listening on HOST:PORT", "the end") == (said["level"], said["message"], last["message"])
    answered = [json.loads(line) for line in result.stdout.splitlines()]
    assert [("ERROR", "one"), ("ERROR", "two")] == [(one["level"], one["message"]) for one in answered]


UNREAD = """
import logging, os, sys
from collector import log
read_end, write_end = os.pipe()
os.dup2(write_end, 2)
log.set_up(logging.INFO, "json")
for number in range(1000):
    log.say("x" * 1000)
while True:
    log.say("x" * 1000)
    if log._stderr._left_out:
        break
os.set_blocking(read_end, False)
text = ""
while log._stderr._waiting.unfinished_tasks:
    try:
        text += os.read(read_end, 65536).decode()
    except BlockingIOError:
        pass
log.say("the last one")
logging.shutdown()
text += os.read(read_end, 65536).decode()
print(text)
"""


def test_as_json_the_number_of_lines_left_out_is_in_the_object() -> None:
    result = subprocess.run(
        [sys.executable, "-c", UNREAD], capture_output=True, text=True, check=True, timeout=30
    )
    lines = [json.loads(line) for line in result.stdout.splitlines() if line]
    assert "the last one" == lines[-1]["message"]
    assert [lines[-1]] == [line for line in lines if "lines_left_out" in line]
    assert 1 <= lines[-1]["lines_left_out"]


UNCAUGHT = """
import threading
from collector import log
log.set_up(20, "json")
thread = threading.Thread(target=lambda: 1 // 0, name="beside")
thread.start()
thread.join()
{}["from the wire\\n"]
"""


def test_what_nobody_has_caught_has_the_form_of_the_log() -> None:
    """A line of the interpreter's is none that whoever collects JSON can read."""
    result = subprocess.run([sys.executable, "-c", UNCAUGHT], capture_output=True, text=True, check=False)
    assert 1 == result.returncode
    faults = [json.loads(line) for line in result.stderr.splitlines()]
    assert [
        ("ERROR", "a fault in the collector; it ends the thread beside"),
        ("ERROR", "a fault in the collector; it ends this process"),
    ] == [(fault["level"], fault["message"]) for fault in faults]
    ends = [fault["exception"].splitlines()[-1] for fault in faults]
    assert ["ZeroDivisionError: integer division or modulo by zero", "KeyError: 'from the wire\\n'"] == ends


FAULTY = """
import logging
from collector import log
log.set_up(logging.INFO)
try:
    raise ValueError("from the wire\\n2026-11-26 00:00:00 ERROR forged\\x1b[2J" + {size} * "\\n")
except ValueError:
    logging.getLogger("collector").exception("a fault")
logging.shutdown()
"""


@pytest.mark.parametrize("size", [0, 1_000_000])
def test_text_from_the_wire_in_a_traceback_is_escaped_cut_and_no_line_of_its_own(size: int) -> None:
    program = FAULTY.format(size=size)
    stderr = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stderr
    event, *trace = stderr.rstrip("\n").split("\n")
    assert event.endswith(" ERROR a fault")
    assert "  ValueError: from the wire" in trace
    assert r"  2026-11-26 00:00:00 ERROR forged\x1b[2J" in trace
    assert all(line.startswith("  ") for line in trace if line)
    assert len(stderr) < 50_000


def test_who_does_not_read_stderr_stops_nobody(make_collector: Callable[..., Collector]) -> None:
    collector = make_collector('[log]\nlevel = "INFO"\n')
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)
    collector.process = subprocess.Popen(
        [sys.executable, "-m", "collector", "run", "-c", str(collector.config)], stderr=write_end
    )
    os.close(write_end)
    begin = ""
    while "listening on" not in begin or not begin.endswith("\n"):
        begin += os.read(read_end, 1000).decode()
    collector.port = int(re.findall(r"listening on \S+:(\d+)", begin)[0])
    for _ in range(200):
        collector.send(make_frame("x" * 50))
    within(10, lambda: len(messages(collector)) == 200)
    assert collector.stop() == 0
    os.close(read_end)


TALKATIVE = """
import logging, os, threading, time
from collector import log
log.set_up(logging.{level})
mine = logging.getLogger("collector")
def talk():
    while True:
        mine.error("a word")
threading.Thread(target=talk, daemon=True).start()
time.sleep(0.1)
log.say_last("the last one")
mine.error("too late")
logging.shutdown()
os._exit(0)
"""


@pytest.mark.parametrize(
    ("level", "last"), [("INFO", "INFO the last one"), ("WARNING", "more left out like: a word")]
)
def test_nothing_comes_after_the_last_line_whatever_a_thread_says(level: str, last: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", TALKATIVE.format(level=level)], capture_output=True, text=True, check=True
    )
    lines = result.stderr.splitlines()
    assert lines[-1].endswith(last)
    assert 21 + lines[-1].endswith("one") == len(lines), "twenty words, how many more, and the last line"


def test_stopped_twice_the_totals_come_last_with_what_is_lost(
    make_collector: Callable[..., Collector],
) -> None:
    collector = make_collector().start()
    (collector.directory / "app.log").mkdir()
    collector.send(make_frame("stays"))
    within(5, lambda: "cannot be written" in collector.stderr)
    assert collector.process
    process = collector.process
    process.send_signal(signal.SIGTERM)
    within(5, lambda: "SIGTERM: draining" in collector.stderr)

    def stopped() -> bool:
        process.send_signal(signal.SIGTERM)
        return "SIGTERM again: stopping at once" in collector.stderr

    within(5, stopped, "one that comes at once is taken for the first")
    assert 1 == process.wait(10)
    assert "app.log: 1 record is lost" in collector.stderr
    last = collector.stderr.splitlines()[-1]
    assert "stopped: 1 record received from 1 client, 0 written, 0 quarantined, 1 dropped" in last
