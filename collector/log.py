"""The collector's own log: stderr, one line per event, repeats limited and counted.

What peers can cause they can cause a million times a second; so each kind of event - a kind is its format
string - gets a number of lines in a stretch of time, and the next one after that tells how many were left
out. Text from the wire is escaped and cut before it gets here.
"""

from __future__ import annotations

import logging
import queue
import sys
import threading
import time

_WINDOW_SECONDS = 60.0
# Clients come and go by the hundred when an application is deployed; nothing else need be seen so often.
_LINES_PER_WINDOW = {logging.INFO: 1000, logging.WARNING: 20, logging.ERROR: 20}
_MAX_WAITING = 1000
_FLUSH_SECONDS = 1.0


def set_up(level: int, *, threaded: bool) -> None:
    """Send what the collector has to say to stderr, from *level* on. To be called once.

    *threaded*: whoever reads stderr may stop reading; then a thread waits for that and nobody else.
    """
    handler = _ThreadedHandler() if threaded else logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    handler.addFilter(Limit())
    ours = logging.getLogger("collector")
    ours.addHandler(handler)
    ours.setLevel(level)
    ours.propagate = False


class _ThreadedHandler(logging.Handler):
    """Hands lines to a thread that writes them; past a number of waiting ones they are counted instead."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: queue.Queue[str] = queue.Queue(_MAX_WAITING)
        self._left_out = 0
        threading.Thread(target=self._write, daemon=True, name="stderr").start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line. Never waits."""
        line = self.format(record)
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
            except (OSError, ValueError):
                pass  # stderr is closed: there is nowhere to say so
            self._waiting.task_done()


class Limit(logging.Filter):
    """Let a number of each kind of event pass in a window, and say what became of the others."""

    def __init__(self) -> None:
        super().__init__()
        self._window: dict[object, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether *record* is to be written; may add to its text how many before it were not."""
        now = time.monotonic()
        kind = record.msg
        since, count = self._window.get(kind, (now, 0))
        allowed = _LINES_PER_WINDOW.get(record.levelno, sys.maxsize)
        if now - since >= _WINDOW_SECONDS:
            if count > allowed:
                left_out = count - allowed
                record.msg, record.args = f"{record.getMessage()} ({left_out} more like it left out)", None
            since, count = now, 0
        self._window[kind] = (since, count + 1)
        return count < allowed
