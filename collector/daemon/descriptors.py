"""How the file descriptors that a process may have are shared out: among clients, log files and the rest."""

from __future__ import annotations

import logging
import resource
from typing import TYPE_CHECKING

from collector.log import counted

if TYPE_CHECKING:
    from collector.config.tables import Config

log = logging.getLogger(__name__)

# The rest: the threads' and the event loop's own, and files being opened.
_SPARE = 64


def share_descriptors(config: Config) -> tuple[int, int]:
    """Raise the soft limit on open files to the hard one; return how many clients and files it allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wanted = config.listen.max_clients
    if hard == resource.RLIM_INFINITY:
        return wanted, config.files.max_open
    needed = config.files.max_open + _SPARE
    if config.admin:
        from collector.admin import connections  # noqa: PLC0415 - a web server takes memory

        needed += connections.FILES
    # Where there are few, at least half of them are for clients.
    others = min(needed, hard // 2)
    if hard - others < wanted:
        log.warning(
            "the limit on open files is %d: only %s served at a time, not max_clients = %d; "
            "raise it with `ulimit -Hn` or lower max_clients",
            hard,
            counted(hard - others, "client", "is", "are"),
            wanted,
        )
    return min(wanted, hard - others), config.files.max_open if others == needed else max(1, others // 2)
