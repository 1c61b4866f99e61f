"""Configurations that a test writes, and what is said about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from collector.config.load import ConfigError, load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from collector.config.tables import Config

    Load = Callable[[str], Config]
    Faults = Callable[[str], list[str]]


@pytest.fixture
def config(tmp_path: Path) -> Load:
    """Return a function that loads a text."""

    def config(text: str) -> Config:
        file = tmp_path / "c.toml"
        file.write_text(text, encoding="utf-8")
        return load(file)

    return config


@pytest.fixture
def faults(config: Load, tmp_path: Path) -> Faults:
    """Return the faults of a text, without the name of the file in front, which each must have."""

    def faults(text: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            config(text)
        start = f"{tmp_path / 'c.toml'}: "
        assert all(fault.startswith(start) and "\n" not in fault for fault in caught.value.faults)
        return [fault.removeprefix(start) for fault in caught.value.faults]

    return faults
