"""Which records a Query asks for, told from the bytes of a block as far as possible.

What cannot be told from bytes alone is parsed, so that what is found in a block is what is found in each of
its records. The one place that knows what a filter means: `tail` and the admin port ask here.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from collector import levels
from collector.format.json_lines import KEY_OF, in_json
from collector.format.text_lines import ABSENT
from collector.names import OVERFLOW
from collector.readback.layouts import JSON_START
from collector.readback.origins import Origins, belongs_to, wanted_layouts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from collector.config.tables import Config
    from collector.readback.blocks import Cutter
    from collector.readback.layouts import Layout
    from collector.readback.query import Query
    from collector.readback.sources import Source

# What is found in a whole block need not be what is found in one of its records, with these: the ends of the
# text, what looks ahead or behind, what gives nothing back, and flags that are taken away.
_ONLY_BY_RECORD = re.compile(r"\\[AZ]|\(\?[<!=>(-]|\(\?[a-zA-Z]*-|[*+?}]\+")
_PLAIN = re.compile(r"[ !#-\[\]-~]+").fullmatch
"""Text that stands in JSON, and in a name in a line, as it is."""
_LEVELS = {"levelname", "levelno"}
_ABSENT = ABSENT.encode()
_LONG_NAME_BYTES = 150
"""From about here on, a name does not stand in the name of its file as a whole."""
_FEW = 8
"""How many places in a block are looked at one by one before its records are split."""
_MAX_TEXTS = 10_000
_MAX_DIGITS = 18


def unusable(config: Config, query: Query) -> tuple[str, str]:
    """Return which field of *query* cannot tell records apart, and why, with the remedy; "" if all can.

    A cursor among `after` and `before` always can.
    """
    times = [name for name in ("after", "before") if isinstance(getattr(query, name), (int, float))]
    for layout in wanted_layouts(config, query.logger):
        if query.level and not (layout.tells("levelname") or layout.tells("levelno")):
            name, why = "level", f"lines of {layout.setting('text')} tell no level"
            remedy = "add %(levelname)s to it"
        elif query.client and not (layout.tells("client") or "{client}" in config.files.name):
            name, why = "client", f"lines of {layout.setting('text')} tell no client"
            remedy = "add %(client)s to it"
        elif times and layout.untimed:
            name, why, remedy = times[0], layout.untimed, layout.remedy
        else:
            continue
        return name, f'{why}; {remedy}, or use style = "json"'
    return "", ""


class Filters:
    """What a query asks of records."""

    def __init__(self, config: Config, query: Query) -> None:
        self.query = query
        self.origins = Origins(config)
        self.search: list[re.Pattern[str]] = []
        """What must all be found in a record."""
        self.locate: re.Pattern[str] | None = None
        """What is found in a block where one of them may be found in a record; None: nobody knows."""
        if query.text:
            flags = re.IGNORECASE if query.ignore_case else 0
            self.search.append(re.compile(re.escape(query.text), flags))
            texts = dict.fromkeys((query.text, in_json(query.text)))
            self.locate = re.compile("|".join(map(re.escape, texts)), flags)
        if query.regex:
            self.search.append(query.regex)
            self.locate = self.locate or _for_blocks(query.regex)
        self.is_anchored = bool(query.regex and set("^$") & set(query.regex.pattern))
        """Whether what is looked for may begin or end where a value in JSON does."""
        self.has_begin = bool(query.regex and _has_begin(query.regex.pattern))
        """Whether it may stand only where a message begins."""

    def may_have(self, base: str) -> bool:
        """Whether the log file *base* may have records that are asked for, by its name."""
        logger = self.query.logger
        if not logger or logger == OVERFLOW or len(logger.encode("utf-8", "replace")) > _LONG_NAME_BYTES:
            return True
        return self.origins.may_be_of(base, logger)

    def picker(self, source: Source) -> Picker | None:
        """Return what picks records of a *source*, which is open; None: all of them are asked for."""
        query = self.query
        is_asked = query.level or query.logger or query.client or self.search
        return Picker(self, source) if is_asked else None


class Picker:
    """Picks the records of one file that are asked for."""

    def __init__(self, filters: Filters, source: Source) -> None:
        self._filters = filters
        self._query = query = filters.query
        self._source = source
        base = source.found.base
        self._is_of_file = bool(query.logger) and filters.origins.is_of(base, query.logger)
        self._client_of_file = filters.origins.client(base)
        self._texts = _Texts()
        self._numbers = _Numbers()
        layout = source.layouts[0]
        usual = layout.usual() if source.timed else None
        self._usual = re.compile(usual) if usual else None
        self._groups = set(self._usual.groupindex if self._usual else ())
        if query.client and layout.tells("client") and "client" not in self._groups:
            self._usual = None
        self._needles = [
            text.encode()
            for text, is_in_record in (
                (query.logger, not self._is_of_file),
                (query.client, not self._is_from(self._client_of_file)),
                (query.text, not query.ignore_case),
            )
            if text and is_in_record and _PLAIN(text)
        ]
        self._other_levels = self._without_lower_levels(layout) if self._usual and query.level else None

    def find(self, data: bytes, cutter: Cutter) -> list[tuple[int, int]] | None:
        """Return where the records begin and end in *data*, a block, that are asked for.

        None: so many may be that it costs less to split the block, and then to ask for its records().
        """
        places: list[tuple[int, int]] = []
        if not all(needle in data for needle in self._needles):
            return places
        position_from = self._finder(data)
        end = tried = 0
        while end < len(data) and (position := position_from(end)) >= 0:
            tried += 1
            if tried > _FEW:
                return None
            begin = cutter.begin_of(data, position, end)
            end = cutter.end_of(data, max(begin, position))
            if self.picks(data[begin : end - 1]):
                places.append((begin, end - 1))
        return places

    def records(self, data: bytes, records: Sequence[bytes], begins: Sequence[int]) -> list[int]:
        """Return which of the *records* in *data* are asked for; *begins* has where each begins."""
        found = []
        position_from = self._finder(data)
        index = 0
        while index < len(begins) and (position := position_from(begins[index])) >= 0:
            index = bisect_right(begins, position, index) - 1
            if self.picks(records[index]):
                found.append(index)
            index += 1
        return found

    def picks(self, record: bytes) -> bool:
        """Whether *record* is asked for."""
        query = self._query
        if query.level or query.logger or query.client:
            level, logger, client = self._told(record)
            if query.level and self._numbers[level] < query.level:
                return False
            if query.logger and not (
                self._is_of_file if logger is None else belongs_to(logger, query.logger)
            ):
                return False
            if query.client and not self._is_from(self._client_of_file if client is None else client):
                return False
        text = record.decode("utf-8", "replace")
        missed = [one for one in self._filters.search if not one.search(text)]
        return not missed or all(any(map(one.search, self._further_texts(record))) for one in missed)

    def _further_texts(self, record: bytes) -> Iterator[str]:
        """Yield what else is searched: texts that stand there with escapes, or that an anchor is about."""
        if not record.startswith(JSON_START):
            if self._filters.has_begin:
                yield from _values(self._source.layout_of(record).fields(record).get(KEY_OF["message"]))
        elif self._filters.is_anchored or b"\\" in record:
            yield from _values(self._source.layout_of(record).fields(record))

    def count(self, records: Sequence[bytes], counts: Counter[tuple[str, str]]) -> None:
        """Add how many there are of each level and logger to *counts*, "" where a record does not tell it."""
        groups = [name for name in ("levelname", "name") if name in self._groups]
        if self._usual and len(groups) == 2:  # noqa: PLR2004 - nearly always, and several times as fast
            matches = list(map(self._usual.match, records))
            usual = Counter(match.group(*groups) for match in matches if match)
            for (level, logger), number in usual.items():
                counts[self._texts[level] or "", self._texts[logger] or ""] += number
            records = [record for record, match in zip(records, matches, strict=True) if not match]
        for record in records:
            level_text, logger_text, _ = self._told(record)
            counts[level_text, logger_text or ""] += 1

    def _told(self, record: bytes) -> tuple[str, str | None, str | None]:
        """Return level, logger and client as *record* tells them; else None, and "" for the level."""
        match = self._usual and self._usual.match(record)
        if not match:
            fields = self._source.layout_of(record).fields(record)
            logger, client = fields.get(KEY_OF["name"]), fields.get(KEY_OF["client"])
            return str(fields.get(KEY_OF["levelname"], "")), logger and str(logger), client and str(client)
        groups, texts = self._groups, self._texts
        level = match["levelname" if "levelname" in groups else "levelno"] if groups & _LEVELS else b""
        logger = match["name"] if "name" in groups else _ABSENT
        client = match["client"] if "client" in groups else _ABSENT
        return texts[level] or "", texts[logger], texts[client]

    def _finder(self, data: bytes) -> Callable[[int], int]:  # noqa: PLR0911 - one for each way to find
        """Return what tells where from a position on something asked for may stand; -1: nowhere."""
        filters, locate = self._filters, self._filters.locate
        if filters.search:
            if not locate:
                return lambda start: start
            if self._query.text and filters.query.text.encode() in self._needles:
                needle = self._query.text.encode()
                return lambda start: data.find(needle, start)
            find = _search(locate, data)
            if not self._query.text and JSON_START in data:
                # A regular expression may also find what stands there with escapes.
                if filters.is_anchored:
                    return lambda start: start
                return _nearer(find, lambda start: data.find(b"\\", start))
            return find
        if self._other_levels:
            lines, other = b"\n" + data, self._other_levels
            return lambda start: match.start() if (match := other.search(lines, start)) else -1
        if self._needles:
            return lambda start: data.find(self._needles[0], start)
        return lambda start: start

    def _without_lower_levels(self, layout: Layout) -> re.Pattern[bytes] | None:
        """Return what finds lines that are not surely below the level, from the newline before them on."""
        lower = [name for name in levels.NAMES if (levels.known(name) or 0) < self._query.level]
        pattern = layout.usual(lower) if lower else None
        if pattern is None:
            return None
        # A search for bytes that are always there is several times as fast.
        first = re.escape(layout.first)
        return re.compile(b"\n" + first + b"(?!" + pattern.removeprefix(first) + b")")

    def _is_from(self, client: str) -> bool:
        wanted = self._query.client
        return client == wanted or client.startswith((f"{wanted}:", f"[{wanted}]:"))


class _Texts(dict[bytes, "str | None"]):
    """What stands in a line as text, None where it stands for nothing; most lines share it with others."""

    def __missing__(self, written: bytes) -> str | None:
        if len(self) >= _MAX_TEXTS:
            self.clear()
        text = self[written] = None if written == _ABSENT else written.decode("utf-8", "replace")
        return text


class _Numbers(dict[str, float]):
    """Levels as numbers, by their names."""

    def __missing__(self, written: str) -> float:
        if len(self) >= _MAX_TEXTS:
            self.clear()
        number = self[written] = level_number(written)
        return number


def level_of(fields: dict[str, Any]) -> float:
    """Return the level as a number. One that is unknown is below no level, as it is when collecting."""
    if isinstance(number := fields.get("levelno"), int):
        return number
    return level_number(str(fields.get(KEY_OF["levelname"], "")))


def level_number(written: str) -> float:
    """Return the level of this name as a number; infinity where it is unknown."""
    number = written.removeprefix("Level ")
    if number.isdecimal() and len(number) <= _MAX_DIGITS:
        return int(number)
    known = levels.known(written)
    return float("inf") if known is None else known


def _for_blocks(regex: re.Pattern[str]) -> re.Pattern[str] | None:
    """Return a pattern that finds in a block what *regex* finds in its records; None if there is none."""
    pattern = regex.pattern
    if _ONLY_BY_RECORD.search(pattern):
        return None
    if _has_begin(pattern):
        # It may stand where a message begins, which is within a line.
        if pattern[0] != "^" or "|" in pattern or _has_begin(pattern[1:]):
            return None
        pattern = pattern[1:]
    try:
        return re.compile(pattern, regex.flags | re.MULTILINE)
    except re.error:
        return None  # such as ^*


def _has_begin(pattern: str) -> bool:
    return "^" in pattern.replace("[^", "").replace("\\^", "") or r"\A" in pattern


def _search(pattern: re.Pattern[str], data: bytes) -> Callable[[int], int]:
    """Return what finds *pattern* from a position on; the line that it is in, where *data* are not ASCII."""
    if data.isascii():
        text = data.decode("ascii")
        return lambda start: match.start() if (match := pattern.search(text, start)) else -1
    text = data.decode("utf-8", "replace")
    in_data = list(accumulate((len(line) + 1 for line in data.split(b"\n")), initial=0))
    in_text = list(accumulate((len(line) + 1 for line in text.split("\n")), initial=0))

    def find(start: int) -> int:
        match = pattern.search(text, in_text[bisect_left(in_data, start)])
        return in_data[bisect_right(in_text, match.start()) - 1] if match else -1

    return find


def _nearer(one: Callable[[int], int], other: Callable[[int], int]) -> Callable[[int], int]:
    """Return what tells the first of what two tell; each is asked again only behind what it has told."""
    told = [0, 0]
    asked = False

    def find(start: int) -> int:
        nonlocal asked
        for index, ask in enumerate((one, other)):
            if not asked or 0 <= told[index] < start:
                told[index] = ask(start)
        asked = True
        return min((position for position in told if position >= 0), default=-1)

    return find


def _values(value: object) -> Iterator[str]:
    """Yield the texts in what a line of JSON holds."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _values(one)
