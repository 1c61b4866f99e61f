"""What an answer of `_bulk` means: for each document, or for all of them together.

By the type of an error first, and only then by its status: one status means many things, and did mean others
in other versions. Knows no connection.
"""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

from collector.forward.verdicts import (
    DUPLICATE,
    STORED,
    BrokenError,
    BusyError,
    HoldError,
    RefusedError,
    RequestError,
    TooLargeError,
    Verdict,
)

if TYPE_CHECKING:
    from collector.forward.destinations.http import Answer

_ITEM_FIELDS = ("status", "_index", "failure_store", "error.type", "error.reason")
# Without the status of each item, those without an error would be left out, and with them all positions.
FILTER_PATH = ",".join(["errors", "error", "status", *(f"items.*.{field}" for field in _ITEM_FIELDS)])

_NO_ERRORS, _ONE_STORED = b'"errors":false', b'"status":201'
_INDEX, _IN_FAILURE_STORE = b'"_index":"', b'"failure_store":"used"'

_PRIVILEGES = "give its user, key or token the privileges create_doc and auto_configure"
_DESTINATIONS_FAULT = {
    "cluster_block_exception": "free its disk, or take the block off the index",
    "index_not_found_exception": "let indices be made, or make this one",
    "index_closed_exception": "open the index",
    "invalid_index_name_exception": "give index a name that it takes",
    "validation_exception": "raise cluster.max_shards_per_node, or delete old indices",
    "security_exception": _PRIVILEGES,
}
"""What is wrong with the destination, whatever the status that comes with it, and what helps."""
_HOLDING = {
    401: "see whether user and password_file, api_key_file or token_file are right",
    403: _PRIVILEGES,
    404: "see whether url is that of the engine, with the path before its own",
    407: "give the proxy's credentials in https_proxy",
}
_ARGUMENTS = (
    (
        "pipeline",
        re.compile(r"pipeline with id \[[^]]*\] does not exist"),
        "make it, or leave pipeline empty",
    ),
    ("write_index", re.compile(r"no write index is defined"), "give the alias a write index"),
)
"""Of illegal arguments, which are else a document's fault."""
_UNAVAILABLE = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)
_BUSY = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT, *_UNAVAILABLE)
_THERE = (STORED, DUPLICATE)
_REFUSED = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY)


class Hold(NamedTuple):
    """What takes the place of a verdict where the destination itself is at fault; as in HoldError."""

    reason: str
    text: str
    remedy: str


def read_answer(answer: Answer, count: int, where: str) -> tuple[list[Verdict | Hold], str]:
    """Return what became of *count* documents, and the index that the last one of those stored is in, or "".

    Raises what the answer says of them all: BrokenError too where it does not tell of each of them. *where*
    is the address, for messages.
    """
    if answer.status != HTTPStatus.OK:
        raise fault_of(answer, where)
    data = answer.body
    # Nearly every answer is this one; to read it as JSON takes a tenth of all the time for a record.
    if _NO_ERRORS in data and data.count(_ONE_STORED) == count and _IN_FAILURE_STORE not in data:
        begin = data.rfind(_INDEX) + len(_INDEX)
        return [STORED] * count, data[begin : data.find(b'"', begin)].decode()
    try:
        items = [next(iter(item.values())) for item in json.loads(data)["items"]]
        verdicts = [_verdict(item, where) for item in items]
        stored = [item["_index"] for item, one in zip(items, verdicts, strict=True) if one in _THERE]
    except (AttributeError, KeyError, StopIteration, TypeError, ValueError):
        raise BrokenError(f"{where}: no answer of _bulk: {shown(data)}") from None
    if len(items) != count:
        raise BrokenError(f"{where}: an answer for {len(items)} of {count} documents: {shown(data)}")
    return verdicts, str(stored[-1]) if stored else ""


def _verdict(item: dict[str, Any], where: str) -> Verdict | Hold:
    status = int(item["status"])
    if status in (HTTPStatus.OK, HTTPStatus.CREATED):
        # Nobody finds it there who searches the data stream.
        return Verdict("dead", "failure_store") if item.get("failure_store") == "used" else STORED
    kind, reason = _error_of(item)
    if kind == "version_conflict_engine_exception":
        return DUPLICATE
    hold = _hold(status, kind, reason, where)
    if hold:
        return hold
    word = kind or f"http_{status}"
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Verdict("again", word, doubt=True)
    return Verdict("again" if status == HTTPStatus.TOO_MANY_REQUESTS else "dead", word)


def _hold(status: int, kind: str, reason: str, where: str) -> Hold | None:
    """Return what holds the destination; None: it is the document or the moment that is at fault."""
    text = f"{where}: HTTP {status} {kind}: {reason}"
    # While it starts, a cluster blocks all with 503; that passes without anyone's help.
    if kind in _DESTINATIONS_FAULT and status != HTTPStatus.SERVICE_UNAVAILABLE:
        return Hold(kind, text, _DESTINATIONS_FAULT[kind])
    if kind == "illegal_argument_exception":
        for word, pattern, remedy in _ARGUMENTS:
            if pattern.search(reason):
                return Hold(word, text, remedy)
    return Hold(f"http_{status}", text, _HOLDING[status]) if status in _HOLDING else None


def fault_of(answer: Answer, where: str) -> RequestError:
    """Return what an answer says of a whole request, if it is not that of a success."""
    status = answer.status
    try:
        kind, reason = _error_of(json.loads(answer.body))
    except (AttributeError, TypeError, ValueError):
        kind, reason = "", shown(answer.body)
    text = f"{where}: HTTP {status} {kind}: {reason}"
    hold = _hold(status, kind, reason, where)
    if hold:
        return HoldError(*hold)
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return TooLargeError(text)
    if status in _BUSY:
        return BusyError(text, answer.retry_after, refused=status == HTTPStatus.TOO_MANY_REQUESTS)
    if status in _REFUSED:
        return RefusedError(kind or f"http_{status}", text)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status < HTTPStatus.MULTIPLE_CHOICES:
        return BrokenError(text)
    leads = f"; it leads to {answer.location}" if answer.location else ""
    return HoldError(f"http_{status}", text + leads, _HOLDING[HTTPStatus.NOT_FOUND])


def _error_of(item: dict[str, Any]) -> tuple[str, str]:
    """Return the type and the reason of an error, as items and whole answers have it; "" for none."""
    error = item.get("error") or ""
    if isinstance(error, str):
        return "", error
    kind = str(error.get("type") or "")
    return kind if re.fullmatch(r"\w{1,100}", kind) else "", str(error.get("reason") or "")[:1000]


def shown(data: bytes) -> str:
    """Return the beginning of what came, for messages."""
    return repr(data[:200].decode("utf-8", "replace"))
