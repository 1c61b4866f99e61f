"""What a traceback is: the class of the exception, and the way that the application took to it.

Line numbers and values say where and with what it happened this time, and are left out. Knows text only, of
any client and any age: what is no traceback of Python's has a class at most.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_CHARACTERS = 64 * 1024
"""Only the beginning of a traceback is looked at, and its end if the class is not in there."""
_END_CHARACTERS = 4 * 1024
_MAX_CLASS_CHARACTERS = 200
_MAX_ERROR_CHARACTERS = 500
UNKNOWN = "unknown"

_HEADER = "Traceback (most recent call last):"
_FRAME = re.compile(r'^[ |]*  File "([^"\n]*)", line \d+, in (.+)$', re.MULTILINE)
# Code that came with Python or was installed, on every system; what is frozen into Python has no path.
_FOREIGN = re.compile(
    r"/(?:site|dist)-packages/|/lib(?:64)?/python|/python\d[\d.]*/lib/|^<frozen ", re.IGNORECASE
)
# At the beginning of a line, where frames and code are indented.
_CLASS = re.compile(r"^([^\W\d][\w.<>]*)(?:: .*|:?)$", re.MULTILINE)
# Two, for one would take the square of the time where many groups begin and none says what it holds.
_GROUP_BEGINS = re.compile(r"^ *\+ Exception Group (?=Traceback )", re.MULTILINE)
_GROUP_HOLDS = re.compile(r"^ *\+-", re.MULTILINE)
_MARGIN = re.compile(r"^ *\| ?", re.MULTILINE)


class Traceback(NamedTuple):
    """What two tracebacks have in common that are of one kind, and the last line of this one."""

    kind: str
    """The class, as Python writes it: `app.errors.Broken`, or UNKNOWN."""
    frames: tuple[str, ...]
    """The application's, the outermost first, each once: `orders/views.py:checkout`."""
    error: str
    """The line that has the class and what the exception said."""


def read(text: str) -> Traceback:
    """Return what the traceback in *text* is. Where no frame is the application's, all are taken."""
    begin = text[:MAX_CHARACTERS]
    # A recursion is as long as the stack had room for, and differs each time.
    frames = list(dict.fromkeys(match.groups() for match in _FRAME.finditer(begin)))
    own = [(path, name) for path, name in frames if not _FOREIGN.search(path.replace("\\", "/"))]
    kind, error = _error(begin)
    if not kind and len(text) > MAX_CHARACTERS:
        kind, error = _error(text[-_END_CHARACTERS:])
    shown = tuple(dict.fromkeys(f"{_short(path)}:{name}" for path, name in own or frames))
    return Traceback(kind or UNKNOWN, shown, error)


def _error(text: str) -> tuple[str, str]:
    """Return the class of the exception raised last and its line; "" where there is none."""
    if (begin := _GROUP_BEGINS.search(text)) and (end := _GROUP_HOLDS.search(text, begin.end())):
        # What is in the group is part of what it says.
        text = _MARGIN.sub("", text[begin.end() : end.start()])
    match = _CLASS.search(text, max(0, text.rfind(_HEADER)) + 1)
    if not match:
        return "", ""
    return match[1][:_MAX_CLASS_CHARACTERS], match[0][:_MAX_ERROR_CHARACTERS]


def _short(path: str) -> str:
    """Return a file without what may differ from one machine or release to the next."""
    return "/".join(path.replace("\\", "/").split("/")[-2:])
