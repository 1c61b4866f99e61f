"""Which files of a volume fail by themselves, while the volume is well.

Such a file must stop neither clients that log elsewhere nor, with what waits for it, its volume. Errors that
all files of a volume share say nothing about one file, unless others are written meanwhile.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from collector.files.append_file import NOT_REGULAR
from collector.files.ownership import refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from collector.files.handler import Handler
    from collector.files.inbox import Inbox
    from collector.reserve import Share

# All files of a volume fail with these. The last four mean that the network or process behind it is gone.
_OF_THE_VOLUME = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS),
    *(errno.ENOTCONN, errno.ESTALE, errno.ETIMEDOUT, errno.ENODEV),
)
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
# All files of the process fail with these.
_OUT_OF_FILES = (errno.EMFILE, errno.ENFILE)
# The parts of what the volume may take that may wait for one file that failed by itself, and for all such
# files.
_SHARE_OF_ONE_FILE = 1 / 8
_SHARE_OF_ALL_FILES = 1 / 2


class NoRoomError(OSError):
    """No block is left on the volume, for any file."""


class Failures:
    """Judges the files of one volume as they fail, and knows those that have failed by themselves."""

    def __init__(self, room: Share) -> None:
        """*room* is what the volume may take of the reserve."""
        self.by_themselves: set[Handler] = set()
        self.written_at = 0.0
        """When something was written last, by the monotonic clock."""
        self._written_before = 0.0
        """The same, leaving out the last hop in which something was."""
        self._room = room

    def wrote(self, now: float) -> None:
        """Note that something was written in the hop that has ended *now*."""
        self._written_before, self.written_at = self.written_at, now

    def judge(self, handler: Handler, error: OSError, now: float, waiting: Iterable[Handler]) -> bool:
        """Return whether the file of *handler* has failed by itself, and remember the answer.

        *waiting* are the handlers of its volume that wait to be written.
        """
        by_itself = self._is_by_itself(handler, error, now, waiting)
        (self.by_themselves.add if by_itself else self.by_themselves.discard)(handler)
        handler.of_the_volume = error.errno in _OF_THE_VOLUME and not by_itself
        return by_itself

    def full_inboxes(self) -> set[Inbox]:
        """Return those of files that failed by themselves: each in which too much waits, or all of them."""
        if not self.by_themselves:
            return set()
        may_take = self._room.allowance
        held = {handler: handler.held for handler in self.by_themselves}
        all_of_them = sum(held.values()) >= _SHARE_OF_ALL_FILES * may_take
        return {
            handler.inbox
            for handler, size in held.items()
            if all_of_them or size >= _SHARE_OF_ONE_FILE * may_take
        }

    def _is_by_itself(self, handler: Handler, error: OSError, now: float, waiting: Iterable[Handler]) -> bool:
        if error.errno in _OUT_OF_FILES or isinstance(error, NoRoomError):
            return False  # without room, others still fill their last blocks
        if error.errno not in _OF_THE_VOLUME:
            return True
        # Whatever was written in this hop, or since this file's last try, went into other files. If nothing
        # was, what waits for this file may be the reason: it fills the reserve, so no client is read.
        known = handler in self.by_themselves
        if self.written_at == now:
            # If nothing else was since its last try, the volume may have come back in the middle of this hop.
            return known or handler.failed_at <= self._written_before
        known = known or self.written_at >= (handler.failed_at or now)
        return known and not any(other.of_the_volume for other in waiting if other is not handler)


def explained(error: OSError, directory: str) -> OSError:
    """Return *error*, as a NoRoomError if it is one. May block."""
    if error.errno == errno.ENOSPC:
        with suppress(OSError):
            volume = os.statvfs(directory)
            if not (volume.f_bfree if os.geteuid() == 0 else volume.f_bavail):
                return NoRoomError(*error.args)
    return error


def remedy(error: OSError, path: str) -> str:
    """Return what to do about a file that cannot be written, "" if *error* says it all. May block."""
    if error.errno in (errno.EACCES, errno.EPERM):
        whose = refusal(path if os.path.lexists(path) else os.path.dirname(path), error)
        return f"; see who owns it{': ' if whose else ''}{whose}"
    if error.errno in NOT_REGULAR:
        return "; move it away; to silence a logger, give it a [[logger]] rule with level = 100"
    return ""
