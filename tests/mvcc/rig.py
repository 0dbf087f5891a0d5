"""What the store's tests stand on: a store over memory, leases as a set, requests in one line."""

from __future__ import annotations

from typing import Any

from kvserver.mvcc.backend.api import NO_GRANT
from kvserver.mvcc.backend.memory import MemoryBackend
from kvserver.mvcc.compaction import CompactionJob
from kvserver.mvcc.hash import KVHash
from kvserver.mvcc.store import Store
from kvserver.proto import rpc_pb2

ALL = {"key": b"\0", "range_end": b"\0"}

Range = rpc_pb2.RangeRequest
Put = rpc_pb2.PutRequest
Delete = rpc_pb2.DeleteRangeRequest
Compare = rpc_pb2.Compare
Txn = rpc_pb2.TxnRequest
Op = rpc_pb2.RequestOp
AnyRequest = Range | Put | Delete | Txn


class Leases:
    """A lessor that knows which leases exist and who holds which key."""

    def __init__(self, *known: int) -> None:
        self.keys: dict[int, set[bytes]] = {lease: set() for lease in known}

    def exists(self, lease_id: int) -> bool:
        return lease_id in self.keys

    def attach(self, lease_id: int, key: bytes) -> None:
        self.keys[lease_id].add(key)

    def detach(self, lease_id: int, key: bytes) -> None:
        self.keys.get(lease_id, set()).discard(key)


class Rig:
    """A store whose answers come as messages, with the header's revision beside them."""

    def __init__(self, *leases: int) -> None:
        self.backend = MemoryBackend()
        self.leases = Leases(*leases)
        self.store = Store(self.backend, self.leases)
        self.store.restore()

    def put(self, key: bytes, value: bytes = b"", **fields: Any) -> rpc_pb2.PutResponse:
        revision, body = self.store.put(Put(key=key, value=value, **fields))
        return _with_revision(rpc_pb2.PutResponse.FromString(body), revision)

    def delete(self, key: bytes, range_end: bytes = b"", **fields: Any) -> Any:
        request = Delete(key=key, range_end=range_end, **fields)
        revision, body = self.store.delete_range(request)
        return _with_revision(rpc_pb2.DeleteRangeResponse.FromString(body), revision)

    def range(self, key: bytes, range_end: bytes = b"", **fields: Any) -> rpc_pb2.RangeResponse:
        revision, body = self.store.range_(Range(key=key, range_end=range_end, **fields))
        return _with_revision(rpc_pb2.RangeResponse.FromString(body), revision)

    def all(self, **fields: Any) -> rpc_pb2.RangeResponse:
        return self.range(**ALL, **fields)

    def txn(self, *success: AnyRequest, **fields: Any) -> rpc_pb2.TxnResponse:
        revision, body = self.store.txn(txn(*success, **fields))
        return _with_revision(rpc_pb2.TxnResponse.FromString(body), revision)

    def compact(self, revision: int) -> CompactionJob:
        """And the removal to its end."""
        return finish(self.store.compact(revision))

    def hash_kv(self, revision: int = 0) -> KVHash:
        job = self.store.hash_kv(revision)
        finish(job)
        assert job.hash is not None
        return job.hash

    def records(self) -> list[bytes]:
        """The revision keys that are stored."""
        return [key for pairs in self.backend.scan_all() for key, _ in pairs]

    def reopen(self) -> CompactionJob | None:
        """Stop after a flush, start again; the compaction that goes on, if one was under way."""
        flush(self.backend)
        self.backend = self.backend.after_crash()
        self.leases = Leases(*self.leases.keys)
        self.store = Store(self.backend, self.leases)
        return self.store.restore()


def flush(backend: MemoryBackend) -> None:
    job = backend.begin_flush()
    if job is not None:
        job.run(NO_GRANT)
        backend.finish_flush(job)


def finish(job: Any) -> Any:
    while not job.step():
        pass
    return job


def ops(*requests: AnyRequest) -> list[Op]:
    return [Op(**{_FIELDS[type(request)]: request}) for request in requests]


def txn(
    *success: AnyRequest, compare: Any = (), failure: tuple[AnyRequest, ...] = ()
) -> rpc_pb2.TxnRequest:
    return Txn(compare=compare, success=ops(*success), failure=ops(*failure))


def keys(response: rpc_pb2.RangeResponse) -> list[bytes]:
    return [kv.key for kv in response.kvs]


_FIELDS = {
    Range: "request_range",
    Put: "request_put",
    Delete: "request_delete_range",
    Txn: "request_txn",
}


def _with_revision(response: Any, revision: int) -> Any:
    assert not response.HasField("header"), "the header is the service's"
    response.header.revision = revision
    return response
