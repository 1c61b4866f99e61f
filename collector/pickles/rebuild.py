"""What the classes and functions of a pickle become as it is read, and what may be a key.

Contract: nothing that a pickle names is looked up or called. `rebuild` knows a few classes by their names and
makes their values itself, from arguments checked one by one; anything else becomes a Placeholder, and
`meanings` says what that stands for when it is shown.

Knows no opcode, no LogRecord, no socket and no file.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, time, timedelta, timezone
from decimal import Decimal
from types import NoneType
from typing import TYPE_CHECKING

from collector.pickles.brief import brief
from collector.pickles.meanings import scalar_of
from collector.pickles.moments import packed_date, packed_datetime, packed_time
from collector.pickles.placeholder import Placeholder, Text, cut

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

    Spend = Callable[[int], None]
    """Charges this many containers to the reader's budget, or raises because it is used up."""

# An integer is its own hash, modulo this prime: of larger ones a sender can choose thousands that collide.
HASH_MODULUS = 2**61 - 1
KEY_TYPES = frozenset({str, float, bool, NoneType})

_MAX_KNOWN_NAME = 64
_MAX_TEXT = 200  # of a number or a time zone
_MAX_DURATION = 10**10
# Copies are charged as containers, or five bytes could ask for a copy of a megabyte again and again.
_BYTES_PER_CONTAINER = 256
_KEY_CHARACTERS_PER_CONTAINER = 4
# Working out what an object used as a key stands for takes as long as this many containers.
_CONTAINERS_PER_MEANING = 8

_RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg"}


def is_key(value: object) -> bool:
    """Tell whether *value* may be a key: whether its hash is quick, and no choice of its sender."""
    return type(value) in KEY_TYPES or (type(value) is int and -HASH_MODULUS < value < HASH_MODULUS)


def as_key(value: object, spend: Spend) -> object:
    """Return *value* if it may be a key, else text that stands for it."""
    if is_key(value):
        return value
    if type(value) is int:
        return Text(str(value))
    found = value
    if type(value) is Placeholder:
        spend(_CONTAINERS_PER_MEANING)
        found = scalar_of(value)
    key = found if is_key(found) else Text(brief(found))
    spend(1 + len(str(key)) // _KEY_CHARACTERS_PER_CONTAINER)
    return key


def as_keys(keys: Iterable[object], held: Container[object], spend: Spend) -> Iterable[object]:
    """Return what may be keys in place of *keys*, in a dict that has those of *held*.

    An enum member and what it stands for are two keys in the client: the second one has quotes here.
    """
    found: dict[object, None] = {}
    for each in keys:
        key = as_key(each, spend)
        while key in found or key in held:
            text = repr(key)
            spend(1 + len(text) // _KEY_CHARACTERS_PER_CONTAINER)
            key = Text(text)
        found[key] = None
    return found


def rebuild(called: Placeholder, args: tuple[object, ...], spend: Spend) -> object:
    """Return what stands for the result of calling *called* with *args*."""
    if called.args is not None:
        spend(len(args))
        return Placeholder("", "__call__", (called, *args))
    if len(called.module) + len(called.name) <= _MAX_KNOWN_NAME:
        name = f"{_RENAMED.get(called.module, called.module)}.{called.name}"
        with suppress(ArithmeticError, TypeError, ValueError):  # arguments out of range
            made = _rebuilt(name, args, spend)
            if made is not None:
                return made
    return Placeholder(called.module, called.name, args)


def _rebuilt(name: str, args: tuple[object, ...], spend: Spend) -> object:  # noqa: C901, PLR0911, PLR0912 - a table
    """Return what a known class or function makes of arguments that it can take, else None, or raise.

    The real ones take more: bytearray(2**31), encode(text, "punycode") for minutes, a datetime's 255th day.
    """
    match name, args:
        case "_codecs.encode" | "builtins.bytearray", (str(text), "latin1" | "latin-1"):
            spend(len(text) // _BYTES_PER_CONTAINER)
            data = text.encode("latin-1")
            return data if name == "_codecs.encode" else bytearray(data)
        case "builtins.bytearray", (bytes(data),):
            spend(len(data) // _BYTES_PER_CONTAINER)
            return bytearray(data)
        case "builtins.bytearray", ():
            return bytearray()
        case "builtins.bytes", ():
            return b""
        case "builtins.complex", (int() | float() as real, int() | float() as imaginary):
            return complex(real, imaginary)
        case "builtins.getattr", (Placeholder(args=None) as owner, str(attribute)):  # of enums and time zones
            return Placeholder(owner.module, f"{cut(owner.name)}.{cut(attribute)}")
        case "collections.OrderedDict", ():
            return {}
        case "collections.OrderedDict", (list(pairs),):  # of Python 2
            spend(len(pairs))
            if all(type(pair) in {list, tuple} for pair in pairs):
                keys = as_keys([key for key, _ in pairs], (), spend)
                return dict(zip(keys, [value for _, value in pairs], strict=True))
        case "copyreg._reconstructor", (Placeholder(args=None) as cls, Placeholder(name="object"), None):
            return Placeholder(cls.module, cls.name, (), "object")
        case "copyreg._reconstructor", (Placeholder(args=None) as cls, Placeholder(args=None) as base, value):
            return Placeholder(cls.module, cls.name, (value,), base.name)
        case "copyreg.__newobj__" | "copyreg.__newobj_ex__", (Placeholder(args=None) as cls, *rest):
            spend(len(rest))
            return Placeholder(cls.module, cls.name, tuple(rest), "object")
        case "datetime.date", (state,):
            return packed_date(state)
        case "datetime.datetime", (state, *zone):
            return _zoned(packed_datetime(state), zone)
        case "datetime.time", (state, *zone):
            return _zoned(packed_time(state), zone)
        case "datetime.timedelta", (int(days), int(seconds), int(microseconds)):
            if max(map(abs, (days, seconds, microseconds))) < _MAX_DURATION:
                return timedelta(days, seconds, microseconds)
        case "datetime.timezone", (timedelta() as offset,):
            return timezone(offset)
        case "datetime.timezone", (timedelta() as offset, str(text)) if len(text) <= _MAX_TEXT:
            return timezone(offset, text)
        case "decimal.Decimal", (str(text),) if len(text) <= _MAX_TEXT:
            return Decimal(text)
    return None


def _zoned(moment: datetime | time, zone: list[object]) -> object:
    match zone:
        case []:
            return moment
        case [timezone() as known]:
            return moment.replace(tzinfo=known)
        case _:
            return Placeholder("datetime", type(moment).__name__, (moment, *zone))
