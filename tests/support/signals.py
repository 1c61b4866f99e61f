"""Signals to a running collector."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from tests.support.waiting import within

if TYPE_CHECKING:
    from tests.support.collectors import Collector


def hang_up(collector: Collector, config: str | None = None) -> None:
    """Send SIGHUP, with another configuration if there is one; return when it is said what was done."""
    before = collector.stderr.count("SIGHUP: changed: ")
    if config is not None:
        collector.configure(config)
    send_signal(collector, signal.SIGHUP)
    within(
        10, lambda: collector.stderr.count("SIGHUP: changed: ") > before, "the configuration is read again"
    )


def send_signal(collector: Collector, number: int) -> None:
    assert collector.process
    collector.process.send_signal(number)
