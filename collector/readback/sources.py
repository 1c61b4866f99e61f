"""The collector's files, read back by the block from their beginning, or from their end.

What is read is what was there at the beginning, though files be rolled over or compressed meanwhile.
"""

from __future__ import annotations

import gzip
import os
import resource
import stat
import zlib
from bisect import bisect_right
from collections import deque
from contextlib import suppress
from itertools import accumulate
from typing import TYPE_CHECKING, BinaryIO

from collector.files import inventory
from collector.readback.layouts import Layout, layouts_of, split, time_key

if TYPE_CHECKING:
    import re
    from collections.abc import Callable

    from collector.config.load import Config
    from collector.files.inventory import Found

    Select = Callable[["Source", list[bytes], list[bytes]], tuple[list[bytes], list[bytes]]]

MAX_BLOCK_BYTES = 1024 * 1024
_PEEK_BYTES = 64 * 1024
_STEP_BYTES = 512
# A directory in which files roll over all the time is taken as it was found at last.
_TRIES = 10


class Source:
    """One file: blocks of whole records, and the times between which they lie."""

    def __init__(
        self,
        found: Found,
        layouts: list[Layout],
        select: Select | None = None,
        search: re.Pattern[str] | None = None,
        *,
        live: bool = False,
    ) -> None:
        """*select* gets the records of a block and their times; it returns those to take, as it makes them.

        Where there is a *search*, it need not get those in which that finds nothing.

        A *live* file is opened at once, for it may be renamed by the time it is read.
        """
        self.found = found
        self.layouts = [layout.near(found.status.st_mtime) for layout in layouts]
        self.first = b""
        """The time of its first record."""
        self.low = self.high = b""
        """The times of the first record that is left of the block, and of its last one."""
        self.trouble = ""
        self.timed = True
        self._live = live
        self._file: BinaryIO | gzip.GzipFile | None = None
        self._compressed: BinaryIO | None = None
        self._select = select
        self._search = search
        self._block = self._floor = b""
        self._done = 0
        self._left = -1
        """Bytes of a live file that were there when it was opened; -1: of another, which does not grow."""
        self._rest = b""
        self._records: tuple[list[bytes], list[bytes]] | None = None
        if live:
            with suppress(OSError):  # the reason shows when it is read
                file = self._take(open_regular(found.path), found.path)
                self.found = found._replace(status=os.fstat(file.fileno()))
                if not self._compressed:
                    self._left = self.found.status.st_size

    @property
    def number(self) -> tuple[int, int]:
        """What it keeps when it is renamed."""
        return inventory.number(self.found)

    def peek(self) -> bool:
        """Find `first` and how its lines begin; return whether there is anything in it."""
        data = self._read(_PEEK_BYTES)
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
            # Nobody knows when what is in it was; that it was before it was last written is sure.
            self.first = time_key(self.found.status.st_mtime)
        if self._live:
            self._rest = data
        else:
            self.close()
        return bool(data)

    def advance(self, size: int) -> bool:
        """Go to the next block, of about *size* bytes; return whether there is one."""
        data, self._rest, self._records = self._rest, b"", None
        while True:
            more = self._read(size)
            data += more
            if not more:
                data = data.removesuffix(b"\n")
                break
            if cut := self._last_begin(data):
                data, self._rest = data[: cut - 1], data[cut:]
                break
            size = len(data)
        self._block, self._done, self._floor = data, 0, self.high
        self.low = max(self._floor, self._key_at(0) or b"")
        self.high = max(self.low, self._key_at(self._last_begin(data)) or b"")
        return bool(data)

    def take(self, limit: bytes) -> list[bytes]:
        """Take from the block the records up to the time *limit*, in one piece where nobody selects.

        The whole block has been taken when *limit* is not below `high`; else `low` is that of the next.
        """
        if self._select:
            return self._take_selected(limit)
        begin, end = self._done, len(self._block) + 1
        if limit < self.high:
            end, key = self._find_later(limit)
            self.low = max(self.low, key or b"")
        self._done = end
        return [self._block[begin : end - 1]]

    def _take_selected(self, limit: bytes) -> list[bytes]:
        if self._records is None:
            self._records = self._select(self, *self._split()) if self._select else self._split()
        records, keys = self._records
        begin, end = self._done, len(keys)
        if limit < self.high:
            end = bisect_right(keys, limit, begin)
            self.low = keys[end] if end < len(keys) else self.high
        self._done = end
        return records[begin:end]

    def _split(self) -> tuple[list[bytes], list[bytes]]:
        """Return the records of the block, and the time of each."""
        if not self.timed:
            records = self._block.split(b"\n")
            return records, [self.first] * len(records)
        if self._search and self._block.isascii():  # else characters are not where bytes are
            records, keys = self._find(self._search)
        else:
            records, keys = split(self._block, self.layouts, self._floor)
        if not keys:
            return records, keys
        if keys[0] < self._floor or keys != sorted(keys):
            keys = list(accumulate([max(self._floor, keys[0]), *keys[1:]], max))
        return records, keys

    def _find(self, search: re.Pattern[str]) -> tuple[list[bytes], list[bytes]]:
        """Return the records of the block in which something may be found, and the time of each."""
        block, text = self._block, self._block.decode()
        records: list[bytes] = []
        keys: list[bytes] = []
        end = 0
        while end < len(text) and (match := search.search(text, end)):
            begin = match.start()
            while (begin := block.rfind(b"\n", end, begin) + 1) and not self._key_at(begin):
                begin -= 1
            begin = max(begin, end)
            keys.append(self._key_at(begin) or self._floor)
            end = self._begin_from(max(begin, match.start()) + 1)[0]
            records.append(block[begin : end - 1])
        return records, keys

    def _find_later(self, limit: bytes) -> tuple[int, bytes | None]:
        """Return where the first record behind what is done begins that is later than *limit*, and its time.

        In wider and wider steps first, then halving: most runs are short or very long.
        """
        early, step = self._done, 0
        while True:
            late, key = self._begin_from(early + 1 + step)
            if key is None or key > limit:
                break
            early, step = late, 4 * step + _STEP_BYTES
        if not step:
            return late, key
        while late - early > 1:
            middle = (early + 1 + late) // 2 if late - early > _STEP_BYTES else early + 1
            found, key = self._begin_from(middle)
            if key is not None and key <= limit and found < late:
                early = found
            elif middle == early + 1:
                return found, key
            else:
                late = middle
        return late, None

    def _begin_from(self, position: int) -> tuple[int, bytes | None]:
        """Return where the first record at *position* or behind begins, and its time; the end and None."""
        find, block = self._block.find, self._block
        while position := find(b"\n", position - 1) + 1:
            if key := self._key_at(position):
                return position, key
            position += 1
        return len(block) + 1, None

    def last(self, number: int) -> tuple[list[bytes], list[bytes]]:
        """Return the last *number* records, and the time of each; no block can be read after that."""
        kept: deque[tuple[bytes, bytes]] = deque(maxlen=number)
        try:
            file = self._open()
        except OSError:
            return [], []  # deleted meanwhile
        if isinstance(file, gzip.GzipFile) or not self.timed:
            while self.advance(MAX_BLOCK_BYTES):
                kept.extend(zip(*self._split(), strict=True))
            return [record for record, _ in kept], [key for _, key in kept]
        end = self.found.status.st_size if self._left >= 0 else os.fstat(file.fileno()).st_size
        size = _PEEK_BYTES
        while True:
            begin = max(0, end - size)
            data = os.pread(file.fileno(), end - begin, begin)
            cut = 0 if begin == 0 else data.find(b"\n") + 1
            records, keys = split(data[cut:].removesuffix(b"\n"), self.layouts, b"")
            if not begin:
                break
            # The first may be the rest of a record.
            records, keys = records[1:], keys[1:]
            if len(records) >= number:
                break
            size *= 4
        self.close()
        return records[-number:], list(accumulate(keys, max))[-number:]

    def duplicate(self) -> BinaryIO | None:
        """Return the file once more if it is open and not compressed, to be read by os.pread."""
        if self._file is None or self._compressed:
            return None
        return open(os.dup(self._file.fileno()), "rb", buffering=0)

    def layout_of(self, record: bytes) -> Layout:
        """Return the layout by which *record* was written."""
        if len(self.layouts) > 1:
            line = record.partition(b"\n")[0]
            for layout in self.layouts:
                if layout.timed and layout.keys([line])[0]:
                    return layout
        return self.layouts[0]

    def close(self) -> None:
        """Let the file go."""
        for file in (self._file, self._compressed):
            if file:
                file.close()
        self._file = self._compressed = None

    def _key_at(self, position: int) -> bytes | None:
        """Return the time of the record that begins at *position* of the block; None if none begins there."""
        return self._key_in(self._block, position)

    def _key_in(self, data: bytes, position: int) -> bytes | None:
        if not self.timed:
            return self.first
        for layout in self.layouts:
            if key := layout.key_at(data, position):
                return key
        return None

    def _last_begin(self, data: bytes) -> int:
        """Return where the last record in *data* begins that is not the first; 0 if there is one only."""
        end = len(data)
        while (end := data.rfind(b"\n", 0, end)) >= 0:
            if self._key_in(data, end + 1):
                return end + 1
        return 0

    def _open(self) -> BinaryIO | gzip.GzipFile:
        if self._file is None:
            path = self.found.path
            try:
                file = open_regular(path)
            except FileNotFoundError:
                path += ".gz"  # compressed meanwhile
                file = open_regular(path)
            return self._take(file, path)
        return self._file

    def _take(self, file: BinaryIO, path: str) -> BinaryIO | gzip.GzipFile:
        if path.endswith(".gz"):
            self._compressed = file
            self._file = gzip.GzipFile(fileobj=file, mode="rb")
        else:
            self._file = file
        return self._file

    def _read(self, size: int) -> bytes:
        """Return the next bytes, b"" at the end or where it cannot be read any further."""
        try:
            data = self._open().read(size if self._left < 0 else min(size, self._left))
        except FileNotFoundError:
            return b""  # deleted meanwhile, as backups are
        except (OSError, EOFError, zlib.error) as error:
            self.trouble = f"{self.found.path}: cannot be read to its end: {error}"
            return b""
        if self._left >= 0:
            self._left -= len(data)
        return data


def open_regular(path: str) -> BinaryIO:
    """Open a regular file to read, and nothing else. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(f"not a regular file: {path!r}")
    return open(fd, "rb", buffering=0)


def open_all(
    config: Config, select: Select | None = None, search: re.Pattern[str] | None = None
) -> list[Source]:
    """Return all files of the directory as they are at this moment, the live ones open.

    *select* and *search* are those of Source. Raises OSError.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    layouts = layouts_of(config)
    sources: dict[tuple[int, int], Source] = {}
    for _ in range(_TRIES):
        for source in sources.values():
            source.close()
        listed = list(inventory.find(config, rotated=True))
        # logrotate renames what it has made, and not only what is written to.
        opened = [
            Source(found, layouts, select, search, live=not (found.backup and found.backup.label))
            for found in listed
        ]
        sources = {source.number: source for source in opened}
        # Whatever was renamed while the directory was listed shows as a file that was not in the list.
        again = inventory.find(config, rotated=True)
        if all(inventory.number(found) in sources for found in [*listed, *again]):
            break
    # A backup that is being compressed has two forms.
    paths = {source.found.path for source in sources.values()}
    return [
        one for one in sources.values() if one.found.path.removesuffix(".gz") not in paths - {one.found.path}
    ]
