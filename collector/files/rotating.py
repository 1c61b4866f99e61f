"""A log file that rolls over: when that is due, how the file becomes a backup, what a failure leaves."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from collector.files.append_file import AppendFile, Lines, Outcome
from collector.files.periods import Period, Schedule, day

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.config.tables import Rollover
    from collector.files.directory import LogDirectory
    from collector.stats import Stats

_RETRY_SECONDS = 5.0
# A clock set back by less than this was corrected, not moved: the file is kept until it has caught up.
_CLOCK_MOVED_SECONDS = 86_400.0


class RotatingFile(AppendFile):
    """A log file and its backups, by one rollover setting."""

    def __init__(  # noqa: PLR0913 - two of them are for tests
        self,
        path: str,
        rollover: Rollover,
        mode: int,
        *,
        sync: bool = False,
        directory: LogDirectory | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Periods and labels go by *clock*; the rest is as in AppendFile."""
        super().__init__(path, mode, sync=sync, directory=directory, clock=clock, monotonic=monotonic)
        self.half_made = ""
        """The name of a backup that lines still go into, because there is no new file yet; else ""."""
        self._made_by = rollover
        self._rollover = rollover
        self._schedule = Schedule(rollover.when, utc=rollover.utc)
        self._period = Period(0, "")
        self._roll_at = 0.0

    def join(self, records: list[Any], *, ends: bool) -> Lines:
        """Return lines of text as UTF-8; their *ends* matter if a file may become too large."""
        # Lone surrogates are legal in a record and not in UTF-8.
        data = "".join(records).encode("utf-8", "backslashreplace")
        if not ends:
            return Lines(data, len(records))
        sizes = list(map(len, records))
        if sum(sizes) != len(data):  # not all are ASCII
            sizes = [len(line.encode("utf-8", "backslashreplace")) for line in records]
        return Lines(data, len(records), list(accumulate(sizes)))

    def count_written(self, lines: Lines, stats: Stats) -> None:
        """Count the records that are in the file now."""
        stats.written_records_total += lines.records
        stats.written_bytes_total += len(lines.data)

    def reconfigure(self, mode: int, *, sync: bool) -> None:
        """Go by these settings from now on, and by the time zone that the machine has now."""
        super().reconfigure(mode, sync=sync)
        self.set_rollover(self._rollover)

    def set_rollover(self, rollover: Rollover) -> None:
        """Go by *rollover* from now on; the file belongs to the period in which it was last written."""
        self._rollover = rollover
        self._schedule = Schedule(rollover.when, utc=rollover.utc)
        self._period = self._schedule.at(self._written_at)

    def roll_over(self) -> None:
        """Make a backup of the file, unless it is empty. Only between two records. Raises OSError."""
        now = self._clock()
        if self._fd < 0:
            with suppress(FileNotFoundError):
                if os.stat(self.path, follow_symlinks=False).st_size:
                    self._fd = self._open(now)
        if self._fd >= 0:
            self._look(now)
            if self._size:
                self._roll(now)

    def _prepare(self, lines: Lines, now: float) -> int:
        """Between two records, follow the name, and roll over if due. Return how far to write."""
        fd = self._fd
        if self._monotonic() >= self._look_at:
            self._look(now)
        limit = self._rollover.max_bytes
        stop = lines.fit(limit - self._size) if limit else len(lines.data)
        period = self._schedule.at(now)
        over = period.order > self._period.order or (
            period.order < self._period.order and now < self._written_at - _CLOCK_MOVED_SECONDS
        )
        if self._size and (over or stop == lines.done):
            # If a step fails, the old file takes the lines until it succeeds.
            stop = len(lines.data)
            if self._monotonic() >= self._roll_at:
                try:
                    self._roll(now)
                except OSError as error:
                    self._roll_at = self._monotonic() + _RETRY_SECONDS
                    trouble = f"cannot roll over, writing on into the old file: {error}"
                    self._outcome.trouble += (trouble,)
                else:
                    stop = lines.fit(limit) if limit else stop
        if not self._size:
            self._period = period
        if self._fd != fd:
            lines.begun = lines.done
        return stop if stop > lines.done else lines.next_end()

    def _open(self, now: float) -> int:
        fd = super()._open(now)
        # All of its lines count as from the period of the last one, so a restart does not matter.
        self._period = self._schedule.at(self._written_at)
        return fd

    def _mend(self, fd: int, size: int) -> int:
        """End a line that a kill has cut; return the new size of the file."""
        if size and os.pread(fd, 1, size - 1) != b"\n":
            size += os.write(fd, b"\n")
            trouble = "did not end in a newline (a kill can cut the last line): added one"
            self._outcome.trouble += (trouble,)
        return size

    def _roll(self, now: float) -> None:
        """Rename the file, then begin a new one; the first step stands if the second one fails.

        The name leads nowhere then: a new file is still to be made, which `_look` does too.
        """
        try:
            moved = not os.path.samestat(os.stat(self.path, follow_symlinks=False), os.fstat(self._fd))
        except FileNotFoundError:
            moved = True
        if not moved:
            label = self._period.label or day(now, utc=self._rollover.utc)
            backup = self.directory.numbers.make(self.path, label)
            self.half_made = backup
            self._outcome.backups += (backup,)
            self._made_by = self._rollover
            self._outcome.rollovers += 1
        self._replace(self._open(now))

    def _take_outcome(self) -> Outcome:
        outcome = super()._take_outcome()
        if outcome.backups:
            outcome.made_by, outcome.half_made = self._made_by, self.half_made
        return outcome

    def _replace(self, fd: int) -> None:
        super()._replace(fd)
        self._finish_backup()

    def _close(self) -> None:
        if self._fd >= 0:
            super()._close()
            self._finish_backup()

    def _finish_backup(self) -> None:
        """Report the backup that lines went into until now once more: it could not be compressed before."""
        if self.half_made:
            if self.half_made not in self._outcome.backups:
                self._outcome.backups += (self.half_made,)
            self.half_made = ""
