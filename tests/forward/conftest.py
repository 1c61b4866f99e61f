from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.line_destination import Sink
from tests.support.spool_files import SpoolFiles

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def spool(tmp_path: Path) -> SpoolFiles:
    return SpoolFiles(tmp_path / "spool")


@pytest.fixture
def sink() -> Iterator[Sink]:
    made = Sink()
    yield made
    made.close()
