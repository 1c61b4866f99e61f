"""A batch of payloads becomes lines for files: which rule holds for a record, and which file it goes to.

The batch is decoded, rendered and put into the inboxes of its files, in one pass. A payload that cannot be
read costs nothing but itself. Knows no socket.
"""

from __future__ import annotations

import logging
import math
import os
import time
from operator import length_hint
from typing import TYPE_CHECKING, NamedTuple

from collector.escape import escape
from collector.files.quarantine import Undecoded
from collector.format.renderer import renderer
from collector.greenlets import tell
from collector.log import counted, error_each
from collector.names import OVERFLOW_FILE
from collector.pickles.errors import RecordError
from collector.wire.fragments import RecordReader
from collector.wire.framing import HEADER_BYTES, frame
from collector.wire.json_payload import JsonError
from collector.wire.records import NoRecordError, head_of, level_of, name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from collector.admin.keeper import Keeper
    from collector.admin.stream import LiveStream
    from collector.config.tables import Config, Format, Rollover
    from collector.daemon.spooling import Spooling
    from collector.files.handler_cache import HandlerCache
    from collector.files.inbox import Inbox
    from collector.reserve import Room
    from collector.stats import Stats
    from collector.wire.records import Fragment, Record

    Renderers = Mapping[Format, Callable[[Record, str], str]]

log = logging.getLogger(__name__)

_QUARANTINED = "client %s: frame of %s quarantined: %s"
_DROPPED = "client %s: frame of %s dropped: %s"

# Past this many routes all are forgotten, and found anew; longer names are not remembered.
_MAX_ROUTES = 32_768
_MAX_NAME_CHARACTERS = 1000
# A reason may quote what a client has sent.
_MAX_REASON_CHARACTERS = 500


ANYBODY, NOBODY = 0, math.inf


class Route(NamedTuple):
    """How the records of a logger become lines, and where these go."""

    render: Callable[[Record, str], str]
    level: int
    """Records below it are dropped."""
    inbox: Inbox
    wanted_from: float
    """The lowest level at which a destination wants its records. ANYBODY: one wants all; NOBODY: none any."""


class RouteTable:
    """The routes found so far: by host where files are named by it, then by logger and by head of record."""

    def __init__(self, make: Callable[[str, str], Route]) -> None:
        """*make* makes the route of a logger, for records from a host."""
        self._make = make
        self._by_host: dict[str, dict[Fragment | str, Route]] = {}
        self._size = 0

    def for_host(self, host: str) -> Mapping[Fragment | str, Route]:
        """Return the routes of *host*, for a batch; find() adds to them."""
        return self._by_host.get(host, {})

    def find(self, record: Record, host: str) -> Route:
        """Return the route of a record, and remember it by the record's head too."""
        head, name = head_of(record), name_of(record)
        route = self.for_host(host).get(name)
        if route is None:
            route = self._make(name, host)
            if len(name) > _MAX_NAME_CHARACTERS:
                return route
            self._add(host, name, route)
        if head.shared:
            self._add(host, head, route)
        return route

    def forget(self) -> None:
        """Find every route anew. A batch under way keeps those that it has."""
        self._by_host = {}
        self._size = 0

    def _add(self, host: str, key: Fragment | str, route: Route) -> None:
        if self._size >= _MAX_ROUTES:
            self.forget()
        self._size += 1
        self._by_host.setdefault(host, {})[key] = route


def renderers(config: Config) -> Renderers:
    """Return what renders records in each format of *config*. With many rules this takes a while."""
    return {form: renderer(form) for form in {config.format, *(rule.format for rule in config.rules)}}


class Router:
    """Knows the rules and the files that names from the wire have made."""

    def __init__(  # noqa: PLR0913, PLR0917 - each is a room that it hands records on to
        self,
        config: Config,
        renders: Renderers,
        handlers: HandlerCache,
        stats: Stats,
        stream: LiveStream | None = None,
        spooling: Spooling | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        """Take what renderers() made of *config*. From now on *stats* count what this router reads."""
        self._config = config
        self._stream = stream
        self._spooling = spooling
        self._keeper = keeper
        self._handlers = handlers
        self._stats = stats
        self._directory = handlers.directory
        self._renders = renders
        self._rollovers: dict[str, Rollover] = {}
        """Those of the files that rules name."""
        self._respelled = -1
        for fault in (RecordError, NoRecordError, JsonError):
            stats.unreadable_records_total[fault.reason] += 0  # so that the first one is seen as an increase
        self._reader = RecordReader(config.listen.python2_encoding, stats)
        stats.count_by(self._reader.count_up)
        self._names: set[str] = set()
        """The files that names from the wire have made."""
        self._routes = RouteTable(self._make)
        self._by_host = "{client}" in config.files.name

    def successor(self, config: Config, renders: Renderers) -> Router:
        """Return a router that goes by *config*; this one must not be used any more."""
        rooms = self._handlers, self._stats, self._stream, self._spooling, self._keeper
        router = Router(config, renders, *rooms)
        old, new = self._config.files, config.files
        if (old.name, old.dots) == (new.name, new.dots):
            router._names = self._names  # max_files is for all of them together
        return router

    def deliver(self, payloads: list[bytes], host: str, peer: str) -> None:
        """Write the records in *payloads*, which the client *peer* (`address:port`) at *host* has sent.

        Returns once their lines are in their inboxes. Waits only while a volume that some of them
        are for has used up its part of the reserve.
        """
        unreadable: list[tuple[bytes, RecordError]] = []
        given = iter(payloads)
        unwanted: list[int] = []
        if self._respelled != self._handlers.respelled:
            self._respell()
        self._stats.received_records_total += len(payloads)
        try:
            self._render(given, host, peer, unreadable, unwanted)
        finally:  # whatever fault of ours a record runs into: what was read before it is kept
            if unreadable:
                self._quarantine(unreadable, host, peer)
            if self._spooling and self._config.forwards:
                behind = length_hint(given)
                read = payloads[: len(payloads) - behind]
                self._spooling.add(peer, _wanted(read, behind, unwanted, unreadable))
            rooms = self._handlers.submit()
        for room in rooms:
            room.wait()

    def _render(  # noqa: C901 - a call per record would cost more than most of what is done here
        self,
        payloads: Iterator[bytes],
        host: str,
        peer: str,
        unreadable: list[tuple[bytes, RecordError]],
        unwanted: list[int],
    ) -> None:
        """Put a line of each record into the inbox of its file.

        Add to *unreadable* what has none, and to *unwanted* how many payloads are behind each one that is for
        no destination.
        """
        # For viewers only: keeping records and lines until the end of the batch costs a twentieth more.
        watched = self._stream and self._stream.has_time(length_hint(payloads))
        shown: list[tuple[Record, str]] | None = [] if watched else None
        host_key = host if self._by_host else ""
        routes = self._routes.for_host(host_key)
        refusing = self._handlers.refusing()
        dropped: dict[Inbox, int] = {}
        below = 0
        in_part: list[tuple[int, str]] = []
        raising: list[Record] = []
        for record in self._reader.read(payloads, unreadable, in_part):
            try:
                render, level, inbox, wanted_from = routes[record[0]]
            except KeyError:
                render, level, inbox, wanted_from = self._routes.find(record, host_key)
            if level and (own := level_of(record)) is not None and own < level:
                below += 1
                unwanted.append(length_hint(payloads))
                continue
            if refusing and (inbox.room in refusing or inbox in refusing):
                dropped[inbox] = dropped.get(inbox, 0) + 1
                unwanted.append(length_hint(payloads))
                continue
            try:
                line = render(record, peer)
            except Exception as fault:  # noqa: BLE001 - of ours: it costs this record, but none behind it
                self._stats.dropped_records_total["unreadable"] += 1
                tell("render", fault, self._stats, f"a record of {peer} is dropped")
                unwanted.append(length_hint(payloads))
                continue
            # In place of Inbox.put(), whose call would cost a fiftieth of all that a record costs.
            arrivals = inbox.arrivals
            arrivals.inboxes.append(inbox)
            arrivals.lines.append(line)
            inbox.append(line)
            if wanted_from and not _reaches(record, wanted_from):
                unwanted.append(length_hint(payloads))
            if record[1].raises:
                raising.append(record)
            if shown is not None:
                shown.append((record, line))
        self._count_in_part(in_part, host, peer)
        self._stats.dropped_records_total["level"] += below
        for inbox, count in dropped.items():
            self._count_dropped(inbox, count, refusing)
        if shown or raising:
            self._show(shown, raising, peer)

    def _show(self, shown: list[tuple[Record, str]] | None, raising: list[Record], peer: str) -> None:
        """Hand on what is for the admin port alone."""
        if self._stream and shown:
            self._stream.publish(shown, peer)
        if self._keeper and raising:
            self._keeper.exceptions.notice(raising)

    def _count_in_part(self, in_part: list[tuple[int, str]], host: str, peer: str) -> None:
        """Count records that were decoded in part only."""
        self._stats.over_budget_records_total += len(in_part)
        for size, budget in in_part:
            kind = {"about": budget, "cause": host}
            log.warning(
                "client %s: record of %s is written in part: %s",
                peer,
                counted(size, "byte"),
                budget,
                extra=kind,
            )

    def _quarantine(self, unreadable: list[tuple[bytes, RecordError]], host: str, peer: str) -> None:
        """Keep what could not be read, as it was received; drop what the quarantine cannot hold."""
        inbox = self._handlers.quarantine.inbox
        largest = self._handlers.largest_quarantined
        refusing = self._handlers.refusing()
        full = inbox.room in refusing or inbox in refusing
        now = time.time()
        told: list[tuple[str, str, tuple[object, ...]]] = []
        too_large = 0
        for payload, fault in unreadable:
            self._stats.unreadable_records_total[fault.reason] += 1
            fits = len(payload) + HEADER_BYTES <= largest
            kept = fits and not full
            if kept:
                inbox.put(Undecoded(frame(payload), now, peer, f"{fault}"[:_MAX_REASON_CHARACTERS]))
            too_large += not fits
            what = (peer, counted(len(payload), "byte"), fault)
            told.append((_QUARANTINED if kept else _DROPPED, fault.reason, what))
        self._stats.dropped_records_total["unreadable"] += too_large
        if full and too_large < len(unreadable):
            self._count_dropped(inbox, len(unreadable) - too_large, refusing)
        error_each(log, told, host)

    def _count_dropped(self, inbox: Inbox, records: int, refusing: Collection[Room | Inbox]) -> None:
        if inbox in refusing:
            self._handlers.drop(inbox, records)
            return
        self._stats.dropped_records_total["reserve full"] += records
        what = counted(records, "record")
        log.error("%s: %s dropped: the reserve is full", inbox.path, what, extra={"cause": inbox.path})

    def _respell(self) -> None:
        """Find every path anew, now that more is known about which names are one file."""
        self._respelled = self._handlers.respelled
        self._routes.forget()
        self._names = {self._spelled(name, tell=False) for name in self._names}
        for rule in self._config.rules:
            if rule.file:
                # Their spelling comes before any from the wire.
                name = self._spelled(rule.file)
                self._rollovers[name] = rule.rollover
                self._handlers.inbox(os.path.join(self._directory, name), rule.rollover)

    def _spelled(self, name: str, *, tell: bool = True) -> str:
        """Return the path *name*, below the directory, as its file was spelled first."""
        path = os.path.join(self._directory, name)
        first = self._handlers.spelled(path)
        if tell and first != path:
            what = "%s is %s: its volume ignores case, and the first spelling names the file"
            log.warning(what, path, first, extra={"about": first})
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
        forwards = self._config.forwards
        levels = [each.level for each in forwards if each.wants(logger, each.level)]
        wanted_from = min(levels, default=NOBODY) if forwards else ANYBODY
        return Route(self._renders[form], level, self._handlers.inbox(path, rollover), wanted_from)

    def _name(self, logger: str, host: str) -> str:
        """Return the file for a logger that no rule gives one, within max_files."""
        files = self._config.files
        name = self._spelled(files.path_of(logger, host))
        if name not in self._names:
            if len(self._names) >= files.max_files:
                log.warning(
                    "logger %s goes to %s: names from the wire have made as many files as max_files = %d",
                    escape(logger)[:200],
                    OVERFLOW_FILE,
                    files.max_files,
                )
                return self._spelled(OVERFLOW_FILE)
            self._names.add(name)
        return name


def _reaches(record: Record, level: float) -> bool:
    """Whether a record is not below *level*; without an integer for its own it is below none."""
    own = level_of(record)
    return level != NOBODY if own is None else own >= level


def _wanted(
    payloads: list[bytes], behind: int, unwanted: list[int], unreadable: list[tuple[bytes, RecordError]]
) -> list[bytes]:
    """Return those of *payloads* that are for a destination.

    Behind them were *behind* that nobody got to; *unwanted* tells how many were behind each that is for none.
    """
    if not unwanted and not unreadable:
        return payloads
    end = len(payloads) + behind - 1
    left_out = {end - each for each in unwanted}
    faulty = {id(payload) for payload, _ in unreadable}
    return [
        payload for at, payload in enumerate(payloads) if at not in left_out and id(payload) not in faulty
    ]
