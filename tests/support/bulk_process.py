"""A server with the rules of `_bulk` in a process of its own, whose documents outlive it on disk.

What it has answered for is in its journal: a kill costs it nothing but requests without an answer, of which
it may have kept any part. Run as a program: JOURNAL PORT.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from tests.support.bulk_server import Asked, BulkServer
from tests.support.waiting import within

_START_SECONDS = 20


class BulkProcess:
    """A server that can be killed and started again, at the same address."""

    def __init__(self, home: Path) -> None:
        self._journal = home / "journal"
        self._output = home / "bulk.out"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and return when it can be asked."""
        command = [sys.executable, "-m", "tests.support.bulk_process", str(self._journal), str(self.port)]
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(command, stdout=output)
        within(_START_SECONDS, lambda: self._output.read_bytes().endswith(b"\n"), "a server says its port")
        self.port = int(self._output.read_text())

    def kill(self) -> None:
        """End it by SIGKILL."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def messages(self) -> list[str]:
        """Return the message of each document, in no order."""
        return [document["message"] for _, _, document in _read(self._journal)]

    def by_id(self) -> dict[str, str]:
        """Return the message of each document by its id."""
        return {id_: document["message"] for _, id_, document in _read(self._journal)}

    def collisions(self) -> list[str]:
        """Return the message of each document that came with the id of another one."""
        path = _collisions(self._journal)
        lines = path.read_bytes().splitlines() if path.exists() else []
        return [json.loads(line)["message"] for line in lines]


class _Journaled(BulkServer):
    """A server that keeps a journal of what it stores."""

    def __init__(self, journal: Path, port: int) -> None:
        super().__init__(port=port)
        self._lock = threading.Lock()
        """An old request may still run when it comes once more."""
        self._new: list[bytes] = []
        for index, document_id, document in _read(journal):
            self.documents[index][document_id] = document
        self._fd = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._collisions = _collisions(journal)

    def answer(self, asked: Asked) -> tuple[int, object]:
        with self._lock:
            answer = super().answer(asked)
            self.asked.clear()
            os.write(self._fd, b"".join(self._new))
            self._new.clear()
            return answer

    def _create(self, action: dict[str, str], line: bytes) -> dict[str, Any]:
        item = super()._create(action, line)
        if item["status"] == 201:
            self._new.append(json.dumps([item["_index"], action["_id"]]).encode() + b"\t" + line + b"\n")
        elif item["status"] == 409 and json.loads(line) != self.documents[item["_index"]][action["_id"]]:
            with self._collisions.open("ab") as file:
                file.write(line + b"\n")
        return item


def _collisions(journal: Path) -> Path:
    return journal.with_name(f"{journal.name}.collisions")


def _read(journal: Path) -> list[tuple[str, str, dict[str, Any]]]:
    """Return index, id and document of each line; what a kill has torn is cut off."""
    if not journal.exists():
        return []
    data = journal.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        os.truncate(journal, len(whole))
    found = []
    for line in whole.splitlines():
        head, _, document = line.partition(b"\t")
        found.append((*json.loads(head), json.loads(document)))
    return found


def main() -> None:
    journal, port = sys.argv[1:]
    with _Journaled(Path(journal), int(port)) as server:
        print(server.port, flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
