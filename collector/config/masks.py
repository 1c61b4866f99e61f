"""What is not to be shown of settings, as more people read a message than the file that it is about."""

from __future__ import annotations

import difflib
import re

_NAMES = ("password", "passwd", "secret", "token", "api_key", "shared_key")
_KEYS = "|".join(_NAMES).replace("_", "_?")
_SECRET = re.compile(rf"(?:{_KEYS})\Z", re.IGNORECASE)
# An unknown key may be a misspelt one of these; password_file is none of them.
_CLOSE = 0.79
_IN_URL = re.compile(r"\A(\w+://)?.*@", re.DOTALL)
_URLS = ("url", "urls", "proxy", "address")
# In a line that could not be read, up to its end: nobody knows where the value ends.
_IN_LINE = re.compile(rf"((?:{_KEYS})[\"']?[ \t]*[=:][ \t]*)\S.*", re.IGNORECASE)
_URL_IN_LINE = re.compile(r"(\w://)[^/\s]*@")


def masked(key: str, value: object) -> object:
    """Return *value* without the secrets that it may hold: the value of such a *key*, or one in a URL."""
    last = key.rpartition(".")[2].lower().removesuffix("s")
    if value and (_SECRET.search(last) or difflib.get_close_matches(last, _NAMES, 1, _CLOSE)):
        return "***" if not last.endswith("_file") else value
    if key in _URLS and isinstance(value, list | tuple):
        return [masked(key, each) for each in value]
    return _IN_URL.sub(r"\1***@", value) if key in _URLS and isinstance(value, str) else value


def masked_line(line: str) -> str:
    """Return a line of a file without the secrets that it may hold."""
    return _URL_IN_LINE.sub(r"\1***@", _IN_LINE.sub(r"\1***", line))
