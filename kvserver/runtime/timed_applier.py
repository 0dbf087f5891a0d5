"""An applier that times every command: only with `--metrics=extensive`, for it costs a put a few
hundredths of its time (spec/observability.md §2.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from kvserver.apply.applier import Applier, Result
from kvserver.apply.command import Kind
from kvserver.auth.identity import NOBODY, Identity
from kvserver.metrics.histogram import Histogram, exponential

BUCKETS = exponential(0.0001, 2, 20)
Labels = dict[str, str]


class TimedApplier(Applier):
    """Owner: the loop."""

    def __init__(self, *, monotonic: Callable[[], float], **parts: Any) -> None:
        super().__init__(**parts)
        self._monotonic = monotonic
        self._times: dict[tuple[Kind, bool], Histogram] = {}

    def apply(
        self,
        kind: Kind,
        request: Any,
        now: float,
        identity: Identity = NOBODY,
        index: int = 0,
    ) -> Result:
        started = self._monotonic()
        is_success = False
        try:
            result = super().apply(kind, request, now, identity, index)
            is_success = True
            return result
        finally:
            histogram = self._times.get((kind, is_success))
            if histogram is None:
                histogram = self._times[kind, is_success] = Histogram(BUCKETS)
            histogram.observe(self._monotonic() - started)

    def times(self) -> Iterator[tuple[Labels, Histogram]]:
        """The histograms of `etcd_server_apply_duration_seconds` with their labels."""
        for (kind, is_success), histogram in self._times.items():
            op = "".join(word.capitalize() for word in kind.name.split("_"))
            yield {"version": "v3", "op": op, "success": str(is_success).lower()}, histogram

    def _note_who_decides(self) -> None:
        """Nothing takes the way that passes `apply` by: `takes_any_put` stays False."""
