"""Configurations and their changes (spec/raft.md §10, thesis §4)."""

from __future__ import annotations

import pytest

from kvserver.raft import ConfState, confchange
from kvserver.raft.confchange import Configuration
from kvserver.raft.inflights import Inflights
from kvserver.raft.invariants import InvariantViolation
from kvserver.raft.tracker import ProgressTracker
from tests.support.raft_text import parse_change


def conf(
    voters: str = "", learners: str = "", outgoing: str = "", next_: str = "", auto: bool = False
) -> Configuration:
    def ids(text: str) -> frozenset[int]:
        return frozenset(int(part) for part in text.split())

    return Configuration(ids(voters), ids(outgoing), ids(learners), ids(next_), auto)


def changed(configuration: Configuration, *changes: str) -> Configuration:
    for text in changes:
        configuration = confchange.change(configuration, parse_change(text).as_v2())
    return configuration


THREE = conf("1 2 3")


@pytest.mark.parametrize(
    ("before", "change", "after"),
    [
        (THREE, "add(4)", conf("1 2 3 4")),
        (THREE, "add(3)", THREE),
        (THREE, "add(0)", THREE),
        (THREE, "update(3)", THREE),
        (THREE, "remove(3)", conf("1 2")),
        (THREE, "remove(9)", THREE),
        (THREE, "learner(4)", conf("1 2 3", "4")),
        (THREE, "learner(3)", conf("1 2", "3")),
        (conf("1 2 3", "4"), "add(4)", conf("1 2 3 4")),
        (conf("1 2 3", "4"), "remove(4)", THREE),
        (conf("1 2 3", "4"), "learner(4)", conf("1 2 3", "4")),
        (conf(), "add(1)", conf("1")),
    ],
)
def test_simple_change(before: Configuration, change: str, after: Configuration) -> None:
    assert changed(before, change) == after


def test_a_simple_v2_change_is_the_same_as_v1() -> None:
    v2 = parse_change("add(4)").as_v2()
    assert confchange.change(THREE, v2) == conf("1 2 3 4")


@pytest.mark.parametrize(
    ("before", "change", "after"),
    [
        (THREE, "add(4)+remove(3)", conf("1 2 4", outgoing="1 2 3", auto=True)),
        (THREE, "add(4):implicit", conf("1 2 3 4", outgoing="1 2 3", auto=True)),
        (THREE, "add(4):explicit", conf("1 2 3 4", outgoing="1 2 3")),
        (THREE, "learner(3)+add(4)", conf("1 2 4", outgoing="1 2 3", next_="3", auto=True)),
        (
            THREE,
            "learner(3)+learner(3)+add(3)",
            conf("1 2 3", outgoing="1 2 3", auto=True),
        ),
        (
            THREE,
            "learner(3)+remove(3)+add(4)",
            conf("1 2 4", outgoing="1 2 3", auto=True),
        ),
        (conf("1 2", "4"), "add(4)+add(5)", conf("1 2 4 5", outgoing="1 2", auto=True)),
    ],
)
def test_entering_a_joint_configuration(
    before: Configuration, change: str, after: Configuration
) -> None:
    assert changed(before, change) == after


def test_leaving_it_makes_learners_of_those_that_wait() -> None:
    assert changed(THREE, "learner(3)+add(4)", "leave") == conf("1 2 4", "3")


def test_members_are_voters_of_both_halves_and_learners() -> None:
    joint = conf("1 2 4", "5", outgoing="1 2 3")
    assert joint.all_voters == {1, 2, 3, 4}
    assert joint.members == {1, 2, 3, 4, 5}
    assert joint.is_joint and not THREE.is_joint


@pytest.mark.parametrize(
    ("before", "change", "message"),
    [
        (conf("1"), "remove(1)", "no voters left"),
        (conf("1"), "learner(1)", "no voters left"),
        (conf("1 2", outgoing="1"), "add(3)", "joint configuration"),
        (conf("1 2", outgoing="1"), "add(3)+add(4)", "joint already"),
        (THREE, "leave", "not joint"),
        (conf(), "add(1)+add(2)", "without voters"),
    ],
)
def test_impossible_changes_are_fatal(before: Configuration, change: str, message: str) -> None:
    with pytest.raises(InvariantViolation, match=message):
        changed(before, change)


def test_two_voters_at_once_need_a_joint_configuration() -> None:
    """Thesis §4.1: majorities of configurations two voters apart need not overlap."""
    both = parse_change("add(4)+add(5)").as_v2().changes
    with pytest.raises(InvariantViolation, match="one voter, not 2"):
        confchange._simple(THREE, both)


@pytest.mark.parametrize(
    "state",
    [
        ConfState(),
        ConfState((1, 2, 3)),
        ConfState((1, 2, 3), (4,)),
        ConfState((1, 2, 4), (5,), (1, 2, 3), (3,), True),
    ],
)
def test_conf_state_there_and_back(state: ConfState) -> None:
    assert confchange.restore(state).conf_state() == state


def test_ids_are_stored_ascending() -> None:
    assert confchange.restore(ConfState((9, 2, 5))).conf_state().voters == (2, 5, 9)


@pytest.mark.parametrize(
    "state",
    [
        ConfState((), (4,)),
        ConfState((1, 2), (2,)),
        ConfState((1, 2), (), (1,), (2,)),
        ConfState((1, 2), (), (), (), True),
    ],
)
def test_contradictory_states_are_fatal(state: ConfState) -> None:
    with pytest.raises(InvariantViolation):
        confchange.restore(state)


class TestTracker:
    def test_newcomers_carry_the_last_entry_first(self) -> None:
        """spec/raft.md §6.3, trap 7: next is the last index, not the one after."""
        tracker = ProgressTracker(8)
        tracker.adopt(THREE, last_index=7)
        assert tracker.progress[1].next == 7
        assert tracker.progress[1].recent_active
        tracker.adopt(conf("1 2", "4"), last_index=0)
        assert sorted(tracker.progress) == [1, 2, 4]
        assert tracker.progress[4].next == 1
        assert tracker.progress[4].is_learner

    def test_those_who_stay_keep_their_progress(self) -> None:
        tracker = ProgressTracker(8)
        tracker.adopt(conf("1 2", "3"), 7)
        known = tracker.progress[3]
        known.acknowledged(5)
        tracker.adopt(THREE, 9)
        assert tracker.progress[3] is known
        assert not known.is_learner

    def test_reset_probes_everybody(self) -> None:
        tracker = ProgressTracker(8)
        tracker.adopt(conf("1 2", "3"), 7)
        tracker.progress[2].acknowledged(7)
        tracker.reset_progress(7)
        assert tracker.progress[2].match == 0
        assert tracker.progress[2].next == 8
        assert tracker.progress[3].is_learner

    def test_sole_voter(self) -> None:
        tracker = ProgressTracker(8)
        tracker.adopt(conf("1", "2"), 1)
        assert tracker.sole_voter == 1
        tracker.adopt(conf("1 2"), 1)
        assert tracker.sole_voter == 0
        tracker.adopt(conf("1", outgoing="1 2"), 1)
        assert tracker.sole_voter == 0

    def test_the_first_vote_of_a_voter_counts(self) -> None:
        tracker = ProgressTracker(8)
        tracker.adopt(THREE, 1)
        tracker.record_vote(2, False)
        tracker.record_vote(2, True)
        assert tracker.votes == {2: False}

    def test_quorum_active_ignores_learners_and_forgets(self) -> None:
        tracker = ProgressTracker(8)
        tracker.adopt(conf("1 2 3", "4 5"), 1)
        tracker.take_quorum_active(1)
        tracker.progress[4].recent_active = tracker.progress[5].recent_active = True
        assert not tracker.take_quorum_active(1)
        tracker.progress[3].recent_active = True
        assert tracker.take_quorum_active(1)
        assert not tracker.take_quorum_active(1)

    def test_window_is_the_configured_one(self) -> None:
        tracker = ProgressTracker(8)
        tracker.adopt(THREE, 1)
        assert tracker.progress[1].inflights.messages_max == 8
        assert isinstance(tracker.progress[1].inflights, Inflights)
