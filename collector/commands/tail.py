"""The command `tail`: reads the log files back, merged by time, and follows them.

Records come out as they stand in the files, or as JSON. On a terminal the level is coloured, and control
characters in a record are shown, not obeyed. Only the live stream needs a running collector.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections import Counter, defaultdict, deque
from contextlib import closing
from http.client import HTTPException
from typing import TYPE_CHECKING, Any

from collector import levels
from collector.admin.client import Subscription
from collector.config.load import load
from collector.exits import EXIT_CANNOT_START, EXIT_FAILED, EXIT_OK, reader_may_leave
from collector.files import inventory
from collector.format.json_lines import KEY_OF
from collector.readback.follow import Follower
from collector.readback.layouts import layouts_of
from collector.readback.merge import last, merge
from collector.readback.origins import Origins, belongs_to, wanted_layouts
from collector.readback.sources import Source, open_all
from collector.readback.times import time_key

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Generator, Iterable, Iterator

    from collector.config.tables import Config
    from collector.readback.follow import Batch
    from collector.readback.layouts import Layout
    from collector.readback.sources import Select

_FOLLOWED_RECORDS = 10
_POLL_SECONDS = 0.25
# After this, what was received before the stream began is in its file, unless the disk stalls.
_ON_THEIR_WAY_SECONDS = 0.3
_NO_FILE = inventory.Found("", "", None, os.stat_result([0] * 10))
_COLOURS = ((50, b"\x1b[1;31m"), (40, b"\x1b[31m"), (30, b"\x1b[33m"), (20, b"\x1b[32m"), (0, b"\x1b[2m"))
_PLAIN = b"\x1b[0m"
# C0 other than tab and newline, DEL, and C1, in UTF-8.
_CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]")


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit code. Raises ConfigError."""
    config = load(options.config)
    if fault := _unusable_filter(options, config):
        _say(fault)
        return EXIT_CANNOT_START
    try:
        with reader_may_leave():
            return _Tail(options, config).run()
    except KeyboardInterrupt:
        pass  # how -f ends
    except OSError as error:
        _say(f"{error}; see [files] directory")
        return EXIT_FAILED
    return EXIT_OK


def _unusable_filter(options: argparse.Namespace, config: Config) -> str:
    """Return why records cannot be told apart by an option, and the remedy; "" if they can."""
    for layout in wanted_layouts(config, options.logger):
        if options.level and not (layout.tells("levelname") or layout.tells("levelno")):
            why, remedy = (
                f"--level: lines of {layout.setting('text')} tell no level",
                "add %(levelname)s to it",
            )
        elif options.since is not None and layout.untimed:
            why, remedy = f"--since: {layout.untimed}", layout.remedy
        else:
            continue
        return f'{why}; {remedy}, or use style = "json"'
    return ""


def _say_untimed(sources: Iterable[Source]) -> None:
    """Say which files are taken as a whole and why, once for all those of one format that tells no time."""
    by_format: defaultdict[str, list[str]] = defaultdict(list)
    for source in sources:
        own, path = source.layouts[0], source.found.path
        if not source.timed and own.untimed:
            by_format[own.untimed].append(path)
        elif not source.timed:
            _say(f"{path}: no line begins with a time as in {own.place}; taken as a whole")
    for why, (path, *others) in by_format.items():
        if others:
            _say(f"{1 + len(others)} files: {why}; each is taken as a whole")
        else:
            _say(f"{path}: {why}; taken as a whole")


class _Tail:
    def __init__(self, options: argparse.Namespace, config: Config) -> None:
        self._options = options
        self._config = config
        self._origins = Origins(config)
        self._since = b"" if options.since is None else time_key(max(0, time.time() - options.since))
        self._on_terminal = sys.stdout.isatty()
        self._colours = self._on_terminal and not os.environ.get("NO_COLOR")
        filters = options.level or options.logger or options.grep
        changes = options.json or self._on_terminal
        self._select: Select | None = self._pick if filters or changes or self._since else None
        self._filters = bool(filters or self._since)
        self._out = sys.stdout.buffer

    def run(self) -> int:
        since = self._options.since
        opened = open_all(self._config, self._select, _for_blocks(self._options.grep))
        follower = Follower(self._config, opened) if self._options.follow else None
        if since is not None:
            opened = [one for one in opened if one.found.status.st_mtime >= time.time() - since - 1]
        sources = [source for source in opened if source.peek()]
        _say_untimed(sources)
        self._read_back(sources)
        self._out.flush()
        troubles = [source.file.trouble for source in opened if source.file.trouble]
        for trouble in troubles:
            _say(trouble)
        if follower:
            self._follow(follower)
        return EXIT_FAILED if troubles else EXIT_OK

    def _read_back(self, sources: list[Source]) -> None:
        number = self._options.number
        if number is None and self._options.follow and not self._since:
            number = _FOLLOWED_RECORDS
        if number is None:
            for records in merge(sources):
                self._write(records)
        elif self._filters:
            kept: deque[bytes] = deque(maxlen=number)
            for records in merge(sources):
                kept.extend(records)
            self._write(kept)
        elif number:
            for source, record, key in last(sources, number):
                self._write(self._select(source, [record], [key])[0] if self._select else [record])

    def _follow(self, follower: Follower) -> None:
        admin, options = self._config.admin, self._options
        with closing(Subscription(admin, options.logger or "", options.level)) as subscription:
            for batch in follow(self._config, follower, subscription, _say):
                for source, record, key in batch:
                    self._write(self._pick(source, [record], [key])[0])
                self._out.flush()

    def _write(self, records: Iterable[bytes]) -> None:
        for record in records:
            self._out.write(record)
            self._out.write(b"\n")

    def _pick(
        self, source: Source, records: list[bytes], keys: list[bytes]
    ) -> tuple[list[bytes], list[bytes]]:
        """Return those of *records* that pass the filters, as they come out, and their times."""
        options = self._options
        kept, times = [], []
        for record, key in zip(records, keys, strict=True):
            if key < self._since:
                continue
            if options.grep and not options.grep.search(record.decode("utf-8", "replace")):
                continue
            if options.level or options.logger or options.json or self._on_terminal:
                layout = source.layout_of(record)
                fields = layout.fields(record)
                if options.level and _levelno(fields) < options.level:
                    continue
                if options.logger and not self._is_wanted(fields, source.found.base):
                    continue
                kept.append(self._render(record, key, layout, fields))
            else:
                kept.append(record)
            times.append(key)
        return kept, times

    def _is_wanted(self, fields: dict[str, Any], base: str) -> bool:
        """Whether a record is of the wanted logger or one below, by its logger's name, or else its file."""
        wanted = self._options.logger
        if (logger := fields.get(KEY_OF["name"])) is not None:
            return belongs_to(logger, wanted)
        return self._origins.is_of(base, wanted)

    def _render(self, record: bytes, key: bytes, layout: Layout, fields: dict[str, Any]) -> bytes:
        if self._options.json and not layout.is_json:
            if layout.timed:
                fields = {**fields, KEY_OF["asctime"]: key.decode().rstrip(".") + "Z"}
            if KEY_OF["message"] not in fields:
                fields[KEY_OF["message"]] = record.decode("utf-8", "replace")
            record = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        if not self._on_terminal:
            return record
        begin, end = layout.level_at(record) if not self._options.json else (0, 0)
        if not self._colours or begin == end:
            return _visible(record)
        colour = next(colour for least, colour in _COLOURS if _levelno(fields) >= least)
        return (
            _visible(record[:begin]) + colour + _visible(record[begin:end]) + _PLAIN + _visible(record[end:])
        )


def follow(
    config: Config, follower: Follower, subscription: Subscription, say: Callable[[str], None]
) -> Iterator[Batch]:
    """Yield what is written from now on, for ever: from the live stream, or else from the files themselves.

    *say* is told why it does not come from the stream.
    """
    why = subscription.connect()
    if not why:
        why = yield from _follow_stream(config, follower, subscription, say)
        follower.skip()
    say(f"{why}; following the files")
    while True:
        yield follower.poll()
        time.sleep(_POLL_SECONDS)


def _follow_stream(
    config: Config, follower: Follower, subscription: Subscription, say: Callable[[str], None]
) -> Generator[Batch, None, str]:
    """Yield what was written while the files were read, then the stream; return why that has ended."""
    time.sleep(_ON_THEIR_WAY_SECONDS)
    batch = follower.poll()
    # By the line: where a format has no time, nothing in a file tells which lines make one record.
    shown = Counter(line for _, record, _ in batch for line in record.split(b"\n"))
    yield batch
    layouts = {layout.form: layout for layout in layouts_of(config)}
    try:
        for record in subscription.records(say):
            lines = Counter(record.text.split(b"\n"))
            if all(shown[line] >= count for line, count in lines.items()):
                shown.subtract(lines)
                continue
            rule = config.rule_for(record.logger)
            source = Source(_NO_FILE, [layouts[rule.format if rule else config.format]])
            yield [(source, record.text, record.time)]
    except (OSError, HTTPException, ValueError) as error:
        return f"the stream has ended: {error}"
    return "the stream has ended"


def _for_blocks(grep: re.Pattern[str] | None) -> re.Pattern[str] | None:
    """Return a pattern that finds in a block what *grep* finds in its records; None if there is none."""
    if grep is None or re.search(r"\\[AZ]|\(\?[<!=]", grep.pattern):
        return None
    return re.compile(grep.pattern, grep.flags | re.MULTILINE)


def _visible(record: bytes) -> bytes:
    return _CONTROL.sub(lambda match: b"\\x%02x" % match[0][-1], record)


def _levelno(fields: dict[str, Any]) -> float:
    """Return the level as a number. One that is unknown is below no level, as it is when collecting."""
    if isinstance(number := fields.get("levelno"), int):
        return number
    name = str(fields.get(KEY_OF["levelname"], ""))
    if name.startswith("Level ") and name[6:].isdecimal():
        return int(name[6:])
    number = levels.known(name)
    return float("inf") if number is None else number


def _say(text: str) -> None:
    print(f"collector tail: {text}", file=sys.stderr)  # noqa: T201 - standard output has the records
