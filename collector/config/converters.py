"""The types of what stands on the command line: each makes a value of a text, or says what it must be."""

from __future__ import annotations

import argparse
import re
import time

from collector import levels, moments
from collector.config import checks


def level(text: str) -> int:
    """Return the number of a level, by its name or number."""
    try:
        return levels.from_text(text)
    except ValueError as fault:
        raise argparse.ArgumentTypeError(f"{text}: {fault}") from fault


def path(text: str) -> str:
    """Return a path that a configuration might have."""
    try:
        return str(checks.path(text))
    except ValueError as fault:
        raise argparse.ArgumentTypeError(f"{text}: {fault}".replace(" in quotes", "")) from fault


def pattern(text: str) -> re.Pattern[str]:
    """Return a regular expression."""
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(
            f"{text}: must be a regular expression of Python's: {error}"
        ) from error


def moment(text: str) -> float:
    """Return a time in seconds since 1970."""
    try:
        return moments.moment(text, time.time())
    except ValueError as fault:
        raise argparse.ArgumentTypeError(f"{text}: {fault}") from fault


def written_moment(text: str) -> str:
    """Return *text* if it is a time: which one may depend on another."""
    moment(text)
    return text


def number(text: str, low: int = 0, high: int = 999_999_999) -> int:
    """Return a whole number within bounds."""
    if not re.fullmatch("[0-9]{1,9}", text) or not low <= int(text) <= high:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number from {low} to {high}")
    return int(text)


def number_or_all(text: str) -> float:
    """Return a whole number; infinity for `all`."""
    if text == "all":
        return float("inf")
    try:
        return number(text)
    except argparse.ArgumentTypeError as fault:
        raise argparse.ArgumentTypeError(f"{fault}, or all") from fault
