"""What a RELP server answers: bytes in, answers out.

Wire format: `TXNR SP COMMAND SP DATALEN [SP DATA] LF` (doc/relp.html of librelp). Knows no socket.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from collector.escape import escape

if TYPE_CHECKING:
    from collections.abc import Iterator

OK = b"200 OK"
MAX_ANSWER_BYTES = 64 * 1024
"""Of data; the longest that is known is what a session is opened with, a tenth of a kilobyte."""

_TAKEN = b" rsp 6 200 OK\n"
_ALL_TAKEN = re.compile(b"(?:[0-9]{1,9}" + _TAKEN + b")+")
_HEADER = re.compile(rb"([0-9]{1,9}) ([A-Za-z]{1,32}) ([0-9]{1,9})([ \n])")
_BEGUN = re.compile(rb"[0-9]{1,9}(?: (?:[A-Za-z]{1,32}(?: [0-9]{0,9})?)?)?")
_SHOWN_BYTES = 100


class FramingError(ConnectionError):
    """What came is no answer."""


class Answers:
    """Cuts what a server sends into answers."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[list[int], bytes]]:
        """Yield the answers that *data* completes: numbers of transactions, and the text for each of them.

        Answers ahead of a fault are yielded before it is raised: FramingError, and ConnectionError where the
        server says that it closes. Each call is to be iterated to its end before the next.
        """
        data, at = self._rest + data, 0
        while at < len(data):
            taken = _ALL_TAKEN.match(data, at)
            if taken:  # as nearly all are
                yield [int(number) for number in taken[0].split(_TAKEN)[:-1]], OK
                at = taken.end()
                continue
            frame = _frame(data, at)
            if not frame:
                break
            number, command, text, end = frame
            if command == b"serverclose":
                raise ConnectionError("the server closes the session")
            if command != b"rsp":
                raise _fault(data, at)
            yield [number], text
            at = end
        self._rest = data[at:]


def _frame(data: bytes, at: int) -> tuple[int, bytes, bytes, int] | None:
    """Return number, command, data and end of the frame at *at*; None if it is not complete."""
    header = _HEADER.match(data, at)
    if not header:
        if not _BEGUN.fullmatch(data, at):
            raise _fault(data, at)
        return None
    # Where there is no data, there is no blank before it either.
    size, begin = int(header[3]), header.end() if header[4] == b" " else header.end() - 1
    if size > MAX_ANSWER_BYTES or (size and header[4] == b"\n"):
        raise _fault(data, at)
    end = begin + size
    if data[end : end + 1] not in (b"", b"\n"):
        raise _fault(data, at)
    return (int(header[1]), header[2], data[begin:end], end + 1) if end < len(data) else None


def _fault(data: bytes, at: int) -> FramingError:
    shown = escape(data[at : at + _SHOWN_BYTES].decode("utf-8", "replace"))
    return FramingError(f"answers as no RELP server does: {shown}")
