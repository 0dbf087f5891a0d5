"""A reader that may also write."""

from __future__ import annotations

from console.gateway.errors import domain_error
from console.gateway.reader import Reader
from console.gateway.records import LeaseTime, Written
from console.gateway.txns import txn_request, txn_result
from console.keys.txn import Delete, Get, Put, Txn, TxnResult, unchanged
from kvserver.client import CallFailed
from kvserver.proto import rpc_pb2

WRITE_SECONDS = 8.0


class Writer(Reader):
    """A reader that may also write. Every write of a key is one guarded txn (traps 1 and 2)."""

    def put(
        self,
        key: bytes,
        value: bytes,
        *,
        base_mod_revision: int,
        lease: int = 0,
        keeps_lease: bool = False,
    ) -> Written:
        """Put if the key's mod_revision still is `base_mod_revision` (0: if it does not exist)."""
        return self._guarded(key, base_mod_revision, Put(key, value, lease, keeps_lease))

    def delete(self, key: bytes, *, base_mod_revision: int) -> Written:
        """Delete if the key's mod_revision still is `base_mod_revision`."""
        return self._guarded(key, base_mod_revision, Delete(key))

    def txn(self, txn: Txn) -> TxnResult:
        answer = self._write(lambda stubs: stubs.kv.Txn, txn_request(txn))
        return txn_result(txn, answer)

    def grant_lease(self, seconds: int, lease: int = 0) -> LeaseTime:
        """A new lease; the cluster may grant more than was asked for (spec/lease.md G4)."""
        request = rpc_pb2.LeaseGrantRequest(TTL=seconds, ID=lease)
        answer = self._write(lambda stubs: stubs.lease.LeaseGrant, request)
        return LeaseTime(answer.ID, answer.TTL, answer.TTL)

    def keep_lease_alive(self, lease: int) -> LeaseTime:
        """Once. A lease that has ended answers with 0 seconds (K3), here -1 as everywhere."""
        request = rpc_pb2.LeaseKeepAliveRequest(ID=lease)
        try:
            answer = self._client.write_once(
                lambda stubs: stubs.lease.LeaseKeepAlive, request, WRITE_SECONDS
            )
        except CallFailed as error:
            raise domain_error(error) from None
        return LeaseTime(lease, answer.TTL or -1, answer.TTL)

    def revoke_lease(self, lease: int) -> int:
        """End it now, and every key attached to it. The revision afterwards."""
        request = rpc_pb2.LeaseRevokeRequest(ID=lease)
        return int(self._write(lambda stubs: stubs.lease.LeaseRevoke, request).header.revision)

    def _write(self, pick, request):  # type: ignore[no-untyped-def]
        try:
            return self._client.write(pick, request, WRITE_SECONDS)
        except CallFailed as error:
            raise domain_error(error) from None

    def _guarded(self, key: bytes, mod_revision: int, operation: Put | Delete) -> Written:
        result = self.txn(Txn((unchanged(key, mod_revision),), (operation,), (Get(key),)))
        if result.succeeded:
            return Written(True, result.revision)
        found = result.answers[0].keys
        return Written(False, result.revision, found[0] if found else None)
