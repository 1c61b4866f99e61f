"""A worker that only spools, until it is killed: `python -m tests.support.appender DIRECTORY FIRST`.

It spools payloads that tell their number, from FIRST on, in bursts. After each write it prints the number
behind the last one, and a thread syncs beside.
"""

from __future__ import annotations

import sys
import threading
from itertools import count
from pathlib import Path

from tests.support.spools import make_spool, numbered

BURST = 50


def main() -> None:
    spool = make_spool(Path(sys.argv[1]), segment_bytes=200_000)

    def sync() -> None:
        while True:
            spool.sync()

    threading.Thread(target=sync, daemon=True).start()
    first = int(sys.argv[2])
    for burst in count():
        behind = first + 1 + burst % BURST
        spool.add("10.0.0.7:51934", numbered(first, behind, 500), 1)
        spool.write()
        first = behind
        print(f"{first:1000}", flush=True)  # so wide that a pipe holds a few dozen


if __name__ == "__main__":
    main()
