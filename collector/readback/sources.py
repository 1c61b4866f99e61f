"""The collector's files, read back by the block, or from their end.

The files are read as they were when they were opened, even if they are rolled over or compressed meanwhile.
"""

from __future__ import annotations

import resource
from collections import deque
from contextlib import suppress
from itertools import accumulate
from typing import TYPE_CHECKING

from collector.files import inventory
from collector.readback.blocks import Block, Selection, UntimedBlock, last_begin
from collector.readback.layouts import split_records
from collector.readback.log_file import LogFile
from collector.readback.origins import Origins
from collector.readback.times import time_key

if TYPE_CHECKING:
    import re
    from collections.abc import Callable

    from collector.config.tables import Config
    from collector.files.inventory import Found
    from collector.readback.blocks import AnyBlock
    from collector.readback.layouts import Layout

    Select = Callable[["Source", list[bytes], list[bytes]], tuple[list[bytes], list[bytes]]]

MAX_BLOCK_BYTES = 1024 * 1024
_PEEK_BYTES = 64 * 1024
# Where files keep rolling over, the directory is taken as it was found the last time.
_TRIES = 10


class Source:
    """One file: blocks of whole records, and the time of the first."""

    def __init__(
        self,
        found: Found,
        layouts: list[Layout],
        select: Select | None = None,
        search: re.Pattern[str] | None = None,
        *,
        live: bool = False,
    ) -> None:
        """*layouts* are those of all formats, and first the one that the lines should have.

        *select* gets the records of a block and their times; it returns those to take, as they are to be.

        It need not be shown records in which *search* finds nothing.

        A *live* file is opened at once, because it may be renamed before it is read.
        """
        self.found = found
        self.layouts = [layout.near(found.status.st_mtime) for layout in layouts]
        self.print = ""
        self.file = LogFile(found.path)
        self.first = b""
        """The time of its first record."""
        self.timed = True
        self._live = live
        self._select = select
        self._search = search
        self._rest = b""
        """What has been read of the next block."""
        self._floor = b""
        """The time of the last record so far."""
        if live:
            with suppress(OSError):  # reading it will show why
                self.found = found._replace(status=self.file.pin())

    @property
    def number(self) -> tuple[int, int]:
        """What the file keeps when it is renamed."""
        return inventory.number(self.found)

    def peek(self) -> bool:
        """Find `first` and how its lines begin; return whether there is anything in it."""
        data = self.file.read(_PEEK_BYTES)
        lines = data.split(b"\n")
        keys: list[list[bytes]] = [
            [key for key in layout.keys(lines) if key] if layout.timed else [] for layout in self.layouts
        ]
        best = max(range(len(keys)), key=lambda index: len(keys[index]))
        self.timed = bool(keys[best])
        if self.timed:
            timed = [layout for layout in self.layouts if layout.timed]
            self.layouts = sorted(timed, key=lambda layout: layout is not self.layouts[best])
            self.first = keys[best][0]
        else:
            # Nobody knows when what is in it was logged, but it was before the file was last written.
            self.first = time_key(self.found.status.st_mtime)
        if self._live:
            self._rest = data
        else:
            self.file.close()
        return bool(data)

    def next_block(self, size: int) -> AnyBlock | Selection | None:
        """Read about *size* bytes of whole records; None at the end."""
        block = self._read_block(size)
        if not (block and self._select):
            return block
        records, keys = block.find(self._search) if self._search else block.split()
        return Selection(block, *self._select(self, records, keys))

    def last(self, number: int) -> tuple[list[bytes], list[bytes]]:
        """Return the last *number* records, and the time of each; no block can be read after that."""
        try:
            pieces = self.file.read_backwards(_PEEK_BYTES)
        except OSError:
            return [], []  # deleted meanwhile
        if pieces is None or not self.timed:
            kept: deque[tuple[bytes, bytes]] = deque(maxlen=number)
            while block := self._read_block(MAX_BLOCK_BYTES):
                kept.extend(zip(*block.split(), strict=True))
            return [record for record, _ in kept], [key for _, key in kept]
        for data, is_all in pieces:
            cut = 0 if is_all else data.find(b"\n") + 1
            records, keys = split_records(data[cut:].removesuffix(b"\n"), self.layouts, b"")
            if is_all:
                break
            # The first one may be the end of a longer record.
            records, keys = records[1:], keys[1:]
            if len(records) >= number:
                break
        self.close()
        return records[-number:], list(accumulate(keys, max))[-number:]

    def layout_of(self, record: bytes) -> Layout:
        """Return the layout that *record* was written in."""
        if len(self.layouts) > 1:
            line = record.partition(b"\n")[0]
            for layout in self.layouts:
                if layout.timed and layout.keys([line])[0]:
                    return layout
        return self.layouts[0]

    def close(self) -> None:
        """Let the file go."""
        self.file.close()

    def _read_block(self, size: int) -> AnyBlock | None:
        data, self._rest = self._rest, b""
        while more := self.file.read(size):
            data += more
            cut = last_begin(data, self.layouts) if self.timed else data.rfind(b"\n") + 1
            if cut > 1:  # a block that is an empty line would be taken for the end
                data, self._rest = data[:cut], data[cut:]
                break
            size = len(data)
        data = data.removesuffix(b"\n")
        if not data:
            return None
        block = Block(data, self.layouts, self._floor) if self.timed else UntimedBlock(data, self.first)
        self._floor = block.high
        return block


def open_all(
    config: Config, select: Select | None = None, search: re.Pattern[str] | None = None
) -> list[Source]:
    """Return all files of the directory as they are at this moment, the live ones open.

    *select* and *search* are as for Source. Raises OSError.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    origins = Origins(config)
    sources: dict[tuple[int, int], Source] = {}
    for _ in range(_TRIES):
        for source in sources.values():
            source.close()
        listed = list(inventory.find(config, rotated=True))
        # logrotate renames the files that it has made, too, not only the live ones.
        opened = [
            Source(
                found,
                origins.layouts(found.base),
                select,
                search,
                live=not (found.backup and found.backup.label),
            )
            for found in listed
        ]
        sources = {source.number: source for source in opened}
        # A file that was renamed while the directory was listed shows as one that was not in the list.
        again = inventory.find(config, rotated=True)
        if all(inventory.number(found) in sources for found in [*listed, *again]):
            break
    # A backup that is being compressed is there in both forms.
    paths = {source.found.path for source in sources.values()}
    return [
        one for one in sources.values() if one.found.path.removesuffix(".gz") not in paths - {one.found.path}
    ]
