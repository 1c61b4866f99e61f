"""The admin port of a running collector, over HTTP: who may read, what is said, and who is slowed: nobody."""

from __future__ import annotations

import http.client
import itertools
import json
import logging
import os
import re
import select
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from logging.handlers import SocketHandler
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.admin import ADMIN, SECONDS, Viewer, ask, log, stats, watching
from tests.support.fleet import report, timed
from tests.support.places import FLOOD
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.collectors import Collector

    MakeCollector = Callable[..., Collector]


@pytest.fixture
def admin(make_collector: MakeCollector) -> Collector:
    return make_collector(ADMIN).start()


# --- What there is ---


def test_without_the_table_there_is_no_admin_port(collector: Collector) -> None:
    assert "admin on" not in collector.stderr


@pytest.mark.quick
def test_health_and_readiness_are_ok(admin: Collector) -> None:
    assert [(200, "ok\n")] * 2 == [ask(admin, path)[::2] for path in ("/healthz", "/readyz")]


def test_health_fails_with_the_reason_while_a_file_cannot_be_written(admin: Collector) -> None:
    blocked = admin.directory / "blocked.log"
    blocked.mkdir()
    log(admin, ("blocked", logging.INFO, "waits"))
    within(SECONDS, lambda: ask(admin, "/healthz")[0] == 503)

    assert f"{blocked}: cannot be written: " in ask(admin, "/healthz")[2]
    (failing,) = stats(admin)["files"]["failing"]
    assert (str(blocked), 1) == (failing["path"], failing["records"])

    blocked.rmdir()
    within(SECONDS, lambda: ask(admin, "/healthz")[0] == 200)


@pytest.mark.quick
def test_loggers_and_clients_are_listed_with_most_records_first(admin: Collector) -> None:
    handler = SocketHandler("127.0.0.1", admin.port)
    with closing(handler):
        for logger in ("few", "many", "many"):
            handler.emit(logging.LogRecord(logger, logging.INFO, __file__, 1, "x", None, None))
        within(SECONDS, lambda: stats(admin)["records"]["written"] == 3)
        clients = json.loads(ask(admin, "/api/clients")[2])

    assert [("many", 2), ("few", 1)] == [
        (logger["name"], logger["records"]) for logger in json.loads(ask(admin, "/api/loggers")[2])["loggers"]
    ]
    assert (1, 3, True) == (
        clients["total"],
        clients["clients"][0]["records"],
        clients["clients"][0]["reading"],
    )


def test_a_port_that_is_taken_keeps_it_from_starting(make_collector: MakeCollector) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        collector = make_collector(f"[admin]\nport = {port}\n")
        ended = subprocess.run(
            [sys.executable, "-m", "collector", "run", "-c", str(collector.config)],
            capture_output=True, check=False, timeout=SECONDS,
        )  # fmt: skip

    assert 2 == ended.returncode
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use; see [admin]" in ended.stderr.decode()


def test_a_port_taken_later_is_reported_and_tried_again_and_collecting_goes_on(
    make_collector: MakeCollector,
) -> None:
    collector = make_collector(ADMIN).start()
    port = collector.admin_port
    collector.configure(f"[admin]\nport = {port}\n")
    killed = collector.worker
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        os.kill(collector.process.pid, signal.SIGSTOP)  # type: ignore[union-attr]
        os.kill(killed, signal.SIGKILL)
        within(SECONDS, lambda: _can_bind(taken, port))
        taken.listen()
        os.kill(collector.process.pid, signal.SIGCONT)  # type: ignore[union-attr]
        within(SECONDS, lambda: "no admin port yet" in collector.stderr)
        log(collector, ("a", logging.INFO, "collected"))
        within(SECONDS, lambda: collector.lines("a.log"))
    within(SECONDS, lambda: collector.stderr.count("admin on") == 2)

    assert 200 == ask(collector, "/healthz")[0]


def _can_bind(sock: socket.socket, port: int) -> bool:
    try:
        sock.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True


# --- Who may read ---


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:9021", 200),
        ("[::1]:9021", 200),
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        (socket.gethostname(), 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example:9021", 421),
        ("", 421),
    ],
)
def test_only_a_host_that_no_foreign_name_server_can_give_is_served(
    admin: Collector, host: str, status: int
) -> None:
    assert status == ask(admin, "/api/stats", Host=host)[0]


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
@pytest.mark.parametrize("host", ["collector.logging.svc:9021", "evil.example", ""])
def test_health_is_answered_under_any_host(admin: Collector, path: str, host: str) -> None:
    assert 200 == ask(admin, path, Host=host)[0]


def test_further_names_are_served_and_hold_from_sighup_on(make_collector: MakeCollector) -> None:
    collector = make_collector(
        f'{ADMIN}names = ["Logs.Example.org", "collector", "bücher.example"]\n'
    ).start()

    def status_by_host() -> dict[str, int]:
        hosts = ["logs.example.org", "LOGS.example.org.:9021", "collector:9021", "xn--bcher-kva.example"]
        hosts += ["example.org", "localhost"]
        return {host: ask(collector, "/api/stats", Host=host)[0] for host in hosts}

    assert [200, 200, 200, 200, 421, 200] == list(status_by_host().values())
    collector.configure(f'{ADMIN}names = ["example.org"]\n')
    assert collector.process
    collector.process.send_signal(signal.SIGHUP)
    within(SECONDS, lambda: "SIGHUP: changed: [admin] names" in collector.stderr)
    assert [421, 421, 421, 421, 200, 200] == list(status_by_host().values())


def test_every_answer_has_a_strict_policy(admin: Collector) -> None:
    for path in ("/", "/nothing", "/api/stats"):
        headers = ask(admin, path)[1]
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "nosniff" == headers["X-Content-Type-Options"]
        assert "DENY" == headers["X-Frame-Options"]


def test_the_page_is_served_with_all_its_files_and_no_others(admin: Collector) -> None:
    _, headers, page = ask(admin, "/")
    assert "text/html; charset=utf-8" == headers["Content-Type"]
    assert "script-src 'self' 'sha256-" in headers["Content-Security-Policy"]
    assert not re.search(r"<script>|<style>|style=|onclick=", page), "nothing inline"
    wanted, seen = [*re.findall(r'(?:src|href)="(page/[^"]+)"', page)], set[str]()
    while wanted:
        name = wanted.pop()
        status, headers, text = ask(admin, f"/{name}")
        kind = "css" if name.endswith(".css") else "javascript"
        assert (200, f"text/{kind}; charset=utf-8") == (status, headers["Content-Type"]), name
        seen.add(name)
        found = {f"page/{other}" for other in re.findall(r'from "\./([^"]+)"', text)}
        wanted += found - seen
    assert {"page/page.css", "page/page.js", "page/words.js"} <= seen
    for path in ("/page/page.html", "/page/", "/page/../http.py", "/page/%2e%2e/http.py", "/page.css"):
        assert 404 == ask(admin, path)[0], path


def test_the_page_of_another_site_is_not_served(admin: Collector) -> None:
    assert 403 == ask(admin, "/api/stream", Sec_Fetch_Site="cross-site")[0]


def test_nothing_can_be_changed(admin: Collector) -> None:
    assert 405 == ask(admin, "/api/stats", "DELETE")[0]


@pytest.mark.quick
def test_with_a_token_nothing_but_health_is_served_without_it(make_collector: MakeCollector) -> None:
    collector = make_collector(f'{ADMIN}token = "s3cret"\n').start()

    paths = ("/", "/metrics", "/api/stream", "/api/stats", "/api/loggers", "/api/clients", "/nothing")
    assert dict.fromkeys(paths, 401) == {path: ask(collector, path)[0] for path in paths}
    assert [200, 200] == [ask(collector, path)[0] for path in ("/healthz", "/readyz")]
    assert 'name="token"' in ask(collector, "/")[2]
    assert 401 == ask(collector, "/api/stats", Authorization="Bearer wrong")[0]
    assert 200 == ask(collector, "/api/stats", Authorization="Bearer s3cret", Host="evil.example")[0]


def test_the_token_in_the_address_of_the_page_becomes_a_cookie(make_collector: MakeCollector) -> None:
    collector = make_collector(f'{ADMIN}token = "s3cret"\n').start()
    status, headers, _ = ask(collector, "/?token=s3cret")

    assert (303, "/") == (status, headers["Location"])
    assert "collector_token=s3cret; HttpOnly; SameSite=Strict; Path=/" == headers["Set-Cookie"]
    assert 200 == ask(collector, "/api/stats", Cookie="other=1; collector_token=s3cret")[0]
    status, _, form = ask(collector, "/?token=wrong")
    assert 401 == status
    assert "This token is wrong." in form
    assert "This token is wrong." not in ask(collector, "/")[2]
    assert 401 == ask(collector, "/page/page.js")[0]
    assert 401 == ask(collector, "/api/stats?token=s3cret")[0]


def test_no_token_is_in_the_log_at_any_level(make_collector: MakeCollector) -> None:
    log = '[log]\nlevel = "DEBUG"\n'
    collector = make_collector(f'[admin]\nport = 0\ntoken = "secret"\n{log}').start()
    for given in ("secret", "secreT"):
        ask(collector, f"/?token={given}")
        ask(collector, "/", Authorization=f"Bearer {given}")
    within(5, lambda: collector.stderr.count('"GET /') == 4)
    assert "GET /?*** HTTP/1.1" in collector.stderr
    assert "secre" not in collector.stderr


def test_another_token_holds_from_sighup_on(make_collector: MakeCollector) -> None:
    collector = make_collector(f'{ADMIN}token = "old"\n').start()
    assert 200 == ask(collector, "/api/stats", Authorization="Bearer old")[0]
    collector.configure(f'{ADMIN}token = "new"\n')
    assert collector.process
    collector.process.send_signal(signal.SIGHUP)
    within(SECONDS, lambda: "SIGHUP: changed: [admin] token" in collector.stderr)
    assert 401 == ask(collector, "/api/stats", Authorization="Bearer old")[0]
    assert 200 == ask(collector, "/api/stats", Authorization="Bearer new")[0]


def test_without_a_token_none_is_kept(admin: Collector) -> None:
    assert "Set-Cookie" not in ask(admin, "/?token=a;%20Domain=example.org")[1]


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"y" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/x\r\n\r\n",
        b"\xff\xfe\r\n\r\n",
    ],
    ids=["body", "chunked", "many headers", "long header", "long path", "version", "no HTTP"],
)
def test_a_request_that_is_none_is_refused_and_says_nothing_on_stderr(
    admin: Collector, request_bytes: bytes
) -> None:
    port = admin.admin_port
    before = admin.stderr
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as sock:
        sock.sendall(request_bytes)
        assert re.match(rb"HTTP/1.1 4\d\d ", sock.recv(1000))

    assert before == admin.stderr
    assert 200 == ask(admin, "/healthz")[0]


# --- Who sends nothing, or slowly ---

AT_MOST_ASKING = 64
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def connect(admin: Collector) -> Iterator[Callable[[int], list[socket.socket]]]:
    """Return a function that connects so many times to the admin port; all is closed in the end."""
    opened: list[socket.socket] = []

    def connect(number: int) -> list[socket.socket]:
        new = [socket.create_connection(("127.0.0.1", admin.admin_port), SECONDS) for _ in range(number)]
        opened.extend(new)
        return new

    yield connect
    for sock in opened:
        sock.close()


def is_answered(sock: socket.socket) -> bool:
    """Read one answer of health, whole."""
    answer = b""
    while not answer.endswith(b"\r\n\r\nok\n"):
        piece = sock.recv(1000)
        assert piece, answer
        answer += piece
    return answer.startswith(b"HTTP/1.1 200 ")


def closed(sockets: list[socket.socket]) -> list[socket.socket]:
    """Return those that the collector has closed; nothing else is there to be read from any of them."""
    poller = select.poll()
    for sock in sockets:
        poller.register(sock, select.POLLIN)
    ready = {fd for fd, _ in poller.poll(0)}
    return [sock for sock in sockets if sock.fileno() in ready]


def slowest_health(collector: Collector, times: int) -> float:
    """Return the longest time that health has taken, each over a connection of its own."""
    took = []
    for path in itertools.islice(itertools.cycle(("/healthz", "/readyz")), times):
        with timed(collector) as seconds:
            assert 200 == ask(collector, path)[0]
        took.append(seconds())
    return max(took)


@pytest.mark.parametrize("number", [200, pytest.param(2000, marks=pytest.mark.slow)])
def test_health_is_answered_at_once_whatever_number_says_nothing(
    admin: Collector, connect: Callable[[int], list[socket.socket]], number: int
) -> None:
    silent = connect(number)
    # Those who come in the same moment are let in first, each at a tenth of a millisecond or two.
    within(SECONDS, lambda: len(closed(silent)) == number - AT_MOST_ASKING)
    assert slowest_health(admin, 20) < 0.2


def test_health_is_answered_at_once_while_requests_come_a_byte_at_a_time(
    admin: Collector, connect: Callable[[int], list[socket.socket]]
) -> None:
    trickling = connect(200)
    stop = threading.Event()

    def trickle() -> None:
        for byte in itertools.cycle(b"GET / HTTP/1.1\r\nX: y"):
            for n, sock in enumerate(trickling):
                try:
                    sock.send(bytes([byte]))
                except OSError:  # closed for its slowness, so there comes another
                    trickling[n : n + 1] = connect(1)
            if stop.wait(1):
                return

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        for _ in range(3):
            assert slowest_health(admin, 20) < 0.2
            stop.wait(0.5)
    finally:
        stop.set()
        thread.join()


def test_health_is_answered_at_once_while_answered_connections_are_kept(
    admin: Collector, connect: Callable[[int], list[socket.socket]]
) -> None:
    for _ in range(200):
        (sock,) = connect(1)
        sock.sendall(GET)
        assert is_answered(sock)
    assert slowest_health(admin, 20) < 0.2


@pytest.mark.parametrize(
    "request_bytes", [b"", b"GET /healthz HTTP/1.1\r\nHo", GET], ids=["silent", "begun", "kept"]
)
def test_of_more_than_64_the_one_that_has_waited_longest_is_closed(
    connect: Callable[[int], list[socket.socket]], request_bytes: bytes
) -> None:
    """Whether it has sent nothing, a part, or is idle between two requests."""
    waiting = connect(AT_MOST_ASKING)
    for sock in waiting:
        sock.sendall(request_bytes)
        if request_bytes is GET:
            assert is_answered(sock)
    assert [] == closed(waiting)
    (last,) = connect(1)
    within(2, lambda: closed(waiting) == waiting[:1])
    last.sendall(GET)
    assert is_answered(last)
    within(2, lambda: closed(waiting) == waiting[:1])


def test_of_many_who_are_answered_in_one_go_all_may_ask_again(
    admin: Collector, connect: Callable[[int], list[socket.socket]]
) -> None:
    """More than may wait for their answers; each has it before the next one's turn comes."""
    waiting = connect(AT_MOST_ASKING)
    os.kill(admin.worker, signal.SIGSTOP)
    try:
        for sock in waiting:
            sock.sendall(GET)
    finally:
        os.kill(admin.worker, signal.SIGCONT)
    for _ in range(2):
        for sock in waiting:
            assert is_answered(sock)
            sock.sendall(GET)


@pytest.mark.slow
@pytest.mark.parametrize("trickles", [False, True])
def test_who_has_not_sent_a_request_within_five_seconds_is_closed(
    admin: Collector, connect: Callable[[int], list[socket.socket]], trickles: bool
) -> None:
    (slow,) = connect(1)
    begun = time.monotonic()
    with timed(admin) as seconds, suppress(ConnectionError):
        while not closed([slow]):
            if trickles:
                slow.sendall(b"X")
            assert not select.select([slow], [], [], 0.1)[0] or slow.recv(1) == b""
    assert time.monotonic() - begun > 4.5
    assert seconds() < 8


@pytest.mark.slow
def test_who_needs_three_seconds_for_a_request_is_answered_and_then_may_ask_again(
    connect: Callable[[int], list[socket.socket]],
) -> None:
    (slow,) = connect(1)
    connect(AT_MOST_ASKING - 1)
    for _ in range(2):
        pieces = [GET[begin : begin + 8] for begin in range(0, len(GET), 8)]
        for piece in pieces:
            assert not select.select([slow], [], [], 3 / len(pieces))[0]
            slow.sendall(piece)
        assert is_answered(slow)


def test_who_watches_is_not_among_the_64_and_neither_is_who_is_answered(
    admin: Collector, connect: Callable[[int], list[socket.socket]]
) -> None:
    (reader,) = connect(1)
    asked = 200
    # Answers that nobody reads fill what the kernel holds, so that one is on its way all the time.
    reader.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * asked)
    with watching(admin) as viewer:
        connect(200)
        assert 200 == ask(admin, "/healthz")[0]
        log(admin, ("app", logging.INFO, "seen"))
        assert "seen" == viewer.message()
        answers = b""
        while answers.count(b"</html>") < asked:
            piece = reader.recv(1_000_000)
            assert piece
            answers += piece


def test_of_more_than_32_that_take_no_answer_the_first_goes(
    admin: Collector, connect: Callable[[int], list[socket.socket]]
) -> None:
    before = _descriptors(admin)
    readers = connect(50)
    for reader in readers:
        reader.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200)
    assert slowest_health(admin, 20) < 0.2
    within(SECONDS, lambda: _descriptors(admin) <= before + 32)


def _descriptors(collector: Collector) -> int:
    return len(list(Path(f"/proc/{collector.worker}/fd").iterdir()))


# --- The stream ---


@pytest.mark.quick
def test_a_record_is_streamed_as_its_json_line_and_its_level(make_collector: MakeCollector) -> None:
    collector = make_collector(f'[format]\nstyle = "json"\n{ADMIN}').start()
    with watching(collector) as viewer:
        log(collector, ("a.b", logging.WARNING, "caf\u00e9 <script>\n\ud800"))
        name, record = viewer.event()
    within(SECONDS, lambda: collector.lines("a_b.log"))

    assert ("message", 30) == (name, record.pop("levelno"))
    assert json.loads(collector.lines("a_b.log")[0]) == record


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("logger=app.web", ["in app.web", "IN app.web.x"]),
        ("level=WARNING", ["IN app.web.x", "in other"]),
        ("level=25", ["IN app.web.x", "in other"]),
        ("text=In%20App", ["in app.web", "IN app.web.x", "in app.webs"]),
        ("regex=%5EIN%20.*x%24", ["IN app.web.x"]),
        ("logger=app&level=WARNING&text=web&regex=IN", ["IN app.web.x"]),
        ("level=30", ["IN app.web.x", "in other"]),
        ("text=none", []),  # as text, the traceback that a record does not have
    ],
)
def test_the_stream_is_filtered(admin: Collector, query: str, expected: list[str]) -> None:
    with watching(admin, query) as viewer:
        log(
            admin,
            ("app.web", logging.INFO, "in app.web"),
            ("app.web.x", logging.ERROR, "IN app.web.x"),
            ("app.webs", logging.INFO, "in app.webs"),
            ("other", logging.WARNING, "in other"),
        )
        assert expected == [viewer.message() for _ in expected]


@pytest.mark.parametrize("query", ["regex=(", "level=LOUD", "colour=red"])
def test_a_filter_that_is_none_is_refused_with_the_reason(admin: Collector, query: str) -> None:
    status, _, words = ask(admin, f"/api/stream?{query}")

    assert 400 == status
    assert words.strip()


@pytest.mark.parametrize("regex", ["(a%2B)%2B%24", "(a%7Ca)*%24", "(.*)*(.*)*(.*)*(.*)*(.*)*x"])
def test_a_catastrophic_regular_expression_ends_its_viewer_and_stalls_nobody(
    admin: Collector, regex: str
) -> None:
    with watching(admin, f"regex={regex}") as viewer:
        log(admin, ("a", logging.INFO, "a" * 5000 + "!"))
        within(SECONDS, lambda: admin.lines("a.log"))
        slowest = 0.0
        for _ in range(20):
            with timed(admin) as seconds:
                assert 200 == ask(admin, "/healthz")[0]
            slowest = max(slowest, seconds())
        name, data = viewer.event()

    assert "ended" == name
    assert "took longer" in data["reason"]
    assert slowest < 0.5
    within(SECONDS, lambda: stats(admin)["viewers"] == 0)


def test_a_viewer_that_has_gone_gives_its_place_back_at_once(admin: Collector) -> None:
    with watching(admin, "regex=x"):
        assert 1 == stats(admin)["viewers"]
    within(2, lambda: stats(admin)["viewers"] == 0)
    within(2, lambda: not Path(f"/proc/{admin.worker}/task/{admin.worker}/children").read_text().strip())


def test_a_viewer_that_has_sent_more_than_its_request_gives_its_place_back_too(admin: Collector) -> None:
    with socket.create_connection(("127.0.0.1", admin.admin_port), SECONDS) as viewer:
        viewer.sendall(b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\nx")
        assert viewer.recv(1000).startswith(b"HTTP/1.1 200 ")
        assert 1 == stats(admin)["viewers"]
    within(2, lambda: stats(admin)["viewers"] == 0)


def test_viewers_beyond_sixteen_are_turned_away_and_health_is_not(admin: Collector) -> None:
    viewers = [Viewer(admin) for _ in range(16)]

    assert 503 == ask(admin, "/api/stream")[0]
    assert 200 == ask(admin, "/healthz")[0]
    for viewer in viewers:
        viewer.close()


def test_what_was_received_before_the_end_is_streamed_too(admin: Collector) -> None:
    with watching(admin) as viewer:
        log(admin, *[("app", logging.INFO, str(number)) for number in range(50)])
        assert admin.stop() == 0
        assert [str(number) for number in range(50)] == [viewer.message() for _ in range(50)]


def test_viewers_that_come_at_once_are_no_more_than_sixteen_either(admin: Collector) -> None:
    port = admin.admin_port
    viewers = [http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS) for _ in range(24)]
    for number, viewer in enumerate(viewers):
        viewer.request("GET", f"/api/stream?regex=a{number}")
    answers = [viewer.getresponse().status for viewer in viewers]
    assert [200] * 16 + [503] * 8 == sorted(answers)
    assert 200 == ask(admin, "/healthz")[0]
    for viewer in viewers:
        viewer.close()


@pytest.mark.slow
def test_a_slow_viewer_is_told_how_many_records_it_has_missed(admin: Collector) -> None:
    total = 20_000
    with watching(admin) as viewer:
        subprocess.run([sys.executable, FLOOD, str(admin.port), "0", str(total)], check=True)
        within(30, lambda: stats(admin)["records"]["written"] == total)
        seen = skipped = 0
        while seen + skipped < total:
            name, data = viewer.event()
            if name == "skipped":
                skipped += data["records"]
            else:
                seen += 1

    assert (total, True, True) == (seen + skipped, seen > 0, skipped > 0)


@pytest.mark.slow
def test_five_slow_viewers_slow_collecting_by_little(
    admin: Collector, record_property: Callable[[str, object], None]
) -> None:
    """Streaming may take a twentieth of the time; the bound is loose, for others use the machine too."""

    def cpu_seconds() -> float:
        fields = Path(f"/proc/{admin.worker}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def flood() -> float:
        before = cpu_seconds()
        written = stats(admin)["records"]["written"]
        subprocess.run([sys.executable, FLOOD, str(admin.port), "0", "100000"], check=True)
        within(60, lambda: stats(admin)["records"]["written"] == written + 100_000)
        return cpu_seconds() - before

    flood()  # warm
    ratios = []
    for _ in range(5):
        alone = flood()
        viewers = [Viewer(admin, query) for query in ("", "", "level=INFO", "text=record", "logger=load")]
        ratios.append(flood() / alone)
        for viewer in viewers:
            viewer.close()
        within(SECONDS, lambda: stats(admin)["viewers"] == 0)
    report(record_property, cpu_with_five_viewers_to_without=f"{statistics.median(ratios):.3f}")

    assert statistics.median(ratios) < 1.2


# --- Metrics ---


@pytest.mark.quick
def test_metrics_are_as_prometheus_wants_them(admin: Collector) -> None:
    pytest.importorskip("prometheus_client", reason="without the extra `metrics`")
    promtool = shutil.which("promtool") or pytest.skip("promtool is not installed (Debian: prometheus)")
    log(admin, ('quo"te\\\n\ud800', logging.INFO, "x"))
    within(SECONDS, lambda: stats(admin)["records"]["written"] == 1)
    status, _, text = ask(admin, "/metrics")
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=text.encode(), capture_output=True, check=False
    )

    assert (200, 0, b"") == (status, checked.returncode, checked.stderr + checked.stdout)
    assert "collector_received_records_total 1.0" in text


def test_without_the_library_metrics_say_how_to_get_it(make_collector: MakeCollector, tmp_path: Path) -> None:
    (tmp_path / "prometheus_client.py").write_text("raise ImportError\n")
    collector = make_collector(ADMIN).start(env=os.environ | {"PYTHONPATH": str(tmp_path)})
    status, _, words = ask(collector, "/metrics")

    assert 501 == status
    assert "pip install 'gevent-collector[metrics]'" in words


def test_the_worker_of_a_collector_without_admin_port_loads_no_web_server() -> None:
    unwanted = "{'gevent.pywsgi', 'prometheus_client'}"
    code = f"import sys, collector.daemon.worker; print({unwanted} & set(sys.modules))"
    assert "set()" == subprocess.check_output([sys.executable, "-c", code], text=True).strip()
