"""The command `send`: sends records through a stock SocketHandler to where a configuration listens.

Nothing that collects loads this module, as logging.handlers brings pickle with it.
"""

from __future__ import annotations

import logging.handlers
import sys
from typing import TYPE_CHECKING

from collector.config.load import load
from collector.exits import EXIT_CANNOT_START, EXIT_FAILED, EXIT_OK
from collector.listen.sending import Way, wait_until_read

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit code. Raises ConfigError and TlsError."""
    way = Way.to(load(options.config).listen, options.host, options.port)
    if not way:
        _say("[listen] port = 0 does not tell the port; give it by --port")
        return EXIT_CANNOT_START
    handler = logging.handlers.SocketHandler(way.host, way.port)
    connected = False
    try:
        with way.connect() as sock:
            connected = True
            for record in _records(options):
                sock.sendall(handler.makePickle(record))
            wait_until_read(sock)
    except (OSError, UnicodeError) as error:  # UnicodeError: the name of no host
        why = getattr(error, "strerror", None) or error
        _say(f"{way} has not read all: {why}" if connected else f"cannot reach {way}: {why}")
        return EXIT_FAILED
    except KeyboardInterrupt:
        pass
    return EXIT_OK


def _records(options: argparse.Namespace) -> Iterator[logging.LogRecord]:
    """Yield the record of the message, or one of each line of standard input as it comes."""
    texts: Iterator[str] = iter([" ".join(options.message)])
    if options.message == ["-"]:
        if sys.stdin is None:  # closed: there is nothing to send
            return
        texts = (line.rstrip(b"\r\n").decode("utf-8", "backslashreplace") for line in sys.stdin.buffer)
    for text in texts:
        yield logging.LogRecord(options.logger, options.level, __file__, 0, text, None, None, "send")


def _say(text: str) -> None:
    print(f"collector send: {text}", file=sys.stderr)
