from __future__ import annotations

import json
from typing import TYPE_CHECKING

from collector.config.forwards import forward
from collector.config.tables import Forward
from collector.forward.choose import make
from collector.forward.progress import Progress
from collector.forward.window import UNREADABLE, Window
from collector.spool.reading import OLDEST, SpoolReader
from tests.support.frames import make_payload
from tests.support.line_destination import LineDestination
from tests.support.spool_files import RECEIVED
from tests.support.spools import MiB, make_spool, spool_now

if TYPE_CHECKING:
    from pathlib import Path

    from collector.spool.reading import Spooled
    from collector.wire.records import Record
    from tests.support.spool_files import SpoolFiles


BAD = b"\x80\x04junk"


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
        window.render_again(one, "refused")
    assert times == [float(one.outgoing.data) if not one.dead else None for one in window.records]


def test_what_cannot_be_read_keeps_its_place_among_records(tmp_path: Path) -> None:
    spool = make_spool(tmp_path / "spool")
    spool_now(spool, [BAD, make_payload("a"), BAD, BAD, make_payload("b"), make_payload("c"), BAD])
    settings = forward({"name": "x", "type": "relp", "address": "127.0.0.1:1"})
    window = Window(SpoolReader(str(tmp_path / "spool"), OLDEST), Progress.at(OLDEST))
    window.use(settings, make(settings))
    assert 7 == window.fill(10, MiB)
    found = [(one.dead, one.outgoing.data[-1:]) for one in window.records]
    dead = (UNREADABLE, b"")
    assert [dead, ("", b"a"), dead, dead, ("", b"b"), ("", b"c"), dead] == found
    spool.close()
