"""The command `health`: whether the collector of a configuration does its work, for HEALTHCHECK and scripts.

It asks the admin port. Where there is none it connects to where the collector listens, and hangs up without a
byte, which the collector does not take for a client.
"""

from __future__ import annotations

import socket
import sys
import threading
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from collector.admin.client import AdminClient
from collector.config.load import ConfigError, load
from collector.exits import EXIT_FAILED, EXIT_OK
from collector.listen.sockets import host_port, to_reach

if TYPE_CHECKING:
    import argparse

    from collector.config.tables import Admin, Config, Listen

# Together below the 5 seconds of HEALTHCHECK, the start of this program included. Who is silent is named
# within the first; the rest is for what cannot be interrupted.
_SECONDS = 2.5
_GRACE_SECONDS = 0.5
_SILENT = f"no answer within {_SECONDS + _GRACE_SECONDS:g} s"


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit code. It takes a few seconds at most, whoever hangs."""
    try:
        trial = _Trial(load(options.config))
        trial.join(_SECONDS + _GRACE_SECONDS)
        fault = trial.fault
    except ConfigError as error:
        fault = "; ".join(error.faults)
    if fault:
        print(f"collector health: {fault}", file=sys.stderr)
        return EXIT_FAILED
    print("healthy")
    return EXIT_OK


class _Trial(threading.Thread):
    """In a thread that nobody has to wait for: a look-up of a name may hang, and an answer trickle in."""

    def __init__(self, config: Config) -> None:
        super().__init__(daemon=True)
        self.fault = _SILENT
        """Why it is not healthy, "" if it is; it may change for as long as the thread runs."""
        self._config = config
        self.start()

    def run(self) -> None:
        admin, listen = self._config.admin, self._config.listen
        try:
            self.fault = _fault_by_admin(admin) if admin else _fault_by_connecting(listen)
        except (OSError, UnicodeError) as error:  # UnicodeError: the name of no host
            self.fault = str(error)


def _fault_by_admin(admin: Admin) -> str:
    """Return what the admin port says is wrong, "" if nothing is. Raises OSError."""
    if not admin.port:
        return "[admin] port = 0 does not tell the port; choose one"
    # Health needs no token, and who asks may be unable to read its file.
    with closing(AdminClient(replace(admin, token_file=""), _SECONDS)) as client:
        return client.fault()


def _fault_by_connecting(listen: Listen) -> str:
    """Return why nobody could connect, "" if it can be done."""
    if not (listen.port or listen.unix):
        return "[listen] port = 0 does not tell the port; choose one, or add [admin]"
    host = to_reach(listen.host)
    where = host_port((host, listen.port))[1] if listen.port else listen.unix
    try:
        if listen.port:
            socket.create_connection((host, listen.port), _SECONDS).close()
        else:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(_SECONDS)
                sock.connect(listen.unix)
    except OSError as error:
        return (
            f"cannot connect to {where}: {error.strerror or error}; does a collector run, and listen there?"
        )
    return ""
