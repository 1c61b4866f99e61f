"""Escape text from the wire, so that it stays on one line and controls no terminal.

The one place that knows which characters those are. Knows no record.
"""

from __future__ import annotations

import re

NEWLINE = ord("\n")
HARMLESS = bytes(
    byte if chr(byte).isascii() and chr(byte).isprintable() and chr(byte) != "\\" else NEWLINE
    for byte in range(256)
)
"""A table for bytes.translate() that turns every byte but printable ASCII, and the backslash, into NEWLINE.

This is the fastest way to see that a text is harmless; isprintable() takes twice as long.
"""

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\\\\]")
_BREAKING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u2028\u2029]")
_UNBROKEN = bytes(byte if chr(byte) == "\\" else HARMLESS[byte] for byte in range(256))


def escape(text: str) -> str:
    r"""Write C0 and C1 controls, U+2028, U+2029 and the backslash as Python would: `\n`, `\x1b`, `\\`."""
    if text.isascii():
        if NEWLINE not in text.encode().translate(HARMLESS):  # nearly every text ends here
            return text
    elif text.isprintable() and "\\" not in text:
        return text
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """Return JSON that is one line for every splitter, not only for those that split at newlines."""
    return _UNSAFE_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def unbroken(text: str) -> str:
    r"""Write C0 and C1 controls, U+2028 and U+2029 as Python would; `C:\new` stays as it is."""
    if text.isascii():
        if NEWLINE not in text.encode().translate(_UNBROKEN):
            return text
    elif text.isprintable():
        return text
    return _BREAKING.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
