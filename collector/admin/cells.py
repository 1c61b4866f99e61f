"""A small file of cells that are written in place: what the admin port still knows after a restart.

The first cell says what the file is. Nothing but the cells that changed is written, so that is cheap: a kill
costs what was not yet written, and a crash of the machine a cell that it tore. Knows nothing of what is in a
cell. Whatever is called here may block.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# Messages and tracebacks are as secret as log files, and nobody but the worker reads these.
_MODE = 0o600
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW


class CellFile:
    """A file of *cells* cells of *cell_bytes* each, the first of which has *title*."""

    def __init__(self, path: str, title: str, cells: int, cell_bytes: int) -> None:
        self.path = path
        self._title = title.encode().ljust(cell_bytes, b"\0")
        self._cells = cells
        self._bytes = cell_bytes
        self._number: tuple[int, int] | None = None
        """What identifies the file of which everything is known; None: it must be written whole."""

    def read(self) -> dict[int, bytes]:
        """Return the cells that have something in them, by number; none if it is another kind of file.

        Raises OSError, but not where there is no file.
        """
        try:
            fd = os.open(self.path, os.O_RDONLY | _FLAGS)
        except FileNotFoundError:
            return {}
        try:
            if os.pread(fd, self._bytes, 0) != self._title:
                return {}
            self._number = _number(os.fstat(fd))
            cells = ((at, os.pread(fd, self._bytes, at * self._bytes)) for at in range(1, self._cells))
            return {at: cell for at, cell in cells if len(cell) == self._bytes and any(cell)}
        finally:
            os.close(fd)

    @property
    def is_known(self) -> bool:
        """Whether all that was given to write() is in the file."""
        return self._number is not None

    def is_same(self) -> bool:
        """Whether the file is there as it was left. If not, write() must be given everything."""
        try:
            return _number(os.lstat(self.path)) == self._number
        except OSError:
            return False

    def write(self, cells: Iterable[tuple[int, bytes]]) -> None:
        """Write *cells*, by number, filled up with zeros; begin anew a file that is not the same.

        Raises OSError: then the file is not the same any more.
        """
        number, self._number = self._number, None
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | _FLAGS, _MODE)
        try:
            status = os.fstat(fd)
            found = _number(status)
            if found != number or not status.st_size:  # a new file may have the number of a removed one
                os.ftruncate(fd, 0)
                self._put(fd, 0, self._title)
            for at, cell in cells:
                self._put(fd, at, cell.ljust(self._bytes, b"\0"))
        finally:
            os.close(fd)
        self._number = found

    def _put(self, fd: int, at: int, cell: bytes) -> None:
        """Write one cell. Raises OSError."""
        written = os.pwrite(fd, cell, at * self._bytes)
        if written < len(cell):  # the volume is full, and the next write will say so
            os.pwrite(fd, cell[written:], at * self._bytes + written)


def _number(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
