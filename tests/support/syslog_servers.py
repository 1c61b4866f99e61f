"""rsyslog and syslog-ng, each started in a directory of its own; what they have written, field by field."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Self

SECONDS_TO_START = 20
_RSYSLOG_MODULES = Path("/usr/lib/x86_64-linux-gnu/rsyslog"), Path("/usr/lib/aarch64-linux-gnu/rsyslog")
_RSYSLOG = """
global(workDirectory="{home}" maxMessageSize="{max_bytes}" parser.escapeControlCharactersOnReceive="{escaped}"
       net.enableDNS="off")
module(load="imrelp")
module(load="imtcp" maxFrameSize="200000")
template(name="fields" type="list" option.jsonf="on") {{
  property(outname="time" name="timereported" dateFormat="rfc3339" format="jsonf")
  property(outname="priority" name="pri" format="jsonf")
  property(outname="host" name="hostname" format="jsonf")
  property(outname="app_name" name="app-name" format="jsonf")
  property(outname="process" name="procid" format="jsonf")
  property(outname="data" name="structured-data" format="jsonf")
  property(outname="text" name="msg" format="jsonf") }}
ruleset(name="out" queue.type="Direct") {{ action(type="omfile" file="{home}/out" template="fields") }}
input(type="imrelp" address="127.0.0.1" port="{relp}" ruleset="out" maxDataSize="{max_bytes}" {tls})
input(type="imtcp" address="127.0.0.1" port="{tcp}" ruleset="out")
"""
_SYSLOG_NG = """@version: {version}
options {{ log-msg-size(65536); stats-freq(0); keep-hostname(yes); flush-lines(1); }};
source s {{ syslog(ip(127.0.0.1) port({tcp}) {transport} max-connections(10) log-iw-size(1000)); }};
destination d {{ file("{home}/out" template("$(format-json time=$ISODATE priority=$PRI host=$HOST
  app_name=$PROGRAM process=$PID data=$SDATA text=$MSG)\\n") frac-digits(6)); }};
log {{ source(s); destination(d); flags(flow-control); }};
"""
_SYSLOG_NG_PACKAGES = ("syslog-ng-core", "libivykis0", "libnet1", "libpcre3", "libwrap0", "libjson-c5")


class Server:
    """A syslog server. To be used with `with`, which ends it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.relp, self.tcp = free_port(), free_port()
        self.out = home / "out"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(SECONDS_TO_START)

    def start(self) -> None:
        with open(self.home / "stdout", "ab") as stdout:
            self._process = subprocess.Popen(
                self._command(), stdout=stdout, stderr=stdout, env={**os.environ, **self._environment()}
            )
        within(SECONDS_TO_START, self._answers, f"{self.home}/stdout")

    def kill(self) -> None:
        """End it by SIGKILL; start() may follow."""
        assert self._process
        self._process.kill()
        self._process.wait()
        (self.home / "pid").unlink(missing_ok=True)

    def records(self) -> list[dict[str, Any]]:
        """Return what it has written: a dict for each record, its fields as text."""
        data = self.out.read_bytes() if self.out.exists() else b""
        return [json.loads(line) for line in data.split(b"\n")[:-1]]  # a last one may not be whole

    def _answers(self) -> bool:
        assert self._process
        assert self._process.poll() is None, (self.home / "stdout").read_text(errors="replace")[-2000:]
        try:
            for port in self._ports():
                socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            return False
        return True

    def _ports(self) -> tuple[int, ...]:
        return (self.tcp,)

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _environment(self) -> Mapping[str, str]:
        return {}


class Rsyslog(Server):
    """rsyslogd with RELP on port `relp`, TCP on port `tcp`. An answer means: written, by a Direct queue."""

    def __init__(
        self,
        home: Path,
        tls: Mapping[str, str] | None = None,
        *,
        max_bytes: int = 8192,
        escaped: bool = False,
    ) -> None:
        super().__init__(home)
        if not shutil.which("rsyslogd"):
            pytest.skip("rsyslogd is not installed (Debian: rsyslog)")
        if not any((modules / "imrelp.so").exists() for modules in _RSYSLOG_MODULES):
            pytest.skip("rsyslogd has no imrelp (Debian: rsyslog-relp)")
        keys = " ".join(f"{key}={value}" for key, value in (tls or {}).items())
        text = _RSYSLOG.format(
            home=home,
            relp=self.relp,
            tcp=self.tcp,
            tls=keys,
            max_bytes=max_bytes,
            escaped="on" if escaped else "off",
        )
        (home / "rsyslog.conf").write_text(text)

    def _ports(self) -> tuple[int, ...]:
        return (self.relp, self.tcp)  # each is open some time before or after the other

    def _command(self) -> list[str]:
        return ["rsyslogd", "-n", "-f", str(self.home / "rsyslog.conf"), "-i", str(self.home / "pid")]


class SyslogNg(Server):
    """syslog-ng on port `tcp`; from a package that is unpacked once where rsyslog, say, is in its place."""

    def __init__(self, home: Path, config: pytest.Config, certificates: Path | None = None) -> None:
        super().__init__(home)
        installed = shutil.which("syslog-ng")
        self._root = Path() if installed else _unpacked(config)
        self._program = installed or str(self._root / "usr/sbin/syslog-ng")
        self._modules = next((self._root / "usr/lib/syslog-ng").glob("[0-9]*"), None)
        transport = 'transport("tcp")'
        if certificates:
            transport = (
                f'transport("tls") tls(key-file("{certificates}/server.key")'
                f' cert-file("{certificates}/server.pem") ca-file("{certificates}/ca.pem")'
                " peer-verify(required-trusted))"
            )
        version = self._modules.name if self._modules else "3.38"
        text = _SYSLOG_NG.format(home=home, tcp=self.tcp, transport=transport, version=version)
        (home / "syslog-ng.conf").write_text(text)

    def _command(self) -> list[str]:
        home = str(self.home)
        files = (
            "-f",
            f"{home}/syslog-ng.conf",
            "-p",
            f"{home}/pid",
            "-c",
            f"{home}/ctl",
            "-R",
            f"{home}/state",
        )
        modules = ("--module-path", str(self._modules)) if self._modules else ()
        return [self._program, "-F", "--no-caps", *files, *modules]

    def _environment(self) -> Mapping[str, str]:
        if self._root == Path():
            return {}
        libraries = [self._root / "usr/lib/syslog-ng", *self._root.glob("usr/lib/*-linux-gnu")]
        libraries += self._root.glob("lib/*-linux-gnu")
        return {"LD_LIBRARY_PATH": ":".join(map(str, libraries))}


def _unpacked(config: pytest.Config) -> Path:
    """Return where the package is unpacked, in pytest's cache, or skip the test."""
    assert config.cache
    root = config.cache.mkdir("syslog-ng") / "root"
    if root.exists():
        return root
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        pytest.skip("syslog-ng is not installed, and there is no apt-get to load it by")
    with tempfile.TemporaryDirectory(dir=root.parent) as beside:
        whole = Path(beside) / "root"
        loaded = subprocess.run(
            ["apt-get", "-qq", "download", *_SYSLOG_NG_PACKAGES],
            cwd=beside,
            check=False,
            capture_output=True,
            text=True,
        )
        if loaded.returncode:
            pytest.skip(f"syslog-ng is not installed, and cannot be loaded: {loaded.stderr.strip()[-300:]}")
        for package in Path(beside).glob("*.deb"):
            subprocess.run(["dpkg", "-x", package, whole], check=True)
        whole.rename(root)
    return root


def relp_tls(certificates: Path) -> dict[str, str]:
    """Return the settings of imrelp by which it asks for a certificate, and shows its own."""
    return {
        "tls": '"on"',
        "tls.caCert": f'"{certificates}/ca.pem"',
        "tls.myCert": f'"{certificates}/server.pem"',
        "tls.myPrivKey": f'"{certificates}/server.key"',
        "tls.authMode": '"name"',
        "tls.permittedPeer": '["localhost"]',
    }


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port
