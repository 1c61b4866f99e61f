"""The command `collector`, and `python -m collector`: what must happen before anything else is loaded."""

import os
import signal
import sys

from collector.signals import HANDLED


def main() -> int:
    """Run the command line and return its exit code."""
    # One that comes while modules load must neither kill the collector nor get lost, as it would in PID 1,
    # which has no default action.
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    # If a standard stream is closed, the next file or socket to be opened would take its place.
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:  # noqa: PLR2004 - stderr
        pass
    os.close(fd)
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - stays open
    from collector import cli  # noqa: PLC0415 - see above

    return cli.main()


if __name__ == "__main__":
    raise SystemExit(main())
