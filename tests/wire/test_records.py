from __future__ import annotations

import enum
import gc
import logging
import math
import pickle
import sys
import time
from datetime import datetime, timezone
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from collector.pickles.errors import RecordError
from collector.pickles.placeholder import Placeholder
from collector.stats import Stats
from collector.wire.fragments import RecordReader
from collector.wire.payloads import read_fields
from collector.wire.records import Record, checked, fields_of, level_of, message_of, name_of
from tests.support.corpus import PAYLOADS, STREAMS, frames
from tests.support.frames import make_payload
from tests.support.memory import memory_taken

SHORT = [payload for payload in PAYLOADS.values() if len(payload) < 5000]


def read_one(reader: RecordReader, payload: bytes) -> Record:
    return read_with_budget(reader, payload)[0]


def read_with_budget(reader: RecordReader, payload: bytes) -> tuple[Record, str]:
    """Return the record, and the budget that ran out, if one did."""
    unreadable: list[tuple[bytes, RecordError]] = []
    in_part: list[tuple[int, str]] = []
    records = list(reader.read([payload], unreadable, in_part))
    for _, fault in unreadable:
        raise fault
    (record,) = records
    for size, budget in in_part:
        assert len(payload) == size
        return record, budget
    return record, ""


def told(record: Record, over: str) -> tuple[object, ...]:
    """Return all that a record says, so that two can be compared: nan is itself here, 1 is not 1.0."""
    _, _, _, message, created, *_ = record
    fields = {key: shown(value) for key, value in fields_of(record).items()}
    return (name_of(record), message, level_of(record), created, fields, over)


def shown(value: object, depth: int = 8) -> object:
    kind = type(value).__name__
    parts: object = value
    if not depth:
        return kind
    if isinstance(value, Placeholder):
        parts = [getattr(value, name) for name in value.__slots__]
    if isinstance(parts, dict):
        return kind, [(shown(key, depth - 1), shown(item, depth - 1)) for key, item in parts.items()]
    if isinstance(parts, (list, tuple)):
        return kind, [shown(item, depth - 1) for item in parts]
    return kind, repr(value)


def by_reader_alone(payload: bytes) -> object:
    try:
        fields, over = read_fields(payload)
        return told(checked(fields), over)
    except RecordError:
        return RecordError


def by_fragments(reader: RecordReader, payload: bytes) -> object:
    try:
        return told(*read_with_budget(reader, payload))
    except RecordError:
        return RecordError


def clockless(answer: object) -> object:
    """A `created` that is of no use becomes the time of receipt, which is different each time."""
    if isinstance(answer, tuple) and abs(answer[3] - time.time()) < 60:
        fields = {key: value for key, value in answer[4].items() if key not in ("created", "msecs")}
        return (*answer[:3], "now", fields, answer[5])
    return answer


# --- the fields ---


def test_every_frame_of_every_python_gives_its_name_level_and_message() -> None:
    reader = RecordReader()
    for stream in STREAMS:
        for case, data in frames(stream):
            for _ in range(3):  # read whole, learned, and found again
                record, over = read_with_budget(reader, data[4:])
                message = message_of(record)
                assert (case["name"], case["levelno"], "") == (name_of(record), level_of(record), over), case
                if case["message"] is not None:
                    assert case["message"] == message
                elif case["message_len"] is not None:
                    assert case["message_len"] == len(message)


@pytest.mark.parametrize("value", [None, [1], 5, 1.5, True, {"a": 1}], ids=repr)
def test_a_name_that_is_no_text_becomes_text(value: object) -> None:
    assert isinstance(name_of(checked({"name": value, "msg": "m"})), str)


@pytest.mark.parametrize(
    "created", [math.nan, math.inf, -1.0, 1e18, 253402300800.0, True, "now", [1], 10**40, None]
)
def test_a_time_of_no_use_becomes_the_time_of_receipt(created: object) -> None:
    assert abs(checked({"msg": "m", "created": created})[4] - time.time()) < 5


@pytest.mark.parametrize("created", [0.0, 0, 1_700_000_000, 253402214399.0])
def test_any_time_until_the_year_10000_is_taken(created: float) -> None:
    assert created == fields_of(checked({"msg": "m", "created": created}))["created"]


@pytest.mark.parametrize(
    ("levelno", "expected"),
    [(20, 20), (-5, -5), (10**30, 10**30), (40.0, 40), (20.5, None), (math.inf, None), (True, None)],
)
def test_a_level_is_an_integer_or_none(levelno: object, expected: object) -> None:
    assert expected == level_of(checked({"msg": "m", "levelno": levelno}))


class Name(str, enum.Enum):
    SHOP = "apps.shop"


class Level(enum.IntEnum):
    NOTICE = 25


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_subclass_of_text_or_integer_in_any_field_is_that_text_or_integer(protocol: int) -> None:
    fields = {
        "name": Name.SHOP,
        "msg": Name.SHOP,
        "levelno": Level.NOTICE,
        "levelname": Name.SHOP,
        "lineno": Level.NOTICE,
        "pathname": Name.SHOP,
        "threadName": Name.SHOP,
        "process": Level.NOTICE,
        "exc_text": Name.SHOP,
        "created": Ratio(1.25),
    }
    reader = RecordReader()
    record = read_one(reader, pickle.dumps(fields, protocol))
    found = fields_of(record)
    assert ("apps.shop", 25, "apps.shop") == (name_of(record), level_of(record), message_of(record))
    assert {"apps.shop"} == {found[key] for key in ("levelname", "pathname", "threadName", "exc_text")}
    assert [25, 25, 1.25] == [found[key] for key in ("lineno", "process", "created")]
    assert type(found["pathname"]) is str
    assert type(found["lineno"]) is int


class Ratio(float):
    """A number of an application."""


def test_what_cannot_be_read_is_let_go_without_a_garbage_collection() -> None:
    """The frame of whoever has read it holds the faults, and their tracebacks would hold that frame."""
    payloads = [b"none", b"}q\x00(broken", b'{"msg": 1, x}']

    def read() -> int:
        unreadable: list[tuple[bytes, RecordError]] = []
        assert [] == list(RecordReader().read(payloads, unreadable, []))
        return len(unreadable)

    before = [sys.getrefcount(payload) for payload in payloads]
    gc.disable()
    try:
        assert 3 == read()
        assert before == [sys.getrefcount(payload) for payload in payloads]
    finally:
        gc.enable()


@pytest.mark.parametrize("blank", [False, 0, "", "\n", " \t"], ids=repr)
@pytest.mark.parametrize("key", ["exc_text", "stack_info"])
def test_a_traceback_or_stack_that_says_nothing_is_absent(key: str, blank: object) -> None:
    """picologging sends False, loguru a newline; both in every record, so it is found by its fragments."""
    reader = RecordReader()
    payload = make_payload("m", "app", **{key: blank})
    _, second, third = records = [read_one(reader, payload) for _ in range(3)]
    assert [None] * 3 == [fields_of(record)[key] for record in records]
    assert second[1] is third[1]
    assert fields_of(checked({"msg": "m", key: blank}))[key] is None


@pytest.mark.parametrize(("levelno", "name"), [(20, "INFO"), (35, "Level 35"), ("x", None)])
def test_a_level_without_a_name_has_the_one_of_logging(levelno: object, name: str | None) -> None:
    record = checked({"msg": "m", "levelno": levelno})
    assert name == fields_of(record).get("levelname")
    payload = make_payload(levelno=levelno, levelname=None)
    reader = RecordReader()
    for _ in range(3):
        assert name == fields_of(read_one(reader, payload)).get("levelname")


@pytest.mark.parametrize(("name", "levelno"), [("ERROR", 40), ("warn", 30), ("NOTICE", None), (5, None)])
def test_a_well_known_level_without_a_number_has_its_own(name: object, levelno: int | None) -> None:
    assert levelno == level_of(checked({"msg": "m", "levelname": name}))
    payload = make_payload(levelno=None, levelname=name)
    reader = RecordReader()
    assert [levelno] * 3 == [level_of(read_one(reader, payload)) for _ in range(3)]


@pytest.mark.parametrize(
    ("created", "msecs"), [(1.25, 250.0), (1_700_000_000.123456, 123.456), (5, 0.0), (0.9999999, 999.999)]
)
def test_a_time_without_milliseconds_has_its_own(created: float, msecs: float) -> None:
    for absent in ({}, {"msecs": None}, {"msecs": "x"}, {"msecs": 1_795_659_470_537}):  # picologging's
        assert msecs == fields_of(checked({"msg": "m", "created": created, **absent}))["msecs"]
    assert fields_of(checked({"msg": "m", "created": created, "msecs": 7}))["msecs"] == 7


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"message": "hello"}, "hello"),
        ({"message": "hello", "args": (1,)}, "hello"),
        ({"msg": None, "message": "hello"}, "hello"),
        ({"name": "app"}, ""),
        ({"name": "app", "message": None}, ""),
        ({"msg": "", "message": "other"}, "other"),
        ({"msg": "", "message": None, "args": (1,)}, " (1,)"),
    ],
    ids=repr,
)
def test_a_message_without_msg_is_the_message(fields: dict[str, object], message: str) -> None:
    assert message == checked(fields)[3]


def test_a_traceback_where_exc_info_should_be_is_the_traceback() -> None:
    assert fields_of(checked({"msg": "m", "exc_info": "Traceback"}))["exc_text"] == "Traceback"
    assert fields_of(checked({"msg": "m", "exc_info": "T", "exc_text": "own"}))["exc_text"] == "own"


@pytest.mark.parametrize("args", [(), [], {}, None], ids=repr)
def test_no_arguments_add_nothing(args: object) -> None:
    assert checked({"msg": "100% done", "args": args})[3] == "100% done"


def test_arguments_are_merged_or_shown_behind_the_message() -> None:
    assert checked({"msg": "%s of %d", "args": ("a", 2)})[3] == "a of 2"
    assert checked({"msg": "%*d", "args": (999999999, 5)})[3] == "%*d (999999999, 5)"


def test_the_message_is_authoritative_over_what_a_formatter_left() -> None:
    assert fields_of(checked({"msg": "m", "message": "other", "asctime": "never"}))["message"] == "m"


def test_keys_named_like_methods_are_only_keys() -> None:
    *_, extra = checked({"msg": "m", "getMessage": "x", "__class__": 5})
    assert extra == {"getMessage": "x", "__class__": 5}


@pytest.mark.parametrize("fields", [{}, {"level": 1}, {1: 2}], ids=repr)
def test_what_has_neither_message_nor_name_is_no_record(fields: dict[Any, object]) -> None:
    with pytest.raises(RecordError, match="not the fields of a LogRecord"):
        checked(fields)


# --- the fragments ---


def test_a_stock_frame_is_found_by_its_fragments_from_the_second_time_on() -> None:
    reader = RecordReader()
    read_one(reader, make_payload("zero"))
    first = read_one(reader, make_payload("one"))
    second = read_one(reader, make_payload("two"))
    assert first[:3] == second[:3]


def test_an_extra_that_changes_leaves_the_other_fragments_found() -> None:
    reader = RecordReader()
    read_one(reader, make_payload("zero", request_id="r-0"))
    first = read_one(reader, make_payload("one", request_id="r-1"))
    second = read_one(reader, make_payload("two", request_id="r-2"))
    assert first[:3] == second[:3]
    assert [{"request_id": "r-1"}, {"request_id": "r-2"}] == [first[7], second[7]]


def test_threads_and_loggers_whose_names_differ_in_length_are_found_in_turn() -> None:
    reader = RecordReader()
    for _ in range(3):
        for n in (1, 10, 255, 256, 1000):
            payload = make_payload("m", name="n" * n, threadName="t" * n)
            assert by_reader_alone(payload) == by_fragments(reader, payload)


def test_a_frame_of_python_2_is_found_too() -> None:
    reader = RecordReader()
    payload = PAYLOADS["2.7", "typical"]
    read_one(reader, payload)
    first = read_one(reader, payload)
    second = read_one(reader, payload)
    assert first[:3] == second[:3]


@pytest.mark.parametrize("stream", STREAMS)
def test_recorded_frames_say_the_same_however_they_are_read(stream: str) -> None:
    reader = RecordReader()
    for _ in range(3):
        for case, data in frames(stream):
            assert by_reader_alone(data[4:]) == by_fragments(reader, data[4:]), case["case"]


def test_a_reference_to_another_fragment_is_not_remembered() -> None:
    name = "main"
    record = logging.LogRecord(name, logging.INFO, "/srv/main.py", 7, "m", None, None, name)
    payload = pickle.dumps(record.__dict__, 1)
    assert b"h\x02" in payload
    reader = RecordReader()
    for other in ("other", "main", "other", "main", "other"):
        head = payload.replace(b"X\x04\x00\x00\x00main", b"X%c\x00\x00\x00" % len(other) + other.encode(), 1)
        assert by_reader_alone(head) == by_fragments(reader, head)
        assert fields_of(read_one(reader, head))["funcName"] == other


@pytest.mark.parametrize(
    "rest",
    [
        b"2K\x01",
        b"0N",
        b"1}(",
        b"q\x90X\x01\x00\x00\x00aq\x91h\x90",
        b"X\x01\x00\x00\x00a\x94h\x00",
        b"X\x01\x00\x00\x00a]\x94h\x30",
        b"X\x01\x00\x00\x00ah\x00",
        b"uq\x90(X\x01\x00\x00\x00ah\x90",
        b"X\x01\x00\x00\x00aNu2X\x01\x00\x00\x00bNs0(",
        b"X\x01\x00\x00\x00a(]lt0K\x01K\x02",
    ],
    ids=[
        "DUP",
        "POP",
        "POP_MARK",
        "BINPUT of what is before",
        "MEMOIZE of a string",
        "MEMOIZE of a list",
        "BINGET of the dict",
        "BINPUT of the dict",
        "DUP of the dict",
        "POP of a key",
    ],
)
def test_extras_that_reach_below_them_are_read_with_the_rest(rest: bytes) -> None:
    payload = make_payload()
    reader = RecordReader()
    for data in (payload, payload, make_payload(a=[1]), payload[:-2] + rest + b"u."):
        assert by_reader_alone(data) == by_fragments(reader, data)


class Basket:
    """An object of an application."""

    def __init__(self) -> None:
        self.items = {"apples": 3}


@pytest.mark.parametrize(
    "value",
    [
        [1, ["a"]],
        {"user": {"roles": ("x", None)}},
        datetime(2026, 11, 22, tzinfo=timezone.utc),
        UUID(int=7),
        Basket(),
    ],
    ids=["list", "dict", "datetime", "UUID", "object"],
)
def test_extras_with_containers_leave_the_other_fragments_found(value: object) -> None:
    reader = RecordReader()
    payload = make_payload("zero", extra=value, again=value)
    for _ in range(2):
        read_one(reader, payload)
    first, second = read_one(reader, payload), read_one(reader, payload)
    assert first[1] is second[1]
    assert by_reader_alone(payload) == by_fragments(reader, payload)


def test_an_object_that_its_state_replaces_is_the_same_in_any_memo_slot() -> None:
    reader = RecordReader()
    start = make_payload()[:-2]
    uuid = make_payload(id=UUID(int=7))[len(start) : -2]
    put = uuid.index(b"Rq") + len(b"R")
    for slot in range(64):
        put_and_got = uuid[:put] + b"q%c" % slot + uuid[put + 2 :] + b"X\x01\x00\x00\x00bh%c" % slot
        for data in (make_payload(a=[1]), start + put_and_got + b"u."):
            assert by_reader_alone(data) == by_fragments(reader, data)


def test_what_comes_but_once_is_not_remembered() -> None:
    reader = RecordReader()
    for n in range(10):
        payload = make_payload("m", name=f"request.{n}", lineno=n)
        once, twice, again = (read_one(reader, payload) for _ in range(3))
        assert once[0] is not twice[0] is again[0]
        assert once[1] is not twice[1] is again[1]


def test_a_call_site_that_overlaps_with_the_next_key_is_none() -> None:
    payload = make_payload("m")
    end = payload.index(b"msgq\x03X\x01\x00\x00\x00m") + len(b"msgq\x03X\x01\x00\x00\x00m")
    data = payload[:end] + b"q" + payload[payload.index(b"X\x07\x00\x00\x00createdq") :]
    assert by_reader_alone(data) == by_fragments(RecordReader(), data)


def test_what_is_cut_off_is_not_taken_for_a_whole_frame() -> None:
    reader = RecordReader()
    payload = make_payload(request_id="x")
    for _ in range(2):
        read_one(reader, payload)
    for end in range(len(payload)):
        assert by_fragments(reader, payload[:end]) is RecordError, end


@pytest.mark.slow
def test_the_memory_is_bounded_and_a_flood_costs_others_nothing_for_good() -> None:
    reader = RecordReader()
    for n in range(10_000):
        for _ in range(2):
            read_one(reader, make_payload("m", name=f"logger.{n}", threadName=f"Thread-{n}", lineno=n))
    # Memory itself goes up and down as each is forgotten at its bound: to see that takes a minute.
    for memory in (reader._heads, reader._sites, reader._tails, reader._tails_before_extra):  # noqa: SLF001 - the bound
        assert len(memory) <= 4096
    assert len(reader._seen) <= 4096  # noqa: SLF001 - as above
    read_one(reader, make_payload("zero"))
    first = read_one(reader, make_payload("one"))
    second = read_one(reader, make_payload("two"))
    assert first[1] is second[1]


def python_2(process_name: str = "MainProcess", more: bytes = b"") -> bytes:
    """Return a frame of Python 2 with this processName, and with *more* in front of its thread."""
    payload = PAYLOADS["2.7", "typical"]
    before, _, after = payload.partition(b"U\x0bMainProcess")
    assert after
    name = process_name.encode()
    before = before.replace(b"U\x06threadq", more + b"U\x06threadq")
    return before + b"T" + len(name).to_bytes(4, "little") + name + after


def test_long_names_of_processes_of_python_2_are_not_remembered() -> None:
    reader = RecordReader()
    with memory_taken() as taken:
        for n in range(20):
            for _ in range(2):
                assert by_reader_alone(python_2()) == by_fragments(reader, python_2())
                payload = python_2(f"{n}" + "x" * 30_000)
                assert by_reader_alone(payload) == by_fragments(reader, payload)
        assert taken() < 100_000


@pytest.mark.parametrize("python", [2, 3])
def test_what_uses_up_a_budget_does_so_however_it_is_read(python: int) -> None:
    many = b"U\x06module" + b"q\x20N" + b"h\x20N" * 150_000
    message = "m" * 1_000_000
    if python == 2:
        payload = python_2("p" * 1_000_000, many)
    else:
        bad = b"X\xe8\xfd\x00\x00" + b"\xff" * 65_000
        payload = make_payload(message, name="N" * 1950, exc_text="E" * 65_000, extra="X" * 65_000)
        for letter in (b"E", b"X"):
            payload = payload.replace(b"X\xe8\xfd\x00\x00" + letter * 65_000, bad)
        payload = payload.replace(b"N" * 1950, b"\xff" * 1950)
    reader = RecordReader()
    for _ in range(3):
        assert clockless(by_reader_alone(payload)) == clockless(by_fragments(reader, payload))
    assert by_reader_alone(payload)[-1]  # type: ignore[index] # a budget has run out


def test_threads_with_extras_are_found_in_turn() -> None:
    reader = RecordReader()
    for _ in range(3):
        for thread in range(3):
            payload = make_payload(threadName=f"thread-{thread}", extra=thread)
            assert by_reader_alone(payload) == by_fragments(reader, payload)


def test_byte_strings_in_extras_are_read_in_the_encoding_that_is_set() -> None:
    reader = RecordReader("latin-1")
    payload = make_payload(a=[1])[:-2] + b"X\x01\x00\x00\x00bU\x01\xe9u."
    for _ in range(3):
        assert read_one(reader, payload)[7]["b"] == "\xe9"


# Mutations that move boundaries, double keys, refer to other slots, or end early.
def mutated(payload: bytes, other: bytes, cuts: tuple[int, int, int, int], piece: bytes) -> bytes:
    a, b, c, d = (cut % (len(payload) + 1) for cut in cuts)
    a, b = sorted((a, b))
    c, d = sorted((c % (len(other) + 1), d % (len(other) + 1)))
    return payload[:a] + piece + other[c : min(d, c + 200)] + payload[b:]


PIECES = st.sampled_from(
    [
        b"",
        *(b"h%c" % slot for slot in range(32)),
        *(b"q%c" % slot for slot in range(32)),
        b"0",
        b"1",
        b"2",
        b"(",
        b"}",
        b"u",
        b".",
        b"u.",
        b"N",
        b"K\x05",
        b"X\x03\x00\x00\x00msgq\x03X\x01\x00\x00\x00y",
        b"X\x07\x00\x00\x00createdq\x15G@\x00\x00\x00\x00\x00\x00\x00",
        b"X\x07\x00\x00\x00levelnoq\x08K\x32",
        b"X\x04\x00\x00\x00nameq\x01X\x01\x00\x00\x00zq\x02",
        b"X\x04\x00\x00\x00argsq\x05(K\x01t",
        b"10}(",
        b"c__main__\nC\n",
    ]
)


@settings(max_examples=400, deadline=None)
@given(
    payload=st.sampled_from(SHORT),
    other=st.sampled_from(SHORT),
    cuts=st.tuples(*[st.integers(0, 5000)] * 4),
    piece=PIECES,
    flips=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=2),
)
@example(payload=SHORT[0], other=SHORT[1], cuts=(0, 0, 0, 0), piece=b"", flips=[])
def test_any_mutation_of_real_frames_says_the_same_however_it_is_read(
    payload: bytes, other: bytes, cuts: tuple[int, int, int, int], piece: bytes, flips: list[tuple[int, int]]
) -> None:
    reader = RecordReader()
    for known in (payload, payload, other, other):
        read_one(reader, known)
    damaged = bytearray(mutated(payload, other, cuts, piece))
    for place, byte in flips:
        if damaged:
            damaged[place % len(damaged)] = byte
    for data in (payload, bytes(damaged), other, bytes(damaged)):
        assert clockless(by_reader_alone(data)) == clockless(by_fragments(reader, data))


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
OBJECTS = st.datetimes() | st.uuids() | st.decimals() | st.complex_numbers() | st.builds(Basket)


def containers(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    tuples, dicts = st.tuples(values, values), st.dictionaries(SCALARS, values)
    return st.lists(values) | tuples | dicts | st.frozensets(SCALARS)


STANDARD_TEXTS = st.sampled_from(["app", "INFO", "handle"])
VALUES = st.recursive(SCALARS | OBJECTS | STANDARD_TEXTS, containers, max_leaves=10)
# What a stock client would not send so, but look at while it makes the payload.
OTHERS = {"message", "name", "args", "exc_info"}
KEYS = st.text(min_size=1, max_size=10).filter(lambda key: key not in OTHERS)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(
    messages=st.lists(st.text() | st.none() | st.integers(), min_size=1, max_size=3),
    name=st.text(max_size=20),
    extra=st.dictionaries(KEYS, VALUES, max_size=4),
)
def test_any_record_of_a_stock_client_says_the_same_however_it_is_read(
    messages: list[object], name: str, extra: dict[str, object]
) -> None:
    reader = RecordReader()
    for message in (None, None, *messages):
        payload = make_payload(message, name, **extra)
        assert clockless(by_reader_alone(payload)) == clockless(by_fragments(reader, payload))


def test_each_record_is_counted_even_if_another_has_the_same_call_site_and_other_keys() -> None:
    stats = Stats()
    reader = RecordReader(stats=stats)
    payload = make_payload()
    odd = payload.replace(b"msecsq\x16G", b"msecsq\x96G").replace(
        b"relativeCreatedq\x17G", b"relativeCreatedq\x97G"
    )
    unreadable = payload.replace(b"msecsq\x16G", b"mseczq\x16G")
    assert len({payload, odd, unreadable}) == 3
    for data in (payload, payload, odd, payload, unreadable, payload, odd):
        read_one(reader, data)
    reader.count_up()
    assert {"INFO": 7} == stats.levels()


def test_huge_names_are_not_remembered() -> None:
    reader = RecordReader()
    for n in range(20):
        read_one(reader, make_payload("m", name=f"{n}" * 100_000))
        read_one(reader, make_payload("m", taskName=f"{n}" * 30_000))
    remembered = [key for memory in vars(reader).values() if isinstance(memory, dict) for key in memory]
    assert all(len(key) <= 2048 for key in remembered if isinstance(key, bytes))
