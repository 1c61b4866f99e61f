"""A RELP server that acknowledges what it gets, however often, and hangs up at what it is told to."""

from __future__ import annotations

import socketserver

from tests.support.scripted_server import OK, RelpSession
from tests.support.serving import Serving


class RelpServer(Serving):
    """To be used with `with`."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        """The messages, each as often as it was acknowledged."""
        self.hangs_up_at = b""
        """What it hangs up at, without an answer, where it stands in a message."""
        self.refuses = b""
        """What it refuses, where it stands in a message."""
        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _handler_of(self))
        server.daemon_threads = True
        super().__init__(server)
        self.address = f"127.0.0.1:{self.port}"

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
