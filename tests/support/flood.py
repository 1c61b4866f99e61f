"""Eight clients at full speed, each a process of its own."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from tests.support.places import FLOOD

if TYPE_CHECKING:
    from tests.support.collectors import Collector


CLIENTS = 8
RECORDS = 50_000
LOGGERS = 4
LOAD_SECONDS = 90


def start_clients(collector: Collector, records: int) -> list[subprocess.Popen[bytes]]:
    """Start clients that send so many records each."""
    return [subprocess.Popen(_command(collector, client, str(records))) for client in range(CLIENTS)]


def wait_for(clients: list[subprocess.Popen[bytes]]) -> None:
    assert [0] * CLIENTS == [client.wait(LOAD_SECONDS) for client in clients]


def start_clients_until_told(collector: Collector, records: int) -> list[subprocess.Popen[bytes]]:
    """Start clients that send at least so many records each, and go on until they are told to end."""
    commands = [_command(collector, client, f"{records}+") for client in range(CLIENTS)]
    return [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for command in commands]


def tell(clients: list[subprocess.Popen[bytes]]) -> int:
    """Let *clients* end; return how many records they have sent together."""
    ended = [client.communicate(timeout=LOAD_SECONDS)[0] for client in clients]
    wait_for(clients)
    return sum(map(int, ended))


def _command(collector: Collector, client: int, records: str) -> list[str]:
    return [sys.executable, str(FLOOD), str(collector.port), str(client), records]
