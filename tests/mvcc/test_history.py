"""Past revisions for watchers (spec/watch.md §2, §3, D5)."""

from __future__ import annotations

import pytest

from kvserver.mvcc import history
from kvserver.proto import kv_pb2
from tests.mvcc.rig import ALL, Delete, Put, Rig, txn


@pytest.fixture
def rig() -> Rig:
    """Revisions 2 (a), 3 (a), 4 (x, y, a deleted), 5 (b), 6 (all deleted: b, x, y)."""
    rig = Rig(5)
    rig.put(b"a", b"1", lease=5)
    rig.put(b"a", b"2")
    rig.store.txn(txn(Put(key=b"y"), Put(key=b"x"), Delete(key=b"a")))
    rig.put(b"b")
    rig.delete(**ALL)
    return rig


def test_history_is_what_watchers_were_told(rig: Rig) -> None:
    """V1 to V3: replayed events equal the live ones."""
    told = rig.store.take_events()
    replayed = rig.store.events_between(1, 6, 100)
    assert [event for events in replayed for event in events] == told
    assert [len(events) for events in replayed] == [1, 1, 3, 1, 3]


@pytest.mark.parametrize("scan_records", [1, 2, 3, 1000])
@pytest.mark.parametrize(
    ("first", "last", "limit", "mains"),
    [
        (1, 6, 2, [2, 3]),
        (3, 6, 2, [3, 4]),
        (4, 4, 9, [4]),
        (4, 5, 1, [4]),
        (5, 99, 9, [5, 6]),
        (7, 99, 9, []),
        (6, 5, 9, []),
    ],
)
def test_whole_revisions(
    rig: Rig,
    monkeypatch: pytest.MonkeyPatch,
    scan_records: int,
    first: int,
    last: int,
    limit: int,
    mains: list[int],
) -> None:
    """V4, V5: a limit counts revisions and never splits one."""
    monkeypatch.setattr(history, "SCAN_RECORDS", scan_records)
    got = rig.store.events_between(first, last, limit)
    assert [events[0].main for events in got] == mains
    assert [len(events) for events in got] == [{4: 3, 6: 3}.get(main, 1) for main in mains]


def test_a_delete_shows_key_and_revision(rig: Rig) -> None:
    """V2."""
    (_, _, deleted), *_ = rig.store.events_between(4, 4, 1)
    assert deleted.is_delete
    assert kv_pb2.KeyValue.FromString(deleted.kv) == kv_pb2.KeyValue(key=b"a", mod_revision=4)


def test_the_key_one_revision_earlier(rig: Rig) -> None:
    """N1."""
    kv = kv_pb2.KeyValue.FromString(rig.store.kv_at(b"a", 3) or b"")
    assert (kv.value, kv.version, kv.mod_revision) == (b"2", 2, 3)
    assert rig.store.kv_at(b"a", 1) is None
    assert rig.store.kv_at(b"a", 4) is None
    assert rig.store.kv_at(b"never", 4) is None
    first = rig.store.kv_at(b"a", 2)
    assert first is not None
    assert kv_pb2.KeyValue.FromString(first).lease == 5
