"""A batch of payloads becomes lines for files: which rule holds for a record, which file is its own.

The batch is decoded, rendered and left with the handlers of its files here, in one pass. A payload that
cannot be read costs itself, and nobody else anything. Knows no socket.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, NamedTuple

from collector.format.lines import escape, renderer
from collector.greenlets import tell
from collector.log import counted, error_each
from collector.names import OVERFLOW, file_name
from collector.wire.fragments import RecordReader
from collector.wire.framing import HEADER_BYTES
from collector.wire.records import level_of, name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from collector.admin.stream import Stream
    from collector.config.load import Config, Rollover
    from collector.files.handler_cache import HandlerCache
    from collector.files.writer import Writer
    from collector.pickles.reader import RecordError
    from collector.stats import Stats
    from collector.wire.records import Fragment, Record

log = logging.getLogger(__name__)

_QUARANTINED = "client %s: frame of %s quarantined: %s"
_DROPPED = "client %s: frame of %s dropped: %s"

# Past so many routes all are forgotten, and found anew; longer names are not remembered.
_MAX_ROUTES = 32_768
_MAX_NAME_CHARACTERS = 1000


class Route(NamedTuple):
    """How the records of a logger become lines, and where these go."""

    render: Callable[[Record, str], str]
    level: int
    lines: list[str]
    """The lines of the file that wait."""
    path: str
    rollover: Rollover
    writer: Writer


class Router:
    """Knows the rules and the files that names from the wire have made."""

    def __init__(
        self,
        config: Config,
        handlers: HandlerCache,
        stats: Stats,
        stream: Stream | None = None,
    ) -> None:
        self._config = config
        self._stream = stream
        self._handlers = handlers
        self._stats = stats
        self._directory = handlers.directory
        self._renderers = {
            form: renderer(form) for form in {config.format, *(rule.format for rule in config.rules)}
        }
        self._rollovers: dict[str, Rollover] = {}
        """Of the files that rules name."""
        self._respelled = -1
        self._reader = RecordReader(config.listen.python2_encoding, stats.count_fragment)
        self.count_up = self._reader.count_up
        """Has the statistics count what was read since the last time."""
        self.names: set[str] = set()
        """The files that names from the wire have made."""
        self._routes: dict[str, dict[Fragment | str, Route]] = {}
        """By host where files are named by it, and there by the head of a record and its logger's name."""
        self._by_host = "{client}" in config.files.name
        self._remembered = 0

    def successor(self, config: Config) -> Router:
        """Return one that goes by *config* and has nothing to find yet."""
        return Router(config, self._handlers, self._stats, self._stream)

    def deliver(self, payloads: list[bytes], host: str, peer: str) -> None:
        """Write the records in *payloads*, which the client *peer* (`address:port`) at *host* has sent.

        Returns when their lines are with their handlers. Waits only while a volume has used up its part of
        the reserve, and then only who has lines for that volume.
        """
        unreadable: list[tuple[bytes, RecordError]] = []
        if self._respelled != self._handlers.respelled:
            self._respell()
        self._stats.received_records_total += len(payloads)
        try:
            self._render(payloads, host, peer, unreadable)
        finally:  # whatever fault of ours there is in a record: what was read before it is kept
            if unreadable:
                self._quarantine(unreadable, host, peer)
            writers = self._handlers.submit()
        for writer in writers:
            writer.room.wait()

    def _render(  # noqa: C901 - a call per record would cost more than most of what is done here
        self, payloads: list[bytes], host: str, peer: str, unreadable: list[tuple[bytes, RecordError]]
    ) -> None:
        """Leave a line of each record with the handler of its file; add to *unreadable* what has none."""
        # For viewers only: garbage that lives on until the end of the batch costs a twentieth more.
        watched = self._stream and self._stream.has_time(len(payloads))
        records: list[Record] | None = [] if watched else None
        place = host if self._by_host else ""
        routes = self._routes.get(place, {})
        full = self._handlers.full()
        dropped: dict[str, int] = {}
        below = 0
        in_part: list[tuple[int, str]] = []
        for record in self._reader.read(payloads, unreadable, in_part):
            try:
                render, level, lines, path, rollover, writer = routes[record[0]]
            except KeyError:
                render, level, lines, path, rollover, writer = self._find(routes, record, place)
            if level and (own := level_of(record)) is not None and own < level:
                below += 1
                continue
            if full and (writer in full or path in full):
                dropped[path] = dropped.get(path, 0) + 1
                continue
            try:
                line = render(record, peer)
            except Exception as fault:  # noqa: BLE001 - of ours: it costs this record, and those behind it nothing
                self._stats.dropped_records_total["unreadable"] += 1
                tell("render", fault, self._stats, f"a record of {peer} is dropped")
                continue
            # As Handler.leave() does it, which would be found and called for each record.
            if not lines:
                self._handlers.get(path, rollover).begin()
            lines.append(line)
            writer.left += line.__sizeof__()
            if records is not None:
                records.append(record)
        self._stats.over_budget_records_total += len(in_part)
        for size, budget in in_part:
            cause = {"of": budget, "by": host}
            log.warning(
                "client %s: record of %s is written in part: %s",
                peer,
                counted(size, "byte"),
                budget,
                extra=cause,
            )
        if below:
            self._stats.dropped_records_total["level"] += below
        for path, count in dropped.items():
            self._count_dropped(path, count, full)
        if self._stream and records:
            self._stream.publish(records, peer)

    def _quarantine(self, unreadable: list[tuple[bytes, RecordError]], host: str, peer: str) -> None:
        """Keep what could not be read, as it was received; drop what the quarantine cannot hold."""
        handler = self._handlers.quarantine
        half = self._handlers.quarantine_file.half
        path, full_now = handler.file.path, self._handlers.full()
        full = handler.writer in full_now or path in full_now
        told: list[tuple[str, str, tuple[object, ...]]] = []
        too_large = 0
        for payload, fault in unreadable:
            self._stats.unreadable_records_total[fault.reason] += 1
            fits = len(payload) + HEADER_BYTES <= half
            kept = fits and not full
            if kept:
                handler.leave(len(payload).to_bytes(HEADER_BYTES, "big") + payload)
            too_large += not fits
            what = (peer, counted(len(payload), "byte"), fault)
            told.append((_QUARANTINED if kept else _DROPPED, fault.reason, what))
        self._stats.dropped_records_total["unreadable"] += too_large
        if full and too_large < len(unreadable):
            self._count_dropped(path, len(unreadable) - too_large, full_now)
        error_each(log, told, host)

    def _count_dropped(self, path: str, records: int, full: Collection[Writer | str]) -> None:
        if path in full:
            self._handlers.drop(path, records)
            return
        self._stats.dropped_records_total["reserve full"] += records
        what = counted(records, "record")
        log.error("%s: %s dropped: the reserve is full", path, what, extra={"by": path})

    def _find(self, routes: dict[Fragment | str, Route], record: Record, host: str) -> Route:
        """Return the route of a record, from now on found by its head too."""
        head, name = record[0], name_of(record)
        route = routes.get(name)
        if route is None:
            route = self._make(name, host)
            if len(name) > _MAX_NAME_CHARACTERS:
                return route
            self._remember(routes, name, route, host)
        if head.shared:
            self._remember(routes, head, route, host)
        return route

    def _remember(
        self, routes: dict[Fragment | str, Route], key: Fragment | str, route: Route, host: str
    ) -> None:
        if self._remembered >= _MAX_ROUTES:
            self._forget_routes()
        self._remembered += 1
        self._routes[host] = routes
        routes[key] = route

    def _forget_routes(self) -> None:
        self._remembered = 0
        for each in self._routes.values():
            each.clear()
        self._routes.clear()

    def _respell(self) -> None:
        """Find every path anew, now that more is known of which names are one file."""
        self._respelled = self._handlers.respelled
        self._forget_routes()
        self.names = {self._spelled(name, tell=False) for name in self.names}
        for rule in self._config.rules:
            if rule.file:
                # Their spelling comes before any from the wire.
                name = self._spelled(rule.file)
                self._rollovers[name] = rule.rollover
                self._handlers.place(os.path.join(self._directory, name), rule.rollover)

    def _spelled(self, name: str, *, tell: bool = True) -> str:
        """Return the path *name*, below the directory, as its file was spelled first."""
        path = os.path.join(self._directory, name)
        first = self._handlers.spelled(path)
        if tell and first != path:
            what = "%s is %s: its volume ignores case, and the first spelling names the file"
            log.warning(what, path, first, extra={"of": first})
        return first[len(self._directory) + 1 :]

    def _make(self, logger: str, host: str) -> Route:
        """Make the route of a logger, by the rule that holds for it."""
        config = self._config
        rule = config.rule_for(logger)
        level, form, rollover, file = config.files.level, config.format, config.rollover, ""
        if rule:
            level, form, rollover, file = rule.level, rule.format, rule.rollover, rule.file
        name = self._spelled(file) if file else self._name(logger, host)
        # A file that a rule names has that rule's rollover for everybody.
        rollover = self._rollovers.get(name, rollover)
        path = os.path.join(self._directory, name)
        lines, writer = self._handlers.place(path, rollover)
        return Route(self._renderers[form], level, lines, path, rollover, writer)

    def _name(self, logger: str, host: str) -> str:
        """Return the file for a logger that no rule gives one, within max_files."""
        files = self._config.files
        name = files.name.replace("{client}", host).replace("{logger}", file_name(logger, files.dots))
        name = self._spelled(name)
        if name not in self.names:
            if len(self.names) >= files.max_files:
                log.warning(
                    "logger %s goes to %s.log: names from the wire have made as many files as max_files = %d",
                    escape(logger)[:200],
                    OVERFLOW,
                    files.max_files,
                )
                return self._spelled(f"{OVERFLOW}.log")
            self.names.add(name)
        return name
