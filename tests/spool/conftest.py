"""What tests of the spool share."""

from __future__ import annotations

import os

import pytest


@pytest.fixture
def fsyncs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the files that are synced, as they are."""
    names: list[str] = []
    fsync = os.fsync

    def noting(fd: int) -> None:
        fsync(fd)
        names.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))

    monkeypatch.setattr(os, "fsync", noting)
    return names
