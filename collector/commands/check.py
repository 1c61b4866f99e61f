"""The command `check`: tries a configuration and what it needs; says what would run, or all that is wrong.

It may run beside a collector: it binds no configured port, makes nothing, and leaves the lock alone. It
connects to the destinations, and what is wrong there is a warning: it would keep no record from its file.
With --send each of them is sent a record, if there is no fault, and its verdict is told.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from collector.config.load import ConfigError
from collector.daemon.preflight import Preflight
from collector.escape import escape
from collector.exits import EXIT_CANNOT_START, EXIT_FAILED, EXIT_OK
from collector.listen.sockets import host_port

if TYPE_CHECKING:
    import argparse

    from collector.config.tables import Admin, Listen


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit code. Raises ConfigError where the configuration cannot be read."""
    preflight = Preflight(options.config)
    if options.send and not (preflight.config.forwards or preflight.faults):
        place = options.config or "the defaults"
        raise ConfigError([f"{place}: no table [[forward]]: there is nobody to send to; add one"])
    preflight.try_directory(make=False)
    preflight.try_lock()
    preflight.try_files()
    preflight.try_rules()
    preflight.try_tls()
    preflight.try_token()
    preflight.try_addresses()
    preflight.try_spool()
    preflight.try_destinations()
    config = preflight.config
    for warning in [*config.oddities(), *preflight.warnings]:
        print(f"WARNING {warning}", file=sys.stderr)
    for fault in preflight.faults:
        print(fault, file=sys.stderr)
    if preflight.faults:
        return EXIT_CANNOT_START
    listens = _address(config.listen) + (f" and {config.listen.unix}" if config.listen.unix else "")
    more = f"; admin on {_address(config.admin)}" if config.admin else ""
    if preflight.holder:
        more += f"; the collector that has this directory now is process {preflight.holder}"
    directory = os.path.abspath(config.files.directory)
    print(f"ok: listens on {listens}, writes to {directory}{more}")
    if not options.send:
        return EXIT_OK
    sent = preflight.send_to_destinations()
    for place, one in sent:
        print(f"{place}: {escape(one.text)}")
    return EXIT_OK if all(one.stored for _, one in sent) else EXIT_FAILED


def _address(table: Listen | Admin) -> str:
    return host_port((table.host, table.port))[1] if table.port else f"any free port of {table.host}"
