"""The command, with a destination whose package is missing: what any type has in common."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from collector.forward import status
from collector.forward.dead_letters import DeadLetters
from collector.forward.holding import Hold
from collector.forward.progress import Progress
from collector.forward.verdicts import Outgoing
from collector.forward.window import Waiting
from collector.spool.checkpoint import Checkpoint
from collector.spool.reading import OLDEST, Position, SpoolReader
from tests.support.bulk_server import BulkServer, Reply
from tests.support.commands import run
from tests.support.destinations import destination
from tests.support.spool_files import COLLECTOR, SpoolFiles
from tests.support.waiting import within

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow


@pytest.fixture
def spool(tmp_path: Path) -> SpoolFiles:
    return SpoolFiles(tmp_path / "spool")


@pytest.fixture
def config(tmp_path: Path, spool: SpoolFiles) -> str:
    path = tmp_path / "collector.toml"
    path.write_text(
        f'[files]\ndirectory = "{tmp_path}"\n[spool]\ndirectory = "{spool.directory}"\n'
        '[[forward]]\nname = "elk"\ntype = "fluent"\naddress = "127.0.0.1:1"\n'
        '[[forward]]\nname = "siem"\ntype = "relp"\naddress = "127.0.0.1:1"\n'
    )
    return str(path)


@pytest.fixture
def forwarder(config: str, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Return a running one that cannot load msgpack."""
    without = tmp_path / "without"
    without.mkdir()
    (without / "msgpack.py").write_text("raise ImportError('No module named msgpack')")
    path = os.pathsep.join([str(without), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "collector", "forward", "-c", config, "elk"]
    environment = os.environ | {"PYTHONPATH": path}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    yield process
    process.kill()
    process.communicate()


def make_checkpoint(spool: SpoolFiles) -> None:
    path = status.checkpoint_path(str(spool.directory), "elk")
    Checkpoint.create(path, Progress.at(Position(0, 0, 0, 1)).state()).close()


def refuse(spool: SpoolFiles, message: str) -> None:
    spool.write([message])
    for spooled in SpoolReader(str(spool.directory), OLDEST).read(1, 1_000_000):
        one = Waiting(spooled, 0, doubt=False)
        one.outgoing = Outgoing(spooled.id, spooled.epoch, spooled.number, spooled.received, b"")
        one.dead = "mapper"
        DeadLetters(status.dead_letters_path(str(spool.directory), "elk"), 1_000_000).add([one])


def test_without_a_name_it_shows_the_status_of_all(config: str, spool: SpoolFiles) -> None:
    make_checkpoint(spool)
    shown = run("forward", "-c", config)
    assert (0, "") == (shown.returncode, shown.stderr)
    elk, siem = shown.stdout.splitlines()
    numbers = "0 waiting, 0 shipped, 0 duplicate, 0 dropped, 0 filtered, 0 dead"
    assert re.fullmatch(f"elk: does not run; 0 records: {numbers}; at [0-9TZ:-]+", elk)
    assert siem == "siem: has not begun: a running collector makes its checkpoint"


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ({"trouble": "timed out"}, "the oldest that waits came 5.0 s ago; tries again: timed out; at "),
        (
            {"trouble": "no key", "hold": Hold("credentials", "no key", 0.0, "give one")},
            "the oldest that waits came 5.0 s ago; holds since 1970-01-01T00:00:00Z: no key; give one; at ",
        ),
    ],
    ids=["down", "held"],
)
def test_the_status_says_why_records_wait(
    config: str, spool: SpoolFiles, what: dict[str, Any], said: str
) -> None:
    waiting = Progress(Position(7, 0, 0, 3), first=1, numbered=4, shipped=2)
    now = time.time()
    told = status.status_of(
        waiting, **{"hold": None} | what, oldest=int((now - 5) * 1e9), last_success=0, certificate_days=None
    )
    status.write(str(spool.directory), "elk", told | {"time": now})
    shown = run("forward", "-c", config, "elk", "--status").stdout
    assert said in re.sub(r"came \d\.\d s", "came 5.0 s", shown)


def test_a_name_that_is_not_there_is_answered_with_the_nearest(config: str) -> None:
    shown = run("forward", "-c", config, "elc")
    assert shown.returncode == 2
    assert shown.stderr == f'{config}: [[forward]] "elc": no such destination; did you mean elk?\n'


@pytest.mark.parametrize(
    "wrong",
    [
        ["elk", "--resend"],
        ["elk", "--since", "10m"],
        ["elk", "--until", "10m"],
        ["elk", "--until", "1970-01-01T00:00+00:00"],
        ["elk", "--resend", "--since", "10m", "--until", "20m"],
        ["elk", "--resend", "--since", "2999-01-01"],
        ["--dead"],
    ],
    ids=" ".join,
)
def test_what_does_not_go_together_is_refused(wrong: list[str], config: str) -> None:
    shown = run("forward", "-c", config, *wrong)
    assert (2, "") == (shown.returncode, shown.stdout)
    assert shown.stderr.startswith("collector forward: ")


def test_a_time_that_is_none_is_refused(config: str) -> None:
    shown = run("forward", "-c", config, "elk", "--resend", "--since", "noon")
    assert shown.returncode == 2
    assert "noon: must be how long ago, such as 10m" in shown.stderr


@pytest.mark.parametrize(
    "what",
    [
        ["--resend", "--since", "10m"],
        ["--resend", "--since", "today", "--until", "23:59:59"],
        ["--resend-dead"],
    ],
    ids=" ".join,
)
def test_where_there_is_no_spool_nothing_is_sent_again(what: list[str], tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(f'[files]\ndirectory = "{tmp_path}"\n[spool]\n{destination("http://127.0.0.1:1")}')
    shown = run("forward", "-c", str(path), "elk", *what)
    assert shown.returncode == 2
    assert shown.stderr.startswith(f"collector forward: {tmp_path}/.spool: no spool is there; ")


def test_a_template_that_cannot_be_made_is_told_with_the_remedy(tmp_path: Path) -> None:
    with BulkServer() as server:
        server.instead[""] = [Reply(200, b"<html>")]
        path = tmp_path / "c.toml"
        path.write_text(f'[files]\ndirectory = "{tmp_path}"\n[spool]\n{destination(server.url)}')
        shown = run("forward", "-c", str(path), "elk", "--template")
    assert (2, "") == (shown.returncode, shown.stdout)
    assert shown.stderr.endswith("; see whether url is that of the engine\n")


def test_dead_letters_are_shown_in_a_line_each(config: str, spool: SpoolFiles) -> None:
    refuse(spool, "two\nlines")
    shown = run("forward", "-c", config, "elk", "--dead")
    assert (0, "") == (shown.returncode, shown.stderr)
    of = f"{COLLECTOR}-{1:016x}-1 mapper 10.0.0.1:5 app: two\\nlines"
    assert shown.stdout == f"2026-09-21T14:13:21Z {of}\n"


def test_dead_letters_that_cannot_be_read_are_told_of(config: str, spool: SpoolFiles) -> None:
    refuse(spool, "damaged")
    path = spool.directory / "elk.dead"
    path.write_bytes(path.read_bytes().replace(b"damaged", b"damage?"))
    shown = run("forward", "-c", config, "elk", "--dead")
    assert (0, "") == (shown.returncode, shown.stdout)
    assert shown.stderr.startswith(f"elk: {path}: 1 block cannot be read and is not shown: ")
    sent = run("forward", "-c", config, "elk", "--resend-dead")
    assert (1, "0 stored, 0 there already, 0 filtered, 0 refused\n") == (sent.returncode, sent.stdout)
    assert f"elk: {path}.damaged: 1 block cannot be read and is not sent: " in sent.stderr
    shown = run("forward", "-c", config, "elk", "--dead")
    assert (0, "") == (shown.returncode, shown.stdout)
    assert f"elk: {path}.damaged: could not be read, and is kept; see the disk\n" == shown.stderr


def test_what_a_resend_is_refused_is_told_and_a_dead_letter(tmp_path: Path, spool: SpoolFiles) -> None:
    with BulkServer() as server:
        server.errors["poison"] = 400, {"type": "mapper_parsing_exception", "reason": "no"}
        path = tmp_path / "c.toml"
        spooled = f'[spool]\ndirectory = "{spool.directory}"\n{destination(server.url)}'
        path.write_text(f'[files]\ndirectory = "{tmp_path}"\n{spooled}')
        spool.write(["a", "poison", "b"])
        sent = run("forward", "-c", str(path), "elk", "--resend", "--since", "2026-09-01T00:00")

    assert (1, "2 stored, 0 there already, 0 filtered, 1 refused\n") == (sent.returncode, sent.stdout)
    text = "elk: 1 record refused, which is a dead letter now: mapper_parsing_exception"
    assert text == sent.stderr.splitlines()[-1]
    assert (
        "mapper_parsing_exception 10.0.0.1:5 app: poison"
        in run("forward", "-c", str(path), "elk", "--dead").stdout
    )


@pytest.mark.parametrize(
    ("signals", "drain_seconds"),
    [([signal.SIGINT], 1), ([signal.SIGINT, signal.SIGTERM], 60)],
    ids=["at the deadline", "at once"],
)
def test_a_resend_that_is_cut_while_the_destination_hangs_tells_how_far_it_came(
    tmp_path: Path, spool: SpoolFiles, signals: list[int], drain_seconds: int
) -> None:
    go = threading.Event()

    def hang(_: socket.socket) -> None:
        go.wait(60)

    with BulkServer() as server:
        server.instead["_bulk"].append(hang)
        path = tmp_path / "c.toml"
        spooled = f'[spool]\ndirectory = "{spool.directory}"\n{destination(server.url)}'
        path.write_text(
            f'[files]\ndirectory = "{tmp_path}"\n[listen]\ndrain_seconds = {drain_seconds}\n{spooled}'
        )
        spool.write(["a", "b"])
        command = [sys.executable, "-m", "collector", "forward", "-c", str(path), "elk", "--resend"]
        with subprocess.Popen(
            [*command, "--since", "2026-09-01T00:00"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as sending:
            within(20, lambda: any("_bulk" in one.path for one in server.asked), "a request")
            for number in signals:
                sending.send_signal(number)
            said = sending.communicate(timeout=30)
        go.set()
    assert (1, "0 stored, 0 there already, 0 filtered, 0 refused\n") == (sending.returncode, said[0])
    assert said[1].endswith("elk: told to stop; 2 records and what follows left\n")


def test_a_missing_package_holds_and_a_second_process_is_turned_away(
    config: str, spool: SpoolFiles, forwarder: subprocess.Popen[str]
) -> None:
    make_checkpoint(spool)
    spool.write(["a"])
    directory = str(spool.directory)
    within(15, lambda: status.read(directory, "elk").get("held"), "holds")
    held = status.read(directory, "elk")["held"]
    assert held["reason"] == "package"
    second = run("forward", "-c", config, "elk")
    text = f"elk: another forwarder hands over to it, process {forwarder.pid}"
    assert (2, "", f"collector forward: {text}\n") == (second.returncode, second.stdout, second.stderr)
    shown = run("forward", "-c", config, "elk", "--status").stdout
    assert f"elk: runs as process {forwarder.pid}; 1 record: 1 waiting, 0 shipped" in shown
    assert "type = fluent needs a package that cannot be loaded" in shown
    forwarder.send_signal(signal.SIGTERM)
    assert forwarder.wait(10) == 0
    assert "elk: stopped" in forwarder.stderr.read()  # type: ignore[union-attr] # it is a pipe


def test_without_a_destination_there_is_nobody_to_hand_over_to(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(f'[files]\ndirectory = "{tmp_path}"\n[spool]\n')
    shown = run("forward", "-c", str(path))
    assert shown.returncode == 2
    assert shown.stderr == f"{path}: no table [[forward]]: there is nobody to hand over to; add one\n"
    nobody = "no table [[forward]]: there is nobody to hand over to"
    remedy = "name a file with one by -c or COLLECTOR_CONFIG"
    assert run("forward", "elk", "--dead").stderr == f"the defaults: {nobody}; {remedy}\n"


def test_what_keeps_a_forwarder_from_starting_has_the_form_of_the_log(config: str, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("[files]\nmode = 1\n[listen\n")
    for path, name, fault in (
        (str(wrong), "elk", f'{wrong}: line 3: "[listen" is no [table]'),
        (config, "none", f'{config}: [[forward]] "none": no such destination'),
    ):
        ended = run("forward", "-c", path, name, COLLECTOR__LOG__STYLE="json")
        messages = [json.loads(line)["message"] for line in ended.stderr.splitlines()]
        assert ended.returncode == 2
        assert any(message.startswith(fault) for message in messages)
    asked = run("forward", "-c", config, "none", "--dead", COLLECTOR__LOG__STYLE="json")
    assert asked.stderr.startswith(config), "it goes to whoever has asked"
