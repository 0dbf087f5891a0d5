"""Every crash point of the log (verification rung 5, spec/storage.md §5).

A workload runs on the simulated disk and the power fails inside its k-th changing call, for every
k. Whatever the disk kept, the log must open, and: nothing acknowledged is lost, nothing is read
that was not written, appending goes on.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

import pytest

from kvserver.raft.types import ConfState, Entry, HardState, Snapshot
from kvserver.snap import Snapshotter, open_at_newest
from kvserver.wal import Wal, WalError, WalWriteFailed, has_segments, purge_segments
from tests.support.sim_fs import Crash, SimFs
from tests.wal.logs_for_tests import DIRECTORY, METADATA, SEGMENT_BYTES, disk, entries, open_at

SNAP = "/member/snap"
SEEDS = ("none", "all", *range(1, 11))


@dataclass
class Acknowledged:
    """What the workload may rely on after a crash, and what it had only begun."""

    is_created: bool = False
    entries: list[Entry] = field(default_factory=list)
    begun: list[Entry] = field(default_factory=list)
    state: HardState = field(default_factory=HardState)
    snapshot: int = 0


def workload(fs: SimFs, done: Acknowledged) -> None:
    """Create, append synced and unsynced, cut twice, snapshot, release, purge."""
    fs.make_dir(SNAP)
    wal = Wal.create(fs, DIRECTORY, METADATA, segment_bytes=SEGMENT_BYTES)
    snapshotter = Snapshotter(fs, SNAP)
    done.is_created = True
    index = 0
    for turn in range(1, 9):
        batch = entries(index + 1, index + 2 + turn % 3, size=900 if turn % 4 == 0 else 250)
        index = batch[-1].index
        done.begun = [*done.entries, *batch]
        state = HardState(turn, 11, index - 1)
        wal.write(wal.encode(state, batch, True))
        done.entries, done.state = done.begun, state
        wal.write(wal.encode(HardState(turn, 11, index), [], False))
        if turn % 3 == 0:
            conf_state = ConfState(voters=(11,))
            snapshotter.save(Snapshot(index, turn, conf_state, b"{}"))
            wal.save_snapshot(index, turn, conf_state)
            done.state = HardState(turn, 11, index)  # the same sync vouches for it
            done.snapshot = index
            wal.release_to(index)
            purge_segments(fs, DIRECTORY, 1)
            snapshotter.purge(1)
    wal.close()


def calls_of_workload() -> int:
    fs = disk()
    workload(fs, Acknowledged())
    return fs.calls


CALLS = calls_of_workload()


def recovered(fs: SimFs, done: Acknowledged) -> Wal | None:
    """Open as a member does, and hold what is found against what was acknowledged."""
    if not has_segments(fs, DIRECTORY):
        assert not done.is_created, "the log is gone"
        return None
    start = open_at_newest(fs, DIRECTORY, Snapshotter(fs, SNAP), segment_bytes=SEGMENT_BYTES)
    base = start.snapshot.index if start.snapshot else 0
    assert base >= done.snapshot
    found = start.contents.entries
    expected = done.begun[base:] if done.begun else done.entries[base:]
    assert found == expected[: len(found)], "nothing that was not written"
    assert base + len(found) >= len(done.entries), "nothing acknowledged is lost"
    state = start.contents.hard_state
    assert (state.term, state.commit) >= (done.state.term, done.state.commit)
    return start.wal


@pytest.mark.parametrize("seed", SEEDS)
def test_every_crash_point_of_append_cut_and_snapshot(seed: int | str) -> None:
    for crash_at in range(1, CALLS + 1):
        fs, done = disk(crash_at=crash_at), Acknowledged()
        with pytest.raises(Crash):
            workload(fs, done)
        after = fs.crash(f"{seed}" if isinstance(seed, str) else seed * 1000 + crash_at)
        if not after.exists(SNAP):
            after.make_dir(SNAP)
        wal = recovered(after, done)
        if wal is not None:
            go_on(after, wal)


def go_on(fs: SimFs, wal: Wal) -> None:
    """A recovered log takes more, through another cut, and all of it is there afterwards."""
    first = wal.last_index + 1
    more = entries(first, first + 30, term=9)
    for each in more:
        wal.save(HardState(9, 11, each.index - 1), [each])
    wal.close()
    start = open_at_newest(fs, DIRECTORY, Snapshotter(fs, SNAP), segment_bytes=SEGMENT_BYTES)
    assert start.contents.entries[-len(more) :] == more
    start.wal.close()


@pytest.mark.parametrize("seed", [5, 6])
def test_a_crash_while_recovering_from_a_crash(seed: int) -> None:
    for crash_at in range(20, CALLS + 1, 7):
        fs, done = disk(crash_at=crash_at), Acknowledged()
        with pytest.raises(Crash):
            workload(fs, done)
        once = fs.crash(seed * 1000 + crash_at)
        for second in range(1, 12):
            again = once.crash("none")
            again.crash_at = second
            try:
                wal = recovered(again, done)
            except Crash:
                recovered(again.crash(seed + second), done)
                continue
            assert wal is not None
            break


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_an_error_in_any_call_stops_the_log_and_loses_nothing(number: int) -> None:
    for fail_at in range(1, CALLS):  # the last call removes the prepared segment: harmless
        fs, done = disk(fail_at=fail_at, fail_errno=number), Acknowledged()
        with pytest.raises((WalError, OSError)):
            workload(fs, done)
        after = fs.crash(fail_at)
        if not after.exists(SNAP):
            after.make_dir(SNAP)
        recovered(after, done)


def test_a_full_disk_stops_the_log_and_loses_nothing() -> None:
    """spec/storage.md §5, last row; §8 case 25."""
    for capacity in range(1000, 3 * SEGMENT_BYTES, 500):
        fs, done = disk(capacity=capacity), Acknowledged()
        with pytest.raises((WalWriteFailed, OSError)):
            workload(fs, done)
        after = fs.crash("none")
        after.capacity = None
        if not after.exists(SNAP):
            after.make_dir(SNAP)
        recovered(after, done)


def test_a_synced_write_vouches_for_unsynced_ones_before_it() -> None:
    """Syncing a range vouches for that range only: the writer must write the rest again.

    The unsynced hard states fill a sector of their own, which the disk then loses.
    """
    fs = disk()
    wal = Wal.create(fs, DIRECTORY, METADATA, segment_bytes=SEGMENT_BYTES)
    wal.save(HardState(1, 11, 0), entries(1, 1))
    for commit in range(1, 60):
        wal.write(wal.encode(HardState(1, 11, commit), [], False))
    wal.write(wal.encode(HardState(2, 11, 59), entries(2, 3), True))
    contents = open_at(fs.crash("none")).read_all()
    assert contents.entries == entries(1, 3)
    assert contents.hard_state == HardState(2, 11, 59)


def test_the_simulated_disk_does_lose_such_writes() -> None:
    """The double must be as bad as it claims, or the test above proves nothing."""
    fs = disk()
    handle = fs.create("/member/file")
    fs.sync_dir("/member")
    fs.write(handle, b"a" * 512, 0, sync=False)
    fs.write(handle, b"b" * 512, 512, sync=True)
    assert fs.crash("none").read_file("/member/file") == bytes(512) + b"b" * 512
    fs.close(fs.create("/member/other"))
    assert not fs.crash("none").exists("/member/other")
    assert fs.crash("all").exists("/member/other")
