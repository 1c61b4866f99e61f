"""A collector with a small reserve, whose files cannot grow."""

from __future__ import annotations

import resource
import threading
from typing import TYPE_CHECKING

from tests.support.frames import make_frame

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from tests.support.collectors import Collector

LIMIT_BYTES = 200_000
MiB = 1024 * 1024
SMALL = f"[listen]\nmax_frame_bytes = {MiB}\nmax_buffered_bytes = {4 * MiB}\ndrain_seconds = 1\n"


def start_limited(make_collector: Callable[..., Collector], config: str) -> Collector:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, resource.RLIM_INFINITY))

    return make_collector(config).start(preexec_fn=limit)


def numbered(count: int) -> list[str]:
    return [f"{n:06} {'x' * 1000}" for n in range(count)]


def sent_in_background(client: socket.socket, texts: list[str]) -> threading.Thread:
    thread = threading.Thread(target=lambda: client.sendall(b"".join(map(make_frame, texts))))
    thread.start()
    return thread
