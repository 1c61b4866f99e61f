"""Recorded input: frames that real clients sent, and what hostile ones could.

`data/frames/STREAM.bin` holds all the frames of one Python as a client would send them, one after the other,
in the order of `data/frames/manifest.json`. `data/values/values.json` has a payload for each kind of value.
`data/hostile/NAME.bin` is all that one hostile connection sends.
"""

from __future__ import annotations

import base64
import json
from functools import cache
from typing import Any

from tests.support.places import DATA

STREAMS = ("2.7", "3.6", "3.8", "3.9", "3.11", "3.13")


@cache
def frames(stream: str) -> list[tuple[dict[str, Any], bytes]]:
    """Return what the manifest says of each frame of a Python, with the frame, length prefix included."""
    manifest = json.loads((DATA / "frames/manifest.json").read_text())
    data = (DATA / f"frames/{stream}.bin").read_bytes()
    found, start = [], 0
    for case in manifest:
        if case["stream"] == stream:
            found.append((case, data[start : start + case["bytes"]]))
            start += case["bytes"]
    assert start == len(data)
    return found


def frame(stream: str, case: str) -> bytes:
    """Return one frame by its name."""
    return next(data for entry, data in frames(stream) if entry["case"] == case)


@cache
def hostile() -> list[dict[str, Any]]:
    """Return the manifest of the hostile input, each with its bytes under "data"."""
    cases: list[dict[str, Any]] = json.loads((DATA / "hostile/manifest.json").read_text())
    return [case | {"data": (DATA / "hostile" / case["file"]).read_bytes()} for case in cases]


PAYLOADS = {(stream, case["case"]): data[4:] for stream in STREAMS for case, data in frames(stream)}
"""Without length prefix, by Python and name."""

VALUES = {
    case["name"]: base64.b64decode(case["payload"])
    for case in json.loads((DATA / "values/values.json").read_text())
}
"""Payloads with an extra `x` of each kind of value, by name."""


def payloads(stream: str) -> list[bytes]:
    """Return the payloads of a Python, or those of "values"."""
    return [*VALUES.values()] if stream == "values" else [data[4:] for _, data in frames(stream)]
