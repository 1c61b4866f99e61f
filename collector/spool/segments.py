"""Segments: the files of the spool, and the blocks in them, of which one or several are written at once.

    segment: header block block ...
    header:  magic, version, epoch, collector id, marker (16 random bytes), CRC32 of these
    block:   marker, its length in bytes, first number, count, time received in ns, length of the peer,
             CRC32 of all but itself; then the peer, the length of each payload, and the payloads

The lengths stand apart because a join of the payloads alone takes a third of the time.

All numbers are big-endian. The marker keeps a block that a client forges inside a message from being taken
for one, because nobody outside has seen it. Nothing is ever rewritten. Knows no checkpoint.
"""

from __future__ import annotations

import os
import re
from itertools import accumulate, pairwise
from struct import Struct, pack, unpack_from
from typing import NamedTuple
from zlib import crc32

MARKER_BYTES = 16
MAX_INDEX = 999_999
_MAGIC = b"collspl\n"
_VERSION = 1
_HEADER = Struct(f">8sHQ8s{MARKER_BYTES}s")
_BLOCK = Struct(f">{MARKER_BYTES}sQQLqL")
_CRC = Struct(">L")
HEADER_BYTES = _HEADER.size + _CRC.size
_BLOCK_BYTES = _BLOCK.size + _CRC.size
# The first bit of an epoch, a time in ns, is 0 until the year 2262.
_NAME = re.compile(r"([0-7][0-9a-f]{15})-([0-9]{6})\.seg")
_READ_BYTES = 1024 * 1024
# The most for which CPython's zlib keeps the interpreter.
_CRC_PIECE_BYTES = 5 * 1024


class SegmentId(NamedTuple):
    """Which segment: they are written, and read, in this order."""

    epoch: int
    index: int  # type: ignore[assignment] # nobody looks for a value in it, as tuple.index() would

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"{self.epoch:016x}-{self.index:06}.seg"


class Header(NamedTuple):
    """What a segment begins with."""

    epoch: int
    collector_id: str
    """16 hexadecimal digits."""
    marker: bytes


class Block(NamedTuple):
    """Records that came together from one peer, numbered from `first` on."""

    first: int
    received: int
    """In nanoseconds since 1970."""
    peer: str
    payloads: list[bytes]


class Found(NamedTuple):
    """What lies behind an offset."""

    block: Block | None
    """The next sound one; None: there is none, not yet at least."""
    start: int
    """Where it begins; without one, where to look again."""
    end: int
    bad: int
    """How many blocks that are not sound were passed."""


def segments_in(directory: str) -> list[SegmentId]:
    """Return the segments in *directory*, oldest first. Raises OSError."""
    names = map(_NAME.fullmatch, os.listdir(directory))
    return sorted(SegmentId(int(name[1], 16), int(name[2])) for name in names if name)


def pack_header(header: Header) -> bytes:
    """Return a header as it is written."""
    fixed = _HEADER.pack(_MAGIC, _VERSION, header.epoch, bytes.fromhex(header.collector_id), header.marker)
    return fixed + _CRC.pack(crc32(fixed))


def read_header(data: bytes) -> Header | None:
    """Return the header that *data* begins with, None if there is no sound one of this version."""
    if len(data) < HEADER_BYTES or crc32(data[: _HEADER.size]) != _CRC.unpack_from(data, _HEADER.size)[0]:
        return None
    magic, version, epoch, collector_id, marker = _HEADER.unpack_from(data)
    if (magic, version) != (_MAGIC, _VERSION):
        return None
    return Header(epoch, collector_id.hex(), marker)


def pack_block(marker: bytes, block: Block) -> tuple[bytes, bytes]:
    """Return a block as it is written, in two pieces: joining them would copy all of it once more."""
    first, received, peer, payloads = block
    count = len(payloads)
    lengths = pack(f">{count}L", *map(len, payloads))
    name = peer.encode("utf-8", "backslashreplace")
    body = b"".join((name, lengths, *payloads))
    fixed = _BLOCK.pack(marker, _BLOCK_BYTES + len(body), first, count, received, len(name))
    return fixed + _CRC.pack(_crc32(body, crc32(fixed))), body


def _crc32(data: bytes, crc: int) -> int:
    """Return the CRC32 without letting go of the interpreter, as one call for much data would.

    Where another thread computes, it is back milliseconds later: that made the spool slower than clients.
    """
    whole = memoryview(data)
    for at in range(0, len(data), _CRC_PIECE_BYTES):
        crc = crc32(whole[at : at + _CRC_PIECE_BYTES], crc)
    return crc


class SegmentFile:
    """A segment that is read, while it grows perhaps. To be closed by who made it."""

    def __init__(self, path: str, epoch: int) -> None:
        """Open it. A header is sound only with that *epoch*: a file may have been renamed. Raises OSError."""
        self._epoch = epoch
        self._path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        self._header: Header | None = None
        self._data = b""
        self._at = 0

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)

    @property
    def header(self) -> Header | None:
        """Its header; None while there is no sound one. Raises OSError."""
        if self._header is None:
            header = read_header(self._read(HEADER_BYTES, 0))
            self._header = header if header and header.epoch == self._epoch else None
        return self._header

    @property
    def lacks_header(self) -> bool:
        """Whether it ends before its header does: the kill fell into the first write. Raises OSError."""
        return os.fstat(self._fd).st_size < HEADER_BYTES

    def find(self, offset: int, *, ended: bool) -> Found:
        """Find the first sound block at *offset* or behind it. There must be a sound header. Raises OSError.

        *ended*: nothing will be written to the segment any more. Only then is what cannot be made out at its
        end bad, and only if it is no block that was cut short: such a one is written again elsewhere.
        """
        marker = self._marker()
        start, bad = max(offset, HEADER_BYTES), 0
        while True:
            sound, behind = self._sound(start, marker), start
            if not sound:
                behind = self._marker_from(start + 1, marker)
                if behind < 0:
                    break
                # Both may have been written since we looked; with another one behind it, a block is whole.
                sound = self._sound(start, marker)
            if sound:
                block, end = sound
                return Found(block, start, end, bad)
            start, bad = behind, bad + 1
        size = os.fstat(self._fd).st_size
        if ended and start < size:
            bad += not self._is_cut(start, size, marker)
            start = size
        return Found(None, start, start, bad)

    def last(self, offset: int) -> tuple[int, int] | None:
        """Return where the last sound block from *offset* on ends, and the number behind it; None if none is.

        From a block to the next by their lengths, and only the last one is read whole, if all is well.
        There must be a sound header. Raises OSError.
        """
        own_marker = self._marker()
        size = os.fstat(self._fd).st_size
        last, start = -1, max(offset, HEADER_BYTES)
        while start + _BLOCK_BYTES <= size:
            marker, length = _BLOCK.unpack_from(self._read(_BLOCK_BYTES, start))[:2]
            if marker != own_marker or not _BLOCK_BYTES < length <= size - start:
                break
            last, start = start, start + length
        found = None
        if last >= 0 and self._marker_from(start + 1, own_marker) < 0:
            found = self._sound(last, own_marker)
        if found:
            block, end = found
            return end, block.first + len(block.payloads)
        result = None
        while (one := self.find(offset, ended=False)).block:
            offset = one.end
            result = offset, one.block.first + len(one.block.payloads)
        return result

    def _marker(self) -> bytes:
        if self.header is None:
            raise ValueError("without a sound header nothing in a segment can be told from anything else")
        return self.header.marker

    def _sound(self, start: int, marker: bytes) -> tuple[Block, int] | None:
        """Return the sound block that begins at *start*, and where it ends; None if there is none."""
        if not self._holds(start, _BLOCK_BYTES):
            return None
        at = start - self._at
        found, length, first, count, received, peer_bytes = _BLOCK.unpack_from(self._data, at)
        least = _BLOCK_BYTES + peer_bytes + 4 * count
        if found != marker or not count or length < least or not self._holds(start, length):
            return None
        data, at = self._data, start - self._at
        body = memoryview(data)[at + _BLOCK_BYTES : at + length]
        crc = crc32(body, crc32(data[at : at + _BLOCK.size]))
        if crc != _CRC.unpack_from(data, at + _BLOCK.size)[0]:
            self._data = b""  # read anew the next time
            return None
        end = at + length
        at += _BLOCK_BYTES
        peer = data[at : at + peer_bytes].decode("utf-8", "replace")
        at += peer_bytes
        bounds = list(accumulate(unpack_from(f">{count}L", data, at), initial=at + 4 * count))
        payloads = [data[begin:stop] for begin, stop in pairwise(bounds)]
        return (Block(first, received, peer, payloads), self._at + end) if bounds[-1] == end else None

    def _is_cut(self, start: int, size: int, marker: bytes) -> bool:
        """Tell whether what is left behind *start* is the beginning of a block."""
        head = self._read(_BLOCK_BYTES, start)
        if not head.startswith(marker[: len(head)]):
            return False
        return len(head) < _BLOCK_BYTES or int(_BLOCK.unpack_from(head)[1]) > size - start

    def _holds(self, start: int, length: int) -> bool:
        """Read *length* bytes from *start* on, unless they are there; tell whether there are so many."""
        if self._at <= start and start + length <= self._at + len(self._data):
            return True
        if start + length > os.fstat(self._fd).st_size:  # else a length that is none would be made room for
            return False
        self._at, self._data = start, self._read(max(length, _READ_BYTES), start)
        return len(self._data) >= length

    def _read(self, length: int, start: int) -> bytes:
        try:
            return os.pread(self._fd, length, start)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._path) from None

    def _marker_from(self, start: int, marker: bytes) -> int:
        """Return where the next marker is, -1 if there is none."""
        while True:
            data = self._read(_READ_BYTES, start)
            if (at := data.find(marker)) >= 0:
                return start + at
            if len(data) < MARKER_BYTES:
                return -1
            start += len(data) - MARKER_BYTES + 1
