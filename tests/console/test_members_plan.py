"""What a change of the membership does to the quorum, judged without a server
(spec/cluster.md §3.6)."""

from __future__ import annotations

import pytest

from console.members.plan import (
    Quorum,
    bad_peer_urls,
    plan_add,
    plan_move,
    plan_promote,
    plan_remove,
    plan_update,
    start_flags,
)
from console.members.replace import follow
from console.overview.health import Health, Member, MemberStatus, Row, assess

INDEX = 1000


def member(
    number: int,
    *,
    up: bool = True,
    learner: bool = False,
    started: bool = True,
    index: int = INDEX,
    leader: int = 1,
) -> Member:
    status = MemberStatus(
        version="3.7.1",
        db_size_bytes=1,
        db_in_use_bytes=1,
        db_quota_bytes=0,
        leader_id=leader,
        raft_term=2,
        raft_index=index,
        applied_index=index,
        revision=5,
        is_learner=learner,
        errors=(),
    )
    return Member(
        number,
        f"m{number}" if started else "",
        learner,
        (),
        status if up and started else None,
        peer_urls=(f"http://h{number}:2380",),
    )


def health(*members: Member) -> Health:
    return assess(list(members))


def row(found: Health, number: int) -> Row:
    return next(one for one in found.rows if one.member.id == number)


def unmet(plan) -> list[str]:
    return [check.words for check in plan.checks if not check.is_met and check.is_required]


@pytest.mark.parametrize(
    ("quorum", "needed", "survives", "words"),
    [
        (Quorum(1, 1), 1, 0, "the next failure stops the cluster"),
        (Quorum(2, 2), 2, 0, "the next failure stops writes"),
        (Quorum(3, 3), 2, 1, "the next failure is survived, and the one after it stops writes"),
        (Quorum(3, 2), 2, 0, "the next failure stops writes"),
        (Quorum(3, 1), 2, -1, "there is no quorum: writes have stopped"),
        (Quorum(5, 5), 3, 2, "the next failure is survived, and 1 more after it"),
    ],
)
def test_quorums(quorum: Quorum, needed: int, survives: int, words: str) -> None:
    assert (quorum.needed, quorum.survives, quorum.next_failure) == (needed, survives, words)


def test_a_learner_changes_no_quorum() -> None:
    found = health(member(1), member(2), member(3))
    plan = plan_add(found, [], ["http://h4:2380"], as_voter=False)
    assert plan.is_ready and plan.after == plan.before == Quorum(3, 3)
    assert "nothing can get worse" in " ".join(plan.points)
    assert "4 voters survive as many failures as 3 do" in " ".join(plan.points)


def test_a_voter_at_once_may_cost_the_quorum() -> None:
    alone = plan_add(health(member(1)), [], ["http://h2:2380"], as_voter=True)
    assert unmet(alone) == [
        "Until the new voter has started there would be no quorum: writes would stop"
    ]
    three = plan_add(health(member(1), member(2), member(3)), [], ["http://h4:2380"], as_voter=True)
    assert three.is_ready and three.after == Quorum(4, 3)


def test_nothing_is_added_beside_one_that_has_not_started() -> None:
    members = [member(1), member(2), member(3, started=False)]
    plan = plan_add(health(*members), members, ["http://h3:2380"], as_voter=False)
    assert len(unmet(plan)) == 2
    assert "has not started: start it or remove it first" in unmet(plan)[0]
    assert unmet(plan)[1] == "http://h3:2380 is 3's"


def test_a_second_learner_is_advice_only() -> None:
    found = health(member(1), member(2, learner=True))
    plan = plan_add(found, [], ["http://h3:2380"], as_voter=False)
    assert plan.is_ready
    assert [c.words for c in plan.checks if not c.is_met] == [
        "m2 is a learner already; most clusters take one at a time"
    ]


@pytest.mark.parametrize(("index", "is_ready"), [(INDEX, True), (900, True), (899, False)])
def test_a_learner_is_promoted_when_it_has_caught_up(index: int, is_ready: bool) -> None:
    found = health(member(1), member(2), member(3, learner=True, index=index))
    plan = plan_promote(found, row(found, 3))
    assert plan.is_ready is is_ready
    assert plan.after == Quorum(3, 3)


def test_a_silent_learner_and_a_voter_are_not_promoted() -> None:
    found = health(member(1), member(2, learner=True, up=False))
    assert "m2 is unreachable" in unmet(plan_promote(found, row(found, 2)))
    found = health(member(1), member(2))
    assert unmet(plan_promote(found, row(found, 2))) == ["m2 is a learner"]


def test_the_dead_go_before_the_living() -> None:
    found = health(member(1), member(2), member(3, up=False))
    dead = plan_remove(found, row(found, 3))
    assert dead.is_ready and dead.before.survives == 0 and dead.after == Quorum(2, 2)
    alive = plan_remove(found, row(found, 2))
    assert unmet(alive) == [
        "The voters that stay would have no quorum: writes would stop for good",
        "m3 does not answer: remove what is dead first, this member still helps",
    ]


def test_a_leader_that_does_not_answer_may_be_dead() -> None:
    """The others name it until they have elected another one: what is sent to it is lost."""
    found = health(member(1, up=False), member(2), member(3))
    for plan in (
        plan_remove(found, row(found, 1)),
        plan_add(found, [], ["http://h4:2380"], as_voter=False),
    ):
        advice = [check.words for check in plan.checks if not check.is_met]
        assert [words.partition(":")[0] for words in advice] == ["m1 leads and does not answer"]
        assert plan.is_ready, (
            "that the console cannot reach it need not mean that the others cannot"
        )
    follower_down = health(member(1), member(2, up=False), member(3))
    assert all(check.is_met for check in plan_remove(follower_down, row(follower_down, 2)).checks)


def test_the_last_voter_stays() -> None:
    found = health(member(1), member(2, learner=True))
    assert unmet(plan_remove(found, row(found, 1))) == ["It is the last voter: nobody is left"]
    assert plan_remove(found, row(found, 2)).is_ready


def test_a_leader_may_be_removed_but_better_moves_first() -> None:
    found = health(member(1), member(2), member(3))
    plan = plan_remove(found, row(found, 1))
    assert plan.is_ready
    assert any(check.remedy == "move_leader" for check in plan.checks if not check.is_met)


def test_without_a_leader_nothing_is_changed() -> None:
    found = health(member(1, leader=0), member(2, leader=0), member(3, leader=0))
    for plan in (
        plan_add(found, [], ["http://h4:2380"], as_voter=False),
        plan_remove(found, row(found, 3)),
        plan_move(found, row(found, 2)),
        plan_update(found, row(found, 2), [], ["http://x:1"]),
    ):
        assert "There is a leader" in unmet(plan)


def test_who_may_lead() -> None:
    found = health(member(1), member(2), member(3, learner=True), member(4, up=False))
    assert plan_move(found, row(found, 2)).is_ready
    assert unmet(plan_move(found, row(found, 1))) == ["m1 does not lead yet"]
    assert unmet(plan_move(found, row(found, 3))) == ["m3 is a voter"]
    assert unmet(plan_move(found, row(found, 4))) == ["m4 is unreachable"]


@pytest.mark.parametrize(
    ("urls", "why"),
    [
        ([], "One address a line"),
        (["http://h:2380", "https://[::1]:2380"], ""),
        (["h:2380"], "does not begin with"),
        (["http://h"], "has no port"),
        (["http://h:99999"], "is no address"),
        (["http://h:1/path"], "host and port only"),
        (["http://u@h:1"], "host and port only"),
        (["ftp://h:1"], "does not begin with"),
    ],
)
def test_peer_addresses(urls: list[str], why: str) -> None:
    found = bad_peer_urls(urls)
    assert why in found if why else found == ""


def test_the_flags_of_a_new_member_name_everybody() -> None:
    added = member(4, started=False)
    flags = start_flags("m4", added.peer_urls, [member(1), member(2), added], added)
    assert flags["initial-cluster"] == "m1=http://h1:2380,m2=http://h2:2380,m4=http://h4:2380"
    assert flags["initial-cluster-state"] == "existing"


def test_the_assistant_reads_its_steps_off_the_cluster() -> None:
    new_urls = ["http://h9:2380"]

    def steps(*members: Member) -> tuple[list[bool], str]:
        found = follow(health(*members), 3, "m9", new_urls)
        following = next((step.name for step in found.steps if step.is_next), "")
        return [step.is_done for step in found.steps], following

    alive = [member(1), member(2)]
    assert steps(*alive, member(3, up=False)) == ([False] * 4, "remove")
    assert steps(*alive) == ([True, False, False, False], "add")
    added = member(9, started=False, learner=True)
    assert steps(*alive, added) == ([True, True, False, False], "start")
    assert steps(*alive, member(9, learner=True)) == ([True, True, True, False], "promote")
    assert steps(*alive, member(9)) == ([True] * 4, "")
