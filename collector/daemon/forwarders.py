"""The forwarders as the worker sees them: whether each runs, how far it has come, how often it was restarted.

They are children of the guardian, or of systemd. What each says of itself is a file in the spool, beside its
lock; both are looked at once a second, in a thread, as their disk may hang.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import gevent
from gevent.threadpool import ThreadPool

from collector.forward import status
from collector.greenlets import keep_running
from collector.spool.reading import EndFinder

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from collector.stats import Stats

log = logging.getLogger(__name__)

FREE_SECONDS = 60.0
"""How long there may be no forwarder, while another one starts, before that is an error."""
_EVERY_SECONDS = 1.0
_COUNTERS = (
    *("numbered", "waiting", "shipped", "duplicate", "dead", "dropped", "filtered"),  # the equation
    *("retried", "in_doubt", "bad_blocks", "dead_letters_gone"),
)
_SAID = {*_COUNTERS, "time", "lag_seconds", "held", "last_success", "certificate_days"}


class Forwarders:
    """Looks at the forwarders of the destinations in one spool, until it is told to end()."""

    def __init__(self, directory: str, stats: Stats) -> None:
        self._directory = directory
        self._end = EndFinder(directory)
        self._seen: dict[str, Seen] = {}
        self._thread = ThreadPool(1)
        self._greenlet = keep_running("forwarders", self._run, stats)

    def follow(self, names: Iterable[str]) -> None:
        """Look at these destinations from now on, and at no other."""
        self._seen = {name: self._seen.get(name) or Seen(name) for name in names}

    def state(self) -> list[dict[str, Any]]:
        """Return the state of each destination, as it was told last."""
        return [seen.state() for seen in self._seen.values()]

    def end(self) -> None:
        """Look no more: from now on forwarders are being stopped."""
        self._greenlet.kill()

    def _run(self) -> None:
        while True:
            seen = list(self._seen.values())
            found = self._thread.apply(_read, (self._directory, [one.name for one in seen], self._end))
            for one, said in zip(seen, found, strict=True):
                one.learn(said, time.monotonic())
            gevent.sleep(_EVERY_SECONDS)


def _read(directory: str, names: Sequence[str], end: EndFinder) -> list[dict[str, Any] | str]:
    """Return the status of each destination, or why it cannot be read."""
    found: list[dict[str, Any] | str] = []
    for name in names:
        try:
            found.append(status.read(directory, name, end))
        except OSError as error:
            found.append(str(error))
    return found


class Seen:
    """What has been seen of one forwarder."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._said: dict[str, Any] = {}
        self._up = False
        self._free_since: float | None = None
        self._is_told = False
        self._error = ""
        self._process = 0
        """That of the last one that ran; 0: none has yet."""
        self._restarts = 0

    def learn(self, said: dict[str, Any] | str, now: float) -> None:
        """Take note of a status, or of why it cannot be read; *now* by the monotonic clock."""
        error = said if isinstance(said, str) else ""
        if error and error != self._error:
            log.error(
                "forward %s: its status cannot be read: %s", self.name, error, extra={"about": self.name}
            )
        self._error = error
        if not isinstance(said, str):
            self._look_for_it(up=said["running"], now=now)
            if process := said["holder"]:
                self._restarts += self._process not in {0, process}
                self._process = process
            if said.keys() >= _SAID:
                self._said = said

    def state(self) -> dict[str, Any]:
        """Return its state; without counters, as long as it has told none."""
        state = {"name": self.name, "up": self._up, "restarts": self._restarts}
        if not (said := self._said):
            return state
        now = time.time()
        age = max(0.0, now - said["time"])
        last_success = max(0.0, now - said["last_success"]) if said["last_success"] else None
        if held := said["held"]:
            held = {**held, "seconds": max(0.0, now - held["since"])}
        return {
            **state,
            "age_seconds": age,
            **{key: said[key] for key in _COUNTERS},
            # What waited then has waited on: while a request is in flight nothing is told.
            "lag_seconds": max(0.0, said["lag_seconds"] + age) if said["waiting"] else 0.0,
            "held": held,
            "last_success_seconds": last_success,
            "certificate_days": said["certificate_days"],
        }

    def _look_for_it(self, *, up: bool, now: float) -> None:
        """Tell once that there has been no forwarder for long, and that there is one again."""
        self._up = up
        if up:
            if self._is_told:
                log.info("forward %s: there is a forwarder again", self.name)
            self._free_since, self._is_told = None, False
        elif self._free_since is None:
            self._free_since = now
        elif now - self._free_since >= FREE_SECONDS and not self._is_told:
            self._is_told = True
            log.error(
                "forward %s: no forwarder has run for %d s, and its records wait in the spool; see on stderr "
                "why it ended, or whether systemd is to start it",
                *(self.name, now - self._free_since),
                extra={"about": self.name},
            )
