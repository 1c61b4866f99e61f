"""The configuration in force, and how SIGHUP exchanges it for another.

Whatever may fail or block comes first, in a thread, so that nothing is done by halves and nobody waits. Then
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
from collector.config.tables import Spool
from collector.daemon.descriptors import share_descriptors
from collector.daemon.notify import READY
from collector.daemon.routing import renderers
from collector.greenlets import tell
from collector.listen.tls import TlsError, load_tls
from collector.log import counted, reconfigure
from collector.zone import read_zone_again

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.admin.http import AdminPort
    from collector.config.tables import Config
    from collector.daemon.notify import Notifier
    from collector.daemon.routing import Renderers, Router
    from collector.daemon.spooling import Spooling
    from collector.files.handler_cache import HandlerCache
    from collector.files.retention import Retention
    from collector.listen.server import Server
    from collector.listen.tls import ServerTls
    from collector.reserve import Reserve
    from collector.stats import Stats

log = logging.getLogger(__name__)

# Whatever holds the sockets and the lock would have to let go of them.
_NEED_A_RESTART = {
    "listen": ("host", "port", "unix", "backlog"),
    "files": ("directory",),
    "admin": ("host", "port"),
    "spool": ("directory",),
}


_TABLES = {"rules": "[[logger]]", "forwards": "[[forward]]"}


class Reloader:
    """Holds the configuration in force, and puts another in its place, for everything that goes by it."""

    def __init__(  # noqa: PLR0913, PLR0917 - everything that has settings
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
        spooling: Spooling,
        notifier: Notifier,
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
        self._spooling = spooling
        self._notifier = notifier
        self._reading = False
        self._again = False
        stats.faults_total["reload"] += 0  # exists from the start, like those of keep_running()
        _warn(config)

    def reload(self) -> None:
        """Read the configuration again and put it in force; if it has faults, report them and change nothing.

        A signal that comes meanwhile has it read once more, as the file may have changed since.
        """
        self._notifier.reloading()
        self._again = True
        if self._reading:
            return
        self._reading = True
        while self._again:
            self._again = False
            try:
                self._reload()
            except Exception as fault:  # noqa: BLE001 - the next signal may do better
                tell("reload", fault, self._stats, "SIGHUP: the configuration may hold in part; signal again")
        self._reading = False
        self._notifier.tell(READY)

    def _reload(self) -> None:
        prepared = gevent.get_hub().threadpool.apply(self._prepare)
        if isinstance(prepared, list):
            log.error("SIGHUP: the running configuration stays; faults in the new one: %d", len(prepared))
            for fault in prepared:
                # Each fault is a kind of its own, so the limit leaves none out.
                log.error("SIGHUP: %s", fault, extra={"about": fault})
            return
        config, tls, renders = prepared
        wanted, changed, postponed = _applicable(self.config, config)
        if read_zone_again():
            changed.append(f"the time zone ({time.strftime('%Z %z')})")
        if tls:
            changed += tls.changes(self._server.tls)
        reconfigure(wanted.log.level, wanted.log.style)
        max_clients, max_open = share_descriptors(wanted)
        self._reserve.reconfigure(wanted.listen.max_buffered_bytes, waits=wanted.listen.when_full == "wait")
        files = self._handlers.reconfigure(replace(wanted.files, max_open=max_open), wanted.quarantine)
        self._spooling.reconfigure(wanted)
        router = self._router.successor(wanted, renders)
        self._server.reconfigure(wanted.listen, tls, max_clients, router.deliver)
        self._retention.reconfigure(wanted)
        if self._admin_port:
            self._admin_port.reconfigure(wanted)
        _warn(wanted)
        self.config, self._router = wanted, router
        reopened = counted(files, "file")
        log.info("SIGHUP: changed: %s; reopened: %s", ", ".join(changed) or "nothing", reopened)
        if postponed:
            log.warning("SIGHUP: changed, but needs a restart: %s", ", ".join(postponed))

    def _prepare(self) -> tuple[Config, ServerTls | None, Renderers] | list[str]:
        """Do what may fail or take its time, in a thread; return what came of it, or the faults."""
        # Returned and not raised: gevent's thread pool also prints what a task raises, as a traceback.
        try:
            config = self._read_again()
            tls = load_tls(config.listen.tls, SSLContext) if config.listen.tls else None
        except (ConfigError, TlsError) as error:
            return error.faults
        except OSError as error:
            return [str(error)]
        return config, tls, renderers(config)


def _applicable(old_config: Config, config: Config) -> tuple[Config, list[str], list[str]]:
    """Return *config* but for what needs a restart; what else has changed; and what needs the restart."""
    changed: list[str] = []
    postponed: list[str] = []
    for table in (each.name for each in fields(config)):
        old, new = getattr(old_config, table), getattr(config, table)
        if old == new:
            continue
        if table == "admin" and (old is None or new is None):
            postponed.append("[admin]")
            config = replace(config, **{table: old})
            continue
        if isinstance(new, tuple):
            changed.append(_TABLES[table])
            continue
        fixed = _NEED_A_RESTART.get(table, ())
        if is_whole := old is None or new is None:
            changed.append(f"[{table}]")
            # Forwarders have the directory of the start, if need be that of a collector without the table.
            old = old or Spool()
            new = new or Spool(directory=old.directory)
        for key in (each.name for each in fields(new)):
            if getattr(old, key) != getattr(new, key) and (key in fixed or not is_whole):
                (postponed if key in fixed else changed).append(f"[{table}] {key}")
        config = replace(config, **{table: replace(new, **{key: getattr(old, key) for key in fixed})})
    return config, changed, postponed


def _warn(config: Config) -> None:
    for oddity in config.oddities():
        log.warning("%s", oddity, extra={"about": oddity})


def roll_over(handlers: HandlerCache) -> None:
    """Make a backup of every log file that has lines, as SIGUSR1 asks for."""
    log.info("SIGUSR1: rolling over those of %s that have lines", counted(handlers.roll_over(), "file"))
