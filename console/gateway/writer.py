"""A reader that may also write."""

from __future__ import annotations

from console.gateway import wire
from console.gateway.errors import domain_error
from console.gateway.reader import Reader
from console.gateway.records import LeaseTime, Written
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
        put = rpc_pb2.PutRequest(key=key, value=value, lease=lease, ignore_lease=keeps_lease)
        return self._guarded(key, base_mod_revision, rpc_pb2.RequestOp(request_put=put))

    def delete(self, key: bytes, *, base_mod_revision: int) -> Written:
        """Delete if the key's mod_revision still is `base_mod_revision`."""
        delete = rpc_pb2.DeleteRangeRequest(key=key)
        return self._guarded(key, base_mod_revision, rpc_pb2.RequestOp(request_delete_range=delete))

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

    def _guarded(self, key: bytes, mod_revision: int, operation: rpc_pb2.RequestOp) -> Written:
        compare = rpc_pb2.Compare(
            key=key,
            target=rpc_pb2.Compare.MOD,
            result=rpc_pb2.Compare.EQUAL,
            mod_revision=mod_revision,
        )
        read = rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=key))
        txn = rpc_pb2.TxnRequest(compare=[compare], success=[operation], failure=[read])
        answer = self._write(lambda stubs: stubs.kv.Txn, txn)
        if answer.succeeded:
            return Written(True, answer.header.revision)
        kvs = answer.responses[0].response_range.kvs
        found = wire.key(kvs[0], has_value=True) if kvs else None
        return Written(False, answer.header.revision, found)
