"""How many records there were of each level, minute by minute, for a week: what the page's plot is made of.

A ring of rows, one a minute. Which levels have a column is found out as they come; past their number, further
ones share the last. Counting is done elsewhere, by batches: here totals are compared. Knows no file.
"""

from __future__ import annotations

import sys
from itertools import compress
from operator import eq
from typing import TYPE_CHECKING, Any

from collector.stats import OTHER

if TYPE_CHECKING:
    from collections.abc import Mapping

MINUTE_SECONDS = 60
MINUTES = 7 * 24 * 60
MAX_POINTS = 500
_COLUMNS = 16
CELL_BYTES = 4 * _COLUMNS
_FIRST_ROW = _COLUMNS
CELLS = _FIRST_ROW + MINUTES
TITLE = f"collector counts 1 {sys.byteorder}"
_MAX_COUNT = 2**32 - 1


class Counts:
    """The ring. Its memory is the cells of its file: names of levels, then a row a minute.

    A row has the minute, counted from 1970, and then a count for each level that has a name.
    """

    def __init__(self) -> None:
        self._image = bytearray(CELLS * CELL_BYTES)
        self._ints = memoryview(self._image).cast("I")
        self._columns: dict[str, int] = {}
        self._changed: set[int] = set()
        self._totals: Mapping[str, int] = {}
        self._looked_at = 0.0

    def look(self, totals: Mapping[str, int], now: float, period_seconds: float) -> None:
        """Count what has been added to *totals*, by level, since the last look.

        Looks come every *period_seconds* or sooner; a clock that jumps has records counted at its new time.
        """
        since = now - min(max(now - self._looked_at, 0.0), period_seconds)
        minute = int((since + now) / 2) // MINUTE_SECONDS
        for level, total in totals.items():
            if more := total - self._totals.get(level, 0):
                self._add(minute, level, more)
        self._totals, self._looked_at = totals, now

    def between(self, begin: float, end: float, now: float) -> dict[str, Any]:
        """Return the counts of a span, seconds since 1970, as /api/counts answers: at most MAX_POINTS points.

        What lies outside the week until *now* is left out.
        """
        newest = int(now) // MINUTE_SECONDS
        first = max(int(begin) // MINUTE_SECONDS, newest - MINUTES + 1)
        last = min(int(end) // MINUTE_SECONDS, newest)
        minutes = max(0, last - first + 1)
        step = -(-minutes // (MAX_POINTS - 1)) or 1
        first -= first % step  # so that points stay where they are while time goes on
        starts = range(first, last + 1, step)
        answer: dict[str, Any] = {"step": step * MINUTE_SECONDS, "from": first * MINUTE_SECONDS, "levels": {}}
        if starts:
            span = range(first, starts[-1] + step)
            is_there = list(map(eq, self._column(0, span), span))
            for level, column in self._columns.items():
                values = self._column(column, span)
                counts = [
                    sum(compress(values[at : at + step], is_there[at : at + step]))
                    for at in range(0, len(span), step)
                ]
                if any(counts):
                    answer["levels"][level] = counts
        return answer

    # --- what keeper.py keeps ---

    def changes(self) -> dict[int, bytes]:
        """Return the cells that have changed since the last call."""
        changed, self._changed = self._changed, set()
        return {cell: self._cell(cell) for cell in changed}

    def everything(self) -> dict[int, bytes]:
        """Return all cells that have something in them."""
        self._changed = set()
        cells = ((cell, self._cell(cell)) for cell in range(1, CELLS))
        return {cell: data for cell, data in cells if any(data)}

    @staticmethod
    def encoded(cell: bytes) -> bytes:
        """Return what changes() and everything() have for a cell as it is written."""
        return cell

    @staticmethod
    def parsed(cells: Mapping[int, bytes]) -> Counts:
        """Return what a file had."""
        read = Counts()
        for cell, data in cells.items():
            read._image[cell * CELL_BYTES : (cell + 1) * CELL_BYTES] = data
            if cell < _FIRST_ROW:
                read._columns[data.rstrip(b"\0").decode("utf-8", "replace")] = cell
        return read

    def adopt(self, read: Counts) -> None:
        """Take over what was *read*, and add to it what has been counted meanwhile."""
        own, columns = self._ints, self._columns
        self._image, self._ints, self._columns = read._image, read._ints, read._columns
        for row in range(_FIRST_ROW * _COLUMNS, len(own), _COLUMNS):
            for level, column in columns.items():
                if own[row] and own[row + column]:
                    self._add(own[row], level, own[row + column])

    def _cell(self, cell: int) -> bytes:
        return bytes(self._image[cell * CELL_BYTES : (cell + 1) * CELL_BYTES])

    def _add(self, minute: int, level: str, records: int) -> None:
        cell = _FIRST_ROW + minute % MINUTES
        row = cell * _COLUMNS
        if self._ints[row] != minute:
            self._image[cell * CELL_BYTES : (cell + 1) * CELL_BYTES] = bytes(CELL_BYTES)
            self._ints[row] = minute
        at = row + self._column_of(level)
        self._ints[at] = min(self._ints[at] + records, _MAX_COUNT)
        self._changed.add(cell)

    def _column_of(self, level: str) -> int:
        """Return the column of a level, the next if it has none; the last is for all further ones."""
        if level in self._columns:
            return self._columns[level]
        name = level.encode()
        # Behind all others: where damage has cost a column its name, it still has that level's counts.
        column = 1 + max((one for one in self._columns.values() if one < _COLUMNS - 1), default=0)
        if level == OTHER or column >= _COLUMNS - 1 or len(name) > CELL_BYTES or not name.strip(b"\0"):
            level, column = OTHER, _COLUMNS - 1
        self._columns[level] = column
        self._image[column * CELL_BYTES : (column + 1) * CELL_BYTES] = level.encode().ljust(CELL_BYTES, b"\0")
        self._changed.add(column)
        return column

    def _column(self, column: int, span: range) -> list[int]:
        """Return a column's values for the minutes of *span*, each as it is in the ring."""
        values = self._ints[_FIRST_ROW * _COLUMNS + column :: _COLUMNS].tolist()
        at, end = span[0] % MINUTES, span[0] % MINUTES + len(span)
        return values[at:end] + values[: max(0, end - MINUTES)]
