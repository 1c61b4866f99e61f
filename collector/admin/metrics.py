"""The state of the collector as Prometheus metrics. Loaded on demand: the library is an extra."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from prometheus_client import Metric

    from collector.admin.status import Status

__all__ = ["CONTENT_TYPE", "render"]


def render(status: Status) -> bytes:
    """Return the metrics in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Collector(status))
    ProcessCollector(registry=registry)  # CPU, memory and descriptors of the worker
    return generate_latest(registry)


class _Collector:
    """What the registry collects from, for one scrape."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        now = self._status.totals()
        loggers = {logger["name"]: logger["records"] for logger in self._status.loggers()}
        yield InfoMetricFamily("collector_build", "The version", {"version": now["version"]})
        for name, text, value in _gauges(now):
            yield GaugeMetricFamily(f"collector_{name}", text, value=value)
        for name, text, value in _counters(now):
            yield CounterMetricFamily(f"collector_{name}", text, value=value)
        for name, label, text, values in _labelled(now, loggers):
            family = CounterMetricFamily(f"collector_{name}", text, labels=[label])
            for each, value in values.items():
                family.add_metric([each], value)
            yield family
        for key, text in (("free", "Free to users other than root"), ("total", "Size")):
            name = f"collector_volume_{key}_bytes"
            volumes = GaugeMetricFamily(name, f"{text}, by volume", labels=["directory"])
            for volume in now["volumes"]:
                volumes.add_metric([volume["directory"]], volume[f"{key}_bytes"])
            yield volumes
        if "spool" in now:
            yield from _handing_over(now["spool"], now["forwards"])


def _gauges(now: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    reserve = now["reserve"]
    return [
        ("uptime_seconds", "Since the worker started", now["uptime_seconds"]),
        ("healthy", "0 while a file cannot be written or reading has stopped", now["healthy"]),
        ("draining", "1 from the signal to stop on", now["draining"]),
        ("viewers", "Viewers of the live stream", now["viewers"]),
        ("clients", "Connections", now["clients"]["now"]),
        ("reserve_bytes", "Memory for what is not yet on disk, partial frames too", reserve["bytes"]),
        ("reserve_limit_bytes", "max_buffered_bytes", reserve["limit_bytes"]),
        ("reserve_records", "Received and not yet on disk", now["records"]["in_reserve"]),
        ("reserve_oldest_seconds", "Age of the oldest record that is not on disk", reserve["oldest_seconds"]),
        ("quarantined_records", "Frames that are in the quarantine", now["records"]["quarantined"]),
        ("open_files", "Log files that are open", now["files"]["open"]),
        ("failing_files", "Files that cannot be written", now["files"]["failing_files"]),
    ]  # fmt: skip


def _counters(now: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    records, files = now["records"], now["files"]
    return [
        ("received_records", "Complete frames", records["received"]),
        ("written_records", "Records in log files", records["written"]),
        ("over_budget_records", "Records written in part", records["over_budget"]),
        ("cut_frames", "Frames whose client went away before their last byte", records["cut"]),
        ("received_bytes", "Bytes read from clients", now["bytes"]["received"]),
        ("written_bytes", "Bytes written to log files", now["bytes"]["written"]),
        ("accepted_clients", "Connections since the start", now["clients"]["total"]),
        ("not_reading_seconds", "Time in which a client was not read: the reserve was full",
         now["reserve"]["not_reading_seconds"]),
        ("rollovers", "Files that became backups", files["rollovers"]),
        ("deleted_bytes", "Bytes of the backups deleted", files["deleted_bytes"]),
        ("fragment_hits", "Records put together from remembered fragments", now["fragments"]["hits"]),
        ("fragment_misses", "Records of another form, at ten times the CPU", now["fragments"]["misses"]),
    ]  # fmt: skip


def _labelled(
    now: Mapping[str, Any], loggers: Mapping[str, int]
) -> list[tuple[str, str, str, Mapping[str, int]]]:
    records = now["records"]
    return [
        ("dropped_records", "reason", "Records that are in no file", records["dropped"]),
        ("unreadable_records", "reason", "Frames that could not be decoded", records["unreadable"]),
        ("refused_clients", "reason", "Connections refused", now["clients"]["refused"]),
        (
            "deleted_backups",
            "by",
            "Backups deleted, by the setting that asked for it",
            now["files"]["deleted_backups_by"],
        ),
        ("write_errors", "errno", "Tries to write that failed", now["write_errors"]),
        ("faults", "where", "Faults in the collector itself; what failed was started again", now["faults"]),
        ("level_records", "level", "Records by level", now["levels"]),
        ("logger_records", "logger", "Records by logger: the top 100, and the others together", loggers),
    ]


def _handing_over(spool: Mapping[str, Any], forwards: Sequence[Mapping[str, Any]]) -> Iterator[Metric]:
    yield CounterMetricFamily("collector_spooled_records", "Records written to the spool", spool["records"])
    yield GaugeMetricFamily("collector_spool_bytes", "What the spool takes on disk", spool["bytes"])
    errors = "Tries to open, write or sync the spool that failed"
    yield CounterMetricFamily("collector_spool_write_errors", errors, spool["write_errors"])
    yield _by_forward(GaugeMetricFamily, "up", "1 while its forwarder runs", "up", forwards)
    yield _by_forward(CounterMetricFamily, "restarts", "Forwarders after the first", "restarts", forwards)
    told = [forward for forward in forwards if "numbered" in forward]
    for name, text, key in _FORWARD_COUNTERS:
        yield _by_forward(CounterMetricFamily, name, text, key, told)
    for name, text in _FORWARD_GAUGES:
        yield _by_forward(GaugeMetricFamily, name, text, name.removesuffix("_records"), told)
    dead = CounterMetricFamily(
        "collector_forward_dead_letter_records",
        "Records that it refused for good, by reason",
        labels=["forward", "reason"],
    )
    held = GaugeMetricFamily(
        "collector_forward_held", "1 while it holds, with the reason", labels=["forward", "reason"]
    )
    for forward in told:
        for reason, records in forward["dead"].items():
            dead.add_metric([forward["name"], reason], records)
        if forward["held"]:
            held.add_metric([forward["name"], forward["held"]["reason"]], 1)
    yield dead
    yield held


_FORWARD_COUNTERS = (
    ("shipped_records", "Records that it has stored", "shipped"),
    ("duplicate_records", "Records that were there already, sent once more in doubt", "duplicate"),
    ("retried_records", "Records sent once more because they were not taken", "retried"),
    ("filtered_records", "Records that it does not want", "filtered"),
    ("in_doubt_records", "Records sent without an answer, or stored and perhaps there twice", "in_doubt"),
    ("dropped_records", "Records that were gone from the spool before they were sent", "dropped"),
    ("dead_letters_gone", "Dead letters that went for newer ones", "dead_letters_gone"),
    ("bad_blocks", "Blocks in the spool that could not be read", "bad_blocks"),
)
_FORWARD_GAUGES = (
    ("waiting_records", "Records in the spool that it has not had yet"),
    ("lag_seconds", "Age of the oldest record that waits"),
    ("age_seconds", "Age of what is said here of it"),
    ("last_success_seconds", "Since it stored a record"),
    ("certificate_days", "How long the nearer of both certificates is valid"),
)


def _by_forward(
    kind: type[GaugeMetricFamily | CounterMetricFamily],
    name: str,
    text: str,
    key: str,
    forwards: Sequence[Mapping[str, Any]],
) -> Metric:
    """Return a family with a sample for each destination that has a value for *key*."""
    family = kind(f"collector_forward_{name}", text, labels=["forward"])
    for forward in forwards:
        if forward[key] is not None:
            family.add_metric([forward["name"]], forward[key])
    return family
