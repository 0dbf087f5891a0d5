"""The queue of deadlines, with lazy deletion.

Each queued lease stands in the heap under its `queued_at`. A renewal only moves the lease's own
deadline: when the old time comes up, the lease is found alive and queued again. So a renewal
costs no heap operation, however often it happens. Entries whose time is not the lease's
`queued_at` any more, or whose lease is gone, are dead and dropped when met.
"""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heapify, heappop, heappush
from math import inf

from kvserver.lease.lease import Lease

DEAD_ENTRIES_MIN = 1024
"""The heap is rebuilt when it holds this many entries and is twice as long as there are leases."""


class Deadlines:
    """Leases by the time at which they must be looked at. Owner: the loop, through the Lessor."""

    __slots__ = ("_heap", "_leases")

    def __init__(self, leases: Mapping[int, Lease]) -> None:
        self._leases = leases
        self._heap: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def clear(self) -> None:
        self._heap = []

    def queue(self, lease_id: int, lease: Lease, when: float) -> None:
        """Look at the lease at `when`, and not at the time it was queued for before."""
        lease.queued_at = when
        heappush(self._heap, (when, lease_id))
        if len(self._heap) > DEAD_ENTRIES_MIN and len(self._heap) > 2 * len(self._leases):
            self.rebuild()

    def rebuild(self) -> None:
        """From the leases themselves, leaving dead entries behind."""
        self._heap = [
            (lease.queued_at, lease_id)
            for lease_id, lease in self._leases.items()
            if lease.queued_at != inf
        ]
        heapify(self._heap)

    def due(self, now: float, count_max: int, retry_seconds: float) -> list[int]:
        """Expired leases, soonest first; each is looked at again after `retry_seconds` (E1, E2)."""
        heap = self._heap
        found: list[int] = []
        while heap and heap[0][0] <= now and len(found) < count_max:
            when, lease_id = heappop(heap)
            lease = self._leases.get(lease_id)
            if lease is None or lease.queued_at != when:
                continue
            if lease.deadline > when:  # renewed since, so its turn comes later
                self.queue(lease_id, lease, lease.deadline)
            else:
                found.append(lease_id)
                self.queue(lease_id, lease, now + retry_seconds)
            heap = self._heap  # queueing may have rebuilt it
        return found


def spread(times: list[tuple[float, int]], per_second: int) -> list[tuple[float, int]]:
    """Push times later so that about `per_second` fall into a second (spec/lease.md P2).

    `times` ascend. In each window the first `per_second` stay, and the n-th beyond them comes
    n / per_second after the window's begin; a window ends after a second, or where the pushing has
    taken it. Nothing comes earlier than it was.
    """
    spread_times = []
    begin = until = times[0][0] if times else 0.0
    count = 0
    for when, lease_id in times:
        if when > until:
            begin, until, count = when, when + 1.0, 0
        count += 1
        if count > per_second:
            when = max(when, begin + count / per_second)
            until = max(until, when)
        spread_times.append((when, lease_id))
    return spread_times
