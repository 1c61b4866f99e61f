"""Files read back as one: all records once and whole, in the order of their times."""

from __future__ import annotations

import gzip
import os
import random
import resource
import subprocess
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from collector.config.load import load
from collector.config.tables import Format
from collector.files import inventory
from collector.readback.follow import Follower
from collector.readback.query import Query
from collector.readback.search import Search
from collector.readback.sources import open_all
from tests.benchmarks.reading_back import TAIL, Taken, run
from tests.support.logs import BEGIN, TRACEBACK, UTC, Logs, as_json, five_files_and_twenty_backups, text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize(
    ("line", "seconds", "config"),
    [(text, 1, UTC), (as_json, 0.0001, '[format]\nstyle = "json"'), (as_json, 1, UTC)],
    ids=["text", "json", "json from before the format was text"],
)
def test_five_files_and_twenty_backups_come_out_sorted_by_time(
    tmp_path: Path, line: Callable[..., str], seconds: float, config: str
) -> None:
    logs = Logs(tmp_path, config)
    expected = five_files_and_twenty_backups(logs, line, seconds)
    assert 5000 == len(expected)
    assert "".join(expected) == logs.tail()
    # The same where each record is looked at.
    assert "".join(expected) == logs.tail("--grep", ".")


def test_the_last_records_are_read_from_the_ends(logs: Logs) -> None:
    expected = five_files_and_twenty_backups(logs, text, 1)
    for number in (1, 10, 1500):
        assert "".join(expected[-number:]) == logs.tail("-n", str(number))
    assert "" == logs.tail("-n", "0")


def test_the_last_records_are_the_newest_though_a_file_rolled_over_within_their_second(logs: Logs) -> None:
    lines = [text(BEGIN, "a", "INFO", str(number)) for number in range(10)]
    logs.write("a.log.2026-11-22", "".join(lines[:5]), BEGIN + timedelta(seconds=0.2))
    logs.write("a.log", "".join(lines[5:]), BEGIN + timedelta(seconds=0.7))
    for number in (3, 8):
        assert "".join(lines[-number:]) == logs.tail("-n", str(number))


def test_files_that_overlap_with_records_of_the_same_second_lose_and_double_nothing(logs: Logs) -> None:
    chance = random.Random(6)  # noqa: S311 - the same for ever
    expected = []
    for app in range(4):
        when = BEGIN
        contents = ""
        for number in range(3000):
            when += timedelta(seconds=chance.choice([0, 0, 0, 0, 1, 30]))
            contents += text(when, f"app{app}", "INFO", "x" * chance.choice([1, 100, 2000]) + f" {number}")
        expected += contents.splitlines()
        logs.write(f"app{app}.log", contents)
    lines = logs.tail().splitlines()
    assert sorted(expected) == sorted(lines)
    assert lines == sorted(lines, key=lambda line: line[:22])
    for app in range(4):
        own = [line for line in lines if f"app{app}" in line]
        assert own == [line for line in expected if f"app{app}" in line]  # in their order


def test_records_of_one_file_keep_their_order_though_a_client_clock_is_wrong(logs: Logs) -> None:
    contents = [text(BEGIN + timedelta(seconds=s), "app", "INFO", str(s)) for s in (5, 1, 6, 2, 9)]
    logs.write("app.log", "".join(contents))
    logs.write("b.log", other := text(BEGIN + timedelta(seconds=7), "b", "INFO", "b"))
    assert "".join([*contents[:4], other, contents[4]]) == logs.tail()


def test_records_far_larger_than_a_block_stay_whole(logs: Logs) -> None:
    large = text(BEGIN, "app", "INFO", "begin\n" + "x" * 80 + ("y" * 99 + "\n") * 50_000 + "end")
    after = text(BEGIN + timedelta(seconds=2), "app", "INFO", "after")
    between = text(BEGIN + timedelta(seconds=1), "b", "INFO", "between")
    logs.write("app.log", large + after)
    logs.write("b.log", between)
    assert large + between + after == logs.tail()


def test_an_empty_line_before_a_record_larger_than_a_block_is_not_the_end(logs: Logs) -> None:
    large = text(BEGIN, "app", "INFO", "x" * 3_000_000)
    logs.write("app.log", "\n" + large)
    assert "\n" + large == logs.tail()


def test_a_last_line_without_its_newline_gets_one(logs: Logs) -> None:
    logs.write("app.log", "[2026-11-22 10:00:00]: app INFO 7 cut")
    assert "[2026-11-22 10:00:00]: app INFO 7 cut\n" == logs.tail()


@pytest.mark.quick
def test_what_logrotate_has_made_is_read(logs: Logs) -> None:
    names = ["app.log-20261120.gz", "app.log.3.gz", "app.log-2026112110", "app.log-20261121-1795478400"]
    names += ["app-20261120.log.gz", "app.2.log.gz", "app.1.log", "app.log.2.gz", "app-20261121.log"]
    names += ["app.log-20261122", "app.log.1", "app.log.0", "app.log.2026-11-22", "app.log"]
    expected = ""
    for number, name in enumerate(names):
        when = BEGIN + timedelta(minutes=number)
        logs.write(name, line := text(when, "app", "INFO", name), when)
        expected += line
    for name in (
        "app.log.00",
        "app.old.log",
        "app.1.txt",
        "app.log.gz",
        "app.log.old",
        "app.log-2026",
        "app.log.1.bz2",
        "other.txt.1",
    ):
        logs.write(name, "no\n")
    assert expected == logs.tail()
    assert expected == logs.tail("--grep", "app")
    assert "".join(expected.splitlines(keepends=True)[-4:]) == logs.tail("-n", "4")


@pytest.mark.parametrize(("dots", "own"), [("_", "app.log"), (".", "app.1.log")])
def test_what_can_be_a_log_file_of_its_own_is_no_other_files_backup(
    tmp_path: Path, dots: str, own: str
) -> None:
    logs = Logs(tmp_path)
    logs.config.write_text(f'[files]\ndirectory = "{logs.directory}"\ndots = "{dots}"\n')
    expected = {
        "app.log": "app.log",
        "app.0.log": own.replace("1", "0"),
        "app.1.log": own,
        "app.2.log.gz": "app.log",
    }
    expected |= {"app-20261120.log": "app-20261120.log", "app-20261120.log.gz": "app.log"}
    for name in expected:
        logs.write(name, "x\n")
    found = inventory.find(load(logs.config), rotated=True)
    assert expected == {os.path.basename(one.path): one.base for one in found}


def test_what_logrotate_has_made_is_not_the_collectors_to_count_or_delete(logs: Logs) -> None:
    for name in ("app.log", "app.log.1", "app.1.log", "app.log-20261122.gz", "app.log.2026-11-22"):
        logs.write(name, "x\n")
    found = {os.path.basename(one.path) for one in inventory.find(load(logs.config))}
    assert {"app.log", "app.log.2026-11-22"} == found


def test_files_that_logrotate_renames_while_they_are_read_are_read_once_and_whole(logs: Logs) -> None:
    for number, name in enumerate(("app.log.2.gz", "app.log.1", "app.log")):
        logs.write(name, text(BEGIN + timedelta(minutes=number), "app", "INFO", name))
    search = Search(load(logs.config), Query())
    for name, to in (("app.log.2.gz", "app.log.3.gz"), ("app.log.1", "app.log.2"), ("app.log", "app.log.1")):
        (logs.directory / name).rename(logs.directory / to)
    logs.write("app.log", text(BEGIN + timedelta(minutes=9), "app", "INFO", "new"))
    with closing(search):
        records = [hit.record for hit in search.newest_first()]
    assert ["app.log", "app.log.1", "app.log.2.gz"] == [record.decode().split()[-1] for record in records]


def test_a_file_that_logrotate_moves_is_followed_while_it_is_written_and_nothing_is_shown_twice(
    logs: Logs,
) -> None:
    logs.write("app.log", text(BEGIN, "app", "INFO", "old"))
    logs.write("app.log.1", text(BEGIN, "app", "INFO", "older"))
    config = load(logs.config)
    opened = open_all(config)
    with closing(Follower(config, opened)) as follower:
        for source in opened:
            source.close()

        def shown() -> list[str]:
            return [record.decode().split()[-1] for _, record, _ in follower.poll()]

        assert [] == shown()
        (logs.directory / "app.log.1").rename(logs.directory / "app.log.2")
        (logs.directory / "app.log").rename(logs.directory / "app.log.1")
        assert [] == shown()
        with (logs.directory / "app.log.1").open("a") as moved:
            for word in ("late", "later"):
                moved.write(text(BEGIN, "app", "INFO", word))
                moved.flush()
                assert [word] == shown()
        logs.write("app.log", text(BEGIN, "app", "INFO", "new"))
        assert ["new"] == shown()
        (logs.directory / "app.log.2.gz").write_bytes(
            gzip.compress((logs.directory / "app.log.2").read_bytes())
        )
        (logs.directory / "app.log.2").unlink()
        # As copytruncate does it.
        (logs.directory / "app.log.3").write_bytes((logs.directory / "app.log").read_bytes())
        assert [] == shown()


def test_a_file_that_was_made_rolled_over_and_compressed_between_two_looks_is_shown_once(logs: Logs) -> None:
    logs.write("app.log", text(BEGIN, "app", "INFO", "old"))
    logs.write("app.log.2026-11-21", text(BEGIN, "app", "INFO", "older"))
    config = load(logs.config)
    path = logs.directory / "app.log"

    def roll_over(number: int) -> None:
        data = path.read_bytes()
        path.unlink()
        logs.write(f"app.log.2026-11-22.{number}.gz", data.decode(), BEGIN + timedelta(minutes=number))

    with closing(Search(config, Query())) as search, closing(Follower(config, search.sources)) as follower:

        def shown() -> list[str]:
            return [record.decode().split()[-1] for _, record, _ in follower.poll()]

        assert [] == shown()
        with path.open("a") as file:
            file.write(text(BEGIN, "app", "INFO", "rest"))
        roll_over(1)
        for number in (2, 3):  # in one second: only the files tell what came first
            logs.write("app.log", text(BEGIN, "app", "INFO", f"new{number}"))
            roll_over(number)
        logs.write("app.log", text(BEGIN, "app", "INFO", "last"), BEGIN + timedelta(minutes=4))
        assert ["rest", "new2", "new3", "last"] == shown()
        subprocess.run(["gzip", f"{path}.2026-11-21"], check=True)
        assert [] == shown()
        roll_over(4)
        assert [] == shown()
        assert [] == shown()


def test_backups_that_take_the_inode_of_others_or_cannot_be_opened_at_once_are_followed(logs: Logs) -> None:
    logs.write("app.log", text(BEGIN, "app", "INFO", "old"))
    config = load(logs.config)

    def make(number: int) -> Path:
        name = f"app.log.2026-11-22.{number}"
        when = BEGIN + timedelta(minutes=number)
        logs.write(name, text(when, "app", "INFO", f"new{number}"), when)
        return logs.directory / name

    with closing(Search(config, Query())) as search, closing(Follower(config, search.sources)) as follower:

        def shown() -> list[str]:
            return [record.decode().split()[-1] for _, record, _ in follower.poll()]

        first = make(1)
        assert ["new1"] == shown()
        # As where the first was compressed, and the file that is the second by now was given its inode.
        subprocess.run(["gzip", "-k", str(first)], check=True)
        contents = make(2).read_bytes()
        first.rename(f"{logs.directory}/app.log.2026-11-22.2")
        (logs.directory / "app.log.2026-11-22.2").write_bytes(contents)
        assert ["new2"] == shown()
        # With one descriptor left, the second of two cannot be opened; it is compressed before the next look.
        make(3)
        second = make(4)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.open("/dev/null", os.O_RDONLY)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, limits[1]))
        try:
            assert ["new3"] == shown()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        subprocess.run(["gzip", str(second)], check=True)
        assert ["new4"] == shown()
        assert [] == shown()


def test_without_a_time_in_the_format_each_file_is_taken_as_a_whole_and_that_is_said_once(
    tmp_path: Path,
) -> None:
    logs = Logs(tmp_path, '[format]\ntext = "%(name)s %(message)s"')
    logs.write("b.log", "b 1\nb 2\n", BEGIN)
    logs.write("a.log", "a 1\n\na 2\n", BEGIN + timedelta(days=1))
    result = logs.run()
    assert "b 1\nb 2\na 1\n\na 2\n" == result.stdout
    why = '[format] text = "%(name)s %(message)s" has no %(asctime)s'
    assert f"collector tail: 2 files: {why}; each is taken as a whole\n" == result.stderr
    assert 0 == result.returncode


# --- while it changes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("newest_first", [False, True], ids=["oldest first", "newest first"])
def test_a_file_rolled_over_and_compressed_while_it_is_read_is_read_once_and_whole(
    logs: Logs, *, newest_first: bool
) -> None:
    lines = [text(BEGIN + timedelta(seconds=s), "app", "INFO", f"{s}") for s in range(60_000)]
    logs.write("app.log.2026-11-21", "".join(lines[:30_000]))
    logs.write("app.log", "".join(lines[30_000:]))
    search = Search(load(logs.config), Query())
    hits = search.newest_first() if newest_first else search.oldest_first()
    read = [next(hits).record]
    path = logs.directory / "app.log"
    path.rename(f"{path}.2026-11-22")
    logs.write("app.log", text(BEGIN + timedelta(days=1), "app", "INFO", "later"))
    subprocess.run(["gzip", f"{path}.2026-11-21"], check=True)
    subprocess.run(["gzip", f"{path}.2026-11-22"], check=True)
    with closing(search):
        read += [hit.record for hit in hits]
    assert "".join(lines) == b"\n".join(read[::-1] if newest_first else read).decode() + "\n"


# --- speed and memory ---------------------------------------------------------------------------------------

MB = 1_000_000


def measured(*command: object) -> Taken:
    """Run *command* with output to nowhere."""
    return run(list(map(str, command)), subprocess.DEVNULL)


@pytest.mark.slow
@pytest.mark.parametrize("overlapping", [False, True], ids=["one after the other", "all at the same time"])
def test_a_gigabyte_is_read_at_100_mb_a_second_in_constant_memory(
    tmp_path: Path, *, overlapping: bool
) -> None:
    """By CPU time, for others may be busy on the machine, and with a seventh of it."""
    logs = Logs(tmp_path)
    total = 0
    for app in range(5):
        with (logs.directory / f"app{app}.log").open("w") as file:
            for second in range(2000):
                when = BEGIN + timedelta(seconds=second + (0 if overlapping else 10_000 * app))
                line = text(when, f"app{app}", "INFO", "GET /api/v1/orders/12345 200 took 12.3 ms for alice")
                total += file.write(line * 200 + (TRACEBACK if second % 10 == 0 else ""))
    files = sorted(logs.directory.iterdir())
    command = [*TAIL, "-c", logs.config, "-n", "all"]
    wall, cpu, memory, _ = measured(*command)
    grep_wall = measured(*command, "--grep", "12.3 m.*alice").seconds
    cat = measured("cat", *files).seconds
    few_wall = measured(*command, "--grep", r"1970 .*alice|ValueError: 2").seconds
    # Piped, for grep stops at the first line where nobody reads.
    grep = measured("sh", "-c", 'grep -h "12.3 m.*alice" "$@" | cat', "sh", *files).seconds
    print(
        f"{total / MB:.0f} MB: tail {total / MB / wall:.0f} MB/s ({total / MB / cpu:.0f} by CPU time), "
        f"{memory / MB:.0f} MB of memory; with --grep "
        f"{total / MB / grep_wall:.0f} MB/s where all is found, {total / MB / few_wall:.0f} where nothing; "
        f"cat {total / MB / cat:.0f} MB/s, grep {total / MB / grep:.0f} MB/s"
    )
    assert total / cpu > 100 * MB
    assert 0 < memory < 60 * MB
    assert Format().text == load(logs.config).format.text  # the default is what was measured
