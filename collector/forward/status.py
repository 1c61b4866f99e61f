"""What a forwarder says of itself: the files of a destination in the spool, and the copy others may read.

Whoever reads a status gets what was true up to a second ago, and is told when; whether the forwarder runs is
told by its lock alone.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from collector.forward import lock
from collector.forward.progress import Progress
from collector.spool.checkpoint import SUFFIX as CHECKPOINT_SUFFIX
from collector.spool.checkpoint import read_state

if TYPE_CHECKING:
    from collector.forward.holding import Hold


def checkpoint_path(directory: str, name: str) -> str:
    """Return where the checkpoint of a destination lies, in the directory of the spool."""
    return os.path.join(directory, name + CHECKPOINT_SUFFIX)


def lock_path(directory: str, name: str) -> str:
    """Return where the lock of a destination lies."""
    return os.path.join(directory, f"{name}.lock")


def dead_letters_path(directory: str, name: str) -> str:
    """Return where the dead letters of a destination lie."""
    return os.path.join(directory, f"{name}.dead")


def status_of(
    progress: Progress,
    *,
    hold: Hold | None,
    oldest: int | None,
    last_success: float,
    certificate_days: float | None,
) -> dict[str, Any]:
    """Return a status. *oldest*: when the first record that waits was received, in nanoseconds."""
    now = time.time()
    counters = {
        key: value for key, value in progress.state().items() if key not in ("destination", "position")
    }
    return {
        "time": now,
        "process": os.getpid(),
        **counters,
        "waiting": progress.waiting,
        "next": progress.position.number,
        "lag_seconds": max(0.0, now - oldest / 10**9) if oldest and progress.waiting else 0.0,
        "held": hold._asdict() if hold else None,
        "last_success": last_success,
        "certificate_days": certificate_days,
    }


def write(directory: str, name: str, status: dict[str, Any]) -> None:
    """Put a status where others find it, whole. Raises OSError."""
    path = _path(directory, name)
    beside = f"{path}.new"
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
    with open(fd, "w", encoding="utf-8") as file:
        json.dump(status, file)
    os.replace(beside, path)


def read(directory: str, name: str) -> dict[str, Any]:
    """Return the status of a destination; `running` says whether its lock is held. Raises OSError.

    `holder` is the process that has the lock, 0 if unknown: `process` may be one of an earlier start.

    What no forwarder has written yet is taken from the checkpoint; without one there is `running` alone.
    """
    status: dict[str, Any] = {}
    with suppress(FileNotFoundError, ValueError), open(_path(directory, name), encoding="utf-8") as file:
        status = json.load(file)
    if not status:
        with suppress(FileNotFoundError, TypeError, KeyError):
            if state := read_state(checkpoint_path(directory, name)):
                progress = Progress.of(state)
                known = status_of(progress, hold=None, oldest=None, last_success=0, certificate_days=None)
                status = {**known, "process": 0}
    holder = lock.holder(lock_path(directory, name))
    return {**status, "running": holder is not None, "holder": holder or 0}


def _path(directory: str, name: str) -> str:
    return os.path.join(directory, f"{name}.status.json")
