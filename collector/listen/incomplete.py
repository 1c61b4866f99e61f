"""Incomplete frames: who holds how many bytes of one, all clients together within a quarter of the reserve.

The one owner of what clients hold. Knows no socket: its owners may be anything that can be a key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from collector.config.tables import RESERVE_PARTS
from collector.wire.framing import HEADER_BYTES

if TYPE_CHECKING:
    from collector.reserve import Reserve

Owner = TypeVar("Owner")


class IncompleteFrames(Generic[Owner]):
    """The frames that have begun and are not complete, at most one per owner."""

    def __init__(self, reserve: Reserve) -> None:
        self._reserve = reserve
        # The oldest frame comes first. A frame that is thrown away as it comes holds nothing.
        self._held: dict[Owner, int] = {}
        self._total = 0

    def __contains__(self, owner: Owner) -> bool:
        return owner in self._held

    def owners(self) -> list[Owner]:
        """Return those who are inside a frame, the one that began first in front."""
        return list(self._held)

    def hold(self, owner: Owner, size: int, *, anew: bool) -> Owner | None:
        """Hold *size* bytes, in all, for the frame that *owner* is inside of; *anew*: it is another frame.

        Returns the owner of the oldest incomplete frame when that has to go because they hold too much.
        """
        before = self._held.pop(owner, 0) if anew else self._held.get(owner, 0)
        self._held[owner] = size
        if size == before:
            return None
        self._change(size - before)
        if self._total <= self._limit:
            return None
        return next(owner for owner, held in self._held.items() if held)

    def release(self, owner: Owner) -> None:
        """Give back all that *owner* holds, if it holds anything."""
        if held := self._held.pop(owner, 0):
            self._change(-held)

    @property
    def _limit(self) -> int:
        # max_frame_bytes may be all of that part of the reserve, and a frame is its header and that.
        return self._reserve.limit // RESERVE_PARTS + HEADER_BYTES

    def _change(self, size: int) -> None:
        self._total += size
        if size > 0:
            self._reserve.take(size)
        else:
            self._reserve.give_back(-size)
