"""The settings, checked: one frozen dataclass per table of the file.

They are the list of keys, one a line with type, check and default; etc/collector.toml is their manual, and a
test holds the two together. A Config that load() returns is true by construction, and nobody asks again.
Does not know what the settings are used for, nor how a file is read.
"""

import ipaddress
import logging
from dataclasses import dataclass
from typing import Annotated

from collector.config import checks
from collector.config.toml_text import shown
from collector.names import file_name

MiB = 1024 * 1024
DAY_SECONDS = 24 * 60 * 60
RESERVE_PARTS = 4
"""All incomplete frames together may take one of this many parts of the reserve."""


def header(rule: str) -> str:
    """Return the place of a rule, for a message, by the name of its logger."""
    return f"[[logger]] {shown(rule)}"


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
    frame_timeout_seconds: Annotated[
        float | int, checks.number(1, DAY_SECONDS, float, what="a number of seconds")
    ] = 60
    drain_seconds: Annotated[
        float | int, checks.number(0, DAY_SECONDS, float, what="a number of seconds")
    ] = 8
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
    sync_seconds: Annotated[float | int, checks.number(0, DAY_SECONDS, float, what="a number of seconds")] = 0

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


@dataclass(frozen=True, slots=True)
class Admin:
    """The port for metrics, health and the page; `token` "": whoever reaches it may read."""

    host: Annotated[str, checks.HOST] = "127.0.0.1"
    port: Annotated[int, checks.number(0, 65_535)] = 9021
    token: Annotated[str, checks.TOKEN] = ""
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
    rules: Annotated[tuple[Rule, ...], checks.LOGGER_TABLES] = ()  # [[logger]] in the file

    def rule_for(self, logger: str) -> Rule | None:
        """Return the rule that holds for a logger, the one whose name is the longest; None: no rule does."""
        for rule in self.rules:
            if logger == rule.name or (rule.name != "root" and logger.startswith(rule.name + ".")):
                return rule
        return None

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
