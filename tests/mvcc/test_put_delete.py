"""Put, DeleteRange and lease bindings (spec/kv.md §6, §7, §17 cases 2 and 14 to 16)."""

from __future__ import annotations

from typing import Any

import pytest

from kvserver.errors import EmptyKey, KeyNotFound, LeaseNotFound, LeaseProvided, ValueProvided
from kvserver.mvcc.event import Event
from kvserver.mvcc.txn_check import check_delete, check_put
from kvserver.proto import kv_pb2
from tests.mvcc.rig import ALL, Delete, Put, Rig, keys


@pytest.fixture
def rig() -> Rig:
    return Rig(5, 7)


def test_each_put_takes_one_revision(rig: Rig) -> None:
    """Case 2, M3, M4, P5."""
    assert rig.put(b"a", b"1").header.revision == 2
    response = rig.put(b"a", b"2", prev_kv=True)
    assert response.header.revision == 3
    expected = kv_pb2.KeyValue(key=b"a", create_revision=2, mod_revision=2, version=1, value=b"1")
    assert response.prev_kv == expected
    assert not rig.put(b"new", prev_kv=True).HasField("prev_kv")


def test_an_identical_put_is_a_write(rig: Rig) -> None:
    """M6."""
    rig.put(b"a", b"1")
    rig.put(b"a", b"1")
    assert rig.store.revision == 3
    assert rig.range(b"a").kvs[0].version == 2


def test_deleting_nothing_changes_nothing(rig: Rig) -> None:
    """Case 14, M8."""
    rig.put(b"a")
    response = rig.delete(b"zzz")
    assert (response.deleted, response.header.revision) == (0, 2)


def test_a_new_generation(rig: Rig) -> None:
    """Case 15, M5."""
    rig.put(b"a", b"1")
    response = rig.delete(b"a", prev_kv=True)
    assert (response.deleted, response.header.revision) == (1, 3)
    assert [kv.value for kv in response.prev_kvs] == [b"1"]
    assert not rig.put(b"a", b"2", prev_kv=True).HasField("prev_kv")
    (kv,) = rig.range(b"a").kvs
    assert (kv.create_revision, kv.mod_revision, kv.version) == (4, 4, 1)


def test_a_range_is_deleted_in_key_order_at_one_revision(rig: Rig) -> None:
    """D1, D2, M3."""
    for key in (b"b", b"a", b"c"):
        rig.put(key)
    rig.store.take_events()
    response = rig.delete(**ALL, prev_kv=True)
    assert [kv.key for kv in response.prev_kvs] == [b"a", b"b", b"c"]
    assert [(e.key, e.main, e.sub) for e in rig.store.take_events()] == [
        (b"a", 5, 0),
        (b"b", 5, 1),
        (b"c", 5, 2),
    ]
    assert rig.delete(b"c", b"a").deleted == 0


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"key": b""}, EmptyKey),
        ({"key": b"a", "value": b"x", "ignore_value": True}, ValueProvided),
        ({"key": b"a", "lease": 5, "ignore_lease": True}, LeaseProvided),
    ],
)
def test_static_validation_of_a_put(fields: dict[str, Any], error: type[Exception]) -> None:
    """Case 16, P1."""
    with pytest.raises(error):
        check_put(Put(**fields))


def test_static_validation_of_a_delete() -> None:
    """D1."""
    with pytest.raises(EmptyKey):
        check_delete(Delete(range_end=b"a"))


def test_puts_that_need_what_is_not_there(rig: Rig) -> None:
    """Case 16, P2 to P4: nothing is written."""
    with pytest.raises(KeyNotFound):
        rig.put(b"nope", ignore_value=True)
    with pytest.raises(KeyNotFound):
        rig.put(b"nope", ignore_lease=True)
    with pytest.raises(LeaseNotFound):
        rig.put(b"a", lease=6)
    with pytest.raises(LeaseNotFound):
        rig.put(b"nope", lease=6, ignore_value=True)
    assert (rig.store.revision, rig.records(), rig.store.take_events()) == (1, [], [])


def test_keeping_value_or_lease(rig: Rig) -> None:
    """P3."""
    rig.put(b"a", b"1", lease=5)
    rig.put(b"a", ignore_value=True, lease=7)
    (kv,) = rig.range(b"a").kvs
    assert (kv.value, kv.lease, kv.version) == (b"1", 7, 2)
    rig.put(b"a", b"2", ignore_lease=True)
    (kv,) = rig.range(b"a").kvs
    assert (kv.value, kv.lease, kv.version) == (b"2", 7, 3)
    rig.put(b"a", ignore_value=True, ignore_lease=True)
    (kv,) = rig.range(b"a").kvs
    assert (kv.value, kv.lease, kv.version) == (b"2", 7, 4)


def test_a_key_belongs_to_the_lease_of_its_newest_put(rig: Rig) -> None:
    """P6, D3."""
    rig.put(b"a", lease=5)
    assert rig.leases.keys == {5: {b"a"}, 7: set()}
    rig.put(b"a", lease=7)
    assert rig.leases.keys == {5: set(), 7: {b"a"}}
    rig.put(b"a")
    assert rig.leases.keys == {5: set(), 7: set()}
    rig.put(b"a", lease=5)
    rig.delete(b"a")
    assert rig.leases.keys == {5: set(), 7: set()}
    rig.put(b"a")
    assert rig.range(b"a").kvs[0].lease == 0


def test_a_negative_lease_id(rig: Rig) -> None:
    """lease.md M1: ids are signed 64-bit numbers."""
    rig.leases.keys[-9] = set()
    rig.put(b"a", lease=-9)
    assert rig.range(b"a").kvs[0].lease == -9


def test_revoking_deletes_the_keys_at_one_revision(rig: Rig) -> None:
    """lease.md V2; a lease without keys takes no revision."""
    for key in (b"b", b"a", b"c"):
        rig.put(key, lease=5)
    rig.store.take_events()
    rig.leases.keys.pop(5)
    assert rig.store.lease_revoke_keys([b"a", b"b", b"c"]) == 5
    assert [(e.key, e.is_delete) for e in rig.store.take_events()] == [
        (b"a", True),
        (b"b", True),
        (b"c", True),
    ]
    assert keys(rig.all()) == []
    assert rig.store.lease_revoke_keys([]) == 5


def test_events(rig: Rig) -> None:
    """watch.md V1, V2."""
    rig.put(b"a", b"1", lease=5)
    rig.put(b"a", b"2")
    rig.delete(b"a")
    rig.put(b"a")
    created, changed, deleted, recreated = rig.store.take_events()
    assert created == Event(b"a", created.kv, False, True, 2, 0)
    assert kv_pb2.KeyValue.FromString(created.kv) == kv_pb2.KeyValue(
        key=b"a", create_revision=2, mod_revision=2, version=1, value=b"1", lease=5
    )
    assert (changed.is_create, changed.is_delete) == (False, False)
    assert kv_pb2.KeyValue.FromString(deleted.kv) == kv_pb2.KeyValue(key=b"a", mod_revision=4)
    assert (deleted.is_create, deleted.is_delete) == (False, True)
    assert recreated.is_create
    assert rig.store.take_events() == []


def test_records_on_disk(rig: Rig) -> None:
    """X1, M7."""
    rig.put(b"a", b"1", lease=5)
    rig.delete(b"a")
    pairs = [pair for pairs in rig.backend.scan_all() for pair in pairs]
    first = kv_pb2.KeyValue(
        key=b"a", create_revision=2, mod_revision=2, version=1, value=b"1", lease=5
    )
    assert pairs == [
        (b"\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\0", first.SerializeToString()),
        (b"\0\0\0\0\0\0\0\x03_\0\0\0\0\0\0\0\0t", kv_pb2.KeyValue(key=b"a").SerializeToString()),
    ]


def test_counters(rig: Rig) -> None:
    rig.put(b"a")
    rig.put(b"b")
    rig.delete(**ALL)
    rig.range(b"a")
    rig.all()
    rig.txn()
    counters = rig.store.counters
    assert (counters.puts, counters.deletes, counters.ranges, counters.txns) == (2, 2, 2, 1)


def test_a_revision_with_more_changes_than_a_byte_counts(rig: Rig) -> None:
    for number in range(300):
        rig.put(b"k%03d" % number)
    rig.delete(**ALL)
    assert len(rig.records()) == 600
    assert len(rig.store.events_between(302, 302, 10)[0]) == 300
