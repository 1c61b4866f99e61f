"""Which logger a log file is of, as far as its name tells, and so how its lines are laid out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collector.files import inventory
from collector.names import OVERFLOW_FILE, file_name
from collector.readback.layouts import layouts_of

if TYPE_CHECKING:
    from collector.config.tables import Config
    from collector.readback.layouts import Layout


def belongs_to(logger: str, name: str) -> bool:
    """Whether *logger* is called *name* or is below it."""
    return f"{logger}.".startswith(f"{name}.")


class Origins:
    """What the names of log files tell, by one configuration."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._is_log = inventory.log_name(config).fullmatch
        self._layouts = layouts_of(config)

    def is_of(self, base: str, logger: str) -> bool:
        """Whether the log file *base*, a path below the directory, is that of *logger* or of one below it."""
        for rule in self._config.rules:
            if rule.file == base:
                return belongs_to(rule.name, logger)
        match = self._is_log(base)
        part = match.groupdict().get("logger") if match else None
        dots = self._config.files.dots
        return part is not None and f"{part}{dots}".startswith(file_name(logger, dots) + dots)

    def may_be_of(self, base: str, logger: str) -> bool:
        """Whether the log file *base* may have records of *logger* or of one below it.

        It may not where its name is made of another logger's.
        """
        match = self._is_log(base)
        if any(rule.file == base for rule in self._config.rules) or base == OVERFLOW_FILE or not match:
            return True
        return "logger" not in match.groupdict() or not match["logger"] or self.is_of(base, logger)

    def client(self, base: str) -> str:
        """Return the address of the client that the log file *base* is of; "" if its name does not tell."""
        match = self._is_log(base)
        return (match.groupdict().get("client") if match else None) or ""

    def layouts(self, base: str) -> list[Layout]:
        """Return all layouts, and first the one that lines of the log file *base* should have."""
        fitting = (
            rule.format
            for rule in self._config.rules
            if (rule.file == base if rule.file else self.is_of(base, rule.name))
        )
        form = next(fitting, self._config.format)
        return sorted(self._layouts, key=lambda layout: layout.form != form)


def wanted_layouts(config: Config, logger: str | None) -> list[Layout]:
    """Return the layouts that records of *logger* and of those below it may have; None: all of them."""
    layouts = layouts_of(config)
    if not logger:
        return layouts
    forms = [rule.format for rule in config.rules if belongs_to(rule.name, logger)]
    rule = config.rule_for(logger)
    forms.append(rule.format if rule else config.format)
    return [layout for layout in layouts if layout.form in forms]
