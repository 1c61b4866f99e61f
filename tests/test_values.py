"""What values of other classes are shown as: what `str()` would have shown in the client, and what JSON has.

`data/values/values.json` has pickles that clients made; the rest is what this Python pickles.
"""

from __future__ import annotations

import base64
import json
import pickle
from typing import Any

import pytest

from collector.config import Format
from collector.lines import renderer
from collector.pickles import read
from collector.records import checked
from tests.corpus import DATA

CASES = json.loads((DATA / "values/values.json").read_text())


def line_of(payload: bytes, style: str) -> str:
    form = Format(style, "%(x)s", "%H:%M:%S", utc=True, newlines="keep")
    fields = read(payload).value
    assert isinstance(fields, dict)
    return renderer(form)(checked(fields), "peer")


def extra_of(payload: bytes) -> Any:
    return json.loads(line_of(payload, "json"))["extra"]["x"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["name"]))
def test_a_value_of_a_client_is_shown_as_the_client_would_have(case: dict[str, Any]) -> None:
    payload = base64.b64decode(case["payload"])
    line = line_of(payload, "text")
    match case["text"][:1]:
        case "~":
            assert case["text"][1:] in line
        case "!":
            assert case["text"][1:] not in line + line_of(payload, "json")
        case _:
            assert case["text"] + "\n" == line
    if case["json"] is not None:
        assert case["json"] == extra_of(payload)


def dump(value: object, protocol: int) -> bytes:
    return pickle.dumps({"name": "app", "msg": "hello", "x": value}, protocol)
