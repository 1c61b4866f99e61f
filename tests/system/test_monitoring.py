"""The dashboard and the alerts, asked of a real Prometheus that scrapes a collector in trouble."""

from __future__ import annotations

import itertools
import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import yaml
from docutils import nodes

from tests.support.admin import ADMIN
from tests.support.bulk_server import BulkServer, Reply
from tests.support.collectors import Collector
from tests.support.destinations import NOBODY, destination
from tests.support.frames import make_frame
from tests.support.places import ETC
from tests.support.prometheus import Prometheus, need
from tests.support.pythons import run
from tests.support.texts import document, inline
from tests.support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DASHBOARD: dict[str, Any] = json.loads((ETC / "grafana.json").read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
VARIABLES = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
COLUMNS = 24
# Until a forwarder is sure of what it has sent, and a destination holds.
SECONDS = 30
MAX_FRAME_BYTES = 65_536
# As Grafana would: all the time there is, so that no query depends on when it is asked.
FILLED_IN = {"$__rate_interval": "5m", "$__range": "5m"}
REFUSED = {"type": "mapper_parsing_exception", "reason": "no number"}


class Target(NamedTuple):
    """A query of a panel."""

    panel: str
    query: str
    legend: str

    def filled_in(self, instance: str) -> str:
        """Return the query as Grafana sends it, for one collector."""
        query = self.query.replace("$instance", re.escape(instance).replace("\\", "\\\\"))
        for variable, value in FILLED_IN.items():
            query = query.replace(variable, value)
        return query


TARGETS = [
    Target(panel["title"], target["expr"], target["legendFormat"])
    for panel in PANELS
    for target in panel.get("targets", ())
]


# --- as it stands ---


def test_no_panel_lies_on_another_and_each_says_what_it_shows() -> None:
    cells = [
        (column, line)
        for at in (panel["gridPos"] for panel in PANELS)
        for column, line in itertools.product(
            range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])
        )
    ]
    assert len(cells) == len(set(cells))
    assert max(column for column, _ in cells) < COLUMNS
    assert len(PANELS) == len({panel["id"] for panel in PANELS})
    assert [] == [
        panel["title"]
        for panel in PANELS
        if panel["type"] != "row" and not panel["description"].endswith(".")
    ]


def test_what_is_wrong_now_comes_first() -> None:
    first = [panel["title"] for panel in PANELS if panel["gridPos"]["y"] == 0]
    assert {"stat"} == {panel["type"] for panel in PANELS[: len(first)]}
    assert ["Answers", "Healthy", "Records lost"] == first[:3]


def test_every_query_asks_the_chosen_prometheus_of_the_chosen_collectors() -> None:
    sources = [panel["datasource"] for panel in PANELS if panel["type"] != "row"]
    assert [{"type": "prometheus", "uid": "${datasource}"}] * len(sources) == sources
    assert {"datasource", "instance"} == VARIABLES.keys()
    chosen = '{instance=~"$instance"'
    asked = [(one.query.count("collector_") + one.query.count("process_"), one) for one in TARGETS]
    assert [] == [one for metrics, one in asked if one.query.count(chosen) != max(metrics, 1)]


def test_the_dashboard_shows_each_metric_that_the_manual_says_to_alert_on() -> None:
    literals = "\n".join(inline("docs/operate.rst"))
    to_alert_on = set(re.findall(r"^(collector_\w+?)(?:\{[\w,]+\})?$", literals, re.MULTILINE))
    assert len(to_alert_on) > 30
    assert set() == to_alert_on - set(re.findall(r"collector_\w+", "\n".join(one.query for one in TARGETS)))


# --- asked ---


class Scene(NamedTuple):
    """A collector in trouble, and the Prometheus that has seen it come."""

    prometheus: Prometheus
    instance: str


def scrape_of(collector: Collector, home: Path) -> Path:
    """Return etc/prometheus.yml, for this collector and for somebody in a hurry."""
    config = yaml.safe_load((ETC / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] = dict.fromkeys(("scrape_interval", "evaluation_interval"), "250ms")
    config["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{collector.admin_port}"]}]
    at_once = re.sub(r"(?m)^ +for: .*\n", "", (ETC / "alerts.yml").read_text(encoding="utf-8"))
    (home / "alerts.yml").write_text(at_once)
    path = home / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, certificates: Path) -> Iterator[Scene]:
    pytest.importorskip("prometheus_client", reason="without the extra `metrics`")
    need("prometheus")
    home = tmp_path_factory.mktemp("scene")
    with BulkServer(certificates) as takes, BulkServer() as holds:
        takes.errors["poison"] = (400, REFUSED)
        holds.instead["_bulk"] = [Reply(401, b"{}")] * 1000
        destinations = (
            destination(takes.url, "takes", f'ca = "{certificates / "ca.pem"}"\nbatch_seconds = 0'),
            destination(holds.url, "holds"),
            destination(NOBODY, "down"),
        )
        listen = f"[listen]\nmax_frame_bytes = {MAX_FRAME_BYTES}\n"
        collector = Collector(home, f"{listen}{ADMIN}[spool]\n{''.join(destinations)}")
        (collector.directory / "blocked.log").mkdir(parents=True)
        collector.start()
        try:
            with Prometheus(home, scrape_of(collector, home)) as prometheus:
                for well in (
                    'dropped_records_total{reason="too large"}',
                    'forward_waiting_records{forward="down"}',
                ):
                    seen = f"count_over_time(collector_{well}[1m]) > 1"
                    within(SECONDS, lambda seen=seen: prometheus.values(seen), seen)  # type: ignore[misc]
                make_trouble(collector)
                instance = f"127.0.0.1:{collector.admin_port}"
                within(SECONDS, lambda: prometheus.values("collector_forward_held"), "a destination holds")
                within(SECONDS, lambda: prometheus.values("collector_forward_dead_letter_records_total"))
                yield Scene(prometheus, instance)
        finally:
            collector.stop()


def make_trouble(collector: Collector) -> None:
    """Send records, one that is poison, one for a file that cannot be written, and what is no record."""
    good = [make_frame(f"number {number}", f"app.{number % 3}") for number in range(50)]
    too_large = (MAX_FRAME_BYTES + 1).to_bytes(4, "big") + make_frame("x" * 2 * MAX_FRAME_BYTES)[4:]
    collector.send(b"".join([*good, make_frame("poison"), make_frame("waits", "blocked")]))
    collector.send((5).to_bytes(4, "big") + b"\x80\x04K\x01.")
    collector.send(too_large[: MAX_FRAME_BYTES + 5])
    collector.send(b"GET / HTTP/1.1\r\n\r\n")


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS, ids=lambda one: f"{one.panel}, {one.legend}")
def test_each_query_of_the_dashboard_finds_something(scene: Scene, target: Target) -> None:
    within(SECONDS, lambda: scene.prometheus.values(target.filled_in(scene.instance)), target.query)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("panel", "lowest", "highest"),
    [
        ("Answers", 1, 1),
        ("Healthy", 0, 0),
        ("Records lost", 1, 2),
        ("Clients stalled", 0, 0),
        ("Oldest not on disk", 0.01, SECONDS * 10),
        ("Room on disk", 0.0001, 1),
        ("Clients", 0, 0),
        ("Destinations held", 1, 1),
    ],
)
def test_the_first_row_tells_what_is_wrong(scene: Scene, panel: str, lowest: float, highest: float) -> None:
    (target,) = [one for one in TARGETS if one.panel == panel and one.legend == panel]

    def told() -> bool:
        (value,) = scene.prometheus.values(target.filled_in(scene.instance))
        return lowest <= value <= highest

    within(SECONDS, told, panel)


@pytest.mark.slow
def test_the_collectors_to_choose_from_are_those_that_are_scraped(scene: Scene) -> None:
    query = VARIABLES["instance"]["query"]["query"]
    (series,) = re.fullmatch(r"label_values\((\w+), instance\)", query).groups()  # type: ignore[union-attr]
    assert [scene.instance] == scene.prometheus.ask("label/instance/values", **{"match[]": series})


# --- alerts ---

ALERTS = {
    rule["alert"]: rule
    for group in yaml.safe_load((ETC / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
}
FIRING = {
    *("CollectorUnhealthy", "CollectorLosesRecords", "CollectorDiskSlow", "CollectorWriteErrors"),
    *("CollectorUnreadableRecords", "CollectorRefusesClients", "CollectorNoClients"),
    *("ForwardHeld", "ForwardDeadLetters", "ForwardCertificateEnds", "ForwardFallsBehind"),
}
EITHER = {"CollectorOddRecords", "ForwardInDoubt", "ForwardRetries", "CollectorDiskFills"}
"""What depends on the machine, or on how far a forwarder came in which moment."""


def alerted_on() -> set[str]:
    """Return the metrics of the manual's tables of which the column `alert on` says something."""
    found = set()
    for row in document("docs/operate.rst").findall(nodes.row):
        cells = [cell.astext() for cell in row.findall(nodes.entry)]
        if len(cells) == 4 and cells[2]:
            found |= set(re.findall(r"^collector_\w+", cells[0], re.MULTILINE))
    return found


def test_there_is_an_alert_for_each_metric_that_the_manual_says_to_alert_on() -> None:
    assert len(alerted_on()) > 25
    compared = "\n".join(rule["expr"] for rule in ALERTS.values())
    assert set() == alerted_on() - set(re.findall(r"collector_\w+", compared))


def test_prometheus_takes_the_alerts() -> None:
    need("promtool")
    ended = run("promtool", "check", "rules", str(ETC / "alerts.yml"))
    assert (0, True) == (ended.returncode, f"{len(ALERTS)} rules found" in ended.stdout), ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ALERTS)
def test_what_an_alert_compares_is_there(scene: Scene, name: str) -> None:
    """With `bool` a comparison tells of each series whether it holds, and leaves none out."""
    query = re.sub(r" (==|<|>) ", r" \1 bool ", ALERTS[name]["expr"])
    within(SECONDS, lambda: scene.prometheus.values(query), query)


@pytest.mark.slow
def test_the_alerts_that_fire_are_those_for_what_is_wrong(scene: Scene) -> None:
    def firing() -> set[str]:
        return {one["labels"]["alertname"] for one in scene.prometheus.ask("alerts")["alerts"]}

    within(SECONDS, lambda: firing() >= FIRING, f"of {FIRING} there fire {firing()}")
    assert FIRING == firing() - EITHER
