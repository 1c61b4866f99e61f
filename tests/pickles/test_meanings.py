"""What objects stand for, of pickles by hand: of well-known classes, of unknown ones, and of hostile ones."""

from __future__ import annotations

import datetime
import json
import pathlib
import time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from collector.config.tables import Format
from collector.format.renderer import renderer
from collector.pickles.brief import brief, jsonable
from collector.pickles.meanings import scalar_of
from collector.pickles.placeholder import Placeholder, Text
from collector.pickles.well_known import KNOWN
from collector.wire.records import checked


def made(name: str, *args: object, state: object = None, items: Any = None, base: str = "") -> Placeholder:
    module, _, kind = name.rpartition(".")
    value = Placeholder(module, kind, args, base)
    value.state = state
    value.items = items
    return value


def dtype(name: str, order: str = "<", *rest: object) -> Placeholder:
    state = (3, order, None, None, None, -1, -1, 0, *rest)
    return made("numpy.dtype", name, 0, 1, state=state)


CLASS = Placeholder("a", "B")

# --- general forms ---


@pytest.mark.parametrize(
    ("value", "text", "found"),
    [
        pytest.param(made("a.Color", 1), "1", 1, id="an enum"),
        pytest.param(made("a.B.Color", "x"), "x", "x", id="an enum inside a class"),
        pytest.param(made("a.Color", None), "None", None, id="an enum of None"),
        pytest.param(made("a.color", 1), "color(1)", "color(1)", id="a function"),
        pytest.param(made("a.color", 1, base="object"), "1", 1, id="a class in small letters"),
        pytest.param(made("a.Color", made("a.Level", made("b.Istr", "x"))), "x", "x", id="wrapped"),
        pytest.param(made("a.Color", (1, 2)), "Color((1, 2))", [1, 2], id="an enum of a tuple"),
        pytest.param(made("a.Color", (1,)), "Color((1,))", [1], id="an enum of a tuple of one"),
        pytest.param(made("a.Pair", (1, 2), base="tuple"), "Pair(1, 2)", [1, 2], id="a tuple"),
        pytest.param(made("a.Pair", 1, 2, base="object"), "Pair(1, 2)", [1, 2], id="a named tuple"),
        pytest.param(made("a.Call", 1, 2), "Call(1, 2)", "Call(1, 2)", id="a call"),
        pytest.param(made("a.Name", "x", state={"a": 1}, base="str"), "x", "x", id="a str with attributes"),
        pytest.param(made("a.P", state={"x": 1}), "P(x=1)", {"x": 1}, id="attributes"),
        pytest.param(made("a.P", state=(None, {"x": 1})), "P(x=1)", {"x": 1}, id="slots"),
        pytest.param(
            made("a.P", state=({"a": 0}, {"x": 1})), "P(a=0, x=1)", {"a": 0, "x": 1}, id="both of them"
        ),
        pytest.param(
            made("a.P", state={"__dict__": {"x": 1}, "__pydantic_extra__": {"z": 2}}),
            "P(x=1, z=2)",
            {"x": 1, "z": 2},
            id="extras of pydantic",
        ),
        pytest.param(
            made("a.P", state={"__dict__": {}, "__pydantic_extra__": {"a": 1}}),
            "P(a=1)",
            {"a": 1},
            id="extras of pydantic alone",
        ),
        pytest.param(
            made("a.P", state={"__dict__": {}, "__pydantic_extra__": None}),
            "P()",
            {},
            id="pydantic without any",
        ),
        pytest.param(made("a.P", state={1: 2}), "P() {1: 2}", "P() {1: 2}", id="keys that are no text"),
        pytest.param(made("a.P", state=[1]), "P() [1]", "P() [1]", id="another state"),
        pytest.param(made("a.P", state={}), "P() {}", "P() {}", id="no attributes"),
        pytest.param(
            made("a.E", "x", 5, state={"y": 1}), "E('x', 5, y=1)", "E('x', 5, y=1)", id="an exception"
        ),
        pytest.param(made("a.D", items={"a": 1}), "{'a': 1}", {"a": 1}, id="a dict"),
        pytest.param(made("a.D", {"a": 1}, base="dict"), "{'a': 1}", {"a": 1}, id="a dict of protocol 1"),
        pytest.param(made("a.FrozenDict", {"a": 1}), "{'a': 1}", {"a": 1}, id="a dict by its name"),
        pytest.param(made("a.CTR", {"a": 1}), "CTR({'a': 1})", {"a": 1}, id="a Counter's subclass"),
        pytest.param(made("a.CTR", {}), "CTR({})", {}, id="a Counter's subclass without anything"),
        pytest.param(made("a.IdSet", ["x"]), "{'x'}", ["x"], id="a set by its name"),
        pytest.param(made("a.frozenset", [1], base="object"), "{1}", [1], id="a set in small letters"),
        pytest.param(made("a.Asset", [1]), "Asset([1])", [1], id="a set by no word of its name"),
        pytest.param(made("a.Verdict", {"a": 1}), "Verdict({'a': 1})", {"a": 1}, id="nor a dict"),
        pytest.param(made("a.Ids", ["x", 1]), "Ids(['x', 1])", ["x", 1], id="a set's subclass"),
        pytest.param(made("a.Ids", []), "Ids([])", [], id="a set's subclass without anything"),
        pytest.param(
            made("a.Ids", [1], state={"x": 2}), "Ids([1], x=2)", "Ids([1], x=2)", id="a set with attributes"
        ),
        pytest.param(made("a.ids", [1]), "ids([1])", "ids([1])", id="a function of a list"),
        pytest.param(made("a.L", items=[1]), "[1]", [1], id="a list"),
        pytest.param(
            [made("uuid.UUID", state={"int": 7}), "x"],
            "[00000000-0000-0000-0000-000000000007, 'x']",
            ["00000000-0000-0000-0000-000000000007", "x"],
            id="text that is no str",
        ),
        pytest.param(CLASS, "<a.B>", "<a.B>", id="a class"),
        pytest.param(Placeholder("builtins", "int"), "<int>", "<int>", id="a class of Python"),
    ],
)
def test_an_unknown_class_stands_for_what_its_form_tells(value: object, text: str, found: object) -> None:
    assert (text, found) == (brief(value), jsonable(value))


@pytest.mark.parametrize(
    "name",
    [
        "Secret",
        "SecretStr",
        "SecretBytes",
        "ApiSecret",
        "SecretValue",
        "Password",
        "DbPassword",
        "Token",
        "a.Token",
        "Secret[int]",
        "SECRET",
        "APITOKEN",
    ],
)
def test_what_masks_itself_is_masked_wherever_it_stands(name: str) -> None:
    values = [
        made(f"m.{name}", "hunter2"),
        made(f"m.{name}", state={"value": "hunter2"}),
        made(f"m.{name}", state="hunter2"),
    ]
    for value in [
        *values,
        made(f"m.{name}", 1, 2, items=["hunter2"]),
        made(f"m.{name}", ("hunter2",), base="tuple"),
    ]:
        for shown in (
            value,
            [value],
            {"password": value},
            made("a.P", state={"x": value}),
            made("a.C", value),
        ):
            assert "hunter2" not in brief(shown) + json.dumps(jsonable(shown))
            assert "**********" in brief(shown)


def test_a_secret_of_pydantic_is_known_by_its_state() -> None:
    state = {"_secret_value": "hunter2"}
    assert (
        "**********" == brief(made("a.ApiKey", state=state)) == jsonable(made("a.Key", state=(None, state)))
    )


def test_a_url_of_sqlalchemy_shows_no_password_whatever_it_holds() -> None:
    usual: tuple[object, ...] = ("postgresql", "u", "hunter2", "h", 1, "d", {})
    assert "postgresql://u:***@h:1/d" == brief(made("sqlalchemy.engine.url.URL", *usual))
    cases: list[tuple[object, ...]] = [
        (),
        ("x", "hunter2", 3, 4, 5, 6, 7),
        (*usual[:6], {"x": ["hunter2"]}),
        ("hunter2",),
    ]
    for odd in cases:
        for value in (made("sqlalchemy.engine.url.URL", *odd), made("sqlalchemy.URL", odd, base="tuple")):
            assert "**********" == brief(value) == jsonable(value)


LINES = [(b"Authorization", b"authorization", b"hunter2"), (b"X-A", b"x-a", b"\xe9")]


def test_headers_of_httpx_mask_credentials_as_they_do_themselves() -> None:
    value = made("httpx.Headers", state={"_list": LINES, "_encoding": None})
    assert "Headers({'authorization': '[secure]', 'x-a': 'é'})" == brief(value)
    assert {"authorization": "[secure]", "x-a": "é"} == jsonable(value)
    value.state = {"_list": [*LINES, (b"proxy-authorization", b"hunter2"), (b"x-a", b"")]}
    pairs = [("authorization", "[secure]"), ("x-a", "é"), ("proxy-authorization", "[secure]"), ("x-a", "")]
    assert f"Headers({pairs})" == brief(value)
    assert [*map(list, pairs)] == jsonable(value)


@pytest.mark.parametrize(
    "state", [None, {}, LINES, {"_list": {1: LINES}}, {"_list": [*LINES, (b"hunter2",)]}]
)
def test_headers_of_httpx_that_are_odd_are_masked(state: object) -> None:
    value = made("httpx.Headers", LINES, state=state)
    assert "**********" == brief(value) == jsonable(value)


def test_what_a_frozen_dataclass_with_slots_holds_is_shown_without_names() -> None:
    value = made("a.Point", state=[1, "x"], base="object")
    assert ("Point(1, 'x')", [1, "x"]) == (brief(value), jsonable(value))


@pytest.mark.parametrize("name", ["Secrets", "Tokens", "Tokenizer", "PasswordField", "secret"])
def test_other_names_and_keys_are_left_alone(name: str) -> None:
    assert brief(made(f"a.{name}", state={"password": "x"})) == f"{name}(password='x')"
    assert brief({"password": "x", "token": "y"}) == "{'password': 'x', 'token': 'y'}"


def test_a_subclass_of_str_masks_nothing() -> None:
    assert brief(made("a.CsrfToken", "x", base="str")) == "x"
    assert brief(made("a.CsrfToken", "x", base="object")) == "x"


def test_datetimes_are_iso_8601_in_json() -> None:
    moment = datetime.datetime(2024, 2, 29, 12, 34, 56, tzinfo=datetime.timezone.utc)
    assert jsonable([moment, moment.date(), moment.time()]) == [
        "2024-02-29T12:34:56+00:00",
        "2024-02-29",
        "12:34:56",
    ]


HOUR = datetime.timedelta(hours=1)
ZONES = [
    pytest.param(made("pydantic_core._pydantic_core.TzInfo", 3600), "+01:00", id="pydantic"),
    pytest.param(made("ciso8601.FixedOffset", 3600), "+01:00", id="ciso8601"),
    pytest.param(made("psycopg2.tz.FixedOffsetTimezone", 60, None), "+01:00", id="minutes"),
    pytest.param(
        made("aniso8601.UTCOffset", state={"_name": "x", "_utcdelta": HOUR}), "+01:00", id="aniso8601"
    ),
    pytest.param(made("a.Berlin", state=(None, {"shift": HOUR})), "+01:00", id="in a slot"),
    pytest.param(made("a.Berlin", HOUR, "x", state={"again": HOUR}), "+01:00", id="in its arguments"),
    pytest.param(
        made("a.Berlin", state={"a": HOUR, "b": 2 * HOUR}), " Berlin(a=1:00:00, b=2:00:00)", id="of two"
    ),
    pytest.param(made("a.Berlin"), " Berlin()", id="of nothing"),
]


@pytest.mark.parametrize(("zone", "shown"), ZONES)
def test_a_zone_is_its_offset_or_stands_behind_the_time(zone: Placeholder, shown: str) -> None:
    for moment in (datetime.datetime(2024, 2, 29, 12), datetime.time(12)):  # noqa: DTZ001 - as they are sent
        value = made(f"datetime.{type(moment).__name__}", moment, zone)
        iso = moment.isoformat()
        assert f"{moment if shown[0] == '+' else iso}{shown}" == brief(value)
        assert f"{iso}{shown}" == jsonable(value)


def test_a_conversion_to_a_number_takes_what_stands_for_one() -> None:
    form = Format("text", "%(x)05.1f|%(y)03d", "%H", utc=True, newlines="keep")
    number = made("numpy._core.multiarray.scalar", dtype("f8"), b"\0\0\0\0\0\0\xe0?")
    assert renderer(form)(checked({"msg": "m", "x": number, "y": made("a.Level", 7)}), "") == "000.5|007\n"


# --- paths, as pathlib has them ---

names = st.text("abc./\\: ", max_size=6)


@given(st.lists(names, max_size=4))
def test_paths_of_posix_are_spelled_as_pathlib_does(parts: list[str]) -> None:
    assert str(pathlib.PurePosixPath(*parts)) == brief(made("pathlib.PurePosixPath", *parts))


@example("\\\\", "")
@example("\\\\a", "")
@example("\\\\a\\", "")
@example("\\\\a\\b", "")
@given(st.text("abc/\\", max_size=6), st.sampled_from(["", "c:", "c:/", "//h/s/", "\\\\h\\s"]))
def test_paths_of_windows_are_spelled_as_pathlib_does(rest: str, start: str) -> None:
    path = pathlib.PureWindowsPath(start, rest)
    # Before Python 3.12 a share without its name, `\\a\`, becomes something else each time.
    assume(str(path) == str(pathlib.PureWindowsPath(str(path))))
    assert str(path) == brief(made("pathlib.PureWindowsPath", str(path)))
    assert str(path) == brief(made("pathlib.PureWindowsPath", *path.parts))


# --- whatever is sent ---

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=16)
)
packed = st.sampled_from(
    [b"\x07\xe8\x02\x1d\x0c\x22\x38\0\0\0", b"\x07\xe8\x02\x1d", b"\0" * 16, b"\xff" * 12, "\\xff" * 8]
)
kinds = st.sampled_from(
    ["f8", "f2", "f3", "f16", "c8", "c3", "i8", "i0", "U2", "S2", "O8", "M8", "m8", "V2", "b1", "", "x"]
)
units = st.sampled_from(
    [(None, (b"s", 1, 1, 1)), (None, ("as", 10**30, 1, 1)), (None, ("Y", -5, 1, 1)), None, (1,)]
)
dtypes = st.builds(dtype, kinds, st.sampled_from(["<", ">", "|"]), units)
known = st.sampled_from(
    [
        *(f"{root}.{name}" for root, name in KNOWN),
        *(
            "a.DateTime",
            "a.Date",
            "a.Time",
            "datetime.datetime",
            "datetime.time",
            "a.Color",
            "a.MyDict",
            "a.Token",
        ),
        *(
            "pytz._p",
            "pytz.UTC",
            "bson.FixedOffset",
            "ciso8601.FixedOffset",
            "pydantic.MongoDsn",
            "dateutil.tzoffset",
            "dateutil.tzlocal",
            "dateutil.tzfile",
        ),
        *("dateutil._unpickle", "pendulum.Timezone", "zoneinfo.ZoneInfo._unpickle", "pendulum.FixedTimezone"),
    ]
)
KEYS = (
    "int",
    "data",
    "_url",
    "_val",
    "_uri_reference",
    "_offset",
    "_hasdst",
    "_std_offset",
    "_tznames",
    "_ObjectId__id",
    "_list",
    "_store",
    "_datetime",
    "_trans_list_utc",
    "_trans_idx",
    "_transitions",
    "offset",
    "_at",
    "_ttype",
    "__dict__",
)


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    args = st.lists(inner, max_size=8)
    state = st.none() | inner | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4) | args.map(tuple)
    items = st.none() | args | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    bases = st.sampled_from(["", "", "object", "tuple", "str", "dict"])
    thing = st.builds(
        lambda n, a, s, i, b: made(n, *a, state=s, items=i, base=b), known, args, state, items, bases
    )
    moment = st.sampled_from([datetime.datetime(1, 1, 1), datetime.time(1), datetime.timedelta(5)])  # noqa: DTZ001 - as sent
    zone = st.builds(lambda m, z: made("datetime.datetime", m, z), moment, thing)
    return (
        thing
        | thing
        | zone
        | args
        | args.map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    )


@pytest.mark.slow
@given(st.recursive(scalars | packed | dtypes, objects, max_leaves=30))
@settings(deadline=None, max_examples=500)
def test_any_arguments_and_state_have_a_text_and_json(value: object) -> None:
    assert len(brief([value])) <= 4000
    assert json.loads(json.dumps(jsonable(value))) is not Ellipsis
    scalar_of(value)


# --- what it costs ---


def many(value: object) -> Any:
    return [value] * 30_000


def nest(depth: int, width: int) -> Any:
    value: object = "x"
    for _ in range(depth):
        value = made("pathlib.PosixPath", *[value] * width)
    return value


HISTORY = tuple(range(90_000))
EXPENSIVE = {
    "paths in paths": nest(20, 256),
    "calls in calls": nest(20_000, 1),
    "an array of long doubles": made(
        "numpy._frombuffer", (b"\xab" * 8 + b"\xfd?" + b"\0" * 6) * 100, dtype("f16"), (100,), "C"
    ),
    "an array of half floats": made("numpy._frombuffer", b"\x01\x3c" * 100, dtype("f2"), (100,), "C"),
    "lists of nothing": made("numpy._frombuffer", b"", dtype("f8"), (*[100] * 20, 0), "C"),
    "a long history": made(
        "datetime.datetime",
        datetime.datetime(2024, 1, 1),  # noqa: DTZ001 - as it is sent
        made("dateutil._unpickle", CLASS, "k", "f", (HISTORY, HISTORY, HISTORY)),
    ),
    "many attributes": made("a.P", state=dict.fromkeys(map(str, range(90_000)), 1)),
    "attributes that are none": made("a.P", state=dict.fromkeys([*map(str, range(999)), 1], 1)),
    "a decimal": made("bson.Decimal128", state=(0x5FFE << 48, 2**64 - 1)),
    "a huge decimal": Decimal("1E+999999999"),
    "a wide character": made(
        "numpy.scalar",
        made("numpy.dtype", "U16000", state=(3, "<", None, None, None, 64_000, 4, 8)),
        b"a\0\0\0" * 16_000,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPENSIVE)
def test_no_object_costs_much_however_often_it_stands_somewhere(name: str) -> None:
    value = EXPENSIVE[name]
    begun = time.process_time()
    brief(many(value))
    jsonable(many(value))
    form = Format("json", "", "", utc=True, newlines="keep")
    renderer(form)(checked({"msg": "m", **{str(n): value for n in range(2000)}}), "")
    assert time.process_time() - begun < 5


def doubled(leaf: Any, kind: type, times: int) -> Any:
    """Return what a few bytes of a pickle say: so often doubled that nobody ever comes to its end."""
    for _ in range(times):
        leaf = kind((leaf, leaf))
    return leaf


def deep(times: int) -> Any:
    value: Any = ()
    for _ in range(times):
        value = (value,)
    return value


EVIL = {
    "doubled tuples": doubled(1, tuple, 60),
    "doubled lists": doubled(1, list, 60),
    "deep tuples": deep(5000),
    "text in doubled tuples": ("UTC", doubled("x", tuple, 60)),
}


@pytest.mark.slow
@pytest.mark.parametrize("evil", EVIL.values(), ids=EVIL)
def test_no_known_class_follows_what_a_sender_put_where_text_or_a_number_belongs(evil: Any) -> None:
    """To print, hash or compare it would take for ever, or more frames than Python has."""
    begun = time.process_time()
    moment = datetime.datetime(2024, 1, 1)  # noqa: DTZ001 - as it is sent
    for root, kind in sorted(KNOWN):
        name = f"{root}.{kind}"
        found = [
            made(name, *[1] * at, evil, *[1] * (count - at - 1)) for count in range(9) for at in range(count)
        ]
        found += [made(name, state={key: evil}) for key in KEYS]
        found += [made(name, state=tuple([1] * at + [evil] + [1] * (6 - at))) for at in range(7)]
        found += [
            made(name, state={"_uri_reference": ("a", *[evil] * at, "b", *[evil] * (5 - at))})
            for at in range(6)
        ]
        found += [made("datetime.datetime", moment, value) for value in found]
        for value in found:
            brief([value])
            jsonable(value)
            scalar_of(value)
    for unit in (evil, (evil, 1), (evil, 1, 1, 1)):
        kind_of = made("numpy.dtype", "M8", 0, 1, state=(4, "<", None, None, None, -1, -1, 0, ({}, unit)))
        brief([made("numpy.scalar", kind_of, b"\0" * 8)])
    assert time.process_time() - begun < 30


def test_an_array_costs_no_more_than_is_shown_of_it() -> None:
    wide = made("numpy.dtype", "U16000", state=(3, "<", None, None, None, 64_000, 4, 8))
    escaped = made("numpy.dtype", "S40000", state=(3, "|", None, None, None, 40_000, 1, 0))
    for kind, data in ((wide, b"\0" * 6_400_000), (escaped, "\\x00" * 4_000_000)):
        array = made(
            "numpy._core.multiarray._reconstruct", CLASS, (0,), b"b", state=(1, (100,), kind, False, data)
        )
        begun = time.process_time()
        brief([array] * 200)
        jsonable([array] * 200)
        assert time.process_time() - begun < 1


def test_extras_share_the_budget_of_a_line() -> None:
    bomb: Any = ()
    for _ in range(16):
        bomb = (bomb, bomb)
    form = Format("json", "", "", utc=True, newlines="keep")
    line = renderer(form)(checked({"msg": "m", **{str(n): bomb for n in range(2000)}, "last": 5}), "")
    assert len(line) < 32 * 1024 * 1024
    assert json.loads(line)["extra"]["last"] == 5


def test_of_keys_with_one_text_none_loses_its_value() -> None:
    fields = {1: "a", "1": "b", Text("'1'"): "c", None: "d", "None": "e"}
    found = {"1": "a", "'1'": "b", "\"'1'\"": "c", "None": "d", "'None'": "e"}
    form = Format("json", "", "", utc=True, newlines="keep")
    line = renderer(form)(checked({"msg": "m", **{key: [fields] for key in fields}}), "")
    assert jsonable(fields) == found
    assert json.loads(line)["extra"] == {key: [found] for key in found}


def test_keys_are_part_of_what_a_line_may_hold() -> None:
    assert len(json.dumps(jsonable(many({"k" * 1_000_000: 1})))) < 32 * 1024 * 1024


def test_a_text_has_no_quotes_and_json_of_its_own() -> None:
    value = Text("2024 Paris", "2024[Paris]")
    assert (brief([value]), jsonable([value])) == ("[2024 Paris]", ["2024[Paris]"])
