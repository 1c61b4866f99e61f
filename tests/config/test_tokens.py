from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from collector.config.tables import Admin
from collector.config.tokens import token_of

if TYPE_CHECKING:
    from pathlib import Path


def in_file(path: Path, data: bytes) -> Admin:
    path.write_bytes(data)
    return Admin(token_file=str(path))


def test_without_a_file_the_token_is_the_one_that_is_given() -> None:
    assert ("", "a") == (token_of(Admin()), token_of(Admin(token="a")))  # noqa: S106 - nothing opens by it


@pytest.mark.parametrize("data", [b"a-b.c_d~1", b"a-b.c_d~1\n", b"a-b.c_d~1\r\n"])
def test_a_newline_behind_the_token_is_no_part_of_it(tmp_path: Path, data: bytes) -> None:
    assert "a-b.c_d~1" == token_of(in_file(tmp_path / "token", data))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\r\n", "is empty"),
        (b" s3cret", "holds more than letters"),
        (b"s3cret\n\n", "holds more than letters"),
        (b"s3cret\nother\n", "holds more than letters"),
        (b"s3cret\xff", "holds more than letters"),
        (b"s3cret" * 1000, "has 4096 bytes or more"),
    ],
)
def test_a_file_that_holds_no_token_is_refused_without_what_it_holds(
    tmp_path: Path, data: bytes, why: str
) -> None:
    with pytest.raises(
        OSError, match=f'token_file = "{tmp_path}/token": {why}.*; write the token there'
    ) as told:
        token_of(in_file(tmp_path / "token", data))
    assert "s3cret" not in str(told.value)


@pytest.mark.parametrize(("name", "why"), [("missing", "No such file"), ("", "Is a directory")])
def test_a_file_that_cannot_be_read_is_told_with_the_reason(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(OSError, match=f"cannot be read: {why}.*readable for this user"):
        token_of(Admin(token_file=str(tmp_path / name)))
