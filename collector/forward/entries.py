"""A record becomes an entry of the forward protocol: its time, and a map in MessagePack.

The time is an EventTime: extension type 0, seconds and nanoseconds in 32 bits each. The map is flat, with the
keys of a line of JSON: `level`, `logger`, `message`, `exception`, `stack`, `client`, `process`,
`process_name`, `thread`, `thread_name`, `task_name`, `file`, `line`, `function`; and `id`, ours. What a
record does not have is left out. Integers are integers, all else is text; the extras are text too, in a map
`extra` of their own, so that none is taken for a field, or is of another type than its like elsewhere.
`timestamp` stands only in a record of a time that an EventTime cannot hold, behind February 2106: its
EventTime is that of receipt.

There is no key `log`, and the fields are not those of the Elastic Common Schema for it: Fluent Bit and the
OpenTelemetry Collector take what stands there for the message.

Nothing raises, whatever the record holds. Knows no destination.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

from msgpack import Packer

from collector.format.json_lines import EXTRA, KEY_OF
from collector.forward.documents import MAX_KEY_BYTES, cut, rfc3339, short_document
from collector.pickles.brief import brief, key_in_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from collector.wire.records import Fragment, Record

ID = "id"

_MICROS = 1_000_000
_AFTER_LAST = 2**32 * _MICROS
"""The first microsecond that an EventTime does not hold."""
_MAX_INTEGER = 2**63
_SITE = ("levelname", "exc_text", "stack_info", "pathname", "lineno", "funcName")
_TAIL = ("process", "processName", "thread", "threadName", "taskName")
# An array of two: an extension of 8 bytes and type 0, and the map.
_begun = struct.Struct(">3sII").pack
_BEGIN = b"\x92\xd7\x00"


class Entries:
    """Renders the records of one destination; texts longer than *max_text_bytes* are cut, with a mark."""

    def __init__(self, max_text_bytes: int) -> None:
        self._max_text_bytes = max_text_bytes
        # An unpaired surrogate, which no UTF-8 has, becomes text such as `\udc80`.
        self._pack = Packer(unicode_errors="backslashreplace").pack

    def entry(self, record: Record, peer: str, received: int, id_: str) -> bytes:
        """Return the entry of a record from *peer*, "" if it is of our own; *received* in ns since 1970."""
        head, site, tail, message, created, _, _, extra = record
        try:
            of_head, of_site, of_tail = head.rendered[self], site.rendered[self], tail.rendered[self]
        except KeyError:
            of_head = head.rendered[self] = self._fields(("name",), head)
            of_site = site.rendered[self] = self._fields(_SITE, site)
            of_tail = tail.rendered[self] = self._fields(_TAIL, tail)
        if len(message) * 4 > self._max_text_bytes:
            message = cut(message, self._max_text_bytes)
        fields = {ID: id_, **of_head, KEY_OF["message"]: message, **of_site, **of_tail}
        if peer:
            fields[KEY_OF["client"]] = peer
        if extra:
            fields[EXTRA] = self._extras(extra)
        return self._entry(created, received, fields)

    def short(self, record: Record, received: int, id_: str) -> bytes:
        """Return what nobody refuses: the time, the id, and 8 kB of text."""
        text = json.loads(short_document(record, received, ""))["message"]
        return self._entry(record[4], received, {ID: id_, KEY_OF["message"]: text})

    def _entry(self, created: float, received: int, fields: dict[str, Any]) -> bytes:
        micros = round(created * _MICROS)
        if micros >= _AFTER_LAST:
            fields[KEY_OF["asctime"]], micros = rfc3339(micros * 1000), received // 1000
        seconds, micros = divmod(micros, _MICROS)
        packed: bytes = self._pack(fields)
        return _begun(_BEGIN, seconds, micros * 1000) + packed

    def _fields(self, names: Iterable[str], fragment: Fragment) -> dict[str, str | int]:
        """Return those of the fields *names* that there are, by their keys."""
        present = {KEY_OF[name]: fragment.fields.get(name) for name in names}
        return {
            key: value
            if type(value) is int and -_MAX_INTEGER <= value < _MAX_INTEGER
            else cut(brief(value), self._max_text_bytes)
            for key, value in present.items()
            if value is not None
        }

    def _extras(self, extra: Mapping[Any, object]) -> dict[str, str]:
        """Return extras as text. Of a key that comes twice, as 1 beside "1", one value would be kept."""
        texts: dict[str, str] = {}
        for key, value in extra.items():
            name = key if type(key) is str else key_in_json(key)
            if len(name) * 4 > MAX_KEY_BYTES:
                name = cut(name, MAX_KEY_BYTES)
            text = value if type(value) is str else brief(value)
            if name in texts:
                text = f"{texts[name]}, {text}"
            texts[name] = text if len(text) * 4 <= self._max_text_bytes else cut(text, self._max_text_bytes)
        return texts
