"""When long leases have their remaining time written to the log (spec/lease.md §9)."""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heapify, heappop, heappush
from math import ceil

from kvserver.lease.lease import Lease

INTERVAL_SECONDS = 300.0
PER_ENTRY_MAX = 1000
"""Leases in one log entry (C1)."""


class Checkpoints:
    """Times of the next checkpoint, one per long lease. Owner: the loop, through the Lessor."""

    __slots__ = ("_heap", "_leases", "_times")

    def __init__(self, leases: Mapping[int, Lease]) -> None:
        self._leases = leases
        self._heap: list[tuple[float, int]] = []
        self._times: dict[int, float] = {}

    def clear(self) -> None:
        self._heap = []
        self._times = {}

    def schedule(self, lease_id: int, lease: Lease, now: float) -> None:
        """Set the next time of a lease that is long enough to have one."""
        if lease.life_seconds() <= INTERVAL_SECONDS:
            self._times.pop(lease_id, None)
            return
        self._times[lease_id] = now + INTERVAL_SECONDS
        heappush(self._heap, (now + INTERVAL_SECONDS, lease_id))

    def schedule_all(self, now: float) -> None:
        when = now + INTERVAL_SECONDS
        self._times = {
            lease_id: when
            for lease_id, lease in self._leases.items()
            if lease.life_seconds() > INTERVAL_SECONDS
        }
        self._heap = [(when, lease_id) for lease_id in self._times]
        heapify(self._heap)

    def due(self, now: float, count_max: int) -> list[tuple[int, int]]:
        """Ids and remaining seconds, rounded up. Each is due again an interval later."""
        found: list[tuple[int, int]] = []
        while self._heap and self._heap[0][0] <= now and len(found) < count_max:
            when, lease_id = heappop(self._heap)
            lease = self._leases.get(lease_id)
            if lease is None:
                self._times.pop(lease_id, None)
                continue
            if self._times.get(lease_id) != when:
                continue
            self.schedule(lease_id, lease, now)
            remaining = ceil(lease.deadline - now)
            if 0 < remaining < lease.ttl_seconds:
                found.append((lease_id, remaining))
        return found
