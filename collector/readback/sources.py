"""The collector's files, each as blocks of records from either end.

The files are read as they were when they were opened, even if they are rolled over or compressed meanwhile.
"""

from __future__ import annotations

import hashlib
import resource
from functools import cached_property
from typing import TYPE_CHECKING

from collector.files import inventory
from collector.readback.blocks import Cutter
from collector.readback.log_file import LogFile
from collector.readback.origins import Origins
from collector.readback.span import Span
from collector.readback.times import time_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from collector.config.tables import Config
    from collector.files.inventory import Found
    from collector.readback.blocks import Block
    from collector.readback.layouts import Layout

AHEAD_SECONDS = 60
"""A record may be dated this long after its file was last written: a client's clock may be ahead."""
# Enough to see how lines begin; more where no record begins in that.
_PEEK_BYTES, _MAX_PEEK_BYTES = 8 * 1024, 64 * 1024
MAX_PRINTED_BYTES = 512
"""As much of its first line tells a file from others."""
# What all files of different loggers that are read at the same time take, and the least of one.
_STRETCHES_BYTES = 4 * 1024 * 1024
_MAX_STRETCH_BYTES, _MIN_STRETCH_BYTES = 64 * 1024, 4096
# Where files keep rolling over, the directory is taken as it was found the last time.
_TRIES = 10


_ALL = Span()


class Source:
    """One file: how its lines begin, and its blocks."""

    def __init__(
        self,
        found: Found,
        layouts: Sequence[Layout],
        stretch: int = _MAX_STRETCH_BYTES,
        report: Callable[[int], None] | None = None,
        *,
        live: bool = False,
    ) -> None:
        """*layouts* are those of all formats, and first the one that the lines should have.

        *stretch* is the length of what holds a block's beginnings. *report* is as for LogFile.

        A *live* file is opened at once, because it may be renamed before it is read.
        """
        self.found = found
        self.layouts = [layout.near(found.status.st_mtime) for layout in layouts]
        self.file = LogFile(found.path, report)
        self.rank = 0
        """Orders records of the same time: those of the source with the lower rank come first."""
        self.first = b""
        """The time of its first record."""
        self.timed = True
        self._stretch = stretch
        self._begin = b""
        self._cutter: Cutter | None = None
        self._live = live
        if live and (status := self.file.pin()):
            self.found = found._replace(status=status)

    @property
    def number(self) -> tuple[int, int]:
        """What the file keeps when it is renamed."""
        return inventory.number(self.found)

    @cached_property
    def print(self) -> str:
        """What tells it from the other files of its logger, under whatever name: its first line, digested."""
        return print_of(self._begin)

    def open(self) -> bool:
        """Find `first` and how its lines begin; return whether there is anything in it."""
        if self._cutter:
            return self.file.open()
        if not self.file.open():
            return False
        keys: list[list[bytes]] = []
        read = self.file.reader()
        while not any(keys) and len(self._begin) < _MAX_PEEK_BYTES and (more := read(_PEEK_BYTES)):
            self._begin += more
            lines = self._begin.split(b"\n")
            keys = [
                [key for key in layout.keys(lines) if key] if layout.timed else [] for layout in self.layouts
            ]
        if not keys:
            return False
        best = max(range(len(keys)), key=lambda index: len(keys[index]))
        self.timed = bool(keys[best])
        if self.timed:
            timed = [layout for layout in self.layouts if layout.timed]
            self.layouts = sorted(timed, key=lambda layout: layout is not self.layouts[best])
            self.first = min(keys[best])
        else:
            # Nobody knows when what is in it was logged, but it was before the file was last written.
            self.first = time_key(self.found.status.st_mtime)
        self._begin = self._begin[:MAX_PRINTED_BYTES]
        self._cutter = Cutter(self.file, self.layouts, self.first, self._stretch, timed=self.timed)
        return True

    @property
    def cutter(self) -> Cutter:
        """What cuts it into blocks and records, once it is open."""
        assert self._cutter, "open() comes first"  # noqa: S101 - what everybody who calls has done
        return self._cutter

    def blocks(self, span: Span, *, newest_first: bool) -> Iterator[Block]:
        """Yield the linked blocks that may hold some of the *span*; if compressed, oldest first."""
        if not self.file.compressed:
            begin, end = self._edges(span)
            low, high = self.cutter.time_at(begin) if begin else b"", self.cutter.time_at(end)
            if begin < end:
                blocks = self.cutter.backward(end) if newest_first else self._up_to(end, begin)
                yield from self.cutter.link(blocks, low or b"", high, newest_first=newest_first)
            return
        cutter = self.cutter
        has_span = span != _ALL
        for block in cutter.link(cutter.forward(), b"", None, newest_first=False):
            if has_span:
                low, high = cutter.times(block)
                if (span.end is not None and block.offset >= span.end) or (
                    span.high is not None and low >= span.high
                ):
                    break
                if block.offset + len(block.data) < span.begin or (high is not None and high < span.low):
                    continue
            yield block

    def layout_of(self, record: bytes) -> Layout:
        """Return the layout that *record* was written in."""
        if len(self.layouts) > 1:
            line = record.partition(b"\n")[0]
            for layout in self.layouts:
                if layout.timed and layout.keys([line])[0]:
                    return layout
        return self.layouts[0]

    def release(self) -> None:
        """Let the file go, unless it can be opened only now."""
        if not self._live:
            self.file.close()

    def close(self) -> None:
        """Let the file go."""
        self.file.close()

    def _up_to(self, end: int, begin: int) -> Iterator[Block]:
        for block in self.cutter.forward(begin):
            if block.offset >= end:
                break
            yield block

    def _edges(self, span: Span) -> tuple[int, int]:
        """Return where the blocks begin and end that may have records of the *span*."""
        cutter, size = self.cutter, self.file.end
        begin, end = cutter.edge(cutter.stretch_of(span.begin)), size
        if span.end is not None:
            end = cutter.edge(cutter.stretch_of(span.end) + 1)
        if span.low:
            begin = max(begin, self._edge_at(span.low, size, behind=False))
        if span.high is not None:
            end = min(end, self._edge_at(span.high, size, behind=True))
        return begin, end

    def _edge_at(self, time: bytes, size: int, *, behind: bool) -> int:
        """Return the last edge at which it is before *time*, or *behind* that the next one; by halving."""
        cutter = self.cutter
        early, late = 0, cutter.stretch_of(max(size - 1, 0)) + 1
        while late - early > 1:
            middle = (early + late) // 2
            when = cutter.time_at(cutter.edge(middle))
            if when is not None and when < time:
                early = middle
            else:
                late = middle
        return cutter.edge(late if behind else early)


def open_all(
    config: Config, report: Callable[[int], None] | None = None, files: Sequence[Found] = ()
) -> list[Source]:
    """Return all files of the directory as they are at this moment, or *files*, the live ones open.

    Raises OSError.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    origins = Origins(config)
    sources: dict[tuple[int, int], Source] = {}
    for _ in range(_TRIES):
        for source in sources.values():
            source.close()
        listed = list(files or inventory.find(config, rotated=True))
        stretch = stretch_bytes(len({found.base for found in listed}))
        # logrotate renames the files that it has made, too, not only the live ones.
        opened = [
            Source(
                found,
                origins.layouts(found.base),
                stretch,
                report,
                live=not (found.backup and found.backup.label),
            )
            for found in listed
        ]
        sources = {source.number: source for source in opened}
        # A file that was renamed while the directory was listed shows as one that was not in the list.
        again = files or inventory.find(config, rotated=True)
        if all(inventory.number(found) in sources for found in [*listed, *again]):
            break
    # A backup that is being compressed is there in both forms.
    paths = {source.found.path for source in sources.values()}
    return [
        one for one in sources.values() if one.found.path.removesuffix(".gz") not in paths - {one.found.path}
    ]


def age(found: Found) -> tuple[int, bool, str, int]:
    """Return what sorts the files of one logger from the oldest to the newest, by their last write."""
    label, number, _ = found.backup or ("", 0, "")
    return found.status.st_mtime_ns, found.backup is None, label, number


def print_of(begin: bytes) -> str:
    """Return the print of a file whose first MAX_PRINTED_BYTES are these."""
    return hashlib.sha256(begin[:MAX_PRINTED_BYTES].partition(b"\n")[0]).hexdigest()[:16]


def stretch_bytes(files: int) -> int:
    """Return the length of a stretch where so many *files* may be read at the same time."""
    return max(_MIN_STRETCH_BYTES, min(_MAX_STRETCH_BYTES, _STRETCHES_BYTES // max(files, 1)))
