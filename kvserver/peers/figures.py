"""What is counted about each other member, for the metrics (spec/observability.md §2.5).
Owner: the loop."""

from __future__ import annotations

from kvserver.metrics.histogram import Histogram, exponential

ROUND_TRIP_BUCKETS = exponential(0.0001, 2, 16)
SNAPSHOT_BUCKETS = exponential(0.1, 2, 10)


class SnapshotFigures:
    """Databases that went one way."""

    __slots__ = ("failures", "inflights", "seconds", "successes")

    def __init__(self) -> None:
        self.successes = 0
        self.failures = 0
        self.inflights = 0
        self.seconds = Histogram(SNAPSHOT_BUCKETS)

    def begin(self) -> None:
        self.inflights += 1

    def end(self, is_success: bool, seconds: float) -> None:
        self.inflights -= 1
        if is_success:
            self.successes += 1
            self.seconds.observe(seconds)
        else:
            self.failures += 1


class LinkFigures:
    """Since the start of the process, whatever became of the member."""

    __slots__ = (
        "disconnects",
        "received",
        "received_bytes",
        "received_failures",
        "round_trip",
        "sent",
        "sent_bytes",
        "sent_failures",
    )

    def __init__(self) -> None:
        self.sent_bytes = 0
        self.received_bytes = 0
        self.sent_failures = 0
        """Messages that did not fit, or were lost with their stream or POST; several at once
        count once."""
        self.received_failures = 0
        """Streams that ended because their bytes made no sense."""
        self.disconnects = 0
        self.round_trip = Histogram(ROUND_TRIP_BUCKETS)
        self.sent = SnapshotFigures()
        self.received = SnapshotFigures()
