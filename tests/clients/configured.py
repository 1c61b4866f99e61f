"""configured.py PORT LOGGER: set up by logging.config.dictConfig, as frameworks do it."""

import logging
import logging.config
import sys

logging.config.dictConfig(
    {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {
            "collector": {
                "class": "logging.handlers.SocketHandler",
                "host": "127.0.0.1",
                "port": int(sys.argv[1]),
                "level": "INFO",
            },
        },
        "root": {"level": "DEBUG", "handlers": ["collector"]},
    },
)
log = logging.getLogger(sys.argv[2])

for number in range(10):
    log.debug("below the handler's level")
    log.info("record-%d", number)
