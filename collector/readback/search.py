"""The records of all files that answer a Query, newest or oldest first.

Files that cannot hold what is asked are not opened, or not read beyond their first block.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING

from collector.readback.context import with_context
from collector.readback.filters import Filters, Picker
from collector.readback.merge import Merge, Stream
from collector.readback.query import Hit, Place
from collector.readback.runs import Run
from collector.readback.sources import AHEAD_SECONDS, age, open_all
from collector.readback.span import Span
from collector.readback.stash import Stack, Stash
from collector.readback.times import exact_key, time_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from collector.config.tables import Config
    from collector.files.inventory import Found
    from collector.readback.blocks import Block
    from collector.readback.query import Query
    from collector.readback.sources import Source

_JUST_BEHIND = b"\0"
"""What makes of a time the first that is later."""
_BOUND_BLOCKS = 16
"""After so many blocks in which nothing is found, it is another file's turn if that is the next by time."""


class Search:
    """One question to the files of a directory as they are at this moment. The caller closes it."""

    def __init__(
        self,
        config: Config,
        query: Query,
        *,
        files: Sequence[Found] = (),
        context: tuple[int, int] = (0, 0),
        report: Callable[[int], None] | None = None,
    ) -> None:
        """Open the files: those of the directory, or else *files*.

        *context* is how many records of the same file are to come with each, before it and after it; *report*
        is told how many bytes have been read from the disk, each time.

        Raises OSError if the directory cannot be listed, ValueError for what is no cursor.
        """
        self._query = query
        self._filters = Filters(config, query)
        self._context = context
        self._is_given = bool(files)
        self._is_enough = False
        self._merge: Merge | None = None
        self._places = [
            Place.of(one) if isinstance(one, str) else None for one in (query.after, query.before)
        ]
        self._stash = Stash()
        self.sources = sorted(open_all(config, report, files), key=_rank)
        """The files, those of one logger from the oldest to the newest."""
        for rank, source in enumerate(self.sources):
            source.rank = rank
        self._ranks = [self._rank_of(place) if place else None for place in self._places]
        self._left_out = {one for place in self._places if place for one in place.left_out}
        has_any = bool(self._left_out)
        self._is_left_out = [has_any and self._name(one) in self._left_out for one in self.sources]

    @property
    def troubles(self) -> list[str]:
        """What could not be read to its end so far, and why."""
        left_out = [one for one, is_so in zip(self.sources, self._is_left_out, strict=True) if is_so]
        return [
            *(source.file.trouble for source in self.sources if source.file.trouble),
            *(f"{source.found.path}: left out, as it takes too long to search" for source in left_out),
        ]

    def newest_first(self, most: int | None = None) -> Iterator[Hit]:
        """Yield what answers the query, from the newest to the oldest, reading no more than that takes.

        More than *most* will not be taken; None: nobody knows. It is for one pass only, as oldest_first() is.
        """
        for run, begin, end in self.runs(newest_first=True, most=most):
            yield from reversed(_hits(run, begin, end))

    def oldest_first(self) -> Iterator[Hit]:
        """Yield the same, from the oldest to the newest."""
        for run, begin, end in self.runs(newest_first=False):
            yield from _hits(run, begin, end)

    def runs(self, *, newest_first: bool, most: int | None = None) -> Iterator[tuple[Run, int, int]]:
        """Yield the same as runs, and which records of each come next, from the first to behind the last."""
        streams = [self._stream(one, most, newest_first=newest_first) for one in self.sources]
        self._merge = Merge([one for one in streams if one], newest_first=newest_first)
        yield from self._merge

    def reached(self, last: Hit | None, *, newest_first: bool) -> str:
        """Return a cursor for how far the search has come, *last* being what was taken of it last.

        As `before`, or as `after` if it goes forward, it leaves what is still to be looked at. "" where there
        is nothing to go by.
        """
        asked, place = (
            (self._query.before, self._places[1]) if newest_first else (self._query.after, self._places[0])
        )
        if asked is not None and not place:
            place = Place(exact_key(float(asked)))
        come = [one for one in (last and last.place, place) if one]
        if self._merge and (key := self._merge.reached) is not None:
            # More of that time may still come.
            come.append(Place(key + _JUST_BEHIND if newest_first else key))
        farthest = min if newest_first else max
        if not come:
            return ""
        return self._cursor(farthest(come, key=lambda one: one.key.rstrip(_JUST_BEHIND)))

    def cursor(self, hit: Hit) -> str:
        """Return a cursor for what comes behind *hit*."""
        return self._cursor(hit.place)

    @property
    def at(self) -> Source | None:
        """The file that the search has come to; None before its beginning and at its end."""
        rank = self._merge.rank if self._merge else None
        return None if rank is None else self.sources[rank]

    def leave_out(self, source: Source) -> None:
        """Leave *source* out of what is asked with the cursors of this search."""
        self._left_out.add(self._name(source))

    def _cursor(self, place: Place) -> str:
        return place._replace(left_out=tuple(sorted(self._left_out))).cursor

    def _name(self, source: Source) -> tuple[str, str]:
        """Return what tells a file from all others, under whatever name."""
        found = source.print if source.open() else ""
        source.release()
        return source.found.base, found

    def _in_turn(self) -> Iterator[Run]:
        """Yield the same as runs of records, one file after the other."""
        for source in self.sources:
            if stream := self._stream(source, None, newest_first=False):
                yield from (run for run in stream.runs if isinstance(run, Run))

    def find_no_more(self) -> None:
        """Read on only for the context of what was found so far."""
        self._is_enough = True

    def stack(self) -> Stack:
        """Return what gives back last first what is put into it, in the memory of the search or its file."""
        return Stack(self._stash)

    def count(self) -> Counter[tuple[str, str]]:
        """Return how many records answer the query, by level and logger, "" where a line does not tell it."""
        counts: Counter[tuple[str, str]] = Counter()
        pickers: dict[int, Picker] = {}
        for run in self._in_turn():
            rank = run.source.rank
            picker = pickers.get(rank)
            if picker is None:
                pickers = {rank: (picker := Picker(self._filters, run.source))}
            picker.count(run.records, counts)
        return counts

    def close(self) -> None:
        """Let the files go."""
        for source in self.sources:
            source.close()
        self._stash.close()

    def _stream(self, source: Source, most: int | None, *, newest_first: bool) -> Stream | None:
        """Return the records of *source* that answer the query; None if there are none."""
        written = time_key(source.found.status.st_mtime + AHEAD_SECONDS)
        span = self._span(source)
        if self._is_left_out[source.rank]:
            return None
        # A file's records were logged before it was last written.
        if written < span.low or not (self._is_given or self._filters.may_have(source.found.base)):
            return None
        if newest_first:
            return Stream(written, source.rank, self._runs(source, most, newest_first=True))
        if not source.open() or (span.high is not None and source.first >= span.high):
            source.release()
            return None
        source.release()
        return Stream(source.first, source.rank, self._runs(source, None, newest_first=False))

    def _runs(self, source: Source, most: int | None, *, newest_first: bool) -> Iterator[Run | bytes]:
        if not source.open():
            return
        span = self._span(source)
        if span.high is None or source.first < span.high:
            forward = not newest_first or source.file.compressed
            blocks = source.blocks(span, newest_first=not forward)
            picked = self._picked(source, span, blocks, newest_first=not forward)
            runs: Iterator[Run | bytes] = picked
            if any(self._context):
                before, after = self._context if forward else self._context[::-1]
                all_runs = (run for run in picked if isinstance(run, Run))
                runs = with_context(
                    all_runs, before, after, lambda: self._is_enough, newest_first=not forward
                )
            runs = (run for run in runs if isinstance(run, bytes) or run.records)
            yield from runs if forward is not newest_first else self._turned(source, runs, most)
        source.close()

    def _picked(
        self, source: Source, span: Span, blocks: Iterator[Block], *, newest_first: bool
    ) -> Iterator[Run | bytes]:
        """Yield the records of *blocks* that answer the query; with context, all, and which of them do."""
        cutter, picker, has_context = source.cutter, self._filters.picker(source), any(self._context)
        empty = 0
        for block in blocks:
            found: list[tuple[int, int]] | None = None
            if picker and source.timed:
                found = picker.find(block.data, cutter)
                if found == [] and not has_context:
                    empty += 1
                    if empty % _BOUND_BLOCKS == 0:
                        low, high = cutter.times(block)
                        if newest_first:
                            yield low
                        elif high is not None:
                            yield high
                    continue
            # Nothing of the block is kept here while nobody asks for the next one.
            yield self._run(source, span, block, found, picker)

    def _run(
        self,
        source: Source,
        span: Span,
        block: Block,
        places: list[tuple[int, int]] | None,
        picker: Picker | None,
    ) -> Run:
        """Return the records of *block* that answer the query: those at the *places* in it, where known."""
        data, end = block.data, places[-1][1] if places and not any(self._context) else None
        run = Run(source, *source.cutter.split(block, end), block.offset)
        within: Sequence[int] = span.part(run.keys, lambda: run.offsets)
        found: list[int] | None = None
        if places and end is not None and len(places) == 1:
            found = [len(run.records) - 1]
        elif places is not None:
            found = [bisect_left(run.offsets, block.offset + begin) for begin, _ in places]
        elif picker and source.timed:
            begins = run.offsets if not block.offset else [one - block.offset for one in run.offsets]
            found = picker.records(data, run.records, begins)
        elif picker:
            found = [index for index, record in enumerate(run.records) if picker.picks(record)]
        if found is not None and any(self._context):
            is_hit = run.is_hit = [False] * len(run.records)
            for index in found:
                is_hit[index] = True
        elif found is not None:
            within = [index for index in found if index in within]
        return run.part(within)

    def _turned(self, source: Source, runs: Iterator[Run | bytes], most: int | None) -> Iterator[Run | bytes]:
        """Yield the records of *runs* from the last to the first: a compressed file is read forward only."""
        stack = Stack(self._stash, most if not any(self._context) else None)
        for run in runs:
            if isinstance(run, bytes):
                continue  # it is for who reads forward
            is_hit = run.is_hit or [True] * len(run.records)
            for record, key, offset, hit in zip(run.records, run.keys, run.offsets, is_hit, strict=True):
                stack.put((record, key, offset, hit), len(record) + len(key))
        for batch in stack.take():
            records, keys, offsets, hits = map(list, zip(*batch, strict=True))
            yield Run(source, records, keys, offsets, hits)

    def _span(self, source: Source) -> Span:
        """Return which records of *source* the query's `after` and `before` leave."""
        after, before = self._query.after, self._query.before
        low, high, begin, end = b"", None, 0, None
        if isinstance(after, (int, float)):
            low = exact_key(after)
        elif (place := self._places[0]) and (rank := self._ranks[0]) is not None:
            if source.rank == rank:
                begin = place.offset + 1
            else:
                low = place.key if source.rank > rank else place.key + _JUST_BEHIND
        if isinstance(before, (int, float)):
            high = exact_key(before)
        elif (place := self._places[1]) and (rank := self._ranks[1]) is not None:
            if source.rank == rank:
                end = place.offset
            else:
                high = place.key + _JUST_BEHIND if source.rank < rank else place.key
        return Span(low, high, begin, end)

    def _rank_of(self, place: Place) -> float:
        """Return the rank of the file that *place* is in; if it is gone, one just below all of its logger."""
        ranks = [-0.5]
        for source in self.sources:
            if source.found.base == place.base:
                if source.open() and source.print == place.print:
                    return source.rank
                source.release()
            if source.found.base < place.base:
                ranks.append(source.rank + 0.5)
        return max(ranks)


def _rank(source: Source) -> tuple[object, ...]:
    return source.found.base, *age(source.found), source.found.path


def _hits(run: Run, begin: int, end: int) -> list[Hit]:
    return [
        Hit(
            run.source,
            run.offsets[index],
            run.keys[index],
            run.records[index],
            run.is_hit is None or run.is_hit[index],
        )
        for index in range(begin, end)
    ]
