"""The process that collects: wires the rooms together, runs until it is told to stop, and drains.

Who reads this function by function has seen the way of a record: server, framing, routing (pickles, records,
lines, paths), handlers, writer.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import sys
import time
from typing import TYPE_CHECKING, NoReturn

import gevent
from gevent.event import Event

from collector.handlers import HandlerCache
from collector.reserve import Reserve
from collector.routing import Router
from collector.server import Server, host_port
from collector.stats import Stats

if TYPE_CHECKING:
    import socket

    from collector.config import Config

log = logging.getLogger(__name__)

# The rest of the descriptors: log files kept open, those being opened, the threads' and the event loop's own.
_SPARE_FILES = 64


def run(config: Config, listener: socket.socket) -> NoReturn:
    """Collect until SIGTERM or SIGINT, then drain and exit. Takes over *listener*."""
    _raise_file_limit(config)
    stats = Stats()
    reserve = Reserve(config.listen.max_buffered_bytes)
    handlers = HandlerCache(config.files, reserve, stats)
    router = Router(config, handlers, reserve, stats)
    server = Server(listener, config.listen, router.deliver, reserve, stats)
    stop = Event()

    def on_stop(name: str) -> None:
        if stop.is_set():
            log.error("%s again: stopping at once, %d bytes are not written", name, reserve.held)
            _exit(1)
        log.info("%s: draining", name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, on_stop, number.name)
    for number in (signal.SIGHUP, signal.SIGUSR1):
        gevent.signal_handler(number, log.warning, "%s is ignored: it has no meaning yet", number.name)
    server.start()
    # Whatever the level of the log: this line is how others learn the port, and that they can connect.
    print(f"listening on {host_port(server.address)[1]}", file=sys.stderr, flush=True)  # noqa: T201
    stop.wait()
    _drain(server, handlers, stats, time.monotonic() + config.listen.drain_seconds)


def _drain(server: Server, handlers: HandlerCache, stats: Stats, deadline: float) -> NoReturn:
    cut_short = server.drain(deadline)
    if cut_short:
        log.error("%d clients were not read to the end before drain_seconds were over", cut_short)
    unwritten = handlers.drain(deadline)
    for handler in unwritten:
        stats.dropped_records_total["not written in time"] += handler.records
        log.error(
            "%s: %d records are lost, they could not be written in time", handler.file.path, handler.records
        )
    log.info("stopped: %s", stats.summary())
    _exit(1 if cut_short or unwritten else 0)


def _exit(code: int) -> NoReturn:
    """End the process now: a thread that is stuck in the kernel would be waited for by any other way."""
    logging.shutdown()
    sys.stderr.flush()
    os._exit(code)


def _raise_file_limit(config: Config) -> None:
    """Raise the soft limit on open files to the hard one, and say so where that is too few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY:
        return
    clients = hard - config.files.max_open - _SPARE_FILES
    if clients < config.listen.max_clients:
        log.warning(
            "the limit on open files is %d: only about %d clients can be served at a time, "
            "not max_clients = %d; raise it with `ulimit -Hn` or lower max_clients",
            hard,
            max(0, clients),
            config.listen.max_clients,
        )
