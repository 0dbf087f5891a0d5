"""Assertions that stay on: each must fire when its fact is broken."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kvserver.errors import FatalError
from kvserver.raft import Config, ConfState, Entry, EntryType, HardState, MemoryStorage, Role
from kvserver.raft.invariants import (
    InvariantViolation,
    check,
    check_cursors,
    check_hard_state,
    check_state,
)
from kvserver.raft.state import Raft


def raft() -> Raft:
    storage = MemoryStorage(
        hard_state=HardState(1, 0, 2),
        entries=[Entry(index, 1, EntryType.NORMAL, b"") for index in (1, 2, 3)],
        conf_state=ConfState((1, 2, 3)),
    )
    return Raft(Config(1, random=min), storage, 1)


def test_check_renders_its_values() -> None:
    check(True, "never %d", "seen")
    with pytest.raises(FatalError, match="raft: 3 is not 4"):
        check(False, "%d is not %d", 3, 4)
    with pytest.raises(InvariantViolation, match="100%"):
        check(False, "100%")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (HardState(2, 0, 3), HardState(1, 0, 3)),
        (HardState(2, 0, 3), HardState(2, 0, 2)),
        (HardState(2, 1, 3), HardState(2, 2, 3)),
        (HardState(2, 1, 3), HardState(2, 0, 3)),
    ],
)
def test_hard_state_goes_one_way(before: HardState, after: HardState) -> None:
    with pytest.raises(InvariantViolation):
        check_hard_state(before, after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (HardState(2, 1, 3), HardState(3, 2, 3)),
        (HardState(2, 0, 3), HardState(2, 2, 4)),
        (HardState(2, 1, 3), HardState(2, 1, 3)),
    ],
)
def test_hard_state_may_move_on(before: HardState, after: HardState) -> None:
    check_hard_state(before, after)


@pytest.mark.parametrize(
    ("cursor", "value"),
    [("applied", 2), ("applying", 3), ("committed", 4), ("persisted", 4), ("handed_over", 4)],
)
def test_cursors_are_in_order(cursor: str, value: int) -> None:
    log = raft().log
    check_cursors(log)
    setattr(log, cursor, value)
    with pytest.raises(InvariantViolation):
        check_cursors(log)


def test_nothing_is_applied_that_is_not_on_disk() -> None:
    log = raft().log
    log.applying, log.persisted = 2, 1
    with pytest.raises(InvariantViolation, match="on disk"):
        check_cursors(log)


def _leader_of_another(broken: Raft) -> None:
    broken.role, broken.leader = Role.LEADER, 2


def _candidate_that_follows(broken: Raft) -> None:
    broken.role, broken.leader, broken.vote = Role.CANDIDATE, 2, 1


def _candidate_that_voted_otherwise(broken: Raft) -> None:
    broken.role, broken.vote = Role.CANDIDATE, 2


@pytest.mark.parametrize(
    "spoil", [_leader_of_another, _candidate_that_follows, _candidate_that_voted_otherwise]
)
def test_roles_agree_with_the_rest(spoil: Callable[[Raft], None]) -> None:
    broken = raft()
    check_state(broken)
    spoil(broken)
    with pytest.raises(InvariantViolation):
        check_state(broken)
