"""A question to the log files in a process of its own: whatever is asked, the worker goes on collecting.

The process is started in the idle class of the scheduler, and bounds its CPU, memory and time itself. Where
it stops early it answers with what it has found, and says why. It ends with the worker that started it, even
if that is killed: the kernel tells it by a signal that the other end of its standard input is gone.

Run as a program this is that process. It reads a line of JSON, a Request, and writes lines: a FAULT, and
nothing else; or for each record passed over PASSED and its fingerprint(), for each other RECORD, the same and
JSON, and in the end END and JSON. Started with -I -S, it imports what the one who asks could.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import resource
import select
import signal
import socket
import subprocess
import sys
from contextlib import closing, suppress
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

if TYPE_CHECKING:
    from collector.config.tables import Config
    from collector.readback.query import Hit
    from collector.readback.search import Search

MiB = 1024 * 1024
LIMIT_CPU_SECONDS = 10
LIMIT_SECONDS = 30
"""By the clock, however busy the machine is."""
_MAX_MEMORY_BYTES = 128 * MiB
MAX_RECORDS = 1000
_MAX_ANSWER_BYTES = 8 * MiB
_MAX_TEXT_CHARACTERS = 64 * 1024
"""Of each value of a record. What is longer is cut, and `cut` says so."""

RECORD, PASSED, END, FAULT = b"R", b"P", b"E", b"F"
FINGERPRINT_CHARACTERS = 16
# A text line has these below its message.
_BELOW = re.compile(r"\n(?=Traceback \(most recent call last\):\n|Stack \(most recent call last\):\n)")


class Request(NamedTuple):
    """What is asked, all of it as JSON has it."""

    query: dict[str, Any]
    """The fields of a readback Query that are asked for, `regex` as text."""
    limit: int
    """The most records."""
    newest_first: bool = True
    """How they come; those next to `after` where that is the only bound, else the newest."""
    written: bool = False
    """Whether each has its text as the file has it, too."""
    seconds: float = LIMIT_SECONDS
    passed_from: float = 0.0
    """From this time on, records that are older than those asked for are passed over, and named."""


def start(config: Config, request: Request) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start the process and return it with the socket on which it answers. May block. Raises OSError.

    The caller ends it by end().
    """
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = subprocess.Popen(  # noqa: S603 - this file
                [sys.executable, "-I", "-S", __file__],
                stdin=subprocess.PIPE,
                stdout=theirs.fileno(),
                stderr=subprocess.DEVNULL,
            )
        except OSError:
            ours.close()
            raise
    # At once: what it takes to start counts, too, where one question follows another.
    with suppress(ProcessLookupError):
        os.sched_setscheduler(process.pid, os.SCHED_IDLE, os.sched_param(0))
    told = {"path": sys.path, "config": _as_json(config), "request": request._asdict()}
    assert process.stdin  # noqa: S101 - a pipe, as asked for
    try:
        process.stdin.write(json.dumps(told).encode() + b"\n")
        process.stdin.flush()
    except OSError:
        end(process)
        process.wait()
        ours.close()
        raise
    return process, ours


def end(process: subprocess.Popen[bytes]) -> None:
    """End the process now. The caller waits for it."""
    process.kill()
    if process.stdin:
        process.stdin.close()


def regex_fault(regex: str, why: object) -> str:
    """Return what is wrong with a regular expression as an answer has it: name, value, rule."""
    return f"regex = {regex[:100]}: must be a regular expression of Python's: {why}"


def fingerprint(record: bytes) -> bytes:
    """Return what tells a record as it stands in its file, without the last newline, from others."""
    return hashlib.blake2b(record, digest_size=FINGERPRINT_CHARACTERS // 2).hexdigest().encode()


def _as_json(config: Config) -> dict[str, Any]:
    """Return what reading back needs of *config*."""
    return {
        "files": asdict(config.files),
        "format": asdict(config.format),
        "rules": [asdict(rule) for rule in config.rules],
    }


# --- in the process ---


class _StoppedError(Exception):
    """The process has used up what it may; its text is why the answer is not complete."""


class _OutOfCpuError(_StoppedError):
    """The same, and nobody else on the machine is the reason."""


def _config(given: dict[str, Any]) -> Config:
    from collector.config.tables import Config, Files, Format, Rollover, Rule  # noqa: PLC0415 - see main()

    rules = [
        Rule(**{**rule, "rollover": Rollover(**rule["rollover"]), "format": Format(**rule["format"])})
        for rule in given["rules"]
    ]
    return Config(files=Files(**given["files"]), format=Format(**given["format"]), rules=tuple(rules))


def _stop(seconds: float, number: int, _frame: object) -> NoReturn:
    _stop_no_more()
    if number == signal.SIGXCPU:
        raise _OutOfCpuError(f"stopped after {LIMIT_CPU_SECONDS} s of CPU")
    raise _StoppedError(f"stopped after {seconds:g} s")


def _stop_no_more() -> None:
    for number in (signal.SIGXCPU, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)


def _limit(seconds: float) -> None:
    """Bound what this process takes, and have it end with the one who asks."""
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY_BYTES, _MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A second later the kernel ends it, whatever it is doing.
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_CPU_SECONDS, LIMIT_CPU_SECONDS + 1))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    # SIGIO, by which a process that does not handle it ends, comes once the pipe has no other end any more.
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([0], [], [], 0)[0]:
        sys.exit(1)  # it has gone already


def main() -> None:
    """Answer what standard input asks."""
    told = json.loads(sys.stdin.buffer.readline())
    # In a checkout as much as installed, this is where the package lies.
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    sys.path[:] = [package, *told["path"]]
    request = Request(**told["request"])
    _limit(request.seconds)
    answer = _Answer(request)
    for number in (signal.SIGXCPU, signal.SIGALRM):
        signal.signal(number, partial(_stop, request.seconds))
    try:
        answer.search(_config(told["config"]))
        _stop_no_more()
    except _StoppedError as stopped:
        answer.why = f"{stopped}{answer.where}"
    except MemoryError:
        answer.why = f"stopped: it would take more than {_MAX_MEMORY_BYTES // MiB} MB of memory{answer.where}"
    except OSError as error:
        answer.why = str(error)
    except (ValueError, OverflowError, RecursionError) as fault:
        answer.fault = str(fault) or type(fault).__name__
    _stop_no_more()
    answer.finish()


class _Answer:
    """What is found, on its way out."""

    def __init__(self, request: Request) -> None:
        self.why = self.where = self.fault = ""
        self._request = request
        self._lines: list[bytes] = []
        self._passed: list[bytes] = []
        self._size = 0
        self._goes_forward = "after" in request.query and "before" not in request.query
        self._last: Hit | None = None
        """The last record that was taken."""
        self._cursor = ""
        """Where to go on."""

    def search(self, config: Config) -> None:
        """Look for records until there are enough. Raises what stops it."""
        from collector.readback.filters import unusable  # noqa: PLC0415 - see main()
        from collector.readback.query import Query  # noqa: PLC0415 - the same
        from collector.readback.search import Search  # noqa: PLC0415 - the same

        asked = dict(self._request.query)
        if regex := asked.get("regex"):
            try:
                asked["regex"] = re.compile(regex)
            except (re.error, OverflowError, RecursionError) as fault:
                raise ValueError(regex_fault(regex, fault)) from fault
        query = Query(**asked)
        with closing(Search(config, query)) as search:
            try:
                self._take(search)
            except (_StoppedError, MemoryError, OSError) as stopped:
                _stop_no_more()
                self._give_up(search, query.after if self._goes_forward else query.before, stopped)
                raise
            self._cursor = search.cursor(self._last) if self._last else ""
            field, why = unusable(config, query)
            troubles = [*search.troubles, *([f"{field}: {why}"] if field else [])]
            if troubles and not self.why:
                self.why = (
                    troubles[0] if len(troubles) == 1 else f"{troubles[0]} (and {len(troubles) - 1} more)"
                )

    def _give_up(self, search: Search, asked: float | str | None, stopped: Exception) -> None:
        """Tell where to go on: behind the file that it is at, if that alone takes more than there is."""
        newest_first = not self._goes_forward
        self._cursor = search.reached(self._last, newest_first=newest_first)
        if source := search.at:
            self.where = f" in {source.found.path}"
            if self._cursor == asked and isinstance(stopped, (_OutOfCpuError, MemoryError)):
                search.leave_out(source)
                self._cursor = search.reached(self._last, newest_first=newest_first)
                self.where += ", which is left out of what is asked from here on"

    def _take(self, search: Search) -> None:
        from collector.readback.times import time_key  # noqa: PLC0415 - see main()

        limit, begin = self._request.limit, self._request.passed_from
        begin_key = time_key(begin) if begin else b""
        most = limit + MAX_RECORDS if begin else limit
        for hit in search.oldest_first() if self._goes_forward else search.newest_first(most):
            if len(self._lines) >= limit:
                if not begin or hit.key < begin_key or len(self._passed) >= MAX_RECORDS:
                    return
                self._passed.append(PASSED + fingerprint(hit.record))
                continue
            line = self._line(hit)
            if self._lines and self._size + len(line) > _MAX_ANSWER_BYTES:
                self.why = f"stopped at {_MAX_ANSWER_BYTES // MiB} MB of records"
                return
            self._lines.append(line)
            self._size += len(line)
            self._last = hit
            if begin and len(self._lines) >= limit and hit.key < begin_key:
                return

    def _line(self, hit: Hit) -> bytes:
        """Return a record as the live stream has it, with its cursor."""
        shown: dict[str, Any] = {}
        for key, value in _as_in_stream(hit).items():
            if isinstance(value, str) and len(value) > _MAX_TEXT_CHARACTERS:
                shown[key], shown["cut"] = value[:_MAX_TEXT_CHARACTERS], True
            else:
                shown[key] = value
        if self._request.written:
            shown["written"] = hit.record.decode("utf-8", "backslashreplace")
        shown["cursor"] = hit.cursor
        return RECORD + fingerprint(hit.record) + _json(shown).encode()

    def finish(self) -> None:
        """Write all that was found, or what is wrong with the question."""
        if self.fault:
            lines = [FAULT + json.dumps(self.fault).encode()]
        else:
            if self._goes_forward == self._request.newest_first:
                self._lines.reverse()
            why = "" if self._passed else self.why  # what was asked for is there
            rest = {"cursor": self._cursor, "complete": not why, "why": why}
            lines = [*self._passed, *self._lines, END + json.dumps(rest).encode()]
        with open(1, "wb", closefd=False) as out:
            out.writelines(line + b"\n" for line in lines)


def _json(value: object) -> str:
    """Return JSON; NaN and infinities, of a line that is not from here, as text."""
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(json.loads(json.dumps(value), parse_constant=str))


def _as_in_stream(hit: Hit) -> dict[str, Any]:
    """Return the fields of a record, also those that a line of text has not apart."""
    from collector import levels  # noqa: PLC0415 - see main()
    from collector.format.json_lines import KEY_OF  # noqa: PLC0415 - the same

    fields = hit.fields()
    fields.setdefault(KEY_OF["name"], hit.source.found.base)  # as near as one can come to it
    message, exception = KEY_OF["message"], KEY_OF["exc_text"]
    text = fields.get(message)
    if text is None:  # no line of ours
        fields[message] = hit.record.decode("utf-8", "replace")
    elif not isinstance(text, str):
        fields[message] = _json(text)
    for part in _BELOW.split(fields[message])[:0:-1]:
        key = exception if part.startswith("Traceback") else KEY_OF["stack_info"]
        if key in fields:
            break
        fields[key] = part
        fields[message] = fields[message][: -len(part) - 1]
    name = str(fields.get(KEY_OF["levelname"], ""))
    number = int(name[6:]) if re.fullmatch(r"Level \d{1,9}", name) else levels.known(name)
    if number is not None:
        fields.setdefault("levelno", number)
    return fields


if __name__ == "__main__":
    try:
        main()
    except (OSError, MemoryError):
        sys.exit(1)
