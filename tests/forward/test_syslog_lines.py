from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from collector.forward.syslog_lines import SHORT_BYTES, SyslogLines
from tests.support.forwarding import record_of
from tests.support.frames import make_payload
from tests.support.syslog_messages import parts

if TYPE_CHECKING:
    from collector.wire.records import Record

CREATED = 1_763_805_600.123456
"""2025-11-22T10:00:00.123456Z."""
PLACE = 'level="INFO" file="/srv/app.py" line="7" function="handle"'
THREAD = 'process_name="MainProcess" thread="9" thread_name="MainThread"'


def record(message: object = "hello", name: str = "app", **fields: Any) -> Record:
    """Return a record from process 7, thread 9."""
    constant = {"process": 7, "thread": 9, "threadName": "MainThread", "processName": "MainProcess"}
    return record_of(
        make_payload(message, name, **{"created": CREATED, "taskName": None, **constant, **fields})
    )


def line(one: Record, peer: str = "10.0.0.7:51934", max_bytes: int = 8000, **keys: str) -> str:
    made = SyslogLines(keys.get("facility", "local0"), keys.get("app_name", "{logger}"), max_bytes)
    return made.line(one, peer, "c0ffee-1-2").decode()


def test_a_record_is_a_header_its_fields_and_the_text() -> None:
    expected = (
        "<134>1 2025-11-22T10:00:00.123456Z 10.0.0.7 app.web 7 - "
        f'[collector@32473 id="c0ffee-1-2" logger="app.web" {PLACE} client="10.0.0.7:51934" {THREAD}] hello'
    )
    assert expected == line(record(name="app.web"))


def test_extras_have_an_element_of_their_own() -> None:
    expected = '][extra@32473 id="mine" user="42" tags="[1, \'x\'\\]"] hello'
    assert line(record(id="mine", user=42, tags=[1, "x"])).endswith(expected)


def test_what_would_end_a_value_is_escaped_and_what_would_break_a_line_is_written_as_python_would() -> None:
    expected = r'[extra@32473 k="a\"b\\c\]d\\ne\\x1bf\\u2028g"] hello'
    assert line(record(k='a"b\\c]d\ne\x1bf\u2028g')).endswith(expected)


def test_names_of_extras_are_made_to_fit_and_none_is_lost_by_it() -> None:
    extras: dict[str, Any] = {"a b": 1, "a=b": 2, "ä" * 40: 3, "": 4}
    expected = f'[extra@32473 a_b="1, 2" {"_" * 32}="3" _="4"] hello'
    assert line(record(**extras)).endswith(expected)


def test_the_text_is_kept_as_it_is_with_the_traceback_and_the_stack_below() -> None:
    one = record("two\nlines\t\x1b é 中", exc_text="Traceback\nValueError: no", stack_info="Stack:\n  here")
    assert line(one).endswith("] two\nlines\t\x1b é 中\nTraceback\nValueError: no\nStack:\n  here")


def test_a_nul_is_written_as_python_would() -> None:
    """rsyslog, told not to escape, drops all other control characters of a text that has one."""
    assert line(record("a\0b\x07", exc_text="c\0d", k="\0")).endswith('k="\\\\x00"] a\\x00b\x07\nc\\x00d')


def test_an_unpaired_surrogate_becomes_text() -> None:
    assert line(record("a\udc80", k="\ud800")).endswith(r'[extra@32473 k="\ud800"] a\udc80')


@pytest.mark.parametrize(
    ("level", "severity"),
    [(60, 2), (50, 2), (49, 3), (40, 3), (30, 4), (25, 6), (20, 6), (10, 7), (0, 7), (-5, 7), (None, 5)],
)
def test_a_level_is_a_severity(level: int | None, severity: int) -> None:
    assert line(record(levelno=level, levelname="LOUD")).startswith(f"<{16 * 8 + severity}>1 ")


def test_a_level_without_a_number_is_the_one_of_its_name() -> None:
    assert line(record(levelno=None, levelname="ERROR")).startswith(f"<{16 * 8 + 3}>1 ")


@pytest.mark.parametrize(("facility", "number"), [("kern", 0), ("user", 1), ("cron", 9), ("local7", 23)])
def test_facilities_have_the_numbers_of_the_rfc(facility: str, number: int) -> None:
    assert line(record(), facility=facility).startswith(f"<{number * 8 + 6}>1 ")


@pytest.mark.parametrize(
    ("app_name", "logger", "expected"),
    [
        ("{logger}", "app.web", "app.web"),
        ("shop", "app.web", "shop"),
        ("py-{logger}", "app.web", "py-app.web"),
        ("{logger}", "a b\nü", "a_b__"),
        ("{logger}", "x" * 60, "x" * 48),
        ("{logger}", "", "-"),
    ],
)
def test_the_app_name_is_that_of_the_settings_as_the_header_may_have_it(
    app_name: str, logger: str, expected: str
) -> None:
    made = line(record(name=logger), app_name=app_name)
    assert expected == parts(made.encode())["app_name"]
    assert f'logger="{logger}"'.replace("\n", r"\\n") in made


@pytest.mark.parametrize(
    ("peer", "host", "client"),
    [
        ("10.0.0.7:51934", "10.0.0.7", ' client="10.0.0.7:51934"'),
        ("[2001:db8::1]:51934", "2001:db8::1", r' client="[2001:db8::1\]:51934"'),
        ("unix", socket.gethostname(), ' client="unix"'),
        ("", socket.gethostname(), ""),
    ],
)
def test_the_host_is_that_of_the_client(peer: str, host: str, client: str) -> None:
    made = line(record(), peer)
    assert host == parts(made.encode())["host"]
    assert client == "".join(re.findall(r' client="[^"]*"', made))


def test_records_that_follow_each_other_have_each_its_own_client_and_time() -> None:
    lines = SyslogLines("local0", "{logger}", 8000)
    times = (CREATED, CREATED, CREATED + 0.1, CREATED + 5, CREATED - 3600, 0.0, 1.9999999)
    peers = ("10.0.0.7:1", "10.0.0.8:1", "", "unix", "10.0.0.7:1", "[::1]:2", "10.0.0.7:1")
    made = [
        parts(lines.line(record(created=one), peer, "i-1-1")) for one, peer in zip(times, peers, strict=True)
    ]
    here = socket.gethostname()
    assert ["10.0.0.7", "10.0.0.8", here, here, "10.0.0.7", "::1", "10.0.0.7"] == [
        one["host"] for one in made
    ]
    expected = ["10:00:00.123456", "10:00:00.123456", "10:00:00.223456", "10:00:05.123456", "09:00:00.123456"]
    assert [*expected, "00:00:00.000000", "00:00:02.000000"] == [one["time"][11:-1] for one in made]


def test_a_record_without_origin_says_so() -> None:
    fields: dict[str, Any] = dict.fromkeys(
        ("process", "thread", "threadName", "processName", "pathname", "funcName")
    )
    made = line(record(lineno=None, levelname=None, levelno=None, **fields))
    assert '- - [collector@32473 id="c0ffee-1-2" logger="app" client="10.0.0.7:51934"] hello' in made


# --- records that are too long ---


def of_bytes(size: int) -> Record:
    """Return a record that is so long when it is rendered."""
    return record("x" * (size - len(line(record("")))))


@pytest.mark.parametrize("size", [7999, 8000])
def test_a_record_up_to_the_limit_is_not_cut(size: int) -> None:
    made = line(of_bytes(size))
    assert size == len(made)
    assert made.endswith("xxxxx")


def test_a_record_above_the_limit_is_cut_to_it_with_a_mark() -> None:
    whole = of_bytes(8001)
    made = line(whole)
    assert 8000 == len(made)
    assert made.endswith(f"xxx... [cut, {len(whole[3])} bytes]")
    assert line(record("")) == made[: len(line(record("")))]


def test_a_control_character_counts_as_what_rsyslog_makes_of_it() -> None:
    made = line(record("line\n" * 4000))
    assert 7_900 < len(made.replace("\n", "#012")) <= 8_000
    assert made.endswith("... [cut, 20000 bytes]")


def test_extras_leave_half_of_a_record_to_its_text() -> None:
    extras: dict[str, Any] = {f"key{number}": "v" * 3000 for number in range(30)}
    made = line(record("m" * 20_000, **extras, last="small"))
    assert 8000 >= len(made) > 7990
    found = parts(made.encode())
    assert 3900 < len(found["text"]) < 5000
    assert ' key0="' + "v" * 3000 + '"' in found["data"]
    assert re.search(r' key1="v+\.\.\. \[cut, 3000 bytes\\\]"', found["data"])
    left_out = int(re.findall(r' left_out="(\d+)"\]$', found["data"])[0])
    assert 31 == left_out + len(re.findall(r" (?:key\d+|last)=", found["data"]))


def test_extras_have_what_the_text_does_not_need() -> None:
    made = line(record("short", large="v" * 7_000))
    assert made.endswith("v" * 7_000 + '"] short')
    assert "left_out" not in made


@pytest.mark.parametrize(("count", "left_out"), [(239, 0), (240, 0), (241, 1), (1500, 1260)])
def test_of_more_extras_than_a_server_keeps_it_is_told_how_many_are_left_out(
    count: int, left_out: int
) -> None:
    lines = SyslogLines("local0", "{logger}", 100_000, max_extras=240)
    extras: dict[str, Any] = {f"key{number}": number for number in range(count)}
    made = lines.line(record("text", **extras), "10.0.0.7:1", "c0ffee-1-2")
    found = parts(made)
    assert min(count, 240) == len(re.findall(r" key\d+=", found["data"]))
    assert ([str(left_out)] if left_out else []) == re.findall(r' left_out="(\d+)"\]$', found["data"])
    assert found["text"] == "text"


VALUES = st.text() | st.integers() | st.lists(st.text(max_size=5)) | st.sampled_from(["\n" * 500, '"' * 900])


@given(
    st.text() | st.sampled_from(["\n" * 5000, "é" * 3000]),
    st.text() | st.just("\\" * 700),
    st.dictionaries(st.text(min_size=1), VALUES, max_size=20),
    st.text(),
    st.sampled_from([480, 481, 600, 8000]),
)
@example("x" * 9000, "y" * 9000, {}, "p" * 9000, 480)
def test_any_record_is_well_formed_and_keeps_to_the_limit(
    message: str, name: str, extras: dict[str, Any], process: str, max_bytes: int
) -> None:
    own = {f"x{key}": value for key, value in extras.items()}
    one = record(message, name, **{"process": process, **own})
    lines = SyslogLines("local7", "{logger}", max_bytes)
    peer = "[2001:0db8:85a3:0000:0000:8a2e:0370:7334]:65535"
    id_ = f"{'f' * 16}-{2**63:016x}-{2**63}"
    for data in (lines.line(one, peer, id_), lines.short(one, peer, id_)):
        assert len(data) <= max_bytes
        assert f' id="{id_}"' in parts(data)["data"]
    assert len(lines.short(one, peer, id_)) <= SHORT_BYTES


def test_reduced_to_text_it_is_one_line_of_the_size_that_everyone_takes() -> None:
    one = record("two\nlines " + "x" * 1000, k="v", exc_text="Traceback")
    data = SyslogLines("local0", "{logger}", 8000).short(one, "10.0.0.7:1", "c0ffee-1-2")
    begin = b'<134>1 2025-11-22T10:00:00.123456Z 10.0.0.7 - - - [collector@32473 id="c0ffee-1-2"] '
    assert data.startswith(begin + rb"INFO app: two\nlines xxx")
    assert data.endswith(b"xxx... [cut, %d bytes]" % len(rb"INFO app: two\nlines " + b"x" * 470))
    assert SHORT_BYTES == len(data)
