"""Incomplete frames: what each client holds of the reserve, and who has to go."""

from __future__ import annotations

import pytest

from collector.listen.incomplete import IncompleteFrames
from collector.reserve import Reserve

HEADER_BYTES = 4
QUARTER = 100 + HEADER_BYTES


@pytest.fixture
def reserve() -> Reserve:
    return Reserve(400)


@pytest.fixture
def frames(reserve: Reserve) -> IncompleteFrames[str]:
    return IncompleteFrames(reserve)


def test_what_is_held_is_held_in_the_reserve(frames: IncompleteFrames[str], reserve: Reserve) -> None:
    frames.hold("a", 30, anew=True)
    frames.hold("b", 20, anew=True)
    frames.hold("a", 40, anew=False)
    assert 60 == reserve.held


def test_another_frame_takes_the_place_of_the_one_before(
    frames: IncompleteFrames[str], reserve: Reserve
) -> None:
    frames.hold("a", 30, anew=True)
    frames.hold("b", 20, anew=True)
    frames.hold("a", 10, anew=True)
    assert 30 == reserve.held
    assert ["b", "a"] == frames.owners()


def test_what_is_released_is_given_back_once(frames: IncompleteFrames[str], reserve: Reserve) -> None:
    frames.hold("a", 30, anew=True)
    frames.hold("b", 20, anew=True)
    for _ in range(2):
        frames.release("a")
    assert 20 == reserve.held
    assert "a" not in frames


@pytest.mark.parametrize(
    ("size", "who"), [(QUARTER - 51, None), (QUARTER - 50, None), (QUARTER - 49, "oldest")]
)
def test_more_than_a_quarter_of_the_reserve_costs_the_oldest(
    frames: IncompleteFrames[str], size: int, who: str | None
) -> None:
    frames.hold("oldest", 20, anew=True)
    frames.hold("second", 30, anew=True)
    assert who == frames.hold("last", size, anew=True)


def test_who_holds_nothing_does_not_have_to_go(frames: IncompleteFrames[str]) -> None:
    """A frame that is too large is thrown away as it comes."""
    frames.hold("oldest", 0, anew=True)
    frames.hold("second", 50, anew=True)
    assert "second" == frames.hold("last", QUARTER, anew=True)
    assert ["oldest", "second", "last"] == frames.owners()


def test_a_smaller_reserve_holds_for_the_next_bytes(frames: IncompleteFrames[str], reserve: Reserve) -> None:
    frames.hold("a", 90, anew=True)
    reserve.reconfigure(100, waits=True)
    assert "a" == frames.hold("b", 1, anew=True)
