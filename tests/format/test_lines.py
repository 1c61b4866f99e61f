from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.config.tables import Format
from collector.escape import escape, unbroken
from collector.format.renderer import renderer
from collector.pickles.brief import jsonable
from collector.wire.records import Record, checked

if TYPE_CHECKING:
    from collections.abc import Iterator

NOON = 1_700_000_000.25
DEFAULT = "[%(asctime)s]: %(name)s %(levelname)s %(lineno)s %(message)s"


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def form(text: str = DEFAULT, **settings: Any) -> Format:
    return replace(Format("text", text, "%Y-%m-%d %H:%M:%S", utc=True, newlines="keep"), **settings)


def record(message: str = "hello", **fields: Any) -> Record:
    everything = {
        "name": "app.web",
        "msg": message,
        "args": None,
        "levelname": "INFO",
        "levelno": 20,
        "pathname": "/srv/app.py",
        "lineno": 42,
        "funcName": "handle",
        "created": NOON,
        "msecs": 250.0,
        "process": 7,
        "processName": "MainProcess",
        "thread": 140_000,
        "threadName": "MainThread",
        "taskName": None,
        "exc_text": None,
        "stack_info": None,
    } | fields
    return checked(everything)


def text(line: str, message: str = "hello", *, newlines: str = "keep", **fields: Any) -> str:
    return renderer(form(line, newlines=newlines))(record(message, **fields), "10.0.0.7:51934")


def as_json(message: str = "hello", **fields: Any) -> dict[str, Any]:
    line = renderer(form(style="json"))(record(message, **fields), "10.0.0.7:51934")
    assert line.endswith("\n")
    assert [line[:-1]] == line.splitlines()
    return json.loads(line)  # type: ignore[no-any-return]


# --- text ---


def test_the_default_format() -> None:
    assert text(DEFAULT) == "[2023-11-14 22:13:20]: app.web INFO 42 hello\n"


@pytest.mark.parametrize(
    ("conversion", "expected"),
    [
        ("%(msecs)03d", "250"),
        ("%(levelname)-8s|", "INFO    |"),
        ("%(levelname).2s", "IN"),
        ("%(lineno)05d", "00042"),
        ("%(lineno)x", "2a"),
        ("%(created).3f", "1700000000.250"),
        ("%(request_id)s", "r-1"),
        ("%(client)s", "10.0.0.7:51934"),
        ("100%% %(message)s", "100% hello"),
        ("%(asctime)30s", "           2023-11-14 22:13:20"),
        ("%(name)r", "'app.web'"),
    ],
)
def test_any_attribute_or_extra_in_any_conversion(conversion: str, expected: str) -> None:
    assert expected + "\n" == text(conversion, request_id="r-1")


@pytest.mark.parametrize("conversion", ["%(nothing)s", "%(nothing)d", "%(taskName)s", "%(exc_text)s"])
def test_what_is_absent_is_a_dash(conversion: str) -> None:
    assert text(conversion) == "-\n"


@pytest.mark.parametrize(
    ("conversion", "value", "expected"),
    [
        ("%(x)d", "many", "many"),
        ("%(x)5d", "ab", "   ab"),
        ("%(x)-5d|", "ab", "ab   |"),
        ("%(x)05d", "ab", "   ab"),
        ("%(x)d", math.inf, "inf"),
        ("%(x)d", math.nan, "nan"),
        ("%(x)x", 1.5, "1.5"),
        ("%(x).2f", "1", "1"),
        ("%(x).2f", 10**400, str(10**400)),
        ("%(x)c", -1, "-1"),
        ("%(x)s", [1, "two"], "[1, 'two']"),
        ("%(x)s", None, "None"),
    ],
)
def test_a_conversion_that_does_not_fit_falls_back_to_text(
    conversion: str, value: object, expected: str
) -> None:
    assert expected + "\n" == text(conversion, x=value)


@pytest.mark.parametrize("conversion", "diouxXeEfFgGcrsa")
@given(
    value=st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.lists(st.integers()),
    flags=st.text("-#0 +", max_size=3),
)
def test_no_value_costs_a_record(conversion: str, value: object, flags: str) -> None:
    line = text(f"[%(x){flags}3.1{conversion}] %(message)s", x=value)
    assert line.endswith("] hello\n")
    assert line.count("\n") == 1


def test_text_from_the_wire_is_never_a_format() -> None:
    assert text("%(message)s %(x)s", "100% %s %(name)s", x="%d") == "100% %s %(name)s %d\n"


def test_traceback_and_stack_stand_on_lines_of_their_own_as_in_logging_formatter() -> None:
    theirs = logging.LogRecord("app", 20, "/srv/app.py", 42, "it failed", None, None)
    theirs.exc_text, theirs.stack_info = "Traceback:\n  boom", "Stack:\n  here"
    expected = logging.Formatter("%(name)s %(message)s").format(theirs) + "\n"
    assert expected == text(
        "%(name)s %(message)s",
        "it failed",
        name="app",
        exc_text="Traceback:\n  boom",
        stack_info="Stack:\n  here",
    )


def test_keep_leaves_message_and_traceback_as_they_are() -> None:
    assert text("%(message)s", "a\r\n\x1b[1mb", exc_text="T\n\tb") == "a\r\n\x1b[1mb\nT\n\tb\n"


def test_escape_makes_one_record_one_line_that_cannot_forge_another() -> None:
    line = text("%(message)s", "a\nb\\n\x1b\x85\u2028", newlines="escape", exc_text="T\n  b", stack_info="S")
    assert line == r"a\nb\\n\x1b\x85\u2028\nT\n  b\nS" + "\n"


@pytest.mark.parametrize("field", ["levelname", "threadName", "funcName", "pathname", "request_id", "name"])
@pytest.mark.parametrize("newlines", ["keep", "escape"])
def test_whatever_is_not_message_or_traceback_is_always_escaped(field: str, newlines: str) -> None:
    assert text(f"%({field})s", newlines=newlines, **{field: "x\nFAKE \x1b[2J"}) == "x\\nFAKE \\x1b[2J\n"


@pytest.mark.parametrize("field", ["name", "levelname", "pathname", "threadName", "x"])
def test_a_backslash_is_doubled_only_where_newlines_are_escaped(field: str) -> None:
    path = "C:\\new\x85\u2029é"
    assert text(f"%({field})s", newlines="keep", **{field: path}) == "C:\\new\\x85\\u2029é\n"
    assert text(f"%({field})s", newlines="escape", **{field: path}) == "C:\\\\new\\x85\\u2029é\n"


@given(st.text())
def test_an_unbroken_text_is_one_line_with_its_backslashes_as_they_were(original: str) -> None:
    found = unbroken(original)
    assert len(f"{found}x".splitlines()) == 1
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in found)


@given(st.text())
def test_an_escaped_text_is_one_line_and_tells_the_original(original: str) -> None:
    escaped = escape(original)
    assert len(f"{escaped}x".splitlines()) == 1
    assert original == escaped.encode("latin-1", "backslashreplace").decode("unicode_escape")


@pytest.mark.parametrize(("utc", "expected"), [(True, "22:13\n"), (False, "07:13\n")])
def test_asctime_is_local_or_utc(monkeypatch: pytest.MonkeyPatch, utc: bool, expected: str) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    assert expected == renderer(form("%(asctime)s", datefmt="%H:%M", utc=utc))(record(), "")


# --- JSON ---


def test_a_json_line_has_the_fields_of_the_contract_and_leaves_out_what_is_absent() -> None:
    assert as_json() == {
        "timestamp": "2023-11-14T22:13:20.250000Z",
        "level": "INFO",
        "logger": "app.web",
        "message": "hello",
        "client": "10.0.0.7:51934",
        "process": 7,
        "process_name": "MainProcess",
        "thread": 140_000,
        "thread_name": "MainThread",
        "file": "/srv/app.py",
        "line": 42,
        "function": "handle",
    }


def test_exception_stack_task_and_extras_have_their_keys() -> None:
    line = as_json(exc_text="T", stack_info="S", taskName="t-1", request_id="r", nested={"a": [1, (2, None)]})
    assert ["T", "S", "t-1", {"request_id": "r", "nested": {"a": [1, [2, None]]}}] == [
        line[key] for key in ("exception", "stack", "task_name", "extra")
    ]


@given(st.text())
def test_any_message_comes_back_from_a_single_line(message: str) -> None:
    encoded = renderer(form(style="json"))(record(message), "").encode("utf-8", "backslashreplace")
    assert len(encoded.decode().splitlines()) == 1
    assert message == json.loads(encoded)["message"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (b"\xff", "b'\\xff'"),
        ({1: "a", None: "b"}, {"1": "a", "None": "b"}),
        (2**70, 2**70),
    ],
    ids=repr,
)
def test_what_json_cannot_hold_is_text(value: object, expected: object) -> None:
    assert expected == as_json(x=value)["extra"]["x"]


def test_a_value_that_a_few_references_make_huge_is_bounded_text() -> None:
    bomb: tuple[Any, ...] = ()
    for _ in range(60):
        bomb = (bomb, bomb)
    value = jsonable(bomb)
    assert isinstance(value, str)
    assert len(value) <= 4100


def test_a_list_that_contains_itself_is_bounded_text() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert isinstance(jsonable(loop), str)
