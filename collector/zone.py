"""The machine's time zone, read again while the process runs."""

from __future__ import annotations

import os
import re
import time


def read_zone_again() -> bool:
    """Read the file of the machine's time zone again; return whether the zone is another.

    What was made before and keeps an offset may still go by the old one.
    """
    before = time.tzname, time.timezone, time.altzone
    named = os.environ.get("TZ")
    # musl reads the file again only if TZ has changed; glibc also if the inode or the mtime of the file has.
    # Other threads see the present offset meanwhile.
    west = -time.localtime().tm_gmtoff
    minutes, seconds = divmod(abs(west), 60)
    os.environ["TZ"] = f"<now>{'-' if west < 0 else '+'}{minutes // 60}:{minutes % 60}:{seconds}"
    time.tzset()
    if named is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = named
    time.tzset()
    return before != (time.tzname, time.timezone, time.altzone)


def zone_name() -> str:
    """Return the name of the zone in the tz database, "" where the machine does not tell one."""
    name = os.environ.get("TZ", "").removeprefix(":")
    if not name:
        try:
            name = os.readlink("/etc/localtime")
        except OSError:
            return ""
    name = name.rpartition("zoneinfo/")[2]
    return name if re.fullmatch(r"[A-Za-z_+-][\w+/-]*", name) and "," not in name else ""
