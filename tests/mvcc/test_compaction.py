"""Compaction (spec/kv.md §9, cases 17 to 19; verification.md "Lessons")."""

from __future__ import annotations

import pytest

from kvserver.errors import Compacted, FutureRev
from kvserver.mvcc import compaction
from kvserver.mvcc.revision import is_tombstone, main_of
from tests.mvcc.rig import ALL, Delete, Put, Range, Rig, Txn, finish, flush, keys, txn


@pytest.fixture
def rig() -> Rig:
    """a put at 2 and 3 and deleted at 4, b at 5 and 6, c at 7: revision 7."""
    rig = Rig(5)
    rig.put(b"a", b"1")
    rig.put(b"a", b"2")
    rig.delete(b"a")
    rig.put(b"b", b"1")
    rig.put(b"b", b"2")
    rig.put(b"c", b"1")
    return rig


def mains(rig: Rig) -> list[str]:
    """The stored records: their revision, with a t for tombstones."""
    return [f"{main_of(key)}{'t' * is_tombstone(key)}" for key in rig.records()]


def test_compact_revisions_that_are_refused(rig: Rig) -> None:
    """Case 17, Z1: the compact revision starts at -1."""
    assert rig.store.compact_revision == -1
    with pytest.raises(Compacted):
        rig.store.compact(-1)
    rig.compact(0)
    for revision in (0, -1):
        with pytest.raises(Compacted):
            rig.store.compact(revision)
    with pytest.raises(FutureRev):
        rig.store.compact(8)
    assert rig.store.revision == 7
    assert mains(rig) == ["2", "3", "4t", "5", "6", "7"]


def test_compacting_twice(rig: Rig) -> None:
    """Case 18, Z1."""
    rig.compact(5)
    with pytest.raises(Compacted):
        rig.store.compact(5)
    with pytest.raises(FutureRev):
        rig.store.compact(100)
    rig.compact(7)


def test_reads_around_the_compact_revision(rig: Rig) -> None:
    """Case 19, Z2: at once, before anything is removed."""
    job = rig.store.compact(5)
    for _ in range(2):
        assert keys(rig.all(revision=5)) == [b"b"]
        for revision in (4, 1):
            with pytest.raises(Compacted):
                rig.all(revision=revision)
        assert keys(rig.all(revision=-3)) == [b"b", b"c"]
        with pytest.raises(Compacted):
            rig.store.txn(txn(Range(**ALL, revision=-3)))
        finish(job)


@pytest.mark.parametrize(
    ("revision", "left"),
    [
        (2, ["2", "3", "4t", "5", "6", "7"]),
        (3, ["3", "4t", "5", "6", "7"]),
        (4, ["4t", "5", "6", "7"]),
        (5, ["5", "6", "7"]),
        (6, ["6", "7"]),
        (7, ["6", "7"]),
    ],
)
def test_what_is_kept(rig: Rig, revision: int, left: list[str]) -> None:
    """Z3: everything newer, the newest of each live key, and a tombstone at exactly C."""
    rig.compact(revision)
    assert mains(rig) == left


def test_the_tombstone_at_the_compact_revision_goes_with_the_next(rig: Rig) -> None:
    """Z3; watch.md D5: until then a watcher from there sees it."""
    rig.compact(4)
    assert [e.is_delete for e in rig.store.events_between(4, 4, 10)[0]] == [True]
    assert rig.store.kv_at(b"a", 4) is None
    rig.compact(5)
    assert rig.store.events_between(4, 4, 10) == []
    assert mains(rig) == ["5", "6", "7"]


def test_generations_before_the_compact_revision_go(rig: Rig) -> None:
    """Z3, M5."""
    rig.put(b"a", b"3")
    rig.put(b"a", b"4")
    rig.compact(8)
    assert mains(rig) == ["6", "7", "8", "9"]
    assert rig.range(b"a", revision=8).kvs[0].create_revision == 8
    rig.compact(9)
    (a,) = rig.range(b"a").kvs
    assert (a.create_revision, a.mod_revision, a.version) == (8, 9, 2)
    rig.put(b"a")
    (a,) = rig.range(b"a").kvs
    assert (a.create_revision, a.mod_revision, a.version) == (8, 10, 3)


def test_a_key_put_and_deleted_in_one_revision(rig: Rig) -> None:
    rig.store.txn(txn(txn(Put(key=b"x")), txn(*[])))
    rig.store.txn(_put_then_delete(b"x"))
    rig.compact(9)
    assert mains(rig) == ["6", "7", "9t"]
    rig.put(b"y")
    rig.compact(10)
    assert mains(rig) == ["6", "7", "10"]


def test_compacting_everything_away_keeps_the_revision(rig: Rig) -> None:
    """Z5."""
    rig.delete(**ALL)
    rig.compact(8)
    rig.put(b"z")
    rig.delete(b"z")
    rig.compact(10)
    assert mains(rig) == ["10t"]
    assert rig.reopen() is None
    assert (rig.store.revision, rig.store.compact_revision) == (10, 10)
    assert rig.all().count == 0
    assert rig.put(b"z").header.revision == 11


def test_a_restart_does_an_unfinished_compaction_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Z5; killed after each step of the removal."""
    monkeypatch.setattr(compaction, "STEP_KEYS", 1)
    rig.store.compact(6)
    stored = []
    while job := rig.reopen():
        assert (rig.store.compact_revision, rig.store.revision) == (6, 7)
        job.step()
        stored.append(len(rig.records()))
    assert len(stored) == 2
    assert 2 < stored[0] < 6
    assert mains(rig) == ["6", "7"]
    assert rig.store.compact_revision == 6


def test_a_crash_before_anything_was_written_forgets_the_compaction(rig: Rig) -> None:
    """It comes again from the log, like every other entry since."""
    flush(rig.backend)
    rig.store.compact(6)
    rig.backend = rig.backend.after_crash()
    rig.store.backend = rig.backend
    assert rig.store.restore() is None
    assert rig.store.compact_revision == -1
    assert mains(rig) == ["2", "3", "4t", "5", "6", "7"]


def test_compactions_run_in_their_order(rig: Rig) -> None:
    first = rig.store.compact(4)
    second = rig.store.compact(6)
    finish(second)
    assert first.is_finished
    assert first.step()
    assert mains(rig) == ["6", "7"]
    assert rig.reopen() is None


def test_writes_during_a_compaction(rig: Rig) -> None:
    """The job looks at the keys as they are when it comes to them."""
    job = rig.store.compact(7)
    job.step()
    rig.put(b"c", b"2")
    rig.delete(b"b")
    finish(job)
    assert mains(rig) == ["6", "7", "8", "9t"]
    assert keys(rig.all(revision=7)) == [b"b", b"c"]
    rig.compact(9)
    assert mains(rig) == ["8", "9t"]


def test_removal_comes_in_batches() -> None:
    rig = Rig()
    for _ in range(3):
        for number in range(1500):
            rig.put(b"k%04d" % number)
    job = rig.store.compact(rig.store.revision)
    left = []
    while not job.step():
        left.append(len(rig.records()))
    assert set(left) == {4500, 3500, 2500}
    assert len(rig.records()) == 1500
    assert rig.store.counters.compacted == 3000
    assert rig.all().count == 1500


def test_a_job_of_a_store_that_was_rebuilt_is_over(rig: Rig) -> None:
    """A snapshot from the leader replaces the store (watch.md M4)."""
    job = rig.store.compact(6)
    flush(rig.backend)
    again = rig.store.restore()
    assert job.step()
    assert again is not None
    finish(again)
    assert mains(rig) == ["6", "7"]


def _put_then_delete(key: bytes) -> Txn:
    return txn(txn(Put(key=key)), txn(Delete(key=key)))


def test_a_key_that_came_back_before_the_job_came_to_it(rig: Rig) -> None:
    """What is left of it is one first put, about which the next compaction has nothing to do."""
    job = rig.store.compact(7)
    rig.put(b"a", b"3")
    finish(job)
    assert mains(rig) == ["6", "7", "8"]
    rig.compact(8)
    assert mains(rig) == ["6", "7", "8"]
    (a, *_) = rig.all().kvs
    assert (a.create_revision, a.version) == (8, 1)
