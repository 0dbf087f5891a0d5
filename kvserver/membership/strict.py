"""The strict checks of a reconfiguration: would the cluster still have a quorum afterwards?
(spec/cluster.md §3.6)

Pure: members, and which of them are connected, are arguments. A voter that was added and never
started counts as one that is down. `connected` holds ids whose link has been up for long enough,
this member's own among them.
"""

from __future__ import annotations

from collections.abc import Iterable, Set

from kvserver import errors
from kvserver.membership.types import Member

LEARNER_IS_IN_SYNC_RATIO = 0.9
"""Of the leader's log, so much must be on a learner before it may vote (§3.4)."""


def quorum(voters: int) -> int:
    return voters // 2 + 1


def _voters(members: Iterable[Member]) -> list[Member]:
    return [member for member in members if not member.is_learner]


def _started(voters: Iterable[Member]) -> int:
    return sum(1 for voter in voters if voter.is_started)


def check_add(members: Iterable[Member], is_learner: bool, connected: Set[int]) -> None:
    """Raises `MemberNotEnoughStarted` or `Unhealthy`."""
    voters = _voters(members)
    is_alone = len(voters) == 1 and voters[0].is_started
    if not is_learner and not is_alone and _started(voters) < quorum(len(voters) + 1):
        raise errors.MemberNotEnoughStarted
    reached = sum(1 for voter in voters if voter.id in connected)
    if len(voters) != 1 and reached < quorum(len(voters) + 1):
        raise errors.Unhealthy


def check_remove(
    members: Iterable[Member], target: int, own: int, connected: Set[int], is_target_up: bool
) -> None:
    """`is_target_up`: whether the link to the target is up now, however short."""
    voters = _voters(members)
    if target not in {voter.id for voter in voters}:
        return
    remaining = [voter for voter in voters if voter.id != target]
    if _started(remaining) < quorum(len(remaining)):
        raise errors.MemberNotEnoughStarted
    if target != own and not is_target_up:
        return
    reached = sum(1 for voter in voters if voter.id in connected)
    if reached - 1 < 1 + (len(voters) - 1) // 2:
        raise errors.Unhealthy


def check_promote(members: Iterable[Member]) -> None:
    """The learner has started: it is in sync."""
    voters = _voters(members)
    if _started(voters) + 1 < quorum(len(voters) + 1):
        raise errors.MemberNotEnoughStarted


def is_in_sync(learner_match: int, leader_match: int) -> bool:
    return learner_match >= LEARNER_IS_IN_SYNC_RATIO * leader_match
