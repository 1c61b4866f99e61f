from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from collector.spool.checkpoint import SLOT_BYTES, Checkpoint, position_of, read_state
from collector.spool.reading import OLDEST, Position
from tests.support.volumes import files_at_most, needs_root

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.volumes import Volumes

OLD = {"position": [1, 2, 3, 4], "shipped": 17, "index": "logs-ü"}
NEW = {"position": [1, 2, 3, 5], "shipped": 18, "index": "logs-ü"}


def state_at(path: Path) -> dict[str, Any] | None:
    checkpoint = Checkpoint(str(path))
    state = checkpoint.load()
    checkpoint.close()
    assert state == read_state(str(path))
    return state


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return that of a checkpoint which has OLD in one slot, and NEW in the other."""
    path = tmp_path / "elk.checkpoint"
    checkpoint = Checkpoint.create(str(path), OLD)
    checkpoint.save(NEW)
    checkpoint.close()
    return path


def test_what_was_saved_last_is_loaded_from_a_file_that_never_grows(path: Path) -> None:
    assert NEW == state_at(path)
    checkpoint = Checkpoint(str(path))
    for number in range(5):
        checkpoint.save({"number": number})
        assert {"number": number} == read_state(str(path)) == checkpoint.load()
        assert 2 * SLOT_BYTES == path.stat().st_size
    checkpoint.close()


def test_only_its_owner_may_read_it(path: Path) -> None:
    assert 0o600 == path.stat().st_mode & 0o777


def test_without_one_there_is_an_error_and_nothing_is_made(tmp_path: Path) -> None:
    for call in (Checkpoint, read_state):
        with pytest.raises(FileNotFoundError):
            call(str(tmp_path / "none"))
    assert [] == list(tmp_path.iterdir())


def sound_bytes(data: bytes) -> range:
    """Return where the newer slot has bytes that count."""
    end = len(data.rstrip(b"\0"))
    return range(SLOT_BYTES, end)


def test_damaged_at_any_byte_the_newer_slot_leaves_the_older_one(path: Path) -> None:
    data = path.read_bytes()
    for at in sound_bytes(data):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert OLD == state_at(path)


def test_zeroed_or_cut_from_any_byte_on_the_newer_slot_leaves_the_older_one(path: Path) -> None:
    data = path.read_bytes()
    for at in sound_bytes(data):
        for rest in (b"", bytes(len(data) - at)):
            path.write_bytes(data[:at] + rest)
            assert OLD == state_at(path)


def test_a_damaged_older_slot_costs_nothing(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(bytes(SLOT_BYTES) + data[SLOT_BYTES:])
    assert NEW == state_at(path)


@pytest.mark.parametrize(
    "data", [b"", bytes(2 * SLOT_BYTES), b"\xff" * 2 * SLOT_BYTES], ids=["empty", "0", "ff"]
)
def test_with_both_slots_bad_there_is_no_state_and_the_next_one_is_saved(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    assert state_at(path) is None
    for state in (OLD, NEW):
        checkpoint = Checkpoint(str(path))
        checkpoint.save(state)
        checkpoint.close()
        assert state == state_at(path)


def test_a_save_never_touches_the_slot_of_the_one_before(path: Path) -> None:
    checkpoint = Checkpoint(str(path))
    for number in range(4):
        before = path.read_bytes()
        checkpoint.save({"number": number})
        after = path.read_bytes()
        kept = [before[at : at + SLOT_BYTES] == after[at : at + SLOT_BYTES] for at in (0, SLOT_BYTES)]
        assert [True, False] == sorted(kept, reverse=True)
        assert kept[(number + 1) % 2]
    checkpoint.close()


def test_a_state_that_a_slot_cannot_take_is_refused_and_the_last_one_stays(path: Path) -> None:
    checkpoint = Checkpoint(str(path))
    with pytest.raises(ValueError, match="a slot takes 16368"):
        checkpoint.save({"index": "x" * SLOT_BYTES})
    checkpoint.close()
    assert NEW == state_at(path)


def test_a_save_that_is_cut_short_is_an_error_and_the_state_before_it_stays(path: Path) -> None:
    checkpoint = Checkpoint(str(path))
    checkpoint.save(OLD)
    with files_at_most(SLOT_BYTES + 30), pytest.raises(OSError, match="written in part"):
        checkpoint.save({"number": "1234567890"})
    assert OLD == read_state(str(path)) == checkpoint.load()
    checkpoint.save(NEW)
    checkpoint.close()
    assert NEW == state_at(path)


def test_what_is_no_file_in_its_place_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "elk.checkpoint").symlink_to("elsewhere")
    for call in (Checkpoint, read_state):
        with pytest.raises(OSError, match=r"elk\.checkpoint"):
            call(str(tmp_path / "elk.checkpoint"))


def test_deleted_it_is_made_anew_at_the_next_sync(path: Path) -> None:
    checkpoint = Checkpoint(str(path))
    for state in (OLD, NEW):
        checkpoint.save(state)
        path.unlink()
        checkpoint.sync()
        assert state == state_at(path)
        checkpoint.save({"more": 1})
        assert {"more": 1} == state_at(path)
    checkpoint.close()


def test_replaced_by_another_it_is_left_alone_with_an_error(path: Path) -> None:
    checkpoint = Checkpoint(str(path))
    Checkpoint.create(str(path), OLD).close()
    with pytest.raises(OSError, match="was replaced"):
        checkpoint.sync()
    checkpoint.close()
    assert OLD == state_at(path)


def test_its_position_is_found_and_one_without_has_none() -> None:
    assert Position(1, 2, 3, 4) == position_of(OLD)
    for state in ({}, {"position": None}, {"position": [1]}, {"position": ["x", 1, 2, 3]}):
        assert position_of(state) is None
    assert OLDEST == position_of({"position": list(OLDEST)})


@needs_root
@pytest.mark.slow
def test_on_a_full_volume_it_is_saved_and_synced(tmp_path: Path, volumes: Volumes) -> None:
    home = tmp_path / "full"
    volumes.tmpfs(home, "1m")
    checkpoint = Checkpoint.create(str(home / "elk.checkpoint"), OLD)
    with pytest.raises(OSError, match="No space"):
        (home / "filler").write_bytes(bytes(2 * 1024 * 1024))
    for number in range(10):
        checkpoint.save({"number": number})
        checkpoint.sync()
    checkpoint.close()
    assert {"number": 9} == state_at(home / "elk.checkpoint")
