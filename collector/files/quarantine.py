"""The quarantine: frames that could not be decoded, as received, so that sending the file replays them.

It is a file in two halves, `.quarantine` and the older `.quarantine.1`: when the first is full, it takes the
place of the second, whose frames are lost and counted.
"""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import accumulate
from mmap import PROT_READ, mmap
from typing import TYPE_CHECKING, Any

from collector.files.append_file import AppendFile, Lines
from collector.log import counted
from collector.names import OLDER_QUARANTINE, QUARANTINE
from collector.wire.framing import HEADER_BYTES, length_at

if TYPE_CHECKING:
    from collector.files.directory import LogDirectory
    from collector.stats import Stats


class Quarantine(AppendFile):
    """A file of frames: the `Lines` that it is given are one or more whole frames, with their ends."""

    def __init__(self, directory: LogDirectory, max_bytes: int, mode: int, *, sync: bool) -> None:
        super().__init__(os.path.join(directory.path, QUARANTINE), mode, sync=sync, directory=directory)
        self._older = os.path.join(directory.path, OLDER_QUARANTINE)
        self.half = max_bytes // 2
        """The size of each half, and the largest frame that it can keep."""
        self._former: int | None = None
        """Frames of earlier runs that are still there; None until it is opened. They go uncounted."""

    def join(self, records: list[Any], *, ends: bool) -> Lines:  # noqa: ARG002 - they always matter
        """Return frames in one piece, with their ends."""
        return Lines(b"".join(records), len(records), list(accumulate(map(len, records))))

    def count_written(self, lines: Lines, stats: Stats) -> None:
        """Count the frames that are in the file now."""
        stats.quarantined_records_total += lines.records

    def _prepare(self, lines: Lines, now: float) -> int:
        fd = self._fd
        # Each time: somebody may have moved the file to replay it, and what still went into it would be sent
        # again and again, or removed with it.
        self._look(now)
        stop = lines.fit(self.half - self._size)
        if self._size and stop == lines.done:
            self._roll(now)
            stop = lines.fit(self.half)
        if self._fd != fd:
            lines.begun = lines.done
        return stop if stop > lines.done else lines.next_end()

    def _roll(self, now: float) -> None:
        older = self._older
        gone = _frames_in(older)
        with suppress(FileNotFoundError):
            os.replace(self.path, older)
            former = min(gone, self._former or 0)
            self._former = (self._former or 0) - former
            self._outcome.frames_gone += gone - former
        self._replace(self._open(now))

    def _mend(self, fd: int, size: int) -> int:
        """Cut off what a kill has left of a frame: everything after it would be out of step."""
        count, whole = _whole_frames(fd)
        if self._former is None:
            self._former = count + _frames_in(self._older)
        if whole < size:
            os.ftruncate(fd, whole)
            cut = counted(size - whole, "byte")
            self._outcome.trouble += (f"ended inside a frame (a kill can cut the last one): cut {cut}",)
        return whole


def _frames_in(path: str) -> int:
    """Return how many whole frames a file begins with, 0 if there is no file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return 0
    try:
        return _whole_frames(fd)[0]
    finally:
        os.close(fd)


def _whole_frames(fd: int) -> tuple[int, int]:
    """Return how many whole frames a file begins with, and where the last of them ends."""
    size = os.fstat(fd).st_size
    if not size:
        return 0, 0
    count = end = 0
    with mmap(fd, size, prot=PROT_READ) as data:
        while end + HEADER_BYTES <= size:
            next_end = end + HEADER_BYTES + length_at(data, end)
            if next_end > size:
                break
            count, end = count + 1, next_end
    return count, end
