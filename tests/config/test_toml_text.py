"""The text of a TOML file: what it means, and how a fault in it is told."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.config.load import ConfigError, load, parse
from collector.config.toml_text import MOST_FAULTS
from tests.support.places import MANUAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Faults = Callable[[str], list[str]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("a = 1", {"a": 1}),
        ("a = 1\r\nb = 2\r\n", {"a": 1, "b": 2}),
        ("\t a=1 \t#b=2\n\n", {"a": 1}),
        ("a = 1_000", {"a": 1000}),
        ("a = -1", {"a": -1}),
        ("a = +0.5", {"a": 0.5}),
        ("a = inf", {"a": float("inf")}),
        ("a = true\nb = false", {"a": True, "b": False}),
        ('a = "[x], {y} = #z"', {"a": "[x], {y} = #z"}),
        ("a = '\"\\'", {"a": '"\\'}),
        ('a = "\'"', {"a": "'"}),
        (r'a = "\"\\\t\n\u00e9"', {"a": '"\\\t\né'}),
        (r'a = "\\n"', {"a": "\\n"}),
        (r'a = "\u005cn"', {"a": "\\n"}),
        (r'a = "\u0022"', {"a": '"'}),
        ('a = "世 界"', {"a": "世 界"}),
        ("a = []", {"a": []}),
        ("a = ['x', \"y, z\"]", {"a": ["x", "y, z"]}),
        ("a = [ # ]\n 'x', # '\n\n 'y',\n]", {"a": ["x", "y"]}),
        ("a = {}", {"a": {}}),
        ("a = { b = 1, c = 'x, y = {' }", {"a": {"b": 1, "c": "x, y = {"}}),
        ("[a]", {"a": {}}),
        ("[ a ] # c\nb = 1\n[c.d]\ne = 2", {"a": {"b": 1}, "c": {"d": {"e": 2}}}),
        ("a.b.c = 1\na.b.d = 2", {"a": {"b": {"c": 1, "d": 2}}}),
        ("[[a]]\nb = 1\n[[ a ]]\n[a.c]\nd = 2", {"a": [{"b": 1}, {"c": {"d": 2}}]}),
        ("[a.b]\n[a]\nc = 1", {"a": {"b": {}, "c": 1}}),
    ],
)
def test_a_text_is_read_as_toml_says(text: str, expected: object) -> None:
    assert expected == parse(text, "file")


# toml 0.10.2 reads ten of these without a word, and raises IndexError at two.
BROKEN = {
    "an array left open": "allow = [",
    "an array left open before a table": "allow = [\n[listen]",
    "an array of text left open": 'allow = ["10.0.0.0/8",',
    "an array closed twice": "a = ['b']]",
    "an array without commas": "a = ['b' 'c']",
    "an array with a comma too many": "a = ['b',,'c']",
    "an inline table left open": "a = { b = 1",
    "an inline table on two lines": "a = { b = 1,\n c = 2 }",
    "an inline table with a comma too many": "a = { b = 1, }",
    "a text left open": 'a = "b',
    "a literal text left open": "a = 'b",
    "a text with a quote too many": 'a = "b""',
    "a text and something after it": 'a = "b" c',
    "a number and something after it": "a = 1 2",
    "two keys on a line": "a = 1 b = 2",
    "an unknown escape": r'a = "\x"',
    "half a surrogate": r'a = "\ud800"',
    "a control character": 'a = "\x01"',
    "a NUL in a comment": "# \0",
    "a lone carriage return": "a = 1\rb = 2",
    "no value": "a =",
    "no equals sign": "a",
    "no key": "= 1",
    "text without quotes": "a = b",
    "True": "a = True",
    "a leading zero": "mode = 0640",
    "an underscore at the end": "a = 1_",
    "two underscores": "a = 1__0",
    "a float without digits": "a = 1.",
    "a header left open": "[a",
    "a header closed once too often": "[a]]",
    "an array header closed once": "[[a]",
    "an empty header": "[]",
    "a header with an empty part": "[a..b]",
    "a header and a key on a line": "[a] b = 1",
    "a byte order mark within": "\ufeffa = 1",
    "a comma before a key": ",a = 1",
    "a backslash before a key": "\\a = 1",
    "a key that ends in a dot": "a. = 1",
    "a second equals sign": "a == 'b'",
    "an equals sign in a key": "a=b = 1",
    "three quotes before a number": 'a =""" 1',
    "three quotes in an array": "a = ['b', \"\"\"'c']",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_text_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(f"# the first line\n{text}\n", "file")
    (fault,) = caught.value.faults

    assert fault.startswith("file: line 2: ")
    assert " is no [table], [[table]] or key = value; close quotes and brackets, quote text" in fault


@pytest.mark.parametrize("text", [text for text in BROKEN.values() if not text.startswith(("\ufeff", "# "))])
def test_a_broken_text_is_refused_where_the_file_ends_too(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^file: line 1: "):
        parse(text, "file")


def test_a_syntax_error_after_many_lines_has_its_line(faults: Faults) -> None:
    text = "[listen]\r\nport = 1\r\n\r\n# comment\r\n[format]\r\ntext = 'a\r\n"

    assert [
        'line 6: "text = \'a" is no [table], [[table]] or key = value; close quotes and brackets, quote text'
    ] == (faults(text))


@pytest.mark.parametrize(
    "text",
    [
        "a = 1\na = 1",
        "[a]\n[a]",
        "[a.b]\n[a.b]",
        "[[a]]\n[a]",
        "[a]\n[[a]]",
        "a = 1\n[a]",
        "a = []\n[[a]]",
        "a = {}\n[a.b]",
        "a = {}\na.b = 1",
        "a = {}\n[[a.b]]",
        "a = 1\na.b = 1",
        "a.b = 1\n[a]",
        "[a.b]\n[[a]]",
    ],
)
def test_a_name_given_twice_is_refused_with_its_line(text: str) -> None:
    """Many of these toml 0.10.2 joins without a word."""
    with pytest.raises(ConfigError, match=r"^file: line 2: .* is there already; join the two$"):
        parse(text, "file")


@pytest.mark.parametrize(
    "text",
    [
        "[b]\n[a.b.c]\n[b]",
        "[[a]]\n[a.b]\n[a.b]",
        "[[a]]\nb = 1\n[a.b]",
        "[a]\nb.c = 1\n[a.b]",
        "[a.b]\n[a]\nb.c = 1",
    ],
)
def test_a_name_given_twice_in_other_tables_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^file: line 3: .* is there already; join the two$"):
        parse(text, "file")


def test_a_key_given_twice_in_an_inline_table_is_refused_with_its_line() -> None:
    with pytest.raises(ConfigError, match=r"^file: line 2: .* cannot be read: Duplicate keys!"):
        parse("\na = { b = 1, b = 2 }", "file")


@pytest.mark.parametrize(
    "text",
    [
        'a = """b"""',
        "a = '''b'''",
        '"a" = 1',
        "a = 2026-11-22",
        "a = 10:00:00",
        "a = 0xff",
        "a = 1e3",
        "a = [1]",
    ],
)
def test_toml_that_no_key_needs_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^file: line 1: .* is no \[table\], \[\[table\]\] or key = value"):
        parse(text, "file")


def test_beside_lines_that_are_no_toml_all_other_faults_are_told(faults: Faults) -> None:
    text = """
        [retention]
        max_total_bytes = 256MiB
        max_age_days = 7d
        [listen]
        prot = 5
        host = 127.0.0.1
        allow = [
            "10.0.0.0/8"
            "::1",
        ]
        [files]
        directory = "C:\\logs"
        mode = "0440"
        [rollover]
        max_bytes = 1_000kB
        when = "noon"
        [rollover]
        when = "H"
        backup_count = -1
        [admin
        port = -1
    """
    expected = [
        r"line 3: .*max_total_bytes = 256MiB.* in bytes 256MiB is 268_435_456",
        r"line 4: .*max_age_days = 7d.* in days 7d is 7",
        r"line 7: .*host = 127\.0\.0\.1.* quote text",
        r"line 8: .*allow = \[",
        r"line 13: .*directory = .*'single quotes'",
        r"line 16: .*max_bytes = 1_000kB.* in bytes 1_000kB is 1_000_000",
        r"line 18: .*\[rollover\].* is there already; join the two",
        r"line 19: .*when = .* is there already; join the two",
        r"line 21: .*\[admin",
        r"\[listen\] prot = 5: unknown; did you mean port\?",
        r"\[files\] mode = ",
        r"\[rollover\] when = ",
        r"\[rollover\] backup_count = -1",
        r"\[admin\] port = -1",
    ]
    actual = faults(text)
    assert len(expected) == len(actual), actual
    assert [] == [want for want, got in zip(expected, actual, strict=True) if not re.match(want, got)]


@pytest.mark.parametrize(
    "text",
    [
        "[[logger]]\nname = payments\nlevel = 5\n",
        "[[logger]]\nname 'payments'\nlevel = 5\n",
        "[listen]\nport = 9O21\n[admin]\nport = 9020\n",
        "[listen]\nmax_frame_bytes = 1kB\nmax_buffered_bytes = 4000\n",
        "[[logger]]\nname = 'a'\nfile = 'x.log'\nformat.utc = yes\n[[logger]]\nname = 'b'\nfile = 'x.log'\n",
        "[files]\nname = all.log\n[[logger]]\nname = 'a'\nfile = 'b.log/a.log'\n",
        "files = { name = 'a.log'\n",
        "[files]\nnaem = a.log\n",
        "host: localhost\n",
        "[listen]\nallow = [\n'10.0.0.0/8'\n'::1'\n",
        "admin = {\nport = 1,\nhost = 'a'\n}\n",
    ],
)
def test_what_could_not_be_read_is_one_fault_and_its_want_is_no_second(faults: Faults, text: str) -> None:
    (fault,) = faults(text)
    assert " is no [table], [[table]] or key = value; " in fault


def test_what_could_not_be_read_is_not_tried_by_its_default(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[files]\ndirectory = C:/logs\nname logs\n[log]\nlevel = 5\n")
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert ("[files]", "directory") in caught.value.unsure
    assert ("[files]", "name") in caught.value.unsure
    assert ("[log]", "level") not in caught.value.unsure


@pytest.mark.parametrize("quotes", ['"""', "'''"])
def test_a_text_of_several_lines_is_one_fault_up_to_its_end(faults: Faults, quotes: str) -> None:
    text = f"[format]\ntext = {quotes}\nport = 5\nx\n{{}}\n[listen]\nport = -1\n"
    (only,) = faults(text.format(""))
    assert only.startswith("line 2: ")
    first, second = faults(text.format(quotes))
    assert first.startswith("line 2: ")
    assert second.startswith("[listen] port = -1: ")


@pytest.mark.parametrize("header", ["[[a.]]", "[]", "[a]\n[[a]]", "[a]\nb.c = 1\n[a.b]"])
def test_keys_below_what_is_no_header_belong_to_no_table(faults: Faults, header: str) -> None:
    about_the_header, about_the_last_line = faults(f"port = -1\n{header}\nport = 1\nport = 2\nport = x\n")
    assert repr(header.rpartition("\n")[2])[1:-1] in about_the_header
    assert about_the_last_line.endswith("quote text")


@pytest.mark.parametrize(
    ("lines", "told"),
    [(MOST_FAULTS - 1, MOST_FAULTS - 1), (MOST_FAULTS, MOST_FAULTS + 1), (9999, MOST_FAULTS + 1)],
    ids=["below", "at", "above"],
)
def test_of_what_is_no_toml_at_all_the_first_lines_are_told(faults: Faults, lines: int, told: int) -> None:
    faults_ = faults("12:00 ERROR failed\n" * lines)
    assert told == len(faults_)
    assert (told > MOST_FAULTS) == faults_[-1].endswith("after so many faults; is it TOML?")


SAMPLE = """\
[listen]
port = 9020 # a "comment"
allow = ["a,]", 'b']
drain_seconds = 0.5

[format]
text = "[%(name)s]: \\"x\\" = {1}, #"
datefmt = '%H'
[[logger]]
name = "a.b"
rollover = { max_bytes = 10_000, utc = true }
format.style = "json"
[[logger]]
[logger.rollover]
"""
PIECES = [
    "'",
    '"',
    '"""',
    "[",
    "]",
    "{",
    "}",
    ",",
    "=",
    "#",
    ".",
    "\\",
    "\n",
    "_",
    "0",
    "-",
    "a = 1",
    "\r",
    " ",
    "true",
]


def agree_with_tomllib(text: str) -> None:
    """What the standard library refuses is refused, and what both accept is the same; needs Python 3.11."""
    tomllib: Any = pytest.importorskip("tomllib")
    try:
        actual = parse(text, "file")
    except ConfigError:
        return
    try:
        expected = tomllib.loads(text)
    except tomllib.TOMLDecodeError as fault:
        pytest.fail(f"accepted, though {fault}: {text!r}")
    assert repr(expected).replace("-0.0", "0.0") == repr(actual).replace("-0.0", "0.0")


def mutations(text: str) -> Iterator[str]:
    for at in range(len(text)):
        yield text[:at]
        yield text[:at] + text[at + 1 :]
        for piece in PIECES:
            yield text[:at] + piece + text[at:]


def test_the_sample_is_accepted() -> None:
    assert ["listen", "format", "logger"] == list(parse(SAMPLE, "file"))


@pytest.mark.slow
def test_a_text_changed_at_any_place_means_what_tomllib_says() -> None:
    for text in mutations(SAMPLE):
        agree_with_tomllib(text)


@pytest.mark.slow
@settings(deadline=None)
@given(st.data())
def test_a_manual_changed_at_some_places_means_what_tomllib_says(data: st.DataObject) -> None:
    lines = re.sub("(?m)^#(?! ).*\n|^# .*\n|^\n", "", MANUAL.read_text(encoding="utf-8")).splitlines(
        keepends=True
    )
    for _ in range(data.draw(st.integers(0, 3))):
        source, target = (data.draw(st.integers(0, len(lines) - 1)) for _ in range(2))
        lines.insert(target, lines[source] if data.draw(st.booleans()) else lines.pop(source))
    text = "".join(lines)
    for _ in range(data.draw(st.integers(0, 3))):
        start = data.draw(st.integers(0, len(text)))
        text = (
            text[:start]
            + data.draw(st.sampled_from(["", *PIECES]))
            + text[start + data.draw(st.integers(0, 3)) :]
        )
    agree_with_tomllib(text)


@given(st.lists(st.sampled_from([*"ab1\t\0é", *PIECES]), max_size=20))
def test_any_text_is_read_or_refused_and_nothing_else_happens(pieces: list[str]) -> None:
    try:
        parse("".join(pieces), "file")
    except ConfigError as error:
        assert 1 <= len(error.faults) <= MOST_FAULTS + 1  # noqa: PT017 - or none
