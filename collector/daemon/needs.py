"""What collecting needs of the machine and no configuration can promise: tried, before it is needed.

All that fails is told at once. Binds no configured port; makes nothing but, where that is asked for, the
directory. It may block.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING

from collector.config.load import ConfigError, load, same_files
from collector.config.tables import Config
from collector.files.directory import folding, make_directory
from collector.files.lock import holder
from collector.listen.sockets import try_host

if TYPE_CHECKING:
    from collector.config.tables import Config


class Needs:
    """What of a configuration was tried: `faults` keep it from collecting, `warnings` do not."""

    def __init__(self, path: str | None) -> None:
        """Read the configuration at *path*; None: the defaults. Raises ConfigError if it cannot be read."""
        self.faults: list[str] = []
        self.warnings: list[str] = []
        self.holder = ""
        """The process id of a collector that has the directory."""
        self._unsure: frozenset[tuple[str, str]] = frozenset()
        try:
            self.config = load(path)
        except ConfigError as error:
            if error.config is None:
                raise
            self.config, self._unsure = error.config, error.unsure
            self.faults = list(error.faults)

    def sound(self) -> Config:
        """Return the configuration; raise ConfigError, with all faults, if there are any."""
        if self.faults:
            raise ConfigError(self.faults)
        return self.config

    def try_directory(self, *, make: bool) -> None:
        """See that files can be made in the directory; where it is missing, it is made, or could be."""
        if not self._is_sure("[files]", "directory"):
            return
        directory = self.config.files.directory
        above = os.path.abspath(directory)
        try:
            if make:
                make_directory(above)
            while not os.path.lexists(above):
                above = os.path.dirname(above)
            _make_a_file(above)
        except OSError as error:
            why = f"{error.strerror}; see [files] directory, and who owns it"
            self.faults.append(f"collector: cannot write in the directory {directory!r}: {why}")

    def try_lock(self) -> None:
        """See whether another collector has the directory, and whether the lock can be opened."""
        if self._is_sure("[files]", "directory"):
            try:
                self.holder = holder(os.path.realpath(self.config.files.directory))
            except OSError as error:
                self.faults.append(f"collector: {error}")

    def try_rules(self) -> None:
        """See whether the volume makes one file of two names that rules give, and they disagree on it."""
        if self.config.rules and self._is_sure("[files]", "directory", "name", "dots"):
            fold = folding(os.path.realpath(self.config.files.directory))
            self.faults += same_files(self.config, fold)

    def try_tls(self) -> None:
        """Load the certificates and keys."""
        files = self.config.listen.tls
        if files and self._is_sure("[listen]", "tls", "tls.certificate", "tls.private_key", "tls.client_ca"):
            from collector.listen import tls  # noqa: PLC0415 - the guardian takes 5 MB less without

            try:
                self.warnings += tls.load(files).trouble()
            except tls.TlsError as error:
                self.faults += [f"collector: {fault}" for fault in error.faults]

    def try_addresses(self) -> None:
        """See whether the hosts are this machine's, by any free port, and a Unix socket could be made."""
        tables = (("listen", self.config.listen), ("admin", self.config.admin))
        for name, table in tables:
            if table and self._is_sure(f"[{name}]", "host"):
                try:
                    self.warnings += try_host(table.host)
                except OSError as error:
                    self.faults.append(f"collector: {error.strerror}; see [{name}] host")
        unix = self.config.listen.unix
        if unix and self._is_sure("[listen]", "unix"):
            try:
                _try_unix(unix)
            except OSError as error:
                self.faults.append(f"collector: cannot listen on {unix}: {error.strerror}; see [listen] unix")

    def _is_sure(self, place: str, *keys: str) -> bool:
        """Whether no fault is in these keys, or in one that may have been meant for them."""
        return self._unsure.isdisjoint({(place, ""), *((place, key) for key in keys)})


def _try_unix(path: str) -> None:
    """See whether a socket could be made at *path*, or is there. Raises OSError."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.EADDRINUSE, "something else is there")
    _make_a_file(os.path.dirname(os.path.abspath(path)))


def _make_a_file(directory: str) -> None:
    """Make a file in *directory* and let it go again. Raises OSError."""
    try:
        # It has no name: nobody sees it, and nothing is left of it, whatever happens.
        os.close(os.open(directory, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except OSError:  # most likely a volume that has no such files
        with tempfile.NamedTemporaryFile(prefix=".collector.check.", dir=directory):
            pass
