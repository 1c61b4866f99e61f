"""Where things lie: in this repository, and in the tests."""

from __future__ import annotations

import os
from pathlib import Path

TESTS = Path(__file__).parents[1]
HOME = Path(os.environ.get("COLLECTOR_CHECKOUT") or TESTS.parent)
"""The repository: elsewhere, where the tests lie apart from it to run against an installed collector."""
ETC = HOME / "etc"
MANUAL = ETC / "collector.toml"
README = HOME / "README.rst"

DATA = TESTS / "data"
CLIENTS = TESTS / "clients"
FLOOD = CLIENTS / "flood.py"
