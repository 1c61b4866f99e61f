"""The results as tables in reStructuredText, to be put into docs/speed.rst."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.benchmarks.forwarding import Handed
    from tests.benchmarks.latency import Latency
    from tests.benchmarks.runs import Result

    Rounds = Mapping[str, Sequence[Result | None]]
    """By server, the result of each round; None where a run failed."""

NOT_INSTALLED = "not installed"
_HEAD = (
    "workload",
    "server",
    "records/s",
    "ratio",
    "CPU us/record",
    "ratio",
    "peak MB",
    "lost",
    "runs",
)
_LATENCY_HEAD = ("server", "records/s", "p50 ms", "p99 ms", "max ms", "CPU us/record", "lost")
OURS = "collector"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a simple table; its first column is never empty, for that would continue the row above."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    rule = "  ".join("=" * width for width in widths)
    return "\n".join([rule, _line(head, widths), rule, *(_line(row, widths) for row in rows), rule])


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        f"{text:<{w}}" if text[:1].isalpha() else f"{text:>{w}}" for text, w in zip(row, widths, strict=True)
    ]
    return "  ".join(cells).rstrip()


def results(measured: Mapping[str, Rounds]) -> str:
    """Return the table of all workloads: medians, and the collector's over the peer's of the same round."""
    rows = []
    for workload, rounds in measured.items():
        for server, runs in rounds.items():
            done = [one for one in runs if one]
            if not done:
                rows.append((workload, server, NOT_INSTALLED if not runs else "failed", *[""] * 6))
                continue
            rows.append(
                (
                    workload,
                    server,
                    f"{median(one.speed for one in done):,.0f}",
                    _ratio(rounds, OURS, server, lambda one: one.speed) if server != OURS else "1",
                    f"{median(one.cpu for one in done):.2f}",
                    _ratio(rounds, OURS, server, lambda one: one.cpu) if server != OURS else "1",
                    f"{median(one.peak_bytes for one in done) / 1e6:.0f}",
                    f"{sum(one.lost for one in done)}",
                    f"{len(done)} of {len(runs)}",
                )
            )
    return table(_HEAD, rows)


def latencies(measured: Mapping[str, Sequence[Latency]]) -> str:
    """Return the table of the time from emit to the file."""
    rows = []
    for server, runs in measured.items():
        if not runs:
            rows.append((server, NOT_INSTALLED, *[""] * 5))
            continue
        rows.append(
            (
                server,
                f"{median(one.rate for one in runs):,.0f}",
                f"{median(one.p50 for one in runs):.2f}",
                f"{median(one.p99 for one in runs):.2f}",
                f"{max(one.longest for one in runs):.1f}",
                f"{median(one.cpu for one in runs):.1f}",
                f"{sum(one.lost for one in runs)}",
            )
        )
    return table(_LATENCY_HEAD, rows)


def instructions(counted: Mapping[str, Mapping[str, float]]) -> str:
    """Return the table of the instructions for a record, by case and by how far it goes."""
    goals = list(next(iter(counted.values())))
    rows = [(case, *(f"{counts[goal]:,.0f}" for goal in goals)) for case, counts in counted.items()]
    return table(("instructions", *(f"to {goal}" for goal in goals)), rows)


def handed(measured: Mapping[str, Sequence[Handed]]) -> str:
    """Return the table of what forwarders took."""
    rows = [
        (
            case,
            f"{median(one.speed for one in runs):,.0f}",
            f"{median(one.cpu for one in runs):.2f}",
            f"{max(one.peak_bytes for one in runs) / 1e6:.0f}",
            f"{len(runs)}",
        )
        for case, runs in measured.items()
    ]
    return table(("forwarder", "records/s", "CPU us/record", "peak MB", "runs"), rows)


def paired(rounds: Rounds, one: str, other: str, figure: Callable[[Result], float]) -> list[float]:
    """Return the ratios of two servers' figures, those of one round by each other, in order."""
    pairs = zip(rounds.get(one, ()), rounds.get(other, ()), strict=False)
    return sorted(figure(a) / figure(b) for a, b in pairs if a and b)


def _ratio(rounds: Rounds, one: str, other: str, figure: Callable[[Result], float]) -> str:
    ratios = paired(rounds, one, other, figure)
    return f"{median(ratios):.2f}" if ratios else "?"


# --- what was to be reached ---------------------------------------------------------------------------------


def _cpu(one: Result) -> float:
    return one.cpu


def _speed(one: Result) -> float:
    return one.speed


# What, the workload, whose figure over whose, which, and the bound: at most, or if negative at least.
_RATIOS: tuple[tuple[str, str, str, str, Callable[[Result], float], float], ...] = (
    ("CPU per record / rsyslog's", "text-8", OURS, "rsyslog", _cpu, 0.85),
    ("records/s / rsyslog's", "text-8", OURS, "rsyslog", _speed, -0.9),
    ("records/s / Twisted's", "text-8", OURS, "twisted", _speed, -5),
    ("records/s / cookbook's", "text-8", OURS, "cookbook", _speed, -8),
    ("changing extra: CPU / rsyslog's", "extra-8", OURS, "rsyslog", _cpu, 2.5),
    ("1,000 loggers, 100 busy of 1,000: CPU / rsyslog's", "crowd", OURS, "rsyslog", _cpu, 0.6),
    ("messages of 4,000 bytes: CPU / rsyslog's", "long-8", OURS, "rsyslog", _cpu, 0.5),
    ("JSON / text: CPU per record", "text-8", "collector-json", OURS, _cpu, 1.5),
    ("with / without a spool: CPU per record", "text-8", "collector-spool", OURS, _cpu, 1.25),
)
_P50_MS, _P99_MS, _PEAK_MB = 1, 5, 80


def targets(measured: Mapping[str, Rounds], waits: Mapping[str, Sequence[Latency]]) -> str:
    """Return the table of what was to be reached, of those that were measured."""
    rows = []
    for what, workload, one, other, figure, bound in _RATIOS:
        ratios = paired(measured.get(workload, {}), one, other, figure)
        if ratios:
            rows.append(_target(what, bound, median(ratios), f"{ratios[0]:.2f} to {ratios[-1]:.2f}"))
    if ours := waits.get(OURS):
        rate = median(one.rate for one in ours)
        for name, bound, values in (
            ("p50", _P50_MS, [one.p50 for one in ours]),
            ("p99", _P99_MS, [one.p99 for one in ours]),
        ):
            spread = f"{min(values):.2f} to {max(values):.2f}"
            rows.append(_target(f"emit to file at {rate:,.0f}/s, {name}, ms", bound, median(values), spread))
    peaks = [
        one.peak_bytes / 1e6
        for rounds in measured.values()
        for server, runs in rounds.items()
        if server.startswith(OURS)
        for one in runs
        if one
    ]
    if peaks:
        rows.append(_target("peak memory, MB", _PEAK_MB, max(peaks), f"{min(peaks):.0f} to {max(peaks):.0f}"))
    return table(("figure", "target", "measured", "spread", "reached"), rows) if rows else ""


def _target(what: str, bound: float, value: float, spread: str) -> tuple[str, ...]:
    reached = value >= -bound if bound < 0 else value <= bound
    limit = f"{'>=' if bound < 0 else '<='} {abs(bound):g}"
    return what, limit, f"{value:.2f}", spread, "yes" if reached else "no"
