from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

from tests.support.admin import ADMIN
from tests.support.certificates import tls_table
from tests.support.collectors import START_SECONDS, whole_lines
from tests.support.commands import run
from tests.support.frames import make_frame
from tests.support.namespaces import NEW_NETWORK, apart, needs_root
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.collectors import Collector

    MakeCollector = Callable[..., Collector]

pytestmark = pytest.mark.slow

EVERY_IPV4 = "0.0.0.0"  # noqa: S104 - that is the case
DEBUG = '[log]\nlevel = "DEBUG"\n'


def free_port(host: str = "127.0.0.1") -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as free:
        return int(free.getsockname()[1])


def health(config: Path | str) -> subprocess.CompletedProcess[str]:
    return run("health", "-c", str(config))


def assert_healthy(config: Path | str) -> None:
    ended = health(config)
    assert (0, "healthy\n", "") == (ended.returncode, ended.stdout, ended.stderr)


def fault_of(ended: subprocess.CompletedProcess[str]) -> str:
    """Return why it is not healthy, in the one line that says so."""
    assert (1, "") == (ended.returncode, ended.stdout)
    (line,) = ended.stderr.splitlines()
    assert line.startswith("collector health: ")
    return line.removeprefix("collector health: ")


# --- by the admin port ---


@pytest.mark.parametrize("host", ["127.0.0.1", EVERY_IPV4, "::", "localhost"])
def test_the_admin_port_is_asked_at_loopback_where_it_listens_on_every_address(
    make_collector: MakeCollector, host: str
) -> None:
    if ":" in host and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    collector = make_collector(f'[admin]\nhost = "{host}"\nport = {free_port()}\ntoken = "secret"\n').start()
    assert collector.admin_port
    assert_healthy(collector.config)


def test_who_cannot_read_the_token_is_told_all_the_same(
    make_collector: MakeCollector, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    collector = make_collector(f'[admin]\nport = {free_port()}\ntoken_file = "{token}"\n').start()
    token.unlink()
    assert_healthy(collector.config)


def test_a_collector_that_cannot_write_is_not_healthy_for_the_reason_that_it_gives(
    make_collector: MakeCollector,
) -> None:
    collector = make_collector(f"[admin]\nport = {free_port()}\n").start()
    blocked = collector.directory / "app.log"
    blocked.mkdir()
    collector.send(make_frame("waits"))

    def fault() -> str:
        ended = health(collector.config)
        return fault_of(ended) if ended.returncode else ""

    within(START_SECONDS, lambda: f"{blocked}: cannot be written: " in fault())
    blocked.rmdir()
    within(START_SECONDS, lambda: not fault())


def test_where_nobody_answers_the_line_has_the_address_and_what_to_look_at(tmp_path: Path) -> None:
    config = tmp_path / "collector.toml"
    port = free_port()
    config.write_text(f"[admin]\nport = {port}\n")
    remedy = "does a collector run, with this [admin]?"
    assert f"cannot reach 127.0.0.1:{port}: Connection refused; {remedy}" == fault_of(health(config))


class Stranger(BaseHTTPRequestHandler):
    """What else may have the port."""

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


def test_something_else_at_the_port_is_not_healthy(tmp_path: Path) -> None:
    config = tmp_path / "collector.toml"
    with HTTPServer(("127.0.0.1", 0), Stranger) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_port
        config.write_text(f"[admin]\nport = {port}\n")
        assert f"127.0.0.1:{port} answers 404 Not Found to /healthz" == fault_of(health(config))
        server.shutdown()


@pytest.fixture(params=["silent", "trickling"])
def endless(request: pytest.FixtureRequest) -> Iterator[int]:
    """Return a port whose owner never comes to the end of an answer."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        sock, _ = listener.accept()
        with sock:
            try:
                while not done.wait(0.2):
                    sock.sendall(b"H" if request.param == "trickling" else b"")
            except OSError:
                pass

    done = threading.Event()
    thread = threading.Thread(target=answer)
    thread.start()
    yield listener.getsockname()[1]
    done.set()
    thread.join()
    listener.close()


def test_it_never_hangs_whatever_answers(endless: int, tmp_path: Path) -> None:
    config = tmp_path / "collector.toml"
    config.write_text(f"[admin]\nport = {endless}\n")
    begun = time.monotonic()
    fault = fault_of(health(config))
    assert re.search("timed out|no answer within", fault), fault
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ("[admin]\nport = 0\n", "[admin] port = 0 does not tell the port; choose one"),
        ("[listen]\nport = 0\n", "[listen] port = 0 does not tell the port; choose one, or add [admin]"),
    ],
    ids=["admin", "listen"],
)
def test_a_port_that_the_configuration_does_not_tell_is_the_reason(
    tmp_path: Path, config: str, fault: str
) -> None:
    path = tmp_path / "collector.toml"
    path.write_text(config)
    assert fault == fault_of(health(path))


def test_a_configuration_with_faults_is_the_reason_in_one_line(tmp_path: Path) -> None:
    config = tmp_path / "collector.toml"
    config.write_text("[admin]\nport = -1\nhots = 1\n")
    fault = fault_of(health(config))
    assert "[admin] port = -1: must be" in fault
    assert "[admin] hots = 1: unknown" in fault


# --- by connecting ---


def nobody_was_seen(collector: Collector) -> None:
    """Assert that nobody is logged above DEBUG, and nobody counted."""
    clients = [line.split(" ", 2)[2] for line in collector.stderr.splitlines() if " client " in line]
    assert clients
    assert {"DEBUG"} == {line.split()[0] for line in clients}
    assert 0 == collector.stop()
    assert "stopped: 0 records received from 0 clients" in collector.stderr


@pytest.mark.parametrize("kind", ["plain", "TLS", "proxy_protocol", "allow", "::", EVERY_IPV4])
def test_without_an_admin_port_it_connects_and_is_no_client(
    make_collector: MakeCollector, certificates: Path, kind: str
) -> None:
    if kind == "::" and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    config = f"{DEBUG}[listen]\nport = {free_port()}\n"
    config += {
        "proxy_protocol": 'proxy_protocol = ["127.0.0.0/8"]\n',
        "allow": 'allow = ["192.0.2.0/24"]\n',
        "::": 'host = "::"\n',
        EVERY_IPV4: f'host = "{EVERY_IPV4}"\n',
    }.get(kind, "")
    collector = make_collector(config + (tls_table(certificates) if kind == "TLS" else "")).start()
    for count in (1, 2, 3):
        assert_healthy(collector.config)
        within(5, lambda count=count: collector.stderr.count("went away without a byte") == count)  # type: ignore[misc]
    nobody_was_seen(collector)


def test_where_only_a_unix_socket_is_told_that_is_connected(
    make_collector: MakeCollector, tmp_path: Path
) -> None:
    collector = make_collector(f'{DEBUG}[listen]\nunix = "{tmp_path / "socket"}"\n').start()
    assert_healthy(collector.config)
    within(5, lambda: "DEBUG client unix went away without a byte" in collector.stderr)
    nobody_was_seen(collector)
    remedy = "does a collector run, and listen there?"
    fault = f"cannot connect to {tmp_path / 'socket'}: No such file or directory; {remedy}"
    assert fault == fault_of(health(collector.config))


def test_where_nobody_listens_it_is_not_healthy(tmp_path: Path) -> None:
    config = tmp_path / "collector.toml"
    port = free_port()
    config.write_text(f"[listen]\nport = {port}\n")
    assert fault_of(health(config)).startswith(f"cannot connect to 127.0.0.1:{port}: Connection refused; ")


def test_it_is_told_of_no_client_while_a_worker_is_replaced(make_collector: MakeCollector) -> None:
    collector = make_collector(f"[listen]\nport = {free_port()}\n").start()
    os.kill(collector.worker, signal.SIGKILL)
    assert_healthy(collector.config)


# --- what is no health check of this machine's ---


def test_who_stays_is_a_client_before_its_first_byte(make_collector: MakeCollector) -> None:
    collector = make_collector(ADMIN).start()
    with collector.connect():
        within(5, lambda: "INFO client 127.0.0.1:" in collector.stderr)
    within(5, lambda: "disconnected after 0 records" in collector.stderr)
    assert 0 == collector.stop()
    assert "stopped: 0 records received from 1 client," in collector.stderr


@needs_root
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_who_knocks_from_elsewhere_is_a_client(
    make_collector: MakeCollector, certificates: Path, *, tls: bool
) -> None:
    """From an address that is not that of the port, in a network that has both."""
    addresses = "ip link set lo up && ip addr add 192.0.2.1/32 dev lo"
    collector = make_collector(tls_table(certificates) if tls else "")
    collector.start(preexec_fn=apart(NEW_NETWORK, addresses))
    code = "import socket; socket.create_connection(('127.0.0.1', {}), 10, ('192.0.2.1', 0)).close()"
    assert collector.process
    enter = ["nsenter", "--target", str(collector.process.pid), "--net"]
    subprocess.run([*enter, sys.executable, "-c", code.format(collector.port)], check=True, timeout=30)
    gone = r"INFO client 192\.0\.2\.1:\d+ disconnected after 0 records, 0 bytes"
    within(5, lambda: re.search(gone, whole_lines(collector.log)))
    assert 0 == collector.stop()
    assert "stopped: 0 records received from 1 client," in collector.stderr
