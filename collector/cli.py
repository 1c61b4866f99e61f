"""The command line: turns arguments into a command, and says what keeps that from starting.

A command is the module of its name in commands/. It is loaded only when it is used: `send` brings pickle,
which nothing that collects may load; `tail` and `top` bring http.client.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import importlib.machinery
import importlib.util
import io
import logging
import os
import signal
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

from collector import __version__, log, signals
from collector.config import converters
from collector.config.load import ConfigError
from collector.exits import EXIT_CANNOT_START
from collector.moments import moment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_EXAMPLE = "example: "
_MAX_PORT = 65_535
# They are held in memory.
_MAX_CONTEXT = 1000
_WAIT_FOR_SIGNALS = ("run", "forward")
"""Commands that wait for signals themselves; they stay blocked for those."""


class _Parser(argparse.ArgumentParser):
    """The arguments of one command, whose help ends with an example."""

    def parse(self, arguments: Sequence[str], *more: str) -> argparse.Namespace:
        """Return the options; on others, exit with the usage of this command and what was probably meant.

        That may be one of its own or one *more*.
        """
        options, unknown = self.parse_known_args(arguments)
        if unknown:
            known = [one for one in (*self._option_string_actions, *more) if one.startswith("--")]
            meant = _meant(unknown[0].partition("=")[0], known)
            if not unknown[0].startswith("-"):
                meant = f"; a configuration is named by -c {unknown[0]}"
            self.error(f"unrecognized arguments: {' '.join(unknown)}{meant}")
        if vars(options).get("until") is not None:
            options.until = moment(options.until, time.time(), options.since)
        return options

    def knows(self, option: str) -> bool:
        """Tell whether a command has an option, given in full."""
        return option.partition("=")[0] in self._option_string_actions


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command `collector` and return its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a path may hold what a terminal cannot show
    options = _options(list(sys.argv[1:] if arguments is None else arguments))
    if options.command not in _WAIT_FOR_SIGNALS:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.HANDLED)  # nobody waits for them
    try:
        command = importlib.import_module(f"collector.commands.{options.command}")
        return int(command.run(options))
    except (ConfigError, OSError) as error:
        text = log.answer(str(error) if isinstance(error, ConfigError) else f"collector: {error}")
        print(text, file=sys.stderr)  # whatever the log's level
        return EXIT_CANNOT_START


def _options(arguments: list[str]) -> argparse.Namespace:
    """Parse the arguments: `-c FILE` may stand in front of the command too, and without one it is `run`."""
    parser, commands = _parsers()
    at = 0
    while at < len(arguments) and (count := _count_of_config(arguments[at])):
        at += count
    before, rest = arguments[:at], arguments[at:]
    if rest and rest[0] in ("-h", "--help", "-V", "--version"):
        parser.parse_args(rest[:1])
    if not rest or rest[0].startswith("-"):
        for name in commands:
            if name in rest and commands[name].knows(rest[0]):
                commands[name].error(f"{rest[0]} belongs behind the command: collector {name} {rest[0]} ...")
        return commands["run"].parse([*before, *rest], "--version")
    name = rest.pop(0)
    if name not in commands:
        meant = _meant(name.lower(), [*commands, "--help", "--version"])
        meant = meant or f"; there are {', '.join(commands)}"
        meant = f"; a configuration is named by -c {name}" if os.path.isfile(name) else meant
        parser.error(f"{name}: no such command{meant}")
    return commands[name].parse([*before, *rest])


def _count_of_config(argument: str) -> int:
    """Return how many arguments, from this one on, name a configuration; 0: it is for something else."""
    if argument.startswith("-c"):
        return 2 if argument == "-c" else 1
    option, equals, _ = argument.partition("=")
    if len(option) > len("--") and "--config".startswith(option):  # argparse takes it cut short too
        return 1 if equals else 2
    return 0


def _meant(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {near[0]}?" if near else ""


def _parsers() -> tuple[_Parser, dict[str, _Parser]]:
    """Return the parser of what stands before a command, and those of the commands."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = _Parser(prog="collector", description=sys.modules["collector"].__doc__, formatter_class=layout)
    parser.add_argument("-V", "--version", action="version", version=_version())
    parser.usage = "collector [-c FILE] [COMMAND] [OPTION...]"
    commands = parser.add_subparsers(prog="collector", title="commands", metavar="COMMAND")
    with_config = _Parser(add_help=False)
    with_config.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        default=os.environ.get("COLLECTOR_CONFIG") or None,
        help="configuration (default: $COLLECTOR_CONFIG; with neither, the built-in defaults)",
    )
    parser.epilog = f"""-c FILE may stand before the command too; without a command it is run.

{_EXAMPLE}collector run --directory /tmp/logs"""

    for name, does, example, add_options in _COMMANDS:
        added = commands.add_parser(
            name,
            parents=[with_config],
            help=does,
            description=f"{name}: {does}.",
            epilog=f"{_EXAMPLE}collector {name} {example}",
            formatter_class=layout,
        )
        added.set_defaults(command=name)
        add_options(added)
    return parser, commands.choices


def _version() -> str:
    """Return the version, and whether what records cost most in was compiled."""
    # Whoever compiles anything begins with this.
    found = importlib.util.find_spec("collector.wire.fragments")
    is_compiled = found and f"{found.origin}".endswith(tuple(importlib.machinery.EXTENSION_SUFFIXES))
    return f"collector {__version__}, {'compiled' if is_compiled else 'not compiled'}"


def _add_run_options(run: _Parser) -> None:
    # A flag is a variable that goes before that of the environment: reloads and forwarders have it too.
    run.add_argument(
        "--port",
        type=partial(converters.number, high=_MAX_PORT),
        help="TCP port, 0 for any free one (default: [listen] port, 9020)",
    )
    run.add_argument(
        "--directory",
        metavar="DIR",
        type=converters.path,
        help="where the log files go (default: [files] directory, logs)",
    )


def _add_config_options(config: _Parser) -> None:
    instead = config.add_mutually_exclusive_group()
    instead.add_argument(
        "--default", action="store_true", help="print every key with its default and its reason instead"
    )
    instead.add_argument(
        "--units", metavar="DIR", help="write the units for systemd into this directory instead"
    )


def _add_tail_options(tail: _Parser) -> None:
    tail.add_argument("-f", "--follow", action="store_true", help="keep printing new records until ^C")
    tail.add_argument(
        "--level",
        type=converters.level,
        default=0,
        help="leave out records below this level: a name or a number (default: none)",
    )
    tail.add_argument(
        "--logger", metavar="NAME", help="only records of this logger and those below it (default: all)"
    )
    tail.add_argument(
        "--grep",
        metavar="RE",
        type=converters.pattern,
        help="only records that match this regular expression (default: all)",
    )
    tail.add_argument(
        "-i", "--ignore-case", action="store_true", help="whatever the case of what --grep finds"
    )
    tail.add_argument(
        "--client",
        metavar="ADDRESS",
        default="",
        help="only records of this client, with its port or without (default: all)",
    )
    since = "only records from this time on: how long ago, 1h30m, or 20:55, yesterday, 2026-11-25T20:55"
    tail.add_argument("--since", metavar="10m", type=converters.moment, help=f"{since} (default: all)")
    until = "only records before this time, written likewise (default: all)"
    tail.add_argument("--until", metavar="T", type=converters.written_moment, help=until)
    for letter, name, which in (
        ("A", "after", "after"),
        ("B", "before", "before"),
        ("C", "context", "around"),
    ):
        tail.add_argument(
            f"-{letter}",
            f"--{name}",
            metavar="N",
            type=partial(converters.number, high=_MAX_CONTEXT),
            help=f"with each record that is found, the N of its file {which} it (default: 0)",
        )
    tail.add_argument("--json", action="store_true", help="print JSON lines, whatever the format")
    tail.add_argument("--count", action="store_true", help="print how many there are, by level and logger")
    tail.add_argument(
        "-n",
        "--number",
        metavar="N",
        type=converters.number_or_all,
        help="only the last N, or all (default: 10; with FILE, --grep, --since, --until or --count: all)",
    )
    tail.add_argument(
        "files", metavar="FILE", nargs="*", help="read these instead, laid out as in the configuration"
    )


def _add_send_options(send: _Parser) -> None:
    send.add_argument("--host", help="name or address (default: [listen] host, 127.0.0.1)")
    send.add_argument(
        "--port",
        type=partial(converters.number, low=1, high=_MAX_PORT),
        help="TCP port (default: [listen] port or unix, 9020)",
    )
    send.add_argument("--logger", metavar="NAME", default="root", help="name of the logger (default: root)")
    send.add_argument(
        "--level",
        type=converters.level,
        default=logging.INFO,
        help="name, in any case, or number (default: INFO)",
    )
    send.add_argument(
        "message",
        metavar="MESSAGE",
        nargs="+",
        help="the message, in words; - alone: each line of standard input",
    )


def _add_quarantine_options(quarantine: _Parser) -> None:
    does = quarantine.add_mutually_exclusive_group()
    does.add_argument(
        "--show",
        metavar="N",
        type=partial(converters.number, low=1),
        help="show frame N of the list as text; nothing in it is run",
    )
    does.add_argument(
        "--replay",
        action="store_true",
        help="send what can be decoded by now to where the configuration listens, and take it out",
    )


def _add_forward_options(forward: _Parser) -> None:
    forward.add_argument("name", metavar="NAME", nargs="?", help="of a [[forward]]")
    does = forward.add_mutually_exclusive_group()
    does.add_argument("--status", action="store_true", help="show how far it has come, and what holds it")
    does.add_argument("--template", action="store_true", help="print the index template that it needs")
    does.add_argument("--dead", action="store_true", help="show what it has refused for good")
    does.add_argument("--resend-dead", action="store_true", help="send what it has refused once more")
    does.add_argument("--resend", action="store_true", help="send again what the spool holds since a time")
    for which, converter, default in (
        ("since", converters.moment, "needed with --resend"),
        ("until", converters.written_moment, "default: now"),
    ):
        forward.add_argument(
            f"--{which}",
            metavar="T",
            type=converter,
            help=f"{which} when it was received, 10m ago or at 2026-11-22T10:00 ({default})",
        )


def _add_check_options(check: _Parser) -> None:
    check.add_argument(
        "--send", action="store_true", help="send one record to each destination, and tell its verdict"
    )


def _add_top_options(top: _Parser) -> None:
    top.add_argument(
        "-n", metavar="COUNT", type=converters.number, help="stop after this many refreshes (default: never)"
    )


_COMMANDS: tuple[tuple[str, str, str, Callable[[_Parser], None]], ...] = (
    ("run", "collect, in the foreground (the default)", "--port 9020 --directory logs", _add_run_options),
    (
        "check",
        "try the configuration and what it needs, and say what would run",
        "-c collector.toml",
        _add_check_options,
    ),
    (
        "tail",
        "read the log files back, merged by time, and follow them",
        "-f --level WARNING --logger app.web",
        _add_tail_options,
    ),
    ("top", "show each second what a running collector does", "-c collector.toml", _add_top_options),
    (
        "health",
        "say whether a collector does its work: exit 0, or 1 and why not",
        "-c collector.toml",
        lambda _: None,
    ),
    (
        "send",
        "send a record, through a stock SocketHandler, to where it listens",
        "--logger app.web --level WARNING the disk is nearly full",
        _add_send_options,
    ),
    (
        "quarantine",
        "list what could not be decoded; show one frame of it, or send it again",
        "--show 1",
        _add_quarantine_options,
    ),
    (
        "forward",
        "hand over to one destination; without NAME: the status of all",
        "elk --resend --since 2026-11-22T10:00",
        _add_forward_options,
    ),
    ("config", "print what holds, and where each value comes from", "-c collector.toml", _add_config_options),
)
"""Each command with what it does, an example of its arguments, and what adds its options to a parser."""
