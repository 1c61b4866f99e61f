"""What may be asked of the log files, and the records that answer it, from either end.

A record is of the time that its line tells, moved as little as keeps the records of its file in their order.
Knows no greenlet and prints nothing: `tail` and the process behind `/api/records` both ask here.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from collector.format.json_lines import KEY_OF

if TYPE_CHECKING:
    import re

    from collector.readback.sources import Source


class Place(NamedTuple):
    """What a cursor names: a record in the sequence of all, or without a file a time, before all of it."""

    key: bytes
    base: str = ""
    print: str = ""
    offset: int = 0
    left_out: tuple[tuple[str, str], ...] = ()
    """Files that are left out from there on, by base and print: an earlier search did not get past them."""

    @property
    def cursor(self) -> str:
        """Text for it, which tells nobody else anything."""
        named = json.dumps([self.key.decode(), self.base, self.print, self.offset, *self.left_out])
        return base64.urlsafe_b64encode(named.encode()).decode().rstrip("=")

    @classmethod
    def of(cls, cursor: str) -> Place:
        """Return what *cursor* names. Raises ValueError, with the rule."""
        try:
            padded = cursor + "=" * (-len(cursor) % 4)
            key, base, found, offset, *rest = json.loads(base64.b64decode(padded, b"-_", validate=True))
            left_out = tuple((str(base), str(found)) for base, found in rest)
            return cls(str(key).encode(), str(base), str(found), int(offset), left_out)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{cursor}: must be a cursor as a record has it") from error


class Query(NamedTuple):
    """Which records are asked for; what has its default is not asked."""

    after: float | str | None = None
    """The first instant, in seconds since 1970; or the cursor of a record: those newer than it."""
    before: float | str | None = None
    """The end, which is not included, or the cursor of a record: those older than it."""
    level: int = 0
    logger: str = ""
    """This logger and those below it."""
    text: str = ""
    """A fixed text in the record as it stands in its file, or in the values of one in JSON."""
    regex: re.Pattern[str] | None = None
    """The same by a regular expression; `ignore_case` does not change its flags."""
    client: str = ""
    """The address of a client, with its port or without."""
    ignore_case: bool = False
    """For `text`."""


class Hit(NamedTuple):
    """A record that was asked for, or the context of one."""

    source: Source
    offset: int
    """Where it begins in its file, in bytes that are not compressed."""
    key: bytes
    """Its time in UTC: `2026-11-22T10:00:00.`, and as many digits as its line tells."""
    record: bytes
    """As it stands in its file, without the last newline."""
    is_hit: bool = True
    """False: it is the context of one."""

    def fields(self) -> dict[str, Any]:
        """Return it under the keys of a line in JSON, as far as its line tells them."""
        layout = self.source.layout_of(self.record)
        fields = layout.fields(self.record)
        if not layout.is_json:
            if layout.timed and self.source.timed:
                fields[KEY_OF["asctime"]] = self.key.decode().rstrip(".") + "Z"
            fields.setdefault(KEY_OF["message"], self.record.decode("utf-8", "replace"))
        return fields

    @property
    def place(self) -> Place:
        """Where it is in the sequence of all."""
        return Place(self.key, self.source.found.base, self.source.print, self.offset)

    @property
    def cursor(self) -> str:
        """What names it in a Query while its file exists, also under another name or compressed."""
        return self.place.cursor
