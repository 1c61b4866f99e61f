"""The page in a real browser: headless Chromium, driven over Debian's chromium-driver."""

from __future__ import annotations

import contextlib
import json
import logging.handlers
import operator
import re
import shutil
import socket
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.bulk_server import BulkServer, Reply
from tests.support.destinations import NOBODY, destination
from tests.support.waiting import within

webdriver = pytest.importorskip("selenium.webdriver", reason="the page's tests need selenium")

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.collectors import Collector

    Send = Callable[..., None]

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="the page's tests need Debian's chromium and chromium-driver"
    ),
    pytest.mark.slow,
]
# Nothing but the page: no look at Google's servers, and nothing of the user's.
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
TRACEBACK = 'Traceback (most recent call last):\n  File "shop.py", line 3, in pay\nValueError: no money'


class Page:
    """The page of a collector in the browser."""

    def __init__(self, driver: Any, url: str) -> None:
        self.driver = driver
        self.url = url

    def open(self, path: str = "", *, live: bool = True) -> Page:
        self.driver.get(self.url + path)
        if live:
            within(10, lambda: self.text("state") == "live", "the stream is open")
        return self

    def js(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def text(self, name: str) -> str:
        script = "return document.getElementById(arguments[0])?.textContent.trim()"
        return str(self.js(script, name)).replace("\N{NO-BREAK SPACE}", " ")

    def messages(self) -> list[str]:
        """Return the messages of the rows in sight, oldest first."""
        return list(
            self.js(
                "return [...document.querySelectorAll('#rows .row')].filter(row => !row.hidden)"
                ".sort((a, b) => a.ariaRowIndex - b.ariaRowIndex)"
                ".map(row => row.querySelector('.message').textContent)"
            )
        )

    def shows(self, *messages: str) -> None:
        within(10, lambda: self.messages() == list(messages), f"{messages}, not {self.messages()}")

    def enter(self, name: str, value: str) -> None:
        """Enter *value* in a filter, and wait until the server has it."""
        self.driver.find_element("id", name).send_keys(value)
        within(10, lambda: self.js("return filters[arguments[0]]", name) == value)
        within(10, lambda: self.js("return source.readyState") == 1, "the stream is open again")

    def click_row(self, message: str) -> None:
        # Found in one step: rows go when the table gets lower, as it does when an alarm appears.
        script = (
            "return [...document.querySelectorAll('#rows .row:not([hidden])')]"
            ".find(row => row.textContent.includes(arguments[0]))"
        )
        row = self.js(script, message)
        assert row, f"no row has {message}: {self.messages()}"
        row.click()

    def keys(self, *keys: str) -> None:
        self.driver.switch_to.active_element.send_keys(*keys)

    def logged(self, kind: str) -> list[Any]:
        return list(self.driver.get_log(kind))

    def requested(self) -> list[str]:
        """Return the addresses of all that has been asked of the network since the last call."""
        events = (json.loads(event["message"])["message"] for event in self.logged("performance"))
        return [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    for argument in (*ARGUMENTS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(argument)
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def open_page(driver: Any) -> Iterator[Callable[..., Page]]:
    """Return a function that opens a collector's page; no policy may have been violated at the end."""

    def open_page(collector: Collector, path: str = "", *, live: bool = True) -> Page:
        return Page(driver, f"http://127.0.0.1:{collector.admin_port}/").open(path, live=live)

    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 1280, "height": 800, "deviceScaleFactor": 1, "mobile": False},
    )
    driver.get_log("browser"), driver.get_log("performance")
    yield open_page
    violations = [line for line in driver.get_log("browser") if "Content Security Policy" in line["message"]]
    driver.get("about:blank")
    driver.delete_all_cookies()
    assert [] == violations


@pytest.fixture
def watched(make_collector: Callable[..., Collector]) -> Collector:
    return make_collector("[listen]\nport = 0\n[admin]\nport = 0\n").start()


@pytest.fixture
def page(watched: Collector, open_page: Callable[..., Page]) -> Page:
    return open_page(watched)


@pytest.fixture
def send(watched: Collector) -> Iterator[Send]:
    """Return a function that sends a record through a stock handler."""
    handler = logging.handlers.SocketHandler("127.0.0.1", watched.port)

    def send(message: str, level: int = logging.INFO, logger: str = "app", exc_text: str = "") -> None:
        record = logging.LogRecord(logger, level, "shop.py", 3, message, None, None, "pay")
        record.exc_text = exc_text or None
        handler.emit(record)

    yield send
    handler.close()


def test_a_record_of_a_stock_client_appears_within_a_second(page: Page, send: Send) -> None:
    send("hello from a stock client", logging.WARNING, "app.web")
    within(1, page.messages, "the record is in the table")
    cells = page.js("return [...document.querySelector('#rows .row').children].map(cell => cell.textContent)")
    assert re.match(r"\d\d:\d\d:\d\d\.\d{3}$", cells[0])
    assert ["WARNING", "app.web"] == cells[1:3]
    assert re.match(r"127\.0\.0\.1:\d+$", cells[3])
    assert "hello from a stock client" == cells[4]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("level", "WARNING", ["two", "three"]),
        ("logger", "app", ["one", "two"]),
        ("logger", "app.web", ["two"]),
        ("text", "thr", ["three"]),
        ("text", "NO MONEY", ["two"]),
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
    page.keys(page_keys().ESCAPE)  # what was filtered out on the server never came
    page.shows("one", "two", "three", *expected)


def test_the_server_filters_too(page: Page) -> None:
    page.enter("logger", "app.web")
    assert "/api/stream?logger=app.web" in "\n".join(page.requested())


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


def test_pause_holds_the_table_and_counts_what_waits(page: Page, send: Send) -> None:
    send("before")
    page.shows("before")
    page.driver.find_element("id", "pause").click()
    for number in range(3):
        send(f"while paused {number}")
    within(10, lambda: page.text("pause") == "Resume, 3 waiting", "they are counted")
    assert ["before"] == page.messages()
    assert "paused" == page.text("state")
    page.driver.find_element("id", "pause").click()
    page.shows("before", "while paused 0", "while paused 1", "while paused 2")
    assert "Pause" == page.text("pause")


def test_what_waits_is_bounded_and_what_is_left_out_is_told(page: Page) -> None:
    page.js("pause('asked'); for (let n = 0; n < 25_000; n++) take({message: `${n}`, levelno: 20}, 100)")
    within(10, lambda: page.text("pause") == "Resume, 10,000+ waiting", page.text("pause"))
    assert page.js("return waiting.records.length") < 20_000
    page.js("pause('')")
    within(10, lambda: page.messages()[-1:] == ["15,000 records left out: more waited than this page keeps"])


def test_scrolling_back_pauses_and_scrolling_to_the_end_resumes(page: Page, send: Send) -> None:
    for number in range(200):
        send(f"{number}")
    within(10, lambda: page.messages()[-1:] == ["199"], "the newest is in sight")
    page.js("document.getElementById('rows').scrollTop = 0")
    within(10, lambda: page.messages()[0] == "0" and page.text("state") == "paused", "the oldest is in sight")
    send("newest")
    within(10, lambda: page.text("pause") == "Resume, 1 waiting", page.text("pause"))
    page.js("document.getElementById('rows').scrollTop = 1e9")
    within(10, lambda: page.messages()[-1:] == ["newest"] and page.text("state") == "live")


def test_a_traceback_is_folded_and_opens_by_a_click(page: Page, send: Send) -> None:
    send("fine")
    send("failed", logging.ERROR, exc_text=TRACEBACK)
    page.shows("fine", "failed")
    assert not page.driver.find_element("id", "detail").is_displayed()
    page.click_row("failed")
    detail = page.driver.find_element("id", "detail")
    assert f"failed\n{TRACEBACK}" == detail.find_element("css selector", "pre").text
    assert "place: shop.py:3 pay" in detail.text
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
    assert "live" == page.text("state")
    page.keys(keys.ESCAPE)
    assert "" == page.js("return document.activeElement.value")
    page.keys(keys.ESCAPE)
    assert "rows" == page.js("return document.activeElement.id")
    page.keys(" ")
    within(5, lambda: page.text("state") == "paused")
    page.keys(" ")
    within(5, lambda: page.text("state") == "live")
    page.keys(keys.ARROW_DOWN, keys.ENTER)
    assert TRACEBACK in page.driver.find_element("id", "detail").text
    page.keys(keys.ARROW_UP)
    assert "fine" in page.driver.find_element("id", "detail").text
    page.keys(keys.ESCAPE)
    assert not page.driver.find_element("id", "detail").is_displayed()


def test_markup_from_a_record_stays_text(page: Page, send: Send) -> None:
    evil = "<script>window.evil = 1</script><img src=x onerror='window.evil = 1'>"
    send(evil, logger=evil, exc_text=f"Traceback: {evil}")
    page.shows(evil)
    page.click_row("evil")
    within(10, lambda: "evil" in page.text("loggers"), "the logger is listed")
    assert evil in page.driver.find_element("id", "detail").text
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


def test_the_state_is_shown_with_rates(page: Page, send: Send) -> None:
    for _ in range(40):
        send("busy", logging.WARNING, "app.web")
    within(15, lambda: page.text("levels").endswith("40"), page.text("levels"))
    assert page.text("levels").startswith("WARNING")
    within(15, lambda: re.match(r"app\.web[\d.]+40$", page.text("loggers")), page.text("loggers"))
    assert re.match(r"127\.0\.0\.1:\d+[\d.]+40$", page.text("clients"))
    assert re.match(r"[\d.]+ records/s, 1 client$", page.text("rate"))
    assert "Reserve: 0 bytes of 256 MiB" == page.text("reserve-text")
    assert re.search(r" free of .*40 records written, 1 file open$", page.text("disk"))


def test_a_disk_that_fails_is_told_in_words(page: Page, watched: Collector, send: Send) -> None:
    (watched.directory / "broken.log").mkdir()
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
    page = open_page(collector, live=False)
    assert [] == page.driver.find_elements("id", "rows")
    for guess in ("wrong", "secret"):
        field = page.driver.find_element("name", "token")
        field.send_keys(guess)
        field.submit()
        within(10, lambda: staleness_of(field)(page.driver), "the answer has come")  # noqa: B023 - called at once
    within(10, lambda: page.text("state") == "live", "the stream is open")
    assert page.url == page.driver.current_url  # no token in the address
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
    collector.stop()
    words = "Connection lost: the collector does not answer. Trying again."
    within(10, lambda: page.text("alarm-text") == words, page.text("alarm-text"))
    assert "no connection" == page.text("state")
    collector.start()
    within(20, lambda: page.text("state") == "live", "the stream is open again")
    within(10, lambda: page.messages()[-1:] and "connection lost for" in page.messages()[-1], "it is told")
    assert "" == page.text("alarm-text")


def test_a_stream_that_is_refused_is_told_with_the_reason(
    watched: Collector, open_page: Callable[..., Page]
) -> None:
    from collector.admin.stream import MAX_VIEWERS

    with contextlib.ExitStack() as viewers:
        for _ in range(MAX_VIEWERS):
            viewer = viewers.enter_context(socket.create_connection(("127.0.0.1", watched.admin_port)))
            viewer.sendall(b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert viewer.recv(100).startswith(b"HTTP/1.1 200 OK")
        page = open_page(watched, live=False)
        words = f"No records are shown: {MAX_VIEWERS} watch already. Trying again."
        within(10, lambda: page.text("alarm-text") == words, page.text("alarm-text"))
    within(10, lambda: page.text("state") == "live", "there is a place now")
    assert "" == page.text("alarm-text")


def test_10_000_records_stay_smooth(page: Page, send: Send) -> None:
    for number in range(11_000):
        send(f"record {number} " + "x" * 100)
        if number % 100 == 99:  # as fast as it is read: nothing is to be skipped
            within(10, lambda: page.js("return number") > number)  # noqa: B023 - called before the next one
    within(10, lambda: page.messages()[-1:] and page.messages()[-1].startswith("record 10999 "))
    assert "10,000 records" == page.text("count")
    assert page.js("return document.querySelectorAll('#rows .row').length") < 60
    # The work of a frame, in milliseconds: the frames themselves also depend on who else uses the machine.
    millis = page.driver.execute_async_script("""
        const done = arguments[0], table = document.getElementById("rows"), took = [];
        requestAnimationFrame(function scroll() {
            table.scrollTop = took.length * 997 % table.scrollHeight;
            const begun = performance.now();
            render();
            table.offsetHeight;
            took.push(performance.now() - begun);
            if (took.length < 200) requestAnimationFrame(scroll); else done(took.sort((a, b) => a - b));
        });
    """)
    print(f"a frame: p50 {millis[100]:.1f} ms, p95 {millis[190]:.1f} ms, highest {millis[-1]:.1f} ms")
    assert millis[100] < 8
    assert millis[190] < 16


def test_a_viewer_that_is_too_slow_is_told_what_it_missed(page: Page, watched: Collector, send: Send) -> None:
    sent = 50_000
    handler = logging.handlers.SocketHandler("127.0.0.1", watched.port)
    data = b"".join(
        handler.makePickle(logging.LogRecord("app", logging.INFO, "a.py", 1, f"{n} " + "x" * 200, None, None))
        for n in range(sent)
    )
    page.js("""
        window.missed = window.notes = 0;
        source.addEventListener("skipped", event => { missed += JSON.parse(event.data).records; notes++; });
        setTimeout(() => { const end = performance.now() + 5000; while (performance.now() < end); });
    """)
    watched.send(data)
    within(30, lambda: page.js("return number - notes + missed") == sent, "each was shown or counted")
    missed = page.js("return missed")
    print(f"of {sent} records {missed} were skipped")
    assert 0 < missed < sent
    words = page.js("return received.records.findLast(record => record.note).message")
    assert re.match(r"[\d,]+ records? skipped: they came faster than they can be shown$", words)

    def next_one_is_shown() -> bool:
        send("the next one")  # again and again: the stream makes up for the time that the flood took
        return page.messages()[-1] == "the next one"

    within(30, next_one_is_shown)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_that_wcag_asks_for(scheme: str, page: Page) -> None:
    page.driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    grounds = ["ground", "panel", "chosen"]
    names = ["text", "faint", "accent", "debug", "info", "warning", "error", "critical", "other"]
    colour = page.js(
        "const style = getComputedStyle(document.documentElement);"
        "return Object.fromEntries(arguments[0].map(name => [name, style.getPropertyValue(`--${name}`)]))",
        grounds + names,
    )
    assert (colour["ground"] == "#ffffff") == (scheme == "light")
    for ground in grounds:
        for name in names:
            assert _contrast(colour[ground], colour[name]) >= 4.5, (ground, name)


def _contrast(*colours: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return float(sum(map(operator.mul, (0.2126, 0.7152, 0.0722), linear)))

    darker, lighter = sorted(map(luminance, colours))
    return (lighter + 0.05) / (darker + 0.05)


def test_nothing_is_cut_off_on_a_narrow_screen(page: Page, send: Send) -> None:
    page.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": False},
    )
    send("a message " * 50, logger="a.logger.with.a.long.name" * 4, exc_text=TRACEBACK)
    within(10, page.messages)
    page.click_row("a message")
    assert page.js("return document.documentElement.scrollWidth <= innerWidth")
    message = page.driver.find_element("css selector", "#rows .message").rect
    assert message["width"] > 300


def page_keys() -> Any:
    from selenium.webdriver import Keys

    return Keys


def staleness_of(element: Any) -> Any:
    from selenium.webdriver.support.expected_conditions import staleness_of

    return staleness_of(element)
