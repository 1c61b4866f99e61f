"""Questions to the log files, each in a process of its own: a few at a time, and each for as long as it may.

Reads what the process writes as it comes, and hands it on: nothing is parsed here, and little is held.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import gevent
from gevent.lock import BoundedSemaphore
from gevent.socket import socket as gevent_socket

from collector.admin import query_process
from collector.admin.query_process import END, FAULT, FINGERPRINT_CHARACTERS, PASSED, RECORD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from subprocess import Popen

    from collector.admin.query_process import Request
    from collector.config.tables import Config

MAX_QUERIES = 4
WAIT_SECONDS = 5.0
# The process stops by itself before that, if it is given any time at all.
LIMIT_SECONDS = query_process.LIMIT_SECONDS + 5.0
_LOOK_SECONDS = 0.2
_READ_BYTES = 256 * 1024
_REAP_SECONDS = 0.1


class Queries:
    """The places for processes."""

    def __init__(self, config: Config) -> None:
        self.config = config
        """The one in force."""
        self._places = BoundedSemaphore(MAX_QUERIES)

    def ask(
        self, request: Request, is_gone: Callable[[], bool], begin: Callable[[float], object] = lambda _: None
    ) -> Answer | None:
        """Start a process; None: there was no place for it in time.

        The process ends once the one who asks *is_gone*. *begin* is told how many seconds it may take. Raises
        OSError where it cannot be started, ValueError if what is asked has a fault. The caller closes the
        answer.
        """
        if not self._places.acquire(timeout=WAIT_SECONDS):
            return None
        begin(LIMIT_SECONDS)
        try:
            process, ours = gevent.get_hub().threadpool.apply(query_process.start, (self.config, request))
        except BaseException:
            self._places.release()
            raise
        answer = Answer(process, ours, self._places.release, is_gone)
        try:
            answer.wait()
        except BaseException:
            answer.close()
            raise
        return answer


class Answer:
    """What a process finds."""

    def __init__(
        self,
        process: Popen[bytes],
        ours: Any,  # noqa: ANN401 - a socket
        release: Callable[[], None],
        is_gone: Callable[[], bool],
    ) -> None:
        self.end: dict[str, Any] = {
            "cursor": "",
            "complete": False,
            "why": "what searches has ended",
        }
        """How it ended, once all records were taken."""
        self.passed: list[bytes] = []
        """Fingerprints of records that are older than those asked for."""
        self._process = process
        self._socket = gevent_socket(fileno=ours.detach())
        self._socket.settimeout(_LOOK_SECONDS)
        self._release = release
        self._is_gone = is_gone
        self._until = time.monotonic() + LIMIT_SECONDS
        self._lines: list[bytes] = []
        self._rest = b""
        self._closed = False

    def wait(self) -> None:
        """Wait for the first line. Raises ValueError if what is asked has a fault."""
        self._read()
        if self._lines and self._lines[0].startswith(FAULT):
            raise ValueError(json.loads(self._lines[0][len(FAULT) :]))

    def records(self) -> Iterator[list[tuple[bytes, bytes]]]:
        """Yield records as they come: of each its fingerprint and its JSON."""
        at = len(RECORD) + FINGERPRINT_CHARACTERS
        while self._lines:
            lines, self._lines = self._lines, []
            self.passed += [line[len(PASSED) :] for line in lines if line.startswith(PASSED)]
            yield [(line[len(RECORD) : at], line[at:]) for line in lines if line.startswith(RECORD)]
            if lines[-1].startswith(END):
                self.end = json.loads(lines[-1][len(END) :])
                return
            self._read()

    def _read(self) -> None:
        """Wait for whole lines: none come once the process has ended or taken too long, or nobody waits."""
        while not self._lines:
            try:
                data = self._socket.recv(_READ_BYTES)
            except TimeoutError:
                if time.monotonic() > self._until:
                    self.end["why"] = f"stopped after {LIMIT_SECONDS:g} s"
                    return
                if self._is_gone():
                    return
                continue
            except OSError:
                return
            if not data:
                return
            *self._lines, self._rest = (self._rest + data).split(b"\n")

    def close(self) -> None:
        """End the process, and give its place to another."""
        if self._closed:
            return
        self._closed = True
        self._socket.close()
        query_process.end(self._process)
        gevent.spawn(self._reap)

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while self._process.poll() is None:
                gevent.sleep(_REAP_SECONDS)
        self._release()
