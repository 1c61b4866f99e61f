"""Spools on real disks, and what is read from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from collector.spool.appending import Spool
from collector.spool.reading import OLDEST, SpoolReader

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from collector.spool.reading import Position, Spooled

MiB = 1024 * 1024
PEER = "10.0.0.7:51934"


def make_spool(directory: Path, **how: Any) -> Spool:
    """Return a spool that nobody has opened yet."""
    settings = {"limit": 16 * MiB, "max_bytes": 1024 * MiB, "segment_bytes": 16 * MiB, "sync": True}
    return Spool(str(directory), **settings | how)


def spool_now(spool: Spool, payloads: Iterable[bytes], received: int = 1) -> None:
    """Have *payloads* written, as one block."""
    spool.add(PEER, list(payloads), received)
    spool.write()


def numbered(first: int, behind: int, size: int = 20) -> list[bytes]:
    """Return payloads that tell their number."""
    return [b"%08d" % number + b"." * (size - 8) for number in range(first, behind)]


def read_all(
    directory: Path, position: Position = OLDEST, records: int = 1000, size: int = MiB
) -> list[Spooled]:
    """Return all that a reader finds from *position* on."""
    reader = SpoolReader(str(directory), position)
    found: list[Spooled] = []
    while some := reader.read(records, size):
        found += some
    reader.close()
    return found


def payloads_in(directory: Path) -> list[bytes]:
    return [spooled.payload for spooled in read_all(directory)]


def numbers_in(directory: Path) -> list[int]:
    return [spooled.number for spooled in read_all(directory)]


def segments_of(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.seg"))
