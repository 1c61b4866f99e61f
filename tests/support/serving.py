"""A server of the standard library in a thread of its own."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socketserver

    from typing_extensions import Self

# How often it looks whether it is to end.
_POLL_SECONDS = 0.01


class Serving:
    """Answers from when `with` is entered until it is left."""

    def __init__(self, server: socketserver.TCPServer) -> None:
        self.server = server
        self.port: int = server.server_address[1]
        self._thread = threading.Thread(target=server.serve_forever, args=(_POLL_SECONDS,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()
