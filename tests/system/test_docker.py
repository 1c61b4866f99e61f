"""The image as an operator runs it: from the Dockerfile, read-only, without capabilities, at its own port.

It is tested with the configuration that it ships with, on the host's network, so at the port that its
HEALTHCHECK asks. Skipped where that port is taken or no engine answers.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tarfile
import threading
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.support.places import CLIENTS, HOME
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

CLIENT = CLIENTS / "plain.py"
PORT = 9020
LOGS = "/var/log/collector"
IMAGE = "gevent-collector-test"
NAME = f"{IMAGE}-{os.getpid()}"
BUILD_SECONDS = 600
COMMAND_SECONDS = 60
HEALTHY_SECONDS = 20
KILLS = 3


def docker(*arguments: str, seconds: float = COMMAND_SECONDS) -> bytes:
    """Run a command of the engine that DOCKER_HOST names, and return what it prints."""
    ended = subprocess.run(["docker", *arguments], capture_output=True, timeout=seconds, check=False)
    assert ended.returncode == 0, (
        f"docker {arguments}: {ended.stderr.decode()}\n{ended.stdout.decode()[-2000:]}"
    )
    return ended.stdout


def inspect(field: str) -> str:
    return docker("inspect", "--type=container", f"--format={{{{{field}}}}}", NAME).decode().strip()


class Ran(NamedTuple):
    """What a container was and left behind."""

    health: str
    owner_of_process_1: str
    exit_code: str
    refused: list[str]
    killed: int
    log: str
    files: dict[str, str]


@pytest.fixture(scope="module")
def image() -> str:
    """Return the image, built from this checkout; skip where there is no engine to build it."""
    try:
        answer = subprocess.run(
            ["docker", "version"], capture_output=True, timeout=COMMAND_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"no Docker engine: {error}")
    if answer.returncode:
        pytest.skip(f"no Docker engine answers: {answer.stderr.decode().strip()}")
    build(f"{IMAGE}:build", "--target=build")
    build(f"{IMAGE}:latest")
    return f"{IMAGE}:latest"


def build(tag: str, *options: str) -> None:
    """Build an image, or a stage of it, and remove what it replaces: in time that would fill the disk."""
    before = docker("images", "--quiet", tag).decode().strip()
    source = str(HOME)
    docker("build", "--network=host", f"--tag={tag}", *options, source, seconds=BUILD_SECONDS)
    if before not in ("", docker("images", "--quiet", tag).decode().strip()):
        docker("rmi", before)


@pytest.fixture(scope="module")
def ran(image: str) -> Iterator[Ran]:
    """Run a container, log into it with a stock client, stop it and return what was seen."""
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            free.bind(("", PORT))
        except OSError as error:
            pytest.skip(f"the image's port {PORT}: {error}")
    hardened = ("--read-only", "--cap-drop=ALL", "--network=host", f"--volume={NAME}:{LOGS}")
    try:
        docker("run", "--detach", f"--name={NAME}", *hardened, "--health-interval=1s", image)
        within(HEALTHY_SECONDS, lambda: inspect(".State.Health.Status") != "starting")
        health = inspect(".State.Health.Status")
        owner = docker("exec", NAME, "stat", "--format=%u", "/proc/1").decode().strip()
        subprocess.run([sys.executable, CLIENT, str(PORT), "docker"], check=True, timeout=COMMAND_SECONDS)
        refused = refused_while_workers_are_killed()
        docker("stop", NAME)
        log = subprocess.run(["docker", "logs", NAME], capture_output=True, check=True).stderr.decode()
        killed = log.count("was killed by signal 9")
        yield Ran(health, owner, inspect(".State.ExitCode"), refused, killed, log, files_in_volume())
    finally:
        subprocess.run(["docker", "rm", "--force", NAME], capture_output=True, check=False)
        subprocess.run(["docker", "volume", "rm", NAME], capture_output=True, check=False)


def refused_while_workers_are_killed() -> list[str]:
    """Kill the worker three times, connecting all the time; return what went wrong with connecting."""
    refused: list[str] = []
    killing = threading.Event()

    def connect() -> None:
        while not killing.is_set():
            try:
                socket.create_connection(("127.0.0.1", PORT), timeout=5).close()
            except OSError as error:
                refused.append(str(error))

    connecting = threading.Thread(target=connect)
    connecting.start()
    for _ in range(KILLS):
        docker("exec", NAME, "sh", "-c", "kill -9 $(cat /proc/1/task/1/children)")
        within(
            10,
            lambda: docker("exec", NAME, "cat", "/proc/1/task/1/children").strip(),
            "there is another worker",
        )
    killing.set()
    connecting.join()
    return refused


def files_in_volume() -> dict[str, str]:
    """Return the files by name, without the collector's own. The engine copies them: they are not ours."""
    files = {}
    with tarfile.open(fileobj=BytesIO(docker("cp", f"{NAME}:{LOGS}", "-"))) as archive:
        for member in archive:
            content = archive.extractfile(member)
            name = Path(member.name).name
            if content and not name.startswith("."):
                files[name] = content.read().decode()
    return files


def test_its_healthcheck_finds_the_container_healthy(ran: Ran) -> None:
    assert ran.health == "healthy", ran.log


def test_it_does_not_run_as_root(ran: Ran) -> None:
    assert ran.owner_of_process_1 != "0"


def test_its_user_is_a_number_so_that_it_can_be_seen_not_to_be_root(image: str) -> None:
    assert re.fullmatch(
        r"[1-9]\d*:[1-9]\d*", docker("inspect", "--format={{.Config.User}}", image).decode().strip()
    )


def test_no_connection_is_refused_while_its_worker_is_killed_and_replaced(ran: Ran) -> None:
    assert (KILLS, []) == (ran.killed, ran.refused)


def test_docker_stop_drains_it_and_it_ends_with_exit_code_0(ran: Ran) -> None:
    assert ran.exit_code == "0", ran.log


def test_every_record_of_a_stock_client_is_in_the_volume_after_docker_stop(ran: Ran) -> None:
    expected = {
        "docker_web.log": [f"docker.web INFO record-{number}: 100% of 'it'" for number in range(50)],
        "docker_db.log": [f"docker.db DEBUG record-{number}" for number in range(50)],
    }
    stamp_and_line = re.compile(r"^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\]: (\S+ [A-Z]+) \d+ ", re.MULTILINE)
    assert expected == {
        name: stamp_and_line.sub(r"\1 ", text).splitlines() for name, text in ran.files.items()
    }
