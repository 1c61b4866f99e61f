"""The segments of a spool directory as they are written: one after the other, each by one process.

It raises what goes wrong; when to try again, and what waits meanwhile, is the business of `appending`. A call
may block. The caller sees to it that there is one at a time, but for sync_all().
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import time
from bisect import bisect_right
from contextlib import suppress
from typing import TYPE_CHECKING

from collector.files.directory import make_directory
from collector.files.lock import Lock
from collector.spool import epochs
from collector.spool.checkpoint import sync_directory
from collector.spool.segments import (
    MARKER_BYTES,
    MAX_INDEX,
    Block,
    Header,
    SegmentId,
    pack_block,
    pack_header,
    segments_in,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_MAX_PIECES = os.sysconf("SC_IOV_MAX")
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class PartlyWrittenError(OSError):
    """Writing failed with its cause, after `whole` blocks; behind them one may be torn: end the segment."""

    def __init__(self, whole: int) -> None:
        super().__init__(f"after {whole} blocks")
        self.whole = whole


class SegmentWriter:
    """Writes the segments in *directory*."""

    def __init__(self, directory: str, lock_owner: int, *, syncs: bool) -> None:
        """Touch nothing yet. *lock_owner*: the process to name in the directory's lock; 0: no lock."""
        self.directory = directory
        self.syncs = syncs
        """Whether what has ended is kept for unsynced()."""
        self.collector_id = ""
        self.segment = SegmentId(0, -1)
        """The one that is written, or was last."""
        self.size = 0
        """Of the one that is written."""
        self.others_bytes = 0
        """What all others take."""
        self._lock_owner = lock_owner
        self._lock: Lock | None = None
        self._fd = -1
        self._marker = b""
        self._look_at = 0.0
        self._is_dirty = self._is_new = False
        self._ended: list[int] = []

    def begin(self) -> int:
        """Make all that is missing, and begin an epoch; return the lowest number for it. Raises OSError."""
        self.end()
        if not os.path.isdir(self.directory):
            make_directory(os.path.dirname(self.directory))
            os.mkdir(self.directory, 0o700)
        if self._lock:
            self._lock.follow()
        elif self._lock_owner:
            self._lock = Lock(self.directory, self._lock_owner)
        begun = epochs.begin(self.directory, self.collector_id, self.segment.epoch)
        self.collector_id = begun.collector_id
        self.others_bytes = sum(size for _, size in self._sizes())
        self.segment = SegmentId(begun.epoch, -1)
        self._look_at = time.monotonic() + _LOOK_SECONDS
        return begun.first

    def is_in_place(self) -> bool:
        """Look, once a second, whether the directory and what is in it are still there. Raises OSError."""
        if time.monotonic() < self._look_at:
            return True
        self._look_at = time.monotonic() + _LOOK_SECONDS
        with suppress(FileNotFoundError):
            os.stat(os.path.join(self.directory, epochs.EPOCH_FILE), follow_symlinks=False)
            status = os.stat(self._path, follow_symlinks=False) if self._fd >= 0 else None
            if status is None or os.path.samestat(status, os.fstat(self._fd)):
                if self._lock:
                    self._lock.follow()
                return True
        return False

    def write(self, blocks: Sequence[Block], size: int, segment_bytes: int) -> None:
        """Write *blocks*, about *size* bytes, in one write; in a new segment where one would pass its bytes.

        Raises OSError; PartlyWrittenError once something may be in the file.
        """
        if self._fd < 0 or self.size + size > segment_bytes:
            self._next()
        pieces: list[bytes] = []
        ends, end = [], 0
        if not self.size:
            pieces.append(pack_header(Header(self.segment.epoch, self.collector_id, self._marker)))
            end = len(pieces[0])
        for block in blocks:
            head, body = pack_block(self._marker, block)
            pieces += (head, body)
            end += len(head) + len(body)
            ends.append(end)
        begun = self.size
        try:
            self._put(pieces)
        except OSError as error:
            raise PartlyWrittenError(bisect_right(ends, self.size - begun)) from error
        if not os.fstat(self._fd).st_nlink:
            raise OSError(errno.ENOENT, "deleted while it was written", self._path)

    def end(self) -> None:
        """Write no more to the segment. Raises OSError."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        self._look_at = 0.0
        size, self.size = self.size, 0
        self.others_bytes += size
        if size and self.syncs and self._is_dirty:
            self._ended.append(fd)
            return
        os.close(fd)
        if not size:
            os.unlink(self._path)

    @property
    def keeps_open(self) -> bool:
        """Whether unsynced() has segments to return that have ended."""
        return bool(self._ended)

    def unsynced(self) -> list[int]:
        """Return descriptors of what sync_all() is to sync, which closes them. Raises OSError."""
        if self._fd >= 0 and self._is_dirty:
            self._ended.append(os.dup(self._fd))
            self._is_dirty = False
        fds, self._ended = self._ended, []
        return fds

    def sync_all(self, fds: Iterable[int]) -> None:
        """Have what was written outlive a power cut, while other calls are made. Raises the last OSError."""
        failure: OSError | None = None
        for fd in fds:
            try:
                os.fsync(fd)
            except OSError as error:
                failure = error
            finally:
                with suppress(OSError):  # what a disk has to say when a file is closed, fsync has said
                    os.close(fd)
        if self._is_new:
            self._is_new = False
            try:
                sync_directory(self.directory)
            except OSError as error:
                self._is_new, failure = True, error
        if failure:
            raise failure

    def deletable(self) -> list[tuple[SegmentId, int]]:
        """Return all segments but the one that is written, oldest first, with their sizes. Raises OSError."""
        sizes = self._sizes()
        if self._fd >= 0:
            sizes = [(segment, size) for segment, size in sizes if segment < self.segment]
        self.others_bytes = sum(size for _, size in sizes)
        return sizes

    def deleted(self, freed: int) -> None:
        """Learn that segments of *freed* bytes are gone, and close what is open of them. Raises OSError."""
        self.others_bytes -= freed
        gone = [fd for fd in self._ended if not os.fstat(fd).st_nlink]
        self._ended = [fd for fd in self._ended if fd not in gone]
        for fd in gone:
            os.close(fd)

    def close(self, last: int) -> None:
        """End the segment, note the *last* number given out, and let go of the directory. Raises OSError."""
        try:
            self.end()
            if self.collector_id:
                epochs.note(self.directory, self.segment.epoch, last)
        finally:
            if self._lock:
                self._lock.release()

    @property
    def _path(self) -> str:
        return os.path.join(self.directory, self.segment.name)

    def _next(self) -> None:
        self.end()
        if self.segment.index == MAX_INDEX:
            self.begin()
        # Even one that cannot be made has had its name: none is ever used twice.
        self.segment = SegmentId(self.segment.epoch, self.segment.index + 1)
        self._marker = secrets.token_bytes(MARKER_BYTES)
        self._fd = os.open(self._path, _FLAGS, 0o600)
        self._is_new = True

    def _put(self, pieces: list[bytes]) -> None:
        """Append *pieces*, in one write unless there are very many."""
        self._is_dirty = True
        for at in range(0, len(pieces), _MAX_PIECES):
            some = pieces[at : at + _MAX_PIECES]
            written = os.writev(self._fd, some)
            self.size += written
            if written < sum(map(len, some)):  # most likely the next write says why
                data = memoryview(b"".join(some))[written:]
                while data:
                    written = os.write(self._fd, data)
                    self.size += written
                    data = data[written:]

    def _sizes(self) -> list[tuple[SegmentId, int]]:
        sizes = []
        for segment in segments_in(self.directory):
            with suppress(FileNotFoundError):
                sizes.append((segment, os.stat(os.path.join(self.directory, segment.name)).st_size))
        return sizes


def delete_oldest(directory: str, sizes: Sequence[tuple[SegmentId, int]], more: Callable[[int], bool]) -> int:
    """Delete segments from the first of *sizes* on, as long as *more* of the bytes freed; return these.

    Raises OSError.
    """
    freed = 0
    for segment, size in sizes:
        if not more(freed):
            break
        with suppress(FileNotFoundError):  # whoever was quicker has made room too
            os.unlink(os.path.join(directory, segment.name))
        freed += size
    return freed
