"""Which destination a type is. The one place that chooses; a module is loaded only where it is used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from collector.forward.verdicts import HoldError, Outgoing, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collector.config.tables import Forward
    from collector.forward.verdicts import Destination
    from collector.spool.reading import Spooled
    from collector.wire.records import Record

_CLASSES = {
    "elasticsearch": "Elasticsearch",
    "relp": "Relp",
    "syslog": "Syslog",
    "fluent": "Fluent",
}
"""By type, which is also the name of its module."""


def make(settings: Forward) -> Destination:
    """Return the destination that *settings* describe; one that holds, where a package for it is missing."""
    try:
        module = importlib.import_module(f"collector.forward.destinations.{settings.type}")
    except ImportError as error:
        return _Missing(settings.type, error)
    made: Destination = getattr(module, _CLASSES[settings.type])(settings)
    return made


class _Missing:
    """A destination whose package is not there."""

    def __init__(self, kind: str, error: ImportError) -> None:
        self.state: dict[str, Any] = {}
        self.certificate_days: float | None = None
        self._text = f"type = {kind} needs a package that cannot be loaded: {error}"
        self._remedy = f"pip install 'gevent-collector[{kind}]', and start it again"

    def connect(self) -> None:
        raise HoldError("package", self._text, self._remedy)

    def render(self, spooled: Spooled, record: Record, id: str, *, short: bool = False) -> bytes:  # noqa: A002, ARG002
        return b""

    def send(self, batch: Sequence[Outgoing], again: bool) -> list[Verdict]:  # noqa: FBT001, ARG002 - as Destination
        raise HoldError("package", self._text, self._remedy)

    def close(self) -> None:
        pass

    def check(self) -> list[str]:
        return [f"{self._text}; {self._remedy}"]
