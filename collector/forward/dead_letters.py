"""Dead letters: records that a destination refused for good, kept with the reason.

A file in two halves, `NAME.dead` and the older `NAME.dead.1`, in the form of the spool's segments: a block
holds what is known of a record, as JSON, and its payload as received. `NAME.dead.resend` is what is being
sent again. What cannot be read is counted, and stays: as `NAME.dead.damaged`, once the rest was sent.
"""

from __future__ import annotations

import fcntl
import glob
import json
import logging
import os
from contextlib import contextmanager, suppress
from itertools import chain
from itertools import count as count_from
from typing import TYPE_CHECKING, NamedTuple, Protocol

from collector.spool.checkpoint import replace_file, sync_directory
from collector.spool.reading import Spooled
from collector.spool.segments import (
    HEADER_BYTES,
    MARKER_BYTES,
    Block,
    Header,
    SegmentFile,
    pack_block,
    pack_header,
    read_header,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from collector.forward.window import Waiting

log = logging.getLogger(__name__)

_OLDER, _RESEND, _DAMAGED = ".1", ".resend", ".damaged"
# Letters are of many epochs, and of several spools perhaps: each says so itself.
_EPOCH, _NO_ID = 0, 16 * "0"


class Letter(NamedTuple):
    """A record that was refused."""

    id: str
    reason: str
    spooled: Spooled


class Letters(Protocol):
    """Where dead letters go."""

    def add(self, letters: Sequence[Waiting]) -> int:
        """Keep records, durably; return how many older ones went for them. Raises OSError."""


class DeadLetters:
    """The dead letters of one destination."""

    def __init__(self, path: str, max_bytes: int) -> None:
        """*path* is that of the newer half; each half may have half of *max_bytes*."""
        self.path = path
        self.max_bytes = max_bytes
        self.bad: dict[str, int] = {}
        """By path, how many blocks read() and take() could not make out; 1 for a file with no header."""

    def add(self, letters: Sequence[Waiting]) -> int:
        """Keep records, durably; return how many older ones went for them. Raises OSError."""
        kept = [Letter(one.outgoing.id, one.dead, one.spooled) for one in letters]
        gone = 0
        while kept:
            with _locked(self.path) as fd:
                marker = _marker(fd)
                if not marker:
                    aside = _set_aside(self.path)
                    log.error("%s: cannot be read as dead letters; it stays, as %s", self.path, aside)
                    continue
                size = os.lseek(fd, 0, os.SEEK_END)
                written = 0
                for letter in kept:
                    block = _packed(marker, letter)
                    if size + len(block) > self.max_bytes // 2 and size > HEADER_BYTES:
                        break
                    size += _write(fd, block)
                    written += 1
                os.fsync(fd)
                kept = kept[written:]
                if kept:
                    bad: dict[str, int] = {}
                    gone += sum(1 for _ in read(self.path + _OLDER, bad)) + sum(bad.values())
                    os.replace(self.path, self.path + _OLDER)
            sync_directory(os.path.dirname(self.path))
        return gone

    def read(self) -> Iterator[Letter]:
        """Yield all letters, the oldest first. Raises OSError."""
        for suffix in (_RESEND, _OLDER, ""):
            yield from read(self.path + suffix, self.bad)

    def damaged(self) -> list[str]:
        """Return the paths of what was set aside because it cannot be read. Nothing here deletes it."""
        return sorted(glob.glob(f"{glob.escape(self.path)}{_DAMAGED}*"))

    def take(self) -> list[Letter]:
        """Take letters out, to be sent again: [] if there are none. Raises OSError.

        They stay in a file of their own, and are taken once more the next time, until keep() says otherwise.
        """
        aside = self.path + _RESEND
        while True:
            with suppress(FileNotFoundError):
                if not os.path.exists(aside):
                    os.rename(self.path + _OLDER, aside)
            with suppress(FileNotFoundError):
                if not os.path.exists(aside):
                    with _locked(self.path, how=0):
                        os.rename(self.path, aside)
            sync_directory(os.path.dirname(self.path))
            letters = list(read(aside, self.bad))
            if letters or not os.path.exists(aside):
                return letters
            self.keep([])  # nothing in it can be sent; it is not to keep back the other half

    def keep(self, letters: Iterable[Letter]) -> None:
        """Leave only *letters* of those that were taken out, and what cannot be read. Raises OSError."""
        aside = self.path + _RESEND
        if bad := self.bad.pop(aside, 0):
            self.bad[_set_aside(aside, self.path)] = bad
        header = _new_header()
        blocks = [_packed(header.marker, letter) for letter in letters]
        if blocks:
            replace_file(aside, b"".join([pack_header(header), *blocks]))
        else:
            with suppress(FileNotFoundError):  # it was set aside
                os.unlink(aside)
            sync_directory(os.path.dirname(aside))


def read(path: str, bad: dict[str, int] | None = None) -> Iterator[Letter]:
    """Yield the letters in one file, none if there is no file. Raises OSError.

    In the end *bad* has under *path*, if there are any, how many blocks cannot be made out. One that a kill
    has cut short is none of them: its record was not passed, and became a dead letter again.
    """
    with suppress(FileNotFoundError):
        segment = SegmentFile(path, _EPOCH)
        try:
            end = 0
            count = int(segment.header is None and os.path.getsize(path) >= HEADER_BYTES)
            while segment.header is not None:
                found = segment.find(end, ended=True)
                count += found.bad
                if found.block is None:
                    break
                end = found.end
                (about, payload), first = found.block.payloads, found.block.first
                known = json.loads(about)
                of = known["collector"], known["epoch"], 0, end, first
                spooled = Spooled(*of, found.block.received, found.block.peer, payload)
                yield Letter(known["id"], known["reason"], spooled)
            if count and bad is not None:
                bad[path] = count
        finally:
            segment.close()


@contextmanager
def _locked(path: str, how: int = os.O_CREAT) -> Iterator[int]:
    """Open a file, locked against others that append to it or move it away. Raises OSError."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | how, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if _is_still_at(path, fd):
                yield fd
                return
        finally:
            os.close(fd)


def _is_still_at(path: str, fd: int) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(fd))
    return False


def _set_aside(path: str, name: str = "") -> str:
    """Move a file that cannot be read out of the way, beside *name* or itself; return where it is now.

    Raises OSError. None that was set aside before is overwritten.
    """
    plain = (name or path) + _DAMAGED
    numbered = (f"{plain}.{number}" for number in count_from(1))
    aside = next(each for each in chain([plain], numbered) if not os.path.lexists(each))
    os.rename(path, aside)
    sync_directory(os.path.dirname(path))
    return aside


def _marker(fd: int) -> bytes:
    """Return the marker of an open half, which gets a header if it is new; b"" where that is not sound."""
    data = os.pread(fd, HEADER_BYTES, 0)
    header = read_header(data)
    if header is None and len(data) == HEADER_BYTES:
        return b""
    if header is None:
        header = _new_header()
        os.ftruncate(fd, 0)
        _write(fd, pack_header(header))
    return header.marker


def _new_header() -> Header:
    return Header(_EPOCH, _NO_ID, os.urandom(MARKER_BYTES))


def _packed(marker: bytes, letter: Letter) -> bytes:
    spooled = letter.spooled
    of = {"collector": spooled.collector_id, "epoch": spooled.epoch}
    about = {"id": letter.id, "reason": letter.reason, **of}
    payloads = [json.dumps(about).encode(), spooled.payload]
    return b"".join(pack_block(marker, Block(spooled.number, spooled.received, spooled.peer, payloads)))


def _write(fd: int, data: bytes) -> int:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
    return len(data)
