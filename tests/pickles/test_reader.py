"""What reading a pickle as data gives: of real frames, of hostile ones, of malformed ones and of random ones.

`pickle` itself is the reference for well-formed input. Not tested: codecs other than UTF-8 and Latin-1 for
byte strings of Python 2, and what a platform's shortage of memory does.
"""

from __future__ import annotations

import math
import pickle
import struct
import subprocess
import sys
import tracemalloc
import warnings
from collections import OrderedDict
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.pickles.brief import brief
from collector.pickles.budgets import MAX_CONTAINERS, MAX_DEPTH, MAX_DIGITS, MAX_STRUCTURE
from collector.pickles.errors import RecordError
from collector.pickles.placeholder import Placeholder
from collector.pickles.reader import read
from tests.support.corpus import STREAMS, frame, frames, hostile

MiB = 1024 * 1024
LARGEST_PAYLOAD = 16 * MiB
PREFIX = struct.calcsize(">I")
MOMENT = datetime(2024, 2, 29, 12, 34, 56, 789012)  # noqa: DTZ001 - clients send such, too

# --- pickles by hand ---


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return b"X" + struct.pack("<I", len(data)) + data


def record(value: bytes) -> bytes:
    """Return a pickle of a record whose extra `x` is what the opcodes *value* make."""
    return b"}(" + text("name") + text("app") + text("msg") + text("hello") + text("x") + value + b"u."


def extra(value: bytes, encoding: str = "utf-8") -> Any:
    """Return what the opcodes *value* make of an extra."""
    fields = read(record(value), encoding).value
    assert isinstance(fields, dict)
    return fields["x"]


def call(function: str, *args: bytes) -> bytes:
    module, name = function.rsplit(".", 1)
    return f"c{module}\n{name}\n(".encode() + b"".join(args) + b"tR"


def frame_cases() -> list[Any]:
    return [
        pytest.param(entry, data[PREFIX:], id=f"{stream}-{entry['case']}")
        for stream in STREAMS
        for entry, data in frames(stream)
    ]


def corpus_extra(stream: str, case: str) -> Any:
    fields = read(frame(stream, case)[PREFIX:]).value
    assert isinstance(fields, dict)
    return fields["x_val"]


# --- real frames ---


@pytest.mark.parametrize(("entry", "payload"), frame_cases())
def test_a_real_frame_gives_its_name_level_and_message(entry: dict[str, Any], payload: bytes) -> None:
    fields, over, *_ = read(payload)
    assert isinstance(fields, dict)
    assert (entry["name"], entry["levelno"], "") == (fields["name"], fields["levelno"], over)
    if entry["message"] is None:
        assert entry["message_len"] in {len(fields["msg"]), None}  # None: 256 byte values, escaped or not
    else:
        assert entry["message"] == fields["msg"]
    assert entry["extras"].keys() <= fields.keys()


def test_a_record_without_containers_in_it_is_plain() -> None:
    plain = {entry["case"] for entry, data in frames("3.11") if read(data[PREFIX:]).plain}
    assert {"plain", "typical", "exc_info", "one_mib", "extra_float"} <= plain
    assert not {"extra_list", "extra_bytes", "extra_custom", "extra_uuid", "extra_1500_keys"} & plain


@pytest.mark.parametrize(
    ("case", "value"),
    [
        ("extra_str", "välue"),
        ("extra_int_big", 10**30),
        ("extra_true", True),
        ("extra_none", None),
        ("extra_list", [1, "two", 3.0, None, [4]]),
        ("extra_dict", {"k": "v", "n": {"deep": [1]}}),
        ("extra_dict_nonstr_keys", {1: "a", "(1, 2)": "b", None: "c", 2.5: "d"}),
        ("extra_tuple", (1, "two", (3,))),
        ("extra_bytes", b"\x00\x01\xff raw"),
        ("extra_bytes_empty", b""),
        ("extra_bytearray", bytearray(b"ba\xff")),
        ("extra_complex", 1 + 2j),
        ("extra_datetime", MOMENT),
        ("extra_datetime_utc", MOMENT.replace(tzinfo=timezone.utc)),
        ("extra_datetime_tz", MOMENT.replace(tzinfo=timezone(timedelta(hours=2), "CEST"))),
        ("extra_date", date(2024, 2, 29)),
        ("extra_time", time(12, 34, 56, 789012)),
        ("extra_timedelta", timedelta(1, 2, 3)),
        ("extra_decimal", Decimal("12.50")),
        ("extra_ordereddict", {"z": 1, "a": 2}),
        ("extra_shared", [["s"], ["s"]]),
    ],
)
@pytest.mark.parametrize("stream", ["3.11", "3.13"])
def test_harmless_values_arrive_as_they_were_sent(stream: str, case: str, value: object) -> None:
    assert value == corpus_extra(stream, case)


@pytest.mark.parametrize(
    ("case", "value"),
    [
        ("extra_bytes", "\x00\x01\\xff raw"),
        ("extra_bytearray", bytearray(b"ba\xff")),
        ("extra_datetime", MOMENT),
        ("extra_date", date(2024, 2, 29)),
        ("extra_time", time(12, 34, 56, 789012)),
        ("extra_ordereddict", {"z": 1, "a": 2}),
    ],
)
def test_harmless_values_of_python_2_arrive_too(case: str, value: object) -> None:
    assert value == corpus_extra("2.7", case)


@pytest.mark.parametrize(
    ("case", "shown"),
    [
        ("extra_set", "{1, 2, 3}"),
        ("extra_set_empty", "set()"),
        ("extra_range", "range(0, 3)"),
        ("extra_ellipsis", "Ellipsis"),
        ("extra_datetime_zoneinfo", "2024-02-29 12:34:56.789012 Europe/Paris"),
        ("extra_uuid", "12345678-1234-5678-1234-567812345678"),
        ("extra_path", "/var/log/app.log"),
        ("extra_purepath", "a/b"),
        ("extra_fraction", "1/3"),
        ("extra_ipaddress", "192.0.2.1"),
        ("extra_namedtuple", "Point(1, 2)"),
        ("extra_enum", "1"),
        ("extra_enum_str", "b"),
        ("extra_dataclass", "DC(a=1, b='x')"),
        ("extra_custom", "Custom(a=1, b={'k': [1, 2]})"),
        ("extra_str_subclass", "sub"),
        ("extra_dict_subclass", "{'a': 1}"),
        ("extra_defaultdict", "{'a': 1}"),
        ("extra_counter", "{'a': 2, 'b': 1}"),
        ("extra_deque", "deque([1, 2], maxlen=5)"),
        ("extra_exception", "ValueError('bad', 3)"),
        ("extra_exception_os", "OSError(2, 'No such file', 'f.txt')"),
        ("extra_exception_custom", "MyError(5, 'why', code=5, why='why')"),
        ("extra_type_custom", "<__main__.Custom>"),
        ("extra_function_module", "<posixpath.join>"),
    ],
)
def test_instances_of_other_classes_are_placeholders_with_legible_text(case: str, shown: str) -> None:
    value = corpus_extra("3.11", case)
    assert isinstance(value, Placeholder)
    assert shown == brief(value)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(int, "<int>"), (str, "<str>"), (range, "<range>"), (OrderedDict, "<collections.OrderedDict>")],
    ids=["int", "str", "range", "OrderedDict"],
)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_classes_of_python_3_have_their_own_names_in_every_protocol(
    value: type, shown: str, protocol: int
) -> None:
    fields = read(pickle.dumps({"name": "app", "msg": "hello", "x": value}, protocol)).value
    assert isinstance(fields, dict)
    assert shown == brief(fields["x"])


@pytest.mark.parametrize("name", ["long", "unicode", "xrange"])
def test_classes_of_python_2_have_theirs(name: str) -> None:
    payload = b"}q\x01(U\x04nameU\x03appU\x01xc__builtin__\n" + name.encode() + b"\nu."
    fields = read(payload).value
    assert isinstance(fields, dict)
    assert brief(fields["x"]) == f"<{name}>"


def test_a_classic_instance_of_python_2_is_a_placeholder() -> None:
    fields = read(frame("2.7", "py2_extra_classic_instance")[PREFIX:]).value
    assert isinstance(fields, dict)
    assert brief(fields["old"]) == "Old(a=1)"


# --- hostile frames ---


def hostile_cases(*layers: str) -> list[Any]:
    return [pytest.param(case, id=case["name"]) for case in hostile() if case["layer"] in layers]


def payload_of(case: dict[str, Any]) -> bytes:
    (length,) = struct.unpack_from(">I", case["data"])
    data: bytes = case["data"][PREFIX : PREFIX + length]
    return data


def outcome(payload: bytes) -> str:
    """Return what a collector does with a payload, in the words of the manifest."""
    try:
        value, over, *_ = read(payload)
    except RecordError:
        return "drop"
    if not isinstance(value, dict) or not ("msg" in value or "name" in value):
        return "drop"
    return "write_partial" if over else "write"


@pytest.mark.parametrize("case", hostile_cases("pickle", "field", "name", "injection", "control"))
def test_a_hostile_payload_is_read_or_refused_as_the_manifest_says(case: dict[str, Any]) -> None:
    assert outcome(payload_of(case)) in case["accept"]
    assert not Path("/tmp/PWNED").exists()  # noqa: S108 - it is where they would leave it


@pytest.mark.slow
def test_all_hostile_payloads_together_cost_less_than_a_second_and_64_mib(tmp_path: Path) -> None:
    payloads = [payload_of(case) for case in hostile() if case["layer"] != "framing"]
    frames_long, size = cost(tmp_path, *payloads)
    assert frames_long < 100_000  # of 10 us each
    assert size < 64 * MiB


@pytest.mark.parametrize("case", hostile_cases("injection"))
def test_a_hostile_message_arrives_unchanged(case: dict[str, Any]) -> None:
    message = case.get("check", {}).get("message")
    if message is not None:
        fields = read(payload_of(case)).value
        assert isinstance(fields, dict)
        # The manifest is JSON, which makes one character of two surrogates.
        assert message.encode("utf-16", "surrogatepass") == fields["msg"].encode("utf-16", "surrogatepass")


COST = """
import resource, sys, time
from pathlib import Path
from collector.pickles.errors import RecordError
from collector.pickles.reader import read
from collector.pickles.brief import brief

def seconds(payload):
    began = time.process_time()
    try:
        brief(read(payload).value)
    except RecordError:
        pass
    return time.process_time() - began

typical, *payloads = [Path(name).read_bytes() for name in sys.argv[1:]]
one = min(sum(seconds(typical) for _ in range(1000)) / 1000 for _ in range(3))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
taken = sum(min(seconds(payload) for _ in range(2)) for payload in payloads)
print(taken / one, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def cost(directory: Path, *payloads: bytes) -> tuple[float, float]:
    """Return what reading and showing payloads costs: time, in that of a typical frame, and bytes."""
    files = [directory / str(number) for number in range(len(payloads) + 1)]
    for file, payload in zip(files, (frame("3.11", "typical")[PREFIX:], *payloads), strict=True):
        file.write_bytes(payload)
    done = subprocess.run([sys.executable, "-c", COST, *files], capture_output=True, text=True, check=True)
    frames_long, size = map(float, done.stdout.split())
    return frames_long, size


def filled(unit: bytes, start: bytes = b"") -> bytes:
    return start + unit * ((LARGEST_PAYLOAD - len(start)) // len(unit))


@pytest.mark.slow
@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(filled(b"N"), id="one-byte scalars"),
        pytest.param(filled(b"\x88"), id="rare one-byte scalars"),
        pytest.param(filled(b"U\x02ab"), id="short strings"),
        pytest.param(filled(b"S''\n"), id="quoted strings"),
        pytest.param(filled(b"\\x41", b"S'"), id="a string of escapes"),
        pytest.param(filled(b"S'" + rb"\x41" * 20_000 + b"'\n"), id="strings of escapes"),
        pytest.param(filled(b"\\u", b"V"), id="a string of broken escapes"),
        pytest.param(text(b"\xff" * 16_000_000), id="a string of invalid bytes"),
        pytest.param(filled(text(b"\xff" * 60_000)), id="strings of invalid bytes"),
        pytest.param(filled(b"U\xff" + b"\xff" * 255), id="short strings of invalid bytes"),
        pytest.param(filled(text(b"\xed\xa0\x80" * 60_000 + b"\xff")), id="surrogates"),
        pytest.param(filled(b"L" + b"9" * 600 + b"L\n"), id="long integers"),
        pytest.param(filled(b"}"), id="dicts"),
        pytest.param(filled(b"\x8f"), id="sets"),
        pytest.param(filled(b"(d"), id="marks and dicts"),
        pytest.param(filled(b"\x94", b"N"), id="memo slots"),
        pytest.param(
            b"N" + b"".join(b"p%d\n" % (i * (2**61 - 1)) for i in range(40_000)), id="memo collisions"
        ),
        pytest.param(filled(b"h\0N", b"(" + b"N" * 2_000 + b"tq\0}("), id="a wide tuple as every key"),
        pytest.param(filled(b"h\0\x85N", b"(" + b"N" * 2_000 + b"tq\0}("), id="wide tuples as keys"),
        pytest.param(
            filled(b"h\0h\1R", b"c_codecs\nencode\nq\0(" + text("a" * 8 * MiB) + text("latin1") + b"tq\1("),
            id="copies of 8 MiB",
        ),
        pytest.param(
            filled(b"h\0h\1R", b"cpathlib\nPosixPath\nq\0(" + text("a" * 4_000) + b"tq\1("),
            id="copies of a path",
        ),
        pytest.param(
            filled(b"h\0h\1R", b"ccollections\nOrderedDict\nq\0((lq\2(" + b"(K\1K\2l" * 20_000 + b"etq\1("),
            id="copies of a dict",
        ),
        pytest.param(
            filled(b"h\0h\1\x81", b"ca\nb\nq\0(" + b"N" * 90_000 + b"tq\1("), id="copies of arguments"
        ),
        pytest.param(
            filled(b"q\1h\0h\1" + text("a") + b"\x86R", b"c__builtin__\ngetattr\nq\0cA\nB\n"), id="getattr"
        ),
        pytest.param(filled(b"h\0h\0\x93", text("a" * MiB) + b"q\0"), id="names of 1 MiB"),
    ],
)
def test_a_payload_of_the_largest_size_costs_no_more_than_its_volume_in_typical_frames(
    tmp_path: Path, payload: bytes
) -> None:
    frames_long, size = cost(tmp_path, payload)
    assert frames_long < LARGEST_PAYLOAD / len(frame("3.11", "typical"))
    assert size < 64 * MiB


@pytest.mark.parametrize("depth", [99, 5_000, 45_000])
@pytest.mark.parametrize(
    ("start", "end"), [(b")", b"\x85"), (b"]", b"]"), (b"N", b"}K\1\x87")], ids=["tuple", "list", "mixed"]
)
def test_deep_values_are_read_shown_and_freed_as_values_and_as_keys(
    depth: int, start: bytes, end: bytes
) -> None:
    """As a key, a deep tuple crashes the unpickler of CPython (gh-154318)."""
    depth //= len(end)
    nest = start + end * depth + (b"a" * depth if start == end else b"")
    assert brief(extra(nest)).startswith("((((((" if end[-1:] > b"a" else "[[[[[[")
    assert list(extra(b"}" + nest + b"Ns")) == [brief(extra(nest))]


# --- equivalence ---

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**2000), 2**2000)
    | st.floats(allow_nan=False)
    | st.text(st.characters())
    | st.text(st.characters(categories=["Cs", "L", "Cc"]))
)
keys = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text()
leaves = (
    scalars
    | st.binary()
    | st.binary().map(bytearray)
    | st.complex_numbers(allow_nan=False)
    | st.decimals(allow_nan=False).filter(lambda number: len(str(number)) <= 200)  # longer: a placeholder
    | st.datetimes(timezones=st.just(timezone.utc) | st.none())
    | st.dates()
    | st.times()
    | st.timedeltas()
)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(keys, inner)
        | st.dictionaries(keys, inner).map(OrderedDict)
    ),
)


@given(value=values, protocol=st.integers(0, pickle.HIGHEST_PROTOCOL))
@settings(deadline=None)
def test_what_pickle_wrote_is_read_as_pickle_reads_it(value: object, protocol: int) -> None:
    payload = pickle.dumps(value, protocol)
    assert pickle.loads(payload) == read(payload).value  # noqa: S301 - it is our own


@given(value=values, protocol=st.integers(0, pickle.HIGHEST_PROTOCOL))
@settings(deadline=None)
def test_the_text_of_any_value_is_bounded(value: object, protocol: int) -> None:
    result = read(pickle.dumps(value, protocol)).value
    assert len(brief([result])) <= 4000


def test_a_nan_is_read_in_every_protocol() -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        value = read(pickle.dumps(math.nan, protocol)).value
        assert isinstance(value, float)
        assert math.isnan(value)


def test_a_list_that_holds_itself_is_read() -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        endless: list[object] = []
        endless.append(endless)
        value = read(pickle.dumps(endless, protocol)).value
        assert isinstance(value, list)
        assert value[0] is value


# --- anything at all ---

arguments = st.sampled_from(
    [b"", b"\0", b"\1", b"\2", b"\xff", b"\0\0\0\0", b"\2\0\0\0", b"ab", b"1\n", b"'a'\n", b"a\nb\n"]
)
snippets = st.sampled_from(
    [
        b"N",
        b"K\1",
        b"\x88",
        text("a"),
        b"U\1\xff",
        b"L5L\n",
        b"C\1a",
        b"}",
        b"]",
        b")",
        b"\x8f",
        b"(",
        b"(",
        b"q\0",
        b"h\0",
        b"\x94",
        b"cdatetime\ndate\n",
        b"ca\nb\n",
        b"ccollections\nOrderedDict\n",
        b"ccopy_reg\n_reconstructor\n",
        b"c__builtin__\nbytearray\n",
        b"c__builtin__\ngetattr\n",
        b"cuuid\nUUID\n",
        *(bytes([op]) for op in b"tldu\x85\x86\x87aes\x90\x91R\x81\x92obi021."),
    ]
)
opcodes = st.builds(lambda code, argument: bytes([code]) + argument, st.integers(0, 255), arguments)
programs = st.lists(snippets | snippets | snippets | opcodes, max_size=40).map(b"".join)


@given(payload=st.binary() | programs | programs.map(record) | programs.map(lambda program: program + b"."))
@settings(deadline=None, max_examples=1000)
def test_any_bytes_give_a_reading_or_a_record_error_and_nothing_else(payload: bytes) -> None:
    try:
        value = read(payload).value
    except RecordError:
        return
    assert len(brief([value])) <= 4000


@given(data=st.data(), stream=st.sampled_from(STREAMS))
@settings(deadline=None, max_examples=300)
def test_a_damaged_frame_gives_a_reading_or_a_record_error_and_nothing_else(
    data: st.DataObject, stream: str
) -> None:
    payload = data.draw(st.sampled_from([payload for _, payload in frames(stream) if len(payload) < 2000]))[
        PREFIX:
    ]
    start = data.draw(st.integers(0, len(payload)))
    end = data.draw(st.integers(start, min(start + 4, len(payload))))
    damaged = payload[:start] + data.draw(st.binary(max_size=4)) + payload[end:]
    try:
        value = read(damaged).value
    except RecordError:
        return
    assert len(brief([value])) <= 4000


# --- what is refused ---


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"}", id="no STOP"),
        pytest.param(b"}.}", id="bytes after STOP"),
        pytest.param(b"}..", id="a second STOP"),
        pytest.param(b".", id="STOP on an empty stack"),
        pytest.param(b"NN.", id="two values at STOP"),
        pytest.param(b"(N.", id="a mark open at STOP"),
        pytest.param(b"K", id="no argument"),
        pytest.param(b"M\0", id="half an argument"),
        pytest.param(b"X\2\0\0\0a.", id="a string beyond the end"),
        pytest.param(b"X\xff\xff\xff\xffa.", id="a string of 4 GiB"),
        pytest.param(b"X\1\0\0\0aq", id="a string and half a BINPUT"),
        pytest.param(b"T\xff\xff\xff\xffa.", id="a string of negative length"),
        pytest.param(b"\x8d" + b"\xff" * 8 + b"a.", id="a string of 16 EiB"),
        pytest.param(b"\x8e" + b"\0\0\0\x80\0\0\0\0" + b"a.", id="bytes of 2 GiB"),
        pytest.param(b"\x96" + b"\xff" * 8 + b"a.", id="a bytearray of 16 EiB"),
        pytest.param(b"\x8b\xff\xff\xff\xff.", id="an integer of negative length"),
        pytest.param(b"\x95" + b"\xff" * 8 + b"N.", id="a frame beyond the end"),
        pytest.param(b"I1", id="a line without an end"),
        pytest.param(b"Iabc\n.", id="INT of letters"),
        pytest.param(b"I" + b"1" * 1_000_000 + b"\n.", id="INT of 1e6 digits"),
        pytest.param(b"Labc\n.", id="LONG of letters"),
        pytest.param(b"L" + b"a" * 1000 + b"L\n.", id="LONG of many letters"),
        pytest.param(b"F1e999\n.", id="FLOAT out of range"),
        pytest.param(b"Fabc\n.", id="FLOAT of letters"),
        pytest.param(b"F" + b"1" * 1000 + b"\n.", id="FLOAT of 1000 digits"),
        pytest.param(b"Sabc\n.", id="STRING without quotes"),
        pytest.param(b"S'\n.", id="STRING of one quote"),
        pytest.param(b"S'a\"\n.", id="STRING of two kinds of quotes"),
        pytest.param(b"c\xff\na\n.", id="a class name that is no text"),
        pytest.param(b"NN\x93.", id="STACK_GLOBAL of no text"),
        pytest.param(b"0.", id="POP from an empty stack"),
        pytest.param(b"1.", id="POP_MARK without a mark"),
        pytest.param(b"2.", id="DUP of nothing"),
        pytest.param(b"t.", id="TUPLE without a mark"),
        pytest.param(b"N\x86.", id="TUPLE2 of one value"),
        pytest.param(b"}N(\x85u.", id="TUPLE1 across a mark"),
        pytest.param(b"}(q\0u.", id="BINPUT across a mark"),
        pytest.param(b"h\0.", id="BINGET of an unset slot"),
        pytest.param(b"j\0\0\0\0.", id="LONG_BINGET of an unset slot"),
        pytest.param(b"g0\n.", id="GET of an unset slot"),
        pytest.param(b"Np-1\n.", id="PUT of a negative slot"),
        pytest.param(b"Np4294967296\n.", id="PUT of a slot beyond 32 bits"),
        pytest.param(b"}Na.", id="APPEND to a dict"),
        pytest.param(b"}(Ne.", id="APPENDS to a dict"),
        pytest.param(b"(lNNs.", id="SETITEM on a list"),
        pytest.param(b"](NNu.", id="SETITEMS on a list"),
        pytest.param(b"K\1(K\2K\3u.", id="SETITEMS on an integer"),
        pytest.param(b"}(Nu.", id="SETITEMS of a key alone"),
        pytest.param(b"}(NNu(Nu.", id="SETITEMS of a key alone, later"),
        pytest.param(b"(Nd.", id="DICT of a key alone"),
        pytest.param(b"](N\x90.", id="ADDITEMS to a list"),
        pytest.param(b"ca\nb\n(N\x90.", id="ADDITEMS to a class"),
        pytest.param(b"ca\nb\nNNs.", id="SETITEM on a class"),
        pytest.param(b"K\1)R.", id="REDUCE of an integer"),
        pytest.param(b"ca\nb\n]R.", id="REDUCE with a list"),
        pytest.param(b"ca\nb\n]\x81.", id="NEWOBJ with a list"),
        pytest.param(b"(o.", id="OBJ of nothing"),
        pytest.param(b"(No.", id="OBJ of None"),
        pytest.param(b"}}b.", id="BUILD on a dict"),
        pytest.param(b"ca\nb\n}b.", id="BUILD on a class"),
        pytest.param(b"cuuid\nUUID\n}" + text("int") + b"K\1sb.", id="BUILD on a known class"),
        pytest.param(b"\x80\x06N.", id="protocol 6"),
        pytest.param(b"Pabc\n.", id="PERSID"),
        pytest.param(b"NQ.", id="BINPERSID"),
        pytest.param(b"\x82\1.", id="EXT1"),
        pytest.param(b"\x83\1\0.", id="EXT2"),
        pytest.param(b"\x84\1\0\0\0.", id="EXT4"),
        pytest.param(b"\x97.", id="NEXT_BUFFER"),
        pytest.param(b"N\x98.", id="READONLY_BUFFER"),
        pytest.param(b"\xff.", id="an unknown opcode"),
    ],
)
def test_a_malformed_pickle_is_refused(payload: bytes) -> None:
    with pytest.raises(RecordError, match=r"^byte \d+"):
        read(payload)


@pytest.mark.parametrize("size", range(0, len(frame("3.11", "extra_custom")) - PREFIX, 7))
def test_a_pickle_cut_anywhere_is_refused(size: int) -> None:
    with pytest.raises(RecordError):
        read(frame("3.11", "extra_custom")[PREFIX : PREFIX + size])


def peak_of_reading(payload: bytes) -> int:
    """Return the most memory in use while *payload* is read, in bytes."""
    tracemalloc.start()
    try:
        outcome(payload)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("payload", [b"c" + b"\xff" * 5000 + b"\na\n.", b"I" + b"\x1b" * 5000 + b"\n."])
def test_an_error_is_short_and_printable_whatever_the_payload(payload: bytes) -> None:
    with pytest.raises(RecordError) as caught:
        read(payload)
    assert len(str(caught.value)) < 100
    assert str(caught.value).isprintable()


def test_an_error_names_the_byte_the_opcode_and_the_reason() -> None:
    with pytest.raises(RecordError) as caught:
        read(b"}(" + text("name") + b"Qu.")
    assert str(caught.value) == "byte 11, opcode b'Q': unknown or refused"


def test_a_claim_beyond_the_payload_is_refused_before_any_memory_is_taken() -> None:
    assert peak_of_reading(b"\x8e" + struct.pack("<Q", 2**31) + b"a") < MiB


@pytest.mark.parametrize("slot", [2**25, 2**32 - 1])
def test_a_high_memo_slot_takes_no_memory(slot: int) -> None:
    """In CPython the memo is an array as long as the slot's number (gh-115952)."""
    assert peak_of_reading(record(b"Nr" + struct.pack("<I", slot))) < MiB


def test_nothing_outlives_a_reading() -> None:
    read(record(text("victim data") + b"q\5"))
    with pytest.raises(RecordError):
        read(b"h\5.")


def test_reading_imports_no_unpickler() -> None:
    program = (
        "import sys, collector.pickles.reader; print({'pickle', '_pickle', 'pickletools'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# --- budgets ---


def test_containers_below_at_and_above_the_budget() -> None:
    below, at, above = (read(b"(" + b")" * (MAX_CONTAINERS + more) + b"t.") for more in (-2, -1, 0))
    assert (below.over, at.over, above.over) == ("", "", f"more than {MAX_CONTAINERS} containers")


def test_marks_below_at_and_above_the_depth() -> None:
    below, at, above = (
        read(b"(" * depth + b"t" * depth + b".") for depth in (MAX_DEPTH - 1, MAX_DEPTH, MAX_DEPTH + 1)
    )
    assert (below.over, at.over, above.over) == ("", "", f"more than {MAX_DEPTH} levels")


def test_structure_below_at_and_above_the_budget() -> None:
    """A payload within 1 MiB is never over it, so there is a text of 3 MiB in front, which does not count."""
    count = (MAX_STRUCTURE - len(text("")) - len(b"(t\x86.")) // 2
    below, at, above = (
        read(text("a" * 3 * MiB) + b"(" + b"K\1" * (count + more) + b"t\x86.") for more in (-1, 0, 1)
    )
    assert (below.over, at.over, above.over) == ("", "", f"more than {MAX_STRUCTURE} bytes of structure")


def test_the_contents_of_strings_are_not_counted_as_structure() -> None:
    names = [f"{n:05} " + "x" * 200 for n in range(50_000)]
    assert read(pickle.dumps(names, 1)) == (names, "", False, False)


@pytest.mark.parametrize("code", [b"L%sL\n", b"L%s\n", b"L-%sL\n"])
def test_integers_below_at_and_above_the_digits(code: bytes) -> None:
    sign = b"-" if b"-" in code else b""
    for digits in (MAX_DIGITS - 1, MAX_DIGITS - len(sign)):
        assert int(sign + b"7" * digits) == extra(code % (b"7" * digits))
    assert extra(code % (b"7" * (MAX_DIGITS + 1))).startswith((sign + b"77777").decode())
    assert " digits)" in extra(code % (b"7" * (MAX_DIGITS + 1)))


def test_binary_integers_below_at_and_above_the_digits() -> None:
    for length in (264, 265):
        assert int.from_bytes(b"\x11" * length, "little") == extra(
            b"\x8b" + struct.pack("<i", length) + b"\x11" * length
        )
    above = extra(b"\x8b" + struct.pack("<i", 266) + b"\x11" * 266)
    assert above == f"0x{'11' * 16}... (266 bytes)"


def test_a_record_with_an_endless_integer_survives() -> None:
    fields, over, plain, _ = read(record(b"L1%bL\n" % (b"0" * 5000)))
    assert isinstance(fields, dict)
    assert (fields["msg"], over, plain) == ("hello", "", True)
    assert fields["x"] == f"1{'0' * 59}... (5001 digits)"


def frame_with_extra(value: object, protocol: int) -> bytes:
    return pickle.dumps({"name": "app", "msg": "hello", "x": value}, protocol)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_stood_ahead_of_the_end_of_a_budget_is_kept(protocol: int) -> None:
    value = [[] for _ in range(MAX_CONTAINERS)]  # type: ignore[var-annotated]
    fields, over, plain, _ = read(frame_with_extra({"many": value}, protocol))
    assert isinstance(fields, dict)
    assert (over, plain) == (f"more than {MAX_CONTAINERS} containers", False)
    assert (fields["name"], fields["msg"]) == ("app", "hello")
    assert isinstance(fields["x"], dict)
    assert len(fields["x"]["many"]) > MAX_CONTAINERS / 3


class Password:
    """A secret of an application."""

    def __init__(self) -> None:
        self.value = "hunter2"


class Token(tuple[str, ...]):
    """Another one."""

    __slots__ = ()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "secret",
    [
        {"k": Password()},
        [1, Password(), 2],
        (1, Password()),
        [Password(), Password()],
        {"k": Token(["hunter2"])},
    ],
    ids=["dict", "list", "tuple", "two", "arguments"],
)
def test_a_secret_stays_masked_wherever_the_budget_ends(
    monkeypatch: pytest.MonkeyPatch, protocol: int, secret: object
) -> None:
    monkeypatch.setattr("collector.pickles.machine.MAX_CONTAINERS", 60)
    for count in range(60):
        payload = pickle.dumps({"name": "app", "msg": "hello", "x": [[()] * count, secret]}, protocol)
        assert b"hunter2" in payload
        assert "hunter2" not in brief(read(payload).value)


@pytest.mark.parametrize(
    ("code", "value"),
    [
        pytest.param(b"](K\1(K\2", "[1, (2, ...)]", id="a tuple in a list"),
        pytest.param(b"](]]", "[[], [...]]", id="lists in a list"),
        pytest.param(b"]]](K\1", "[[[1, ...]]]", id="lists of one"),
        pytest.param(b"}" + text("k") + b"](K\1", "{'k': [1, ...]}", id="a list in a dict of one"),
        pytest.param(
            b"}(" + text("k") + b"K\1" + text("l") + b"](K\1",
            "{'k': 1, 'l': [1, ...]}",
            id="a list in a dict",
        ),
        pytest.param(b"ca\nPoint\n(K\1", "Point(1, ...)", id="arguments"),
        pytest.param(b"ca\nDeque\n)R(K\1", "[1, ...]", id="items"),
    ],
)
def test_containers_under_construction_are_kept_as_far_as_they_got(code: bytes, value: str) -> None:
    fields, over, *_ = read(record(code + b"(" * MAX_DEPTH))
    assert isinstance(fields, dict)
    assert over == f"more than {MAX_DEPTH} levels"
    shown = brief(fields["x"])
    start, _, end = value.partition("...")
    assert (shown[: len(start)], shown[-len(end) :]) == (start, end)


def test_where_nothing_was_under_construction_the_value_is_none() -> None:
    assert read(b"\x80\2" * (MAX_CONTAINERS + 1)).value is None


def test_keys_that_use_up_the_budget_lose_no_other_key() -> None:
    wide = b"(" + b"N" * 1000 + b"tq\0"
    payload = b"}(" + text("wide") + wide + b"h\0N" * 1000 + text("name") + text("app") + b"u."
    fields, over, *_ = read(payload)
    assert isinstance(fields, dict)
    assert (fields["name"], over) == ("app", f"more than {MAX_CONTAINERS} containers")


def test_40000_integer_keys_of_one_hash_are_read_in_linear_time(tmp_path: Path) -> None:
    """As integers they would take six seconds."""
    numbers = [n * (2**61 - 1) for n in range(1, 40_001)]
    code = b"}(" + b"".join(b"\x8a\x0b" + n.to_bytes(11, "little") + b"N" for n in numbers) + b"u"
    assert list(extra(code)) == list(map(str, numbers))
    assert cost(tmp_path, record(code))[0] < 30_000


# --- keys ---


@pytest.mark.parametrize(
    ("code", "key"),
    [
        pytest.param(text("a"), "a", id="text"),
        pytest.param(b"N", None, id="None"),
        pytest.param(b"I01\n", True, id="bool"),
        pytest.param(b"G" + struct.pack(">d", 0.5), 0.5, id="float"),
        pytest.param(b"L%d\n" % (2**61 - 2), 2**61 - 2, id="an integer below 2**61 - 1"),
        pytest.param(b"L%d\n" % (2**61 - 1), "2305843009213693951", id="an integer of 2**61 - 1"),
        pytest.param(b"L-%d\n" % (2**61 - 1), "-2305843009213693951", id="a negative one"),
        pytest.param(b"C\1a", "b'a'", id="bytes"),
        pytest.param(b"K\1K\2\x86", "(1, 2)", id="a tuple"),
        pytest.param(b"]", "[]", id="a list"),
        pytest.param(b"}", "{}", id="a dict"),
        pytest.param(b"ca\nb\n", "<a.b>", id="a class"),
        pytest.param(call("decimal.Decimal", text("1.5")), "1.5", id="a rebuilt value"),
    ],
)
@pytest.mark.parametrize(
    "code_of", [b"}%sK\7s", b"}(%sK\7u", b"(%sK\7d"], ids=["SETITEM", "SETITEMS", "DICT"]
)
def test_a_key_is_itself_or_text(code_of: bytes, code: bytes, key: object) -> None:
    assert {key: 7} == extra(code_of % code)
    assert {key: 7} == read(code_of % code + b".").value


def test_of_duplicate_keys_the_last_wins() -> None:
    assert read(b"}(" + text("k") + b"K\1" + text("k") + b"K\2u.").value == {"k": 2}


def test_an_object_and_what_it_stands_for_are_two_keys() -> None:
    member = call("a.Color", text("k"))
    number = call("a.Level", b"K\1")
    for code in (b"}(%sK\7%sK\10u.", b"(%sK\7%sK\10d.", b"}%sK\7s%sK\10s."):
        assert {"k": 7, "'k'": 8} == read(code % (text("k"), member)).value
        assert {"k": 7, "'k'": 8} == read(code % (member, member)).value
        assert {1: 7, "1": 8} == read(code % (b"K\1", number)).value


def test_many_large_keys_of_one_text_use_up_the_budget() -> None:
    large = text("k" * 1_000_000)
    _, over, *_ = read(b"}(" + large + b"q\0N]N" + b"h\0N" * 10_000 + b"u.")
    assert over == f"more than {MAX_CONTAINERS} containers"


# --- plain ---


@pytest.mark.parametrize(
    "fragment",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(text("k") + text("v"), id="text"),
        pytest.param(text("k") + b"q\1" + text("v") + b"q\2", id="text with slots"),
        pytest.param(b"U\1kU\1v", id="strings of Python 2"),
        pytest.param(text("a") + b"N" + text("b") + b"I01\n" + text("c") + b"\x89", id="None and bool"),
        pytest.param(text("a") + b"K\1" + text("b") + b"J\1\0\0\0" + text("c") + b"L5L\n", id="integers"),
        pytest.param(text("k") + b"L" + b"9" * 700 + b"L\n", id="an integer that became text"),
        pytest.param(text("k") + b"G" + b"\0" * 8 + text("l") + b"F1.5\n", id="floats"),
        pytest.param(b"Vk\nS'v'\n", id="protocol 0"),
        pytest.param(b"\x8c\1k\x8a\1\1", id="protocol 4"),
        pytest.param(b"K\1N", id="a key that is no text"),
        pytest.param(text("k") + b"q\1h\1", id="its own slot"),
        pytest.param(text("k") + b"p1\ng1\n", id="its own slot in text"),
        pytest.param(text("k") + b"r\0\1\0\0j\0\1\0\0", id="its own high slot"),
    ],
)
def test_scalars_that_touch_nothing_else_are_plain(fragment: bytes) -> None:
    assert read(b"}(" + fragment + b"u.").plain
    assert read(b"}q\0(" + fragment + b"u.").plain


@pytest.mark.parametrize(
    "fragment",
    [
        pytest.param(text("k") + b"]", id="a list"),
        pytest.param(text("k") + b")", id="a tuple"),
        pytest.param(text("k") + b"}", id="a dict"),
        pytest.param(text("k") + b"\x8f", id="a set"),
        pytest.param(text("k") + b"C\1a", id="bytes"),
        pytest.param(text("k") + b"\x96" + b"\0" * 8, id="a bytearray"),
        pytest.param(text("k") + b"ca\nb\n", id="a class"),
        pytest.param(text("k") + b"NN0", id="POP"),
        pytest.param(text("k") + b"2", id="DUP"),
        pytest.param(b"(1", id="a mark opened and closed"),
        pytest.param(text("k") + b"N\x94", id="MEMOIZE, whose slot depends on what was before"),
        pytest.param(text("k") + b"N\x80\2", id="PROTO"),
        pytest.param(text("k") + b"N\x95" + b"\0" * 8, id="FRAME"),
        pytest.param(text("k") + b"Nu(", id="the dict closed and a mark opened"),
        pytest.param(text("k") + b"Nu(" + text("l") + b"N", id="the dict filled twice"),
        pytest.param(b"u(", id="the dict closed, and filled later"),
        pytest.param(text("k") + b"NsN0(", id="SETITEM"),
    ],
)
def test_all_else_is_not_plain(fragment: bytes) -> None:
    for start in (b"}(", b"}q\0("):
        try:
            plain = read(start + fragment + b"u.").plain
        except RecordError:
            plain = False
        assert not plain


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"}q\0(" + text("self") + b"h\0u.", id="the dict in itself"),
        pytest.param(b"}.", id="an empty dict"),
        pytest.param(b"}N" + text("k") + b"s.", id="SETITEM"),
        pytest.param(b"\x80\2}(u.", id="protocol 2"),
        pytest.param(b"(d.", id="protocol 0"),
        pytest.param(b"N.", id="no dict"),
        pytest.param(b"](e.", id="a list"),
        pytest.param(text("a") + b".", id="text"),
    ],
)
def test_a_payload_that_is_no_dict_of_scalars_made_at_one_go_is_not_plain(payload: bytes) -> None:
    assert not read(payload).plain


@pytest.mark.parametrize(
    "fragment", [text("k") + b"K", text("k") + b"M", text("k")[:-1], b"q", b"I12", b"\x8b\1"]
)
def test_a_fragment_that_would_swallow_what_follows_is_not_plain(fragment: bytes) -> None:
    try:
        plain = read(b"}(" + fragment + b"u.").plain
    except RecordError:
        plain = False
    assert not plain


@given(st.lists(st.dictionaries(st.text(), scalars), max_size=4), st.binary(max_size=8))
@settings(deadline=None)
def test_plain_fragments_say_the_same_together_as_alone(dicts: list[dict[str, Any]], garbage: bytes) -> None:
    fragments = [
        b"".join(pickle.dumps(item, 1)[:-1] for pair in one.items() for item in pair) for one in dicts
    ]
    fragments.append(garbage)
    whole: dict[object, object] = {}
    plain = []
    for fragment in fragments:
        try:
            reading = read(b"}(" + fragment + b"u.")
        except RecordError:
            continue
        if reading.plain:
            assert isinstance(reading.value, dict)
            whole.update(reading.value)
            plain.append(fragment)
    assert read(b"}q\0(" + b"".join(plain) + b"u.") == (whole, "", True, True)


# --- strings ---


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(b"U\6h\xc3\xa9llo", id="SHORT_BINSTRING"),
        pytest.param(b"T\6\0\0\0h\xc3\xa9llo", id="BINSTRING"),
        pytest.param(b"S'h\\xc3\\xa9llo'\n", id="STRING"),
        pytest.param(b"X\6\0\0\0h\xc3\xa9llo", id="BINUNICODE"),
        pytest.param(b"\x8c\6h\xc3\xa9llo", id="SHORT_BINUNICODE"),
        pytest.param(b"\x8d\6\0\0\0\0\0\0\0h\xc3\xa9llo", id="BINUNICODE8"),
        pytest.param(b"Vh\\u00e9llo\n", id="UNICODE"),
        pytest.param(b"Vh\xe9llo\n", id="UNICODE in Latin-1"),
    ],
)
def test_every_string_opcode_gives_text(code: bytes) -> None:
    assert extra(code) == "héllo"


@pytest.mark.parametrize("code", [b"U\3h\xe9y", b"T\3\0\0\0h\xe9y", b"S'h\\xe9y'\n", b"S'h\xe9y'\n"])
def test_byte_strings_of_python_2_are_text_in_the_encoding_or_escaped(code: bytes) -> None:
    assert extra(code, "latin-1") == "héy"
    assert extra(code, "utf-8") == "h\\xe9y"


def test_lone_surrogates_pass_and_invalid_bytes_are_escaped() -> None:
    assert extra(text(b"a\xed\xa0\x80b")) == "a\ud800b"
    assert extra(text(b"a\xffb")) == "a\\xffb"
    assert extra(text(b"\xed\xa0\x80\xff")) == "\\xed\\xa0\\x80\\xff"
    assert extra(b"Va\\u12z\n") == "a\\x5c\\x75\\x31\\x32z"


@pytest.mark.parametrize(
    "code", [text(b"\xff" * 100_000), b"T\xa0\x86\1\0" + b"\xff" * 100_000], ids=["X", "T"]
)
def test_text_that_is_nearly_all_invalid_loses_nothing(code: bytes) -> None:
    assert extra(code) == "\xff" * 100_000


@pytest.mark.parametrize(
    "end", [b"\xed\xa0\x80", b"\xe6\x97", b"\xff"], ids=["a surrogate", "half a character", "a byte"]
)
def test_one_invalid_character_does_not_spoil_a_long_message(end: bytes) -> None:
    message = "日本語 " * 100_000
    data = message.encode() + end
    shown = extra(text(data))
    assert (shown[: len(message)], len(shown) - len(message)) == (message, {3: 1, 2: 8, 1: 4}[len(end)])
    of_python_2 = extra(b"T" + struct.pack("<i", len(data)) + data)
    assert of_python_2 == message + "".join(f"\\x{byte:02x}" for byte in end)


@pytest.mark.parametrize(
    "written", ["a'b", 'a"b', "tab\t nl\n cr\r bs\\ nul\x00", "\x01\x7f", "é", "\\d \\x4 \\", "\\\\n"]
)
def test_the_escapes_of_a_quoted_string_are_undone(written: str) -> None:
    quoted = repr(written.encode())[1:].encode()
    assert extra(b"S" + quoted + b"\n") == written


@pytest.mark.parametrize("odd", [r"\d", r"\x4", r"\xzz", r"\8", r"\u0041", "a\\"])
def test_an_escape_that_no_pickler_writes_stays_as_it_is_and_warns_nobody(odd: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert extra(b"S'" + odd.encode() + b"'\n") == odd


@pytest.mark.parametrize(
    ("escape", "char"), [(r"\101", "A"), (r"\0", "\0"), (r"\7", "\a"), (r"\a\v", "\a\v"), (r"\x41", "A")]
)
def test_octal_and_letter_escapes_are_known(escape: str, char: str) -> None:
    assert extra(b"S'" + escape.encode() + b"'\n") == char


# --- classes ---


@pytest.mark.parametrize(
    ("code", "value"),
    [
        (call("_codecs.encode", text("é"), text("latin-1")), b"\xe9"),
        (call("__builtin__.bytes"), b""),
        (call("builtins.bytearray"), bytearray()),
        (call("builtins.bytearray", b"C\1a"), bytearray(b"a")),
        (call("__builtin__.bytearray", text("é"), text("latin-1")), bytearray(b"\xe9")),
        (call("builtins.complex", b"K\1", b"K\2"), 1 + 2j),
        (
            call("datetime.datetime", b"C\x0a\x07\xe8\x82\x1d\x0c\x22\x38\x0c\x0a\x14"),
            MOMENT.replace(fold=1),
        ),
        (
            call("datetime.timezone", call("datetime.timedelta", b"K\0", b"K\1", b"K\0")),
            timezone(timedelta(seconds=1)),
        ),
        (call("collections.OrderedDict", b"]]K\1aK\2aa"), {1: 2}),
    ],
)
def test_a_known_class_with_fitting_arguments_is_rebuilt(code: bytes, value: object) -> None:
    assert value == extra(code)
    assert type(value) is type(extra(code))


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        (call("_codecs.encode", text("a"), text("punycode")), "encode('a', 'punycode')"),
        (call("_codecs.encode", text("日"), text("latin1")), "encode('日', 'latin1')"),
        (call("_codecs.encode", text("a")), "encode('a')"),
        (call("__builtin__.bytes", b"J\0\0\0\x7f"), "bytes(2130706432)"),
        (call("__builtin__.bytearray", b"J\0\0\0\x7f"), "bytearray(2130706432)"),
        (call("__builtin__.complex", text("1")), "complex('1')"),
        (call("__builtin__.complex", b"L" + b"9" * 400 + b"\n", b"K\0"), "complex(" + "9" * 400 + ", 0)"),
        (
            call("datetime.datetime", b"C\x0a" + b"\xff" * 10),
            r"datetime(b'\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff')",
        ),
        (call("datetime.datetime", b"C\1a"), "datetime(b'a')"),
        (call("datetime.datetime"), "datetime()"),
        (call("datetime.date", b"K\1"), "date(1)"),
        (call("datetime.time", b"C\6" + b"\x19" + b"\0" * 5), r"time(b'\x19\x00\x00\x00\x00\x00')"),
        (call("datetime.timedelta", b"L10000000000\n", b"K\0", b"K\0"), "timedelta(10000000000, 0, 0)"),
        (call("datetime.timedelta", b"L9999999999\n", b"K\0", b"K\0"), "timedelta(9999999999, 0, 0)"),
        (call("datetime.timezone", b"K\1"), "timezone(1)"),
        (
            call("datetime.timezone", call("datetime.timedelta", b"K\2", b"K\0", b"K\0")),
            "timezone(2 days, 0:00:00)",
        ),
        (call("decimal.Decimal", text("x")), "x"),
        (call("decimal.Decimal", text("1" * 201)), "1" * 201),
        (call("pathlib.PosixPath", b"K\1"), "PosixPath(1)"),
        (call("collections.OrderedDict", b"](" + text("ab") + b"e"), "OrderedDict(['ab'])"),
        (call("collections.OrderedDict", b"K\1"), "OrderedDict(1)"),
        (call("copy_reg._reconstructor", b"N", b"N", b"N"), "_reconstructor(None, None, None)"),
        (call("__builtin__.getattr", b"N", text("a")), "getattr(None, 'a')"),
        (call("__builtin__.getattr", b"ca\nB\n", text("c")), "<a.B.c>"),
        (
            b"ccopy_reg\n_reconstructor\n(cuuid\nUUID\nc__builtin__\nobject\nNtR}"
            + text("int")
            + text("x")
            + b"sb",
            "UUID() {'int': 'x'}",
        ),
        (call("os.system", text("touch /tmp/PWNED")), "system('touch /tmp/PWNED')"),
        (b"ca\nB\n)R(K\1tR", "__call__(B(), 1)"),
        (b"ca\nB\nK\1\x85\x81", "1"),
        (b"ca\nB\nK\1\x85}" + text("k") + b"K\2s\x92", "B(1, {'k': 2})"),
        (text("a") + text("B.C") + b"\x93)R", "B.C()"),
        (b"(ca\nB\nK\1o", "1"),
        (b"(K\1ia\nB\n", "1"),
        (b"\x8f(K\1K\2\x90", "{1, 2}"),
        (b"(K\1\x91", "frozenset({1})"),
        (b"ca\nB\n)\x81(K\1K\2eNb", "[1, 2]"),
        (b"ca\nB\n)\x81K\1a}" + text("k") + b"K\2sb", "[1]"),
        (b"ca\rb\n\x1b[2Jc\n", r"<a\rb.\x1b[2Jc>"),
        (call("a." + "n" * 300), "n" * 197 + "...()"),
    ],
)
def test_anything_else_is_a_placeholder(code: bytes, shown: str) -> None:
    value = extra(code)
    assert isinstance(value, Placeholder)
    assert shown == brief(value)


def test_a_decimal_with_an_immense_exponent_is_shown_as_it_was_sent() -> None:
    assert brief(extra(call("decimal.Decimal", text("1E+999999999")))) == "1E+999999999"


def test_what_is_cut_off_behind_a_call_says_so() -> None:
    for code in (b"cm\nf\n)R", b"cm\nf\n)Rq", b"cm\nf\n)Rp-1\n."):
        with pytest.raises(RecordError, match=f"byte {code.index(b'R') + 1}"):
            read(code)


def test_a_uuid_that_occurs_twice_is_text_in_both_places() -> None:
    one = UUID(int=1)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        value = read(pickle.dumps([one, {"k": one}], protocol)).value
        assert brief(value) == f"[{one}, {{'k': {one}}}]"


def test_a_call_at_the_top_level_is_no_dict() -> None:
    value = read(b"cposix\nsystem\n(" + text("touch /tmp/PWNED") + b"tR.").value
    assert isinstance(value, Placeholder)


def test_no_state_reaches_anything_but_the_placeholder_of_an_instance() -> None:
    """BUILD sets attributes: on a class that would hold for the whole process."""
    read(record(b"ca\nB\n)R}" + text("__class__") + b"Nsb"))
    assert Placeholder.__slots__ == ("args", "base", "items", "module", "name", "state")
    assert not hasattr(Placeholder("a", "b"), "__dict__")


# --- text ---


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("text as it is\n", "text as it is\n"),
        ("", ""),
        (None, "None"),
        (True, "True"),
        (7, "7"),
        (0.5, "0.5"),
        (math.inf, "inf"),
        (b"a\x00", r"b'a\x00'"),
        (bytearray(b"a"), "bytearray(b'a')"),
        (1j, "1j"),
        ([], "[]"),
        ((), "()"),
        ((1,), "(1,)"),
        ({}, "{}"),
        ([1, "a\n", None], r"[1, 'a\n', None]"),
        ({"k": (1, 2), 3: {}}, "{'k': (1, 2), 3: {}}"),
        (["\ud800", "\x1b"], r"['\ud800', '\x1b']"),
        ([Decimal("1.50"), date(2024, 2, 29)], "[1.50, 2024-02-29]"),
        ([[[[[[[1]]]]]]], "[[[[[[...]]]]]]"),
        (object(), "<object>"),
    ],
)
def test_the_text_of_a_value(value: object, shown: str) -> None:
    assert shown == brief(value)


def test_text_at_the_top_is_returned_whole() -> None:
    assert brief("a" * 10_000) == "a" * 10_000


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(["a" * 10_000], id="long text"),
        pytest.param(b"a" * 10_000, id="long bytes"),
        pytest.param(bytearray(10_000), id="a long bytearray"),
        pytest.param([0] * 10_000, id="a wide list"),
        pytest.param(dict.fromkeys(range(10_000)), id="a wide dict"),
        pytest.param({"k" * 10_000: 1}, id="a long key"),
        pytest.param([["a" * 3_990], ["b"], ["c"]], id="just short of the end"),
        pytest.param(extra(b"ca\nB\n" + text("a" * 5_000) + b"K\1\x86R]b"), id="long arguments and a state"),
        pytest.param(10**5000, id="a long integer"),
        pytest.param([-(10**5000)], id="a long integer in a list"),
    ],
)
def test_longer_text_is_cut_and_shows_it(value: object) -> None:
    shown = brief(value)
    assert len(shown) == 4000
    assert shown.endswith("...")


@pytest.mark.parametrize("length", [3_995, 3_996, 3_997])
def test_text_below_at_and_above_the_bound(length: int) -> None:
    whole = f"['{'a' * length}']"
    assert brief(["a" * length]) == (whole if len(whole) <= 4000 else whole[:3997] + "...")


def test_a_value_that_holds_itself_is_shown_once() -> None:
    endless: list[object] = [1]
    endless.append(endless)
    mapping: dict[str, object] = {}
    mapping["self"] = mapping
    assert (brief(endless), brief(mapping)) == ("[1, ...]", "{'self': ...}")
    instance = extra(b"ca\nB\n)Rq\0}" + text("me") + b"h\0sb")
    assert brief(instance) == "B(me=...)"


def test_a_value_of_2_to_the_60_leaves_has_a_text() -> None:
    assert len(brief(extra(b")" + b"2\x86" * 60))) <= 4000
