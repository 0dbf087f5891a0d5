"""Majorities (thesis §3.5, §4.3; spec/raft.md §6.5)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvserver.raft.quorum import (
    INFINITE_INDEX,
    VoteResult,
    joint_index,
    joint_vote,
    majority_index,
    majority_vote,
)


@pytest.mark.parametrize(
    ("acknowledged", "index"),
    [
        ([7], 7),
        ([7, 5], 5),
        ([7, 5, 6], 6),
        ([7, 0, 0], 0),
        ([7, 7, 0, 0], 0),
        ([7, 6, 5, 0], 5),
        ([9, 8, 7, 6, 5], 7),
        ([], INFINITE_INDEX),
    ],
)
def test_majority_index(acknowledged: list[int], index: int) -> None:
    assert majority_index(range(len(acknowledged)), lambda i: acknowledged[i]) == index


@given(st.dictionaries(st.integers(1, 9), st.integers(0, 20), min_size=1))
def test_majority_index_is_what_more_than_half_have(match: dict[int, int]) -> None:
    index = majority_index(match, match.__getitem__)
    assert sum(1 for value in match.values() if value >= index) * 2 > len(match)
    assert sum(1 for value in match.values() if value > index) * 2 <= len(match)


@pytest.mark.parametrize(
    ("votes", "result"),
    [
        ({}, VoteResult.PENDING),
        ({1: True}, VoteResult.PENDING),
        ({1: True, 2: True}, VoteResult.WON),
        ({1: True, 2: False}, VoteResult.PENDING),
        ({1: False, 2: False}, VoteResult.LOST),
        ({1: True, 2: False, 3: True}, VoteResult.WON),
        ({8: True, 9: True}, VoteResult.PENDING),
    ],
)
def test_majority_vote_of_three(votes: dict[int, bool], result: VoteResult) -> None:
    assert majority_vote((1, 2, 3), votes) is result


def test_half_is_no_majority() -> None:
    assert majority_vote((1, 2, 3, 4), {1: True, 2: True}) is VoteResult.PENDING
    assert majority_vote((1, 2, 3, 4), {1: False, 2: False}) is VoteResult.LOST


def test_nobody_agrees_to_everything() -> None:
    assert majority_vote((), {}) is VoteResult.WON


def test_joint_index_needs_both_halves() -> None:
    match = {1: 9, 2: 9, 3: 1, 4: 2, 5: 2}
    assert joint_index((1, 2, 3), (3, 4, 5), match.__getitem__) == 2
    assert joint_index((1, 2, 3), (), match.__getitem__) == 9


@pytest.mark.parametrize(
    ("votes", "result"),
    [
        ({1: True, 2: True}, VoteResult.PENDING),
        ({1: True, 2: True, 4: True, 5: True}, VoteResult.WON),
        ({1: True, 2: True, 4: False, 5: False}, VoteResult.LOST),
        ({1: False, 2: False}, VoteResult.LOST),
        ({}, VoteResult.PENDING),
    ],
)
def test_joint_vote(votes: dict[int, bool], result: VoteResult) -> None:
    assert joint_vote((1, 2, 3), (3, 4, 5), votes) is result
