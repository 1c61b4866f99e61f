"""The collector's own log: stderr, one line per event, as text or JSON, repeats limited and counted.

A peer can cause an event a million times a second. So each kind of event gets a number of lines in a stretch
of time, and the next one after that tells how many were left out. A kind is a format string and, from
`extra={"about": ...}`, what the event is about: a reason, one of a bounded number. With
`extra={"cause": ...}`, a client's address for example, each cause gets lines of its own, within a bound for
all of them. Text from the wire comes escaped and cut.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from collector.escape import escape, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

_Kind = tuple[int, str, str]
"""Level, format string, and what it is about."""
_WINDOW_SECONDS = 60.0
# Clients come and go by the hundred when an application is deployed; nothing else need be seen so often.
_LINES_PER_WINDOW = {logging.INFO: 1000, logging.WARNING: 20, logging.ERROR: 20}
# Of one kind, over all that cause it: this many get a first line, and share as many further ones. This bounds
# memory too, whatever addresses come, and a busy address takes no first line from another.
_LINES_FOR_ALL = {logging.INFO: 2000, logging.WARNING: 200, logging.ERROR: 200}
_OTHERS = "others"
_MAX_WAITING = 1000
_FLUSH_SECONDS = 1.0
_MAX_TRACEBACK_CHARACTERS = 10_000


def set_up(level: int, style: str = "text") -> None:
    """Send what the collector has to say, from *level* on, to stderr. To be called once.

    *style* is "text" or "json". What nobody catches is said there too.
    """
    _stderr.addFilter(_limit)
    ours = logging.getLogger("collector")
    ours.addHandler(_stderr)
    ours.propagate = False
    reconfigure(level, style)
    _stderr.begin()  # now, as there may be none left when there is something to say
    sys.excepthook = _tell_uncaught
    threading.excepthook = lambda args: _tell_uncaught(*args[:3])


def reconfigure(level: int, style: str) -> None:
    """Go by these settings from now on."""
    _stderr.form = _Json() if style == "json" else _Text()
    _stderr.setFormatter(_stderr.form)
    logging.getLogger("collector").setLevel(level)


def counted(number: int, noun: str, singular: str = "", plural: str = "", form: str = "") -> str:
    """Return a number, in its *form*, with its noun and the verb that goes with one or with several."""
    verb = singular if number == 1 else plural
    return f"{number:{form}} {noun}{'' if number == 1 else 's'}{verb and ' '}{verb}"


def say(text: str) -> None:
    """Write a line that is no event, whatever the level."""
    _stderr.put(_stderr.form.plain(logging.INFO, text))


def answer(text: str) -> str:
    """Return what keeps a command from its work, of several lines perhaps, in the form of the log."""
    return "\n".join(_stderr.form.plain(logging.ERROR, line) for line in text.split("\n"))


def _tell_uncaught(
    _kind: type[BaseException], fault: BaseException | None, _trace: TracebackType | None
) -> None:
    thread = threading.current_thread()
    ends = "this process" if thread is threading.main_thread() else f"the thread {thread.name}"
    logging.getLogger("collector").error("a fault in the collector; it ends %s", ends, exc_info=fault)


def say_last(text: str) -> None:
    """Say what the limit has left out and not told of since, then *text*, at INFO: the last line."""
    ours = logging.getLogger("collector")
    with _stderr.lock:  # type: ignore[union-attr] # every handler has one; a thread may have something to say
        for level, example, (count, whose) in _limit.left_out():
            _stderr.put(_line(level, f"{count} more left out like: {example}{whose}"))
        if ours.isEnabledFor(logging.INFO):
            _stderr.put(_line(logging.INFO, text))
        _stderr.ended = True


def _line(level: int, text: str) -> str:
    return _stderr.format(_event(level, text))


def _event(level: int, text: str) -> logging.LogRecord:
    return logging.LogRecord("collector", level, "", 0, text, None, None)


def error_each(
    logger: logging.Logger, several: Iterable[tuple[str, str, tuple[object, ...]]], cause: str
) -> None:
    """Log *several* events that one client has caused, however many: text, what it is about, arguments.

    Those that the limit is sure to leave out are only counted: an event takes ten times as long as a frame.
    """
    allowed = _LINES_PER_WINDOW[logging.ERROR]
    counts: dict[tuple[str, str], int] = {}
    for text, about, arguments in several:
        count = counts[text, about] = counts.get((text, about), 0) + 1
        if count <= allowed:
            logger.error(text, *arguments, extra={"about": about, "cause": cause})
    for (text, about), count in counts.items():
        if count > allowed:
            _limit.leave_out((logging.ERROR, text, about), cause, count - allowed)


class _Text(logging.Formatter):
    """Lays an event out as text; a traceback's last lines may be text from the wire."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S")

    def formatException(self, ei: Any) -> str:  # noqa: ANN401, N802 - logging's name and type
        """Return a traceback, escaped and cut; its lines are indented, so that none looks like an event."""
        return "\n".join(f"  {escape(line)}" for line in self.traceback(ei).split("\n"))

    def traceback(self, ei: Any) -> str:  # noqa: ANN401 - logging's type
        """Return a traceback, cut."""
        text = super().formatException(ei)
        return text if len(text) <= _MAX_TRACEBACK_CHARACTERS else f"{text[:_MAX_TRACEBACK_CHARACTERS]}..."

    def plain(self, level: int, text: str) -> str:  # noqa: ARG002 - which JSON has
        """Return the line for a text that is no event."""
        return text

    def with_left_out(self, line: str, number: int) -> str:
        """Return a line that tells how many before it nobody gets to see."""
        return f"{line} ({counted(number, 'line')} before it left out: nobody read stderr)"


class _Json(_Text):
    """Makes an object of an event, on one line, with the keys that the JSON lines of records have."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields = {
            "timestamp": f"{seconds}.{int(record.created % 1 * 1e6):06d}Z",
            "level": record.levelname,
            "logger": record.name,
            "process": os.getpid(),
            "message": record.getMessage(),  # late: a pattern for the port finds no other number
            **({"exception": self.traceback(record.exc_info)} if record.exc_info else {}),
        }
        return one_line(json.dumps(fields, ensure_ascii=False, separators=(",", ":")))

    def plain(self, level: int, text: str) -> str:
        """Return the line for a text that is no event, as one of *level*."""
        return self.format(_event(level, text))

    def with_left_out(self, line: str, number: int) -> str:
        """Return a line that tells how many before it nobody gets to see."""
        return f'{line[:-1]},"lines_left_out":{number}}}'


class _ThreadedHandler(logging.Handler):
    """Hands lines to a thread that writes them; while too many wait, further ones are only counted.

    Whoever reads stderr may stop reading: then that thread waits, and nobody else.
    """

    def __init__(self) -> None:
        super().__init__()
        self._waiting: queue.Queue[str] = queue.Queue(_MAX_WAITING)
        self._left_out = 0
        self._thread: threading.Thread | None = None
        self.form = _Text()
        """How lines are laid out."""
        self.ended = False
        """Whether the last line was taken: what comes later is left out."""

    def begin(self) -> None:
        """Have the thread at work. Where none can be had lines wait, and the next one tries again."""
        if self._thread is None:
            thread = threading.Thread(target=self._write, daemon=True, name="stderr")
            # It inherits that all signals are blocked; else it would take those that others block later.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            try:
                thread.start()
                self._thread = thread
            except RuntimeError:
                pass
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def emit(self, record: logging.LogRecord) -> None:
        """Take an event. Never waits."""
        self.put(self.format(record))

    def put(self, line: str) -> None:
        """Take a line. Never waits."""
        if self.ended:
            return
        self.begin()
        if self._left_out:
            line = self.form.with_left_out(line, self._left_out)
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


class _Window:
    """What became of one kind of event since a moment, by what has caused it; "" if that is not told."""

    def __init__(self, since: float, example: str) -> None:
        self.since = since
        self.example = example
        """The text of its first event."""
        self._written: dict[str, int] = {}
        self._further = 0
        """How many of those written were not first lines."""
        self._left_out: dict[str, int] = {}

    def take(self, level: int, cause: str) -> bool:
        """Count one more event; tell whether it is to be written."""
        for_all = _LINES_FOR_ALL.get(level, sys.maxsize)
        written = self._written.get(cause, 0)
        if written:
            passes = written < _LINES_PER_WINDOW.get(level, sys.maxsize) and self._further < for_all
            self._further += passes
        else:
            passes = len(self._written) < for_all
        if passes:
            self._written[cause] = written + 1
        else:
            self.leave_out(cause, 1)
        return passes

    def leave_out(self, cause: str, number: int) -> None:
        cause = cause if cause in self._written else _OTHERS
        self._left_out[cause] = self._left_out.get(cause, 0) + number

    def left_out(self) -> tuple[int, str]:
        """Return how many were left out, and a few words on what has caused most of them."""
        if not self._left_out:
            return 0, ""
        most, cause = max((number, cause) for cause, number in self._left_out.items())
        return sum(self._left_out.values()), f", {most} of them by {cause}" if cause else ""


class Limit(logging.Filter):
    """Lets a number of each kind of event pass in a window, and says what became of the others."""

    def __init__(self) -> None:
        super().__init__()
        self._windows: dict[_Kind, _Window] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether *record* is to be written; may add to its text how many before it were not."""
        now = time.monotonic()
        kind = (record.levelno, record.msg, getattr(record, "about", ""))
        window = self._windows.get(kind)
        if window is None or now - window.since >= _WINDOW_SECONDS:
            example = record.getMessage()
            count, whose = window.left_out() if window else (0, "")
            if count:
                text = f"{example} ({count} more like it left out{whose})"
                record.msg, record.args = text, None
            window = self._windows[kind] = _Window(now, example)
        return window.take(record.levelno, getattr(record, "cause", ""))

    def leave_out(self, kind: _Kind, cause: str, number: int) -> None:
        """Count *number* more events of a *kind*, for a *cause* that has had all its lines."""
        if kind in self._windows:  # else events of this level are not logged
            self._windows[kind].leave_out(cause, number)

    def left_out(self) -> list[tuple[int, str, tuple[int, str]]]:
        """Return what was left out and not yet told of: its level, an example, how many, and whose."""
        windows = list(self._windows.items())
        left_out = [(level, window.example, window.left_out()) for (level, _, _), window in windows]
        return [(level, example, left) for level, example, left in left_out if left[0]]


_stderr = _ThreadedHandler()
_limit = Limit()
