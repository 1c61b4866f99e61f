"""The quarantine: frames that could not be decoded, as received, so that sending the file replays them.

It is a file in two halves, `.quarantine` and the older `.quarantine.1`: when the first is full, it takes the
place of the second, whose frames are lost and counted. The entries beside them are a courtesy: where they
cannot be written, frames are kept without.
"""

from __future__ import annotations

import errno
import os
import zlib
from bisect import bisect_right
from contextlib import suppress
from itertools import accumulate
from mmap import PROT_READ, mmap
from typing import TYPE_CHECKING, NamedTuple

from collector.files.append_file import AppendFile, Lines
from collector.files.quarantined import Entry, claim, cut_entries
from collector.log import counted
from collector.names import ENTRIES, OLDER_QUARANTINE, QUARANTINE
from collector.wire.framing import HEADER_BYTES, length_at

if TYPE_CHECKING:
    from collector.files.directory import LogDirectory
    from collector.stats import Stats

# The entries of a half may take as much as its frames, whose senders decide how many small ones there are;
# a small quarantine has entries too.
_MIN_ENTRIES_BYTES = 1024 * 1024
_ENTRIES_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
# Other files of the volume wait too while a replay changes the quarantine, which takes milliseconds; after
# this long the frames wait alone, as for a file that cannot be written.
_PATIENCE_SECONDS = 0.2


class Undecoded(NamedTuple):
    """A frame that could not be decoded, and what is known of it."""

    frame: bytes
    """As received, its length included."""
    received: float
    client: str
    reason: str

    def __sizeof__(self) -> int:
        """Return what it takes of the reserve."""
        return self.frame.__sizeof__() + self.reason.__sizeof__() + tuple.__sizeof__(self)


class Frames(Lines):
    """Whole frames, with their ends."""

    __slots__ = ("about", "entered")

    ends: list[int]

    def __init__(self, undecoded: list[Undecoded]) -> None:
        frames = [one.frame for one in undecoded]
        super().__init__(b"".join(frames), len(frames), list(accumulate(map(len, frames))))
        self.about = [one[1:] for one in undecoded]
        """What is known of each."""
        self.entered = 0
        """The end of the last frame whose entry was written, or tried to be."""


class Quarantine(AppendFile):
    """A file of frames, and beside it the file of their entries."""

    def __init__(self, directory: LogDirectory, max_bytes: int, mode: int, *, sync: bool) -> None:
        super().__init__(os.path.join(directory.path, QUARANTINE), mode, sync=sync, directory=directory)
        self._older = os.path.join(directory.path, OLDER_QUARANTINE)
        self._entries = os.path.join(directory.path, ENTRIES[QUARANTINE])
        self._older_entries = os.path.join(directory.path, ENTRIES[OLDER_QUARANTINE])
        self._without_entries = False
        """Whether the last try to write entries failed."""
        self._claim = -1
        """While it is the only one that may change these files, the descriptor that says so."""
        self.half = max_bytes // 2
        """The size of each half, and the largest frame that it can keep."""
        self._former: int | None = None
        """Frames of earlier runs that are still there; None until it is opened. They go uncounted."""

    def join(self, records: list[Undecoded], *, ends: bool) -> Frames:  # noqa: ARG002 - they always matter
        """Return frames in one piece, with their ends."""
        return Frames(records)

    def count_written(self, lines: Lines, stats: Stats) -> None:
        """Count the frames that are in the file now."""
        stats.quarantined_records_total += lines.records

    def _write(self, lines: Frames) -> None:  # type: ignore[override] # join() makes no others
        if self._claim < 0:
            with suppress(FileNotFoundError):  # the directory is yet to be made
                self._claim = claim(self.directory.path, _PATIENCE_SECONDS)
        try:
            super()._write(lines)
        finally:
            self._enter(lines)
            # Within a frame, which is finished later, nobody may put another file in the place of this one.
            if self._claim >= 0 and lines.at_boundary():
                os.close(self._claim)
                self._claim = -1

    def _prepare(self, lines: Frames, now: float) -> int:  # type: ignore[override]
        self._enter(lines)
        fd = self._fd
        # Each time: a replay may have put another file in its place, or somebody has moved it, and what still
        # went into it would be lost.
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
        # Entries go ahead of their frames, and follow them: a kill may cost them, but leave none with others.
        with suppress(FileNotFoundError):
            os.unlink(self._older_entries)
        with suppress(FileNotFoundError):
            os.replace(self.path, older)
            former = min(gone, self._former or 0)
            self._former = (self._former or 0) - former
            self._outcome.frames_gone += gone - former
            os.replace(self._entries, self._older_entries)
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
        try:
            cut_entries(self._entries, whole)
        except OSError as error:
            self._tell_entries(error)
        return whole

    def _look(self, now: float) -> None:
        fd, size = self._fd, self._size
        super()._look(now)
        if self._fd != fd:  # frames of earlier runs may have gone from it
            self._former = min(self._former or 0, _frames_in(self.path) + _frames_in(self._older))
        elif self._size < size:  # somebody has cut it, inside a frame perhaps
            self._size = self._mend(fd, self._size)

    # --- The entries ---

    def _enter(self, lines: Frames) -> None:
        """Write the entries of those frames that have got into the file, whole, since the last time."""
        begin = max(min(lines.entered, lines.done), lines.begun)
        first, behind = bisect_right(lines.ends, begin), bisect_right(lines.ends, lines.done)
        if first == behind:
            return
        lines.entered = lines.ends[behind - 1]
        before = self._size - lines.done
        """Where the first of *lines* would begin, had all of them gone into this file."""
        data = memoryview(lines.data)
        entries = []
        for about, end in zip(lines.about[first:behind], lines.ends[first:behind], strict=True):
            frame = data[begin:end]
            entries.append(Entry(*about, before + begin, len(frame), zlib.crc32(frame)).line())
            begin = end
        try:
            self._append(entries)
        except OSError as error:
            self._tell_entries(error)
        else:
            self._without_entries = False

    def _append(self, entries: list[bytes]) -> None:
        """Append entries, as far as there is room. Raises OSError; no line is left half written."""
        fd = os.open(self._entries, _ENTRIES_FLAGS, self.mode)
        try:
            size = os.fstat(fd).st_size
            if not size:
                with suppress(OSError):  # as of the frames, of which it is told
                    os.fchmod(fd, self.mode)
            room = max(self.half, _MIN_ENTRIES_BYTES) - size
            data = b"".join(entries[: bisect_right(list(accumulate(map(len, entries))), room)])
            written = os.write(fd, data)
            if written < len(data):
                os.ftruncate(fd, size + data.rfind(b"\n", 0, written) + 1)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._entries)
        finally:
            os.close(fd)

    def _tell_entries(self, error: OSError) -> None:
        """Tell that there are frames without entries, once until they can be written again."""
        if not self._without_entries:
            self._without_entries = True
            self._outcome.trouble += (f"kept without when, who and why: {error}",)


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
