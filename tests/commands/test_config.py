"""The command `config`: what holds, and what the package brings with it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.commands import run
from tests.support.places import ETC, MANUAL

if TYPE_CHECKING:
    from pathlib import Path

UNITS = ["collector-forward@.service", "collector.service", "collector.socket"]


def test_what_holds_is_printed_with_where_it_comes_from(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('[admin]\ntoken = "s3cret"\n')
    result = run("config", "-c", str(file), COLLECTOR__LISTEN__PORT="9510")
    assert (0, "") == (result.returncode, result.stderr)
    assert result.stdout.startswith('[listen]\nhost = "127.0.0.1"  # from default\nport = 9510  # from env')
    assert f'token = "***"  # from {file}, line 2\n' in result.stdout


def test_the_file_of_the_environment_is_that_without_c(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[listen]\nport = 1\n")
    assert f"port = 1  # from {file}, line 2\n" in run("config", COLLECTOR_CONFIG=str(file)).stdout


def test_faults_are_listed_instead_with_exit_2() -> None:
    result = run("config", COLLECTOR__LISTEN__PORT="x", COLLECTOR__NO="1")
    assert (2, "") == (result.returncode, result.stdout)
    assert 2 == len(result.stderr.splitlines())


def test_the_commented_reference_is_that_of_the_repository() -> None:
    result = run("config", "--default")
    assert (0, MANUAL.read_text(encoding="utf-8"), "") == (result.returncode, result.stdout, result.stderr)


@pytest.mark.parametrize("options", [["--default"], []])
def test_a_reader_may_leave(options: list[str]) -> None:
    command = f"{sys.executable} -m collector config {' '.join(options)} | head -n 1"
    ended = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, check=False)
    assert (0, b"") == (ended.returncode, ended.stderr)


def test_the_units_are_written_as_they_are_whatever_the_umask(tmp_path: Path) -> None:
    command = f"umask 077; exec {sys.executable} -m collector config --units {tmp_path}"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert UNITS == sorted(path.name for path in tmp_path.iterdir())
    for name in UNITS:
        assert (ETC / name).read_bytes() == (tmp_path / name).read_bytes()
        assert 0o644 == (tmp_path / name).stat().st_mode & 0o777
        assert f"{tmp_path / name}: written\n" in ended.stdout


def test_units_that_are_there_already_are_left_alone(tmp_path: Path) -> None:
    run("config", "--units", str(tmp_path))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = run("config", "--units", str(tmp_path))
    assert (0, 3) == (again.returncode, again.stdout.count(": is there already\n"))
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


def test_where_another_file_is_in_the_way_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "collector.service").write_text("[Service]\n")
    result = run("config", "--units", str(tmp_path))
    assert (2, "") == (result.returncode, result.stdout)
    (fault,) = result.stderr.splitlines()
    assert fault.startswith(f"{tmp_path}/collector.service: is there and differs, so nothing was written; ")
    assert ["collector.service"] == os.listdir(tmp_path)


@pytest.mark.parametrize("name", ["missing", "file"])
def test_units_need_a_directory_that_is_there(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    result = run("config", "--units", str(tmp_path / name))
    assert 2 == result.returncode
    assert f"--units {tmp_path / name}: is no directory; make it, or name another\n" in result.stderr


def test_a_unit_that_cannot_be_written_whole_is_not_there(tmp_path: Path) -> None:
    """Or the next attempt would find a file that differs."""
    command = f"ulimit -f 1; exec {sys.executable} -m collector config --units {tmp_path}"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert 2 == ended.returncode, ended.stderr
    assert ended.stderr.startswith("collector: [Errno 27]")
    assert ["collector.socket"] == os.listdir(tmp_path)
