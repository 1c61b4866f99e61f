"""What is written to the log files from now on, found by looking at the directory again and again.

A file that is rolled over is still read to its end, and one that was made, rolled over and compressed between
two looks is read from its beginning.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from collector.files import inventory
from collector.readback.layouts import split_records
from collector.readback.log_file import open_regular
from collector.readback.origins import Origins
from collector.readback.sources import MAX_PRINTED_BYTES, Source, age, print_of
from collector.readback.span import Span
from collector.readback.times import time_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collector.config.tables import Config
    from collector.files.inventory import Found

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
        self._compressed: Batch = []
        """The records of backups that were made and compressed between two looks."""
        self._seen: dict[tuple[int, int], _Followed | None] = {}
        self._backups = {_backup(source.found) for source in sources}
        """Which backups there are or were. One that is compressed gets another number, and keeps its name."""
        for source in sources:
            file = source.file.duplicate()
            size = source.found.status.st_size
            self._seen[source.number] = _Followed(source, file, size, live=True) if file else None

    def poll(self) -> Batch:
        """Return the records written since the last call, by time, and where that is the same by file."""
        self._find_files()
        batch, self._compressed = self._compressed, []
        for number, followed in self._seen.items():
            if followed:
                batch += self._read(followed)
            if followed and not followed.live:
                followed.file.close()
                self._seen[number] = None
        return sorted(batch, key=lambda one: (one[2], age(one[0].found)))

    def close(self) -> None:
        """Let the files go."""
        for followed in self._seen.values():
            if followed:
                followed.file.close()

    def skip(self) -> None:
        """Go to the end of every file: what it holds so far has been shown."""
        self._find_files()
        self._compressed = []
        for followed in self._seen.values():
            if followed:
                followed.offset = os.fstat(followed.file.fileno()).st_size

    def _find_files(self) -> None:
        """Find files that were made, renamed or removed."""
        # The oldest first, since a file and its backup may have records of the same second.
        listed = sorted(inventory.find(self._config, rotated=True), key=age)
        present = {inventory.number(found) for found in listed}
        gone = {
            one.source.found.base: one
            for number, one in self._seen.items()
            if one and one.live and number not in present
        }
        for found in listed:
            number = inventory.number(found)
            is_known = found.backup is not None and _backup(found) in self._backups
            self._backups.add(_backup(found))
            by_logrotate = found.backup is not None and not found.backup.label
            if followed := self._seen.get(number):
                # A file that logrotate has moved is written to until the collector is told.
                followed.live = by_logrotate or found.backup is None
            elif by_logrotate:
                self._seen[number] = None  # a copy, or compressed: its records have been shown
            elif number not in self._seen or not is_known:
                # Or by the inode alone: that of a backup that was compressed goes to a new file.
                source = Source(found, self._origins.layouts(found.base))
                if compressed := found.path.endswith(".gz"):
                    self._add_compressed(
                        source, None if is_known else gone.pop(found.base, None), is_known=is_known
                    )
                try:
                    file = None if compressed else open_regular(found.path)
                except OSError:
                    # Renamed or compressed meanwhile; otherwise it is tried again.
                    present.discard(number)
                    self._backups.discard(_backup(found))
                    continue
                live = found.backup is None
                self._seen[number] = _Followed(source, file, 0, live) if file else None
        for number in self._seen.keys() - present:
            if (followed := self._seen[number]) and followed.live:
                followed.live = False  # removed: the rest of it is read
            else:
                del self._seen[number]

    def _add_compressed(self, source: Source, gone: _Followed | None, *, is_known: bool) -> None:
        """Keep what a new compressed backup has to show, unless it is what a file has become that was read.

        *gone* is the log file of the same logger that is no longer there, and is still open.
        """
        if is_known or not source.open():
            return
        if not (gone and print_of(os.pread(gone.file.fileno(), MAX_PRINTED_BYTES, 0)) == source.print):
            for block in source.blocks(Span(), newest_first=False):
                records, keys = source.cutter.split(block)
                self._compressed += [(source, *one) for one in zip(records, keys, strict=True)]
        source.close()

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


def _backup(found: Found) -> tuple[str, str]:
    return found.base, found.backup.name if found.backup else ""
