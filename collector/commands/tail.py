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
from collections import Counter, defaultdict
from contextlib import closing
from http.client import HTTPException
from typing import TYPE_CHECKING

from collector.admin.client import Subscription
from collector.config.load import load
from collector.escape import escape
from collector.exits import EXIT_CANNOT_START, EXIT_FAILED, EXIT_OK, reader_may_leave
from collector.files import inventory
from collector.format.json_lines import KEY_OF
from collector.format.text_lines import ABSENT
from collector.readback.filters import Filters, level_of, unusable
from collector.readback.follow import Follower
from collector.readback.layouts import layouts_of
from collector.readback.query import Hit, Query
from collector.readback.search import Search
from collector.readback.sources import Source
from collector.readback.times import exact_key

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from collector.config.tables import Config
    from collector.readback.follow import Batch

_LAST_RECORDS = 10
# When it shows how far it has come, and how often.
_PATIENCE_SECONDS = 2.0
_PROGRESS_SECONDS = 0.2
_MEGABYTE = 1_000_000
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
    query = Query(
        after=None if options.since is None else int(options.since),
        before=options.until,
        level=options.level,
        logger=options.logger or "",
        regex=options.grep and re.compile(options.grep.pattern, re.IGNORECASE if options.ignore_case else 0),
        client=options.client,
    )
    if fault := _misuse(options) or _unusable(config, query):
        _say(fault)
        return EXIT_CANNOT_START
    try:
        with reader_may_leave():
            return _Tail(options, config, query).run()
    except KeyboardInterrupt:
        pass  # how -f ends
    except OSError as error:
        _say(str(error))
        return EXIT_FAILED
    return EXIT_OK


def _misuse(options: argparse.Namespace) -> str:
    """Return which options do not go together, and the remedy; "" if all do."""
    if match := next(filter(None, map(re.compile("-([0-9]*)").fullmatch, options.files)), None):
        remedy = f"the last {match[1]} are -n {match[1]}" if match[1] else "save standard input to a file"
        return f"{match[0]}: {remedy}, and a file of this name is ./{match[0]}"
    context = options.after or options.before or options.context
    if options.follow and (options.files or options.until is not None or options.count or context):
        rest = "leave out FILE, --until, --count, -A, -B and -C"
        return f"-f shows what is written to the directory from now on; {rest}"
    if options.count and (context or options.number is not None):
        return "--count counts all that --since, --until and the filters leave; leave out -n, -A, -B and -C"
    if options.since is not None and options.until is not None and options.until <= options.since:
        since, until = map(_written, (options.since, options.until))
        return f"--until is {until}, and --since is {since}: there is nothing between"
    return ""


def _written(when: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))


def _unusable(config: Config, query: Query) -> str:
    """Return which filter cannot tell records apart, and why, with the remedy; "" if all can."""
    name, why = unusable(config, query)
    return name and f"--{ {'after': 'since', 'before': 'until'}.get(name, name) }: {why}"


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
    def __init__(self, options: argparse.Namespace, config: Config, query: Query) -> None:
        self._options = options
        self._config = config
        self._query = query
        self._on_terminal = sys.stdout.isatty()
        self._colours = self._on_terminal and not os.environ.get("NO_COLOR")
        self._context = (
            options.context or 0 if options.before is None else options.before,
            options.context or 0 if options.after is None else options.after,
        )
        self._shown: tuple[int, int] | None = None
        """The file of the last record that was printed, and where the next one begins in it."""
        self._out = sys.stdout.buffer

    def run(self) -> int:
        options, troubles = self._options, []
        files = []
        for path in options.files:
            try:
                files.append(inventory.given(self._config, path))
            except OSError as error:
                troubles.append(f"{path}: {error.strerror}" if error.strerror else str(error))
        if options.files and not files:
            return self._end([], troubles)
        progress = _Progress()
        try:
            search = Search(
                self._config, self._query, files=files, context=self._context, report=progress.read
            )
        except OSError as error:
            _say(f"{error}; see [files] directory")
            return EXIT_FAILED
        with closing(search):
            progress.total = sum(source.found.status.st_size for source in search.sources)
            follower = Follower(self._config, search.sources) if options.follow else None
            if options.count:
                self._count(search)
            else:
                self._read_back(search)
            progress.end()
            self._out.flush()
            code = self._end(search.sources, troubles + search.troubles)
        if follower:
            self._follow(follower)
        return code

    def _end(self, sources: Sequence[Source], troubles: list[str]) -> int:
        _say_untimed(sources)
        for trouble in troubles:
            _say(trouble)
        return EXIT_FAILED if troubles else EXIT_OK

    def _read_back(self, search: Search) -> None:
        options, number = self._options, self._options.number
        if number is None:
            is_span = options.since is not None or options.until is not None
            takes_all = is_span or options.files or (options.grep and not options.follow)
            number = float("inf") if takes_all else _LAST_RECORDS
        if number != float("inf"):
            self._read_last(search, int(number))
        elif options.json or self._on_terminal or any(self._context):
            for hit in search.oldest_first():
                self._show(self._rendered(hit), hit.source.rank, hit.offset, len(hit.record))
        else:
            for run, begin, end in search.runs(newest_first=False):
                self._out.write(b"\n".join(run.records[begin:end]))
                self._out.write(b"\n")

    def _read_last(self, search: Search, number: int) -> None:
        """Print the last *number* records that are found, and the context of those alone."""
        before, after = self._context
        stack, left = search.stack(), number
        due: Counter[int] = Counter()
        """Of each file, how many of the next records are the context of one that was found."""
        for hit in search.newest_first(number) if number else ():
            rank, is_found = hit.source.rank, hit.is_hit and left > 0
            is_wanted = is_found or due[rank] > 0
            due[rank] = before if is_found else due[rank] - is_wanted
            left -= is_found
            text = self._rendered(hit)
            stack.put((text, rank, hit.offset, len(hit.record), is_found, is_wanted), len(text))
            if not left:
                search.find_no_more()
                if not any(self._context):
                    break
        due.clear()
        for batch in stack.take():
            for text, rank, offset, size, is_found, is_wanted in reversed(batch):
                if is_wanted or due[rank]:
                    self._show(text, rank, offset, size)
                due[rank] = after if is_found else due[rank] - (due[rank] > 0)

    def _show(self, text: bytes, file: int, offset: int, size: int) -> None:
        """Print a record; with context, what was left out before it as grep does."""
        if any(self._context) and not self._options.json:
            if self._shown not in (None, (file, offset)):
                self._out.write(b"--\n")
            self._shown = file, offset + size + 1
        self._out.write(text)
        self._out.write(b"\n")

    def _count(self, search: Search) -> None:
        for (level, logger), number in sorted(search.count().items(), key=_by_logger):
            if self._options.json:
                row = json.dumps({"logger": logger, "level": level, "count": number}, ensure_ascii=False)
            else:
                row = f"{number:>12} {level or ABSENT:<8} {escape(logger or ABSENT)}"
            self._out.write(row.encode("utf-8", "replace") + b"\n")

    def _follow(self, follower: Follower) -> None:
        options, admin = self._options, self._config.admin
        filters = Filters(self._config, self._query)
        with (
            closing(follower),
            closing(Subscription(admin, options.logger or "", options.level)) as subscription,
        ):
            for batch in follow(self._config, follower, subscription, _say):
                for source, record, key in batch:
                    picker = filters.picker(source)
                    if key >= self._since and (not picker or picker.picks(record)):
                        self._show(self._rendered(Hit(source, 0, key, record)), 0, 0, 0)
                self._out.flush()

    @property
    def _since(self) -> bytes:
        return b"" if self._query.after is None else exact_key(float(self._query.after))

    def _rendered(self, hit: Hit) -> bytes:
        if self._options.json:
            record = hit.record
            if not hit.source.layout_of(record).is_json:
                text = json.dumps(hit.fields(), ensure_ascii=False, separators=(",", ":"))
                record = text.encode("utf-8", "replace")
            return _visible(record) if self._on_terminal else record
        if not self._on_terminal:
            return hit.record
        record, layout = hit.record, hit.source.layout_of(hit.record)
        begin, end = layout.level_at(record)
        if not self._colours or begin == end:
            return _visible(record)
        level = level_of(layout.fields(record))
        colour = next(colour for least, colour in _COLOURS if level >= least)
        return (
            _visible(record[:begin]) + colour + _visible(record[begin:end]) + _PLAIN + _visible(record[end:])
        )


class _Progress:
    """How much has been read, on a terminal that shows nothing else, of what takes long."""

    def __init__(self) -> None:
        self.total = 0
        self._read = 0
        self._is_wanted = sys.stderr.isatty() and not sys.stdout.isatty()
        self._next = time.monotonic() + _PATIENCE_SECONDS
        self._shown = False

    def read(self, size: int) -> None:
        """Note that so many more bytes have been read from the disk."""
        self._read += size
        if self._is_wanted and time.monotonic() >= self._next:
            self._next = time.monotonic() + _PROGRESS_SECONDS
            self._shown = True
            megabytes, total = self._read // _MEGABYTE, self.total // _MEGABYTE
            sys.stderr.write(f"\rcollector tail: {megabytes:,} of at most {total:,} MB read")
            sys.stderr.flush()

    def end(self) -> None:
        """Take it away."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _by_logger(counted: tuple[tuple[str, str], int]) -> tuple[str, float, str]:
    (level, logger), _ = counted
    return logger, -level_of({KEY_OF["levelname"]: level}), level


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


def _visible(record: bytes) -> bytes:
    return _CONTROL.sub(lambda match: b"\\x%02x" % match[0][-1], record)


def _say(text: str) -> None:
    print(f"collector tail: {text}", file=sys.stderr)
