"""What belongs to another user, as the faults of a configuration and the log tell it."""

from __future__ import annotations

import errno
import os
import shlex
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from collector.daemon.preflight import Preflight
from collector.files.ownership import refusal
from tests.support.frames import make_frame
from tests.support.volumes import bound_by_permissions
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.collectors import Collector

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


def test_what_is_ours_and_writable_by_its_mode_is_refused_for_another_reason(place: Path) -> None:
    """As by chattr +i."""
    assert "" == refusal(str(place), PermissionError(errno.EPERM, "Operation not permitted"))


@pytest.mark.parametrize("name", ["app.log", "of another/app.log"])
def test_a_log_file_that_cannot_be_written_is_told_likewise(
    make_collector: Callable[..., Collector], name: str
) -> None:
    """Where it is missing, it is the directory above it that counts."""
    collector = make_collector('[[logger]]\nname = "other"\nfile = "of another/app.log"\n')
    collector.directory.mkdir()
    theirs = collector.directory / name.partition("/")[0]
    if theirs.suffix:
        theirs.touch(0o600)
    else:
        theirs.mkdir(0o755)
    os.chown(theirs, UID, UID)
    collector.start(preexec_fn=bound_by_permissions)
    collector.send(make_frame("x", "app" if theirs.suffix else "other"))
    both = f"runs as uid 0, {theirs} belongs to uid {UID}: chown 0 {shlex.quote(str(theirs))}\n"
    within(5, lambda: f"; see who owns it: {both}" in collector.stderr, "told")
