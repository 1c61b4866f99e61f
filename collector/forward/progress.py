"""How far a destination has come: what its checkpoint holds.

The equation: numbered = shipped + duplicate + dead + dropped + filtered + waiting. What is passed is counted
in the same step as the position moves, so it holds in whatever state is saved; `dropped` are the numbers that
nothing was found for.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from collector.spool.reading import OLDEST, Position


@dataclass(slots=True)
class Progress:
    """The position in the spool, and all counters since the destination began."""

    position: Position
    """Of the first record that is not passed; its number 0: of any."""
    first: int
    """The number at which this destination began."""
    numbered: int = 0
    """How many numbers from `first` on are known to be given out."""
    shipped: int = 0
    duplicate: int = 0
    dropped: int = 0
    filtered: int = 0
    dead: dict[str, int] = field(default_factory=dict)
    """By reason."""
    retried: int = 0
    in_doubt: int = 0
    """How many were sent and got no verdict of their own, so that they went, or go, once more; and how many
    were stored and may be there twice."""
    bad_blocks: int = 0
    dead_letters_gone: int = 0
    """How many went with the older half of the dead letters."""
    received: int = 0
    """When the last record that is passed was received, in nanoseconds; 0: none is."""
    destination: dict[str, Any] = field(default_factory=dict)
    """What the destination itself keeps."""

    @classmethod
    def at(cls, position: Position) -> Progress:
        """Return that of a destination which begins at *position*."""
        return cls(position, position.number)

    @classmethod
    def of(cls, state: dict[str, Any]) -> Progress:
        """Return what was saved. Raises TypeError, KeyError if it is none of ours."""
        return cls(**{**state, "position": Position(*state["position"])})

    @property
    def passed(self) -> int:
        """How many numbers are done with."""
        return self.position.number - self.first if self.position.number else self.numbered

    @property
    def waiting(self) -> int:
        """How many numbers are given out and not passed."""
        return self.numbered - self.passed

    def begin_at(self, number: int) -> None:
        """Learn the first number there is, where any was expected."""
        self.first = number - self.numbered
        self.position = self.position._replace(number=number)

    def begin_anew(self) -> None:
        """Expect any number: the spool is another one. What waited is lost with the former, and counted."""
        self.dropped += self.waiting
        self.position = OLDEST

    def know(self, end: int) -> None:
        """Learn that *end* is the next number to be given out."""
        if self.position.number:
            self.numbered = max(self.numbered, end - self.first, self.passed)

    def balance(self) -> int:
        """Return by how much the equation does not hold: 0."""
        counted = self.shipped + self.duplicate + sum(self.dead.values()) + self.dropped + self.filtered
        return self.numbered - counted - self.waiting

    def state(self) -> dict[str, Any]:
        """Return what of() takes, for a checkpoint."""
        return {**asdict(self), "position": list(self.position)}
