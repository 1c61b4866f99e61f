"""The page looks back: the last records, scrolling to older ones, a time, filters, the plot, the clocks."""

from __future__ import annotations

import json
import logging
import os
import re
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.moments import IN_UTC, NOW, REFUSED
from tests.support.pages import CONFIG
from tests.support.waiting import crowding, within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from tests.support.collectors import Collector
    from tests.support.pages import Page, Send

    MakeCollector = Callable[..., Collector]
    OpenPage = Callable[..., Page]

RECORDS = int(os.environ.get("COLLECTOR_PAGE_RECORDS", "15_000"))
"""How many are scrolled back, of which 10,000 are held at a time: 100,000 take a minute."""
NIGHT = datetime(2026, 11, 24, 23, 0, tzinfo=timezone.utc)
TRACEBACK = 'Traceback (most recent call last):\n  File "shop.py", line 3, in pay\nValueError: no money'


def line(when: datetime, message: str, level: str = "INFO", logger: str = "app", **more: object) -> str:
    stamp = f"{when:%Y-%m-%dT%H:%M:%S.%f}Z"
    record = {"timestamp": stamp, "level": level, "logger": logger, "message": message, **more}
    return json.dumps(record, separators=(",", ":")) + "\n"


def fill(directory: Path, lines: Iterable[str], name: str = "app.log") -> None:
    """Write a log file as the collector would have left it."""
    directory.mkdir(exist_ok=True)
    (directory / name).write_text("".join(lines))


def each(number: int, begin: datetime = NIGHT, step: timedelta = timedelta(seconds=10)) -> list[str]:
    """Return lines with the messages 0, 1, 2 and so on."""
    return [line(begin + n * step, str(n)) for n in range(number)]


@pytest.fixture
def past(watched: Collector) -> Callable[..., Collector]:
    """Return a function that gives the collector lines that it finds in its directory."""

    def past(lines: Iterable[str]) -> Collector:
        fill(watched.directory, lines)
        return watched

    return past


def held(page: Page) -> list[str]:
    return list(page.module("records", "m.held.records.map(record => record.message)"))


def test_the_last_records_are_there_half_a_second_after_the_page_opens(
    past: Callable[..., Collector], open_page: OpenPage
) -> None:
    collector = past(each(5000))
    page = open_page(collector, keeping_streams=True)
    assert "4999" == page.messages()[-1]
    # In the browser's own time, from the request for the page on.
    took = page.js("return streams[0].historyAt") / 1000
    print(f"the last records were there after {took:.2f} s")
    assert took < 0.5 * crowding()


def test_the_topmost_row_is_whole(past: Callable[..., Collector], open_page: OpenPage) -> None:
    page = open_page(past(each(1000)))
    for height in (700, 705, 711, 718):
        page.resize(1280, height)
        within(5, lambda: page.rows()[0]["y"] == 0, f"at {height} px: {page.rows()[0]}")
        assert "999" == page.messages()[-1]
    page.click_row("999")
    assert page.element("detail").is_displayed()
    assert 0 == page.rows()[0]["y"], "above a record that is open, too"


def test_scrolling_back_loads_older_records_without_a_jump(
    past: Callable[..., Collector], open_page: OpenPage
) -> None:
    page = open_page(past(each(3000)))
    assert 200 == len(held(page))
    while held(page)[0] != "0":
        number = len(held(page))
        page.scroll(100)
        before = page.rows()
        within(20, lambda: len(held(page)) > number, "older ones are there")  # noqa: B023 - called at once
        assert before == page.rows(), "what is in sight stays where it is"
    assert [str(n) for n in range(3000)] == held(page)
    page.scroll(0)
    within(5, lambda: page.messages()[0] == "0")
    page.says("older-text", "Here the records begin.")


def test_many_records_are_scrolled_back_with_rows_recycled(
    past: Callable[..., Collector], open_page: OpenPage
) -> None:
    page = open_page(past(each(RECORDS, NIGHT - timedelta(days=1), timedelta(seconds=1))))
    page.driver.set_script_timeout(300)
    seen, most, rows, gap = page.driver.execute_async_script(
        """
        const [all, done] = arguments, table = document.getElementById("rows");
        import("/page/records.js").then(({held}) => {
            let oldest = all, most = 0, rows = 0, gap = "";
            (function step() {
                table.scrollTop = 0;
                const numbers = held.records.map(record => Number(record.message));
                const torn = numbers.find((number, index) => index && number !== numbers[index - 1] + 1);
                if (torn !== undefined) gap ||= `before ${torn}`;
                if (numbers.at(-1) < oldest - 1) gap ||= `${numbers.at(-1)} to ${oldest}`;
                oldest = numbers[0];
                most = Math.max(most, numbers.length);
                rows = Math.max(rows, table.children.length);
                if (oldest && !gap) setTimeout(step, 20); else done([all - oldest, most, rows, gap]);
            })();
        });
        """,
        RECORDS,
    )
    assert "" == gap
    assert RECORDS == seen
    assert most <= 10_000, "what is added at one end goes at the other"
    assert rows < 60
    page.says("state", "looking back")
    # And to the present again, by the same way.
    for _ in range(3):
        last = held(page)[-1]
        page.scroll(10**9)
        within(20, lambda: int(held(page)[-1]) > int(last), "newer ones are there")  # noqa: B023 - called at once
    page.element("pause").click()
    within(20, lambda: page.messages()[-1] == str(RECORDS - 1) and page.text("state") == "live")


def test_scrolling_to_the_end_of_history_joins_the_stream_again(
    past: Callable[..., Collector], open_page: OpenPage, send_to: Callable[[Collector], Send]
) -> None:
    collector = past(each(1500))
    page = open_page(collector)
    page.go_to("2026-11-24 23:30Z")
    assert "looking back" == page.text("state")
    send_to(collector)("newest")
    page.says("pause", "Back to live, 1 new")

    def is_live() -> bool:
        page.scroll(10**9)
        return page.text("state") == "live"

    page.keys(ESCAPE)
    within(20, is_live)
    within(5, lambda: page.messages()[-1] == "newest")
    assert ["1499", "newest"] == held(page)[-2:]


ESCAPE = "\ue00c"


def test_go_to_a_time(past: Callable[..., Collector], open_page: OpenPage) -> None:
    page = open_page(past(each(1500)))
    page.choose("clock", "utc")
    cases = {"2026-11-24 23:30Z": "180", "2026-11-25T00:50:05+01:00": "301", "2026-11-25": "360"}
    for entered, message in cases.items():
        page.go_to(entered)
        within(5, lambda: page.module("table", "m.choice.record.message") == message)  # noqa: B023 - at once
        assert message in page.messages()
        assert 0 == page.rows()[0]["y"], "the topmost row is whole"


def test_what_is_no_time_is_said(page: Page) -> None:
    page.element("at").send_keys("25:99 o'clock\n")
    within(5, lambda: page.element("at-fault").is_displayed())
    assert "live" == page.text("state")
    page.element("at").send_keys("x")
    assert not page.element("at-fault").is_displayed()


def test_times_are_entered_as_for_tail(page: Page) -> None:
    page.module("clock", "m.chooseClock('utc')")
    asked = json.dumps([*IN_UTC, *REFUSED])
    found = page.module(
        "clock",
        f"{asked}.map(text => m.entered(text, Date.parse('{NOW}')))"
        ".map(ms => Number.isNaN(ms) ? null : new Date(ms).toISOString().slice(0, 19))",
    )
    expected = {**IN_UTC, **dict.fromkeys(REFUSED)}
    assert expected == dict(zip(expected, found, strict=True))


def test_a_day_begins_with_its_date_by_the_clock_that_is_chosen_which_is_kept(
    make_collector: MakeCollector, open_page: OpenPage
) -> None:
    collector = make_collector(CONFIG)
    fill(collector.directory, [line(NIGHT + timedelta(minutes=30 * n), str(n)) for n in range(6)])
    page = open_page(collector.start(env=os.environ | {"TZ": "Asia/Kolkata"}))

    def dates() -> dict[str, str]:
        return {row["message"]: row["date"] for row in page.rows() if row["date"]}

    page.choose("clock", "utc")
    within(5, lambda: dates() == {"0": "Tuesday, 24 November 2026", "2": "Wednesday, 25 November 2026"})
    assert ("UTC", "2026-11-24") == (page.text("zone"), page.text("day"))
    page.choose("clock", "server")
    within(10, lambda: dates() == {"0": "Wednesday, 25 November 2026"})
    page.says("zone", "Asia/Kolkata, +05:30")
    assert "04:30:00.000" == page.rows()[0]["time"]
    page.click_row("04:30:00")
    assert "2026-11-25 04:30:00.000000 +05:30 (Asia/Kolkata, +05:30)" in page.element("detail").text
    page.open()
    page.says("zone", "Asia/Kolkata, +05:30")


def test_records_whose_lines_tell_no_time_have_no_date_of_their_own_each(
    make_collector: MakeCollector, open_page: OpenPage
) -> None:
    collector = make_collector(CONFIG.replace("style = 'json'", "text = '%(name)s %(message)s'"))
    fill(collector.directory, ["app one\n", "app two\n"])
    page = open_page(collector.start())
    page.shows("one", "two")
    assert ["no date", ""] == [row["date"] for row in page.rows()]
    assert "Time" == page.text("day")


def test_filters_apply_to_history_and_keep_the_place(
    past: Callable[..., Collector], open_page: OpenPage
) -> None:
    levels = ("DEBUG", "INFO", "WARNING", "ERROR")
    lines = [line(NIGHT + timedelta(seconds=10 * n), str(n), levels[n % 4]) for n in range(3000)]
    page = open_page(past(lines))
    page.enter("level", "WARNING")
    within(
        10,
        lambda: (
            ["2998", "2999"] == held(page)[-2:] and {"WARNING", "ERROR"} == {r["level"] for r in page.rows()}
        ),
    )
    page.go_to("2026-11-25 02:00Z")
    within(10, lambda: "1082" in page.messages(), str(page.messages()))
    page.choose("level", "ERROR")
    within(10, lambda: {"ERROR"} == {row["level"] for row in page.rows()}, str(page.rows()))
    assert "looking back" == page.text("state")
    times = [row["time"] for row in page.rows()]
    assert any(re.match(r"(02|01):", each) for each in times) or times, times


def test_filters_that_nothing_matches_leave_no_row_and_no_word_of_one(page: Page, send: Send) -> None:
    send("one")
    page.shows("one")
    page.enter("text", "two")
    within(5, lambda: page.module("records", "m.held.older.state") == "begun", "all has been looked at")
    page.says("empty", "No record yet that matches the filters")
    page.says("older-text", "")


def test_a_regular_expression_is_looked_for_in_history_and_a_wrong_one_is_told(
    past: Callable[..., Collector], open_page: OpenPage
) -> None:
    page = open_page(past(each(1000)))
    page.element("regex").send_keys("^9.9$")
    within(10, lambda: [f"9{n}9" for n in range(10)] == held(page), str(held(page)))
    page.element("regex").send_keys("(")
    within(10, lambda: page.text("alarm-text").startswith("No records are shown: "), page.text("alarm-text"))
    assert "true" == page.element("regex").get_attribute("aria-invalid")
    assert "live" == page.text("state"), "the connection is not what is wrong"
    page.element("regex").send_keys("\b")
    within(10, lambda: page.text("alarm-text") == "", page.text("alarm-text"))


def test_a_time_is_in_the_address_and_comes_back_with_it(
    past: Callable[..., Collector], open_page: OpenPage
) -> None:
    collector = past(each(1500))
    page = open_page(collector)
    page.go_to("2026-11-24 23:30Z")
    assert "#at=2026-11-24T23%3A30%3A00.000Z" == page.js("return location.hash")
    page.driver.get("about:blank")
    open_page(collector, "#at=2026-11-24T23%3A30%3A00.000Z", state="looking back")
    within(10, lambda: page.module("table", "m.choice.record?.message") == "180")
    page.element("pause").click()
    page.says("state", "live")
    assert "#" == page.js("return location.hash || '#'")


def test_a_click_on_a_level_at_the_side_filters_and_another_takes_that_back(page: Page, send: Send) -> None:
    send("fine")
    send("failed", logging.ERROR)
    within(10, lambda: "ERROR" in page.text("levels"), "the levels are listed")
    click = "document.querySelector('#levels .error button').click()"
    page.js(click)
    page.shows("failed")
    assert "ERROR" == page.element("level").get_attribute("value")
    page.js(click)
    page.shows("fine", "failed")


def test_the_plot_shows_the_records_of_the_last_hour_and_a_click_goes_there(
    alone: Collector, open_page: OpenPage, send_to: Callable[[Collector], Send]
) -> None:
    page, send = open_page(alone), send_to(alone)
    page.says("plot-words", "0 records in the last hour")
    page.js("document.getElementById('history').focus()")
    page.keys("\n")
    assert "live" == page.text("state"), "there is nowhere to go"
    for _ in range(3):
        send("failed", logging.ERROR)
    send("fine")
    page.says("plot-words", "4 records in the last hour")
    for span in ("day", "week"):
        page.driver.find_element("css selector", f"#spans [value={span}]").click()
        page.says("plot-words", f"4 records in the last {span}")
    page.driver.find_element("css selector", "#spans [value=hour]").click()
    page.says("plot-words", "4 records in the last hour")
    page.js("document.getElementById('history').focus()")
    page.keys("\ue011", "\ue012", "\ue014", "\ue010")  # Home, Left, Right, End
    at = page.element("history").get_attribute("aria-valuetext")
    if "4 records" not in at:  # a minute has begun since
        page.keys("\ue012")
        at = page.element("history").get_attribute("aria-valuetext")
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d: 4 records - 3 ERROR, 1 INFO$", at)
    page.keys("\n")
    page.says("state", "looking back")
    within(10, lambda: page.module("table", "m.choice.record?.message") == "failed")


def test_a_record_is_copied_as_text_and_as_json(past: Callable[..., Collector], open_page: OpenPage) -> None:
    page = open_page(past([line(NIGHT, "failed", "ERROR", exception=TRACEBACK, extra={"user": "ann"})]))
    page.choose("clock", "utc")
    page.js("window.copied = []; navigator.clipboard.writeText = async text => { copied.push(text); }")
    page.click_row("failed")
    page.driver.find_element("xpath", "//button[text()='Copy text']").click()
    page.says("done", "Copied as text")
    page.js("document.getElementById('rows').focus()")
    page.keys("j")
    page.says("done", "Copied as JSON")
    text, as_json = page.js("return copied")
    assert f"2026-11-24 23:00:00.000000 +00:00 ERROR app: failed\n{TRACEBACK}\n" == text
    copied: dict[str, Any] = json.loads(as_json)
    assert {"user": "ann"} == copied["extra"]
    assert not {"ms", "number", "size", "cursor"} & {*copied}, "nothing of the page's own"


def test_without_a_clipboard_it_is_copied_all_the_same(
    past: Callable[..., Collector], open_page: OpenPage
) -> None:
    page = open_page(past([line(NIGHT, "failed")]))
    page.js(
        "navigator.clipboard.writeText = () => Promise.reject(new Error('not over plain HTTP'));"
        "document.addEventListener('copy', () => { window.copied = document.activeElement.value; })"
    )
    page.click_row("failed")
    page.js("document.getElementById('rows').focus()")
    page.keys("c")
    page.says("done", "Copied as text")
    assert page.js("return copied").endswith(" INFO app: failed\n")
    assert "rows" == page.js("return document.activeElement.id")


def test_long_lines_are_wrapped_and_what_is_cut_tells_its_text(
    past: Callable[..., Collector], open_page: OpenPage
) -> None:
    long = "a long message " * 40 + "\nwith two lines"
    page = open_page(past([line(NIGHT + timedelta(seconds=n), f"{n} {long}") for n in range(300)]))
    from selenium.webdriver import ActionChains

    cell = page.driver.find_element("css selector", "#rows .row:not([hidden]) .message")
    ActionChains(page.driver).move_to_element(cell).perform()
    within(5, lambda: long in (cell.get_attribute("title") or ""), "the tooltip has all of it")
    page.element("wrap").click()
    within(5, lambda: len(page.rows()) < 10)
    assert 0 == page.rows()[0]["y"], "the topmost row is whole"
    assert page.js(
        "return [...document.querySelectorAll('#rows .row:not([hidden]) .message')]"
        ".every(cell => cell.scrollWidth <= cell.clientWidth)"
    )
    page.scroll(3000)
    within(5, lambda: page.text("state") == "paused")
    ys = [row["y"] for row in page.rows()]
    assert all(60 < below - above < 300 for above, below in pairwise(ys)), ys


def test_the_end_of_a_record_that_is_higher_than_the_table_is_in_sight(page: Page, send: Send) -> None:
    page.resize(400)
    page.element("wrap").click()
    send("before")
    send("a long message " * 300)
    within(5, lambda: [row["message"][:6] for row in page.rows()] == ["a long"], "nothing else has room")
    assert page.rows()[0]["y"] < 0
    assert "live" == page.text("state")


def test_title_and_icon_carry_host_and_state(
    alone: Collector, open_page: OpenPage, send_to: Callable[[Collector], Send]
) -> None:
    page, send = open_page(alone), send_to(alone)

    def icon() -> str:
        return str(page.element("icon").get_attribute("href"))

    within(
        10,
        lambda: re.match(rf"[\d.]+/s {re.escape(page.text('host'))}$", page.driver.title),
        page.driver.title,
    )
    icons = {icon()}
    page.element("pause").click()
    within(5, lambda: page.driver.title.startswith("❚❚ "))
    icons.add(icon())
    (alone.directory / "broken.log").mkdir()
    send("cannot be written", logger="broken")
    within(15, lambda: page.driver.title.startswith(f"⚠ {page.text('host')}: Not well: "), page.driver.title)
    icons.add(icon())
    assert 3 == len(icons)
    assert all(one.startswith("data:image/png") for one in icons)


def test_the_highest_rate_of_an_idle_plot_is_none(page: Page) -> None:
    within(10, lambda: "version" in page.text("uptime"), "the state is shown")
    assert page.element("rates").get_attribute("aria-label").endswith("highest -")


def test_free_never_contradicts_an_error_beside_it(page: Page) -> None:
    """A quota refuses what statvfs says is free. There is none here: the answer is changed on its way."""
    page.js("""
        const real = fetch;
        window.fetch = async (url, how) => {
            const answer = await real(url, how);
            if (!url.startsWith("api/stats")) return answer;
            const stats = await answer.json();
            stats.volumes = [{directory: "/logs", free_bytes: 2 ** 33, total_bytes: 2 ** 35}];
            stats.files.failing = [{path: "/logs/a.log", error: "No space left on device", records: 1}];
            return new Response(JSON.stringify(stats));
        };
    """)
    within(10, lambda: "/logs: full (No space left on device), of 32.0 GiB" in page.text("disk"))
    assert " free of " not in page.text("disk")


def test_a_search_that_stops_early_is_told_and_goes_on(page: Page) -> None:
    """The edge of what is held, by what /api/records answers: the search itself has tests of its own."""
    page.js("""
        window.asked = [];
        const why = `stopped after 10 s of CPU in /var/log/${"collector/".repeat(30)}app.log.gz`;
        const answers = [{records: [], cursor: "c1", complete: false, why},
                         {records: [], cursor: "", complete: true, why: ""}];
        const real = fetch;
        window.fetch = (url, how) => {
            if (!url.startsWith("api/records")) return real(url, how);
            asked.push(url);
            return Promise.resolve(new Response(JSON.stringify(answers[asked.length - 1])));
        };
    """)
    times = '{timestamp: "2026-11-25T10:00:00Z", levelno: 20}'
    page.module(
        "records", f"Array.from({{length: 99}}, (_, n) => m.take({{message: `${{n}}`, ...{times}}})) && 1"
    )
    within(5, lambda: len(held(page)) == 99)
    page.module("records", "void (m.held.older.state = 'more')")
    page.scroll(0)
    words = (
        f"Nothing older was found yet: stopped after 10 s of CPU in /var/log/{'collector/' * 30}app.log.gz"
    )
    page.says("older-text", words)
    assert words == page.element("older-text").get_attribute("title"), "it is cut"
    page.driver.find_element("xpath", "//button[text()='Try again']").click()
    page.says("older-text", "Here the records begin.")
    asked = " ".join(page.js("return asked"))
    assert ["2026-11-25T10%3A00%3A01.000Z", "c1"] == re.findall(r"before=([^&]+)", asked)
