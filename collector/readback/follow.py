"""What is written from now on: from the live stream of a running collector, else from the files themselves.

The files are looked at a few times a second. One that is rolled over is read to its end first; what was made
and compressed between two looks is missed.
"""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.parse
from collections import Counter
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, BinaryIO

from collector.files import inventory
from collector.listen.sockets import host_port, to_reach
from collector.log import counted
from collector.readback.layouts import layouts_of, split, time_key
from collector.readback.sources import Source, open_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from collector.config.load import Config
    from collector.files.inventory import Found

    Batch = list[tuple[Source, bytes, bytes]]
    """Records, each with its file and its time."""

_POLL_SECONDS = 0.25
# The collector sends something every 15 seconds.
_SILENCE_SECONDS = 45
# What was received before the stream began is in its file by then, unless the disk stalls.
_ON_THEIR_WAY_SECONDS = 0.3


@dataclass
class _Followed:
    source: Source
    file: BinaryIO
    offset: int
    live: bool


class Follower:
    """The files of the directory, each read as far as it has been shown."""

    def __init__(self, config: Config, sources: Sequence[Source]) -> None:
        """Begin where the *sources* end, which are open and not yet read."""
        self._config = config
        self._layouts = layouts_of(config)
        self._seen: dict[tuple[int, int], _Followed | None] = {}
        for source in sources:
            file = source.duplicate()
            size = source.found.status.st_size
            self._seen[source.number] = _Followed(source, file, size, live=True) if file else None

    def poll(self) -> Batch:
        """Return the records that have been written since the last time, by time."""
        self._look()
        batch: Batch = []
        for number, followed in self._seen.items():
            if followed:
                batch += self._read(followed)
            if followed and not followed.live:
                followed.file.close()
                self._seen[number] = None
        return sorted(batch, key=itemgetter(2))

    def close(self) -> None:
        """Let the files go."""
        for followed in self._seen.values():
            if followed:
                followed.file.close()

    def skip(self) -> None:
        """Go to the end of every file: what is in it so far has been shown."""
        self._look()
        for followed in self._seen.values():
            if followed:
                followed.offset = os.fstat(followed.file.fileno()).st_size

    def _look(self) -> None:
        """Find files made, renamed and removed."""
        there = set()
        # The oldest first, for two of one file may have records of the same second.
        for found in sorted(inventory.find(self._config, rotated=True), key=_age):
            number = inventory.number(found)
            there.add(number)
            by_logrotate = found.backup is not None and not found.backup.label
            if followed := self._seen.get(number):
                # What logrotate has moved is written to until the collector hears of it.
                followed.live = by_logrotate or found.backup is None
            elif by_logrotate:
                self._seen[number] = None  # a copy, or compressed: what is in it has been shown
            elif number not in self._seen or found.backup is None:
                try:
                    compressed = found.path.endswith(".gz")
                    file = None if compressed else open_regular(found.path)
                except OSError:
                    there.discard(number)  # renamed meanwhile; or it stays as it is, and is tried again
                    continue
                source = Source(found, self._layouts)
                live = found.backup is None
                self._seen[number] = _Followed(source, file, 0, live) if file else None
        for number in self._seen.keys() - there:
            if (followed := self._seen[number]) and followed.live:
                followed.live = False  # removed: what it still holds is read
            else:
                del self._seen[number]

    def _read(self, followed: _Followed) -> Batch:
        size = os.fstat(followed.file.fileno()).st_size
        if size < followed.offset:
            followed.offset = 0  # truncated, by logrotate's copytruncate for instance
        data = os.pread(followed.file.fileno(), size - followed.offset, followed.offset)
        whole = len(data) if not followed.live else data.rfind(b"\n") + 1
        if not whole:
            return []
        followed.offset += whole
        source = followed.source
        records, keys = split(data[:whole].removesuffix(b"\n"), source.layouts, time_key(time.time()))
        return [(source, record, key) for record, key in zip(records, keys, strict=True)]


def _age(found: Found) -> tuple[int, bool, str, int]:
    label, number, _ = found.backup or ("", 0, "")
    return found.status.st_mtime_ns, found.backup is None, label, number


class Stream:
    """The live stream of the admin port, as [admin] in the configuration has it."""

    def __init__(self, config: Config, logger: str, level: int) -> None:
        self._config = config
        self._admin = config.admin
        self._query = urllib.parse.urlencode(
            {key: value for key, value in (("logger", logger), ("level", level), ("written", 1)) if value}
        )
        self._layouts = {layout.form: layout for layout in layouts_of(config)}
        self._connection: http.client.HTTPConnection | None = None
        self._answer: http.client.HTTPResponse | None = None

    def connect(self) -> str:
        """Ask for the stream; return why there is none, or ""."""
        if self._admin is None:
            return "there is no [admin] in the configuration"
        if not self._admin.port:
            return "[admin] port = 0 does not tell the port"
        host = to_reach(self._admin.host)
        where = host_port((host, self._admin.port))[1]
        self._connection = http.client.HTTPConnection(host, self._admin.port, timeout=_SILENCE_SECONDS)
        headers = {"Accept": "text/event-stream"}
        if self._admin.token:
            headers["Authorization"] = f"Bearer {self._admin.token}"
        try:
            self._connection.request("GET", f"/api/stream?{self._query}", headers=headers)
            self._answer = self._connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            return f"no stream from {where}: {error}"
        if self._answer.status != http.client.OK:
            return f"no stream from {where}: {self._answer.status} {self._answer.reason}"
        return ""

    def events(self, say: Callable[[str], None]) -> Iterator[tuple[Source, bytes, bytes]]:
        """Yield each record, its source and its time, until the stream ends.

        Raises OSError, HTTPException, and ValueError where it is no such stream.
        """
        event = ""
        while self._answer and (line := self._answer.readline()):
            name, _, value = line.decode().rstrip("\r\n").partition(": ")
            if name == "event":
                event = value
            elif name == "data" and event == "skipped":
                records = counted(json.loads(value)["records"], "record")
                say(f"{records} left out: this terminal or pipe is too slow")
            elif name == "data" and not event:
                yield self._as_in_a_file(json.loads(value))
            elif not name:
                event = ""

    def close(self) -> None:
        """Watch no longer."""
        for one in (self._answer, self._connection):
            if one:
                one.close()

    def _as_in_a_file(self, record: dict[str, Any]) -> tuple[Source, bytes, bytes]:
        """Return the source, the text and the time of *record*, as if they were from its file."""
        if "written" not in record:
            raise ValueError("records come without their lines")
        rule = self._config.rule_for(str(record.get("logger", "")))
        form = rule.format if rule else self._config.format
        source = Source(inventory.Found("", "", None, _NO_STATUS), [self._layouts[form]])
        stamp = str(record.get("timestamp", "")).removesuffix("Z")
        return source, str(record["written"]).encode("utf-8", "backslashreplace"), stamp.encode()


_NO_STATUS = os.stat_result([0] * 10)


def records(follower: Follower, stream: Stream, say: Callable[[str], None]) -> Iterator[Batch]:
    """Yield what is written from now on, for ever; *say* why it does not come from the stream."""
    why = stream.connect()
    if not why:
        # What was written while the files were read is in them; what the stream has too is not shown twice.
        time.sleep(_ON_THEIR_WAY_SECONDS)
        shown: Counter[bytes] = Counter()
        batch = follower.poll()
        for _, record, _ in batch:
            shown.update(record.split(b"\n"))
        yield batch
        try:
            for source, record, key in stream.events(say):
                # Line by line: where no time begins a record, the files do not tell which lines are one.
                lines = Counter(record.split(b"\n"))
                if all(shown[line] >= count for line, count in lines.items()):
                    shown.subtract(lines)
                else:
                    yield [(source, record, key)]
            why = "the stream has ended"
        except (OSError, http.client.HTTPException, ValueError) as error:
            why = f"the stream has ended: {error}"
        follower.skip()
    say(f"{why}; following the files")
    while True:
        yield follower.poll()
        time.sleep(_POLL_SECONDS)
