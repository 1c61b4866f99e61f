"""The variables of the environment that stand for keys: COLLECTOR__LISTEN__PORT is `port` in [listen].

Two underscores stand between table and key, as Kubernetes sets COLLECTOR_PORT itself where a Service has that
name; names with one belong to others. Knows what a variable names and how its value is written, and of no key
what it is for.
"""

from __future__ import annotations

import difflib
import functools
from typing import TYPE_CHECKING

from collector.config import toml_text
from collector.config.checks import QUOTED
from collector.config.keys import is_text, keys
from collector.config.tables import Config
from collector.config.toml_text import UNREAD

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PREFIX = "COLLECTOR__"
_BETWEEN = "__"

Path = tuple[str, ...]
"""The tables from the top down, and the key: ("listen", "port")."""


def variable(*path: str) -> str:
    """Return the name of the variable that stands for a key."""
    return _PREFIX + _BETWEEN.join(path).upper()


@functools.cache
def known() -> dict[str, Path]:
    """Return the path of each key that has a variable, by the variable's name."""
    tables = [(name, kind) for name, kind in keys(Config).items() if isinstance(kind, type)]
    return {variable(*path): path for name, kind in tables for path in _paths(kind, (name,))}


def _paths(kind: type, place: Path) -> Iterator[Path]:
    for key, check in keys(kind).items():
        yield (*place, key)
        if isinstance(check, type):
            yield from _paths(check, (*place, key))


def ours(environ: Mapping[str, str]) -> list[str]:
    """Return the names of the variables that stand for keys, or were meant to, in order."""
    return sorted(name for name in environ if name.upper().startswith(_PREFIX))


def unknown(name: str) -> str:
    """Return the rule and the remedy for a variable of *ours* that names no key."""
    words = name.upper().removeprefix(_PREFIX)
    table, _, _ = words.partition(_BETWEEN)
    if table.rstrip("S") in ("LOGGER", "FORWARD"):
        return "[[logger]] and [[forward]] are for the file alone; remove it, and write them there"
    of_table = [one for one in known() if one.startswith(f"{_PREFIX}{words}{_BETWEEN}")]
    if of_table:
        return f"is a table; name a key of it, as {of_table[0]} does"
    own = {one.removeprefix(_PREFIX): one for one in known()}
    near = [own[one] for one in difflib.get_close_matches(words, own, 1)]
    # As for a key that stands in no table, or in the wrong one.
    key = words.rpartition(_BETWEEN)[2]
    same = [one for one in known() if one.endswith(f"{_BETWEEN}{key}") and one not in near]
    if words in own:
        same = []
    return f"unknown; did you mean {' or '.join([*near, *same])}?" if near or same else "unknown; remove it"


def value(kind: type, key: str, text: str) -> object:
    """Return the checked value of a key, text as it is or else as TOML. Raises ValueError, with the rule."""
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes in it that os.environ could not decode
        raise ValueError("must be UTF-8") from None
    check = keys(kind)[key]
    if isinstance(check, type):
        table = toml_text.value(text)
        if not isinstance(table, dict):
            raise ValueError(f"must be a table, such as {{ {next(iter(keys(check)))} = ... }}")  # noqa: TRY004 - of the operator
        return table
    try:
        return check(text)
    except ValueError:
        found = UNREAD if is_text(kind, key) else toml_text.value(text)
        if found is UNREAD:
            raise
    return check(found)


def rule(text: str, given: str) -> str:
    """Return the rule for a variable, made of that for a file: quotes would be a part of the value here."""
    text = text.replace(", without quotes", "").partition("; in 'single quotes'")[0]
    if not text.startswith("must be a list"):
        text = text.replace(" in quotes", "")
    if QUOTED.fullmatch(given) and "the quotes around it" not in text:
        return f"{text}; leave out the quotes around it"
    return text if given else f"{text}; unset it, for what holds without it"
