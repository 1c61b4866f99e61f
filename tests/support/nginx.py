"""nginx as it stands before an engine: TLS, passwords, limits, and an engine that is not there."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.waiting import within

if TYPE_CHECKING:
    from typing_extensions import Self

_SECONDS = 20
_ALONE = """daemon off;
user root;
worker_processes 1;
pid HOME/nginx.pid;
error_log HOME/error.log;
events {}
"""
_PLACES = "".join(f"{kind}_temp_path HOME/{kind};\n" for kind in ("proxy", "fastcgi", "uwsgi", "scgi"))
_HTTP = f"{_PLACES}client_body_temp_path HOME/body;\naccess_log HOME/access.log;\nproxy_http_version 1.1;\n"


class Nginx:
    """A master with one worker. To be used with `with`, which ends it."""

    def __init__(self, home: Path, config: str) -> None:
        """*config*: the contents of `http`, or `stream { ... }`. HOME stands for *home* there."""
        if not shutil.which("nginx"):
            pytest.skip("nginx is not installed")
        self._home = home
        self._file = home / "nginx.conf"
        self._process: subprocess.Popen[bytes] | None = None
        self._configure(config)

    def __enter__(self) -> Self:
        with (self._home / "nginx.txt").open("wb") as output:
            self._process = subprocess.Popen(self._command(), stdout=output, stderr=output)
        within(_SECONDS, self._workers, self._said())
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(_SECONDS)

    def reload(self, config: str) -> None:
        """Put another configuration in force; connections without a request are closed."""
        self._configure(config)
        before = self._workers()
        assert self._process
        self._process.send_signal(signal.SIGHUP)
        within(_SECONDS, lambda: self._workers() - before, "a new worker")
        within(_SECONDS, lambda: not self._workers() & before, "the old one has ended")

    def answered(self, status: int, log: str = "access.log") -> int:
        """Return how many requests were answered with *status*."""
        path = self._home / log
        return len(re.findall(rf'" {status} ', path.read_text())) if path.exists() else 0

    def _configure(self, config: str) -> None:
        module = _stream_module() if config.startswith("stream") else ""
        whole = config if module else f"http {{ {_HTTP}{config} }}\n"
        self._file.write_text((module + _ALONE + whole).replace("HOME", str(self._home)))
        subprocess.run([*self._command(), "-t"], check=True, capture_output=True)

    def _command(self) -> list[str]:
        return ["nginx", "-e", str(self._home / "error.log"), "-c", str(self._file)]

    def _workers(self) -> set[int]:
        assert self._process
        assert self._process.poll() is None, self._said()
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        return {int(child) for child in children.split()}

    def _said(self) -> str:
        return "".join(path.read_text() for path in self._home.glob("error.log"))[-2000:]


def _stream_module() -> str:
    """Return the line that loads it; "" is no answer: the test is skipped where there is none."""
    built = subprocess.run(["nginx", "-V"], check=True, capture_output=True, text=True).stderr
    if re.search(r"--with-stream(?!\S)", built):
        return "# nginx has the stream module built in\n"
    directory = re.search(r"--modules-path=(\S+)", built)
    path = Path(directory[1] if directory else "") / "ngx_stream_module.so"
    if not path.is_file():
        pytest.skip("nginx has no stream module")
    return f"load_module {path};\n"
