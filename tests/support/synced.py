"""What a power cut leaves of a directory: each os.fsync is noted, and the disk is made to know no more.

A copy of this file is the `sitecustomize` of the processes that are watched; there it notes, behind each
os.fsync, what that has made durable.
"""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import random

_VARIABLE = "SYNCED_NOTES"
"""Names the file of notes, a line of JSON for each."""
_SMALL_BYTES = 64 * 1024
"""Files up to this size are written in place or replaced, so a note has their contents; others only grow."""


def state_of(path: str, place: str) -> dict[str, Any]:
    """Return what a sync of the file or directory at *path* makes durable, whose own path is *place*."""
    status = os.stat(path)
    note: dict[str, Any] = {"place": place.removesuffix(".new"), "file": status.st_ino}
    if stat.S_ISDIR(status.st_mode):
        return note | {"names": {entry.name: entry.inode() for entry in os.scandir(path)}}
    if status.st_size > _SMALL_BYTES:
        return note | {"size": status.st_size}
    data = Path(path).read_bytes()
    return note | {"size": len(data), "data": base64.b64encode(data).decode()}


def _write(notes: str, note: dict[str, Any]) -> None:
    fd = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, json.dumps(note).encode() + b"\n")
    finally:
        os.close(fd)


def _watch(notes: str) -> None:
    """Note each os.fsync of this process."""
    fsync = os.fsync

    def noted(fd: int) -> None:
        path = f"/proc/self/fd/{fd}"
        note = state_of(path, os.readlink(path))  # what is written meanwhile may be left out
        fsync(fd)
        _write(notes, note)

    os.fsync = noted  # type: ignore[assignment]


class _Known(NamedTuple):
    """What is known to be on the disk."""

    files: dict[tuple[str, int], dict[str, Any]]
    """The last note of each file, by place and inode, whose number may come again at another place."""
    names: dict[str, int]
    """Inodes by name in the directory."""


class Disk:
    """The disk below a directory, whose power is cut."""

    def __init__(self, directory: Path, home: Path) -> None:
        """Have notes written in *home*."""
        self._directory = directory
        self._notes = home / "notes"
        self._notes.touch()
        site = home / "site"
        site.mkdir()
        (site / "sitecustomize.py").write_bytes(Path(__file__).read_bytes())
        path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
        self.environment = {**os.environ, "PYTHONPATH": path, _VARIABLE: str(self._notes)}
        """Of the processes that are to be watched."""

    def has_synced(self, pattern: str) -> bool:
        """Tell whether all files like *pattern* are on the disk as they are."""
        known = self._known()
        return all(
            known.names.get(path.name) == path.stat().st_ino
            and self._sure(path, known) == path.stat().st_size
            for path in self._directory.glob(pattern)
        )

    def cut(self, chance: random.Random, slot_bytes: int) -> None:
        """Make the disk what it may be after a power cut: what was not synced is there, or zeros, or nothing.

        Files are rewritten in place by parts of *slot_bytes*; to be called when nobody writes any more.
        """
        known = self._known()
        for path in sorted(self._directory.iterdir()):
            if not path.is_file() or path.name.endswith((".lock", ".status.json")):
                continue
            if known.names.get(path.name) == path.stat().st_ino or chance.random() < 0.5:
                self._tear(path, known, chance, slot_bytes)
            else:
                self._put_back(path, known)
        self._notes.write_bytes(b"")
        for path in (*self._directory.iterdir(), self._directory):
            _write(str(self._notes), state_of(str(path), str(path)))

    def _known(self) -> _Known:
        known = _Known({}, {})
        for line in self._notes.read_bytes().splitlines():
            note = json.loads(line)
            if "names" not in note:
                known.files[note["place"], note["file"]] = note
            elif note["place"] == str(self._directory):
                known.names.clear()
                known.names.update(note["names"])
        return known

    def _sure(self, path: Path, known: _Known) -> int:
        """Return how many bytes of a file are on the disk."""
        note = known.files.get((str(path).removesuffix(".new"), path.stat().st_ino))
        return note["size"] if note else 0

    def _put_back(self, path: Path, known: _Known) -> None:
        """Have a name stand for what it stood for when the directory was synced."""
        before = known.files.get((str(path), known.names.get(path.name, 0)))
        if before:
            path.write_bytes(base64.b64decode(before["data"]))
        else:
            path.unlink()

    def _tear(self, path: Path, known: _Known, chance: random.Random, slot_bytes: int) -> None:
        """Leave of a file what is on the disk, and some of the rest."""
        data, sure = path.read_bytes(), self._sure(path, known)
        note = known.files.get((str(path).removesuffix(".new"), path.stat().st_ino), {})
        old = base64.b64decode(note.get("data", ""))
        kept = chance.randint(sure, len(data))
        zeros = chance.choice([0, len(data) - kept])
        torn = data[:kept] + bytes(zeros)
        if len(old) == len(data) != 0 and old != data:  # rewritten in place since
            slots = []
            for at in range(0, len(data), slot_bytes):
                new, former = data[at : at + slot_bytes], old[at : at + slot_bytes]
                part = chance.randrange(100)
                slots.append(chance.choice([new, former, new[:part] + former[part:]]))
            torn = b"".join(slots)
        path.write_bytes(torn)


if __name__ == "sitecustomize" and _VARIABLE in os.environ:
    _watch(os.environ[_VARIABLE])
