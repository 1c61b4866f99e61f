"""python_peers.py cookbook|twisted DIRECTORY: what stands in for a collector elsewhere.

"cookbook" is the receiver of the standard library's logging cookbook, mended so that it reads on when a
length comes in two pieces. "twisted" does the same with an Int32StringReceiver. Both unpickle what they are
sent, and both have a TimedRotatingFileHandler per logger. It prints the port it listens on.
"""

import logging
import logging.handlers
import os
import pickle
import socketserver
import sys
import threading
from typing import Any

LARGEST_FRAME = 16 * 1024 * 1024
FORMATTER = logging.Formatter(
    "[%(asctime)s]: %(name)s %(levelname)s %(lineno)s %(message)s", "%Y-%m-%d %H:%M:%S"
)
adding = threading.Lock()


def handle(frame: bytes) -> None:
    """Write one record, to the file of its logger."""
    record = logging.makeLogRecord(pickle.loads(frame))  # noqa: S301 - as these receivers do
    logger = logging.getLogger(record.name)
    if not logger.handlers:
        with adding:
            if not logger.handlers:
                path = os.path.join(sys.argv[2], record.name.replace(".", "_") + ".log")
                handler = logging.handlers.TimedRotatingFileHandler(path, when="midnight", backupCount=7)
                handler.setFormatter(FORMATTER)
                logger.propagate = False
                logger.addHandler(handler)
    logger.handle(record)


class CookbookHandler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while prefix := self._receive(4):
            handle(self._receive(int.from_bytes(prefix, "big")))

    def _receive(self, length: int) -> bytes:
        """Return so many bytes, or none if there are no more."""
        chunk: bytes = self.connection.recv(length)
        while chunk and len(chunk) < length:
            more = self.connection.recv(length - len(chunk))
            if not more:
                return b""
            chunk += more
        return chunk


class CookbookReceiver(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 4096


def serve_cookbook() -> None:
    with CookbookReceiver(("127.0.0.1", 0), CookbookHandler) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()


def serve_twisted() -> None:
    from twisted.internet import protocol  # type: ignore[import-not-found,unused-ignore]
    from twisted.internet import reactor as _reactor
    from twisted.protocols.basic import (  # type: ignore[import-not-found,unused-ignore]
        Int32StringReceiver,
    )

    class Receiver(Int32StringReceiver):  # type: ignore[misc,unused-ignore]
        MAX_LENGTH = LARGEST_FRAME

        def stringReceived(self, string: bytes) -> None:  # noqa: N802 - Twisted's name
            handle(string)

    reactor: Any = _reactor
    factory: Any = protocol.Factory.forProtocol(Receiver)
    listening = reactor.listenTCP(0, factory, backlog=4096, interface="127.0.0.1")
    print(listening.getHost().port, flush=True)
    reactor.run()


if __name__ == "__main__":
    {"cookbook": serve_cookbook, "twisted": serve_twisted}[sys.argv[1]]()
