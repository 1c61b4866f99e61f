"""What lies in the quarantine, for whoever looks at it, or takes from it, beside a running collector.

Beside the frames of each half lie its entries: a line of JSON for each, with when the frame came, from whom,
and why it could not be decoded. An entry is written behind its frame, so a frame may have none. It counts
only where a frame lies at its offset that has its size and its checksum, so it tells of no other one.

Whoever changes these files is alone() meanwhile. Knows no greenlet, no socket and no pickle.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import time
import zlib
from bisect import bisect_left
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from collector.names import ENTRIES, OLDER_QUARANTINE, QUARANTINE
from collector.wire.framing import HEADER_BYTES, length_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import BinaryIO

    _Cuts = Sequence[tuple[int, int]]
    """Offsets and sizes of what is left out, in order."""

# What is to take the place of a half, without the frames that are taken out, and of its entries.
_WITHOUT, _ENTRIES_WITHOUT = ".quarantine.replay", ".quarantine.replay.jsonl"
_OPEN_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_MAKE_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_PIECE_BYTES = 1024 * 1024
_MAX_LINE_BYTES = 64 * 1024
_POLL_SECONDS = 0.005
# A collector is alone for as long as a write takes: on a disk that is full or hangs, until that is mended.
_PATIENCE_SECONDS = 10.0


class Entry(NamedTuple):
    """What is known of a frame."""

    received: float
    """In seconds since 1970."""
    client: str
    reason: str
    offset: int
    size: int
    """Of the whole frame, its length included."""
    crc32: int
    """Of the whole frame."""

    def line(self) -> bytes:
        """Return it as it is written."""
        when = datetime.fromtimestamp(self.received, timezone.utc).replace(tzinfo=None)
        who = {"time": f"{when.isoformat(timespec='microseconds')}Z", "client": self.client}
        where = {"offset": self.offset, "bytes": self.size, "crc32": self.crc32}
        return json.dumps({**who, "reason": self.reason, **where}).encode() + b"\n"

    @classmethod
    def of(cls, line: bytes) -> Entry | None:
        """Return what was written as *line*; None if that is no entry, or was cut short by a kill."""
        try:
            fields = json.loads(line)
            when = datetime.fromisoformat(fields["time"].removesuffix("Z")).replace(tzinfo=timezone.utc)
            names = ("client", "reason", "offset", "bytes", "crc32")
            entry = cls(when.timestamp(), *(fields[name] for name in names))
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return None
        fits = [type(each) for each in entry[1:]] == [str, str, int, int, int]
        return entry if fits and line.endswith(b"\n") else None


class Kept(NamedTuple):
    """A frame in the quarantine."""

    offset: int
    """Where it lay when its half was opened."""
    payload: bytes
    entry: Entry | None

    @property
    def size(self) -> int:
        """The bytes of the whole frame."""
        return HEADER_BYTES + len(self.payload)


class Half:
    """One half of the quarantine, as it is when it is opened: what is appended later is no part of it."""

    def __init__(self, path: str) -> None:
        """Open it. Raises OSError; FileNotFoundError if there is none."""
        self.path = path
        self._directory = os.path.dirname(path)
        self._file = _opened(path)
        self._end = os.fstat(self._file.fileno()).st_size
        self._at = 0
        self._entries: BinaryIO | None = None
        with suppress(FileNotFoundError):
            self._entries = _opened(_entries_of(path))
        self._entry: Entry | None = None
        """The next one, once it is read."""
        self._now = os.dup(self._file.fileno())
        """What lies in its place, without the frames that were taken out."""
        self._taken_out = 0
        """How many bytes these had; all of them were ahead of what is still to be read."""

    def close(self) -> None:
        """Close what is open."""
        os.close(self._now)
        self._file.close()
        if self._entries:
            self._entries.close()

    @property
    def status(self) -> os.stat_result:
        """The status of the file that lies in its place."""
        return os.fstat(self._now)

    @property
    def rest(self) -> int:
        """How many bytes are not read: once next() has returned None, those of no whole frame."""
        return self._end - self._at

    def next(self) -> Kept | None:
        """Return the next frame, None if no whole one is left. Raises OSError."""
        fd, offset = self._file.fileno(), self._at
        header = os.pread(fd, HEADER_BYTES, offset) if self.rest >= HEADER_BYTES else b""
        if len(header) < HEADER_BYTES or HEADER_BYTES + length_at(header, 0) > self.rest:
            return None
        payload = os.pread(fd, length_at(header, 0), offset + HEADER_BYTES)
        if len(payload) < length_at(header, 0):
            return None  # somebody has cut the file meanwhile
        self._at += HEADER_BYTES + len(payload)
        return Kept(offset, payload, self._entry_of(offset, header, payload))

    def _entry_of(self, offset: int, header: bytes, payload: bytes) -> Entry | None:
        """Return the entry of the frame at *offset*. They stand in the order of the frames."""
        while self._entries and (self._entry is None or self._entry.offset < offset):
            line = self._entries.readline(_MAX_LINE_BYTES)
            if not line:
                return None
            self._entry = Entry.of(line)
        if self._entry is None or self._entry.offset != offset:
            return None
        size, crc32 = HEADER_BYTES + len(payload), zlib.crc32(payload, zlib.crc32(header))
        return self._entry if (self._entry.size, self._entry.crc32) == (size, crc32) else None

    # --- Taking frames out ---

    @contextmanager
    def taking_out(self, frames: Sequence[Kept]) -> Iterator[None]:
        """Once the block has succeeded, take out *frames*, which next() has returned since the last time.

        The collector may append to the half meanwhile, and roll it over: it is found wherever it is by then,
        and if that is nowhere, nothing is left to do. A kill takes out all of them or none. Raises OSError;
        for want of room or of rights, before the block.
        """
        cuts = [(one.offset - self._taken_out, one.size) for one in frames]
        path = os.path.join(self._directory, _WITHOUT)
        with self._made(path) as new:
            end = _copy(self._now, new, 0, cuts)
            os.fsync(new)
            yield
            with alone(self._directory, _PATIENCE_SECONDS):
                place = self._place()
                if place and self.status.st_size >= end:  # else somebody has cut it: nothing is to come back
                    if _copy(self._now, new, end) > end:
                        os.fsync(new)
                    self._put(new, path, place, cuts)
                    os.dup2(new, self._now, inheritable=False)
        self._taken_out += sum(size for _, size in cuts)

    def _place(self) -> str:
        """Return the path at which the half lies, "" if at none."""
        for name in (QUARANTINE, OLDER_QUARANTINE):
            path = os.path.join(self._directory, name)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.stat(path, follow_symlinks=False), self.status):
                    return path
        return ""

    def _put(self, new: int, path: str, place: str, cuts: _Cuts) -> None:
        """Put the file *new*, which is made at *path*, in its place, and the entries that go with it."""
        entries, made = _entries_of(place), os.path.join(self._directory, _ENTRIES_WITHOUT)
        with self._made(made) as fd:
            with suppress(FileNotFoundError), _opened(entries) as old:
                _write(fd, b"".join(_moved(old, cuts)))
            # These go first: a kill may cost entries here, but leave none beside the frames of others.
            with suppress(FileNotFoundError):
                os.unlink(entries)
            if os.fstat(new).st_size:
                os.replace(path, place)
                os.replace(made, entries)
            else:
                os.unlink(place)

    @contextmanager
    def _made(self, path: str) -> Iterator[int]:
        """Make a file for whom this half is for; unless it is moved in the block, it is removed again."""
        with suppress(FileNotFoundError):
            os.unlink(path)  # a kill has left it
        fd = os.open(path, _MAKE_FLAGS, 0o600)
        try:
            like, own = self.status, os.fstat(fd)
            if (like.st_uid, like.st_gid) != (own.st_uid, own.st_gid):
                try:
                    os.fchown(fd, like.st_uid, like.st_gid)
                except PermissionError as error:
                    whose = f"{self.path!r} belongs to uid {like.st_uid}, gid {like.st_gid}"
                    raise PermissionError(f"{whose}: replay it as that user, or as root") from error
            with suppress(OSError):  # some volumes refuse modes, and give their own
                os.fchmod(fd, stat.S_IMODE(like.st_mode))
            yield fd
        finally:
            os.close(fd)
            with suppress(FileNotFoundError):
                os.unlink(path)


def halves(directory: str) -> list[Half]:
    """Open what there is of the quarantine in *directory*, the older half first. Raises OSError."""
    opened: list[Half] = []
    # The newer one first: the collector may roll it over between the two, and none is to be missed.
    for name in (QUARANTINE, OLDER_QUARANTINE):
        with suppress(FileNotFoundError):
            half = Half(os.path.join(directory, name))
            if opened and os.path.samestat(half.status, opened[0].status):
                half.close()
            else:
                opened.insert(0, half)
    return opened


def cut_entries(path: str, end: int) -> None:
    """Cut off entries of frames beyond *end*, and what a kill has left of the last line. Raises OSError."""
    try:
        fd = os.open(path, os.O_RDWR | _OPEN_FLAGS)
    except FileNotFoundError:
        return
    with open(fd, "r+b") as file:
        data = file.read()
        stop = len(data)
        while stop:
            begin = data.rfind(b"\n", 0, stop - 1) + 1
            entry = Entry.of(data[begin:stop])
            if entry and entry.offset + entry.size <= end:
                break
            stop = begin
        file.truncate(stop)


def claim(directory: str, seconds: float) -> int:
    """Keep all others who change the quarantine in *directory* from it, until the descriptor is closed.

    It is a lock on the directory: a file would have to belong to somebody, and a command may run as root.
    Raises OSError: EBUSY if somebody else does not release it within *seconds*.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    deadline = time.monotonic() + seconds
    try:
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return fd
            if time.monotonic() > deadline:
                whose = "another process has been changing the quarantine there"
                raise OSError(errno.EBUSY, f"{whose} for {seconds:g} s", directory)  # noqa: TRY301 - closes it
            time.sleep(_POLL_SECONDS)
    except OSError:
        os.close(fd)
        raise


@contextmanager
def alone(directory: str, seconds: float = _PATIENCE_SECONDS) -> Iterator[None]:
    """Claim the quarantine in *directory* for the block. Raises OSError, as claim() does."""
    fd = claim(directory, seconds)
    try:
        yield
    finally:
        os.close(fd)


def _entries_of(path: str) -> str:
    """Return where the entries of the half at *path* lie."""
    directory, name = os.path.split(path)
    return os.path.join(directory, ENTRIES[name])


def _opened(path: str) -> BinaryIO:
    """Open a file to read, if it is one. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | _OPEN_FLAGS)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return open(fd, "rb")


def _copy(source: int, target: int, start: int, cuts: _Cuts = ()) -> int:
    """Append what *source* has from *start* on, but for *cuts*, to *target*; return where it ends."""
    for offset, size in cuts:
        while start < offset and (piece := os.pread(source, min(_PIECE_BYTES, offset - start), start)):
            start += _write(target, piece)
        start = offset + size
    while piece := os.pread(source, _PIECE_BYTES, start):
        start += _write(target, piece)
    return start


def _moved(lines: Iterable[bytes], cuts: _Cuts) -> Iterator[bytes]:
    """Yield the entries of all that stays, each where its frame is without *cuts*."""
    offsets = [offset for offset, _ in cuts]
    before = [0, *accumulate(size for _, size in cuts)]
    for line in lines:
        if entry := Entry.of(line):
            index = bisect_left(offsets, entry.offset)
            if offsets[index : index + 1] != [entry.offset]:
                yield entry._replace(offset=entry.offset - before[index]).line()


def _write(fd: int, data: bytes) -> int:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
    return len(data)
