"""Spools as a worker leaves them, written at once."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from collector.spool.reading import ID_FILE
from collector.spool.segments import Block, Header, SegmentId, pack_block, pack_header
from tests.support.frames import make_payload

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

COLLECTOR = "00c0ffee00c0ffee"
RECEIVED = 1_790_000_000 * 10**9
"""When the record with number 0 was received; each further one a second later."""


class SpoolFiles:
    """The files of a spool in a directory of its own."""

    def __init__(self, directory: Path, collector: str = COLLECTOR, epoch: int = 0) -> None:
        """Begin with the epoch after *epoch*."""
        directory.mkdir(exist_ok=True)
        self._collector = collector
        self.directory = directory
        self.number = 1
        """The next one to be given out."""
        self._epoch = epoch
        self._index = -1
        (directory / ID_FILE).write_text(f"{collector}\n")

    def write(self, messages: Sequence[str], *, skipped: int = 0, name: str = "app") -> None:
        """Write a block with a record for each message; *skipped* numbers before them are lost."""
        self.write_payloads([make_payload(message, name) for message in messages], skipped=skipped)

    def write_payloads(self, payloads: Sequence[bytes], *, skipped: int = 0) -> None:
        if self._index < 0:
            self.begin_epoch()
        self.number += skipped
        received = RECEIVED + self.number * 10**9
        block = b"".join(pack_block(self._marker, Block(self.number, received, "10.0.0.1:5", list(payloads))))
        with open(self._path, "ab") as file:
            file.write(block)
        self.number += len(payloads)

    def begin_epoch(self) -> None:
        """Begin anew, as a worker does that starts."""
        self._epoch += 1
        self._index = -1
        self.begin_segment()

    def begin_segment(self) -> None:
        self._index += 1
        self._marker = os.urandom(16)
        with open(self._path, "xb") as file:
            file.write(pack_header(Header(self._epoch, self._collector, self._marker)))

    def remove_oldest_segment(self) -> None:
        min(self.directory.glob("*.seg")).unlink()

    @property
    def _path(self) -> Path:
        return self.directory / SegmentId(self._epoch, self._index).name
