"""From members' answers to one sentence (console.md §3 traps 9 and 14)."""

from __future__ import annotations

from typing import Any

import pytest

from console.overview.health import Level, Member, MemberStatus, assess

DEFAULTS: dict[str, Any] = {
    "version": "3.7.1",
    "db_size_bytes": 1000,
    "db_in_use_bytes": 500,
    "db_quota_bytes": 0,
    "leader_id": 1,
    "raft_term": 4,
    "raft_index": 100,
    "applied_index": 100,
    "revision": 50,
    "is_learner": False,
    "errors": (),
}


def member(number: int, *, is_learner: bool = False, **status: Any) -> Member:
    answer = MemberStatus(**(DEFAULTS | status))
    return Member(number, f"m{number}", is_learner, (), answer, None, 0.001)


def dead(number: int) -> Member:
    return Member(number, f"m{number}", False, (), None, "connection refused")


def test_a_healthy_cluster() -> None:
    health = assess([member(1), member(2), member(3)])
    assert health.level is Level.OK
    assert health.chip == "3 of 3 healthy"
    assert health.sentence == "Leader m1, term 4. No alarms."
    assert (health.quorum, health.survives) == (2, 1)
    assert [row.is_leader for row in health.rows] == [True, False, False]


def test_a_dead_member_is_a_row_and_a_warning() -> None:
    health = assess([member(1), member(2), dead(3)])
    assert health.level is Level.WARN
    assert health.chip == "2 of 3 healthy"
    assert health.sentence == (
        "m3 does not answer (connection refused). One more failure and writes stop. "
        "Leader m1, term 4. No alarms."
    )
    assert health.rows[2].state == "unreachable"
    assert health.survives == 0


def test_without_a_quorum_there_is_danger() -> None:
    health = assess([member(1, leader_id=0, errors=("etcdserver: no leader",)), dead(2), dead(3)])
    assert health.level is Level.DANGER
    assert health.sentence.startswith("There is no leader: writes stop")
    assert "1 of the 2 voters a quorum needs answer." in health.sentence
    assert health.survives == -1


def test_nobody_answers() -> None:
    health = assess([dead(1)], "UNAVAILABLE: connection refused")
    assert health.level is Level.DANGER
    assert health.sentence == "No member answers. UNAVAILABLE: connection refused."


@pytest.mark.parametrize("text", ["memberID:2 alarm:NOSPACE ", "memberID:2 alarm:NOSPACE"])
def test_alarms_come_out_of_status_and_are_counted_once(text: str) -> None:
    """spec/maintenance.md §3: trailing blank or not; replicated, so every member tells it."""
    health = assess([member(1, errors=(text,)), member(2, errors=(text,))])
    assert [(alarm.kind, alarm.member) for alarm in health.alarms] == [("NOSPACE", "m2")]
    assert health.level is Level.DANGER
    assert health.sentence.startswith("NOSPACE on m2: writes are refused")
    assert [row.state for row in health.rows] == ["healthy", "NOSPACE"]


def test_the_newest_term_decides_who_leads() -> None:
    members = [
        member(1, leader_id=1, raft_term=3),
        member(2, leader_id=2, raft_term=5),
        member(3, leader_id=2, raft_term=5),
    ]
    leader = assess(members).leader
    assert leader is not None
    assert leader.id == 2


def test_a_member_behind_says_so() -> None:
    health = assess([member(1, raft_index=9000, applied_index=9000), member(2), member(3)])
    assert health.rows[1].state == "behind"
    assert "m2 is behind." in health.sentence
    lagging = assess([member(1, applied_index=100, raft_index=5000)])
    assert lagging.rows[0].state == "behind"


def test_a_member_list_that_could_not_be_read_is_told() -> None:
    health = assess([member(1)], "PERMISSION_DENIED: no")
    assert health.level is Level.WARN
    assert "The member list could not be read (PERMISSION_DENIED: no)" in health.sentence


def test_learners_do_not_count_for_the_quorum() -> None:
    health = assess([member(1), member(2, is_learner=True)])
    assert (health.voters, health.quorum, health.survives) == (1, 1, 0)


def test_a_member_that_never_started_is_not_called_dead() -> None:
    fresh = Member(9, "", False, (), None, None)
    health = assess([member(1), member(2), fresh])
    assert health.rows[2].state == "not started"
    assert "Member 9 was added and has not started." in health.sentence


def test_quota_is_watched_where_it_is_known() -> None:
    health = assess([member(1, db_size_bytes=90, db_quota_bytes=100)])
    assert health.level is Level.WARN
    assert health.rows[0].notes == ("database at 90 % of its quota",)


def test_the_revision_is_the_newest_a_member_told() -> None:
    assert assess([member(1, revision=7), member(2, revision=9)]).revision == 9


def test_the_sentence_says_for_how_long_the_leader_leads() -> None:
    health = assess([member(1), member(2), member(3)], leads="for 6 d")
    assert health.sentence == "Leader m1 for 6 d, term 4. No alarms."
