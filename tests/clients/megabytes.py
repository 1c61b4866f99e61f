"""megabytes.py PORT LOGGER: messages of 1 MiB characters; the second kind makes frames of 3 MB."""

from __future__ import unicode_literals  # noqa: UP010 - this one runs on Python 2 too

import logging
import logging.handlers
import sys

log = logging.getLogger(sys.argv[2])
log.addHandler(logging.handlers.SocketHandler("127.0.0.1", int(sys.argv[1])))

for number, character in enumerate("a\u6f22b"):
    log.error("record-%d: %s end", number, character * 1024 * 1024)
