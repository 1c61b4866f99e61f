"""The hostile corpus against a running collector: each case is all that one connection sends.

Its manifest says what a collector should do ("expect"), which other answers are right ("accept"), and what
must be found in the files ("check").
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import Collector, within
from tests.corpus import hostile
from tests.test_server import make_frame

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_SECONDS = 1.0
MAX_GROWTH_KB = 64 * 1024
PWNED = Path("/tmp/PWNED")  # noqa: S108 - where the corpus would leave its mark
CASES = [case for case in hostile() if case["layer"] in ("pickle", "name", "field", "injection", "control")]


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    collector = Collector(tmp_path_factory.mktemp("victim"), '[format]\nstyle = "json"\n').start()
    collector.send(make_frame("first of all: after a flood of names new ones have no file", "sentinel"))
    yield collector
    assert collector.running, collector.stderr
    assert collector.stop() == 0


def lines_of(collector: Collector) -> list[dict[str, Any]]:
    return [json.loads(line) for data in collector.files().values() for line in data.splitlines()]


def peak_kb(collector: Collector) -> int:
    """Return the peak of resident memory, and start a new one."""
    process = Path(f"/proc/{collector.worker}")
    status = (process / "status").read_text()
    (process / "clear_refs").write_text("5")
    return int(status.split("VmHWM:")[1].split()[0])


def as_utf16(text: str) -> bytes:
    """A pair of lone surrogates is a character once it has been through JSON."""
    return text.encode("utf-16", "surrogatepass")


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["name"]))
def test_each_case_gets_an_answer_that_its_manifest_accepts(victim: Collector, case: dict[str, Any]) -> None:
    outside = set(victim.directory.parent.iterdir())
    peak_kb(victim)
    before, log_before = len(lines_of(victim)), len(victim.stderr)
    resident = peak_kb(victim)
    sentinel = f"after {case['name']} {time.monotonic()}"
    begun = time.monotonic()
    victim.send(case["data"] + make_frame(sentinel, "sentinel"))
    within(
        10, lambda: any(sentinel in line for line in victim.lines("sentinel.log")), "the sentinel is written"
    )
    assert time.monotonic() - begun < MAX_SECONDS
    assert peak_kb(victim) - resident < MAX_GROWTH_KB

    found = lines_of(victim)
    log = victim.stderr[log_before:]
    check = case.get("check", {})
    written = len(found) - before - 1
    if written and "message" in check and case["expect"] == "drop":
        written -= 1  # a good record follows the bad one in the same stream
    if "written in part" in log:
        answer = "write_partial"
    else:
        answer = "write" if written else "drop"
    assert answer in case["accept"]

    if case["name"] == "name_flood":
        assert written == check["count"]
    elif check.get("message") is not None:
        assert as_utf16(check["message"]) in [as_utf16(line["message"]) for line in found]
    if check.get("name") is not None:
        # An empty name is the root logger's file, and itself in the line.
        assert check["name"] in [line["logger"] for line in found]
    assert not PWNED.exists()
    assert outside == set(victim.directory.parent.iterdir())
    assert all(
        not path.is_symlink() and (path.is_dir() or path.is_file()) for path in victim.directory.rglob("*")
    )
