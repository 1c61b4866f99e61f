"""Epochs: each start of a worker is one, above all that there have been. They make the ids of records unique.

After a power cut the spool may have forgotten numbers that a destination has already taken; the clock may
have been set back. So an epoch begins above the newest of the clock, segments, checkpoints and the file
`epoch`, and is durable before its first block. Numbers run on across epochs.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import time
from contextlib import suppress
from typing import NamedTuple
from zlib import crc32

from collector.spool.checkpoint import SUFFIX, position_of, read_state, replace_file
from collector.spool.reading import ID_FILE, EndFinder
from collector.spool.segments import segments_in

log = logging.getLogger(__name__)

EPOCH_FILE = "epoch"
_ID = re.compile(r"[0-9a-f]{16}")
_MAX_READ_BYTES = 100


class Epoch(NamedTuple):
    """A start of the worker."""

    collector_id: str
    epoch: int
    first: int
    """The lowest number that it may give out."""


def begin(directory: str, collector_id: str, above: int) -> Epoch:
    """Begin an epoch *above* one that is known besides, durably. Raises OSError.

    A spool without an id gets *collector_id*, or if that is "" a new one.
    """
    epochs, numbers = [time.time_ns(), above], [0]
    for epoch, number in (_noted(directory), *_checkpoints(directory)):
        epochs.append(epoch)
        numbers.append(number)
    epochs += [segment.epoch for segment in segments_in(directory)[-1:]]
    numbers.append(EndFinder(directory).find().number - 1)
    begun = Epoch(_id(directory, collector_id), max(epochs) + 1, max(numbers) + 1)
    note(directory, begun.epoch, begun.first - 1)
    return begun


def note(directory: str, epoch: int, last: int) -> None:
    """Write down an epoch and the *last* number given out, durably. Raises OSError."""
    replace_file(os.path.join(directory, EPOCH_FILE), _checked(f"{epoch} {last}"))


def _checked(text: str) -> bytes:
    return f"{text} {crc32(text.encode()):08x}\n".encode()


def _noted(directory: str) -> tuple[int, int]:
    """Return what note() has written, (0, 0) if there is nothing or if it is not sound."""
    path = os.path.join(directory, EPOCH_FILE)
    data = _read(path)
    text = data.decode("ascii", "replace").rpartition(" ")[0]
    if data == _checked(text):
        epoch, last = map(int, text.split())
        return epoch, last
    if data:
        log.warning("%s: not sound, going by the clock, the segments and the checkpoints", path)
    return 0, 0


def _checkpoints(directory: str) -> list[tuple[int, int]]:
    """Return epoch and last number of each checkpoint."""
    found = []
    for name in os.listdir(directory):
        if name.endswith(SUFFIX):
            with suppress(FileNotFoundError):
                state = read_state(os.path.join(directory, name))
                if state and (position := position_of(state)):
                    found.append((position.epoch, position.number - 1))
    return found


def _id(directory: str, collector_id: str) -> str:
    path = os.path.join(directory, ID_FILE)
    found = _read(path).decode("ascii", "replace").strip()
    if _ID.fullmatch(found):
        return found
    collector_id = collector_id or secrets.token_hex(8)
    replace_file(path, f"{collector_id}\n".encode())
    return collector_id


def _read(path: str) -> bytes:
    """Return the contents of a small file, b"" if there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return b""
    try:
        return os.read(fd, _MAX_READ_BYTES)
    finally:
        os.close(fd)
