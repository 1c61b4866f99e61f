from __future__ import annotations

from typing import TYPE_CHECKING

from collector.config.tables import Forward
from collector.forward.dead_letters import DeadLetters
from collector.forward.resend import Outcome, resend_letters, resend_spooled
from collector.forward.verdicts import Outgoing
from collector.forward.window import Waiting
from collector.spool.reading import OLDEST, SpoolReader
from tests.support.line_destination import LineDestination
from tests.support.spool_files import RECEIVED

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.line_destination import Sink
    from tests.support.spool_files import SpoolFiles

SETTINGS = Forward(name="elk", type="elasticsearch", batch_seconds=0, loggers=("app",))
ALWAYS = (0, 2**63)


class NoOrders:
    """Nobody says anything; pauses are not waited for."""

    stop = False

    def wait(self, seconds: float) -> None:
        pass

    def take_reload(self) -> bool:
        return False


def letters_of(spool: SpoolFiles) -> DeadLetters:
    return DeadLetters(str(spool.directory / "elk.dead"), 1_000_000)


def resend(spool: SpoolFiles, sink: Sink, times: tuple[int, int] = ALWAYS) -> Outcome:
    destination = LineDestination(sink.port)
    what = (str(spool.directory), SETTINGS, destination, NoOrders(), times)
    outcome = Outcome()
    resend_spooled(*what, letters=letters_of(spool), encoding="utf-8", outcome=outcome)
    return outcome


def send_letters(letters: DeadLetters, sink: Sink) -> Outcome:
    destination = LineDestination(sink.port)
    outcome = Outcome()
    resend_letters(letters, SETTINGS, destination, NoOrders(), encoding="utf-8", outcome=outcome)
    return outcome


def refused(spool: SpoolFiles, path: Path, count: int) -> DeadLetters:
    """Return dead letters, which the first records of the spool are."""
    letters = DeadLetters(str(path), 1_000_000)
    made = []
    for spooled in SpoolReader(str(spool.directory), OLDEST).read(count, 1_000_000):
        one = Waiting(spooled, 0, doubt=False)
        one.outgoing = Outgoing(spooled.id, spooled.epoch, spooled.number, spooled.received, b"")
        one.dead = "mapper"
        made.append(one)
    letters.add(made)
    return letters


def damage(path: Path, text: bytes) -> None:
    """Change a byte of the first *text* in a file."""
    data = path.read_bytes()
    assert text in data
    path.write_bytes(data.replace(text, text[:-1] + b"?", 1))


def test_what_was_received_in_a_time_is_sent_again_in_doubt_and_through_the_filter(
    spool: SpoolFiles, sink: Sink
) -> None:
    for number in range(1, 7):
        spool.write([f"record {number}"], name="other" if number == 3 else "app")
    outcome = resend(spool, sink, (RECEIVED + 2 * 10**9, RECEIVED + 6 * 10**9))
    assert ["record 2", "record 4", "record 5"] == sink.texts
    assert all(again for again, _ in sink.requests)
    assert (3, 0, 1, "") == (outcome.stored, outcome.duplicate, outcome.filtered, outcome.trouble)
    outcome = resend(spool, sink)
    assert (2, 3) == (outcome.stored, outcome.duplicate)


def test_what_holds_ends_a_resend_and_is_told(spool: SpoolFiles, sink: Sink) -> None:
    spool.write(["a", "b"])
    sink.order = lambda _: {"error": "hold"}
    outcome = resend(spool, sink)
    assert outcome.trouble == "the index is closed"
    assert len(outcome.unsettled) == 2


def test_what_a_resend_has_refused_becomes_a_dead_letter_with_its_reason(
    spool: SpoolFiles, sink: Sink
) -> None:
    spool.write(["a", "b", "c", "d"])
    sink.order = sink.refuse("b", "c")
    outcome = resend(spool, sink)
    assert (2, {"mapper": 2}, "") == (outcome.stored, outcome.dead, outcome.trouble)
    kept = list(letters_of(spool).read())
    assert [(2, "mapper"), (3, "mapper")] == [(one.spooled.number, one.reason) for one in kept]
    sink.order = lambda _: None
    again = send_letters(letters_of(spool), sink)
    assert (2, {}) == (again.stored, again.dead)
    assert ["a", "d", "b", "c"] == sink.texts


def test_blocks_of_the_spool_that_cannot_be_read_are_counted(spool: SpoolFiles, sink: Sink) -> None:
    spool.write(["a", "damaged"])
    spool.write(["b"])
    damage(min(spool.directory.glob("*.seg")), b"damaged")
    outcome = resend(spool, sink)
    assert (1, 1) == (outcome.stored, outcome.bad_blocks)


def test_dead_letters_that_cannot_be_read_are_counted_and_kept_and_the_others_are_sent(
    spool: SpoolFiles, sink: Sink, tmp_path: Path
) -> None:
    spool.write(["a", "damaged", "c"])
    path = tmp_path / "elk.dead"
    letters = refused(spool, path, 3)
    damage(path, b"damaged")
    damaged = path.read_bytes()
    outcome = send_letters(letters, sink)
    assert (2, "") == (outcome.stored, outcome.trouble)
    assert ["a", "c"] == sink.texts
    aside = tmp_path / "elk.dead.damaged"
    assert {str(aside): 1} == letters.bad
    assert damaged == aside.read_bytes()
    assert [] == list(letters.read())


def test_a_half_that_cannot_be_read_at_all_keeps_nothing_back(
    spool: SpoolFiles, sink: Sink, tmp_path: Path
) -> None:
    spool.write(["a"])
    letters = refused(spool, tmp_path / "elk.dead", 1)
    (tmp_path / "elk.dead.1").write_bytes(bytes(1000))
    outcome = send_letters(letters, sink)
    assert (1, ["a"]) == (outcome.stored, sink.texts)
    assert {str(tmp_path / "elk.dead.damaged"): 1} == letters.bad


def test_dead_letters_are_sent_again_and_gone_once_they_are_stored(
    spool: SpoolFiles, sink: Sink, tmp_path: Path
) -> None:
    spool.write(["a", "b", "c"])
    letters = refused(spool, tmp_path / "elk.dead", 3)
    outcome = send_letters(letters, sink)
    assert (3, "") == (outcome.stored, outcome.trouble)
    assert ["a", "b", "c"] == sink.texts
    assert [] == list(letters.read())


def test_those_that_are_refused_again_stay(spool: SpoolFiles, sink: Sink, tmp_path: Path) -> None:
    spool.write(["a", "b", "c"])
    letters = refused(spool, tmp_path / "elk.dead", 3)
    sink.order = sink.refuse("b")
    outcome = send_letters(letters, sink)
    assert {"mapper": 1} == outcome.dead
    assert ["a", "c"] == sink.texts
    assert [2] == [letter.spooled.number for letter in letters.read()]


def test_where_all_are_refused_all_stay(spool: SpoolFiles, sink: Sink, tmp_path: Path) -> None:
    spool.write(["a", "b"])
    letters = refused(spool, tmp_path / "elk.dead", 2)
    sink.order = sink.refuse("a", "b")
    outcome = send_letters(letters, sink)
    assert outcome.trouble
    assert [1, 2] == [letter.spooled.number for letter in letters.read()]
