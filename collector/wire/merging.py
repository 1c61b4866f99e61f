"""A message and its arguments become one text, as `message % args` would, within bounds.

Contract: `merged` returns the text, or None if anything does not fit: then both are shown as they are. No
width or precision has more than three digits or comes from an argument, and no text grows by more than a
megabyte. The real operator could take gigabytes with a format and values that a stranger chose.
"""

from __future__ import annotations

import re
from decimal import Decimal

from collector.pickles.brief import brief
from collector.pickles.budgets import MAX_INTEGER_BITS
from collector.pickles.meanings import scalar_of

MAX_CONVERSIONS = 10_000
MAX_GROWTH = 1024 * 1024
"""Characters beyond those of message and arguments: widths, escapes, a value named again and again."""

_CONVERSION = re.compile(
    r"""% (?:\((?P<key>[^()]*)\))? (?P<flags>[-#0\ +]{0,5}) (?P<width>\d{0,3})
        (?P<precision>(?:\.\d{0,3})?) [hlL]? (?P<type>[srdiufFeEgGxXoc%])""",
    re.VERBOSE,
)
_EXACT = 2**53


def merged(message: str, args: object) -> str | None:
    """Return *message* with *args*: a tuple or list, a dict of named values, or one value."""
    if message.count("%") > 2 * MAX_CONVERSIONS:
        return None
    values: list[object] = list(args) if isinstance(args, (tuple, list)) else [args]
    named = values[0] if len(values) == 1 and isinstance(values[0], dict) else None
    room = MAX_GROWTH + len(message)
    room += sum(len(value) for value in (named.values() if named else values) if isinstance(value, str))
    pieces: list[str] = []
    texts: dict[tuple[str, int], str] = {}
    used = done = 0
    while (start := message.find("%", done)) >= 0:
        match = _CONVERSION.match(message, start)
        if match is None:
            return None
        pieces.append(message[done:start])
        done = match.end()
        if match["type"] == "%":
            text: str | None = "%" if match[0] == "%%" else None
        elif match["key"] is not None:
            text = _converted(match, named[match["key"]], texts) if named and match["key"] in named else None
            used = len(values)
        else:
            text = _converted(match, values[used], texts) if used < len(values) else None
            used += 1
        if text is None or (room := room - len(text)) < 0:
            return None
        pieces.append(text)
    whole = used == len(values) or (not used and isinstance(args, dict))  # a dict need not be used
    return "".join([*pieces, message[done:]]) if whole else None


def _converted(match: re.Match[str], value: object, texts: dict[tuple[str, int], str]) -> str | None:
    """Return *value* converted as *match* says; *texts* are the ones made before, by kind and the value's id.

    They are kept since a message may name one value ten thousand times, to show a letter of it.
    """
    kind = match["type"]
    spec = f"%{match['flags']}{match['width']}{match['precision']}{kind}"
    if kind in "sr":
        key = kind, id(value)
        if key not in texts:
            found = scalar_of(value)
            texts[key] = brief(found) if kind == "s" or type(found) is not str else repr(found)
        return f"{spec[:-1]}s" % texts[key]
    value = scalar_of(value)
    if isinstance(value, Decimal):
        value = float(value)
        if kind not in "feg" and not abs(value) < _EXACT:
            return None
    if kind == "c" and isinstance(value, str):
        return spec % value if len(value) == 1 else None
    too_long = isinstance(value, int) and value.bit_length() > MAX_INTEGER_BITS
    if too_long or not isinstance(value, (int, float)):
        return None
    try:
        return spec % value
    except (TypeError, ValueError, OverflowError):  # %x of 1.5, %d of infinity, %c of -1
        return None
