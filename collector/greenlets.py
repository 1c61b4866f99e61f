"""Greenlets that live as long as the collector: one that ends with an exception is started again.

What any other greenlet raises, or a callback of gevent's, is logged too, and counted in the same place: see
tell_uncaught().
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from traceback import walk_tb
from typing import TYPE_CHECKING

import gevent
from gevent.threadpool import ThreadPool

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from collector.stats import Stats

log = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS = 1.0
_LAST_PAUSE_SECONDS = 60.0
# What has run for this long did work: its next fault is another one.
_SETTLED_SECONDS = 60.0
_PACKAGE = __name__.partition(".")[0] + "."


def keep_running(where: str, run: Callable[[], object], stats: Stats) -> gevent.Greenlet:
    """Call *run* in a greenlet of its own, and again after a pause whenever it raises, until it returns.

    Each fault is logged with its traceback, and counted under *where*. Killing the greenlet ends it.
    """
    stats.faults_total[where] += 0  # so that whoever watches sees the first one as an increase
    return gevent.spawn(_keep_running, where, run, stats)


def _keep_running(where: str, run: Callable[[], object], stats: Stats) -> None:
    pause = 0.0
    while True:
        begun = time.monotonic()
        try:
            run()
        except (Exception, gevent.Timeout) as fault:  # noqa: BLE001 - whatever it is, it must not be the end
            settled = time.monotonic() - begun >= _SETTLED_SECONDS
            pause = _FIRST_PAUSE_SECONDS if settled or not pause else min(2 * pause, _LAST_PAUSE_SECONDS)
            tell(where, fault, stats, f"started again in {pause:g} s")
        else:
            return
        gevent.sleep(pause)


def tell(where: str, fault: BaseException, stats: Stats, what: str = "it goes on") -> None:
    """Log *fault*, which nobody expected, with its traceback and *what* follows from it; count it."""
    stats.faults_total[where] += 1
    # There may be no memory for a traceback, or no thread for the log: that must not be the next fault.
    with suppress(Exception):
        log.error("%s: a fault in the collector; %s", where, what, exc_info=fault, extra={"about": where})


def tell_uncaught(stats: Stats) -> None:
    """Log and count, from now on, whatever this thread's greenlets raise and nobody catches.

    gevent would print it to stderr, past the log, and let what a handler of a signal raises end the process.
    A fault is counted under the module of ours that raised it, or that called what raised it.
    """
    hub = gevent.get_hub()

    def handle_error(
        context: object, kind: type[BaseException], fault: object, trace: TracebackType | None
    ) -> None:
        # What a task in a thread raises is raised by apply() too, where it was called.
        in_thread = isinstance(context, tuple) and type(context[0]).__module__ == ThreadPool.__module__
        if in_thread or issubclass(kind, hub.NOT_ERROR):
            return
        if not isinstance(fault, BaseException):  # code in C may give the text alone
            fault = kind(fault)
        tell(_module(trace), fault.with_traceback(trace), stats)
        if issubclass(kind, hub.SYSTEM_ERROR):  # the event loop itself does not work
            hub.handle_system_error(kind, fault, trace)

    hub.handle_error = handle_error


def _module(trace: TracebackType | None) -> str:
    names = (frame.f_globals.get("__name__", "") for frame, _ in walk_tb(trace))
    ours = [name.removeprefix(_PACKAGE) for name in names if name.startswith(_PACKAGE)]
    return ours[-1].rpartition(".")[2] if ours else "gevent"
