"""The records of all files that answer a Query, newest or oldest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collector.format.json_lines import KEY_OF
from collector.readback.origins import belongs_to
from collector.readback.query import Hit
from collector.readback.sources import MAX_BLOCK_BYTES, open_all
from collector.readback.times import time_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from collector.config.tables import Config
    from collector.readback.query import Query


class Search:
    """One question to the files of a directory as they are at this moment. The caller closes it."""

    def __init__(self, config: Config, query: Query) -> None:
        """Open the files. Raises OSError if the directory cannot be listed, ValueError for a bad cursor."""
        self._config = config
        self._query = query
        self._sources = open_all(config)

    @property
    def troubles(self) -> list[str]:
        """What could not be read to its end so far, and why."""
        return [source.file.trouble for source in self._sources if source.file.trouble]

    def newest_first(self) -> Iterator[Hit]:
        """Yield what answers the query, from the newest to the oldest, reading no more than is taken."""
        yield from reversed(list(self.oldest_first()))

    def oldest_first(self) -> Iterator[Hit]:
        """Yield the same, from the oldest to the newest."""
        hits = []
        for source in self._sources:
            source.peek()
            offset = 0
            while block := source._read_block(MAX_BLOCK_BYTES):
                for record, key in zip(*block.split(), strict=True):
                    hits.append(Hit(source, offset, key, record))
                    offset += len(record) + 1
        after, before = (time_key(one) if isinstance(one, float) else b"" for one in self._query[:2])
        for hit in sorted(hits, key=lambda hit: hit.key):
            fields, query = hit.fields(), self._query
            if hit.key < after or (before and hit.key >= before):
                continue
            if query.logger and not belongs_to(str(fields.get(KEY_OF["name"])), query.logger):
                continue
            if query.text and query.text.encode() not in hit.record:
                continue
            yield hit

    def close(self) -> None:
        """Let the files go."""
        for source in self._sources:
            source.close()
