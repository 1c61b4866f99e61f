"""away.py PORT: logs to where nobody listens, and prints how long the handler waits after each attempt."""

# mypy: ignore-errors
import logging
import logging.handlers
import sys

handler = logging.handlers.SocketHandler("127.0.0.1", int(sys.argv[1]))
record = logging.LogRecord("app", logging.INFO, "/srv/app.py", 7, "lost", None, None)
for _ in range(8):
    handler.emit(record)
    sys.stdout.write(str(int(handler.retryPeriod)) + " ")
    handler.retryTime = 0  # as if it had waited for that long
