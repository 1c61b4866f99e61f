"""What can be measured: servers that take records and write a line for each into a file per logger."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol

from collector import __version__
from tests.support.collectors import Collector
from tests.support.waiting import within

_START_SECONDS = 20
_STOP_SECONDS = 60
_PEERS = Path(__file__).with_name("python_peers.py")


class Server(Protocol):
    """A server in processes of its own, which are the one of `pid` and its descendants."""

    takes: str
    """"frames" or "syslog"."""
    json: bool
    """Whether its lines are JSON, and not those of the workload."""
    directory: Path
    """Where its files are and no others."""
    port: int
    pid: int

    def __init__(self, home: Path) -> None:
        """Prepare it to run with all its files in *home*, which exists and is empty."""

    @staticmethod
    def describe() -> str:
        """Return its name and version, and what it runs on; "" if it is not installed."""

    def start(self) -> None:
        """Return once it can accept clients."""

    def stop(self) -> None:
        """End it; raises AssertionError if it did not end as it should."""


class ThisCollector:
    """The collector of this checkout, with its defaults."""

    takes = "frames"
    json = False
    config = ""
    port = 0
    pid = 0

    def __init__(self, home: Path) -> None:
        self._collector = Collector(home, self.config)
        self.directory = self._collector.directory

    @staticmethod
    def describe() -> str:
        return f"collector {__version__}, gevent {version('gevent')}, greenlet {version('greenlet')}"

    def start(self) -> None:
        self._collector.start()
        assert self._collector.process
        self.port, self.pid = self._collector.port, self._collector.process.pid

    def stop(self) -> None:
        assert self._collector.stop() == 0, self._collector.stderr


class JsonCollector(ThisCollector):
    """The same, but for its lines."""

    json = True
    config = '[format]\nstyle = "json"\n'


class SpoolingCollector(ThisCollector):
    """The same with a spool, of a destination that is not there; without its guardian and its forwarder."""

    config = '[spool]\n[[forward]]\nname = "away"\ntype = "elasticsearch"\nurl = "http://127.0.0.1:1"\n'

    def start(self) -> None:
        super().start()
        self.pid = self._collector.worker


class _Peer:
    """A program that is not ours."""

    ends: tuple[int, ...] = (0, -signal.SIGTERM)
    json = False
    port = 0
    pid = 0

    def __init__(self, home: Path) -> None:
        self._home = home
        self.directory = home / "logs"
        self.directory.mkdir()
        self._process: subprocess.Popen[bytes] | None = None

    def _start(self, *command: str) -> None:
        with (self._home / "output.txt").open("wb") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        self.pid = self._process.pid
        within(_START_SECONDS, self._find_port, f"{command[0]} listens")

    def _find_port(self) -> bool:
        assert self._process
        assert self._process.poll() is None, f"ended with {self._process.returncode}: {self._output}"
        said = re.match(r"(\d+)\n", self._port_text())
        self.port = int(said[1]) if said else 0
        return said is not None

    def _port_text(self) -> str:
        return self._output

    @property
    def _output(self) -> str:
        return (self._home / "output.txt").read_text()

    def stop(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(_STOP_SECONDS)
        assert code in self.ends, f"was told to stop and ended with {code}: {self._output}"


class Cookbook(_Peer):
    """The receiver of the logging cookbook, mended."""

    takes = "frames"

    @staticmethod
    def describe() -> str:
        return "cookbook: the logging cookbook's receiver, mended, the same Python"

    def start(self) -> None:
        self._start(sys.executable, str(_PEERS), "cookbook", str(self.directory))


class Twisted(_Peer):
    """An Int32StringReceiver."""

    takes = "frames"

    @staticmethod
    def describe() -> str:
        try:
            return f"twisted: Twisted {version('twisted')}, the same Python"
        except PackageNotFoundError:
            return ""

    def start(self) -> None:
        self._start(sys.executable, str(_PEERS), "twisted", str(self.directory))


class Rsyslog(_Peer):
    """The one of the system, as its operator would set it up for this: defaults, and room enough."""

    takes = "syslog"
    # 8.2302 now and then crashes when it is stopped with a thousand connections. All is measured by then, and
    # the lines are counted afterwards.
    ends = (*_Peer.ends, -signal.SIGSEGV)
    # Escaping would put a traceback on one line, which the collector does not do either.
    config = """
global(workDirectory="{home}" parser.escapeControlCharactersOnReceive="off")
module(load="imtcp" maxSessions="10000")
template(name="path" type="list") {{
  constant(value="{directory}/") property(name="app-name" securepath="replace") constant(value=".log")
}}
template(name="line" type="list") {{ property(name="msg") constant(value="\\n") }}
input(type="imtcp" address="127.0.0.1" port="0" listenPortFileName="{home}/port")
action(type="omfile" dynaFile="path" template="line" dynaFileCacheSize="4096" asyncWriting="off" sync="off")
"""

    @staticmethod
    def describe() -> str:
        program = _find_rsyslog()
        if not program:
            return ""
        said = subprocess.run([program, "-v"], capture_output=True, text=True, check=False).stdout
        return " ".join(said.split()[:2]).replace("rsyslogd", "rsyslog")

    def start(self) -> None:
        config = self._home / "rsyslog.conf"
        config.write_text(self.config.format(home=self._home, directory=self.directory))
        self._start(str(_find_rsyslog()), "-n", "-iNONE", "-f", str(config))

    def _port_text(self) -> str:
        path = self._home / "port"
        return path.read_text() + "\n" if path.exists() and path.stat().st_size else ""


def _find_rsyslog() -> str | None:
    return shutil.which("rsyslogd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


SERVERS: dict[str, type[Server]] = {
    "collector": ThisCollector,
    "collector-json": JsonCollector,
    "collector-spool": SpoolingCollector,
    "rsyslog": Rsyslog,
    "twisted": Twisted,
    "cookbook": Cookbook,
}
