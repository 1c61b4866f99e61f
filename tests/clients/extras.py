"""extras.py PORT LOGGER: records with attributes of the application's own."""

import logging
import logging.handlers
import sys

log = logging.getLogger(sys.argv[2])
log.addHandler(logging.handlers.SocketHandler("127.0.0.1", int(sys.argv[1])))

for number in range(10):
    log.warning("record-%d", number, extra={"request_id": "id-" + str(number), "user": (1, None, 2.5)})
