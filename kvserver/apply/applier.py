"""The applier: committed commands onto the store, leases, alarms and membership.

Checks come in one visible order (spec/kv.md §4 step 9): CORRUPT alarm, NOSPACE alarm, permission,
then the request's own rules inside the state machine it belongs to, all before the first change.
A refusal is a `RequestError`; it is an outcome like any other and moves the applied index too. A
result is `(revision for the header, response body without its header)`.

Owner: the loop.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Protocol

from kvserver import errors
from kvserver.apply.alarms import NOSPACE, Alarms
from kvserver.apply.auth import AuthApplier
from kvserver.apply.command import Kind
from kvserver.apply.quota import LEASE_COST_BYTES, put_cost, txn_cost
from kvserver.auth.identity import NOBODY, Identity
from kvserver.lease import Lessor
from kvserver.membership.cluster import Membership
from kvserver.mvcc.store import Store
from kvserver.proto import internal_pb2, legacy_pb2, membership_pb2, rpc_pb2

Result = tuple[int, bytes]

KEY_KINDS = frozenset({Kind.PUT, Kind.DELETE_RANGE, Kind.TXN})
"""Commands that change keys only, never what may be done to them."""
TIGHT_BYTES = 512 * 1024 * 1024
"""Nearer to the quota than this, every request is weighed. It is more than what can be applied
between two looks: a slice of a few milliseconds."""

REFUSED_WHEN_CORRUPT = frozenset(
    {
        Kind.PUT,
        Kind.DELETE_RANGE,
        Kind.TXN,
        Kind.COMPACTION,
        Kind.LEASE_GRANT,
        Kind.LEASE_REVOKE,
    }
)
"""spec/kv.md L8."""


class Space(Protocol):
    """The backend's size, as the quota sees it."""

    @property
    def size_bytes(self) -> int: ...

    @property
    def pending_bytes(self) -> int: ...

    def put(self, table: str, key: bytes, value: bytes) -> None: ...

    def delete(self, table: str, key: bytes) -> None: ...


class Applier:
    """Applies commands, one at a time, in log order."""

    def __init__(
        self,
        *,
        store: Store,
        lessor: Lessor,
        alarms: Alarms,
        membership: Membership,
        auth: AuthApplier,
        space: Space,
        quota_bytes: int,
        on_compaction: Callable[[Any], None],
    ) -> None:
        self.store = store
        self.lessor = lessor
        self.alarms = alarms
        self.membership = membership
        self.auth = auth
        self._auth_store = auth.store
        self.quota_bytes = quota_bytes
        self.is_over_quota = False
        """Set when an applied write met a full backend; the member then raises NOSPACE."""
        self._space = space
        self.is_tight = True
        self.takes_any_put = False
        """Whether nothing but the store has a say in a put: no alarm, no auth, room enough."""
        self._on_compaction = on_compaction
        self._handlers: dict[Kind, Callable[[Any, float], Result]] = {
            Kind.PUT: self._put,
            Kind.DELETE_RANGE: self._delete_range,
            Kind.TXN: self._txn,
            Kind.COMPACTION: self._compact,
            Kind.LEASE_GRANT: self._lease_grant,
            Kind.LEASE_REVOKE: self._lease_revoke,
            Kind.LEASE_CHECKPOINT: self._lease_checkpoint,
            Kind.ALARM: self._alarm,
            Kind.CLUSTER_VERSION_SET: self._cluster_version_set,
            Kind.CLUSTER_MEMBER_ATTR_SET: self._cluster_member_attr_set,
            Kind.DOWNGRADE_INFO_SET: self._downgrade_info_set,
            Kind.DOWNGRADE_VERSION_TEST: self._nothing,
            Kind.RANGE: self._nothing,
            Kind.LEGACY: self._legacy,
        }

    def apply(
        self,
        kind: Kind,
        request: Any,
        now: float,
        identity: Identity = NOBODY,
        index: int = 0,
    ) -> Result:
        """Apply one command, proposed by `identity`, of the entry at `index`. The monotonic time
        `now` is used for lease deadlines only."""
        if self.alarms.has_corrupt and kind in REFUSED_WHEN_CORRUPT:
            raise errors.Corrupt
        if self._auth_store.is_enabled:
            self._refuse_by_alarm_or_permission(kind, request, identity)
        handler = self._handlers.get(kind)
        try:
            if handler is None:
                return self.store.revision, self.auth.apply(kind, request, index)
            return handler(request, now)
        finally:
            if kind not in KEY_KINDS:
                self._note_who_decides()

    def _note_who_decides(self) -> None:
        self.takes_any_put = not (
            self.is_tight
            or self.alarms.has_nospace
            or self.alarms.has_corrupt
            or self._auth_store.is_enabled
        )

    def _refuse_by_alarm_or_permission(self, kind: Kind, request: Any, identity: Identity) -> None:
        """Whoever may not write learns of a full backend first (spec/kv.md §4 step 9)."""
        if self.alarms.has_nospace and (
            kind is Kind.PUT or (kind is Kind.TXN and txn_cost(request) > 0)
        ):
            raise errors.NoSpace
        self.auth.judge(kind, request, identity)

    # -- quota

    def note_space(self) -> None:
        """Look how near the quota is, after each slice of applying. Far from it (the usual case)
        small requests are not weighed at all."""
        quota = self.quota_bytes
        used = self._space.size_bytes + self._space.pending_bytes
        self.is_tight = 0 <= quota <= used + TIGHT_BYTES
        self._note_who_decides()

    def has_room_for(self, cost: int) -> bool:
        """Whether a request of this cost fits the quota; cost 0 always does (spec/kv.md L4)."""
        if cost == 0 or self.quota_bytes < 0:
            return True
        return self._space.size_bytes + self._space.pending_bytes + cost < self.quota_bytes

    def _refuse_when_alarmed(self) -> None:
        if self.alarms.has_nospace:
            raise errors.NoSpace

    def _note_space(self, cost: int) -> None:
        """The write has been applied; if it did not fit, alarm and tell its proposer (L5)."""
        if not self.has_room_for(cost):
            self.is_over_quota = True
            raise errors.NoSpace

    # -- keys

    def _put(self, request: rpc_pb2.PutRequest, now: float) -> Result:
        if self.alarms.has_nospace:
            raise errors.NoSpace
        result = self.store.put(request)
        if self.is_tight:
            self._note_space(put_cost(request))
        return result

    def _delete_range(self, request: rpc_pb2.DeleteRangeRequest, now: float) -> Result:
        return self.store.delete_range(request)

    def _txn(self, request: rpc_pb2.TxnRequest, now: float) -> Result:
        if not self.is_tight and not self.alarms.has_nospace:
            return self.store.txn(request)
        cost = txn_cost(request)
        if cost > 0:
            self._refuse_when_alarmed()
        result = self.store.txn(request)
        self._note_space(cost)
        return result

    def _compact(self, request: rpc_pb2.CompactionRequest, now: float) -> Result:
        self._on_compaction(self.store.compact(request.revision))
        return self.store.revision, b""

    # -- leases

    def _lease_grant(self, request: rpc_pb2.LeaseGrantRequest, now: float) -> Result:
        self._refuse_when_alarmed()
        ttl = self.lessor.grant(request.ID, request.TTL, now)
        self._save_lease(request.ID)
        self._note_space(LEASE_COST_BYTES)
        body = rpc_pb2.LeaseGrantResponse(ID=request.ID, TTL=ttl).SerializeToString()
        return self.store.revision, body

    def _lease_revoke(self, request: rpc_pb2.LeaseRevokeRequest, now: float) -> Result:
        keys = self.lessor.revoke(request.ID)
        self._space.delete("lease", _lease_key(request.ID))
        return self.store.lease_revoke_keys(keys), b""

    def _lease_checkpoint(self, request: internal_pb2.LeaseCheckpointRequest, now: float) -> Result:
        for checkpoint in request.checkpoints:
            if self.lessor.checkpoint(checkpoint.ID, checkpoint.remaining_TTL, now):
                self._save_lease(checkpoint.ID)
        return self.store.revision, b""

    def _save_lease(self, lease_id: int) -> None:
        self._space.put("lease", _lease_key(lease_id), self.lessor.record(lease_id))

    # -- the cluster

    def _alarm(self, request: rpc_pb2.AlarmRequest, now: float) -> Result:
        if request.action == rpc_pb2.AlarmRequest.ACTIVATE:
            pairs = self.alarms.activate(request.memberID, request.alarm)
        elif request.action == rpc_pb2.AlarmRequest.DEACTIVATE:
            pairs = self.alarms.deactivate(request.memberID, request.alarm)
            if request.alarm == NOSPACE:
                self.is_over_quota = False
        else:
            pairs = self.alarms.pairs(request.alarm)
        response = rpc_pb2.AlarmResponse()
        for member, kind in pairs:
            response.alarms.add(memberID=member, alarm=kind)
        return self.store.revision, response.SerializeToString()

    def _cluster_version_set(
        self, request: membership_pb2.ClusterVersionSetRequest, now: float
    ) -> Result:
        self.membership.set_version(request.ver)
        return self.store.revision, b""

    def _cluster_member_attr_set(
        self, request: membership_pb2.ClusterMemberAttrSetRequest, now: float
    ) -> Result:
        attributes = request.member_attributes
        self.membership.set_attributes(request.member_ID, attributes.name, attributes.client_urls)
        return self.store.revision, b""

    def _downgrade_info_set(
        self, request: membership_pb2.DowngradeInfoSetRequest, now: float
    ) -> Result:
        self.membership.set_downgrade(request.ver if request.enabled else "")
        return self.store.revision, b""

    def _legacy(self, request: legacy_pb2.Request, now: float) -> Result:
        """Attributes and the cluster version as releases up to 3.5 publish them."""
        parts = request.Path.strip("/").split("/")
        if request.Method == "PUT" and request.Path == "/0/version":
            self.membership.set_version(request.Val)
        elif request.Method == "PUT" and len(parts) == 4 and parts[3] == "attributes":
            fields = json.loads(request.Val)
            self.membership.set_attributes(
                int(parts[2], 16), fields.get("name", ""), fields.get("clientURLs") or ()
            )
        elif request.Method not in ("QGET", "SYNC", "PUT", "POST", "DELETE"):
            raise errors.FatalError(f"a legacy request with method {request.Method!r}")
        return self.store.revision, b""

    def _nothing(self, request: Any, now: float) -> Result:
        """Operations that change nothing here (spec/raft-wire.md W3)."""
        return self.store.revision, b""


def _lease_key(lease_id: int) -> bytes:
    return lease_id.to_bytes(8, "big", signed=True)
