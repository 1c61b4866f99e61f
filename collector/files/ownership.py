"""Why the kernel refuses a path to this process, told with both sides: who we are, and whose it is."""

from __future__ import annotations

import errno
import os
import shlex

from collector.escape import escape


def refusal(path: str, error: OSError) -> str:
    """Return both sides and the remedy if *error* says that *path* is not ours to use; "" if it does not."""
    nearest = nearest_to(path)
    if error.errno not in (errno.EACCES, errno.EPERM):
        return ""
    try:
        owner = os.stat(nearest).st_uid
    except OSError:
        return ""
    ours, quoted = os.geteuid(), escape(shlex.quote(path))
    if nearest != path:  # what lies above is others' too, and stays theirs
        remedy = f"mkdir -p {quoted} && chown {ours} {quoted}"
    else:
        remedy = f"chmod u+rwX {quoted}" if owner == ours else f"chown {ours} {quoted}"
    return f"runs as uid {ours}, {escape(nearest)} belongs to uid {owner}: {remedy}"


def nearest_to(path: str) -> str:
    """Return *path* if it exists, or else the nearest directory above it."""
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return path
