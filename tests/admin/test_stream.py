"""What the live stream gives to `tail -f` is, byte for byte, what the files have.

`tail -f` leaves out of the stream what it has read from a file, and can tell that by nothing but the text.
"""

from __future__ import annotations

import logging
from contextlib import closing
from itertools import islice
from logging.handlers import SocketHandler
from typing import TYPE_CHECKING, Any

import pytest

from collector.admin.client import Subscription
from collector.config.tables import Admin
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.collectors import Collector

    MakeCollector = Callable[..., Collector]

TRACEBACK = 'Traceback (most recent call last):\n  File "app.py", line 1, in <module>\nValueError: 1'
STACK = 'Stack (most recent call last):\n  File "app.py", line 9, in <module>'
BELOW = {"exc_text": TRACEBACK, "stack_info": STACK}
LINES = "several\nlines\\n, \x1b[2J, \x85 and \u2028"
SURROGATES = "a lone \ud800, two that no character was meant by \ud83d\ude00"
EXTRAS = {
    "user": "m\u00fcller\nmax",
    "order": 12,
    "price": 1.10,
    "none": None,
    "items": [1, (2,), {"a": b"\xff"}],
}

KEEP, ESCAPE, JSON = "style = 'text'", "newlines = 'escape'", "style = 'json'"
OF_EXTRAS = "text = '%(asctime)s %(user)s %(order)05d %(price).3f %(none)s %(items)s %(other)s'"
OF_ALL = (
    "text = '%(asctime)s %(process)d %(processName)s %(thread)d %(threadName)s %(taskName)s %(pathname)s "
    "%(filename)s %(module)s %(funcName)s %(levelno)s %(created)f %(client)s %(msg)s 100%%'"
)
WITH_TRACEBACK = "text = '%(asctime)s %(message)s %(exc_text)s'"
ODD = {"lineno": "x\n", "process": 1.5}

CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "plain": (KEEP, "plain", {}),
    "plain, escaped": (ESCAPE, "plain", {}),
    "plain, as JSON": (JSON, "plain", {}),
    "several lines": (KEEP, LINES, {}),
    "several lines, escaped": (ESCAPE, LINES, {}),
    "several lines, as JSON": (JSON, LINES, {}),
    "a message that ends its line": (KEEP, "ended\n", BELOW),
    "a message that ends its line, escaped": (ESCAPE, "ended\n", BELOW),
    "traceback": (KEEP, "failed", {"exc_text": TRACEBACK}),
    "traceback, escaped": (ESCAPE, "failed", {"exc_text": TRACEBACK}),
    "stack": (KEEP, "where", {"stack_info": STACK}),
    "traceback and stack, as JSON": (JSON, "failed", BELOW),
    "surrogates": (KEEP, SURROGATES, {}),
    "surrogates, escaped": (ESCAPE, SURROGATES, {}),
    "surrogates, as JSON": (JSON, SURROGATES, {"user": SURROGATES}),
    "extras": (OF_EXTRAS, "", EXTRAS),
    "extras, as JSON": (JSON, "extras", EXTRAS),
    "milliseconds": ("text = '%(asctime)s.%(msecs)03d %(relativeCreated)d %(message)s'", "at", {}),
    "widths": ("text = '%(asctime)s %(levelname)-8s|%(lineno)6d|%(name).2s|%(message)12s'", "wide", {}),
    "every other attribute": (OF_ALL, "all", {}),
    "no time": ("text = '%(name)s %(message)s'", "first\nsecond", {"exc_text": TRACEBACK}),
    "the traceback in the line": (WITH_TRACEBACK, "in it", {"exc_text": TRACEBACK}),
    "a number that is none": ("text = '%(asctime)s %(lineno)d %(process)x'", "", ODD),
    "another time": ("text = '%(message)s %(asctime)s'\ndatefmt = '%d/%b/%Y:%H:%M:%S'\nutc = true", "x", {}),
}


def frame(logger: str, message: str, fields: dict[str, Any]) -> bytes:
    record = logging.LogRecord(logger, logging.WARNING, "/srv/app.py", 7, message, None, None, "go")
    record.__dict__.update(fields)
    return SocketHandler("", 0).makePickle(record)


@pytest.mark.quick
def test_a_record_in_the_stream_is_what_its_file_has(make_collector: MakeCollector) -> None:
    rules = [
        f"[[logger]]\nname = 'c{number}'\nfile = 'c{number}.log'\n[logger.format]\n{form}\n"
        for number, (form, _, _) in enumerate(CASES.values())
    ]
    collector = make_collector("[admin]\nport = 0\n" + "".join(rules)).start()
    with closing(Subscription(Admin(port=collector.admin_port), "", 0)) as stream:
        assert not stream.connect()
        for number, (_, message, fields) in enumerate(CASES.values()):
            collector.send(frame(f"c{number}", message, fields))
        shown = [record.text for record in islice(stream.records(print), len(CASES))]
    within(10, lambda: len(collector.files()) == len(CASES), "all is written")
    files = collector.files()
    expected = {case: files[f"c{number}.log"] for number, case in enumerate(CASES)}
    assert expected == {case: record + b"\n" for case, record in zip(CASES, shown, strict=True)}
