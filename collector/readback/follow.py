"""What is written to the log files from now on, found by looking at the directory again and again.

A file that is rolled over is still read to its end. One made and compressed between two looks is missed.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, BinaryIO

from collector.files import inventory
from collector.readback.layouts import split_records
from collector.readback.log_file import open_regular
from collector.readback.origins import Origins
from collector.readback.sources import Source, age
from collector.readback.times import time_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collector.config.tables import Config

    Batch = list[tuple[Source, bytes, bytes]]
    """Records, each with its file and its time."""


@dataclass
class _Followed:
    source: Source
    file: BinaryIO
    offset: int
    live: bool


class Follower:
    """The files of the directory, each read as far as it has been shown."""

    def __init__(self, config: Config, sources: Sequence[Source]) -> None:
        """Begin where the *sources* end; they must be open, and not yet read."""
        self._config = config
        self._origins = Origins(config)
        self._seen: dict[tuple[int, int], _Followed | None] = {}
        for source in sources:
            file = source.file.duplicate()
            size = source.found.status.st_size
            self._seen[source.number] = _Followed(source, file, size, live=True) if file else None

    def poll(self) -> Batch:
        """Return the records written since the last call, by time."""
        self._find_files()
        batch: Batch = []
        for number, followed in self._seen.items():
            if followed:
                batch += self._read(followed)
            if followed and not followed.live:
                followed.file.close()
                self._seen[number] = None
        return sorted(batch, key=itemgetter(2))

    def close(self) -> None:
        """Let the files go."""
        for followed in self._seen.values():
            if followed:
                followed.file.close()

    def skip(self) -> None:
        """Go to the end of every file: what it holds so far has been shown."""
        self._find_files()
        for followed in self._seen.values():
            if followed:
                followed.offset = os.fstat(followed.file.fileno()).st_size

    def _find_files(self) -> None:
        """Find files that were made, renamed or removed."""
        present = set()
        # The oldest first, since a file and its backup may have records of the same second.
        for found in sorted(inventory.find(self._config, rotated=True), key=age):
            number = inventory.number(found)
            present.add(number)
            by_logrotate = found.backup is not None and not found.backup.label
            if followed := self._seen.get(number):
                # A file that logrotate has moved is written to until the collector is told.
                followed.live = by_logrotate or found.backup is None
            elif by_logrotate:
                self._seen[number] = None  # a copy, or compressed: its records have been shown
            elif number not in self._seen or found.backup is None:
                try:
                    compressed = found.path.endswith(".gz")
                    file = None if compressed else open_regular(found.path)
                except OSError:
                    present.discard(number)  # renamed meanwhile; otherwise it is tried again
                    continue
                source = Source(found, self._origins.layouts(found.base))
                live = found.backup is None
                self._seen[number] = _Followed(source, file, 0, live) if file else None
        for number in self._seen.keys() - present:
            if (followed := self._seen[number]) and followed.live:
                followed.live = False  # removed: the rest of it is read
            else:
                del self._seen[number]

    def _read(self, followed: _Followed) -> Batch:
        size = os.fstat(followed.file.fileno()).st_size
        if size < followed.offset:
            followed.offset = 0  # truncated, for instance by logrotate's copytruncate
        data = os.pread(followed.file.fileno(), size - followed.offset, followed.offset)
        whole = len(data) if not followed.live else data.rfind(b"\n") + 1
        if not whole:
            return []
        followed.offset += whole
        source = followed.source
        records, keys = split_records(data[:whole].removesuffix(b"\n"), source.layouts, time_key(time.time()))
        return [(source, record, key) for record, key in zip(records, keys, strict=True)]

