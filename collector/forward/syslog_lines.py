r"""A record becomes a message of syslog as RFC 5424 has it: a header, structured data, and the text.

The header tells what syslog has words for. Structured data has the record's id and its other fields, under
the keys of a line of JSON, and in an element of their own the extras, none of which can be taken for a field.
There, what would break a line is written as Python would, `\n`. The text is the message, with the traceback
below it; of these only a NUL is written so, for whoever sends them counts bytes. What is constant for a
logger, a call site, a thread or a client is rendered once and kept. Nothing raises, whatever the record
holds. Knows no destination.
"""

from __future__ import annotations

import re
import socket
import sys
import time
from bisect import bisect_right
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from collector.config.forward_checks import FACILITIES
from collector.escape import HARMLESS, NEWLINE, unbroken
from collector.format.clock import Clock
from collector.format.json_lines import KEY_OF
from collector.forward.documents import cut
from collector.pickles.brief import brief, key_in_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from collector.wire.records import Fragment, Record

FIELDS, EXTRAS = "collector@32473", "extra@32473"
"""The names of both elements; 32473 is the enterprise number for examples (RFC 5612), as we have none."""
LEFT_OUT = "left_out"
"""The parameter that tells how many others had no room in a record that is cut."""
SHORT_BYTES = 480
"""Of a record that is reduced to text: as many as every receiver must take (RFC 5424, 6.1)."""

_MICROS = 1_000_000
_NIL = "-"
_NUL = r"\x00"
"""rsyslog, if it does not escape, drops all other control characters of a text that has a NUL itself."""
_LEVELS = ((50, 2), (40, 3), (30, 4), (20, 6))
_DEBUG = 7
_NOTICE = 5  # for a level that is no integer, which is below no level
# How long these parts may be, in characters (RFC 5424, 6).
_HOST, _APP_NAME, _PROCESS, _PARAMETER = 255, 48, 128, 32
_NOT_PRINTED = re.compile("[^!-~]")
_NOT_IN_NAMES = re.compile('[^!-~]|[]="]')
_HARMLESS = HARMLESS.replace(b'"', b"\n").replace(b"]", b"\n")
_SPECIAL = re.compile(r'["\\\]]')
_SITE = ("levelname", "pathname", "lineno", "funcName")
_TAIL = ("processName", "thread", "threadName", "taskName")
_FOR_TEXT = 2
"""The text of a record that is cut may have one of so many parts of it, and more that nothing else takes."""
_CONTROL_BYTES = 4
_CONTROLS = bytes((*range(32), 127))
_WEIGHTS = bytes(_CONTROL_BYTES if byte in _CONTROLS else 1 for byte in range(256))
_ESCAPED_BYTES = 5
"""How many a byte of a value becomes at most."""
_ENDING = f'][{EXTRAS} {LEFT_OUT}="100000"] '


class SyslogLines:
    """Renders the records of one destination."""

    def __init__(self, facility: str, app_name: str, max_bytes: int, max_extras: int = sys.maxsize) -> None:
        """Make records of *max_bytes* at most, with *max_extras* at most.

        `{logger}` in *app_name* stands for the name of the logger.

        A control character counts four times: rsyslog writes `#012` for a newline, unless told otherwise,
        and of what is then longer than its own limit it drops the end, and acknowledges all.
        """
        self._facility = FACILITIES.index(facility) << 3
        self._app_name = app_name
        self._max_bytes, self._max_extras = max_bytes, max_extras
        self._clock = Clock("%Y-%m-%dT%H:%M:%S.", time.gmtime)
        self._here = _header(socket.gethostname(), _HOST)
        self._peer, self._host, self._client = "", self._here, ""
        """Those of the last record."""

    def line(self, record: Record, peer: str, id_: str) -> bytes:
        """Return the message for a record that came from *peer*, an `address:port`, or "unix"; "": from us.

        Without a frame around it, and without a newline at its end but those of the text.
        """
        head, site, tail, message, created, _, _, extra = record
        clock = self._clock
        try:
            app_name, logger = head.rendered[clock]
            priority, place, below = site.rendered[clock]
            process, thread = tail.rendered[clock]
        except KeyError:
            app_name, logger = self._render_head(head)
            priority, place, below = self._render_site(site)
            process, thread = self._render_tail(tail)
        if peer != self._peer:
            self._use(peer)
        if not clock.begins <= created < clock.ends:
            clock.move(created)
        micros = (created - clock.begins) * _MICROS + 0.5
        if micros >= _MICROS:
            clock.move(clock.ends)
            micros = 0.0
        digits = "%06d" % micros  # noqa: UP031 - as in a line of JSON
        extras = f"][{EXTRAS}{_rendered(_of_extras(extra))}" if extra else ""
        begin = f'{priority}{clock.text}{digits}Z {self._host} {app_name} {process} - [{FIELDS} id="{id_}"'
        if "\0" in message:
            message = message.replace("\0", _NUL)
        data = f"{begin}{logger}{place}{self._client}{thread}{extras}] {message}{below}".encode(
            "utf-8", "backslashreplace"
        )
        size = len(data)
        if len(extra) <= self._max_extras and (
            size * _CONTROL_BYTES <= self._max_bytes or _weight(data) <= self._max_bytes
        ):
            return data
        return self._cut(record, begin, f"{message}{below}")

    def short(self, record: Record, peer: str, id_: str) -> bytes:
        """Return a message that nobody refuses: the logger and the text, on one line, and the id."""
        head, site, _, message, created, *_ = record
        if peer != self._peer:
            self._use(peer)
        micros = round(created * _MICROS)
        moment = f"{self._clock.at(micros // _MICROS)}{micros % _MICROS:06d}Z"
        priority = self._render_site(site)[0]
        begin = f'{priority}{moment} {self._host[:_PROCESS]} - - - [{FIELDS} id="{id_}"] '
        text = unbroken(f"{site.fields.get('levelname')} {head.fields['name']}: {message[:SHORT_BYTES]}")
        size = min(SHORT_BYTES, self._max_bytes) - len(begin)
        return f"{begin}{cut(text, size)}".encode("utf-8", "backslashreplace")

    def _cut(self, record: Record, begin: str, text: str) -> bytes:
        """Return a record with as much as there is room for; *begin* has the header and the id."""
        head, site, tail, *_, extra = record
        whole = text.encode("utf-8", "backslashreplace")
        room = self._max_bytes - len(begin) - len(_ENDING)
        room_for_fields = room - min(_weight(whole), room // _FOR_TEXT)
        client = {KEY_OF["client"]: self._peer} if self._peer else {}
        fields = {**_of(("name",), head), **_of(_SITE, site), **client, **_of(_TAIL, tail)}
        data, left_out = begin, 0
        for element, values, most in (
            ("", fields, len(fields)),
            (f"][{EXTRAS}", _of_extras(extra), self._max_extras),
        ):
            before, kept = element, 0
            for name, value in values.items():
                one = before + _rendered({name: value})
                if len(one) > room_for_fields:
                    one = before + _rendered({name: cut(value, room_for_fields // _ESCAPED_BYTES)})
                size = len(one.encode("utf-8", "backslashreplace"))
                if size <= room_for_fields and kept < most:
                    room_for_fields -= size
                    data += one
                    before, kept = "", kept + 1
                else:
                    left_out += 1
        told = f' {LEFT_OUT}="{left_out}"' if left_out else ""
        begun = f"{data}{told}] ".encode("utf-8", "backslashreplace")
        room = self._max_bytes - len(begun)
        size = bisect_right(list(accumulate(whole[: room + 1].translate(_WEIGHTS))), room)
        return begun + cut(text, size).encode("utf-8", "backslashreplace")

    # --- what is rendered once ---

    def _render_head(self, head: Fragment) -> tuple[str, str]:
        name = str(head.fields["name"])
        app_name = _header(self._app_name.replace("{logger}", name), _APP_NAME)
        made = head.rendered[self._clock] = app_name, _rendered(_of(("name",), head))
        return made

    def _render_site(self, site: Fragment) -> tuple[str, str, str]:
        """Return the priority and the version, parameters, and what stands below the message."""
        below = [f"\n{site.fields[key]}" for key in ("exc_text", "stack_info") if site.fields.get(key)]
        text = "".join(below).replace("\0", _NUL)
        priority = f"<{self._facility + _severity(site.fields.get('levelno'))}>1 "
        made = site.rendered[self._clock] = priority, _rendered(_of(_SITE, site)), text
        return made

    def _render_tail(self, tail: Fragment) -> tuple[str, str]:
        process = tail.fields.get("process")
        number = _NIL if process is None else _header(brief(process), _PROCESS)
        made = tail.rendered[self._clock] = number, _rendered(_of(_TAIL, tail))
        return made

    def _use(self, peer: str) -> None:
        """Render the client of the next records."""
        self._peer = peer
        host, colon, _ = peer.rpartition(":")
        self._host = _header(host.strip("[]"), _HOST) if colon else self._here
        self._client = _rendered({KEY_OF["client"]: peer}) if peer else ""


def _weight(data: bytes) -> int:
    """Return how many bytes a server may make of *data*."""
    return len(data) + (_CONTROL_BYTES - 1) * (len(data) - len(data.translate(None, _CONTROLS)))


def _severity(level: object) -> int:
    if type(level) is not int:
        return _NOTICE
    return next((severity for lowest, severity in _LEVELS if level >= lowest), _DEBUG)


def _header(text: str, size: int) -> str:
    """Return *text* as the header may have it: ASCII without blanks, "_" for all else."""
    return _NOT_PRINTED.sub("_", text[:size]) or _NIL


def _of(names: Iterable[str], fragment: Fragment) -> dict[str, str]:
    """Return those of the fields *names* that there are, by their keys."""
    present = ((name, fragment.fields.get(name)) for name in names)
    return {KEY_OF[name]: brief(value) for name, value in present if value is not None}


def _of_extras(extra: Mapping[Any, object]) -> dict[str, str]:
    """Return extras by what names of parameters can hold of their keys."""
    values: dict[str, str] = {}
    for key, value in extra.items():
        name = _name((key if type(key) is str else key_in_json(key))[:_PARAMETER])
        text = value if type(value) is str else brief(value)
        # Of a parameter that comes twice, receivers keep one.
        values[name] = f"{values[name]}, {text}" if name in values else text
    return values


@lru_cache(1024)
def _name(key: str) -> str:
    """Return a short *key* as the name of a parameter."""
    return _NOT_IN_NAMES.sub("_", key) or "_"


def _rendered(values: Mapping[str, str]) -> str:
    """Return parameters, a blank before each."""
    return "".join([f' {name}="{_escaped(text)}"' for name, text in values.items()])


def _escaped(text: str) -> str:
    """Return *text* as a value may have it, on one line."""
    if text.isascii() and NEWLINE not in text.encode().translate(_HARMLESS):  # as most are
        return text
    return _SPECIAL.sub(r"\\\g<0>", unbroken(text))
