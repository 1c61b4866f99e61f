"""What signals change while the collector runs: SIGHUP its settings, SIGUSR1 its files.

All that may fail or block comes first, in a thread, so that nothing is done by halves and nobody waits: then
the settings are exchanged between two batches. Connections stay, and what has been received is written.
"""

from __future__ import annotations

import logging
import time
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import gevent
from gevent.ssl import SSLContext

from collector.config.load import ConfigError
from collector.daemon.descriptors import share_descriptors
from collector.daemon.routing import renderers
from collector.files.periods import read_zone_again
from collector.greenlets import tell
from collector.listen.tls import TlsError, load
from collector.log import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.admin.http import AdminPort
    from collector.config.tables import Config
    from collector.daemon.routing import Renderers, Router
    from collector.files.handler_cache import HandlerCache
    from collector.files.retention import Retention
    from collector.listen.server import Server
    from collector.listen.tls import ServerTls
    from collector.reserve import Reserve
    from collector.stats import Stats

log = logging.getLogger(__name__)

# Whoever holds the sockets and the lock would have to let them go.
_NEED_A_RESTART = {
    "listen": ("host", "port", "unix", "backlog"),
    "files": ("directory",),
    "admin": ("host", "port"),
}


class Running:
    """The configuration that holds, and what goes by it."""

    def __init__(  # noqa: PLR0913, PLR0917 - all that has settings
        self,
        config: Config,
        read_again: Callable[[], Config],
        router: Router,
        handlers: HandlerCache,
        server: Server,
        retention: Retention,
        admin_port: AdminPort | None,
        reserve: Reserve,
        stats: Stats,
    ) -> None:
        self.config = config
        self._read_again = read_again
        self._router = router
        self._handlers = handlers
        self._server = server
        self._retention = retention
        self._admin_port = admin_port
        self._reserve = reserve
        self._stats = stats
        self._reading = False
        self._again = False
        stats.faults_total["reload"] += 0  # from zero on, as those of what keeps running
        _warn(config)

    def reload(self) -> None:
        """Read the configuration again and go by it; one with faults is reported, and nothing is changed.

        A signal that comes meanwhile has it read once more, for the file may have changed since.
        """
        self._again = True
        if self._reading:
            return
        self._reading = True
        while self._again:
            self._again = False
            try:
                self._reload()
            except Exception as fault:  # noqa: BLE001 - the next signal, or one that came meanwhile, may do better
                tell("reload", fault, self._stats, "SIGHUP: the configuration may hold in part; signal again")
        self._reading = False

    def roll_over(self) -> None:
        """Make a backup of every log file that has lines."""
        files = counted(self._handlers.roll_over(), "file")
        log.info("SIGUSR1: rolling over what has lines of %s", files)

    def _reload(self) -> None:
        prepared = gevent.get_hub().threadpool.apply(self._prepare)
        if isinstance(prepared, list):
            log.error("SIGHUP: the running configuration stays; faults in the new one: %d", len(prepared))
            for fault in prepared:
                # Each is of a kind of its own, for none may be left out.
                log.error("SIGHUP: %s", fault, extra={"of": fault})
            return
        config, tls, renders = prepared
        wanted, changed, left = self._applicable(config)
        if read_zone_again():
            changed.append(f"the time zone ({time.strftime('%Z %z')})")
        if tls:
            changed += tls.changed(self._server.tls)
        logging.getLogger("collector").setLevel(wanted.log.level)
        max_clients, max_open = share_descriptors(wanted)
        self._reserve.set_up(wanted.listen.max_buffered_bytes, waits=wanted.listen.when_full == "wait")
        files = self._handlers.reconfigure(replace(wanted.files, max_open=max_open), wanted.quarantine)
        router = self._router.successor(wanted, renders)
        self._server.set_up(wanted.listen, tls, max_clients, router.deliver)
        self._retention.reconfigure(wanted)
        if self._admin_port and wanted.admin:
            self._admin_port.reconfigure(wanted.admin)
        _warn(wanted)
        self.config, self._router = wanted, router
        reopened = counted(files, "file")
        log.info("SIGHUP: changed: %s; reopened: %s", ", ".join(changed) or "nothing", reopened)
        if left:
            log.warning("SIGHUP: changed, but needs a restart: %s", ", ".join(left))

    def _prepare(self) -> tuple[Config, ServerTls | None, Renderers] | list[str]:
        """In a thread: do what may fail or take its time; return what came of it, or the faults."""
        # Returned, for what a task raises gevent's thread pool also prints as a traceback.
        try:
            config = self._read_again()
            tls = load(config.listen.tls, SSLContext) if config.listen.tls else None
        except (ConfigError, TlsError) as error:
            return error.faults
        except OSError as error:
            return [str(error)]
        return config, tls, renderers(config)

    def _applicable(self, config: Config) -> tuple[Config, list[str], list[str]]:
        """Return *config* without what needs a restart; what has changed; what has, but needs a restart."""
        changed: list[str] = []
        left: list[str] = []
        for table in (each.name for each in fields(config)):
            old, new = getattr(self.config, table), getattr(config, table)
            if old == new:
                continue
            if table == "admin" and (old is None or new is None):
                left.append("[admin]")
                config = replace(config, **{table: old})
                continue
            if isinstance(new, tuple):
                changed.append("[[logger]]")
                continue
            fixed = _NEED_A_RESTART.get(table, ())
            for key in (each.name for each in fields(new)):
                if getattr(old, key) != getattr(new, key):
                    (left if key in fixed else changed).append(f"[{table}] {key}")
            config = replace(config, **{table: replace(new, **{key: getattr(old, key) for key in fixed})})
        return config, changed, left


def _warn(config: Config) -> None:
    for oddity in config.oddities():
        log.warning("%s", oddity, extra={"of": oddity})
