from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import crc32

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.spool.segments import (
    HEADER_BYTES,
    Block,
    Header,
    SegmentFile,
    SegmentId,
    pack_block,
    pack_header,
    read_header,
    segments_in,
)
from tests.support.spools import PEER, numbered

if TYPE_CHECKING:
    from pathlib import Path

MARKER = bytes(range(16))
HEADER = Header(7, "0123456789abcdef", MARKER)
ONE, TWO, THREE = (Block(first, 5, PEER, numbered(first, first + 3)) for first in (1, 4, 7))

blocks = st.builds(
    Block,
    st.integers(1, 2**63),
    st.integers(-(2**63), 2**63 - 1),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.lists(st.binary(max_size=50), min_size=1, max_size=5),
)
in_any_directory = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def packed(*some: Block, marker: bytes = MARKER) -> bytes:
    return b"".join(piece for block in some for piece in pack_block(marker, block))


def found_in(path: Path, *, ended: bool = True) -> tuple[list[Block], int]:
    """Return the sound blocks of a segment, and how many others were passed."""
    file = SegmentFile(str(path), HEADER.epoch)
    found: list[Block] = []
    bad = offset = 0
    while True:
        one = file.find(offset, ended=ended)
        bad += one.bad
        offset = one.end
        if one.block is None:
            file.close()
            return found, bad
        found.append(one.block)


def last_in(path: Path, offset: int = 0) -> tuple[int, int] | None:
    file = SegmentFile(str(path), HEADER.epoch)
    last = file.last(offset)
    file.close()
    return last


@pytest.fixture
def segment(tmp_path: Path) -> Path:
    return tmp_path / SegmentId(7, 0).name


def test_names_sort_as_the_segments_do_and_others_are_none_of_ours(tmp_path: Path) -> None:
    made = [SegmentId(9, 0), SegmentId(9, 1), SegmentId(2**60, 0)]
    for name in (
        *(one.name for one in made),
        "9-1.seg",
        "id",
        f"{SegmentId(9, 2).name}.new",
        "ffffffffffffffff-000000.seg",
    ):
        (tmp_path / name).touch()
    assert made == segments_in(str(tmp_path))
    assert sorted(one.name for one in made) == [one.name for one in made]


def test_a_header_cut_or_changed_at_any_byte_is_not_sound() -> None:
    data = pack_header(HEADER)
    assert HEADER == read_header(data + b"more")
    assert len(data) == HEADER_BYTES
    for at in range(len(data)):
        assert read_header(data[:at]) is None
        assert read_header(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]) is None


def test_a_header_of_another_version_is_not_sound() -> None:
    data = pack_header(HEADER)
    fixed = data[:8] + b"\0\2" + data[10:-4]
    assert read_header(fixed + crc32(fixed).to_bytes(4, "big")) is None
    fixed = data[:8] + b"\0\1" + data[10:-4]
    assert read_header(fixed + crc32(fixed).to_bytes(4, "big")) == HEADER


@in_any_directory
@given(st.lists(blocks, max_size=5))
def test_blocks_are_found_as_they_were_packed(tmp_path: Path, some: list[Block]) -> None:
    path = tmp_path / SegmentId(7, 0).name
    path.write_bytes(pack_header(HEADER) + packed(*some))
    assert (some, 0) == found_in(path)
    end = some[-1].first + len(some[-1].payloads) if some else 0
    assert ((path.stat().st_size, end) if some else None) == last_in(path)


def test_a_peer_that_utf_8_cannot_hold_is_kept_as_what_it_can(segment: Path) -> None:
    segment.write_bytes(pack_header(HEADER) + packed(Block(1, 5, "a\udcff", [b"x"])))
    assert ["a\\udcff"] == [block.peer for block in found_in(segment)[0]]


@pytest.mark.parametrize("zeros", [1, 8], ids=["one byte", "eight bytes"])
def test_a_block_damaged_at_any_byte_costs_itself_only_and_is_counted(segment: Path, zeros: int) -> None:
    whole = pack_header(HEADER) + packed(ONE, TWO, THREE)
    begin = HEADER_BYTES + len(packed(ONE))
    end = begin + len(packed(TWO))
    for at in range(begin, end - zeros + 1):
        data = bytearray(whole)
        for byte in range(at, at + zeros):
            data[byte] ^= 0x55
        segment.write_bytes(data)
        assert ([ONE, THREE], 1) == found_in(segment)
        assert (len(whole), 10) == last_in(segment)


def test_the_end_is_that_of_the_last_sound_block_though_those_behind_it_are_damaged(segment: Path) -> None:
    data = pack_header(HEADER) + packed(ONE, TWO, THREE)
    segment.write_bytes(data[:-1] + b"\0")
    assert (HEADER_BYTES + len(packed(ONE, TWO)), 7) == last_in(segment)
    assert last_in(segment, HEADER_BYTES + len(packed(ONE, TWO))) is None


def test_a_block_cut_at_any_byte_is_waited_for_and_once_the_segment_has_ended_it_is_not_there(
    segment: Path,
) -> None:
    whole = pack_header(HEADER) + packed(ONE, TWO)
    begin = HEADER_BYTES + len(packed(ONE))
    for at in range(begin, len(whole)):
        segment.write_bytes(whole[:at])
        file = SegmentFile(str(segment), 7)
        assert (None, begin, begin, 0) == file.find(begin, ended=False)
        assert (None, 0) == file.find(begin, ended=True)[::3]
        with segment.open("ab") as more:
            more.write(whole[at:])
        assert TWO == file.find(begin, ended=False).block
        file.close()


def test_a_block_read_while_it_was_being_written_is_read_again(segment: Path) -> None:
    whole = pack_header(HEADER) + packed(ONE)
    segment.write_bytes(whole[:-1] + b"\0")
    file = SegmentFile(str(segment), 7)
    assert file.find(0, ended=False).block is None
    segment.write_bytes(whole)
    assert ONE == file.find(0, ended=False).block
    file.close()


def test_a_tail_of_zeros_is_bad_once_the_segment_has_ended(segment: Path) -> None:
    segment.write_bytes(pack_header(HEADER) + packed(ONE) + bytes(1000))
    assert ([ONE], 0) == found_in(segment, ended=False)
    assert ([ONE], 1) == found_in(segment)


def test_a_length_that_is_none_makes_no_room_for_itself(segment: Path) -> None:
    data = bytearray(pack_header(HEADER) + packed(ONE, TWO))
    data[HEADER_BYTES + 16 : HEADER_BYTES + 24] = b"\x7f" + b"\xff" * 7
    segment.write_bytes(data)
    assert ([TWO], 1) == found_in(segment, ended=False)


def test_a_block_forged_inside_a_message_is_not_taken_for_one(segment: Path) -> None:
    """The client knows the format, and even how this one is damaged, but not the marker."""
    forged = Block(100, 5, "evil", [b"forged"])
    carrier = Block(4, 5, PEER, [packed(forged, marker=bytes(16)) * 3, packed(forged, marker=MARKER[::-1])])
    data = bytearray(pack_header(HEADER) + packed(ONE, carrier, THREE))
    data[HEADER_BYTES + len(packed(ONE)) + 20] ^= 1
    segment.write_bytes(data)
    assert ([ONE, THREE], 1) == found_in(segment)


def test_markers_are_found_across_what_is_read_at_once(segment: Path) -> None:
    damaged = bytearray(packed(Block(4, 5, PEER, [b"x" * (1024 * 1024)])))
    damaged[30] ^= 1
    for shift in (-130, *range(-100, -60), 29):
        filler = packed(Block(1, 5, PEER, [b"." * (200 + shift)]))
        segment.write_bytes(pack_header(HEADER) + filler + damaged + packed(THREE))
        assert 1 == found_in(segment)[1]
        assert THREE == found_in(segment)[0][-1]


def test_a_segment_that_was_renamed_has_no_sound_header(segment: Path) -> None:
    segment.write_bytes(pack_header(HEADER) + packed(ONE))
    file = SegmentFile(str(segment), 8)
    assert file.header is None
    with pytest.raises(ValueError, match="without a sound header"):
        file.find(0, ended=True)
    file.close()
