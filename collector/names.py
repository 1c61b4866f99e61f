"""The names of files: what a logger's name becomes inside the directory, and what a backup adds to that.

A logger's name is hostile until mapped here: whatever it is, the result is a relative path whose parts begin
with no dot, hold no separator and fit every file system's limits. Different names give different paths, but
except those that `dots` makes the same. Knows no socket, no file and no configuration.
"""

from __future__ import annotations

import re
from hashlib import sha256
from unicodedata import category

OVERFLOW = "_overflow"
"""The name whose file takes the records of further loggers once names have made `max_files`."""
OVERFLOW_FILE = f"{OVERFLOW}.log"

BACKUP = re.compile(r"\.(\d{4}-\d\d-\d\d(?:T\d\d-\d\d-\d\d)?)(?:\.([1-9]\d{0,8}))?(\.gz)?\Z", re.ASCII)
"""What follows the name of a log file in that of its backup: a label, a number from 1 on, `.gz`."""
QUARANTINE, OLDER_QUARANTINE = ".quarantine", ".quarantine.1"
ENTRIES = {QUARANTINE: ".quarantine.jsonl", OLDER_QUARANTINE: ".quarantine.jsonl.1"}
"""Beside each half of the quarantine, what is known of its frames."""
MAX_NAME_BYTES = 180
"""The most bytes that stand for `{logger}`. NAME_MAX is 255: a suffix, a label, a number and `.gz` follow."""

_KEPT_NAME_BYTES = 160
_DIGEST_DIGITS = 16
_PLAIN = re.compile(r"[A-Za-z0-9_.-]+").fullmatch
_PART = r"[\w%~-]+"

LOGGER_PATTERNS = {"_": _PART, ".": r"[\w%~-][\w.%~-]*", "/": f"{_PART}(?:/{_PART})*"}
r"""What file_name() makes of a name, by `dots`; `\w` is a little more than the letters and digits kept."""


def file_name(logger: str, dots: str) -> str:
    """Map the name of a logger to what stands for `{logger}` in a path; *dots* is "_", "." or "/".

    Letters and digits of any script, `_`, `-` and `.` stay; of everything else each byte in UTF-8 becomes
    `%XX`, and so do `%` itself and a leading dot.
    """
    name = logger if _PLAIN(logger) else "".join(c if _stays(c) else _escape(c) for c in logger) or "root"
    if name[0] == "." or name == OVERFLOW:
        name = _escape(name[0]) + name[1:]
    encoded = name.encode()
    if len(encoded) > MAX_NAME_BYTES:
        digest = sha256(logger.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_DIGITS]
        name = f"{encoded[:_KEPT_NAME_BYTES].decode('utf-8', 'ignore')}~{digest}"
    if dots == "/":
        return "/".join(part or "_" for part in name.split("."))
    return name.replace(".", dots)


def _stays(c: str) -> bool:
    return c in "_-." or category(c)[0] == "L" or category(c) == "Nd"


def _escape(c: str) -> str:
    return "".join(f"%{byte:02X}" for byte in c.encode("utf-8", "surrogatepass"))
