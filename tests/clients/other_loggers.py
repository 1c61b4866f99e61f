"""other_loggers.py PORT: logs with picologging, loguru and structlog, a record and a traceback each."""

# mypy: ignore-errors
import logging
import logging.handlers
import sys

import loguru
import picologging
import picologging.handlers
import structlog

PORT = int(sys.argv[1])


def both(log):
    log.info("hello")
    try:
        raise ValueError(5)
    except ValueError:
        log.exception("bad")


pico = picologging.getLogger("pico")
pico.setLevel(picologging.INFO)
pico.addHandler(picologging.handlers.SocketHandler("127.0.0.1", PORT))
both(pico)

loguru.logger.remove()
loguru.logger.add(logging.handlers.SocketHandler("127.0.0.1", PORT), format="{message}")
both(loguru.logger)

stock = logging.getLogger("struct")
stock.setLevel(logging.INFO)
stock.addHandler(logging.handlers.SocketHandler("127.0.0.1", PORT))
structlog.configure(
    logger_factory=structlog.stdlib.LoggerFactory(),
    wrapper_class=structlog.stdlib.BoundLogger,
    processors=[structlog.stdlib.render_to_log_kwargs],
)
both(structlog.get_logger("struct").bind(user="ann"))
