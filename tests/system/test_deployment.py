"""The examples under etc/ are what their readers take them for: they parse, and name the right ports."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import toml

from collector.config.load import load
from collector.config.tables import Admin, Listen
from tests.support.admin import ADMIN, ask
from tests.support.places import ETC, HOME
from tests.support.texts import inline

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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


# --- the service of a destination ---

UNITS = ("collector.service", "collector.socket", "collector-forward@.service")
MAX_EXPOSURE = 1.5
"""Of 10, as `systemd-analyze security` reckons it."""
# What is each one's own; the rest of [Service] is who it runs as, and how it is confined.
OWN = {"ExecStart", "LimitNOFILE", "WatchdogSec"}


def unit(name: str) -> dict[str, dict[str, str]]:
    """Return the sections of a unit, in which no key comes twice."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign] # keys as they are
    parser.read_string((ETC / name).read_text(encoding="utf-8"))
    return {section: dict(parser[section]) for section in parser.sections()}


def test_a_forwarder_runs_as_the_collector_does_and_is_confined_like_it() -> None:
    collector, forwarder = (unit(name)["Service"] for name in ("collector.service", UNITS[2]))

    assert {"User", "DynamicUser", "LogsDirectory", "ProtectSystem"} <= collector.keys() - OWN
    assert {key: value for key, value in collector.items() if key not in OWN} == {
        key: value for key, value in forwarder.items() if key not in OWN
    }
    assert int(forwarder["TimeoutStopSec"]) > DRAIN_SECONDS


def test_a_forwarder_comes_and_goes_with_the_collector_and_ends_after_it() -> None:
    of_unit = unit(UNITS[2])["Unit"]

    assert {"collector.service"} == {of_unit[key] for key in ("Before", "PartOf", "ReloadPropagatedFrom")}
    assert {"WantedBy": "collector.service"} == unit(UNITS[2])["Install"]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
@pytest.mark.parametrize(
    "arguments",
    [("verify",), ("security", "--offline=yes", f"--threshold={MAX_EXPOSURE * 10:.0f}")],
    ids=["valid", "confined"],
)
@pytest.mark.parametrize("name", ["collector.service", "collector-forward@elk.service"])
def test_the_units_are_valid_and_confined(tmp_path: Path, name: str, arguments: tuple[str, ...]) -> None:
    for one in UNITS:
        text = (ETC / one).read_text(encoding="utf-8").replace("/usr/local/bin/collector", sys.executable)
        (tmp_path / one.replace("@", "@elk")).write_text(text, encoding="utf-8")
    ended = subprocess.run(
        ["systemd-analyze", *arguments, tmp_path / name],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert (0, "") == (ended.returncode, ended.stderr), ended.stdout


def test_systemd_is_told_how_each_service_stands_and_waits_for_signs_of_life() -> None:
    for name in ("collector.service", UNITS[2]):
        service = unit(name)["Service"]
        assert "notify" == service["Type"]
        assert int(service["WatchdogSec"]) >= 30


def test_the_image_has_all_extras_but_those_of_tests() -> None:
    extras = toml.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    dockerfile = (HOME / "Dockerfile").read_text(encoding="utf-8")

    installed = [
        set(names.split(",")) for names in re.findall(r"'(?:\.|gevent-collector)\[([a-z,]+)\]'", dockerfile)
    ]
    assert [extras.keys() - {"test"}] * 2 == installed
