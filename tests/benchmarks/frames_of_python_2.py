"""Reads records as JSON objects, a line each, and writes the frames that a SocketHandler makes of them.

For Python 2.7; a text that is ASCII becomes a byte string, as it is in an application there.
"""

import json
import logging
import logging.handlers
import sys

pickler = logging.handlers.SocketHandler("127.0.0.1", 0)
out = getattr(sys.stdout, "buffer", sys.stdout)
for line in iter(sys.stdin.readline, ""):
    given = {str(key): value for key, value in json.loads(line).items()}
    # These Python 2 does not have.
    given.pop("stack_info", None)
    given.pop("taskName", None)
    for key, value in given.items():
        if not isinstance(value, (str, int, float, type(None))):
            given[key] = value.encode("utf-8")
    # Made as any record, for its dict to have the order that it has there.
    record = logging.LogRecord("", 0, "", 0, "", None, None)
    record.__dict__.update(given)
    out.write(pickler.makePickle(record))  # type: ignore[arg-type]
    out.flush()
