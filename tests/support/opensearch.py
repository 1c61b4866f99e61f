"""A real OpenSearch: one node in a JVM of its own, of jars from Maven Central, kept in pytest's cache."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Iterator

_HERE = Path(__file__).with_name("opensearch_node")
_DOWNLOAD_SECONDS = 300
_START_SECONDS = 90
_MIN_JAVA = 17


class OpenSearch:
    """A node that keeps its data in *home*, whatever happens to it; *settings* as opensearch.yml has them."""

    def __init__(self, jars: Path, home: Path, **settings: object) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._home = home
        self._output = home / "stdout"
        home.mkdir(exist_ok=True)
        more = [f"{key}={value}" for key, value in settings.items()]
        memory = ("-Xms512m", "-Xmx512m", f"-Djava.io.tmpdir={home}")
        node = (str(_HERE / "Node.java"), str(home), str(self.port))
        self._command = ["java", *memory, "-cp", f"{jars}/*", *node, *more]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, status: str = "yellow") -> None:
        """Start it, and return when its health is at least *status*; "red": where shards will be missing."""
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(self._command, stdout=output, stderr=output)
        within(_START_SECONDS, lambda: self._is(status), f"OpenSearch is {status}")

    def kill(self) -> None:
        """End it by SIGKILL."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Return what it answers, as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"})
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def documents(self, index: str) -> list[dict[str, Any]]:
        """Return all that is in some indices, in the order of our numbers."""
        self.ask("POST", f"/{index}/_refresh")
        query = {"size": 10_000, "sort": [{"event.sequence": {"order": "asc", "unmapped_type": "long"}}]}
        hits: list[dict[str, Any]] = self.ask("POST", f"/{index}/_search", query)["hits"]["hits"]
        return hits

    def messages(self, index: str) -> list[str]:
        """Return the message of each document in some indices, however many there are, in no order."""
        self.ask("POST", f"/{index}/_refresh")
        query = {"size": 10_000, "_source": ["message"], "sort": ["_doc"]}
        answer = self.ask("POST", f"/{index}/_search?scroll=1m", query)
        found: list[str] = []
        while hits := answer["hits"]["hits"]:
            # After a kill a search answers for the shards that are there already.
            assert answer["_shards"]["successful"] == answer["_shards"]["total"], answer["_shards"]
            found += [hit["_source"]["message"] for hit in hits]
            answer = self.ask("POST", "/_search/scroll", {"scroll": "1m", "scroll_id": answer["_scroll_id"]})
        return found

    def shard(self, index: str, number: int) -> Path:
        """Return where the data of a shard lie."""
        (found,) = self.ask("GET", f"/{index}/_settings").values()
        return self._home / "data/nodes/0/indices" / str(found["settings"]["index"]["uuid"]) / str(number)

    def _is(self, status: str) -> bool:
        assert self._process
        assert self._process.poll() is None, self._output.read_text()[-2000:]
        with suppress(OSError, ValueError, http.client.HTTPException):
            health = self.ask("GET", f"/_cluster/health?wait_for_status={status}&timeout=1s")
            return health.get("timed_out") is False
        return False


@pytest.fixture(scope="session")
def opensearch_jars(request: pytest.FixtureRequest) -> Path:
    """Return the directory of its jars, or skip the test."""
    if not shutil.which("java") or not shutil.which("mvn"):
        pytest.skip("needs Java and Maven to run a real OpenSearch")
    said = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    version = said.partition('"')[2].partition(".")[0]
    if not version.isdecimal() or int(version) < _MIN_JAVA:
        pytest.skip(f"needs Java {_MIN_JAVA} to run a real OpenSearch, has {said.splitlines()[:1]}")
    cache = request.config.cache
    assert cache
    kept = cache.mkdir("engines") / "opensearch-2.19.6"
    if not kept.exists():
        # Made beside its place and then moved: half of them must not be taken for all.
        with tempfile.TemporaryDirectory(dir=kept.parent) as beside:
            copy = [
                "dependency:copy-dependencies",
                "-DincludeScope=runtime",
                f"-DoutputDirectory={beside}/jars",
            ]
            command = ["mvn", "-q", "-B", "-f", str(_HERE / "pom.xml"), *copy]
            try:
                got = subprocess.run(
                    command, capture_output=True, text=True, check=False, timeout=_DOWNLOAD_SECONDS
                )
            except subprocess.TimeoutExpired:
                pytest.skip(f"Maven Central did not give OpenSearch within {_DOWNLOAD_SECONDS} s")
            if got.returncode:
                pytest.skip(f"cannot get OpenSearch: {(got.stdout or got.stderr).strip().splitlines()[:1]}")
            with suppress(OSError):
                os.rename(f"{beside}/jars", kept)
    return kept


@pytest.fixture(scope="module")
def opensearch(opensearch_jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSearch]:
    """Return a running node, the same one for all tests of a module."""
    node = OpenSearch(opensearch_jars, tmp_path_factory.mktemp("opensearch"))
    try:
        node.start()
        yield node
    finally:
        node.kill()
