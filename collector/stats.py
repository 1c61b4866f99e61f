"""Counters: one object, handed around. Counting does no I/O and happens per batch, not per record."""

from __future__ import annotations

import errno
from collections import Counter
from typing import TYPE_CHECKING

from collector.log import counted

if TYPE_CHECKING:
    from collections.abc import Callable

OTHER = "other"
"""Stands for names that were too many to be counted one by one."""
DROP_REASONS = (
    *("level", "too large", "unreadable", "quarantine full", "reserve full"),
    *("file", "not written in time"),
)
NOT_IN_ALLOW = "not in allow"
NO_HANDSHAKE = "TLS handshake"
NO_PROXY_HEADER = "no PROXY header"
BROKEN_PROXY_HEADER = "broken PROXY header"
PROXY_HEADER = "PROXY header"
"""Where none is expected."""
HTTP = "HTTP"
TLS = "TLS"
"""Where none is spoken."""
NO_LENGTH = "a pickle without a length"
LOST_ALL = (PROXY_HEADER, HTTP, TLS, NO_LENGTH)
"""What an application or its proxy sends with the wrong handler, port or settings, and so loses all records.
Anything else may just as well be a port scan."""
REFUSE_REASONS = (NOT_IN_ALLOW, NO_HANDSHAKE, NO_PROXY_HEADER, BROKEN_PROXY_HEADER, *LOST_ALL)
# Names come from the wire: past this many, the half with the smallest counts is counted together.
_MAX_NAMES = 10_000
_MAX_LEVELS = 100
_MAX_NAME_CHARACTERS = 200


class Stats:
    """What has happened since the start.

    At any time: received = written + in the reserve + quarantined + dropped.
    """

    def __init__(self) -> None:
        self.clients = 0
        """Connections that are open now."""
        self.clients_total = 0
        # From zero on, like all whose reasons are known before, so that the first one is seen as an increase.
        self.refused_clients_total = Counter(dict.fromkeys(REFUSE_REASONS, 0))
        """By reason."""
        self.received_records_total = 0
        """Complete frames, whatever became of them."""
        self.received_bytes_total = 0
        self.written_records_total = 0
        self.written_bytes_total = 0
        self.quarantined_records_total = 0
        """Frames in the quarantine: those that had to go from it count as dropped."""
        self.unreadable_records_total: Counter[str] = Counter()
        """By reason, wherever they went: into the quarantine, or dropped."""
        self.dropped_records_total = Counter(dict.fromkeys(DROP_REASONS, 0))
        """By reason."""
        self.over_budget_records_total = 0
        """Records that are written in part."""
        self.cut_frames_total = 0
        """Frames whose client went away before their last byte: never received, so in no sum."""
        self.fragment_hits_total = 0
        """Records put together from remembered fragments; up to date after loggers() or levels()."""
        self.fragment_misses_total = 0
        """Records of another form, read whole, which takes ten times as long."""
        self.write_errors_total: Counter[str] = Counter()
        """By name of errno, one for each try."""
        self.faults_total: Counter[str] = Counter()
        """Unexpected exceptions in our greenlets, by where they were raised."""
        self.rollovers_total = 0
        self.deleted_backups_total = Counter({"backup_count": 0, "retention": 0})
        """By the setting that had them deleted."""
        self.deleted_bytes_total = 0
        self._count_up: Callable[[], None] = lambda: None
        self._loggers: Counter[str] = Counter()
        self._levels: Counter[str] = Counter()
        self._other_loggers = 0

    def count_by(self, count_up: Callable[[], None]) -> None:
        """Have *count_up* count, by logger and level, what is read from now on.

        What has been read and not yet counted is counted by the one before.
        """
        self._count_up()
        self._count_up = count_up

    def count_logger(self, name: object, records: int, *, remembered: bool) -> None:
        """Count *records* of a logger; *remembered*: they were put together from fragments."""
        if remembered:
            self.fragment_hits_total += records
        else:
            self.fragment_misses_total += records
        self._loggers[_bounded(name)] += records
        if len(self._loggers) > _MAX_NAMES:
            kept = Counter(dict(self._loggers.most_common(_MAX_NAMES // 2)))
            self._other_loggers += self._loggers.total() - kept.total()
            self._loggers = kept

    def count_level(self, name: object, records: int) -> None:
        """Count *records* of a level, by its name."""
        bounded = _bounded(name)
        is_new = bounded not in self._levels
        self._levels[OTHER if is_new and len(self._levels) >= _MAX_LEVELS else bounded] += records

    def count_write_error(self, error: OSError) -> None:
        """Count a failed try to write, by the name of its errno."""
        self.write_errors_total[errno.errorcode.get(error.errno or 0, OTHER)] += 1

    def loggers(self, number: int) -> list[tuple[str, int]]:
        """Return names of loggers and how many records each has sent, most first; the rest as OTHER."""
        self._count_up()
        # A logger of that very name is one of them: a name twice would hide one of its counts.
        top = [row for row in self._loggers.most_common(number) if row[0] != OTHER]
        rest = self._loggers.total() - sum(count for _, count in top) + self._other_loggers
        return [*top, (OTHER, rest)] if rest else top

    def levels(self) -> dict[str, int]:
        """Return how many records there were of each level, by its name."""
        self._count_up()
        return dict(self._levels)

    def summary(self) -> str:
        """Return the totals in words, for the last line of the log."""
        dropped = ", ".join(
            f"{count} dropped ({why})" for why, count in sorted(self.dropped_records_total.items()) if count
        )
        return (
            f"{counted(self.received_records_total, 'record')} received from "
            f"{counted(self.clients_total, 'client')}, "
            f"{self.written_records_total} written, {self.quarantined_records_total} quarantined, "
            f"{dropped or '0 dropped'}"
        )


def _bounded(name: object) -> str:
    """Return a name from the wire in a form that UTF-8 can hold, cut if too long."""
    return str(name)[:_MAX_NAME_CHARACTERS].encode("utf-8", "backslashreplace").decode()
