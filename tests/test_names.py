from __future__ import annotations

import os
import re
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.names import LOGGER_PATTERNS, file_name
from tests.support.corpus import hostile


@pytest.mark.parametrize(
    ("logger", "expected"),
    [
        ("app.web", "app_web"),
        ("", "root"),
        ("root", "root"),
        ("my app", "my%20app"),
        ("app/web", "app%2Fweb"),
        ("../../etc/passwd", "%2E_%2F__%2Fetc%2Fpasswd"),
        ("/etc/passwd", "%2Fetc%2Fpasswd"),
        (".", "%2E"),
        ("..", "%2E_"),
        (".hidden", "%2Ehidden"),
        ("a\0b", "a%00b"),
        ("a\nb", "a%0Ab"),
        ("100%", "100%25"),
        ("a%2Fb", "a%252Fb"),
        ("_overflow", "%5Foverflow"),
        ("_overflows", "_overflows"),
        ("日本.ünïcöde", "日本_ünïcöde"),
        ("cafe\u0301", "cafe%CC%81"),
        ("x²", "x%C2%B2"),
        ("٣", "٣"),
        ("\u202egol", "%E2%80%AEgol"),
        ("\uff0e\uff0e\uff0fetc", "%EF%BC%8E%EF%BC%8E%EF%BC%8Fetc"),
        ("\ud800", "%ED%A0%80"),
        ("~root", "%7Eroot"),
        ("{logger}*?[a]", "%7Blogger%7D%2A%3F%5Ba%5D"),
    ],
)
def test_a_name_is_mapped_byte_by_byte(logger: str, expected: str) -> None:
    assert expected == file_name(logger, "_")


@pytest.mark.parametrize(
    ("logger", "underscore", "dot", "slash"),
    [
        ("a.b", "a_b", "a.b", "a/b"),
        ("a..b", "a__b", "a..b", "a/_/b"),
        ("a.", "a_", "a.", "a/_"),
        ("..", "%2E_", "%2E.", "%2E/_"),
    ],
)
def test_a_dot_becomes_what_dots_says(logger: str, underscore: str, dot: str, slash: str) -> None:
    assert [underscore, dot, slash] == [file_name(logger, dots) for dots in ("_", ".", "/")]


@pytest.mark.parametrize("size", [179, 180])
def test_a_name_up_to_180_bytes_is_kept(size: int) -> None:
    assert "n" * size == file_name("n" * size, "_")


def test_a_longer_name_is_cut_and_told_apart_by_its_digest() -> None:
    name = "n" * 181
    assert "n" * 160 + "~" + sha256(name.encode()).hexdigest()[:16] == file_name(name, "_")


def test_a_cut_never_splits_a_character() -> None:
    name = "é" * 100
    assert file_name("n" + name, "_").startswith("n" + "é" * 79 + "~")


@given(st.text(), st.sampled_from("_./"))
def test_any_name_ends_inside_the_directory_in_a_file_that_every_file_system_takes(
    logger: str, dots: str
) -> None:
    name = file_name(logger, dots)
    assert re.fullmatch(LOGGER_PATTERNS[dots], name)
    parts = name.split("/")
    assert all(part and not part.startswith(".") and len(os.fsencode(part)) <= 180 for part in parts)
    assert os.path.normpath("/logs/" + name) == "/logs/" + name
    assert name.isprintable()


@given(st.text(), st.text())
def test_different_names_give_different_files_but_for_dots(one: str, other: str) -> None:
    assert (one or "root") == (other or "root") or file_name(one, ".") != file_name(other, ".")


def test_hostile_names_of_the_corpus_are_distinct() -> None:
    names = [case["check"]["name"] for case in hostile() if case.get("check", {}).get("name")]
    assert len(names) > 20
    assert len(names) == len({file_name(name, ".") for name in names})
