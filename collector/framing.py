"""Cut a byte stream into payloads.

A pure value machine: bytes in, payloads out. It reads nothing by itself and knows no socket, pickle or
file. Every byte fed is either part of a payload that comes out or of the one frame still incomplete
(`partial` bytes), so the caller can account for all of them at any time.

Wire format: logging.handlers.SocketHandler.makePickle (standard library) - a 4-byte big-endian unsigned
length, then as many bytes of payload.
"""

from __future__ import annotations

from struct import Struct

HEADER_BYTES = 4
_length_at = Struct(">L").unpack_from


class FrameError(ValueError):
    """The stream can no longer be cut into frames: the client's fault, and the end of its connection."""


class FrameSplitter:
    """Cut one client's stream into payloads, however its segments fall."""

    __slots__ = ("_frame_bytes", "_max_frame_bytes", "_partial", "fault")

    def __init__(self, max_frame_bytes: int) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._frame_bytes = HEADER_BYTES
        self._partial: bytes | bytearray = b""
        self.fault: FrameError | None = None
        """Why the stream ended, once it has: the payloads ahead of a bad header still come out first."""

    @property
    def partial(self) -> int:
        """Bytes of the frame that is begun and not complete, header included."""
        return len(self._partial)

    def feed(self, data: bytes) -> list[bytes]:
        """Return the payloads that *data* completes, oldest first; an empty frame has none.

        A header that claims more than max_frame_bytes is judged on the header alone, its payload is never
        buffered: `fault` says so, and what follows it is ignored.
        """
        if self.fault:
            return []
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
        start, end = 0, len(data)
        while end - start >= HEADER_BYTES:
            (length,) = _length_at(data, start)
            if length > self._max_frame_bytes:
                self.fault = FrameError(
                    f"frame of {length} bytes exceeds max_frame_bytes = {self._max_frame_bytes}"
                )
                return payloads
            stop = start + HEADER_BYTES + length
            if stop > end:
                self._frame_bytes = HEADER_BYTES + length
                break
            if length:
                payloads.append(data[start + HEADER_BYTES : stop])
            start = stop
        self._partial = data[start:]
        return payloads
