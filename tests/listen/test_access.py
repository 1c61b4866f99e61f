"""Who may connect: networks, TLS, the Unix socket."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import signal
import socket
import ssl
import stat
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from logging.handlers import SocketHandler
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.admin import ADMIN, refused, stats
from tests.support.certificates import openssl, tls_table
from tests.support.collectors import messages
from tests.support.fleet import timed
from tests.support.frames import make_frame
from tests.support.pythons import find_python
from tests.support.pythons import run as run_python
from tests.support.texts import shown
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.collectors import Collector


@pytest.mark.quick
def test_a_client_outside_allow_is_refused_with_a_line(make_collector: Callable[..., Collector]) -> None:
    collector = make_collector('[listen]\nallow = ["10.0.0.0/8", "::1"]\n').start()
    collector.send(make_frame("refused"))
    within(5, lambda: "is refused: its address is not in [listen] allow" in collector.stderr)
    assert {} == collector.files()


@pytest.mark.quick
def test_a_client_inside_allow_is_served(make_collector: Callable[..., Collector]) -> None:
    collector = make_collector('[listen]\nallow = ["192.0.2.0/24", "127.0.0.0/8"]\n').start()
    collector.send(make_frame("served"))
    within(5, lambda: messages(collector) == ["served"])


def test_ipv6_is_served_and_an_ipv4_client_of_it_is_known_by_its_own_address(
    make_collector: Callable[..., Collector],
) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    collector = make_collector('[listen]\nhost = "::"\nallow = ["127.0.0.1", "::1"]\n').start()
    collector.send(make_frame("from IPv4"))
    with socket.create_connection(("::1", collector.port)) as client:
        client.sendall(make_frame("from IPv6"))
        within(5, lambda: sorted(messages(collector)) == ["from IPv4", "from IPv6"])
    within(5, lambda: "client 127.0.0.1:" in collector.stderr)
    within(5, lambda: "client [::1]:" in collector.stderr)


# --- Unix ---


@pytest.mark.quick
def test_a_stock_handler_may_use_the_unix_socket(
    make_collector: Callable[..., Collector], tmp_path: Path
) -> None:
    path = tmp_path / "collector.sock"
    collector = make_collector(f'[listen]\nunix = "{path}"\nallow = ["192.0.2.1"]\n').start()
    handler = SocketHandler(str(path), None)
    handler.emit(logging.LogRecord("app", logging.INFO, "/srv/app.py", 7, "by path", None, None))
    handler.close()
    within(5, lambda: messages(collector) == ["by path"])
    within(5, lambda: "client unix connected" in collector.stderr)
    assert 0o140660 == path.stat().st_mode
    within(5, lambda: f"listening on {path}" in collector.stderr)
    assert collector.stop() == 0
    assert not path.exists()


def test_what_a_killed_collector_left_at_the_path_is_replaced(
    make_collector: Callable[..., Collector], tmp_path: Path
) -> None:
    path = tmp_path / "collector.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    make_collector(f'[listen]\nunix = "{path}"\n').start()


@pytest.mark.parametrize("kind", ["socket", "file", "directory", "nothing"])
def test_a_stop_leaves_what_has_taken_the_place_of_the_socket(
    make_collector: Callable[..., Collector], tmp_path: Path, kind: str
) -> None:
    """The socket of another collector, for instance, which its clients would no longer find."""
    path = tmp_path / "collector.sock"
    collector = make_collector(f'[listen]\nunix = "{path}"\n').start()
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        if kind == "socket":
            other.bind(str(path))
        elif kind == "file":
            path.touch()
        elif kind == "directory":
            path.mkdir()
        assert collector.stop() == 0
    assert path.exists() == (kind != "nothing")


def test_a_start_that_fails_leaves_no_socket_behind(
    make_collector: Callable[..., Collector], tmp_path: Path
) -> None:
    path = tmp_path / "collector.sock"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        admin = f"[admin]\nport = {taken.getsockname()[1]}\n"
        collector = make_collector(f'[listen]\nunix = "{path}"\n{admin}')
        with pytest.raises(AssertionError, match="see \\[admin\\] host and port"):
            collector.start()
    assert not path.exists()


def test_what_is_no_socket_at_the_path_is_left_alone(
    make_collector: Callable[..., Collector], tmp_path: Path
) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    collector = make_collector(f'[listen]\nunix = "{path}"\n')
    with pytest.raises(AssertionError, match="cannot listen on"):
        collector.start()
    assert collector.process
    assert collector.process.wait() == 2
    assert path.read_text() == "data"


def test_the_fields_of_a_unix_client_are_named_unix(
    make_collector: Callable[..., Collector], tmp_path: Path
) -> None:
    path = tmp_path / "collector.sock"
    collector = make_collector(
        f'[listen]\nunix = "{path}"\n[files]\nname = "{{client}}/{{logger}}.log"\n'
    ).start()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(make_frame("here"))
        within(5, lambda: messages(collector, "unix/app.log") == ["here"])


# --- TLS ---


def program_of_the_docs() -> str:
    """Return the program with the handler for TLS that the docs show."""
    return shown("docs/clients.rst", "import logging.handlers, ssl")


def tls_handler(port: int, context: ssl.SSLContext) -> SocketHandler:
    names: dict[str, Any] = {}
    exec(program_of_the_docs().partition("\ncontext = ")[0], names)  # noqa: S102 - as shown
    return names["TlsSocketHandler"]("127.0.0.1", port, context)  # type: ignore[no-any-return]


def test_a_handler_with_tls_is_served_and_a_plain_one_is_not(
    make_collector: Callable[..., Collector], certificates: Path
) -> None:
    collector = make_collector(tls_table(certificates)).start()
    collector.send(make_frame("in the clear"))
    within(5, lambda: "no TLS handshake" in collector.stderr)
    handler = tls_handler(collector.port, ssl.create_default_context(cafile=str(certificates / "ca.pem")))
    for n in range(100):
        handler.emit(logging.LogRecord("app", logging.INFO, "/srv/app.py", 7, f"{n}", None, None))
    within(5, lambda: messages(collector) == [f"{n}" for n in range(100)])
    assert collector.stop() == 0
    handler.close()


def went(collector: Collector, address: str = "127.0.0.1") -> list[tuple[str, str]]:
    """Return the level and the words with which each client of an address went."""
    return re.findall(rf"(\w+) client {address}:\d+ (disconnected .*)", collector.stderr)


def knock(collector: Collector, data: bytes, *, reset: bool, address: str = "127.0.0.1") -> None:
    """Connect, send *data* and close, with a FIN or an RST."""
    with socket.create_connection(("127.0.0.1", collector.port), 10, source_address=(address, 0)) as client:
        client.sendall(data)
        if reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def client_hello(certificates: Path) -> bytes:
    """Return how a handshake begins."""
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    out = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return out.read()


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
def test_a_health_check_of_a_tls_port_is_no_refused_client(
    reset: bool,
    make_collector: Callable[..., Collector],
    certificates: Path,
) -> None:
    debug = '[log]\nlevel = "DEBUG"\n'
    collector = make_collector(tls_table(certificates) + ADMIN + debug).start()
    for _ in range(30):
        knock(collector, b"", reset=reset)
    within(5, lambda: collector.stderr.count("went away without a byte") == 30)
    assert [] == went(collector)
    assert {} == refused(collector)
    knock(collector, b"in the clear", reset=False)
    within(5, lambda: len(went(collector)) == 1)
    level, how = went(collector)[-1]
    assert level == "WARNING"
    assert "no TLS handshake" in how
    assert {"TLS handshake": 1} == refused(collector)


@pytest.mark.parametrize(
    ("data", "level"),
    [
        (make_frame("in the clear"), "ERROR"),
        (b"POST /log HTTP/1.1\r\n\r\n", "ERROR"),
        (make_frame("in the clear")[4:], "ERROR"),
        (bytes.fromhex("0300 0013 0ee0 0000 0000"), "WARNING"),
        (b"SSH-2.0-x\r\n", "WARNING"),
        (b"\0\0\0\x54\xffSMB", "WARNING"),
    ],
    ids=["a frame", "HTTP", "a pickle without a length", "RDP", "SSH", "SMB"],
)
def test_an_application_without_tls_is_an_error_with_the_remedy_and_a_scan_a_warning(
    make_collector: Callable[..., Collector], certificates: Path, data: bytes, level: str
) -> None:
    collector = make_collector(tls_table(certificates) + ADMIN).start()
    for _ in range(25):  # as many as use up the lines of their kind
        knock(collector, b"\xff" * 9, reset=False)
    collector.send(data)
    within(5, lambda: len(went(collector)) == 20 + (level == "ERROR"))
    found, how = went(collector)[-1]
    assert "no TLS handshake: it sends no TLS; see docs/clients.rst, TLS" in how
    assert level == found
    assert {"TLS handshake": 26} == refused(collector)


def test_a_handshake_that_a_stop_cuts_short_is_no_fault_of_its_client(
    make_collector: Callable[..., Collector], certificates: Path
) -> None:
    collector = make_collector(tls_table(certificates)).start()
    with collector.connect() as client:
        client.sendall(client_hello(certificates)[:100])
        within(5, lambda: " connected" in collector.stderr)
        assert 0 == collector.stop()
    assert ["INFO"] == [level for level, _ in went(collector)]


def test_no_cause_and_no_client_silences_another_at_the_handshake(
    make_collector: Callable[..., Collector], certificates: Path
) -> None:
    collector = make_collector(tls_table(certificates, f"{certificates}/ca.pem")).start()
    for _ in range(25):
        knock(collector, make_frame("in the clear"), reset=False)
    within(5, lambda: len(went(collector)) == 20)
    knock(collector, make_frame("in the clear"), reset=False, address="127.0.0.2")
    within(5, lambda: len(went(collector, "127.0.0.2")) == 1)
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    with context.wrap_socket(collector.connect(), server_hostname="127.0.0.1"):  # and no certificate
        within(5, lambda: "peer did not return a certificate" in collector.stderr)
    assert collector.stop() == 0
    assert re.search(r"5 more left out like: client \S+ disconnected", collector.stderr)
    assert "5 of them by 127.0.0.1" in collector.stderr


def test_what_allow_refuses_is_told_of_each_address(make_collector: Callable[..., Collector]) -> None:
    collector = make_collector('[listen]\nallow = ["10.0.0.0/8"]\n').start()
    for _ in range(25):
        knock(collector, b"x", reset=False)
    knock(collector, b"x", reset=False, address="127.0.0.2")
    within(5, lambda: "client 127.0.0.2:" in collector.stderr)
    assert 20 == len(re.findall(r"client 127\.0\.0\.1:\d+ is refused", collector.stderr))


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
def test_a_handshake_is_not_begun_with_a_client_that_has_hung_up_meanwhile(
    reset: bool,
    make_collector: Callable[..., Collector],
    certificates: Path,
) -> None:
    """Of a thousand that reconnect at once, the last have given up by their turn."""
    collector = make_collector(tls_table(certificates) + "[admin]\nport = 0\n").start()
    hello = client_hello(certificates)
    stats(collector)  # is answered once the port is open
    worker = collector.worker
    os.kill(worker, signal.SIGSTOP)
    try:
        for _ in range(5):
            knock(collector, hello, reset=reset)
    finally:
        os.kill(worker, signal.SIGCONT)
    within(5, lambda: len(went(collector)) == 5)
    assert {"WARNING"} == {level for level, _ in went(collector)}
    assert 5 == collector.stderr.count("no TLS handshake: it has hung up meanwhile")
    assert {"TLS handshake": 5} == refused(collector)


def test_clients_that_an_intermediate_authority_signed_are_served_without_the_root(
    make_collector: Callable[..., Collector], certificates: Path, tmp_path: Path
) -> None:
    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj")
    authority = ("basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign", "authorityKeyIdentifier=keyid")
    openssl(tmp_path, *new, "/CN=root", "-x509", "-keyout", "root.key", "-out", "root.pem", "-days", "2")
    for name, issuer, lines in (
        ("intermediate", "root", authority),
        ("client", "intermediate", authority[1:]),
        ("other", "root", authority),
        ("stranger", "other", authority[1:]),
    ):
        (tmp_path / "extensions").write_text("\n".join(lines))
        openssl(tmp_path, *new, f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        sign = ("x509", "-req", "-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key", "-CAcreateserial")
        openssl(
            *(tmp_path, *sign, "-days", "2", "-in", f"{name}.csr", "-out", f"{name}.pem"),
            *("-extfile", "extensions"),
        )
    collector = make_collector(tls_table(certificates, f"{tmp_path}/intermediate.pem")).start()
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    context.load_cert_chain(tmp_path / "client.pem", tmp_path / "client.key")
    with context.wrap_socket(collector.connect(), server_hostname="127.0.0.1") as client:
        client.sendall(make_frame("signed"))
        within(5, lambda: messages(collector) == ["signed"])
    context.load_cert_chain(tmp_path / "stranger.pem", tmp_path / "stranger.key")
    with context.wrap_socket(collector.connect(), server_hostname="127.0.0.1"):
        within(5, lambda: "certificate verify failed" in collector.stderr)


def test_the_certificate_that_the_docs_make_is_accepted(
    make_collector: Callable[..., Collector], tmp_path: Path
) -> None:
    command = shown("docs/deploy.rst", "openssl req")
    subprocess.run(command, shell=True, cwd=tmp_path, check=True, capture_output=True)  # noqa: S602 - as shown
    # A client gives up after a second: when a thousand reconnect at once, RSA can take four times as long.
    assert "prime256v1" in openssl(tmp_path, "x509", "-in", "server.pem", "-noout", "-text")
    collector = make_collector(tls_table(tmp_path, f"{tmp_path}/server.pem")).start()
    context = ssl.create_default_context(cafile=str(tmp_path / "server.pem"))
    context.verify_flags |= ssl.VERIFY_X509_STRICT  # as Python 3.13 has it by default
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    with context.wrap_socket(collector.connect(), server_hostname="logs.example.org") as client:
        client.sendall(make_frame("trusted"))
        within(5, lambda: messages(collector) == ["trusted"])


def test_a_tls_client_that_sends_and_closes_at_once_loses_nothing(
    make_collector: Callable[..., Collector], certificates: Path
) -> None:
    """A session ticket that lies unread at the client turns its close() into a reset of the connection."""
    collector = make_collector(tls_table(certificates)).start()
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    sent = [f"{n}" for n in range(450)]
    for n in range(0, 450, 3):
        handler = tls_handler(collector.port, context)
        for message in sent[n : n + 3]:
            handler.emit(logging.LogRecord("app", logging.INFO, "/srv/app.py", 7, message, None, None))
        handler.close()
    within(5, lambda: collector.stderr.count("disconnected") == 150)
    assert collector.stop() == 0
    assert sorted(sent) == sorted(messages(collector))


SHORT_CLIENTS = """
import logging
for client in range(60):
    handler = TlsSocketHandler("localhost", {port}, context)
    for n in range(6):
        handler.emit(logging.LogRecord("app", 20, "/srv/app.py", 7, "%d %d" % (client, n), None, None))
    handler.close()
"""
SHORT_RECORDS = sorted(f"{client} {n}" for client in range(60) for n in range(6))


def log_with_short_clients(python: str, port: int, certificates: Path) -> None:
    """Have a Python run the docs' handler in clients that send a few records and close, without complaint."""
    program = program_of_the_docs().replace('"ca.pem"', f'"{certificates}/ca.pem"')
    ended = run_python(python, "-c", program + SHORT_CLIENTS.format(port=port))
    assert (0, "", "") == (ended.returncode, ended.stdout, ended.stderr)


@pytest.fixture
def stunnel(certificates: Path, tmp_path: Path) -> Iterator[Callable[[Collector], int]]:
    """Return a function that has stunnel end TLS in front of a collector, and returns its port."""
    program = shutil.which("stunnel4") or shutil.which("stunnel") or pytest.skip("stunnel is not installed")
    started: list[subprocess.Popen[bytes]] = []

    def start(collector: Collector) -> int:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port: int = free.getsockname()[1]
        (tmp_path / "stunnel.conf").write_text(
            "foreground = yes\npid =\n[collector]\n"
            f"accept = 127.0.0.1:{port}\nconnect = 127.0.0.1:{collector.port}\n"
            f"cert = {certificates}/server.pem\nkey = {certificates}/server.key\n"
        )
        log = tmp_path / "stunnel.txt"
        with log.open("wb") as output:
            started.append(subprocess.Popen([program, tmp_path / "stunnel.conf"], stderr=output))
        within(10, lambda: "Configuration successful" in log.read_text())
        return port

    yield start
    for process in started:
        process.terminate()
        process.wait()


@pytest.mark.parametrize("version", ["2.7", f"{sys.version_info[0]}.{sys.version_info[1]}"])
def test_the_handler_that_the_docs_show_loses_nothing(
    version: str, make_collector: Callable[..., Collector], certificates: Path
) -> None:
    collector = make_collector(tls_table(certificates)).start()
    log_with_short_clients(find_python(version), collector.port, certificates)
    within(10, lambda: SHORT_RECORDS == sorted(messages(collector)))
    assert "WARNING" not in collector.stderr


@pytest.mark.parametrize("version", ["2.7", f"{sys.version_info[0]}.{sys.version_info[1]}"])
def test_the_handler_that_the_docs_show_loses_nothing_behind_a_proxy_that_ends_tls(
    version: str,
    collector: Collector,
    certificates: Path,
    stunnel: Callable[[Collector], int],
) -> None:
    """It sends session tickets: unread, they turn a close() without close_notify into a reset."""
    log_with_short_clients(find_python(version), stunnel(collector), certificates)
    within(10, lambda: SHORT_RECORDS == sorted(messages(collector)))


@pytest.mark.slow
def test_close_does_not_wait_for_a_peer_that_does_not_answer(certificates: Path) -> None:
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as thread:
        handler = tls_handler(listener.getsockname()[1], context)
        accepted = thread.submit(lambda: serving.wrap_socket(listener.accept()[0], server_side=True))
        handler.emit(logging.LogRecord("app", logging.INFO, "/srv/app.py", 7, "x", None, None))
        with accepted.result(5):
            begun = time.monotonic()
            handler.close()
            assert time.monotonic() - begun < 5


def test_what_a_tls_client_sent_before_the_signal_is_on_disk(
    make_collector: Callable[..., Collector], certificates: Path
) -> None:
    collector = make_collector(tls_table(certificates)).start()
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    with context.wrap_socket(collector.connect(), server_hostname="127.0.0.1") as client:
        client.sendall(make_frame("kept") * 3000)
        assert collector.stop() == 0
    assert 3000 == len(messages(collector))


def test_with_client_ca_only_clients_with_a_certificate_are_served(
    make_collector: Callable[..., Collector], certificates: Path
) -> None:
    collector = make_collector(tls_table(certificates, f"{certificates}/ca.pem")).start()
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    with context.wrap_socket(collector.connect(), server_hostname="127.0.0.1") as client:
        with contextlib.suppress(OSError):
            client.sendall(make_frame("nobody"))
            client.recv(1)
        within(5, lambda: "no TLS handshake" in collector.stderr)
    context.load_cert_chain(str(certificates / "client.pem"), str(certificates / "client.key"))
    with context.wrap_socket(collector.connect(), server_hostname="127.0.0.1") as client:
        client.sendall(make_frame("somebody"))
        within(5, lambda: messages(collector) == ["somebody"])


@pytest.mark.slow
def test_a_handshake_that_stalls_ends_after_10_seconds_and_delays_nobody(
    make_collector: Callable[..., Collector], certificates: Path
) -> None:
    collector = make_collector(tls_table(certificates)).start()
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    begun = time.monotonic()
    with timed(collector) as seconds, collector.connect() as stalled:
        with context.wrap_socket(collector.connect(), server_hostname="127.0.0.1") as client:
            client.sendall(make_frame("not delayed"))
            within(2, lambda: messages(collector) == ["not delayed"])
        stalled.settimeout(60)
        assert stalled.recv(1) == b""
    assert time.monotonic() - begun > 9
    assert seconds() < 12


@pytest.mark.parametrize("missing", ["server.pem", "server.key", "ca.pem"])
@pytest.mark.parametrize("command", ["run", "check"])
def test_a_certificate_that_cannot_be_loaded_is_one_line_and_exit_2(
    make_collector: Callable[..., Collector], certificates: Path, missing: str, command: str
) -> None:
    from tests.support.commands import run

    table = tls_table(certificates, f"{certificates}/ca.pem").replace(f"/{missing}", "/missing.pem")
    result = run(command, "-c", str(make_collector(table).config))
    assert result.returncode == 2
    assert 1 == len(result.stderr.splitlines())
    assert "[listen.tls]" in result.stderr
    assert "missing.pem" in result.stderr


def test_a_key_that_wants_a_password_is_refused_and_nobody_is_asked(
    make_collector: Callable[..., Collector], certificates: Path
) -> None:
    from tests.support.commands import run

    encrypted = certificates / "encrypted.key"
    encrypt = ["openssl", "rsa", "-aes128", "-passout", "pass:secret", "-in", f"{certificates}/server.key"]
    subprocess.run([*encrypt, "-out", str(encrypted)], check=True, capture_output=True)
    table = tls_table(certificates).replace("/server.key", "/encrypted.key")
    result = run("check", "-c", str(make_collector(table).config))
    assert result.returncode == 2
    assert str(encrypted) in result.stderr


def test_the_mode_of_a_directory_and_of_files_lets_the_group_read_and_nobody_else(
    make_collector: Callable[..., Collector],
) -> None:
    collector = make_collector('[files]\nname = "{client}/{logger}.log"\n')
    collector.directory = collector.directory / "deep"
    collector.configure('[files]\nname = "{client}/{logger}.log"\n')
    collector.start()
    collector.send(make_frame("x"))
    within(5, collector.files)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in collector.directory.parent.rglob("*")}
    assert {"deep": 0o750, "127.0.0.1": 0o750, "app.log": 0o640, ".collector.lock": 0o640} == modes
