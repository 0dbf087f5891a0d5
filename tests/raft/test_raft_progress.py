"""What a leader knows of a follower, and the window (spec/raft.md §6.2-§6.4)."""

from __future__ import annotations

import pytest

from kvserver.raft.inflights import Inflights
from kvserver.raft.invariants import InvariantViolation
from kvserver.raft.progress import Progress, ProgressState


def progress(next_index: int = 5, match: int = 0, window: int = 3) -> Progress:
    return Progress(next_index, Inflights(window), match)


def replicating(match: int = 4, window: int = 3) -> Progress:
    known = progress(match + 1, match, window)
    known.become_replicate()
    return known


class TestInflights:
    def test_an_answer_frees_all_before_it(self) -> None:
        inflights = Inflights(4)
        for last in (3, 5, 9):
            inflights.add(last)
        inflights.free_up_to(4)
        assert len(inflights) == 2
        inflights.free_up_to(9)
        assert len(inflights) == 0

    def test_an_old_answer_frees_nothing(self) -> None:
        inflights = Inflights(2)
        inflights.add(7)
        inflights.free_up_to(6)
        assert len(inflights) == 1

    def test_a_full_window_takes_no_more(self) -> None:
        inflights = Inflights(1)
        inflights.add(1)
        assert inflights.is_full
        with pytest.raises(InvariantViolation):
            inflights.add(2)

    def test_clear(self) -> None:
        inflights = Inflights(1)
        inflights.add(1)
        inflights.clear()
        assert not inflights.is_full


class TestProbe:
    def test_one_append_with_entries_then_silence(self) -> None:
        known = progress()
        known.sent(2, 0)
        assert known.is_paused
        assert known.next == 5

    def test_an_empty_append_does_not_pause(self) -> None:
        known = progress()
        known.sent(0, 0)
        assert not known.is_paused

    def test_heartbeat_answer_resumes(self) -> None:
        known = progress()
        known.sent(1, 0)
        known.resume()
        assert not known.is_paused

    @pytest.mark.parametrize(
        ("rejected", "hint", "next_index"), [(4, 2, 3), (4, 9, 4), (4, 0, 1), (4, 4, 4)]
    )
    def test_steps_back_to_the_hint(self, rejected: int, hint: int, next_index: int) -> None:
        known = progress(5)
        known.sent(1, 0)
        assert known.maybe_step_back(rejected, hint)
        assert known.next == next_index
        assert not known.is_paused

    def test_never_below_what_matches(self) -> None:
        known = progress(5, match=3)
        assert known.maybe_step_back(4, 0)
        assert known.next == 4

    def test_stale_rejection_is_known_by_its_index(self) -> None:
        """spec/raft.md §13.5."""
        known = progress(5)
        assert not known.maybe_step_back(3, 1)
        assert known.next == 5


class TestReplicate:
    def test_next_moves_on_at_once_until_the_window_is_full(self) -> None:
        known = replicating(window=2)
        known.sent(3, 0)
        assert (known.next, known.is_paused) == (8, False)
        known.sent(1, 0)
        assert (known.next, known.is_paused) == (9, True)
        assert not known.may_carry_entries

    def test_an_answer_opens_the_window(self) -> None:
        known = replicating(window=1)
        known.sent(3, 0)
        assert known.acknowledged(7)
        known.inflights.free_up_to(7)
        assert not known.is_paused
        assert known.may_carry_entries

    def test_full_window_sends_empty_appends_only_after_a_heartbeat(self) -> None:
        """S18."""
        known = replicating(window=1)
        known.sent(1, 0)
        known.resume()
        assert not known.is_paused
        known.sent(0, 0)
        assert known.is_paused

    def test_old_answer_is_no_news(self) -> None:
        known = replicating(match=4)
        assert not known.acknowledged(4)
        assert not known.acknowledged(2)
        assert known.match == 4

    def test_rejection_above_match_goes_back_behind_match(self) -> None:
        known = replicating(match=4)
        known.sent(5, 0)
        assert known.maybe_step_back(9, 2)
        assert known.next == 5

    def test_rejection_at_or_below_match_is_stale(self) -> None:
        known = replicating(match=4)
        known.sent(5, 0)
        assert not known.maybe_step_back(4, 2)
        assert known.next == 10

    def test_back_to_probe(self) -> None:
        known = replicating(match=4)
        known.sent(5, 0)
        known.become_probe()
        assert (known.state, known.next, len(known.inflights)) == (ProgressState.PROBE, 5, 0)


class TestSnapshot:
    def test_nothing_is_sent(self) -> None:
        known = progress()
        known.become_snapshot(10)
        assert known.is_paused
        known.resume()
        assert known.is_paused
        assert known.next == 11

    def test_success_probes_behind_the_snapshot(self) -> None:
        """S12."""
        known = progress()
        known.become_snapshot(10)
        known.snapshot_reported(is_success=True)
        assert (known.state, known.next, known.is_paused) == (ProgressState.PROBE, 11, True)

    def test_failure_probes_behind_what_matches(self) -> None:
        known = progress()
        known.become_snapshot(10)
        known.snapshot_reported(is_success=False)
        assert (known.state, known.next, known.is_paused) == (ProgressState.PROBE, 1, True)

    def test_an_answer_beyond_it_counts_more_than_the_report(self) -> None:
        known = progress()
        known.become_snapshot(10)
        known.acknowledged(12)
        known.snapshot_reported(is_success=True)
        assert known.next == 13


class TestSentCommit:
    def test_told_is_not_told_again(self) -> None:
        known = replicating(match=4)
        assert known.may_lack_commit(3)
        known.told_commit(3)
        assert not known.may_lack_commit(3)
        known.told_commit(2)
        assert not known.may_lack_commit(3)

    def test_useless_beyond_what_was_sent(self) -> None:
        """A member cannot commit entries that it was not sent."""
        known = replicating(match=4)
        known.told_commit(4)
        assert not known.may_lack_commit(9)

    def test_stepping_back_forgets(self) -> None:
        known = progress(9, match=1)
        known.told_commit(8)
        known.maybe_step_back(8, 3)
        assert known.sent_commit == 3
