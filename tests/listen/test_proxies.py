"""Behind a proxy: who a client is, and what becomes of a PROXY header that is wrong, or in the wrong place.

With real HAProxy, nginx and stunnel where they are installed. A client is told from its proxy by the address
that it connects from, another one of the loopback network.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import ssl
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from collector.stats import REFUSE_REASONS
from tests.support.admin import ADMIN, ask, difference, refused, stats
from tests.support.certificates import tls_table
from tests.support.collectors import messages
from tests.support.frames import make_frame
from tests.support.proxy_headers import BROKEN, HEADERS, TEXT, UNIX, binary, text
from tests.support.signals import hang_up
from tests.support.texts import shown
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.collectors import Collector

    MakeCollector = Callable[..., Collector]


BY_CLIENT = '[files]\nname = "{client}/{logger}.log"\n[format]\ntext = "%(client)s 7 %(message)s"\n'
CLIENT = "127.0.0.2"
PROXY = "127.0.0.1"
BEHIND = f'[listen]\nproxy_protocol = ["{PROXY}"]\n'
VERSIONS = {"1": (TEXT, 1), "2": (binary(), 2)}


def connect(port: int, source: str) -> socket.socket:
    return socket.create_connection((PROXY, port), timeout=10, source_address=(source, 0))


def context_of(directory: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(directory / "ca.pem"))


def told(collector: Collector, what: str) -> list[str]:
    """Return the lines of the log that have *what* in them, without the time."""
    return [line.split(" ", 2)[2] for line in collector.stderr.splitlines() if what in line]


# --- a header in the wrong place ---


@pytest.mark.parametrize("split", [False, True], ids=["whole", "byte by byte"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize(("header", "version"), VERSIONS.values(), ids=VERSIONS)
def test_a_header_from_elsewhere_is_refused_and_named_with_the_remedy(  # noqa: PLR0913, PLR0917 - cases
    make_collector: MakeCollector, certificates: Path, header: bytes, version: int, tls: bool, split: bool
) -> None:
    limits = "max_frame_bytes = 4_294_967_295\nmax_buffered_bytes = 17_179_869_180\n"
    config = f'{ADMIN}[listen]\nproxy_protocol = ["192.0.2.0/24"]\n{limits}'
    collector = make_collector(config + (tls_table(certificates) if tls else "")).start()
    with collector.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(ConnectionError):
            for n in range(0, len(header), 1 if split else len(header)):
                client.sendall(header[n : n + (1 if split else len(header))])
            client.sendall(make_frame("swallowed"))
            assert b"" == client.recv(1)
    within(5, lambda: told(collector, "disconnected"))
    (line,) = told(collector, "disconnected")
    assert line.startswith("ERROR client 127.0.0.1:")
    remedy = "its address is not in [listen] proxy_protocol; add it"
    assert f": sends a PROXY header (version {version}), and {remedy}" in line
    assert "max_frame_bytes" not in line
    assert {"PROXY header": 1} == refused(collector)
    assert 0 == sum(stats(collector)["records"]["dropped"].values())


def test_a_header_at_the_unix_socket_is_refused_as_from_elsewhere(
    make_collector: MakeCollector, tmp_path: Path
) -> None:
    path = tmp_path / "socket"
    collector = make_collector(
        f'{ADMIN}[listen]\nunix = "{path}"\nproxy_protocol = ["0.0.0.0/0", "::/0"]\n'
    ).start()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(TEXT)
        assert b"" == client.recv(1)
    within(5, lambda: "sends a PROXY header (version 1), and the Unix socket takes none" in collector.stderr)
    assert {"PROXY header": 1} == refused(collector)


def test_a_second_header_is_refused_with_another_remedy(make_collector: MakeCollector) -> None:
    collector = make_collector(ADMIN + BEHIND).start()
    collector.send(TEXT + binary())
    within(
        5, lambda: "sends a PROXY header (version 2) behind another; have the last proxy" in collector.stderr
    )
    assert " client 192.0.2.7:4711 disconnected" in collector.stderr


def test_without_a_header_a_handshake_is_as_before(make_collector: MakeCollector, certificates: Path) -> None:
    """What looks for a header consumes no byte of it, even where it comes byte by byte."""
    collector = make_collector(tls_table(certificates)).start()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context_of(certificates).wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with collector.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        done = False
        while not done:
            try:
                session.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                for byte in outgoing.read():
                    client.sendall(bytes([byte]))
                incoming.write(client.recv(1 << 16))
        session.write(make_frame("by TLS"))
        client.sendall(outgoing.read())
        within(5, lambda: messages(collector) == ["by TLS"])


@pytest.mark.slow
@pytest.mark.parametrize("header", [TEXT[:6], binary()[:12]], ids=VERSIONS)
def test_a_header_at_a_tls_port_is_named_though_nothing_follows_its_signature(
    make_collector: MakeCollector, certificates: Path, header: bytes
) -> None:
    collector = make_collector(ADMIN + tls_table(certificates)).start()
    with collector.connect() as client:
        client.sendall(header)
        assert b"" == client.recv(1)
    within(5, lambda: "sends a PROXY header (version " in collector.stderr)
    assert {"PROXY header": 1} == refused(collector)


# --- a header in its place ---


@pytest.mark.parametrize(("header", "client"), HEADERS.values(), ids=HEADERS)
def test_the_client_is_who_the_header_names_and_no_byte_behind_it_is_lost(
    make_collector: MakeCollector, header: bytes, client: tuple[str, int] | None
) -> None:
    collector = make_collector(BEHIND + BY_CLIENT).start()
    with collector.connect() as sock:
        host, port = client or sock.getsockname()
        peer = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        sock.sendall(header + make_frame("first") + make_frame("second"))
        within(5, lambda: collector.lines(f"{host}/app.log") == [f"{peer} 7 first", f"{peer} 7 second"])
    within(5, lambda: f" client {peer} disconnected after 2 records" in collector.stderr)
    assert f" client {peer} connected" in collector.stderr
    assert ["app.log"] == [path.rpartition("/")[2] for path in collector.files()]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("header", [TEXT, binary(tlvs=bytes(5000))], ids=VERSIONS)
def test_a_header_may_come_byte_by_byte(
    make_collector: MakeCollector, certificates: Path, header: bytes, tls: bool
) -> None:
    collector = make_collector(BEHIND + BY_CLIENT + (tls_table(certificates) if tls else "")).start()
    with collector.connect() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in header:
            sock.sendall(bytes([byte]))
        client = context_of(certificates).wrap_socket(sock, server_hostname="127.0.0.1") if tls else sock
        with client:
            client.sendall(make_frame("hello"))
            within(5, lambda: collector.lines("192.0.2.7/app.log") == ["192.0.2.7:4711 7 hello"])


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_a_broken_header_is_refused(make_collector: MakeCollector, data: bytes) -> None:
    collector = make_collector(ADMIN + BEHIND).start()
    collector.send(data + make_frame("lost"))
    within(5, lambda: " is refused: its PROXY header is broken: " in collector.stderr)
    assert {"broken PROXY header": 1} == refused(collector)
    assert " ERROR client 127.0.0.1:" in collector.stderr
    assert {} == collector.files()


@pytest.mark.parametrize(
    "data", [make_frame("lost"), b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x02\0"], ids=["a frame", "HTTP", "TLS"]
)
def test_a_missing_header_is_refused_with_the_remedy(make_collector: MakeCollector, data: bytes) -> None:
    collector = make_collector(ADMIN + BEHIND).start()
    collector.send(data)
    within(
        5,
        lambda: (
            "it sends no PROXY header, and its address is in [listen] proxy_protocol: " in collector.stderr
        ),
    )
    assert {"no PROXY header": 1} == refused(collector)
    assert {} == collector.files()


def test_what_ends_within_its_header_is_refused(make_collector: MakeCollector) -> None:
    collector = make_collector(ADMIN + BEHIND).start()
    collector.send(TEXT[:20])
    collector.send(TEXT[:3])
    within(5, lambda: " its PROXY header is broken: cut short" in collector.stderr)
    within(5, lambda: " it sends no PROXY header" in collector.stderr)
    assert {"broken PROXY header": 1, "no PROXY header": 1} == refused(collector)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("how", ["FIN", "RST"])
def test_a_health_check_without_a_byte_is_neither_an_event_nor_counted(
    make_collector: MakeCollector, certificates: Path, how: str, tls: bool
) -> None:
    debug = '[log]\nlevel = "DEBUG"\n'
    collector = make_collector(ADMIN + BEHIND + debug + (tls_table(certificates) if tls else "")).start()
    with collector.connect() as sock:
        if how == "RST":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    within(5, lambda: told(collector, "went away without a byte"))
    assert ["DEBUG"] == [line.split()[0] for line in told(collector, " client ")]
    assert {} == refused(collector)


@pytest.mark.slow
@pytest.mark.parametrize(
    "begun", [b"", b"P", TEXT[:20], binary(tlvs=bytes(9))[:-1]], ids=["0", "1", "20", "last"]
)
def test_a_header_that_is_not_complete_in_10_seconds_is_refused_and_delays_nobody(
    make_collector: MakeCollector, begun: bytes
) -> None:
    collector = make_collector(ADMIN + BEHIND).start()
    with collector.connect() as stalled:
        stalled.sendall(begun)
        collector.send(TEXT + make_frame("not delayed"))
        within(5, lambda: messages(collector) == ["not delayed"])
        stalled.settimeout(15)
        assert stalled.recv(1) == b""
    within(5, lambda: "is refused" in collector.stderr)
    assert 1 == sum(refused(collector).values())


@pytest.mark.quick
def test_allow_goes_by_the_client_and_not_by_the_proxy(make_collector: MakeCollector) -> None:
    config = f'{ADMIN}[listen]\nproxy_protocol = ["127.0.0.0/8"]\nallow = ["192.0.2.0/24"]\n'
    collector = make_collector(config).start()
    collector.send(TEXT + make_frame("served"))
    collector.send(text("TCP4 198.51.100.7 10.0.0.1 4711 9020") + make_frame("refused"))
    collector.send(text("UNKNOWN") + make_frame("the proxy's own"))
    collector.send(binary(UNIX, 0x31) + make_frame("of the proxy's machine"))
    within(5, lambda: collector.stderr.count("is refused: its address is not in [listen] allow") == 3)
    assert " WARNING client 198.51.100.7:4711 is refused" in collector.stderr
    within(5, lambda: messages(collector) == ["served"])
    assert {"not in allow": 3} == refused(collector)


def test_other_addresses_need_no_header(make_collector: MakeCollector) -> None:
    collector = make_collector(f"{BEHIND}{BY_CLIENT}").start()
    with connect(collector.port, CLIENT) as sock:
        sock.sendall(make_frame("direct"))
        within(5, lambda: collector.lines(f"{CLIENT}/app.log") != [])
    collector.send(TEXT + make_frame("by the proxy"))
    within(5, lambda: collector.lines("192.0.2.7/app.log") != [])


@pytest.mark.quick
def test_json_lines_and_the_admin_port_name_the_client(make_collector: MakeCollector) -> None:
    collector = make_collector(f'{ADMIN}{BEHIND}[format]\nstyle = "json"\n').start()
    with collector.connect() as sock:
        sock.sendall(TEXT + make_frame("hello"))
        within(5, lambda: collector.lines("app.log") != [])
        assert '"client":"192.0.2.7:4711"' in collector.lines("app.log")[0].replace(" ", "")
        assert ["192.0.2.7:4711"] == [
            each["peer"] for each in json.loads(ask(collector, "/api/clients")[2])["clients"]
        ]


# --- limits, stopping, and other settings ---


def test_who_has_not_sent_its_header_has_a_place_among_max_clients(make_collector: MakeCollector) -> None:
    collector = make_collector(f"{BEHIND}max_clients = 1\n").start()
    with collector.connect() as first:
        first.sendall(TEXT[:5])
        with collector.connect() as second:
            second.sendall(TEXT + make_frame("second"))
            first.sendall(TEXT[5:] + make_frame("first"))
            within(5, lambda: messages(collector) == ["first"])
            first.close()
            within(5, lambda: messages(collector) == ["first", "second"])


def test_a_frame_begun_and_not_finished_ends_a_client_behind_a_proxy_as_any_other(
    make_collector: MakeCollector,
) -> None:
    collector = make_collector(f"{BEHIND}frame_timeout_seconds = 1\n").start()
    with collector.connect() as client:
        client.sendall(TEXT + make_frame("cut")[:20])
        assert b"" == client.recv(1)
    within(
        5,
        lambda: " client 192.0.2.7:4711 disconnected after 0 records, 20 bytes: a frame" in collector.stderr,
    )


def test_who_has_not_sent_its_header_is_counted_and_shown_as_its_proxy(make_collector: MakeCollector) -> None:
    collector = make_collector(ADMIN + BEHIND).start()

    def now() -> tuple[int, int, list[str]]:
        clients = stats(collector)["clients"]
        shown = json.loads(ask(collector, "/api/clients")[2])["clients"]
        return clients["now"], clients["total"], [client["peer"] for client in shown]

    with collector.connect() as sock:
        sock.sendall(TEXT[:5])
        host, port = sock.getsockname()
        within(5, lambda: now() == (1, 1, [f"{host}:{port}"]))
        sock.sendall(TEXT[5:])
        within(5, lambda: now() == (1, 1, ["192.0.2.7:4711"]))
    within(5, lambda: now() == (0, 1, []))
    collector.send(TEXT[:5])
    within(5, lambda: now() == (0, 2, []), "one that ends within it is counted no longer")


def test_who_is_inside_its_header_at_sighup_has_the_new_max_frame_bytes(
    make_collector: MakeCollector,
) -> None:
    collector = make_collector(f"{BEHIND}max_frame_bytes = 2000\n").start()
    with collector.connect() as sock:
        sock.sendall(TEXT[:5])
        hang_up(collector, f"{BEHIND}max_frame_bytes = 20_000\n")
        sock.sendall(TEXT[5:] + make_frame("x" * 5000))
        within(5, lambda: messages(collector) == ["x" * 5000])


@pytest.mark.parametrize("begun", [b"", TEXT[:20], binary()[:20]], ids=["nothing", "1", "2"])
def test_who_is_inside_its_header_does_not_delay_the_end(make_collector: MakeCollector, begun: bytes) -> None:
    collector = make_collector(f"{BEHIND}drain_seconds = 60\n").start()
    with collector.connect() as inside, collector.connect() as other:
        inside.sendall(begun)
        other.sendall(TEXT + make_frame("kept"))
        within(5, lambda: messages(collector) == ["kept"])
        assert 0 == collector.stop()
    assert " ERROR " not in collector.stderr


def test_what_waits_in_the_backlog_behind_its_header_is_read_before_the_end(
    make_collector: MakeCollector,
) -> None:
    collector = make_collector(f"{BEHIND}max_clients = 1\n").start()
    with collector.connect() as first, collector.connect() as second:
        first.sendall(TEXT + make_frame("first"))
        second.sendall(TEXT + make_frame("second") * 1000)
        within(5, lambda: messages(collector) == ["first"])
        assert 0 == collector.stop()
    assert 1001 == len(messages(collector))


def test_other_proxies_after_sighup_are_those_of_the_next_connections(make_collector: MakeCollector) -> None:
    collector = make_collector().start()
    with collector.connect() as before:
        before.sendall(make_frame("before"))
        within(5, lambda: messages(collector) == ["before"])
        hang_up(collector, BEHIND)
        before.sendall(make_frame("still"))
        within(5, lambda: messages(collector) == ["before", "still"])
    assert "changed: [listen] proxy_protocol;" in collector.stderr
    collector.send(make_frame("no header"))
    within(5, lambda: "it sends no PROXY header" in collector.stderr)
    with collector.connect() as behind:
        behind.sendall(TEXT + make_frame("behind"))
        within(5, lambda: messages(collector)[2:] == ["behind"])
        hang_up(collector, "")
        behind.sendall(make_frame("still behind"))
        within(5, lambda: messages(collector)[2:] == ["behind", "still behind"])
    collector.send(TEXT)
    within(5, lambda: "is not in [listen] proxy_protocol" in collector.stderr)


def test_allow_after_sighup_goes_by_the_address_in_the_header(make_collector: MakeCollector) -> None:
    collector = make_collector(BEHIND).start()
    with collector.connect() as stays, collector.connect() as goes, collector.connect() as comes:
        stays.sendall(TEXT + make_frame("one"))
        goes.sendall(text("TCP4 198.51.100.7 10.0.0.1 4711 9020") + make_frame("two"))
        comes.sendall(TEXT[:20])
        within(5, lambda: sorted(messages(collector)) == ["one", "two"])
        hang_up(collector, f'{BEHIND}allow = ["192.0.2.0/24"]\n')
        within(5, lambda: " client 198.51.100.7:4711 disconnected after 1 record" in collector.stderr)
        comes.sendall(TEXT[20:] + make_frame("three"))
        stays.sendall(make_frame("four"))
        within(5, lambda: sorted(messages(collector)) == ["four", "one", "three", "two"])
    assert 1 == collector.stderr.count("its address is not in [listen] allow")


# --- what is no record ---


def test_a_scan_of_ports_is_no_dropped_record(make_collector: MakeCollector) -> None:
    collector = make_collector(ADMIN).start()
    for data in (
        bytes.fromhex("0300 0013 0ee0 0000 0000 0001 0008 0003 0000 00"),
        b"\x02\0\0\0\0",
        b"\x02\0\0\0",
    ):
        collector.send(data)
    within(5, lambda: collector.stderr.count("disconnected") == 3)
    records = stats(collector)["records"]
    assert (0, 0, 0) == (records["received"], sum(records["dropped"].values()), difference(records))
    assert " ERROR " not in collector.stderr
    assert (
        "frame of 50331667 bytes exceeds max_frame_bytes = 16777216; looks like RDP; closing"
        in collector.stderr
    )


def test_a_record_that_is_too_large_is_a_dropped_one_and_its_connection_lives_on(
    make_collector: MakeCollector,
) -> None:
    collector = make_collector(f"{ADMIN}[listen]\nmax_frame_bytes = 1000\n").start()
    collector.send(make_frame("x" * 2000) + make_frame("after"))
    within(5, lambda: messages(collector) == ["after"])
    records = stats(collector)["records"]
    assert (2, 1, 0) == (records["received"], records["dropped"]["too large"], difference(records))


def test_a_record_that_is_too_large_by_far_is_a_dropped_one_although_its_connection_ends(
    make_collector: MakeCollector,
) -> None:
    collector = make_collector(f"{ADMIN}[listen]\nmax_frame_bytes = 1000\n").start()
    collector.send(make_frame("before") + make_frame("x" * 20_000))
    within(5, lambda: "exceeds max_frame_bytes = 1000; closing" in collector.stderr)
    records = stats(collector)["records"]
    assert (2, 1, 0) == (records["received"], records["dropped"]["too large"], difference(records))
    assert "bytes dropped: max_frame_bytes = 1000" in collector.stderr
    within(5, lambda: messages(collector) == ["before"])


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"POST /log HTTP/1.1\r\n\r\n", "HTTP"),
        (b"\x16\x03\x01\x02\0", "TLS"),
        (make_frame("lost")[4:], "a pickle without a length"),
    ],
    ids=["HTTP", "TLS", "a pickle without a length"],
)
def test_an_application_with_the_wrong_handler_is_an_error_that_others_do_not_silence(
    make_collector: MakeCollector, data: bytes, what: str
) -> None:
    collector = make_collector(ADMIN).start()
    for _ in range(30):
        collector.send(b"\xff\xff\xff\xff")
    for _ in range(25):
        collector.send(data)
    within(5, lambda: refused(collector) == {what: 25})
    words = f"looks like {what}{'; see [listen.tls]' if what == 'TLS' else ''}; closing\n"
    within(5, lambda: collector.stderr.count(words) == 20)  # a thread writes them
    assert 20 == collector.stderr.count(" ERROR ")


def test_a_record_that_is_too_large_and_ends_early_is_cut_and_nothing_else(
    make_collector: MakeCollector,
) -> None:
    collector = make_collector(f"{ADMIN}[listen]\nmax_frame_bytes = 1000\n").start()
    collector.send((2000).to_bytes(4, "big") + b"}q")
    within(5, lambda: "went away inside a frame, of which 6 bytes had come" in collector.stderr)
    records = stats(collector)["records"]
    assert (0, 0, 1) == (records["received"], sum(records["dropped"].values()), records["cut"])


def test_every_reason_to_refuse_a_client_is_counted_from_zero_on(make_collector: MakeCollector) -> None:
    collector = make_collector(ADMIN).start()
    counted = stats(collector)["clients"]["refused"]
    assert dict.fromkeys(REFUSE_REASONS, 0) == counted
    assert {"client": 0, "reload": 0}.items() <= stats(collector)["faults"].items()


# --- real proxies ---


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., int]]:
    """Return a function that starts a proxy in the foreground and returns the port it listens on."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*command: str, config: str) -> int:
        program = shutil.which(command[0])
        if not program:
            pytest.skip(f"{command[0]} is not installed")
        port = free_port()
        file = tmp_path / f"{command[0]}.conf"
        file.write_text(config.replace("PORT", str(port)).replace("HOME", str(tmp_path)))
        with (tmp_path / f"{command[0]}.txt").open("wb") as output:
            process = subprocess.Popen([program, *command[1:], str(file)], stdout=output, stderr=output)
        started.append(process)
        within(20, lambda: is_listening(port) or process.poll() is not None, f"{command[0]} listens")
        assert process.poll() is None, (tmp_path / f"{command[0]}.txt").read_text()
        return port

    yield start
    for process in started:
        process.terminate()
        process.wait(20)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind((PROXY, 0))
        port: int = sock.getsockname()[1]
        return port


def is_listening(port: int) -> bool:
    return bool(re.search(rf":{port:04X} \S+ 0A ", Path("/proc/net/tcp").read_text()))


def haproxy(run: Callable[..., int], port: int, how: str) -> int:
    return run(
        "haproxy",
        *("-db", "-f"),
        config="defaults\n mode tcp\n timeout connect 5s\n timeout client 1m\n timeout server 1m\n"
        f"listen collector\n bind {PROXY}:PORT\n server one {PROXY}:{port} {how}\n",
    )


def nginx(run: Callable[..., int], port: int) -> int:
    server = f"listen {PROXY}:PORT; proxy_pass {PROXY}:{port}; proxy_protocol on;"
    return run_nginx(run, f"stream {{ server {{ {server} }} }}\n")


def run_nginx(run: Callable[..., int], config: str) -> int:
    if not shutil.which("nginx"):
        pytest.skip("nginx is not installed")
    built = subprocess.run(["nginx", "-V"], check=True, capture_output=True, text=True).stderr
    module = ""
    if not re.search(r"--with-stream(?!\S)", built):
        directory = re.search(r"--modules-path=(\S+)", built)
        path = Path(directory[1] if directory else "") / "ngx_stream_module.so"
        if not path.is_file():
            pytest.skip("nginx has no stream module")
        module = f"load_module {path};\n"
    alone = "daemon off;\nmaster_process off;\npid HOME/nginx.pid;\nevents {}\n"
    return run("nginx", "-e", "stderr", "-c", config=module + alone + config)


REAL: dict[str, Callable[[Callable[..., int], int], int]] = {
    "HAProxy, version 1": lambda run, port: haproxy(run, port, "send-proxy"),
    "HAProxy, version 2": lambda run, port: haproxy(run, port, "send-proxy-v2"),
    "HAProxy, version 2 with TLVs": lambda run, port: haproxy(
        run, port, "send-proxy-v2 proxy-v2-options crc32c,unique-id"
    ),
    "nginx": nginx,
}


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("proxy", REAL.values(), ids=REAL)
def test_behind_a_real_proxy_a_client_is_known_by_its_own_address(
    make_collector: MakeCollector,
    certificates: Path,
    run: Callable[..., int],
    proxy: Callable[[Callable[..., int], int], int],
    tls: bool,
) -> None:
    config = f'{BEHIND}allow = ["{CLIENT}"]\n{BY_CLIENT}' + (tls_table(certificates) if tls else "")
    collector = make_collector(config).start()
    port = proxy(run, collector.port)
    with connect(port, CLIENT) as sock, connect(port, "127.0.0.3") as other:
        peer = f"{CLIENT}:{sock.getsockname()[1]}"
        client = context_of(certificates).wrap_socket(sock, server_hostname=PROXY) if tls else sock
        with client:
            client.sendall(make_frame("hello") * 1000)
            within(10, lambda: collector.lines(f"{CLIENT}/app.log") == [f"{peer} 7 hello"] * 1000)
        other.sendall(make_frame("refused"))
        within(5, lambda: " client 127.0.0.3:" in collector.stderr)
    assert "is refused: its address is not in [listen] allow" in collector.stderr
    assert f" client {peer} connected" in collector.stderr


@pytest.mark.parametrize("proxy", REAL.values(), ids=REAL)
def test_a_real_proxy_that_is_not_in_proxy_protocol_is_told_of(
    make_collector: MakeCollector, run: Callable[..., int], proxy: Callable[[Callable[..., int], int], int]
) -> None:
    collector = make_collector(ADMIN).start()
    with connect(proxy(run, collector.port), CLIENT) as client:
        client.sendall(make_frame("lost"))
        within(5, lambda: "its address is not in [listen] proxy_protocol" in collector.stderr)
    assert {"PROXY header": 1} == refused(collector)


@pytest.mark.parametrize("program", ["haproxy", "nginx"])
def test_the_configuration_that_the_docs_show_is_that_of_a_proxy(
    make_collector: MakeCollector, run: Callable[..., int], tmp_path: Path, program: str
) -> None:
    collector = make_collector(BEHIND + BY_CLIENT).start()
    begins = "listen collector" if program == "haproxy" else "stream {"
    config = shown("docs/deploy.rst", begins).replace("10.0.0.9:9020", f"{PROXY}:{collector.port}")
    if program == "haproxy":
        port = run("haproxy", "-db", "-f", config=config.replace(" :9020", f" {PROXY}:PORT"))
        assert "WARNING" not in (tmp_path / "haproxy.txt").read_text()
    else:
        port = run_nginx(run, config.replace(" 9020", f" {PROXY}:PORT"))
    with connect(port, CLIENT) as client:
        client.sendall(make_frame("hello"))
        within(10, lambda: len(collector.lines(f"{CLIENT}/app.log")) == 1)


@pytest.mark.parametrize("how", ["send-proxy", "send-proxy-v2"])
def test_health_checks_of_haproxy_are_no_refused_clients(
    make_collector: MakeCollector, run: Callable[..., int], how: str
) -> None:
    collector = make_collector(ADMIN + BEHIND).start()
    haproxy(run, collector.port, f"{how} check inter 100ms")
    within(10, lambda: collector.stderr.count(f"client {PROXY}:") >= 6)
    assert {} == refused(collector)
    assert {"INFO"} == {line.split()[0] for line in told(collector, f"client {PROXY}:")}


def test_behind_stunnel_that_ends_tls_a_client_is_known_by_its_own_address(
    make_collector: MakeCollector, certificates: Path, run: Callable[..., int]
) -> None:
    collector = make_collector(BEHIND + BY_CLIENT).start()
    port = run(
        "stunnel",
        config="foreground = yes\npid =\n[collector]\n"
        f"accept = {PROXY}:PORT\nconnect = {PROXY}:{collector.port}\n"
        f"cert = {certificates}/server.pem\nkey = {certificates}/server.key\nprotocol = proxy\n",
    )
    with context_of(certificates).wrap_socket(connect(port, CLIENT), server_hostname=PROXY) as client:
        peer = f"{CLIENT}:{client.getsockname()[1]}"
        client.sendall(make_frame("hello"))
        within(10, lambda: collector.lines(f"{CLIENT}/app.log") == [f"{peer} 7 hello"])
