"""A forwarder to a Sink, as a process of its own: DIRECTORY PORT [SETTING=VALUE...]."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from collector import log
from collector.config.tables import Forward
from collector.forward import lock, process
from collector.forward.orders import Orders
from tests.support.line_destination import LineDestination

if TYPE_CHECKING:
    from collector.forward.verdicts import Destination


def main() -> int:
    directory, port, text = sys.argv[1:]
    settings = Forward(**{"name": "elk", "type": "elasticsearch", "batch_seconds": 0, **json.loads(text)})
    log.set_up(20)
    orders = Orders(drain_seconds=3)

    def make(_: Forward) -> Destination:
        return LineDestination(int(port))

    def reload() -> Forward | None:
        with suppress(FileNotFoundError):
            Path(directory, "hung").read_bytes()  # if it is a pipe, until somebody writes to it
        print("reloaded", flush=True)
        return settings

    try:
        process.run(directory, settings, make, orders, reload=reload)
    except lock.HeldError as error:
        print(error, flush=True)
        return 2
    log.say_last("stopped")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
