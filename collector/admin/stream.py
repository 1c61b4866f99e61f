"""The live stream: records go to viewers as they are received, as far as the viewers keep up.

Without viewers it costs nothing. With any number of them it takes at most a small share of the time, whatever
they filter by: past that, and where a viewer reads too slowly, records are left out, and the viewer is told
how many.
Knows no socket and no HTTP.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import gevent
from gevent.socket import socket as gevent_socket

from collector.admin import regex_process
from collector.admin.query_process import fingerprint, regex_fault
from collector.config.tables import Format
from collector.format.json_lines import in_json
from collector.format.renderer import renderer
from collector.readback.layouts import JSON_START
from collector.wire.records import level_of, message_of, name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from subprocess import Popen

    from collector.wire.records import Record

    History = Iterable[tuple[bytes, Iterable[bytes]]]
    """Pieces of whole events, each with the fingerprints of its records."""

log = logging.getLogger(__name__)

MAX_VIEWERS = 16
_MAX_QUEUE_BYTES = 1024 * 1024
_MAX_QUEUE_RECORDS = 1000
# The share of the time that publishing may take; sending and garbage collection take as much again.
_SHARE = 1 / 50
# How far a burst may exceed the share: some ten thousand records that come at once.
_BURST_SECONDS = 0.05
# How often a viewer gets what has come meanwhile: waking it for each record would cost more than that.
_TICK_SECONDS = 0.1
_KEEP_ALIVE_SECONDS = 15.0
_KEEP_ALIVE = b": keep-alive\n\n"
# A regular expression sees no more of a line than this: nobody reads longer ones.
_MAX_SEARCHED_CHARACTERS = 64 * 1024
_JSON_START = JSON_START.decode()


class Viewer:
    """One who watches: the filters, and the events that wait to be sent."""

    def __init__(  # noqa: PLR0913 - the filters, each of which may be given
        self,
        *,
        logger: str = "",
        level: int = 0,
        text: str = "",
        regex: str = "",
        written: bool = False,
        behind: bool = False,
    ) -> None:
        """Take the filters; an empty one lets everything pass. With *written*, events have the file's text.

        *text* and *regex* are looked for in that, so that they find what they find in history.

        *behind*: history comes first, and then leave_out() is called.

        Raises ValueError if *regex* is no regular expression, OSError if its process cannot be started.
        """
        self.waiting: list[tuple[bytes, str, str]] = []
        """Events, each with its message where *regex* is given, and with its line then and while *behind*."""
        self.bytes = 0
        self.skipped = 0
        self.written = written
        self._behind = behind
        self._logger = logger
        self._below = f"{logger}."
        self._level = level
        self._text, self._text_in_json = text.lower(), in_json(text).lower()
        self._search = _Search(regex) if regex else None

    def wants(self, record: Record, line: str) -> bool:
        """Whether *record*, whose line this is, passes the filters, the regular expression aside."""
        if self._level and (level := level_of(record)) is not None and level < self._level:
            return False
        if self._logger and (name := name_of(record)) != self._logger and not name.startswith(self._below):
            return False
        if not self._text:
            return True
        line = line.lower()
        return self._text in line or (self._text_in_json in line and line.startswith(_JSON_START))

    def offer(self, event: bytes, message: str, line: str) -> None:
        """Queue an event, or count its record as skipped if too many wait."""
        full = len(self.waiting) >= _MAX_QUEUE_RECORDS or self.bytes + len(event) > _MAX_QUEUE_BYTES
        if full and self.waiting:
            self.skipped += 1
        else:
            is_searched = self._search is not None
            line = line if is_searched or self._behind else ""
            self.waiting.append((event, message if is_searched else "", line))
            self.bytes += len(event)

    def leave_out(self, shown: Counter[bytes]) -> None:
        """Leave out of what waits what history has *shown*, by fingerprints: it was in its file by then."""
        self._behind = False
        waiting, self.waiting = self.waiting, []
        for event, message, line in waiting:
            mark = fingerprint(_as_written(line))
            if shown[mark]:
                shown[mark] -= 1
                self.bytes -= len(event)
            else:
                self.waiting.append((event, message, line))

    def take(self) -> bytes:
        """Return what to send now, b"" if there is nothing. Raises EOFError if *regex* took too long."""
        waiting, self.waiting = self.waiting, []
        skipped, self.skipped = self.skipped, 0
        self.bytes = 0
        events = [event for event, *_ in waiting]
        if self._search and waiting:
            texts = [_searched(message, line) for _, message, line in waiting]
            found: list[bool] = self._search.ask(texts)
            events = [event for event, has_match in zip(events, found, strict=True) if has_match]
        if skipped:
            events.append(event("skipped", {"records": skipped}))
        return b"".join(events)

    def close(self) -> None:
        """End the process that searches."""
        if self._search:
            self._search.close()


class LiveStream:
    """The viewers. As a truth value: whether there are any."""

    def __init__(self) -> None:
        self._viewers: list[Viewer] = []
        self._vacancies = MAX_VIEWERS
        self._render: Callable[[Record, str], str] = renderer(Format(style="json"))
        self._spent = 0.0
        self._spent_at = 0.0

    def __len__(self) -> int:
        return len(self._viewers)

    def has_time(self, records: int) -> bool:
        """Return whether this many *records* may be published; if not, count them as skipped."""
        now = time.monotonic()
        self._spent = max(0.0, self._spent - (now - self._spent_at) * _SHARE)
        self._spent_at = now
        if self._spent <= _BURST_SECONDS:
            return True
        for viewer in self._viewers:
            viewer.skipped += records
        return False

    def publish(self, records: Sequence[tuple[Record, str]], peer: str) -> None:
        """Show the viewers the *records* of one client, each with its line. Never waits."""
        begun = time.monotonic()
        for record, line in records:
            event = with_line = b""  # rendered once, not once for each viewer
            for viewer in self._viewers:
                if viewer.wants(record, line):
                    event = event or self._event(record, peer)
                    if viewer.written:
                        with_line = with_line or _with_line(event, line)
                    viewer.offer(with_line if viewer.written else event, message_of(record), line)
        # Bounded: this is wall-clock time, and a batch that others hold up must not blind it for long.
        self._spent = min(self._spent + time.monotonic() - begun, 2 * _BURST_SECONDS)

    def claim(self) -> bool:
        """Take a place for a viewer; return False if there is none left.

        It is claimed before the Viewer is made, which takes a while. watch() gives it back in the end; where
        that is not called, release() must be.
        """
        if not self._vacancies:
            return False
        self._vacancies -= 1
        return True

    def release(self) -> None:
        """Give back a place."""
        self._vacancies += 1

    def watch(
        self, viewer: Viewer, is_gone: Callable[[], bool], history: History | None = None
    ) -> Iterator[bytes]:
        """Yield what to send to *viewer*, in pieces of whole events, until *is_gone*; *history* comes first.

        Closes the viewer in the end, and gives back the place that the caller has claimed.
        """
        self._viewers.append(viewer)
        sent_at = 0.0  # so that a sign of life is sent at once
        try:
            if history:
                yield from self._catch_up(viewer, history)
            while not is_gone():
                if piece := viewer.take():
                    sent_at = time.monotonic()
                    yield piece
                elif time.monotonic() - sent_at >= _KEEP_ALIVE_SECONDS:
                    sent_at = time.monotonic()
                    yield _KEEP_ALIVE
                gevent.sleep(_TICK_SECONDS)
        except EOFError:
            why = (
                f"the regular expression took longer than {regex_process.LIMIT_SECONDS} s, or too much memory"
            )
            yield event("ended", {"reason": why})
        finally:
            self._viewers.remove(viewer)
            self.release()
            viewer.close()

    @staticmethod
    def _catch_up(viewer: Viewer, history: History) -> Iterator[bytes]:
        """Yield the events of *history*, while for *viewer* waits what comes meanwhile."""
        yield _KEEP_ALIVE
        shown: Counter[bytes] = Counter()
        for event, marks in history:
            shown.update(marks)
            yield event
        viewer.leave_out(shown)

    def drain(self) -> None:
        """Let the viewers have what waits for them, as far as they take it at once."""
        if self._viewers:
            gevent.sleep(3 * _TICK_SECONDS)

    def _event(self, record: Record, peer: str) -> bytes:
        line = self._render(record, peer)[: -len("}\n")]
        level = level_of(record)
        rest = "}" if level is None else f',"levelno":{level}}}'
        # A lone surrogate becomes an escape that is valid in JSON, too.
        return f"data: {line}{rest}\n\n".encode("utf-8", "backslashreplace")


def _searched(message: str, line: str) -> list[str]:
    """Return what a regular expression is searched in: a line, and of one of text what its message begins."""
    line = line[:-1]
    begin = 0 if line.startswith(_JSON_START) else line.find(message)
    return [text[:_MAX_SEARCHED_CHARACTERS] for text in (line, line[max(begin, 0) :])[: 1 + (begin > 0)]]


def _with_line(event: bytes, line: str) -> bytes:
    # Encoded first, as for the file: else JSON would read two lone surrogates as one character.
    text = _as_written(line).decode()
    return event.removesuffix(b"}\n\n") + f',"written":{json.dumps(text)}}}\n\n'.encode()


def _as_written(line: str) -> bytes:
    return line[:-1].encode("utf-8", "backslashreplace")


def event(name: str, data: object) -> bytes:
    """Return an event that is no record."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


class _Search:
    """A regular expression, and the process that searches for it."""

    def __init__(self, regex: str) -> None:
        self._process: Popen[bytes]
        self._process, ours = regex_process.start()
        self._socket = gevent_socket(fileno=ours.detach())
        self._answers = self._socket.makefile("rb")
        try:
            fault = self.ask(regex)
        except EOFError:
            fault = "it takes too long or too much memory to compile"
        if fault:
            self.close()
            raise ValueError(regex_fault(regex, fault))

    def ask(self, question: object) -> Any:  # noqa: ANN401 - what it is depends on the question
        """Return what is wrong with the pattern, or for each text whether it matches.

        Raises EOFError if that took too long.
        """
        try:
            self._socket.sendall(regex_process.as_line(question))
            return regex_process.read_line(self._answers)
        except OSError as error:
            raise EOFError from error

    def close(self) -> None:
        self._answers.close()
        self._socket.close()
        self._process.kill()
        gevent.spawn(_reap, self._process)


def _reap(process: Popen[bytes]) -> None:
    while process.poll() is None:
        gevent.sleep(_TICK_SECONDS)
