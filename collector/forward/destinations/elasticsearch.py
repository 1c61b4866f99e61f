"""Records go to Elasticsearch or OpenSearch, each of them once, by `_bulk` and `create` with an id of ours.

An id is unique within an index only, so a record sent again must meet the index that it was sent to. An index
by the day on which a record was received is always the same one. A data stream may have been rolled over in
between: then its indices since are asked for the ids first. Knows neither batches nor pauses.
"""

from __future__ import annotations

import json
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from collector.forward.destinations.bulk_answers import FILTER_PATH, Hold, fault_of, read_answer, shown
from collector.forward.destinations.elasticsearch_template import LABELS, template
from collector.forward.destinations.http import HttpClient
from collector.forward.destinations.tls import FEW_DAYS
from collector.forward.documents import document_renderer, short_document
from collector.forward.verdicts import (
    CHECK_SECONDS,
    DUPLICATE,
    FOUND,
    STORED,
    STORED_IN_DOUBT,
    BrokenError,
    BusyError,
    HoldError,
    RequestError,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from collector.config.tables import Forward
    from collector.forward.destinations.http import Answer
    from collector.forward.verdicts import Outgoing
    from collector.spool.reading import Spooled
    from collector.wire.records import Record

MISSING_SHARDS_SECONDS = 600
"""How long records in doubt wait for all shards of a data stream; then they are sent, and counted."""
_NANOS = 1_000_000_000
_DAY_NANOS = 24 * 60 * 60 * _NANOS


class Elasticsearch:
    """One cluster. `index` in *settings*: text for strftime, or without a `%` the name of a data stream."""

    def __init__(
        self,
        settings: Forward,
        *,
        timeout_seconds: float | None = None,
        missing_shards_seconds: float = MISSING_SHARDS_SECONDS,
    ) -> None:
        """Give each request *timeout_seconds*; None: what *settings* say."""
        self.state: dict[str, Any] = {}
        """`index`: the pattern in use last; `answered`: where the last record is that was not in doubt."""
        self.certificate_days: float | None = None
        self._settings = settings
        self._http = HttpClient(settings, timeout_seconds)
        self._document = document_renderer(settings.max_record_bytes)
        self._day, self._create = -1, ""
        self._stream_known = False
        self._missing_shards_seconds = missing_shards_seconds
        self._missing_since: float | None = None
        pipeline = f"&pipeline={quote(settings.pipeline, safe='')}" if settings.pipeline else ""
        self._bulk = f"/_bulk?filter_path={FILTER_PATH}{pipeline}"

    def connect(self) -> None:
        """Connect to the next address, and see that a data stream is one. Raises RequestError, OSError."""
        self._stream_known = False
        self._http.connect()
        self.certificate_days = self._http.certificate_days
        self._need_stream()

    def close(self) -> None:
        """Close the connection, if there is one."""
        self._http.close()

    def render(self, spooled: Spooled, record: Record, id: str, *, short: bool = False) -> bytes:  # noqa: A002
        """Return a record as two lines: what is to be done, and the document."""
        _, _, _, _, number, received, peer, _ = spooled  # by its name each takes as long as all
        if received // _DAY_NANOS != self._day:
            self._day, self._create = received // _DAY_NANOS, _create(self._settings.index, received)
        action = f'{self._create}{id}"}}}}\n'
        if short:
            return short_document(record, received, action).encode()
        return self._document(record, peer, received, number, action).encode()

    def send(self, batch: Sequence[Outgoing], again: bool) -> list[Verdict]:  # noqa: FBT001 - the protocol
        """Send records as Destination has it; those in doubt to where they went the first time."""
        try:
            return self._send(batch, again=again)
        except (HoldError, BrokenError, OSError):
            self.close()
            raise
        finally:
            self.certificate_days = self._http.certificate_days  # of a connection made in between

    def _send(self, batch: Sequence[Outgoing], *, again: bool) -> list[Verdict]:
        self._need_stream()
        found: frozenset[str] | None = frozenset()
        index = pattern = self._settings.index
        if again:
            pattern = self.state.get("index", index)
            pattern, found = self._found(pattern, batch)
        there = found or frozenset()
        left = [one for one in batch if one.id not in there] if there else batch
        lines = [one.data if pattern == index else _addressed(one, pattern) for one in left]
        created = self._create_all(lines, pattern, again=again) if lines else []
        self.state["index"] = pattern
        if found is None:
            created = [STORED_IN_DOUBT if one == STORED else one for one in created]
        elif created.count(STORED) == len(batch):  # as a rule
            return [STORED] * len(batch)
        rest = iter(created)
        is_there = DUPLICATE if lines else FOUND
        verdicts = [is_there if one.id in there else next(rest) for one in batch]
        known = {at: one for at, one in enumerate(verdicts) if isinstance(one, Verdict)}
        for one in verdicts:
            if isinstance(one, Hold):
                raise HoldError(one.reason, one.text, one.remedy, known)
        return list(known.values())

    def _create_all(self, lines: list[bytes], pattern: str, *, again: bool) -> list[Verdict | Hold]:
        """Send one request; return what became of each document."""
        answer = self._http.request("POST", self._bulk, b"".join(lines), "application/x-ndjson")
        verdicts, stored_in = read_answer(answer, len(lines), self._http.where)
        # While some are in doubt, others that follow may be too, and these were sent as long ago.
        if stored_in and not again:
            self.state["answered"] = stored_in
        if stored_in == pattern:  # a plain index: the data stream was deleted, and its template with it
            self._stream_known = False
        return verdicts

    # --- where an index is not told by the record alone ---

    def _need_stream(self) -> None:
        """Raise HoldError if `index` has to be a data stream and is none."""
        name = self._settings.index
        if "%" in name or self._stream_known:
            return
        if self._indices_of(name) == []:
            text = f"{self._http.where}: index = {name}: no data stream: create would fill a plain index"
            then = f"then PUT _data_stream/{name}, in place of a plain index of that name if there is one"
            raise HoldError("data_stream", text, f"{self._template_remedy()}, {then}")
        self._stream_known = True

    def _indices_of(self, stream: str) -> list[str] | None:
        """Return the indices of a data stream, oldest first; none: there is no such; None: it is not told."""
        answer = self._http.request("GET", f"/_data_stream/{quote(stream)}")
        if answer.status == HTTPStatus.NOT_FOUND:
            return []
        if answer.status == HTTPStatus.FORBIDDEN:
            return None
        if answer.status != HTTPStatus.OK:
            raise fault_of(answer, self._http.where)
        try:
            # None, where there is an index of that name, and no data stream.
            found = [one["indices"] for one in json.loads(answer.body)["data_streams"]]
            return [index["index_name"] for index in found[0]] if found else []
        except (KeyError, TypeError, ValueError):
            text = f"{self._http.where}: no answer of _data_stream: {shown(answer.body)}"
            raise BrokenError(text) from None

    def _found(self, pattern: str, batch: Sequence[Outgoing]) -> tuple[str, frozenset[str] | None]:
        """Return where records in doubt are to go, and the ids of those stored already; None: nobody can say.

        *pattern* is what the checkpoint has. Where it is not that of the settings, a request by these may
        have been the last one, too late to be in the checkpoint.
        """
        index = self._settings.index
        asked = [] if pattern == index else sorted({_index(index, one.received) for one in batch})
        if "%" not in pattern:
            indices, last = self._indices_of(pattern), self.state.get("answered")
            if indices == []:  # deleted, and with it what was in doubt there
                pattern = index
            elif indices is None or last not in indices:
                asked.append(pattern)
            elif last != indices[-1]:  # else what is there is a conflict
                asked += indices[indices.index(last) :]
        if not asked:
            return pattern, frozenset()
        return pattern, self._search(asked, [one.id for one in batch])

    def _search(self, indices: list[str], ids: list[str]) -> frozenset[str] | None:
        """Return which of *ids* are in *indices*; None: it is forbidden to ask, or shards stay away.

        Raises BusyError while shards are missing: what is on them is not found.
        """
        path = f"/{quote(','.join(indices), safe=',')}"
        query = json.dumps({"query": {"ids": {"values": ids}}, "size": len(ids), "_source": False})
        only = "allow_partial_search_results=false&filter_path=timed_out,_shards,hits.hits._id,error"
        search = (f"_search?{only}&", query)
        # A refresh waits a minute for missing shards, and does not tell of them; a search does so at once.
        for method, body in (search, ("_refresh?", ""), search):
            how = f"{path}/{method}ignore_unavailable=true"  # an index that is not there yet, or no longer
            answer = self._http.request("POST", how, body.encode(), "application/json")
            if answer.status == HTTPStatus.FORBIDDEN:
                return None
            if answer.status == HTTPStatus.UNAUTHORIZED:
                raise fault_of(answer, self._http.where)
            if answer.status != HTTPStatus.OK or not _is_complete(answer.body, searched=bool(body)):
                self._miss_shards(answer)
                return None
        self._missing_since = None
        hits = json.loads(answer.body).get("hits", {}).get("hits", [])
        return frozenset(hit["_id"] for hit in hits)

    def _miss_shards(self, answer: Answer) -> None:
        """Note that shards are missing. Raises BusyError until they have been for long."""
        now = time.monotonic()
        if self._missing_since is None:
            self._missing_since = now
        if now - self._missing_since < self._missing_shards_seconds:
            text = f"{self._http.where}: shards are missing, so what is stored cannot be seen"
            raise BusyError(f"{text}: HTTP {answer.status}: {shown(answer.body)}", answer.retry_after)

    # --- for commands ---

    def template(self) -> str:
        """Return the index template that fits the engine, as JSON. Raises RequestError, OSError."""
        answer = self._http.request("GET", "/")
        if answer.status != HTTPStatus.OK:
            raise fault_of(answer, self._http.where)
        try:
            version = json.loads(answer.body)["version"]
            engine = str(version.get("distribution", "elasticsearch"))
        except (AttributeError, KeyError, TypeError, ValueError):
            text = f"{self._http.where}: neither Elasticsearch nor OpenSearch: {shown(answer.body)}"
            raise HoldError("engine", text, "see whether url is that of the engine") from None
        return template(self._settings.index, LABELS[engine == "opensearch"])

    def check(self) -> list[str]:
        """Return what is wrong, a line each: of each address, its certificate, the target, the pipeline."""
        timeout = min(CHECK_SECONDS, self._settings.timeout_seconds)
        probe = Elasticsearch(self._settings, timeout_seconds=timeout)
        return [fault for _ in range(probe._http.addresses) for fault in probe._check_next()]

    def _check_next(self) -> Iterator[str]:
        """Yield what is wrong with the next address."""
        pipeline, index = self._settings.pipeline, self._settings.index
        try:
            self.connect()
            where, days = self._http.where, self.certificate_days
            if days is not None and days < FEW_DAYS:
                yield f"{where}: a certificate ends in {days:.1f} days; renew it"
            if self._has_template() is False:
                why = "no index template takes all labels as one field, so that some records will be refused"
                yield f"{where}: index = {index}: {why}; {self._template_remedy()}"
            elif older := self._older_than_template():
                why = f"{older} was made before its template, so that some records will be refused"
                remedy = f"POST {index}/_rollover"
                if "%" in index:
                    remedy = "delete it, or wait for the next one, which has the template"
                yield f"{where}: index = {index}: {why}; {remedy}"
            if pipeline and self._status(f"/_ingest/pipeline/{quote(pipeline, safe='')}") == 404:  # noqa: PLR2004
                yield f"{where}: pipeline = {pipeline}: there is none; make it"
            self._status("/")
        except HoldError as error:
            yield f"{error}; {error.remedy}"
        except (RequestError, OSError) as error:
            yield str(error)
        finally:
            self.close()

    def _has_template(self) -> bool | None:
        """Return whether a new index would be mapped for our labels; None: it is not told."""
        answer = self._http.request("POST", f"/_index_template/_simulate_index/{self._index_now}")
        try:
            return _takes_labels(json.loads(answer.body)["template"]["mappings"])
        except KeyError:
            return False if answer.status == HTTPStatus.OK else None
        except (TypeError, ValueError):
            return None

    def _older_than_template(self) -> str:
        """Return the index in use, if it is not mapped for our labels; "": it is, or it is not told."""
        answer = self._http.request("GET", f"/{self._index_now}/_mapping")
        if answer.status != HTTPStatus.OK:
            return ""
        try:
            indices = json.loads(answer.body)
            newest: str = max(indices)
            return "" if _takes_labels(indices[newest]["mappings"]) else newest
        except (KeyError, TypeError, ValueError):
            return ""

    @property
    def _index_now(self) -> str:
        return quote(_index(self._settings.index, time.time_ns()))

    def _template_remedy(self) -> str:
        name = self._settings.name
        return f"PUT what `collector forward {name} --template` prints to _index_template/collector-{name}"

    def _status(self, path: str) -> int:
        """Return the status of what is there; who may only write may be told 403. Raises RequestError."""
        answer = self._http.request("GET", path)
        if answer.status not in (HTTPStatus.OK, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND):
            raise fault_of(answer, self._http.where)
        return answer.status


def _create(pattern: str, received: int) -> str:
    """Return the line that creates a document of a record received then, up to its id."""
    return f'{{"create":{{"_index":"{_index(pattern, received)}","_id":"'


def _index(pattern: str, received: int) -> str:
    return time.strftime(pattern, time.gmtime(received // _NANOS))


def _takes_labels(mappings: dict[str, Any]) -> bool:
    """Tell whether all labels are one field. Raises TypeError where these are no mappings."""
    try:
        return mappings["properties"]["labels"]["type"] in LABELS
    except KeyError:
        return False


def _addressed(one: Outgoing, pattern: str) -> bytes:
    """Return the lines of a record with another index than that of the settings."""
    document = one.data.partition(b"\n")[2]
    return f'{_create(pattern, one.received)}{one.id}"}}}}\n'.encode() + document


def _is_complete(body: bytes, *, searched: bool) -> bool:
    """Whether an answer is that of all shards. A refresh counts copies too, and those may be elsewhere."""
    try:
        answer = json.loads(body)
        shards = answer["_shards"]
        if not searched:
            return not shards["failed"]
        return not answer["timed_out"] and shards["successful"] == shards["total"]
    except (KeyError, TypeError, ValueError):
        return False
