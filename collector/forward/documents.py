"""A record becomes a document: one line of JSON with the fields of the Elastic Common Schema.

They are named as Python's own formatter for ECS names them (`ecs-logging`), but that extras stand under
`labels`, as text, where none of them can come into conflict with a field of the schema or with each other.
What is constant for a logger, a call site, a thread or a client is rendered once and kept. Nothing raises,
whatever the record holds. Knows no destination.
"""

from __future__ import annotations

import re
import time
from functools import lru_cache
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any

from collector.escape import HARMLESS, NEWLINE
from collector.format.clock import Clock
from collector.pickles.brief import brief, key_in_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from collector.wire.records import Record

MAX_LABEL_BYTES = 8000
"""Of a value; Lucene refuses a term of 32,766 bytes, and the key is part of it."""
MAX_KEY_BYTES = 500
SHORT_BYTES = 8000
"""Of the text that a record is reduced to."""

_NANOS = 1_000_000_000
_MICROS = 1_000_000
_LAST_SECOND = 9_223_372_036.0
"""In April 2262: the last one that 64 bits of nanoseconds hold, as `date_nanos` does."""
_MAX_LONG = 2**63
_TRACES = {
    "otelTraceID": '"trace":{"id":',
    "otelSpanID": '"span":{"id":',
    "otelServiceName": '"service":{"name":',
}
"""What OpenTelemetry's instrumentation of logging adds to a record, and the fields for it."""
_NO_TRACE = frozenset({"", "0"})
_HARMLESS_IN_JSON = HARMLESS.replace(b'"', b"\n")
_RAISED = re.compile(r"(?P<type>[^\W\d][\w.<>]*)(?:: (?P<message>.*)|\n.*)?\Z", re.DOTALL)
_UNINDENTED = re.compile(r"\n(?=[^\s+|])")
"""The start of a line that belongs neither to a frame nor to the box of an exception group."""
_LAST_FRAME = '\n  File "'


def document_renderer(
    max_message_bytes: int,
) -> Callable[[Record, str, int, int, str], str]:
    """Return the function that renders a record as an object of JSON on a line of its own.

    It takes the record, its peer, when it was received (ns since 1970), its number, and what is to stand
    before the document; its result can be encoded as UTF-8. A longer message, and a longer traceback, is cut
    to *max_message_bytes*, with a mark.
    """
    clock = Clock('{"@timestamp":"%Y-%m-%dT%H:%M:%S.', time.gmtime)
    last_received, received_then = -1, ""
    last_peer, client = "", ""

    def render(record: Record, peer: str, received: int, number: int, before: str) -> str:
        nonlocal last_received, received_then, last_peer, client
        head, site, tail, message, created, _, _, extra = record
        try:
            logger = head.rendered[clock]
            level, origin, site_labels = site.rendered[clock]
            process, tail_labels = tail.rendered[clock]
        except KeyError:
            head.rendered[clock] = logger = quoted(str(head.fields["name"]))
            site.rendered[clock] = level, origin, site_labels = _of_site(site.fields, max_message_bytes)
            tail.rendered[clock] = process, tail_labels = _of_tail(tail.fields)
        if received != last_received:
            last_received, received_then = received, rfc3339(received)
        if peer != last_peer:
            last_peer, client = peer, _of_peer(peer)
        rest = ""
        if extra or site_labels or tail_labels or created >= _LAST_SECOND:
            labels = {**site_labels, **tail_labels}
            if created >= _LAST_SECOND:
                labels['"created":'], created = str(created), received / _NANOS
            rest = _rest(extra, labels)
        if not clock.begins <= created < clock.ends:
            clock.move(created)
        micros = (created - clock.begins) * _MICROS + 0.5
        if micros >= _MICROS:
            clock.move(clock.ends)
            micros = 0.0
        if len(message) * 4 > max_message_bytes:
            message = cut(message, max_message_bytes)
        digits = "%06d" % micros  # noqa: UP031 - as in a line of JSON
        return (
            f'{before}{clock.text}{digits}Z","message":{quoted(message)}{level}{logger}{origin}'
            f'"created":"{received_then}","sequence":{number}}}{process}{client}{rest}}}\n'
        )

    return render


def short_document(record: Record, received: int, before: str) -> str:
    """Return the record as what nobody refuses, on a line behind *before*: its time, and 8 kB of text."""
    head, site, _, message, created, *_ = record
    moment = received if created >= _LAST_SECOND else round(created * _MICROS) * 1000
    below = [str(site.fields[key]) for key in ("exc_text", "stack_info") if site.fields.get(key)]
    text = "\n".join([f"{site.fields.get('levelname')} {head.fields['name']}: {message}", *below])
    return f'{before}{{"@timestamp":"{rfc3339(moment)}","message":{quoted(cut(text, SHORT_BYTES))}}}\n'


def rfc3339(nanoseconds: int) -> str:
    """Return a time since 1970 in UTC, with microseconds."""
    seconds, rest = divmod(nanoseconds, _NANOS)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest // 1000:06d}Z"


def cut(text: str, size: int) -> str:
    """Return *text* if it has at most *size* bytes in UTF-8, else its beginning, and how many it had."""
    if len(text) * 4 <= size:
        return text
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= size:
        return text
    mark = f"... [cut, {len(data)} bytes]"
    return data[: max(size - len(mark), 0)].decode("utf-8", "ignore") + mark


def quoted(text: str) -> str:
    r"""Return *text* as JSON; an unpaired surrogate, which no UTF-8 has, becomes text such as `\udc80`."""
    if text.isascii():
        if NEWLINE not in text.encode().translate(_HARMLESS_IN_JSON):  # most texts need no escapes
            return f'"{text}"'
    elif text.isprintable():
        if '"' not in text and "\\" not in text:
            return f'"{text}"'
    else:
        text = text.encode("utf-8", "backslashreplace").decode()
    return encode_basestring(text)


def _of_site(fields: Mapping[str, Any], max_bytes: int) -> tuple[str, str, dict[str, str]]:
    """Return what stands before the name of the logger, what behind it, and labels as _rest() has them."""
    labels: dict[str, str] = {}
    level = fields.get("levelname")
    before = f',"log":{{"level":{quoted(level.lower())},"logger":' if level else ',"log":{"logger":'
    path = fields.get("pathname")
    file = _object(
        "file",
        _text("name", fields.get("filename") or path),
        _text("path", path),
        _number("line", fields, "lineno", labels),
    )
    origin = _object("origin", file, _text("function", fields.get("funcName")))
    severity = _number("severity", fields, "levelno", labels)
    behind = f'{_after_comma(origin)}}}{_after_comma(_error(fields, max_bytes))},"event":{{'
    return before, f"{behind}{severity}," if severity else behind, labels


def _of_tail(fields: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """Return the process, and labels."""
    labels: dict[str, str] = {}
    pid, thread_id = _number("pid", fields, "process", labels), _number("id", fields, "thread", labels)
    thread = _object("thread", thread_id, _text("name", fields.get("threadName")))
    process = _object("process", pid, _text("name", fields.get("processName")), thread)
    if fields.get("taskName") is not None:
        labels['"task_name":'] = cut(fields["taskName"], MAX_LABEL_BYTES)
    return _after_comma(process), labels


def _error(fields: Mapping[str, Any], max_bytes: int) -> str:
    """Return what is told of an exception; a stack alone stands there too, as ecs-logging has it."""
    exception, stack = fields.get("exc_text") or "", fields.get("stack_info") or ""
    members = []
    raised = _RAISED.match(exception.rstrip(), _start_of_raised(exception))
    if raised:
        members.append(_text("type", cut(raised["type"], MAX_KEY_BYTES)))
        if raised["message"] is not None:
            members.append(_text("message", cut(raised["message"], max_bytes)))
    if exception or stack:
        whole = "\n".join(filter(None, (exception, stack)))
        members.append(_text("stack_trace", cut(whole, max_bytes)))
    return _object("error", *members)


def _start_of_raised(exception: str) -> int:
    """Return where, behind the frames of the last traceback, the line begins that tells what was raised."""
    frame = exception.rfind(_LAST_FRAME)
    if frame < 0 and not exception.startswith("Traceback "):
        return 0
    line = _UNINDENTED.search(exception, max(frame, 0))
    return line.end() if line else len(exception)


def _of_peer(peer: str) -> str:
    host, colon, port = peer.rpartition(":")
    if not colon or not port.isdecimal():
        return f',"client":{{"address":{quoted(peer)}}}'
    return f',"client":{{"address":{quoted(host.strip("[]"))},"port":{int(port)}}}'


def _rest(extra: Mapping[object, object], labels: dict[str, str]) -> str:
    """Return what few records have: what OpenTelemetry tells of a trace, and *labels* with all else."""
    traces = ""
    for key, value in extra.items():
        kind = type(value)
        if key in _TRACES and kind is str:
            if value not in _NO_TRACE:
                traces += f",{_TRACES[key]}{quoted(cut(value, MAX_KEY_BYTES))}}}"  # type: ignore[arg-type] # a text
            continue
        usual = type(key) is str and len(key) <= MAX_KEY_BYTES
        name = _remembered_name(key) if usual else _label_name(key)
        text: str = value if kind is str else brief(value)  # type: ignore[assignment] # it is one
        if name in labels:  # a.b beside a_b: no engine takes a key twice
            text = f"{labels[name]}, {text}"
        labels[name] = text if len(text) * 4 <= MAX_LABEL_BYTES else cut(text, MAX_LABEL_BYTES)
    if not labels:
        return traces
    members = ",".join([f"{name}{quoted(text)}" for name, text in labels.items()])
    return f'{traces},"labels":{{{members}}}'


def _label_name(key: object) -> str:
    """Return the name of a label as it stands before its value."""
    text = key if type(key) is str else key_in_json(key)
    return f"{quoted(cut(text.replace('.', '_') or '_', MAX_KEY_BYTES))}:"


@lru_cache(maxsize=4096)
def _remembered_name(key: str) -> str:
    return _label_name(key)


def _text(key: str, value: str | None) -> str:
    """Return a member of an object; "" if there is nothing to tell."""
    return "" if value is None else f'"{key}":{quoted(value)}'


def _number(key: str, fields: Mapping[str, Any], name: str, labels: dict[str, str]) -> str:
    """Return the field *name* as a member of an object; one that no `long` holds becomes a label."""
    value = fields.get(name)
    if type(value) is int and -_MAX_LONG <= value < _MAX_LONG:
        return f'"{key}":{value}'
    if value is not None:
        labels[f'"{name}":'] = cut(brief(value), MAX_LABEL_BYTES)
    return ""


def _object(key: str, *members: str) -> str:
    """Return an object as a member of another; "" if it has none itself."""
    present = ",".join(filter(None, members))
    return f'"{key}":{{{present}}}' if present else ""


def _after_comma(member: str) -> str:
    return f",{member}" if member else ""
