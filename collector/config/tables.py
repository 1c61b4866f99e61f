"""The settings, checked: one frozen dataclass per table of the file.

They are the list of keys, one a line with type, check and default; etc/collector.toml is their manual, and a
test holds the two together. A Config that load() returns is true by construction, and nobody asks again.
Does not know what the settings are used for, nor how a file is read.
"""

import ipaddress
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from collector.config import checks, forward_checks
from collector.config.toml_text import shown
from collector.names import file_name

MiB = 1024 * 1024
DAY_SECONDS = 24 * 60 * 60
RESERVE_PARTS = 4
"""All incomplete frames together may take one of this many parts of the reserve."""
MIN_SEGMENT_BYTES = 64 * 1024


def _seconds(low: int) -> Callable[[object], object]:
    return checks.number(low, DAY_SECONDS, float, what="a number of seconds")


def header(name: str, table: str = "logger") -> str:
    """Return the place of a rule, or of another table with a name, for a message."""
    return f"[[{table}]] {shown(name)}"


def is_in(logger: str, name: str) -> bool:
    """Tell whether *logger* is called *name* or below it. Below `root`, the root logger's name, is none."""
    return logger == name or (name != "root" and logger.startswith(f"{name}."))


@dataclass(frozen=True, slots=True)
class Tls:
    """What a TLS server needs, as paths of PEM files; `client_ca` "": clients need no certificate."""

    certificate: Annotated[str, checks.path] = "server.pem"
    private_key: Annotated[str, checks.path] = "server.key"
    client_ca: Annotated[str, checks.optional_path] = ""


@dataclass(frozen=True, slots=True)
class Listen:
    """Where records come in, and how many at a time."""

    host: Annotated[str, checks.HOST] = "127.0.0.1"
    port: Annotated[int, checks.number(0, 65_535)] = 9020
    unix: Annotated[str, checks.unix_path] = ""
    backlog: Annotated[int, checks.number(1, 65_535)] = 4096
    allow: Annotated[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...], checks.networks] = ()
    proxy_protocol: Annotated[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...], checks.networks] = ()
    max_clients: Annotated[int, checks.number(1, 1_000_000)] = 10_000
    max_frame_bytes: Annotated[int, checks.number(1, 2**32 - 1)] = 16 * MiB  # its length comes in four bytes
    max_buffered_bytes: Annotated[int, checks.number(RESERVE_PARTS, 2**40)] = 256 * MiB
    when_full: Annotated[str, checks.one_of("wait, drop", "wait", "drop")] = "wait"
    frame_timeout_seconds: Annotated[float | int, _seconds(1)] = 60
    drain_seconds: Annotated[float | int, _seconds(0)] = 8
    python2_encoding: Annotated[str, checks.ENCODING] = "utf-8"
    tls: Tls | None = None


@dataclass(frozen=True, slots=True)
class Files:
    """Where records go. `level` and `mode` are numbers, whatever text the file gave for them."""

    directory: Annotated[str, checks.path] = "logs"
    name: Annotated[str, checks.file_name] = "{logger}.log"
    dots: Annotated[str, checks.one_of('"_", ".", "/"', "_", ".", "/")] = "_"
    level: Annotated[int, checks.level] = logging.NOTSET
    mode: Annotated[int, checks.file_mode] = 0o640
    max_files: Annotated[int, checks.number(1, 1_000_000)] = 4096
    max_open: Annotated[int, checks.number(1, 1_000_000)] = 512
    sync_seconds: Annotated[float | int, _seconds(0)] = 0

    def path_of(self, logger: str, host: str = "{client}") -> str:
        """Return the path, below the directory, of a logger's file for a client at *host*."""
        return self.name.replace("{client}", host).replace("{logger}", file_name(logger, self.dots))


@dataclass(frozen=True, slots=True)
class Rollover:
    """When a file becomes a backup, and how many backups stay. 0: at no size; all of them."""

    when: Annotated[str, checks.WHEN] = "midnight"
    utc: Annotated[bool, checks.FLAG] = False
    max_bytes: Annotated[int, checks.number(0, 2**63 - 1)] = 0
    backup_count: Annotated[int, checks.number(0, 1_000_000)] = 7
    compress: Annotated[bool, checks.FLAG] = False


@dataclass(frozen=True, slots=True)
class Retention:
    """How much the directory may hold before the oldest backups of any file go. 0: no limit."""

    max_total_bytes: Annotated[int, checks.number(0, 2**63 - 1)] = 0
    max_age_days: Annotated[float | int, checks.number(0, 36_500, float, what="a number of days")] = 0
    min_free_bytes: Annotated[int, checks.number(0, 2**63 - 1)] = 0


@dataclass(frozen=True, slots=True)
class Format:
    """How a record becomes a line. `text` is TEXT_FIELD conversions and characters to copy, no other `%`."""

    style: Annotated[str, checks.one_of("text, json", "text", "json")] = "text"
    text: Annotated[str, checks.text_format] = "[%(asctime)s]: %(name)s %(levelname)s %(lineno)s %(message)s"
    datefmt: Annotated[str, checks.time_format] = "%Y-%m-%d %H:%M:%S"
    utc: Annotated[bool, checks.FLAG] = False
    newlines: Annotated[str, checks.one_of("keep, escape", "keep", "escape")] = "keep"


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Frames that could not be decoded, as received; 0: none are kept."""

    max_bytes: Annotated[int, checks.number(0, 2**40)] = 64 * MiB


@dataclass(frozen=True, slots=True)
class Log:
    """The collector's own log on stderr."""

    level: Annotated[int, checks.level] = logging.INFO
    style: Annotated[str, checks.one_of("text, json", "text", "json")] = "text"


@dataclass(frozen=True, slots=True)
class Admin:
    """The port for metrics, health and the page; without a token whoever reaches it may read.

    `token` "": it is what tokens.token_of() finds in `token_file`, if that is not "" too.
    """

    host: Annotated[str, checks.HOST] = "127.0.0.1"
    port: Annotated[int, checks.number(0, 65_535)] = 9021
    token: Annotated[str, checks.TOKEN] = ""
    token_file: Annotated[str, checks.optional_path] = ""
    names: Annotated[tuple[str, ...], checks.host_names] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """What holds for a logger and those below it, in full: nothing is left to look up elsewhere.

    `root` holds for the root logger's own records alone. `root.x` is an ordinary name: that logger is not
    below one named `root` in the client either.
    """

    name: Annotated[str, checks.LOGGER_NAME]
    level: Annotated[int, checks.level]
    file: Annotated[str, checks.rule_file]  # a path below the directory; "": by files.name
    rollover: Rollover
    format: Format


@dataclass(frozen=True, slots=True)
class Spool:
    """What waits on disk for destinations. `directory` "": Config.spool_directory says where."""

    directory: Annotated[str, checks.optional_path] = ""
    max_bytes: Annotated[int, checks.number(2 * MIN_SEGMENT_BYTES, 2**63 - 1)] = 1024 * MiB
    segment_bytes: Annotated[int, checks.number(MIN_SEGMENT_BYTES, 1024 * MiB)] = 16 * MiB
    sync_seconds: Annotated[float | int, _seconds(0)] = 1


@dataclass(frozen=True, slots=True)
class Forward:
    """A destination, of any type; config.forwards says which keys and which defaults are a type's own.

    "" is the value of a key that is not given. Of `url` and `urls`, elasticsearch has one; other types have
    `address`. The secrets lie in the files that are named.
    """

    name: Annotated[str, forward_checks.name]
    type: Annotated[str, forward_checks.kind]
    url: Annotated[str, forward_checks.url] = ""
    urls: Annotated[tuple[str, ...], forward_checks.urls] = ()
    address: Annotated[str, forward_checks.address] = ""
    loggers: Annotated[tuple[str, ...], forward_checks.logger_names] = ()
    exclude: Annotated[tuple[str, ...], forward_checks.logger_names] = ()
    level: Annotated[int, checks.level] = logging.NOTSET
    start: Annotated[str, checks.one_of("end, oldest", "end", "oldest")] = "end"
    batch_records: Annotated[int, checks.number(1, 10_000)] = 2000
    batch_bytes: Annotated[int, checks.number(1, 100_000_000)] = 5_000_000
    batch_seconds: Annotated[float | int, _seconds(0)] = 1.0
    timeout_seconds: Annotated[float | int, _seconds(1)] = 60
    max_pause_seconds: Annotated[float | int, _seconds(1)] = 60
    reconnect_seconds: Annotated[float | int, _seconds(1)] = 300
    max_record_bytes: Annotated[int, checks.number(480, 100_000_000)] = 1_000_000
    dead_letter_bytes: Annotated[int, checks.number(4096, 2**40)] = 64 * MiB
    compression: Annotated[str, checks.one_of("gzip, none", "gzip", "none")] = "gzip"
    ca: Annotated[str, checks.optional_path] = ""
    certificate: Annotated[str, checks.optional_path] = ""
    private_key: Annotated[str, checks.optional_path] = ""
    user: Annotated[str, forward_checks.user] = ""
    password_file: Annotated[str, checks.optional_path] = ""
    api_key_file: Annotated[str, checks.optional_path] = ""
    token_file: Annotated[str, checks.optional_path] = ""
    proxy: Annotated[str, forward_checks.proxy] = ""
    index: Annotated[str, forward_checks.index] = "collector-%Y.%m.%d"  # without %: a data stream
    pipeline: Annotated[str, forward_checks.optional_line] = ""
    facility: Annotated[str, forward_checks.FACILITY] = "local0"
    app_name: Annotated[str, forward_checks.app_name] = "{logger}"
    window: Annotated[int, checks.number(1, 10_000)] = 128
    tag: Annotated[str, forward_checks.tag] = "collector.{logger}"
    shared_key_file: Annotated[str, checks.optional_path] = ""

    def wants(self, logger: str, level: int) -> bool:
        """Tell whether it is to have a record: of the names that fit in both lists, the longest decides."""
        taken = max((len(name) for name in self.loggers if is_in(logger, name)), default=-1)
        left_out = max((len(name) for name in self.exclude if is_in(logger, name)), default=-1)
        return level >= self.level and (taken > left_out or (not self.loggers and left_out < 0))

    @property
    def request_records(self) -> int:
        """How many records a request has at most, and a kill doubles: by RELP no more than a window."""
        return min(self.batch_records, self.window) if self.type == "relp" else self.batch_records

    @property
    def host_and_port(self) -> tuple[str, int]:
        """Return what `address` names, an IPv6 address without its brackets."""
        return forward_checks.host_and_port(self.address)


@dataclass(frozen=True, slots=True)
class Config:
    """All settings. In `rules` the longest names come first, so that the first rule to fit holds."""

    listen: Listen = Listen()
    files: Files = Files()
    rollover: Rollover = Rollover()
    retention: Retention = Retention()
    format: Format = Format()
    quarantine: Quarantine = Quarantine()
    log: Log = Log()
    admin: Admin | None = None
    spool: Spool | None = None
    rules: Annotated[tuple[Rule, ...], checks.LOGGER_TABLES] = ()  # [[logger]] in the file
    forwards: Annotated[tuple[Forward, ...], checks.FORWARD_TABLES] = ()  # [[forward]], in its order

    def rule_for(self, logger: str) -> Rule | None:
        """Return the rule that holds for a logger, the one whose name is the longest; None: no rule does."""
        for rule in self.rules:
            if is_in(logger, rule.name):
                return rule
        return None

    @property
    def spool_directory(self) -> str:
        """Return where the spool lies, if there is one."""
        own = self.spool.directory if self.spool else ""
        return own or os.path.join(self.files.directory, ".spool")

    def oddities(self) -> list[str]:
        """Return what is no fault but can hardly be meant, a line each."""
        forms = [("[format] ", self.format)]
        forms += [(f"{header(rule.name)} format.", rule.format) for rule in self.rules]
        forms = [(place, form) for place, form in reversed(forms) if form.style == "text"]
        # Each where it is written: a rule has what it does not change from above.
        texts = {form.text: f"{place}text" for place, form in forms}
        times = {form.datefmt: f"{place}datefmt" for place, form in forms if checks.has_time(form.text)}
        return [
            *(
                f"{place} = {shown(text)}: has no %(message)s: no message will be in any file; {remedy}"
                for text, place in texts.items()
                if (remedy := checks.without_message(text))
            ),
            *(
                f"{place} = {shown(datefmt)}: has no conversion: each line will have this text for its time; "
                "write one, such as %Y-%m-%d %H:%M:%S"
                for datefmt, place in times.items()
                if "%" not in datefmt.replace("%%", "")
            ),
        ]
