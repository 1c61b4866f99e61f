"""The quarantine: frames that could not be decoded, as received, so that sending the file replays them.

It is a file in two halves, `.quarantine` and the older `.quarantine.1`: when the first is full it takes the
place of the second, whose frames are lost and counted.
"""

from __future__ import annotations

import os
from struct import Struct
from typing import TYPE_CHECKING

from collector.config import Rollover
from collector.framing import HEADER_BYTES
from collector.rotating import RotatingFile

if TYPE_CHECKING:
    from collector.rotating import Lines

NAME = ".quarantine"
_length_of = Struct(">L").unpack
_NEVER = Rollover(when="never", utc=True, max_bytes=0, backup_count=0, compress=False)


class Quarantine(RotatingFile):
    """A file of frames; each of the `Lines` that it is given is one or more whole frames, with their ends."""

    def __init__(self, directory: str, max_bytes: int, mode: int, *, sync: bool) -> None:
        super().__init__(os.path.join(directory, NAME), _NEVER, mode, sync=sync)
        self.half = max_bytes // 2
        """The largest frame that it can keep, and the size of each half."""
        self.frames_gone = 0
        """How many of the older frames had to go; the caller takes the number away."""

    def _prepare(self, lines: Lines, now: float) -> int:
        stop = lines.fit(self.half - self._size)
        if self._size and stop == lines.done:
            self._roll(now)
            lines.begun = lines.done
            stop = lines.fit(self.half)
        return stop if stop > lines.done else lines.next_end()

    def _roll(self, now: float) -> None:
        older = self.path + ".1"
        try:
            fd = os.open(older, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            pass
        else:
            try:
                self.frames_gone += len(_ends(fd))
            finally:
                os.close(fd)
        os.replace(self.path, older)
        fd = self._open(now)
        self._let_go(self._fd)
        self._fd = fd

    def _mend(self, fd: int, size: int) -> int:
        """Cut off what a kill has left of a frame: all that follows it would be out of step."""
        ends = _ends(fd)
        whole = ends[-1] if ends else 0
        if whole < size:
            os.ftruncate(fd, whole)
            self.trouble.append(
                f"ended inside a frame (a kill can cut the last one): cut {size - whole} bytes"
            )
        return whole


def _ends(fd: int) -> list[int]:
    """Return where each whole frame in a file ends."""
    size = os.fstat(fd).st_size
    ends = []
    end = 0
    while len(header := os.pread(fd, HEADER_BYTES, end)) == HEADER_BYTES:
        end += HEADER_BYTES + _length_of(header)[0]
        if end > size:
            break
        ends.append(end)
    return ends
