"""Checkpoints: how far a destination has come, durably.

One preallocated file with two slots, written in turn and in place: on a full volume too, and whatever a power
cut makes of one of them, the other holds. A slot is CRC32, length, serial, and the state as JSON. What is in
the state is the forwarder's business, but for `position`: the worker begins its epochs above it.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from struct import Struct
from typing import Any
from zlib import crc32

from collector.spool.reading import Position

SUFFIX = ".checkpoint"
SLOT_BYTES = 16 * 1024
_HEAD = Struct(">LLQ")  # CRC32 of what follows, length of the JSON, serial
_CRC_BYTES = 4
_MAX_STATE_BYTES = SLOT_BYTES - _HEAD.size


class Checkpoint:
    """The checkpoint of one destination, open for writing. To be closed by who made it."""

    def __init__(self, path: str) -> None:
        """Open that at *path*. Raises OSError: FileNotFoundError if there is none yet."""
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            self._serial, self._state = _newest(self._fd, path)
            self._identity = _identity(self._fd)
        except OSError:
            os.close(self._fd)
            raise

    @classmethod
    def create(cls, path: str, state: dict[str, Any]) -> Checkpoint:
        """Make one, durably, in place of any that is there. Raises OSError, ValueError as save() does."""
        replace_file(path, _slot(0, state).ljust(2 * SLOT_BYTES, b"\0"))
        return cls(path)

    def load(self) -> dict[str, Any] | None:
        """Return the state that was saved last, None if no slot is sound."""
        return self._state

    def save(self, state: dict[str, Any]) -> None:
        """Write *state*, so that it outlives a kill; make the file anew if it is gone, and cannot be written.

        Raises OSError; ValueError if a slot cannot take it.
        """
        slot = _slot(self._serial + 1, state)
        offset = (self._serial + 1) % 2 * SLOT_BYTES
        try:
            written = os.pwrite(self._fd, slot, offset)
        except OSError:
            if self._is_in_place():
                raise
            self._make_anew(state)
        else:
            if written < len(slot):
                raise OSError(f"{self.path!r} was written in part only")
            self._serial += 1
        self._state = state

    def sync(self) -> None:
        """Have what was saved outlive a power cut too; make the file anew if it is gone. Raises OSError."""
        try:
            os.fsync(self._fd)
        except OSError:
            if self._is_in_place():
                raise
        else:
            if self._is_in_place():
                return
        if self._state is None:
            raise OSError(f"{self.path!r} is gone, and nothing was saved")
        self._make_anew(self._state)

    def _is_in_place(self) -> bool:
        """Tell whether the file is where it was; False if none is. Raises OSError."""
        try:
            there = os.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        # Not by what the open file says: of a broken disk that has been replaced nothing can be asked.
        if (there.st_dev, there.st_ino) != self._identity:
            raise OSError(f"{self.path!r} was replaced: another destination's checkpoint is there now")
        return True

    def _make_anew(self, state: dict[str, Any]) -> None:
        serial = self._serial + 1
        serial += serial % 2  # into the first slot, so that the next state goes into the other
        replace_file(self.path, _slot(serial, state).ljust(2 * SLOT_BYTES, b"\0"))
        old, self._fd = self._fd, os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._serial, self._identity = serial, _identity(self._fd)
        with suppress(OSError):  # a broken disk says so once more
            os.close(old)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)


def read_state(path: str) -> dict[str, Any] | None:
    """Return the state at *path*, which somebody else may be writing; None if no slot is sound.

    Raises OSError: FileNotFoundError if there is none.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        return _newest(fd, path)[1]
    finally:
        os.close(fd)


def position_of(state: dict[str, Any]) -> Position | None:
    """Return the position in a state, None if it has none."""
    with suppress(KeyError, TypeError, ValueError):
        return Position(*map(int, state["position"]))
    return None


def replace_file(path: str, data: bytes) -> None:
    """Write a file beside *path*, sync it and put it in its place, durably. Raises OSError."""
    beside = f"{path}.new"
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(beside, path)
    sync_directory(os.path.dirname(path))


def sync_directory(path: str) -> None:
    """Have the names in a directory outlive a power cut. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _slot(serial: int, state: dict[str, Any]) -> bytes:
    text = json.dumps(state, separators=(",", ":")).encode()
    if len(text) > _MAX_STATE_BYTES:
        raise ValueError(f"a state of {len(text)} bytes: a slot takes {_MAX_STATE_BYTES}")
    slot = _HEAD.pack(0, len(text), serial) + text
    return crc32(slot[_CRC_BYTES:]).to_bytes(_CRC_BYTES, "big") + slot[_CRC_BYTES:]


def _newest(fd: int, path: str) -> tuple[int, dict[str, Any] | None]:
    """Return the serial and the state of the newest sound slot; 0 and None if there is none."""
    newest: tuple[int, dict[str, Any] | None] = (-1, None)
    for offset in (0, SLOT_BYTES):
        try:
            slot = os.pread(fd, SLOT_BYTES, offset)
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from None
        if len(slot) < _HEAD.size:
            continue
        crc, length, serial = _HEAD.unpack_from(slot)
        end = _HEAD.size + length
        if len(slot) >= end and crc == crc32(slot[_CRC_BYTES:end]) and serial > newest[0]:
            newest = serial, json.loads(slot[_HEAD.size : end])
    return max(newest[0], 0), newest[1]
