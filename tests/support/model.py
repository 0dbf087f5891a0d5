"""A key-value store as a list of records: the specification in the plainest code there is.

It shares nothing with `kvserver.mvcc` but the message classes and the error types. Everything is
worked out from the list of all records whenever it is asked for, so there is no state that could be
wrong. Slow on purpose; for property tests and as the reference of the simulator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from crc32c import crc32c

from kvserver import errors
from kvserver.proto import kv_pb2, rpc_pb2

NUL = b"\0"
KeyValue = kv_pb2.KeyValue
State = dict[bytes, KeyValue]
T = TypeVar("T")


class Record(NamedTuple):
    """One change: `kv` is None for a delete (M3, M7)."""

    main: int
    sub: int
    key: bytes
    kv: KeyValue | None

    def disk_key(self) -> bytes:
        key = self.main.to_bytes(8) + b"_" + self.sub.to_bytes(8)
        return key if self.kv is not None else key + b"t"

    def disk_value(self) -> bytes:
        return (self.kv or KeyValue(key=self.key)).SerializeToString()


class Hash(NamedTuple):
    hash: int
    compact_revision: int


def in_interval(key: bytes, first: bytes, range_end: bytes) -> bool:
    """K1 to K3."""
    if not range_end:
        return key == first
    return key >= first and (range_end == NUL or key < range_end)


@dataclass
class Model:
    """The whole store. `stored` holds every record that no finished compaction has removed."""

    revision: int = 1
    compact_revision: int = -1
    stored: list[Record] = field(default_factory=list)
    leases: set[int] = field(default_factory=set)
    compaction_hashes: dict[int, Hash] = field(default_factory=dict)
    _next_sub: int = 0

    # What is true at a revision

    def state(self, revision: int | None = None) -> State:
        """The live keys at a revision; without one, after every change so far."""
        state: State = {}
        for record in self.stored:
            if revision is not None and record.main > revision:
                break
            if record.kv is None:
                state.pop(record.key, None)
            else:
                state[record.key] = record.kv
        return {key: state[key] for key in sorted(state)}

    def events(self, first: int, last: int) -> list[list[Record]]:
        """Whole revisions of `stored`."""
        revisions: dict[int, list[Record]] = {}
        for record in self.stored:
            if first <= record.main <= last:
                revisions.setdefault(record.main, []).append(record)
        return list(revisions.values())

    # Range (§5)

    def range_(self, request: rpc_pb2.RangeRequest) -> rpc_pb2.RangeResponse:
        if request.revision > self.revision:
            raise errors.FutureRev
        if 0 < request.revision < self.compact_revision:
            raise errors.Compacted
        return self._range(request)

    def _range(self, request: rpc_pb2.RangeRequest) -> rpc_pb2.RangeResponse:
        state = self.state(request.revision if request.revision > 0 else None)
        kvs = [kv for key, kv in state.items() if in_interval(key, request.key, request.range_end)]
        response = rpc_pb2.RangeResponse(count=len(kvs))  # R4
        if request.count_only:
            return response  # R5
        limit = max(request.limit, 0)  # R9
        bounds = (
            (request.min_mod_revision, request.max_mod_revision, _mod),
            (request.min_create_revision, request.max_create_revision, _create),
        )
        is_filtered = any(low or high for low, high, _ in bounds)
        if request.sort_order == rpc_pb2.RangeRequest.NONE and not is_filtered and limit:
            kvs = kvs[: limit + 1]  # R10
        for low, high, revision_of in bounds:  # R6
            kvs = [kv for kv in kvs if not low or revision_of(kv) >= low]
            kvs = [kv for kv in kvs if not high or revision_of(kv) <= high]
        descends = request.sort_order == rpc_pb2.RangeRequest.DESCEND
        kvs.sort(key=_SORT_FIELDS[request.sort_target], reverse=descends)  # R7, R8
        if limit and len(kvs) > limit:
            response.more = True
            kvs = kvs[:limit]
        for kv in kvs:
            shown = response.kvs.add()
            shown.CopyFrom(kv)
            if request.keys_only:  # R11
                shown.value = b""
                if request.sort_target != rpc_pb2.RangeRequest.VALUE:
                    shown.lease = 0
        return response

    # Writes (§6, §7). Each returns its response; the revision is `self.revision`.

    def put(self, request: rpc_pb2.PutRequest) -> rpc_pb2.PutResponse:
        self._check_put(request)
        return self._commit(lambda: self._put(request))

    def _check_put(self, request: rpc_pb2.PutRequest) -> None:
        if request.lease and request.lease not in self.leases:
            raise errors.LeaseNotFound
        if (request.ignore_value or request.ignore_lease) and request.key not in self.state():
            raise errors.KeyNotFound

    def _put(self, request: rpc_pb2.PutRequest) -> rpc_pb2.PutResponse:
        previous = self.state().get(request.key)
        main = self.revision + 1
        kv = KeyValue(
            key=request.key,
            create_revision=previous.create_revision if previous else main,
            mod_revision=main,
            version=previous.version + 1 if previous else 1,
            value=previous.value if request.ignore_value and previous else request.value,
            lease=previous.lease if request.ignore_lease and previous else request.lease,
        )
        self._store(request.key, kv)
        return rpc_pb2.PutResponse(prev_kv=previous if request.prev_kv else None)

    def delete_range(self, request: rpc_pb2.DeleteRangeRequest) -> rpc_pb2.DeleteRangeResponse:
        return self._commit(lambda: self._delete_range(request))

    def _delete_range(self, request: rpc_pb2.DeleteRangeRequest) -> rpc_pb2.DeleteRangeResponse:
        response = rpc_pb2.DeleteRangeResponse()
        for key, kv in self.state().items():
            if in_interval(key, request.key, request.range_end):
                self._store(key, None)
                response.deleted += 1
                if request.prev_kv:
                    response.prev_kvs.append(kv)
        return response

    def revoke(self, lease: int) -> list[bytes]:
        """Lease V2. Returns the keys that went with it."""
        self.leases.discard(lease)
        keys = [key for key, kv in self.state().items() if kv.lease == lease]
        self._commit(lambda: [self._store(key, None) for key in keys])
        return keys

    def _store(self, key: bytes, kv: KeyValue | None) -> None:
        self.stored.append(Record(self.revision + 1, self._next_sub, key, kv))
        self._next_sub += 1

    def _commit(self, change: Callable[[], T]) -> T:
        self._next_sub = 0
        result = change()
        if self._next_sub:
            self.revision += 1
        return result

    # Txn (§8)

    def txn(self, request: rpc_pb2.TxnRequest) -> rpc_pb2.TxnResponse:
        before = self.state()
        self._check_txn(request, before)
        return self._commit(lambda: self._txn(request, before))

    def _branch(self, request: rpc_pb2.TxnRequest, before: State) -> Iterable[rpc_pb2.RequestOp]:
        holds = all(_holds(compare, before) for compare in request.compare)
        return request.success if holds else request.failure

    def _check_txn(self, request: rpc_pb2.TxnRequest, before: State) -> None:
        """T10."""
        for op in self._branch(request, before):
            kind = op.WhichOneof("request")
            if kind == "request_put":
                self._check_put(op.request_put)
            elif kind == "request_txn":
                self._check_txn(op.request_txn, before)
            elif kind == "request_range" and op.request_range.revision:
                if op.request_range.revision > self.revision:
                    raise errors.FutureRev
                if op.request_range.revision < self.compact_revision:
                    raise errors.Compacted

    def _txn(self, request: rpc_pb2.TxnRequest, before: State) -> rpc_pb2.TxnResponse:
        """T11; `before` decides every branch (T9)."""
        response = rpc_pb2.TxnResponse(
            succeeded=all(_holds(compare, before) for compare in request.compare)
        )
        for op in self._branch(request, before):
            result = response.responses.add()
            kind = op.WhichOneof("request")
            if kind == "request_put":
                result.response_put.CopyFrom(self._put(op.request_put))
                result.response_put.header.revision = self._seen()
            elif kind == "request_delete_range":
                result.response_delete_range.CopyFrom(self._delete_range(op.request_delete_range))
                result.response_delete_range.header.revision = self._seen()
            elif kind == "request_range":
                result.response_range.CopyFrom(self._range(op.request_range))
                result.response_range.header.revision = self._seen()
            else:
                result.response_txn.CopyFrom(self._txn(op.request_txn, before))
                result.response_txn.header.SetInParent()  # H3: present and empty
        return response

    def _seen(self) -> int:
        return self.revision + 1 if self._next_sub else self.revision

    # Compact (§9)

    def compact(self, revision: int) -> None:
        if revision <= self.compact_revision:
            raise errors.Compacted
        if revision > self.revision:
            raise errors.FutureRev
        self.compact_revision = revision

    def finish_compaction(self, revision: int, previous: int | None) -> None:
        """The removal (Z3). `previous`: remember the compaction's hash, which began there (X5)."""
        kept = self._kept(revision)
        if previous is not None:
            self.compaction_hashes[revision] = self._hash(revision, previous, kept)
            for oldest in sorted(self.compaction_hashes)[:-10]:
                del self.compaction_hashes[oldest]
        self.stored = [r for r in self.stored if r.main > revision or r in kept]

    def _kept(self, revision: int) -> list[Record]:
        newest = {r.key: r for r in self.stored if r.main <= revision}
        return [r for r in newest.values() if r.kv is not None or r.main == revision]

    # HashKV (§11)

    def hash_kv(self, revision: int) -> Hash:
        if revision in self.compaction_hashes:
            return self.compaction_hashes[revision]
        if revision > self.revision:
            raise errors.FutureRev
        if 0 < revision < self.compact_revision:
            raise errors.Compacted
        revision = revision or self.revision
        return self._hash(revision, self.compact_revision, self._live_records(revision))

    def _live_records(self, revision: int) -> list[Record]:
        newest = {r.key: r for r in self.stored if r.main <= revision}
        return [r for r in newest.values() if r.kv is not None]

    def _hash(self, revision: int, compact_revision: int, live: list[Record]) -> Hash:
        """X1, X2."""
        text = b"key"
        for record in self.stored:
            if record.main > revision:
                continue
            if record.main <= compact_revision and live and record not in live:
                continue
            if record.kv is None and record.main == compact_revision:
                continue
            text += record.disk_key() + record.disk_value()
        return Hash(crc32c(text), compact_revision)

    def nothing_lives_at(self, revision: int) -> bool:
        """Then HashKV depends on how far the removal has come, in etcd too."""
        return not self._live_records(revision)


# Compare (§8.4)


def _holds(compare: rpc_pb2.Compare, state: State) -> bool:
    kvs = [kv for key, kv in state.items() if in_interval(key, compare.key, compare.range_end)]
    if kvs:
        return all(_holds_for(compare, kv) for kv in kvs)  # C4
    if compare.target == rpc_pb2.Compare.VALUE:
        return False  # C3
    return _holds_for(compare, KeyValue())


def _holds_for(compare: rpc_pb2.Compare, kv: KeyValue) -> bool:
    stored, given = {
        rpc_pb2.Compare.VERSION: (kv.version, compare.version),
        rpc_pb2.Compare.CREATE: (kv.create_revision, compare.create_revision),
        rpc_pb2.Compare.MOD: (kv.mod_revision, compare.mod_revision),
        rpc_pb2.Compare.VALUE: (kv.value, compare.value),
        rpc_pb2.Compare.LEASE: (kv.lease, compare.lease),
    }.get(compare.target, (0, 0))  # C5
    return {
        rpc_pb2.Compare.EQUAL: stored == given,
        rpc_pb2.Compare.NOT_EQUAL: stored != given,
        rpc_pb2.Compare.GREATER: stored > given,
        rpc_pb2.Compare.LESS: stored < given,
    }.get(compare.result, True)  # C5


def _mod(kv: KeyValue) -> int:
    return kv.mod_revision


def _create(kv: KeyValue) -> int:
    return kv.create_revision


_SORT_FIELDS: dict[int, Callable[[KeyValue], bytes | int]] = {
    rpc_pb2.RangeRequest.KEY: lambda kv: kv.key,
    rpc_pb2.RangeRequest.VERSION: lambda kv: kv.version,
    rpc_pb2.RangeRequest.CREATE: _create,
    rpc_pb2.RangeRequest.MOD: _mod,
    rpc_pb2.RangeRequest.VALUE: lambda kv: kv.value,
}
