"""A volume with the manners of others: one that refuses chmod, ignores case, is full, slow or has a quota.

It is a pass-through file system in a process of its own (FUSE), which a test tells how to behave: CIFS and
Azure Files refuse chmod, SMB and Docker Desktop ignore case, APFS the form of Unicode too. What it cannot do:
FIFOs, devices. A file deleted while it is open lives on as `.fuse_hidden...`, as libfuse has it.

    python -m tests.support.odd_volume ROOT MOUNT CONTROL

shows at MOUNT what is in ROOT; CONTROL is a JSON file with the manners, read again whenever it has changed.
"""

from __future__ import annotations

import ctypes.util
import errno
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.places import TESTS
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SECONDS = 10
_STATUS = ("st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_ino", "st_blocks")
_VOLUME = (
    *("f_bavail", "f_bfree", "f_blocks", "f_bsize", "f_favail"),
    *("f_ffree", "f_files", "f_flag", "f_frsize", "f_namemax"),
)


class OddVolume:
    """The volume at `mount`; what is really there is at `root`, where nothing is refused."""

    def __init__(self, home: Path) -> None:
        self.root = home / "root"
        self.mount = home / "mount"
        self._control = home / "control"
        self._log = home / "log"
        self.root.mkdir(parents=True)
        self.mount.mkdir()
        self.set()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.odd_volume", self.root, self.mount, self._control],
                cwd=TESTS.parent,
                stderr=log,
            )
        within(
            _SECONDS, lambda: os.path.ismount(self.mount) or self._process.poll() is not None, "it is mounted"
        )
        if self._process.poll() is not None:
            pytest.skip(f"FUSE cannot mount here: {self._log.read_text().strip()}")

    def set(
        self,
        *,
        refuse: Mapping[str, str] | None = None,
        ignores: str = "",
        quota_bytes: int | None = None,
        size_bytes: int | None = None,
        slow: Mapping[str, float] | None = None,
    ) -> None:
        """Behave so from now on, and in nothing else oddly.

        *refuse*: by "OPERATION" or "OPERATION NAME" the name of the errno, as in {"chmod": "EPERM"}; the
        operations are those of FUSE; with "after " before it one is done, and only its answer is an error.
        *ignores*: "case" or "case and form". Past *quota_bytes* or *size_bytes*
        of all files together nothing more is written: EDQUOT or ENOSPC. *slow*: by operation, how many
        seconds it takes.
        """
        manners = {
            "refuse": refuse or {},
            "ignores": ignores,
            "slow": slow or {},
            "limits": {"EDQUOT": quota_bytes, "ENOSPC": size_bytes},
        }
        new = self._control.with_suffix(".new")
        new.write_text(json.dumps(manners))
        new.replace(self._control)

    def files(self) -> list[str]:
        """Return the names of what is at its top, the collector's own left out."""
        return [path.name for path in self.root.iterdir() if path.name[0] != "."]

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", self.mount], check=False)
        try:
            self._process.wait(_SECONDS)
        except subprocess.TimeoutExpired:  # a file is open for ever
            self._process.kill()
            self._process.wait()


@pytest.fixture
def odd_volume(tmp_path: Path) -> Iterator[OddVolume]:
    """Return a volume that is not odd yet."""
    missing = [
        what
        for what, there in {
            "root": os.geteuid() == 0,
            "/dev/fuse": Path("/dev/fuse").exists(),
            "fusermount": shutil.which("fusermount"),
            "libfuse 2": ctypes.util.find_library("fuse"),
            "fusepy": importlib.util.find_spec("fuse"),
        }.items()
        if not there
    ]
    if missing:
        pytest.skip(f"needs {', '.join(missing)} for a file system of its own")
    volume = OddVolume(tmp_path / "odd")
    yield volume
    volume.close()


class _Manners:
    """What CONTROL says at the moment."""

    def __init__(self, control: str) -> None:
        self._control = control
        self._seen = (0, 0)
        self._now: dict[str, Any] = {}

    def now(self) -> dict[str, Any]:
        status = os.stat(self._control)
        if self._seen != (seen := (status.st_mtime_ns, status.st_ino)):
            self._now = json.loads(Path(self._control).read_text())
            self._seen = seen
        return self._now

    def check(self, operation: str, path: str) -> None:
        now = self.now()
        time.sleep(now["slow"].get(operation, 0))
        refuse = now["refuse"]
        if why := refuse.get(operation) or refuse.get(f"{operation} {os.path.basename(path)}"):
            raise _error(why)

    def fold(self, name: str) -> str:
        """Return what all spellings of *name* have in common."""
        ignores = self.now()["ignores"]
        if "form" in ignores:
            name = unicodedata.normalize("NFC", name)
        return name.casefold() if "case" in ignores else name


def _error(name: str) -> OSError:
    number = getattr(errno, name)
    return OSError(number, os.strerror(number))


class _PassThrough:
    """What FUSE calls, by the names of its operations; whatever is not here it answers itself."""

    use_ns = True  # times are integers, in nanoseconds

    def __init__(self, root: str, control: str) -> None:
        self._root = root
        self._manners = _Manners(control)

    def __call__(self, operation: str, path: str, *arguments: Any) -> Any:
        if operation != "release":
            self._manners.check(operation, path)
        result = getattr(self, operation)(path, *arguments)
        self._manners.check(f"after {operation}", path)
        return result

    def _real(self, path: str) -> str:
        """Return where *path* really is, or would be made."""
        fold, found = self._manners.fold, self._root
        for part in filter(None, path.split("/")):
            exact = os.path.join(found, part)
            if not os.path.lexists(exact) and os.path.isdir(found):
                same = (name for name in os.listdir(found) if fold(name) == fold(part))
                exact = os.path.join(found, next(same, part))
            found = exact
        return found

    def _room(self) -> tuple[int, str]:
        """Return how many bytes may still be written, and what is answered then."""
        limits = self._manners.now()["limits"]
        left = [(limit, why) for why, limit in limits.items() if limit is not None]
        if not left:
            return sys.maxsize, ""
        used = sum(path.lstat().st_size for path in Path(self._root).rglob("*") if path.is_file())
        limit, why = min(left)
        return limit - used, why

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        status = os.lstat(self._real(path)) if fh is None else os.fstat(fh)
        times = {f"st_{each}time": getattr(status, f"st_{each}time_ns") for each in "amc"}
        return {name: getattr(status, name) for name in _STATUS} | times

    def readdir(self, path: str, _: int) -> list[str]:
        return [".", "..", *os.listdir(self._real(path))]

    def open(self, path: str, flags: int) -> int:
        # The kernel says where each write goes, at the end too.
        return os.open(self._real(path), flags & ~(os.O_APPEND | os.O_NOFOLLOW | os.O_CREAT | os.O_EXCL))

    def create(self, path: str, mode: int, _: Any = None) -> int:
        return os.open(self._real(path), os.O_RDWR | os.O_CREAT, mode)

    def read(self, _: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    def write(self, _: str, data: bytes, offset: int, fh: int) -> int:
        left, why = self._room()
        if left <= 0:
            raise _error(why)
        return os.pwrite(fh, data[:left], offset)

    def truncate(self, path: str, length: int, fh: int | None = None) -> None:
        os.truncate(self._real(path) if fh is None else fh, length)

    def rename(self, old: str, new: str) -> None:
        source, target = self._real(old), self._real(new)
        if source == target:  # one name to this volume: only its spelling changes
            target = os.path.join(os.path.dirname(target), os.path.basename(new))
        os.rename(source, target)

    def unlink(self, path: str) -> None:
        os.unlink(self._real(path))

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(self._real(path), mode)

    def rmdir(self, path: str) -> None:
        os.rmdir(self._real(path))

    def link(self, target: str, source: str) -> None:
        os.link(self._real(source), self._real(target))

    def symlink(self, target: str, source: str) -> None:
        os.symlink(source, self._real(target))

    def readlink(self, path: str) -> str:
        return os.readlink(self._real(path))

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self._real(path), mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        os.chown(self._real(path), uid, gid)

    def utimens(self, path: str, times: tuple[int, int]) -> None:
        os.utime(self._real(path), ns=times)

    def fsync(self, _: str, __: int, fh: int) -> None:
        os.fsync(fh)

    def release(self, _: str, fh: int) -> None:
        os.close(fh)

    def statfs(self, _: str) -> dict[str, int]:
        found = os.statvfs(self._root)
        return {name: getattr(found, name) for name in _VOLUME}


def serve(root: str, mount: str, control: str) -> None:
    """Show *root* at *mount* until that is unmounted."""
    from fuse import FUSE

    # Nothing is remembered by the kernel: where case is ignored it would not know what is one file.
    fresh = {"attr_timeout": 0, "entry_timeout": 0, "negative_timeout": 0, "use_ino": True}
    FUSE(_PassThrough(root, control), mount, foreground=True, **fresh)


if __name__ == "__main__":
    serve(*sys.argv[1:])
