"""The bytes of one log file, compressed or not. Knows no record.

The file may be renamed, compressed or deleted at any time: once it is open, it can be read to its end.
"""

from __future__ import annotations

import os
import stat
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Callable

_ZIPPED_BYTES = 16 * 1024
_GZIP = 16 + zlib.MAX_WBITS


class LogFile:
    """One file, opened by pin(), or else by open(). The caller closes it."""

    def __init__(self, path: str, report: Callable[[int], None] | None = None) -> None:
        """*report* is told how many bytes have been read from the disk, each time."""
        self.path = path
        self.trouble = ""
        """Why it could not be read to its end; "" if nothing went wrong."""
        self.compressed = False
        self.end = 0
        """Its size on disk when it was opened: of a file that grows, no more is read."""
        self._raw: BinaryIO | None = None
        self._report = report or (lambda _: None)

    def pin(self) -> os.stat_result | None:
        """Open the file now, as it may be renamed; None if that fails, and reading it will show why."""
        with suppress(OSError):
            self._take(self.path)
            return os.fstat(self._descriptor)
        return None

    def open(self) -> bool:
        """Open it if it is not; return whether it is. One that was deleted, as backups are, is no trouble."""
        if self._raw is None:
            try:
                try:
                    self._take(self.path)
                except FileNotFoundError:
                    self._take(f"{self.path}.gz")  # compressed meanwhile
            except FileNotFoundError:
                return False
            except OSError as error:
                self._fail(error)
                return False
        return True

    def read_at(self, begin: int, end: int) -> bytes:
        """Return the bytes on disk from *begin* up to *end*; less where there are none."""
        try:
            data = os.pread(self._descriptor, max(0, min(end, self.end) - begin), begin)
        except OSError as error:
            self._fail(error)
            return b""
        self._report(len(data))
        return data

    def reader(self, begin: int = 0) -> Callable[[int], bytes]:
        """Return a function that reads on from *begin*, or from 0 if it is compressed; b"" at the end.

        It may return less than it is asked for, or more.
        """
        if self.compressed:
            return self._unzipping()
        position = begin

        def read(size: int) -> bytes:
            nonlocal position
            data = self.read_at(position, position + size)
            position += len(data)
            return data

        return read

    def duplicate(self) -> BinaryIO | None:
        """Return the file once more if it is open and not compressed, to be read by os.pread()."""
        if self._raw is None or self.compressed:
            return None
        return open(os.dup(self._raw.fileno()), "rb", buffering=0)

    def close(self) -> None:
        """Let the file go."""
        if self._raw:
            self._raw.close()
        self._raw = None

    def _unzipping(self) -> Callable[[int], bytes]:
        """Return what reads members of gzip one after the other, as far as they are whole."""
        position, waiting = 0, b""
        member, is_new = zlib.decompressobj(_GZIP), True

        def read(size: int) -> bytes:
            nonlocal position, waiting, member, is_new
            data = b""
            while not data:
                if not waiting:
                    waiting = self.read_at(position, position + _ZIPPED_BYTES)
                    position += len(waiting)
                    if not waiting:
                        if not (is_new or self.trouble):
                            self._fail("it ends within what was compressed")
                        return b""
                if is_new and position > len(waiting):
                    waiting = waiting.lstrip(b"\0")  # padding, as gzip allows it between members
                    if not waiting:
                        continue
                is_new = False
                try:
                    data = member.decompress(waiting, size)
                except zlib.error as error:
                    self._fail(error)
                    return b""
                waiting = member.unconsumed_tail
                if member.eof:
                    waiting = member.unused_data
                    member, is_new = zlib.decompressobj(_GZIP), True
            return data

        return read

    @property
    def _descriptor(self) -> int:
        assert self._raw, "open() comes first"  # noqa: S101 - what everybody who calls has done
        return self._raw.fileno()

    def _take(self, path: str) -> None:
        self._raw = open_regular(path)
        self.compressed = path.endswith(".gz")
        self.end = os.fstat(self._descriptor).st_size

    def _fail(self, why: object) -> None:
        self.trouble = f"{self.path}: cannot be read to its end: {why}"


def open_regular(path: str) -> BinaryIO:
    """Open a file for reading. Raises OSError, also if it is not a regular file."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(f"not a regular file: {path!r}")
    return open(fd, "rb", buffering=0)
