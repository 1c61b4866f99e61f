"""What a forwarder says of itself: the files of a destination in the spool, and the copy others may read.

Whoever reads a status gets what was true up to a second ago, and is told when. Where nothing was told for
longer, while a request hangs or no forwarder runs, the counters are those of its checkpoint, and what waits
is seen in the spool. Whether the forwarder runs is told by its lock alone.
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
from collector.spool.reading import EndFinder, ReplacedError, SpoolReader

if TYPE_CHECKING:
    from collector.forward.holding import Hold
    from collector.spool.reading import Position

OLD_SECONDS = 3.0
"""A status is told each second. One as old as this does not know what has come since."""


def checkpoint_path(directory: str, name: str) -> str:
    """Return where the checkpoint of a destination lies, in the directory of the spool."""
    return os.path.join(directory, name + CHECKPOINT_SUFFIX)


def lock_path(directory: str, name: str) -> str:
    """Return where the lock of a destination lies."""
    return os.path.join(directory, f"{name}.lock")


def dead_letters_path(directory: str, name: str) -> str:
    """Return where the dead letters of a destination lie."""
    return os.path.join(directory, f"{name}.dead")


def status_of(  # noqa: PLR0913 - all that is told
    progress: Progress,
    *,
    hold: Hold | None,
    trouble: str = "",
    oldest: int | None,
    last_success: float,
    certificate_days: float | None,
) -> dict[str, Any]:
    """Return a status. *oldest*: when the first record that waits was received, in nanoseconds.

    *trouble*: why records were not taken the last time, if none has been since.
    """
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
        "trouble": trouble,
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


def read(directory: str, name: str, end: EndFinder | None = None) -> dict[str, Any]:
    """Return the status of a destination; `running` says whether its lock is held. Raises OSError.

    `holder` is the process that has the lock, 0 if unknown: `process` may be one of an earlier start.
    `lag_seconds` are those before `time`, when it was told: below 0, what waits came since. Without a
    checkpoint there is `running` alone. *end*: that of the spool, of whoever asks again and again.
    """
    status: dict[str, Any] = {}
    with suppress(FileNotFoundError, ValueError), open(_path(directory, name), encoding="utf-8") as file:
        status = json.load(file)
    if abs(time.time() - status.get("time", 0.0)) > OLD_SECONDS:
        with suppress(FileNotFoundError, TypeError, KeyError):
            if state := read_state(checkpoint_path(directory, name)):
                status = _seen(directory, Progress.of(state), end or EndFinder(directory), status)
    holder = lock.holder(lock_path(directory, name))
    return {**status, "running": holder is not None, "holder": holder or 0}


def received_at(directory: str, position: Position) -> int | None:
    """Return when the first record from *position* on was received; None if none can be read."""
    reader = SpoolReader(directory, position)
    try:
        return next((one.received for one in reader.read(1, 1)), None)
    except (OSError, ReplacedError):  # the forwarder, which reads on, says so
        return None
    finally:
        reader.close()


def _seen(directory: str, progress: Progress, end: EndFinder, told: dict[str, Any]) -> dict[str, Any]:
    """Return a status by what the spool holds now; *told* is what was told last, {} if nothing was."""
    progress.know(end.find().number)
    oldest = received_at(directory, progress.position) if progress.waiting else None
    seen = status_of(progress, hold=None, oldest=oldest, last_success=0, certificate_days=None)
    if not told:
        return {**seen, "process": 0}
    since = seen["time"] - told["time"]
    keys = ("time", "process", "held", "trouble", "last_success", "certificate_days")
    return {**seen, **{key: told[key] for key in keys}, "lag_seconds": seen["lag_seconds"] - since}


def _path(directory: str, name: str) -> str:
    return os.path.join(directory, f"{name}.status.json")
