"""TOML text into tables, by the package toml; what that would take although it is not TOML is refused before.

toml 0.10.2 reads an array that is never closed as an empty one, which in a list of those who may connect
would mean everybody; and there is more of that kind. Knows no key and no setting.
"""

from __future__ import annotations

import json
import re
from typing import Any

import toml

from collector.config.units import A_COUNT, without_unit

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
_UNQUOTED = re.compile(r"([A-Za-z0-9_-]+)[ \t]*=[ \t]*(\d[\w.]*[ \t]*[A-Za-z]+)[ \t]*(?=[,}#]|\Z)")
_LIKE_A_FLAG = re.compile(r"=[ \t]*(?:true|false|yes|no|on|off)[ \t]*(?:[,}#]|\Z)", re.IGNORECASE)
# Text in quotes up to a backslash that begins no escape or swallows the end.
_ESCAPE = re.compile(
    r'[=,\[][ \t]*"(?:[^"\\]|\\(?:["\\bfnrt]|u[0-9a-fA-F]{4}))*?\\(?:(?!["\\bfnrt]|u[0-9a-fA-F]{4})|"[^"]*\Z)'
)
_TOKEN = re.compile(rf"(?P<string>{_STRING})|{_COMMENT}")


def parse(text: str) -> dict[str, Any]:
    """Return the tables of a TOML text. Raises ValueError at the first line that is refused."""
    strings: list[str] = []

    def hide(token: re.Match[str]) -> str:
        # toml looks for quotes, commas and brackets inside strings too, so it sees a number in place of each.
        if not token["string"]:
            return ""
        strings.append(token[0][1:-1] if token[0][0] == "'" else json.loads(token[0], strict=False))
        return f'"{len(strings) - 1}"'

    def show(value: Any) -> Any:  # noqa: ANN401 - whatever TOML can hold
        if isinstance(value, dict):
            return {key: show(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [show(inner) for inner in value]
        return strings[int(value)] if isinstance(value, str) else value

    text = text.replace("\r\n", "\n")
    kinds: dict[tuple[str, ...], str | int] = {}
    table: tuple[str, ...] = ()
    plain, start, line = [], 0, 1
    while start < len(text):
        statement = _STATEMENT.match(text, start)
        taken = _take(kinds, table, statement) if statement else None
        if statement is None or taken is None:
            found = shown(text[start:].partition("\n")[0].strip())
            rule = "no [table], [[table]] or key = value; "
            rule += _remedy(text[start:].partition("\n")[0])
            rule = "there already; join the two" if statement else rule
            raise ValueError(f"line {line}: {found} is {rule}")
        table = taken
        plain.append(_TOKEN.sub(hide, statement[0]))
        start = statement.end()
        line += statement[0].count("\n")
    try:
        return {key: show(value) for key, value in toml.loads("".join(plain)).items()}
    except toml.TomlDecodeError as fault:  # such as a key twice in one inline table
        raise ValueError(f"{fault}; write it in a simpler way") from fault


def _take(
    kinds: dict[tuple[str, ...], str | int], table: tuple[str, ...], statement: re.Match[str]
) -> tuple[str, ...] | None:
    """Enter what *statement* names; return the table that the next keys are in, None if it may not be named.

    toml itself joins two tables of one name without a word, and lets headers and dotted keys add to an inline
    table. *kinds* says of a path that it is a value, a table, a table so far only made by longer headers or
    by the dotted keys of one table, or an array of so many tables; "2" in a path is the second of them.
    """
    key = statement["key"]
    *above, last = (key or statement["array"] or statement["table"] or "").split(".")
    if not last:
        return table
    path = table if key else ()
    made = f"by keys of {table}" if key else "by header"
    for part in above:
        path += (part,)
        kind = kinds.setdefault(path, made)
        if isinstance(kind, int) and not key:
            path += (str(kind),)
        elif kind == "value" or (key and kind != made):
            return None
    path += (last,)
    known = kinds.get(path)
    if statement["array"] and (known is None or isinstance(known, int)):
        kinds[path] = number = (known or 0) + 1
        return (*path, str(number))
    if known is not None and not (known == "by header" and statement["table"]):
        return None
    kinds[path] = "value" if key else "table"
    return table if key else path


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
    """Return a value as TOML writes it, cut to fit a message."""
    text = json.dumps(value, ensure_ascii=False)
    return f"{text[:100]}..." if text[100:] else text
