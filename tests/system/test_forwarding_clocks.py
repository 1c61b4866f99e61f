"""A clock that is set back while nothing runs: no id comes back, so no record is taken for one already there.

The clock is moved for real, for the collector alone (tests/support/clock.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.bulk_server import BulkServer
from tests.support.handing_over import (
    SPOOL,
    Numbered,
    doubled,
    forward_table,
    numbers_in,
    settled,
    spool_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.clock import Clock
    from tests.support.collectors import Collector

    MakeCollector = Callable[..., Collector]

pytestmark = pytest.mark.slow

HOUR = 3600
EMPTIED = {
    "of its segments": ("*.seg",),
    "of all but its id": ("*.seg", "epoch", "elk.*"),
    "of all": ("*", ".*"),
}


def send(collector: Collector, first: int) -> None:
    """Send 200 records from that number on; return when they are in the file."""
    with Numbered(collector, first=first) as client:
        client.send_all(200)
        client.assert_in_file(first + 199)


@pytest.mark.parametrize("emptied", EMPTIED)
def test_a_clock_set_back_between_two_starts_with_the_spool_emptied_makes_no_id_twice(
    clock: Clock, make_collector: MakeCollector, emptied: str
) -> None:
    with BulkServer() as server:
        # One index for all: an id that came back would be a conflict there, and its record not stored.
        server.roll_over("stream")
        collector = make_collector(SPOOL + forward_table(server.url, index="stream"))
        collector.start(env=clock.environment)
        send(collector, 0)
        settled(collector, 200)
        assert collector.stop() == 0
        for pattern in EMPTIED[emptied]:
            for path in spool_of(collector).glob(pattern):
                path.unlink()
        clock.set(-HOUR)
        collector.start(env=clock.environment)
        send(collector, 200)
        now = settled(collector, 400 if emptied == "of its segments" else 200)
        assert collector.stop() == 0
        (index,) = server.documents.values()
        there = numbers_in(document["message"] for document in index.values())
        assert (doubled(there), len(there)) == ([], 400)
        assert (now.duplicate, now.dropped) == (0, 0)
