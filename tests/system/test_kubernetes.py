"""etc/kubernetes.yaml: what a cluster takes it for, and what the collector makes of it."""

from __future__ import annotations

import http.client
import itertools
import signal
import socket
import threading
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from collector.admin.queries import MAX_QUERIES
from collector.config.load import load
from collector.config.tables import Admin, Config, Listen
from tests.support.admin import stats
from tests.support.environments import environment
from tests.support.frames import make_frame
from tests.support.places import ETC
from tests.support.pythons import run
from tests.support.reserve import MiB
from tests.support.volumes import needs_root
from tests.support.waiting import within

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from tests.support.collectors import Collector

FILE = ETC / "kubernetes.yaml"
# The one with PodDisruptionBudget's unhealthyPodEvictionPolicy, and the newest that the package has.
OLDEST = "1.27"
VALIDATOR = "kubernetes-validate>=1.37"
SEARCH_BYTES = 128 * MiB
FORWARDER_BYTES = 80 * MiB
SLOW_CLIENTS = 200
FLOODS = 8


def documents() -> dict[str, dict[str, Any]]:
    found = yaml.safe_load_all(FILE.read_text(encoding="utf-8"))
    return {one["kind"]: one for one in found}


KINDS = documents()
POD: dict[str, Any] = KINDS["StatefulSet"]["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
CONFIG: str = KINDS["ConfigMap"]["data"]["collector.toml"]
PROBES = [CONTAINER[f"{kind}Probe"] for kind in ("readiness", "liveness")]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Return the configuration of the ConfigMap."""
    (tmp_path / "collector.toml").write_text(CONFIG)
    return load(tmp_path / "collector.toml")


def of_a_pod(more: str = "") -> str:
    """Return the configuration of the ConfigMap, with more of [listen], for any directory and ports."""
    own = CONFIG.replace('directory = "/var/log/collector"\n', "")
    return own.replace("[listen]\n", f"[listen]\n{more}").replace("[admin]\n", "[admin]\nport = 0\n")


def quantity(text: str) -> int:
    """Return a quantity of memory or storage, in bytes."""
    units = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
    return int(text[:-2]) * units[text[-2:]]


# --- as it stands ---


def validate(config: pytest.Config, file: Path, *options: str) -> subprocess.CompletedProcess[str]:
    python = environment(config, "3.12", [VALIDATOR])
    return run(python, "-m", "kubernetes_validate", "--strict", *options, file)


@pytest.mark.slow
@pytest.mark.parametrize("version", [(), ("-k", OLDEST)], ids=["the newest", OLDEST])
def test_the_schemas_of_kubernetes_take_it(version: tuple[str, ...], pytestconfig: pytest.Config) -> None:
    ended = validate(pytestconfig, FILE, *version)
    assert 0 == ended.returncode, ended.stderr
    assert len(KINDS) == ended.stdout.count(" passed for resource "), "each of its documents"


@pytest.mark.slow
def test_the_schemas_of_kubernetes_refuse_a_misspelt_key(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(FILE.read_text(encoding="utf-8").replace("maxUnavailable:", "maxUnavailble:"))
    ended = validate(pytestconfig, wrong)
    assert (1, True) == (ended.returncode, "maxUnavailble" in ended.stdout + ended.stderr)


def test_all_speak_of_the_same_pod() -> None:
    labels = KINDS["StatefulSet"]["spec"]["template"]["metadata"]["labels"]
    assert {"app": "collector"} == labels
    assert labels == KINDS["Service"]["spec"]["selector"]
    assert [{"matchLabels": labels}] * 3 == [
        KINDS["StatefulSet"]["spec"]["selector"],
        KINDS["PodDisruptionBudget"]["spec"]["selector"],
        KINDS["NetworkPolicy"]["spec"]["podSelector"],
    ]


def test_it_has_the_ports_of_the_collector_on_every_address_of_either_family(config: Config) -> None:
    ports = {"records": Listen().port, "admin": Admin().port}
    assert config.admin
    assert ports == {"records": config.listen.port, "admin": config.admin.port}
    assert ["::", "::"] == [config.listen.host, config.admin.host]
    assert ports == {port["name"]: port["port"] for port in KINDS["Service"]["spec"]["ports"]}
    assert ports == {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    assert "PreferDualStack" == KINDS["Service"]["spec"]["ipFamilyPolicy"]
    assert KINDS["Service"]["metadata"]["name"] in config.admin.names, "else it would not answer to that"


def test_it_leaves_time_to_drain(config: Config) -> None:
    assert POD["terminationGracePeriodSeconds"] > config.listen.drain_seconds


def test_the_pod_is_as_restricted_as_the_strictest_standard_of_kubernetes_wants() -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted."""
    own = CONTAINER["securityContext"]
    assert (False, {"drop": ["ALL"]}) == (own["allowPrivilegeEscalation"], own["capabilities"])
    assert (True, "RuntimeDefault") == (
        POD["securityContext"]["runAsNonRoot"],
        POD["securityContext"]["seccompProfile"]["type"],
    )
    assert {"configMap", "emptyDir"} == {kind for volume in POD["volumes"] for kind in volume} - {"name"}


def test_log_files_and_spool_lie_on_a_persistent_volume_that_holds_both(config: Config) -> None:
    (claim,) = KINDS["StatefulSet"]["spec"]["volumeClaimTemplates"]
    mounts = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    assert config.spool
    assert mounts[claim["metadata"]["name"]] == config.files.directory
    assert "" == config.spool.directory, ".spool below that of the log files"
    # In use is what retention deletes nothing of: a tenth is for that.
    taken = config.retention.max_total_bytes + config.spool.max_bytes
    assert 0.75 < taken / quantity(claim["spec"]["resources"]["requests"]["storage"]) < 0.9


def test_applications_may_send_and_prometheus_alone_may_read() -> None:
    policy = KINDS["NetworkPolicy"]["spec"]
    applications, prometheus = policy["ingress"]
    assert ["Ingress", "Egress"] == policy["policyTypes"]
    assert [{"port": "records"}] == applications["ports"]
    assert [{"podSelector": {}}] == applications["from"]
    assert [{"port": "admin"}] == prometheus["ports"]
    assert ["namespaceSelector"] == [kind for one in prometheus["from"] for kind in one]
    assert "egress" not in policy


def test_nobody_drains_the_node_of_a_collector_that_is_well() -> None:
    budget = KINDS["PodDisruptionBudget"]["spec"]
    assert (0, "AlwaysAllow") == (budget["maxUnavailable"], budget["unhealthyPodEvictionPolicy"])


# --- resources ---


def memory(collector: Collector) -> int:
    """Return what all processes of a collector take, in bytes (proc_pid_smaps(5))."""
    assert collector.process
    rollups = [
        Path(f"/proc/{process}/smaps_rollup").read_text()
        for process in (collector.process.pid, *collector.children)
    ]
    return sum(int(text.split("\nPss:")[1].split()[0]) * 1024 for text in rollups)


def test_the_limit_on_memory_has_room_for_all_that_has_a_limit_of_its_own(config: Config) -> None:
    limit, request = (quantity(CONTAINER["resources"][kind]["memory"]) for kind in ("limits", "requests"))
    # The spool's share of the reserve is a sixteenth; see test_a_full_reserve_fits_into_the_memory_requested.
    reserve = config.listen.max_buffered_bytes * 17 // 16
    assert limit >= reserve + MAX_QUERIES * SEARCH_BYTES + FORWARDER_BYTES + 100 * MiB
    assert request >= reserve + 100 * MiB


@pytest.mark.slow
@needs_root
def test_a_full_reserve_fits_into_the_memory_requested(start_full: Callable[[str], Collector]) -> None:
    destination = '[[forward]]\nname = "elk"\ntype = "syslog"\naddress = "127.0.0.1:1"\n'
    collector = start_full(of_a_pod() + destination)
    frames = b"".join(make_frame("x" * 300, f"app.{number % 20}") for number in range(5000))
    full = threading.Event()

    def flood() -> None:
        with suppress(OSError), collector.connect() as client:
            while not full.is_set():
                client.sendall(frames)

    floods = [threading.Thread(target=flood) for _ in range(FLOODS)]
    for thread in floods:
        thread.start()
    try:
        within(60, lambda: stats(collector)["reserve"]["not_reading_seconds"] > 0, "the reserve is full")
        taken, held = memory(collector), stats(collector)["reserve"]["bytes"]
    finally:
        full.set()
        collector.stop(signal.SIGKILL)
        for thread in floods:
            thread.join()
    print(f"{held // MiB} MiB in the reserve, {taken // MiB} MiB in all")
    # What a single disk can fill is half of the reserve.
    half = Listen().max_buffered_bytes // 2
    assert held > half * 0.9
    assert taken + half < quantity(CONTAINER["resources"]["requests"]["memory"])


# --- probes ---


def is_answered(probe: dict[str, Any], host: str, port: int) -> bool:
    """Ask as the kubelet does: a connection each time, and a deadline for the whole."""
    begun = time.monotonic()
    connection = http.client.HTTPConnection(host, port, timeout=probe["timeoutSeconds"])
    with closing(connection):
        connection.request("GET", probe["httpGet"]["path"], headers={"Connection": "close"})
        status = connection.getresponse().status
    return status == 200 and time.monotonic() < begun + probe["timeoutSeconds"]


def addresses(port: int) -> list[str]:
    """Return the addresses of loopback at which a port answers."""
    found = []
    for host in ("127.0.0.1", "::1"):
        with suppress(OSError):
            socket.create_connection((host, port), timeout=5).close()
            found.append(host)
    return found


@pytest.mark.slow
def test_the_probes_succeed_beside_slow_connections(make_collector: Callable[..., Collector]) -> None:
    collector = make_collector(of_a_pod("max_clients = 10\n")).start()
    port = collector.admin_port
    with ExitStack() as slow:
        for to, said in itertools.product((collector.port, port), (b"", b"\0", b"GET /readyz HT")):
            for _ in range(SLOW_CLIENTS):
                client = slow.enter_context(socket.create_connection(("127.0.0.1", to), timeout=10))
                client.sendall(said)
        within(10, lambda: stats(collector)["clients"]["now"] == 10, "no more are let in")
        hosts = addresses(port)
        assert hosts
        assert [] == [
            (probe["httpGet"]["path"], host)
            for probe, host in itertools.product(PROBES * 10, hosts)
            if not is_answered(probe, host, port)
        ]


def test_the_probes_ask_whether_it_drains_and_not_whether_a_disk_is_well() -> None:
    assert [{"path": "/readyz", "port": "admin"}] * 2 == [probe["httpGet"] for probe in PROBES]
