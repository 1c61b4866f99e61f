"""A real collector in a process of its own, and what is sent to it and found in its files."""

from __future__ import annotations

import errno
import re
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tests.support.waiting import within

START_SECONDS = 20
STOP_SECONDS = 30


def whole_lines(path: Path) -> str:
    """Return the text of a file that another process may be writing, without a line that is there in part.

    A write of megabytes can be seen while it is on its way, and then ends inside a line or a character.
    There is no text where there is no file.
    """
    with suppress(FileNotFoundError):
        data = path.read_bytes()
        return data[: data.rfind(b"\n") + 1].decode()
    return ""


def send_to_the_end(sock: socket.socket, data: bytes) -> None:
    """Send *data* and no more; return when the collector has read it or hung up."""
    try:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""
    except OSError as error:
        # It hung up before all was read: after that there is no connection that could be shut down either.
        if error.errno not in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN):
            raise


def forwarder_name(process: int) -> str:
    """Return the name of the destination that a process hands over to, "" if it is no forwarder."""
    with suppress(OSError):
        words = Path(f"/proc/{process}/cmdline").read_bytes().decode().split("\0")[:-1]
        if words[1:4] == ["-m", "collector", "forward"]:
            return words[-1]
    return ""


class Collector:
    """A collector as an operator runs it: `python -m collector run -c FILE`."""

    def __init__(self, home: Path, config: str, directory: Path | None = None) -> None:
        self.directory = directory or home / "logs"
        self.config = home / "collector.toml"
        self.log = home / "stderr.txt"
        self.configure(config)
        self.command = [sys.executable, "-m", "collector"]
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def configure(self, config: str) -> None:
        """Write *config*, with a free port and the test's directory where it names none."""
        for table, line in (("listen", "port = 0"), ("files", f'directory = "{self.directory}"')):
            if f"[{table}]" not in config:
                config += f"\n[{table}]\n"
            own = config.partition(f"[{table}]\n")[2].partition("\n[")[0]
            if not re.search(rf"^{line.split()[0]} =", own, re.MULTILINE):
                config = config.replace(f"[{table}]\n", f"[{table}]\n{line}\n")
        self.config.write_text(config)

    def start(self, **how: object) -> Collector:
        """Start it and return once it can accept."""
        before = self.stderr.count("listening on")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # type: ignore[call-overload]
                [*self.command, "run", "-c", str(self.config)], stderr=log, **how
            )
        within(
            START_SECONDS, lambda: self.stderr.count("listening on") > before or not self.running, "listening"
        )
        assert self.running, self.stderr
        self.port = int(re.findall(r"listening on \S+:(\d+)", self.stderr)[-1])
        return self

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def worker(self) -> int:
        """The process id of the worker: the guardian's only child that is no forwarder."""
        return next(child for child in self.children if not forwarder_name(child))

    @property
    def forwarders(self) -> dict[str, int]:
        """The process ids of the forwarders, by the names of their destinations."""
        return {name: child for child in self.children if (name := forwarder_name(child))}

    @property
    def children(self) -> list[int]:
        """The process ids of the guardian's children: none while a worker that has died is replaced."""
        assert self.process is not None
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(child) for child in path.read_text().split()]

    @property
    def admin_port(self) -> int:
        """The port of [admin], which is served a moment after the collector listens, at each start."""

        def ports() -> list[str]:
            return re.findall(r"admin on \S+:(\d+)", self.stderr.rpartition("listening on")[2])

        within(START_SECONDS, ports, "admin on")
        return int(ports()[-1])

    @property
    def stderr(self) -> str:
        return whole_lines(self.log)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def send(self, data: bytes) -> None:
        """Send *data* over a connection of its own; return when the collector has read it or hung up."""
        with self.connect() as sock:
            send_to_the_end(sock, data)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(STOP_SECONDS)

    def files(self) -> dict[str, bytes]:
        """Return all files of the directory by relative path, without the collector's own."""
        found = {}
        for path in sorted(self.directory.rglob("*")):
            own = any(part.startswith(".") for part in path.relative_to(self.directory).parts)
            if path.is_file() and not own:
                with suppress(FileNotFoundError):  # rolled over or deleted meanwhile
                    found[str(path.relative_to(self.directory))] = path.read_bytes()
        return found

    def lines(self, name: str) -> list[str]:
        """Return the whole lines of one file, none if it is not there."""
        return whole_lines(self.directory / name).splitlines()


def messages(collector: Collector, name: str = "app.log") -> list[str]:
    return [line.split(" 7 ", 1)[1] for line in collector.lines(name)]
