"""The collector's own log: stderr, one line per event, repeats limited and counted.

What peers can cause they can cause a million times a second; so each kind of event - a kind is its format
string - gets a number of lines in a stretch of time, and the next one after that tells how many were left
out. Text from the wire is escaped and cut before it gets here.
"""

from __future__ import annotations

import logging
import sys
import time

_WINDOW_SECONDS = 60.0
# Clients come and go by the hundred when an application is deployed; nothing else need be seen so often.
_LINES_PER_WINDOW = {logging.INFO: 1000, logging.WARNING: 20, logging.ERROR: 20}


def set_up(level: int) -> None:
    """Send what the collector has to say to stderr, from *level* on. To be called once."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    handler.addFilter(Limit())
    ours = logging.getLogger("collector")
    ours.addHandler(handler)
    ours.setLevel(level)
    ours.propagate = False


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
                record.msg, record.args = (
                    f"{record.getMessage()} ({count - allowed} more like it left out)",
                    None,
                )
            since, count = now, 0
        self._window[kind] = (since, count + 1)
        return count < allowed
