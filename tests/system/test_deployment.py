"""The examples under etc/ are what their readers take them for: they parse, and name the right ports."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import pytest
import toml

from collector.config.load import load
from collector.config.tables import Admin, Listen
from tests.support.admin import ADMIN, ask
from tests.support.places import ETC, HOME
from tests.support.prometheus import Prometheus, need
from tests.support.pythons import run
from tests.support.texts import inline
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.collectors import Collector

yaml: Any = pytest.importorskip("yaml", reason="PyYAML comes with the extra `test`")

DRAIN_SECONDS = load(None).listen.drain_seconds


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((ETC / name).read_text(encoding="utf-8")))


# --- compose ---

# Of https://github.com/compose-spec/compose-spec/blob/main/schema/compose-spec.json, what the example uses.
TEXTS, NAMES = [str], {str: str}
OF_COMPOSE = {
    "name": str,
    "services": {
        str: {
            **dict.fromkeys(("build", "hostname", "image", "restart", "stop_grace_period"), str),
            **dict.fromkeys(("cap_drop", "ports", "security_opt", "tmpfs", "volumes"), TEXTS),
            "configs": [{"source": str, "target": str}],
            "environment": NAMES,
            "read_only": bool,
        }
    },
    "configs": {str: {"content": str, "file": str}},
    "volumes": {str: None},
}
(COMPOSE,) = documents("compose.yaml")
SERVICES = COMPOSE["services"]


def wrong(value: object, form: Any, where: str = "") -> list[str]:
    """Return the places of *value* that are not of a form: a type, or a list or a mapping of forms."""
    if isinstance(form, list) and isinstance(value, list):
        return [fault for one in value for fault in wrong(one, form[0], where)]
    if not isinstance(form, dict) or not isinstance(value, dict):
        fits = value is None if form is None else isinstance(form, type) and isinstance(value, form)
        return [] if fits else [f"{where}: {value!r}"]
    return [
        fault
        for key, one in value.items()
        for fault in (
            wrong(one, form.get(key, form.get(str)), f"{where}.{key}")
            if key in form or str in form
            else [f"{where}.{key}: unknown"]
        )
    ]


def content(name: str) -> Any:
    return yaml.safe_load(COMPOSE["configs"][name]["content"])


def test_compose_has_keys_that_compose_knows_with_values_of_their_types() -> None:
    assert [] == wrong(COMPOSE, OF_COMPOSE)


def test_a_wrong_key_or_type_would_be_found() -> None:
    web = {"image": 1, "prots": ["80:80"], "read_only": "yes", "volumes": [{}]}
    assert [".image: 1", ".prots: unknown", ".read_only: 'yes'", ".volumes: {}"] == [
        fault.removeprefix(".services.web") for fault in wrong({"services": {"web": web}}, OF_COMPOSE)
    ]


def test_compose_publishes_all_ports_on_this_machine_only_and_leaves_time_to_drain() -> None:
    ports = {"collector": (Listen().port, Admin().port), "prometheus": (9090,), "grafana": (3000,)}
    assert {
        name: [f"127.0.0.1:{port}:{port}" for port in all_of_it] for name, all_of_it in ports.items()
    } == {name: service["ports"] for name, service in SERVICES.items()}
    assert int(SERVICES["collector"]["stop_grace_period"].removesuffix("s")) > DRAIN_SECONDS


def test_compose_declares_each_volume_and_configuration_that_it_uses() -> None:
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())}
    assert used == COMPOSE["volumes"].keys()
    sources = [one["source"] for service in SERVICES.values() for one in service.get("configs", ())]
    assert sorted(sources) == sorted(COMPOSE["configs"])
    files = [ETC / one["file"] for one in COMPOSE["configs"].values() if "file" in one]
    assert [ETC / "alerts.yml", ETC / "grafana.json"] == [file for file in files if file.is_file()]
    (rules,) = [one["target"] for one in SERVICES["prometheus"]["configs"] if one["source"] == "alerts"]
    assert [PurePosixPath(rules).name] == content("scrape")["rule_files"]


def test_compose_pins_what_is_not_built_here() -> None:
    images = [service["image"] for service in SERVICES.values() if "build" not in service]
    assert [] == [image for image in images if not re.fullmatch(r"[\w/]+:v?\d+\.\d+\.\d+", image)]


def test_prometheus_in_compose_scrapes_a_name_that_the_collector_serves() -> None:
    (scrape,) = content("scrape")["scrape_configs"]
    hostname = SERVICES["collector"]["hostname"]
    assert [{"targets": [f"{hostname}:{Admin().port}"]}] == scrape["static_configs"]


def test_grafana_in_compose_asks_that_prometheus_and_shows_the_dashboard() -> None:
    (source,) = content("datasource")["datasources"]
    assert ("prometheus", "http://prometheus:9090") == (source["type"], source["url"])
    (scrape,) = content("scrape")["scrape_configs"]
    assert scrape["scrape_interval"] == source["jsonData"]["timeInterval"], "for $__rate_interval"
    (provider,) = content("dashboards")["providers"]
    (shown,) = [one["target"] for one in SERVICES["grafana"]["configs"] if one["source"] == "dashboard"]
    assert provider["options"]["path"] == str(PurePosixPath(shown).parent)
    assert shown == SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]


# --- Prometheus ---


@pytest.mark.parametrize("where", ["etc/prometheus.yml", "etc/compose.yaml"])
def test_prometheus_takes_its_configuration(where: str, tmp_path: Path) -> None:
    need("promtool")
    path = tmp_path / "prometheus.yml"
    text = COMPOSE["configs"]["scrape"]["content"]
    shutil.copy(ETC / "alerts.yml", tmp_path)
    path.write_text(text if where == "etc/compose.yaml" else (HOME / where).read_text(encoding="utf-8"))
    ended = run("promtool", "check", "config", str(path))
    assert 0 == ended.returncode, ended.stderr


@pytest.mark.slow
def test_prometheus_gives_the_token_as_its_example_has_it(
    make_collector: Callable[..., Collector], tmp_path: Path
) -> None:
    pytest.importorskip("prometheus_client", reason="without the extra `metrics`")
    collector = make_collector(f'{ADMIN}token = "secret"\n').start()
    example = (ETC / "prometheus.yml").read_text(encoding="utf-8")
    with_token = re.sub(r"(?m)^    # (authorization:|  credentials_file: )", r"    \1", example)
    port = f"127.0.0.1:{collector.admin_port}"
    config = tmp_path / "prometheus.yml"
    config.write_text(with_token.replace("127.0.0.1:9021", port).replace("15s", "250ms"))
    (tmp_path / "collector.token").write_text("secret\n")
    with Prometheus(tmp_path, config) as prometheus:
        within(20, lambda: prometheus.values("up") == [1])


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
