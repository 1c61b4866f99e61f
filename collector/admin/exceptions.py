"""The exceptions of a week, grouped by what they are: what the page shows a developer in the morning.

Takes a small share of the time at most, however many tracebacks come: past it they are only counted, as not
looked at. Times are when a record was received, since clients' clocks differ. Knows no file.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from collector.admin import tracebacks
from collector.admin.tracebacks import MAX_CHARACTERS
from collector.wire.records import message_of, name_of, traceback_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from collector.wire.records import Fragment, Record

MAX_GROUPS = 1000
CELL_BYTES = 16 * 1024
CELLS = MAX_GROUPS + 1
TITLE = "collector exceptions 1"
_KEPT_SECONDS = 7 * 24 * 60 * 60
# The share of the time that looking at tracebacks may take, and how far a burst may exceed it.
_SHARE = 1 / 100
_BURST_SECONDS = 0.02
# By which a traceback that comes again is known. Those that differ each time, by values, are read each time.
_MAX_KNOWN = 4096
_MAX_LOGGERS = 20
_MAX_FRAMES = 50
_MAX_FRAME_CHARACTERS = 200
_MAX_NAME_CHARACTERS = 200
_MAX_MESSAGE_CHARACTERS = 1000
# Of a traceback that is longer, what says where it began and what it was is kept.
_BEGIN_CHARACTERS, _END_CHARACTERS = 2000, 6000
_CUT = "\n  [...]\n"
_head_and_site = itemgetter(0, 1)


class _Group:
    """Tracebacks of one kind."""

    __slots__ = (
        *("count", "error", "first", "frames", "gone", "id", "kind", "last", "loggers", "message"),
        "traceback",
    )

    def __init__(self, number: str, kind: str, frames: Sequence[str], first: float) -> None:
        self.id = number
        """What is the same for the same kind, after a restart too."""
        self.kind = kind
        self.frames = frames
        self.first = self.last = first
        self.count = 0
        self.loggers: dict[str, None] = {}
        self.message = self.error = self.traceback = ""
        """Of the latest record."""
        self.gone = False
        """Whether others have taken its place."""

    def shown(self, since: float) -> dict[str, Any]:
        """Return it as /api/exceptions has it, and as the file has it too."""
        return {
            "id": self.id,
            "class": self.kind,
            "frames": self.frames,
            "count": self.count,
            "first": self.first,
            "last": self.last,
            "new": self.first >= since,
            "loggers": list(self.loggers),
            "message": self.message,
            "error": self.error,
            "traceback": self.traceback,
        }


class Exceptions:
    """The groups, at most MAX_GROUPS, of which none was seen for the last time more than a week ago."""

    def __init__(self) -> None:
        self.skipped = 0
        """Records whose traceback was not looked at, because there were too many."""
        self.version = time.time_ns()
        """Another one whenever something has changed, over restarts too."""
        self._groups: dict[str, _Group] = {}
        self._known: dict[int, _Group] = {}
        """By the hash of a traceback's text."""
        self._cells: dict[str, int] = {}
        """Where a group has its place in the file; those that were not yet written have none."""
        self._free = set(range(1, CELLS))
        self._changed: dict[str, _Group] = {}
        self._freed: set[int] = set()
        self._spent = 0.0
        self._spent_at = 0.0

    def notice(self, records: Sequence[Record]) -> None:
        """Count *records*, each of which has a traceback, that came in one batch."""
        self.version += 1
        begun = time.monotonic()
        self._spent = max(0.0, self._spent - (begun - self._spent_at) * _SHARE)
        self._spent_at = begun
        left = len(records)
        # At once: to find out that there is no time must take none.
        if self._spent <= _BURST_SECONDS:
            # Those of one call site and logger, if their fragments are remembered, are counted together.
            kinds = list(map(_head_and_site, records))
            latest: dict[tuple[Fragment, Fragment], Record] = dict(zip(kinds, records, strict=True))
            counts = Counter(kinds)
            now = time.time()
            for kind, record in latest.items():
                self._count(record, counts[kind], now)
                left -= counts[kind]
                if self._spent + time.monotonic() - begun > _BURST_SECONDS:
                    break
            # Bounded: this is wall-clock time, and a batch that others hold up must not blind it for long.
            self._spent = min(self._spent + time.monotonic() - begun, 2 * _BURST_SECONDS)
        self.skipped += left

    def groups(self, since: float) -> list[dict[str, Any]]:
        """Return all groups, those first that are new since then, and of each kind the latest first."""
        self._forget()
        groups = sorted(self._groups.values(), key=lambda one: (one.first >= since, one.last), reverse=True)
        return [group.shown(since) for group in groups]

    def _count(self, record: Record, records: int, now: float) -> None:
        """Add *records* like *record* to their group."""
        text = traceback_of(record)
        number = hash(text if len(text) <= MAX_CHARACTERS else text[:MAX_CHARACTERS])
        group = self._known.get(number)
        if group is None or group.gone:
            group = self._find(text, now)
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[number] = group
        group.count += records
        group.last = now
        group.message = message_of(record)[:_MAX_MESSAGE_CHARACTERS]
        if len(group.loggers) < _MAX_LOGGERS:
            group.loggers[name_of(record)[:_MAX_NAME_CHARACTERS]] = None
        self._changed[group.id] = group

    def _find(self, text: str, now: float) -> _Group:
        """Return the group of a traceback, made if there is none."""
        read = tracebacks.read(text)
        what = "\n".join((read.kind, *read.frames)).encode("utf-8", "surrogatepass")
        number = hashlib.blake2b(what, digest_size=8).hexdigest()
        group = self._groups.get(number)
        if group is None:
            frames = [frame[:_MAX_FRAME_CHARACTERS] for frame in read.frames[-_MAX_FRAMES:]]
            group = _Group(number, read.kind, frames, now)
            self._add(group)
        group.error = read.error
        group.traceback = _cut(text)
        return group

    def _add(self, group: _Group) -> None:
        """Add a group. Where there is no room, the one goes that was seen least, and longest ago."""
        if len(self._groups) >= MAX_GROUPS:
            self._remove(min(self._groups.values(), key=lambda one: (one.count, one.last)))
        self._groups[group.id] = group

    def _remove(self, group: _Group) -> None:
        self.version += 1
        del self._groups[group.id]
        group.gone = True
        self._changed.pop(group.id, None)
        if cell := self._cells.pop(group.id, 0):
            self._free.add(cell)
            self._freed.add(cell)

    def _forget(self) -> None:
        """Remove what was not seen for a week."""
        now = time.time()
        for group in self._groups.values():
            if group.last > now:  # the clock was set back: else it would be kept until then, and a week
                self.version += 1
                group.first, group.last = min(group.first, now), now
                self._changed[group.id] = group
        oldest = now - _KEPT_SECONDS
        for group in [one for one in self._groups.values() if one.last < oldest]:
            self._remove(group)

    # --- what keeper.py keeps ---

    def changes(self) -> dict[int, _Group | None]:
        """Return what has changed since the last call, by the number of its cell; None: nothing is there."""
        self._forget()
        changed, self._changed = self._changed, {}
        freed, self._freed = self._freed, set()
        for number in changed.keys() - self._cells.keys():
            self._cells[number] = cell = min(self._free)  # so that the file is as short as it can be
            self._free.remove(cell)
        return {**dict.fromkeys(freed), **{self._cells[number]: group for number, group in changed.items()}}

    def everything(self) -> dict[int, _Group | None]:
        """Return all groups, by the numbers of their cells."""
        self._changed = dict(self._groups)
        return self.changes()

    @staticmethod
    def encoded(group: _Group | None) -> bytes:
        """Return what changes() and everything() have for a cell as it is written."""
        if group is None:
            return b""
        kept = group.shown(0.0)
        while len(data := json.dumps(kept).encode()) > CELL_BYTES:
            # The end of a traceback says what it was; the beginning of all else does.
            for key in ("traceback", "frames"):
                kept[key] = kept[key][(len(kept[key]) + 1) // 2 :]
            for key in ("message", "error", "loggers"):
                kept[key] = kept[key][: len(kept[key]) // 2]
        return data

    @staticmethod
    def parsed(cells: Mapping[int, bytes]) -> dict[int, _Group]:
        """Return what a file had."""
        read = {}
        for cell, data in cells.items():
            kept = json.loads(data.rstrip(b"\0"))
            read[cell] = group = _Group(kept["id"], kept["class"], kept["frames"], kept["first"])
            group.last, group.count = kept["last"], kept["count"]
            group.loggers = dict.fromkeys(kept["loggers"])
            group.message, group.error, group.traceback = map(kept.get, ("message", "error", "traceback"))
        return read

    def adopt(self, read: Mapping[int, _Group]) -> None:
        """Take over what was *read*, and add what has been counted meanwhile."""
        self.version += 1
        own, self._groups, self._known = self._groups, {}, {}
        for cell, group in read.items():
            if group.id in self._groups:  # a crash of the machine can leave a group in two cells
                continue
            self._groups[group.id] = group
            self._cells[group.id] = cell
            self._free.discard(cell)
        for number, group in own.items():
            if number in self._groups:
                group.count += self._groups[number].count
                group.first = min(group.first, self._groups[number].first)
                group.loggers = dict.fromkeys([*group.loggers, *self._groups[number].loggers][:_MAX_LOGGERS])
                self._groups[number] = group
            else:
                self._add(group)


def _cut(text: str) -> str:
    if len(text) <= _BEGIN_CHARACTERS + _END_CHARACTERS + len(_CUT):
        return text
    return f"{text[:_BEGIN_CHARACTERS]}{_CUT}{text[-_END_CHARACTERS:]}"
