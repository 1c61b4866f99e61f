"""SIGHUP and SIGUSR1: other settings and other files, and neither a connection nor a record is lost."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.admin import stats
from tests.support.bulk_server import BulkServer
from tests.support.certificates import tls_table
from tests.support.collectors import messages, whole_lines
from tests.support.corpus import hostile
from tests.support.destinations import NOBODY, destination, told
from tests.support.frames import make_frame
from tests.support.namespaces import NEW_MOUNTS, apart, may_be_apart
from tests.support.signals import hang_up, send_signal
from tests.support.tracing import trace_syncs, wait_for
from tests.support.volumes import bound_by_permissions
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.collectors import Collector

    MakeCollector = Callable[..., Collector]

SHORT = '[format]\ntext = "%(message)s"\n'
UNREADABLE = (9).to_bytes(4, "big") + b"no pickle"
TODAY = date.today()  # noqa: DTZ011 - of a backup's name: local, as the collector has it


def roll_over(collector: Collector) -> None:
    """Send SIGUSR1; return when it has been seen."""
    before = collector.stderr.count("SIGUSR1: ")
    send_signal(collector, signal.SIGUSR1)
    within(5, lambda: collector.stderr.count("SIGUSR1: ") > before)


def open_files(collector: Collector) -> list[str]:
    """Return the names of the log files that the worker has open, with " (deleted)" behind some."""
    names = []
    for link in os.scandir(f"/proc/{collector.worker}/fd"):
        with contextlib.suppress(OSError):
            names.append(os.readlink(link))
    return sorted(os.path.basename(name) for name in names if f"{collector.directory}/" in name)


# --- SIGHUP: settings on a connection that is open ----------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "name", "lines"),
    [
        ("", "app.log", ["before", "after"]),
        ('[format]\ntext = "new: %(message)s"\n', "app.log", ["before", "new: after"]),
        (f'{SHORT}[files]\nlevel = "WARNING"\n', "app.log", ["before"]),
        (f'{SHORT}[files]\nname = "new/{{logger}}.txt"\n', "new/app.txt", ["after"]),
        (f'{SHORT}[[logger]]\nname = "app"\nfile = "rule.log"\n', "rule.log", ["after"]),
        (f"{SHORT}[listen]\nmax_frame_bytes = 100\n", "app.log", ["before"]),
    ],
    ids=["nothing", "format", "level", "names", "rule", "max_frame_bytes"],
)
def test_other_settings_hold_for_the_next_record_of_an_open_connection(
    make_collector: MakeCollector, after: str, name: str, lines: list[str]
) -> None:
    collector = make_collector(SHORT).start()
    with collector.connect() as client:
        client.sendall(make_frame("before"))
        within(5, lambda: collector.lines("app.log") == ["before"])
        hang_up(collector, after or SHORT)
        client.sendall(make_frame("after"))
        client.shutdown(socket.SHUT_WR)
        assert b"" == client.recv(1)
    within(5, lambda: collector.lines(name) == lines)
    assert 1 == collector.stderr.count(" connected")


@pytest.mark.quick
def test_one_line_says_what_was_done(collector: Collector) -> None:
    collector.send(make_frame("one") + make_frame("two", "other"))
    within(5, lambda: len(collector.files()) == 2)
    hang_up(collector, '[files]\nlevel = "INFO"\n[rollover]\ncompress = true\n[[logger]]\nname = "a"\n')
    changed = "[files] level, [rollover] compress, [[logger]]"
    assert collector.stderr.endswith(f" INFO SIGHUP: changed: {changed}; reopened: 2 files\n")


def test_a_max_bytes_where_there_was_none_holds_for_a_file_that_is_open(
    make_collector: MakeCollector,
) -> None:
    collector = make_collector(SHORT).start()
    with collector.connect() as client:
        client.sendall(make_frame("x" * 99) * 2)
        within(5, lambda: len(collector.lines("app.log")) == 2)
        hang_up(collector, f"{SHORT}[rollover]\nmax_bytes = 300\n")
        client.sendall(make_frame("x" * 99) * 7)
        within(5, lambda: [len(data) for data in collector.files().values()] == [300, 300, 300])


def test_another_period_of_rollover_is_that_of_the_last_line(make_collector: MakeCollector) -> None:
    """As after a restart: the file is of the second in which it was last written."""
    collector = make_collector(f'{SHORT}[rollover]\nwhen = "never"\n').start()
    collector.send(make_frame("old"))
    within(5, lambda: collector.lines("app.log") == ["old"])
    hang_up(collector, f'{SHORT}[rollover]\nwhen = "S"\n')

    def rolled_over() -> bool:
        collector.send(make_frame("new"))
        backup = re.compile(r"app\.log\.\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d")
        files = collector.files().items()
        return any(backup.fullmatch(name) and data.startswith(b"old\n") for name, data in files)

    within(5, rolled_over)


def test_the_level_of_the_log_changes(collector: Collector) -> None:
    before = len(collector.stderr)
    collector.configure('[log]\nlevel = "WARNING"\n[listen]\nbacklog = 7\n')
    send_signal(collector, signal.SIGHUP)
    within(5, lambda: "needs a restart" in collector.stderr[before:])
    collector.send(make_frame("one more"))
    collector.send(make_frame("cut")[:100])
    within(5, lambda: "inside a frame" in collector.stderr[before:])
    assert 2 == collector.stderr[before:].count("\n"), "what is a warning is there, and nothing else"
    hang_up(collector, "")
    before = len(collector.stderr)
    collector.send(make_frame("one more"))
    within(5, lambda: " disconnected after 1 record" in collector.stderr[before:])


def test_who_is_taken_out_of_allow_is_read_to_the_end_and_closed(
    make_collector: MakeCollector, tmp_path: Path
) -> None:
    path = tmp_path / "socket"
    collector = make_collector(f'{SHORT}[listen]\nunix = "{path}"\n').start()
    with collector.connect() as client, socket.socket(socket.AF_UNIX) as stays:
        stays.connect(str(path))
        # No more than lies in the socket at once, so that all has come when the signal does.
        client.sendall(make_frame("sent in time") * 100)
        within(5, lambda: collector.stderr.count(" connected") == 2)
        hang_up(collector, f'{SHORT}[listen]\nunix = "{path}"\nallow = ["10.0.0.0/8"]\n')
        within(5, lambda: "disconnected after 100 records" in collector.stderr)
        stays.sendall(make_frame("still here"))
        within(5, lambda: len(collector.lines("app.log")) == 101)
    assert collector.stderr.count("its address is not in [listen] allow") == 1
    collector.send(make_frame("refused"))
    within(5, lambda: "is refused: its address is not in [listen] allow" in collector.stderr)


def test_more_clients_are_served_at_once_and_fewer_when_some_have_left(make_collector: MakeCollector) -> None:
    def connected() -> int:
        return collector.stderr.count(" connected") - collector.stderr.count(" disconnected")

    collector = make_collector("[listen]\nmax_clients = 1\n").start()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(collector.connect()) for _ in range(4)]
        for client in clients:
            client.sendall(make_frame("waits for its turn"))
        within(5, lambda: connected() == 1)
        hang_up(collector, "[listen]\nmax_clients = 3\n")
        within(5, lambda: len(messages(collector)) == 3)
        hang_up(collector, "[listen]\nmax_clients = 1\n")
        clients[0].close()
        clients[1].close()
        within(5, lambda: connected() == 1)
        assert 3 == len(messages(collector))
        clients[2].close()
        within(5, lambda: len(messages(collector)) == 4)


def test_a_frame_begun_under_a_longer_timeout_ends_by_the_shorter_one(collector: Collector) -> None:
    with collector.connect() as client:
        client.sendall(make_frame("begun")[:50])
        within(5, lambda: " connected" in collector.stderr)
        hang_up(collector, "[listen]\nframe_timeout_seconds = 1\n")
        assert b"" == client.recv(1)


def test_a_smaller_limit_holds_for_a_frame_that_is_not_complete(collector: Collector) -> None:
    with collector.connect() as client:
        client.sendall(make_frame("x" * 1000)[:500])
        within(5, lambda: " connected" in collector.stderr)
        hang_up(collector, "[listen]\nmax_frame_bytes = 700\n")
        client.sendall(make_frame("x" * 1000)[500:] + make_frame("y" * 1000) + make_frame("z"))
        within(5, lambda: messages(collector) == ["z"])
    within(5, lambda: collector.stderr.count("dropped: max_frame_bytes = 700") == 2)


def test_a_quarantine_of_0_bytes_takes_no_more_frames(collector: Collector) -> None:
    collector.send(UNREADABLE)
    within(5, lambda: "9 bytes quarantined" in collector.stderr)
    hang_up(collector, "[quarantine]\nmax_bytes = 0\n")
    collector.send(UNREADABLE)
    within(5, lambda: "9 bytes dropped" in collector.stderr)
    within(5, lambda: (collector.directory / ".quarantine").read_bytes() == UNREADABLE)


def test_byte_strings_are_read_in_the_new_encoding(make_collector: MakeCollector) -> None:
    data = next(case["data"] for case in hostile() if case["name"] == "inj_py2_latin1")
    collector = make_collector(SHORT).start()
    with collector.connect() as client:
        client.sendall(data)
        within(5, lambda: sum(map(len, collector.files().values())))
        hang_up(collector, f'{SHORT}[listen]\npython2_encoding = "latin-1"\n')
        client.sendall(data)
        within(5, lambda: sum(data.count(b"\n") for data in collector.files().values()) == 2)
    ((before, after),) = (data.decode().splitlines() for data in collector.files().values())
    assert r"\x" in before
    assert after == re.sub(r"\\x(..)", lambda match: chr(int(match[1], 16)), before)


def test_names_from_the_wire_are_counted_across_a_reload_and_more_may_come(
    make_collector: MakeCollector,
) -> None:
    collector = make_collector(f"{SHORT}[files]\nmax_files = 1\n").start()
    collector.send(make_frame("1", "a"))
    hang_up(collector)
    collector.send(make_frame("2", "b"))
    within(5, lambda: sorted(collector.files()) == ["_overflow.log", "a.log"])
    hang_up(collector, f"{SHORT}[files]\nmax_files = 2\n")
    collector.send(make_frame("3", "b"))
    within(5, lambda: collector.lines("b.log") == ["3"])


def test_sync_seconds_may_begin(make_collector: MakeCollector, tmp_path: Path) -> None:
    collector = make_collector().start()
    collector.send(make_frame("not synced"))
    trace = tmp_path / "trace"
    strace = trace_syncs(collector, trace)
    hang_up(collector, "[files]\nsync_seconds = 0.1\n")
    with collector.connect() as client:
        client.sendall(make_frame("synced"))
        within(5, lambda: "app.log" in whole_lines(trace))
    assert collector.stop() == 0
    wait_for(strace)


def test_a_certificate_that_was_renewed_is_read_anew(make_collector: MakeCollector, tmp_path: Path) -> None:
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")

    def renew() -> str:
        new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
        subprocess.run(
            [*new, "-keyout", "server.key", "-out", "server.pem"],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )
        return (tmp_path / "server.pem").read_text().strip()

    def presented() -> str:
        return ssl.get_server_certificate(("127.0.0.1", collector.port)).strip()

    first = renew()
    collector = make_collector(tls_table(tmp_path)).start()
    assert first == presented()
    second = renew()
    hang_up(collector)
    assert second == presented()
    (tmp_path / "server.pem").write_text("cut off by a full disk")
    send_signal(collector, signal.SIGHUP)
    within(5, lambda: "ERROR SIGHUP: collector: [listen.tls]" in collector.stderr)
    assert second == presented()


# --- SIGHUP: what is wrong, what needs more -----------------------------------------------------------------


@pytest.mark.quick
def test_a_bad_configuration_is_reported_in_full_and_the_running_one_stays(collector: Collector) -> None:
    rules = "".join(f'[[logger]]\nname = "l{n}"\nlevle = {n}\n' for n in range(30))
    collector.configure(f'[format]\ntext = "%(message)"\n{rules}')
    send_signal(collector, signal.SIGHUP)
    within(5, lambda: "running configuration stays; faults in the new one: 31" in collector.stderr)
    within(5, lambda: collector.stderr.count("ERROR SIGHUP: /") == 31)
    for n in range(30):
        assert f'[[logger]] "l{n}" levle = {n}: unknown; did you mean' in collector.stderr
    collector.send(make_frame("as before"))
    within(5, lambda: messages(collector) == ["as before"])
    assert "Traceback" not in collector.stderr


def test_a_configuration_that_is_gone_is_reported_and_the_running_one_stays(collector: Collector) -> None:
    collector.config.unlink()
    send_signal(collector, signal.SIGHUP)
    within(5, lambda: f"ERROR SIGHUP: {collector.config}: cannot be read" in collector.stderr)
    collector.send(make_frame("as before"))
    within(5, lambda: messages(collector) == ["as before"])


@pytest.mark.parametrize("left", ["", "\n", "# cut off\n"], ids=["nothing", "a line", "a comment"])
def test_a_configuration_that_was_emptied_deletes_no_backup(make_collector: MakeCollector, left: str) -> None:
    """Its defaults would: seven backups instead of all."""
    collector = make_collector(f"{SHORT}[rollover]\nmax_bytes = 100\nbackup_count = 0\n").start()
    collector.send(make_frame("x" * 99) * 12)
    within(5, lambda: len(collector.files()) == 12)
    collector.config.write_text(left)
    send_signal(collector, signal.SIGHUP)
    within(5, lambda: f"ERROR SIGHUP: {collector.config}: has no table; leave out -c" in collector.stderr)
    assert "the running configuration stays; faults in the new one: 1" in collector.stderr
    collector.send(make_frame("y" * 99))
    within(5, lambda: len(collector.files()) == 13)


def test_addresses_and_the_directory_need_a_restart_and_the_rest_holds(
    collector: Collector, tmp_path: Path
) -> None:
    listen = f'[listen]\nhost = "127.0.0.2"\nport = 1\nunix = "{tmp_path}/new"\nbacklog = 7\n'
    hang_up(collector, f'{listen}[files]\ndirectory = "{tmp_path}/elsewhere"\nlevel = "WARNING"\n')
    keys = "[listen] host, [listen] port, [listen] unix, [listen] backlog, [files] directory"
    within(5, lambda: f"WARNING SIGHUP: changed, but needs a restart: {keys}\n" in collector.stderr)
    assert "SIGHUP: changed: [files] level; reopened: 0 files" in collector.stderr
    collector.send(make_frame("dropped") + make_frame("kept", level=logging.ERROR))
    within(5, lambda: messages(collector) == ["kept"])
    assert not (tmp_path / "elsewhere").exists()


def test_a_signal_that_comes_while_the_file_is_read_has_it_read_again(collector: Collector) -> None:
    for n in range(50):
        collector.configure(f'[format]\ntext = "{n}: %(message)s"\n')
        send_signal(collector, signal.SIGHUP)

    def last_one_holds() -> bool:
        collector.send(make_frame("here"))
        return collector.lines("app.log")[-1:] == ["49: here"]

    within(10, last_one_holds)


def test_the_signals_reach_a_worker_that_systemd_has_started(make_collector: MakeCollector) -> None:
    """`ExecReload` signals the main process, which is the worker there: it has no guardian."""
    if not shutil.which("systemd-socket-activate"):
        pytest.skip("needs systemd-socket-activate")
    collector = make_collector(SHORT)
    with socket.create_server(("127.0.0.1", 0)) as free:
        collector.port = free.getsockname()[1]
    activate = ["systemd-socket-activate", "--listen", f"127.0.0.1:{collector.port}"]
    with collector.log.open("ab") as log:
        collector.process = subprocess.Popen(
            [*activate, sys.executable, "-m", "collector", "run", "-c", str(collector.config)], stderr=log
        )
    within(10, lambda: "Listening on" in collector.stderr)
    collector.send(make_frame("one"))
    within(5, lambda: collector.lines("app.log") == ["one"])
    hang_up(collector, '[format]\ntext = "new: %(message)s"\n')
    roll_over(collector)
    collector.send(make_frame("two"))
    within(5, lambda: collector.files() == {"app.log": b"new: two\n", f"app.log.{TODAY}": b"one\n"})
    assert collector.stop() == 0


# --- SIGHUP: files ------------------------------------------------------------------------------------------


def test_a_file_that_was_moved_is_followed_at_once(make_collector: MakeCollector) -> None:
    collector = make_collector(SHORT).start()
    log = collector.directory / "app.log"
    with collector.connect() as client:
        for n in range(20):
            client.sendall(make_frame(str(n)))
            within(5, lambda n=n: collector.lines("app.log") == [str(n)])  # type: ignore[misc]
            log.rename(f"{log}.{n}")
            hang_up(collector)
    assert {f"app.log.{n}": b"%d\n" % n for n in range(20)} == collector.files()


def test_a_file_that_nobody_writes_is_let_go(make_collector: MakeCollector) -> None:
    collector = make_collector("[admin]\nport = 0\n").start()
    collector.send(make_frame("one"))
    # Not only in the file: deleted while it is written, it is made anew with its lines.
    within(5, lambda: stats(collector)["records"]["written"] == 1)
    (collector.directory / "app.log").unlink()
    assert ["app.log (deleted)"] == [name for name in open_files(collector) if "app" in name]
    hang_up(collector)
    within(5, lambda: not [name for name in open_files(collector) if "app" in name])
    assert {} == collector.files()


def test_a_file_that_was_emptied_in_place_is_counted_from_0(make_collector: MakeCollector) -> None:
    """As logrotate's copytruncate does."""
    collector = make_collector(f"{SHORT}[rollover]\nmax_bytes = 300\n").start()
    with collector.connect() as client:
        client.sendall(make_frame("x" * 99) * 3)
        within(5, lambda: len(collector.lines("app.log")) == 3)
        os.truncate(collector.directory / "app.log", 0)
        hang_up(collector)
        client.sendall(make_frame("y" * 99) * 3)
        within(5, lambda: len(collector.lines("app.log")) == 3)
    assert {"app.log": (b"y" * 99 + b"\n") * 3} == collector.files()


# --- SIGUSR1 ------------------------------------------------------------------------------------------------


@pytest.mark.quick
def test_every_file_that_has_lines_is_rolled_over(make_collector: MakeCollector) -> None:
    collector = make_collector(SHORT).start()
    with collector.connect() as client:
        client.sendall(make_frame("1", "a") + make_frame("2", "b"))
        within(5, lambda: len(collector.files()) == 2)
        roll_over(collector)
        within(5, lambda: len(collector.files()) == 4)
        client.sendall(make_frame("3", "a"))
        within(5, lambda: collector.lines("a.log") == ["3"])
        roll_over(collector)
        within(5, lambda: len(collector.files()) == 5)
        roll_over(collector)
        client.sendall(make_frame("4", "b"))
        within(5, lambda: collector.lines("b.log") == ["4"])
    backups = {f"a.log.{TODAY}": b"1\n", f"b.log.{TODAY}": b"2\n", f"a.log.{TODAY}.1": b"3\n"}
    assert {**backups, "a.log": b"", "b.log": b"4\n"} == collector.files()


def test_after_a_reload_no_backup_goes_by_the_old_count(make_collector: MakeCollector) -> None:
    collector = make_collector(f"[rollover]\nbackup_count = 1\n{SHORT}").start()
    with collector.connect() as client:
        for number in range(2):
            client.sendall(make_frame(str(number), "a"))
            within(5, lambda: collector.lines("a.log") == [str(number)])  # noqa: B023 - called at once
            if not number:
                roll_over(collector)
                within(5, lambda: len(collector.files()) == 2)
        hang_up(collector, f"[rollover]\nbackup_count = 0\n{SHORT}")
        roll_over(collector)
        within(5, lambda: len(collector.files()) == 3)
    assert collector.stop() == 0
    assert {f"a.log.{TODAY}": b"0\n", f"a.log.{TODAY}.1": b"1\n", "a.log": b""} == collector.files()


def test_a_file_that_was_let_go_is_rolled_over_too(make_collector: MakeCollector) -> None:
    collector = make_collector(SHORT).start()
    collector.send(make_frame("1"))
    within(5, lambda: collector.lines("app.log") == ["1"])
    hang_up(collector)
    within(5, lambda: "app.log" not in open_files(collector))
    roll_over(collector)
    within(5, lambda: collector.files() == {"app.log": b"", f"app.log.{TODAY}": b"1\n"})


def test_files_closed_above_max_open_are_rolled_over_too(make_collector: MakeCollector) -> None:
    collector = make_collector(f"{SHORT}[files]\nmax_open = 1\n").start()
    for n in range(5):
        collector.send(make_frame("1", f"app{n}"))
        within(5, lambda n=n: collector.lines(f"app{n}.log"))  # type: ignore[misc]
    hang_up(collector, f"{SHORT}[files]\nmax_open = 1\n[rollover]\nmax_bytes = 3\n")
    roll_over(collector)
    within(5, lambda: len(collector.files()) == 10)
    collector.send(make_frame("2", "app0") + make_frame("3", "app0"))
    by_the_new_max_bytes = {f"app0.log.{TODAY}": b"1\n", f"app0.log.{TODAY}.1": b"2\n", "app0.log": b"3\n"}
    within(5, lambda: by_the_new_max_bytes.items() <= collector.files().items())
    within(5, lambda: len([name for name in open_files(collector) if name.startswith("app")]) <= 1)


def test_a_file_that_cannot_be_rolled_over_says_so_and_goes_on(make_collector: MakeCollector) -> None:
    collector = make_collector(SHORT)
    collector.start(preexec_fn=bound_by_permissions if os.geteuid() == 0 else None)
    collector.send(make_frame("1"))
    within(5, lambda: collector.lines("app.log") == ["1"])
    collector.directory.chmod(0o500)
    roll_over(collector)
    within(5, lambda: "app.log: cannot roll over; signal again:" in collector.stderr)
    collector.directory.chmod(0o700)
    collector.send(make_frame("2"))
    within(5, lambda: collector.lines("app.log") == ["1", "2"])


def test_json_and_text_may_follow_each_other_in_a_file(make_collector: MakeCollector) -> None:
    collector = make_collector(SHORT).start()
    with collector.connect() as client:
        client.sendall(make_frame("text"))
        within(5, lambda: collector.lines("app.log") == ["text"])
        hang_up(collector, '[format]\nstyle = "json"\n')
        client.sendall(make_frame("json"))
        within(5, lambda: len(collector.lines("app.log")) == 2)
    assert "json" == json.loads(collector.lines("app.log")[1])["message"]


# --- SIGHUP: the time zone ----------------------------------------------------------------------------------

# Their dates differ at any time of day, by one or by two.
WEST, EAST = timezone(timedelta(hours=-11)), timezone(timedelta(hours=14))


def write_zone(path: Path, zone: timezone) -> None:
    """Write a file of the format TZif (RFC 8536) for *zone*, in place and with the same times of its own.

    So do cp -p and rsync --inplace; that it is another file's content is all there is to see.
    """
    hours = zone.utcoffset(None) // timedelta(hours=1)
    name = f"{hours:+}\0".encode()
    counts = struct.pack(">6l", 0, 0, 0, 0, 1, len(name))
    path.write_bytes(b"TZif".ljust(20, b"\0") + counts + struct.pack(">lbb", hours * 3600, 0, 0) + name)
    os.utime(path, (1_000_000_000, 1_000_000_000))


def stamps(collector: Collector, text: str) -> list[datetime]:
    """Return the times of the lines of its log that have *text*, as they stand there."""
    found = re.findall(rf"^(\S+ \S+) [A-Z]+ .*{text}", collector.stderr, re.MULTILINE)
    return [datetime.strptime(each, "%Y-%m-%d %H:%M:%S") for each in found]  # noqa: DTZ007 - see above


def is_now(stamp: datetime, zone: timezone) -> bool:
    return abs(stamp.replace(tzinfo=zone) - datetime.now(zone)) < timedelta(minutes=5)


@pytest.mark.parametrize("named", ["by a path", "by a name", "by /etc/localtime"])
def test_the_time_zone_is_read_again(make_collector: MakeCollector, tmp_path: Path, named: str) -> None:
    zone = tmp_path / "Zone"
    write_zone(zone, WEST)
    how: dict[str, Any] = {"env": {key: value for key, value in os.environ.items() if key != "TZ"}}
    if named == "by a path":
        how["env"] |= {"TZ": f":{zone}"}
    elif named == "by a name":
        how["env"] |= {"TZ": zone.name, "TZDIR": str(tmp_path)}
    elif not may_be_apart or not os.path.exists("/etc/localtime"):
        pytest.skip("needs /etc/localtime, and root for a mount of its own")
    else:
        mount = f"mount --bind {zone} {os.path.realpath('/etc/localtime')}"
        how["preexec_fn"] = apart(NEW_MOUNTS, "mount --make-rprivate /", mount)
    form = '[format]\ntext = "%(asctime)s %(message)s"\ndatefmt = "%Y-%m-%d %z"\n'
    collector = make_collector(form).start(**how)

    def logs(message: str, zone: timezone) -> None:
        with collector.connect() as client:
            client.sendall(make_frame(message))
            line = f"{datetime.now(zone):%Y-%m-%d %z} {message}"
            within(5, lambda: line in collector.lines("app.log"))

    logs("before", WEST)
    hang_up(collector)
    assert "SIGHUP: changed: nothing;" in collector.stderr
    logs("nothing changed", WEST)

    write_zone(zone, EAST)
    hang_up(collector)
    assert "SIGHUP: changed: the time zone (+14 +1400); reopened: 1 file" in collector.stderr
    logs("after", EAST)
    west, east = stamps(collector, "SIGHUP: changed")
    assert (True, True) == (is_now(west, WEST), is_now(east, EAST))
    assert ["app.log"] == list(collector.files())  # it is of the day of its last line there, which goes on
    roll_over(collector)
    within(5, lambda: f"app.log.{datetime.now(EAST):%Y-%m-%d}" in collector.files())

    os.kill(collector.worker, signal.SIGKILL)
    within(5, lambda: stamps(collector, "was killed by signal 9"))
    assert is_now(stamps(collector, "was killed by signal 9")[0], EAST)
    within(5, lambda: collector.stderr.count("listening on") == 2)
    variables = Path(f"/proc/{collector.worker}/environ").read_text().split("\0")
    assert how["env"].get("TZ") == dict(each.partition("=")[::2] for each in variables).get("TZ")


# --- SIGHUP: the spool and destinations --------------------------------------------------------------------

SPOOL = "[spool]\n"


def test_what_has_changed_of_the_spool_and_of_destinations_is_named(make_collector: MakeCollector) -> None:
    collector = make_collector().start()

    def changed(config: str) -> str:
        before = len(collector.stderr)
        hang_up(collector, config)
        (line,) = re.findall("SIGHUP: changed: (.*); reopened", collector.stderr[before:])
        return str(line)

    assert "[spool], [[forward]]" == changed(f"{SPOOL}{destination(NOBODY)}")
    assert "nothing" == changed(f"{SPOOL}{destination(NOBODY)}")
    assert "[spool] max_bytes" == changed(f"{SPOOL}max_bytes = 100_000_000\n{destination(NOBODY)}")
    assert "[spool] max_bytes, [[forward]]" == changed(f"{SPOOL}{destination(NOBODY, more='level = 30')}")
    assert "[[forward]]" == changed(SPOOL)
    assert "[spool]" == changed("")
    assert "needs a restart" not in collector.stderr


@pytest.mark.parametrize("before", ["", f"{SPOOL}{destination(NOBODY)}"], ids=["without a spool", "with one"])
def test_another_directory_of_the_spool_needs_a_restart(
    make_collector: MakeCollector, tmp_path: Path, before: str
) -> None:
    """Forwarders have that of the start, so the worker must not have another, the first one neither."""
    collector = make_collector(before).start()
    hang_up(collector, f'{SPOOL}directory = "{tmp_path}/elsewhere"\n{destination(NOBODY)}')
    within(5, lambda: "SIGHUP: changed, but needs a restart: [spool] directory\n" in collector.stderr)
    collector.send(make_frame("one"))
    within(5, lambda: list((collector.directory / ".spool").glob("*.seg")))
    assert not (tmp_path / "elsewhere").exists()

    assert 0 == collector.stop()
    collector.start()
    collector.send(make_frame("two"))
    within(5, lambda: list((tmp_path / "elsewhere").glob("*.seg")))


def test_the_directory_of_the_spool_holds_while_there_is_no_spool_table(
    make_collector: MakeCollector, tmp_path: Path
) -> None:
    table = f'{SPOOL}directory = "{tmp_path}/elsewhere"\n{destination(NOBODY)}'
    collector = make_collector(table).start()
    hang_up(collector, "")
    hang_up(collector, table)
    assert "needs a restart" not in collector.stderr
    hang_up(collector, "")
    hang_up(collector, f"{SPOOL}{destination(NOBODY)}")
    within(5, lambda: "SIGHUP: changed, but needs a restart: [spool] directory\n" in collector.stderr)
    assert not (collector.directory / ".spool").exists()


def test_what_a_destination_that_is_taken_out_had_not_shipped_is_a_warning(
    make_collector: MakeCollector,
) -> None:
    both = destination(NOBODY) + destination(NOBODY, "other")
    collector = make_collector(f"{SPOOL}{both}").start()
    spool = collector.directory / ".spool"
    collector.send(b"".join(make_frame(f"{number}") for number in range(7)))
    within(20, lambda: told(spool).get("waiting") == 7)
    hang_up(collector, f"{SPOOL}{destination(NOBODY, 'other')}")
    # What comes from now on is not the former's.
    collector.send(make_frame("more"))
    warning = "WARNING forward elk: taken out of the configuration: 7 records were not shipped; "
    within(20, lambda: f"{warning}its checkpoint stays in {spool}\n" in collector.stderr)
    assert (spool / "elk.checkpoint").exists()
    assert "forward other: taken out" not in collector.stderr

    assert 0 == collector.stop()
    before = len(collector.stderr)
    collector.start()
    within(5, lambda: warning in collector.stderr[before:])
    assert "forward other: taken out" not in collector.stderr
    hang_up(collector, f"{SPOOL}{both}")
    within(20, lambda: told(spool).get("waiting") == 8)


def test_a_destination_that_is_back_before_its_forwarder_has_ended_is_handed_over_to(
    make_collector: MakeCollector,
) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def hang(connection: socket.socket) -> None:
        asked.set()
        go_on.wait(60)
        connection.shutdown(socket.SHUT_RDWR)

    with BulkServer() as server:
        server.instead["_bulk"] = [hang]
        elk, other = destination(server.url), destination(NOBODY, "other")
        collector = make_collector(f"{SPOOL}{elk}").start()
        collector.send(make_frame("one"))
        assert asked.wait(30)
        hang_up(collector, f"{SPOOL}{other}")
        within(10, lambda: "other" in collector.forwarders)  # the guardian has read it too
        hang_up(collector, f"{SPOOL}{elk}{other}")
        go_on.set()
        within(30, lambda: "the forwarder elk, process" in collector.stderr)
        within(30, lambda: told(collector.directory / ".spool").get("waiting") == 0)
    assert "another forwarder hands over to it" not in collector.stderr
    assert "forward elk: taken out of the configuration" not in collector.stderr
    assert "ERROR the forwarder elk" not in collector.stderr


def test_a_configuration_that_cannot_be_used_is_told_by_the_worker_alone(
    make_collector: MakeCollector,
) -> None:
    both = destination(NOBODY) + destination(NOBODY, "other")
    collector = make_collector(f"{SPOOL}{both}").start()
    collector.send(make_frame("one"))
    within(30, lambda: told(collector.directory / ".spool").get("waiting") == 1)
    collector.config.write_text("[nonsense]\n")
    send_signal(collector, signal.SIGHUP)
    within(10, lambda: "nonsense" in collector.stderr)
    assert 0 == collector.stop()  # by then the forwarders have read it too
    assert 1 == collector.stderr.count("nonsense")


def test_a_destination_that_had_shipped_all_is_told_of_when_it_is_taken_out_and_never_again(
    make_collector: MakeCollector,
) -> None:
    with BulkServer() as server:
        both = destination(server.url) + destination(NOBODY, "other")
        collector = make_collector(f"{SPOOL}{both}").start()
        collector.send(make_frame("one"))
        within(30, lambda: told(collector.directory / ".spool").get("shipped") == 1)
        hang_up(collector, f"{SPOOL}{destination(NOBODY, 'other')}")
    within(20, lambda: "forward elk: taken out of the configuration: 0 records" in collector.stderr)
    assert "cannot be used" not in collector.stderr
    assert 0 == collector.stop()
    collector.start()
    hang_up(collector)
    assert 1 == collector.stderr.count("forward elk: taken out of the configuration")
