"""What is known of a directory that log files are in, whichever of them are open: one object for all of them.

A new number for a backup, whether the volume refuses modes, whether it ignores case.
"""

from __future__ import annotations

import os
import tempfile
import unicodedata

from collector.backups import Numbers


class LogDirectory:
    """A directory of log files, by its path without symbolic links."""

    def __init__(self, path: str, *, ignores_case: bool = False) -> None:
        self.path = path
        self.numbers = Numbers(path)
        self.ignores_case = ignores_case
        self._refuses_modes = False

    def fold(self, name: str) -> str:
        """Return what names of one file have in common."""
        return fold(name) if self.ignores_case else name

    def mode_refused(self, error: OSError) -> str:
        """Return what to say of a mode that the volume refuses, "" but for the first time."""
        if self._refuses_modes:
            return ""
        self._refuses_modes = True
        return (
            f"the volume of {self.path!r} refuses to change the mode of a file ({error.strerror}): "
            "files there have the mode that it gives them"
        )


def fold(name: str) -> str:
    """Return what names have in common that a volume which ignores case takes for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def refuse_links(directory: str) -> None:
    """See that *directory* is reached without a symbolic link, which may lead anywhere. Raises OSError."""
    if os.path.realpath(directory) != directory:
        raise OSError(f"a symbolic link is on the way: {directory!r}")


def ignores_case(directory: str) -> bool | None:
    """Return whether names that differ in case are one file in *directory*, found by trying.

    None: it cannot be tried, as where nothing can be made. It may block.
    """
    try:
        with tempfile.NamedTemporaryFile(prefix=".collector.", suffix=".case", dir=directory) as probe:
            head, name = os.path.split(probe.name)
            with_capitals = os.path.join(head, name.upper())
            return os.path.exists(with_capitals) and os.path.samefile(probe.name, with_capitals)
    except OSError:
        return None
