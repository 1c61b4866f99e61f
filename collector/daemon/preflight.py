"""Tries beforehand what collecting needs of the machine and no configuration can promise.

All faults are told at once. Binds no configured port, and makes nothing but the directory, and that only on
request. May block.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Generic, TypeVar

from collector.config.load import ConfigError, load, same_file_faults
from collector.config.tables import header
from collector.config.tokens import token_of
from collector.config.toml_text import shown
from collector.files.directory import folding, make_directory, refuse_links
from collector.files.lock import holder
from collector.files.ownership import nearest_to, refusal
from collector.listen.sockets import try_host

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.config.tables import Config, Forward
    from collector.forward.trial import Sent

_Found = TypeVar("_Found")
_TRIAL_SECONDS = 5.0
# A destination that gives up by itself after as long says more.
_GRACE_SECONDS = 0.5
_SILENT = f"no answer within {_TRIAL_SECONDS:g} s"


class Preflight:
    """The trials of one configuration: `faults` keep it from collecting, `warnings` do not."""

    def __init__(self, path: str | None) -> None:
        """Read the configuration at *path*; None: the defaults. Raises ConfigError if it cannot be read."""
        self.faults: list[str] = []
        self.warnings: list[str] = []
        self.holder = ""
        """The process id of a collector that holds the directory; "": none does."""
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
        """Try to make a file in the directory.

        A missing directory is made if *make* says so; otherwise the nearest one above it is tried.
        """
        if not self._is_sure("[files]", "directory"):
            return
        directory = self.config.files.directory
        above = os.path.abspath(directory)
        try:
            if make:
                make_directory(above)
            _make_a_file(nearest_to(above))
        except OSError as error:
            why = f"{error.strerror}; see [files] directory, and who owns it{_whose(above, error)}"
            self.faults.append(f"collector: cannot write in the directory {directory!r}: {why}")

    def try_spool(self) -> None:
        """Try to make a file in the spool's directory, or the nearest one above it, and look at its lock."""
        if not (self.config.spool and self.config.forwards and self._is_sure("[spool]", "directory")):
            return
        if not self.config.spool.directory and not self._is_sure("[files]", "directory"):
            return
        directory = self.config.spool_directory
        nearest = nearest_to(os.path.abspath(directory))
        try:
            if nearest != nearest_to(os.path.abspath(self.config.files.directory)):  # which was tried
                _make_a_file(nearest)
            other = holder(os.path.realpath(directory))
        except OSError as error:
            whose = _whose(os.path.abspath(directory), error)
            why = f"{error.strerror or error}; see [spool] directory, and who owns it{whose}"
            self.faults.append(f"collector: cannot write in the spool {directory!r}: {why}")
        else:
            if other and other != self.holder:
                why = "see [spool] directory: each collector has a spool of its own"
                self.faults.append(f"collector: the spool {directory!r} is that of process {other}; {why}")

    def try_destinations(self) -> None:
        """Connect to each destination, all at once, and warn of what is wrong there."""
        for place, faults in self._at_destinations(_faults_of, [_SILENT]):
            self.warnings += [f"{place}: {fault}" for fault in faults]

    def send_to_destinations(self) -> list[tuple[str, Sent]]:
        """Send one record to each destination, all at once; return what became of it, by destination."""
        from collector.forward.trial import Sent, send_one  # noqa: PLC0415 - the guardian does without

        directory = self.config.spool_directory
        silent = Sent(stored=False, text=f"{_SILENT}, and nobody knows whether a record is stored")
        return self._at_destinations(lambda forward: send_one(forward, directory), silent)

    def _at_destinations(
        self, trial: Callable[[Forward], _Found], silent: _Found
    ) -> list[tuple[str, _Found]]:
        """Make a *trial* of each destination, all at once; return what each found, *silent* if nothing."""
        trials = [_Trial(forward, trial, silent) for forward in self.config.forwards]  # none has a fault
        deadline = time.monotonic() + _TRIAL_SECONDS + _GRACE_SECONDS
        for one in trials:
            one.join(max(0.0, deadline - time.monotonic()))
        return [(header(one.forward.name, "forward"), one.found) for one in trials]

    def try_lock(self) -> None:
        """Find out whether another collector holds the directory, and whether the lock can be opened."""
        if self._is_sure("[files]", "directory"):
            try:
                self.holder = holder(os.path.realpath(self.config.files.directory))
            except OSError as error:
                self.faults.append(f"collector: {error}")

    def try_rules(self) -> None:
        """Find rules that disagree on one file because the volume ignores the case of names."""
        if self.config.rules and self._is_sure("[files]", "directory", "name", "dots"):
            fold = folding(os.path.realpath(self.config.files.directory))
            self.faults += same_file_faults(self.config, fold)

    def try_files(self) -> None:
        """See that the files can be written, as far as the configuration fixes their paths. Makes none."""
        if not self._is_sure("[files]", "directory"):
            return
        root = os.path.realpath(self.config.files.directory)
        # An inherited file is that of the shortest name, which comes last.
        places = {rule.file: f"{header(rule.name)} file" for rule in self.config.rules if rule.file}
        if self._is_sure("[files]", "name"):
            places[self.config.files.name] = "[files] name"
        for name, place in places.items():
            try:
                _try_file(root, name)
            except OSError as error:
                whose = _whose(nearest_to(os.path.join(root, name.partition("{")[0])), error)
                why = f"{error.strerror or error}; see what is there, and who owns it{whose}"
                self.faults.append(f"collector: {place} = {shown(name)}: cannot be written: {why}")

    def try_tls(self) -> None:
        """Load the certificates and keys."""
        files = self.config.listen.tls
        if files and self._is_sure("[listen]", "tls", "tls.certificate", "tls.private_key", "tls.client_ca"):
            from collector.listen import tls  # noqa: PLC0415 - the guardian takes 5 MB less without

            try:
                self.warnings += tls.load_tls(files).troubles()
            except tls.TlsError as error:
                self.faults += [f"collector: {fault}" for fault in error.faults]

    def try_token(self) -> None:
        """Read the token of the admin port into the configuration, where it lies in a file of its own."""
        admin = self.config.admin
        if admin and self._is_sure("[admin]", "token", "token_file"):
            try:
                self.config = replace(self.config, admin=replace(admin, token=token_of(admin)))
            except OSError as error:
                self.faults.append(f"collector: {error}")

    def try_addresses(self) -> None:
        """See, by a free port, that each host is this machine's, and that the Unix socket can be made."""
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
        """Whether none of these keys has a fault, nor a key that may have been meant for one of them."""
        return self._unsure.isdisjoint({(place, ""), *((place, key) for key in keys)})


class _Trial(threading.Thread, Generic[_Found]):
    """A trial of one destination, in a thread that nobody has to wait for: a look-up of names may hang."""

    def __init__(self, forward: Forward, trial: Callable[[Forward], _Found], silent: _Found) -> None:
        super().__init__(daemon=True)
        self.forward = forward
        self.found = silent
        self._trial = trial
        self.start()

    def run(self) -> None:
        self.found = self._trial(self.forward)


def _faults_of(forward: Forward) -> list[str]:
    """Return what is wrong with a destination, which is connected for that, a line each."""
    from collector.forward.choose import make  # noqa: PLC0415 - the guardian does without

    try:
        return make(forward).check()
    except Exception as error:  # noqa: BLE001 - what concerns a destination is no fault of ours here
        return [f"cannot be tried: {type(error).__name__}: {error}"]


def _whose(path: str, error: OSError) -> str:
    """Return what refusal() says, to follow another remedy."""
    both = refusal(path, error)
    return f": {both}" if both else ""


def _try_unix(path: str) -> None:
    """Find out whether a socket is at *path* or could be made there. Raises OSError if not."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.EADDRINUSE, "something else is there")
    _make_a_file(os.path.dirname(os.path.abspath(path)))


def _try_file(root: str, name: str) -> None:
    """Find out whether a file could be made or is writable at *name*, up to its first field, below *root*.

    Raises OSError if not. That *root* itself can be written is tried elsewhere.
    """
    fixed, field, _ = name.partition("{")
    path = os.path.join(root, fixed)
    with suppress(FileNotFoundError):
        if not field:
            fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            regular = stat.S_ISREG(os.fstat(fd).st_mode)
            os.close(fd)
            if not regular:
                raise OSError(errno.EINVAL, f"{path} is not a regular file")
    above = nearest_to(os.path.dirname(path))
    if len(above) > len(root):
        refuse_links(above)
        _make_a_file(above)


def _make_a_file(directory: str) -> None:
    """Make a file in *directory* and remove it again. Raises OSError."""
    try:
        # It has no name: nobody sees it, and nothing of it is left, whatever happens.
        os.close(os.open(directory, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except OSError:  # most likely a volume that knows no files without a name
        with tempfile.NamedTemporaryFile(prefix=".collector.check.", dir=directory):
            pass
