"""A RELP server that acknowledges what it gets, however often, and hangs up at what it is told to."""

from __future__ import annotations

import socketserver
import threading
from typing import TYPE_CHECKING

from tests.support.scripted_server import OK, RelpSession

if TYPE_CHECKING:
    from typing_extensions import Self


class RelpServer:
    """To be used with `with`."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        """The messages, each as often as it was acknowledged."""
        self.hangs_up_at = b""
        """What it hangs up at, without an answer, where it stands in a message."""
        self.refuses = b""
        """What it refuses, where it stands in a message."""
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _handler_of(self))
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def texts(self) -> list[str]:
        """Return the texts of what was received."""
        return [one.decode().rpartition("] ")[2] for one in self.received]


def _handler_of(server: RelpServer) -> type[socketserver.BaseRequestHandler]:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            session = RelpSession(self.request)
            session.open()
            while (frame := session.read()).command == "syslog":
                if server.hangs_up_at and server.hangs_up_at in frame.data:
                    return
                refused = server.refuses and server.refuses in frame.data
                if not refused:
                    server.received.append(frame.data)
                session.answer(frame.number, b"500 refused" if refused else OK)
            session.answer(frame.number)

    return Handler
