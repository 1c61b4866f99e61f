from __future__ import annotations

import json
from typing import TYPE_CHECKING

from collector.config.tables import Forward
from collector.forward.progress import Progress
from collector.forward.window import Window
from collector.spool.reading import OLDEST, SpoolReader
from tests.support.frames import make_payload
from tests.support.line_destination import LineDestination
from tests.support.spool_files import RECEIVED

if TYPE_CHECKING:
    from collector.spool.reading import Spooled
    from collector.wire.records import Record
    from tests.support.spool_files import SpoolFiles


class Times(LineDestination):
    """Renders of each record when it was made."""

    def render(self, spooled: Spooled, record: Record, id: str, *, short: bool = False) -> bytes:  # noqa: A002, ARG002
        return str(record[4]).encode()


def test_a_record_whose_time_is_none_that_can_be_was_made_when_it_was_received(spool: SpoolFiles) -> None:
    """And not when it is read, which may be days later, and another time at each try."""
    good = 1_789_999_999.5
    payloads = [
        make_payload("good", created=good),
        make_payload("in text", created="yesterday"),
        b"no pickle",
        make_payload("before 1970", created=-1.0),
        json.dumps({"name": "app", "msg": "without"}).encode(),
        make_payload("no number", created=float("nan")),
        make_payload("good", created=good),
    ]
    spool.write_payloads(payloads[:5])
    spool.write_payloads(payloads[5:])
    window = Window(SpoolReader(str(spool.directory), OLDEST), Progress.at(OLDEST))
    window.use(Forward(name="elk", type="elasticsearch"), Times(0))
    window.fill(100, 1_000_000)
    first, second = RECEIVED / 10**9 + 1, RECEIVED / 10**9 + 6
    times = [good, first, None, first, first, second, good]
    assert times == [float(one.outgoing.data) if not one.dead else None for one in window.records]
    for one in window.unsettled():
        window.render_again(one, short=True)
    assert times == [float(one.outgoing.data) if not one.dead else None for one in window.records]
