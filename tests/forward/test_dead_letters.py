from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from collector.forward.dead_letters import DeadLetters, Letter, read
from collector.forward.verdicts import Outgoing
from collector.forward.window import Waiting
from collector.spool.reading import OLDEST, SpoolReader

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.spool_files import SpoolFiles


@pytest.fixture
def refused(spool: SpoolFiles) -> list[Waiting]:
    """Return twenty records that were refused."""
    spool.write([f"record {number}" for number in range(1, 21)])
    made = []
    for spooled in SpoolReader(str(spool.directory), OLDEST).read(100, 1_000_000):
        one = Waiting(spooled, 0, doubt=False)
        one.outgoing = Outgoing(spooled.id, spooled.epoch, spooled.number, spooled.received, b"")
        one.dead = "mapper"
        made.append(one)
    return made


def letters_of(records: list[Waiting]) -> list[Letter]:
    return [Letter(one.outgoing.id, "mapper", one.spooled._replace(index=0, offset=0)) for one in records]


def without_place(letters: list[Letter]) -> list[Letter]:
    """Leave out where in the file each of them ends."""
    return [letter._replace(spooled=letter.spooled._replace(offset=0)) for letter in letters]


def test_what_is_refused_is_kept_with_id_reason_and_payload(refused: list[Waiting], tmp_path: Path) -> None:
    letters = DeadLetters(str(tmp_path / "elk.dead"), 1_000_000)
    assert letters.add(refused[:2]) == 0
    assert letters.add(refused[2:3]) == 0
    assert letters_of(refused[:3]) == without_place(list(letters.read()))


def test_when_a_half_is_full_the_older_one_goes_and_is_counted(
    refused: list[Waiting], tmp_path: Path
) -> None:
    letters = DeadLetters(str(tmp_path / "elk.dead"), 6000)
    gone = sum(letters.add([one]) for one in refused)
    left = without_place(list(letters.read()))
    assert gone > 0
    assert letters_of(refused)[gone:] == left
    sizes = [os.path.getsize(tmp_path / name) for name in ("elk.dead", "elk.dead.1")]
    assert max(sizes) <= 3000


def test_a_block_that_a_kill_has_cut_costs_no_other(refused: list[Waiting], tmp_path: Path) -> None:
    path = tmp_path / "elk.dead"
    letters = DeadLetters(str(path), 1_000_000)
    letters.add(refused[:2])
    path.write_bytes(path.read_bytes()[:-5])
    letters.add(refused[2:4])
    assert letters_of([refused[0], *refused[2:4]]) == without_place(list(letters.read()))


def test_what_cannot_be_written_says_so(refused: list[Waiting], tmp_path: Path) -> None:
    letters = DeadLetters(str(tmp_path / "missing" / "elk.dead"), 1_000_000)
    with pytest.raises(FileNotFoundError):
        letters.add(refused)


def test_those_taken_out_stay_until_they_are_sent_and_new_ones_are_kept_beside(
    refused: list[Waiting], tmp_path: Path
) -> None:
    letters = DeadLetters(str(tmp_path / "elk.dead"), 1_000_000)
    letters.add(refused[:3])
    assert letters_of(refused[:3]) == without_place(letters.take())
    letters.add(refused[3:5])
    taken = letters.take()
    assert letters_of(refused[:3]) == without_place(taken), "those that were taken out come first"
    letters.keep(taken[1:2])
    assert letters_of(refused[1:2]) == without_place(letters.take())
    assert letters_of([refused[1], *refused[3:5]]) == without_place(list(letters.read()))
    letters.keep([])
    assert letters_of(refused[3:5]) == without_place(letters.take())
    letters.keep([])
    assert [] == letters.take()
    assert [] == list(read(str(tmp_path / "elk.dead")))


def test_a_file_with_a_damaged_header_is_set_aside_and_not_written_over(
    refused: list[Waiting], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "elk.dead"
    letters = DeadLetters(str(path), 1_000_000)
    letters.add(refused[:2])
    damaged = b"?" + path.read_bytes()[1:]
    for name in ("elk.dead.damaged", "elk.dead.damaged.1"):
        path.write_bytes(damaged)
        letters.add(refused[2:3])
        assert damaged == (tmp_path / name).read_bytes()
        assert letters_of(refused[2:3]) == without_place(list(letters.read()))
    assert f"{path}: cannot be read as dead letters; it stays, as {path}.damaged" in caplog.text


def test_blocks_that_cannot_be_read_are_counted_by_file(refused: list[Waiting], tmp_path: Path) -> None:
    path = tmp_path / "elk.dead"
    letters = DeadLetters(str(path), 1_000_000)
    letters.add(refused[:3])
    path.write_bytes(path.read_bytes().replace(b"record 2", b"record ?"))
    assert letters_of([refused[0], refused[2]]) == without_place(list(letters.read()))
    assert {str(path): 1} == letters.bad
