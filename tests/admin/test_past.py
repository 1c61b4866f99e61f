"""What the admin port answers from the past: records, counts and exceptions, of a real collector."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import logging
import os
import signal
import threading
import time
from contextlib import closing
from logging.handlers import SocketHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from tests.support.admin import ADMIN, SECONDS, ask, log, stats, watching
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.collectors import Collector

    MakeCollector = Callable[..., Collector]

JSON = f'{ADMIN}[format]\nstyle = "json"\n'
# It takes longer than anybody waits, on a record of this text.
ENDLESS = quote("(a+)+b")
SLOW_TEXT = "a" * 60
# What searches is in the idle class: on a busy machine it has to wait.
PATIENCE = 10 * SECONDS


@pytest.fixture(params=[ADMIN, JSON], ids=["text", "JSON"])
def admin(request: pytest.FixtureRequest, make_collector: MakeCollector) -> Collector:
    return make_collector(request.param).start()


@pytest.fixture
def collector(make_collector: MakeCollector) -> Collector:
    return make_collector(ADMIN).start()


def logged(collector: Collector, *records: tuple[str, int, str]) -> None:
    """Log *records*, and return once they are in their files."""
    before = stats(collector)["records"]["written"]
    log(collector, *records)
    within(SECONDS, lambda: stats(collector)["records"]["written"] == before + len(records))


def fail(collector: Collector, number: int, message: str = "failed") -> None:
    handler = SocketHandler("127.0.0.1", collector.port)
    record = logging.LogRecord("shop", logging.ERROR, __file__, 1, message, None, None)
    frame = f'  File "/srv/shop/pay.py", line {number}, in pay'
    record.exc_text = f"Traceback (most recent call last):\n{frame}\nKeyError: {number}"
    handler.emit(record)
    handler.close()


def get(collector: Collector, path: str, query: str = "") -> dict[str, Any]:
    with closing(
        http.client.HTTPConnection("127.0.0.1", collector.admin_port, timeout=PATIENCE)
    ) as connection:
        connection.request("GET", f"/api/{path}?{query}")
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body
        return json.loads(body)  # type: ignore[no-any-return]


def messages(collector: Collector, query: str = "") -> list[str]:
    answer = get(collector, "records", query)
    assert (True, "") == (answer["complete"], answer["why"])
    return [record["message"] for record in answer["records"]]


def searching(collector: Collector) -> list[int]:
    """Return the processes that search for somebody."""
    path = f"/proc/{collector.worker}/task/{collector.worker}/children"
    found = []
    for task in os.listdir(f"/proc/{collector.worker}/task"):
        with open(path.replace(f"task/{collector.worker}", f"task/{task}"), encoding="ascii") as file:
            found += [int(child) for child in file.read().split()]
    return found


def is_there(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat", encoding="ascii") as file:
            return file.read().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


# --- Records ---


def test_records_come_newest_first_as_the_stream_has_them(admin: Collector) -> None:
    logged(admin, ("app", logging.INFO, "one"), ("app.web", logging.ERROR, "two"))
    newest, oldest = get(admin, "records")["records"]

    assert ("app.web", "ERROR", 40, "two") == tuple(
        newest[key] for key in ("logger", "level", "levelno", "message")
    )
    assert ("app", "INFO", 20, "one") == tuple(
        oldest[key] for key in ("logger", "level", "levelno", "message")
    )
    assert newest["timestamp"].endswith("Z")


def test_pages_by_cursor_are_all_records_each_once(admin: Collector) -> None:
    logged(admin, *((f"app.{n % 3}", logging.INFO, f"record {n}") for n in range(50)))
    found: list[str] = []
    cursor = ""
    while True:
        answer = get(admin, "records", f"limit=7&before={cursor}")
        found += [record["message"] for record in answer["records"]]
        if len(answer["records"]) < 7:
            break
        cursor = answer["cursor"]
        assert cursor == answer["records"][-1]["cursor"]

    assert sorted(f"record {n}" for n in range(50)) == sorted(found)


def test_newer_ones_than_a_cursor(admin: Collector) -> None:
    logged(admin, *(("app", logging.INFO, f"record {n}") for n in range(5)))
    cursor = get(admin, "records", "limit=3")["cursor"]

    assert ["record 4", "record 3"] == messages(admin, f"after={cursor}")


@pytest.mark.parametrize("beginning", ["0", "1970-01-01Z", "1", "9999w"])
def test_after_the_beginning_of_time_come_the_oldest_ones(admin: Collector, beginning: str) -> None:
    logged(admin, *(("app", logging.INFO, f"record {n}") for n in range(5)))
    first = get(admin, "records", f"limit=3&after={beginning}")

    assert ["record 2", "record 1", "record 0"] == [record["message"] for record in first["records"]]
    assert ["record 4", "record 3"] == messages(admin, f"after={first['cursor']}")


def test_after_alone_goes_on_with_the_next_ones_and_with_before_it_has_the_newest(admin: Collector) -> None:
    logged(admin, *(("app", logging.INFO, f"record {n}") for n in range(9)))
    answer = get(admin, "records", "limit=3&after=2001-01-01T00:00:00Z")

    assert ["record 2", "record 1", "record 0"] == [record["message"] for record in answer["records"]]
    assert answer["cursor"] == answer["records"][0]["cursor"]
    assert ["record 5", "record 4", "record 3"] == messages(admin, f"limit=3&after={answer['cursor']}")
    both = f"limit=3&after={answer['cursor']}&before=2101-01-01T00:00:00Z"
    assert ["record 8", "record 7", "record 6"] == messages(admin, both)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("level=warning", ["two", "Three (3)"]),
        ("logger=app", ["two", "one"]),
        ("text=three", ["Three (3)"]),
        (f"regex={quote('T.*[(]3')}", ["Three (3)"]),
        ("client=127.0.0.2", []),
        ("limit=1", ["Three (3)"]),
        ("limit=0", []),
        ("before=2001-01-01T00:00:00Z", []),
        ("before=1000000000.5", []),
        ("before=yesterday", []),
        ("before=1h30m", []),
        ("after=10m&level=40", ["Three (3)"]),
        ("after=2001-01-01T00:00:00%2B02:00&level=40", ["Three (3)"]),
    ],
)
def test_the_filters_apply_as_to_the_stream(
    make_collector: MakeCollector, query: str, expected: list[str]
) -> None:
    collector = make_collector(JSON).start()
    records = (("app", 20, "one"), ("app.x", 30, "two"), ("other", 40, "Three (3)"))
    for record in records:
        logged(collector, record)

    assert sorted(expected) == sorted(messages(collector, query))


def test_what_no_record_can_match_finds_none(collector: Collector) -> None:
    logged(collector, ("app", logging.INFO, "one"))
    odd = ("text=%00", "text=%ff%fe", f"text={'x' * 8000}", "logger=%00", "logger=../..")
    for query in (*odd, "regex=%00", "regex=%ed%a0%80", "before=-1e12", "after=1e300", "after=1&before=0"):
        assert [] == messages(collector, query), query


def test_a_record_that_cannot_be_read_costs_no_other(collector: Collector) -> None:
    """Each can stand in a message of a client, behind a newline."""
    begin = '{"timestamp":"2026-11-26T10:00:00.000000Z","level":"INFO","logger":"app","message":"%s"'
    begin = "\n" + begin
    lines = (
        begin % "deep" + ',"extra":' + "[" * 50_000 + "]" * 50_000 + "}",
        begin % "no number" + ',"extra":{"a":NaN,"b":-Infinity}}',
        (begin % "long level" + "}").replace("INFO", "Level " + "9" * 10_000),
        begin % "long number" + ',"line":' + "9" * 10_000 + "}",
        begin % "other kinds" + ',"level":["x"],"logger":{"a":1},"message":{"b":2},"client":null}',
        "\n[2026-11-26 10:00:00]: app INFO --5 x",
        "\n[2026-11-26 10:00:00]: app INFO " + "9" * 10_000 + " x",
    )
    logged(collector, *(("app", logging.INFO, f"before {n}{each}") for n, each in enumerate(lines)))

    def no_number(text: str) -> None:
        raise AssertionError(text)

    status, _, body = ask(collector, "/api/records")
    assert 200 == status
    found = json.loads(body, parse_constant=no_number)
    assert (True, "") == (found["complete"], found["why"])
    shown = {record["message"]: record for record in found["records"]}
    assert {f"before {n}" for n in range(7)} | {"no number", '{"b": 2}'} < {*shown}
    assert {"a": "NaN", "b": "-Infinity"} == shown["no number"]["extra"]
    assert lines[0].strip()[:1000] in "".join(shown), "what cannot be read is shown as it is"
    assert "before 6" in messages(collector, "text=before&level=INFO")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("text=" + quote('say "hi"'), ['Say "HI" C:\\new']),
        ("text=" + quote("c:\\NEW"), ['Say "HI" C:\\new']),
        ("text=keyerror", ["failed"]),
        ("text=shop", ["one", "failed"]),  # the logger, as in the file
        ("regex=" + quote('^Say "HI"'), ['Say "HI" C:\\new']),
        ("regex=" + quote("^one$"), ["one"]),
        ("regex=" + quote("KeyError: [0-9]$"), ["failed"]),
        ("regex=" + quote("^(failed|one)"), ["one", "failed"]),
    ],
)
def test_text_and_regex_find_the_same_in_the_stream_and_in_history(
    admin: Collector, query: str, expected: list[str]
) -> None:
    with watching(admin, query) as viewer:
        log(
            admin,
            ("app", logging.INFO, "nothing 1"),
            ("app", logging.INFO, 'Say "HI" C:\\new'),
            ("shop", logging.INFO, "one"),
        )
        fail(admin, 7)
        assert expected == [viewer.message() for _ in expected]
    assert sorted(expected) == sorted(messages(admin, query))


@pytest.mark.parametrize(
    ("text", "query", "why"),
    [
        ("%(asctime)s %(message)s", "level=INFO", "level: lines of [format] text = "),
        ("%(asctime)s %(message)s", "client=[", "client: lines of [format] text = "),
        ("%(levelname)s %(message)s", "before=10m", "before: [format] text = "),
        ("%(levelname)s %(message)s", "level=INFO&after=10m", "after: [format] text = "),
    ],
)
def test_what_the_format_does_not_tell_is_said_as_tail_says_it(
    make_collector: MakeCollector, text: str, query: str, why: str
) -> None:
    collector = make_collector(f"{ADMIN}[format]\ntext = '{text}'\n").start()
    logged(collector, ("app", logging.INFO, "one"))
    answer = get(collector, "records", query)

    assert not answer["complete"]
    assert answer["why"].startswith(why)
    assert 'or use style = "json"' in answer["why"]
    page = get(collector, "records", f"before={get(collector, 'records')['cursor']}")
    assert ([], True, "") == (page["records"], page["complete"], page["why"])


@pytest.mark.parametrize(
    ("path", "query", "rule"),
    [
        ("records", "limit=1001", "must be a whole number from 0 to 1000"),
        ("records", "limit=x", "must be a whole number"),
        ("records", "level=loud", "level = loud: must be one of"),
        ("records", "colour=red", "unknown: colour; there are before, after, level"),
        ("records", "regex=(", "regex = (: must be a regular expression of Python's: missing )"),
        ("stream", "regex=(", "regex = (: must be a regular expression of Python's: missing )"),
        ("stream", "level=loud", "level = loud: must be one of"),
        ("records", "after=20:55+02:00", "in an address, + is written %2B"),
        ("records", f"before={base64.urlsafe_b64encode(b'[' * 4000).decode()}", "or the cursor of a record"),
        ("records", "after=25:00", "must be how long ago, such as 10m"),
        ("records", "before=never", "or the cursor of a record"),
        ("counts", "from=never", "or seconds since 1970"),
        ("counts", "to=nan", "or seconds since 1970"),
        ("exceptions", "since=x", "or seconds since 1970"),
        ("exceptions", "before=1", "unknown: before; there are since"),
        ("stream", "last=9999", "must be a whole number from 0 to 1000"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_the_rule(
    collector: Collector, path: str, query: str, rule: str
) -> None:
    status, _, body = ask(collector, f"/api/{path}?{query}")

    assert 400 == status
    assert rule in body


def test_a_traceback_is_apart_from_its_message(admin: Collector) -> None:
    fail(admin, 1)
    within(SECONDS, lambda: stats(admin)["records"]["written"] == 1)
    (record,) = get(admin, "records")["records"]

    assert "failed" == record["message"]
    assert record["exception"].endswith("KeyError: 1")


def test_an_answer_that_would_be_too_large_says_so_and_goes_on(make_collector: MakeCollector) -> None:
    collector = make_collector(JSON).start()
    logged(collector, *(("app", logging.INFO, f"{n} " + "x" * 50_000) for n in range(250)))
    answer = get(collector, "records", "limit=1000")

    assert (False, "stopped at 8 MB of records") == (answer["complete"], answer["why"])
    rest = get(collector, "records", f"limit=1000&before={answer['cursor']}")["records"]
    assert 250 == len(answer["records"]) + len(rest)


def test_a_value_that_is_too_long_is_cut_and_says_so(admin: Collector) -> None:
    logged(admin, ("app", logging.INFO, "x" * 100_000))
    (record,) = get(admin, "records")["records"]

    assert (True, 64 * 1024) == (record["cut"], len(record["message"]))


def test_what_searches_is_in_the_idle_class_within_its_limits(collector: Collector) -> None:
    logged(collector, ("app", logging.INFO, SLOW_TEXT))
    with closing(http.client.HTTPConnection("127.0.0.1", collector.admin_port)) as connection:
        connection.request("GET", f"/api/records?regex={ENDLESS}")
        within(PATIENCE, lambda: [one for one in searching(collector) if os.sched_getscheduler(one)])
        (process,) = searching(collector)
        assert os.SCHED_IDLE == os.sched_getscheduler(process)

        def limits() -> str:
            with open(f"/proc/{process}/limits", encoding="ascii") as file:
                return " ".join(file.read().split())

        within(PATIENCE, lambda: "Max cpu time 10 11 seconds" in limits())
        assert f"Max address space {128 * 1024 * 1024} {128 * 1024 * 1024} bytes" in limits()
    within(SECONDS, lambda: not searching(collector))  # its client has gone


def test_a_search_that_takes_too_long_ends_and_says_so(collector: Collector) -> None:
    logged(collector, ("app", logging.INFO, SLOW_TEXT))
    answer = get(collector, "records", f"regex={ENDLESS}")

    assert not answer["complete"]
    assert [SLOW_TEXT] == messages(collector, f"before={answer['cursor']}")  # it is still to be looked at
    path = collector.directory / "app.log"
    assert answer["why"] in (f"stopped after 10 s of CPU in {path}", f"stopped after 30 s in {path}")
    within(SECONDS, lambda: not searching(collector))


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "compressed"])
def test_pages_go_on_past_a_file_that_takes_too_long_and_name_it(
    collector: Collector, compressed: bool
) -> None:
    logged(collector, ("old", logging.INFO, "aab 1"), ("old", logging.INFO, "aab 2"))
    logged(collector, ("slow", logging.INFO, SLOW_TEXT), ("new", logging.INFO, "aab 3"))
    path = collector.directory / "slow.log"
    if compressed:
        status, data = path.stat(), path.read_bytes()
        path.unlink()
        path = path.with_name("slow.log.2026-11-25.gz")
        path.write_bytes(gzip.compress(data))
        os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))
    answers: list[dict[str, Any]] = []
    cursor = ""
    while not answers or cursor:
        answers.append(get(collector, "records", f"regex={ENDLESS}&limit=2&before={cursor}"))
        assert not answers[-1]["complete"]
        cursor = answers[-1]["cursor"]

    found = [record["message"] for answer in answers for record in answer["records"]]
    assert ["aab 3", "aab 2", "aab 1"] == sorted(found, reverse=True)
    told = [answer["why"] for answer in answers]
    left_out = f"stopped after 10 s of CPU in {path}, which is left out of what is asked from here on"
    assert 1 == told.count(left_out), told
    assert {f"{path}: left out, as it takes too long to search"} == {*told[told.index(left_out) + 1 :]}


def test_at_most_four_search_at_a_time_and_a_fifth_is_told_when_to_come_again(collector: Collector) -> None:
    logged(collector, ("app", logging.INFO, SLOW_TEXT))
    four = [http.client.HTTPConnection("127.0.0.1", collector.admin_port) for _ in range(4)]
    for connection in four:
        connection.request("GET", f"/api/records?regex={ENDLESS}")
    within(PATIENCE, lambda: len(searching(collector)) == 4)
    status, headers, _ = ask(collector, "/api/records")
    assert (503, "5") == (status, headers["Retry-After"])

    threading.Timer(1, four[0].close).start()  # a place gets free while the next one waits
    assert [SLOW_TEXT] == messages(collector)
    for connection in four:
        connection.close()
    within(SECONDS, lambda: not searching(collector))


def test_no_process_outlives_a_worker_that_is_killed(collector: Collector) -> None:
    logged(collector, ("app", logging.INFO, SLOW_TEXT))
    with closing(http.client.HTTPConnection("127.0.0.1", collector.admin_port)) as connection:
        connection.request("GET", f"/api/records?regex={ENDLESS}")
        within(PATIENCE, lambda: [one for one in searching(collector) if os.sched_getscheduler(one)])
        (process,) = searching(collector)
        os.kill(collector.worker, signal.SIGKILL)

        within(SECONDS, lambda: not is_there(process))


def test_searching_goes_by_the_configuration_in_force(collector: Collector) -> None:
    logged(collector, ("app", logging.INFO, "as text"))
    collector.configure(JSON)
    assert collector.process
    collector.process.send_signal(signal.SIGHUP)
    within(SECONDS, lambda: "SIGHUP: changed: [format] style" in collector.stderr)
    logged(collector, ("app", logging.INFO, "as JSON"))

    assert ["as JSON"] == messages(collector, "limit=1")


# --- The stream ---


def test_the_stream_begins_with_the_last_records_through_its_filters(admin: Collector) -> None:
    for n in range(6):
        logged(admin, ("app", logging.INFO, f"old {n}"), ("other", logging.INFO, "not these"))
    with watching(admin, "last=3&logger=app") as viewer:
        assert [f"old {n}" for n in (3, 4, 5)] == [viewer.message() for _ in range(3)]
        name, end = viewer.event()
        assert ("history", True, "") == (name, end["complete"], end["why"])
        log(admin, ("app", logging.INFO, "new"))
        assert "new" == viewer.message()


def test_under_load_history_and_stream_have_each_record_once(admin: Collector) -> None:
    stopped = threading.Event()

    def send() -> None:
        with closing(SocketHandler("127.0.0.1", admin.port)) as handler:
            n = 0
            while not stopped.wait(0.005):
                handler.emit(logging.LogRecord("app", logging.INFO, __file__, 1, str(n), None, None))
                n += 1

    sender = threading.Thread(target=send)
    sender.start()
    try:
        within(SECONDS, lambda: len(admin.lines("app.log")) > 100)
        with watching(admin, "last=50") as viewer:
            events = [viewer.event() for _ in range(400)]
    finally:
        stopped.set()
        sender.join()
    numbers = [int(record["message"]) for name, record in events if name == "message"]

    assert ["history"] == [name for name, _ in events if name != "message"]
    assert list(range(numbers[0], numbers[0] + len(numbers))) == numbers


# --- Counts and exceptions ---


def test_counts_and_exceptions_are_there_after_a_stop_and_a_start(collector: Collector) -> None:
    begun = time.time()
    logged(collector, *[("app", logging.INFO, "x")] * 3)
    fail(collector, 1)
    fail(collector, 2, "failed again")
    within(SECONDS, lambda: [group["count"] for group in get(collector, "exceptions")["groups"]] == [2])
    (group,) = get(collector, "exceptions", f"since={begun}")["groups"]
    assert ("KeyError", ["shop/pay.py:pay"], True, "failed again") == tuple(
        group[key] for key in ("class", "frames", "new", "message")
    )
    collector.stop()
    collector.start()
    log(collector, ("app", logging.INFO, "y"))

    def counts() -> dict[str, int]:
        levels = get(collector, "counts", f"from={begun}")["levels"]
        return {level: sum(values) for level, values in levels.items()}

    within(SECONDS, lambda: counts() == {"INFO": 4, "ERROR": 2})
    (again,) = get(collector, "exceptions")["groups"]
    assert {**group, "new": False} == again


def test_groups_that_are_known_are_not_sent_again(collector: Collector) -> None:
    def asked(known: str, since: str = "1h") -> tuple[int, str, str]:
        status, headers, body = ask(collector, f"/api/exceptions?since={since}", If_None_Match=known)
        return status, headers["ETag"], body

    fail(collector, 1)
    within(SECONDS, lambda: "KeyError" in asked("")[2])
    _, tag, _ = asked("")
    assert (304, tag, "") == asked(tag)
    assert 200 == asked(tag, since="0s")[0], "none is new since then"
    fail(collector, 1)
    within(SECONDS, lambda: asked(tag)[0] == 200)
    _, tag, _ = asked("")
    collector.stop()
    collector.start()
    within(SECONDS, lambda: "KeyError" in asked("")[2])
    assert 200 == asked(tag)[0], "another start has other versions"


def test_after_a_kill_they_are_as_they_were_some_seconds_before(collector: Collector) -> None:
    logged(collector, ("app", logging.INFO, "x"))
    fail(collector, 1)
    files = [collector.directory / name for name in (".counts", ".exceptions")]
    within(30, lambda: b"INFO" in files[0].read_bytes() and b"KeyError" in files[1].read_bytes())
    os.kill(collector.worker, signal.SIGKILL)
    within(SECONDS, lambda: collector.stderr.count("admin on") == 2)

    within(SECONDS, lambda: [one["class"] for one in get(collector, "exceptions")["groups"]] == ["KeyError"])
    assert 1 == sum(get(collector, "counts")["levels"]["INFO"])


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo], ids=["an error", "a disk that hangs"])
def test_where_they_cannot_be_kept_nothing_else_is_the_worse_for_it(
    make_collector: MakeCollector, make: Callable[[Path], None]
) -> None:
    """Nothing but the pipe of a FIFO makes open() wait as a hanging disk does."""
    collector = make_collector(ADMIN)
    collector.directory.mkdir()
    for name in (".counts", ".exceptions"):
        make(collector.directory / name)
    collector.start()
    logged(collector, ("app", logging.INFO, "x"))
    fail(collector, 1)

    within(SECONDS, lambda: [one["class"] for one in get(collector, "exceptions")["groups"]] == ["KeyError"])
    assert {"INFO": 1, "ERROR": 1} == {
        level: sum(values) for level, values in get(collector, "counts")["levels"].items()
    }
    assert ("cannot be read: Is a directory" in collector.stderr) == (make is os.mkdir)
    assert 0 == collector.stop()
