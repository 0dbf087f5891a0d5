"""--force-new-cluster on what a disk holds (spec/cluster.md §2.4)."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvserver.membership import Member
from kvserver.membership.codec import decode_conf_context, encode_conf_context
from kvserver.raft import ConfChange, ConfChangeType, ConfState, Entry, EntryType, HardState
from kvserver.raft.codec import decode_conf_change, encode_conf_change
from kvserver.standalone import OWN_URL, stand_alone
from tests.support.in_process import running

OWN, SECOND, THIRD = 1, 2, 3
ADD, ADD_LEARNER = ConfChangeType.ADD_NODE, ConfChangeType.ADD_LEARNER_NODE
REMOVE = ConfChangeType.REMOVE_NODE


def change(index: int, kind: ConfChangeType, number: int) -> Entry:
    body = encode_conf_change(
        ConfChange(0, kind, number, encode_conf_context(Member(number, (f"http://m{number}:1",))))
    )
    return Entry(index, 1, EntryType.CONF_CHANGE, body)


def normal(index: int) -> Entry:
    return Entry(index, 2, EntryType.NORMAL, b"x")


def decided(new: list[Entry]) -> list[tuple[ConfChangeType, int]]:
    found = []
    for entry in new:
        decoded = decode_conf_change(entry)
        assert isinstance(decoded, ConfChange)
        found.append((decoded.type, decoded.node_id))
    return found


def test_what_is_not_committed_is_dropped_and_everybody_else_removed() -> None:
    log = [normal(index) for index in range(5, 11)]
    hard_state, entries, new = stand_alone(
        OWN, HardState(4, SECOND, 8), log, ConfState((OWN, SECOND, THIRD)), 6
    )
    assert [entry.index for entry in entries] == [5, 6, 7, 8, 9, 10]
    assert decided(new) == [(REMOVE, SECOND), (REMOVE, THIRD)]
    assert entries[4:] == new
    assert [entry.term for entry in new] == [4, 4]
    assert hard_state == HardState(4, SECOND, 10)


def test_members_of_changes_that_are_committed_but_not_applied_count() -> None:
    log = [
        change(1, ADD, OWN),
        change(2, ADD, SECOND),
        change(3, ADD_LEARNER, THIRD),
        change(4, REMOVE, SECOND),
        change(5, ADD, 4),  # not committed
    ]
    _, entries, new = stand_alone(OWN, HardState(1, 0, 4), log, ConfState(), 0)
    assert decided(new) == [(REMOVE, THIRD)]
    assert entries[:4] == log[:4]


def test_a_learner_becomes_a_voter_before_the_others_go() -> None:
    _, _, new = stand_alone(OWN, HardState(2, 0, 5), [], ConfState((SECOND, THIRD), (OWN,)), 5)
    assert decided(new) == [(ADD, OWN), (REMOVE, SECOND), (REMOVE, THIRD)]
    promotion = decode_conf_change(new[0])
    assert isinstance(promotion, ConfChange)
    assert decode_conf_context(promotion.context) == (Member(OWN, ()), True)


def test_a_member_that_its_log_does_not_name_adds_itself() -> None:
    _, _, new = stand_alone(OWN, HardState(2, 0, 5), [], ConfState((SECOND,)), 5)
    assert decided(new) == [(ADD, OWN), (REMOVE, SECOND)]
    addition = decode_conf_change(new[0])
    assert isinstance(addition, ConfChange)
    assert decode_conf_context(addition.context) == (Member(OWN, (OWN_URL,)), False)


def test_a_member_alone_stays_as_it_is() -> None:
    hard_state, entries, new = stand_alone(OWN, HardState(2, OWN, 5), [], ConfState((OWN,)), 5)
    assert (hard_state, entries, new) == (HardState(2, OWN, 5), [], [])


async def test_a_member_with_data_ignores_the_initial_cluster(tmp_path: Path) -> None:
    """Case 3: flags that contradict each other are nobody's business any more."""
    async with running(tmp_path) as member:
        members = member.server._cluster.known_members()
    async with running(
        tmp_path, name="other", initial_cluster="y=http://127.0.0.1:1,z=http://127.0.0.1:1"
    ) as member:
        assert [m.id for m in member.server._cluster.known_members()] == [members[0].id]


@pytest.mark.parametrize("is_unsafe", [False, True])
async def test_without_fsync_nothing_waits_for_the_disk(tmp_path: Path, is_unsafe: bool) -> None:
    async with running(tmp_path, unsafe_no_fsync=is_unsafe) as member:
        assert member.server._fs._syncs is not is_unsafe
