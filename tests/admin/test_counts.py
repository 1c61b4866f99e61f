"""Counts by minute and level: what /api/counts answers, and what of it survives."""

from __future__ import annotations

from typing import Any

import pytest

from collector.admin.counts import CELL_BYTES, MAX_POINTS, MINUTES, Counts

T = 1_800_000_000 // 60 * 60.0
"""The beginning of a minute."""
PERIOD = 10.0
WEEK = MINUTES * 60


def counted(*looks: tuple[float, dict[str, int]]) -> Counts:
    """Return the counts after looks at totals, in seconds since T."""
    counts = Counts()
    for seconds, totals in looks:
        counts.look(totals, T + seconds, PERIOD)
    return counts


def between(counts: Counts, begin: float, end: float, now: float | None = None) -> dict[str, Any]:
    return counts.between(T + begin, T + end, T + (end if now is None else now))


def kept(counts: Counts) -> Counts:
    """Return what another process would read from the file."""
    after = Counts()
    after.adopt(Counts.parsed(counts.everything()))
    return after


def test_a_minute_has_what_was_added_to_the_totals_in_it() -> None:
    counts = counted((10, {"INFO": 5}), (60, {"INFO": 7, "ERROR": 1}), (70, {"INFO": 17, "ERROR": 1}))

    expected = {"step": 60, "from": int(T), "levels": {"INFO": [7, 10], "ERROR": [1, 0]}}
    assert expected == between(counts, 0, 119)


def test_a_look_at_the_end_of_a_minute_counts_for_that_minute() -> None:
    """Looks come a little late."""
    counts = counted((50, {"INFO": 1}), (60.3, {"INFO": 5}), (70, {"INFO": 6}))

    assert {"INFO": [5, 1]} == between(counts, 0, 100)["levels"]


@pytest.mark.parametrize("seconds", [60, 3600, 8 * 3600, 24 * 3600, WEEK, 10 * WEEK])
def test_a_span_has_at_most_500_points_and_loses_no_record(seconds: int) -> None:
    counts = counted(*((second, {"INFO": second}) for second in range(30, WEEK, 60)))
    answer = between(counts, WEEK - seconds, WEEK - 1)

    assert len(answer["levels"]["INFO"]) <= MAX_POINTS
    assert 0 <= T + max(0, WEEK - seconds) - answer["from"] < answer["step"]
    assert sum(answer["levels"]["INFO"]) >= min(seconds, WEEK) - 120
    assert len(answer["levels"]["INFO"]) > (1 if seconds > 3000 else 0)


def test_points_stay_where_they_are_while_time_goes_on() -> None:
    counts = counted(*((second, {"INFO": second}) for second in range(30, WEEK, 600)))
    first, second = (between(counts, begin, begin + 86400 * 2) for begin in (0, 60))

    assert first["step"] == second["step"]
    assert 0 == (second["from"] - first["from"]) % first["step"]


def test_levels_without_records_in_the_span_are_left_out() -> None:
    counts = counted((10, {"DEBUG": 3}), (610, {"DEBUG": 3, "INFO": 1}))

    assert {"INFO": [1]} == between(counts, 600, 620)["levels"]


@pytest.mark.parametrize(("begin", "end"), [(-9e9, 9e9), (60, 0), (9e9, 9e9 + 60), (-1e300, 1e300)])
def test_any_span_has_an_answer(begin: float, end: float) -> None:
    answer = counted((10, {"INFO": 5})).between(T + begin, T + end, T + 30)

    assert {**answer["levels"]} in ({}, {"INFO": answer["levels"].get("INFO")})
    assert sum(answer["levels"].get("INFO", [])) in (0, 5)


def test_a_week_later_a_minute_is_gone() -> None:
    counts = counted((10, {"INFO": 5}), (WEEK + 10, {"INFO": 6}))

    assert 1 == sum(between(counts, -60, WEEK + 30)["levels"]["INFO"])


def test_what_was_not_written_over_for_a_week_is_not_taken_for_the_present() -> None:
    assert {} == between(counted((10, {"INFO": 5})), WEEK, WEEK + 59)["levels"]


def test_a_clock_set_back_or_ahead_costs_no_count() -> None:
    counts = counted((7200, {"INFO": 5}), (10, {"INFO": 7}), (80_000, {"INFO": 9}))

    assert 9 == sum(between(counts, 0, 80_000)["levels"]["INFO"])
    assert 2 == between(counts, 0, 80_000)["levels"]["INFO"][0]


@pytest.mark.parametrize("names", [[f"L{n}" for n in range(40)], ["x" * 200], ["\0"], [""], ["other"]])
def test_levels_beyond_those_that_have_a_column_share_one(names: list[str]) -> None:
    counts = counted((10, {"INFO": 1}), (20, {"INFO": 1, **dict.fromkeys(names, 2)}))
    levels = between(kept(counts), 0, 30)["levels"]

    assert [1] == levels["INFO"]
    assert 2 * len(names) == sum(sum(values) for level, values in levels.items() if level != "INFO")
    assert "other" in levels


def test_what_is_kept_is_the_same() -> None:
    counts = counted((10, {"INFO": 5, "Stufe-ä": 1}), (600, {"INFO": 9, "Stufe-ä": 2}), (WEEK, {"INFO": 10}))

    assert between(counts, 60, WEEK + 30) == between(kept(counts), 60, WEEK + 30)


def test_what_was_counted_before_the_file_could_be_read_is_added() -> None:
    """A disk that hangs at the start costs no count."""
    read = Counts.parsed(counted((10, {"DEBUG": 1}), (20, {"DEBUG": 1, "INFO": 5})).everything())
    counts = counted((20, {"ERROR": 1, "INFO": 2}), (70, {"ERROR": 1, "INFO": 3}))
    counts.adopt(read)

    assert {"DEBUG": [1, 0], "INFO": [7, 1], "ERROR": [1, 0]} == between(counts, 0, 100)["levels"]


def test_only_the_cells_that_changed_are_written() -> None:
    counts = counted((10, {"INFO": 5}))
    assert 2 == len(counts.changes())  # the name and the minute
    counts.look({"INFO": 6}, T + 20, PERIOD)
    changes = counts.changes()

    assert [CELL_BYTES] == [len(cell) for cell in changes.values()]
    assert {} == counts.changes()


def test_a_name_that_is_lost_costs_no_other_level_its_counts() -> None:
    cells = counted((10, {"DEBUG": 1}), (20, {"DEBUG": 1, "INFO": 5, "ERROR": 2})).everything()
    del cells[2]
    counts = Counts()
    counts.look({"WARNING": 3}, T + 30, PERIOD)
    counts.adopt(Counts.parsed(cells))

    assert {"DEBUG": [1], "ERROR": [2], "WARNING": [3]} == between(counts, 0, 50)["levels"]
