"""The command `quarantine`: what could not be decoded is listed, shown as text, and sent again."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from tests.support.certificates import tls_table
from tests.support.collectors import messages
from tests.support.commands import run
from tests.support.frames import make_frame, make_payload
from tests.support.quarantines import entries_in, framed, frames_in, put, read
from tests.support.texts import shown
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.collectors import Collector

    MakeCollector = Callable[..., Collector]

OLDER, NEWER = ".quarantine.1", ".quarantine"
GOOD = make_frame("one")
BAD = [framed(b"N."), framed(b"\x80\x04" + b"x" * 1000), framed(b"\x1b]0;owned\x07\x1b[2J")]


@pytest.fixture
def config(tmp_path: Path) -> str:
    """Return a configuration, whose directory is there, and nobody who runs with it."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "c.toml").write_text(f'[listen]\nport = 1\n[files]\ndirectory = "{tmp_path}/logs"\n')
    return str(tmp_path / "c.toml")


def listed(config: str | Path) -> list[str]:
    result = run("quarantine", "-c", str(config))
    assert (0, "") == (result.returncode, result.stderr)
    return result.stdout.splitlines()


def with_port(collector: Collector) -> str:
    """Have the configuration of a running collector name its port; return its path."""
    text = collector.config.read_text().replace("port = 0", f"port = {collector.port}")
    collector.config.write_text(text)
    return str(collector.config)


def replayed(collector: Collector, taken: int, left: int = 0) -> str:
    """Replay; return what it has complained of."""
    result = run("quarantine", "-c", with_port(collector), "--replay")
    assert (f"{taken} taken, {left} left\n", 1 if left else 0) == (result.stdout, result.returncode), (
        result.stderr
    )
    return result.stderr


def quarantined(collector: Collector, count: int) -> None:
    """Wait until so many frames lie there."""
    within(5, lambda: len(frames_in(collector.directory)) == count)


# --- The list ---


@pytest.mark.quick
def test_it_lists_when_they_came_from_whom_how_large_they_are_and_why(collector: Collector) -> None:
    collector.send(b"".join(BAD))
    within(5, lambda: len(entries_in(collector.directory)) == 3)
    within(5, lambda: collector.stderr.count("quarantined") == 3)
    told = re.findall(r"client (\S+): frame of (\d+ bytes) quarantined: (.*)", collector.stderr)
    times = [entry["time"][:19] + "Z" for entry in entries_in(collector.directory)]
    expected = [
        f"{number} {when} {client} {size}: {reason}"
        for number, (when, (client, size, reason)) in enumerate(zip(times, told, strict=True), 1)
    ]
    assert expected == listed(collector.config)


def test_the_older_half_comes_first(config: str, tmp_path: Path) -> None:
    put(tmp_path / "logs", BAD[:2])
    put(tmp_path / "logs", BAD[2:], OLDER)
    assert [
        "1 2001-09-09T01:46:40Z 10.0.0.7:51934 14 bytes: why 0",
        "2 2001-09-09T01:46:40Z 10.0.0.7:51934 2 bytes: why 0",
        "3 2001-09-09T01:46:41Z 10.0.0.7:51934 1002 bytes: why 1",
    ] == listed(config)


def test_of_a_frame_of_an_older_version_only_the_size_is_known(config: str, tmp_path: Path) -> None:
    (tmp_path / "logs" / NEWER).write_bytes(framed(b"N"))
    assert ["1 - - 1 byte: -"] == listed(config)


def test_where_there_is_none_the_list_is_empty(config: str) -> None:
    assert [] == listed(config)


def test_what_is_no_whole_frame_is_told(config: str, tmp_path: Path) -> None:
    (tmp_path / "logs" / NEWER).write_bytes(BAD[0] + b"\xff\xff\xff\xff rest")
    result = run("quarantine", "-c", config)
    assert (0, "1 - - 2 bytes: -\n") == (result.returncode, result.stdout)
    assert f"{tmp_path}/logs/.quarantine: ends with 9 bytes that are no whole frame\n" in result.stderr


def test_a_reader_may_leave(config: str, tmp_path: Path) -> None:
    put(tmp_path / "logs", BAD[:1] * 10_000)
    command = f"{sys.executable} -m collector quarantine -c {config} | head -n 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=30, check=True)
    assert b"" == done.stderr
    assert done.stdout.startswith(b"1 2001-")


def test_a_directory_that_is_none_is_a_fault(config: str, tmp_path: Path) -> None:
    (tmp_path / "logs").rmdir()
    result = run("quarantine", "-c", config)
    assert 2 == result.returncode
    assert "no such directory" in result.stderr


def test_a_link_in_its_place_is_not_followed(config: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(BAD[0])
    (tmp_path / "logs" / NEWER).symlink_to(tmp_path / "secret")
    result = run("quarantine", "-c", config)
    assert (2, "") == (result.returncode, result.stdout)


def test_it_is_listed_shown_and_replayed_as_the_docs_have_it(collector: Collector) -> None:
    put(collector.directory, [BAD[0], GOOD])
    config = with_port(collector)
    lines = shown("docs/operate.rst", "collector quarantine -c").splitlines()
    results = [run(*line.split()[1:2], "-c", config, *line.split()[4:]) for line in lines]
    assert [0, 0, 1] == [each.returncode for each in results]
    assert ["1 ", "2 "] == [line[:2] for line in results[0].stdout.splitlines()]
    assert "time: " in results[1].stdout
    assert "1 taken, 1 left\n" == results[2].stdout


# --- One frame ---


def text_of(config: str, number: int) -> str:
    result = run("quarantine", "-c", config, "--show", str(number))
    assert (0, "") == (result.returncode, result.stderr)
    return result.stdout


def test_what_is_known_of_one_is_shown_and_its_bytes(config: str, tmp_path: Path) -> None:
    put(tmp_path / "logs", [framed(b"no pickle, \xe4\xf6\xfc")])
    assert text_of(config, 1) == (
        "time: 2001-09-09T01:46:40Z\n"
        "client: 10.0.0.7:51934\n"
        "reason: why 0\n"
        "size: 14 bytes\n"
        f"place: {tmp_path}/logs/.quarantine, from byte 0 on\n"
        "\n"
        "bytes:\n"
        "     0 6e 6f 20 70 69 63 6b 6c 65 2c 20 e4 f6 fc        no pickle, ...\n"
    )


def test_a_pickle_is_shown_as_opcodes_and_none_of_them_is_run(config: str, tmp_path: Path) -> None:
    call = f"cposix\nsystem\n(S'touch {tmp_path}/run'\ntR.".encode()
    put(tmp_path / "logs", [framed(b"\x80\x02" + call)])
    text = text_of(config, 1)
    assert "     2 GLOBAL 'posix system'\n" in text
    assert f"STRING 'touch {tmp_path}/run'\n" in text
    assert text.index("REDUCE") < text.index("STOP")
    assert not (tmp_path / "run").exists()


def test_what_can_be_decoded_by_now_is_shown_as_a_record(config: str, tmp_path: Path) -> None:
    put(tmp_path / "logs", [make_frame("one\x1b[2Jtwo")])
    assert r"record: can be decoded now: app: one\x1b[2Jtwo" in text_of(config, 1)


@pytest.mark.parametrize(
    "payload",
    [
        b"\x1b]0;owned\x07\x1b[2J\x9b1m\xc2\x9b31m\r\n\b\0",
        b"\x80\x04\x8c\x0a\x1b[2J\xe2\x80\xa8\xc2\x9b\r\n.",
        b"\x80\x02cos\x1b[2J\nsy\x07stem\n.",
        b"\x80\x04\x8e" + b"\xff" * 8,
        b"\x80\x02\x8b\xf0\xff\x0f\0" + b"\x7f" * 1_048_560 + b".",
        b"\x80\x02" + b"I" + b"9" * 100_000 + b"\n.",
        b"\x80\x02" + b"]" * 1_000_000,
        b"\x80\x02" + b"(" * 3 + b"\x1b[2J",
        b"\x80\x04\x95" + b"\xff" * 8 + b"q",
        b"\x80",
        b"",
    ],
    ids=str.split("escapes text global claim long digits lists marks frame one none"),
)
def test_whatever_a_frame_holds_what_is_shown_is_short_and_harmless(
    config: str, tmp_path: Path, payload: bytes
) -> None:
    put(tmp_path / "logs", [framed(payload)])
    text = text_of(config, 1)
    assert len(text) < 20_000
    assert set() == {c for c in text if not c.isprintable()} - {"\n"}


def test_an_entry_that_somebody_has_forged_is_harmless_too(config: str, tmp_path: Path) -> None:
    put(tmp_path / "logs", BAD[:1])
    path = tmp_path / "logs" / ".quarantine.jsonl"
    path.write_bytes(path.read_bytes().replace(b"why 0", rb"\u001b[2J\n2 forged"))
    assert [r"1 2001-09-09T01:46:40Z 10.0.0.7:51934 2 bytes: \x1b[2J\n2 forged"] == listed(config)
    assert "\x1b" not in text_of(config, 1)


def test_a_number_that_is_not_in_the_list_is_wrong_usage(config: str, tmp_path: Path) -> None:
    put(tmp_path / "logs", BAD[:2])
    result = run("quarantine", "-c", config, "--show", "3")
    assert (2, "") == (result.returncode, result.stdout)
    assert "--show 3: no such frame; the list has 2 frames\n" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--show", "x"], "argument --show: x: must be a whole number from 1 to"),
        (["--show", "0"], "argument --show: 0: must be a whole number from 1 to"),
        (["--show", "1", "--replay"], "not allowed with argument"),
        (["--reply"], "did you mean --replay?"),
        (["all"], "unrecognized arguments: all"),
    ],
)
def test_wrong_usage_is_told(config: str, arguments: list[str], fault: str) -> None:
    result = run("quarantine", "-c", config, *arguments)
    assert 2 == result.returncode
    assert fault in result.stderr


# --- Once more ---


def test_what_can_be_decoded_by_now_is_written_and_goes_and_all_else_stays(collector: Collector) -> None:
    put(collector.directory, [BAD[0], GOOD, BAD[1]], OLDER)
    put(collector.directory, [make_frame("two"), BAD[2], make_frame("three")])
    complaint = replayed(collector, 3, left=3)
    assert "3 frames stay: cannot be decoded by this version either" in complaint
    assert ["one", "two", "three"] == messages(collector)
    assert BAD == frames_in(collector.directory)
    assert ["why 0", "why 2", "why 1"] == [line.split(": ")[1] for line in listed(collector.config)]
    assert "quarantined" not in collector.stderr
    replayed(collector, 0, left=3)
    assert ["one", "two", "three"] == messages(collector)


@pytest.mark.quick
def test_if_all_are_taken_nothing_is_left_of_it(collector: Collector) -> None:
    put(collector.directory, [GOOD])
    assert "" == replayed(collector, 1)
    assert ["one"] == messages(collector)
    assert not any(
        name.startswith(".quarantine") and "lock" not in name for name in os.listdir(collector.directory)
    )
    assert "" == replayed(collector, 0)


def test_the_collector_goes_on_with_what_is_left(collector: Collector) -> None:
    """It has the file open; what it writes next goes into the new one, behind what has stayed."""
    collector.send(BAD[0])
    quarantined(collector, 1)
    put(collector.directory, [BAD[0], GOOD, BAD[1]])
    replayed(collector, 1, left=2)
    collector.send(BAD[2])
    quarantined(collector, 3)
    assert BAD == frames_in(collector.directory)
    within(5, lambda: len(entries_in(collector.directory)) == 3)
    assert [0, 6, 1012] == [entry["offset"] for entry in entries_in(collector.directory)]


def test_thousands_go_in_several_batches(collector: Collector) -> None:
    put(
        collector.directory,
        [frame for n in range(3000) for frame in (BAD[0], make_frame(f"{n} " + "x" * 3000))],
    )
    replayed(collector, 3000, left=3000)
    assert [str(n) for n in range(3000)] == [message.split()[0] for message in messages(collector)]
    assert BAD[:1] * 3000 == frames_in(collector.directory)
    within(5, lambda: collector.stderr.count(" disconnected after") == 3)


def test_what_comes_and_rolls_over_meanwhile_is_neither_lost_nor_there_twice(
    make_collector: MakeCollector,
) -> None:
    collector = make_collector("[quarantine]\nmax_bytes = 4_000_000\n").start()
    put(
        collector.directory,
        [frame for n in range(500) for frame in (framed(b"old %4d" % n), make_frame(f"{n}"))],
    )
    sent: list[bytes] = []
    over = threading.Event()

    def flood() -> None:
        """Send more than fits into one half, and less than fits into both."""
        with collector.connect() as sock:
            while len(sent) < 230 and not (over.wait(0.005) and len(sent) > 150):
                sent.append(framed(b"%8d" % len(sent) + b"x" * 15_000))
                sock.sendall(sent[-1])

    flooding = threading.Thread(target=flood)
    flooding.start()
    try:
        within(10, lambda: len(sent) > 20)
        # What had come by then stays too.
        result = run("quarantine", "-c", with_port(collector), "--replay")
        assert result.stdout.startswith("500 taken, ")
    finally:
        over.set()
        flooding.join()
    assert collector.stop() == 0
    assert read(collector.directory / OLDER).startswith(framed(b"old    0"))
    found = frames_in(collector.directory)
    assert [framed(b"old %4d" % n) for n in range(500)] == found[:500]
    assert sent == found[500:]
    assert {f"{n}" for n in range(500)} == set(messages(collector))
    assert 500 == len(messages(collector))


def test_without_a_collector_nothing_is_sent_and_all_stays(config: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        port = somebody.getsockname()[1]
        (tmp_path / "c.toml").write_text(
            (tmp_path / "c.toml").read_text().replace("port = 1", f"port = {port}")
        )
        put(tmp_path / "logs", [GOOD])
        result = run("quarantine", "-c", config, "--replay")
        assert (1, "") == (result.returncode, result.stdout)
        assert f"no collector runs in {tmp_path}/logs: nothing was sent" in result.stderr
        somebody.settimeout(0)
        with pytest.raises(BlockingIOError):
            somebody.accept()
    assert [GOOD] == frames_in(tmp_path / "logs")


def test_where_nobody_answers_all_stays(collector: Collector) -> None:
    put(collector.directory, [GOOD, BAD[0]])
    collector.config.write_text(collector.config.read_text().replace("port = 0", "port = 1"))
    result = run("quarantine", "-c", str(collector.config), "--replay")
    assert (1, "0 taken, 2 left\n") == (result.returncode, result.stdout)
    assert "1 frame stays: cannot reach 127.0.0.1:1: Connection refused" in result.stderr
    assert [GOOD, BAD[0]] == frames_in(collector.directory)


def test_what_was_perhaps_not_read_stays(make_collector: MakeCollector) -> None:
    collector = make_collector('[listen]\nallow = ["192.0.2.0/24"]\n').start()
    put(collector.directory, [GOOD])
    complaint = replayed(collector, 0, left=1)
    assert "has read all or a part, and will get it twice" in complaint
    assert [GOOD] == frames_in(collector.directory)


def test_a_port_that_nobody_knows_is_a_fault_of_the_configuration(collector: Collector) -> None:
    result = run("quarantine", "-c", str(collector.config), "--replay")
    assert 2 == result.returncode
    assert "[listen] port = 0 does not tell where to send" in result.stderr


def test_over_a_unix_socket(make_collector: MakeCollector, tmp_path: Path) -> None:
    collector = make_collector(f'[listen]\nunix = "{tmp_path}/x.sock"\n').start()
    put(collector.directory, [GOOD])
    assert 0 == run("quarantine", "-c", str(collector.config), "--replay").returncode
    assert ["one"] == messages(collector)
    assert [] == frames_in(collector.directory)


@pytest.mark.parametrize("client_ca", [False, True])
def test_over_tls_and_at_a_wildcard(
    make_collector: MakeCollector, certificates: Path, client_ca: bool
) -> None:
    table = tls_table(certificates, f"{certificates}/ca.pem") if client_ca else tls_table(certificates)
    collector = make_collector(f'[listen]\nhost = "0.0.0.0"\n{table}').start()
    put(collector.directory, [GOOD, BAD[0]])
    replayed(collector, 1, left=1)
    assert ["one"] == messages(collector)
    assert BAD[:1] == frames_in(collector.directory)


@pytest.mark.parametrize("with_tls", [False, True])
def test_from_the_address_of_a_proxy(
    make_collector: MakeCollector, certificates: Path, with_tls: bool
) -> None:
    """A header has to come first, as from stunnel on the collector's own machine."""
    table = tls_table(certificates) if with_tls else ""
    collector = make_collector(f'[listen]\nproxy_protocol = ["127.0.0.1"]\n{table}').start()
    put(collector.directory, [GOOD, BAD[0]])
    replayed(collector, 1, left=1)
    assert ["one"] == messages(collector)
    assert BAD[:1] == frames_in(collector.directory)


def test_a_frame_that_the_collector_would_throw_away_for_its_size_stays(
    make_collector: MakeCollector,
) -> None:
    collector = make_collector("[listen]\nmax_frame_bytes = 65_536\n").start()
    large = framed(make_payload("x" * 70_000))
    put(collector.directory, [large, GOOD])
    assert "larger than [listen] max_frame_bytes = 65536" in replayed(collector, 1, left=1)
    assert [large] == frames_in(collector.directory)


def test_what_is_quarantined_once_more_is_sent_once_and_not_there_twice(
    collector: Collector, tmp_path: Path
) -> None:
    """As of a collector of another version, which cannot decode what the command can."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        text = collector.config.read_text().replace("port = 0", f"port = {other.getsockname()[1]}")
        (tmp_path / "c.toml").write_text(text)
        put(collector.directory, [GOOD])
        received = []

        def requarantine() -> None:
            client, _ = other.accept()
            with client:
                while data := client.recv(10_000):
                    received.append(data)
                with (collector.directory / NEWER).open("ab") as file:
                    file.write(b"".join(received))

        answering = threading.Thread(target=requarantine)
        answering.start()
        result = run("quarantine", "-c", str(tmp_path / "c.toml"), "--replay")
        answering.join()
    assert (0, "1 taken, 0 left\n") == (result.returncode, result.stdout)
    assert [GOOD] == frames_in(collector.directory)
    assert GOOD == b"".join(received)


def test_a_second_replay_is_turned_away(collector: Collector, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as slow:
        text = collector.config.read_text().replace("port = 0", f"port = {slow.getsockname()[1]}")
        (tmp_path / "c.toml").write_text(text)
        put(collector.directory, [GOOD])
        command = [
            sys.executable,
            "-m",
            "collector",
            "quarantine",
            "-c",
            str(tmp_path / "c.toml"),
            "--replay",
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as first:
            client, _ = slow.accept()
            with client:
                second = run("quarantine", "-c", with_port(collector), "--replay")
                assert (2, "") == (second.returncode, second.stdout)
                assert f"is replayed already, by process {first.pid}" in second.stderr
                assert [GOOD] == frames_in(collector.directory)
                while client.recv(10_000):
                    pass
            assert ("1 taken, 0 left\n", "") == first.communicate(timeout=30)
    assert [] == frames_in(collector.directory)


def test_a_replay_that_is_killed_leaves_all_that_was_not_read(collector: Collector, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as slow:
        text = collector.config.read_text().replace("port = 0", f"port = {slow.getsockname()[1]}")
        (tmp_path / "c.toml").write_text(text)
        put(collector.directory, [GOOD, BAD[0]])
        command = [
            sys.executable,
            "-m",
            "collector",
            "quarantine",
            "-c",
            str(tmp_path / "c.toml"),
            "--replay",
        ]
        with subprocess.Popen(command) as first, slow.accept()[0]:
            first.kill()
    assert [GOOD, BAD[0]] == frames_in(collector.directory)
    replayed(collector, 1, left=1)
    assert ["one"] == messages(collector)
