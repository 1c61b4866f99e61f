"""What the collector is doing, as plain values, to be shown as JSON or as metrics. Knows no HTTP."""

from __future__ import annotations

import heapq
import os
import socket
import time
from typing import TYPE_CHECKING, Any

import gevent
from gevent.threadpool import ThreadPool

from collector import __version__
from collector.greenlets import keep_running
from collector.zone import zone_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sized

    from collector.files.handler_cache import HandlerCache
    from collector.listen.client import Client
    from collector.listen.server import Server
    from collector.reserve import Reserve
    from collector.stats import Stats

TOP_LOGGERS = 100
_MAX_CLIENTS = 1000
_MAX_FAILING = 100
_VOLUMES_SECONDS = 5.0
# A file that cannot be written is tried again within 5 s.
_MAX_WAIT_SECONDS = 15.0


class Status:
    """Answers questions from what the rooms know at the moment; asking changes nothing."""

    def __init__(  # noqa: PLR0913, PLR0917 - every room
        self,
        server: Server,
        handlers: HandlerCache,
        reserve: Reserve,
        stats: Stats,
        viewers: Sized,
        handing_over: Callable[[], Mapping[str, Any]],
    ) -> None:
        """*handing_over* returns `spool` and `forwards` for totals(), or nothing."""
        self.draining = False
        self._server = server
        self._handlers = handlers
        self._reserve = reserve
        self._stats = stats
        self._viewers = viewers
        self._handing_over = handing_over
        self._begun = time.monotonic()
        self._thread = ThreadPool(1)
        self._volumes: list[dict[str, Any]] = []

    def start(self) -> None:
        """Begin to look at the volumes, in a thread: a disk that hangs does not answer."""
        keep_running("volumes", self._look_at_volumes, self._stats)

    def fault(self) -> str:
        """Return why records are not being written or read; "" if both are."""
        failing = [handler for handler in self._handlers.all() if handler.error]
        if failing:
            more = f" (and {len(failing) - 1} more)" if failing[1:] else ""
            return f"{failing[0].file.path}: cannot be written: {failing[0].error}{more}"
        if self._reserve.not_reading.running:
            return "reading has stopped: the reserve is full"
        # A disk that hangs reports no error, and with when_full = "drop" no client waits for it.
        oldest = min((handler.since for handler in self._handlers.all() if handler.records), default=None)
        waits = 0.0 if oldest is None else time.monotonic() - oldest
        return f"a record has waited for its disk for {waits:.0f} s" if waits > _MAX_WAIT_SECONDS else ""

    def loggers(self) -> list[dict[str, Any]]:
        """Return the loggers with the most records, in descending order."""
        return [{"name": name, "records": count} for name, count in self._stats.loggers(TOP_LOGGERS)]

    @property
    def clients_now(self) -> int:
        """How many clients are connected."""
        return self._stats.clients

    def clients(self) -> list[dict[str, Any]]:
        """Return the clients with the most records, in descending order."""
        now = time.monotonic()

        def records(client: Client) -> int:
            return client.records

        return [
            {
                "peer": client.peer,
                "records": client.records,
                "bytes": client.bytes,
                "connected_seconds": now - client.since,
                "reading": not client.waiting,
            }
            for client in heapq.nlargest(_MAX_CLIENTS, self._server.clients, key=records)
        ]

    def totals(self) -> dict[str, Any]:
        """Return everything else, as of one moment: no greenlet runs in between."""
        stats, reserve = self._stats, self._reserve
        now = time.monotonic()
        fault = self.fault()
        handlers = self._handlers.all()
        # Read once: at midnight thousands of files wait, and each look takes time from writing them.
        waits = [(records, handler) for handler in handlers if (records := handler.records)]
        failing = [(records, handler) for records, handler in waits if handler.error]
        levels = stats.levels()  # brings the fragments up to date too
        return {
            "version": __version__,
            "host": socket.gethostname(),
            "zone": {"name": zone_name(), "offset_seconds": time.localtime().tm_gmtoff},
            "uptime_seconds": now - self._begun,
            "healthy": not fault,
            "reason": fault,
            "draining": self.draining,
            "viewers": len(self._viewers),
            "records": {
                "received": stats.received_records_total,
                "written": stats.written_records_total,
                "quarantined": stats.quarantined_records_total,
                "dropped": dict(stats.dropped_records_total),
                "in_reserve": sum(records for records, _ in waits),
                "unreadable": dict(stats.unreadable_records_total),
                "over_budget": stats.over_budget_records_total,
                "cut": stats.cut_frames_total,
            },
            "bytes": {"received": stats.received_bytes_total, "written": stats.written_bytes_total},
            "clients": {
                "now": stats.clients,
                "total": stats.clients_total,
                "refused": dict(stats.refused_clients_total),
            },
            "levels": levels,
            "reserve": {
                "bytes": reserve.held,
                "limit_bytes": reserve.limit,
                "oldest_seconds": max((now - handler.since for _, handler in waits), default=0.0),
                "not_reading_seconds": reserve.not_reading.seconds,
            },
            "files": {
                "open": sum(handler.file.is_open for handler in handlers),
                "rollovers": stats.rollovers_total,
                "deleted_backups": stats.deleted_backups_total.total(),
                "deleted_backups_by": dict(stats.deleted_backups_total),
                "deleted_bytes": stats.deleted_bytes_total,
                "failing_files": len(failing),
                "failing": [
                    {"path": handler.file.path, "error": handler.error, "records": records}
                    for records, handler in failing[:_MAX_FAILING]
                ],
            },
            "volumes": self._volumes,
            "write_errors": dict(stats.write_errors_total),
            "faults": dict(stats.faults_total),
            "fragments": {"hits": stats.fragment_hits_total, "misses": stats.fragment_misses_total},
            **self._handing_over(),
        }

    def _look_at_volumes(self) -> None:
        while True:
            volumes = []
            for directory in self._handlers.directories():
                try:
                    found = self._thread.apply(os.statvfs, (directory,))
                except OSError:
                    continue  # it is gone, or not yet made
                free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
                volumes.append({"directory": directory, "free_bytes": free, "total_bytes": total})
            self._volumes = volumes
            gevent.sleep(_VOLUMES_SECONDS)
