"""The examples under etc/ are what their readers take them for: they parse, and name the right ports."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from collector.config.load import load
from collector.config.tables import Admin, Listen
from tests.support.admin import ADMIN, ask
from tests.support.image import healthcheck
from tests.support.places import ETC
from tests.support.texts import inline

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.collectors import Collector

yaml: Any = pytest.importorskip("yaml", reason="PyYAML comes with the extra `test`")

DRAIN_SECONDS = load(None).listen.drain_seconds


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((ETC / name).read_text(encoding="utf-8")))


def test_compose_publishes_both_ports_on_this_machine_only_and_leaves_time_to_drain() -> None:
    (compose,) = documents("compose.yaml")
    service = compose["services"]["collector"]

    assert [f"127.0.0.1:{port}:{port}" for port in (Listen().port, Admin().port)] == service["ports"]
    assert int(service["stop_grace_period"].removesuffix("s")) > DRAIN_SECONDS
    assert {volume.split(":")[0] for volume in service["volumes"]} == compose["volumes"].keys()


def test_prometheus_in_compose_scrapes_a_name_that_the_collector_serves() -> None:
    (compose,) = documents("compose.yaml")
    scrape = yaml.safe_load(compose["configs"]["scrape"]["content"])["scrape_configs"][0]

    hostname = compose["services"]["collector"]["hostname"]
    assert [{"targets": [f"{hostname}:{Admin().port}"]}] == scrape["static_configs"]


def test_kubernetes_has_the_ports_the_probes_and_time_to_drain() -> None:
    service, stateful_set = documents("kubernetes.yaml")
    pod = stateful_set["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    ports = {"records": Listen().port, "admin": Admin().port}
    assert ports == {port["name"]: port["port"] for port in service["spec"]["ports"]}
    assert ports == {port["name"]: port["containerPort"] for port in container["ports"]}
    assert {"/readyz"} == {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("readiness", "liveness")}
    assert pod["terminationGracePeriodSeconds"] > DRAIN_SECONDS
    assert "PreferDualStack" == service["spec"]["ipFamilyPolicy"]
    assert service["spec"]["selector"] == stateful_set["spec"]["template"]["metadata"]["labels"]


def test_the_scrape_example_asks_the_default_admin_port() -> None:
    (prometheus,) = documents("prometheus.yml")

    (scrape,) = prometheus["scrape_configs"]
    assert [{"targets": [f"{Admin().host}:{Admin().port}"]}] == scrape["static_configs"]


def test_the_containers_healthcheck_asks_the_port_of_its_configuration() -> None:
    admin = load(ETC / "container.toml").admin

    assert admin is not None
    assert [(str(admin.port), "/healthz")] == re.findall(r"port = (\d+).*'(/\w+)'", healthcheck()[-1])


def test_the_container_listens_on_every_address_of_either_family() -> None:
    config = load(ETC / "container.toml")

    assert config.admin
    assert ["::", "::"] == [config.listen.host, config.admin.host]


@pytest.mark.slow
def test_every_metric_to_alert_on_in_the_manual_exists(make_collector: Callable[..., Collector]) -> None:
    pytest.importorskip("prometheus_client", reason="without the extra `metrics`")
    literals = "\n".join(inline("docs/operate.rst"))
    named = set(re.findall(r"^(collector_\w+?)(?:\{[\w,]+\})?$", literals, re.MULTILINE))
    destination = '[[forward]]\nname = "elk"\ntype = "syslog"\naddress = "127.0.0.1:1"\n'
    collector = make_collector(f"{ADMIN}[spool]\n{destination}").start()
    served = set(re.findall(r"^# TYPE (\S+)", ask(collector, "/metrics")[2], re.MULTILINE))

    assert len(named) > 30
    assert set() == named - served
