"""A regular expression in a process of its own: nothing else stops one that backtracks for ever.

`re` holds the interpreter while it searches, so neither a greenlet nor a thread could end it, and nothing in
a slow pattern gives it away. The process bounds its own memory and sets a timer whose signal ends it in the
kernel, whatever it is doing.

Run as a program this is that process. It reads JSON, one document a line: first the pattern, then lists with
the texts of each record, of which a line of JSON has its values as further ones. It answers each with a line:
what is wrong with the pattern ("" if nothing is), then for each record whether one of its texts has it.
Started with -I -S, it can import nothing of ours.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

# Seconds of CPU for up to a thousand records: a machine that is busy is not the pattern's fault.
LIMIT_SECONDS = 0.5
_MAX_MEMORY_BYTES = 512 * 1024 * 1024
_NICE = 10


def start() -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start the process and return it with our end of the connection. Raises OSError. The caller kills it."""
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = subprocess.Popen(  # noqa: S603 - this file
                [sys.executable, "-I", "-S", __file__],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.DEVNULL,
            )
        except OSError:
            ours.close()
            raise
    return process, ours


def as_line(value: object) -> bytes:
    """Return *value* as one side sends it to the other."""
    return json.dumps(value).encode() + b"\n"


def read_line(stream: Any) -> Any:  # noqa: ANN401 - a file of any kind; what JSON holds
    """Return the next value of *stream*. Raises EOFError where it ends."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    return json.loads(line)


def _with_values(text: str) -> Iterator[str]:
    yield text
    if text.startswith("{"):
        with suppress(ValueError, RecursionError):  # it is no JSON, or was cut
            yield from _values(json.loads(text))


def _values(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _values(one)


def main() -> None:
    """Answer standard input on standard output until it ends."""
    os.nice(_NICE)
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY_BYTES, _MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    source, answers = sys.stdin.buffer, sys.stdout.buffer
    search = None
    while True:
        given = read_line(source)
        signal.setitimer(signal.ITIMER_PROF, LIMIT_SECONDS)
        if search is None:
            try:
                search = re.compile(given).search
                answer: object = ""
            except (re.error, OverflowError, RecursionError) as fault:
                answer = str(fault)
        else:
            answer = [any(search(text) for one in texts for text in _with_values(one)) for texts in given]
        signal.setitimer(signal.ITIMER_PROF, 0)
        answers.write(as_line(answer))
        answers.flush()


if __name__ == "__main__":
    try:
        main()
    except (EOFError, OSError, MemoryError):
        sys.exit(1)
