"""Cut a byte stream into payloads.

A pure value machine: bytes in, payloads out. It reads nothing by itself and knows no socket, pickle or
file. Every byte fed is either part of a payload that comes out or of the one frame still incomplete
(`partial` bytes), so the caller can account for all of them at any time.

Wire format: logging.handlers.SocketHandler.makePickle (standard library) - a 4-byte big-endian unsigned
length, then as many bytes of payload.
"""

from __future__ import annotations

import codecs
import re
from struct import Struct
from typing import TYPE_CHECKING

from collector.stats import HTTP, LOST_ALL, NO_LENGTH, PROXY_HEADER, TLS
from collector.wire.proxy_header import SIGNATURE_BYTES, version_of

if TYPE_CHECKING:
    from mmap import mmap

_HEADER = Struct(">L")
HEADER_BYTES = _HEADER.size
_length_at = _HEADER.unpack_from

DISCARD_FACTOR = 4
"""A payload of up to this many times the limit is read and thrown away: hanging up would cost the client more
records than this one. A length beyond that is hardly one of a frame."""

# The lengths that PROXY headers would be, if taken for frames: 1,347,571,544 and 218,762,506.
_LIKE_PROXY = frozenset(_length_at(begin)[0] for begin in (b"PROX", b"\r\n\r\n"))
# How payloads begin: pickles of protocol 2 and above; below that a mark, a dict, a list or the name of a
# class; and objects of JSON.
_RECORD = re.compile(rb"\x80[\x02-\x05]|[(}\]c{]")
_PICKLE = re.compile(rb"\x80[\x02-\x05]|[}\]][q(]|\([dl]p|\(ilo|c(?:cop|log|__)")
_FORMS = {
    HTTP: re.compile(b"GET |POST|PUT |HEAD|OPTI|DELE|PATC|CONN|PRI "),
    TLS: re.compile(b"\x16\x03"),
    "SSH": re.compile(b"SSH-"),
    "JSON": re.compile(rb"[{\[]"),
    NO_LENGTH: _PICKLE,
    "RDP": re.compile(rb"\x03\0(?!\0\0)"),  # a TPKT, RFC 1006
}
_REMEDIES = {TLS: "; see [listen.tls]"}
_IN_TEXT = "\n\r\t\x1b\ufeff"  # besides what is printable; the last is the mark of UTF-8


def frame(payload: bytes) -> bytes:
    """Return *payload* as it is sent, its length before it."""
    return _HEADER.pack(len(payload)) + payload


def length_at(data: bytes | mmap, position: int) -> int:
    """Return the length of the payload whose frame begins in *data* at *position*."""
    length: int = _length_at(data, position)[0]
    return length


class FrameError(ValueError):
    """The stream can no longer be cut into frames: the client's fault, and the end of its connection."""

    def __init__(self, text: str, looks_like: str = "") -> None:
        super().__init__(text)
        self.looks_like = looks_like
        """What was sent instead, "" if it looks like nothing known."""

    @classmethod
    def of_proxy(cls, version: int) -> FrameError:
        """Return the fault of a stream that begins with a PROXY header and should not."""
        return cls(f"sends a PROXY header (version {version})", PROXY_HEADER)


class FrameSplitter:
    """Cut one client's stream into payloads, however its segments fall."""

    __slots__ = (
        *("_discarding", "_frame_bytes", "_partial", "_to_discard"),
        *("discarded", "fault", "max_frame_bytes"),
    )

    def __init__(self, max_frame_bytes: int) -> None:
        self.max_frame_bytes = max_frame_bytes
        """May be changed at any time; holds from then on, for a frame already begun too."""
        self._frame_bytes = HEADER_BYTES
        self._partial: bytes | bytearray = b""
        self._discarding = 0  # size of the payload that is being thrown away; how much of it is still to come
        self._to_discard = 0
        self.discarded: list[int] = []
        """Payload sizes of the frames thrown away, noted at their last byte, or with the `fault` that one is.

        The caller empties it.
        """
        self.fault: FrameError | None = None
        """Why the stream ended, once it has: the payloads ahead of a bad header still come out first."""

    @property
    def partial(self) -> int:
        """Bytes held of the incomplete frame, header included."""
        return len(self._partial)

    @property
    def come(self) -> int:
        """Bytes received of the incomplete frame, held or thrown away."""
        return HEADER_BYTES + self._discarding - self._to_discard if self._to_discard else self.partial

    @property
    def inside(self) -> bool:
        """Whether there is an incomplete frame, held or being thrown away."""
        return bool(self._partial) or self._to_discard > 0

    def feed(self, data: bytes) -> list[bytes]:
        """Return the payloads that *data* completes, oldest first; an empty frame has none.

        The payload of a frame larger than max_frame_bytes is never held. One of up to DISCARD_FACTOR times
        that, which begins as a pickle or JSON does, is thrown away as it comes, and noted in `discarded`.
        Anything else is no frame, nor is a PROXY header, whatever the limit: `fault` says so, and what
        follows is ignored.
        """
        if self.fault:
            return []
        if self._to_discard:
            data = data[self._discard(len(data)) :]
        if self._partial:
            if len(self._partial) + len(data) < self._frame_bytes:
                # Grown in place: a list of tiny segments would take many times their bytes.
                if isinstance(self._partial, bytes):
                    self._partial = bytearray(self._partial)
                self._partial += data
                return []
            data = b"".join((self._partial, data))
            self._partial = b""
            self._frame_bytes = HEADER_BYTES
        return self._cut(data)

    def _cut(self, data: bytes) -> list[bytes]:
        payloads: list[bytes] = []
        limit = self.max_frame_bytes
        start, end = 0, len(data)
        while (body := start + HEADER_BYTES) <= end:
            length = _length_at(data, start)[0]
            stop = body + length
            if stop <= end and length <= limit:
                if length:
                    payloads.append(data[body:stop])
                start = stop
            elif length <= limit and length not in _LIKE_PROXY:
                self._frame_bytes = HEADER_BYTES + length
                break
            elif awaited := self._judge(data[start : start + SIGNATURE_BYTES], length):
                self._frame_bytes = awaited
                break
            elif self.fault:
                return payloads
            else:
                self._discarding = self._to_discard = length
                start = body + self._discard(end - body)
        self._partial = data[start:]
        return payloads

    def _discard(self, size: int) -> int:
        """Throw away as many of *size* bytes as belong to a payload too large; return how many those are."""
        skipped = min(self._to_discard, size)
        self._to_discard -= skipped
        if not self._to_discard:
            self.discarded.append(self._discarding)
        return skipped

    def _judge(self, begin: bytes, length: int) -> int:
        """Judge by its *begin* what may be no frame; return how many bytes it takes to say more.

        0: the frame is to be thrown away, unless `fault` says why it is none.
        """
        limit = self.max_frame_bytes
        version = version_of(begin)
        payload = begin[HEADER_BYTES:]
        if version:
            self.fault = FrameError.of_proxy(version)
        elif version is None:
            return len(begin) + 1
        elif length <= limit:
            return HEADER_BYTES + length
        elif length > DISCARD_FACTOR * limit:
            self.fault = self._too_large(length, begin)
            if begins_as_pickle(payload):  # a record, and no scan
                self.discarded.append(length)
        elif payload in (b"", b"\x80"):
            return len(begin) + 1
        elif not _RECORD.match(payload):
            self.fault = self._too_large(length, begin)
        return 0

    def _too_large(self, length: int, begin: bytes) -> FrameError:
        text = f"frame of {length} bytes exceeds max_frame_bytes = {self.max_frame_bytes}"
        looks = _looks_like(begin[:HEADER_BYTES], self.max_frame_bytes)
        if not looks and length <= DISCARD_FACTOR * self.max_frame_bytes:
            return FrameError(f"{text}, and does not begin as a pickle")
        return FrameError(f"{text}; looks like {looks}{_REMEDIES.get(looks, '')}" if looks else text, looks)


def is_of_an_application(begin: bytes, max_frame_bytes: int) -> bool:
    """Tell whether a stream that should be TLS and begins so comes from an application, not from a scan."""
    splitter = FrameSplitter(max_frame_bytes)
    splitter.feed(begin)
    if splitter.fault:
        return splitter.fault.looks_like in LOST_ALL
    return bool(_PICKLE.match(begin, HEADER_BYTES))


def _looks_like(header: bytes, max_frame_bytes: int) -> str:
    """Return what was sent instead of a length, "" if it looks like nothing known."""
    for what, form in _FORMS.items():
        if form.match(header):
            return what
    # Judged by its two high bytes: one in 256 lengths of real frames ends in a zero byte.
    if header.endswith(b"\0\0") and 0 < int.from_bytes(header, "little") <= max_frame_bytes:
        return "a length in little-endian order"
    return "text" if is_text(header) else ""


def begins_as_pickle(payload: bytes) -> bool:
    """Whether *payload* begins as the pickle of a record does, judged by more than its first byte."""
    return _PICKLE.match(payload) is not None


def is_text(begin: bytes) -> bool:
    """Whether *begin* is the beginning of a text."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(begin)  # its last character may be cut
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character in _IN_TEXT for character in text)
