"""Listening sockets: opened by name or path, or checked where somebody else has opened them.

Also how an address is written in log lines, and how to reach it. Knows no client and loads no gevent.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import socket
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from collector.config.tables import Admin, Listen

log = logging.getLogger(__name__)

# How many free ports are tried: the kernel chooses one that is free at the first address of a name only.
_TRIES = 10
_IPV6 = 6
# A name may have addresses of other machines, or ::1 although IPv6 is switched off.
_NOT_OURS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
_REMEDY = "the socket unit needs ListenStream=, with a path or an address of IPv4 or IPv6, and Accept=no"


def host_port(address: object) -> tuple[str, str]:
    """Return the host of a socket address, and `host:port`; both are "unix" for a Unix socket."""
    if not isinstance(address, tuple):
        return "unix", "unix"
    host, port = address[:2]
    host = host.removeprefix("::ffff:") if "." in host else host  # an IPv4 client of an IPv6 socket
    return host, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_in(host: str, networks: Collection[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    """Tell whether *host*, as host_port() returns it, is in one of *networks*; "unix" is in none."""
    if not networks or host == "unix":
        return False
    address = ipaddress.ip_address(host.partition("%")[0])
    return any(address in network for network in networks)


def is_of_this_machine(host: str, own: str) -> bool:
    """Tell whether the client *host*, as host_port() returns it, runs where it has connected to *own*."""
    return host in ("unix", own) or ipaddress.ip_address(host.partition("%")[0]).is_loopback


def to_reach(host: str) -> str:
    """Return the address or name at which this machine reaches what listens on *host*."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host  # a name
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    if not (mapped or address).is_unspecified:
        return host
    if address.version == _IPV6 and not mapped:
        with suppress(OSError), socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))  # fails where IPv6 is switched off
            return "::1"
    return "127.0.0.1"


def open_all(listen: Listen, admin: Admin | None) -> list[socket.socket]:
    """Return listening sockets: TCP, and Unix if that is set. Raises OSError. The caller closes them.

    The admin port is only tried: the worker opens it later, and survives if it cannot.
    """
    opened: list[socket.socket] = []
    see = "[listen] host and port"
    try:
        opened += open_tcp(listen.host, listen.port, listen.backlog)
        if admin:
            see = "[admin] host and port"
            for sock in open_tcp(admin.host, admin.port, 1):
                sock.close()
        if listen.unix:
            see = "[listen] unix"
            opened.append(_open_unix(listen))
    except OSError as error:
        for sock in opened:
            sock.close()
        raise OSError(f"{error.strerror}; see {see}") from error
    return opened


def open_tcp(host: str, port: int, backlog: int) -> list[socket.socket]:
    """Return a listening socket for each address of *host*, all at one port. The caller closes them.

    An address that this machine does not have is left out with a warning, as long as there is another.
    Raises OSError, whose `strerror` names the address.
    """
    opened, left_out = _open_tcp(host, port, backlog)
    for fault in left_out:
        log.warning("%s", fault)
    return opened


def try_host(host: str) -> list[str]:
    """Try to listen on *host*, at any free port; return a line for each address that is left out.

    Raises OSError if it cannot be listened on.
    """
    opened, left_out = _open_tcp(host, 0, 1)
    for sock in opened:
        sock.close()
    return left_out


def _open_tcp(host: str, port: int, backlog: int) -> tuple[list[socket.socket], list[str]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        where = host_port((host, port))[1] if port else host
        raise OSError(error.errno, f"cannot listen on {where}: {error.strerror}") from error
    addresses = dict.fromkeys((family, address) for family, _, _, _, address in found)
    for _ in range(_TRIES - 1):
        try:
            return _open_addresses(host, addresses, backlog)
        except OSError as error:
            if port or error.errno != errno.EADDRINUSE:
                raise
    return _open_addresses(host, addresses, backlog)


def _open_addresses(
    name: str, addresses: Iterable[tuple[int, Any]], backlog: int
) -> tuple[list[socket.socket], list[str]]:
    """Return listening sockets, and a line for each address that is left out. Raises OSError."""
    opened: list[socket.socket] = []
    left_out: list[OSError] = []
    try:
        for family, (host, port, *rest) in addresses:
            at = opened[0].getsockname()[1] if opened else port
            try:
                opened.append(_open_address(family, (host, at, *rest), backlog))
            except OSError as error:
                where = host_port((host, at))[1] if at else host
                fault = OSError(error.errno, f"cannot listen on {where}: {error.strerror}")
                if error.errno not in _NOT_OURS:
                    raise fault from error
                left_out.append(fault)
        if not opened:
            raise OSError(left_out[0].errno, "; ".join(str(fault.strerror) for fault in left_out))  # noqa: TRY301 - closes all
    except OSError:
        for sock in opened:
            sock.close()
        raise
    return opened, [
        f"{fault.strerror}; until a restart the other addresses of {name} have to do" for fault in left_out
    ]


def _open_address(family: int, address: Any, backlog: int) -> socket.socket:  # noqa: ANN401 - of any family
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        if address[0] == "::" and error.errno == errno.EAFNOSUPPORT:
            # Every address, on a kernel without IPv6.
            return _open_address(socket.AF_INET, ("0.0.0.0", address[1]), backlog)  # noqa: S104 - asked for
        raise
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # "::" accepts IPv4 too, whatever net.ipv6.bindv6only says.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(address)
        sock.listen(backlog)
    except OSError:
        sock.close()
        raise
    return sock


def _open_unix(listen: Listen) -> socket.socket:
    """Open the Unix socket; only what a killed collector left at its path is replaced."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        with suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.lstat(listen.unix).st_mode) and not _somebody_listens(listen.unix):
                os.unlink(listen.unix)
        sock.bind(listen.unix)
        # Who may connect is decided by the directory of the socket, and here: its owner and its group.
        os.chmod(listen.unix, 0o660)
        sock.listen(listen.backlog)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on {listen.unix}: {error.strerror or error}") from error
    return sock


def _somebody_listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError as error:
            return error.errno != errno.ECONNREFUSED
    return True


def take_over(fd: int) -> socket.socket:
    """Return the listening socket that was passed as descriptor *fd*.

    Raises OSError, which names the remedy, if it is not a socket that clients could connect to.
    """
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        if error.errno == errno.ENOTSOCK:
            raise OSError(f"descriptor {fd} is not a socket; {_REMEDY}") from error
        raise
    if sock.family not in _FAMILIES:
        fault = f"is of address family {int(sock.family)}, which no client uses"
    elif sock.type != socket.SOCK_STREAM:
        fault = "is not a stream socket"
    elif not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        fault = "does not listen: with Accept=yes it is a connection"
    else:
        return sock
    raise OSError(f"descriptor {fd} {fault}; {_REMEDY}")
