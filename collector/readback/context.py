"""The context of records: those of the same file that stand just before them and just after."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from collector.readback.runs import Run


def with_context(
    runs: Iterator[Run], behind: int, ahead: int, is_enough: Callable[[], bool], *, newest_first: bool
) -> Iterator[Run]:
    """Yield of *runs*, which tell what was asked for, that and its context.

    That is, in the direction of reading, *behind* records that came before one and *ahead* that come after.
    Once there *is_enough*, what more is found is no more than context.
    """
    held: deque[tuple[Run, set[int]]] = deque()
    """The last runs, each with what of it is wanted: as far back as a context may reach."""
    pending = 0
    while (pending or not is_enough()) and (run := next(runs, None)):
        wanted: set[int] = set()
        held.append((run, wanted))
        looks = not is_enough()
        for index in _in_order(run, newest_first=newest_first):
            if looks and run.is_hit and run.is_hit[index]:
                wanted.add(index)
                pending = ahead
                _add_behind(held, index, behind, newest_first=newest_first)
            elif pending:
                wanted.add(index)
                pending -= 1
        while len(held) > 1 and sum(len(one.records) for one, _ in held) - len(held[0][0].records) >= behind:
            first, wanted = held.popleft()
            yield first.part(sorted(wanted))
    for one, wanted in held:
        yield one.part(sorted(wanted))


def _add_behind(held: deque[tuple[Run, set[int]]], index: int, number: int, *, newest_first: bool) -> None:
    """Add to what is wanted the *number* of records that came before the one at *index* of the last run."""
    for run, wanted in reversed(held):
        if run is held[-1][0]:
            near = range(index + 1, len(run.records)) if newest_first else range(index - 1, -1, -1)
        else:
            near = range(len(run.records)) if newest_first else range(len(run.records) - 1, -1, -1)
        wanted.update(near[:number])
        number -= len(near[:number])
        if number <= 0:
            break


def _in_order(run: Run, *, newest_first: bool) -> range:
    return range(len(run.records) - 1, -1, -1) if newest_first else range(len(run.records))
