"""The tab that groups exceptions: what is new, what it was, and where it happened."""

from __future__ import annotations

import logging
import re
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.waiting import crowding, within

if TYPE_CHECKING:
    from tests.support.collectors import Collector
    from tests.support.pages import Page, Send

PAY = 'Traceback (most recent call last):\n  File "/srv/shop.py", line 3, in pay\nValueError: no money'
SHIP = (
    'Traceback (most recent call last):\n  File "/srv/shop.py", line 9, in ship\nshop.errors.Lost: parcel 7'
)


@pytest.fixture
def watched(alone: Collector) -> Collector:
    """Instead of the one that is shared, which remembers the exceptions of other tests."""
    return alone


def groups(page: Page) -> list[list[str]]:
    """Return of each group whether it is new, its class, how often it happened, and what it said."""
    rows = page.js(
        "return [...document.querySelectorAll('#groups .group')]"
        ".map(group => [...group.children].slice(0, 4).map(cell => cell.textContent))"
    )
    return [list(row) for row in rows]


def test_an_exception_shows_as_a_group_within_a_second(page: Page, send: Send) -> None:
    page.element("exceptions-tab").click()
    page.says("exceptions-count", "No exception was logged in the last week")
    send("failed", logging.ERROR, exc_text=PAY)
    begun = time.monotonic()
    within(
        10,
        lambda: groups(page) == [["new", "ValueError", "1\N{MULTIPLICATION SIGN}", "no money"]],
        str(groups(page)),
    )
    took = time.monotonic() - begun
    print(f"it was shown after {took:.2f} s")
    assert took < 1.5 * crowding()  # it is looked for each second
    assert "Exceptions, 1 new" == page.text("exceptions-tab")


def test_those_that_are_new_since_a_chosen_time_come_first(page: Page, send: Send) -> None:
    send("not sent", logging.ERROR, exc_text=SHIP)
    page.element("exceptions-tab").click()
    within(10, lambda: [group[1] for group in groups(page)] == ["Lost"], str(groups(page)))
    page.choose("since", "")
    assert page.element("since-when").is_displayed()
    page.js("document.getElementById('since-time').value = ''")
    page.element("since-time").send_keys("now")
    within(
        10, lambda: groups(page) == [["", "Lost", "1\N{MULTIPLICATION SIGN}", "parcel 7"]], str(groups(page))
    )
    page.js("document.getElementById('since-time').value = ''")
    page.element("since-time").send_keys("8 o'clock")
    within(5, lambda: page.element("since-time").get_attribute("aria-invalid") == "true")
    within(5, lambda: page.text("exceptions-fault").startswith("No such time. Enter 20:55, yesterday"))
    assert page.text("exceptions-fault").endswith("Until then, 24 hours ago is taken.")
    page.choose("since", "today")
    page.says("exceptions-fault", "")


def test_a_group_opens_and_leads_to_its_latest_record(page: Page, send: Send) -> None:
    send("fine")
    for customer in (1, 2):
        send(f"customer {customer} failed", logging.ERROR, "shop", PAY)
    send("fine again")
    page.element("exceptions-tab").click()
    within(
        10, lambda: [group[2] for group in groups(page)] == ["2\N{MULTIPLICATION SIGN}"], str(groups(page))
    )
    head = page.driver.find_element("css selector", "#groups .group")
    head.click()
    assert "true" == head.get_attribute("aria-expanded")
    more = page.driver.find_element("css selector", "#groups .more").text
    assert re.search(r"ValueError: 2 times, first .*, last .*, from shop\n", more)
    assert f"customer 2 failed\n{PAY}" in more
    page.driver.find_element("xpath", "//button[text()='Show where it last happened']").click()
    page.says("state", "looking back")
    page.settle()
    within(10, lambda: "customer 2 failed" in page.messages(), str(page.messages()))
    chosen = page.module("table", "m.choice.record.message")
    assert chosen == "customer 2 failed"


def test_markup_in_an_exception_stays_text(page: Page, send: Send) -> None:
    evil = "<img src=x onerror='window.evil = 1'>"
    send(evil, logging.ERROR, evil, f"{PAY}{evil}")
    page.element("exceptions-tab").click()
    within(10, lambda: groups(page), "it is listed")
    page.driver.find_element("css selector", "#groups .group").click()
    assert evil in page.driver.find_element("css selector", "#groups .more").text
    assert [0, False] == page.js("return [document.images.length, 'evil' in window]")


def test_an_open_group_keeps_the_focus_while_it_is_drawn_anew(page: Page, send: Send) -> None:
    send("failed", logging.ERROR, exc_text=PAY)
    page.keys("e")
    within(10, lambda: len(groups(page)) == 1)
    page.js("document.querySelector('#groups .group').focus()")
    page.keys("\n")
    send("failed again", logging.ERROR, exc_text=SHIP)
    within(10, lambda: len(groups(page)) == 2)
    assert page.js("return document.activeElement.querySelector('.class').textContent") == "ValueError"
    assert "true" == page.js("return document.activeElement.getAttribute('aria-expanded')")
