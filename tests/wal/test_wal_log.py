"""Creating, appending, cutting, opening, releasing (spec/storage.md §2.2-§2.4)."""

from __future__ import annotations

import errno

import pytest

from kvserver.raft.types import ConfState, HardState
from kvserver.wal import (
    SnapshotMismatch,
    SnapshotNotFound,
    SnapshotRecord,
    Wal,
    WalCorrupt,
    WalError,
    WalExists,
    WalFileNotFound,
    WalLocked,
    WalWriteFailed,
    has_segments,
    purge_segments,
)
from tests.support.sim_fs import SimFs
from tests.wal.logs_for_tests import (
    DIRECTORY,
    METADATA,
    SEGMENT_BYTES,
    content,
    create,
    disk,
    entries,
    entry,
    open_at,
    segments,
    written,
)


def test_a_fresh_log_is_one_segment_and_the_next_one_prepared() -> None:
    """spec/storage.md §8 case 1."""
    fs = disk()
    create(fs)
    assert fs.listdir(DIRECTORY) == ["0.tmp", "0000000000000000-0000000000000000.wal"]
    assert len(content(fs, "0000000000000000-0000000000000000.wal")) == SEGMENT_BYTES
    assert len(content(fs, "0.tmp")) == SEGMENT_BYTES
    assert not fs.exists(DIRECTORY + ".tmp")


def test_what_is_written_is_read_back() -> None:
    fs = disk()
    wal = create(fs)
    wal.save(HardState(1, 11, 0), entries(1, 3))
    wal.write(wal.encode(HardState(1, 11, 3), [], False))
    wal.close()
    contents = open_at(fs).read_all()
    assert contents.metadata == METADATA
    assert contents.entries == entries(1, 3)
    assert contents.hard_state == HardState(1, 11, 3)
    assert contents.snapshots == [SnapshotRecord(0, 0)]


def test_appending_goes_on_after_every_reopening() -> None:
    fs = disk()
    create(fs).close()
    for index in range(1, 60):
        wal = open_at(fs)
        assert len(wal.read_all().entries) == index - 1
        wal.save(HardState(1, 11, index), [entry(index)])
        wal.close()
    assert len(segments(fs)) > 1
    assert open_at(fs).read_all().entries == entries(1, 59)


def test_several_batches_may_be_encoded_before_the_first_is_written() -> None:
    fs = disk()
    wal = create(fs)
    batches = [wal.encode(HardState(1, 1, i), [entry(i)], i % 3 == 0) for i in range(1, 100)]
    for batch in batches:
        wal.write(batch)
    wal.close()
    assert open_at(fs).read_all().entries == entries(1, 99)


def test_a_segment_that_is_full_is_cut() -> None:
    """spec/storage.md §2.2: names, used length, the chain carried over the border."""
    fs, all_entries = written(60)
    names = segments(fs)
    assert len(names) > 1
    for sequence, name in enumerate(names):
        assert name.startswith(f"{sequence:016x}-")
    first = int(names[1][17:33], 16)
    before = content(fs, names[0])
    assert SEGMENT_BYTES <= len(before) < SEGMENT_BYTES + 300, "truncated to what is used"
    assert all_entries[first - 1].data in content(fs, names[1])
    assert all_entries[first - 2].data in before
    assert content(fs, names[1])[8:12] == b"\x08\x04\x10" + content(fs, names[1])[11:12]
    assert METADATA in content(fs, names[1])[:80]


def test_prepared_segments_alternate_their_names() -> None:
    fs = disk()
    wal = create(fs)
    seen = set()
    for each in entries(1, 120):
        wal.save(None, [each])
        seen.update(name for name in fs.listdir(DIRECTORY) if name.endswith(".tmp"))
    assert seen == {"0.tmp", "1.tmp"}


def test_a_later_entry_replaces_what_an_old_leader_left() -> None:
    """spec/storage.md §2.4 rule 2."""
    fs = disk()
    wal = create(fs)
    wal.save(HardState(1, 11, 0), entries(1, 5))
    wal.save(HardState(2, 12, 0), entries(3, 4, term=2))
    wal.close()
    assert open_at(fs).read_all().entries == [*entries(1, 2), *entries(3, 4, term=2)]


def test_a_hole_is_refused() -> None:
    fs = disk()
    wal = create(fs)
    wal.save(HardState(1, 11, 0), [*entries(1, 2), entry(4)])
    wal.close()
    with pytest.raises(WalCorrupt, match="slice bounds out of range"):
        open_at(fs).read_all()


def test_reading_begins_at_the_snapshot() -> None:
    fs = disk()
    wal = create(fs)
    wal.save(HardState(1, 11, 0), entries(1, 50))
    conf_state = ConfState(voters=(11,))
    wal.save_snapshot(50, 1, conf_state)
    wal.save(HardState(1, 11, 50), entries(51, 100))
    wal.close()
    contents = open_at(fs, (50, 1)).read_all()
    assert contents.entries == entries(51, 100)
    assert SnapshotRecord(50, 1, conf_state) in contents.snapshots


def test_a_snapshot_without_its_record_is_not_found() -> None:
    fs, _ = written(3)
    with pytest.raises(SnapshotNotFound, match="wal: snapshot not found"):
        open_at(fs, (2, 1)).read_all()


def test_a_snapshot_record_of_another_term_is_a_mismatch() -> None:
    fs = disk()
    wal = create(fs)
    wal.save(None, entries(1, 3))
    wal.save_snapshot(3, 1, None)
    wal.close()
    with pytest.raises(SnapshotMismatch, match="wal: snapshot mismatch"):
        open_at(fs, (3, 2)).read_all()


def test_a_snapshot_received_from_the_leader_jumps_over_entries() -> None:
    fs = disk()
    wal = create(fs)
    wal.save(HardState(1, 11, 3), entries(1, 3))
    wal.save_snapshot(500, 2, None)
    wal.save(HardState(2, 0, 500), entries(501, 600, term=2))
    wal.close()
    assert open_at(fs, (500, 2)).read_all().entries == entries(501, 600, term=2)
    assert int(segments(fs)[1][17:33], 16) > 500


def test_a_missing_segment_is_refused() -> None:
    fs, _ = written(120)
    fs.unlink(f"{DIRECTORY}/{segments(fs)[1]}")
    with pytest.raises(WalFileNotFound, match="wal: file not found"):
        open_at(fs)


def test_a_log_that_begins_too_late_is_refused() -> None:
    fs, _ = written(120)
    fs.unlink(f"{DIRECTORY}/{segments(fs)[0]}")
    with pytest.raises(WalFileNotFound):
        open_at(fs, (1, 1))


def test_foreign_names_are_left_alone() -> None:
    fs, all_entries = written(3)
    for name in ("notes.txt", "0000-1.wal", "0000000000000000-0000000000000000.wal.broken"):
        fs.close(fs.create(f"{DIRECTORY}/{name}"))
    assert open_at(fs).read_all().entries == all_entries
    assert fs.exists(f"{DIRECTORY}/notes.txt")


def test_segments_of_different_logs_conflict() -> None:
    fs, _ = written(60)
    other = disk()
    wal = Wal.create(other, DIRECTORY, b"\x08\x01\x10\x01", segment_bytes=SEGMENT_BYTES)
    for each in entries(1, 60):
        wal.save(HardState(1, 11, each.index - 1), [each])
    wal.close()
    name = segments(fs)[1]
    theirs = content(other, segments(other)[1])
    # Their second segment, with the chain's start of ours, so that only the metadata differs.
    fs.directories[DIRECTORY].live.pop(name)
    handle = fs.create(f"{DIRECTORY}/{name}")
    fs.write(handle, theirs, 0, sync=True)
    with pytest.raises(WalCorrupt, match=r"crc mismatch|conflicting metadata"):
        open_at(fs).read_all()


def test_two_servers_cannot_have_the_log_open() -> None:
    fs, _ = written(3)
    first = open_at(fs)
    with pytest.raises(WalLocked, match="another process"):
        open_at(fs)
    first.close()
    open_at(fs)


def test_creating_over_a_log_is_refused() -> None:
    fs, _ = written(3)
    with pytest.raises(WalExists):
        create(fs)


def test_creating_over_somebodys_files_is_refused() -> None:
    fs = disk()
    fs.make_dir(DIRECTORY)
    fs.close(fs.create(f"{DIRECTORY}/precious"))
    with pytest.raises(WalExists, match="precious"):
        create(fs)
    assert fs.exists(f"{DIRECTORY}/precious")


def test_a_half_made_log_does_not_count() -> None:
    """spec/storage.md §1, §5: wal.tmp is removed and the log made anew."""
    fs = disk()
    create(fs).close()
    fs.rename(DIRECTORY, DIRECTORY + ".tmp")
    assert not has_segments(fs, DIRECTORY)
    create(fs).close()
    assert not fs.exists(DIRECTORY + ".tmp")
    assert open_at(fs).read_all().entries == []


def test_an_empty_directory_may_stand_where_the_log_goes() -> None:
    fs = disk()
    fs.make_dir(DIRECTORY)
    assert not has_segments(fs, DIRECTORY)
    create(fs)
    assert has_segments(fs, DIRECTORY)


def test_appending_before_reading_is_refused() -> None:
    fs, _ = written(3)
    with pytest.raises(WalError, match="not read yet"):
        open_at(fs).encode(None, entries(4, 4), True)


def test_an_empty_hard_state_is_not_written() -> None:
    fs = disk()
    wal = create(fs)
    assert wal.encode(HardState(), [], False).data == b""
    assert wal.encode(None, [], True).data == b""


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_after_a_failed_write_nothing_is_written(number: int) -> None:
    """spec/storage.md §2.3: never continue after a failed sync."""
    fs = disk()
    wal = create(fs)
    wal.save(None, entries(1, 1))
    fs.fail_at, fs.fail_errno = fs.calls + 1, number
    with pytest.raises(WalWriteFailed, match="Nothing was acknowledged"):
        wal.save(None, entries(2, 2))
    calls = fs.calls
    with pytest.raises(WalWriteFailed, match="earlier"):
        wal.save(None, entries(3, 3))
    assert fs.calls == calls
    wal.close()


def test_release_keeps_the_segment_that_holds_the_index() -> None:
    """spec/storage.md §2.2: entirely before it, and then purge may delete."""
    fs = disk()
    wal = create(fs)
    for each in entries(1, 200):
        wal.save(HardState(1, 11, each.index - 1), [each])
    names = segments(fs)
    firsts = [int(name[17:33], 16) for name in names]
    assert purge_segments(fs, DIRECTORY, 1) == [], "locked segments are never deleted"
    assert wal.release_to(firsts[2] - 1) == 1
    assert wal.release_to(firsts[2] - 1) == 0
    assert purge_segments(fs, DIRECTORY, 0) == []
    assert purge_segments(fs, DIRECTORY, len(names)) == []
    assert purge_segments(fs, DIRECTORY, 1) == [f"{DIRECTORY}/{names[0]}"]
    assert segments(fs) == names[1:]
    assert wal.release_to(10_000) == len(names) - 2, "the one appended to stays"
    purge_segments(fs, DIRECTORY, 1)
    assert segments(fs) == names[-1:]
    wal.save(None, [entry(201)])


def test_closing_makes_unsynced_bytes_durable() -> None:
    fs = disk()
    wal = create(fs)
    wal.save(HardState(1, 11, 0), entries(1, 2))
    wal.write(wal.encode(HardState(1, 11, 2), [], False))
    wal.close()
    assert open_at(fs.crash("none")).read_all().hard_state == HardState(1, 11, 2)


def test_a_long_run_of_unsynced_states_is_synced_once_in_a_while() -> None:
    fs = SimFs()
    fs.make_dir("/member")
    wal = Wal.create(fs, DIRECTORY, METADATA, segment_bytes=10_000_000)
    for commit in range(1, 3000):
        wal.write(wal.encode(HardState(1, 11, commit), [], False))
    assert 2000 < open_at(fs.crash("none")).read_all().hard_state.commit < 2999


def test_nothing_stale_is_left_behind_the_end() -> None:
    """spec/storage.md §2.4 rule 4: zeroed before anything is appended."""
    fs, all_entries = written(3)
    name = segments(fs)[0]
    handle = fs.open(f"{DIRECTORY}/{name}")
    fs.write(handle, b"stale" * 20, 2048, sync=True)
    fs.close(handle)
    wal = open_at(fs)
    assert wal.read_all().entries == all_entries
    assert b"stale" not in content(fs, name)
    assert len(content(fs, name)) == SEGMENT_BYTES
