"""unicode_text.py PORT LOGGER: text beyond ASCII; on Python 2 these are unicode objects."""

from __future__ import unicode_literals  # noqa: UP010 - this one runs on Python 2 too

import logging
import logging.handlers
import sys

log = logging.getLogger(sys.argv[2])
log.addHandler(logging.handlers.SocketHandler("127.0.0.1", int(sys.argv[1])))
log.setLevel(logging.INFO)

for number, text in enumerate(
    ("gr\xfc\xdfe", "\u6f22\u5b57", "\U0001f600", "e\u0301", "\u0634\u0643\u0631\u0627")
):
    log.info("record-%d: %s \u2603", number, text)
