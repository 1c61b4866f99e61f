"""exception.py PORT LOGGER: exceptions with their tracebacks."""

# ruff: noqa: TRY301 - applications do; not on the line itself, which is shown in the traceback

import logging
import logging.handlers
import sys

log = logging.getLogger(sys.argv[2])
log.addHandler(logging.handlers.SocketHandler("127.0.0.1", int(sys.argv[1])))

for number in range(10):
    try:
        raise ValueError(number)
    except ValueError:
        log.exception("record-%d", number)
