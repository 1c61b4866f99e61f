"""A directory of log files as the collector would have written them, and `collector tail` for it."""

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


BEGIN = datetime(2026, 11, 22, 10, tzinfo=timezone.utc)
UTC = "[format]\nutc = true"
TRACEBACK = 'Traceback (most recent call last):\n  File "app.py", line 1, in <module>\nValueError: 1\n'


def text(when: datetime, logger: str, level: str, message: str) -> str:
    return f"[{when:%Y-%m-%d %H:%M:%S}]: {logger} {level} 7 {message}\n"


def as_json(when: datetime, logger: str, level: str, message: str) -> str:
    stamp = f"{when:%Y-%m-%dT%H:%M:%S.%f}Z"
    record = {"timestamp": stamp, "level": level, "logger": logger, "message": message}
    return json.dumps(record, separators=(",", ":")) + "\n"


class Logs:
    """A directory of log files, and `collector tail` for it."""

    def __init__(self, home: Path, config: str = UTC) -> None:
        self.directory = home / "logs"
        self.directory.mkdir()
        self.config = home / "c.toml"
        self.config.write_text(f'[files]\ndirectory = "{self.directory}"\n{config}\n')

    def write(self, name: str, contents: str, when: datetime = BEGIN) -> None:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(contents.encode()) if name.endswith(".gz") else contents.encode())
        os.utime(path, (when.timestamp(), when.timestamp()))

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `tail`, of all records unless the *arguments* say otherwise."""
        if not {"-n", "-f", "--count"}.intersection(arguments):
            arguments = ("-n", "all", *arguments)
        return subprocess.run(
            [sys.executable, "-m", "collector", "tail", "-c", self.config, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=os.environ | environment,
        )

    def tail(self, *arguments: str, **environment: str) -> str:
        result = self.run(*arguments, **environment)
        assert (0, "") == (result.returncode, result.stderr)
        return result.stdout


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    return Logs(tmp_path)


def five_files_and_twenty_backups(logs: Logs, line: Callable[..., str], seconds: float) -> list[str]:
    """Write them, records in random places, and return all records by time."""
    chance = random.Random(5)  # noqa: S311 - the same for ever
    records: list[tuple[datetime, str]] = []
    for app in range(5):
        when = BEGIN + timedelta(seconds=app, microseconds=app)
        for part in range(5):
            contents = ""
            for number in range(200):
                # A time of its own for each, so that there is one order only.
                when += timedelta(seconds=5 * chance.randrange(1, 5)) * seconds
                record = line(when, f"app{app}", "INFO", f"{part} {number}")
                if line is text and number % 50 == 7:
                    record += TRACEBACK
                records.append((when, record))
                contents += record
            name = f"app{app}.log.2026-11-22.{part + 1}" + (".gz" if part % 2 else "")
            logs.write(f"app{app}.log" if part == 4 else name, contents, when)
    return [record for _, record in sorted(records)]


@pytest.fixture
def mixed(tmp_path: Path) -> Logs:
    """Return files of several loggers with records of all levels, some of two hours ago."""
    logs = Logs(tmp_path, UTC)
    now = datetime.now(timezone.utc)
    old, new = now - timedelta(hours=2), now - timedelta(minutes=2)
    logs.write(
        "shop.log", text(old, "shop", "INFO", "old") + text(new, "shop", "ERROR", "boom") + TRACEBACK, now
    )
    logs.write(
        "shop_cart.log",
        text(new, "shop.cart", "WARNING", "full") + text(new, "shop.cart", "Level 15", "odd"),
        now,
    )
    logs.write("shopping.log", text(new, "shopping", "DEBUG", "INFO 5 debugged"), now)
    logs.write("custom.log", text(new, "custom", "NOTICE", "kept"), now)
    return logs
