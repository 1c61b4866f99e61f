"""What a traceback is: the same for all that happened in the same way, and another for all else."""

from __future__ import annotations

import re
import sys
import traceback
from typing import TYPE_CHECKING

import pytest

from collector.admin.tracebacks import UNKNOWN, read
from tests.support.cpu import Cpu

if TYPE_CHECKING:
    from collections.abc import Callable


def raised(call: Callable[[], object]) -> str:
    """Return the traceback of what *call* raises, as logging has it."""
    try:
        call()
    except BaseException:  # noqa: BLE001 - whatever it is
        return traceback.format_exc().rstrip("\n")
    raise AssertionError


HEADER = "Traceback (most recent call last):\n"


class OddError(Exception):
    pass


def look_up(key: str) -> object:
    empty: dict[str, object] = {}
    return empty[key]


def convert(text: str) -> object:
    try:
        return int(text)
    except ValueError as error:
        raise OddError(f"no number:\n{text}") from error


def descend(depth: int) -> object:
    return descend(depth - 1) if depth else look_up("deep")


OWN = "admin/test_tracebacks.py"


def test_it_is_the_class_and_the_frames_and_the_last_line() -> None:
    found = read(raised(lambda: look_up("a")))

    assert ("KeyError", "KeyError: 'a'") == (found.kind, found.error)
    assert (f"{OWN}:raised", f"{OWN}:<lambda>", f"{OWN}:look_up") == tuple(
        re.sub(r":test_.*<locals>\.", ":", frame) for frame in found.frames
    )


def test_values_and_line_numbers_make_no_difference() -> None:
    text = raised(lambda: convert("one"))
    other = re.sub(r"line (\d+)", r"line 1\1", text.replace("one", "two"))

    assert text != other
    assert read(text)[:2] == read(other)[:2]


@pytest.mark.parametrize(
    "path",
    [
        "/usr/lib/python3.11/threading.py",
        "/usr/lib64/python3.6/site-packages/requests/api.py",
        "/srv/venv/lib/python3.12/site-packages/django/core.py",
        "/usr/lib/python3/dist-packages/yaml/__init__.py",
        "C:\\\\app\\\\venv\\\\Lib\\\\site-packages\\\\flask\\\\app.py".replace("\\\\", "\\"),
        "C:\\Python311\\Lib\\json\\decoder.py",
        "<frozen importlib._bootstrap>",
    ],
)
def test_frames_of_libraries_are_left_out(path: str) -> None:
    own = '  File "/srv/app/run.py", line 1, in main\n    x()\n'
    text = f'{HEADER}{own}  File "{path}", line 2, in x\n    y\nValueError: 1'

    assert ("app/run.py:main",) == read(text).frames


def test_where_all_frames_are_of_libraries_they_tell_it_apart() -> None:
    text = HEADER + '  File "/usr/lib/python3.11/queue.py", line 2, in get\nqueue.Empty'

    assert ("queue.Empty", ("python3.11/queue.py:get",), "queue.Empty") == read(text)


def test_releases_in_directories_of_their_own_are_one_application() -> None:
    text = HEADER + '  File "/srv/releases/%s/shop/views.py", line 2, in get\nValueError'

    assert read(text % "2026-11-25") == read(text % "2026-11-26")


def test_the_exception_raised_last_is_the_one() -> None:
    found = read(raised(lambda: convert("x")))

    assert "OddError" == found.kind.rpartition(".")[2]
    assert {f"{OWN}:convert", f"{OWN}:<lambda>"} <= set(found.frames)


def test_a_recursion_is_one_however_deep_it_went() -> None:
    assert read(raised(lambda: descend(3)))[:2] == read(raised(lambda: descend(90)))[:2]


def test_a_syntax_error_has_the_frames_above_it() -> None:
    found = read(raised(lambda: compile("a b", "x.py", "exec")))

    assert ("SyntaxError", f"{OWN}:raised") == (found.kind, found.frames[0])


@pytest.mark.skipif(sys.version_info < (3, 11), reason="groups came with Python 3.11")
def test_a_group_is_what_it_is_itself_whatever_is_in_it() -> None:
    def group(*inner: Exception) -> object:
        raise ExceptionGroup("several", inner)  # noqa: F821 - see above

    found = read(raised(lambda: group(ValueError(1), OddError(2))))
    assert "ExceptionGroup: several (2 sub-exceptions)" == found.error
    assert found[:2] == read(raised(lambda: group(KeyError(1))))[:2]


def test_a_class_within_a_function_has_its_name() -> None:
    class LocalError(Exception):
        pass

    def fail() -> None:
        raise LocalError

    assert read(raised(fail)).kind.endswith("<locals>.LocalError")


def test_of_a_traceback_longer_than_64_kib_the_end_tells_the_class() -> None:
    frame = '  File "/srv/app/f%d.py", line 1, in f\n    f()\n'
    text = HEADER + "".join(frame % n for n in range(5000)) + "app.Broken: x"

    assert "app.Broken" == read(text).kind
    assert len(read(text).frames) < 2000


@pytest.mark.parametrize("text", ["", "\n", "  ", "no traceback at all", "x" * 100_000, "\ud800: \0"])
def test_what_is_no_traceback_is_of_no_known_class(text: str) -> None:
    assert (UNKNOWN, ()) == read(text)[:2]


GROUP = "  + Exception Group Traceback (most recent call last):\n"


@pytest.mark.parametrize(
    "piece",
    [
        *(" ", "|", " | ", '  File "', "\n", 'File "a", line 1, in ', "a.", "+-", "<", "/python1", "  +"),
        *(HEADER, GROUP, f"  | {GROUP}", '  File "/python1.1/a", line 1, in b\n', "a" * 50 + "\n"),
    ],
)
def test_no_text_takes_long(piece: str) -> None:
    text = GROUP + piece * (100_000 // len(piece))
    with Cpu() as cpu:
        read(text)

    assert cpu.seconds < 0.2
