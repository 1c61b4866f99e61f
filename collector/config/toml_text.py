"""Turns TOML text into tables with the package toml, after refusing what toml takes although it is not TOML.

toml 0.10.2 reads an array that is never closed as an empty one, which in a list of those who may connect
would mean everybody; and there is more of that kind. Knows no key and no setting.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

import toml

from collector.config.masks import masked_line
from collector.config.units import A_COUNT, without_unit
from collector.escape import one_line

# The part of TOML (https://toml.io/en/v1.0.0) that is taken, a match for each statement: toml gets to see
# nothing else. Left out, as no key needs it: quoted keys, text of several lines, dates, numbers that are not
# decimal, lists of anything but text, inline tables with more than plain values.
_WORD = r"[A-Za-z0-9_-]+"
_KEY = rf"{_WORD}(?:\.{_WORD}){{0,3}}"
_STRING = (
    r'(?:"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\(?:["\\bfnrt]|u(?![dD][89a-fA-F])[0-9a-fA-F]{4}))*"'
    r"|'[^'\x00-\x08\x0a-\x1f\x7f]*')"
)
_COMMENT = r"#[^\x00-\x08\x0a-\x1f\x7f]*"
_VALUE = rf"(?:{_STRING}|[+-]?(?:inf|nan|(?:0|[1-9](?:_?[0-9])*)(?:\.[0-9]+)?)|true|false)"
_GAP = rf"(?:[ \t\n]|{_COMMENT}\n)*"
_LIST = rf"\[{_GAP}(?:{_STRING}{_GAP}(?:,{_GAP}|(?=\])))*\]"
_INLINE = rf"\{{[ \t]*(?:{_WORD}[ \t]*=[ \t]*{_VALUE}[ \t]*(?:,[ \t]*(?!\}})|(?=\}})))*\}}"
_STATEMENT = re.compile(
    rf"[ \t]*(?:(?:\[\[[ \t]*(?P<array>{_KEY})[ \t]*\]\]|\[[ \t]*(?P<table>{_KEY})[ \t]*\]"
    rf"|(?P<key>{_KEY})[ \t]*=[ \t]*(?:{_VALUE}|{_LIST}|{_INLINE}))[ \t]*)?(?:{_COMMENT})?(?:\n|\Z)"
)
# A key and its value of digits and letters.
_UNQUOTED = re.compile(
    r"(?<![\w-])([\w-]+)[ \t]*=[ \t]*(\d[\w.]{,39}[ \t]*[A-Za-z]{1,9})[ \t]*(?=[,}#]|\Z)", re.ASCII
)
_LIKE_A_FLAG = re.compile(r"=[ \t]*(?:true|false|yes|no|on|off)[ \t]*(?:[,}#]|\Z)", re.IGNORECASE)
# Text in quotes up to a backslash that begins no escape or swallows the end.
_ESCAPE = re.compile(
    r'[=,\[][ \t]*"(?:[^"\\]|\\(?:["\\bfnrt]|u[0-9a-fA-F]{4}))*?\\(?:(?!["\\bfnrt]|u[0-9a-fA-F]{4})|"[^"]*\Z)'
)
# What a line with a fault was most likely meant for, and where the next one begins.
_LIKE_A_KEY = re.compile(rf"[ \t]*[\"']?({_KEY})[\"']?[ \t]*=")
_LIKE_A_HEADER = re.compile(rf"[ \t]*(\[\[?)[ \t]*[\"']?({_KEY})[\"']?[ \t]*(\]{{0,2}})(?:[ \t]|\]|\Z)")
_NEXT_HEADER = re.compile(rf"^{_LIKE_A_HEADER.pattern}", re.MULTILINE)
_NEXT_KEY = re.compile(rf"^(?:{_LIKE_A_KEY.pattern}|{_LIKE_A_HEADER.pattern})", re.MULTILINE)
_OPENED = re.compile(r"[^\n=]*=[ \t]*(\"\"\"|'''|\[|\{)")
# Enough for whoever writes one; a log file given by mistake has one a line.
MOST_FAULTS = 20
_TOKEN = re.compile(rf"(?P<string>{_STRING})|{_COMMENT}")
_ALONE = re.compile(rf"[ \t\n]*(?:{_VALUE}|{_LIST}|{_INLINE})[ \t\n]*")


class Unread:
    """Stands for a value that could not be read."""

    def __str__(self) -> str:
        return "?"


UNREAD = Unread()


class Parsed(NamedTuple):
    """What was read of a TOML text."""

    tables: dict[str, Any] | None
    """None where nobody can tell what the lines after one with a fault belong to."""
    faults: list[str]
    """A line for each."""
    lines: dict[tuple[str, ...], int]
    """Where each key is given, by its path; "2" in a path is the second of such tables."""


def parse(text: str) -> Parsed:
    """Read a TOML text. A line with a fault is left out: its key, or "-" where it has none, is UNREAD."""
    text = text.replace("\r\n", "\n")
    reading = _Reading()
    faults: list[str] = []
    start, line = 0, 1
    while start < len(text):
        statement = _STATEMENT.match(text, start)
        fault = reading.take(statement, line) if statement else "is no [table], [[table]] or key = value; "
        end = statement.end() if statement else _end_of_fault(text, start)
        if fault:
            first = text[start:end].partition("\n")[0]
            if not statement:
                reading.leave_out(first)
                fault += _remedy(first)
            faults.append(f"line {line}: {shown(masked_line(first.strip()))} {fault}")
        line += text.count("\n", start, end)
        start = end or len(text)
        if len(faults) == MOST_FAULTS:
            faults.append(f"line {line}: from here on nothing was read, after so many faults; is it TOML?")
            end = None
        if end is None:
            return Parsed(None, faults, {})
    return Parsed(reading.tables(), faults, reading.lines)


def value(text: str) -> Any:  # noqa: ANN401 - whatever TOML can hold
    """Return the value that a text is by itself, UNREAD if it is none."""
    if not _ALONE.fullmatch(text):
        return UNREAD
    tables, faults, _ = parse(f"value = {text.strip()}")
    return UNREAD if faults or tables is None else tables["value"]


class _Reading:
    """The statements so far: what they name, and the part of each table as toml is to get it."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, ...], str | int] = {}
        self._table: tuple[str, ...] | None = ()
        self._lost = False
        """Whether a header could not be told: the keys below it have no place."""
        self._values: list[str | Unread] = []
        self._plain: dict[tuple[str, ...], list[str]] = {(): []}
        self.lines: dict[tuple[str, ...], int] = {}
        """Where each key is given, by its path."""

    def take(self, statement: re.Match[str], line: int) -> str:
        """Enter a statement, which begins on a *line*; return its fault, "" if it has none."""
        if statement["key"] and self._table is None:
            return ""
        plain = _TOKEN.sub(self._hide, statement[0]).strip() + "\n"
        if "{" in plain:
            try:
                toml.loads(plain)
            except toml.TomlDecodeError as fault:  # such as a key twice
                self.leave_out(statement[0])
                return f"cannot be read: {fault.msg}; write it in a simpler way"
        if not self._enter(statement):
            return "is there already; join the two"
        if self._table is not None:
            self._plain.setdefault(self._table, []).append(plain)
        if statement["key"]:
            self.lines[(*(self._table or ()), *statement["key"].split("."))] = line
        return ""

    def leave_out(self, line: str) -> None:
        """Enter what a line with a fault was most likely meant to name, without its value."""
        header = _LIKE_A_HEADER.match(line)
        if header:
            double = header[1] == "[[" or header[3] == "]]"
            likely = f"[[{header[2]}]]" if double else f"[{header[2]}]"
        elif line.lstrip().startswith("["):
            self._refuse(None)
            return
        else:
            key = _LIKE_A_KEY.match(line)
            self._values.append(UNREAD)
            likely = f'{key[1] if key else "-"} = "{len(self._values) - 1}"'
        statement = _STATEMENT.match(likely)
        if statement and self._table is not None and self._enter(statement):
            self._plain.setdefault(self._table, []).append(f"{likely}\n")

    def tables(self) -> dict[str, Any] | None:
        """Return the tables; None if what belongs in which is not known."""
        if self._lost:
            return None
        tables = toml.loads("".join(line for lines in self._plain.values() for line in lines))
        return {key: self._show(value) for key, value in tables.items()}

    def _hide(self, token: re.Match[str]) -> str:
        # toml looks for quotes, commas and brackets inside strings too, so it sees a number in place of each.
        if not token["string"]:
            return ""
        text = token[0]
        self._values.append(text[1:-1] if text[0] == "'" else json.loads(text, strict=False))
        return f'"{len(self._values) - 1}"'

    def _show(self, value: Any) -> Any:  # noqa: ANN401 - whatever TOML can hold
        if isinstance(value, dict):
            return {key: self._show(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._show(inner) for inner in value]
        return self._values[int(value)] if isinstance(value, str) else value

    def _enter(self, statement: re.Match[str]) -> bool:
        """Note what *statement* names, and which table the next keys are in; tell whether it may be named.

        toml itself joins two tables of one name without a word, and lets headers and dotted keys add to an
        inline table. `_kinds` says of a path that it is a value, a table, a table so far only made by longer
        headers or by the dotted keys of one table, or an array of so many tables; "2" in a path is the second
        of them.
        """
        key = statement["key"]
        *above, last = (key or statement["array"] or statement["table"] or "").split(".")
        if not last:
            return True
        path = (self._table or ()) if key else ()
        made = f"by keys of {self._table}" if key else "by header"
        for part in above:
            path += (part,)
            kind = self._kinds.setdefault(path, made)
            if isinstance(kind, int) and not key:
                path += (str(kind),)
            elif kind == "value" or (key and kind != made):
                return self._refuse(key)
        path += (last,)
        known = self._kinds.get(path)
        if statement["array"] and (known is None or isinstance(known, int)):
            self._kinds[path] = number = (known or 0) + 1
            self._table = (*path, str(number))
            return True
        if statement["table"] and known == "table":
            self._table = path  # where the keys below belong all the same
            return False
        if known is not None and not (known == "by header" and statement["table"]):
            return self._refuse(key)
        self._kinds[path] = "value" if key else "table"
        self._table = self._table if key else path
        return True

    def _refuse(self, key: str | None) -> bool:
        """Leave out a key, or a header, whose keys then have no place."""
        if not key:
            self._table, self._lost = None, True
        return False


def _end_of_fault(text: str, start: int) -> int | None:
    """Return where to read on after a line that is no TOML, and the lines that it goes on for.

    None: at no place, for it begins a text of several lines that never ends.
    """
    end = text.find("\n", start) + 1 or len(text)
    opened = _OPENED.match(text, start)
    if opened is None:
        return end
    close = text.find({"[": "]", "{": "}"}.get(opened[1], opened[1]), opened.end())
    after = text.find("\n", close) + 1 or len(text)
    if opened[1] not in ("[", "{"):
        return None if close < 0 else after
    if 0 <= close < end:
        return end
    # An array goes on up to what begins like a key or a header, an inline table has keys of its own.
    other = (_NEXT_KEY if opened[1] == "[" else _NEXT_HEADER).search(text, end)
    limit = other.start() if other else len(text)
    if 0 <= close < limit:
        return after
    return limit if opened[1] == "[" else end


def _remedy(line: str) -> str:
    """Return what to do about a line that is no TOML."""
    for key, number in _UNQUOTED.findall(line):
        if remedy := without_unit(number, key):
            return f"{remedy}; text needs quotes" if remedy == A_COUNT else remedy
    remedy = "close quotes and brackets, quote text"
    if _LIKE_A_FLAG.search(line):
        remedy += "; write true or false, in small letters"
    if _ESCAPE.search(line):
        remedy += """; in "quotes" a backslash begins an escape: write 'single quotes', or two backslashes"""
    return remedy


def shown(value: object) -> str:
    """Return a value as TOML writes it, or UNREAD in it as "?", cut to fit a message."""
    text = written(value)
    return f"{text[:100]}..." if text[100:] else text


def written(value: object) -> str:
    """Return text, or a list of texts, as TOML writes it, on one line."""
    return one_line(json.dumps(value, ensure_ascii=False, default=str))
