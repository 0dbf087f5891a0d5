"""What the member loop and its duties count for the metrics. Owner: the loop."""

from __future__ import annotations


class Counters:
    """Since the start of the process."""

    def __init__(self) -> None:
        self.proposals_failed = 0
        self.leader_changes = 0
        self.slow_applies = 0
        self.read_indexes_failed = 0
        self.slow_read_indexes = 0
        self.late_ticks = 0
        self.leases_expired = 0
