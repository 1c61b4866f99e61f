from __future__ import annotations

import codecs
import contextlib
import fcntl
import logging.handlers
import os
import re
import signal
import struct
import subprocess
import sys
import termios
import unicodedata
from typing import TYPE_CHECKING

import pytest

from tests.support.bulk_server import BulkServer, Reply
from tests.support.destinations import NOBODY, destination
from tests.support.frames import make_frame
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.collectors import Collector

    Terminals = Callable[..., "Terminal"]


def command(collector: Collector, *arguments: str) -> list[str]:
    """Return the command that asks *collector*, whose port was any free one and in no configuration."""
    config = collector.config.with_name("top.toml")
    config.write_text(
        collector.config.read_text().replace("[admin]\nport = 0", f"[admin]\nport = {collector.admin_port}")
    )
    return [sys.executable, "-m", "collector", "top", "-c", str(config), *arguments]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, capture_output=True, text=True, timeout=30, check=False)


class Terminal:
    """A process on a terminal of its own, and what it has written there."""

    def __init__(self, arguments: list[str], columns: int, lines: int) -> None:
        self.master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
        # What a shell has started in the background, these tests for instance, ignores SIGINT.
        arguments = ["env", "--default-signal=INT", *arguments]
        self.process = subprocess.Popen(arguments, stdin=slave, stdout=slave, stderr=slave, env=environment)
        os.close(slave)
        os.set_blocking(self.master, False)
        self._written = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()  # what has come may end inside a character

    @property
    def written(self) -> str:
        try:
            while data := os.read(self.master, 65536):
                self._written += self._decoder.decode(data)
        except OSError:
            pass  # nothing more for now, or the process has ended
        return self._written


@pytest.fixture
def make_terminal() -> Iterator[Terminals]:
    made: list[Terminal] = []

    def make(arguments: list[str], columns: int = 80, lines: int = 24) -> Terminal:
        made.append(Terminal(arguments, columns, lines))
        return made[-1]

    yield make
    for terminal in made:
        terminal.process.kill()
        terminal.process.wait()
        os.close(terminal.master)


@pytest.fixture
def watched(make_collector: Callable[..., Collector]) -> Collector:
    return make_collector("[listen]\nport = 0\n[admin]\nport = 0\n").start()


@pytest.fixture
def send(watched: Collector) -> Iterator[Callable[..., None]]:
    """Return a function that sends a record through a stock handler."""
    handler = logging.handlers.SocketHandler("127.0.0.1", watched.port)

    def send(logger: str, level: int = logging.INFO) -> None:
        handler.emit(logging.LogRecord(logger, level, __file__, 1, "text", None, None))

    yield send
    handler.close()


def test_it_is_plain_text_where_no_terminal_is(watched: Collector, send: Callable[..., None]) -> None:
    for _ in range(30):
        send("app.web")
    send("app.db", logging.ERROR)
    within(5, lambda: len(watched.lines("app_web.log") + watched.lines("app_db.log")) == 31)
    result = run(*command(watched, "-n", "1"))
    assert (0, "") == (result.returncode, result.stderr)
    lines = result.stdout.splitlines()
    assert re.match(r"collector \S+, up \d+ s, healthy$", lines[0])
    assert "records/s  0 received, 0 written, 0 quarantined, 0 dropped" == lines[1]
    assert "levels/s   ERROR 0, INFO 0" == lines[2]
    assert "clients    1 now, 1 in all, 0 refused" == lines[3]
    assert "reserve    0 bytes of 256.0 MiB" == lines[4]
    assert re.match(r"disk       [\d.]+ .iB free of [\d.]+ .iB, /.*", lines[5])
    assert ["app.web", "0", "30"] == lines[8].split()
    assert ["app.db", "0", "1"] == lines[9].split()
    assert re.match(r"127\.0\.0\.1:\d+ +0 +31$", lines[12])
    assert "\x1b" not in result.stdout


def test_the_rate_is_what_came_between_two_answers(watched: Collector, send: Callable[..., None]) -> None:
    with subprocess.Popen(command(watched, "-n", "3"), stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            send("busy")
            with contextlib.suppress(subprocess.TimeoutExpired):  # a record each 10 ms
                process.wait(0.01)
        assert process.stdout is not None
        rates = [float(line.split()[1]) for line in process.stdout if line.startswith("busy")]
    assert len(rates) >= 2, rates
    assert all(5 < rate < 150 for rate in rates), rates


def test_the_busiest_logger_comes_first(watched: Collector, send: Callable[..., None]) -> None:
    for _ in range(100):
        send("was.busy")
    with subprocess.Popen(command(watched, "-n", "2"), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("CLIENT"):  # the first refresh: the second follows in a second
                break
        send("is.busy")
        names = [line.split()[0] for line in process.stdout if "busy" in line]
    assert ["is.busy", "was.busy"] == names


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_fills_a_terminal_and_leaves_it_as_it_was(
    number: int, watched: Collector, make_terminal: Terminals
) -> None:
    terminal = make_terminal(command(watched))
    within(15, lambda: "LOGGER" in terminal.written, "a refresh")
    assert terminal.written.startswith("\x1b[?1049h\x1b[?25l\x1b[H")
    terminal.process.send_signal(number)
    assert terminal.process.wait(10) == 0
    assert terminal.written.endswith("\x1b[?25h\x1b[?1049l")
    assert "Traceback" not in terminal.written


def columns_of(line: str) -> int:
    return sum(1 + (unicodedata.east_asian_width(character) == "W") for character in line)


def test_no_line_is_wider_than_the_terminal(
    watched: Collector, send: Callable[..., None], make_terminal: Terminals
) -> None:
    for name in ("a" * 150, "日志" * 20, *(f"logger{number}" for number in range(30))):
        send(name)
    within(5, lambda: watched.lines("logger29.log"))
    terminal = make_terminal(command(watched), columns=40, lines=20)
    within(15, lambda: terminal.written.count("\x1b[J") >= 2, "two refreshes")
    screens = terminal.written.removeprefix("\x1b[?1049h\x1b[?25l").split("\x1b[H")[1:3]
    for screen in screens:
        lines = screen.removesuffix("\x1b[J").split("\x1b[K\r\n")
        assert len(lines) <= 20
        assert all(columns_of(line) <= 40 for line in lines), lines


def test_text_from_the_wire_comes_escaped(watched: Collector, send: Callable[..., None]) -> None:
    send("evil\x1b]0;title\x07\nforged 1 1")
    within(5, watched.files)
    result = run(*command(watched, "-n", "1"))
    assert r"evil\x1b]0;title\x07\nforged 1 1 " in result.stdout
    assert "\x1b" not in result.stdout


def test_a_file_that_cannot_be_written_is_told(watched: Collector, send: Callable[..., None]) -> None:
    (watched.directory / "broken.log").mkdir()
    send("broken")
    within(10, lambda: "broken.log" in run(*command(watched, "-n", "1")).stdout.partition("FAILING")[2])
    first = run(*command(watched, "-n", "1")).stdout.splitlines()[0]
    assert "NOT HEALTHY: " in first


def test_destinations_are_shown_with_what_waits(make_collector: Callable[..., Collector]) -> None:
    with BulkServer() as server:
        tables = destination(server.url) + destination(NOBODY, "siem")
        server.instead["_bulk"] = [Reply(401, b"{}")] * 1000
        collector = make_collector(f"[listen]\nport = 0\n[admin]\nport = 0\n[spool]\n{tables}").start()
        collector.send(b"".join(make_frame(f"{number}") for number in range(1234)))

        def lines() -> dict[str, str]:
            """Return the lines of the spool, "spool", and of destinations, by name."""
            text = run(*command(collector, "-n", "1")).stdout
            spool = re.findall(r"^spool +(.*)$", text, re.MULTILINE)
            return {"spool": spool[0], **dict(re.findall(r"^forward +(\w+): (.*)$", text, re.MULTILINE))}

        within(30, lambda: "HELD: " in lines()["elk"], "it holds")
        shown = lines()
        waits = r"0 shipped/s, 1,234 waiting, the oldest \d+ s"
        assert re.fullmatch(rf"{waits}; HELD: .*401.*", shown["elk"])
        assert re.fullmatch(waits, shown["siem"])
        assert re.fullmatch(r"[\d.]+ KiB of 1\.0 GiB", shown["spool"])

        server.instead["_bulk"] = []
        within(60, lambda: re.fullmatch(r"[\d,.]+ shipped/s, 0 waiting", lines()["elk"]), "shipped")


def test_a_destination_that_has_not_begun_and_a_spool_that_cannot_be_written_are_told(
    make_collector: Callable[..., Collector],
) -> None:
    collector = make_collector(f"[listen]\nport = 0\n[admin]\nport = 0\n[spool]\n{destination(NOBODY)}")
    collector.directory.mkdir()
    (collector.directory / ".spool").touch()
    collector.start()
    within(
        15,
        lambda: (
            "; CANNOT BE WRITTEN\nforward    elk DOES NOT RUN: has not begun\n"
            in run(*command(collector, "-n", "1")).stdout
        ),
    )


def test_the_token_comes_from_the_configuration(make_collector: Callable[..., Collector]) -> None:
    collector = make_collector('[listen]\nport = 0\n[admin]\nport = 0\ntoken = "secret"\n').start()
    assert "healthy" in run(*command(collector, "-n", "1")).stdout
    other = command(collector, "-n", "1")
    path = collector.config.with_name("top.toml")
    path.write_text(path.read_text().replace("secret", "guess"))
    result = run(*other)
    assert 2 == result.returncode
    assert "wants another token; see [admin] token" in result.stderr


def test_it_waits_for_a_collector_that_comes_back(watched: Collector, make_terminal: Terminals) -> None:
    terminal = make_terminal(command(watched), columns=150)
    within(15, lambda: "LOGGER" in terminal.written, "a refresh")
    watched.stop()
    within(15, lambda: "cannot reach 127.0.0.1:" in terminal.written, "words")
    watched.configure(watched.config.with_name("top.toml").read_text())  # the same port again
    watched.start()
    seen = len(terminal.written)
    within(15, lambda: "LOGGER" in terminal.written[seen:], "a refresh")


def test_nobody_who_answers_is_an_error_at_the_start(watched: Collector) -> None:
    asked = command(watched)
    watched.stop()
    result = run(*asked)
    assert (2, "") == (result.returncode, result.stdout)
    assert re.match(r"collector: cannot reach 127\.0\.0\.1:\d+: Connection refused; does ", result.stderr)


def test_a_configuration_without_an_admin_port_is_named(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text("[files]\n")
    result = run(sys.executable, "-m", "collector", "top", "-c", str(config))
    assert 2 == result.returncode
    fault = f"{config}: no table [admin]: top asks the admin port; "
    assert f"{fault}add it, or set COLLECTOR__ADMIN__PORT, and restart the collector\n" == result.stderr
