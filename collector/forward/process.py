"""A forwarder: the process that hands over to one destination, until it is told to stop.

One thread and one state. The progress is saved after each request and each second, and synced each second and
each 10,000 records; what may have been sent since is in doubt after a start.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from collector.escape import escape
from collector.forward import lock, status
from collector.forward.dead_letters import DeadLetters
from collector.forward.delivery import Delivery
from collector.forward.holding import CHECKPOINT
from collector.forward.progress import Progress
from collector.forward.window import Window
from collector.log import counted
from collector.rereading import Rereading
from collector.spool.checkpoint import Checkpoint
from collector.spool.reading import OLDEST, ReplacedError, SpoolReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.config.tables import Forward
    from collector.forward.verdicts import Destination
    from collector.spool.reading import Spooled

log = logging.getLogger(__name__)

IN_DOUBT = 20_000
"""Records behind a synced checkpoint that may have been sent: 10,000 that were passed, and a window."""
_SYNC_RECORDS = 10_000
_KEEP_SECONDS = 1.0
MISSING_SECONDS = 10.0
"""How long a forwarder waits for its checkpoint before it says so."""
_LOOK_SECONDS = 0.1
# The newest record is looked for among so many.
_AHEAD, _AHEAD_BYTES = 100, 10_000_000


class Told(Protocol):
    """What tells a forwarder to stop or to read its settings again: `Orders`."""

    stop: bool

    def wait(self, seconds: float) -> None:
        """Wait so long, or until there is an order."""

    def take_reload(self) -> bool:
        """Tell whether the settings are to be read again."""


def run(  # noqa: PLR0913 - all that a process is given
    directory: str,
    settings: Forward,
    make: Callable[[Forward], Destination],
    orders: Told,
    *,
    reload: Callable[[], Forward | None],
    encoding: str = "utf-8",
) -> None:
    """Hand what is in the spool's *directory* over to one destination, until told to stop.

    Raises lock.HeldError where another process does, OSError where that cannot be found out. *make* makes a
    destination, and nothing in that may fail; *reload*, called in a thread, returns other settings, None if
    there are none.
    """
    held = _take_lock(directory, settings.name, orders)
    if held is None:
        return
    checkpoint = _find_checkpoint(directory, settings.name, orders)
    if checkpoint is None:
        os.close(held)
        return
    forwarder = _Forwarder(directory, settings, make, checkpoint, held, encoding)
    try:
        forwarder.run(orders, reload)
    finally:
        forwarder.close()


def _take_lock(directory: str, name: str, orders: Told) -> int | None:
    """Take the lock of a destination, as soon as there is a spool; None: told to stop. Raises as run()."""
    asked = time.monotonic()
    said = False
    while not orders.stop:
        with suppress(FileNotFoundError):
            return lock.take(status.lock_path(directory, name))
        if not said and time.monotonic() - asked > MISSING_SECONDS:
            log.warning("%s: waits for the spool in %r, which a running collector makes", name, directory)
            said = True
        orders.wait(_LOOK_SECONDS)
    return None


def _find_checkpoint(directory: str, name: str, orders: Told) -> Checkpoint | None:
    """Return the checkpoint, as soon as the worker has made one; None: told to stop."""
    asked = time.monotonic()
    said = False
    while not orders.stop:
        try:
            return Checkpoint(status.checkpoint_path(directory, name))
        except OSError as error:
            if not said and time.monotonic() - asked > MISSING_SECONDS:
                said = True
                seconds = counted(int(MISSING_SECONDS), "second")
                log.warning(
                    "%s: has waited %s for its checkpoint, which a running collector makes: %s",
                    *(name, seconds, error),
                )
        orders.wait(_LOOK_SECONDS)
    return None


class _Forwarder:
    """What is handed over, from a checkpoint on, which it closes in the end, as the lock that is *held*."""

    def __init__(  # noqa: PLR0913, PLR0917 - as run()
        self,
        directory: str,
        settings: Forward,
        make: Callable[[Forward], Destination],
        checkpoint: Checkpoint,
        held: int,
        encoding: str,
    ) -> None:
        self._directory = directory
        self._settings = settings
        self._make = make
        self._encoding = encoding
        self._checkpoint = checkpoint
        self._held = held
        self._reader = SpoolReader(directory, OLDEST)
        in_doubt_below = 0
        try:
            self._progress = Progress.of(checkpoint.load() or {})
        except (KeyError, TypeError):
            self._progress = Progress.at(OLDEST)
            in_doubt_below = self._reader.end().number
            log.error(
                "%s: no slot of its checkpoint is sound: all that is in the spool is handed over once more, "
                "and counted from 0",
                settings.name,
            )
        self._saved = OLDEST
        """The position that was saved last."""
        self._synced = self._progress.passed
        """How much was passed when it was synced last."""
        self._unsynced = False
        self._second = -_KEEP_SECONDS
        """When all that happens each second was done last."""
        self._window, self._delivery = self._read_on(in_doubt_below)

    def close(self) -> None:
        """Let go of everything."""
        self._delivery.close()
        self._reader.close()
        self._checkpoint.close()
        os.close(self._held)

    def run(self, orders: Told, reload: Callable[[], Forward | None]) -> None:
        """Hand over until told to stop."""
        rereading = Rereading(reload)
        while not orders.stop:
            if orders.take_reload():
                rereading.begin()
            if settings := rereading.take():
                self._settings = settings
                self._delivery.use(settings, self._destination(), self._letters())
            calls = self._delivery.calls
            try:
                wait = self._delivery.step()
            except ReplacedError as error:
                log.error("%s: %s; it is handed over from its beginning", self._settings.name, error)
                self._progress.begin_anew()
                self._delivery.close()
                self._window, self._delivery = self._read_on(0)
                continue
            self._keep(orders, at_once=self._delivery.calls != calls)
            if wait:  # of a long pause a second at a time: the status tells what waits meanwhile
                orders.wait(min(wait, _KEEP_SECONDS))
        self._keep(orders, at_once=True, sync=True)

    # --- where to begin ---

    def _read_on(self, in_doubt_below: int) -> tuple[Window, Delivery]:
        """Read from the progress on."""
        progress = self._progress
        self._reader.close()
        self._reader = SpoolReader(self._directory, progress.position)
        self._bad_blocks = progress.bad_blocks
        window = Window(
            self._reader,
            progress,
            self._encoding,
            in_doubt=IN_DOUBT,
            in_doubt_below=in_doubt_below,
            ahead=self._ahead,
        )
        return window, Delivery(self._settings, self._destination(), window, self._letters())

    def _ahead(self) -> list[Spooled]:
        """Return the newest records in the spool. Raises OSError."""
        end = self._reader.end()
        reader = SpoolReader(self._directory, end._replace(offset=0, number=max(end.number - _AHEAD, 1)))
        try:
            return reader.read(_AHEAD, _AHEAD_BYTES)
        finally:
            reader.close()

    def _destination(self) -> Destination:
        made = self._make(self._settings)
        made.state = dict(self._progress.destination)
        return made

    def _letters(self) -> DeadLetters:
        path = status.dead_letters_path(self._directory, self._settings.name)
        return DeadLetters(path, self._settings.dead_letter_bytes)

    # --- what is kept ---

    def _keep(self, orders: Told, *, at_once: bool, sync: bool = False) -> None:
        """Save the progress and tell the status, if it is time. Where it cannot be, hold until it can."""
        now = time.monotonic()
        is_second = now - self._second >= _KEEP_SECONDS
        progress = self._progress
        if is_second:
            self._second = now
            self._keep_lock()
            self._look()
        due = sync or (is_second and self._unsynced) or progress.passed - self._synced >= _SYNC_RECORDS
        while at_once or due or (is_second and progress.position != self._saved):
            try:
                if progress.position != self._saved or at_once:
                    self._checkpoint.save(progress.state())
                    self._saved, self._unsynced = progress.position, True
                if due:
                    self._checkpoint.sync()
                    self._synced, self._unsynced = progress.passed, False
                break
            except (OSError, ValueError) as error:
                text = f"the checkpoint cannot be kept: {error}"
                self._delivery.hold_for(CHECKPOINT, text, "see what keeps it from being written")
                self._look()
                if orders.stop:
                    break
                orders.wait(_KEEP_SECONDS)
        if is_second or sync:
            self._tell()

    def _keep_lock(self) -> None:
        """Take the lock again where it is gone, as others ask for it by its name. Raises lock.HeldError."""
        with suppress(OSError):  # the spool is gone, too: whoever makes it anew, it is tried again
            self._held = lock.follow(status.lock_path(self._directory, self._settings.name), self._held)

    def _look(self) -> None:
        """See how many numbers have been given out."""
        self._progress.bad_blocks = self._bad_blocks + self._reader.bad_blocks
        with suppress(OSError):  # whoever reads on says so
            self._progress.know(self._reader.end().number)

    def _tell(self) -> None:
        """Tell the status."""
        delivery = self._delivery
        told = status.status_of(
            self._progress,
            hold=delivery.hold,
            trouble=delivery.trouble,
            oldest=self._oldest() if self._progress.waiting else None,
            last_success=delivery.last_success,
            certificate_days=delivery.certificate_days,
        )
        try:
            status.write(self._directory, self._settings.name, told)
        except OSError as error:
            log.warning("%s: its status cannot be written: %s", self._settings.name, escape(str(error)))

    def _oldest(self) -> int | None:
        """Return when the first of the records that wait was received; None if that cannot be read."""
        if self._window.records:
            return self._window.records[0].spooled.received
        # Behind each request in a backlog: all that was read is passed, and the next one is not read yet.
        return status.received_at(self._directory, self._progress.position)
