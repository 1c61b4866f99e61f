"""Linux namespaces for a process of the test: mounts and a network of its own."""

from __future__ import annotations

import ctypes
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

NEW_MOUNTS, NEW_NETWORK = 0x20000, 0x40000000
may_be_apart = not os.system("unshare --net --mount true 2>/dev/null")  # noqa: S605 - where it may be missing
needs_root = pytest.mark.skipif(not may_be_apart, reason="needs root for namespaces")


def apart(flags: int, *commands: str) -> Callable[[], None]:
    """Return what a new process is to call first: it gets namespaces of its own and runs *commands* there."""

    def enter() -> None:
        if ctypes.CDLL(None, use_errno=True).unshare(flags):
            raise OSError(ctypes.get_errno(), "unshare")
        for command in commands:
            subprocess.run(["/bin/sh", "-ec", command], check=True)

    return enter
