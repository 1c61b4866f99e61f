from __future__ import annotations

import logging
import random
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from collector.config.tables import Forward
from collector.forward.culprits import COPIES, PROOFS
from collector.forward.delivery import Delivery
from collector.forward.destinations.elasticsearch import Elasticsearch
from collector.forward.destinations.relp import Relp
from collector.forward.progress import Progress
from collector.forward.window import Window
from collector.spool.reading import OLDEST, SpoolReader
from tests.support.bulk_server import BulkServer, Reply
from tests.support.line_destination import SHORT, HangUp, LineDestination, Sink
from tests.support.relp_server import RelpServer
from tests.support.spool_files import COLLECTOR, SpoolFiles
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from collector.forward.window import Waiting
    from collector.spool.reading import Spooled


class Kept:
    """Dead letters, in memory; `full`: none more can be kept."""

    def __init__(self) -> None:
        self.letters: list[tuple[str, str]] = []
        self.full = False

    def add(self, letters: Sequence[Waiting]) -> int:
        if self.full:
            raise OSError(28, "No space left on device")
        self.letters += [(one.outgoing.data.decode().removeprefix(SHORT), one.dead) for one in letters]
        return 0


class Running:
    """A delivery to a sink, by a clock that goes on as soon as there is nothing to do."""

    def __init__(self, spool: SpoolFiles, sink: Sink, **settings: Any) -> None:
        self.now = 1000.0
        self.spool, self.sink = spool, sink
        self.settings = Forward(**{"name": "elk", "type": "elasticsearch", "batch_seconds": 0, **settings})
        self.letters = Kept()
        self.progress = Progress.at(OLDEST)
        self.delivery: Delivery = None  # type: ignore[assignment] # until begin()
        self.begin()

    def begin(self, **how: Any) -> None:
        """Begin again at the progress, as a process does that starts."""
        self.close()
        self.destination = LineDestination(self.sink.port)
        self.reader = SpoolReader(str(self.spool.directory), self.progress.position)
        self.window = Window(self.reader, self.progress, ahead=self._ahead, **how)
        self.delivery = Delivery(self.settings, self.destination, self.window, self.letters, lambda: self.now)

    def run(self, seconds: float = 3600) -> None:
        """Go on until all is settled, or for so long by the clock. The equation holds after each step."""
        end = self.now + seconds
        self.delivery.is_idle = False
        while self.now < end and not self.delivery.is_idle:
            self.now += self.delivery.step()
            self.progress.know(self.reader.end().number)
            assert self.progress.balance() == 0

    def close(self) -> None:
        if self.delivery:
            self.delivery.close()
            self.reader.close()

    def _ahead(self) -> list[Spooled]:
        return SpoolReader(str(self.spool.directory), OLDEST).read(100_000, 2**31)[-100:]

    @property
    def counts(self) -> dict[str, int]:
        progress = self.progress
        names = ("numbered", "shipped", "duplicate", "dropped", "filtered", "waiting")
        counts = {name: getattr(progress, name) for name in names} | {"dead": sum(progress.dead.values())}
        return {name: count for name, count in counts.items() if count}


@pytest.fixture
def start(spool: SpoolFiles, sink: Sink) -> Iterator[Callable[..., Running]]:
    made: list[Running] = []

    def begin(**settings: Any) -> Running:
        made.append(Running(spool, sink, **settings))
        return made[-1]

    yield begin
    for one in made:
        one.close()


def numbered(count: int, first: int = 1) -> list[str]:
    return [f"record {number}" for number in range(first, first + count)]


def test_what_is_spooled_is_stored_in_its_order_and_under_its_id(
    spool: SpoolFiles, sink: Sink, start: Callable[..., Running]
) -> None:
    spool.write(numbered(3))
    running = start(batch_records=2)
    running.run()
    ids = [f"{COLLECTOR}-{1:016x}-{number}" for number in (1, 2, 3)]
    assert dict(zip(ids, numbered(3), strict=True)) == sink.stored
    assert {"numbered": 3, "shipped": 3} == running.counts
    assert [2, 1] == [len(texts) for _, texts in sink.requests]


@pytest.mark.parametrize(("type_", "sizes"), [("relp", [2, 2, 1]), ("syslog", [3, 2])])
def test_by_relp_a_request_has_a_window_of_records_at_most(
    spool: SpoolFiles, sink: Sink, start: Callable[..., Running], type_: str, sizes: list[int]
) -> None:
    """The progress is saved behind each request: a kill doubles no more."""
    spool.write(numbered(5))
    start(type=type_, window=2, batch_records=3).run()
    assert sizes == [len(texts) for _, texts in sink.requests]


def test_a_gap_is_counted_and_told_of_by_a_record_that_is_in_no_count(
    spool: SpoolFiles, sink: Sink, start: Callable[..., Running]
) -> None:
    spool.write(["first"])
    spool.write(["last"], skipped=5)
    running = start()
    running.run()
    assert {"numbered": 7, "shipped": 2, "dropped": 5} == running.counts
    assert f"{COLLECTOR}-gap-2-6" == list(sink.stored)[1]
    assert sink.texts[1] == (
        "5 records lost before they could be handed over, received after 2026-09-21T14:13:21Z and before "
        "2026-09-21T14:13:27Z: numbers 2 to 6 are not in the spool"
    )


def test_a_gap_is_told_in_the_log_with_the_name_of_the_destination(
    spool: SpoolFiles, start: Callable[..., Running], caplog: pytest.LogCaptureFixture
) -> None:
    spool.write(["first"])
    spool.write(["last"], skipped=5)
    start(name="siem").run()
    (line,) = (one.getMessage() for one in caplog.records if "lost before" in one.getMessage())
    assert line.startswith("siem: 5 records lost before they could be handed over")


def test_segments_deleted_over_several_starts_are_counted_whole(
    spool: SpoolFiles, start: Callable[..., Running]
) -> None:
    spool.write(["first"])
    running = start()
    running.run()
    for _ in range(3):
        spool.begin_epoch()
        spool.write(numbered(10))
        running.begin()
    spool.write(["last"])
    for _ in range(3):
        spool.remove_oldest_segment()
    running.begin()
    running.run()
    assert {"numbered": 32, "shipped": 12, "dropped": 20} == running.counts


def test_what_the_filter_leaves_out_is_passed_and_counted(
    spool: SpoolFiles, sink: Sink, start: Callable[..., Running]
) -> None:
    spool.write(["a", "b"], name="other")
    spool.write(["c"], name="app.web")
    spool.write(["d"], name="other")
    running = start(loggers=("app",))
    running.run()
    assert ["c"] == sink.texts
    assert {"numbered": 4, "shipped": 1, "filtered": 3} == running.counts


def test_a_batch_that_is_not_full_waits_for_batch_seconds(
    spool: SpoolFiles, sink: Sink, start: Callable[..., Running]
) -> None:
    running = start(batch_seconds=5, batch_records=3)
    spool.write(numbered(2))
    running.run(4.9)
    assert [] == sink.requests
    spool.write(["the third"])
    running.run(0.05)
    assert [(False, [*numbered(2), "the third"])] == sink.requests
    spool.write(["a fourth"])
    running.run(5.1)
    assert (False, ["a fourth"]) == sink.requests[-1]


def test_a_batch_that_is_not_full_waits_no_longer_where_a_connection_has_to_be_made(
    spool: SpoolFiles, sink: Sink, start: Callable[..., Running]
) -> None:
    running = start(batch_seconds=1, reconnect_seconds=10)
    for text in ("the first", "behind reconnect_seconds"):
        spool.write([text])
        running.run(1.1)
        assert text == sink.texts[-1]
        running.now += 10


def test_batch_seconds_are_over_once_for_what_a_new_connection_or_a_smaller_request_leaves(
    spool: SpoolFiles, sink: Sink, start: Callable[..., Running]
) -> None:
    """Nothing more comes: the last records of the day must not wait for the first ones of the next."""
    running = start(batch_seconds=5)
    spool.write(numbered(64))
    sink.order = lambda texts: {"error": "413"} if len(texts) > 20 else None
    running.run(5.5)
    assert {"numbered": 64, "shipped": 64} == running.counts


def test_records_not_taken_this_time_are_sent_again_alone(
    spool: SpoolFiles, sink: Sink, start: Callable[..., Running]
) -> None:
    spool.write(numbered(6))
    usual = sink.refuse("record 2", "record 5", kind="again")
    sink.order = lambda texts: usual(texts) if len(sink.requests) < 4 else None
    running = start()
    begun = running.now
    running.run()
    assert [6, 2, 2, 2] == [len(texts) for _, texts in sink.requests]
    assert {"numbered": 6, "shipped": 6} == running.counts
    assert running.progress.retried == 6
    assert running.now - begun < 2


def test_a_pause_grows_only_where_nothing_was_stored(
    spool: SpoolFiles, sink: Sink, start: Callable[..., Running]
) -> None:
    spool.write(numbered(100))

    def one_of_them(texts: list[str]) -> dict[str, Any] | None:
        return sink.refuse(*texts[1:], kind="again")(texts)

    sink.order = one_of_them
    running = start(max_pause_seconds=60)
    begun = running.now
    running.run()
    assert {"numbered": 100, "shipped": 100} == running.counts
    assert running.now - begun < 100 * 0.2


@pytest.mark.parametrize(("retry_after", "least", "most"), [(7, 7, 8), (10_000, 20, 21), (None, 0.05, 0.2)])
def test_a_busy_destination_is_asked_again_when_it_says_but_within_max_pause_seconds(
    retry_after: float | None, least: float, most: float, sink: Sink, start: Callable[..., Running]
) -> None:
    running = start(max_pause_seconds=20)
    running.spool.write(["a"])
    sink.order = lambda _: {"error": "429", "retry_after": retry_after} if len(sink.requests) < 2 else None
    begun = running.now
    running.run()
    assert ["a"] == sink.texts
    assert least <= running.now - begun <= most + 0.1


def test_a_destination_that_is_down_for_an_hour_loses_nothing(
    spool: SpoolFiles, start: Callable[..., Running]
) -> None:
    spool.write(numbered(3))
    running = start()
    port, running.destination.port = running.destination.port, 1  # nobody listens there
    running.run(3600)
    assert {"waiting": 3, "numbered": 3} == running.counts
    tries = running.delivery.calls
    assert 60 <= tries <= 140  # pauses of 30 to 60 s after the first few
    running.destination.port = port
    running.run(61)
    assert {"numbered": 3, "shipped": 3} == running.counts


def test_a_request_that_is_too_large_is_halved_and_the_size_that_passed_holds(
    spool: SpoolFiles, sink: Sink, start: Callable[..., Running]
) -> None:
    spool.write(numbered(64))
    sink.order = lambda texts: {"error": "413"} if len(texts) > 20 else None
    running = start()
    running.run()
    assert {"numbered": 64, "shipped": 64} == running.counts
    sizes = [len(texts) for _, texts in sink.requests]
    assert [64, 32] == sizes[:2]
    assert max(sizes[2:]) <= 20
    assert len(sizes) <= 8


def test_after_429_for_a_whole_request_it_is_halved_too(
    spool: SpoolFiles, sink: Sink, start: Callable[..., Running]
) -> None:
    spool.write(numbered(64))
    sink.order = lambda texts: {"error": "429"} if len(texts) > 20 else None
    running = start()
    running.run()
    assert {"numbered": 64, "shipped": 64} == running.counts


POISON = {"dead": "a verdict of its own", "400": "a request refused", "hang up": "a connection broken"}


def poisoned(sink: Sink, how: str, *texts: str) -> Callable[[list[str]], dict[str, Any] | None]:
    """Return the order to refuse these, short or not, in one of three ways."""

    def order(request: list[str]) -> dict[str, Any] | None:
        if how == "dead":
            return sink.refuse(*texts)(request)
        if not any(text.removeprefix(SHORT) in texts for text in request):
            return None
        if how == "hang up":
            raise HangUp
        return {"error": "400"}

    return order


@pytest.mark.parametrize("how", POISON, ids=POISON.values())
@pytest.mark.parametrize("culprit", [1, 17, 50])
def test_a_record_that_is_refused_becomes_a_dead_letter_and_all_others_are_stored(
    how: str, culprit: int, spool: SpoolFiles, sink: Sink, start: Callable[..., Running]
) -> None:
    spool.write(numbered(70))
    sink.order = poisoned(sink, how, f"record {culprit}")
    running = start(batch_records=50)
    running.run(60)
    assert [f"record {culprit}"] == [text for text, _ in running.letters.letters]
    assert {"numbered": 70, "shipped": 69, "dead": 1} == running.counts
    assert any(f"{SHORT}record {culprit}" in texts for _, texts in sink.requests), "tried as text"
    assert len(sink.requests) < 40


@pytest.mark.parametrize("how", POISON, ids=POISON.values())
def test_one_that_passes_as_text_is_stored_and_told_of(
    how: str, spool: SpoolFiles, sink: Sink, start: Callable[..., Running], caplog: pytest.LogCaptureFixture
) -> None:
    spool.write(numbered(15))
    refuse = poisoned(sink, how, "record 3")
    sink.order = lambda texts: refuse(texts) if "record 3" in texts else None
    running = start()
    running.run(60)
    assert f"{SHORT}record 3" in sink.texts
    assert {"numbered": 15, "shipped": 15} == running.counts
    reason = {"dead": "mapper", "400": "400", "hang up": "closes the connection"}[how]
    told = f"elk: record {COLLECTOR}-{1:016x}-3 is refused as it is, and stored as text: {reason}"
    assert [told] == [line for line in caplog.messages if "stored as text" in line]


@pytest.mark.parametrize("how", POISON, ids=POISON.values())
def test_where_all_are_refused_the_destination_holds_and_no_dead_letter_is_made(
    how: str, spool: SpoolFiles, sink: Sink, start: Callable[..., Running]
) -> None:
    spool.write(numbered(50))
    sink.order = poisoned(sink, how, *numbered(60))
    running = start()
    running.run(3600)
    spool.write(numbered(10, 51))
    running.run(3600)
    assert [] == running.letters.letters
    assert running.delivery.hold
    assert running.delivery.hold.reason == "refused"
    sink.order = lambda _: None
    running.run()
    assert {"numbered": 60, "shipped": 60} == running.counts
    # One of them was about to be tried as text when all went well again.
    texts = [text.removeprefix(SHORT) for text in sink.texts]
    assert numbered(60) == sorted(texts, key=lambda text: int(text.split()[1]))
    assert running.delivery.hold is None


def test_several_culprits_in_one_batch_are_all_found(
    spool: SpoolFiles, sink: Sink, start: Callable[..., Running]
) -> None:
    spool.write(numbered(200))
    culprits = ["record 3", "record 4", "record 100", "record 199"]
    sink.order = poisoned(sink, "400", *culprits)
    running = start()
    running.run(600)
    assert culprits == [text for text, _ in running.letters.letters]
    assert {"numbered": 200, "shipped": 196, "dead": 4} == running.counts


def test_a_lone_record_that_is_refused_waits_until_another_one_is_stored(
    spool: SpoolFiles, sink: Sink, start: Callable[..., Running]
) -> None:
    spool.write(["poison"])
    sink.order = poisoned(sink, "dead", "poison")
    running = start()
    running.run(600)
    assert [] == running.letters.letters
    spool.write(["good"])
    running.run(120)
    assert [("poison", "mapper")] == running.letters.letters
    assert {"numbered": 2, "shipped": 1, "dead": 1} == running.counts


POISONED = ("poison", "closes the connection")
QUIET = {"the last of a stream": [*numbered(30), "poison"], "alone behind another one": ["record 1"]}


@pytest.mark.parametrize("texts", QUIET.values(), ids=QUIET)
def test_one_that_breaks_the_connection_is_found_although_none_comes_behind_it(
    texts: list[str], spool: SpoolFiles, sink: Sink, start: Callable[..., Running]
) -> None:
    sink.order = poisoned(sink, "hang up", "poison")
    running = start(batch_records=20)
    spool.write(texts)
    running.run(60)
    if "poison" not in texts:
        spool.write(["poison"])
        running.run(60)
    good = len(texts) - texts.count("poison")
    assert [POISONED] == running.letters.letters
    assert {"numbered": good + 1, "shipped": good, "dead": 1} == running.counts
    assert running.delivery.hold is None
    copies = [again for again, texts in sink.requests if texts[0] in sink.texts and len(texts) == 1]
    assert PROOFS <= sink.duplicates <= COPIES
    assert all(copies[-sink.duplicates :]), "so that it goes where it is"


def test_so_it_is_by_bulk_and_the_last_one_stored_is_there_once(
    spool: SpoolFiles, start: Callable[..., Running]
) -> None:
    with BulkServer() as server:
        server.hangs_up_at = b"poison"
        running = start(url=server.url)
        running.delivery.use(running.settings, Elasticsearch(running.settings), running.letters)
        for texts in (["good"], ["poison"], [*numbered(3), "poison"]):
            spool.write(texts)
            running.run(60)
        (documents,) = server.documents.values()
    assert ["good", *numbered(3)] == [one["message"] for one in documents.values()]
    assert {"numbered": 6, "shipped": 4, "dead": 2} == running.counts
    assert {"closes the connection": 2} == running.progress.dead


def test_what_a_search_finds_shows_nothing_of_a_bulk(
    spool: SpoolFiles, start: Callable[..., Running]
) -> None:
    """Behind a rollover nothing of what is there is sent: the connection may break at each `_bulk`."""
    with BulkServer() as server:
        server.roll_over("stream")
        running = start(url=server.url, index="stream")
        running.delivery.use(running.settings, Elasticsearch(running.settings), running.letters)
        spool.write(["good"])
        running.run(60)
        server.roll_over("stream")
        server.hangs_up_at = b"create"
        spool.write(["the last"])
        running.run(3600)
        assert [] == running.letters.letters
        server.hangs_up_at = b""
        running.run(120)
        assert [1, 1] == [len(server.documents[index]) for index in server.streams["stream"]]
    assert {"numbered": 2, "shipped": 2} == running.counts


def relp_to(server: RelpServer, running: Running) -> None:
    settings = Forward("siem", "relp", address=server.address, batch_seconds=0, max_record_bytes=8000)
    running.delivery.use(settings, Relp(settings), running.letters)


def test_so_it_is_by_relp_and_the_copies_of_the_last_one_are_counted_in_doubt(
    spool: SpoolFiles, start: Callable[..., Running]
) -> None:
    with RelpServer() as server:
        server.hangs_up_at = b"poison"
        running = start()
        relp_to(server, running)
        copies = Counter[str]()
        for texts in (["good"], ["poison"], [*numbered(3), "poison"]):
            in_doubt = running.progress.in_doubt
            spool.write(texts)
            running.run(60)
            sent_again = Counter(server.texts()) - Counter(["good", *numbered(3)]) - copies
            copies += sent_again
            assert running.progress.in_doubt - in_doubt >= sent_again.total()
    assert {"good", "record 3"} == set(copies), "the last one stored before each"
    assert all(PROOFS <= count <= COPIES for count in copies.values())
    assert {"numbered": 6, "shipped": 4, "dead": 2} == running.counts


def test_without_one_that_is_stored_it_holds_until_another_one_is(
    spool: SpoolFiles, sink: Sink, start: Callable[..., Running]
) -> None:
    spool.write(["poison"])
    sink.order = poisoned(sink, "hang up", "poison")
    running = start()
    running.run(600)
    assert [] == running.letters.letters
    assert running.delivery.hold
    assert running.delivery.hold.reason == "refused"
    spool.write(["good"])
    running.run(120)
    assert [POISONED] == running.letters.letters
    assert {"numbered": 2, "shipped": 1, "dead": 1} == running.counts


def test_where_no_id_is_known_one_record_is_doubled_so_often_and_then_what_comes_shows_it(
    spool: SpoolFiles, sink: Sink, start: Callable[..., Running]
) -> None:
    """The connection breaks for its copies too, now and then: so the count of proofs begins anew."""
    copies = 0

    def order(texts: list[str]) -> dict[str, Any] | None:
        nonlocal copies
        if any(text.removeprefix(SHORT) == "poison" for text in texts):
            raise HangUp
        if texts != ["good"] or "good" not in sink.texts:
            return None
        if len(sink.requests) % 7 == 0:
            raise HangUp
        copies += 1
        return {"verdicts": {0: ["stored"]}}

    sink.order = order
    spool.write(["good", "poison"])
    running = start()
    running.run(24 * 3600)
    assert COPIES == copies
    assert [] == running.letters.letters
    assert running.delivery.hold
    number = 0
    while not running.letters.letters:
        number += 1
        spool.write([f"record {number}"])
        running.run(120)
        assert f"record {number}" in sink.texts, "it keeps back none behind it"
    assert [POISONED] == running.letters.letters
    assert {"numbered": number + 2, "shipped": number + 1, "dead": 1} == running.counts


def test_a_record_that_is_refused_is_a_dead_letter_once_the_last_one_is_stored_again(
    spool: SpoolFiles, start: Callable[..., Running]
) -> None:
    with RelpServer() as server:
        server.refuses = b"poison"
        running = start()
        relp_to(server, running)
        for text in ("good", "poison"):
            spool.write([text])
            running.run(60)
        assert ["good", "good"] == server.texts()
    assert {"numbered": 2, "shipped": 1, "dead": 1} == running.counts
    assert running.progress.in_doubt == 1


def test_one_that_is_there_already_shows_nothing_of_a_record_that_is_refused(
    spool: SpoolFiles, sink: Sink, start: Callable[..., Running], caplog: pytest.LogCaptureFixture
) -> None:
    sink.order = poisoned(sink, "dead", "poison")
    running = start()
    for text in ("good", "poison"):
        spool.write([text])
        running.run(3600)
    assert [] == running.letters.letters
    assert running.delivery.hold
    assert 1 == sink.duplicates, "it is asked once"
    assert "takes records again" not in caplog.text


def test_nor_does_it_of_one_for_which_the_connection_broke_before(
    spool: SpoolFiles, sink: Sink, start: Callable[..., Running]
) -> None:
    """What is there is answered for, while nothing new is taken: first it hangs up, then it refuses."""
    left = iter([HangUp] * 6)

    def order(texts: list[str]) -> dict[str, Any] | None:
        if texts == ["good"]:
            return None
        for hang_up in left:
            raise hang_up
        return sink.refuse("new")(texts)

    running = start()
    spool.write(["good"])
    running.run(60)
    sink.order = order
    spool.write(["new"])
    running.run(3600)
    assert sink.duplicates >= 3
    assert [] == running.letters.letters
    assert running.delivery.hold
    sink.order = lambda _: None
    running.run(120)
    assert {"numbered": 2, "shipped": 2} == running.counts


def test_after_other_settings_nothing_that_the_former_destination_did_shows_anything(
    spool: SpoolFiles, sink: Sink, start: Callable[..., Running]
) -> None:
    sink.order = poisoned(sink, "hang up", "poison")
    running = start()
    spool.write(["good", "poison"])
    while sink.duplicates < PROOFS // 2:
        running.run(0.1)
    other = Sink()
    other.order = poisoned(other, "hang up", "poison")
    running.delivery.use(running.settings, LineDestination(other.port), running.letters)
    running.run(600)
    assert [] == other.texts
    assert [] == running.letters.letters
    assert not any(one.proofs for one in running.window.records)
    spool.write(["another"])
    running.run(120)
    other.close()
    assert ["another"] == other.texts
    assert PROOFS - 1 <= other.duplicates <= COPIES
    assert {"numbered": 3, "shipped": 2, "dead": 1} == running.counts


def test_two_in_a_row_for_which_the_connection_breaks_are_both_found(
    spool: SpoolFiles, sink: Sink, start: Callable[..., Running]
) -> None:
    spool.write(["a", "poison 1", "poison 2", *numbered(40)])
    sink.order = poisoned(sink, "hang up", "poison 1", "poison 2")
    running = start()
    running.run(200)
    assert ["poison 1", "poison 2"] == [text for text, _ in running.letters.letters]
    assert {"numbered": 43, "shipped": 41, "dead": 2} == running.counts


def breaking(
    sink: Sink, seed: int, odds: float, *, in_part: bool
) -> Callable[[list[str]], dict[str, Any] | None]:
    """Return the order to break the connection at random, for each record or each request, and tell nothing.

    *in_part*: what comes before the record at which it breaks is stored, and acknowledged, as by RELP.
    """
    chance = random.Random(seed)  # noqa: S311 - the same each time

    def order(request: list[str]) -> dict[str, Any] | None:
        if not in_part:
            if chance.random() < odds:
                raise HangUp
            return None
        whole = next((place for place in range(len(request)) if chance.random() < odds), len(request))
        if whole == len(request):
            return None
        return {"error": "broken", "verdicts": sink.store(sink.records[:whole])}

    return order


@pytest.mark.slow
@pytest.mark.parametrize("in_part", [False, True], ids=["by request", "by record"])
@pytest.mark.parametrize("many", [(batch, odds) for batch in (1, 2, 40) for odds in (0.35, 0.5, 2 / 3, 0.9)])
def test_where_connections_break_at_random_no_record_becomes_a_dead_letter_or_loses_a_field(
    many: tuple[int, float], in_part: bool, spool: SpoolFiles, sink: Sink, start: Callable[..., Running]
) -> None:
    batch_records, odds = many
    spool.write(numbered(120))
    sink.order = breaking(sink, 20261126, odds, in_part=in_part)
    running = start(batch_records=batch_records)
    running.run(24 * 3600)
    assert [] == running.letters.letters
    assert {"numbered": 120, "shipped": 120} == running.counts
    assert set(numbered(120)) == set(sink.texts), "and none is reduced to text"


def test_a_record_for_which_the_connection_breaks_is_found_although_it_breaks_for_others_too(
    spool: SpoolFiles, sink: Sink, start: Callable[..., Running], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    spool.write(["poison", *numbered(200)])
    at_random, poison = breaking(sink, 15, 0.1, in_part=False), poisoned(sink, "hang up", "poison")
    sink.order = lambda texts: poison(texts) or at_random(texts)
    running = start()
    running.run(3600)
    assert ["poison"] == [text for text, _ in running.letters.letters]
    assert {"numbered": 201, "shipped": 200, "dead": 1} == running.counts


def test_a_balancer_that_hangs_up_three_times_leaves_no_record_as_text(
    spool: SpoolFiles, sink: Sink, start: Callable[..., Running]
) -> None:
    for times in range(1, 12):
        left = iter([HangUp] * times)

        def hang_up(_: list[str], left: Iterator[type[HangUp]] = left) -> None:
            for order in left:
                raise order

        sink.order = hang_up
        spool.write(numbered(3))
        start().run(600)
        assert not any(text.startswith(SHORT) for text in sink.texts), times


def test_a_record_that_cannot_be_rendered_is_dead_without_being_sent(
    spool: SpoolFiles, sink: Sink, start: Callable[..., Running], caplog: pytest.LogCaptureFixture
) -> None:
    spool.write(["a", "cannot be rendered", "b"])
    running = start()
    running.run()
    assert ["a", "b"] == sink.texts
    assert {"rendering": 1} == running.progress.dead
    assert "refused for good: rendering" in caplog.text
    assert f"elk: record {COLLECTOR}-{1:016x}-2 cannot be rendered" in caplog.text


def refusals_told(caplog: pytest.LogCaptureFixture) -> list[str]:
    lines = [one.getMessage() for one in caplog.records if one.levelname == "ERROR"]
    return [line for line in lines if "is refused for good" in line]


def test_dead_letters_are_told_of_once_a_minute_and_reason_with_their_number(
    spool: SpoolFiles, sink: Sink, start: Callable[..., Running], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    running = start()
    sink.order = sink.refuse("bad")
    for _ in range(100):
        spool.write(["bad", "good"])
        running.run(0.5)
        running.now += 1
    first, second = refusals_told(caplog)
    assert first == f"elk: record {COLLECTOR}-{1:016x}-1 is refused for good: mapper"
    match = re.fullmatch(r"elk: record \S+-(\d+) is refused for good: mapper \(and (\d+) more .*\)", second)
    assert match
    number = int(match[2]) + 1
    assert 30 <= number <= 60
    assert int(match[1]) == 2 * number + 1, "it is the last one of them"
    spool.write(["cannot be rendered", "good"])
    running.run(0.5)
    assert "refused for good: rendering" in refusals_told(caplog)[2], "another reason has a line of its own"
    running.delivery.close()
    assert f"(and {100 - 1 - number - 1} more since the last such line)" in refusals_told(caplog)[3]


def test_those_refused_are_told_of_a_minute_later_although_none_comes_any_more(
    spool: SpoolFiles, sink: Sink, start: Callable[..., Running], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    running = start()
    sink.order = sink.refuse("bad")
    spool.write(["bad", "good"])
    running.run(1)
    spool.write(["bad", "bad", "good"])
    running.run(1)
    assert 1 == len(refusals_told(caplog))
    running.now += 60
    running.delivery.step()
    assert "(and 1 more since the last such line)" in refusals_told(caplog)[1]


def test_dead_letters_that_cannot_be_written_hold(
    spool: SpoolFiles, sink: Sink, start: Callable[..., Running]
) -> None:
    spool.write(["a", "poison", "b"])
    sink.order = poisoned(sink, "dead", "poison")
    running = start()
    running.letters.full = True
    running.run(600)
    assert running.delivery.hold
    assert running.delivery.hold.reason == "dead letters"
    assert running.progress.position.number <= 2
    running.letters.full = False
    running.run(120)
    assert {"numbered": 3, "shipped": 2, "dead": 1} == running.counts


def test_what_concerns_the_destination_holds_and_says_so(
    spool: SpoolFiles, sink: Sink, start: Callable[..., Running], caplog: pytest.LogCaptureFixture
) -> None:
    spool.write(numbered(3))
    sink.order = lambda _: {"error": "hold"}
    running = start()
    running.run(600)
    assert running.delivery.hold
    assert ("closed", "the index is closed") == running.delivery.hold[:2]
    assert "ERROR" in caplog.text
    assert "elk: holds since " in caplog.text
    assert "the index is closed; open it" in caplog.text
    sink.order = lambda _: None
    running.run(120)
    assert running.delivery.hold is None
    assert {"numbered": 3, "shipped": 3} == running.counts


def test_what_was_sent_and_not_answered_is_sent_again_after_two_seconds_and_said_to_be_in_doubt(
    spool: SpoolFiles, sink: Sink, start: Callable[..., Running]
) -> None:
    spool.write(numbered(3))

    def store_and_hang_up(_: list[str]) -> None:
        if len(sink.requests) == 1:
            sink.store(sink.records)
            raise HangUp

    sink.order = store_and_hang_up
    running = start()
    begun = running.now
    running.run(60)
    assert [(False, numbered(3)), (True, numbered(3))] == sink.requests
    assert running.now - begun >= 2
    assert {"numbered": 3, "duplicate": 3} == running.counts
    assert running.progress.in_doubt == 3


def test_what_is_stored_and_may_be_there_twice_is_counted_in_doubt(
    spool: SpoolFiles, sink: Sink, start: Callable[..., Running]
) -> None:
    spool.write(numbered(3))
    in_doubt = {0: ["stored"], 1: ["stored", "", True], 2: ["stored", "", True]}
    sink.order = lambda _: {"verdicts": in_doubt}
    running = start()
    running.run(60)
    assert 1 == len(sink.requests)
    assert {"numbered": 3, "shipped": 3} == running.counts
    assert running.progress.in_doubt == 2


def test_the_verdicts_of_an_answer_in_part_count(
    spool: SpoolFiles, sink: Sink, start: Callable[..., Running]
) -> None:
    spool.write(numbered(4))

    def in_part(_: list[str]) -> dict[str, Any] | None:
        if len(sink.requests) > 1:
            return None
        return {"error": "broken", "verdicts": sink.store(sink.records[:2])}

    sink.order = in_part
    running = start()
    running.run(60)
    assert (True, numbered(2, 3)) == sink.requests[1]
    assert {"numbered": 4, "shipped": 4} == running.counts


def test_after_a_timeout_the_old_request_is_given_timeout_seconds_more_as_the_log_says(
    spool: SpoolFiles, sink: Sink, start: Callable[..., Running], caplog: pytest.LogCaptureFixture
) -> None:
    spool.write(["a"])
    running = start(timeout_seconds=30)
    running.destination.timeout = 0.05

    def answer_late(_: list[str]) -> None:
        if len(sink.requests) == 1:
            sink.store(sink.records)
            within(5, lambda: running.progress.in_doubt)
            raise HangUp

    sink.order = answer_late
    begun = running.now
    running.run(60)
    assert running.now - begun >= 30
    assert {"numbered": 1, "duplicate": 1} == running.counts
    assert ["elk: timed out; trying again in 30.0 s"] == caplog.messages


def test_after_a_start_the_first_records_are_in_doubt_and_wait_two_seconds(
    spool: SpoolFiles, sink: Sink, start: Callable[..., Running]
) -> None:
    spool.write(numbered(5))
    running = start(batch_records=2)
    running.begin(in_doubt=3)
    begun = running.now
    running.run()
    assert [True, True, False] == [again for again, _ in sink.requests]
    assert running.now - begun >= 2


def test_a_connection_is_made_anew_after_reconnect_seconds(
    spool: SpoolFiles, start: Callable[..., Running]
) -> None:
    running = start(reconnect_seconds=300)
    for number in range(4):
        spool.write([f"record {number}"])
        running.run()
        running.now += 100
    assert {"connections": 2} == running.progress.destination


@pytest.mark.parametrize(
    ("instead", "seconds"),
    [(Reply(502), 0), (Reply(503, headers=(("Retry-After", "7"),)), 7), (Reply(400), 0), (lambda _: None, 0)],
    ids=["502", "503", "400", "hangs up"],
)
def test_what_answers_while_a_connection_is_made_is_asked_again(
    spool: SpoolFiles, start: Callable[..., Running], instead: Any, seconds: int
) -> None:
    """A data stream is looked up then: its engine, or what is before it, may be anything but well."""
    spool.write(numbered(3))
    with BulkServer() as server:
        server.roll_over("stream")
        server.instead["stream"].append(instead)
        running = start(url=server.url, index="stream")
        begun = running.now
        running.delivery.use(running.settings, Elasticsearch(running.settings), running.letters)
        running.run()
        assert {"numbered": 3, "shipped": 3} == running.counts
        assert running.now - begun >= seconds


def test_other_settings_take_hold_between_two_requests(
    spool: SpoolFiles, sink: Sink, start: Callable[..., Running]
) -> None:
    other = Sink()
    spool.write(numbered(2))
    running = start()
    sink.order = lambda _: {"error": "busy"}
    running.run(100)
    running.delivery.use(running.settings, LineDestination(other.port), running.letters)
    running.run(100)
    other.close()
    assert numbered(2) == other.texts


def test_a_balancer_that_shakes_hands_and_hangs_up_for_a_minute_makes_no_dead_letter(
    spool: SpoolFiles, sink: Sink, start: Callable[..., Running], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    spool.write(numbered(500))
    running = start()
    until = running.now + 60

    def hang_up(_: list[str]) -> None:
        if running.now < until:
            raise HangUp

    sink.order = hang_up
    running.run(600)
    assert [] == running.letters.letters
    assert {"numbered": 500, "shipped": 500} == running.counts


@pytest.mark.parametrize("answered", [0, 1, PROOFS - 1, PROOFS])
def test_nor_does_one_that_hangs_up_for_an_hour_at_the_last_record_and_all_but_a_few_copies_of_the_one_before(
    answered: int,
    spool: SpoolFiles,
    sink: Sink,
    start: Callable[..., Running],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL)
    running = start()
    spool.write(["good"])
    running.run(10)
    until, passed = running.now + 3600, iter(range(answered))

    def hang_up(texts: list[str]) -> None:
        if running.now < until and (texts != ["good"] or next(passed, None) is None):
            raise HangUp

    sink.order = hang_up
    spool.write(["the last"])
    running.run(8 * 3600)
    assert answered == sink.duplicates
    assert [] == running.letters.letters
    assert {"numbered": 2, "shipped": 2} == running.counts
    assert ["good", "the last"] == sink.texts, "and none is reduced to text"


def closed(sink: Sink, *texts: str) -> Callable[[list[str]], dict[str, Any] | None]:
    """Return the order to hold for the records with these texts, whose index is closed, and store others."""

    def order(request: list[str]) -> dict[str, Any] | None:
        if not set(texts).intersection(request):
            return None
        places = [place for place, text in enumerate(request) if text not in texts]
        stored = sink.store([sink.records[place] for place in places])
        return {"error": "hold", "verdicts": dict(zip(places, stored.values(), strict=True))}

    return order


def test_if_only_an_older_index_refuses_its_records_are_dead_letters_after_reconnect_seconds(
    spool: SpoolFiles, sink: Sink, start: Callable[..., Running]
) -> None:
    spool.write(numbered(30))
    sink.order = closed(sink, *numbered(25))
    running = start(batch_records=10, reconnect_seconds=300)
    running.run(290)
    assert [] == running.letters.letters
    running.run(600)
    assert [(text, "closed") for text in numbered(25)] == running.letters.letters
    assert {"numbered": 30, "shipped": 4, "duplicate": 1, "dead": 25} == running.counts
    spool.write(["one more"])
    running.run()
    assert running.delivery.hold is None


def test_if_the_newest_index_refuses_too_none_becomes_a_dead_letter(
    spool: SpoolFiles, sink: Sink, start: Callable[..., Running]
) -> None:
    spool.write(numbered(30))
    sink.order = closed(sink, *numbered(30))
    running = start(batch_records=10, reconnect_seconds=300)
    running.run(3600)
    assert [] == running.letters.letters
    assert {"numbered": 30, "waiting": 30} == running.counts
    sink.order = lambda _: None
    running.run(120)
    assert {"numbered": 30, "shipped": 30} == running.counts
    assert len(sink.texts) == 30
    assert sink.duplicates == 0
