"""The records of several files as one sequence, by time, in constant memory.

Where one file lies before all others in time, it is copied by the block; only where files overlap are their
records told apart. Records of one file keep their order.
"""

from __future__ import annotations

from heapq import heappop, heappush, heapreplace
from typing import TYPE_CHECKING

from collector.readback.sources import MAX_BLOCK_BYTES
from collector.readback.times import time_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from collector.readback.blocks import AnyBlock, Selection
    from collector.readback.sources import Source

# In memory of all files that are being read, and at least of one.
_BLOCKS_BYTES = 32 * 1024 * 1024
_MIN_BLOCK_BYTES = 16 * 1024


def merge(sources: Sequence[Source]) -> Iterator[list[bytes]]:
    """Yield the records of *sources* by time; a piece may be many records, with newlines between them."""
    waiting = sorted(sources, key=lambda source: source.first, reverse=True)
    active: list[tuple[bytes, int, Source, AnyBlock | Selection]] = []
    pieces: list[bytes] = []
    size = 0
    while waiting or active:
        if waiting and (not active or waiting[-1].first <= active[0][0]):
            source = waiting.pop()
            if block := source.next_block(_block_size(active)):
                heappush(active, (block.low, -len(waiting), source, block))
            continue
        _, number, source, block = active[0]
        # Up to where the next file begins: in a heap, that is one of these.
        following = [low for low, *_ in active[1:3]] + [one.first for one in waiting[-1:]]
        limit = min(following, default=block.high)
        taken = block.take(limit)
        pieces += taken
        size += sum(map(len, taken))
        following_block = block if limit < block.high else source.next_block(_block_size(active))
        if following_block:
            heapreplace(active, (following_block.low, number, source, following_block))
        else:
            source.close()
            heappop(active)
        if size >= MAX_BLOCK_BYTES:
            yield pieces
            pieces, size = [], 0
    yield pieces


def _block_size(active: Sequence[object]) -> int:
    return max(_MIN_BLOCK_BYTES, min(MAX_BLOCK_BYTES, _BLOCKS_BYTES // (len(active) + 1)))


def last(sources: Sequence[Source], number: int) -> list[tuple[Source, bytes, bytes]]:
    """Return the last *number* records of all files, the newest last, each with its source and time."""
    kept: list[tuple[Source, bytes, bytes]] = []
    for source in sorted(sources, key=lambda source: source.found.status.st_mtime, reverse=True):
        # Records were logged before their file was last written.
        if len(kept) == number and time_key(source.found.status.st_mtime + 1) < kept[0][2]:
            break
        records, keys = source.last(number)
        # In front: of records with the same time, a second perhaps, those of the older file are older.
        kept = [(source, record, key) for record, key in zip(records, keys, strict=True)] + kept
        kept = sorted(kept, key=lambda one: one[2])[-number:]
    return kept
