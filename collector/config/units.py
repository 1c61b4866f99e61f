"""Numbers that people write with a unit: what the bare number would be, for a message."""

from __future__ import annotations

import re

A_COUNT = "a count has no unit"
"""The remedy where no number would say what was meant."""

# Thirty digits are enough for any key; 309 would make an infinite float, which cannot be rounded.
_NUMBER = re.compile(r"(\d[\d_]{,29}(?:\.\d{1,29})?)[ \t]*([A-Za-z]+)\Z", re.ASCII)
_POWERS = "kmgt"
_SECONDS = {"ms": 0.001, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SECONDS |= {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}
# An `m` of days may as well be a month.
_DAYS = {unit: seconds / _SECONDS["d"] for unit, seconds in _SECONDS.items() if unit != "m"}


def without_unit(text: str, key: str) -> str:
    """Return the remedy for a number with a unit, such as 256MiB or 10 min; "" where *text* is none.

    The name of its *key* ends in the unit of the bare number: _bytes, _seconds or _days. Others are counts.
    """
    match = _NUMBER.match(text)
    if not match:
        return ""
    number, unit = float(match[1].replace("_", "")), match[2].lower()
    sizes = {"bytes": _bytes(unit), "seconds": _of_time(unit, _SECONDS), "days": _of_time(unit, _DAYS)}
    if not any(sizes.values()):
        return ""
    meant = key.rpartition("_")[2]
    size, how = sizes.get(meant, _of_count(unit)), f"in {meant}" if meant in sizes else "as a count"
    if not size:
        return f"a number has no unit here; it is in {meant}" if meant in sizes else A_COUNT
    bare = number * size
    whole = f"{round(bare):_}" if bare == round(bare) else f"{bare:g}"
    return f"a number has no unit here; {how} {text} is {whole}"


def _bytes(unit: str) -> float:
    if unit in ("b", "byte", "bytes"):
        return 1
    match = re.fullmatch(r"([kmgt])(i?b|)", unit)
    if not match:
        return 0
    power = _POWERS.index(match[1]) + 1
    return float(1000**power if match[2] == "b" else 1024**power)


def _of_time(unit: str, sizes: dict[str, float]) -> float:
    return sizes.get(unit) or sizes.get(unit.removesuffix("s"), 0)


def _of_count(unit: str) -> float:
    return 1000.0 ** (_POWERS.index(unit) + 1) if unit in tuple(_POWERS) else 0
