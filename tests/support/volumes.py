"""File systems of a test's own, mounted for real."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.collectors import Collector

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount file systems")

# linux/prctl.h and linux/capability.h
PR_CAPBSET_DROP = 24
CAP_DAC_OVERRIDE = 1

_FROZEN_IMAGE_BYTES = 16 * 1024 * 1024


def run(*command: str | Path) -> None:
    """Run *command*; skip the test, with the reason, where the machine refuses."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.skip(f"{' '.join(map(str, command))}: {result.stderr.strip()}")


class Volumes:
    """Mounts file systems, and takes all of them away again however frozen they are."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._mounted: list[Path] = []
        self._frozen: list[Path] = []
        self._images = 0

    def tmpfs(self, where: Path, size: str) -> None:
        where.mkdir(parents=True)
        run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", where)
        self._mounted.append(where)

    def ext4(self, where: Path) -> Path:
        """Mount a file system of its own at *where*; return its image."""
        where.mkdir(parents=True, exist_ok=True)
        image = self._home / f"image{self._images}"
        self._images += 1
        with image.open("wb") as file:
            file.truncate(_FROZEN_IMAGE_BYTES)
        run("mkfs.ext4", "-q", image)
        self.mount(image, where)
        return image

    def mount(self, image: Path, where: Path) -> None:
        run("mount", "-o", "loop", image, where)
        self._mounted.append(where)

    def bind(self, what: Path, where: Path) -> None:
        """Mount what there is at *what* over *where*."""
        run("mount", "--bind", what, where)
        self._mounted.append(where)

    def freeze(self, where: Path) -> None:
        run("fsfreeze", "--freeze", where)
        self._frozen.append(where)

    def thaw(self) -> None:
        """Thaw whatever is frozen."""
        while self._frozen:
            subprocess.run(["fsfreeze", "--unfreeze", self._frozen.pop()], check=False)

    def detach(self, where: Path) -> None:
        """Take a file system out of the tree, whoever still has files of it open."""
        subprocess.run(["umount", "--lazy", where], check=True)
        self._mounted.remove(where)

    def remove_all(self) -> None:
        self.thaw()
        while self._mounted:
            self.detach(self._mounted[-1])


def make_room(collector: Collector) -> None:
    """Give the volume that start_full() has made room for everything."""
    run("mount", "-o", "remount,size=100m", collector.directory)


def bound_by_permissions() -> None:
    """Take from root what lets it write whatever the mode says. Runs between fork and exec."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


@contextmanager
def files_at_most(size: int) -> Iterator[None]:
    """Have every write of this process beyond *size* bytes of a file fail, as on a full volume."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
