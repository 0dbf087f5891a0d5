"""HashKV (spec/kv.md §11, cases 40 to 42): the numbers are those of a real etcd."""

from __future__ import annotations

import pytest
from crc32c import crc32c

from kvserver.errors import Compacted, FutureRev
from kvserver.mvcc import compaction
from kvserver.mvcc import hash as hash_module
from kvserver.mvcc.hash import KVHash
from kvserver.proto import rpc_pb2
from tests.mvcc.rig import ALL, Delete, Put, Rig, finish, flush, txn

LEASE = 0x1234
BARE = 1084519789
"""The hash of the word `key`."""


@pytest.fixture(params=[1, 2, 1000], ids=lambda n: f"steps-of-{n}")
def rig(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """The history of case 40."""
    monkeypatch.setattr(hash_module, "STEP_RECORDS", request.param)
    monkeypatch.setattr(compaction, "STEP_RECORDS", request.param)
    rig = Rig(LEASE)
    rig.put(b"a", b"1")
    rig.put(b"a", b"2", lease=LEASE)
    rig.store.txn(txn(Put(key=b"b", value=b"x"), Put(key=b"c"), Delete(key=b"a")))
    rig.put(b"a", b"3")
    rig.delete(b"b")
    return rig


def test_each_revision(rig: Rig) -> None:
    """Case 40."""
    hashes = [rig.hash_kv(revision) for revision in range(1, 7)]
    assert [h.hash for h in hashes] == [
        1084519789,
        2587454935,
        2579241511,
        25571319,
        2906475940,
        3315916414,
    ]
    assert {h.compact_revision for h in hashes} == {-1}


def test_after_a_compaction(rig: Rig) -> None:
    """Case 41."""
    rig.compact(4)
    assert [rig.hash_kv(revision) for revision in (5, 6)] == [
        KVHash(1510754281, 4, 5),
        KVHash(1499988417, 4, 6),
    ]


def test_down_to_nothing_and_over_a_restart(rig: Rig) -> None:
    """Case 42."""
    rig.compact(4)
    rig.compact(6)
    assert rig.hash_kv(0).hash == 2062651116
    rig.delete(**ALL)
    assert rig.hash_kv(0).hash == 3188181014
    rig.compact(7)
    assert rig.hash_kv(0).hash == BARE
    rig.reopen()
    assert rig.hash_kv(0).hash == BARE
    assert rig.all().header.revision == 7


def test_revisions_that_cannot_be_hashed(rig: Rig) -> None:
    """X3."""
    rig.compact(4)
    with pytest.raises(FutureRev):
        rig.store.hash_kv(7)
    with pytest.raises(Compacted):
        rig.store.hash_kv(3)
    assert rig.hash_kv(-5).hash == BARE == crc32c(b"key")


def test_the_compact_revision_itself_after_a_restart(rig: Rig) -> None:
    """X3: allowed. The stored hash is gone by then, so this one is computed."""
    rig.compact(5)
    rig.reopen()
    assert rig.hash_kv(5).compact_revision == 5


def test_a_compaction_remembers_the_hash_of_its_revision(rig: Rig) -> None:
    """X5: with the revision where it began, found by the exact revision only."""
    at_4, at_6 = rig.hash_kv(4), rig.hash_kv(6)
    rig.compact(4)
    assert rig.hash_kv(4) == at_4 == KVHash(25571319, -1, 4)
    between = rig.hash_kv(6)
    assert between.hash != at_6.hash
    rig.compact(6)
    assert rig.hash_kv(6) == between
    assert rig.hash_kv(4) == at_4
    assert rig.hash_kv(0) == KVHash(2062651116, 6, 6)


def test_only_ten_are_remembered() -> None:
    """X5."""
    rig = Rig()
    for _ in range(12):
        rig.put(b"a")
        rig.compact(rig.store.revision)
    with pytest.raises(Compacted):
        rig.hash_kv(3)
    assert rig.hash_kv(4).compact_revision == 3
    assert rig.hash_kv(13).compact_revision == 12


def test_an_interrupted_compaction_has_no_hash(rig: Rig) -> None:
    """X5: nor has one that began before the one before it was through."""
    rig.store.compact(3)
    job = rig.reopen()
    finish(job)
    assert rig.hash_kv(3).compact_revision == 3
    rig.store.compact(4)
    finish(rig.store.compact(5))
    assert rig.hash_kv(4).compact_revision == 3
    assert rig.hash_kv(5).compact_revision == 5


def test_how_far_the_removal_has_come_does_not_matter(rig: Rig) -> None:
    """X2."""
    job = rig.store.compact(5)
    seen = {rig.hash_kv(6)}
    while not job.step():
        seen.add(rig.hash_kv(6))
    seen.add(rig.hash_kv(6))
    assert len(seen) == 1


def test_nor_does_it_where_no_key_is_alive(rig: Rig) -> None:
    """Found by the simulator: a leader took itself for corrupt."""
    rig.store.compactions.batch_revisions = 1
    for key in (b"a", b"c"):
        rig.delete(key)
    job = rig.store.compact(7)
    before = rig.hash_kv(8)
    while not job.step():
        assert rig.hash_kv(8) == before
    assert rig.hash_kv(8) == before


def test_a_hash_under_way_is_pinned(rig: Rig) -> None:
    """Writes and compactions in between do not show (design D6)."""
    expected = rig.hash_kv(6)
    job = rig.store.hash_kv(0)
    is_finished = job.step()
    rig.delete(**ALL)
    compaction = rig.store.compact(7)
    while not is_finished:
        compaction.step()
        is_finished = job.step()
    assert job.hash == expected


def test_the_reply(rig: Rig) -> None:
    """X4."""
    rig.compact(4)
    revision, body = finish(rig.store.hash_kv(5)).result()
    assert (revision, rpc_pb2.HashKVResponse.FromString(body)) == (
        6,
        rpc_pb2.HashKVResponse(hash=1510754281, compact_revision=4, hash_revision=5),
    )
    _, body = finish(Rig().store.hash_kv(0)).result()
    assert rpc_pb2.HashKVResponse.FromString(body) == rpc_pb2.HashKVResponse(
        hash=BARE, compact_revision=-1, hash_revision=1
    )


def test_the_hash_is_that_of_the_records(rig: Rig) -> None:
    """X1, wherever the records are."""
    expected = rig.hash_kv()
    flush(rig.backend)
    assert rig.hash_kv() == expected
    pairs = [pair for pairs in rig.backend.scan_all() for pair in pairs]
    assert expected.hash == crc32c(b"key" + b"".join(key + record for key, record in pairs))
