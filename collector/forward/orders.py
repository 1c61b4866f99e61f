"""What a forwarder is told to do: by signals, and by the end of the guardian.

A thread waits for both, so that a request in flight is not disturbed, and a pause ends at once.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from typing import TYPE_CHECKING

from collector.exits import EXIT_FAILED, end_at_once
from collector.signals import HANDLED

if TYPE_CHECKING:
    from collections.abc import Callable

DIRECTORY = "COLLECTOR_SPOOL_DIRECTORY"
"""Names, in the environment of a forwarder, the spool that the collector uses, whatever the file says now."""
_LOOK_SECONDS = 0.2


class Orders:
    """The orders of this process. Signals come here from now on; there is one for a process."""

    def __init__(
        self,
        drain_seconds: float,
        pipe: int | None = None,
        *,
        alive: Callable[[], object] = int,
        ends: Callable[[], object] = int,
    ) -> None:
        """*pipe* ends when the guardian does. After *drain_seconds* of stopping the process is ended.

        *alive* is called whenever somebody asks for orders: who does that does not hang. *ends* is called, in
        a thread, before the process is ended in the middle of something.
        """
        self.stop = False
        """Whether to start nothing more."""
        self._reload = False
        self._drain_seconds = drain_seconds
        self._pipe = pipe
        self._alive = alive
        self._ends = ends
        self._told = threading.Event()
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
        threading.Thread(target=self._listen, daemon=True, name="orders").start()

    def wait(self, seconds: float) -> None:
        """Wait so long, or until there is an order."""
        self._alive()
        if self._told.wait(seconds) and not self.stop:
            self._told.clear()

    def take_reload(self) -> bool:
        """Tell whether the configuration is to be read again; once for each time it was said."""
        self._alive()
        told, self._reload = self._reload, False
        return told

    def _listen(self) -> None:
        deadline = None
        while True:
            info = signal.sigtimedwait(HANDLED, _LOOK_SECONDS)
            number = info.si_signo if info else 0
            if number == signal.SIGHUP:
                self._reload = True
                self._told.set()
            stops = number in (signal.SIGTERM, signal.SIGINT)
            if stops and self.stop:  # a second one: at once
                self._end()
            if stops or (not self.stop and self._has_ended()):
                self.stop = True
                deadline = time.monotonic() + self._drain_seconds
                self._told.set()
            if deadline is not None and time.monotonic() > deadline:
                self._end()

    def _end(self) -> None:
        self._ends()
        end_at_once(EXIT_FAILED)

    def _has_ended(self) -> bool:
        """Tell whether the guardian has."""
        if self._pipe is None or not select.select([self._pipe], [], [], 0)[0]:
            return False
        try:
            return not os.read(self._pipe, 1)
        except ConnectionResetError:  # it has ended without reading what a worker had told it
            return True
