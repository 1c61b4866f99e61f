"""The exit codes of every command, and how a process ends: at once, or once nobody reads its output."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

EXIT_OK = 0
"""What was asked for is done; with `run`: drained."""
EXIT_FAILED = 1
"""It was tried, and did not succeed."""
EXIT_CANNOT_START = 2
"""It was not begun: wrong usage, a faulty configuration, something that the machine lacks. As in argparse."""


def end_at_once(code: int) -> NoReturn:
    """End the process now. Any other way out would wait for a thread that is stuck in the kernel."""
    logging.shutdown()
    os._exit(code)


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """End the block quietly once whoever reads standard output has seen enough, as `head` has."""
    try:
        yield
    except BrokenPipeError:
        # What is left in the buffer would be written at exit, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
