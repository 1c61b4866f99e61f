"""The command `send`: to where a configuration listens, however it listens."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from collector.listen.sockets import to_reach
from tests.support.certificates import tls_table
from tests.support.commands import run
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.collectors import Collector

    MakeCollector = Callable[..., Collector]


def messages(collector: Collector) -> list[str]:
    """Return what has come from the root logger, as `send` names it."""
    return [line.split(" 0 ", 1)[1] for line in collector.lines("root.log")]


def tell_the_port(collector: Collector) -> str:
    """Write the port of a running collector into its configuration; return the path of that."""
    config = collector.config.read_text().replace("port = 0", f"port = {collector.port}")
    collector.config.write_text(config)
    return str(collector.config)


def sent(*arguments: str, **environment: str) -> None:
    result = run("send", *arguments, **environment)
    assert (0, "", "") == (result.returncode, result.stdout, result.stderr)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "::", "::ffff:0.0.0.0"])  # noqa: S104 - loopback is enough
def test_it_goes_where_the_configuration_listens(make_collector: MakeCollector, host: str) -> None:
    collector = make_collector(f'[listen]\nhost = "{host}"\n').start()
    sent("-c", tell_the_port(collector), "hello")
    within(5, lambda: messages(collector) == ["hello"])


def test_the_environment_names_the_configuration_too(collector: Collector) -> None:
    sent("hello", COLLECTOR_CONFIG=tell_the_port(collector))
    within(5, lambda: messages(collector) == ["hello"])


def test_a_port_that_is_given_is_before_the_one_of_the_configuration(collector: Collector) -> None:
    sent("-c", str(collector.config), "--port", str(collector.port), "hello")
    within(5, lambda: messages(collector) == ["hello"])


@pytest.mark.quick
def test_without_a_port_it_takes_the_unix_socket(make_collector: MakeCollector, tmp_path: Path) -> None:
    collector = make_collector(f'[listen]\nunix = "{tmp_path}/x.sock"\n').start()
    sent("-c", str(collector.config), "hello")
    within(5, lambda: messages(collector) == ["hello"])
    within(5, lambda: "client unix connected" in collector.stderr)


def test_a_port_that_nobody_knows_is_wrong_usage(collector: Collector) -> None:
    result = run("send", "-c", str(collector.config), "hello")
    assert 2 == result.returncode
    assert "[listen] port = 0 does not tell the port; give it by --port" in result.stderr


def test_over_tls_the_certificate_of_the_configuration_is_trusted_whatever_its_names(
    make_collector: MakeCollector,
    certificates: Path,
) -> None:
    collector = make_collector('[listen]\nhost = "localhost"\n' + tls_table(certificates)).start()
    sent("-c", tell_the_port(collector), "hello")
    within(5, lambda: messages(collector) == ["hello"])
    # As another server would be seen.
    other = tls_table(certificates).replace("server.pem", "client.pem").replace("server.key", "client.key")
    collector.config.write_text(collector.config.read_text().replace(tls_table(certificates).strip(), other))
    result = run("send", "-c", str(collector.config), "not sent")
    assert 1 == result.returncode
    assert "cannot reach localhost:" in result.stderr
    assert "certificate" in result.stderr.lower()


def test_a_server_that_hangs_up_once_it_has_read_all_has_read_all(tmp_path: Path, certificates: Path) -> None:
    """A collector may be quicker to hang up than the command is to look for it."""
    config = tmp_path / "c.toml"
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    with socket.create_server(("127.0.0.1", 0)) as server:
        config.write_text(f"[listen]\nport = {server.getsockname()[1]}\n{tls_table(certificates)}")
        command = [sys.executable, "-m", "collector", "send", "-c", str(config), "-"]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stderr=pipe, text=True) as sending:
            assert sending.stdin
            assert sending.stderr
            with context.wrap_socket(server.accept()[0], server_side=True) as client:
                sending.stdin.write("hello\n")
                sending.stdin.flush()
                assert b"hello" in client.recv(1000)
            sending.stdin.close()
            assert (0, "") == (sending.wait(30), sending.stderr.read())


def test_where_clients_need_certificates_it_takes_the_unix_socket_or_says_that_it_is_not_read(
    make_collector: MakeCollector,
    certificates: Path,
    tmp_path: Path,
) -> None:
    table = tls_table(certificates, f"{certificates}/client.pem")
    collector = make_collector(f'[listen]\nunix = "{tmp_path}/x.sock"\n{table}').start()
    config = tell_the_port(collector)
    sent("-c", config, "hello")
    within(5, lambda: messages(collector) == ["hello"])
    result = run("send", "-c", config, "--port", str(collector.port), "not sent")
    assert 1 == result.returncode
    assert f"127.0.0.1:{collector.port} has not read all: " in result.stderr


def test_where_clients_need_certificates_the_servers_own_is_shown(
    make_collector: MakeCollector,
    certificates: Path,
) -> None:
    collector = make_collector(tls_table(certificates, f"{certificates}/ca.pem")).start()
    sent("-c", tell_the_port(collector), "hello")
    within(5, lambda: messages(collector) == ["hello"])


def test_who_is_not_let_in_is_told(make_collector: MakeCollector) -> None:
    collector = make_collector('[listen]\nallow = ["192.0.2.0/24"]\n').start()
    result = run("send", "-c", tell_the_port(collector), "hello")
    assert 1 == result.returncode
    assert "has not read all: " in result.stderr


@pytest.mark.parametrize("proxies", ['"127.0.0.1"', '"::ffff:127.0.0.0/104"', '"192.0.2.1"'])
def test_from_the_address_of_a_proxy_it_speaks_for_itself(
    make_collector: MakeCollector, proxies: str
) -> None:
    collector = make_collector(f'[listen]\nhost = "::"\nproxy_protocol = [{proxies}]\n').start()
    sent("-c", tell_the_port(collector), "--host", "127.0.0.1", "hello")
    within(5, lambda: messages(collector) == ["hello"])


def test_a_certificate_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text(f'[listen.tls]\ncertificate = "{tmp_path}/a.pem"\n')
    result = run("send", "-c", str(config), "hello")
    assert 2 == result.returncode
    (fault,) = result.stderr.splitlines()
    assert f'certificate = "{tmp_path}/a.pem" cannot be loaded: No such file or directory' in fault


def test_standard_input_that_is_closed_has_no_lines(collector: Collector) -> None:
    command = f"exec {sys.executable} -m collector send --port {collector.port} - <&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=30, check=False)
    assert (0, b"") == (done.returncode, done.stderr)


@pytest.mark.quick
def test_each_line_of_standard_input_is_a_record(collector: Collector) -> None:
    text = b"one\n\n  two words \r\n\xff bytes\ncaf\xc3\xa9"
    command = [
        sys.executable,
        "-m",
        "collector",
        "send",
        "--port",
        str(collector.port),
        "--level",
        "error",
        "-",
    ]
    done = subprocess.run(command, input=text, capture_output=True, timeout=30, check=False)
    assert (0, b"") == (done.returncode, done.stderr)
    within(5, lambda: len(messages(collector)) == 5)
    assert ["one", "", "  two words ", r"\xff bytes", "café"] == messages(collector)
    assert all(" root ERROR " in line for line in collector.lines("root.log"))


def test_a_line_is_sent_when_it_comes_and_ctrl_c_ends_it(collector: Collector) -> None:
    command = [sys.executable, "-m", "collector", "send", "--port", str(collector.port), "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin
        for number, word in enumerate(("one", "two"), 1):
            process.stdin.write(f"{word}\n".encode())
            process.stdin.flush()
            within(10, lambda number=number: len(messages(collector)) == number)  # type: ignore[misc]
        process.send_signal(signal.SIGINT)
        assert b"" == process.communicate(timeout=10)[1]
    assert (["one", "two"], 0) == (messages(collector), process.returncode)


def test_no_lines_are_no_records(collector: Collector) -> None:
    command = [sys.executable, "-m", "collector", "send", "--port", str(collector.port), "-"]
    assert 0 == subprocess.run(command, stdin=subprocess.DEVNULL, timeout=30, check=False).returncode
    assert 0 == collector.stop()
    assert "stopped: 0 records received" in collector.stderr


@pytest.mark.parametrize("level", ["warning", "WARNING", "30"])
def test_a_level_is_a_name_in_any_case_or_a_number(collector: Collector, level: str) -> None:
    sent("--port", str(collector.port), "--level", level, "hello")
    within(5, lambda: len(collector.lines("root.log")) == 1)
    assert " root WARNING " in collector.lines("root.log")[0]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--level", "\u00b2"], "argument --level: \u00b2: must be one of NOTSET, "),
        (["--level", "warnign"], "did you mean WARNING?"),
        (["--port", "65536"], "argument --port: 65536: must be a whole number from 1 to 65535"),
        (["--port", "0"], "argument --port: 0: must be"),
        (["--prot", "1"], "did you mean --port?"),
    ],
)
def test_wrong_usage_is_told_with_the_usage_of_send(arguments: list[str], fault: str) -> None:
    result = run("send", *arguments, "hello")
    assert 2 == result.returncode
    assert result.stderr.startswith("usage: collector send ")
    assert "Traceback" not in result.stderr
    assert fault in result.stderr


@pytest.mark.parametrize("host", ["a..b", "x" * 64, "nothing.invalid"])
def test_a_host_that_is_none_is_told(host: str) -> None:
    result = run("send", "--host", host, "hello")
    assert 1 == result.returncode
    assert result.stderr.startswith(f"collector send: cannot reach {host}:9020: ")
    assert 1 == len(result.stderr.splitlines())


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("0.0.0.0", "127.0.0.1"),  # noqa: S104 - nothing is bound
        ("::ffff:0.0.0.0", "127.0.0.1"),
        ("127.0.0.2", "127.0.0.2"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("localhost", "localhost"),
        ("::1", "::1"),
    ],
)
def test_a_wildcard_is_reached_by_loopback(host: str, reached: str) -> None:
    assert reached == to_reach(host)


def test_a_wildcard_of_ipv6_is_reached_by_ipv6_however_it_is_written() -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        pytest.skip(f"no IPv6: {os.strerror(error.errno or 0)}")
    assert ["::1"] * 3 == [to_reach(host) for host in ("::", "::0", "0:0:0:0:0:0:0:0")]
