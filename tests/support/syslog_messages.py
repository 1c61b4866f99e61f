"""Messages of syslog, made of payloads and taken apart by RFC 5424's own grammar."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from collector.forward.verdicts import Outgoing
from tests.support.forwarding import RECEIVED, record_of, spooled

if TYPE_CHECKING:
    from collector.forward.verdicts import Destination

RFC_5424 = re.compile(
    rb"<(?P<priority>\d{1,3})>1 (?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) (?P<host>[!-~]{1,255})"
    rb" (?P<app_name>[!-~]{1,48}) (?P<process>[!-~]{1,128}) -"
    rb' (?P<data>(?:\[[!-~]{1,32}(?: [^\x00-\x20="\]\x7f-\xff]{1,32}="(?:[^"\\\]]|\\.)*")*\])+) (?P<text>.*)',
    re.DOTALL,
)


def parts(message: bytes) -> dict[str, str]:
    """Return the parts of a message, as text; fail if it is none."""
    match = RFC_5424.fullmatch(message)
    assert match, message
    return {name: value.decode() for name, value in match.groupdict().items()}


def rendered(destination: Destination, number: int, payload: bytes) -> Outgoing:
    """Return the record in *payload* as *destination* sends it."""
    id_ = f"c0ffee-7-{number}"
    return Outgoing(id_, 7, number, RECEIVED, destination.render(spooled(number), record_of(payload), id_))
