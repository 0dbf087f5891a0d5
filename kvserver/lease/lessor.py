"""The lessor: leases, their keys and, on the leader, their deadlines (spec/lease.md).

Grants, revokes and checkpoints arrive through the log and are the same on every member. Deadlines
are not replicated: only the primary (the leader) has them, and to all others a lease never ends.
Nothing expires here by itself: the primary proposes a revoke for what is `due`, and until that is
applied the lease and its keys remain. A lease past its deadline is never renewed (K4).

Owner: the loop. Pure: `now` is a monotonic time in seconds, given by the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import ceil, inf

from kvserver.errors import Code, LeaseExist, LeaseNotFound, LeaseTTLTooLarge, RequestError
from kvserver.lease.checkpoints import Checkpoints
from kvserver.lease.deadlines import Deadlines, spread
from kvserver.lease.lease import Lease
from kvserver.limits import LEASE_TTL_SECONDS_MAX
from kvserver.metrics.histogram import Histogram, exponential
from kvserver.proto import lease_pb2

RETRY_SECONDS = 3.0
"""After this a due lease whose revoke has not taken effect is due again (E2)."""
SPREAD_LEASES_MIN = 1000
SPREAD_PER_SECOND = 750
"""P2: three quarters of the 1000 revokes a second that E1 allows."""


class NotPrimary(RequestError):
    """Asked for a deadline on a member that has none (spec/wire-api.md §5.3)."""

    code = Code.UNKNOWN
    message = "not a primary lessor"


def ttl_seconds_min(election_ticks: int, heartbeat_seconds: float) -> int:
    """The least TTL that survives an election (G4)."""
    beats = 3 * election_ticks // 2
    return ceil(round(beats * heartbeat_seconds, 6))  # 30 beats of 0.1 s are 3 s, not a bit more


class Lessor:
    """All leases of a member."""

    def __init__(
        self, *, ttl_min: int, checkpoints: bool = False, retry_seconds: float = RETRY_SECONDS
    ) -> None:
        self.ttl_min = ttl_min
        self.is_primary = False
        self.granted_total = 0
        self.revoked_total = 0
        self.renewed_total = 0
        self.ttls = Histogram(exponential(1, 2, 24))
        """Granted TTLs in seconds, for the metrics."""
        self._retry_seconds = retry_seconds
        self._leases: dict[int, Lease] = {}
        self._deadlines = Deadlines(self._leases)
        self._checkpoints = Checkpoints(self._leases) if checkpoints else None
        self._waiting: dict[int, list[Callable[[], None]]] = {}
        self._waiting_for_promotion: list[Callable[[], None]] = []

    def __len__(self) -> int:
        return len(self._leases)

    @property
    def waiting_count(self) -> int:
        """Callers of `when_ended` and `when_primary` that have not been called back yet."""
        return sum(map(len, self._waiting.values())) + len(self._waiting_for_promotion)

    # -- through the log

    def grant(self, lease_id: int, ttl_seconds: int, now: float) -> int:
        """Make a lease; returns the granted TTL (G3, G4)."""
        if ttl_seconds > LEASE_TTL_SECONDS_MAX:
            raise LeaseTTLTooLarge
        if lease_id in self._leases:
            raise LeaseExist
        lease = Lease(max(ttl_seconds, self.ttl_min))
        self._leases[lease_id] = lease
        self.granted_total += 1
        self.ttls.observe(ttl_seconds)
        if self.is_primary:
            self._set_deadline(lease_id, lease, now + lease.ttl_seconds)
            if self._checkpoints is not None:
                self._checkpoints.schedule(lease_id, lease, now)
        return lease.ttl_seconds

    def revoke(self, lease_id: int) -> list[bytes]:
        """Forget a lease; returns its keys in ascending order, for the store to delete (V1, V2)."""
        lease = self._leases.pop(lease_id, None)
        if lease is None:
            raise LeaseNotFound
        self.revoked_total += 1
        self._wake(lease_id)
        return lease.keys()

    def checkpoint(self, lease_id: int, remaining_seconds: int, now: float) -> bool:
        """Remember how long a lease had left; False when there is no such lease (C2)."""
        lease = self._leases.get(lease_id)
        if lease is None:
            return False
        lease.remaining_seconds = remaining_seconds
        if self.is_primary and self._checkpoints is not None:
            self._checkpoints.schedule(lease_id, lease, now)
        return True

    def record(self, lease_id: int) -> bytes:
        """The lease as it is stored in table `lease`."""
        lease = self._leases[lease_id]
        return lease_pb2.Lease(
            ID=lease_id, TTL=lease.ttl_seconds, RemainingTTL=lease.remaining_seconds
        ).SerializeToString(deterministic=True)

    def restore(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Take the stored leases instead of what was here (P4); their keys come by `attach`."""
        self.demote()
        self._leases.clear()
        for _, value in items:
            stored = lease_pb2.Lease.FromString(value)
            lease = Lease(max(stored.TTL, self.ttl_min))
            lease.remaining_seconds = stored.RemainingTTL
            self._leases[stored.ID] = lease

    # -- the store's side: which keys belong to which lease

    def exists(self, lease_id: int) -> bool:
        return lease_id in self._leases

    def attach(self, lease_id: int, key: bytes) -> None:
        """Bind a key to a lease; the store has detached it from its former one (A2)."""
        lease = self._leases.get(lease_id)
        if lease is None:
            raise LeaseNotFound
        lease.attach(key)

    def detach(self, lease_id: int, key: bytes) -> None:
        """Free a key; a lease revoked meanwhile has nothing left to free."""
        lease = self._leases.get(lease_id)
        if lease is not None:
            lease.detach(key)

    def keys(self, lease_id: int) -> list[bytes]:
        """The keys of a lease, in ascending order; none of an unknown one."""
        lease = self._leases.get(lease_id)
        return [] if lease is None else lease.keys()

    # -- the primary's side

    def renew(self, lease_id: int, now: float) -> int | None:
        """Give a lease its full TTL again and return that; 0 when there is no such lease (K2, K3).

        None when it cannot be renewed now: it is past its deadline, so that the caller waits by
        `when_ended` (K4), or it `has_checkpoint` that must be cleared through the log first (K10).
        Hot path: no heap operation unless the deadline comes nearer, as it may after a promotion.
        """
        if not self.is_primary:
            raise NotPrimary
        lease = self._leases.get(lease_id)
        if lease is None:
            return 0
        if lease.deadline <= now or lease.remaining_seconds:
            return None
        ttl = lease.ttl_seconds
        deadline = lease.deadline = now + ttl
        if deadline < lease.queued_at:
            self._deadlines.queue(lease_id, lease, deadline)
        self.renewed_total += 1
        return ttl

    def is_expired(self, lease_id: int, now: float) -> bool:
        lease = self._leases.get(lease_id)
        return lease is not None and lease.deadline <= now

    def has_checkpoint(self, lease_id: int) -> bool:
        lease = self._leases.get(lease_id)
        return lease is not None and lease.remaining_seconds != 0

    def when_ended(self, lease_id: int, callback: Callable[[], None]) -> None:
        """Call once when the lease is revoked or this lessor stops being primary; maybe now."""
        if self.is_primary and lease_id in self._leases:
            self._waiting.setdefault(lease_id, []).append(callback)
        else:
            callback()

    def when_primary(self, callback: Callable[[], None]) -> None:
        """Call once when this lessor is primary; maybe now."""
        if self.is_primary:
            callback()
        else:
            self._waiting_for_promotion.append(callback)

    def time_to_live(self, lease_id: int, now: float) -> tuple[int, int]:
        """Whole seconds left and the granted TTL; (-1, 0) when unknown (T1, T2)."""
        if not self.is_primary:
            raise NotPrimary
        lease = self._leases.get(lease_id)
        if lease is None:
            return -1, 0
        return int(lease.deadline - now), lease.ttl_seconds

    def leases(self) -> list[int]:
        """Ids; on the primary those with the least time left come first (L1)."""
        if not self.is_primary:
            return list(self._leases)
        return sorted(self._leases, key=lambda lease_id: self._leases[lease_id].deadline)

    def due(self, now: float, count_max: int) -> list[int]:
        """Leases whose revoke is to be proposed, soonest first (E1, E2)."""
        if not self.is_primary:
            return []
        return self._deadlines.due(now, count_max, self._retry_seconds)

    def due_checkpoints(self, now: float, count_max: int) -> list[tuple[int, int]]:
        """Leases to be checkpointed, with their remaining seconds (C1)."""
        if not self.is_primary or self._checkpoints is None:
            return []
        return self._checkpoints.due(now, count_max)

    def promote(self, now: float, extend_seconds: float) -> None:
        """Become primary: every lease starts anew, plus `extend_seconds` (P1, P2)."""
        self.is_primary = True
        begin = now + extend_seconds
        times = sorted((begin + lease.life_seconds(), i) for i, lease in self._leases.items())
        if len(times) >= SPREAD_LEASES_MIN:
            times = spread(times, SPREAD_PER_SECOND)
        for when, lease_id in times:
            lease = self._leases[lease_id]
            lease.deadline = lease.queued_at = when
        self._deadlines.rebuild()
        if self._checkpoints is not None:
            self._checkpoints.schedule_all(now)
        waiting, self._waiting_for_promotion = self._waiting_for_promotion, []
        for callback in waiting:
            callback()

    def demote(self) -> None:
        """Stop being primary: nothing expires here until the next promotion (P3)."""
        if not self.is_primary:
            return
        self.is_primary = False
        self._deadlines.clear()
        if self._checkpoints is not None:
            self._checkpoints.clear()
        for lease in self._leases.values():
            lease.deadline = lease.queued_at = inf
        for lease_id in list(self._waiting):
            self._wake(lease_id)

    def _set_deadline(self, lease_id: int, lease: Lease, when: float) -> None:
        lease.deadline = when
        self._deadlines.queue(lease_id, lease, when)

    def _wake(self, lease_id: int) -> None:
        for callback in self._waiting.pop(lease_id, ()):
            callback()
