"""Virtual environments of other Pythons with what PyPI has, made once and kept in pytest's cache."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.pythons import find_python, run

if TYPE_CHECKING:
    from collections.abc import Sequence

INSTALL_SECONDS = 300


def environment(config: pytest.Config, version: str, requirements: Sequence[str]) -> str:
    """Return the Python of an environment with all *requirements*, or skip the test."""
    base = find_python(version)
    assert config.cache
    kinds = hashlib.sha256(" ".join(requirements).encode()).hexdigest()[:8]
    kept = config.cache.mkdir("environments") / f"{version}-{kinds}"
    whole = kept / "whole"
    if not whole.exists():
        shutil.rmtree(kept, ignore_errors=True)
        # Made beside its place and then moved: one that was interrupted must not be taken for a whole one.
        with tempfile.TemporaryDirectory(dir=kept.parent) as beside:
            home = Path(beside) / "env"
            _make(base, version, home, requirements)
            (home / "whole").touch()
            with suppress(OSError):
                home.rename(kept)
    return str(kept / "bin/python")


def _make(base: str, version: str, home: Path, requirements: Sequence[str]) -> None:
    tools = home.parent / "tools"
    if version == "2.7":
        _install([base, "-m", "pip", "install", "--target", tools, "virtualenv<20.16"])
        _install([base, "-m", "virtualenv", "--no-download", home], PYTHONPATH=str(tools))
    else:
        _install([base, "-m", "venv", home])
    _install([home / "bin/python", "-m", "pip", "install", "--only-binary=:all:", *requirements])


def _install(command: Sequence[str | Path], **variables: str) -> None:
    try:
        ended = run(*command, seconds=INSTALL_SECONDS, **variables)
    except (OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"cannot install: {error}")
    if ended.returncode:
        why = (ended.stderr or ended.stdout).strip().splitlines()
        pytest.skip(f"cannot install: {why[-1] if why else 'no word'}")
