"""The store against the model (verification.md rung 3): any requests, in any order, with
compaction, slow readers, flushes and crashes in between; every answer equal byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kvserver.errors import DuplicateKey, RequestError
from kvserver.mvcc import compaction, index, range, range_slices
from kvserver.mvcc import hash as hash_module
from kvserver.mvcc.backend.memory import MemoryBackend
from kvserver.mvcc.compaction import CompactionJob
from kvserver.mvcc.range import RangeCursor
from kvserver.mvcc.store import Store
from kvserver.mvcc.txn_check import check_txn
from kvserver.proto import rpc_pb2
from tests.mvcc.rig import Compare, Delete, Leases, Put, Range, finish, flush, txn
from tests.support.model import Model

LEASES = (5, 7)
KEYS = st.sampled_from([b"\0", b"a", b"a\0", b"ab", b"b", b"ba", b"c", b"\xff"])
ENDS = st.one_of(st.just(b""), st.just(b"\0"), KEYS)
VALUES = st.sampled_from([b"", b"1", b"2", b"v" * 200])
LEASE = st.sampled_from([0, 0, 0, *LEASES, 9])
SMALL = st.integers(-3, 12)
RELATIVE = (1000, 1001, 1002, 1004, 1006)
"""Of ranges inside transactions: 1001 is the revision current when it runs, 1002 the one before."""

puts = st.builds(
    Put,
    key=KEYS,
    value=VALUES,
    lease=LEASE,
    prev_kv=st.booleans(),
)
keeping_puts = st.builds(
    Put, key=KEYS, ignore_value=st.booleans(), ignore_lease=st.booleans(), prev_kv=st.booleans()
)
deletes = st.builds(Delete, key=KEYS, range_end=ENDS, prev_kv=st.booleans())
ranges = st.builds(
    Range,
    key=KEYS,
    range_end=ENDS,
    limit=st.integers(-1, 5),
    keys_only=st.booleans(),
    count_only=st.sampled_from([False, False, False, True]),
    sort_order=st.integers(0, 2),
    sort_target=st.integers(0, 4),
)
filters = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        (
            "min_mod_revision",
            "max_mod_revision",
            "min_create_revision",
            "max_create_revision",
        ),
        SMALL,
    ),
)
compares = st.builds(
    Compare,
    key=KEYS,
    range_end=ENDS,
    result=st.integers(0, 4),
    target=st.integers(0, 5),
) | st.one_of(
    st.builds(Compare, key=KEYS, target=st.just(0), result=st.integers(0, 3), version=SMALL),
    st.builds(
        Compare, key=KEYS, target=st.just(1), result=st.integers(0, 3), create_revision=SMALL
    ),
    st.builds(Compare, key=KEYS, target=st.just(2), result=st.integers(0, 3), mod_revision=SMALL),
    st.builds(Compare, key=KEYS, target=st.just(3), result=st.integers(0, 3), value=VALUES),
    st.builds(Compare, key=KEYS, target=st.just(4), result=st.integers(0, 3), lease=LEASE),
)


def ranges_in_txn() -> st.SearchStrategy[Any]:
    def at(request: Range, revision: int) -> Range:
        request = Range.FromString(request.SerializeToString())
        request.revision = revision
        return request

    return st.builds(at, ranges, st.sampled_from([0, 0, 0, 1, *RELATIVE, -2]))


def _txns(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    op = st.one_of(puts, keeping_puts, deletes, ranges_in_txn(), children)
    return st.builds(
        lambda success, failure, compare: txn(*success, failure=tuple(failure), compare=compare),
        st.lists(op, max_size=4),
        st.lists(op, max_size=3),
        st.lists(compares, max_size=2),
    )


txns = st.recursive(_txns(puts), _txns, max_leaves=3)


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Everything that is done in slices is done in many, and few births are remembered."""
    monkeypatch.setattr(range, "STEP_COST", 1)
    monkeypatch.setattr(range_slices, "PAGE_KEYS", 2)
    monkeypatch.setattr(range_slices, "PAGE_KEYS_MIN", 1)
    monkeypatch.setattr(range_slices, "FETCH_RECORDS_MIN", 1)
    monkeypatch.setattr(index, "CHANGES_MAX", 6)
    monkeypatch.setattr(hash_module, "STEP_RECORDS", 3)
    monkeypatch.setattr(compaction, "STEP_RECORDS", 3)
    monkeypatch.setattr(compaction, "STEP_KEYS", 2)
    yield


class StoreMachine(RuleBasedStateMachine):
    """The store on the left, the model on the right."""

    def __init__(self) -> None:
        super().__init__()
        self.leases = Leases(*LEASES)
        self.backend = MemoryBackend()
        self.store = Store(self.backend, self.leases)
        self.store.restore()
        self.model = Model(leases=set(LEASES))
        self.jobs: list[tuple[CompactionJob, int | None]] = []
        """With the revision where the job's hash begins, if it has one."""
        self.cursors: list[tuple[RangeCursor, int, bytes]] = []
        """With the answer they must give."""
        self.saved = (deepcopy(self.model), -1)

    @initialize(keys=st.lists(KEYS, max_size=10), request=puts)
    def load(self, keys: list[bytes], request: Put) -> None:
        for key in keys:
            self.put(Put(key=key, value=request.value, lease=request.lease))

    def both(self, ours: Callable[[], Any], theirs: Callable[[], Any]) -> Any:
        """Do both; the same answer or the same refusal. None when refused."""
        before = self.store.revision
        try:
            expected = theirs()
        except RequestError as error:
            with pytest.raises(type(error)):
                ours()
            assert self.store.revision == before
            assert self.store.take_events() == []
            return None
        revision, body = ours()
        assert revision == self.model.revision
        assert body == expected.SerializeToString()
        return expected

    def check_events(self) -> None:
        """What watchers are told is what the model stored last."""
        events = self.store.take_events()
        if not events:
            return
        main = self.model.revision
        records = [r for r in self.model.stored if r.main == main]
        assert [(e.key, e.main, e.sub, e.is_delete) for e in events] == [
            (r.key, r.main, r.sub, r.kv is None) for r in records
        ]
        for event, record in zip(events, records, strict=True):
            shown = record.kv or {"key": record.key, "mod_revision": main}
            assert event.kv == _encoded(shown)
            assert event.is_create == (record.kv is not None and record.kv.create_revision == main)

    @rule(request=puts | keeping_puts)
    def put(self, request: Put) -> None:
        self.both(lambda: self.store.put(request), lambda: self.model.put(request))
        self.check_events()

    @rule(request=deletes)
    def delete(self, request: Delete) -> None:
        self.both(
            lambda: self.store.delete_range(request), lambda: self.model.delete_range(request)
        )
        self.check_events()

    @rule(request=txns)
    def txn(self, request: rpc_pb2.TxnRequest) -> None:
        request = _at_revision(request, self.model.revision)
        try:
            check_txn(request, 128)
        except (DuplicateKey, RequestError):
            return
        if _keeps_a_deleted_key(request):
            return
        self.both(lambda: self.store.txn(request), lambda: self.model.txn(request))
        self.check_events()

    @rule(lease=st.sampled_from(LEASES))
    def revoke(self, lease: int) -> None:
        if lease not in self.model.leases:
            self.leases.keys[lease] = set()
            self.model.leases.add(lease)
            return
        keys = sorted(self.leases.keys.pop(lease))
        assert self.model.revoke(lease) == keys
        assert self.store.lease_revoke_keys(keys) == self.model.revision
        self.check_events()

    @rule(request=ranges, options=filters, back=st.integers(-1, 12))
    def range(self, request: Range, options: dict[str, int], back: int) -> None:
        request = self._at(request, options, back)
        self.both(lambda: self.store.range_(request), lambda: self.model.range_(request))

    @rule(request=ranges, options=filters, back=st.integers(-1, 12))
    def begin_cursor(self, request: Range, options: dict[str, int], back: int) -> None:
        request = self._at(request, options, back)
        try:
            expected = self.model.range_(request).SerializeToString()
        except RequestError:
            return
        cursor = self.store.range_cursor(request)
        self.cursors.append((cursor, self.model.revision, expected))
        self.step_cursor(0)

    @precondition(lambda self: self.cursors)
    @rule(position=st.integers(0, 9))
    def step_cursor(self, position: int) -> None:
        """D6: however the store moved on, the answer is that of the beginning."""
        cursor, revision, expected = self.cursors[position % len(self.cursors)]
        if cursor.step():
            assert cursor.result() == (revision, expected)
            del self.cursors[position % len(self.cursors)]

    def _at(self, request: Range, options: dict[str, int], back: int) -> Range:
        request = Range.FromString(request.SerializeToString())
        for name, value in options.items():
            setattr(request, name, value)
        request.revision = 0 if back == 12 else self.model.revision - back
        return request

    @rule(back=st.integers(-1, 6))
    def compact(self, back: int) -> None:
        revision = self.model.revision - back
        previous = self.model.compact_revision
        try:
            self.model.compact(revision)
        except RequestError as error:
            with pytest.raises(type(error)):
                self.store.compact(revision)
            return
        had_jobs = bool(self.jobs)
        self.jobs.append((self.store.compact(revision), None if had_jobs else previous))

    @precondition(lambda self: self.jobs)
    @rule()
    def step_compaction(self) -> None:
        job, previous = self.jobs[0]
        if job.step():
            self.model.finish_compaction(job.revision, previous)
            del self.jobs[0]

    @rule(back=st.integers(-1, 8))
    def hash_kv(self, back: int) -> None:
        revision = self.model.revision - back
        try:
            expected = self.model.hash_kv(revision)
        except RequestError as error:
            with pytest.raises(type(error)):
                self.store.hash_kv(revision)
            return
        job = finish(self.store.hash_kv(revision))
        if not (self.jobs and self.model.nothing_lives_at(revision)):
            assert (job.hash.hash, job.hash.compact_revision) == expected

    @rule(first=st.integers(0, 9), length=st.integers(0, 20), limit=st.integers(1, 4))
    def history(self, first: int, length: int, limit: int) -> None:
        first = max(self.model.compact_revision + 1, self.model.revision - first)
        got = self.store.events_between(first, first + length, limit)
        expected = self.model.events(first, first + length)[:limit]
        assert [[(e.key, e.main, e.sub) for e in events] for events in got] == [
            [(r.key, r.main, r.sub) for r in records] for records in expected
        ]

    @rule(key=KEYS, back=st.integers(0, 5))
    def kv_at(self, key: bytes, back: int) -> None:
        revision = max(self.model.compact_revision, self.model.revision - back)
        expected = self.model.state(revision).get(key)
        found = self.store.kv_at(key, revision)
        assert found == (None if expected is None else expected.SerializeToString())

    @rule()
    def flush(self) -> None:
        flush(self.backend)
        self.saved = (deepcopy(self.model), self._unfinished())

    @rule()
    def crash(self) -> None:
        """Everything since the last flush is lost (and would come again from the log)."""
        self.model, unfinished = deepcopy(self.saved)
        self.backend = self.backend.after_crash()
        self.leases = Leases(*self.model.leases)
        self.store = Store(self.backend, self.leases)
        job = self.store.restore()
        self.cursors.clear()
        self.model.compaction_hashes.clear()
        self.jobs = [] if job is None else [(job, None)]
        assert (-1 if job is None else job.revision) == unfinished

    def _unfinished(self) -> int:
        return self.jobs[-1][0].revision if self.jobs else -1

    @invariant()
    def agrees(self) -> None:
        assert self.store.revision == self.model.revision
        assert self.store.compact_revision == self.model.compact_revision
        state = self.model.state()
        assert self.store.live_keys == len(state)
        for lease, keys in self.leases.keys.items():
            assert keys == {key for key, kv in state.items() if kv.lease == lease}

    def teardown(self) -> None:
        """Nothing is left behind: what is stored is what the model stores."""
        while self.cursors:
            self.step_cursor(0)
        while self.jobs:
            self.step_compaction()
        stored = [pair for pairs in self.backend.scan_all() for pair in pairs]
        assert stored == [(r.disk_key(), r.disk_value()) for r in self.model.stored]


def _encoded(shown: Any) -> bytes:
    kv = shown if not isinstance(shown, dict) else rpc_pb2.RangeResponse().kvs.add(**shown)
    return bytes(kv.SerializeToString())


def _at_revision(request: rpc_pb2.TxnRequest, current: int) -> rpc_pb2.TxnRequest:
    """The request with its RELATIVE revisions resolved."""
    resolved = rpc_pb2.TxnRequest.FromString(request.SerializeToString())
    _resolve(resolved, current)
    return resolved


def _resolve(request: rpc_pb2.TxnRequest, current: int) -> None:
    for op in (*request.success, *request.failure):
        if op.HasField("request_txn"):
            _resolve(op.request_txn, current)
        elif op.request_range.revision in RELATIVE:
            op.request_range.revision = max(current + 1001 - op.request_range.revision, 1)


def _keeps_a_deleted_key(request: rpc_pb2.TxnRequest) -> bool:
    """etcd gives up altogether on a put that keeps the value of a key which the same transaction
    deletes; ours is tested in test_txn."""
    text = str(request)
    return "ignore_" in text and "delete_range" in text


StoreMachine.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestStore = StoreMachine.TestCase
