"""The memory of fragments: what those parts of frames say that come again and again, by their exact bytes.

It is bounded in the number of fragments and in the size of each. Knows nothing of the form of a frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from collector.pickles.errors import RecordError
from collector.pickles.reader import read

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_FRAGMENTS = 4096
MAX_FRAGMENT_BYTES = 2048
"""What is longer is hardly constant, and not remembered."""
MAX_READ_BYTES = 64 * 1024
"""A frame that is longer, not counting its message, is read whole, and so is one with longer extras.

Within this bound no budget of the reader of pickles can run out, so that it would have said the same.
"""
END = b"u."
"""How the dict of a frame ends."""

_Key = TypeVar("_Key")
_Found = TypeVar("_Found")


class Memory(dict[_Key, _Found]):
    """What fragments have been found to be, by their bytes."""

    def __init__(self, before_clear: Callable[[], None] = lambda: None) -> None:
        """Call *before_clear* each time before all is forgotten."""
        super().__init__()
        self._before_clear = before_clear
        self._unfit: set[_Key] = set()
        """Fragments that say something else in other frames."""

    def learn(self, key: _Key, make: Callable[[_Key], _Found | None], size: int) -> _Found | None:
        """Return what *make* makes of *key*, which has *size* bytes, and remember it; None if it is unfit."""
        if key in self._unfit:
            return None
        found = make(key)
        if size <= MAX_FRAGMENT_BYTES:
            self.remember(key, found)
        return found

    def remember(self, key: _Key, found: _Found | None) -> None:
        """Have *found* found by *key*; None: it is unfit.

        A memory that is full is emptied: the fragments still in use come back at once.
        """
        if len(self) + len(self._unfit) >= MAX_FRAGMENTS:
            self._before_clear()
            self.clear()
            self._unfit.clear()
        if found is None:
            self._unfit.add(key)
        else:
            self[key] = found


def constant_fields(fragment: bytes, encoding: str) -> dict[str, object] | None:
    """Return the fields in *fragment* if it says the same in every frame, else None."""
    try:
        reading = read(b"}(" + fragment + END, encoding)
    except RecordError:
        return None
    return reading.value if reading.plain else None  # type: ignore[return-value] # a dict, then
