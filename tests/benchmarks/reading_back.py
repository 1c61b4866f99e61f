"""How long looking back takes, in a directory of many files: half of the backups are compressed.

`python -m tests.benchmarks.reading_back --gigabytes 10` makes the directory, asks, and prints a table.
"""

from __future__ import annotations

import argparse
import gzip
import os
import re
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import IO, NamedTuple

LOGGERS, BACKUPS = 100, 4
LINES_PER_SECOND = 5
ONCE = "order 4711 was lost at sea"
"""Stands in one record, of a compressed backup that is the oldest but one of its logger."""
_END = datetime(2026, 11, 25, tzinfo=timezone.utc)
_LINE_BYTES = 100
_LOGGER = b"app??"
_ERROR_EVERY = 1000
_AND_TELL = """
import sys
from collector.cli import main
code = main()
sys.stdout.flush()
sys.stderr.write(open("/proc/self/status").read())
sys.exit(code)
"""
TAIL = [sys.executable, "-c", _AND_TELL, "tail"]
"""Runs `collector tail`, which then tells what it took: ru_maxrss begins with what the one who forked had."""
_WORDS = ("orders", "basket", "payment", "invoice", "stock", "delivery", "account")


class Taken(NamedTuple):
    """What a command took."""

    seconds: float
    cpu: float
    memory: int
    """The most bytes it had at one time."""
    output: bytes


def make(directory: Path, total_bytes: int, *, style: str) -> Path:
    """Write the log files of 100 loggers with four backups each; return a configuration for them."""
    logs = directory / "logs"
    logs.mkdir(parents=True)
    lines = total_bytes // (LOGGERS * (BACKUPS + 1)) // _LINE_BYTES
    for part in range(BACKUPS + 1):
        day = _END - timedelta(days=BACKUPS - part)
        written = (day + timedelta(seconds=lines // LINES_PER_SECOND)).timestamp()
        zipped = part < BACKUPS and part % 2
        of_all = _lines(day, lines, style=style)
        for logger in range(LOGGERS):
            data = of_all.replace(_LOGGER, b"app%02d" % logger)
            if part == 1 and logger == LOGGERS // 2:
                data = data.replace(b"for alice", ONCE.encode(), 1)
            name = f"app{logger:02}.log" + ("" if part == BACKUPS else f".{day:%Y-%m-%d}")
            path = logs / (f"{name}.gz" if zipped else name)
            path.write_bytes(gzip.compress(data, 1) if zipped else data)
            os.utime(path, (written, written))
    config = directory / f"{style}.toml"
    form = 'style = "json"' if style == "json" else "utc = true"
    config.write_text(f'[files]\ndirectory = "{logs}"\n[format]\n{form}\n')
    return config


def _lines(day: datetime, lines: int, *, style: str) -> bytes:
    """Return the lines of one day, which the files of all loggers have, each with its own name."""
    made = []
    logger = _LOGGER.decode()
    for number in range(lines):
        when = f"{day + timedelta(seconds=number // LINES_PER_SECOND):%Y-%m-%dT%H:%M:%S}"
        usual = ("INFO", "DEBUG", "INFO", "WARNING")[number % 4]
        level = "ERROR" if number % _ERROR_EVERY == _ERROR_EVERY // 2 else usual
        word = _WORDS[number * number % 7]
        message = f"GET /api/v1/{word}/{number * 7919 % 99991} 200 took {number % 613}.3 ms for alice"
        if style == "json":
            made.append(
                f'{{"timestamp":"{when}.{number % LINES_PER_SECOND}00000Z","level":"{level}",'
                f'"logger":"{logger}","message":"{message}","client":"10.0.0.7:51934"}}\n'
            )
        else:
            made.append(f"[{when.replace('T', ' ')}]: {logger} {level} 7 {message}\n")
    return "".join(made).encode()


def tail(config: Path, *options: str) -> Taken:
    """Run `collector tail`."""
    with tempfile.TemporaryFile() as output:
        taken = run([*TAIL, "-c", str(config), *options], output)
        output.seek(0)
        return taken._replace(output=output.read(64 * 1024 * 1024))


def run(command: list[str], output: IO[bytes] | int) -> Taken:
    """Run *command*, whatever its exit code; its *output* goes where that says."""
    begun = time.monotonic()
    process = subprocess.Popen(command, stdout=output, stderr=subprocess.PIPE)
    assert process.stderr
    with process.stderr:
        said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    peak = re.search(rb"VmHWM:\s+(\d+) kB", said)
    return Taken(seconds, usage.ru_utime + usage.ru_stime, int(peak[1]) * 1024 if peak else 0, b"")


def zgrep(config: Path, text: str) -> Taken:
    """Run `zgrep -c` over the same files."""
    files = sorted(map(str, (config.parent / "logs").iterdir()))
    return run(["zgrep", "-c", text, *files], subprocess.DEVNULL)


CASES = {
    "the last 20": ["-n", "20"],
    "the last 100 errors": ["-n", "100", "--level", "ERROR"],
    "a text that occurs once": ["--grep", ONCE],
    "the last 20 of one logger": ["-n", "20", "--logger", "app42"],
    "all errors": ["-n", "all", "--level", "ERROR"],
    "the last million": ["-n", "1000000"],
    "how many": ["--count"],
    "ten minutes of two days ago": ["--since", "2026-11-23T00:10Z", "--until", "2026-11-23T00:20Z"],
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.reading_back", description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=1.0, help="before compression; default: 1")
    parser.add_argument("--style", choices=("text", "json"), default="text")
    parser.add_argument("--directory", type=Path, help="for the files; default: the one for temporary files")
    parser.add_argument("--only", choices=CASES, nargs="+", default=list(CASES))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as home:
        config = make(Path(home), int(options.gigabytes * 1e9), style=options.style)
        for name in options.only:
            taken = tail(config, *CASES[name])
            lines = taken.output.count(b"\n")
            print(
                f"{name:<28} {taken.seconds:8.2f} s {taken.cpu:8.2f} s CPU {taken.memory / 1e6:6.1f} MB "
                f"{lines:>9} lines of output",
                flush=True,
            )
        taken = zgrep(config, ONCE)
        print(f"{'zgrep -c of that text':<28} {taken.seconds:8.2f} s {taken.cpu:8.2f} s CPU")


if __name__ == "__main__":
    main()
