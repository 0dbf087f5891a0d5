"""Majorities: of one set of voters, and of two at once while a configuration is joint.

Pure functions. An empty set of voters agrees to everything, so that a configuration that is not
joint is a joint one with an empty outgoing half (thesis §4.3).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from enum import Enum

INFINITE_INDEX = 2**64 - 1
"""What an empty set of voters has acknowledged."""


class VoteResult(Enum):
    PENDING = "pending"
    LOST = "lost"
    WON = "won"


def majority_index(voters: Collection[int], acknowledged: Callable[[int], int]) -> int:
    """Highest number that a majority of the voters has acknowledged."""
    if not voters:
        return INFINITE_INDEX
    ordered = sorted(map(acknowledged, voters))
    return ordered[(len(ordered) - 1) // 2]


def joint_index(
    incoming: Collection[int], outgoing: Collection[int], acknowledged: Callable[[int], int]
) -> int:
    """Highest number that a majority of each half has acknowledged."""
    index = majority_index(incoming, acknowledged)
    return min(index, majority_index(outgoing, acknowledged)) if outgoing else index


def majority_vote(voters: Collection[int], votes: Mapping[int, bool]) -> VoteResult:
    """What the votes so far decide; a voter without a vote may still say anything."""
    if not voters:
        return VoteResult.WON
    granted = sum(1 for voter in voters if votes.get(voter) is True)
    missing = sum(1 for voter in voters if voter not in votes)
    needed = len(voters) // 2 + 1
    if granted >= needed:
        return VoteResult.WON
    return VoteResult.PENDING if granted + missing >= needed else VoteResult.LOST


def joint_vote(
    incoming: Collection[int], outgoing: Collection[int], votes: Mapping[int, bool]
) -> VoteResult:
    """Both halves must be won; one lost half loses."""
    results = {majority_vote(incoming, votes), majority_vote(outgoing, votes)}
    if VoteResult.LOST in results:
        return VoteResult.LOST
    return VoteResult.PENDING if VoteResult.PENDING in results else VoteResult.WON
