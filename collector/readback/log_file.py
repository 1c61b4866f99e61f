"""The bytes of one log file, compressed or not. Knows no record.

The file may be renamed, compressed or deleted at any time: once it is open, it can be read to its end.
"""

from __future__ import annotations

import gzip
import os
import stat
import zlib
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator


class LogFile:
    """One file, opened by pin(), or else by the first read. The caller closes it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.trouble = ""
        """Why it could not be read to its end; "" if nothing went wrong."""
        self._raw: BinaryIO | None = None
        """The file on disk."""
        self._unzipped: gzip.GzipFile | None = None
        """Its contents, if it is compressed."""
        self._end: int | None = None
        """The size of a file when it was pinned; None: it is not pinned, because it does not grow."""
        self._position = 0

    def pin(self) -> os.stat_result:
        """Open the file now, as it may be renamed, to read what it holds now and no more. Raises OSError."""
        file = self._take(open_regular(self.path), self.path)
        status = os.fstat(file.fileno())
        if not self._unzipped:
            self._end = status.st_size
        return status

    def read(self, size: int) -> bytes:
        """Return the next bytes; b"" at the end, or where reading fails."""
        try:
            data = self._open().read(size if self._end is None else min(size, self._end - self._position))
        except FileNotFoundError:
            return b""  # deleted meanwhile, as backups are
        except (OSError, EOFError, zlib.error) as error:
            self.trouble = f"{self.path}: cannot be read to its end: {error}"
            return b""
        self._position += len(data)
        return data

    def read_backwards(self, size: int) -> Iterator[tuple[bytes, bool]] | None:
        """Yield the last *size* bytes, then more and more of them, and whether that is all.

        None where it is compressed, and can be read from its beginning only.

        Raises OSError where it cannot be opened.
        """
        file = self._open()
        return None if isinstance(file, gzip.GzipFile) else self._last_bytes(file.fileno(), size)

    def duplicate(self) -> BinaryIO | None:
        """Return the file once more if it is open and not compressed, to be read by os.pread()."""
        if self._raw is None or self._unzipped:
            return None
        return open(os.dup(self._raw.fileno()), "rb", buffering=0)

    def close(self) -> None:
        """Let the file go; a later read begins at its beginning."""
        for file in (self._unzipped, self._raw):
            if file:
                file.close()
        self._unzipped = self._raw = None
        self._position = 0

    def _last_bytes(self, fd: int, size: int) -> Iterator[tuple[bytes, bool]]:
        end = os.fstat(fd).st_size if self._end is None else self._end
        while size < end:
            yield os.pread(fd, size, end - size), False
            size *= 4
        yield os.pread(fd, end, 0), True

    def _open(self) -> BinaryIO | gzip.GzipFile:
        if self._raw is None:
            path = self.path
            try:
                file = open_regular(path)
            except FileNotFoundError:
                path += ".gz"  # compressed meanwhile
                file = open_regular(path)
            return self._take(file, path)
        return self._unzipped or self._raw

    def _take(self, file: BinaryIO, path: str) -> BinaryIO | gzip.GzipFile:
        self._raw = file
        if path.endswith(".gz"):
            self._unzipped = gzip.GzipFile(fileobj=file, mode="rb")
        return self._unzipped or file


def open_regular(path: str) -> BinaryIO:
    """Open a file for reading. Raises OSError, also if it is not a regular file."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(f"not a regular file: {path!r}")
    return open(fd, "rb", buffering=0)
