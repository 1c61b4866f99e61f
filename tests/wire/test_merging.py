"""Messages and arguments that a client has not merged: as `%` merges them, or not at all."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from collector.wire.merging import MAX_CONVERSIONS, MAX_GROWTH, merged
from tests.support.cpu import Cpu


@pytest.mark.parametrize(
    ("message", "args"),
    [
        ("%s", ("a",)),
        ("%s and %r", ("a", "b'\n")),
        ("%d %i %u", (1, -2, True)),
        ("%d", (1.9,)),
        ("%5.1f|%-8s|%08.3f|%+d|% d|%#x", (1.25, "ab", 2.0, 3, 4, 255)),
        ("%e %g %F %E %G", (1.5, 1e20, 2.5, 3.5, 4.5)),
        ("%x %X %o %c %c", (255, 255, 8, 97, "b")),
        ("100%% of %s", ("it",)),
        ("%ld %hd", (5, 6)),
        ("%.3s", ("abcdef",)),
        ("%(a)s is %(b)05d", {"a": "x", "b": 42}),
        ("%s", ({"a": 1},)),
        ("%s %s", ([1, "x"], (2,))),
        ("%s", (None,)),
        ("%.f", (2.7,)),
        ("%.2f", (Decimal("1.257"),)),
        ("%d", (10**600,)),
        ("%s", "text"),
        ("%s", 5),
        ("none", {"a": 1}),
    ],
)
def test_what_fits_is_merged_as_the_operator_does(message: str, args: Any) -> None:
    assert message % args == merged(message, args)


def test_a_list_is_arguments_as_json_has_them() -> None:
    assert merged("%s %s", ["a", 1]) == "a 1"


@pytest.mark.parametrize(
    ("message", "args"),
    [
        ("%*d", (5, 5)),
        ("%.*f", (5, 5.0)),
        ("%1000d", (5,)),
        ("%.1000f", (5.0,)),
        ("%d", ("str",)),
        ("%d", (math.inf,)),
        ("%d", (10**1000,)),
        ("%d", (Decimal("1E+999999999"),)),
        ("%f", (10**400,)),
        ("%x", (1.5,)),
        ("%c", (-1,)),
        ("%c", ("ab",)),
        ("%s", ()),
        ("%s", ("a", "b")),
        ("none", ("a",)),
        ("%y", ("a",)),
        ("%", ("a",)),
        ("50 %", ("a",)),
        ("%(a)s", ("x",)),
        ("%(a)s", {"b": 1}),
        ("%(a.__class__)s", {"a": 1}),
        ("%b", (b"a",)),
    ],
)
def test_what_does_not_fit_is_left_alone(message: str, args: Any) -> None:
    assert merged(message, args) is None


def test_the_growth_is_bounded_and_long_texts_are_not() -> None:
    assert merged("%s", ("a" * 3_000_000,)) == "a" * 3_000_000
    assert merged("%(a)s" * 1000, {"a": "a" * 3_000_000}) is None
    assert merged("%999d" * 1000, (1,) * 1000) == (" " * 998 + "1") * 1000
    assert merged("%999d" * 2000, (1,) * 2000) is None
    assert MAX_GROWTH == 1024 * 1024


def test_conversions_without_end_cost_no_time() -> None:
    with Cpu() as cpu:
        assert merged("%%" * MAX_CONVERSIONS, {"a": 1}) == "%" * MAX_CONVERSIONS
        assert merged("%s" * 8_000_000, ("a",)) is None
        assert merged("%(" * 8_000_000, ("a",)) is None
        assert merged("%(a" + "(" * 8_000_000, ("a",)) is None
    assert cpu.seconds < 1


@example("%0%", [])
@given(st.text("%sdrfxc()a*.05 -+l"), st.lists(st.integers() | st.text() | st.floats() | st.none()))
def test_any_format_gives_what_the_operator_gives_or_nothing(message: str, args: list[object]) -> None:
    found = merged(message, args)
    if found is not None and not any(arg is None or isinstance(arg, float) for arg in args):
        assert message % tuple(args) == found


@pytest.mark.parametrize("conversion", ["%(a).1s", "%(a).1r"])
def test_what_is_named_ten_thousand_times_is_made_once(conversion: str) -> None:
    with Cpu() as cpu:
        for value in ([[1] * 50] * 50, "x" * 8_000_000):
            merged(conversion * MAX_CONVERSIONS, {"a": value})
    assert cpu.seconds < 2
