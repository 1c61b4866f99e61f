"""What a worker does with frames until they are lines: `frames_to_lines.py CONFIG READS ROUNDS lines|files`.

READS begins with a line that tells how many connections there are. What a read of each of them brings
follows, round by round, each behind its length. The first ROUNDS rounds are taken; then the number of
records is printed. With `lines` these are left for the writer, which never comes to write them; with `files`
they are written after each round.
"""

from __future__ import annotations

import os
import sys

import gevent

from collector.config.load import load
from collector.daemon.routing import Router, renderers
from collector.files.handler_cache import HandlerCache
from collector.reserve import Reserve
from collector.stats import Stats
from collector.wire.framing import FrameSplitter

HOST = "127.0.0.1"


def main(path: str, reads: str, rounds: int, goal: str) -> int:
    """Return how many records there were."""
    config = load(path)
    stats = Stats()
    reserve = Reserve(config.listen.max_buffered_bytes)
    handlers = HandlerCache(config.files, config.quarantine, reserve, stats)
    router = Router(config, renderers(config), handlers, stats)
    with open(reads, "rb") as file:
        connections = int(file.readline())
        clients = [
            (FrameSplitter(config.listen.max_frame_bytes), f"{HOST}:{number}")
            for number in range(connections)
        ]
        for _ in range(rounds):
            for splitter, peer in clients:
                data = file.read(int.from_bytes(file.read(4), "big"))
                router.deliver(splitter.feed(data), HOST, peer)
            # So seldom that a look costs nothing, as many records as there are.
            while goal == "files" and reserve.held:
                gevent.sleep(0.01)
    return stats.received_records_total


if __name__ == "__main__":
    print(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]), flush=True)
    os._exit(0)  # else the lines would be written after all
