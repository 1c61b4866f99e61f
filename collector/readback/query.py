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


class Query(NamedTuple):
    """Which records are asked for; what is None, 0 or "" is not asked."""

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
    """A record that was asked for."""

    source: Source
    offset: int
    """Where it begins in its file, in bytes that are not compressed."""
    key: bytes
    """Its time in UTC: `2026-11-22T10:00:00.`, and as many digits as its line tells."""
    record: bytes
    """As it stands in its file, without the last newline."""

    def fields(self) -> dict[str, Any]:
        """Return it under the keys of a line in JSON, as far as its line tells them."""
        layout = self.source.layout_of(self.record)
        fields = layout.fields(self.record)
        if not layout.is_json:
            if layout.timed:
                fields[KEY_OF["asctime"]] = self.key.decode().rstrip(".") + "Z"
            fields.setdefault(KEY_OF["message"], self.record.decode("utf-8", "replace"))
        return fields

    @property
    def cursor(self) -> str:
        """What names it in a Query while its file exists, also under another name or compressed."""
        named = [self.key.decode(), self.source.found.base, self.source.print, self.offset]
        return base64.urlsafe_b64encode(json.dumps(named).encode()).decode().rstrip("=")
