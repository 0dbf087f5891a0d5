"""A histogram that costs one bisection and two additions per observation."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence


def exponential(start: float, factor: float, count: int) -> tuple[float, ...]:
    """Upper bounds `start * factor**i`, as etcd's histograms have them."""
    return tuple(start * factor**i for i in range(count))


class Histogram:
    """Counts per bucket and their sum. Owner: the loop."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def cumulative(self) -> list[tuple[float, int]]:
        """(upper bound, observations at or below it), the last bound being infinity."""
        total = 0
        pairs = []
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            total += count
            pairs.append((bound, total))
        return pairs
