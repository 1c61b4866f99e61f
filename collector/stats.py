"""Counters: one object, handed around. Counting does no I/O and happens per batch, not per record."""

from __future__ import annotations

from collections import Counter


class Stats:
    """What has happened since the start.

    At any time: received = written + in the reserve + quarantined + dropped.
    """

    def __init__(self) -> None:
        self.clients = 0
        """Connections that are open now."""
        self.clients_total = 0
        self.refused_clients_total: Counter[str] = Counter()
        """By reason."""
        self.received_records_total = 0
        """Complete frames, whatever became of them."""
        self.received_bytes_total = 0
        self.written_records_total = 0
        self.written_bytes_total = 0
        self.quarantined_records_total = 0
        self.dropped_records_total: Counter[str] = Counter()
        """By reason."""
        self.cut_frames_total = 0
        """Frames whose client went away before their last byte: never received, so in no sum."""
        self.rollovers_total = 0
        self.deleted_backups_total = 0
        """By [retention]: what backup_count deletes is not in it."""
        self.deleted_bytes_total = 0

    def summary(self) -> str:
        """Return the totals in words, for the last line of the log."""
        dropped = ", ".join(
            f"{count} dropped ({why})" for why, count in sorted(self.dropped_records_total.items()) if count
        )
        return (
            f"{self.received_records_total} records received from {self.clients_total} clients, "
            f"{self.written_records_total} written, {self.quarantined_records_total} quarantined, "
            f"{dropped or '0 dropped'}"
        )
