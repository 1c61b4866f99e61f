"""How a value from a pickle is shown: as the text that `str()` would have given, and as JSON can hold it.

Contract: nothing raises; text, JSON and time are bounded, whatever the value. A value may contain itself, or
one list in so many places that no walk through it would end.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from types import NoneType
from typing import TYPE_CHECKING, Any

from collector.pickles.budgets import MAX_INTEGER_BITS
from collector.pickles.meanings import meaning
from collector.pickles.placeholder import Placeholder, Shape, Text, shown_name

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

BRIEF_CHARACTERS = 4000
BRIEF_DEPTH = 6


_NESTED = frozenset({list, tuple, dict, Placeholder})
_PRINTED = frozenset(
    {Text, float, bool, NoneType, complex, Decimal, datetime, date, time, timedelta, timezone}
)


def brief(value: object) -> str:
    """Return *value* as text: a str as it is, all else in 4000 characters and 6 levels; "..." shows a cut."""
    found = meaning(value) if type(value) is Placeholder else value
    if isinstance(found, str):
        return str(found)
    if type(found) not in _NESTED and type(found) is not Shape:
        text = _scalar(found, BRIEF_CHARACTERS)
    else:
        writer = _Writer()
        writer.add(value, ())
        text = "".join(writer.pieces)
    return text if len(text) <= BRIEF_CHARACTERS else f"{text[: BRIEF_CHARACTERS - 3]}..."


def _scalar(value: object, room: int) -> str:
    """Return the text of what holds no other values; it is longer than *room* only if it has to be cut."""
    if type(value) is str or type(value) is bytes:
        return repr(value[: room + 1])
    if type(value) is int:
        return str(value) if value.bit_length() <= MAX_INTEGER_BITS else hex(value)
    if type(value) in _PRINTED:
        return str(value)
    if type(value) is bytearray:
        return f"bytearray({bytes(value[: room + 1])!r})"
    return f"<{type(value).__name__}>"  # no value of a reading


class _Writer:
    """The pieces of a text, and the room left for more: below 0, all that could follow is going to be cut."""

    __slots__ = ("pieces", "room")

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.room = BRIEF_CHARACTERS

    def add(self, value: object, path: tuple[int, ...]) -> None:
        """Add the text of *value*; *path* has the ids of what it stands in, one for each level."""
        if type(value) not in _NESTED:
            self.add_text(_scalar(value, self.room))
        elif len(path) == BRIEF_DEPTH or id(value) in path:
            self.add_text("..." if type(value) is not Placeholder else self.short(value))
        elif type(value) is Placeholder:
            self.add_object(value, (*path, id(value)))
        else:
            self.add_nested(value, (*path, id(value)))

    def short(self, value: Placeholder) -> str:
        """Return what is shown of an object at which the path ends."""
        found = meaning(value)
        return "..." if type(found) in _NESTED or type(found) is Shape else _scalar(found, self.room)

    def add_text(self, text: str) -> None:
        self.pieces.append(text)
        self.room -= len(text)

    def add_nested(self, value: object, path: tuple[int, ...]) -> None:
        """Add a container; its own id is the last one of *path*."""
        if type(value) is list:
            self.add_all("[", value, "]", path)
        elif type(value) is tuple:
            self.add_all("(", value, ",)" if len(value) == 1 else ")", path)
        elif type(value) is dict:
            self.add_all("{", value, "}", path)

    def add_all(self, opening: str, values: Collection[object], closing: str, path: tuple[int, ...]) -> None:
        self.add_text(opening)
        separator = ""
        for value in values:
            self.add_text(separator)
            separator = ", "
            if self.room < 0:
                return
            self.add(value, path)
            if type(values) is dict and self.room >= 0:
                self.add_text(": ")
                self.add(values[value], path)
        self.add_text(closing)

    def add_object(self, value: Placeholder, path: tuple[int, ...]) -> None:
        found = meaning(value)
        if type(found) is Shape:
            self.add_all(found.opening, found.values, "", path)
            self.add_fields(found, path)
            self.add_text(found.closing)
        elif type(found) is Placeholder:
            self.add_placeholder(value, path)
        elif type(found) in _NESTED:
            self.add_nested(found, path)
        else:
            self.add_text(_scalar(found, self.room))

    def add_fields(self, shape: Shape, path: tuple[int, ...]) -> None:
        separator = ", " if shape.values else ""
        for name, value in (shape.fields or {}).items():
            if self.room < 0:
                return
            self.add_text(f"{separator}{name[: self.room + 1]}=")
            separator = ", "
            self.add(value, path)

    def add_placeholder(self, value: Placeholder, path: tuple[int, ...]) -> None:
        """Add what is not understood: the arguments of a call, what it was filled with, and a state."""
        name = shown_name(value.name)
        if value.args is None:
            module = "" if value.module in ("builtins", "__builtin__") else f"{shown_name(value.module)}."
            return self.add_text(f"<{module}{name}>")
        args, rest = value.args, [part for part in (value.items, value.state) if part is not None]
        if not args and value.items is not None:
            args = (rest.pop(0),)  # like the call that would make it
        self.add_all(f"{name}(", args, ")", path)
        for part in rest:
            if self.room >= 0:
                self.add_text(" ")
                self.add(part, path)
        return None


# --- JSON ---------------------------------------------------------------------------------------------------

# A few references can stand for gigabytes (2**60 leaves in 200 bytes): past these bounds an extra
# is brief text. The numbers are those of the largest value a frame can hold without references.
_MAX_JSON_NODES = 100_000
_MAX_JSON_CHARACTERS = 16 * 1024 * 1024
_MAX_JSON_DEPTH = 100
# A character of an object's text takes as long to make as this many characters of a string.
_BRIEF_WEIGHT = 16


def jsonable(value: object) -> object:
    """Return *value* as JSON can hold it: its own containers and scalars, and text for everything else."""
    return jsonable_values({"": value})[""]


def jsonable_values(values: Mapping[Any, object]) -> dict[str, object]:
    """Return *values* by the texts of their keys, each as JSON can hold it; they have one budget together."""
    budget = [_MAX_JSON_NODES, _MAX_JSON_CHARACTERS]
    found: dict[str, object] = {}
    for key, value in values.items():
        shown = value
        if value is not None and type(value) not in (str, int, bool):
            try:
                shown = _jsonable(value, budget, _MAX_JSON_DEPTH)
            except _TooMuchError:
                shown = brief(value) if budget[1] > 0 else "..."
                budget[1] -= _BRIEF_WEIGHT * len(shown)
        found[key_in_json(key)] = shown
    return found if len(found) == len(values) else jsonable_values(_apart(values))


class _TooMuchError(Exception):
    """A value would take more than its budget."""


def _jsonable(value: object, budget: list[int], depth: int) -> object:  # noqa: PLR0911 - one a kind
    budget[0] -= 1
    if budget[0] < 0 or budget[1] < 0 or not depth:
        raise _TooMuchError
    if isinstance(value, str):
        text = value if type(value) is str else value.json if type(value) is Text else str(value)
        budget[1] -= len(text)
        return text
    if value is None or isinstance(value, int):
        return value
    if type(value) is Placeholder:
        return _object_in_json(value, budget, depth)
    if isinstance(value, (list, tuple)):
        return [_jsonable(item, budget, depth - 1) for item in value]
    if isinstance(value, dict):
        return _object(value, budget, depth)
    if isinstance(value, float) and value - value == 0:  # NaN and the infinities differ from themselves
        return value
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    return _jsonable(brief(value), budget, depth)


def _object_in_json(value: Placeholder, budget: list[int], depth: int) -> object:
    found = meaning(value)
    if type(found) not in (Placeholder, Shape):
        return _jsonable(found, budget, depth)
    if type(found) is not Shape or found.as_text or (found.fields and found.values):
        text = brief(value)  # neither an array nor an object
        budget[1] -= _BRIEF_WEIGHT * len(text)
        return text
    if found.fields is not None:
        return _object(found.fields, budget, depth)
    if isinstance(found.values, dict):
        return _object(found.values, budget, depth)
    return [_jsonable(item, budget, depth - 1) for item in found.values]


def _object(fields: Mapping[Any, object], budget: list[int], depth: int) -> object:
    made = {key_in_json(key): _jsonable(item, budget, depth - 1) for key, item in fields.items()}
    if len(made) < len(fields):
        return _object(_apart(fields), budget, depth)
    budget[1] -= sum(map(len, made))
    return made


def _apart(fields: Mapping[Any, object]) -> dict[str, object]:
    """Return *fields* by texts of which no two are one, or a value would be lost: one comes in quotes."""
    found: dict[str, object] = {}
    for key, value in fields.items():
        text = key_in_json(key)
        while text in found:
            text = repr(text)
        found[text] = value
    return found


def key_in_json(key: object) -> str:
    """Return the text that stands for a key of any kind."""
    return str(key) if isinstance(key, str) else brief(key)
