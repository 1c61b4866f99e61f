"""Where things lie: in this repository, and in the tests."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).parents[1]
HOME = TESTS.parent
ETC = HOME / "etc"
MANUAL = ETC / "collector.toml"
README = HOME / "README.rst"

DATA = TESTS / "data"
CLIENTS = TESTS / "clients"
FLOOD = CLIENTS / "flood.py"
