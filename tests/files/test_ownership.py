"""What belongs to another user, as the faults of a configuration tell it."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from collector.daemon.preflight import Preflight

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
UID = 10001


@contextmanager
def another_user() -> Iterator[None]:
    """Be user 10001, as in the image."""
    os.seteuid(UID)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a directory of root's that everybody may look into, as pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        yield place


def faults(directory: Path, monkeypatch: pytest.MonkeyPatch, *, make: bool) -> list[str]:
    monkeypatch.setenv("COLLECTOR__FILES__DIRECTORY", str(directory))
    preflight = Preflight(None)
    with another_user():
        preflight.try_directory(make=make)
        preflight.try_lock()
    return preflight.faults


@pytest.mark.parametrize("make", [False, True])
def test_a_directory_of_another_is_told_with_both_sides_and_the_remedy(
    place: Path, monkeypatch: pytest.MonkeyPatch, make: bool
) -> None:
    (fault,) = faults(place, monkeypatch, make=make)
    both = f"runs as uid {UID}, {place} belongs to uid 0: chown {UID} {place}"
    assert fault.endswith(f"Permission denied; see [files] directory, and who owns it: {both}")


@pytest.mark.parametrize("make", [False, True])
def test_a_directory_that_is_missing_is_made_and_not_taken_from_above(
    place: Path, monkeypatch: pytest.MonkeyPatch, make: bool
) -> None:
    (fault,) = faults(place / "a b" / "logs", monkeypatch, make=make)
    there = f"'{place}/a b/logs'"
    assert f"{place} belongs to uid 0: mkdir -p {there} && chown {UID} {there}" in fault


def test_a_lock_that_root_has_left_is_told_likewise(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after one start as root, by mistake."""
    lock = place / ".collector.lock"
    lock.touch(0o640)
    os.chown(place, UID, UID)
    (fault,) = faults(place, monkeypatch, make=True)
    assert fault.endswith(f"runs as uid {UID}, {lock} belongs to uid 0: chown {UID} {lock}")


def test_a_directory_of_its_own_that_is_not_writable_needs_another_mode(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chown(place, UID, UID)
    place.chmod(0o555)
    (fault,) = faults(place, monkeypatch, make=True)
    assert f"{place} belongs to uid {UID}: chmod u+rwX {place}" in fault
