"""What is given back in the other order, in memory or in a file without a name."""

from __future__ import annotations

import os
import tempfile
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from collector.readback.stash import Stack, Stash

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("most", [None, 0, 10, 100, 5000], ids=str)
@pytest.mark.parametrize("max_bytes", [0, 10_000, 1_000_000])
def test_two_stacks_give_back_the_last_first_whatever_fits(max_bytes: int, most: int | None) -> None:
    with closing(Stash(max_bytes)) as stash:
        stacks = [Stack(stash, most, batch_bytes=1000) for _ in range(2)]
        for number in range(2000):
            for stack in stacks:
                stack.put((b"x" * (number % 50), number), number % 50)
        for stack in stacks:
            items = [item for batch in stack.take() for item in reversed(batch)]
            assert [(b"x" * (number % 50), number) for number in range(1999, 1999 - len(items), -1)] == items
            assert len(items) == 2000 if most is None else min(most, 2000) <= len(items) <= (most or 1) + 100


def test_nobody_sees_the_file_and_one_that_cannot_be_written_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with closing(Stash(0)) as stash:
        assert [(1,)] == stash.give(stash.keep([(1,)], 100), 100)
        assert [] == os.listdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with (
        closing(Stash(0)) as stash,
        pytest.raises(OSError, match=r"none: .*; set TMPDIR to where there is more room"),
    ):
        stash.keep([(1,)], 100)
