"""A server with the rules of `_bulk`, in a thread: what engines do, and the answers that they seldom give.

The tests against a real engine hold it to what one does.
"""

from __future__ import annotations

import gzip
import json
import ssl
from collections import defaultdict
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from tests.support.serving import Serving

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

CONFLICT = {"type": "version_conflict_engine_exception", "reason": "document already exists"}
SHARDS = {"total": 1, "successful": 1, "failed": 0}


class Asked(NamedTuple):
    """A request as it came, its body unpacked."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.path).query)


class Reply(NamedTuple):
    """An answer in place of its own."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


class BulkServer(Serving):
    """A cluster of indices, data streams and their documents."""

    def __init__(self, certificates: Path | None = None, *, client_ca: bool = False, port: int = 0) -> None:
        self.asked: list[Asked] = []
        self.connections = 0
        self.documents: dict[str, dict[str, Any]] = defaultdict(dict)
        """By index, then by id."""
        self.streams: dict[str, list[str]] = {}
        self.errors: dict[str, tuple[int, dict[str, str]]] = {}
        """By text in a document, what its item says instead of storing it."""
        self.instead: dict[str, list[Reply | Callable[[socket.socket], None]]] = defaultdict(list)
        """By the last part of a path, what the next requests get: another answer, or what is done to them."""
        self.hangs_up_at = b""
        """What it hangs up at, without an answer, where it stands in a `_bulk`."""
        self.store_all_the_same = False
        """Whether those requests are carried out nevertheless."""
        super().__init__(ThreadingHTTPServer(("127.0.0.1", port), _handler_of(self)))
        scheme = "http"
        if certificates:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
            if client_ca:
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(certificates / "ca.pem")
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
            scheme = "https"
        self.url = f"{scheme}://127.0.0.1:{self.port}"

    def roll_over(self, stream: str) -> None:
        """Have a data stream write to another index, making it if there is none."""
        indices = self.streams.setdefault(stream, [])
        indices.append(f".ds-{stream}-{len(indices) + 1:06}")

    def answer(self, asked: Asked) -> tuple[int, object]:  # noqa: PLR0911 - one a path
        parts = urlsplit(asked.path).path.strip("/").split("/")
        if parts[-1] == "_bulk":
            if self.hangs_up_at and self.hangs_up_at in asked.body:
                raise ConnectionError
            return 200, self._bulk(asked.body)
        if parts[-2:-1] == ["_data_stream"]:
            if parts[-1] not in self.streams:
                return 404, {"error": {"type": "index_not_found_exception", "reason": "none"}, "status": 404}
            indices = [{"index_name": name} for name in self.streams[parts[-1]]]
            return 200, {"data_streams": [{"name": parts[-1], "indices": indices}]}
        if parts[-1] == "_refresh":
            return 200, {"_shards": SHARDS}
        if parts[-1] == "_search":
            return 200, self._search(parts[0].split(","), json.loads(asked.body))
        if parts[-2:-1] == ["_simulate_index"]:
            return 200, {"template": {"mappings": {"properties": {"labels": {"type": "flat_object"}}}}}
        if parts == [""]:
            return 200, {"version": {"number": "2.19.6", "distribution": "opensearch"}}
        return 404, {"error": "nothing here", "status": 404}

    def _bulk(self, body: bytes) -> object:
        assert body.endswith(b"\n")
        lines = body.split(b"\n")[:-1]
        items = []
        for action, line in zip(lines[::2], lines[1::2], strict=True):
            item = {"create": self._create(json.loads(action)["create"], line)}
            items.append(item)
        return {"took": 1, "errors": any("error" in item["create"] for item in items), "items": items}

    def _create(self, action: dict[str, str], line: bytes) -> dict[str, Any]:
        name, document_id = action["_index"], action["_id"]
        index = self.streams.get(name, [name])[-1]
        for text, (status, error) in self.errors.items():
            if text in line.decode():
                return {"_index": name, "status": status, "error": error}
        if document_id in self.documents[index]:
            return {"_index": index, "status": 409, "error": CONFLICT}
        self.documents[index][document_id] = json.loads(line)
        return {"_index": index, "status": 201}

    def _search(self, indices: list[str], query: dict[str, Any]) -> object:
        names = {one for name in indices for one in self.streams.get(name, [name])}
        wanted = query["query"]["ids"]["values"]
        found = [{"_id": one} for one in wanted if any(one in self.documents[name] for name in names)]
        return {"timed_out": False, "_shards": SHARDS, "hits": {"hits": found[: query["size"]]}}


def _handler_of(cluster: BulkServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            cluster.connections += 1
            super().setup()

        def handle(self) -> None:
            with suppress(OSError):  # a client that goes away, or whose certificate is missing
                super().handle()

        def respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            asked = Asked(self.command, self.path, dict(self.headers.items()), body)
            cluster.asked.append(asked)
            waiting = cluster.instead[urlsplit(self.path).path.rpartition("/")[2]]
            instead = waiting.pop(0) if waiting else None
            if instead is None or cluster.store_all_the_same:
                status, answer = cluster.answer(asked)
            if instead is None:
                text = json.dumps(answer, separators=(",", ":")).encode()  # as engines write it
                instead = Reply(status, text)
            if not isinstance(instead, Reply):
                instead(self.connection)
                self.close_connection = True
                return
            self.send_response(instead.status)
            for name, value in instead.headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(instead.body)))
            self.end_headers()
            self.wfile.write(instead.body)

        do_GET = do_POST = do_PUT = respond  # noqa: N815 - as http.server calls them

        def log_message(self, *_: object) -> None:
            pass

    return Handler
