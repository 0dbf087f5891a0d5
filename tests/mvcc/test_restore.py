"""Rebuilding the store from its records (spec/kv.md Z5, lease.md M2, P4)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.mvcc.rig import ALL, Put, Rig, finish, keys, txn


def everything(rig: Rig) -> list[Any]:
    """What a client can see at every readable revision."""
    store = rig.store
    first = max(store.compact_revision, 1)
    readable = range(first, store.revision + 1)
    return [
        store.revision,
        store.compact_revision,
        store.live_keys,
        rig.leases.keys,
        [rig.all(revision=revision) for revision in readable],
        [rig.hash_kv(revision) for revision in range(first + 1, store.revision + 1)],
        store.events_between(first, store.revision, 1000),
    ]


def test_a_fresh_store() -> None:
    """M2."""
    rig = Rig()
    assert rig.reopen() is None
    assert (rig.store.revision, rig.store.compact_revision) == (1, -1)


def test_everything_comes_back() -> None:
    rig = Rig(5, 7)
    rig.put(b"once", b"1")
    rig.put(b"twice", b"1", lease=5)
    rig.put(b"twice", b"2", lease=7)
    rig.put(b"gone", lease=5)
    rig.delete(b"gone")
    rig.put(b"again")
    rig.delete(b"again")
    rig.put(b"again", b"x" * 300, lease=5)
    rig.put(b"freed", lease=5)
    rig.put(b"freed")
    rig.store.txn(txn(*(Put(key=b"t%d" % number) for number in range(3))))
    rig.store.take_events()
    before = everything(rig)
    assert rig.reopen() is None
    assert everything(rig) == before
    assert rig.leases.keys == {5: {b"again"}, 7: {b"twice"}}
    assert rig.store.take_events() == []


def test_versions_and_generations_go_on() -> None:
    """M4: also where the first record of a key is not its first put any more."""
    rig = Rig()
    for _ in range(3):
        rig.put(b"a")
    rig.put(b"b")
    rig.compact(4)
    before = everything(rig)
    rig.reopen()
    assert everything(rig) == before
    rig.put(b"a")
    rig.put(b"b")
    a, b = rig.all().kvs
    assert (a.create_revision, a.mod_revision, a.version) == (2, 6, 4)
    assert (b.create_revision, b.mod_revision, b.version) == (5, 7, 2)


def test_a_tombstone_whose_puts_are_gone() -> None:
    """Z3: the one kept at exactly the compact revision goes at the next, restart or not."""
    rig = Rig()
    rig.put(b"a")
    rig.delete(b"a")
    rig.compact(3)
    rig.reopen()
    assert rig.all().count == 0
    assert len(rig.records()) == 1
    rig.put(b"b")
    rig.compact(4)
    assert len(rig.records()) == 1
    assert keys(rig.all()) == [b"b"]


def test_counting_at_a_revision_before_the_restart() -> None:
    """What was born or died before is not remembered, so it is counted key by key."""
    rig = Rig()
    for number in range(10):
        rig.put(b"k%d" % number)
    rig.delete(b"k3")
    rig.reopen()
    rig.put(b"k3")
    assert rig.all(revision=11, limit=2).count == 10
    assert rig.all(revision=12, limit=2).count == 9
    assert rig.range(**ALL, revision=5, count_only=True).count == 4


def test_a_lease_that_is_gone_is_not_attached() -> None:
    """It cannot be stored so, but one file must not keep a member from starting."""
    rig = Rig(5)
    rig.put(b"a", lease=5)
    rig.leases.keys.clear()
    rig.reopen()
    assert rig.range(b"a").kvs[0].lease == 5


def test_long_keys() -> None:
    """Their length takes two bytes."""
    rig = Rig()
    rig.put(b"k" * 200, b"v")
    rig.put(b"k" * 20_000, b"v")
    rig.reopen()
    assert [len(key) for key in keys(rig.all())] == [200, 20_000]
    assert [len(kv.key) for kv in rig.all(keys_only=True).kvs] == [200, 20_000]


@pytest.mark.parametrize("is_finished", [True, False])
def test_the_revision_outlives_the_records(is_finished: bool) -> None:
    """Z5: older releases drop the tombstone at exactly C too, and their data is restored here."""
    rig = Rig()
    rig.put(b"a")
    rig.delete(b"a")
    job = rig.store.compact(3)
    if is_finished:
        finish(job)
    rig.backend.remove_revisions(rig.records())
    rig.reopen()
    assert (rig.store.revision, rig.store.compact_revision) == (3, 3)
    assert rig.put(b"a").header.revision == 4
