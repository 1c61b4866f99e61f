"""Other Pythons of this machine, and programs that run under them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

CLIENT_SECONDS = 20


def run(
    *command: str | Path, seconds: float = CLIENT_SECONDS, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command without what the environment says to the Python that runs the tests."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        command, env=environment | variables, timeout=seconds, capture_output=True, text=True, check=False
    )


def find_python(version: str) -> str:
    """Return a CPython of this version, or skip the test."""
    return _find_python(version) or pytest.skip(f"no CPython {version} that starts, on PATH or under pyenv")


@cache
def _find_python(version: str) -> str | None:
    """Return the running Python, the newest one of pyenv or one on PATH, or None."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    of_pyenv = sorted(
        pyenv.glob(f"versions/{version}.*/bin/python"),
        key=lambda path: [int(number) for number in re.findall(r"\d+", path.parts[-3])],
        reverse=True,
    )
    on_path = [shutil.which(name) for name in (f"python{version}", f"python{version[0]}", "python")]
    who = "import platform, sys; print(platform.python_implementation() + ' %d.%d' % sys.version_info[:2])"
    # What is there may be another one, pyenv's shim for one that is not chosen, or too old for the system.
    for candidate in (sys.executable, *map(str, of_pyenv), *filter(None, on_path)):
        try:
            if run(candidate, "-c", who).stdout.strip() == f"CPython {version}":
                return candidate
        except (OSError, subprocess.TimeoutExpired):
            continue
    return None
