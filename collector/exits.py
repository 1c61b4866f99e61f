"""Exit codes, how a worker ends, and how a command does whose output nobody reads any more."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

EXIT_OK, EXIT_FAILED, EXIT_CANNOT_START = 0, 1, 2
EXIT_USAGE = 2


def end_at_once(code: int) -> NoReturn:
    """End the process now: a thread that is stuck in the kernel would be waited for by any other way."""
    logging.shutdown()
    os._exit(code)


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """End the block quietly once whoever reads standard output has seen enough, as `head` has."""
    try:
        yield
    except BrokenPipeError:
        # What is left in the buffer would be written at exit, and fail once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
