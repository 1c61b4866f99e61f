"""Where it listens: all addresses of a name, both families, and networks that have one of them only.

The networks are real ones, in namespaces, which take root; so do other hosts files.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.collectors import Collector, messages
from tests.support.commands import run
from tests.support.frames import make_frame
from tests.support.image import healthcheck
from tests.support.namespaces import NEW_MOUNTS, NEW_NETWORK, apart, needs_root
from tests.support.places import ETC
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    MakeCollector = Callable[..., Collector]

IP = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
needs_ip = pytest.mark.skipif(not IP or not socket.has_dualstack_ipv6(), reason="needs IPv6 and iproute2")
LOOPBACK = f"{IP} link set lo up"
NO_IPV4 = f"{IP} addr del 127.0.0.1/8 dev lo"
NO_IPV6 = "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6"
SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sys/socket.h>
int socket(int family, int type, int protocol) {
    if (family == AF_INET6) { errno = EAFNOSUPPORT; return -1; }
    return ((int (*)(int, int, int))dlsym(RTLD_NEXT, "socket"))(family, type, protocol);
}
"""


def with_hosts(home: Path, *lines: str) -> Callable[[], None]:
    """Return what gives a new process another /etc/hosts, of *lines*."""
    hosts = home / "hosts"
    hosts.write_text("".join(f"{line}\n" for line in lines))
    return apart(NEW_MOUNTS, "mount --make-rprivate /", f"mount --bind {hosts} /etc/hosts")


def inside(collector: Collector, *command: str) -> subprocess.CompletedProcess[str]:
    """Run *command* in the network of *collector*."""
    assert collector.process
    enter = ["nsenter", "--target", str(collector.process.pid), "--net"]
    return subprocess.run([*enter, *command], capture_output=True, text=True, timeout=30, check=False)


def listening(collector: Collector, what: str = "listening") -> list[str]:
    return re.findall(rf"^{what} on (\S+)$", collector.stderr, re.MULTILINE)


def ends_with_2(collector: Collector, enter: Callable[[], None] | None = None) -> str:
    """Start it, which is to fail; return what it says."""
    with pytest.raises(AssertionError, match="cannot listen on"):
        collector.start(preexec_fn=enter)
    assert collector.process
    assert 2 == collector.process.wait(10)
    return collector.stderr


# --- Names --------------------------------------------------------------------------------------------------


@needs_root
@needs_ip
def test_a_name_is_all_of_its_addresses_at_one_port(make_collector: MakeCollector, tmp_path: Path) -> None:
    """With Debian's hosts file the first address of localhost is ::1, which IPv4 clients do not reach."""
    localhost = with_hosts(
        tmp_path, "127.0.0.1 localhost", "::1 localhost ip6-localhost", "127.0.0.1 localhost"
    )
    host = 'host = "localhost"\nport = 0\n'
    collector = make_collector(f"[listen]\n{host}[admin]\n{host}").start(preexec_fn=localhost)
    for port, what in ((collector.port, "listening"), (collector.admin_port, "admin")):
        both = [f"127.0.0.1:{port}", f"[::1]:{port}"]
        within(5, lambda both=both, what=what: both == sorted(listening(collector, what)))  # type: ignore[misc]
    for address in ("127.0.0.1", "::1"):
        with socket.create_connection((address, collector.port), timeout=5) as client:
            client.sendall(make_frame(f"by {address}"))
        with socket.create_connection((address, collector.admin_port), timeout=5) as client:
            client.sendall(b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 200 OK")
    within(5, lambda: sorted(messages(collector)) == ["by 127.0.0.1", "by ::1"])
    assert 0 == collector.stop()


@needs_root
def test_an_address_that_is_not_this_machines_is_left_out_with_a_warning(
    make_collector: MakeCollector, tmp_path: Path
) -> None:
    names = with_hosts(tmp_path, "198.51.100.1 logs.test", "127.0.0.1 logs.test")
    collector = make_collector('[listen]\nhost = "logs.test"\n').start(preexec_fn=names)
    assert [f"127.0.0.1:{collector.port}"] == listening(collector)
    why = "Cannot assign requested address; until a restart the other addresses of logs.test have to do"
    assert re.search(rf"WARNING cannot listen on 198\.51\.100\.1:\d+: {why}\n", collector.stderr)


@needs_root
def test_a_name_without_an_address_of_this_machine_is_one_line_and_exit_2(
    make_collector: MakeCollector, tmp_path: Path
) -> None:
    names = with_hosts(tmp_path, "198.51.100.1 logs.test", "198.51.100.2 logs.test")
    said = ends_with_2(make_collector('[listen]\nhost = "logs.test"\nport = 7777\n'), names)
    why = "Cannot assign requested address"
    faults = [f"cannot listen on 198.51.100.{n}:7777: {why}" for n in (1, 2)]
    assert f"collector: {'; '.join(faults)}; see [listen] host and port\n" == said


@pytest.mark.quick
@needs_root
@needs_ip
def test_an_address_that_is_taken_keeps_the_others_from_being_opened(
    make_collector: MakeCollector, tmp_path: Path
) -> None:
    localhost = with_hosts(tmp_path, "127.0.0.1 localhost", "::1 localhost")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = ends_with_2(make_collector(f'[listen]\nhost = "localhost"\nport = {port}\n'), localhost)
    words = f"cannot listen on 127.0.0.1:{port}: Address already in use; see [listen] host and port"
    assert f"collector: {words}\n" == said


def test_a_name_that_is_unknown_is_one_line_and_exit_2(make_collector: MakeCollector) -> None:
    said = ends_with_2(make_collector('[listen]\nhost = "nowhere.invalid"\nport = 7777\n'))
    assert re.fullmatch(r"collector: cannot listen on nowhere\.invalid:7777: .*; see \[listen\] .*\n", said)


@needs_root
@needs_ip
def test_another_free_port_is_tried_where_the_first_one_is_taken_at_another_address(tmp_path: Path) -> None:
    """In a network of twenty ports, of which some are taken by IPv4 alone."""
    code = (
        "import socket\n"
        "from collector.listen.sockets import open_tcp\n"
        "taken = [socket.create_server(('127.0.0.1', port)) for port in range(40001, 40020, 6)]\n"
        "for _ in range(30):\n"
        "    opened = open_tcp('localhost', 0, 1)\n"
        "    assert 2 == len(opened)\n"
        "    assert 1 == len({sock.getsockname()[1] for sock in opened})\n"
        "    for sock in opened: sock.close()\n"
    )
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n::1 localhost\n")
    few = "echo 40000 40019 > /proc/sys/net/ipv4/ip_local_port_range"
    mounts = ("mount --make-rprivate /", f"mount --bind {hosts} /etc/hosts")
    subprocess.run(
        [sys.executable, "-c", code],
        preexec_fn=apart(NEW_MOUNTS | NEW_NETWORK, LOOPBACK, few, *mounts),
        timeout=30,
        check=True,
    )


# --- Families -----------------------------------------------------------------------------------------------


@needs_root
@needs_ip
@pytest.mark.parametrize(
    ("address", "commands"),
    [("::1", [NO_IPV4]), ("127.0.0.1", [NO_IPV6]), ("127.0.0.1", []), ("::1", [])],
    ids=["IPv6 alone", "IPv4 alone", "IPv4 of both", "IPv6 of both"],
)
def test_the_container_works_in_networks_of_either_family(
    make_collector: MakeCollector, address: str, commands: list[str]
) -> None:
    text = (ETC / "container.toml").read_text()
    collector = make_collector(re.sub("(?m)^directory = .*\n", "", text))
    collector.config.write_text(collector.config.read_text().replace("port = 0", "port = 9020"))
    collector.start(preexec_fn=apart(NEW_NETWORK, LOOPBACK, *commands))
    within(5, lambda: listening(collector, "admin"))
    assert (["[::]:9020"], ["[::]:9021"]) == (listening(collector), listening(collector, "admin"))

    command = [sys.executable, "-m", "collector"]
    sent = inside(collector, *command, "send", "--host", address, "--logger", "app", "there")
    assert (0, "") == (sent.returncode, sent.stderr)
    sent = inside(collector, *command, "send", "--host", "::", "--logger", "app", "everywhere")
    assert (0, "") == (sent.returncode, sent.stderr)
    within(5, lambda: len(collector.lines("app.log")) == 2)
    shown = f"client {f'[{address}]' if ':' in address else address}:"
    within(5, lambda: shown in collector.stderr)

    healthy = inside(collector, "env", f"COLLECTOR_CONFIG={collector.config}", *healthcheck())
    assert (0, "") == (healthy.returncode, healthy.stderr)
    top = inside(collector, *command, "top", "-n", "1", "-c", str(collector.config))
    assert (0, "") == (top.returncode, top.stderr)
    follow = "import sys; from collector.config.load import load\n"
    follow += "from collector.admin.client import Subscription\n"
    follow += "print(Subscription(load(sys.argv[1]).admin, '', 0).connect())"  # why there is no stream
    stream = inside(collector, sys.executable, "-c", follow, str(collector.config))
    assert ("\n", "") == (stream.stdout, stream.stderr)
    assert 0 == collector.stop()


@needs_root
@needs_ip
def test_the_healthcheck_fails_where_nobody_listens() -> None:
    result = subprocess.run(
        healthcheck(),
        env=os.environ | {"COLLECTOR_CONFIG": str(ETC / "container.toml")},
        preexec_fn=apart(NEW_NETWORK, LOOPBACK),
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert 1 == result.returncode
    assert b"]:9021: Connection refused" in result.stderr


@needs_root
@needs_ip
def test_every_address_takes_ipv4_whatever_the_kernels_default_is(make_collector: MakeCollector) -> None:
    only = "echo 1 > /proc/sys/net/ipv6/bindv6only"
    collector = make_collector('[listen]\nhost = "::"\n').start(preexec_fn=apart(NEW_NETWORK, LOOPBACK, only))
    command = [sys.executable, "-m", "collector", "send", "--port", str(collector.port), "x"]
    assert 0 == inside(collector, *command).returncode


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
def test_without_ipv6_in_the_kernel_every_address_is_every_ipv4_one(
    make_collector: MakeCollector, tmp_path: Path
) -> None:
    shim = tmp_path / "shim.so"
    compile_it = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(shim), "-ldl"]
    subprocess.run(compile_it, input=SHIM, text=True, check=True)
    everywhere = 'host = "::"\nport = 0\n'
    collector = make_collector(f"[listen]\n{everywhere}[admin]\n{everywhere}")
    collector.start(env=os.environ | {"LD_PRELOAD": str(shim)})
    assert [f"0.0.0.0:{collector.port}"] == listening(collector)
    assert [f"0.0.0.0:{collector.admin_port}"] == listening(collector, "admin")
    sent = run("send", "--host", "::", "--port", str(collector.port), "by IPv4", LD_PRELOAD=str(shim))
    assert (0, "") == (sent.returncode, sent.stderr)
    assert 0 == collector.stop()


@needs_ip
def test_an_ipv4_client_of_an_ipv6_socket_is_matched_by_an_ipv4_mapped_network(
    make_collector: MakeCollector,
) -> None:
    collector = make_collector('[listen]\nhost = "::"\nallow = ["::ffff:127.0.0.0/104"]\n').start()
    collector.send(make_frame("let in"))
    within(5, lambda: messages(collector) == ["let in"])
    with socket.create_connection(("::1", collector.port)) as client, contextlib.suppress(OSError):
        client.sendall(make_frame("not let in"))
    within(5, lambda: "client [::1]:" in collector.stderr)
    assert "is refused: its address is not in [listen] allow" in collector.stderr


@needs_ip
def test_a_wrong_token_from_an_ipv4_client_is_told_with_its_ipv4_address(
    make_collector: MakeCollector,
) -> None:
    collector = make_collector('[admin]\nhost = "::"\nport = 0\ntoken = "right"\n').start()
    with socket.create_connection(("127.0.0.1", collector.admin_port)) as client:
        client.sendall(b"GET /metrics HTTP/1.0\r\nHost: [::1]\r\nAuthorization: Bearer wrong\r\n\r\n")
        assert b" 401 " in client.recv(100)
    within(5, lambda: "admin: a wrong token from 127.0.0.1\n" in collector.stderr)
