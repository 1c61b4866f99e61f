"""Frames as stock handlers make them."""

from __future__ import annotations

import logging
from logging.handlers import SocketHandler


def make_frame(message: str, logger: str = "app", level: int = logging.INFO) -> bytes:
    record = logging.LogRecord(logger, level, "/srv/app.py", 7, message, None, None)
    return SocketHandler("", 0).makePickle(record)


def make_payload(message: object = "hello", name: str = "app", **extra: object) -> bytes:
    record = logging.LogRecord(name, logging.INFO, "/srv/app.py", 7, message, None, None, "handle")
    record.__dict__.update(extra)
    return SocketHandler("", 0).makePickle(record)[4:]
