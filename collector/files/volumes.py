"""Which volume a directory is on. Touches no disk."""

from __future__ import annotations

import os
import re

# proc(5) writes blanks, tabs, newlines and backslashes of a path so.
_OCTAL = re.compile(r"\\([0-7]{3})")


def volume_of(directory: str) -> str:
    """Return what tells the volume of *directory* from others, without touching a disk that may hang.

    It is the device number where /proc/self/mountinfo tells it (proc(5)), else what stat says. The directory
    need not exist.
    """
    best, volume = "", ""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
            for line in mounts:
                _, _, device, _, mount_point = line.split(" ", 5)[:5]
                point = _OCTAL.sub(lambda match: chr(int(match[1], 8)), mount_point)
                inside = f"{directory}/".startswith(point.rstrip("/") + "/")
                # Of two mounts at one place the later one hides the earlier.
                if inside and len(point) >= len(best):
                    best, volume = point, device
    except OSError:
        while not os.path.isdir(directory):
            directory = os.path.dirname(directory)
        volume = str(os.stat(directory).st_dev)
    return volume
