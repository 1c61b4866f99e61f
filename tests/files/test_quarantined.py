"""The entries beside the quarantine: each tells of one frame, and of no other whatever was cut in between."""

from __future__ import annotations

import os
import zlib
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from collector.files.directory import LogDirectory
from collector.files.quarantine import Quarantine, Undecoded
from collector.files.quarantined import Entry, Kept, alone, halves
from tests.support.quarantines import cut, entries_in, entries_of, framed, frames_in, put, read

if TYPE_CHECKING:
    from collections.abc import Callable

OLDER, NEWER = ".quarantine.1", ".quarantine"


def opened(directory: Path, max_bytes: int = 1000) -> Quarantine:
    return Quarantine(LogDirectory(str(directory)), max_bytes, 0o640, sync=False)


def write(quarantine: Quarantine, *reasons: str, payload: bytes = b"N.") -> tuple[str, ...]:
    """Write the same frame for each of *reasons*; return what there was to tell."""
    undecoded = [Undecoded(framed(payload), 1e9, "10.0.0.7:51934", reason) for reason in reasons]
    outcome = quarantine.write(quarantine.join(undecoded, ends=True))
    assert outcome.error is None
    return outcome.trouble


def kept(directory: Path) -> list[Kept]:
    found = []
    for half in halves(str(directory)):
        with closing(half):
            while one := half.next():
                found.append(one)
    return found


def reasons(directory: Path) -> list[str]:
    """Return why each frame could not be decoded, "-" for those without an entry."""
    return [one.entry.reason if one.entry else "-" for one in kept(directory)]


def take_out(directory: Path, wanted: Callable[[Kept], bool], meanwhile: Callable[[], object] = bool) -> None:
    for half in halves(str(directory)):
        with closing(half):
            frames = []
            while one := half.next():
                if wanted(one):
                    frames.append(one)
            if frames:
                with half.taking_out(frames):
                    meanwhile()


# --- Entries ---


def test_an_entry_says_when_who_why_and_where(tmp_path: Path) -> None:
    quarantine = opened(tmp_path)
    undecoded = [
        Undecoded(framed(payload), 1e9 + 0.25, "[::1]:5", "what\n\x1b \ud800") for payload in (b"a", b"bc")
    ]
    quarantine.write(quarantine.join(undecoded, ends=True))
    expected = [
        {"time": "2001-09-09T01:46:40.250000Z", "client": "[::1]:5", "reason": "what\n\x1b \ud800"}
        | {"offset": offset, "bytes": size, "crc32": zlib.crc32(frame)}
        for offset, size, frame in ((0, 5, framed(b"a")), (5, 6, framed(b"bc")))
    ]
    assert expected == entries_in(tmp_path)
    assert 2 == read(tmp_path / ".quarantine.jsonl").count(b"\n")
    assert 0o640 == (tmp_path / ".quarantine.jsonl").stat().st_mode & 0o777


def test_entries_roll_over_with_their_frames(tmp_path: Path) -> None:
    quarantine = opened(tmp_path, 24)  # two frames in each half
    write(quarantine, *"abcde")
    assert ["c", "d", "e"] == reasons(tmp_path)
    assert ["c", "d"] == [entry["reason"] for entry in entries_in(tmp_path, OLDER)]
    assert [0, 6] == [entry["offset"] for entry in entries_in(tmp_path, OLDER)]
    write(quarantine, "f", "g")
    assert ["e", "f", "g"] == reasons(tmp_path)


def test_a_frame_of_an_older_version_has_no_entry_and_those_behind_it_have(tmp_path: Path) -> None:
    (tmp_path / NEWER).write_bytes(framed(b"N.") * 2)
    write(opened(tmp_path), "a")
    assert ["-", "-", "a"] == reasons(tmp_path)


@pytest.mark.parametrize("size", range(3))
def test_a_kill_between_a_frame_and_its_entry_costs_the_entry(tmp_path: Path, size: int) -> None:
    write(opened(tmp_path), "a", "b")
    entries = (tmp_path / ".quarantine.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / ".quarantine.jsonl").write_bytes(entries[0] + entries[1][: [0, 20, -1][size]])
    assert ["a", "-"] == reasons(tmp_path)
    write(opened(tmp_path), "c")
    assert ["a", "-", "c"] == reasons(tmp_path)


@pytest.mark.parametrize("cut_at", [0, 5, 6, 9, 12])
def test_no_entry_is_left_for_a_frame_that_was_cut_off(tmp_path: Path, cut_at: int) -> None:
    """Else it would tell of the next one, which is the same, if that one's own is lost."""
    quarantine = opened(tmp_path)
    write(quarantine, "a", "b", "c")
    os.truncate(tmp_path / NEWER, cut_at)
    write(quarantine, "d")
    whole = cut_at // 6
    assert [*"abc"[:whole], "d"] == reasons(tmp_path)
    assert [*"abc"[:whole], "d"] == [entry["reason"] for entry in entries_in(tmp_path)]
    assert [framed(b"N.")] * (whole + 1) == cut(read(tmp_path / NEWER))


def test_what_was_moved_or_removed_leaves_no_entries(tmp_path: Path) -> None:
    quarantine = opened(tmp_path)
    write(quarantine, "a", "b")
    (tmp_path / NEWER).rename(tmp_path / "moved")
    write(quarantine, "c")
    assert ["c"] == [entry["reason"] for entry in entries_in(tmp_path)]
    (tmp_path / NEWER).unlink()
    write(quarantine, "d")
    assert ["d"] == reasons(tmp_path)


def test_a_file_put_in_its_place_is_not_told_of_by_the_entries_of_another(tmp_path: Path) -> None:
    put(tmp_path, [framed(b"one"), framed(b"two")])
    (tmp_path / NEWER).write_bytes(framed(b"two") + framed(b"one") + framed(b"two"))
    assert ["-", "-", "-"] == reasons(tmp_path)
    (tmp_path / NEWER).write_bytes(framed(b"one") + framed(b"six"))
    assert ["why 0", "-"] == reasons(tmp_path)


@pytest.mark.parametrize(
    "line",
    [b"", b"{}", b"[]", b"null", b"\xff", b"[" * 50_000, b'{"time": 1}', b'{"time": "x"}', b"x" * 100_000],
    ids=["empty", "none", "array", "null", "no text", "deep", "number", "no time", "long"],
)
def test_lines_that_are_no_entries_cost_no_other(tmp_path: Path, line: bytes) -> None:
    frames = [framed(b"one"), framed(b"two")]
    put(tmp_path, frames)
    first, second = entries_of(frames).splitlines(keepends=True)
    (tmp_path / ".quarantine.jsonl").write_bytes(line + b"\n" + first + line + b"\n" + second + line)
    assert ["why 0", "why 1"] == reasons(tmp_path)


@pytest.mark.parametrize("field", ["client", "reason", "offset", "bytes", "crc32"])
def test_an_entry_with_a_field_of_another_type_is_none(field: str) -> None:
    (line,) = entries_of([framed(b"x")]).splitlines(keepends=True)
    assert Entry.of(line)
    assert Entry.of(line.replace(f'"{field}": '.encode(), f'"{field}": [], "x": '.encode())) is None


def test_where_entries_cannot_be_written_frames_are_kept_and_it_is_told_once(tmp_path: Path) -> None:
    quarantine = opened(tmp_path)
    (tmp_path / ".quarantine.jsonl").mkdir()
    trouble = write(quarantine, "a") + write(quarantine, "b")
    assert 1 == len(trouble)
    assert "kept without when, who and why" in trouble[0]
    (tmp_path / ".quarantine.jsonl").rmdir()
    assert () == write(quarantine, "c")
    assert ["-", "-", "c"] == reasons(tmp_path)


def test_entries_take_no_more_than_the_frames_may(tmp_path: Path) -> None:
    """Whoever sends frames of one byte decides how many there are."""
    quarantine = opened(tmp_path, 4 * 1024 * 1024)
    write(quarantine, *["x" * 400] * 5000, payload=b"N")
    size = (tmp_path / ".quarantine.jsonl").stat().st_size
    assert 2 * 1024 * 1024 - 1000 < size <= 2 * 1024 * 1024
    found = reasons(tmp_path)
    assert 5000 == len(found)
    assert "-" not in found[: found.index("-")]
    assert {"-"} == set(found[found.index("-") :])


# --- Taking frames out ---


def is_odd(one: Kept) -> bool:
    return bool(one.payload[0] % 2)


def test_what_is_taken_out_goes_and_the_entries_of_the_rest_stay_with_their_frames(tmp_path: Path) -> None:
    put(tmp_path, [framed(bytes([n]) * (n + 1)) for n in range(8)], OLDER)
    put(tmp_path, [framed(bytes([n]) * 3) for n in range(8, 12)])
    take_out(tmp_path, is_odd)
    assert [0, 2, 4, 6, 8, 10] == [one.payload[0] for one in kept(tmp_path)]
    assert ["why 0", "why 2", "why 4", "why 6", "why 0", "why 2"] == reasons(tmp_path)
    assert {OLDER, NEWER, ".quarantine.jsonl", ".quarantine.jsonl.1"} == set(os.listdir(tmp_path))


def test_batches_are_taken_out_one_after_the_other(tmp_path: Path) -> None:
    put(tmp_path, [framed(bytes([n])) for n in range(9)])
    (half,) = halves(str(tmp_path))
    with closing(half):
        for _ in range(3):
            batch = [half.next() for _ in range(3)]
            with half.taking_out([one for one in batch[1:] if one]):
                pass
        assert half.next() is None
    assert [0, 3, 6] == [one.payload[0] for one in kept(tmp_path)]
    assert ["why 0", "why 3", "why 6"] == reasons(tmp_path)


def test_a_half_of_which_all_is_taken_out_goes_with_its_entries(tmp_path: Path) -> None:
    put(tmp_path, [framed(b"\1")])
    put(tmp_path, [framed(b"\1")], OLDER)
    take_out(tmp_path, is_odd)
    assert [] == os.listdir(tmp_path)


def test_it_has_the_mode_that_it_had(tmp_path: Path) -> None:
    put(tmp_path, [framed(b"\1"), framed(b"\2")])
    (tmp_path / NEWER).chmod(0o604)
    take_out(tmp_path, is_odd)
    assert 0o604 == (tmp_path / NEWER).stat().st_mode & 0o777


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_it_belongs_to_whom_it_belonged(tmp_path: Path) -> None:
    """Else a collector that runs as somebody else could not write its quarantine any more."""
    put(tmp_path, [framed(b"\1"), framed(b"\2")])
    os.chown(tmp_path / NEWER, 10001, 10002)
    take_out(tmp_path, is_odd)
    for name in (NEWER, ".quarantine.jsonl"):
        status = (tmp_path / name).stat()
        assert (10001, 10002) == (status.st_uid, status.st_gid)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may act as somebody else")
def test_who_may_not_give_it_back_is_told_before_the_block() -> None:
    with TemporaryDirectory() as name:  # below directories that others may enter
        put(Path(name), [framed(b"\1"), framed(b"\2")])
        os.chmod(name, 0o777)  # noqa: S103 - for a moment
        os.seteuid(65534)
        try:
            with pytest.raises(PermissionError, match="uid 0, gid 0: replay it as that user, or as root"):
                take_out(Path(name), is_odd, lambda: pytest.fail("sent"))
        finally:
            os.seteuid(0)
        assert [framed(b"\1"), framed(b"\2")] == frames_in(Path(name))


def test_if_the_block_fails_all_stays(tmp_path: Path) -> None:
    put(tmp_path, [framed(b"\1"), framed(b"\2")])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ZeroDivisionError):
        take_out(tmp_path, is_odd, lambda: 1 // 0)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


@pytest.mark.parametrize("rollovers", range(4))
def test_what_the_collector_writes_and_rolls_over_meanwhile_is_neither_lost_nor_there_twice(
    tmp_path: Path, rollovers: int
) -> None:
    quarantine = opened(tmp_path, 240)  # 20 frames in each half
    write(quarantine, *map(str, range(10)))

    def meanwhile() -> None:
        for number in range(20 * rollovers + 3):
            write(quarantine, f"new {number}")

    take_out(tmp_path, lambda one: one.entry is not None and int(one.entry.reason) % 2 == 0, meanwhile)
    write(quarantine, "last")
    found = reasons(tmp_path)
    old = [reason for reason in found if reason.isdigit()]
    new = [reason for reason in found if reason.startswith("new")]
    assert (["1", "3", "5", "7", "9"] if rollovers < 2 else []) == old
    assert [f"new {number}" for number in range(20 * rollovers + 3)][-len(new) :] == new
    assert 20 * rollovers + 3 == len(new) or rollovers >= 2
    assert "last" == found[-1]
    assert len(found) == len(set(found))


def test_the_half_itself_is_not_followed_to_another_place(tmp_path: Path) -> None:
    put(tmp_path, [framed(b"\1"), framed(b"\2")])
    take_out(tmp_path, is_odd, lambda: (tmp_path / NEWER).rename(tmp_path / "moved"))
    assert framed(b"\1") + framed(b"\2") == (tmp_path / "moved").read_bytes()
    assert [] == frames_in(tmp_path)


def test_what_somebody_has_emptied_meanwhile_does_not_come_back(tmp_path: Path) -> None:
    put(tmp_path, [framed(b"\1"), framed(b"\2")])
    take_out(tmp_path, is_odd, lambda: os.truncate(tmp_path / NEWER, 0))
    assert [] == frames_in(tmp_path)


def test_what_a_kill_has_left_is_in_nobodys_way_and_no_link_is_followed(tmp_path: Path) -> None:
    put(tmp_path, [framed(b"\1"), framed(b"\2")])
    (tmp_path / ".quarantine.replay").symlink_to(tmp_path / "outside")
    (tmp_path / ".quarantine.replay.jsonl").write_bytes(b"left")
    take_out(tmp_path, is_odd)
    assert [framed(b"\2")] == frames_in(tmp_path)
    assert {NEWER, ".quarantine.jsonl"} == set(os.listdir(tmp_path))


def test_while_somebody_else_changes_it_frames_wait(tmp_path: Path) -> None:
    quarantine = opened(tmp_path)
    frames = quarantine.join([Undecoded(framed(b"N."), 1e9, "unix", "a")], ends=True)
    with alone(str(tmp_path)):
        assert "changing the quarantine" in str(quarantine.write(frames).error)
        assert b"" == read(tmp_path / NEWER)
    assert quarantine.write(frames).error is None
    assert ["a"] == reasons(tmp_path)


def test_within_a_frame_that_is_being_written_nobody_else_may_change_it(tmp_path: Path) -> None:
    """What follows would go into a file that is there no longer, and all of it would be written once more."""
    import resource
    import signal

    quarantine = opened(tmp_path, 10_000)
    write(quarantine, "a")
    frames = quarantine.join([Undecoded(framed(b"x" * 1000), 1e9, "unix", "long")], ends=True)
    before, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
    try:
        assert quarantine.write(frames).error
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert 500 == (tmp_path / NEWER).stat().st_size
    with pytest.raises(OSError, match="changing"), alone(str(tmp_path), 0):
        pass
    assert quarantine.write(frames).error is None
    with alone(str(tmp_path), 0):
        assert ["a", "long"] == reasons(tmp_path)
