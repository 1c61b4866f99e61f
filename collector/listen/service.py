"""What all clients have in common: the settings they are served by, and who takes their records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from collector.listen.sockets import is_in

if TYPE_CHECKING:
    from collector.config.tables import Listen
    from collector.listen.tls import ServerTls
    from collector.reserve import Reserve
    from collector.stats import Stats


class Deliver(Protocol):
    """What takes a batch; it may wait, and must not raise."""

    def __call__(self, payloads: list[bytes], host: str, peer: str) -> None:
        """Take *payloads*, which the client *peer* (`address:port`) at *host* has sent."""


@dataclass
class Service:
    """What clients are served by; a reload exchanges the settings while they are connected."""

    listen: Listen
    tls: ServerTls | None
    """Holds for handshakes that have not begun."""
    deliver: Deliver
    reserve: Reserve
    stats: Stats
    patience_ends: float = 0.0
    """Once the collector drains: when those who are still sending are cut off, by the monotonic clock."""

    @property
    def draining(self) -> bool:
        """Whether the collector is about to stop: every client is read to its end and hung up."""
        return self.patience_ends > 0

    def allows(self, host: str) -> bool:
        """Tell whether a client at *host* may connect."""
        allow = self.listen.allow
        return not allow or host == "unix" or is_in(host, allow)
