"""Which volume a directory is on. Touches no disk."""

from __future__ import annotations

import os
import re

# How proc(5) writes the blanks, tabs, newlines and backslashes of a path.
_OCTAL = re.compile(r"\\([0-7]{3})")


def volume_of(directory: str) -> str:
    """Return what tells the volume of *directory* from others, without touching a disk that may hang.

    That is the device number from /proc/self/mountinfo (proc(5)) or, without that file, from stat(). The
    directory need not exist.
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
