"""What systemd is told of a service, by the process that it has started: sd_notify(3).

That process is the worker where there is a socket unit, and a forwarder in a service of its own. Elsewhere it
is the guardian, and then the worker tells the guardian the same, in the same words, and it passes them on.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import time

log = logging.getLogger(__name__)

READY = b"READY=1"
"""It does what it is there for; told after a reload as well."""
STOPPING = b"STOPPING=1"
_ALIVE = b"WATCHDOG=1"
# So that a machine may stand still for a moment between two signs of life.
_SIGNS_A_PERIOD = 4
# Only if process 1 itself hangs is there anything to wait for.
_SEND_SECONDS = 1.0
_MICRO = 1e-6


class Notifier:
    """Tells systemd or the guardian how this process stands; nobody, where neither has started it.

    What cannot be told is a WARNING, and no reason to stop.
    """

    def __init__(self, pipe: int = 0) -> None:
        """*pipe* is the descriptor that leads to the guardian; 0: there is none.

        What systemd has put into the environment for this process goes out of it: no child speaks for it.
        """
        self._address: str | None = os.environ.pop("NOTIFY_SOCKET", "")
        own = str(os.getpid())
        if os.environ.pop("WATCHDOG_PID", own) != own:
            os.environ.pop("WATCHDOG_USEC", None)
        period = os.environ.get("WATCHDOG_USEC", "")  # which the guardian leaves for the worker
        self.seconds = int(period) * _MICRO / _SIGNS_A_PERIOD if re.fullmatch("[0-9]+", period) else 0.0
        """How often a sign of life is wanted; 0: never."""
        self._sock: socket.socket | None = None
        if pipe:
            self._address = None
            self._sock = socket.socket(fileno=pipe)
        elif self._address:
            # Kept open: there may be no descriptor left when there is something to tell.
            self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._address = re.sub("^@", "\0", self._address)
        if self._sock:
            self._sock.settimeout(_SEND_SECONDS)
        self._told = b""
        self._next_sign = 0.0

    def reloading(self) -> None:
        """Tell that the configuration is read again; READY is to follow, whatever comes of it."""
        self.tell(b"RELOADING=1\nMONOTONIC_USEC=%d" % (time.monotonic_ns() // 1000))

    def allow(self, seconds: float) -> None:
        """Have systemd wait so long for a sign of life, if it would not."""
        if 0 < self.seconds * _SIGNS_A_PERIOD < seconds:
            self.tell(b"WATCHDOG_USEC=%d" % (seconds / _MICRO))

    def alive(self) -> None:
        """Give a sign of life, if one is due."""
        if self.seconds and time.monotonic() >= self._next_sign:
            self._next_sign = time.monotonic() + self.seconds
            self.tell(_ALIVE)

    def tell(self, state: bytes) -> None:
        """Tell a state, unless it was the last one that was told."""
        if not self._sock or state == self._told:
            return
        try:
            self._sock.sendmsg([state], [], 0, self._address)
        except OSError as error:
            if self._address is None and isinstance(error, BrokenPipeError):
                return  # the guardian has ended, of which whoever waits for that tells
            log.warning("systemd cannot be told %s: %s", state.decode().partition("\n")[0], error)
        else:
            self._told = self._told if state.startswith(b"WATCHDOG") else state
