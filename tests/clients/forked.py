"""forked.py PORT LOGGER: like gunicorn with preload_app, a handler made before the fork and used after."""

import logging
import logging.handlers
import os
import sys

log = logging.getLogger(sys.argv[2])
log.addHandler(logging.handlers.SocketHandler("127.0.0.1", int(sys.argv[1])))
log.setLevel(logging.INFO)

children = []
for child in range(4):
    pid = os.fork()
    if not pid:
        for number in range(50):
            log.info("sender-%d record-%d", child, number)
        logging.shutdown()
        os._exit(0)
    children.append(pid)
sys.exit(any(os.waitpid(pid, 0)[1] for pid in children))
