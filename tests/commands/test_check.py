"""The command `check`: every fault at once, and what would run; nothing is made, bound or left behind."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from tests.support.bulk_server import BulkServer
from tests.support.certificates import openssl, tls_table
from tests.support.collectors import messages
from tests.support.commands import run
from tests.support.destinations import NOBODY as NOWHERE
from tests.support.destinations import destination, told
from tests.support.frames import make_frame
from tests.support.syslog_servers import Rsyslog
from tests.support.volumes import bound_by_permissions, needs_root
from tests.support.volumes import run as run_or_skip
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.collectors import Collector
    from tests.support.volumes import Volumes

    Check = Callable[..., subprocess.CompletedProcess[str]]

NOBODY = 65_534

EVERYTHING = """
[listen]
host = "nothing.invalid"
port = 70000
unix = "{home}/missing/x.sock"
[listen.tls]
certificate = "{home}/a.pem"
private_key = "{home}/a.key"
client_ca = "{home}/b.pem"
[files]
directory = "{home}/file/logs"
mode = "0440"
[admin]
host = "192.0.2.1"
[fromat]
style = "json"
"""


@pytest.fixture
def check(tmp_path: Path) -> Check:
    def check(config: str, *more: str) -> subprocess.CompletedProcess[str]:
        file = tmp_path / "c.toml"
        file.write_text(config)
        before = listed(tmp_path)
        result = subprocess.run(
            [sys.executable, "-m", "collector", "check", "-c", file, *more],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            cwd=tmp_path,
        )
        assert before == listed(tmp_path), "nothing is made"
        return result

    return check


def listed(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def test_really_every_fault_is_listed_at_once(check: Check, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = check(EVERYTHING.format(home=tmp_path))
    faults = [
        "[listen] port = 70000: ",
        '[files] mode = "0440": ',
        "[fromat]: unknown; did you mean format?",
        f"cannot write in the directory '{tmp_path}/file/logs': Not a directory; see [files] directory",
        f'certificate = "{tmp_path}/a.pem" cannot be loaded: No such file or directory',
        f'private_key = "{tmp_path}/a.key" cannot be loaded: No such file or directory',
        f'client_ca = "{tmp_path}/b.pem" cannot be loaded: No such file or directory',
        "cannot listen on nothing.invalid: ",
        "cannot listen on 192.0.2.1: Cannot assign requested address; see [admin] host",
        f"cannot listen on {tmp_path}/missing/x.sock: No such file or directory; see [listen] unix",
    ]
    assert (2, "") == (result.returncode, result.stdout)
    lines = result.stderr.splitlines()
    assert len(faults) == len(lines), result.stderr
    assert [] == [fault for fault in faults if not any(fault in line for line in lines)]


def test_what_an_unknown_key_may_be_meant_for_is_not_tried_by_its_default(check: Check) -> None:
    (fault,) = check('[files]\ndirectroy = "/proc/nope"\n[listen]\nhost = "127.0.0.1"\n').stderr.splitlines()
    assert "did you mean directory?" in fault
    for text in ('[listne]\nhost = "192.0.2.1"\n[files]\n', 'host = "192.0.2.1"\n[listen]\nport = 1\n'):
        (fault,) = check(text).stderr.splitlines()
        assert "did you mean" in fault


def test_what_would_run_is_one_line(check: Check, tmp_path: Path) -> None:
    result = check("[files]\n")
    assert (0, "") == (result.returncode, result.stderr)
    assert f"ok: listens on 127.0.0.1:9020, writes to {tmp_path}/logs\n" == result.stdout
    result = check(
        '[listen]\nhost = "::"\nport = 0\nunix = "x.sock"\n[files]\ndirectory = "a/b"\n[admin]\nport = 1\n'
    )
    assert (0, "") == (result.returncode, result.stderr)
    listens = "ok: listens on any free port of :: and x.sock"
    assert f"{listens}, writes to {tmp_path}/a/b; admin on 127.0.0.1:1\n" == result.stdout


@pytest.mark.quick
def test_beside_a_collector_on_the_same_ports_its_process_is_named(
    make_collector: Callable[..., Collector], tmp_path: Path
) -> None:
    collector = make_collector(f'[listen]\nunix = "{tmp_path}/x.sock"\n[admin]\nport = 0\n').start()
    assert collector.process
    config = collector.config.read_text().replace("port = 0", f"port = {collector.port}", 1)
    collector.config.write_text(config.replace("port = 0", f"port = {collector.admin_port}"))
    kept = {".counts", ".exceptions"}  # by a running collector
    within(5, lambda: kept <= set(os.listdir(collector.directory)))
    before = sorted(os.listdir(collector.directory))
    result = run("check", "-c", str(collector.config))
    assert (0, "") == (result.returncode, result.stderr)
    assert 1 == len(result.stdout.splitlines())
    assert result.stdout.startswith(
        f"ok: listens on 127.0.0.1:{collector.port} and {tmp_path}/x.sock, writes"
    )
    assert result.stdout.endswith(f" has this directory now is process {collector.process.pid}\n")
    assert before == sorted(os.listdir(collector.directory))
    collector.send(make_frame("goes on"))
    within(5, lambda: messages(collector) == ["goes on"])


def test_a_look_at_the_lock_keeps_nobody_from_starting(make_collector: Callable[..., Collector]) -> None:
    collector = make_collector()
    collector.directory.mkdir()
    (collector.directory / ".collector.lock").write_text("1\n")
    looks = [
        subprocess.Popen(
            [sys.executable, "-c", LOOK.format(directory=collector.directory)], stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    try:
        for look in looks:
            assert look.stdout
            look.stdout.readline()
        collector.start()
    finally:
        for look in looks:
            look.kill()
            look.communicate()


LOOK = """
from collector.files.lock import holder
print(flush=True)
while True:
    holder("{directory}")
"""


@pytest.mark.parametrize("kind", ["directory", "link", "fifo"])
def test_a_lock_that_cannot_be_opened_is_a_fault(check: Check, tmp_path: Path, kind: str) -> None:
    lock = tmp_path / "logs" / ".collector.lock"
    lock.parent.mkdir()
    if kind == "directory":
        lock.mkdir()
    elif kind == "link":
        lock.symlink_to("x")
    else:
        os.mkfifo(lock)
    result = check("[files]\n")
    assert 2 == result.returncode
    (fault,) = result.stderr.splitlines()
    assert f"the lock '{lock}' " in fault


@pytest.mark.parametrize("directory", ["/proc/nope/logs", "link"])
def test_a_directory_that_could_not_be_made_is_a_fault(check: Check, tmp_path: Path, directory: str) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    result = check(f'[files]\ndirectory = "{directory}"\n')
    assert 2 == result.returncode
    assert f"cannot write in the directory '{directory}': " in result.stderr


@pytest.mark.parametrize(
    ("there", "why"),
    [
        ("payments", "Not a directory"),
        ("payments/all.log/x", "Is a directory"),
        ("payments -> .", "a symbolic link is on the way"),
        ("payments/all.log -> x", "Too many levels of symbolic links"),
    ],
)
def test_a_file_that_could_not_be_written_is_a_fault(
    check: Check, tmp_path: Path, there: str, why: str
) -> None:
    name, _, target = there.partition(" -> ")
    path = tmp_path / "logs" / name
    path.parent.mkdir(parents=True)
    path.symlink_to(target) if target else path.touch()
    rules = '[[logger]]\nname = "a"\nfile = "payments/all.log"\n[[logger]]\nname = "a.b"\n'
    result = check(rules)
    assert 2 == result.returncode
    (fault,) = result.stderr.splitlines()
    assert fault.startswith(f'collector: [[logger]] "a" file = "payments/all.log": cannot be written: {why}')


def test_files_that_can_be_written_are_no_fault(check: Check, tmp_path: Path) -> None:
    (tmp_path / "logs" / "payments").mkdir(parents=True)
    (tmp_path / "logs" / "payments" / "all.log").touch()
    rules = '[[logger]]\nname = "a"\nfile = "payments/all.log"\n[[logger]]\nname = "b"\nfile = "b/c/d.log"\n'
    result = check(f'[files]\nname = "{{client}}/{{logger}}.log"\n{rules}')
    assert (0, "") == (result.returncode, result.stderr)


@needs_root
@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('[[logger]]\nname = "a"\nfile = "sub/all.log"\n', '[[logger]] "a" file = "sub/all.log"'),
        ('[[logger]]\nname = "a"\nfile = "sub/b/all.log"\n', '[[logger]] "a" file = "sub/b/all.log"'),
        ('[[logger]]\nname = "a"\nfile = "theirs.log"\n', '[[logger]] "a" file = "theirs.log"'),
        ('[files]\nname = "sub/{logger}.log"\n', '[files] name = "sub/{logger}.log"'),
    ],
)
def test_what_belongs_to_somebody_else_is_a_fault(tmp_path: Path, text: str, place: str) -> None:
    logs = tmp_path / "logs"
    (logs / "sub").mkdir(parents=True, mode=0o755)
    (logs / "theirs.log").touch(mode=0o644)
    for path in (logs / "sub", logs / "theirs.log"):
        os.chown(path, NOBODY, NOBODY)
    config = tmp_path / "c.toml"
    config.write_text(text)
    result = subprocess.run(
        [sys.executable, "-m", "collector", "check", "-c", config],
        cwd=tmp_path,
        preexec_fn=bound_by_permissions,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (2, "") == (result.returncode, result.stdout)
    (fault,) = result.stderr.splitlines()
    assert fault.startswith(f"collector: {place}: cannot be written: Permission denied; see ")


@needs_root
@pytest.mark.parametrize("directory", ["", "/below/it"])
def test_a_read_only_volume_is_a_fault(
    check: Check, volumes: Volumes, tmp_path: Path, directory: str
) -> None:
    volumes.tmpfs(tmp_path / "volume", "100k")
    run_or_skip("mount", "-o", "remount,ro", tmp_path / "volume")
    result = check(f'[files]\ndirectory = "{tmp_path}/volume{directory}"\n')
    assert 2 == result.returncode
    assert "Read-only file system; see [files] directory" in result.stderr
    result = check(f'[listen]\nunix = "{tmp_path}/volume/x.sock"\n')
    assert 2 == result.returncode
    assert "Read-only file system; see [listen] unix" in result.stderr


def test_what_is_no_socket_where_the_unix_socket_goes_is_a_fault(check: Check, tmp_path: Path) -> None:
    (tmp_path / "x.sock").touch()
    result = check('[listen]\nunix = "x.sock"\n')
    assert 2 == result.returncode
    assert "cannot listen on x.sock: something else is there; see [listen] unix" in result.stderr
    (tmp_path / "x.sock").unlink()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "x.sock"))
    assert 0 == check('[listen]\nunix = "x.sock"\n').returncode


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ('text = "%(asctime)s"', "has no %(message)s: "),
        ('datefmt = "YYYY-MM-DD"', "has no conversion: "),
    ],
)
def test_a_format_without_the_message_or_the_time_is_a_warning_of_check_and_at_start(
    make_collector: Callable[..., Collector], setting: str, why: str
) -> None:
    collector = make_collector(f"[format]\n{setting}\n")
    warning = f"WARNING [format] {setting}: {why}"
    result = run("check", "-c", str(collector.config))
    assert 0 == result.returncode
    assert result.stderr.startswith(warning)
    assert result.stdout.startswith("ok: ")
    collector.start()
    within(5, lambda: warning in collector.stderr)


DAMAGED = {
    "certificate": ("broken.pem", "a certificate is damaged"),
    "private_key": ("broken.key", "the key is damaged"),
    "client_ca": ("broken.pem", "a certificate is damaged"),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "name", "why"),
    [
        *((key, *damaged) for key, damaged in DAMAGED.items()),
        *((key, "/", "Is a directory") for key in DAMAGED),
        *((key, "empty", "the file is empty") for key in DAMAGED),
        *((key, "der", "in PEM form") for key in DAMAGED),
        ("private_key", "other.key", 'it is not the key of "'),
        ("private_key", "server.pem", "no private key in PEM form"),
        ("certificate", "server.key", "no certificate in PEM form"),
        ("private_key", "encrypted.key", "it has a password"),
        ("private_key", "encrypted8.key", "it has a password"),
    ],
)
def test_the_pem_file_at_fault_is_named_with_the_reason(
    check: Check,
    certificates: Path,
    key: str,
    name: str,
    why: str,
) -> None:
    for kind in ("pem", "key"):
        good = (certificates / f"server.{kind}").read_text()
        (certificates / f"broken.{kind}").write_text(good.replace("\nMI", "\n@@", 1))
    (certificates / "empty").touch()
    openssl(certificates, "x509", "-in", "server.pem", "-outform", "DER", "-out", "der")
    openssl(certificates, "genrsa", "-out", "other.key", "2048")
    encrypt = ("-passout", "pass:secret", "-in", "server.key", "-out")
    openssl(certificates, "rsa", "-aes128", "-traditional", *encrypt, "encrypted.key")
    openssl(certificates, "pkcs8", "-topk8", *encrypt, "encrypted8.key")
    table = tls_table(certificates, f"{certificates}/ca.pem")
    table = re.sub(f"(?m)^{key} = .*$", f'{key} = "{certificates / name}"', table)
    result = check(table)
    assert 2 == result.returncode
    (fault,) = result.stderr.splitlines()
    assert f'[listen.tls] {key} = "{certificates / name}" cannot be loaded: ' in fault
    assert why in fault


def test_a_pem_file_that_is_none_is_named_and_not_waited_for(check: Check, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.pem")
    (tmp_path / "a.key").mkdir()
    result = check('[listen]\nport = 0\n[listen.tls]\ncertificate = "a.pem"\nprivate_key = "a.key"\n')
    assert 2 == result.returncode
    assert 'certificate = "a.pem" cannot be loaded: not a regular file' in result.stderr
    assert 'private_key = "a.key" cannot be loaded: ' in result.stderr


@pytest.mark.parametrize("host", ["*", "a/b", "user@host"])
def test_what_can_be_no_host_is_refused_and_not_looked_up(check: Check, host: str) -> None:
    (fault,) = check(f'[listen]\nhost = "{host}"\n').stderr.splitlines()
    assert "must be an IP address or a host name" in fault


# --- the spool and destinations ---


def test_what_is_wrong_at_destinations_are_warnings_of_each(check: Check, tmp_path: Path) -> None:
    with BulkServer() as server:
        tables = destination(server.url, "fine") + destination(NOWHERE, "down")
        tables += destination(server.url, "pipe", 'pipeline = "clean"')
        tables += destination(server.url, "secret", f'api_key_file = "{tmp_path}/none"')
        result = check(f"[spool]\n{tables}")

    assert (0, f"ok: listens on 127.0.0.1:9020, writes to {tmp_path}/logs\n") == (
        result.returncode,
        result.stdout,
    )
    down, pipe, secret = result.stderr.splitlines()
    assert f'WARNING [[forward]] "down": {NOWHERE}: [Errno 111] Connection refused' == down
    assert pipe.startswith(f'WARNING [[forward]] "pipe": {server.url}: pipeline = clean: there is none; ')
    assert secret.startswith('WARNING [[forward]] "secret": ')
    assert f"{tmp_path}/none" in secret
    assert not any("_bulk" in asked.path for asked in server.asked), "nothing is sent"


def test_destinations_that_do_not_answer_are_tried_all_at_once(check: Check) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        begun = time.monotonic()
        result = check("[spool]\n" + "".join(destination(url, f"silent{number}") for number in range(5)))
        took = time.monotonic() - begun

    assert 0 == result.returncode
    assert [f'WARNING [[forward]] "silent{number}"' for number in range(5)] == [
        line.partition(": ")[0] for line in result.stderr.splitlines()
    ]
    assert took < 15, "each would take five seconds"


def test_no_destination_is_tried_that_has_a_fault(check: Check) -> None:
    table = destination(NOWHERE, more="batch_records = 0")
    (fault,) = check(f"[spool]\n{table}").stderr.splitlines()
    assert "batch_records = 0: " in fault


@pytest.mark.parametrize("directory", ["/proc/nope/spool", "file/spool", "file"])
def test_a_spool_that_could_not_be_made_is_a_fault(check: Check, tmp_path: Path, directory: str) -> None:
    (tmp_path / "file").touch()
    with BulkServer() as server:
        result = check(f'[spool]\ndirectory = "{directory}"\n{destination(server.url)}')

    assert 2 == result.returncode
    (fault,) = result.stderr.splitlines()
    assert fault.startswith(f"collector: cannot write in the spool '{directory}': ")
    assert fault.endswith("; see [spool] directory, and who owns it")


def test_a_directory_that_cannot_be_written_is_one_fault_with_the_spool_in_it(
    check: Check, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with BulkServer() as server:
        result = check(f'[files]\ndirectory = "file/logs"\n[spool]\n{destination(server.url)}')

    (fault,) = result.stderr.splitlines()
    assert "see [files] directory" in fault


def test_the_spool_of_another_collector_is_a_fault_and_its_own_is_none(
    make_collector: Callable[..., Collector], tmp_path: Path
) -> None:
    with BulkServer() as server:
        table = f'[spool]\ndirectory = "{tmp_path}/spool"\n{destination(server.url)}'
        collector = make_collector(table).start()
        within(5, (tmp_path / "spool" / ".collector.lock").exists)
        own = run("check", "-c", str(collector.config))
        other = run_beside(tmp_path, table)

    assert (0, "") == (own.returncode, own.stderr)
    assert collector.process
    assert 2 == other.returncode
    assert (
        f"collector: the spool '{tmp_path}/spool' is that of process {collector.process.pid}; "
        "see [spool] directory: each collector has a spool of its own\n"
    ) == other.stderr


def run_beside(home: Path, config: str) -> subprocess.CompletedProcess[str]:
    """Check *config* for a collector with other log files."""
    (home / "other").mkdir()
    path = home / "other" / "c.toml"
    path.write_text(f'[files]\ndirectory = "{home}/other/logs"\n{config}')
    return run("check", "-c", str(path))


# --- a record to each destination ---


def verdicts(result: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Return what is said of each destination, by its name."""
    said = [re.match(r'\[\[forward\]\] "(.*?)": (.*)', line) for line in result.stdout.splitlines()[1:]]
    return {one[1]: one[2] for one in said if one}


def test_one_record_is_sent_to_each_and_its_verdict_is_told(check: Check) -> None:
    with BulkServer() as server:
        tables = destination(server.url, "one") + destination(server.url, "two", 'loggers = ["payments"]')
        result = check(f"[spool]\n{tables}", "--send")

    assert 0 == result.returncode, result.stdout + result.stderr
    assert result.stdout.startswith("ok: ")
    stored = {key: text for (index,) in [server.documents.values()] for key, text in index.items()}
    assert 2 == len(stored)
    ids = {name: text.removesuffix(" is stored") for name, text in verdicts(result).items()}
    assert ["one", "two"] == list(ids)
    assert sorted(ids.values()) == sorted(stored)
    assert all(re.fullmatch("[0-9a-f]{16}-check-[0-9a-f]{16}", each) for each in stored)
    (document, _) = stored.values()
    assert ("a record of collector check --send", "info", "collector") == (
        document["message"],
        document["log"]["level"],
        document["log"]["logger"],
    )
    assert time.time() - 60 < datetime.fromisoformat(document["@timestamp"][:-1] + "+00:00").timestamp()


@pytest.mark.slow
def test_beside_a_collector_and_its_forwarder_it_has_the_collectors_id_and_is_in_no_count(
    make_collector: Callable[..., Collector],
) -> None:
    with BulkServer() as server:
        collector = make_collector(f"[spool]\n{destination(server.url)}").start()
        spool = collector.directory / ".spool"
        collector.send(make_frame("the first"))
        within(15, lambda: told(spool).get("shipped"))
        before = sorted(os.listdir(spool))
        result = run("check", "-c", str(collector.config), "--send")
        assert (0, "") == (result.returncode, result.stderr)
        assert sorted(os.listdir(spool)) == before
        collector.send(make_frame("the second"))
        within(15, lambda: told(spool)["shipped"] == 2)
        assert 2 == told(spool)["numbered"]
        collector_id = (spool / "id").read_text().strip()
        (index,) = server.documents.values()
        assert 3 == len(index)
        assert [True] == [key.startswith(f"{collector_id}-check-") for key in index if "check" in key]


def test_a_verdict_other_than_stored_is_exit_code_1(check: Check, tmp_path: Path) -> None:
    with BulkServer() as server:
        server.errors["check --send"] = 400, {"type": "mapper_parsing_exception", "reason": "no"}
        tables = destination(server.url, "refused") + destination(NOWHERE, "down")
        tables += destination(server.url, "secret", f'api_key_file = "{tmp_path}/none"')
        result = check(f"[spool]\n{tables}", "--send")

    assert 1 == result.returncode
    said = verdicts(result)
    assert said["refused"].endswith(" is refused: mapper_parsing_exception")
    assert f" is not stored: {NOWHERE}: [Errno 111] Connection refused" in said["down"]
    assert " is not stored, the destination holds: " in said["secret"]
    assert f"{tmp_path}/none" in said["secret"]


@pytest.mark.slow
def test_rsyslog_writes_the_record_that_it_is_sent(tmp_path: Path) -> None:
    home = tmp_path / "rsyslog"
    home.mkdir()
    with Rsyslog(home) as server:
        file = tmp_path / "logs.toml"
        address = f'address = "127.0.0.1:{server.relp}"'
        file.write_text(f'[spool]\n[[forward]]\nname = "siem"\ntype = "relp"\n{address}\n')
        result = run("check", "-c", str(file), "--send")
        assert 0 == result.returncode, result.stdout + result.stderr
        assert "a record of collector check --send" in server.out.read_text()
        assert verdicts(result)["siem"].removesuffix(" is stored") in server.out.read_text()


def test_a_destination_that_hangs_has_no_verdict_after_five_seconds(check: Check) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        result = check(f"[spool]\n{destination(f'http://127.0.0.1:{silent.getsockname()[1]}')}", "--send")
        took = time.monotonic() - begun

    assert 1 == result.returncode
    assert re.search("timed out|no answer within 5 s", verdicts(result)["elk"])
    assert took < 20


def test_where_there_is_a_fault_nothing_is_sent(check: Check) -> None:
    with BulkServer() as server:
        result = check(f"[spool]\n{destination(server.url)}[files]\nmode = 8\n", "--send")

    assert (2, "") == (result.returncode, result.stdout)
    assert not any("_bulk" in asked.path for asked in server.asked)


def test_without_a_destination_there_is_nobody_to_send_to(check: Check, tmp_path: Path) -> None:
    result = check("[files]\n", "--send")
    assert (2, "") == (result.returncode, result.stdout)
    text = "no table [[forward]]: there is nobody to send to; add one"
    assert f"{tmp_path}/c.toml: {text}\n" == result.stderr
