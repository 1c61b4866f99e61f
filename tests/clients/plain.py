"""plain.py PORT LOGGER: a hundred records through the root logger's handler, from two loggers in turn."""

import logging
import logging.handlers
import sys

logging.getLogger().addHandler(logging.handlers.SocketHandler("127.0.0.1", int(sys.argv[1])))
logging.getLogger().setLevel(logging.DEBUG)
web, db = logging.getLogger(sys.argv[2] + ".web"), logging.getLogger(sys.argv[2] + ".db")

for number in range(50):
    web.info("record-%d: %d%% of %r", number, 100, "it")
    db.debug("record-%d", number)
