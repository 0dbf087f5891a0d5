"""The table: medians of both sides, their ratio, and the budget it is held against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from bench.measures import Sample

GENERATOR_BOUND = 0.9
"""Above this CPU share the generator, not the server, may be what was measured."""


@dataclass(frozen=True, slots=True)
class Row:
    """How a figure is shown: its unit, whether more is better, and design.md's budget."""

    unit: str
    more_is_better: bool
    budget: str = ""


ROWS = {
    "put 1x1": Row("/s", True),
    "put latency p50": Row("ms", False, "≤ 1"),
    "put latency p99": Row("ms", False, "≤ 1"),
    "put 100x10": Row("/s", True, "≥ 3"),
    "get linearizable": Row("/s", True, "≥ 3"),
    "get serializable": Row("/s", True, "≥ 3"),
    "get with deadline": Row("/s", True),
    "range of 1000 keys": Row("/s", True),
    "txn create 100x10": Row("/s", True),
    "watch deliveries": Row("/s", True, "≥ 2"),
    "lease keep-alives": Row("/s", True),
    "load of the large keyspace": Row("/s", True),
    "page of 100": Row("/s", True, "≥ 100"),
    "memory after load (RSS)": Row("MB", False, "≤ 0.8"),
    "memory after load (anonymous)": Row("MB", False),
    "restart": Row("s", False, "≤ 0.6"),
    "memory after restart (RSS)": Row("MB", False, "≤ 0.8"),
    "compaction": Row("s", False),
    "defragmentation": Row("s", False),
    "put p99 meanwhile": Row("ms", False),
    "put max meanwhile": Row("ms", False),
}
_CLUSTER_BUDGETS = {"/s": "≥ 1", "ms": "≤ 1", "µs": ""}
ROWS |= {
    f"{what}, {who}": Row(unit, unit == "/s", _CLUSTER_BUDGETS[unit] if "p99" not in what else "")
    for who in ("leader", "follower")
    for what, unit in (("put 1x1", "/s"), ("put p50", "ms"), ("put p99", "ms"))
}
ROWS |= {
    f"put {load}, {what}": Row(unit, unit == "/s", _CLUSTER_BUDGETS[unit])
    for load in ("1x64", "8x8", "100x10")
    for what, unit in (("leader", "/s"), ("leader CPU", "µs"), ("follower CPU", "µs"))
}
"""Of a run with several members of each kind (bench/cluster.py)."""
_FACTOR = {"/s": 1.0, "ms": 1e3, "MB": 1 / 1e6, "s": 1.0, "µs": 1e6}


@dataclass
class Figures:
    """All samples of a run, by row and by side."""

    labels: tuple[str, str]
    values: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)
    cpu: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)
    generator_share: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, side: int, sample: Sample) -> None:
        for name, value in sample.values.items():
            self.values.setdefault(name, ([], []))[side].append(value)
            if sample.cpu_seconds_per_call:
                self.cpu.setdefault(name, ([], []))[side].append(sample.cpu_seconds_per_call)
            share = max(self.generator_share.get(name, 0.0), sample.generator_share)
            self.generator_share[name] = share

    def ratio(self, name: str) -> float | None:
        reference, subject = self.values[name]
        if not reference or not subject or not median(reference):
            return None
        return median(subject) / median(reference)


def _shown(value: float, unit: str) -> str:
    scaled = value * _FACTOR[unit]
    digits = 0 if scaled >= 1000 else 1 if scaled >= 100 else 2
    return f"{scaled:,.{digits}f} {unit}"


def table(figures: Figures, title: Sequence[str]) -> str:
    """The whole report as markdown. A ratio is always Keydeck's figure over etcd's."""
    reference, subject = figures.labels
    lines = [*title, "", f"| measure | {reference} | {subject} | ratio | budget |"]
    lines.append("|---|---:|---:|---:|---:|")
    for name, row in ROWS.items():
        if name not in figures.values:
            continue
        cells = [_shown(median(side), row.unit) if side else "—" for side in figures.values[name]]
        ratio = figures.ratio(name)
        flag = " (generator-bound)" if figures.generator_share[name] > GENERATOR_BOUND else ""
        shown = "—" if ratio is None else f"{ratio:.2f}{flag}"
        arrow = "↑" if row.more_is_better else "↓"
        lines.append(f"| {name} {arrow} | {cells[0]} | {cells[1]} | {shown} | {row.budget} |")
    lines += _cpu_table(figures)
    lines += ["", "↑ more is better, ↓ less is better; 256-byte values; medians of all rounds."]
    lines += figures.notes
    return "\n".join(lines) + "\n"


def _cpu_table(figures: Figures) -> list[str]:
    """Server processor time per call: what a figure would be bound by on as many cores as wanted,
    and hardly disturbed by what else the machine does."""
    lines = ["", "| server CPU per call ↓ | " + " | ".join(figures.labels) + " | ratio |"]
    lines.append("|---|---:|---:|---:|")
    for name, (reference, subject) in figures.cpu.items():
        if reference and subject:
            one, other = median(reference) * 1e6, median(subject) * 1e6
            lines.append(f"| {name} | {one:.1f} µs | {other:.1f} µs | {other / one:.2f} |")
    return lines if len(lines) > 3 else []
