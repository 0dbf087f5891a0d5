"""Strict reconfiguration checks (spec/cluster.md §3.6): the table, row by row."""

from __future__ import annotations

import pytest

from kvserver import errors
from kvserver.membership import Member
from kvserver.membership.strict import check_add, check_promote, check_remove, is_in_sync


def voters(count: int, unstarted: int = 0) -> list[Member]:
    return [
        Member(i, (f"http://m{i}:1",), "" if i > count - unstarted else f"m{i}")
        for i in range(1, count + 1)
    ]


def test_a_sole_member_may_always_add() -> None:
    check_add(voters(1), False, {1})
    check_add(voters(1), True, {1})


@pytest.mark.parametrize(
    ("members", "connected", "error"),
    [
        (voters(3), {1, 2, 3}, None),
        (voters(3), {1, 2}, errors.Unhealthy),
        (voters(2), {1, 2}, None),
        (voters(2), {1}, errors.Unhealthy),
        (voters(2, unstarted=1), {1}, errors.MemberNotEnoughStarted),
        (voters(3, unstarted=1), {1, 2}, errors.MemberNotEnoughStarted),
        (voters(5), {1, 2, 3, 4}, None),
        (voters(5), {1, 2, 3}, errors.Unhealthy),
    ],
)
def test_adding_a_voter(
    members: list[Member], connected: set[int], error: type[errors.RequestError] | None
) -> None:
    if error is None:
        check_add(members, False, connected)
    else:
        with pytest.raises(error):
            check_add(members, False, connected)


def test_adding_a_learner_asks_only_for_links() -> None:
    check_add(voters(4, unstarted=1), True, {1, 2, 3})
    with pytest.raises(errors.Unhealthy):
        check_add(voters(3), True, {1})


def test_removing() -> None:
    """Cases 15 to 17."""
    with pytest.raises(errors.MemberNotEnoughStarted):
        check_remove(voters(1), 1, 1, {1}, True)
    check_remove(voters(4), 4, 1, {1, 2, 3}, False)
    check_remove(voters(4), 3, 1, {1, 2, 3}, True)
    check_remove(voters(3), 3, 1, {1, 2}, False)
    with pytest.raises(errors.Unhealthy):
        check_remove(voters(3), 2, 1, {1, 2}, True)
    with pytest.raises(errors.MemberNotEnoughStarted):
        check_remove(voters(3, unstarted=1), 2, 1, {1, 2}, True)
    check_remove(voters(2), 1, 1, {1, 2}, True)
    learner = Member(9, ("http://m9:1",), is_learner=True)
    check_remove([*voters(3), learner], 9, 1, {1}, False)


def test_promoting() -> None:
    check_promote(voters(1))
    check_promote(voters(3, unstarted=1))
    with pytest.raises(errors.MemberNotEnoughStarted):
        check_promote(voters(4, unstarted=3))


def test_in_sync_is_nine_tenths() -> None:
    """Case 11 and §3.4."""
    assert is_in_sync(90, 100)
    assert not is_in_sync(89, 100)
