"""The log and its cursors (spec/raft.md §2, §6.1; thesis §3.5)."""

from __future__ import annotations

import pytest

from kvserver.raft import ConfState, Entry, EntryType, HardState, MemoryStorage, Snapshot
from kvserver.raft.invariants import InvariantViolation
from kvserver.raft.log import RaftLog
from kvserver.raft.types import ENTRY_OVERHEAD_BYTES, entries_bytes

CONF = ConfState((1, 2, 3))


def entries(*terms: int, first: int = 1, data: bytes = b"") -> list[Entry]:
    return [Entry(first + i, term, EntryType.NORMAL, data) for i, term in enumerate(terms)]


def log(*terms: int, commit: int = 0, applied: int = 0, snapshot: int = 0) -> RaftLog:
    """A log read from disk: terms of its entries, behind a snapshot of term 1 if there is one."""
    storage = MemoryStorage(
        snapshot=Snapshot(snapshot, 1, CONF) if snapshot else None,
        hard_state=HardState(9, 0, max(commit, snapshot)),
        entries=entries(*terms, first=snapshot + 1),
        conf_state=CONF,
    )
    return RaftLog(storage, applied)


def terms(log: RaftLog) -> list[int]:
    return [entry.term for entry in log.storage.entries]


class TestStorage:
    def test_term_at_the_edges(self) -> None:
        storage = log(2, 3, snapshot=5).storage
        assert [storage.term(index) for index in range(4, 9)] == [None, 1, 2, 3, None]

    def test_index_0_has_term_0(self) -> None:
        assert MemoryStorage().term(0) == 0

    def test_compacting_keeps_the_term_before_the_first(self) -> None:
        storage = log(2, 3, 4).storage
        storage.create_snapshot(2, CONF)
        storage.compact(2)
        assert (storage.first_index, storage.last_index) == (3, 3)
        assert storage.term(2) == 3
        with pytest.raises(InvariantViolation, match="compacted"):
            storage.slice(2, 3)
        storage.compact(1)
        assert storage.first_index == 3

    def test_snapshot_may_be_taken_again_where_it_is(self) -> None:
        storage = log(2, 3, 4).storage
        storage.create_snapshot(2, CONF)
        storage.compact(2)
        assert storage.create_snapshot(2, CONF, b"more") == Snapshot(2, 3, CONF, b"more")

    def test_snapshot_covers_what_is_compacted(self) -> None:
        storage = log(2, 3, 4).storage
        with pytest.raises(InvariantViolation, match="compact 2, snapshot 0"):
            storage.compact(2)

    def test_snapshot_never_goes_back_nor_beyond_the_log(self) -> None:
        storage = log(2, 3, 4).storage
        storage.create_snapshot(2, CONF)
        with pytest.raises(InvariantViolation):
            storage.create_snapshot(1, CONF)
        with pytest.raises(InvariantViolation):
            storage.create_snapshot(9, CONF)

    def test_gaps_are_refused(self) -> None:
        with pytest.raises(InvariantViolation):
            MemoryStorage(entries=entries(1, first=2))
        with pytest.raises(InvariantViolation):
            log(1).storage.append(entries(1, first=3))

    def test_appending_nothing_is_nothing(self) -> None:
        storage = log(1).storage
        storage.append([])
        assert storage.last_index == 1


class TestRestart:
    def test_everything_read_is_persisted(self) -> None:
        read = log(1, 1, 2, commit=2)
        assert (read.persisted, read.handed_over, read.committed, read.applied) == (3, 3, 2, 0)
        assert read.take_unpersisted() == []

    def test_applied_is_committed_even_if_the_disk_was_not_told(self) -> None:
        assert log(1, 1, 2, commit=1, applied=3).committed == 3

    def test_a_snapshot_is_applied(self) -> None:
        read = log(2, snapshot=5)
        assert (read.applied, read.committed, read.first_index) == (5, 5, 6)

    def test_a_commit_beyond_the_log_is_fatal(self) -> None:
        with pytest.raises(InvariantViolation, match="lost entries"):
            log(1, commit=2)


class TestMerge:
    @pytest.mark.parametrize(
        ("ours", "prev", "theirs", "result"),
        [
            ([1, 1], 2, [2, 2], [1, 1, 2, 2]),
            ([1, 1, 2], 1, [1], [1, 1, 2]),
            ([1, 1, 2], 1, [1, 2, 2], [1, 1, 2, 2]),
            ([1, 1, 2], 1, [1, 3], [1, 1, 3]),
            ([1, 1, 2, 2], 1, [3], [1, 3]),
            ([1, 1], 2, [], [1, 1]),
            ([], 0, [1], [1]),
        ],
    )
    def test_finds_the_first_difference(
        self, ours: list[int], prev: int, theirs: list[int], result: list[int]
    ) -> None:
        """spec/raft.md §6.1.2: overlap changes nothing, a shorter append never truncates."""
        merged = log(*ours)
        assert merged.merge(prev, entries(*theirs, first=prev + 1)) == prev + len(theirs)
        assert terms(merged) == result
        assert merged.last_index == len(result)

    def test_conflict_at_or_below_commit_is_fatal(self) -> None:
        with pytest.raises(InvariantViolation, match="conflicts"):
            log(1, 1, commit=2).merge(1, entries(2, first=2))

    def test_matches(self) -> None:
        assert log(1, 2).matches(2, 2)
        assert log().matches(0, 0)
        assert not log(1, 2).matches(2, 1)
        assert not log(1, 2).matches(3, 2)


class TestHints:
    @pytest.mark.parametrize(
        ("index", "term", "found"), [(9, 6, 9), (8, 3, 3), (8, 2, 1), (9, 0, 0), (5, 4, 5)]
    )
    def test_last_place_with_a_term_up_to(self, index: int, term: int, found: int) -> None:
        """S07's log."""
        s07 = log(1, 3, 3, 4, 4, 5, 5, 5, 6)
        assert s07.last_index_with_term_up_to(index, term) == found

    def test_stops_where_the_term_is_unknown(self) -> None:
        compacted = log(5, 5, snapshot=4)
        assert compacted.last_index_with_term_up_to(6, 0) == 3


class TestUpToDate:
    @pytest.mark.parametrize(
        ("index", "term", "is_up_to_date"),
        [(2, 2, True), (3, 2, True), (1, 2, False), (9, 1, False), (1, 3, True)],
    )
    def test_term_first_then_length(self, index: int, term: int, is_up_to_date: bool) -> None:
        """Thesis §3.6.1."""
        assert log(1, 2).is_up_to_date(index, term) is is_up_to_date


class TestSizes:
    def test_at_least_one_entry_however_big(self) -> None:
        big = log()
        big.append(entries(1, 1, 1, data=bytes(100)))
        assert len(big.entries_from(1, bytes_max=1)) == 1
        assert len(big.entries_from(1, bytes_max=2 * (100 + ENTRY_OVERHEAD_BYTES))) == 2
        assert len(big.entries_from(2, bytes_max=10**6)) == 2

    def test_entries_bytes(self) -> None:
        assert entries_bytes(entries(1, 1, data=b"abc")) == 2 * (3 + ENTRY_OVERHEAD_BYTES)


class TestCommitAndApply:
    def test_commit_never_goes_back_nor_beyond_the_log(self) -> None:
        committed = log(1, 1, commit=2)
        assert not committed.commit_to(1)
        assert committed.committed == 2
        with pytest.raises(InvariantViolation, match="ends at 2"):
            committed.commit_to(3)

    def test_only_what_is_on_disk_is_handed_out(self) -> None:
        """spec/raft.md §2: applied is durable locally too."""
        applying = log()
        applying.append(entries(1, 1))
        applying.commit_to(2)
        assert applying.take_committed(10**6) == []
        applying.take_unpersisted()
        applying.record_handover(1, 1, 0)
        applying.persisted_up_to(1)
        assert applying.take_committed(10**6) == entries(1, 1)
        assert applying.take_committed(10**6) == []

    def test_handed_out_in_bounded_rounds(self) -> None:
        applying = log(1, 1, 1, commit=3)
        assert [len(applying.take_committed(1)) for _ in range(4)] == [1, 1, 1, 0]

    def test_applied_must_have_been_handed_out(self) -> None:
        applying = log(1, 1, commit=2)
        with pytest.raises(InvariantViolation, match="handed out"):
            applying.applied_to(1)
        applying.take_committed(10**6)
        applying.applied_to(2)
        with pytest.raises(InvariantViolation, match="handed out"):
            applying.applied_to(1)

    def test_unapplied_conf_change(self) -> None:
        waiting = log(1, 1, commit=1)
        waiting.append([Entry(3, 1, EntryType.CONF_CHANGE, b"")])
        assert not waiting.has_unapplied_conf_change()
        waiting.commit_to(3)
        assert waiting.has_unapplied_conf_change()


class TestHandovers:
    def test_several_are_outstanding_and_finish_in_order(self) -> None:
        writing = log()
        for number in (1, 2, 3):
            writing.append(entries(1, first=number))
            assert len(writing.take_unpersisted()) == 1
            writing.record_handover(number, 1, 0)
        assert writing.newest_handover_number == 3
        finished = writing.persisted_up_to(2)
        assert finished is not None and finished.number == 2
        assert writing.persisted == 2
        assert writing.persisted_up_to(2) is None
        writing.persisted_up_to(3)
        assert (writing.persisted, writing.newest_handover_number) == (3, 0)

    def test_a_late_write_does_not_vouch_for_what_replaced_it(self) -> None:
        replaced = log(1)
        replaced.append(entries(2, 2, first=2))
        replaced.take_unpersisted()
        replaced.record_handover(1, 2, 0)
        replaced.merge(1, entries(3, first=2))
        assert replaced.take_unpersisted() == entries(3, first=2)
        replaced.record_handover(2, 3, 0)
        replaced.persisted_up_to(1)
        assert replaced.persisted == 1
        replaced.persisted_up_to(2)
        assert replaced.persisted == 2

    def test_not_even_if_the_old_entry_comes_back(self) -> None:
        """Written 2:2, replaced by 2:3, replaced by the same 2:2: the first write is not it."""
        back = log(1)
        for number, term in ((1, 2), (2, 3), (3, 2)):
            back.merge(1, entries(term, first=2))
            back.take_unpersisted()
            back.record_handover(number, 4, 0)
        assert terms(back) == [1, 2]
        back.persisted_up_to(2)
        assert back.persisted == 1
        back.persisted_up_to(3)
        assert back.persisted == 2


class TestRestore:
    def test_replaces_the_log_and_waits_for_its_installation(self) -> None:
        """spec/raft.md §6.4: until installed no apply."""
        restored = log(1, 1, 1, commit=2, applied=2)
        snapshot = Snapshot(9, 4, CONF)
        restored.restore(snapshot)
        assert (restored.first_index, restored.last_index, restored.committed) == (10, 9, 9)
        assert restored.last_term == 4
        assert restored.has_unapplied_conf_change()
        assert restored.take_snapshot() == snapshot
        assert restored.take_snapshot() is None
        restored.append(entries(4, first=10))
        restored.commit_to(10)
        assert restored.take_unpersisted() == entries(4, first=10)
        restored.record_handover(1, 4, 0)
        restored.persisted_up_to(1)
        assert restored.take_committed(10**6) == []
        restored.applied_to(9)
        assert restored.take_committed(10**6) == entries(4, first=10)

    def test_a_write_from_before_does_not_vouch_for_it(self) -> None:
        restored = log(1, commit=1, applied=1)
        restored.append(entries(1, 1, first=2))
        restored.take_unpersisted()
        restored.record_handover(1, 1, 0)
        restored.restore(Snapshot(9, 4, CONF))
        restored.persisted_up_to(1)
        assert restored.persisted == 1

    def test_a_second_one_may_come_before_the_first_is_installed(self) -> None:
        restored = log()
        restored.restore(Snapshot(5, 1, CONF))
        restored.take_snapshot()
        restored.restore(Snapshot(9, 4, CONF))
        assert restored.take_snapshot() == Snapshot(9, 4, CONF)
        restored.applied_to(9)
        assert restored.pending_snapshot is None

    def test_the_first_may_be_installed_after_the_second_has_come(self) -> None:
        restored = log()
        restored.restore(Snapshot(5, 1, CONF))
        restored.take_snapshot()
        restored.restore(Snapshot(9, 4, CONF))
        restored.applied_to(5)
        assert restored.applied == 5
        assert restored.pending_snapshot == Snapshot(9, 4, CONF)
        restored.applied_to(9)
        assert (restored.applied, restored.pending_snapshot) == (9, None)

    def test_an_old_one_is_fatal(self) -> None:
        with pytest.raises(InvariantViolation, match="old"):
            log(1, 1, commit=2).restore(Snapshot(2, 1, CONF))
