"""Numbers that people write with a unit: what the bare number would be, for a message."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"(\d[\d_]*(?:\.\d+)?)[ \t]*([A-Za-z]+)\Z", re.ASCII)
_POWERS = "kmgt"
_SECONDS = {"ms": 0.001, "s": 1, "sec": 1, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SECONDS |= {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}


def without_unit(text: str) -> str:
    """Return the remedy for a number with a unit, such as 256MiB or 10 min; "" where *text* is none."""
    match = _NUMBER.match(text)
    if not match:
        return ""
    number, unit = float(match[1].replace("_", "")), match[2]
    factor = _bytes(unit.lower()) or _seconds(unit.lower())
    if not factor:
        return ""
    bare = number * factor
    whole = f"{round(bare):_}" if bare == round(bare) else f"{bare:g}"
    what = "bytes" if _bytes(unit.lower()) else "seconds"
    return f"a number has no unit here; in {what} {text} is {whole}"


def _bytes(unit: str) -> float:
    if unit in ("b", "byte", "bytes"):
        return 1
    match = re.fullmatch(r"([kmgt])(i?b|)", unit)
    if not match:
        return 0
    power = _POWERS.index(match[1]) + 1
    return float(1000**power if match[2] == "b" else 1024**power)


def _seconds(unit: str) -> float:
    return _SECONDS.get(unit) or _SECONDS.get(unit.removesuffix("s"), 0)
