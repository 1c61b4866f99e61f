"""No id is given twice, and nothing that was written is missing, whatever is killed or cut off."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest

from collector.spool.checkpoint import SLOT_BYTES, Checkpoint, position_of, read_state
from collector.spool.reading import OLDEST, SpoolReader
from tests.support.places import TESTS
from tests.support.spools import make_spool, read_all

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from collector.spool.reading import Position, Spooled

KILLS = 10
CUTS = 50


def number_of(payload: bytes) -> int:
    return int(payload[:8])


@pytest.mark.slow
def test_kill_9_costs_only_what_was_not_written_and_makes_no_id_twice(tmp_path: Path) -> None:
    chance = random.Random(15)  # noqa: S311 - the same each time
    first = 1
    reader = SpoolReader(str(tmp_path), OLDEST)
    live: list[Spooled] = []
    for _ in range(KILLS):
        command = [sys.executable, "-m", "tests.support.appender", str(tmp_path), str(first)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=TESTS.parent) as child:
            assert child.stdout
            for _ in range(chance.randrange(1, 200)):
                child.stdout.readline()
                live += reader.read(100, 1_000_000)
            child.kill()
            told = child.stdout.read().splitlines()
        last_told = int(told[-1]) if told and told[-1] else first
        written = {number_of(one.payload) for one in read_all(tmp_path)}
        assert set(range(first, last_told)) <= written
        first = max(written) + 1
    while some := reader.read(100, 1_000_000):
        live += some
    reader.close()
    records = read_all(tmp_path)
    assert live == records
    assert list(range(1, first)) == [one.number for one in records]
    assert list(range(1, first)) == [number_of(one.payload) for one in records]
    assert KILLS == len({one.epoch for one in records})
    assert 0 == reader.bad_blocks


class Synced(NamedTuple):
    """What of a spool is on the disk for sure."""

    segments: dict[str, int]
    """Bytes by name."""
    checkpoint: bytes


def sizes_in(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in directory.glob("*.seg")}


def disk_after(directory: Path, synced: Synced, chance: random.Random) -> None:
    """Cut the power: of what was not synced there is some, there are zeros, or there is nothing."""
    for path in directory.glob("*.seg"):
        data, sure = path.read_bytes(), synced.segments.get(path.name, 0)
        if not sure and chance.random() < 0.5:
            path.unlink()  # its name was not synced either
            continue
        kept = chance.randint(sure, len(data))
        zeros = chance.choice([0, len(data) - kept])
        path.write_bytes(data[:kept] + bytes(zeros))
    path = directory / "elk.checkpoint"
    data, slots = path.read_bytes(), []
    for at in (0, SLOT_BYTES):
        new, old = (data[at : at + SLOT_BYTES], synced.checkpoint[at : at + SLOT_BYTES])
        torn = chance.randrange(100)
        slots.append(chance.choice([new, old, new[:torn] + old[torn:]]))
    path.write_bytes(b"".join(slots))


def take(sent: dict[str, bytes], records: Iterable[Spooled]) -> None:
    """Store *records* as a destination does that knows each id once."""
    for one in records:
        assert sent.setdefault(one.id, one.payload) == one.payload, "an id was given twice"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_power_cut_makes_no_id_twice_and_costs_nothing_that_was_synced(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - the same each time
    directory = tmp_path / "spool"
    first = 1
    sent: dict[str, bytes] = {}
    sure: set[bytes] = set()
    directory.mkdir()
    Checkpoint.create(str(directory / "elk.checkpoint"), {"position": list(OLDEST)}).close()
    for _ in range(CUTS // 4 + 1):
        spool = make_spool(directory, segment_bytes=chance.choice([300, 2000, 10_000]))
        assert spool.open()
        checkpoint = Checkpoint(str(directory / "elk.checkpoint"))
        state = checkpoint.load()
        position: Position = (state and position_of(state)) or OLDEST
        reader = SpoolReader(str(directory), position)
        synced = Synced(sizes_in(directory), (directory / "elk.checkpoint").read_bytes())
        for _ in range(chance.randrange(1, 30)):
            does = chance.random()
            if does < 0.6:
                behind = first + chance.randrange(1, 5)
                payloads = [
                    b"%08d %s" % (number, b"." * chance.randrange(60)) for number in range(first, behind)
                ]
                spool.add("peer", payloads, 1)
                spool.write()
                first = behind
            elif does < 0.8:
                records = reader.read(chance.randrange(1, 9), 10_000)
                take(sent, records)
                if records:
                    checkpoint.save({"position": list(records[-1].after)})
            elif does < 0.9:
                spool.sync()
                synced = synced._replace(segments=sizes_in(directory))
                sure = {one.payload for one in read_all(directory)}
            else:
                checkpoint.sync()
                synced = synced._replace(checkpoint=(directory / "elk.checkpoint").read_bytes())
        reader.close()
        checkpoint.close()
        disk_after(directory, synced, chance)
        assert sure <= {one.payload for one in read_all(directory)}
    state = read_state(str(directory / "elk.checkpoint"))
    take(sent, read_all(directory, (state and position_of(state)) or OLDEST))
    assert sure <= set(sent.values())
    take(sent, read_all(directory))
