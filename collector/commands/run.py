"""The command `run`: collects, in the foreground, as the guardian or as the worker that it starts.

The guardian lives as long as the worker, and is smaller without gevent: only the worker loads that.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from collector import log
from collector.config import environment
from collector.config.load import load
from collector.daemon import guardian
from collector.daemon.preflight import Preflight
from collector.escape import escape
from collector.forward.orders import DIRECTORY
from collector.listen import sockets

if TYPE_CHECKING:
    import argparse

    from collector.config.tables import Config


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit code. Raises ConfigError and OSError where it cannot start."""
    flags = {"--port": ("listen", "port"), "--directory": ("files", "directory")}
    given = {flag: value for flag in flags if (value := getattr(options, flag[2:])) is not None}
    variables = {environment.variable(*flags[flag]): str(value) for flag, value in given.items()}
    os.environ.update(variables)  # for all that reads the configuration again, forwarders too
    preflight = Preflight(options.config)
    own_log = preflight.config.log
    log.set_up(own_log.level, own_log.style)  # before anything else may be wrong: that has its form, too
    preflight.try_directory(make=True)
    config = _tried(preflight)
    if guardian.is_worker():
        more = [name for name in environment.ours(os.environ) if name not in variables]
        file = escape(os.path.abspath(options.config)) if options.config else "the defaults"
        return _work(config, options.config, ", ".join([file, *more, *given]))
    return _guard(config, options.config)


def _load(path: str | None) -> Config:
    """Read the configuration again, as it is to be applied by a worker that runs. Raises ConfigError."""
    return _tried(Preflight(path))


def _tried(preflight: Preflight) -> Config:
    """Try what a worker does not try by using it; return the configuration. Raises ConfigError."""
    preflight.try_rules()
    preflight.try_tls()
    preflight.try_token()
    return preflight.sound()


def _work(config: Config, path: str | None, source: str) -> NoReturn:
    """Be the worker, with the sockets passed to this process, until its end; *source* is what it goes by."""
    from collector.daemon import worker  # noqa: PLC0415 - brings gevent

    worker.run(config, partial(_load, path), source)


def _guard(config: Config, path: str | None) -> int:
    """Be the guardian, with the sockets that the configuration asks for; return the exit code."""
    opened = sockets.open_all(config.listen, config.admin)
    # What a reload cannot change holds for forwarders too, whatever the file says by then.
    os.environ[DIRECTORY] = os.path.abspath(config.spool_directory)
    return guardian.run(
        [sys.executable, *sys.orig_argv[1:]],
        opened,
        config.listen.unix,
        _forwarders(config, path),
        partial(_forwarders_again, path),
        config.listen.drain_seconds,
    )


def _forwarders_again(path: str | None) -> dict[str, list[str]]:
    """Return what _forwarders() does by the configuration as it is now. This process's log goes by it too."""
    config = load(path)
    log.reconfigure(config.log.level, config.log.style)
    return _forwarders(config, path)


def _forwarders(config: Config, path: str | None) -> dict[str, list[str]]:
    """Return the command of each forwarder, by the name of its destination."""
    start = [sys.executable, "-m", "collector", "forward", *(["-c", path] if path else [])]
    return {forward.name: [*start, forward.name] for forward in config.forwards}
