"""The collector's own log: stderr, one line per event, repeats limited and counted.

What peers can cause they can cause a million times a second; so each kind of event gets a number of lines in
a stretch of time, and the next one after that tells how many were left out. A kind is a format string and,
where an event has `extra={"of": ...}`, what it is of. Text from the wire comes escaped and cut.
"""

from __future__ import annotations

import logging
import queue
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_Kind = tuple[int, str, str]
"""Level, format string, and what it is of."""
_WINDOW_SECONDS = 60.0
# Clients come and go by the hundred when an application is deployed; nothing else need be seen so often.
_LINES_PER_WINDOW = {logging.INFO: 1000, logging.WARNING: 20, logging.ERROR: 20}
_MAX_WAITING = 1000
_FLUSH_SECONDS = 1.0


def set_up(level: int) -> None:
    """Send what the collector has to say to stderr, from *level* on. To be called once."""
    _stderr.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    _stderr.addFilter(_limit)
    ours = logging.getLogger("collector")
    ours.addHandler(_stderr)
    ours.setLevel(level)
    ours.propagate = False


def say(text: str) -> None:
    """Write a line that is no event, whatever the level."""
    _stderr.put(text)


def say_last(text: str) -> None:
    """Say what the limit has left out and nothing has told since, then *text*, at INFO: the last line."""
    ours = logging.getLogger("collector")
    with _stderr.lock:  # type: ignore[union-attr] # every handler has one; a thread may have something to say
        for (level, kind, _), count in _limit.left_out():
            _stderr.put(_line(level, f"{count} more left out like: {kind}"))
        if ours.isEnabledFor(logging.INFO):
            _stderr.put(_line(logging.INFO, text))
        _stderr.ended = True


def _line(level: int, text: str) -> str:
    return _stderr.format(logging.LogRecord("collector", level, "", 0, text, None, None))


def error_each(logger: logging.Logger, text: str, several: Sequence[tuple[object, ...]]) -> None:
    """Log an event of one kind for each of *several* arguments, however many.

    Those that the limit is sure to leave out are only counted: an event takes ten times longer than a frame.
    """
    allowed = _LINES_PER_WINDOW[logging.ERROR]
    for arguments in several[:allowed]:
        logger.error(text, *arguments)
    if len(several) > allowed:
        _limit.leave_out((logging.ERROR, text, ""), len(several) - allowed)


class _ThreadedHandler(logging.Handler):
    """Hands lines to a thread that writes them; past a number of waiting ones they are counted instead.

    Whoever reads stderr may stop reading: then a thread waits for that, and nobody else.
    """

    def __init__(self) -> None:
        super().__init__()
        self._waiting: queue.Queue[str] = queue.Queue(_MAX_WAITING)
        self._left_out = 0
        self._thread: threading.Thread | None = None
        self.ended = False
        """Whether the last line was taken: what comes later is left out."""

    def emit(self, record: logging.LogRecord) -> None:
        """Take an event. Never waits."""
        self.put(self.format(record))

    def put(self, line: str) -> None:
        """Take a line. Never waits."""
        if self.ended:
            return
        if self._thread is None:
            thread = threading.Thread(target=self._write, daemon=True, name="stderr")
            thread.start()
            self._thread = thread  # where there was none to be had the next line tries again
        if self._left_out:
            line += f" ({self._left_out} lines before it left out: nobody read them)"
        try:
            self._waiting.put_nowait(line + "\n")
            self._left_out = 0
        except queue.Full:
            self._left_out += 1

    def flush(self) -> None:
        """Wait until what was taken is written, but not for long."""
        deadline = time.monotonic() + _FLUSH_SECONDS
        while self._waiting.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.001)

    def _write(self) -> None:
        while True:
            line = self._waiting.get()
            try:
                sys.stderr.write(line)
                sys.stderr.flush()
            except Exception:  # noqa: BLE001, S110 - stderr is closed, say: there is nowhere to say so
                pass
            self._waiting.task_done()


class Limit(logging.Filter):
    """Let a number of each kind of event pass in a window, and say what became of the others."""

    def __init__(self) -> None:
        super().__init__()
        self._window: dict[_Kind, tuple[float, int]] = {}
        self._limited: dict[_Kind, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether *record* is to be written; may add to its text how many before it were not."""
        now = time.monotonic()
        kind = (record.levelno, record.msg, getattr(record, "of", ""))
        since, count = self._window.get(kind, (now, 0))
        allowed = _LINES_PER_WINDOW.get(record.levelno, sys.maxsize)
        if now - since >= _WINDOW_SECONDS:
            if count > allowed:
                left_out = count - allowed
                record.msg, record.args = f"{record.getMessage()} ({left_out} more like it left out)", None
            since, count = now, 0
            self._limited.pop(kind, None)
        self._window[kind] = (since, count + 1)
        if count >= allowed:
            self._limited[kind] = count + 1 - allowed
        return count < allowed

    def leave_out(self, kind: _Kind, number: int) -> None:
        """Count so many more events of a *kind* that has had all its lines."""
        if kind in self._window:  # else events of this level are not logged
            since, count = self._window[kind]
            self._window[kind] = (since, count + number)
            self._limited[kind] = self._limited.get(kind, 0) + number

    def left_out(self) -> list[tuple[_Kind, int]]:
        """Return the kinds of which some were not written and not yet told of, and how many."""
        return list(self._limited.items())


_stderr = _ThreadedHandler()
_limit = Limit()
