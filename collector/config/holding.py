"""What holds, as TOML, with where each value comes from. Read again it means the same, but for secrets."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

from collector import levels
from collector.config import checks, forwards
from collector.config.keys import keys
from collector.config.masks import masked
from collector.config.tables import Config
from collector.config.toml_text import written
from collector.escape import unbroken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from collector.config.environment import Path
    from collector.config.load import Settings


def holding(settings: Settings, file: str) -> Iterator[str]:
    """Yield the lines, each without its newline; *file* is the one that the settings were read from."""
    config, origins = settings.config, _Origins(settings, unbroken(file))
    for name, check in keys(Config).items():
        if not isinstance(check, type):
            continue
        table = getattr(config, name)
        yield "" if table else f"\n# no table [{name}]"
        if table:
            yield f"[{name}]"
            yield from _lines(table, (), partial(origins.of, name), name)
    for rule in reversed(config.rules):  # the general ones first
        yield from ("", "[[logger]]")
        yield from _lines(rule, (), partial(origins.of_rule, rule.name))
    for forward in config.forwards:
        yield from ("", "[[forward]]")
        of_its_type = forwards.keys_of(forward.type)
        for line in _lines(forward, (), partial(origins.of_forward, forward.name)):
            # Where there are urls there is no url, which cannot be empty.
            if line.split(" ")[0] in of_its_type and not line.startswith('url = ""'):
                yield line


def _lines(
    table: Any,  # noqa: ANN401 - any dataclass
    place: Path,
    origin: Callable[..., str],
    name: str = "",
) -> Iterator[str]:
    """Yield a line for each key; *name* is that of a table that may have tables which are missing."""
    kind: type = type(table)
    for key, check in keys(kind).items():
        value, path = getattr(table, key), (*place, key)
        if not isinstance(check, type):
            yield f"{'.'.join(path)} = {_text(check, masked(key, value))}  # from {origin(*path)}"
        elif value is None:
            yield f"# no table [{name}.{key}]"
        else:
            yield from _lines(value, path, origin)


def _text(check: object, value: Any) -> str:  # noqa: ANN401 - whatever a key may hold
    """Return a checked value as it would be written in a file."""
    if check is checks.level:
        value = levels.written(value)
    elif check is checks.file_mode:
        value = f"{value:04o}"
    elif isinstance(value, tuple | list):
        value = [str(each) for each in value]
    # 1e-05 is more than the TOML that is read here.
    return format(Decimal(repr(value)), "f") if isinstance(value, float) else written(value)


class _Origins:
    """Where values come from."""

    def __init__(self, settings: Settings, file: str) -> None:
        self._settings = settings
        self._file = file

    def of(self, *path: str) -> str:
        """Return where the value of a key of a table comes from."""
        if variable := self._settings.variables.get(path):
            return f"environment: {variable}"
        return self._in_file(self._settings.given, (), path) or "default"

    def of_rule(self, name: str, *path: str) -> str:
        """Return where a value of a rule comes from: the rule, the nearest above it that has it, a table."""
        above = [name[: dot.start()] for dot in re.finditer(r"\.", name)]
        for each in [name, *reversed(above)]:
            if (each == name or each != "root") and (found := self._in("logger", each, path)):
                return found
        return self.of(*({"level": ("files", "level")}.get(path[0], path)))

    def of_forward(self, name: str, *path: str) -> str:
        """Return where a value of a destination comes from."""
        return self._in("forward", name, path) or "default"

    def _in(self, array: str, name: str, path: Path) -> str:
        for number, table in enumerate(self._settings.given.get(array, []), 1):
            if table["name"] == name:
                return self._in_file(table, (array, str(number)), path)
        return ""

    def _in_file(self, table: Any, place: Path, path: Path) -> str:  # noqa: ANN401 - a table, or what is in it
        for part in path:
            if part not in table:
                return ""
            table = table[part]
        whole, lines = (*place, *path), self._settings.lines
        # In an inline table a key has the line of that.
        line = next(lines[whole[:size]] for size in range(len(whole), 0, -1) if whole[:size] in lines)
        return f"{self._file}, line {line}"
