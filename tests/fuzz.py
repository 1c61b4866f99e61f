"""Fuzz target for headers, framing, pickles, records and lines: `python -m tests.fuzz [SECONDS [--keep]]`.

The invariant: any bytes give a header, none, or wait for more; they give payloads or a FrameError, any
payload a record or a RecordError, by fragments the same as without, and any record its line; nothing
else, and no case takes a second. Guided by coverage where atheris is installed (it has wheels for some
Pythons only), else by chance. It begins with recorded frames, hostile input, headers, and what former runs
with --keep found to reach new code: tests/data/fuzz.bin, a frame each.
"""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import json
import os
import random
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from collector.config.load import load
from collector.format.renderer import renderer
from collector.pickles.errors import RecordError
from collector.wire.fragments import RecordReader
from collector.wire.framing import FrameSplitter
from collector.wire.payloads import read_fields
from collector.wire.proxy_header import ProxyHeader
from collector.wire.records import checked, message_of, name_of
from tests.support.corpus import STREAMS, frames, hostile
from tests.support.places import DATA
from tests.support.proxy_headers import BROKEN, HEADERS

VALUES = DATA / "values" / "values.json"
KEPT = DATA / "fuzz.bin"
DEFAULT_SECONDS = 60
MAX_CASE_SECONDS = 1
MAX_FRAME_BYTES = 1 << 20
MAX_SEED_BYTES = 2000
STYLES = (("json", ""), ("text", "%(name)s %(x)s %(x_val)s %(message)s"))

_form = load(None).format
_renders = [renderer(replace(_form, text=text, style=style)) for style, text in STYLES]
_reader = RecordReader()


def check(data: bytes) -> None:
    """Hold the invariant against one stream."""
    begun = time.process_time()
    header = ProxyHeader()
    assert 0 <= header.feed(data) <= len(data)
    assert not (header.complete and header.fault)
    splitter = FrameSplitter(MAX_FRAME_BYTES)
    for payload in splitter.feed(data) or [data]:
        expected: object = None
        with contextlib.suppress(RecordError):
            fields, over = read_fields(payload)
            record = checked(fields)
            expected = name_of(record), message_of(record), over
        actual: object = None
        in_part: list[tuple[int, str]] = []
        for record in _reader.read([payload], [], in_part):
            actual = name_of(record), message_of(record), in_part[0][1] if in_part else ""
            assert all(render(record, "peer").endswith("\n") for render in _renders)
        assert expected == actual
    assert time.process_time() - begun < MAX_CASE_SECONDS


def seeds() -> list[bytes]:
    """Return short recorded frames and hostile input, and what former runs have found."""
    recorded = [data for stream in STREAMS for _, data in frames(stream)]
    found = FrameSplitter(MAX_FRAME_BYTES).feed(KEPT.read_bytes())
    values = [base64.b64decode(case["payload"]) for case in json.loads(VALUES.read_text())]
    headers = [*BROKEN.values(), *(data for data, _ in HEADERS.values())]
    return [
        data
        for data in (*recorded, *(case["data"] for case in hostile()), *found, *headers, *values)
        if len(data) < MAX_SEED_BYTES
    ]


def run_guided(seconds: int, *, keep: bool) -> None:
    """Fuzz with coverage; ends the process, with what atheris has to say."""
    import atheris

    with tempfile.TemporaryDirectory() as scratch:
        found, start = Path(scratch, "found"), Path(scratch, "start")
        found.mkdir()
        start.mkdir()
        for number, seed in enumerate(seeds()):
            (start / str(number)).write_bytes(seed)
        child = os.fork()  # atheris ends its process; there is something to do after it
        if not child:
            options = [f"-max_total_time={seconds}", f"-max_len={MAX_SEED_BYTES}", "-verbosity=0"]
            atheris.instrument_all()
            atheris.Setup([sys.argv[0], *options, "-print_final_stats=1", str(found), str(start)], check)
            atheris.Fuzz()
        _, status = os.waitpid(child, 0)
        if keep:
            new = [path.read_bytes() for path in sorted(found.iterdir())]
            kept = FrameSplitter(MAX_FRAME_BYTES).feed(KEPT.read_bytes())
            KEPT.write_bytes(
                b"".join(len(data).to_bytes(4, "big") + data for data in dict.fromkeys(kept + new))
            )
    sys.exit(os.waitstatus_to_exitcode(status))


def run_by_chance(seconds: int) -> None:
    """Fuzz by putting pieces of the seeds into each other, for so long."""
    chance = random.Random(0)  # noqa: S311 - to be repeatable
    begun, cases = time.monotonic(), 0
    known = seeds()
    while time.monotonic() - begun < seconds:
        data = bytearray(chance.choice(known))
        for _ in range(chance.randint(1, 8)):
            place = chance.randrange(len(data) + 1)
            other = chance.choice(known)
            cut = chance.randrange(len(other) + 1)
            data[place : place + chance.randint(0, 8)] = other[cut : cut + chance.randint(0, 40)]
        check(bytes(data))
        cases += 1
    print(f"{cases} cases by chance, nothing found")


if __name__ == "__main__":
    limit = int(sys.argv[1]) if sys.argv[1:] else DEFAULT_SECONDS
    if importlib.util.find_spec("atheris"):
        run_guided(limit, keep="--keep" in sys.argv)
    else:
        run_by_chance(limit)
