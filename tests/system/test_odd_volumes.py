"""Volumes with manners of their own: some refuse chmod, some ignore case, some leave no room for gzip.

They are file systems that a test mounts (tests/support/odd_volume.py), and what is asked is what an operator
sees: the files, the log, the health. Not tested: that a backup is compressed later, which is a minute; a real
CIFS.
"""

from __future__ import annotations

import calendar
import gzip
import itertools
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.admin import ADMIN, ask, stats
from tests.support.frames import make_frame
from tests.support.numbered import MAX_BYTES, Numbered, restart, rollover
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.clock import Clock
    from tests.support.collectors import Collector
    from tests.support.odd_volume import OddVolume
    from tests.support.volumes import Volumes

    MakeCollector = Callable[..., Collector]

pytestmark = pytest.mark.slow

SECONDS = 10
PROBES = ".collector."


def lines_of(collector: Collector, level: str) -> list[str]:
    return [line for line in collector.stderr.splitlines() if f" {level} " in line]


# --- a volume that refuses chmod ----------------------------------------------------------------------------

each_refusal = pytest.mark.parametrize("error", ["EPERM", "EOPNOTSUPP"])


@each_refusal
def test_where_chmod_is_refused_records_are_written_at_once_and_all_is_well(
    odd_volume: OddVolume, make_collector: MakeCollector, error: str
) -> None:
    odd_volume.set(refuse={"chmod": error})
    collector = make_collector(ADMIN, directory=odd_volume.mount / "logs").start()
    for n in range(3):
        collector.send(make_frame("hello", f"app{n}"))
        within(1, lambda n=n: collector.lines(f"app{n}.log"), "it is written at once")  # type: ignore[misc]
        assert 200 == ask(collector, "/healthz")[0]
    collector.send(b"\0\0\0\1N")
    quarantine = collector.directory / ".quarantine"
    within(1, lambda: quarantine.exists() and quarantine.read_bytes() == b"\0\0\0\1N", "so is a bad frame")
    assert {} == stats(collector)["write_errors"]
    assert 0 == collector.stop()
    assert [] == [line for line in lines_of(collector, "ERROR") if "quarantined" not in line]


@each_refusal
def test_where_chmod_is_refused_rollovers_and_what_they_leave_to_do_go_on(
    odd_volume: OddVolume, make_collector: MakeCollector, error: str
) -> None:
    odd_volume.set(refuse={"chmod": error})
    config = rollover("size", compress=True, backups=2) + ADMIN
    collector = make_collector(config, directory=odd_volume.mount / "logs")
    collector.directory.mkdir()
    collector.start()
    records = Numbered(collector)
    for _ in range(5):
        records.send(30)
        records.settle(2, compress=True)
        records.assert_newest()
    assert 2 == len(records.backups())
    modes = {path.stat().st_mode for path in collector.directory.iterdir() if path.name[0] != "."}
    assert 1 == len(modes), "who may read the log file may read its backups"
    assert (200, {}) == (ask(collector, "/healthz")[0], stats(collector)["write_errors"])


def test_a_mode_that_is_refused_is_one_warning_per_directory(
    odd_volume: OddVolume, make_collector: MakeCollector
) -> None:
    odd_volume.set(refuse={"chmod": "EPERM"})
    rule = '[[logger]]\nname = "sub"\nfile = "sub/all.log"\n'
    config = rollover("size", compress=True, backups=2) + rule
    collector = make_collector(config, directory=odd_volume.mount / "logs").start()
    records = Numbered(collector)
    for _ in range(3):
        records.send(30)
        collector.send(b"".join(make_frame("x" * 100, logger) * 30 for logger in ("sub", "web", "db")))
        records.settle(2, compress=True)
    sub = collector.directory / "sub"
    within(SECONDS, lambda: len(list(sub.glob("all.log.*.gz"))) == 2, "those below roll over too")
    assert 0 == collector.stop()
    assert [] == lines_of(collector, "ERROR")
    above, below = sorted(lines_of(collector, "WARNING"), key=lambda line: str(sub) in line)
    assert str(sub) not in above
    for line in (above, below):
        assert str(collector.directory) in line
        assert "mode" in line


# --- a volume that ignores case -----------------------------------------------------------------------------

HANGUL = "\ud55c\uae00"
# The parts of a syllable are letters, so they stay as they are in the name of a file.
HANGUL_IN_PARTS = "\u1112\u1161\u11ab\u1100\u1173\u11af"
SPELLINGS = [
    ("App", "app", "case"),
    ("app", "APP", "case"),
    ("ÄPP", "äpp", "case"),
    ("straße", "STRASSE", "case"),
    (HANGUL, HANGUL_IN_PARTS, "case and form"),
]


def send_in_turn(collector: Collector, *loggers: str, rounds: int, first: int = 0) -> int:
    """Send 30 numbered records a round, of each logger in turn; return the number behind the last one."""
    written = stats(collector)["records"]["written"]
    for start in range(first, first + 30 * rounds, 30):
        numbers = range(start, start + 30)
        texts = [(f"{number:06} {'-' * 50}", loggers[number % len(loggers)]) for number in numbers]
        collector.send(b"".join(make_frame(*text) for text in texts))
        written += 30
        within(SECONDS, lambda: stats(collector)["records"]["written"] == written, "written")  # noqa: B023
    return first + 30 * rounds


def numbers_in(directory: Path) -> list[int]:
    """Return the numbers of the records in all files and backups of *directory*."""
    found: list[int] = []
    for path in directory.rglob("*.log*"):
        if not path.name.startswith("."):
            data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            found += map(int, re.findall(rb" (\d{6}) ", data))
    return sorted(found)


def compressed(directory: Path) -> bool:
    names = [path.name for path in directory.rglob("*.log.*")]
    return bool(names) and all(name.endswith(".gz") for name in names)


def assert_no_probe_is_left(directory: Path) -> None:
    assert {".collector.lock"} == {path.name for path in directory.rglob(f"{PROBES}*")}


@pytest.mark.parametrize(("first", "second", "ignores"), SPELLINGS)
def test_two_spellings_are_one_file_by_the_name_of_the_first_and_lose_nothing(
    odd_volume: OddVolume, make_collector: MakeCollector, first: str, second: str, ignores: str
) -> None:
    odd_volume.set(ignores=ignores)
    config = rollover("size", compress=True, backups=0) + ADMIN
    collector = make_collector(config, directory=odd_volume.mount / "logs").start()
    sent = send_in_turn(collector, first, second, rounds=10)
    within(SECONDS, lambda: compressed(collector.directory), "all is compressed")
    assert list(range(sent)) == numbers_in(collector.directory)
    assert {f"{first}.log"} == {name.partition(".log")[0] + ".log" for name in collector.files()}
    assert 0 == collector.stop()
    assert list(range(sent)) == numbers_in(odd_volume.root)
    assert_no_probe_is_left(odd_volume.root)
    told = [line for line in collector.stderr.splitlines() if "case" in line and "spelling" in line]
    assert 1 == len(told)
    assert f"{second}.log" in told[0]
    assert f"{first}.log" in told[0]


def test_a_hundred_spellings_of_one_file_do_not_flood_the_log(
    odd_volume: OddVolume, make_collector: MakeCollector
) -> None:
    odd_volume.set(ignores="case")
    collector = make_collector(directory=odd_volume.mount / "logs").start()
    letters = [("l", "L"), ("o", "O"), ("g", "G"), ("g", "G"), ("e", "E"), ("r", "R"), ("s", "S")]
    spellings = ["".join(each) for each in itertools.product(*letters)][:100]
    for spelling in spellings:
        collector.send(make_frame("x", spelling))
    within(SECONDS, lambda: len(collector.lines("loggers.log")) == 100, "all in one file")
    within(SECONDS, lambda: collector.stderr.count("the first spelling names the file") == 20)


def test_where_case_counts_two_spellings_are_two_files(make_collector: MakeCollector) -> None:
    collector = make_collector().start()
    collector.send(make_frame("one", "App") + make_frame("two", "app"))
    within(SECONDS, lambda: collector.lines("App.log") and collector.lines("app.log"), "two files")
    assert_no_probe_is_left(collector.directory)


def test_max_files_counts_no_spelling_twice(odd_volume: OddVolume, make_collector: MakeCollector) -> None:
    odd_volume.set(ignores="case")
    collector = make_collector("[files]\nmax_files = 2\n", directory=odd_volume.mount / "logs").start()
    for logger in ("App", "app", "APP", "Other", "OTHER", "third"):
        collector.send(make_frame("hello", logger))
    within(SECONDS, lambda: collector.lines("_overflow.log"), "the third name is one too many")
    lines = {name: len(data.splitlines()) for name, data in collector.files().items()}
    assert {"App.log": 3, "Other.log": 2, "_overflow.log": 1} == lines


def all_deleted(collector: Collector) -> bool:
    files = stats(collector)["files"]
    return bool(files["rollovers"] == files["deleted_backups"])


def test_the_other_spelling_after_a_restart_finds_the_backups_of_the_first(
    odd_volume: OddVolume, make_collector: MakeCollector
) -> None:
    odd_volume.set(ignores="case")
    config = rollover("size", compress=False, backups=3) + ADMIN
    collector = make_collector(config, directory=odd_volume.mount / "logs").start()
    sent = send_in_turn(collector, "App", rounds=5)
    restart(collector)
    sent = send_in_turn(collector, "app", rounds=2, first=sent)
    within(
        SECONDS,
        lambda: 3 == len([name for name in collector.files() if name.lower().startswith("app.log.")]),
        "backup_count holds for both spellings",
    )
    within(SECONDS, lambda: all_deleted(collector), "for each new one an old one has gone")
    found = numbers_in(collector.directory)
    assert list(range(found[0], sent)) == found


RULES = """
[[logger]]
name = "one"
%sfile = "%s"
[[logger]]
name = "two"
%sfile = "%s"
"""
DIFFERING = RULES % (
    *("rollover = { max_bytes = 1000 }\n", "All.log"),
    *("rollover = { max_bytes = 2000 }\n", "all.log"),
)


@pytest.mark.parametrize("command", ["check", "run"])
def test_rules_on_one_file_in_two_spellings_must_agree(
    odd_volume: OddVolume, make_collector: MakeCollector, command: str
) -> None:
    odd_volume.set(ignores="case")
    collector = make_collector(DIFFERING, directory=odd_volume.mount / "logs")
    collector.directory.mkdir()
    tried = subprocess.run(
        [sys.executable, "-m", "collector", command, "-c", collector.config],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert 2 == tried.returncode
    for what in ('"one"', '"two"', "All.log", "rollover.max_bytes"):
        assert what in tried.stderr


def test_rules_on_two_files_may_differ_where_case_counts(make_collector: MakeCollector) -> None:
    collector = make_collector(DIFFERING).start()
    collector.send(make_frame("one", "one") + make_frame("two", "two"))
    within(SECONDS, lambda: {"All.log", "all.log"} == collector.files().keys(), "two files")


@pytest.mark.parametrize(
    ("rules", "loggers"),
    [
        (RULES % ("", "mount/X.log", "", "mount/x.log"), ("one", "two")),
        ("", ("mount.X", "mount.x")),
        ("", ("mount.New.X", "mount.new.x")),
    ],
    ids=["rules", "names from the wire", "directories made for names from the wire"],
)
def test_a_volume_below_the_directory_is_tried_when_it_is_first_used(
    odd_volume: OddVolume, make_collector: MakeCollector, rules: str, loggers: tuple[str, str]
) -> None:
    odd_volume.set(ignores="case")
    config = '[files]\ndots = "/"\n' + rollover("size", compress=True, backups=0) + ADMIN + rules
    # The directory above the mount is on a volume on which case counts.
    collector = make_collector(config, directory=odd_volume.mount.parent).start()
    sent = send_in_turn(collector, *loggers, rounds=6)
    within(SECONDS, lambda: compressed(odd_volume.mount), "all is compressed")
    assert list(range(sent)) == numbers_in(odd_volume.mount)
    collector.send(make_frame("hello", "Top") + make_frame("hello", "top"))
    within(SECONDS, lambda: collector.lines("Top.log") and collector.lines("top.log"), "two files above")
    assert 0 == collector.stop()
    assert [] == list(odd_volume.root.rglob(f"{PROBES}*"))


# --- a backup that cannot be compressed ---------------------------------------------------------------------


def test_a_backup_that_cannot_be_compressed_is_named(clock: Clock, make_collector: MakeCollector) -> None:
    clock.set_to(calendar.timegm((2026, 11, 25, 12, 0, 0)))
    collector = make_collector(rollover("size", compress=True))
    collector.directory.mkdir()
    unfinished = collector.directory / ".app.log.2026-11-25.gz.unfinished"
    unfinished.mkdir()  # where gzip writes to
    collector.start(env=clock.environment | {"TZ": "UTC"})
    collector.send(make_frame("x" * MAX_BYTES) * 3)
    backup = collector.directory / "app.log.2026-11-25"
    within(SECONDS, lambda: [line for line in lines_of(collector, "ERROR") if f"{backup}" in line], "named")
    within(SECONDS, lambda: "app.log.2026-11-25.1.gz" in collector.files(), "the next one is compressed")
    assert backup.exists()


def test_a_backup_that_a_quota_leaves_no_room_for_is_named_and_stays_as_it_is(
    odd_volume: OddVolume, make_collector: MakeCollector
) -> None:
    config = '[rollover]\nwhen = "never"\ncompress = true\n' + ADMIN
    collector = make_collector(config, directory=odd_volume.mount / "logs").start()
    records = Numbered(collector)
    records.send(30)
    used = sum(path.stat().st_size for path in odd_volume.root.rglob("*") if path.is_file())
    odd_volume.set(quota_bytes=used + 10)
    assert collector.process
    collector.process.send_signal(signal.SIGUSR1)
    within(SECONDS, lambda: lines_of(collector, "ERROR"), "it cannot be compressed")
    (backup,) = records.backups()
    assert backup.suffix != ".gz"
    assert str(backup) in lines_of(collector, "ERROR")[0]
    assert list(range(30)) == records.in_files()
    assert 200 == ask(collector, "/healthz")[0]


# --- a volume whose answers are not to be relied on ---------------------------------------------------------


def test_a_rename_that_was_done_and_answers_an_error_costs_no_backup(
    odd_volume: OddVolume, make_collector: MakeCollector
) -> None:
    """As over a network, where the answer was lost and the question is asked again."""
    config = rollover("size", compress=False, backups=0) + ADMIN
    collector = make_collector(config, directory=odd_volume.mount / "logs").start()
    sent = send_in_turn(collector, "app", rounds=2)
    odd_volume.set(refuse={"after rename": "EIO"})
    sent = send_in_turn(collector, "app", rounds=2, first=sent)
    odd_volume.set()
    sent = send_in_turn(collector, "app", rounds=2, first=sent)
    assert 0 == collector.stop()
    assert list(range(sent)) == numbers_in(collector.directory)


@pytest.mark.parametrize("error", ["EPERM", "EOPNOTSUPP", "EINVAL"])
def test_where_times_cannot_be_set_backups_are_compressed_all_the_same(
    odd_volume: OddVolume, make_collector: MakeCollector, error: str
) -> None:
    odd_volume.set(refuse={"chmod": error, "utimens": error})
    config = rollover("size", compress=True, backups=0) + ADMIN
    collector = make_collector(config, directory=odd_volume.mount / "logs").start()
    sent = send_in_turn(collector, "app", rounds=3)
    within(SECONDS, lambda: compressed(collector.directory), "all is compressed")
    assert list(range(sent)) == numbers_in(collector.directory)
    assert [] == [path.name for path in collector.directory.iterdir() if "unfinished" in path.name]


# --- what is found out late ---------------------------------------------------------------------------------


def test_a_lone_record_that_finds_out_that_its_file_has_another_name_is_written(
    odd_volume: OddVolume, make_collector: MakeCollector
) -> None:
    """A rule named the file before: what waits for the other spelling is moved, and nothing follows it."""
    odd_volume.set(ignores="case")
    rule = '[[logger]]\nname = "one"\nfile = "mount/X.log"\n'
    config = '[files]\ndots = "/"\n' + ADMIN + rule
    collector = make_collector(config, directory=odd_volume.mount.parent).start()
    collector.send(make_frame("alone", "mount.x"))
    within(SECONDS, lambda: "alone" in "".join(collector.lines("mount/X.log")), "it is written")
    assert 0 == collector.stop()


def test_the_overflow_has_one_handler_however_it_is_spelled(
    odd_volume: OddVolume, make_collector: MakeCollector
) -> None:
    odd_volume.set(ignores="case")
    config = "[files]\nmax_files = 1\n" + rollover("size", compress=True, backups=0) + ADMIN
    collector = make_collector(config, directory=odd_volume.mount / "logs").start()
    sent = send_in_turn(collector, "_OVERFLOW", "other", rounds=8)
    within(SECONDS, lambda: compressed(collector.directory), "all is compressed")
    assert 0 == collector.stop()
    assert list(range(sent)) == numbers_in(collector.directory)


def test_a_volume_that_is_mounted_over_the_directory_later_is_tried_as_well(
    odd_volume: OddVolume, make_collector: MakeCollector, volumes: Volumes
) -> None:
    """Files follow it within a second, and it may ignore case where the one before did not."""
    odd_volume.set(ignores="case")
    directory = odd_volume.mount.parent / "logs"
    directory.mkdir()
    config = rollover("size", compress=True, backups=0) + ADMIN
    collector = make_collector(config, directory=directory).start()
    collector.send(make_frame("before", "App") + make_frame("before", "app"))
    within(SECONDS, lambda: len(collector.files()) == 2, "there are two files")
    volumes.bind(odd_volume.mount, directory)

    def has_followed() -> bool:
        collector.send(make_frame("-", "App"))
        return bool(odd_volume.files())

    within(SECONDS, has_followed, "they look at their names once a second")
    within(SECONDS, lambda: stats(collector)["records"]["in_reserve"] == 0, "all is written")
    sent = send_in_turn(collector, "App", "app", rounds=12)
    within(SECONDS, lambda: compressed(directory), "all is compressed")
    assert 0 == collector.stop()
    assert list(range(sent)) == numbers_in(directory)
