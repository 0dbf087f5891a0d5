"""Snapshot files and where a restart begins (spec/storage.md §3, §8 cases 3, 10, 11, 22)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvserver.raft.types import ConfState, HardState, Snapshot
from kvserver.snap import SnapshotFile, Snapshotter, open_at_newest, snapshot_db_name
from kvserver.snap.snapshotter import decode_file, encode_file
from kvserver.wal import WalCorrupt
from tests.support.sim_fs import SimFs
from tests.wal.logs_for_tests import DIRECTORY, SEGMENT_BYTES, create, disk, entries, entry

SNAP = "/member/snap"
CONF = ConfState(voters=(11,))


def snapshot(index: int, term: int = 1) -> Snapshot:
    return Snapshot(index, term, CONF, b'{"Root":{}}')


def snapshotter() -> tuple[SimFs, Snapshotter]:
    fs = disk()
    fs.make_dir(SNAP)
    return fs, Snapshotter(fs, SNAP)


def names(fs: SimFs) -> list[str]:
    return fs.listdir(SNAP)


def log_with_snapshots(*indexes: int, last: int) -> tuple[SimFs, Snapshotter]:
    """A closed log of `last` entries with a snapshot file and record at each of `indexes`."""
    fs, files = snapshotter()
    wal = create(fs)
    for index in range(1, last + 1):
        wal.save(HardState(1, 11, index), [entry(index)])
        if index in indexes:
            files.save(snapshot(index))
            wal.save_snapshot(index, 1, CONF)
    wal.close()
    return fs, files


def test_a_file_is_named_by_term_and_index() -> None:
    fs, files = snapshotter()
    path = files.save(snapshot(0x65, 2))
    assert path == f"{SNAP}/0000000000000002-0000000000000065.snap"
    assert names(fs) == ["0000000000000002-0000000000000065.snap"]
    assert fs.mode(path) == 0o600
    assert list(files.newest_first()) == [snapshot(0x65, 2)]


def test_newest_means_term_then_index() -> None:
    _, files = snapshotter()
    for index, term in ((300, 1), (20, 2), (100, 2)):
        files.save(snapshot(index, term))
    assert files.files() == [SnapshotFile(2, 100), SnapshotFile(2, 20), SnapshotFile(1, 300)]


@pytest.mark.parametrize("damage", [b"", b"\x08", b"\x08\x01\x12\x02ab", b"\xff" * 40])
def test_a_damaged_file_is_set_aside_and_an_older_one_used(damage: bytes) -> None:
    """Case 11."""
    fs, files = snapshotter()
    files.save(snapshot(5))
    path = files.save(snapshot(9))
    handle = fs.open(path)
    fs.truncate(handle, 0)
    fs.write(handle, damage, 0, sync=True)
    assert list(files.newest_first()) == [snapshot(5)]
    assert not fs.exists(path)
    assert fs.read_file(path + ".broken") == damage


@given(st.binary(max_size=200))
def test_no_content_causes_anything_but_a_reason(content: bytes) -> None:
    with pytest.raises(ValueError, match="snap:"):
        decode_file(content)


@given(st.integers(0, 60), st.integers(1, 255))
def test_every_flipped_byte_is_noticed(position: int, flip: int) -> None:
    content = bytearray(encode_file(snapshot(7)))
    content[position % len(content)] ^= flip
    try:
        found = decode_file(bytes(content))
    except ValueError:
        return
    assert found == snapshot(7), "only what protobuf ignores may change"


def test_saving_twice_is_harmless() -> None:
    _, files = snapshotter()
    files.save(snapshot(5))
    files.save(snapshot(5))
    assert list(files.newest_first()) == [snapshot(5)]


def test_purge_keeps_the_newest_of_each_kind() -> None:
    """Cases 3 and 22."""
    fs, files = snapshotter()
    for index in range(1, 8):
        files.save(snapshot(index))
        fs.close(fs.create(f"{SNAP}/{snapshot_db_name(index)}"))
    fs.close(fs.create(f"{SNAP}/db"))
    assert files.purge(0) == []
    assert len(files.purge(5)) == 4
    assert files.files() == [SnapshotFile(1, index) for index in range(7, 2, -1)]
    assert fs.exists(f"{SNAP}/db")
    assert snapshot_db_name(2) not in names(fs)
    assert snapshot_db_name(3) in names(fs)
    files.purge(1)
    assert files.files() == [SnapshotFile(1, 7)]


def test_databases_that_were_swapped_in_are_released() -> None:
    fs, files = snapshotter()
    for index in (4, 5, 6):
        fs.close(fs.create(f"{SNAP}/{snapshot_db_name(index)}"))
    assert files.release_databases(6) == [f"{SNAP}/{snapshot_db_name(i)}" for i in (4, 5)]
    assert names(fs) == ["0000000000000006.snap.db"]


def start(fs: SimFs, files: Snapshotter) -> tuple[int, int]:
    """(index of the snapshot, number of entries after it) of a restart."""
    point = open_at_newest(fs, DIRECTORY, files, segment_bytes=SEGMENT_BYTES)
    point.wal.close()
    return (point.snapshot.index if point.snapshot else 0), len(point.contents.entries)


def test_a_restart_begins_at_the_newest_snapshot() -> None:
    fs, files = log_with_snapshots(10, 20, last=25)
    assert start(fs, files) == (20, 5)


def test_without_its_newest_snapshot_a_restart_begins_at_an_older_one() -> None:
    """Case 10."""
    fs, files = log_with_snapshots(10, 20, last=25)
    fs.unlink(f"{SNAP}/{SnapshotFile(1, 20)}")
    assert start(fs, files) == (10, 15)
    fs.unlink(f"{SNAP}/{SnapshotFile(1, 10)}")
    assert start(fs, files) == (0, 25)


def test_a_snapshot_the_log_does_not_vouch_for_is_ignored() -> None:
    """spec/storage.md §3: killed between the file and the record."""
    fs, files = log_with_snapshots(10, last=25)
    files.save(snapshot(20))
    files.save(snapshot(24, term=7))
    assert start(fs, files) == (10, 15)
    assert fs.exists(f"{SNAP}/{SnapshotFile(1, 20)}")


def test_a_snapshot_beyond_the_committed_index_is_ignored() -> None:
    fs, files = log_with_snapshots(10, last=25)
    wal = open_at_newest(fs, DIRECTORY, files, segment_bytes=SEGMENT_BYTES).wal
    files.save(snapshot(40))
    wal.save_snapshot(40, 1, CONF)
    wal.close()
    assert start(fs, files) == (10, 15)


def test_corruption_is_not_passed_over() -> None:
    fs, files = log_with_snapshots(10, 20, last=25)
    name = next(n for n in fs.listdir(DIRECTORY) if n.startswith("0000000000000000-"))
    handle = fs.open(f"{DIRECTORY}/{name}")
    where = fs.read_file(f"{DIRECTORY}/{name}").index(entries(15, 15)[0].data[:50])
    fs.write(handle, b"\x55", where + 3, sync=True)
    fs.close(handle)
    with pytest.raises(WalCorrupt):
        start(fs, files)
