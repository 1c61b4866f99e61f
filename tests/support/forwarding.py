"""Records on their way to a destination: as the spool has them, and as they are sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from collector.forward.verdicts import Outgoing
from collector.spool.reading import Spooled
from collector.wire.fragments import RecordReader
from tests.support.frames import make_payload

if TYPE_CHECKING:
    from collector.forward.verdicts import Destination
    from collector.wire.records import Record

NANOS = 1_000_000_000
RECEIVED = 1_763_805_600 * NANOS
"""2025-11-22T10:00:00Z."""
NEXT_DAY = RECEIVED + 24 * 60 * 60 * NANOS


@dataclass(frozen=True)
class Settings:
    """The keys of a [[forward]] table that destinations over HTTP read, with their defaults."""

    name: str = "elk"
    url: str = ""
    urls: tuple[str, ...] = ()
    timeout_seconds: float = 60
    max_record_bytes: int = 1_000_000
    compression: str = "gzip"
    ca: str = ""
    certificate: str = ""
    private_key: str = ""
    user: str = ""
    password_file: str = ""
    api_key_file: str = ""
    token_file: str = ""
    proxy: str = ""
    index: str = "collector-%Y.%m.%d"
    pipeline: str = ""


def settings(url: str = "", **keys: Any) -> Any:
    """Return the settings of a destination at *url*."""
    return Settings(url=url, **keys)


def spooled(number: int, received: int = RECEIVED) -> Spooled:
    """Return a record as render() is given one; its payload is not read again."""
    return Spooled("c0ffee", 7, 0, 0, number, received, "10.0.0.7:51934", b"")


def record_of(payload: bytes) -> Record:
    """Return the record in a payload, which has one."""
    unreadable: list[Any] = []
    records = list(RecordReader().read([payload], unreadable, []))
    assert not unreadable
    return records[0]


def outgoing(
    destination: Destination,
    number: int = 1,
    message: str = "hello",
    *,
    received: int = RECEIVED,
    epoch: int = 7,
    **extra: Any,
) -> Outgoing:
    """Return a record that *destination* has rendered."""
    payload = make_payload(message, **extra)
    record_id = f"c0ffee-{epoch}-{number}"
    data = destination.render(spooled(number, received), record_of(payload), record_id)
    return Outgoing(record_id, epoch, number, received, data)
