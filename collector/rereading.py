"""The configuration is read again, in a thread: its disk may hang, and whoever wants it has other work."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

_Found = TypeVar("_Found")


class Rereading(Generic[_Found]):
    """What is read, each time it is wanted again. begin() and take() are for one thread, and never wait."""

    def __init__(self, read: Callable[[], _Found | None], wake: Callable[[], object] = int) -> None:
        """*read* returns None if all is to stay as it is; *wake* is called in its thread behind it."""
        self._read = read
        self._wake = wake
        self._mutex = threading.Lock()
        self._is_running = self._again = False
        self._found: _Found | None = None

    def begin(self) -> None:
        """Read, or if that is under way read once more, as the file may have changed since."""
        with self._mutex:
            self._again = True
            if self._is_running:
                return
            try:
                threading.Thread(target=self._run, daemon=True, name="configuration").start()
            except RuntimeError as error:
                log.error("SIGHUP: the configuration is not read again: %s; signal once more", error)
            else:
                self._is_running = True

    def take(self) -> _Found | None:
        """Return what was read and not yet taken, None if nothing was."""
        with self._mutex:
            found, self._found = self._found, None
        return found

    def _run(self) -> None:
        while True:
            with self._mutex:
                if not self._again:
                    self._is_running = False
                    return
                self._again = False
            try:
                found = self._read()
            except Exception:
                # The next signal may do better, and there is nobody above to tell.
                log.exception("SIGHUP: the configuration is not read again; signal once more")
                continue
            if found is not None:
                with self._mutex:
                    self._found = found
                self._wake()
