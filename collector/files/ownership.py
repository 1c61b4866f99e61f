"""Why the kernel refuses a path to this process, told with both sides: who we are, and whose it is."""

from __future__ import annotations

import errno
import os
import shlex
import stat

from collector.escape import escape


def refusal(path: str, error: OSError) -> str:
    """Return both sides and the remedy if *error* says that *path* is not ours to use; "" if it does not."""
    if error.errno not in (errno.EACCES, errno.EPERM):
        return ""
    nearest = nearest_to(path)
    try:
        status = os.stat(nearest)
    except OSError:
        return ""
    ours, owner, quoted = os.geteuid(), status.st_uid, escape(shlex.quote(path))
    needed = stat.S_IRWXU if stat.S_ISDIR(status.st_mode) else stat.S_IRUSR | stat.S_IWUSR
    if owner == ours and status.st_mode & needed == needed:  # something else forbids it, such as chattr +i
        return ""
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
