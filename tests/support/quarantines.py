"""Quarantines as a collector leaves them, and what lies in them."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

from collector.files.quarantined import Entry, alone
from collector.names import ENTRIES, OLDER_QUARANTINE, QUARANTINE

if TYPE_CHECKING:
    from pathlib import Path


def framed(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "big") + payload


def entries_of(frames: list[bytes], client: str = "10.0.0.7:51934", reason: str = "why") -> bytes:
    """Return the entries of whole frames that follow each other from the beginning of a file."""
    lines, offset = [], 0
    for number, frame in enumerate(frames):
        place = offset, len(frame), zlib.crc32(frame)
        lines.append(Entry(1_000_000_000.5 + number, client, f"{reason} {number}", *place).line())
        offset += len(frame)
    return b"".join(lines)


def put(directory: Path, frames: list[bytes], name: str = QUARANTINE) -> None:
    """Write one half, with an entry for each of *frames*, and nothing of a collector's between the two."""
    directory.mkdir(exist_ok=True)
    with alone(str(directory)):
        (directory / name).write_bytes(b"".join(frames))
        (directory / ENTRIES[name]).write_bytes(entries_of(frames))


def read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def frames_in(directory: Path) -> list[bytes]:
    """Return the frames of both halves, the older one first."""
    return [data for name in (OLDER_QUARANTINE, QUARANTINE) for data in cut(read(directory / name))]


def cut(data: bytes) -> list[bytes]:
    frames = []
    while data:
        end = 4 + int.from_bytes(data[:4], "big")
        assert end <= len(data), "a frame is cut"
        frames.append(data[:end])
        data = data[end:]
    return frames


def entries_in(directory: Path, name: str = QUARANTINE) -> list[dict[str, Any]]:
    return [json.loads(line) for line in read(directory / ENTRIES[name]).splitlines()]
