"""What values of other classes are shown as: what `str()` would have shown in the client, and what JSON has.

`data/values/values.json` has pickles that clients made; the rest is what this Python pickles.
"""

from __future__ import annotations

import base64
import enum
import json
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from collector.config.tables import Format
from collector.format.renderer import renderer
from collector.pickles.reader import read
from collector.wire.records import checked
from tests.support.places import DATA

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.collectors import Collector

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


class Name(str, enum.Enum):
    PAY = "payments.eu"


class Level(enum.IntEnum):
    INFO = 20
    WARNING = 30


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_logger_and_a_level_of_enums_go_by_their_rule_and_into_their_file(
    make_collector: Callable[..., Collector], protocol: int
) -> None:
    rule = '[[logger]]\nname = "payments"\nlevel = "WARNING"\n[format]\ntext = "%(name)s %(message)s"\n'
    collector = make_collector(rule).start()
    for level in Level:
        payload = pickle.dumps({"name": Name.PAY, "msg": level.name, "levelno": level}, protocol)
        collector.send(len(payload).to_bytes(4, "big") + payload)
    assert collector.stop() == 0
    assert collector.files() == {"payments_eu.log": b"payments.eu WARNING\n"}
