"""The command `top`: what a running collector does, asked of its admin port each second.

Fills the screen of a terminal; elsewhere it prints one refresh after another as plain text. A rate is the
difference of two answers. Text from the wire is escaped.
"""

from __future__ import annotations

import shutil
import signal
import sys
import time
import unicodedata
from contextlib import closing
from typing import TYPE_CHECKING, Any

from collector.admin.client import AdminClient
from collector.config.load import ConfigError, load
from collector.escape import escape
from collector.exits import EXIT_OK, reader_may_leave
from collector.log import counted

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

    from collector.config.tables import Admin

_REFRESH_SECONDS = 1.0
# The most loggers and clients in an answer: if there are more, a name that is new may have counted before.
_MOST = {"loggers": 100, "clients": 1000}
# Lines of each table where there is no terminal to fill.
_PLAIN_LINES = 11
_PLAIN_COLUMNS = 100
_SMALLEST = 4
_NUMBERS = 22
_TEN = 9.95
_KIB = 1024

_FULL_SCREEN, _LEAVE_FULL_SCREEN = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _END_OF_LINE, _END_OF_SCREEN = "\x1b[H", "\x1b[K\n", "\x1b[J"

_Answers = dict[str, Any]
"""The answers by path, "stats", "loggers" and "clients", and under "at" the seconds of a monotonic clock."""


def run(options: argparse.Namespace) -> int:
    """Show the state each second until interrupted, or as often as asked for. Return the exit code.

    Raises ConfigError; OSError, with the remedy, where nobody answers at the start. Later it waits for that.
    """
    admin = load(options.config).admin
    if admin is None:
        place = options.config or "the defaults"
        remedy = "add it, or set COLLECTOR__ADMIN__PORT, and restart the collector"
        raise ConfigError([f"{place}: no table [admin]: top asks the admin port; {remedy}"])
    # So that the terminal is restored.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    terminal = sys.stdout.isatty()
    try:
        with reader_may_leave():
            _show(admin, options.n, terminal=terminal)
    except KeyboardInterrupt:
        pass
    finally:
        if terminal:
            sys.stdout.write(_LEAVE_FULL_SCREEN)
            sys.stdout.flush()
    return EXIT_OK


def _show(admin: Admin, refreshes: int | None, *, terminal: bool) -> None:
    before = _ask(admin)
    if terminal:
        sys.stdout.write(_FULL_SCREEN)
    shown = 0
    while refreshes is None or shown < refreshes:
        time.sleep(_REFRESH_SECONDS)
        columns, lines = shutil.get_terminal_size() if terminal else (_PLAIN_COLUMNS, 0)
        try:
            now = _ask(admin)
            text = _report(before, now, columns, lines)
            before = now
        except OSError as error:
            text = [f"{error}; trying again"]
        text = [line if line.isprintable() else escape(line) for line in text]
        if terminal:
            screen = "".join(_cut(line, columns) + _END_OF_LINE for line in text[: lines - 1])
            sys.stdout.write(_HOME + screen + _END_OF_SCREEN)
        else:
            sys.stdout.write("\n".join(text) + "\n\n")
        sys.stdout.flush()
        shown += 1


def _ask(admin: Admin) -> _Answers:
    with closing(AdminClient(admin)) as client:
        at = time.monotonic()
        return {"at": at, **client.get_json("stats", "loggers", "clients")}


def _report(before: _Answers, now: _Answers, columns: int, lines: int) -> list[str]:
    """Return the text of one refresh, to fill a terminal of that many *lines*; 0: there is no terminal."""
    seconds = now["at"] - before["at"]
    report = [*_head(before["stats"], now["stats"], seconds)]
    tables = []
    for kind, name in (("loggers", "name"), ("clients", "peer")):
        earlier, counts = ({row[name]: row["records"] for row in its[kind][kind]} for its in (before, now))
        rates = _rates(earlier, counts, seconds, _MOST[kind])
        not_read = {row[name] for row in now[kind][kind] if not row.get("reading", True)}
        busiest = sorted(counts, key=lambda key: (-rates[key], -counts[key], key))
        tables.append(
            [
                _row(kind[:-1].upper(), "RECORDS/S", "RECORDS", columns),
                *(
                    _row(
                        key + " (not read)" * (key in not_read),
                        _rate(rates[key]),
                        f"{counts[key]:,}",
                        columns,
                    )
                    for key in busiest
                ),
            ]
        )
    # The tables share the rest, with an empty line above each and the cursor's below.
    room = max((lines - len(report) - 3) // 2, _SMALLEST) if lines else _PLAIN_LINES
    return report + [line for table in tables for line in ("", *table[:room])]


def _head(before: Mapping[str, Any], now: Mapping[str, Any], seconds: float) -> Iterator[str]:
    health = "healthy" if now["healthy"] else f"NOT HEALTHY: {now['reason']}"
    state = "draining" if now["draining"] else health
    yield f"collector {now['version']}, up {_duration(now['uptime_seconds'])}, {state}"
    totals, earlier = (
        {
            "received": stats["records"]["received"],
            "written": stats["records"]["written"],
            "quarantined": stats["records"]["quarantined"],
            "dropped": sum(stats["records"]["dropped"].values()),
        }
        for stats in (now, before)
    )
    rates = _rates(earlier, totals, seconds)
    yield "records/s  " + ", ".join(f"{_rate(rates[key])} {key}" for key in totals)
    rates = _rates(before["levels"], now["levels"], seconds)
    in_order = sorted(rates, key=lambda level: (-rates[level], level))
    yield "levels/s   " + (", ".join(f"{level} {_rate(rates[level])}" for level in in_order) or "none yet")
    clients, reserve = now["clients"], now["reserve"]
    refused = sum(clients["refused"].values())
    yield f"clients    {clients['now']:,} now, {clients['total']:,} in all, {refused:,} refused"
    oldest = f", the oldest {_duration(reserve['oldest_seconds'])}" if reserve["bytes"] else ""
    stalled = reserve["not_reading_seconds"] - before["reserve"]["not_reading_seconds"]
    reading = "; NOT READING" if stalled > 0 else ""
    yield f"reserve    {_bytes(reserve['bytes'])} of {_bytes(reserve['limit_bytes'])}{oldest}{reading}"
    for volume in now["volumes"]:
        free, total = _bytes(volume["free_bytes"]), _bytes(volume["total_bytes"])
        yield f"disk       {free} free of {total}, {volume['directory']}"
    for failing in now["files"]["failing"]:
        waits = counted(failing["records"], "record", "waits", "wait", form=",")
        yield f"FAILING    {waits}: {failing['error']}: {failing['path']}"
    if "spool" in now:
        yield from _handing_over(before, now, seconds)


def _handing_over(before: Mapping[str, Any], now: Mapping[str, Any], seconds: float) -> Iterator[str]:
    spool = now["spool"]
    errors = "; CANNOT BE WRITTEN" * (spool["write_errors"] > before.get("spool", spool)["write_errors"])
    waits = f", {_bytes(spool['waiting_bytes'])} not written yet" if spool["waiting_bytes"] else ""
    yield f"spool      {_bytes(spool['bytes'])} of {_bytes(spool['max_bytes'])}{waits}{errors}"
    earlier = {forward["name"]: forward.get("shipped", 0) for forward in before.get("forwards", [])}
    for forward in now["forwards"]:
        name = forward["name"]
        place = f"forward    {name}{'' if forward['up'] else ' DOES NOT RUN'}"
        if "shipped" not in forward:
            yield f"{place}: has not begun"
            continue
        rate = _rates(earlier, {name: forward["shipped"]}, seconds, len(earlier))[name]
        lag = f", the oldest {_duration(forward['lag_seconds'])}" if forward["waiting"] else ""
        held = f"; HELD: {forward['held']['text']}" if forward["held"] else ""
        yield f"{place}: {_rate(rate)} shipped/s, {forward['waiting']:,} waiting{lag}{held}"


def _rates(
    before: Mapping[str, int], now: Mapping[str, int], seconds: float, most: int = sys.maxsize
) -> dict[str, float]:
    """Return by how much each counter has grown a second.

    A new one began at 0, unless the answer before had as many as an answer can have, *most*. One that has
    shrunk belongs to a collector that has just started.
    """
    full = len(before) >= most
    grown = {key: count - before.get(key, count if full else 0) for key, count in now.items()}
    return {key: max(0, growth) / seconds for key, growth in grown.items()}


def _row(name: str, rate: str, count: str, columns: int) -> str:
    width = max(columns - _NUMBERS - 1, _SMALLEST)
    name = _cut(escape(name), width)
    return name + " " * (width - _width(name)) + f" {rate:>9} {count:>12}"


def _cut(line: str, columns: int) -> str:
    """Return as much of *line* as fits into the columns of a terminal."""
    if _width(line) <= columns:
        return line
    while line and _width(line) >= columns:
        line = line[:-1]
    return line + "…"


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(character) else 1 + (unicodedata.east_asian_width(character) in "WF")
        for character in text
    )


def _rate(rate: float) -> str:
    return f"{rate:.1f}".removesuffix(".0") if rate < _TEN else f"{rate:,.0f}"


def _bytes(number: float) -> str:
    units = ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while number >= _KIB and len(units) > 1:
        number /= _KIB
        del units[0]
    return f"{number:.{0 if units[0] == 'bytes' else 1}f} {units[0]}"


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
