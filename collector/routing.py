"""A batch of payloads becomes lines for files: which rule holds for a record, which file is its own.

The batch is decoded, rendered and grouped by file here in one pass, and each file gets its lines in one
piece. A payload that cannot be read costs itself, and nobody else anything. Knows no socket.
"""

from __future__ import annotations

import logging
import os
from itertools import accumulate
from typing import TYPE_CHECKING

from collector.fragments import RecordReader
from collector.framing import HEADER_BYTES
from collector.lines import escape, renderer
from collector.log import error_each
from collector.paths import OVERFLOW, file_name
from collector.records import level_of, name_of
from collector.rotating import Lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.config import Config, Rollover
    from collector.handlers import Handler, HandlerCache
    from collector.pickles import RecordError
    from collector.records import Fragment, Record
    from collector.reserve import Reserve
    from collector.stats import Stats
    from collector.stream import Stream
    from collector.writer import Writer

log = logging.getLogger(__name__)

# Past so many routes all are forgotten, and found anew; longer names are not remembered.
_MAX_ROUTES = 32_768
_MAX_NAME_CHARACTERS = 1000


class Route:
    """Where the records of a logger go, and how."""

    __slots__ = ("level", "path", "render", "rollover")

    def __init__(
        self, level: int, render: Callable[[Record, str], str], path: str, rollover: Rollover
    ) -> None:
        self.level = level
        self.render = render
        self.path = path
        self.rollover = rollover


class Router:
    """Knows the rules and the files that names from the wire have made."""

    def __init__(
        self,
        config: Config,
        handlers: HandlerCache,
        reserve: Reserve,
        stats: Stats,
        stream: Stream | None = None,
    ) -> None:
        self._config = config
        self._stream = stream
        self._handlers = handlers
        self._reserve = reserve
        self._stats = stats
        self._directory = handlers.directory
        self._renderers = {
            form: renderer(form) for form in {config.format, *(rule.format for rule in config.rules)}
        }
        self._rollovers = {rule.file: rule.rollover for rule in config.rules if rule.file}
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
        return Router(config, self._handlers, self._reserve, self._stats, self._stream)

    def deliver(self, payloads: list[bytes], host: str, peer: str) -> None:
        """Write the records in *payloads*, which the client *peer* (`address:port`) at *host* has sent.

        Returns when their lines are with their handlers. Waits only while a volume has used up its part of
        the reserve, and then only who has lines for that volume.
        """
        unreadable: list[tuple[bytes, RecordError]] = []
        self._stats.received_records_total += len(payloads)
        groups = self._render(payloads, host, peer, unreadable)
        # One account for the batch: it may have a line each for hundreds of files.
        left: dict[Writer, dict[Handler, int]] = {}
        for route, lines in groups.values():
            if lines:
                self._leave(route, lines, left)
        if unreadable:
            self._quarantine(unreadable, peer, left)
        for writer, sizes in left.items():
            writer.submit(sizes)
        for writer in left:
            writer.room.wait()

    def _render(
        self, payloads: list[bytes], host: str, peer: str, unreadable: list[tuple[bytes, RecordError]]
    ) -> dict[str, tuple[Route, list[str]]]:
        """Return the lines for each file, by its path; add to *unreadable* what has none."""
        # For viewers only: garbage that lives on until the end of the batch costs a twentieth more.
        watched = self._stream and self._stream.has_time(len(payloads))
        records: list[Record] | None = [] if watched else None
        below = 0
        # By file, not by route: loggers that share a file keep their order in it.
        groups: dict[str, tuple[Route, list[str]]] = {}
        # By the head of a record: how it becomes a line, where that goes, and from which level on.
        ways: dict[Fragment, tuple[Callable[[Record, str], str], Callable[[str], None], int]] = {}
        in_part: list[tuple[int, str]] = []
        for record in self._reader.read(payloads, unreadable, in_part):
            head = record[0]
            try:
                render, append, level = ways[head]
            except KeyError:
                route = self._find(record, host)
                lines = groups.setdefault(route.path, (route, []))[1]
                render, append, level = ways[head] = route.render, lines.append, route.level
            if level and (own := level_of(record)) is not None and own < level:
                below += 1
                continue
            append(render(record, peer))
            if records is not None:
                records.append(record)
        self._stats.over_budget_records_total += len(in_part)
        for size, budget in in_part:
            log.warning("client %s: record of %d bytes is written in part: %s", peer, size, budget)
        if below:
            self._stats.dropped_records_total["level"] += below
        if self._stream and records:
            self._stream.publish(records, peer)
        return groups

    def _quarantine(
        self, unreadable: list[tuple[bytes, RecordError]], peer: str, left: dict[Writer, dict[Handler, int]]
    ) -> None:
        """Keep what could not be read, as it was received; drop what the quarantine cannot hold."""
        handler = self._handlers.quarantine
        half = self._handlers.quarantine_file.half
        frames = []
        lines: dict[str, list[tuple[object, ...]]] = {"quarantined": [], "dropped": []}
        for payload, fault in unreadable:
            self._stats.unreadable_records_total[fault.reason] += 1
            fits = len(payload) + HEADER_BYTES <= half
            if fits:
                frames.append(len(payload).to_bytes(HEADER_BYTES, "big") + payload)
            lines["quarantined" if fits else "dropped"].append((peer, len(payload), fault))
        self._stats.dropped_records_total["unreadable"] += len(lines["dropped"])
        if frames and self._has_room(handler, len(frames)):
            data = b"".join(frames)
            handler.leave(Lines(data, len(frames), list(accumulate(map(len, frames)))))
            left.setdefault(handler.writer, {})[handler] = len(data)
        elif frames:
            lines = {"dropped": lines["dropped"] + lines["quarantined"]}
        for what, several in lines.items():
            error_each(log, f"client %s: frame of %d bytes {what}: %s", several)

    def _has_room(self, handler: Handler, records: int) -> bool:
        """Return whether *records* for *handler* may be kept; count them if they may not."""
        if self._reserve.waits or not (handler.writer.room.full or self._reserve.full):
            return True
        self._stats.dropped_records_total["reserve full"] += records
        log.error("%s: %d records dropped: the reserve is full", handler.file.path, records)
        return False

    def _leave(self, route: Route, lines: list[str], left: dict[Writer, dict[Handler, int]]) -> None:
        handler = self._handlers.get(route.path, route.rollover)
        if not self._has_room(handler, len(lines)):
            return
        # Lone surrogates are legal in a record and not in UTF-8.
        data = "".join(lines).encode("utf-8", "backslashreplace")
        ends = None
        if handler.rollover.max_bytes:
            ascii_only = len(data) == sum(map(len, lines))
            sizes = map(
                len, lines if ascii_only else [line.encode("utf-8", "backslashreplace") for line in lines]
            )
            ends = list(accumulate(sizes))
        handler.leave(Lines(data, len(lines), ends))
        left.setdefault(handler.writer, {})[handler] = len(data)

    def _find(self, record: Record, host: str) -> Route:
        """Return the route of a record, from now on found by its head too."""
        routes = self._routes.setdefault(host if self._by_host else "", {})
        head, name = record[0], name_of(record)
        route = routes.get(head) or routes.get(name)
        if route is None:
            route = self._make(name, host)
            if len(name) > _MAX_NAME_CHARACTERS:
                return route
            self._remember(routes, name, route)
        if head.shared and head not in routes:
            self._remember(routes, head, route)
        return route

    def _remember(self, routes: dict[Fragment | str, Route], key: Fragment | str, route: Route) -> None:
        if self._remembered >= _MAX_ROUTES:
            self._remembered = 0
            for each in self._routes.values():
                each.clear()
            self._routes.clear()
        self._remembered += 1
        routes[key] = route

    def _make(self, logger: str, host: str) -> Route:
        """Make the route of a logger, by the rule that holds for it."""
        config = self._config
        rule = config.rule_for(logger)
        level, form, rollover, file = config.files.level, config.format, config.rollover, ""
        if rule:
            level, form, rollover, file = rule.level, rule.format, rule.rollover, rule.file
        name = file or self._name(logger, host)
        return Route(
            level,
            self._renderers[form],
            os.path.join(self._directory, name),
            # A file that a rule names has that rule's rollover for everybody.
            self._rollovers.get(name, rollover),
        )

    def _name(self, logger: str, host: str) -> str:
        """Return the file for a logger that no rule gives one, within max_files."""
        files = self._config.files
        name = files.name.replace("{client}", host).replace("{logger}", file_name(logger, files.dots))
        if name not in self.names:
            if len(self.names) >= files.max_files:
                log.warning(
                    "logger %s goes to %s.log: names from the wire have made max_files = %d files",
                    escape(logger)[:200],
                    OVERFLOW,
                    files.max_files,
                )
                return f"{OVERFLOW}.log"
            self.names.add(name)
        return name
