"""What stands for the objects in a pickle until they are shown.

A Placeholder holds what the pickle says of an object. It may turn out to stand for a Text, which is what
`str()` shows of a value that is no text, or for a Shape. Does not know what any of them means.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_MAX_NAME = 200  # characters
_MAX_KNOWN_NAME = 100  # characters of a module, and of a class
_ESCAPED_BYTE = re.compile(rb"\\x([0-9a-f]{2})")
_RENAMED = {"__builtin__": "builtins", "exceptions": "builtins", "copy_reg": "copyreg"}


class Placeholder:
    """Stands for a class or a function (`args` is None), or for what calling it would have made."""

    __slots__ = ("args", "base", "items", "module", "name", "state")

    def __init__(
        self, module: str, name: str, args: tuple[object, ...] | None = None, base: str = ""
    ) -> None:
        self.module = module
        self.name = name
        self.args = args
        self.base = base
        """The class that it is made from without a call, most often "object"; "": it is called."""
        self.items: list[object] | dict[object, object] | None = None
        self.state: object = None

    @property
    def known_as(self) -> tuple[str, str]:
        """The outermost module and the class alone, ("", "") where these are longer than any known one."""
        if len(self.module) > _MAX_KNOWN_NAME or len(self.name) > _MAX_KNOWN_NAME:
            return "", ""
        root = self.module.partition(".")[0]
        return _RENAMED.get(root, root), self.name.rpartition(".")[2]


class Text(str):
    """What `str()` shows of a value that is no text: it has no quotes in a container."""

    __slots__ = ("json",)

    json: str
    """What JSON has instead."""

    def __new__(cls, text: str, json: str | None = None) -> Text:  # noqa: PYI034 - Self is new in Python 3.11
        """Make it of what is shown in text, and in JSON if that is different."""
        made = super().__new__(cls, text)
        made.json = text if json is None else json
        return made


class Shape(NamedTuple):
    """Values between an opening and a closing text, and fields behind them."""

    opening: str
    values: Collection[object]
    closing: str
    fields: Mapping[str, object] | None = None
    as_text: bool = False
    """Whether JSON has the text of all this, and not an array or an object."""


def cut(name: str) -> str:
    """Return the name of a module or a class, cut at 200 characters."""
    return name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 3]}..."


def shown_name(name: str) -> str:
    """Return the name of a module or a class on one line, cut at 200 characters."""
    return repr(cut(name))[1:-1]


def raw_bytes(value: object, length: int) -> bytes:
    """Return a state of *length* bytes; Python 2 sends a byte string, which has been decoded by now."""
    if isinstance(value, (bytes, bytearray)) and len(value) == length:
        return bytes(value)
    if isinstance(value, str) and len(value) <= length * len(r"\xff"):
        undone = _ESCAPED_BYTE.sub(lambda match: bytes.fromhex(match[1].decode()), value.encode())
        if len(undone) == length:
            return undone
        if len(value) == length:
            return value.encode("latin-1")
    raise TypeError
