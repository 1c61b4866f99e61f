from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from collector.files.directory import LogDirectory
from collector.files.quarantine import Quarantine, Undecoded
from tests.support.collectors import messages
from tests.support.frames import make_frame
from tests.support.quarantines import framed
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from collector.files.append_file import Lines, Outcome
    from tests.support.collectors import Collector


class File(Quarantine):
    """Keeps what has come of its calls, and raises what kept it from writing."""

    def __init__(self, directory: Path, max_bytes: int) -> None:
        super().__init__(LogDirectory(str(directory)), max_bytes, 0o640, sync=False)
        self.trouble: list[str] = []
        self.frames_gone = 0

    def write(self, lines: Lines) -> Outcome:
        outcome = super().write(lines)
        self.trouble += outcome.trouble
        self.frames_gone += outcome.frames_gone
        if outcome.error:
            raise outcome.error
        return outcome


def write(quarantine: Quarantine, *payloads: bytes) -> None:
    frames = [Undecoded(framed(payload), 1.5, "10.0.0.7:51934", "why") for payload in payloads]
    quarantine.write(quarantine.join(frames, ends=True))


def kept(directory: Path) -> list[bytes]:
    return [
        (directory / name).read_bytes() if (directory / name).exists() else b""
        for name in (".quarantine.1", ".quarantine")
    ]


@pytest.mark.quick
def test_frames_that_cannot_be_decoded_are_kept_as_received(collector: Collector) -> None:
    bad = [b"not a pickle", b"N.", b"\x80\x04" + b"x" * 1000]
    collector.send(framed(bad[0]) + make_frame("good") + framed(bad[1]) + framed(bad[2]))
    file = collector.directory / ".quarantine"
    within(5, lambda: file.exists() and file.read_bytes() == b"".join(map(framed, bad)))
    within(5, lambda: messages(collector) == ["good"])
    within(5, lambda: collector.stderr.count("quarantined") == 3)
    lines = [line for line in collector.stderr.splitlines() if "quarantined" in line]
    assert ["frame of 12 bytes", "frame of 2 bytes", "frame of 1002 bytes"] == [
        line.split(": ")[1].removesuffix(" quarantined") for line in lines
    ]


def test_each_has_a_line_with_its_own_reason_up_to_the_limit_and_the_others_are_counted(
    make_collector: Callable[..., Collector],
) -> None:
    collector = make_collector("[quarantine]\nmax_bytes = 100\n").start()
    bad = [b"N.", b"}.", b"x" * 47]  # the last one is too large
    collector.send(b"".join(framed(bad[n % 3]) for n in range(90)))
    assert collector.stop() == 0
    lines = [line.split(": ", 1)[1] for line in collector.stderr.splitlines() if "frame of" in line]
    kept = [line for line in lines if line.startswith("frame of 2 bytes quarantined: ")]
    assert (20, 2) == (len(kept), len(set(kept)))
    assert 20 == len([line for line in lines if line.startswith("frame of 47 bytes dropped: ")])
    text = re.sub(r"client \S+:", "client N:", collector.stderr)
    assert "40 more left out like: client N: frame of 2 bytes quarantined: " in text
    assert "10 more left out like: client N: frame of 47 bytes dropped: " in text


def test_sending_the_file_to_the_port_replays_it(collector: Collector) -> None:
    bad = framed(b"N.") + framed(b"}.") * 100
    collector.send(bad + make_frame("can be read by now"))
    assert collector.stop() == 0
    path = collector.directory / ".quarantine"
    assert bad == path.read_bytes()
    collector.start().send(path.read_bytes())
    assert collector.stop() == 0
    assert bad + bad == path.read_bytes()


def test_with_max_bytes_0_they_are_dropped_and_counted(make_collector: Callable[..., Collector]) -> None:
    collector = make_collector("[quarantine]\nmax_bytes = 0\n").start()
    collector.send(framed(b"N.") * 3)
    assert collector.stop() == 0
    assert (
        "3 records received from 1 client, 0 written, 0 quarantined, 3 dropped (unreadable)"
        in collector.stderr
    )
    assert not (collector.directory / ".quarantine").exists()


@pytest.mark.parametrize(
    ("size", "taken"), [(45, True), (46, True), (47, False)], ids=["below", "at", "above"]
)
def test_a_frame_larger_than_half_is_dropped(
    make_collector: Callable[..., Collector], size: int, taken: bool
) -> None:
    collector = make_collector("[quarantine]\nmax_bytes = 100\n").start()
    collector.send(framed(b"x" * size))
    assert collector.stop() == 0
    assert (
        "1 quarantined, 0 dropped" if taken else "0 quarantined, 1 dropped (unreadable)"
    ) in collector.stderr


def test_the_older_half_goes_first_and_its_frames_are_counted(tmp_path: Path) -> None:
    quarantine = File(tmp_path, 40)
    frames = [bytes([n]) * 6 for n in range(7)]
    for frame in frames:
        write(quarantine, frame)
    assert [b"".join(map(framed, frames[4:6])), framed(frames[6])] == kept(tmp_path)
    assert 4 == quarantine.frames_gone


def test_frames_of_a_former_run_are_not_counted_when_they_go(tmp_path: Path) -> None:
    for run in range(2):
        quarantine = File(tmp_path, 40)
        for n in range(4):
            write(quarantine, bytes([n]) * 6)
        assert 0 == quarantine.frames_gone, run
    write(quarantine, b"x" * 6)
    assert 2 == quarantine.frames_gone


def test_a_batch_is_split_between_the_halves_and_no_frame_is(tmp_path: Path) -> None:
    quarantine = File(tmp_path, 40)
    frames = [bytes([n]) * 6 for n in range(3)]
    write(quarantine, *frames)
    assert [b"".join(map(framed, frames[:2])), framed(frames[2])] == kept(tmp_path)


def test_what_a_kill_left_of_a_frame_is_cut_off(tmp_path: Path) -> None:
    (tmp_path / ".quarantine").write_bytes(framed(b"whole") + framed(b"cut")[:-1])
    quarantine = File(tmp_path, 1000)
    write(quarantine, b"next")
    assert framed(b"whole") + framed(b"next") == kept(tmp_path)[1]
    assert "cut 6 bytes" in quarantine.trouble[0]


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    os.symlink(tmp_path / "outside", tmp_path / ".quarantine")
    with pytest.raises(OSError, match="quarantine"):
        write(File(tmp_path, 1000), b"x")
    assert not (tmp_path / "outside").exists()


def test_it_is_made_anew_when_somebody_has_moved_it_to_replay_it(tmp_path: Path) -> None:
    quarantine = File(tmp_path, 1000)
    write(quarantine, b"first.", b"second")
    (tmp_path / ".quarantine").rename(tmp_path / "saved")
    write(quarantine, b"third.")
    assert framed(b"third.") == kept(tmp_path)[1]
    assert framed(b"first.") + framed(b"second") == (tmp_path / "saved").read_bytes()
    assert 0 == quarantine.frames_gone
