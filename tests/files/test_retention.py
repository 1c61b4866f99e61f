"""Retention: what goes, what stays, and that a running collector keeps to the limits.

Not tested: a volume that hangs; the check has a thread of its own, as the gzip of backups has.
"""

from __future__ import annotations

import gzip
import logging
import os
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from collector.config.load import load
from collector.files.retention import enforce
from tests.support.destinations import NOBODY, destination
from tests.support.frames import make_frame
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from collector.config.tables import Config
    from tests.support.collectors import Collector

    MakeCollector = Callable[..., Collector]

NOW = time.time()
DAY = 86_400
# Names that look like a backup, and are none that the collector can have made.
FOREIGN = [
    "app.log.2026-11-22.bak",
    "app.log.1",
    "app.log.2026-11-22.0",
    "app.log.2026-11-22.gz.gz",
    "app.log.error.log.2026-11-22",
    "app.txt.2026-11-22",
    "dump.sql.2026-11-22.gz",
    "notes.txt",
    "sub/app.log.2026-11-22",
    ".hidden.log.2026-11-22",
]
LIVE = ["app.log", "web.log", "_overflow.log", ".quarantine", ".quarantine.1", ".collector.lock"]


def make(directory: Path, name: str, days_old: float, size: int = 1000) -> None:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (NOW - days_old * DAY, NOW - days_old * DAY))


def names(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir()}


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Config]:
    """Return a function that makes a configuration for the directory `logs`."""
    (tmp_path / "logs").mkdir()

    def config(retention: str, more: str = "", files: str = "") -> Config:
        file = tmp_path / "c.toml"
        file.write_text(
            f'[files]\ndirectory = "{tmp_path / "logs"}"\n{files}\n[retention]\n{retention}\n{more}'
        )
        return load(file)

    return config


def test_nothing_goes_that_is_in_use_or_somebody_elses(tmp_path: Path, config: Callable[..., Config]) -> None:
    logs = tmp_path / "logs"
    for name in [*FOREIGN, *LIVE, "app.log.2026-11-22"]:
        make(logs, name, 100)
    (tmp_path / "outside").write_text("x")
    (logs / "app.log.2026-11-20").symlink_to(tmp_path / "outside")
    (logs / "linked").symlink_to(tmp_path)
    (logs / "app.log.2026-11-19").mkdir()
    os.mkfifo(logs / "app.log.2026-11-18")
    before = names(logs)
    done = enforce(config(f"max_total_bytes = 1\nmax_age_days = 1\nmin_free_bytes = {2**62}"), NOW)
    assert {"app.log.2026-11-22"} == before - names(logs)
    assert (1, 1000) == (done.backups, done.size)
    assert (logs / "app.log.2026-11-19").is_dir()


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(4000, ["a.log.2026-11-03"]), (3999, ["a.log.2026-11-03", "b.log.2026-11-09.gz"]), (5000, [])],
    ids=["at", "one below", "nothing over"],
)
def test_the_backup_whose_last_line_is_oldest_goes_first_whatever_its_file_and_its_name(
    tmp_path: Path, config: Callable[..., Config], limit: int, expected: list[str]
) -> None:
    logs = tmp_path / "logs"
    make(logs, "a.log.2026-11-03", 9)
    make(logs, "b.log.2026-11-09.gz", 8)
    make(logs, "b.log.2026-11-01", 7)  # a week's, or written late
    make(logs, "a.log.2026-11-05T10-00-00", 6)
    make(logs, "a.log", 0)
    before = names(logs)
    enforce(config(f"max_total_bytes = {limit}"), NOW)
    assert set(expected) == before - names(logs)


def test_a_backup_from_the_future_goes_before_all_others(
    tmp_path: Path, config: Callable[..., Config]
) -> None:
    make(tmp_path / "logs", "a.log.2026-11-01", 9)
    make(tmp_path / "logs", "b.log.2099-11-01", -1)
    enforce(config("max_total_bytes = 1000"), NOW)
    assert {"a.log.2026-11-01"} == names(tmp_path / "logs")


def test_what_is_made_while_the_directory_is_walked_is_not_from_the_future(
    tmp_path: Path, config: Callable[..., Config]
) -> None:
    make(tmp_path / "logs", "a.log.2026-11-01", 9)
    make(tmp_path / "logs", "a.log.2026-11-02", 0)
    enforce(config("max_total_bytes = 1000"), NOW - 60)  # so long ago the walk was begun
    assert {"a.log.2026-11-02"} == names(tmp_path / "logs")


def test_of_one_time_the_lower_number_goes_first(tmp_path: Path, config: Callable[..., Config]) -> None:
    for number in ("", ".2", ".10", ".9"):
        make(tmp_path / "logs", f"a.log.2026-11-03{number}", 5)
    enforce(config("max_total_bytes = 2000"), NOW)
    assert {"a.log.2026-11-03.9", "a.log.2026-11-03.10"} == names(tmp_path / "logs")


@pytest.mark.parametrize(("days", "stays"), [(1.99, True), (2.01, False)], ids=["below", "above"])
def test_the_age_is_that_of_the_last_line(
    tmp_path: Path, config: Callable[..., Config], days: float, *, stays: bool
) -> None:
    make(tmp_path / "logs", "a.log.2020-01-01.gz", days)
    enforce(config("max_age_days = 2"), NOW)
    assert stays == bool(names(tmp_path / "logs"))


def test_files_in_directories_and_of_rules_count_and_go(
    tmp_path: Path, config: Callable[..., Config]
) -> None:
    logs = tmp_path / "logs"
    for number, name in enumerate(
        ["app/web.log.2026-11-01", "pay/all.txt.2026-11-01", "other/x.txt.2026-11-01", "1.2.3.4/app/web.log"]
    ):
        make(logs, name, 9 - number)
    rule = '[[logger]]\nname = "payments"\nfile = "pay/all.txt"'
    enforce(config("max_total_bytes = 1", rule, 'dots = "/"'), NOW)
    assert {"other/x.txt.2026-11-01", "1.2.3.4/app/web.log"} == names(logs)


def test_names_by_client_are_known(tmp_path: Path, config: Callable[..., Config]) -> None:
    logs = tmp_path / "logs"
    for client in ("10.0.0.7", "::1", "unix", "no client"):
        make(logs, f"{client}/app_web.log.2026-11-01", 9)
    enforce(config("max_total_bytes = 1", "", 'name = "{client}/{logger}.log"'), NOW)
    assert {"no client/app_web.log.2026-11-01"} == names(logs)


def test_what_was_deleted_and_why_is_told(
    tmp_path: Path, config: Callable[..., Config], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "collector")
    make(tmp_path / "logs", "a.log.2026-11-01", 9)
    enforce(config("max_age_days = 2"), NOW)
    path = tmp_path / "logs" / "a.log.2026-11-01"
    assert [f"{path}: deleted, which frees 1000 bytes: [retention] max_age_days = 2"] == caplog.messages


def test_a_limit_that_files_in_use_alone_pass_is_told(tmp_path: Path, config: Callable[..., Config]) -> None:
    make(tmp_path / "logs", "a.log", 0, 5000)
    make(tmp_path / "logs", ".quarantine", 0, 100)
    (why,) = enforce(config("max_total_bytes = 4000"), NOW).out_of_reach.values()
    assert why.startswith("1100 bytes over, and no backup is left to delete")


def test_what_cannot_be_deleted_does_not_keep_the_next_from_going(
    tmp_path: Path, config: Callable[..., Config], caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path / "logs", "a.log.2026-11-01", 9)
    make(tmp_path / "logs", "b.log.2026-11-01", 8)
    (tmp_path / "logs" / "a.log.2026-11-01.gz").mkdir()  # so that the last step of deleting it fails
    enforce(config("max_total_bytes = 1"), NOW)
    assert not (tmp_path / "logs" / "b.log.2026-11-01").exists()
    assert 1 == len([record for record in caplog.records if record.levelno == logging.ERROR])


# --- in a running collector ---------------------------------------------------------------------------------


def fill(directory: Path, days: int, size: int) -> None:
    for number in range(days):
        name = f"app.log.2026-01-{number + 1:02}"
        if number % 2:
            make(directory, f"{name}.gz", days - number, 0)
            (directory / f"{name}.gz").write_bytes(gzip.compress(os.urandom(size)))
            os.utime(directory / f"{name}.gz", (NOW - (days - number) * DAY,) * 2)
        else:
            make(directory, name, days - number, size)


def test_a_directory_filled_past_a_limit_is_under_it_right_after_the_start(
    make_collector: MakeCollector,
) -> None:
    collector = make_collector("[retention]\nmax_total_bytes = 50_000\nmax_age_days = 12.5")
    fill(collector.directory, 20, 10_000)
    for name in FOREIGN:
        make(collector.directory, name, 100, 10)
    before = names(collector.directory)
    collector.start()
    within(10, lambda: collector.stderr.count("deleted, which frees") == 16, collector.stderr)
    after = names(collector.directory)
    assert {f"app.log.2026-01-{n}{'' if n % 2 else '.gz'}" for n in range(17, 21)} | set(FOREIGN) == after - {
        ".collector.lock"
    }
    assert 16 == len(before - after)
    assert 8 == collector.stderr.count("[retention] max_age_days = 12.5")
    assert 8 == collector.stderr.count("[retention] max_total_bytes = 50000")


def test_each_rollover_is_followed_by_a_check(make_collector: MakeCollector) -> None:
    rollover = '[rollover]\nwhen = "never"\nmax_bytes = 10_000\nbackup_count = 0'
    collector = make_collector(f"[retention]\nmax_total_bytes = 35_000\n{rollover}").start()
    for _ in range(3):
        for number in range(4):
            collector.send(make_frame(str(number) * 9_000))
        within(
            10,
            lambda: sum(map(len, collector.files().values())) <= 35_000,
            "under the limit",
        )
    # Of 12 lines, each a file: no number was used twice.
    within(
        10,
        lambda: 10 in [int((name + ".0").split(".")[3]) for name in collector.files() if name != "app.log"],
        "10",
    )
    assert collector.stop() == 0
    assert "ERROR" not in collector.stderr


def test_that_a_limit_cannot_be_reached_is_told_once(make_collector: MakeCollector) -> None:
    rollover = '[rollover]\nwhen = "never"\nmax_bytes = 1000'
    collector = make_collector(f"[retention]\nmax_total_bytes = 1\n{rollover}").start()
    for number in range(4):
        collector.send(make_frame("x" * 900))
        backups_gone = number
        within(10, lambda: collector.stderr.count("deleted, which") == backups_gone)  # noqa: B023 - called here
    within(10, lambda: "no backup is left to delete" in collector.stderr)
    assert 1 == collector.stderr.count("no backup is left to delete")


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "volume"
    path.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", path], capture_output=True, text=True, check=False
    )
    if mount.returncode:
        pytest.skip(f"cannot mount a file system: {mount.stderr.strip()}")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def test_a_volume_that_others_fill_has_its_room_again(make_collector: MakeCollector, tmpfs: Path) -> None:
    collector = make_collector("[retention]\nmin_free_bytes = 1_000_000", directory=tmpfs)
    fill(tmpfs, 10, 200_000)
    (tmpfs / "somebody else's").write_bytes(b"x" * 1_500_000)

    def free() -> int:
        volume = os.statvfs(tmpfs)
        return volume.f_bavail * volume.f_frsize

    assert free() < 1_000_000
    collector.start()
    within(10, lambda: free() >= 1_000_000, collector.stderr)
    within(10, lambda: "min_free_bytes = 1000000" in collector.stderr, "told")
    left = sorted(name for name in names(tmpfs) if name.startswith("app"))
    assert left == sorted(left)[-len(left) :]
    assert "app.log.2026-01-01" not in left
    assert "app.log.2026-01-10.gz" in left
    assert free() < 1_000_000 + 205_000 + 4096 * 2  # one fewer would not have done


@pytest.mark.parametrize(
    ("limit", "segments", "backups"), [(1_500_000, 2, 5), (3_000_000, 0, 4)], ids=["is enough", "is not"]
)
def test_the_oldest_segments_of_the_spool_go_before_any_backup(
    make_collector: MakeCollector, tmpfs: Path, limit: int, segments: int, backups: int
) -> None:
    collector = make_collector(
        f"[retention]\nmin_free_bytes = {limit}\n[spool]\n{destination(NOBODY)}", directory=tmpfs
    )
    fill(tmpfs, 5, 200_000)
    (tmpfs / ".spool").mkdir()
    for number in range(3):
        (tmpfs / ".spool" / f"{1:016x}-{number:06}.seg").write_bytes(b"x" * 600_000)
    (tmpfs / "somebody else's").write_bytes(b"x" * 300_000)
    collector.start()
    within(10, lambda: "the oldest segments are deleted, which frees" in collector.stderr, collector.stderr)
    within(10, lambda: len([name for name in names(tmpfs) if name.startswith("app")]) == backups, "backups")

    left = [f".spool/{1:016x}-{number:06}.seg" for number in range(3 - segments, 3)]
    assert left == sorted(name for name in names(tmpfs) if name.endswith(".seg"))
    told = (
        f" INFO spool {tmpfs}/.spool: the oldest segments are deleted, which frees {600_000 * (3 - segments)}"
    )
    assert f"{told} bytes: [retention] min_free_bytes\n" in collector.stderr


def test_a_spool_on_another_volume_makes_no_room(
    make_collector: MakeCollector, tmpfs: Path, tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    (spool / f"{1:016x}-000000.seg").write_bytes(b"x" * 600_000)
    collector = make_collector(
        f'[retention]\nmin_free_bytes = 3_500_000\n[spool]\ndirectory = "{spool}"\n{destination(NOBODY)}',
        directory=tmpfs,
    )
    fill(tmpfs, 5, 200_000)
    collector.start()
    within(10, lambda: "min_free_bytes = 3500000" in collector.stderr, "backups go")
    assert (spool / f"{1:016x}-000000.seg").exists()


def test_only_what_lies_on_the_volume_makes_room_there(tmp_path: Path, config: Callable[..., Config]) -> None:
    """And only as much as is short: *free_first* is asked once a volume, for what it lacks."""
    make(tmp_path / "logs", "a.log.2026-11-01", 9)
    asked: list[tuple[int, int]] = []

    def free_first(device: int, size: int) -> int:
        asked.append((device, size))
        return size

    done = enforce(config(f"min_free_bytes = {2**62}"), NOW, free_first)
    ((device, size),) = asked
    assert os.stat(tmp_path / "logs").st_dev == device
    assert 2**61 < size < 2**62
    assert (0, {}) == (done.backups, done.out_of_reach)

    enforce(config("min_free_bytes = 1\nmax_age_days = 1000"), NOW, free_first)
    assert 1 == len(asked), "not while there is room"
