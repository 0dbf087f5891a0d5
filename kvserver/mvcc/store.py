"""The store: applies writes to the index and the backend, and answers reads (design §3).

Owner: the loop. A write changes memory only: the index, and the backend's active buffer, which the
flush thread brings to disk together with the consistent index. It either raises a `RequestError`
before its first change or succeeds (spec/kv.md §4 step 9).

Results are `(revision for the header, response body without its header)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from kvserver.errors import Compacted, FatalError, FutureRev, KeyNotFound, LeaseNotFound
from kvserver.mvcc import compaction, hash, history, range_stream, restore
from kvserver.mvcc.backend.api import Backend
from kvserver.mvcc.event import Event
from kvserver.mvcc.index import Index
from kvserver.mvcc.kv_codec import (
    decode_kv,
    encode_kv,
    encode_tombstone,
    length_delimited,
    prev_kvs,
    range_kvs,
    tombstone_event_kv,
    varint,
)
from kvserver.mvcc.range import RangeCursor, RangeQuery, interval_end
from kvserver.mvcc.revision import SUB_ZERO, RevisionKey, bound_after, revision_key, tombstone_key
from kvserver.mvcc.txn import run_txn
from kvserver.proto import rpc_pb2

Result = tuple[int, bytes]

FIRST_REVISION = 1
"""Of a fresh store, which holds nothing (M2)."""
NEVER_COMPACTED = -1


class LeaseBinder(Protocol):
    """What the store needs of the lessor."""

    def exists(self, lease_id: int) -> bool: ...

    def attach(self, lease_id: int, key: bytes) -> None: ...

    def detach(self, lease_id: int, key: bytes) -> None: ...


class Counters:
    """Plain numbers for the metrics page."""

    __slots__ = ("compacted", "deletes", "put_bytes", "puts", "ranges", "txns")

    def __init__(self) -> None:
        self.ranges = 0
        self.puts = 0
        self.put_bytes = 0
        """Of the stored records, encoded."""
        self.deletes = 0
        self.txns = 0
        self.compacted = 0


class Store:
    """Multi-version keys of one member."""

    def __init__(self, backend: Backend, lessor: LeaseBinder) -> None:
        """Empty; `restore` takes over what the backend holds."""
        self.backend = backend
        self.lessor = lessor
        self.counters = Counters()
        self.index = Index()
        self.leases: dict[bytes, int] = {}
        """The lease of each live key that has one."""
        self.revision = FIRST_REVISION
        self.compact_revision = NEVER_COMPACTED
        self.compactions = compaction.Compactions(self)
        self._events: list[Event] = []

    def restore(self, built: restore.IndexBuilder | None = None) -> compaction.CompactionJob | None:
        """Rebuild everything from the backend, `built` being its index if that is at hand. The
        compaction that was under way, if one was."""
        self._events = []
        builder = built or restore.rebuild(self.backend)
        self.index, self.leases = builder.index, builder.leases
        restore.attach(self.leases, self.lessor)
        return restore.restore_revisions(self, builder.newest_revision)

    @property
    def live_keys(self) -> int:
        return len(self.index.newest)

    def take_events(self) -> list[Event]:
        """The changes since this was last called, in order: call it after each applied request."""
        events = self._events
        if events:
            self._events = []
        return events

    # Writes

    def put(self, request: rpc_pb2.PutRequest) -> Result:
        lease = request.lease
        main = self.revision + 1
        if lease or request.prev_kv or request.ignore_value or request.ignore_lease:
            self.check_put_against_state(request)
            body = self.put_op(request, main, 0)
        else:  # hot: the plain put, without the calls in between
            self.write_put(request.key, request.value, 0, main, 0)
            body = b""
        self.revision = main
        return main, body

    def delete_range(self, request: rpc_pb2.DeleteRangeRequest) -> Result:
        main = self.revision + 1
        deleted, body = self.delete_op(request, main, 0)
        if deleted:
            self.revision = main
        return self.revision, body

    def txn(self, request: rpc_pb2.TxnRequest) -> Result:
        """Read-only transactions too: they change nothing and so take no revision (M8)."""
        self.counters.txns += 1
        body = run_txn(self, request)
        return self.revision, body

    def lease_revoke_keys(self, keys: list[bytes]) -> int:
        """Delete the keys of a revoked lease, given in ascending order, at one revision."""
        main = self.revision + 1
        sub = 0
        for key in keys:
            if key in self.index.newest:
                self.write_delete(key, main, sub)
                sub += 1
        if sub:
            self.revision = main
        return self.revision

    def compact(self, revision: int) -> compaction.CompactionJob:
        """Z1, Z2: reads below `revision` fail from now on; the job removes what they read."""
        if revision <= self.compact_revision:
            raise Compacted
        if revision > self.revision:
            raise FutureRev
        return self.compactions.schedule(revision)

    # Ops: what a request and a transaction's op have in common

    def check_put_against_state(self, request: rpc_pb2.PutRequest) -> None:
        """P2, P3; the lease first (P4)."""
        lease = request.lease
        if lease and not self.lessor.exists(lease):
            raise LeaseNotFound
        if (request.ignore_value or request.ignore_lease) and (
            request.key not in self.index.newest
        ):
            raise KeyNotFound

    def put_op(self, request: rpc_pb2.PutRequest, main: int, sub: int) -> bytes:
        """A checked put. Returns the body of its response."""
        key = request.key
        value = request.value
        lease = request.lease
        previous = b""
        if request.prev_kv or request.ignore_value:
            revision = self.index.newest.get(key)
            previous = b"" if revision is None else self.record(revision)
        if request.ignore_value and previous:
            value = decode_kv(previous).value
        if request.ignore_lease:
            lease = self.leases.get(key, 0)
        self.write_put(key, value, lease, main, sub)
        return length_delimited(b"\x12", previous) if previous and request.prev_kv else b""

    def delete_op(
        self, request: rpc_pb2.DeleteRangeRequest, main: int, sub: int
    ) -> tuple[int, bytes]:
        """Returns the number of deleted keys and the body of the response."""
        key = request.key
        index = self.index
        first = 0
        if not request.range_end:
            keys = [key] if key in index.newest else []
        else:
            first, last = index.live_positions(key, interval_end(key, request.range_end))
            keys = list(index.live.islice(first, last))
        if not keys:
            return 0, b""
        body = b"\x10" + varint(len(keys))
        if request.prev_kv:
            body += prev_kvs(self.backend.get_many([index.newest[k] for k in keys]))
        if len(keys) == 1:
            self.write_delete(keys[0], main, sub)
        else:
            self._write_delete_run(first, keys, main, sub)
        return len(keys), body

    # The two changes there are

    def write_put(self, key: bytes, value: bytes, lease: int, main: int, sub: int) -> None:
        # Hot: every put ends here; a budget of 5 us with everything it calls.
        revision = revision_key(main, sub) if sub else main.to_bytes(8) + SUB_ZERO
        key_history = self.index.put(key, revision, main)
        mod_revision = varint(main)
        if key_history is None:
            is_create = True
            record = encode_kv(key, mod_revision, mod_revision, b"\x01", value, lease)
        else:
            created = key_history.create_revision
            is_create = created == main
            record = encode_kv(
                key, varint(created), mod_revision, varint(key_history.version), value, lease
            )
        if lease or self.leases:
            self._bind_lease(key, lease)
        self.backend.append(revision, record)
        counters = self.counters
        counters.puts += 1
        counters.put_bytes += len(record)
        # tuple.__new__ saves the generated constructor's argument handling, a tenth of a put.
        self._events.append(_new_event(Event, (key, record, False, is_create, main, sub)))

    def write_delete(self, key: bytes, main: int, sub: int) -> None:
        """Of a live key."""
        tombstone = tombstone_key(main, sub)
        record = encode_tombstone(key)
        self.index.delete(key, tombstone, main)
        if self.leases:
            self._bind_lease(key, 0)
        self.backend.append(tombstone, record)
        self.counters.deletes += 1
        shown = tombstone_event_kv(record, main)
        self._events.append(_new_event(Event, (key, shown, True, False, main, sub)))

    def _write_delete_run(self, first: int, keys: list[bytes], main: int, sub: int) -> None:
        """Of neighbours: the live keys from position `first` on."""
        tombstones = [tombstone_key(main, position) for position in range(sub, sub + len(keys))]
        self.index.delete_run(first, keys, tombstones, main)
        if self.leases:
            for key in keys:
                self._bind_lease(key, 0)
        append, tell = self.backend.append, self._events.append
        for key, tombstone in zip(keys, tombstones, strict=True):
            record = encode_tombstone(key)
            append(tombstone, record)
            shown = tombstone_event_kv(record, main)
            tell(_new_event(Event, (key, shown, True, False, main, sub)))
            sub += 1
        self.counters.deletes += len(keys)

    def _bind_lease(self, key: bytes, lease: int) -> None:
        """P6: a key belongs to the lease of its newest put and to no other."""
        former = self.leases.get(key, 0)
        if former == lease:
            return
        if former:
            self.lessor.detach(former, key)
        if lease:
            self.leases[key] = lease
            self.lessor.attach(lease, key)
        else:
            del self.leases[key]

    # Reads

    def range_(self, request: rpc_pb2.RangeRequest) -> Result:
        """A whole Range at once: for one key, or where nothing else waits."""
        # Hot: one key by its name, nothing special asked, is a look-up and a record.
        if not request.range_end and not (
            request.revision > 0
            or request.keys_only
            or request.count_only
            or request.min_mod_revision
            or request.max_mod_revision
            or request.min_create_revision
            or request.max_create_revision
        ):
            self.counters.ranges += 1
            revision = self.index.newest.get(request.key)
            if revision is None:
                return self.revision, b""
            record = self.backend.get(revision)
            if record is None:
                raise _missing(revision)
            return self.revision, range_kvs([record]) + b"\x20\x01"
        cursor = self.range_cursor(request)
        while not cursor.step():
            pass
        return cursor.result()

    def range_cursor(self, request: rpc_pb2.RangeRequest) -> RangeCursor:
        """A Range to be answered in slices, pinned at the revision it names or at the current one.
        Nothing is removed that it still has to read, as long as the cursor is referenced."""
        query = RangeQuery(request, self.readable_revision(request.revision))
        self.counters.ranges += 1
        return RangeCursor(self, query)

    def range_stream(
        self, request: rpc_pb2.RangeRequest, header: Callable[[int], bytes]
    ) -> Iterator[bytes]:
        """The chunks of a RangeStream (§14); `header` encodes the field for the last one."""
        return range_stream.chunks(self, request, header)

    def readable_revision(self, revision: int) -> int:
        """R2."""
        if revision <= 0:
            return self.revision
        if revision > self.revision:
            raise FutureRev
        if revision < self.compact_revision:
            raise Compacted
        return revision

    def kv_at(self, key: bytes, revision: int) -> bytes | None:
        """The record of a key as of an uncompacted revision."""
        found = self.index.find(key, bound_after(revision))
        return None if found is None else self.record(found)

    def record(self, revision: RevisionKey) -> bytes:
        """The record the index promises."""
        record = self.backend.get(revision)
        if record is None:
            raise _missing(revision)
        return record

    def events_between(
        self, first_revision: int, last_revision: int, limit_revisions: int
    ) -> list[list[Event]]:
        """At most `limit_revisions` whole revisions, each its events in order."""
        return history.events_between(self.backend, first_revision, last_revision, limit_revisions)

    def hash_kv(self, revision: int) -> hash.HashJob:
        """The hash of the store as of a revision, 0 meaning the current one (X1 to X5)."""
        return hash.hash_kv(self, revision)


_new_event = tuple.__new__


def _missing(revision: RevisionKey) -> FatalError:
    return FatalError(
        f"record {revision.hex()} is in the index but not in the backend; restore this member "
        "from its peers or a snapshot"
    )
