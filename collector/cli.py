"""The command line: arguments and exit codes. How anything is done is told elsewhere.

Exit codes of `run`: 0 drained; 2 whatever prevents starting; 1 anything else.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import signal
import sys
import tempfile
from functools import partial
from typing import TYPE_CHECKING

from collector import __version__, guardian, log, sockets
from collector.config import Config, ConfigError, load, same_files
from collector.log_directory import folding
from collector.rotating import make_directory

if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_OK, EXIT_FAILED, EXIT_CANNOT_START = 0, 1, 2
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command `collector` and return its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser, commands = _parser()
    if not arguments or (arguments[0] not in commands and arguments[0] not in ("-h", "--help", "--version")):
        arguments.insert(0, "run")
    options = parser.parse_args(arguments)
    if options.command is not _run:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, guardian.AWAITED)  # nobody waits for them
    try:
        return int(options.command(options))
    except ConfigError as error:
        _complain(str(error))
        return EXIT_CANNOT_START
    except OSError as error:
        _complain(f"collector: {error}")
        return EXIT_CANNOT_START


def _parser() -> tuple[argparse.ArgumentParser, list[str]]:
    parser = argparse.ArgumentParser(prog="collector", description=sys.modules["collector"].__doc__)
    parser.add_argument("--version", action="version", version=f"collector {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    with_config = argparse.ArgumentParser(add_help=False)
    with_config.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        default=os.environ.get("COLLECTOR_CONFIG") or None,
        help="configuration (default: $COLLECTOR_CONFIG; with neither, the built-in defaults)",
    )
    run = commands.add_parser("run", parents=[with_config], help="collect, in the foreground (the default)")
    run.set_defaults(command=_run)
    check = commands.add_parser(
        "check", parents=[with_config], help="check the configuration and what it needs"
    )
    check.set_defaults(command=_check)
    tail = commands.add_parser(
        "tail", parents=[with_config], help="read the log files back, merged by time, and follow them"
    )
    tail.add_argument("-f", "--follow", action="store_true", help="go on with what is written, until ^C")
    tail.add_argument("--level", type=_level, default=0, help="name or number; records below it are left out")
    tail.add_argument("--logger", metavar="NAME", help="of this logger and those below it only")
    tail.add_argument("--grep", metavar="RE", type=_pattern, help="records in which this is found only")
    tail.add_argument("--since", metavar="10m", type=_seconds, help="not older: a number and s, m, h, d or w")
    tail.add_argument("--json", action="store_true", help="put out JSON lines, whatever the format")
    tail.add_argument("-n", "--number", metavar="N", type=_number, help="the last N only (with -f: 10)")
    tail.set_defaults(command=_tail)
    top = commands.add_parser(
        "top", parents=[with_config], help="show each second what a running collector does"
    )
    top.add_argument("-n", metavar="COUNT", type=int, help="end after so many refreshes")
    top.set_defaults(command=_top)
    send = commands.add_parser("send", help="send one record through a stock SocketHandler")
    send.add_argument("--host", default="127.0.0.1")
    send.add_argument("--port", type=int, default=9020)
    send.add_argument("--logger", metavar="NAME", default="root")
    send.add_argument("--level", default="INFO", help="name or number")
    send.add_argument("message", metavar="MESSAGE", nargs="+")
    send.set_defaults(command=_send)
    return parser, list(commands.choices)


def _level(text: str) -> int:
    level = int(text) if text.isdecimal() else logging.getLevelName(text.upper())
    if not isinstance(level, int):
        raise argparse.ArgumentTypeError(f"{text}: must be DEBUG, INFO, ... CRITICAL or a number")
    return level


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(
            f"{text}: must be a regular expression of Python's: {error}"
        ) from error


def _seconds(text: str) -> int:
    if not (match := re.fullmatch(r"(\d{1,9})([smhdw])", text)):
        raise argparse.ArgumentTypeError(f"{text}: must be a number and s, m, h, d or w, such as 10m")
    return int(match[1]) * _UNIT_SECONDS[match[2]]


def _number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number from 0 up")
    return int(text)


def _run(options: argparse.Namespace) -> int:
    config = _load(options.config)
    # Only now, and not above: the guardian, `check` and `send` need no gevent, and are smaller without.
    if guardian.is_worker():
        from collector import worker  # noqa: PLC0415

        log.set_up(config.log.level)
        worker.run(config, partial(_load, options.config, try_directory=False))
    log.set_up(config.log.level)
    opened = sockets.open_all(config.listen, config.admin)
    return guardian.run([sys.executable, *sys.orig_argv[1:]], opened, config.listen.unix)


def _check(options: argparse.Namespace) -> int:
    config = _load(options.config)
    if config.listen.tls:
        from collector import tls  # noqa: PLC0415 - see _load

        for trouble in tls.load(config.listen.tls).trouble():
            _complain(f"WARNING {trouble}")
    return EXIT_OK


def _top(options: argparse.Namespace) -> int:
    from collector import top  # noqa: PLC0415 - brings http.client with it, which nothing that collects needs

    admin = load(options.config).admin
    if admin is None:
        place = options.config or "the defaults"
        raise ConfigError([f"{place}: no table [admin]: top asks the admin port; add it"])
    return top.run(admin, options.n)


def _load(path: str | None, *, try_directory: bool = True) -> Config:
    """Read the configuration and try what collecting needs and no configuration can promise.

    Raises ConfigError, with the faults of both.
    """
    faults: list[str] = []
    try:
        config = load(path)
    except ConfigError as error:
        if error.config is None:
            raise
        config, faults = error.config, error.faults
    if try_directory:
        try:
            _try_directory(config.files.directory)
        except OSError as error:
            faults.append(f"collector: {error}")
    if config.rules:
        faults += same_files(config, folding(os.path.realpath(config.files.directory)))
    if config.listen.tls:
        from collector import tls  # noqa: PLC0415 - the guardian takes 5 MB less without

        try:
            tls.load(config.listen.tls)
        except OSError as error:
            faults.append(f"collector: {error}")
    if faults:
        raise ConfigError(faults)
    return config


def _try_directory(directory: str) -> None:
    """Make the directory if it is missing, and a file in it, as collecting would. Raises OSError."""
    try:
        make_directory(os.path.abspath(directory))
        with tempfile.NamedTemporaryFile(prefix=".collector.check.", dir=directory):
            pass
    except OSError as error:
        why = f"{error.strerror}; see [files] directory, and who owns it"
        raise OSError(f"cannot write in the directory {directory!r}: {why}") from error


def _tail(options: argparse.Namespace) -> int:
    from collector import tail  # noqa: PLC0415 - what collects needs no http.client

    return tail.run(options, load(options.config))


def _send(options: argparse.Namespace) -> int:
    import logging.handlers  # noqa: PLC0415 - brings pickle with it, which nothing that collects may load

    level = logging.getLevelName(options.level.upper())
    if options.level.isdigit():
        level = int(options.level)
    if not isinstance(level, int):
        _complain(f"collector send: --level {options.level}: must be DEBUG, INFO, ... CRITICAL or a number")
        return EXIT_FAILED
    handler = logging.handlers.SocketHandler(sockets.to_reach(options.host), options.port)
    message = " ".join(options.message)
    record = logging.LogRecord(options.logger, level, __file__, 0, message, None, None, "send")
    try:
        # Not emit(): it would hide that nobody listens.
        with handler.makeSocket() as sock:
            sock.sendall(handler.makePickle(record))
    except OSError as error:
        _complain(f"collector send: cannot reach {options.host}:{options.port}: {error.strerror or error}")
        return EXIT_FAILED
    return EXIT_OK


def _complain(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201 - it is the command's answer, whatever the log's level
