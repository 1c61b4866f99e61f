"""A small file of cells that are written in place: what the admin port still knows after a restart.

The first cell says what the file is, and each ends with a checksum. Nothing but the cells that changed is
written, so that is cheap: a kill costs what was not yet written, and damage the cells that it struck. Knows
nothing of what is in a cell. Whatever is called here may block.
"""

from __future__ import annotations

import os
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# Messages and tracebacks are as secret as log files, and nobody but the worker reads these.
_MODE = 0o600
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW
_SUM_BYTES = 4


class CellFile:
    """A file of *cells* cells of *cell_bytes* each, the first of which has *title*."""

    def __init__(self, path: str, title: str, cells: int, cell_bytes: int) -> None:
        self.path = path
        self._title = title.encode()
        self._cells = cells
        self._bytes = cell_bytes
        self._number: tuple[int, int] | None = None
        """What identifies the file of which everything is known; None: it must be written whole."""

    def read(self) -> dict[int, bytes]:
        """Return the sound cells that have something in them, by number; none if it is another kind of file.

        Raises OSError, but not where there is no file.
        """
        try:
            fd = os.open(self.path, os.O_RDONLY | _FLAGS)
        except FileNotFoundError:
            return {}
        try:
            if self._get(fd, 0).rstrip(b"\0") != self._title:
                return {}
            self._number = _number(os.fstat(fd))
            cells = ((at, self._get(fd, at)) for at in range(1, self._cells))
            return {at: cell for at, cell in cells if any(cell)}
        finally:
            os.close(fd)

    @property
    def is_known(self) -> bool:
        """Whether all that was given to write() and begin() is in the file."""
        return self._number is not None

    def is_same(self) -> bool:
        """Whether the file is there as it was left. If not, it must begin() with everything."""
        try:
            status = os.lstat(self.path)
        except OSError:
            return False
        return _number(status) == self._number and status.st_size > 0  # who empties a file keeps its number

    def write(self, cells: Iterable[tuple[int, bytes]]) -> None:
        """Write *cells*, by number, filled up with zeros, into the file that is the same.

        Raises OSError: then the file is not the same any more.
        """
        number, self._number = self._number, None
        fd = os.open(self.path, os.O_RDWR | _FLAGS)
        try:
            self._put(fd, cells)
        finally:
            os.close(fd)
        self._number = number

    def begin(self, cells: Iterable[tuple[int, bytes]]) -> None:
        """Write the file anew, with *cells* as write() takes them.

        What was there stays until all is written: a full volume costs none of it. Raises OSError.
        """
        self._number = None
        beside = f"{self.path}.new"
        fd = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | _FLAGS, _MODE)
        try:
            self._put(fd, [(0, self._title)])
            self._put(fd, cells)
            number = _number(os.fstat(fd))
            os.replace(beside, self.path)
        except OSError:
            with suppress(OSError):
                os.unlink(beside)
            raise
        finally:
            os.close(fd)
        self._number = number

    def _get(self, fd: int, at: int) -> bytes:
        """Return one cell, b"" if it is damaged or not there. Raises OSError."""
        stored = os.pread(fd, self._bytes + _SUM_BYTES, at * (self._bytes + _SUM_BYTES))
        cell = stored[: self._bytes]
        return cell if stored[self._bytes :] == _sum(cell) else b""

    def _put(self, fd: int, cells: Iterable[tuple[int, bytes]]) -> None:
        """Write cells. Raises OSError."""
        for at, content in cells:
            cell = content.ljust(self._bytes, b"\0")
            cell, place = cell + _sum(cell), at * (self._bytes + _SUM_BYTES)
            written = os.pwrite(fd, cell, place)
            if written < len(cell):  # the volume is full, and the next write will say so
                os.pwrite(fd, cell[written:], place + written)


def _sum(cell: bytes) -> bytes:
    return zlib.crc32(cell).to_bytes(_SUM_BYTES, "big")


def _number(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
