"""What a forwarder is told: by the end of the guardian, whatever was on its way to that."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from collector.daemon.notify import READY

pytestmark = pytest.mark.slow

WAITING = """
import sys
from collector.forward.orders import Orders
orders = Orders(3, int(sys.argv[1]))
while not orders.stop:
    orders.wait(1)
"""


@pytest.mark.parametrize("workers", [0, 1])
def test_the_end_of_the_guardian_is_an_order_to_stop_whether_or_not_it_has_read_what_workers_told_it(
    workers: int,
) -> None:
    ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
    with theirs:
        for _ in range(workers):
            theirs.send(READY)
        forwarder = subprocess.Popen(
            [sys.executable, "-c", WAITING, str(theirs.fileno())], pass_fds=[theirs.fileno()]
        )
        ours.close()
        try:
            assert forwarder.wait(10) == 0
        finally:
            forwarder.kill()
            forwarder.wait()
