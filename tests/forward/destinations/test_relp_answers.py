from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.forward.destinations.relp_answers import MAX_ANSWER_BYTES, Answers, FramingError

TALK = (
    b"1 rsp 93 200 OK\nrelp_version=0\nrelp_software=librelp,1.11.0,http://librelp.adiscon.com\ncommands=syslog\n"
    b"2 rsp 6 200 OK\n3 rsp 6 200 OK\n4 rsp 9 500 error\n5 rsp 6 200 OK\n6 rsp 0\n"
)
OFFERS = b"200 OK\nrelp_version=0\nrelp_software=librelp,1.11.0,http://librelp.adiscon.com\ncommands=syslog"
SINGLE = [(1, OFFERS), (2, b"200 OK"), (3, b"200 OK"), (4, b"500 error"), (5, b"200 OK"), (6, b"")]


def single(answers: Answers, data: bytes) -> list[tuple[int, bytes]]:
    return [(number, text) for numbers, text in answers.feed(data) for number in numbers]


def test_each_answer_has_its_number_and_its_text() -> None:
    assert SINGLE == single(Answers(), TALK)


def test_a_run_of_answers_that_all_are_200_ok_comes_as_one() -> None:
    assert [([2, 3], b"200 OK")] == list(Answers().feed(b"2 rsp 6 200 OK\n3 rsp 6 200 OK\n"))


@pytest.mark.parametrize("size", [1, 2, 7, 16])
def test_it_does_not_matter_how_a_talk_is_cut(size: int) -> None:
    answers = Answers()
    pieces = [TALK[at : at + size] for at in range(0, len(TALK), size)]
    assert SINGLE == [one for piece in pieces for one in single(answers, piece)]


def test_answers_ahead_of_a_fault_are_delivered_before_it_is_raised() -> None:
    feed = Answers().feed(b"2 rsp 6 200 OK\nHTTP/1.1 400 Bad Request\r\n")
    assert ([2], b"200 OK") == next(feed)
    with pytest.raises(FramingError, match=r"answers as no RELP server does: HTTP/1\.1 400"):
        next(feed)


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b"1 rsp 6 200 OKx",
        b"1 rsp 3\n",
        b"1 syslog 1 x\n",
        b"1234567890 rsp 6 200 OK\n",
        b"1 rsp %d " % (MAX_ANSWER_BYTES + 1),
        b"1 rsp -1 \n" + b" " * 60,
    ],
    ids=["no number", "no end", "no data", "a command", "ten digits", "too long", "a negative size"],
)
def test_what_no_server_says_is_a_fault(data: bytes) -> None:
    with pytest.raises(FramingError):
        single(Answers(), data)


def test_a_size_over_the_limit_is_refused_before_its_data_arrives_and_one_at_it_is_not() -> None:
    text = b"x" * MAX_ANSWER_BYTES
    assert [(1, text)] == single(Answers(), b"1 rsp %d %b\n" % (len(text), text))


def test_a_server_that_closes_says_so() -> None:
    with pytest.raises(ConnectionError, match="closes the session"):
        single(Answers(), b"0 serverclose 0\n")


@given(st.lists(st.binary() | st.sampled_from([b"1 ", b"rsp ", b"0 ", b"2 rsp 6 200 OK\n", b"\n"])))
def test_any_bytes_are_answers_or_a_fault(pieces: list[bytes]) -> None:
    answers = Answers()
    try:
        for piece in pieces:
            single(answers, piece)
    except ConnectionError:
        pass
