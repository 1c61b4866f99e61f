"""The command `config`: prints what holds and where it comes from, or what the package brings with it.

That is the commented reference of the configuration and the units for systemd, which lie in etc/.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import collector
from collector.config.holding import holding
from collector.config.load import ConfigError, settings
from collector.escape import unbroken
from collector.exits import EXIT_CANNOT_START, EXIT_OK, reader_may_leave

if TYPE_CHECKING:
    import argparse

_ETC = Path(collector.__file__).with_name("etc")
_UNITS = ("collector.socket", "collector.service", "collector-forward@.service")
# What the units start.
_PROGRAM = "/usr/local/bin/collector"
_UNIT_MODE = 0o644


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit code. Raises ConfigError, and OSError where nothing can be written."""
    if options.units is not None:
        return _write_units(options.units)
    with reader_may_leave():
        if options.default:
            text = (_ETC / "collector.toml").read_text(encoding="utf-8")
        else:
            lines = holding(settings(options.config), options.config or "")
            text = "\n".join(lines).lstrip("\n") + "\n"
        sys.stdout.write(text)
        sys.stdout.flush()
    return EXIT_OK


def _write_units(directory: str) -> int:
    """Write the units into a *directory*, or none of them where another file is in the way.

    Raises ConfigError where there is no such directory.
    """
    if not os.path.isdir(directory):
        raise ConfigError(
            [f"collector config: --units {directory}: is no directory; make it, or name another"]
        )
    units = {os.path.join(directory, name): (_ETC / name).read_bytes() for name in _UNITS}
    there = {path: _content(path) for path in units}
    in_the_way = [path for path in units if there[path] not in (None, units[path])]
    for path in in_the_way:
        why = "is there and differs, so nothing was written; move it away"
        remedy = "what is your own belongs in a drop-in (systemctl edit), which no upgrade touches"
        sys.stderr.write(f"{unbroken(path)}: {why}; {remedy}\n")
    if in_the_way:
        return EXIT_CANNOT_START
    for path, content in units.items():
        if there[path] is None:
            _write(path, content)
        done = "written" if there[path] is None else "is there already"
        sys.stdout.write(f"{unbroken(path)}: {done}\n")
    if not os.path.exists(_PROGRAM):
        ours = os.path.join(os.path.dirname(sys.executable), "collector")
        sys.stdout.write(
            f"they start {_PROGRAM}, which is not there yet: ln -s {unbroken(ours)} {_PROGRAM}\n"
        )
    return EXIT_OK


def _content(path: str) -> bytes | None:
    """Return what is in a file; None: there is none."""
    with suppress(FileNotFoundError):
        return Path(path).read_bytes()
    return None


def _write(path: str, content: bytes) -> None:
    """Make a file that everybody may read, whole or not at all. Raises OSError."""
    with open(path, "xb") as file:
        try:
            os.fchmod(file.fileno(), _UNIT_MODE)
            file.write(content)
            file.flush()
        except OSError:
            os.unlink(path)
            raise
