"""The hub on the real store: what it asks of a history is what the store gives."""

from __future__ import annotations

import pytest

from kvserver.lease import Lessor
from kvserver.mvcc.backend.memory import MemoryBackend
from kvserver.mvcc.store import Store
from kvserver.proto import kv_pb2, rpc_pb2
from kvserver.watch import Hub
from tests.watch.fakes import FakeSink, encode_header


class OnStore:
    def __init__(self) -> None:
        self.lessor = Lessor(ttl_min=2)
        self.store = Store(MemoryBackend(), self.lessor)
        self.hub = Hub(self.store, encode_header)
        self.sink = FakeSink()
        self.stream = self.hub.open_stream(self.sink)

    def tell(self) -> None:
        events = self.store.take_events()
        if events:
            self.hub.notify(events[0].main, events)

    def put(self, key: bytes, value: bytes = b"v", lease: int = 0) -> None:
        self.store.put(rpc_pb2.PutRequest(key=key, value=value, lease=lease))
        self.tell()

    def delete(self, key: bytes, end: bytes = b"") -> None:
        self.store.delete_range(rpc_pb2.DeleteRangeRequest(key=key, range_end=end))
        self.tell()

    def compact(self, revision: int) -> None:
        job = self.store.compact(revision)
        while not job.step():
            pass

    def watch(self, key: bytes, end: bytes = b"", start: int = 0) -> list[kv_pb2.Event]:
        """All events of a new watch with prev_kv, until it has caught up."""
        request = rpc_pb2.WatchCreateRequest(
            key=key, range_end=end, start_revision=start, prev_kv=True
        )
        self.stream.request(rpc_pb2.WatchRequest(create_request=request))
        return self.events()

    def events(self) -> list[kv_pb2.Event]:
        while self.hub.step():
            pass
        return [event for response in self.sink.read() for event in response.events]


@pytest.fixture
def on() -> OnStore:
    return OnStore()


def test_replay_equals_what_live_watchers_saw(on: OnStore) -> None:  # V1-V4, N1
    assert on.watch(b"", b"\x00") == []
    on.lessor.grant(5, 60, 0.0)
    on.put(b"a")
    on.put(b"b", lease=5)
    on.put(b"a", b"2")
    on.delete(b"a", b"c")
    on.delete(b"nothing")
    txn = rpc_pb2.TxnRequest()
    for key in (b"f2", b"f1"):
        txn.success.add().request_put.key = key
    txn.success.add().request_delete_range.key = b"none"
    on.store.txn(txn)
    on.tell()
    live = on.events()
    assert [e.kv.mod_revision for e in live] == [2, 3, 4, 5, 5, 6, 6]
    assert [e.kv.key for e in live] == [b"a", b"b", b"a", b"a", b"b", b"f2", b"f1"]
    assert [e.prev_kv.mod_revision for e in live] == [0, 0, 2, 4, 3, 0, 0]
    assert live[4].prev_kv.lease == 5
    assert on.watch(b"", b"\x00", start=1) == live


def test_lease_revoke(on: OnStore) -> None:  # cases 30, 31; spec/lease.md case 14
    on.lessor.grant(100, 60, 0.0)
    for key in (b"zz", b"b", b"z"):
        on.put(key, lease=100)
    on.watch(b"", b"\x00")
    on.store.lease_revoke_keys(on.lessor.revoke(100))
    on.tell()
    events = on.events()
    assert [(e.type, e.kv.key, e.prev_kv.lease) for e in events] == [
        (kv_pb2.Event.DELETE, key, 100) for key in (b"b", b"z", b"zz")
    ]
    assert events[0].kv == kv_pb2.KeyValue(key=b"b", mod_revision=5)


def test_many_revisions(on: OnStore) -> None:  # case 20
    for number in range(2500):
        on.put(b"k%d" % (number % 7), b"%d" % number)
    assert [e.kv.mod_revision for e in on.watch(b"", b"\x00", start=1)] == list(range(2, 2502))


def test_compacted_history(on: OnStore) -> None:  # cases 14, 17, N2, D5
    for _ in range(3):
        on.put(b"h")
    on.delete(b"h")
    on.put(b"x")
    on.compact(3)
    events = on.watch(b"h", start=3)
    assert [e.kv.mod_revision for e in events] == [3, 4, 5]
    assert [e.prev_kv.mod_revision for e in events] == [0, 3, 4]
    on.compact(5)
    (tombstone,) = on.watch(b"h", start=5)
    assert (tombstone.type, tombstone.kv.mod_revision) == (kv_pb2.Event.DELETE, 5)
    assert [e.kv.key for e in on.watch(b"", b"\x00", start=5)] == [b"h", b"x"]


def test_key_changed_twice_in_one_revision(on: OnStore) -> None:  # case 37, N3
    on.put(b"tmp", b"old")
    on.watch(b"tmp")
    txn = rpc_pb2.TxnRequest()
    inner = txn.success.add().request_txn
    inner.success.add().request_put.key = b"tmp"
    other = txn.success.add().request_txn
    other.success.add().request_delete_range.key = b"tmp"
    on.store.txn(txn)
    on.tell()
    events = on.events()
    assert [e.type for e in events] == [kv_pb2.Event.PUT, kv_pb2.Event.DELETE]
    assert [e.prev_kv.value for e in events] == [b"old", b"old"]
