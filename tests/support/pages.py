"""The page in a real browser: headless Chromium, driven over Debian's chromium-driver."""

from __future__ import annotations

import contextlib
import json
import logging.handlers
import shutil
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.collectors import Collector
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Send = Callable[..., None]

# JSON has microseconds: so the records of several files have the order in which they came.
CONFIG = "[listen]\nport = 0\n[admin]\nport = 0\n[format]\nstyle = 'json'\n"
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
# For a test that listens beside the page.
KEEP_STREAMS = """
    window.streams = [];
    EventSource = class extends EventSource {
        constructor(url) {
            super(url);
            streams.push(this);
            this.addEventListener("history", () => { this.historyAt = performance.now(); });
        }
    };
"""


class Page:
    """The page of a collector in the browser."""

    def __init__(self, driver: Any, url: str) -> None:
        self.driver = driver
        self.url = url

    def open(self, path: str = "", *, state: str = "live") -> Page:
        """Go there, and wait until the page says its *state*, if there is to be one."""
        self.driver.get(self.url + path)
        if state:
            within(10, lambda: self.text("state") == state, f"the page is {state}")
            self.settle()
        return self

    def settle(self) -> None:
        """Wait until what is shown is what was last asked for."""
        within(20, lambda: self.module("stream", "m.isOpen()"), "the stream is open")
        within(20, lambda: self.module("records", "!m.held.stale"), "the records are there")

    def js(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def module(self, name: str, expression: str) -> Any:
        """Return the value of an *expression* about `m`, a module of the page; a promise is waited for."""
        script = (
            "const done = arguments[1]; import(`/page/${arguments[0]}.js`).then(async m => done(await (%s)))"
        )
        return self.driver.execute_async_script(script % expression, name)

    def element(self, name: str) -> Any:
        return self.driver.find_element("id", name)

    def text(self, name: str) -> str:
        script = "return document.getElementById(arguments[0])?.textContent.trim()"
        return str(self.js(script, name)).replace("\N{NO-BREAK SPACE}", " ")

    def says(self, name: str, text: str) -> None:
        within(10, lambda: self.text(name) == text, f"{name} says {text!r}, not {self.text(name)!r}")

    def rows(self) -> list[dict[str, Any]]:
        """Return the cells of the rows in sight by name, oldest first, and `y` below the table's top."""
        return list(
            self.js(
                "const table = document.getElementById('rows').getBoundingClientRect();"
                "return [...document.querySelectorAll('#rows .row:not([hidden])')]"
                ".map(row => [row.getBoundingClientRect(), row])"
                ".filter(([{top, bottom}]) => bottom > table.top && top < table.bottom)"
                ".sort(([a], [b]) => a.top - b.top)"
                ".map(([{top}, row]) => ({y: top - table.top, ...Object.fromEntries("
                "[...row.children].map(cell => [cell.classList[0], cell.textContent]))}))"
            )
        )

    def messages(self) -> list[str]:
        """Return the messages of the rows in sight, oldest first."""
        return [row["message"] for row in self.rows()]

    def shows(self, *messages: str) -> None:
        within(10, lambda: self.messages() == list(messages), f"{messages}, not {self.messages()}")

    def enter(self, name: str, value: str) -> None:
        """Enter *value* in a filter, and wait until the server has it."""
        self.element(name).send_keys(value)
        within(10, lambda: self.module("records", f"m.filters.{name}") == value)
        self.settle()

    def choose(self, name: str, value: str) -> None:
        """Choose the option of a select that has this *value*, as a reader does."""
        script = (
            "const select = document.getElementById(arguments[0]); select.value = arguments[1];"
            "for (const name of ['input', 'change']) select.dispatchEvent(new Event(name));"
        )
        self.js(script, name, value)

    def scroll(self, to: int) -> None:
        """Scroll the table, and wait until it is drawn."""
        script = (
            "const done = arguments[1]; document.getElementById('rows').scrollTop = arguments[0];"
            "requestAnimationFrame(() => requestAnimationFrame(() => done()))"
        )
        self.driver.execute_async_script(script, to)

    def go_to(self, when: str) -> None:
        """Enter a time to go to, and wait until the records there are shown."""
        field = self.element("at")
        field.clear()
        field.send_keys(when, "\n")
        self.settle()

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

    def resize(self, width: int, height: int = 800, scheme: str = "light") -> None:
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def requested(self) -> list[str]:
        """Return the addresses of all that has been asked of the network since the last call."""
        events = (json.loads(event["message"])["message"] for event in self.driver.get_log("performance"))
        return [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="the page's tests need selenium")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("the page's tests need Debian's chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    for argument in (*ARGUMENTS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(argument)
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield browser
    browser.quit()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Page]]:
    """Return a function that opens a collector's page.

    At the end nothing may have gone wrong in its scripts, and no policy been violated.
    """

    scripts = []

    def open_page(
        collector: Collector, path: str = "", *, state: str = "live", keeping_streams: bool = False
    ) -> Page:
        page = Page(browser, f"http://127.0.0.1:{collector.admin_port}/")
        page.resize(1280)
        # Nothing that a test before has chosen: the clock, wrapped lines.
        kept = {"origin": page.url.rstrip("/"), "storageTypes": "local_storage"}
        browser.execute_cdp_cmd("Storage.clearDataForOrigin", kept)
        if keeping_streams:
            given = {"source": KEEP_STREAMS}
            scripts.append(browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", given))
        return page.open(path, state=state)

    browser.get_log("browser"), browser.get_log("performance")
    yield open_page
    for script in scripts:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)
    logged = browser.get_log("browser")
    browser.get("about:blank")
    browser.delete_all_cookies()
    wrong = ("Content Security Policy", "Uncaught", "Error:")
    assert [] == [line for line in logged if any(word in line["message"] for word in wrong)]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """Return one collector for a module: to start one for each test would take most of the time."""
    collector = Collector(tmp_path_factory.mktemp("shared"), CONFIG).start()
    yield collector
    collector.stop()


@pytest.fixture
def watched(shared: Collector) -> Collector:
    """Return the collector of the module: without a record, but with the counts of the tests before."""
    for path in shared.directory.iterdir():
        if not path.name.startswith("."):
            path.unlink()
    told = shared.stderr.count("SIGHUP: ")
    assert shared.process
    shared.process.send_signal(signal.SIGHUP)
    within(10, lambda: shared.stderr.count("SIGHUP: ") > told, "the files are opened anew")
    return shared


@pytest.fixture
def alone(make_collector: Callable[..., Collector]) -> Collector:
    """Return a collector that nothing has happened to."""
    return make_collector(CONFIG).start()


@pytest.fixture
def page(watched: Collector, open_page: Callable[..., Page]) -> Page:
    return open_page(watched)


@pytest.fixture
def send_to() -> Iterator[Callable[[Collector], Send]]:
    """Return a function that makes functions that send a collector a record through a stock handler."""
    with contextlib.ExitStack() as handlers:

        def send_to(collector: Collector) -> Send:
            handler = logging.handlers.SocketHandler("127.0.0.1", collector.port)
            handlers.enter_context(contextlib.closing(handler))

            def send(
                message: str, level: int = logging.INFO, logger: str = "app", exc_text: str = ""
            ) -> None:
                record = logging.LogRecord(logger, level, "shop.py", 3, message, None, None, "pay")
                record.exc_text = exc_text or None
                handler.emit(record)

            return send

        yield send_to


@pytest.fixture
def send(watched: Collector, send_to: Callable[[Collector], Send]) -> Send:
    return send_to(watched)
