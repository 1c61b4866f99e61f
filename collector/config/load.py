"""Read the configuration: TOML and variables in, one frozen dataclass per table out.

All checks are made here, in load(), and all faults are reported at once. Of keys it knows only those whose
values must fit together, and of no setting what it is used for.
"""

from __future__ import annotations

import codecs
import os
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from collector.config import checks, environment, forward_checks, forwards, toml_text
from collector.config.keys import keys, suggestion
from collector.config.masks import masked
from collector.config.tables import RESERVE_PARTS, Config, Files, Forward, MiB, Rule, header
from collector.config.toml_text import UNREAD, shown
from collector.config.units import without_unit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from _typeshed import DataclassInstance

_Table = TypeVar("_Table", bound="DataclassInstance")

# A thousand rules take 0.15 MiB; a path given by mistake may be that of a log file, or /dev/zero.
MAX_FILE_BYTES = MiB


class ConfigError(ValueError):
    """The operator's settings cannot be used: `faults` says why, a line for each reason.

    `config` has the settings, with defaults for the faulty ones, so that the others can be tried all the
    same; None: the file could not be read. `unsure` has the place and key of each faulty one, and of each
    that an unknown key may have been meant for; "" stands for every key.
    """

    def __init__(
        self,
        faults: list[str],
        config: Config | None = None,
        unsure: frozenset[tuple[str, str]] = frozenset(),
    ) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults
        self.config = config
        self.unsure = unsure


class Settings(NamedTuple):
    """The settings, and where they come from."""

    config: Config
    given: dict[str, Any]
    """The tables of the file, as they stand there."""
    lines: dict[environment.Path, int]
    """Where the file gives each key, as toml_text.Parsed has it."""
    variables: dict[environment.Path, str]
    """The variable that gives a key, by the path of the key."""


def parse(text: str, file: str) -> dict[str, Any]:
    """Return the tables of a TOML text, the content of *file*; raise ConfigError, which names that."""
    parsed = _parse(text, file)
    if parsed.tables is None or parsed.faults:
        raise ConfigError(parsed.faults)
    return parsed.tables


def _parse(text: str, file: str) -> toml_text.Parsed:
    parsed = toml_text.parse(text)
    return parsed._replace(faults=[f"{file}: {fault}" for fault in parsed.faults])


def load(path: str | os.PathLike[str] | None) -> Config:
    """Return the settings of a TOML file, None: the defaults, and of the environment, which goes first.

    Raises ConfigError, with all faults at once or the one that kept the file from being read.
    """
    return settings(path).config


def settings(path: str | os.PathLike[str] | None) -> Settings:
    """Return what load() does, with where it comes from. Raises ConfigError."""
    parsed = toml_text.Parsed({}, [], {})
    file = "the defaults" if path is None else os.fspath(path)
    if not file:
        raise ConfigError(["-c is empty: name a file, or leave out -c for the defaults"])
    if path is not None:
        parsed = _parse(_read(file), file)
    given = parsed.tables
    if given is None:
        raise ConfigError(parsed.faults)
    # A full disk or a slip of the shell may have emptied it. That must not mean the defaults, which delete
    # backups.
    empty = all(given[key] == [] and key in ("logger", "forward") for key in given)
    if path is not None and empty and not parsed.faults:
        raise ConfigError([f"{file}: has no table; leave out -c for the defaults, or COLLECTOR_CONFIG"])
    reader = _Reader(file, parsed.faults)
    config = reader.config(given, os.environ)
    if reader.faults:
        raise ConfigError(reader.faults, config, reader.unsure())
    return Settings(config, given, parsed.lines, reader.variables)


class _Reader:
    """Goes through the tables of one file, and the environment, and collects their faults."""

    def __init__(self, file: str, faults: list[str]) -> None:
        self.faults = faults
        self._file = file
        self._faulty: set[tuple[str, str]] = set()  # place and key of each
        self._unsure: set[tuple[str, str]] = set()  # of what an unknown one may have been meant for
        self.variables: dict[environment.Path, str] = {}
        """The variable that gives a key, by the path of the key, as messages name it."""

    def config(self, given: dict[str, Any], environ: Mapping[str, str]) -> Config:
        values = self._table(Config, given)
        self._read_variables(
            environ, values
        )  # the file has been judged: what is wrong from here on is theirs
        rules, destinations = values.pop("logger", []), values.pop("forward", [])
        config = _merged(Config(), values)
        listen = config.listen
        frame, reserve = listen.max_frame_bytes, listen.max_buffered_bytes
        least = RESERVE_PARTS * frame
        if reserve < least and self._sound("[listen]", "max_buffered_bytes", "max_frame_bytes"):
            rule = f"must be at least {RESERVE_PARTS} times max_frame_bytes = {frame}; raise it to {least}"
            self._fault("[listen]", "max_buffered_bytes", reserve, rule)
        admin = config.admin
        same = admin and admin.port and (admin.host, admin.port) == (listen.host, listen.port)
        sound = self._sound("[listen]", "host", "port") and self._sound("[admin]", "host", "port")
        if admin and same and sound:
            self._fault("[admin]", "port", admin.port, "is the port of [listen] too; choose another")
        if admin and admin.token and admin.token_file:
            self._fault(
                "[admin]", "token_file", admin.token_file, "stands beside token; remove one of the two"
            )
        self._check_spool(config, needed=bool(destinations))
        general = Rule("", config.files.level, "", config.rollover, config.format)
        config = replace(config, rules=self._rules(rules, general), forwards=self._forwards(destinations))
        if self._sound("[files]", "name", "dots"):
            by_name = sorted(config.rules, key=lambda rule: rule.name)
            self._check_paths(config.files, [replace(general, file=config.files.name), *by_name])
        return config

    def _sound(self, place: str, *keys: str) -> bool:
        return self._faulty.isdisjoint((place, key) for key in ("", *keys))

    def unsure(self) -> frozenset[tuple[str, str]]:
        """Return the keys with faults, as ConfigError has them."""
        return frozenset(self._faulty | self._unsure)

    def _doubt(self, kind: type, given: dict[str, Any], key: str, place: str, prefix: str) -> None:
        """Be unsure of what the unknown *key* may have been meant for: any key that is not given itself."""
        missing = keys(kind).keys() - given.keys()
        if place:
            self._unsure |= {(place, prefix + other) for other in missing}
        else:  # a table, or a key that belongs in one
            self._unsure |= {(f"[{table}]", "") for table in missing}
            self._unsure |= {(f"[{table}]", key) for table in keys(kind)}

    def _fault(self, place: str, key: str, value: object, rule: str) -> None:
        self._faulty.add(_spot(place, key))
        variable = self.variables.get((place.strip("[]"), *key.split(".")))
        is_table = not place and isinstance(value, dict)
        where = variable or f"{self._file}: {place} {key}".replace(":  ", ": ")
        what = f"{self._file}: [{key}]" if is_table else f"{where} = {shown(masked(key, value))}"
        self.faults.append(f"{what}: {rule}")

    def _read_variables(self, environ: Mapping[str, str], values: dict[str, Any]) -> None:
        """Put what the environment says of keys over the checked *values* of the file."""
        for name in environment.ours(environ):
            path = environment.known().get(name)
            if path is None:
                # Without its value, which may be a secret.
                self.faults.append(f"{toml_text.written(name)[1:-1]}: {environment.unknown(name)}")
                self._unsure |= {(f"[{table}]", "") for table in keys(Config)}
                continue
            table: Any = Config
            own = values
            for part in path[:-1]:
                table, own = keys(table)[part], own.setdefault(part, {})
            key, place, dotted = path[-1], f"[{path[0]}]", ".".join(path[1:])
            if path in self.variables:
                self.faults.append(f"{name}: {self.variables[path]} gives it too; remove one of the two")
                continue
            self.variables[path] = name
            try:
                value = environment.value(table, key, environ[name])
            except ValueError as fault:
                rule = environment.rule(_with_unit(fault, environ[name], key), environ[name])
                self._fault(place, dotted, environ[name], rule)
                continue
            if isinstance(value, dict):
                self.variables |= {(*path, inner): f"{name} {inner}" for inner in value}
                own.setdefault(key, {}).update(self._table(keys(table)[key], value, place, f"{dotted}."))
            else:
                own[key] = value

    def _table(self, kind: type, given: dict[str, Any], place: str = "", prefix: str = "") -> dict[str, Any]:
        """Return the checked values of the keys in *given*; for a table in it, a dict of these."""
        values: dict[str, Any] = {}
        for key, value in given.items():
            check = keys(kind).get(key)
            if value is UNREAD:  # which its line has said
                self._faulty.add(_spot(place, prefix + key))
                if check is None:
                    self._doubt(kind, given, key, place, prefix)
            elif check is None:
                self._doubt(kind, given, key, place, prefix)
                self._fault(place, prefix + key, value, f"unknown; {suggestion(key, kind, prefix)}")
            elif not isinstance(check, type):
                try:
                    values[key] = check(value)
                except ValueError as fault:
                    self._fault(place, prefix + key, value, _with_unit(fault, value, key))
            elif isinstance(value, dict):
                values[key] = self._table(check, value, place or f"[{key}]", f"{key}." if place else "")
            else:
                self._fault(place, key, value, f"must be a table; write {key}.KEY = VALUE")
        return values

    def _rules(self, given: list[dict[str, Any]], general: Rule) -> tuple[Rule, ...]:
        """Return the rules that no fault affects, each merged over the nearest above it or *general*."""
        own: dict[str, dict[str, Any]] = {}
        faulty: set[str] = set()
        for number, table in enumerate(given, 1):
            name = table.get("name", "")
            place = (
                header(name)
                if checks.is_logger_name(name) and name not in own
                else f"[[logger]] number {number}"
            )
            before = len(self._faulty)
            values = self._table(Rule, table, place)
            if "name" not in table and UNREAD in table.values():
                pass  # the line may be that of the name
            elif "name" not in table:
                self.faults.append(f"{self._file}: {place}: has no name; add the logger that it is for")
            elif values.get("name") in own:
                self._fault(place, "name", name, "has a rule already; join the two")
            elif "name" in values:
                own[name] = values
                faulty |= {name} if len(self._faulty) > before else set()
        rules: dict[str, Rule] = {}
        for name in sorted(own, key=len):
            above = {name[: dot.start()] for dot in re.finditer(r"\.", name)} - {"root"}
            if faulty.isdisjoint({name, *above}):
                nearest = max(above & rules.keys(), key=len, default=None)
                rules[name] = _merged(rules[nearest] if nearest else general, own[name])
        return tuple(sorted(rules.values(), key=lambda rule: (-len(rule.name), rule.name)))

    def _check_spool(self, config: Config, *, needed: bool) -> None:
        spool = config.spool
        if spool is None:
            if needed and self._sound("[spool]", ""):
                rule = "is needed where there is a [[forward]]; add a line [spool]"
                self.faults.append(f"{self._file}: [spool]: {rule}")
            return
        least = 2 * spool.segment_bytes
        # The one that is being written never goes.
        if spool.max_bytes < least and self._sound("[spool]", "max_bytes", "segment_bytes"):
            rule = f"must be at least twice segment_bytes = {spool.segment_bytes}; raise it to {least}"
            self._fault("[spool]", "max_bytes", spool.max_bytes, rule)
        paths = {os.path.normpath(path) for path in (spool.directory, config.files.directory)}
        if spool.directory and len(paths) == 1 and self._sound("[files]", "directory"):
            rule = 'is the directory of the log files; choose another, or "" for .spool in it'
            self._fault("[spool]", "directory", spool.directory, rule)

    def _forwards(self, given: list[dict[str, Any]]) -> tuple[Forward, ...]:
        """Return the destinations that have no fault."""
        made: list[Forward] = []
        names: set[str] = set()
        for number, table in enumerate(given, 1):
            name = table.get("name", "")
            is_its_own = forward_checks.is_name(name) and name not in names
            place = header(name, "forward") if is_its_own else f"[[forward]] number {number}"
            before = len(self.faults)
            values = self._table(Forward, table, place)
            unread = UNREAD in table.values()  # and what is missing or does not fit may be in that line
            for key in ("name", "type"):
                if key not in table and not unread:
                    remedy = f"one of {', '.join(forward_checks.TYPES)}" if key == "type" else "it"
                    self.faults.append(f"{self._file}: {place}: has no {key}; add {remedy}")
            if values.get("name") in names:
                self._fault(place, "name", name, "is that of another destination; choose a name of its own")
            names |= {name} if is_its_own else set()
            if "type" not in values or unread:
                continue
            forward = forwards.forward({"name": "", **values})
            for key, rule in forwards.faults(forward, table):
                if key:
                    self._fault(place, key, table[key], rule)
                else:
                    self.faults.append(f"{self._file}: {place}: {rule}")
            made += [forward] if len(self.faults) == before else []
        return tuple(made)

    def _check_paths(self, files: Files, rules: list[Rule]) -> None:
        """Refuse what is sure to fail: one file kept in two ways, a file where a directory is needed.

        The first of *rules* is [files] itself. A rule's file may still be that of a logger outside the
        rule: nobody can say yet whether there is one.
        """
        end = files.name.rpartition("}")[2] if "}" in files.name else ""
        owners, faults = _owners(files, rules, lambda path: path)
        for fault in faults:
            self._fault(*fault)
        for rule in rules:
            place, key = (header(rule.name), "file") if rule.name else ("[files]", "name")
            directories = [rule.file[: slash.start()] for slash in re.finditer("/", rule.file)]
            for directory in directories:
                if directory in owners:
                    wrong = f"lies below the file of {owners[directory][0]}, which is not a directory"
                    self._fault(place, key, rule.file, f"{wrong}; name another file")
                elif rule.name and end and directory.endswith(end):
                    wrong = f"lies below {directory}, which may be the file of a logger"
                    self._fault(place, key, rule.file, f"{wrong}; name another directory")
            dotless = rule.file and "." not in re.split("[}/]", rule.file)[-1]
            if dotless and files.dots == "/" and "{logger}" in files.name:
                wrong = 'may be the directory of a logger, as dots = "/" makes directories of names'
                self._fault(place, key, rule.file, f"{wrong}; add .log")


def _spot(place: str, key: str) -> tuple[str, str]:
    """Return place and key as ConfigError has them."""
    return (place, key) if place else (f"[{key}]", "")


def _with_unit(fault: ValueError, value: object, key: str) -> str:
    """Return the rule that *value* breaks, with the remedy where it is a number with a unit."""
    is_number = isinstance(fault, checks.NumberError) and isinstance(value, str)
    remedy = without_unit(str(value), key) if is_number else ""
    return f"{fault}; {remedy}" if remedy else str(fault)


def _owners(
    files: Files, rules: list[Rule], fold: Callable[[str], str]
) -> tuple[dict[str, tuple[str, Rule]], list[tuple[str, str, str, str]]]:
    """Return the place and rule that name each file first, by path, and the faults of rules that disagree.

    Two paths are one file if *fold* makes the same of them.
    """
    owners: dict[str, tuple[str, Rule]] = {}
    faults = []
    for rule in rules:
        place, key = (header(rule.name), "file") if rule.name else ("[files]", "name")
        path = rule.file or files.path_of(rule.name)
        owner, other = owners.setdefault(fold(path), (f"{place} {key}", rule))
        mine, theirs = asdict(rule), asdict(other)
        tables = ("rollover", "format")
        differing = [f"{t}.{k}" for t in tables for k in mine[t] if mine[t][k] != theirs[t][k]]
        if differing:
            same = f"is the same file as {owner}, but differs in {', '.join(differing)}"
            faults.append((place, key, path, f"{same}; set these alike, or name another file"))
    return owners, faults


def same_file_faults(config: Config, fold: Callable[[str], str]) -> list[str]:
    """Return the faults of rules that disagree on a file that is one only by what *fold* makes of paths."""
    general = Rule("", config.files.level, config.files.name, config.rollover, config.format)
    _, faults = _owners(config.files, [general, *config.rules[::-1]], fold)
    return [
        f"{place} {key} = {shown(path)}: the volume ignores case: {rule}" for place, key, path, rule in faults
    ]


def _merged(base: _Table, values: dict[str, Any]) -> _Table:
    """Return *base* with *values* put in, key by key, inside its tables too."""
    inner = {
        key: _merged(getattr(base, key) or keys(type(base))[key](), own)
        for key, own in values.items()
        if isinstance(own, dict)
    }
    return replace(base, **{**values, **inner})


def _read(file: str) -> str:
    try:
        with Path(file).open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as fault:  # ValueError: a NUL in the path
        reason = fault.strerror if isinstance(fault, OSError) else fault
        raise ConfigError([f"{file}: cannot be read: {reason}; give the path of a TOML file"]) from fault
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError([f"{file}: is larger than {MAX_FILE_BYTES} bytes; give the path of a TOML file"])
    if data.startswith(codecs.BOM_UTF8):  # which no editor shows
        raise ConfigError([f"{file}: line 1: begins with a byte order mark; save the file without one"])
    try:
        return data.decode()
    except UnicodeDecodeError as fault:
        line = data.count(b"\n", 0, fault.start) + 1
        raise ConfigError([f"{file}: line {line}: is not UTF-8; save the file in that encoding"]) from fault
