"""Families of metrics and their text form (Prometheus 0.0.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from kvserver.metrics.histogram import Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels = Mapping[str, str]
Value = float | Histogram
Samples = Iterable[tuple[Labels, Value]]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its samples are read when the page is asked for."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    read: Callable[[], Samples]


class Registry:
    """The families of this process, in the order of their names."""

    def __init__(self) -> None:
        self._families: dict[str, Family] = {}

    def add(self, family: Family) -> None:
        if family.name in self._families:
            raise ValueError(f"the metric {family.name} exists already")
        self._families[family.name] = family

    def single(
        self,
        name: str,
        kind: Literal["counter", "gauge", "histogram"],
        help_text: str,
        read: Callable[[], Value],
    ) -> None:
        """A metric without labels."""
        self.add(Family(name, kind, help_text, lambda: (({}, read()),)))

    def names(self) -> list[str]:
        return sorted(self._families)

    def render(self) -> bytes:
        lines: list[str] = []
        for name in self.names():
            family = self._families[name]
            lines.append(f"# HELP {name} {family.help}")
            lines.append(f"# TYPE {name} {family.kind}")
            for labels, value in family.read():
                _write(lines, name, labels, value)
        lines.append("")
        return "\n".join(lines).encode()


def _write(lines: list[str], name: str, labels: Labels, value: Value) -> None:
    if not isinstance(value, Histogram):
        lines.append(f"{name}{_labels(labels)} {_number(value)}")
        return
    total = 0
    for bound, count in value.cumulative():
        lines.append(f"{name}_bucket{_labels({**labels, 'le': _number(bound)})} {count}")
        total = count
    lines.append(f"{name}_sum{_labels(labels)} {_number(value.sum)}")
    lines.append(f"{name}_count{_labels(labels)} {total}")


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{key}="{_escape(text)}"' for key, text in labels.items()) + "}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return repr(value)
