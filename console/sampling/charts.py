"""Charts as plain geometry: what the template draws as SVG. No Django in here.

Units of the drawing: WIDTH × HEIGHT, the plot without margins; the template adds those.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from console.sampling.series import Line, Point, Span

WIDTH, HEIGHT = 600.0, 120.0
LINES_MAX = 5
"""Members drawn apart; more are not told from one another by eye."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened at a moment: an audit row, a change of leader."""

    x: float
    words: str
    kind: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class Tick:
    at: float
    words: str


@dataclass(frozen=True, slots=True)
class Drawn:
    name: str
    path: str
    newest: str


@dataclass(frozen=True, slots=True)
class Threshold:
    y: float
    words: str


@dataclass(frozen=True, slots=True)
class Chart:
    title: str
    lines: tuple[Drawn, ...]
    ticks: tuple[Tick, ...]
    """Of the value axis."""
    thresholds: tuple[Threshold, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]
    """The same as a table: (second, a value a line), a few rows of it."""
    is_empty: bool


TABLE_ROWS = 12


def draw(
    title: str,
    lines: Sequence[Line],
    span: Span,
    say: Callable[[float], str],
    thresholds: Sequence[tuple[float, str]] = (),
    *,
    is_binary: bool = False,
) -> Chart:
    """`say` writes a value. A threshold is drawn when it is near enough to matter: never so far
    above the values that they would lie flat on the floor."""
    shown = list(lines)[:LINES_MAX]
    largest = max((line.largest for line in shown), default=0.0)
    near = [(value, words) for value, words in thresholds if value <= 4 * largest]
    top = max([largest, *(value for value, _ in near)]) or 1.0
    step, top = scale(top, is_binary=is_binary)

    def y(value: float) -> float:
        return round(HEIGHT - HEIGHT * value / top, 1)

    ticks = [Tick(y(step * i), say(step * i)) for i in range(round(top / step) + 1)]
    return Chart(
        title=title,
        lines=tuple(
            Drawn(line.name, path_of(line.points, span, y), _said(line.newest, say))
            for line in shown
        ),
        ticks=tuple(ticks),
        thresholds=tuple(Threshold(y(value), words) for value, words in near),
        rows=_table(shown, span, say),
        is_empty=not any(value is not None for line in shown for _, value in line.points),
    )


def x_of(second: int, span: Span) -> float:
    return round(WIDTH * (second - span.first) / (span.until - span.first), 1)


def path_of(points: Sequence[Point], span: Span, y: Callable[[float], float]) -> str:
    """An SVG path, broken at gaps. A point alone is a short dash, or nobody would see it."""
    pieces: list[str] = []
    run: list[tuple[float, float]] = []

    def end_run() -> None:
        if len(run) == 1:
            run.append((run[0][0] + 1.0, run[0][1]))
        if run:
            pieces.append("M" + "L".join(f"{a:g} {b:g}" for a, b in run))
        run.clear()

    for second, value in points:
        if value is None:
            end_run()
        else:
            run.append((x_of(second, span), y(value)))
    end_run()
    return "".join(pieces)


def scale(top: float, *, is_binary: bool = False) -> tuple[float, float]:
    """(step, top) with two to five steps of 1, 2 or 5 times a power of ten (of 1024 for bytes)."""
    unit = 1.0
    if is_binary:
        while top / unit >= 1024:
            unit *= 1024
    rough = top / unit / 4
    power = 10.0 ** floor(log10(rough)) if rough > 0 else 1.0
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
    return step * unit, ceil(top / unit / step - 1e-9) * step * unit


def time_ticks(span: Span, wanted: int = 7) -> list[int]:
    """Round moments inside the span, at most `wanted` of them apart from the first."""
    length = span.until - span.first
    for step in (600, 1800, 3600, 3 * 3600, 6 * 3600, 86400, 7 * 86400, 14 * 86400, 30 * 86400):
        if length / step <= wanted:
            break
    first = ceil(span.first / step) * step
    return list(range(first, span.until, step))


def _said(value: float | None, say: Callable[[float], str]) -> str:
    return "–" if value is None else say(value)


def _table(
    lines: Sequence[Line], span: Span, say: Callable[[float], str]
) -> tuple[tuple[int, tuple[str, ...]], ...]:
    slots = list(span.slots)
    every = max(1, ceil(len(slots) / TABLE_ROWS))
    picked = range(len(slots) - 1, -1, -every)
    return tuple((slots[i], tuple(_said(line.points[i][1], say) for line in lines)) for i in picked)
