"""What an object in a pickle stands for: a scalar, a container, or fields by their names.

Contract: nothing is looked up and nothing called. There is a table of well-known classes, and a few general
forms for all others; what fits none stays a Placeholder. One look at an object takes a bounded time: it goes
into its contents only as far as a scalar may be wrapped in others.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from types import NoneType
from typing import Any

from collector.pickles.moments import of_class
from collector.pickles.placeholder import Placeholder, Shape, Text, shown_name
from collector.pickles.well_known import CONSTANTS, MASK, known

_SCALARS = frozenset(
    (
        *(str, int, float, bool, NoneType, bytes, bytearray, complex, Text),
        *(Decimal, datetime, date, time, timedelta, timezone),
    )
)
_MAX_WRAPPINGS = 4
_MAX_NAME = 200
_MAX_ARGUMENTS = 256
_MAX_FIELDS = 1000
# Names that have Dict or Set for a word: an Asset is no set.
_OF_A_DICT, _OF_A_SET = (
    re.compile(rf".*(?:{kind}|(?:\b|_|(?i:frozen|ordered|sorted|default|multi)){kind.lower()})")
    for kind in ("Dict", "Set")
)
_BRACKETS: dict[type, tuple[str, str]] = {list: ("[", "]"), tuple: ("(", ")"), dict: ("{", "}")}
_MASKED_IN_CAPITALS = ("SECRET", "PASSWORD", "TOKEN")
_MASKED = ("Secret", "SecretValue", "SecretStr", "SecretBytes", "Password", "Token")


def meaning(value: Placeholder, wrappings: int = _MAX_WRAPPINGS) -> object:
    """Return what *value* stands for: a scalar, a list, a dict, a Shape, or itself if that is not known."""
    if value.args is None:
        return CONSTANTS.get(value.known_as, value)
    if masks_itself(value):
        return MASK
    args = value.args[:_MAX_ARGUMENTS]
    if len(args) == 1:  # with several arguments, each could hold as many again
        args = (scalar_of(args[0], wrappings),)
    read = known(value)
    # Raised where what is known of a class does not fit this object.
    with suppress(ArithmeticError, LookupError, RecursionError, TypeError, ValueError):
        made = read(value, args) if read else of_class(value.known_as[1], args)
        if made is not None:
            return made
    return value if read else _by_its_form(value, args[0] if len(args) == 1 else value)


def scalar_of(value: object, wrappings: int = _MAX_WRAPPINGS) -> object:
    """Return the scalar that *value* stands for, if it does, else *value*."""
    if type(value) is Placeholder and wrappings:
        found = meaning(value, wrappings - 1)
        if type(found) in _SCALARS:
            return found
    return value


def attributes_of(value: object) -> dict[Any, object] | None:
    """Return the attributes of an object, if its state tells them by their names."""
    state = value.state if type(value) is Placeholder else None
    match state:
        case (None, dict(fields)):  # in slots
            pass
        case (dict(first), dict(slots)) if len(first) + len(slots) <= _MAX_FIELDS:
            fields = {**first, **slots}
        case {"__dict__": dict(declared), "__pydantic_extra__": dict(others)}:
            fields = {**declared, **others} if len(declared) + len(others) <= _MAX_FIELDS else declared
        case {"__dict__": dict(fields)}:  # pydantic has more beside it
            pass
        case dict(fields):
            pass
        case _:
            return None
    known = state and len(fields) <= _MAX_FIELDS and all(isinstance(key, str) for key in fields)
    return fields if known else None


def masks_itself(value: Placeholder) -> bool:
    """Whether a class is one of secrets, or an object of such a class."""
    name = value.name[-_MAX_NAME:].rpartition(".")[2].partition("[")[0]
    of_text = value.base in ("str", "unicode") or (
        value.base == "object" and len(value.args or ()) == 1 and isinstance(value.args[0], str)  # type: ignore[index] # it has one
    )
    is_one = name.endswith(_MASKED) or (name.isupper() and name.endswith(_MASKED_IN_CAPITALS))
    return (is_one or _of_pydantic(value.state)) and not of_text


def _of_pydantic(state: object) -> bool:
    """Whether a state is that of pydantic's secrets, whatever the subclass is called."""
    match state:
        case {"_secret_value": _} | (_, {"_secret_value": _}):
            return True
    return False


def _by_its_form(value: Placeholder, only: object) -> object:  # noqa: C901, PLR0911 - a form each
    """Return what an object of an unknown class stands for; *only* is its one argument, else itself."""
    args, state = value.args or (), value.state
    name = shown_name(value.name)
    if type(value.items) is dict or type(value.items) is list:
        return value.items
    if value.base and type(only) is tuple:
        return Shape(f"{name}(", only, ")")
    if value.base in ("list", "dict") and type(only) in (list, dict):
        return only
    if value.base or (name[:1].isupper() and not state):
        if type(only) in _SCALARS:
            return only
        if type(only) is dict and _OF_A_DICT.fullmatch(name):
            return only
        if type(only) is list and only and _OF_A_SET.fullmatch(name):
            return Shape("{", only, "}")
        if type(only) in _BRACKETS and not state:  # such as a set's, an enum member's or a Counter's
            opening, closing = _BRACKETS[type(only)]
            comma = "," if isinstance(only, tuple) and len(only) == 1 else ""
            return Shape(f"{name}({opening}", only, f"{comma}{closing})")  # type: ignore[arg-type] # one of these
    fields = attributes_of(value)
    if fields is not None:
        return Shape(f"{name}(", args, ")", fields)
    if value.base and len(args) > 1 and not state:
        return Shape(f"{name}(", args, ")")
    if value.base and not args and type(state) is list:  # of a frozen dataclass with slots
        return Shape(f"{name}(", state, ")")
    return value
