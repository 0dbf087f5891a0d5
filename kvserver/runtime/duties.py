"""What a member does by the clock: raft ticks, lease expiry, auto-compaction, housekeeping.

Every duty only proposes or schedules; the work itself happens elsewhere in slices.
Owner: the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kvserver import errors
from kvserver.apply.command import Kind
from kvserver.auth.identity import NOBODY
from kvserver.clock import Clock
from kvserver.limits import (
    CHECKPOINTS_PER_ENTRY_MAX,
    LEASE_EXPIRY_INTERVAL_SECONDS,
    LEASE_REVOKES_IN_FLIGHT_MAX,
    LEASE_REVOKES_PER_ROUND_MAX,
    PURGE_INTERVAL_SECONDS,
)
from kvserver.member.compactor import Compactor
from kvserver.member.proposal import CallbackWaiter
from kvserver.proto import internal_pb2, rpc_pb2
from kvserver.runtime.lag import PROBE_SECONDS, LagProbe
from kvserver.runtime.member_loop import MemberLoop
from kvserver.runtime.storage_duty import StorageDuty


class Duties:
    """The periodic work of one member."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        member: MemberLoop,
        storage: StorageDuty,
        compactor: Compactor | None,
        heartbeat_seconds: float,
        lag_probe_seconds: float = PROBE_SECONDS,
    ) -> None:
        self.lag = LagProbe(loop, clock, lag_probe_seconds)
        self._loop = loop
        self._clock = clock
        self._member = member
        self._storage = storage
        self._compactor = compactor
        self._heartbeat_seconds = heartbeat_seconds
        self._handles: dict[str, asyncio.TimerHandle] = {}
        self._expired: list[int] = []
        self._revokes_in_flight = 0

    def start(self) -> None:
        self.lag.start()
        self._every("tick", self._heartbeat_seconds, self._tick)
        self._every("leases", LEASE_EXPIRY_INTERVAL_SECONDS, self._collect_expired)
        self._every("purge", PURGE_INTERVAL_SECONDS, self._storage.purge)
        self._every("checkpoints", LEASE_EXPIRY_INTERVAL_SECONDS, self._checkpoint_leases)
        if self._compactor is not None:
            self._every("compact", min(self._compactor.step_seconds, 1.0), self._auto_compact)

    def stop(self) -> None:
        self.lag.stop()
        for handle in self._handles.values():
            handle.cancel()

    def _every(self, name: str, seconds: float, duty: Callable[[], None]) -> None:
        """Run `duty` again and again; a late run does not make the next one early."""

        def run() -> None:
            duty()
            self._handles[name] = self._loop.call_later(seconds, run)

        self._handles[name] = self._loop.call_later(seconds, run)

    def _tick(self) -> None:
        now = self._clock.monotonic()
        self._member.tick(now)

    # -- leases (spec/lease.md §8)

    def _collect_expired(self) -> None:
        member = self._member
        if not member.is_leader or self._expired:
            return
        self._expired = list(
            member.lessor.due(self._clock.monotonic(), LEASE_REVOKES_PER_ROUND_MAX)
        )
        self._expired.reverse()
        self._revoke_some()

    def _revoke_some(self) -> None:
        member = self._member
        while self._expired and self._revokes_in_flight < LEASE_REVOKES_IN_FLIGHT_MAX:
            if not member.is_leader or member.is_stopped:
                self._expired.clear()
                return
            lease_id = self._expired.pop()
            request = rpc_pb2.LeaseRevokeRequest(ID=lease_id)
            self._revokes_in_flight += 1
            try:
                member.propose_as_leader(
                    Kind.LEASE_REVOKE,
                    request,
                    request.SerializeToString(),
                    CallbackWaiter(self._revoked),
                    member.applier.auth.store.internal_root,  # expiry asks nobody (spec/auth.md §3)
                )
            except errors.RequestError:
                self._revokes_in_flight -= 1
                self._expired.clear()

    def _revoked(self, error: errors.RequestError | None) -> None:
        self._revokes_in_flight -= 1
        if error is None:
            self._member.counters.leases_expired += 1
        self._revoke_some()

    def _checkpoint_leases(self) -> None:
        """Remember how long leases have left, so that a new leader need not start them anew
        (spec/lease.md §9)."""
        member = self._member
        due = member.lessor.due_checkpoints(self._clock.monotonic(), CHECKPOINTS_PER_ENTRY_MAX)
        if not due or not member.is_leader or member.is_stopped:
            return
        request = internal_pb2.LeaseCheckpointRequest()
        for lease_id, remaining_seconds in due:
            request.checkpoints.add(ID=lease_id, remaining_TTL=remaining_seconds)
        try:
            member.propose_as_leader(
                Kind.LEASE_CHECKPOINT, request, request.SerializeToString(), None, NOBODY
            )
        except errors.RequestError:
            return  # lost until the next is due: a checkpoint only ever helps

    # -- auto-compaction (spec/kv.md §10)

    def _auto_compact(self) -> None:
        member, compactor = self._member, self._compactor
        assert compactor is not None
        revision = compactor.due(self._clock.monotonic(), member.store.revision, member.is_leader)
        if revision is None:
            return

        def done(error: errors.RequestError | None) -> None:
            if error is None or error.message == errors.Compacted.message:
                compactor.done(self._clock.monotonic(), revision)

        request = rpc_pb2.CompactionRequest(revision=revision)
        try:
            member.propose(
                Kind.COMPACTION, request, request.SerializeToString(), CallbackWaiter(done)
            )
        except errors.RequestError:
            return  # tried again at the next step
