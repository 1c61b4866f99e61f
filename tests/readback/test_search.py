"""Files read from either end: the same records in one order, and those that a look at every line finds."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
from contextlib import closing
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, NamedTuple

import pytest

from collector.config.load import load
from collector.readback import search, sources
from collector.readback.query import Query
from collector.readback.search import Search
from tests.support.logs import BEGIN, Logs, text

if TYPE_CHECKING:
    from pathlib import Path

    from collector.readback.query import Hit

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "NOTICE", "Level 15")
NUMBERS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50, "Level 15": 15}
WORDS = ("cart", "ordér", 'say "hi"', "C:\\new", "ERROR 7", "x" * 300, "", "tab\there", "naïve", "[2026")


FILES = [["app0"], ["app0.x"], ["app1"], ["_overflow", "app0.x", "app7"]]


class Line(NamedTuple):
    """A record as it was written, and what it was made of."""

    file: str
    when: datetime
    logger: str
    level: str
    message: str
    client: str
    written: bytes


def rendered(  # noqa: PLR0913, PLR0917 - the fields of a record
    style: str, when: datetime, logger: str, level: str, message: str, client: str
) -> bytes:
    if style == "text":
        return f"[{when:%Y-%m-%d %H:%M:%S}]: {logger} {level} 7 {client} {message}".encode()
    record = {"timestamp": f"{when:%Y-%m-%dT%H:%M:%S.%f}Z", "level": level, "logger": logger}
    head, _, trace = message.partition("\n")
    record |= {"message": head} | ({"exception": trace} if trace else {}) | {"client": client}
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()


class Directory:
    """Log files of several loggers with backups, some of them compressed, made by chance."""

    def __init__(self, home: Path, chance: random.Random, style: str, *, jitter: float) -> None:
        text = "[%(asctime)s]: %(name)s %(levelname)s %(lineno)s %(client)s %(message)s"
        config = f'[format]\nstyle = "{style}"\nutc = true\ntext = "{text}"'
        self.logs = Logs(home, config)
        self.files: dict[str, list[Line]] = {}
        for loggers in chance.sample(FILES, chance.randint(1, 4)):
            when = BEGIN + timedelta(seconds=chance.randrange(300))
            number = chance.randint(1, 4)
            for part in range(number):
                name = (
                    loggers[0].replace(".", "_")
                    + ".log"
                    + ("" if part == number - 1 else f".2026-11-22.{part + 1}")
                )
                if part < number - 1 and chance.random() < 0.5:
                    name += ".gz"
                lines = self.files[name] = []
                for _ in range(chance.randrange(1, 80)):
                    when += timedelta(seconds=chance.choice([0, 0, 1, 5]), milliseconds=style != "text")
                    shown = when - timedelta(seconds=jitter * chance.random() ** 4)
                    what = (shown, chance.choice(loggers), chance.choice(LEVELS))
                    message = " ".join(chance.choice(WORDS) for _ in range(chance.randrange(4)))
                    if chance.random() < 0.2:
                        message += (
                            '\nTraceback:\n  File "x"\n'
                            + "  ...\n" * chance.randrange(30)
                            + "ValueError: ERROR"
                        )
                    client = f"10.0.0.{chance.randrange(3)}:{chance.randrange(40_000, 40_003)}"
                    lines.append(Line(name, *what, message, client, rendered(style, *what, message, client)))
                data = b"".join(line.written + b"\n" for line in lines)
                data = data[:-1] if chance.random() < 0.3 else data
                path = self.logs.directory / name
                path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
                os.utime(path, (when.timestamp() + 1,) * 2)

    def search(self, query: Query, *, newest_first: bool) -> list[Hit]:
        with closing(Search(load(self.logs.config), query)) as search:
            hits = list(search.newest_first() if newest_first else search.oldest_first())
            assert [] == search.troubles
        return hits


def places(hits: list[Hit]) -> list[tuple[str, int, bytes]]:
    return [(os.path.basename(hit.source.found.path), hit.offset, hit.record) for hit in hits]


QUERIES = [
    Query(),
    Query(level=40),
    Query(level=15),
    Query(logger="app1"),
    Query(logger="app0.x", level=30),
    Query(text="cart"),
    Query(text="CART", ignore_case=True),
    Query(text='say "hi"'),
    Query(text="C:\\new"),
    Query(text="ordér", level=20),
    Query(regex=re.compile(r"C:\\new|naïve$")),
    Query(regex=re.compile("(?s)cart.*ValueError")),
    Query(regex=re.compile(r'hi"\s*x+$')),
    Query(regex=re.compile(r"(?<=ordér )cart")),
    Query(regex=re.compile("nothing like this")),
    Query(regex=re.compile("^cart")),
    Query(regex=re.compile("^(cart|ordér) ")),
    Query(regex=re.compile("^ordér|naïve cart$")),
    Query(client="10.0.0.1"),
    Query(client="10.0.0.2:40001", level=20),
]


def naive(lines: list[Line], query: Query) -> list[Line]:
    found = []
    for line in lines:
        texts = [line.written.decode(), line.message]
        if query.level and NUMBERS.get(line.level, 99) < query.level:
            continue
        if query.logger and not f"{line.logger}.".startswith(f"{query.logger}."):
            continue
        if query.client and query.client not in (line.client, line.client.partition(":")[0]):
            continue
        if query.ignore_case and not any(query.text.lower() in text.lower() for text in texts):
            continue
        if not query.ignore_case and not any(query.text in text for text in texts):
            continue
        if line.written.startswith(b"{"):
            texts += [line.message.partition("\n")[0], line.message.partition("\n")[2]]
        if query.regex and not any(query.regex.search(text) for text in texts):
            continue
        found.append(line)
    return found


@pytest.fixture(params=[100, 1000, 65_536])
def stretch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make blocks of three records, of some more, and of whole files."""
    monkeypatch.setattr(sources, "_MAX_STRETCH_BYTES", request.param)
    monkeypatch.setattr(sources, "_MIN_STRETCH_BYTES", 100)


@pytest.mark.slow
@pytest.mark.parametrize("style", ["text", "json"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.usefixtures("stretch")
def test_backwards_is_forwards_reversed_and_what_a_look_at_every_line_finds(
    tmp_path: Path, seed: int, style: str
) -> None:
    chance = random.Random(seed)  # noqa: S311 - the same for ever
    directory = Directory(tmp_path, chance, style, jitter=0)
    for query in QUERIES:
        forwards = places(directory.search(query, newest_first=False))
        assert forwards == places(directory.search(query, newest_first=True))[::-1], query
        expected = {name: naive(lines, query) for name, lines in directory.files.items()}
        for name, lines in expected.items():
            assert [line.written for line in lines] == [one for file, _, one in forwards if file == name], (
                query
            )
        assert sum(map(len, expected.values())) == len(forwards)
        assert in_sequence(directory, expected, style) == [(file, one) for file, _, one in forwards], query


def in_sequence(directory: Directory, found: dict[str, list[Line]], style: str) -> list[tuple[str, bytes]]:
    """Return the records by time; those of the same time by logger, and then as they were written."""
    names = sorted(directory.files, key=lambda name: name.partition(".")[0])  # stable
    lines = [line for name in names for line in found[name]]
    lines.sort(key=lambda line: line.when if style == "json" else line.when.replace(microsecond=0))
    return [(line.file, line.written) for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("style", ["text", "json"])
@pytest.mark.parametrize("seed", range(10, 12))
@pytest.mark.usefixtures("stretch")
def test_spans_and_cursors_leave_what_they_name_from_either_end(
    tmp_path: Path, seed: int, style: str
) -> None:
    chance = random.Random(seed)  # noqa: S311 - the same for ever
    directory = Directory(tmp_path, chance, style, jitter=0)
    whole = directory.search(Query(), newest_first=False)
    for _ in range(12):
        after, before = (BEGIN.timestamp() + chance.randrange(900) for _ in range(2))
        query = Query(after, before)
        low, high = (
            f"{datetime.fromtimestamp(one, timezone.utc):%Y-%m-%dT%H:%M:%S.}" for one in (after, before)
        )
        expected = places([hit for hit in whole if low.encode() <= hit.key < high.encode()])
        assert expected == places(directory.search(query, newest_first=False))
        assert expected == places(directory.search(query, newest_first=True))[::-1]
    for index in [0, len(whole) - 1, *chance.sample(range(len(whole)), min(12, len(whole)))]:
        cursor = whole[index].cursor
        for newest_first in (False, True):
            step = -1 if newest_first else 1
            older = places(directory.search(Query(before=cursor), newest_first=newest_first))[::step]
            newer = places(directory.search(Query(after=cursor), newest_first=newest_first))[::step]
            assert (places(whole[:index]), places(whole[index + 1 :])) == (older, newer)


class EnoughError(Exception):
    pass


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("seed", range(40, 43))
@pytest.mark.usefixtures("stretch")
def test_a_search_that_is_stopped_anywhere_can_be_gone_on_with_and_comes_forward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, *, newest_first: bool
) -> None:
    monkeypatch.setattr(search, "_BOUND_BLOCKS", 2)
    chance = random.Random(seed)  # noqa: S311 - the same for ever
    directory = Directory(tmp_path, chance, "text", jitter=0)
    config = load(directory.logs.config)
    for asked in (
        Query(text="cart"),
        Query(text="naïve", level=50),
        Query(text="nothing like this"),
        Query(),
    ):
        cursor, found, stops = "", [], 0
        while True:
            left = 400 + 100 * stops  # of reads: a file that is compressed cannot be read in two parts

            def read(_: int) -> None:
                nonlocal left
                left -= chance.randrange(10)
                if left < 0:
                    raise EnoughError

            here = cursor or None
            query = asked._replace(before=here) if newest_first else asked._replace(after=here)
            last = None
            with closing(Search(config, query, report=read)) as stopped:
                try:
                    for hit in stopped.newest_first() if newest_first else stopped.oldest_first():
                        found.append(hit)
                        last = hit
                    break
                except EnoughError:
                    left = 1000
                    cursor = stopped.reached(last, newest_first=newest_first) or cursor
                    stops += 1
            assert stops < 50
        assert places(directory.search(asked, newest_first=newest_first)) == places(found)


@pytest.mark.slow
@pytest.mark.parametrize("style", ["text", "json"])
@pytest.mark.parametrize("seed", range(20, 22))
@pytest.mark.parametrize("jitter", [3, 3600])
def test_clocks_set_back_lose_and_double_nothing_and_give_one_sequence_from_either_end(
    tmp_path: Path, seed: int, style: str, jitter: float
) -> None:
    directory = Directory(tmp_path, random.Random(seed), style, jitter=jitter)  # noqa: S311 - the same for ever
    for query in QUERIES:
        forwards = directory.search(query, newest_first=False)
        assert places(forwards) == places(directory.search(query, newest_first=True))[::-1]
        for name, lines in directory.files.items():
            own = [hit.record for hit in forwards if hit.source.found.path.endswith(f"/{name}")]
            assert [line.written for line in naive(lines, query)] == own
        assert forwards == sorted(forwards, key=lambda hit: hit.key)
    for hit in forwards:
        after, before = Query(after=hit.cursor), Query(before=hit.cursor)
        for query in (after, before):
            assert (
                places(directory.search(query, newest_first=False))
                == places(directory.search(query, newest_first=True))[::-1]
            )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(30, 33))
@pytest.mark.usefixtures("stretch")
def test_context_is_what_stands_beside_in_the_file(tmp_path: Path, seed: int) -> None:
    directory = Directory(tmp_path, random.Random(seed), "text", jitter=0)  # noqa: S311 - the same for ever
    query = Query(text="cart", level=30)
    for before, after in ((0, 2), (3, 0), (2, 5)):
        expected = set()
        for name, lines in directory.files.items():
            hits = {index for index, line in enumerate(lines) if line in naive(lines, query)}
            near = {hit + step for hit in hits for step in range(-before, after + 1)}
            expected |= {(name, lines[i].written, i in hits) for i in near if 0 <= i < len(lines)}
        for newest_first in (False, True):
            with closing(Search(load(directory.logs.config), query, context=(before, after))) as search:
                found = list(search.newest_first() if newest_first else search.oldest_first())
            assert len(expected) == len({place[:2] for place in places(found)})
            assert expected == {
                (os.path.basename(hit.source.found.path), hit.record, hit.is_hit) for hit in found
            }


def test_a_clock_set_back_for_long_in_a_large_file_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_MAX_STRETCH_BYTES", 200)
    monkeypatch.setattr(sources, "_MIN_STRETCH_BYTES", 100)
    directory = Directory(tmp_path, random.Random(7), "text", jitter=3600)  # noqa: S311 - the same for ever
    for newest_first in (False, True):
        hits = places(directory.search(Query(), newest_first=newest_first))
        for name, lines in directory.files.items():
            own = [record for file, _, record in hits if file == name]
            assert [line.written for line in lines] == (own[::-1] if newest_first else own)


def test_a_cursor_holds_when_its_file_is_rolled_over_and_compressed_and_when_that_is_deleted(
    logs: Logs,
) -> None:
    config = load(logs.config)

    def asked(**which: str) -> list[str]:
        with closing(Search(config, Query(**which))) as search:  # type: ignore[arg-type]
            return [hit.record.decode().split()[-1] for hit in search.oldest_first()]

    for name, letters in (("a.log", "ace"), ("b.log", "bdf")):
        logs.write(name, "".join(text(BEGIN, name[0], "INFO", letter) for letter in letters))
    with closing(Search(config, Query())) as search:
        cursor = {hit.record[-1:]: hit.cursor for hit in search.newest_first()}[b"c"]
    assert (["a"], ["e", "b", "d", "f"]) == (asked(before=cursor), asked(after=cursor))
    data = (logs.directory / "a.log").read_bytes() + text(BEGIN, "a", "INFO", "g").encode()
    (logs.directory / "a.log").unlink()
    logs.write("a.log.2026-11-22.gz", data.decode())
    logs.write("a.log", text(BEGIN + timedelta(seconds=1), "a", "INFO", "h"), BEGIN + timedelta(seconds=1))
    assert (["a"], ["e", "g", "b", "d", "f", "h"]) == (asked(before=cursor), asked(after=cursor))
    (logs.directory / "a.log.2026-11-22.gz").unlink()
    assert ([], ["b", "d", "f", "h"]) == (asked(before=cursor), asked(after=cursor))
    with pytest.raises(ValueError, match="nonsense: must be a cursor as a record has it"):
        asked(after="nonsense")
