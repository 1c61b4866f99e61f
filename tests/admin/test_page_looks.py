"""How the page looks and is read: contrast, widths, what a screen reader hears."""

from __future__ import annotations

import logging
import operator
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.waiting import within

if TYPE_CHECKING:
    from tests.support.pages import Page, Send

AXE = "axe-core@4.14.1"
TRACEBACK = 'Traceback (most recent call last):\n  File "shop.py", line 3, in pay\nValueError: no money'
SCHEMES = ["light", "dark"]
WIDTHS = [400, 640, 960, 1280, 2560]


@pytest.fixture(scope="session")
def axe(request: pytest.FixtureRequest) -> str:
    """Return the script that looks for what keeps people out, as npm has it."""
    assert request.config.cache
    home = Path(request.config.cache.mkdir("axe-core"))
    script = home / f"{AXE}.js"
    if not script.exists():
        npm = shutil.which("npm")
        if not npm:
            pytest.skip("looking for barriers needs axe-core, and there is no npm to get it by")
        got = subprocess.run(
            [npm, "pack", "--silent", AXE], cwd=home, check=False, capture_output=True, text=True, timeout=120
        )
        if got.returncode:
            pytest.skip(f"npm does not get {AXE}: {got.stderr.strip()[:200]}")
        with tarfile.open(home / got.stdout.split()[-1]) as package:
            found = package.extractfile("package/axe.min.js")
            assert found
            script.write_bytes(found.read())
    return script.read_text(encoding="utf-8")


def violations(page: Page, axe: str) -> list[list[str]]:
    """Return what axe-core finds: the rule, and the elements."""
    page.js(axe)
    return list(
        page.driver.execute_async_script(
            "const done = arguments[0]; axe.run().then(({violations}) => done(violations.map("
            "({id, nodes}) => [id, ...nodes.slice(0, 3).map(({html}) => html.slice(0, 200))])))"
        )
    )


def test_axe_core_finds_no_barrier(page: Page, send: Send, axe: str) -> None:
    def look(what: str) -> None:
        for width in (400, 1280):
            for scheme in SCHEMES:
                page.resize(width, scheme=scheme)
                assert [] == violations(page, axe), (what, width, scheme)

    send("fine")
    send("failed", logging.ERROR, exc_text=TRACEBACK)
    page.shows("fine", "failed")
    within(10, lambda: "ERROR" in page.text("levels"), "the state is shown")
    look("live")
    page.click_row("failed")
    page.element("wrap").click()
    look("a record is open")
    page.element("exceptions-tab").click()
    within(10, lambda: page.driver.find_elements("css selector", ".group"), "there is a group")
    page.driver.find_element("css selector", ".group").click()
    look("an exception is open")


def test_text_has_the_contrast_that_wcag_asks_for(page: Page) -> None:
    grounds = ["ground", "panel", "chosen", "still", "alarm"]
    names = ["text", "faint", "accent", "debug", "info", "warning", "error", "critical", "other", "live"]
    for scheme in SCHEMES:
        page.resize(1280, scheme=scheme)
        colour = page.js(
            "const style = getComputedStyle(document.documentElement);"
            "return Object.fromEntries("
            "arguments[0].map(name => [name, style.getPropertyValue(`--${name}`)]))",
            grounds + names,
        )
        assert (colour["ground"] == "#ffffff") == (scheme == "light")
        for ground in grounds:
            for name in names:
                assert _contrast(colour[ground], colour[name]) >= 4.5, (scheme, ground, name)


def _contrast(*colours: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return float(sum(map(operator.mul, (0.2126, 0.7152, 0.0722), linear)))

    darker, lighter = sorted(map(luminance, colours))
    return (lighter + 0.05) / (darker + 0.05)


def test_nothing_is_cut_off_at_any_width(page: Page, send: Send) -> None:
    def sticks_out() -> bool:
        return bool(page.js("return document.documentElement.scrollWidth > innerWidth"))

    send("a message " * 50, logger="a.logger.with.a.long.name" * 4, exc_text=TRACEBACK)
    within(10, page.messages)
    page.click_row("a message")
    for width in WIDTHS:
        page.resize(width)
        assert not sticks_out(), width
        message = page.driver.find_element("css selector", "#rows .message").rect
        assert message["width"] > 300, width
        # A placeholder has no box of its own: it is measured in the font of its field.
        cut = page.js("""
            return [...document.querySelectorAll("#records input")].filter(field => {
                const style = getComputedStyle(field);
                const context = document.createElement("canvas").getContext("2d");
                context.font = `${style.fontSize} ${style.fontFamily}`;
                const padding = parseFloat(style.paddingLeft) + parseFloat(style.paddingRight);
                const room = field.clientWidth - padding, texts = [field.placeholder];
                if (field.id === "at") texts.push("2026-11-25 20:55");
                return texts.some(text => context.measureText(text).width > room);
            }).map(field => field.id);
        """)
        assert [] == cut, width
    page.element("exceptions-tab").click()
    within(10, lambda: page.driver.find_elements("css selector", ".group"), "there is a group")
    page.driver.find_element("css selector", ".group").click()
    for width in WIDTHS:
        page.resize(width)
        assert not sticks_out(), width


def test_the_day_of_the_topmost_row_is_told_at_any_width(page: Page, send: Send) -> None:
    send("one")
    page.shows("one")
    for width in WIDTHS:
        page.resize(width)
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", page.element("day").text), width


def test_the_focus_ring_covers_no_label(page: Page) -> None:
    for width in WIDTHS:
        page.resize(width)
        covered = page.js("""
            const labels = [...document.querySelectorAll("main label")];
            return labels.filter(label => label.offsetParent).filter(label => {
                const field = label.querySelector("input, select"), range = document.createRange();
                field.focus();
                const style = getComputedStyle(field);
                const reach = Math.max(0, parseFloat(style.outlineOffset) + parseFloat(style.outlineWidth));
                range.selectNodeContents(label.firstChild);
                return range.getBoundingClientRect().bottom > field.getBoundingClientRect().top - reach;
            }).map(label => label.textContent.trim());
        """)
        assert [] == covered, width


def test_paused_looks_different_from_live(page: Page, send: Send) -> None:
    def look() -> list[str]:
        return list(
            page.js(
                "return ['#state', '.head', '#foot', '#table'].map(each => {"
                "const {backgroundColor, borderLeftWidth} = getComputedStyle(document.querySelector(each));"
                "return `${backgroundColor} ${borderLeftWidth}`})"
            )
        )

    send("one")
    page.shows("one")
    live = look()
    page.element("pause").click()
    within(5, lambda: sum(map(operator.ne, live, look())) >= 3, "it can be seen in several places")


def test_the_tabs_and_the_plot_are_reached_and_used_by_keys(page: Page, send: Send) -> None:
    send("one")
    page.shows("one")
    page.js("document.getElementById('records-tab').focus()")
    page.keys("\ue014")
    assert page.element("exceptions").is_displayed()
    assert "exceptions-tab" == page.js("return document.activeElement.id")
    page.keys("\ue012")
    assert page.element("rows").is_displayed()
    reached = []
    page.js("document.getElementById('records-tab').focus()")
    for _ in range(14):
        page.keys("\ue004")
        reached.append(page.js("return document.activeElement.id || document.activeElement.value"))
    expected = [
        "level",
        "logger",
        "text",
        "regex",
        "at",
        "",
        "wrap",
        "pause",
        "hour",
        "day",
        "week",
        "history",
        "rows",
    ]
    assert expected == reached[: len(expected)]
