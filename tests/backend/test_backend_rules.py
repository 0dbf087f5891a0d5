"""The rules of `api.Backend`, on the fake and on LMDB alike."""

from __future__ import annotations

import pytest

from kvserver.errors import FatalError
from kvserver.mvcc.backend.api import NO_GRANT, Backend, Defragmented, Marks
from kvserver.proto import auth_pb2
from tests.backend.conftest import Subject, fill, flush, revision_key

EVERYTHING = (b"", b"\xff", 10**9)


def mains(pairs: list[tuple[bytes, bytes]]) -> list[int]:
    return [int.from_bytes(key[:8]) for key, _ in pairs]


def in_three_layers(backend: Backend) -> None:
    """1-3 in the file, 4-6 frozen in a flush that has not ended, 7-9 in the active buffer."""
    fill(backend, 1, 3)
    flush(backend)
    fill(backend, 4, 6)
    assert backend.begin_flush() is not None
    fill(backend, 7, 9)


def test_a_record_is_found_in_every_layer(subject: Subject) -> None:
    in_three_layers(subject.backend)
    for main in range(1, 10):
        record = subject.backend.get(revision_key(main))
        assert record is not None and record[:8] == main.to_bytes(8)
    assert subject.backend.get(revision_key(10)) is None


@pytest.mark.parametrize("order", [[1, 2, 3], [9, 1, 5], [4, 6], [8, 7], [2, 2, 9], []])
def test_get_many_keeps_the_order_of_the_keys(subject: Subject, order: list[int]) -> None:
    in_three_layers(subject.backend)
    records = subject.backend.get_many([revision_key(main) for main in order])
    assert [int.from_bytes(record[:8]) for record in records] == order


@pytest.mark.parametrize("where", ["file", "buffers"])
def test_a_record_that_the_index_promised_and_nobody_has_is_fatal(
    subject: Subject, where: str
) -> None:
    if where == "file":
        fill(subject.backend, 1, 3)
        flush(subject.backend)
    else:
        in_three_layers(subject.backend)
    with pytest.raises(FatalError, match="not in the backend"):
        subject.backend.get_many([revision_key(1), revision_key(99)])


def test_appending_out_of_order_is_fatal(subject: Subject) -> None:
    fill(subject.backend, 5, 5)
    with pytest.raises(FatalError, match="out of order"):
        subject.backend.append(revision_key(5), b"again")
    with pytest.raises(FatalError, match="out of order"):
        subject.backend.append(revision_key(4), b"before")


def test_the_order_is_kept_over_a_restart(subject: Subject) -> None:
    fill(subject.backend, 5, 5)
    flush(subject.backend)
    subject.crash()
    with pytest.raises(FatalError, match="out of order"):
        subject.backend.append(revision_key(5), b"again")


def test_scan_goes_through_all_layers_in_order(subject: Subject) -> None:
    in_three_layers(subject.backend)
    assert mains(subject.backend.scan(*EVERYTHING)) == list(range(1, 10))


@pytest.mark.parametrize(
    ("first", "last", "limit", "expected"),
    [
        (2, 8, 100, [2, 3, 4, 5, 6, 7]),
        (2, 8, 3, [2, 3, 4]),
        (5, 6, 100, [5]),
        (3, 3, 100, []),
        (8, 3, 100, []),
        (9, 20, 100, [9]),
        (0, 2, 100, [1]),
        (1, 10, 0, []),
    ],
)
def test_scan_is_half_open_and_limited(
    subject: Subject, first: int, last: int, limit: int, expected: list[int]
) -> None:
    in_three_layers(subject.backend)
    pairs = subject.backend.scan(revision_key(first), revision_key(last), limit)
    assert mains(pairs) == expected


def test_tombstones_and_subs_keep_their_place(subject: Subject) -> None:
    """Spec/storage.md §4.1: main, sub, then `t` decide the order."""
    keys = [revision_key(2), revision_key(2, 1), revision_key(2, 2, tombstone=True)]
    keys += [revision_key(3, 0, tombstone=True), revision_key(256)]
    for key in keys:
        subject.backend.append(key, key)
    flush(subject.backend)
    assert subject.backend.scan(*EVERYTHING) == [(key, key) for key in keys]


def test_scan_all_gives_every_record_once(subject: Subject) -> None:
    fill(subject.backend, 1, 2500)
    flush(subject.backend)
    fill(subject.backend, 2501, 2600)
    pieces = list(subject.backend.scan_all())
    assert mains([pair for piece in pieces for pair in piece]) == list(range(1, 2601))
    assert all(pieces)


def test_removed_revisions_leave_every_layer(subject: Subject) -> None:
    in_three_layers(subject.backend)
    assert len(subject.backend.scan(*EVERYTHING)) == 9
    subject.backend.remove_revisions([revision_key(main) for main in (2, 5, 8)])
    assert mains(subject.backend.scan(*EVERYTHING)) == [1, 3, 4, 6, 7, 9]
    assert mains(subject.backend.scan(revision_key(2), revision_key(9), 3)) == [3, 4, 6]


def test_removed_revisions_stay_away_during_the_flush_that_carries_them(subject: Subject) -> None:
    fill(subject.backend, 1, 3)
    flush(subject.backend)
    subject.backend.remove_revisions([revision_key(2)])
    assert subject.backend.begin_flush() is not None
    assert mains(subject.backend.scan(*EVERYTHING)) == [1, 3]
    assert mains([pair for piece in subject.backend.scan_all() for pair in piece]) == [1, 3]


def test_removed_revisions_stay_away_after_the_flush_and_a_crash(subject: Subject) -> None:
    fill(subject.backend, 1, 6)
    flush(subject.backend)
    fill(subject.backend, 7, 9)
    subject.backend.remove_revisions([revision_key(main) for main in (2, 5, 8)])
    flush(subject.backend)
    assert subject.backend.get(revision_key(5)) is None
    subject.crash()
    assert mains(subject.backend.scan(*EVERYTHING)) == [1, 3, 4, 6, 7, 9]


def test_a_removal_in_the_lost_buffer_did_not_happen(subject: Subject) -> None:
    fill(subject.backend, 1, 3)
    flush(subject.backend)
    subject.backend.remove_revisions([revision_key(2)])
    subject.crash()
    assert mains(subject.backend.scan(*EVERYTHING)) == [1, 2, 3]


def test_small_tables_merge_their_layers(subject: Subject) -> None:
    backend = subject.backend
    for key in (b"a", b"b", b"c", b"d"):
        backend.put("lease", key, b"1")
    flush(backend)
    backend.delete("lease", b"b")
    backend.put("lease", b"c", b"2")
    assert backend.begin_flush() is not None
    backend.put("lease", b"b", b"3")
    backend.delete("lease", b"a")
    backend.put("lease", b"e", b"3")
    assert backend.items("lease") == [(b"b", b"3"), (b"c", b"2"), (b"d", b"1"), (b"e", b"3")]
    assert [backend.get_from("lease", key) for key in (b"a", b"b", b"c", b"d", b"f")] == [
        None,
        b"3",
        b"2",
        b"1",
        None,
    ]


def test_small_tables_are_apart_and_survive(subject: Subject) -> None:
    subject.backend.put("authUsers", b"k", b"user")
    subject.backend.put("authRoles", b"k", b"role")
    flush(subject.backend)
    subject.crash()
    assert subject.backend.items("authUsers") == [(b"k", b"user")]
    assert subject.backend.items("authRoles") == [(b"k", b"role")]
    assert subject.backend.items("alarm") == []


@pytest.mark.parametrize("table", ["key", "unknown"])
def test_only_small_tables_can_be_put(subject: Subject, table: str) -> None:
    with pytest.raises(KeyError):
        subject.backend.put(table, b"k", b"v")


def test_marks_are_rows_of_meta(subject: Subject) -> None:
    """Spec/storage.md §4.1: consistent_index and term as 8 bytes, confState as JSON."""
    subject.backend.commit_marks(258, 3, b'{"voters":[1]}')
    flush(subject.backend)
    assert subject.backend.items("meta") == [
        (b"confState", b'{"voters":[1]}'),
        (b"consistent_index", b"\0\0\0\0\0\0\1\2"),
        (b"term", b"\0\0\0\0\0\0\0\3"),
    ]


def test_an_empty_conf_state_leaves_the_old_one(subject: Subject) -> None:
    subject.backend.commit_marks(1, 1, b"{}")
    subject.backend.commit_marks(2, 2, b"")
    assert subject.backend.marks == Marks(2, 2, b"{}")
    flush(subject.backend)
    subject.backend.commit_marks(3, 2, b"")
    flush(subject.backend)
    subject.crash()
    assert subject.backend.marks == Marks(3, 2, b"{}")


def test_index_and_effects_are_one_transaction(subject: Subject) -> None:
    """Spec/storage.md §7.6: a crash leaves the marks of the last whole flush with its effects."""
    fill(subject.backend, 1, 5)
    assert flush(subject.backend) == 5
    fill(subject.backend, 6, 9)
    subject.backend.put("lease", b"k", b"v")
    subject.crash()
    assert subject.backend.marks.consistent_index == subject.backend.durable_index == 5
    assert mains(subject.backend.scan(*EVERYTHING)) == [1, 2, 3, 4, 5]
    assert subject.backend.items("lease") == []


def test_a_flush_that_began_and_never_ran_is_lost(subject: Subject) -> None:
    fill(subject.backend, 1, 5)
    assert subject.backend.begin_flush() is not None
    assert subject.backend.durable_index == 0
    subject.crash()
    assert subject.backend.scan(*EVERYTHING) == []
    assert subject.backend.marks == Marks()


def test_a_flush_that_ran_survives_before_the_loop_heard_of_it(subject: Subject) -> None:
    fill(subject.backend, 1, 5)
    job = subject.backend.begin_flush()
    assert job is not None
    fill(subject.backend, 6, 7)
    job.run(NO_GRANT)
    assert subject.backend.durable_index == 0  # until finish_flush, nobody may rely on it
    assert mains(subject.backend.scan(*EVERYTHING)) == list(range(1, 8))
    subject.crash()
    assert subject.backend.durable_index == 5
    assert mains(subject.backend.scan(*EVERYTHING)) == [1, 2, 3, 4, 5]


def test_what_comes_during_a_flush_goes_into_the_next(subject: Subject) -> None:
    backend = subject.backend
    fill(backend, 1, 2)
    job = backend.begin_flush()
    assert job is not None
    fill(backend, 3, 4)
    job.run(NO_GRANT)
    assert backend.finish_flush(job) == 2
    assert backend.pending_records == 2
    assert flush(backend) == 4
    assert mains(backend.scan(*EVERYTHING)) == [1, 2, 3, 4]


def test_one_job_at_a_time(subject: Subject) -> None:
    fill(subject.backend, 1, 1)
    job = subject.backend.begin_flush()
    assert job is not None
    fill(subject.backend, 2, 2)
    assert subject.backend.begin_flush() is None
    assert subject.backend.begin_defragment() is None
    job.run(NO_GRANT)
    subject.backend.finish_flush(job)
    job = subject.backend.begin_defragment()
    assert job is not None
    assert subject.backend.begin_flush() is None
    job.run(NO_GRANT)
    subject.backend.finish_defragment(job)
    assert flush(subject.backend) == 2


def test_nothing_to_flush(subject: Subject) -> None:
    assert subject.backend.begin_flush() is None
    fill(subject.backend, 1, 1)
    flush(subject.backend)
    assert subject.backend.begin_flush() is None


def test_marks_alone_are_flushed_but_not_pending(subject: Subject) -> None:
    """Entries without effects advance the index too (spec/storage.md §4.3)."""
    subject.backend.commit_marks(7, 2, b"")
    assert subject.backend.pending_records == 0
    assert flush(subject.backend) == 7
    subject.crash()
    assert subject.backend.durable_index == 7


def test_pending_counts_changes_and_bytes(subject: Subject) -> None:
    backend = subject.backend
    fill(backend, 1, 3, size_bytes=92)
    assert (backend.pending_records, backend.pending_bytes) == (3, 300)
    flush(backend)
    assert (backend.pending_records, backend.pending_bytes) == (0, 0)
    backend.put("lease", b"k", b"v")
    backend.delete("alarm", b"k")
    backend.remove_revisions([revision_key(1)])
    assert (backend.pending_records, backend.pending_bytes) == (3, 0)


def test_bytes_are_pending_until_their_flush_is_finished(subject: Subject) -> None:
    fill(subject.backend, 1, 3, size_bytes=92)
    job = subject.backend.begin_flush()
    assert job is not None
    fill(subject.backend, 4, 4, size_bytes=92)
    assert subject.backend.pending_bytes == 400
    job.run(NO_GRANT)
    subject.backend.finish_flush(job)
    assert subject.backend.pending_bytes == 100


def test_a_snapshot_stands_still(subject: Subject) -> None:
    backend = subject.backend
    in_three_layers(backend)
    backend.put("lease", b"k", b"old")
    backend.remove_revisions([revision_key(2), revision_key(8)])
    snapshot = backend.open_snapshot()
    backend.remove_revisions([revision_key(5)])
    backend.put("lease", b"k", b"new")
    fill(backend, 10, 12)
    records = [pair for piece in snapshot.items("key") for pair in piece]
    assert mains(records) == [1, 3, 4, 5, 6, 7, 9]
    assert [pair for piece in snapshot.items("lease") for pair in piece] == [(b"k", b"old")]
    assert snapshot.marks.consistent_index == 9
    meta = dict(pair for piece in snapshot.items("meta") for pair in piece)
    assert meta[b"consistent_index"] == (9).to_bytes(8)
    snapshot.close()
    snapshot.close()


def test_a_snapshot_between_a_commit_and_its_finish_has_everything_once(subject: Subject) -> None:
    backend = subject.backend
    fill(backend, 1, 3)
    job = backend.begin_flush()
    assert job is not None
    fill(backend, 4, 5)
    job.run(NO_GRANT)
    snapshot = backend.open_snapshot()
    backend.finish_flush(job)
    assert mains([pair for piece in snapshot.items("key") for pair in piece]) == [1, 2, 3, 4, 5]
    snapshot.close()


def test_a_snapshot_outlives_flushes_and_a_defragmentation(subject: Subject) -> None:
    backend = subject.backend
    fill(backend, 1, 3000)
    flush(backend)
    snapshot = backend.open_snapshot()
    pieces = snapshot.items("key")
    seen = next(pieces)
    backend.remove_revisions([revision_key(main) for main in range(1, 2900)])
    flush(backend)
    job = backend.begin_defragment()
    assert job is not None
    job.run(NO_GRANT)
    _, close_old = backend.finish_defragment(job)
    close_old.run(NO_GRANT)
    for piece in pieces:
        assert len(piece) <= 1000
        seen += piece
    assert mains(seen) == list(range(1, 3001))
    snapshot.close()
    assert mains(backend.scan(*EVERYTHING)) == list(range(2900, 3001))


def test_defragmentation_changes_no_contents(subject: Subject) -> None:
    """Spec/storage.md §8 case 19; writes made meanwhile stay and are flushed afterwards."""
    backend = subject.backend
    fill(backend, 1, 50)
    backend.put("alarm", b"k", b"v")
    flush(backend)
    job = backend.begin_defragment()
    assert job is not None
    fill(backend, 51, 60)
    job.run(NO_GRANT)
    result, close_old = backend.finish_defragment(job)
    close_old.run(NO_GRANT)
    assert isinstance(result, Defragmented) and not result.failure
    assert mains(backend.scan(*EVERYTHING)) == list(range(1, 61))
    assert flush(backend) == 60
    subject.crash()
    assert mains(subject.backend.scan(*EVERYTHING)) == list(range(1, 61))
    assert subject.backend.items("alarm") == [(b"k", b"v")]
    assert subject.backend.durable_index == 60


LONG = b"n" * 600
NAMES = [
    b"n",
    b"n" * 478 + b"z",
    *(LONG + bytes([end]) for end in b"ba\xffc"),
    LONG[:511],
    LONG[:479],
]


def named(name: bytes) -> bytes:
    return auth_pb2.User(name=name, password=b"p").SerializeToString()


def test_long_names_are_names_like_any_other(subject: Subject) -> None:
    """spec/bbolt.md §3.2.7: etcd takes up to 32768 bytes, LMDB 511. In every layer, in order."""
    backend = subject.backend
    longest = b"\xfe" * 32_768
    for number, name in enumerate([*NAMES, longest]):
        backend.put("authUsers", name, named(name))
        if number == 3:
            flush(backend)
        if number == 5:
            assert backend.begin_flush() is not None
    rows = [(name, named(name)) for name in sorted([*NAMES, longest])]
    assert backend.items("authUsers") == rows
    view = backend.open_snapshot()
    assert [row for piece in view.items("authUsers") for row in piece] == rows
    view.close()
    assert backend.get_from("authUsers", longest) == named(longest)
    subject.crash()
    backend = subject.backend
    kept = sorted(NAMES[:4])
    assert backend.items("authUsers") == [(name, named(name)) for name in kept]
    backend.put("authRoles", longest, auth_pb2.Role(name=longest).SerializeToString())
    for name in kept:
        backend.delete("authUsers", name)
    flush(backend)
    assert backend.items("authUsers") == []
    assert [name for name, _ in backend.items("authRoles")] == [longest]
