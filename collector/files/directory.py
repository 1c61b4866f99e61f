"""What is known of a directory of log files: one object for all of its files, whichever of them are open.

The numbers of its backups, whether its volume refuses modes, and whether it ignores case.
"""

from __future__ import annotations

import functools
import os
import tempfile
import threading
import unicodedata
from contextlib import suppress
from typing import TYPE_CHECKING

from collector.files.backups import Numbers

if TYPE_CHECKING:
    from collections.abc import Callable

_TRIAL_SECONDS = 2.0
DIRECTORY_MODE = 0o750


class LogDirectory:
    """A directory of log files, by its path without symbolic links."""

    def __init__(self, path: str, *, ignores_case: bool = False) -> None:
        self.path = path
        self.numbers = Numbers(path)
        self.ignores_case = ignores_case
        self.tried = False
        """Whether that has been found out by trying: until then no file is written there."""
        self.device: int | None = None
        """The volume on which it was tried."""
        self.moved = False
        """Whether a file in it was found on another volume, mounted there since."""
        self._refuses_modes = False

    def fold(self, name: str) -> str:
        """Return what all names of one file have in common."""
        return fold(name) if self.ignores_case else name

    def mode_refused(self, error: OSError) -> str:
        """Return what to say when the volume refuses a mode, "" except for the first time."""
        if self._refuses_modes:
            return ""
        self._refuses_modes = True
        return (
            f"the volume of {self.path!r} refuses to change the mode of a file ({error.strerror}): "
            "files there have the mode that it gives them"
        )


def make_directory(path: str) -> None:
    """Make a directory and those missing above it, for the owner to write and the group to read.

    os.makedirs would give the mode to the last one only. Raises OSError, but not if it exists.
    """
    try:
        _make_one_directory(path)
    except FileNotFoundError:
        make_directory(os.path.dirname(path))
        _make_one_directory(path)  # where nothing can be made, as in /proc, it fails for the same reason


def _make_one_directory(path: str) -> None:
    try:
        os.mkdir(path, DIRECTORY_MODE)
    except FileExistsError:
        if not os.path.isdir(path):
            raise
    else:
        # Whatever the umask is. A volume that refuses a mode gives its own, to directories as to files.
        with suppress(OSError):
            os.chmod(path, DIRECTORY_MODE)


def fold(name: str) -> str:
    """Return what all names that a volume which ignores case takes for one have in common."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def folded(path: str, root: str, ignores: Callable[[str], bool]) -> str:
    """Return what all spellings of *path*, which is below *root*, have in common.

    *ignores* tells whether a directory on the way ignores case.
    """
    above, name = os.path.split(path)
    name = fold(name) if ignores(above) else name
    return os.path.join(folded(above, root, ignores) if len(above) > len(root) else above, name)


def folding(root: str) -> Callable[[str], str]:
    """Return a function that folds paths relative to *root*; it tries each directory, once.

    A directory that cannot be tried is taken to be like the one above it; after one that hangs, all are.
    """
    stuck = False

    @functools.cache
    def ignores(directory: str) -> bool:
        nonlocal stuck
        found: list[bool | None] = []
        if not stuck:
            trial = threading.Thread(target=lambda: found.append(ignores_case(directory)), daemon=True)
            trial.start()
            trial.join(_TRIAL_SECONDS)
            stuck = trial.is_alive()
        if found and found[0] is not None:
            return found[0]
        return len(directory) > len(root) and ignores(os.path.dirname(directory))

    return lambda path: folded(os.path.join(root, path), root, ignores)


def refuse_links(directory: str) -> None:
    """Raise OSError if a symbolic link, which may lead anywhere, is on the way to *directory*."""
    if os.path.realpath(directory) != directory:
        raise OSError(f"a symbolic link is on the way: {directory!r}")


def device_of(path: str) -> int | None:
    """Return the number of the volume that *path* is on; None if nothing is there. May block."""
    try:
        return os.stat(path).st_dev
    except OSError:
        return None


def ignores_case(directory: str) -> bool | None:
    """Find out by trying whether names that differ only in case are one file in *directory*.

    None: it cannot be tried, because nothing can be made there, say. May block.
    """
    try:
        refuse_links(directory)
        with tempfile.NamedTemporaryFile(prefix=".collector.", suffix=".case", dir=directory) as probe:
            head, name = os.path.split(probe.name)
            with_capitals = os.path.join(head, name.upper())
            return os.path.exists(with_capitals) and os.path.samefile(probe.name, with_capitals)
    except OSError:
        return None
