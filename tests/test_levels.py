"""Levels as people write them."""

from __future__ import annotations

import pytest

from collector import levels


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("INFO", 20),
        ("warn", 30),
        ("Warning", 30),
        ("fAtAl", 50),
        ("notset", 0),
        ("0", 0),
        ("007", 7),
        ("25", 25),
    ],
)
def test_a_level_is_a_name_in_any_case_or_a_number(text: str, level: int) -> None:
    assert level == levels.from_text(text)


def test_a_number_of_any_length_is_read_at_once() -> None:
    assert levels.from_text("9" * 100_000) > 10**17


@pytest.mark.parametrize(
    "text", ["", "LOUD", "\u00b2", "\u0663", "-1", "1.5", "0x10", "1e3", " INFO", "Level 15"]
)
def test_anything_else_is_refused_with_the_rule(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be one of NOTSET, DEBUG, .* or a whole number from 0 up"):
        levels.from_text(text)


@pytest.mark.parametrize(("text", "meant"), [("warnign", "WARNING"), ("eror", "ERROR"), ("inf", "INFO")])
def test_a_slip_is_answered_with_the_nearest(text: str, meant: str) -> None:
    with pytest.raises(ValueError, match=rf"; did you mean {meant}\?\Z"):
        levels.from_text(text)
