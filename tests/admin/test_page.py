"""The page in a real browser: the stream, filters, the state, and what is said when something is wrong."""

from __future__ import annotations

import contextlib
import logging.handlers
import re
import socket
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.bulk_server import BulkServer, Reply
from tests.support.destinations import NOBODY, destination
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.collectors import Collector
    from tests.support.pages import Page, Send

TRACEBACK = 'Traceback (most recent call last):\n  File "shop.py", line 3, in pay\nValueError: no money'


def frame(message: str) -> bytes:
    record = logging.LogRecord("app", logging.INFO, "a.py", 1, message, None, None)
    return logging.handlers.SocketHandler("", 0).makePickle(record)


def test_a_record_of_a_stock_client_appears_within_a_second(page: Page, send: Send) -> None:
    send("hello from a stock client", logging.WARNING, "app.web")
    within(1, page.messages, "the record is in the table")
    row = page.rows()[0]
    assert re.match(r"\d\d:\d\d:\d\d\.\d{3}$", row["time"])
    assert ("WARNING", "app.web", "hello from a stock client") == (
        row["level"],
        row["logger"],
        row["message"],
    )
    assert re.match(r"127\.0\.0\.1:\d+$", row["client"])


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("level", "WARNING", ["two", "three"]),
        ("logger", "app", ["one", "two"]),
        ("logger", "app.web", ["two"]),
        ("text", "hree", ["three"]),
        ("text", "NO MONEY", ["two"]),
        ("regex", "^t.*e$", ["three"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_filter_holds_for_what_is_there_and_for_what_comes(
    name: str, value: str, expected: list[str], page: Page, send: Send
) -> None:
    def send_all() -> None:
        send("one", logging.INFO, "app")
        send("two", logging.ERROR, "app.web", TRACEBACK)
        send("three", logging.WARNING, "application")

    send_all()
    page.shows("one", "two", "three")
    page.enter(name, value)
    page.shows(*expected)
    page.requested()
    send_all()
    page.shows(*expected, *expected)
    page.keys(page_keys().ESCAPE)
    page.shows("one", "two", "three", "one", "two", "three")


def test_the_server_filters_too(page: Page) -> None:
    page.enter("logger", "app.web")
    assert "/api/stream?logger=app.web&" in "\n".join(page.requested())


def test_a_click_on_a_logger_shows_it_alone(page: Page, send: Send) -> None:
    send("one", logger="app")
    send("two", logger="shop")
    page.shows("one", "two")
    within(10, lambda: "shop" in page.text("loggers"), "the loggers are listed")
    page.driver.find_element("xpath", "//*[@id='loggers']//button[text()='shop']").click()
    page.shows("two")


def test_filters_are_in_the_address_and_come_back_with_it(
    page: Page, watched: Collector, send: Send, open_page: Callable[..., Page]
) -> None:
    page.enter("logger", "app.web")
    assert page.js("return location.hash") == "#logger=app.web"
    page.driver.get("about:blank")
    open_page(watched, "#logger=app.web")
    send("one", logger="app")
    send("two", logger="app.web")
    page.shows("two")
    # Another address in the place of this one, as when a view is passed on to somebody who has the page open.
    page.js("location.hash = 'logger=app&text=one'")
    page.shows("one")
    assert ("app", "one") == tuple(page.element(name).get_attribute("value") for name in ("logger", "text"))
    page.js("location.hash = 'at=10m'")
    page.shows("one", "two")
    page.says("state", "looking back")
    page.js("location.hash = ''")
    page.says("state", "live")
    page.shows("one", "two")


def test_pause_holds_the_table_and_counts_what_waits(page: Page, send: Send) -> None:
    send("before")
    page.shows("before")
    page.element("pause").click()
    for number in range(3):
        send(f"while paused {number}")
    within(10, lambda: page.text("pause") == "Resume, 3 waiting", "they are counted")
    assert ["before"] == page.messages()
    assert "paused" == page.text("state")
    page.element("pause").click()
    page.shows("before", "while paused 0", "while paused 1", "while paused 2")
    assert "Pause" == page.text("pause")


def test_what_waits_is_bounded_and_what_is_left_out_can_be_scrolled_back_to(page: Page) -> None:
    page.element("pause").click()
    times = '{timestamp: "2026-11-25T10:00:00Z", levelno: 20}'
    page.module(
        "records", f"Array.from({{length: 25_000}}, (_, n) => m.take({{message: `${{n}}`, ...{times}}})) && 1"
    )
    page.says("pause", "Resume, 25,000 waiting")
    assert page.module("records", "m.waiting.records.length") < 20_000
    page.element("pause").click()
    within(10, lambda: page.messages()[-1:] == ["24999"])
    assert [10_000, "more"] == page.module("records", "[m.held.records.length, m.held.older.state]")


def test_scrolling_back_pauses_and_scrolling_to_the_end_resumes(page: Page, send: Send) -> None:
    for number in range(200):
        send(f"{number}")
    within(10, lambda: page.messages()[-1:] == ["199"], "the newest is in sight")
    page.scroll(0)
    within(10, lambda: page.messages()[0] == "0" and page.text("state") == "paused", "the oldest is in sight")
    send("newest")
    within(10, lambda: page.text("pause") == "Resume, 1 waiting", page.text("pause"))
    page.scroll(10**9)
    within(10, lambda: page.messages()[-1:] == ["newest"] and page.text("state") == "live")


def test_a_traceback_is_folded_and_opens_by_a_click(page: Page, send: Send) -> None:
    send("fine")
    send("failed", logging.ERROR, exc_text=TRACEBACK)
    page.shows("fine", "failed")
    assert not page.element("detail").is_displayed()
    page.click_row("failed")
    detail = page.element("detail")
    assert f"failed\n{TRACEBACK}" == detail.find_element("css selector", "pre").text
    assert re.search(r"^place\s+shop.py:3 pay$", detail.text, re.MULTILINE)
    assert "paused" == page.text("state")  # what is being read stays where it is
    page.click_row("failed")
    assert not detail.is_displayed()
    assert "live" == page.text("state")


def test_all_is_done_by_keys_too(page: Page, send: Send) -> None:
    keys = page_keys()
    send("fine")
    send("failed", logging.ERROR, exc_text=TRACEBACK)
    page.shows("fine", "failed")
    page.keys("/")
    assert "text" == page.js("return document.activeElement.id")
    page.keys("a b")  # a space in a field is a space
    page.shows()
    assert "a b" == page.js("return document.activeElement.value")
    assert "live" == page.text("state")
    page.keys(keys.ESCAPE)
    assert "" == page.js("return document.activeElement.value")
    page.shows("fine", "failed")
    page.keys(keys.ESCAPE)
    assert "rows" == page.js("return document.activeElement.id")
    page.keys(" ")
    within(5, lambda: page.text("state") == "paused")
    page.keys(" ")
    within(5, lambda: page.text("state") == "live")
    page.keys(keys.ARROW_DOWN, keys.ENTER)
    assert TRACEBACK in page.element("detail").text
    page.keys(keys.ARROW_UP)
    assert "fine" in page.element("detail").text
    page.keys(keys.ESCAPE)
    assert not page.element("detail").is_displayed()
    page.keys(keys.ARROW_DOWN, keys.ENTER, keys.TAB)
    assert "Copy text" == page.js("return document.activeElement.textContent")
    page.keys(keys.ESCAPE)
    assert "rows" == page.js("return document.activeElement.id"), "arrows go on from where it was"
    page.keys("e")
    assert "exceptions-tab" == page.js("return document.activeElement.id")
    page.keys("r")
    assert "rows" == page.js("return document.activeElement.id")


def test_markup_from_a_record_stays_text(page: Page, send: Send) -> None:
    evil = "<script>window.evil = 1</script><img src=x onerror='window.evil = 1'>"
    send(evil, logger=evil, exc_text=f"Traceback: {evil}")
    page.shows(evil)
    page.click_row("evil")
    within(10, lambda: "evil" in page.text("loggers"), "the logger is listed")
    assert evil in page.element("detail").text
    assert [0, 1, False] == page.js(
        "return [document.images.length, document.scripts.length, 'evil' in window]"
    )


def test_nothing_is_requested_from_elsewhere(page: Page, send: Send) -> None:
    send("see https://example.org/logo.png", logger="https://example.org/")
    page.shows("see https://example.org/logo.png")
    within(10, lambda: "example" in page.text("loggers"), "the loggers are listed")
    requested = page.requested()
    assert f"{page.url}api/stats" in requested
    assert [] == [url for url in requested if not url.startswith(page.url)]


def test_the_state_is_shown_with_rates(
    alone: Collector, open_page: Callable[..., Page], send_to: Callable[[Collector], Send]
) -> None:
    page, send = open_page(alone), send_to(alone)
    for _ in range(40):
        send("busy", logging.WARNING, "app.web")
    within(15, lambda: page.text("levels").endswith("40"), page.text("levels"))
    assert page.text("levels").startswith("WARNING")
    within(15, lambda: re.match(r"app\.web[\d.]+40$", page.text("loggers")), page.text("loggers"))
    assert re.match(r"127\.0\.0\.1:\d+[\d.]+40$", page.text("clients"))
    assert re.match(r"[\d.]+ records/s, 1 client$", page.text("rate"))
    assert "Reserve: 0 bytes of 256 MiB" == page.text("reserve-text")
    assert re.search(r" free of .*40 records written, 1 file open$", page.text("disk"))


def test_a_disk_that_fails_is_told_in_words(
    alone: Collector, open_page: Callable[..., Page], send_to: Callable[[Collector], Send]
) -> None:
    page, send = open_page(alone), send_to(alone)
    (alone.directory / "broken.log").mkdir()
    send("cannot be written", logger="broken")
    within(15, lambda: "broken.log: " in page.text("disk"), page.text("disk"))
    assert "1 record waits" in page.text("disk")
    within(5, lambda: "Not well: " in page.text("alarm-text"), page.text("alarm-text"))


def test_destinations_are_shown_where_there_are_any(
    page: Page, make_collector: Callable[..., Collector], open_page: Callable[..., Page]
) -> None:
    within(15, lambda: "free of" in page.text("disk"), "the state is shown")
    assert not page.driver.find_element("id", "handing-over").is_displayed()

    with BulkServer() as server:
        tables = destination(server.url) + destination(NOBODY, "siem")
        server.instead["_bulk"] = [Reply(401, b"{}")] * 1000
        collector = make_collector(f"[admin]\nport = 0\n[spool]\n{tables}").start()
        with contextlib.closing(logging.handlers.SocketHandler("127.0.0.1", collector.port)) as handler:
            for _ in range(3):
                handler.emit(logging.LogRecord("app", logging.INFO, "shop.py", 3, "text", None, None))
        page = open_page(collector)
        within(30, lambda: "elk: holds for " in page.text("forward-lines"), page.text("forward-lines"))
        within(30, lambda: page.text("forwards") == "elk03siem03", page.text("forwards"))
        assert page.driver.find_element("id", "handing-over").is_displayed()
        assert "401" in page.text("forward-lines")
        assert re.search(r"siem: the oldest has waited for \d+ s", page.text("forward-lines"))
        assert re.search(r"spool: [\d.]+ (bytes|KiB) of 1.0 GiB$", page.text("forward-lines"))
        server.instead["_bulk"] = []
        within(30, lambda: re.match(r"elk[\d.]+0siem03$", page.text("forwards")), page.text("forwards"))
        within(30, lambda: "elk: " not in page.text("forward-lines"), page.text("forward-lines"))
        assert "live" == page.text("state"), "and all is well"
        assert "" == page.text("alarm-text")


def test_the_token_is_asked_for(
    make_collector: Callable[..., Collector], open_page: Callable[..., Page]
) -> None:
    collector = make_collector('[listen]\nport = 0\n[admin]\nport = 0\ntoken = "secret"\n').start()
    page = open_page(collector, state="")
    assert [] == page.driver.find_elements("id", "rows")
    for guess in ("wrong", "secret"):
        field = page.driver.find_element("name", "token")
        field.send_keys(guess)
        field.submit()
        within(10, lambda: staleness_of(field)(page.driver), "the answer has come")  # noqa: B023 - called at once
        assert page.url == page.driver.current_url, "no token stays in the address"
        if guess == "wrong":
            assert "This token is wrong." in page.driver.find_element("tag name", "body").text
    within(10, lambda: page.text("state") == "live", "the stream is open")
    page.driver.delete_all_cookies()
    within(10, lambda: page.text("alarm-text") == "The collector asks for its token.")
    page.driver.find_element("link text", "Enter the token").click()
    within(10, lambda: page.driver.find_elements("name", "token"), "the form is there")


def test_a_lost_connection_is_told_and_found_again(
    make_collector: Callable[..., Collector], open_page: Callable[..., Page]
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    collector = make_collector(f"[listen]\nport = 0\n[admin]\nport = {port}\n").start()
    page = open_page(collector)
    within(10, lambda: "version" in page.text("uptime"), "the state is shown")
    collector.stop()
    words = (
        r"Connection lost: the collector does not answer\. "
        r"Nothing here has been updated since (\d\d:\d\d:\d\d)\. Trying again\.$"
    )
    within(10, lambda: re.match(words, page.text("alarm-text")), page.text("alarm-text"))
    page.says("state", "no connection")
    assert "0.5" == page.js("return getComputedStyle(document.querySelector('aside')).opacity")
    since = re.match(words, page.text("alarm-text"))
    assert since
    assert f"✕ {page.text('host')}: no connection since {since[1][:-3]}" == page.driver.title
    collector.start()
    collector.send(b"".join(frame(f"missed {number}") for number in range(3)))
    within(20, lambda: page.text("state") == "live", "the stream is open again")
    page.shows("missed 0", "missed 1", "missed 2")
    within(10, lambda: not page.text("alarm-text"), page.text("alarm-text"))


def test_a_stream_that_is_refused_is_told_with_the_reason(
    watched: Collector, open_page: Callable[..., Page]
) -> None:
    from collector.admin.stream import MAX_VIEWERS

    with contextlib.ExitStack() as viewers:

        def watches() -> bool:
            viewer = viewers.enter_context(socket.create_connection(("127.0.0.1", watched.admin_port)))
            viewer.sendall(b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return viewer.recv(100).startswith(b"HTTP/1.1 200 OK")

        for _ in range(MAX_VIEWERS):
            within(10, watches, "the page of an earlier test has left its place")
        page = open_page(watched, state="")
        words = f"No records are shown: {MAX_VIEWERS} watch already. Trying again."
        within(10, lambda: page.text("alarm-text") == words, page.text("alarm-text"))
    within(10, lambda: page.text("state") == "live", "there is a place now")
    assert "" == page.text("alarm-text")


def test_10_000_records_stay_smooth(page: Page) -> None:
    times = '{timestamp: "2026-11-25T10:00:00Z", levelno: 20}'
    message = "message: `record ${n} ${'x'.repeat(100)}`"
    for begin in range(0, 11_000, 500):
        numbers = f"Array.from({{length: 500}}, (_, n) => n + {begin})"
        page.module("records", f"{numbers}.forEach(n => m.take({{{message}, ...{times}}}))")
    within(10, lambda: page.messages()[-1:] and page.messages()[-1].startswith("record 10999 "))
    assert "10,000+ records loaded" == page.text("count")
    assert page.js("return document.querySelectorAll('#rows .row').length") < 60
    # The work of a frame, in milliseconds: the frames themselves also depend on who else uses the machine.
    millis = page.driver.execute_async_script("""
        const done = arguments[0], table = document.getElementById("rows"), took = [];
        import("/page/table.js").then(({render}) => requestAnimationFrame(function scroll() {
            table.scrollTop = table.scrollHeight / 2 + took.length * 997 % (table.scrollHeight / 2);
            const begun = performance.now();
            render();
            table.offsetHeight;
            took.push(performance.now() - begun);
            if (took.length < 200) requestAnimationFrame(scroll); else done(took.sort((a, b) => a - b));
        }));
    """)
    print(f"a frame: p50 {millis[100]:.1f} ms, p95 {millis[190]:.1f} ms, highest {millis[-1]:.1f} ms")
    assert millis[100] < 8
    assert millis[190] < 16


def test_a_viewer_that_is_too_slow_is_told_what_it_missed(
    watched: Collector, open_page: Callable[..., Page], send: Send
) -> None:
    page = open_page(watched, keeping_streams=True)
    sent = 25_000
    data = b"".join(frame(f"{number} " + "x" * 200) for number in range(sent))
    page.js("""
        window.missed = window.notes = 0;
        streams.at(-1).addEventListener("skipped", event => {
            missed += JSON.parse(event.data).records;
            notes++;
        });
        setTimeout(() => { const end = performance.now() + 3000; while (performance.now() < end); });
    """)
    watched.send(data)
    within(
        30,
        lambda: page.module("records", "m.held.records.at(-1)?.number + 1 - notes + missed") == sent,
        "each was shown or counted",
    )
    missed = page.js("return missed")
    print(f"of {sent} records {missed} were skipped")
    assert 0 < missed < sent
    words = page.module("records", "m.held.records.findLast(record => record.note).message")
    assert re.match(r"[\d,]+ records? skipped: they came faster than they can be shown$", words)

    def next_one_is_shown() -> bool:
        send("the next one")  # again and again: the stream makes up for the time that the flood took
        return page.messages()[-1] == "the next one"

    within(30, next_one_is_shown)


def page_keys() -> Any:
    from selenium.webdriver import Keys

    return Keys


def staleness_of(element: Any) -> Any:
    from selenium.webdriver.support.expected_conditions import staleness_of

    return staleness_of(element)
