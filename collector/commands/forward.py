"""The command `forward`: hands what is in the spool over to one destination, or shows and repairs what was.

Without options it is the forwarder of that destination, until it is told to stop. What only looks needs no
lock; what sends again has one of its own.
"""

from __future__ import annotations

import difflib
import gc
import logging
import os
import signal
import sys
import time
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, TextIO

import collector.forward.status as files
from collector import log, signals
from collector.config.load import ConfigError, load
from collector.config.tables import header
from collector.daemon import guardian
from collector.daemon.notify import READY, STOPPING, Notifier
from collector.escape import escape
from collector.exits import EXIT_CANNOT_START, EXIT_FAILED, EXIT_OK, end_at_once, reader_may_leave
from collector.forward import lock, process, resend
from collector.forward.choose import make
from collector.forward.dead_letters import DeadLetters
from collector.forward.holding import moment
from collector.forward.orders import DIRECTORY, Orders
from collector.forward.verdicts import HoldError, RequestError
from collector.log import counted
from collector.wire.fragments import RecordReader
from collector.wire.records import message_of, name_of
from collector.zone import read_zone_again

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from collector.config.tables import Config, Forward
    from collector.forward.dead_letters import Letter

ours = logging.getLogger(__name__)

_BILLION = 10**9
_MAX_CHARACTERS = 200
_NICE = 10
"""A forwarder steps behind the worker: what it does not ship now waits on disk, what comes in cannot."""
# Between two looks at its orders a forwarder may make several: a doubt is looked up, an index asked for.
_REQUESTS_A_STEP = 10


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit code. Raises ConfigError, OSError."""
    asks = options.template or options.dead or options.resend or options.resend_dead
    hands_over = options.name and not (options.status or asks)
    config = _with_log(options.config) if hands_over else load(options.config)
    place = options.config or "the defaults"
    if not config.forwards:
        remedy = "add one" if options.config else "name a file with one by -c or COLLECTOR_CONFIG"
        raise ConfigError([f"{place}: no table [[forward]]: there is nobody to hand over to; {remedy}"])
    since, until = options.since, options.until
    if options.resend != (since is not None) or (until is not None and not options.resend):
        raise ConfigError(
            ["collector forward: --resend needs --since, and --since and --until need --resend"]
        )
    if since is not None and since >= (time.time() if until is None else until):
        raise ConfigError(["collector forward: --since must be before --until, or before now without it"])
    directory = os.environ.get(DIRECTORY) or config.spool_directory
    chosen = _chosen(config, options.name, place) if options.name else config.forwards
    if options.status or not (asks or options.name):
        return _show_status(directory, chosen)
    if not options.name:
        names = ", ".join(forward.name for forward in chosen)
        raise ConfigError([f"collector forward: needs the NAME of a destination for that; there are {names}"])
    if hands_over:
        return _hand_over(options.config, config, directory, chosen[0])
    if options.resend or options.resend_dead:
        return _resend(options, config, directory, chosen[0])
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.HANDLED)  # nobody waits for them
    with reader_may_leave():
        if options.template:
            return _print_template(chosen[0])
        return _show_dead(directory, chosen[0], config.listen.python2_encoding)
    return EXIT_OK


def _with_log(path: str | None) -> Config:
    """Set up the log, which gets even the faults that it cannot start by, as nobody has asked for them.

    Return the configuration. Raises ConfigError.
    """
    try:
        config = load(path)
    except ConfigError as error:
        if error.config:
            log.set_up(error.config.log.level, error.config.log.style)
        raise
    log.set_up(config.log.level, config.log.style)
    return config


def _chosen(config: Config, name: str, place: str) -> tuple[Forward]:
    """Return the destination of that name. Raises ConfigError."""
    names = [forward.name for forward in config.forwards]
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(names) or 'none'}"
        raise ConfigError([f"{place}: {header(name, 'forward')}: no such destination; {meant}"])
    return (config.forwards[names.index(name)],)


# --- the forwarder ---


def _hand_over(path: str | None, config: Config, directory: str, settings: Forward) -> int:
    """Be the forwarder of a destination."""
    notifier = Notifier()
    pipe = int(os.environ.pop(guardian.PIPE, "0")) or None
    orders = Orders(config.listen.drain_seconds, pipe, alive=notifier.alive)
    tells = pipe is None  # else the worker does
    reload = partial(_settings_again, path, settings.name, notifier, tells=tells)
    notifier.allow(_REQUESTS_A_STEP * settings.timeout_seconds)
    # What it may wait for, the spool, is made by a collector that systemd starts after it.
    notifier.tell(READY)
    os.nice(_NICE)
    gc.freeze()  # else all that was imported is searched for garbage with nearly every batch
    encoding = config.listen.python2_encoding
    try:
        process.run(directory, settings, make, orders, reload=reload, encoding=encoding)
    except lock.HeldError as error:
        text = f"{settings.name}: another forwarder hands over to it, process {error.pid or 'unknown'}"
        raise ConfigError([f"collector forward: {text}"]) from error
    notifier.tell(STOPPING)
    log.say_last(f"{settings.name}: stopped")
    end_at_once(EXIT_OK)  # a look-up of names may hang in a thread of libc


def _settings_again(path: str | None, name: str, notifier: Notifier, *, tells: bool) -> Forward | None:
    """Return what the file says of a destination now; None, and maybe tell why, if the former ones stay."""
    notifier.reloading()
    read_zone_again()
    try:
        config = load(path)
    except ConfigError as error:
        if tells:
            ours.error("%s: the configuration cannot be used, the former one stays: %s", name, error)
        return None
    finally:
        notifier.tell(READY)
    log.reconfigure(config.log.level, config.log.style)
    for forward in config.forwards:
        if forward.name == name:
            notifier.allow(_REQUESTS_A_STEP * forward.timeout_seconds)
            return forward
    if tells:
        ours.info("%s: taken out of the configuration; the former settings hold until it is stopped", name)
    return None


# --- what was, and is ---


def _show_status(directory: str, chosen: Iterable[Forward]) -> int:
    for forward in chosen:
        status = files.read(directory, forward.name)
        _say(f"{forward.name}: {_text_of(status)}")
    return EXIT_OK


def _text_of(status: dict[str, Any]) -> str:
    """Return a status as text."""
    if "numbered" not in status:
        waits = ", and waits for it" if status["running"] else ""
        return f"has not begun: a running collector makes its checkpoint{waits}"
    runs = f"runs as process {status['holder'] or status['process']}" if status["running"] else "does not run"
    counts = {name: status[name] for name in ("waiting", "shipped", "duplicate", "dropped", "filtered")}
    counts["dead"] = sum(status["dead"].values())
    numbers = ", ".join(f"{count} {name}" for name, count in counts.items())
    parts = [runs, f"{counted(status['numbered'], 'record')}: {numbers}"]
    if status["waiting"]:
        lag = max(0.0, status["lag_seconds"] + time.time() - status["time"])
        parts.append(f"the oldest that waits came {lag:.1f} s ago")
    if held := status["held"]:
        remedy = f"; {held['remedy']}" if held.get("remedy") else ""
        parts.append(f"holds since {moment(held['since'])}: {escape(held['text'] + remedy)}")
    elif status["waiting"] and (trouble := status.get("trouble")):
        parts.append(f"tries again: {trouble}")
    if days := status["certificate_days"]:
        parts.append(f"certificate valid for {counted(int(days), 'day')}")
    parts.append(f"at {moment(status['time'])}")
    return "; ".join(parts)


def _show_dead(directory: str, settings: Forward, encoding: str) -> int:
    reader = RecordReader(encoding)
    letters = _letters(directory, settings)
    for letter in letters.read():
        _say(_line(letter, reader))
    damaged = (f"{path}: could not be read, and is kept; see the disk" for path in letters.damaged())
    for text in chain(_unread(letters, "shown"), damaged):
        _say(f"{settings.name}: {text}", to=sys.stderr)
    return EXIT_OK


def _line(letter: Letter, reader: RecordReader) -> str:
    spooled = letter.spooled
    record = next(reader.read([spooled.payload], [], []), None)
    text = f"{name_of(record)}: {message_of(record)}" if record else "cannot be read"
    text = escape(text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]}...")
    return f"{moment(spooled.received / _BILLION)} {letter.id} {escape(letter.reason)} {spooled.peer} {text}"


def _print_template(settings: Forward) -> int:
    destination = make(settings)
    template = getattr(destination, "template", None)
    if template is None:
        raise ConfigError([f"{header(settings.name, 'forward')}: type = {settings.type} needs no template"])
    try:
        _say(template())
    except (RequestError, OSError) as error:
        advice = error.advice if isinstance(error, HoldError) else ""
        _say(f"{settings.name}: {error}{advice}", to=sys.stderr)
        return EXIT_CANNOT_START
    finally:
        destination.close()
    return EXIT_OK


# --- once more ---


def _resend(options: argparse.Namespace, config: Config, directory: str, settings: Forward) -> int:
    log.set_up(config.log.level, config.log.style)
    encoding = config.listen.python2_encoding
    outcome = resend.Outcome()
    letters = _letters(directory, settings)
    report = partial(_report, settings.name, outcome, letters, stays=options.resend_dead)

    def report_what_was_cut() -> None:
        outcome.trouble = resend.STOPPED
        report()

    orders = Orders(config.listen.drain_seconds, ends=report_what_was_cut)
    try:
        held = lock.take(os.path.join(directory, f"{settings.name}.resend.lock"))
    except FileNotFoundError as error:
        text = f"{directory}: no spool is there; a running collector makes it, or see [spool] directory"
        raise ConfigError([f"collector forward: {text}"]) from error
    except lock.HeldError as error:
        text = f"{settings.name}: is sent again already, by process {error.pid or 'unknown'}"
        raise ConfigError([f"collector forward: {text}"]) from error
    how: dict[str, Any] = {"encoding": encoding, "outcome": outcome}
    try:
        if options.resend_dead:
            resend.resend_letters(letters, settings, make(settings), orders, **how)
        else:
            until = time.time() if options.until is None else options.until
            times = int(options.since * _BILLION), int(until * _BILLION)
            resend.resend_spooled(directory, settings, make(settings), orders, times, letters=letters, **how)
    finally:
        os.close(held)
    return report()


def _report(name: str, outcome: resend.Outcome, letters: DeadLetters, *, stays: bool) -> int:
    """Say what came of it; *stays*: what is refused once more had been before. Return the exit code."""
    counts = f"{outcome.stored} stored, {outcome.duplicate} there already, {outcome.filtered} filtered"
    _say(f"{counts}, {sum(outcome.dead.values())} refused")
    sys.stdout.flush()
    left = [*_refused(outcome, stays=stays), *_unread(letters, "sent")]
    if outcome.bad_blocks:
        left.append(f"{counted(outcome.bad_blocks, 'block')} of the spool cannot be read")
    if outcome.trouble:
        unsettled = counted(len(outcome.unsettled), "record")
        left.append(f"{escape(outcome.trouble)}; {unsettled} and what follows left")
    for text in left:
        _say(f"{name}: {text}", to=sys.stderr)
    return EXIT_FAILED if left else EXIT_OK


def _refused(outcome: resend.Outcome, *, stays: bool) -> Iterator[str]:
    """Yield what was refused for good; *stays*: it had been before."""
    for reason, count in outcome.dead.items():
        becomes = "stays a dead letter" if count == 1 else "stay dead letters"
        if not stays:
            becomes = "is a dead letter now" if count == 1 else "are dead letters now"
        yield f"{counted(count, 'record')} refused, which {becomes}: {escape(reason)}"
    if outcome.letters_gone:
        yield f"{counted(outcome.letters_gone, 'older dead letter')} went for them: see dead_letter_bytes"


def _unread(letters: DeadLetters, done: str) -> Iterator[str]:
    """Yield what cannot be read of dead letters, and so is not *done*."""
    for path, count in letters.bad.items():
        blocks = counted(count, "block", "cannot be read and is", "cannot be read and are")
        yield f"{path}: {blocks} not {done}: a record each, or more; see the disk"


def _letters(directory: str, settings: Forward) -> DeadLetters:
    path = files.dead_letters_path(directory, settings.name)
    return DeadLetters(path, settings.dead_letter_bytes)


def _say(text: str, to: TextIO | None = None) -> None:
    print(text, file=to)
