"""Batches that come in one order and are given back in the other, in bounded memory.

What does not fit goes to one temporary file without a name, which goes when it is closed.
"""

from __future__ import annotations

import marshal
import os
import tempfile
from collections import deque
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_BYTES = 4 * 1024 * 1024
# Of an object with its place in a list, beside its contents.
_OBJECT_BYTES = 64


class Stash:
    """The memory and the file that all stacks share. The caller closes it."""

    def __init__(self, max_bytes: int = _MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._file: IO[bytes] | None = None

    def keep(self, batch: list[Any], size: int) -> list[Any] | tuple[int, int]:
        """Return *batch*, which has *size* bytes, or where it has been written. Raises OSError."""
        if self._bytes + size <= self._max_bytes:
            self._bytes += size
            return batch
        data = marshal.dumps(batch)
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - close() does it
            begin = self._file.seek(0, os.SEEK_END)
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            where = tempfile.gettempdir()
            raise OSError(f"{where}: {error.strerror}; set TMPDIR to where there is more room") from error
        return begin, len(data)

    def give(self, kept: list[Any] | tuple[int, int], size: int) -> list[Any]:
        """Return what keep() was given."""
        if isinstance(kept, list):
            self._bytes -= size
            return kept
        assert self._file  # noqa: S101 - keep() has written to it
        self._file.seek(kept[0])
        batch: list[Any] = marshal.loads(self._file.read(kept[1]))  # noqa: S302 - of this process, in a file without a name
        return batch

    def forget(self, kept: list[Any] | tuple[int, int], size: int) -> None:
        """Let go of what keep() was given."""
        if isinstance(kept, list):
            self._bytes -= size

    def close(self) -> None:
        """Let the file go."""
        if self._file:
            self._file.close()


class Stack:
    """Items that are taken from the last one put to the first: tuples of numbers, bytes and None."""

    def __init__(self, stash: Stash, most: int | None = None, batch_bytes: int = 32 * 1024) -> None:
        """Of more than *most*, only the last are certain to be kept; None: all are."""
        self._stash = stash
        self._most = most
        self._batch_bytes = batch_bytes
        self._batches: deque[tuple[list[Any] | tuple[int, int], int, int]] = deque()
        self._number = 0
        self._batch: list[Any] = []
        self._size = 0

    def put(self, item: tuple[Any, ...], size: int) -> None:
        """Put an item that has *size* bytes. Raises OSError where a file must be written and cannot be."""
        self._batch.append(item)
        self._size += size + len(item) * _OBJECT_BYTES
        if self._size >= self._batch_bytes:
            self._finish()

    def take(self) -> Iterator[list[tuple[Any, ...]]]:
        """Yield the items in batches, the last one first; those of a batch are in the order of putting."""
        self._finish()
        while self._batches:
            kept, size, _ = self._batches.pop()
            yield self._stash.give(kept, size)

    def _finish(self) -> None:
        batch, size = self._batch, self._size
        self._batch, self._size = [], 0
        if not batch:
            return
        self._batches.append((self._stash.keep(batch, size), size, len(batch)))
        self._number += len(batch)
        while self._batches and self._most is not None and self._number - self._batches[0][2] >= self._most:
            kept, first_size, number = self._batches.popleft()
            self._stash.forget(kept, first_size)
            self._number -= number
