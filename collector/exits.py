"""Exit codes of `run`, and how a worker ends."""

from __future__ import annotations

import logging
import os
from typing import NoReturn

EXIT_OK, EXIT_FAILED, EXIT_CANNOT_START = 0, 1, 2


def end_at_once(code: int) -> NoReturn:
    """End the process now: a thread that is stuck in the kernel would be waited for by any other way."""
    logging.shutdown()
    os._exit(code)
