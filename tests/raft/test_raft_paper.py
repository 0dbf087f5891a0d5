"""The claims of the Raft thesis, one test each (Ongaro 2014, chapters 3, 4, 6.4, 9.6, 10).

Members are played by `raft_script`; a test gives commands and looks at what the last one did.
"""

from __future__ import annotations

import random

import pytest

from kvserver.raft import (
    Config,
    ConfState,
    HardState,
    MemoryStorage,
    Message,
    MessageType,
    RawNode,
)
from tests.support.raft_script import Script

THREE = "voters 1,2,3 log 1:1 commit 1 term 1"
PLAIN = f"{THREE} prevote off quorum off"
ELECT = ("1 timeout", "2 to 1: VoteResponse term 2")
CAUGHT_UP = ("2 to 1: AppendResponse term 2 index 2", "3 to 1: AppendResponse term 2 index 2")


def after(*commands: str, member: str = PLAIN, id: int = 1) -> list[str]:
    """What the last command made a new member do, without its ID before each line."""
    script = Script()
    script.command(f"new {id} {member}")
    happened: list[str] = []
    for command in commands:
        happened = script.command(command)
    return [line.removeprefix(f"{id}  ") for line in happened]


def leader(*commands: str, member: str = PLAIN) -> list[str]:
    """The same for a leader of term 2 that everybody has caught up with."""
    return after(*ELECT, *CAUGHT_UP, *commands, member=member)


class TestElections:
    """§3.4"""

    def test_members_start_as_followers(self) -> None:
        assert after("1 state") == ["follower term 1 vote 0 leader 0 commit 1 applied 1"]

    def test_a_follower_that_hears_nothing_campaigns_in_the_next_term(self) -> None:
        assert after("1 timeout") == [
            "candidate of term 2, leader 0",
            "disk term 2 vote 1",
            "to 2: Vote term 2 last 1:1",
            "to 3: Vote term 2 last 1:1",
        ]

    def test_a_candidate_asks_when_its_own_vote_is_on_disk(self) -> None:
        """§3.8: others may elect it without its own vote. If it forgot its term in a crash it
        could be elected in it again, with other entries (found by the simulator)."""
        storage = MemoryStorage(conf_state=ConfState((1, 2, 3)))
        node = RawNode(Config(1, random=lambda low, high: low, pre_vote=False), storage)
        node.campaign()
        ready = node.ready()
        assert ready.hard_state == HardState(1, 1, 0) and ready.must_sync
        assert not any(message.type is MessageType.VOTE for message in ready.messages_now)
        votes = [m for m in ready.messages_after_persist if m.type is MessageType.VOTE]
        assert [vote.to for vote in votes] == [2, 3]
        assert ready.rests_on == ready.number

    @pytest.mark.parametrize(
        "word", ["Heartbeat term 1 commit 1", "Append term 1 prev 1:1 [] commit 1"]
    )
    def test_a_follower_that_hears_its_leader_does_not(self, word: str) -> None:
        assert after("1 tick 9", f"2 to 1: {word}", "1 tick 9", "1 state")[0].startswith("follower")

    def test_a_granted_vote_counts_as_hearing_somebody(self) -> None:
        assert after("1 tick 9", "2 to 1: Vote term 2 last 1:1", "1 tick 9") == ["nothing"]

    def test_a_leader_sends_heartbeats(self) -> None:
        assert leader("1 tick") == [
            "to 2: Heartbeat term 2 commit 2",
            "to 3: Heartbeat term 2 commit 2",
        ]

    def test_heartbeats_may_be_rarer_than_ticks(self) -> None:
        storage = MemoryStorage(conf_state=ConfState((1, 2)))
        node = RawNode(Config(1, random=min, heartbeat_ticks=3, pre_vote=False), storage)
        node.campaign()
        node.step(Message(MessageType.VOTE_RESPONSE, 1, 2, 1))
        node.persisted(node.ready().number)
        sent = []
        for _ in range(7):
            node.tick()
            sent += [message.type for message in node.ready().messages_now]
        assert sent == [MessageType.APPEND, MessageType.HEARTBEAT, MessageType.HEARTBEAT]

    def test_a_candidate_with_a_majority_leads(self) -> None:
        assert after(*ELECT)[0] == "leader of term 2, leader 1"

    def test_half_is_no_majority(self) -> None:
        four = "voters 1,2,3,4 log 1:1 commit 1 term 1 prevote off"
        assert after(*ELECT, member=four) == ["nothing"]

    def test_a_candidate_refused_by_a_majority_follows(self) -> None:
        refused = ("2 to 1: VoteResponse term 2 reject", "3 to 1: VoteResponse term 2 reject")
        assert after("1 timeout", *refused) == ["follower of term 2, leader 0"]

    @pytest.mark.parametrize(
        "word",
        [
            "Heartbeat term 2 commit 1",
            "Append term 2 prev 1:1 [2:2] commit 1",
            "Snapshot term 2 snap 9:1 voters 1,2,3",
        ],
    )
    def test_a_candidate_follows_a_leader_of_its_term(self, word: str) -> None:
        assert after("1 timeout", f"2 to 1: {word}")[0] == "follower of term 2, leader 2"

    def test_a_candidate_that_nobody_answers_tries_the_next_term(self) -> None:
        assert after("1 timeout", "1 timeout")[:2] == [
            "disk term 3 vote 1",
            "to 2: Vote term 3 last 1:1",
        ]

    def test_a_vote_counts_once(self) -> None:
        five = "voters 1,2,3,4,5 log 1:1 commit 1 term 1 prevote off"
        again = ("2 to 1: VoteResponse term 2", "2 to 1: VoteResponse term 2")
        assert after("1 timeout", *again, member=five) == ["nothing"]

    def test_one_vote_a_term_first_come(self) -> None:
        first = "2 to 1: Vote term 2 last 1:1"
        assert after(first, "3 to 1: Vote term 2 last 1:1") == ["to 3: VoteResponse term 2 reject"]
        assert after(first, first) == ["to 2: VoteResponse term 2"]
        assert after(first, "3 to 1: Vote term 3 last 1:1")[-1] == "to 3: VoteResponse term 3"

    def test_timeouts_are_drawn_anew_from_a_range(self) -> None:
        """§3.4: so that split votes are rare. Here from E to 2E-1 (spec/raft.md §1)."""
        rng = random.Random(1)
        drawn: list[tuple[int, int, int]] = []

        def record(low: int, high: int) -> int:
            drawn.append((low, high, rng.randint(low, high)))
            return drawn[-1][2]

        storage = MemoryStorage(conf_state=ConfState((1, 2, 3)))
        node = RawNode(Config(1, random=record, pre_vote=False), storage)
        waited = []
        for _ in range(200):
            ticks = 0
            term = node.term
            while node.term == term:
                node.tick()
                ticks += 1
            waited.append(ticks)
        assert {(low, high) for low, high, _ in drawn} == {(10, 19)}
        assert set(waited) == set(range(10, 20))
        assert waited == [value for _, _, value in drawn[: len(waited)]]


class TestTerms:
    """§3.3: terms are a clock; the lower one gives way."""

    @pytest.mark.parametrize("role", ["follower", "candidate", "leader"])
    @pytest.mark.parametrize(
        ("word", "known"),
        [
            ("Append term 9 prev 1:1 [] commit 1", 2),
            ("Heartbeat term 9 commit 1", 2),
            ("Vote term 9 last 0:0", 0),
            ("AppendResponse term 9", 0),
            ("HeartbeatResponse term 9", 0),
            ("VoteResponse term 9 reject", 0),
        ],
    )
    def test_a_later_term_makes_a_follower(self, role: str, word: str, known: int) -> None:
        commands = {"follower": [], "candidate": ["1 timeout"], "leader": list(ELECT)}[role]
        happened = after(*commands, f"2 to 1: {word}", "1 state")
        assert happened[0].startswith(f"follower term 9 vote 0 leader {known}")

    @pytest.mark.parametrize(
        "word",
        [
            "Append term 1 prev 1:1 [2:1] commit 2",
            "Heartbeat term 1 commit 1",
            "Vote term 1 last 9:9",
            "VoteResponse term 1",
            "AppendResponse term 1 index 2",
            "TimeoutNow term 1",
        ],
    )
    def test_an_earlier_term_changes_nothing(self, word: str) -> None:
        assert leader(f"2 to 1: {word}") == ["nothing"]

    def test_but_its_leader_is_told_where_elections_could_not_tell_it(self) -> None:
        """§4.2.3: with the lease rule a leader with an old term could stay stuck."""
        assert after("2 to 1: Heartbeat term 1 commit 1", member="voters 1,2,3 term 4") == [
            "to 2: AppendResponse term 4"
        ]


class TestReplication:
    """§3.5"""

    def test_proposals_go_to_everybody_and_to_the_own_disk(self) -> None:
        assert leader("1 propose a") == [
            "to 2: Append term 2 prev 2:2 [3:2=a] commit 2",
            "to 3: Append term 2 prev 2:2 [3:2=a] commit 2",
            "disk 3:2=a",
        ]

    def test_committed_when_a_majority_has_it(self) -> None:
        happened = leader("1 propose a", "3 to 1: AppendResponse term 2 index 3")
        assert happened[-2:] == ["commit 3", "apply 3:2=a"]

    def test_a_commit_takes_in_all_before_it(self) -> None:
        old = "voters 1,2,3 log 1:1 2:1 3:1 commit 1 term 1 prevote off"
        happened = after(*ELECT, "2 to 1: AppendResponse term 2 index 4", member=old)
        assert happened[-2:] == ["commit 4", "apply 2:1 3:1 4:2"]

    def test_followers_learn_of_commits_and_apply_in_order(self) -> None:
        append = "2 to 1: Append term 1 prev 1:1 [2:1=a 3:1=b 4:1=c] commit 1"
        told = after(append, "2 to 1: Append term 1 prev 4:1 [] commit 3")
        assert told[:2] == ["commit 3", "apply 2:1=a 3:1=b"]

    def test_an_append_must_fit_the_log_before_it(self) -> None:
        assert after("2 to 1: Append term 1 prev 2:1 [3:1] commit 1") == [
            "follower of term 1, leader 2",
            "to 2: AppendResponse term 1 reject 2 hint 1:1",
        ]

    def test_conflicting_entries_give_way(self) -> None:
        ours = "voters 1,2,3 log 1:1 2:2 3:2 commit 1 term 2"
        assert after("2 to 1: Append term 3 prev 1:1 [2:3] commit 1", "1 log", member=ours) == [
            "log 1:1 2:3"
        ]

    def test_agreeing_entries_stay(self) -> None:
        ours = "voters 1,2,3 log 1:1 2:2 3:2 commit 1 term 2"
        assert after("2 to 1: Append term 2 prev 1:1 [2:2] commit 1", "1 log", member=ours) == [
            "log 1:1 2:2 3:2"
        ]

    @pytest.mark.parametrize(
        "log",
        [
            "1:1 2:1 3:1 4:4 5:4 6:5 7:5 8:6 9:6",
            "1:1 2:1 3:1 4:4",
            "1:1 2:1 3:1 4:4 5:4 6:5 7:5 8:6 9:6 10:6 11:6",
            "1:1 2:1 3:1 4:4 5:4 6:5 7:5 8:6 9:6 10:6 11:7 12:7",
            "1:1 2:1 3:1 4:4 5:4 6:4 7:4",
            "1:1 2:1 3:1 4:2 5:2 6:2 7:3 8:3 9:3 10:3 11:3",
        ],
        ids="abcdef",
    )
    def test_a_leader_brings_any_log_into_line(self, log: str) -> None:
        """Figure 3.6."""
        script = Script()
        ours = "1:1 2:1 3:1 4:4 5:4 6:5 7:5 8:6 9:6 10:6"
        script.command(f"new 1 voters 1,2,3 log {ours} commit 1 term 7 prevote off quorum off")
        script.command(f"new 2 voters 1,2,3 log {log} commit 1 term 7 prevote off quorum off")
        script.command("1 timeout")
        script.command("3 to 1: VoteResponse term 8")
        script.command("deliver")
        script.command("1 tick")
        script.command("deliver")
        assert script.command("2 log") == [f"2  log {ours} 11:8"]

    def test_a_leader_never_changes_its_own_log(self) -> None:
        """§3.5, leader append-only: an append of its own term cannot be of another leader."""
        assert leader("1 propose a", "1 log") == ["log 1:1 2:2 3:2=a"]
        assert leader("1 propose a", "2 to 1: Append term 2 prev 1:1 [2:1] commit 1") == ["nothing"]


class TestSafety:
    """§3.6"""

    @pytest.mark.parametrize(
        ("last", "is_granted"),
        [("3:2", True), ("4:2", True), ("2:2", False), ("9:1", False), ("1:3", True)],
    )
    def test_votes_only_for_logs_that_hold_everything(self, last: str, is_granted: bool) -> None:
        voter = "voters 1,2,3 log 1:1 2:2 3:2 commit 1 term 3"
        answer = after(f"2 to 1: Vote term 4 last {last}", member=voter)[-1]
        assert answer == "to 2: VoteResponse term 4" + ("" if is_granted else " reject")

    def test_counting_commits_only_entries_of_the_own_term(self) -> None:
        old = "voters 1,2,3 log 1:1 2:1 commit 1 term 1 prevote off"
        happened = after(*ELECT, "2 to 1: AppendResponse term 2 index 2", member=old)
        assert not [line for line in happened if line.startswith("commit")]

    def test_a_new_leader_appends_an_empty_entry(self) -> None:
        """§6.4 step 1: so that it finds out what is committed."""
        assert after(*ELECT)[-1] == "disk 2:2"

    def test_restart_keeps_term_vote_and_log(self) -> None:
        """§3.8"""
        script = Script()
        script.command(f"new 1 {PLAIN}")
        script.command("2 to 1: Vote term 4 last 1:1")
        script.command("2 to 1: Append term 4 prev 1:1 [2:4=a] commit 1")
        script.command("1 crash")
        script.command("1 restart")
        assert script.command("1 state") == [
            "1  follower term 4 vote 2 leader 0 commit 1 applied 1"
        ]
        assert script.command("1 log") == ["1  log 1:1 2:4=a"]
        assert script.command("3 to 1: Vote term 4 last 9:4") == [
            "1  to 3: VoteResponse term 4 reject"
        ]


class TestTransfer:
    """§3.10"""

    def test_the_chosen_one_campaigns_at_once(self) -> None:
        assert leader("1 transfer 2")[-1] == "to 2: TimeoutNow term 2"
        assert after("2 to 1: TimeoutNow term 1")[2] == "to 2: Vote term 2 last 1:1 transfer"

    def test_proposals_wait_meanwhile(self) -> None:
        assert leader("1 transfer 2", "1 propose a")[-1].startswith("dropped")

    def test_given_up_after_an_election_timeout(self) -> None:
        assert leader("1 transfer 2", "1 tick 10", "1 propose a")[-1] == "disk 3:2=a"


class TestMembership:
    """Chapter 4"""

    def test_one_change_at_a_time(self) -> None:
        """§4.1"""
        assert leader("1 conf add(4)", "1 conf add(5)")[-1] == "disk 4:2"

    def test_not_before_all_that_may_hold_a_change_is_applied(self) -> None:
        """A new leader cannot know of changes in entries that are not committed yet."""
        old = "voters 1,2,3 log 1:1 2:1=add(4) commit 1 term 1 prevote off quorum off"
        assert after(*ELECT, "1 conf add(5)", member=old)[-1] == "disk 4:2"
        applied = (*ELECT, "2 to 1: AppendResponse term 2 index 3")
        assert after(*applied, "1 conf add(5)", member=old)[-1] == "disk 4:2=add(5)"

    def test_a_learner_does_not_count(self) -> None:
        """§4.2.1: catching up before voting."""
        learner = "voters 1,2,3 learners 4 log 1:1 commit 1 term 1 prevote off"
        happened = after(*ELECT, "4 to 1: AppendResponse term 2 index 2", member=learner)
        assert not [line for line in happened if line.startswith("commit")]

    def test_a_removed_member_disturbs_nobody_who_hears_a_leader(self) -> None:
        """§4.2.3"""
        heard = "2 to 1: Heartbeat term 1 commit 1"
        assert after(heard, "3 to 1: Vote term 5 last 9:9", member=THREE) == ["nothing"]

    def test_after_an_election_timeout_it_would(self) -> None:
        lone = THREE.replace("voters 1,2,3", "voters 2,3 learners 1")
        heard = "2 to 1: Heartbeat term 1 commit 1"
        asked = "3 to 1: Vote term 5 last 9:9"
        assert after(heard, "1 tick 10", asked, member=lone)[-1] == "to 3: VoteResponse term 5"

    def test_a_leader_without_a_majority_steps_down(self) -> None:
        """§6.2"""
        assert after(*ELECT, "1 tick 10", member=f"{THREE} prevote off")[0] == (
            "follower of term 2, leader 0"
        )


class TestReads:
    """§6.4"""

    def test_a_majority_must_still_know_the_leader(self) -> None:
        assert leader("1 read r") == [
            "to 2: Heartbeat term 2 commit 2 ctx #1",
            "to 3: Heartbeat term 2 commit 2 ctx #1",
        ]
        assert leader("1 read r", "2 to 1: HeartbeatResponse term 2 ctx #1") == ["read r at 2"]

    def test_the_index_is_that_of_the_moment_it_arrived(self) -> None:
        later = ("1 propose a", "2 to 1: AppendResponse term 2 index 3")
        assert leader("1 read r", *later, "2 to 1: HeartbeatResponse term 2 ctx #1") == [
            "read r at 2"
        ]

    def test_one_round_confirms_all_reads_before_it(self) -> None:
        reads = ("1 read r", "1 read s", "1 read t")
        assert leader(*reads, "3 to 1: HeartbeatResponse term 2 ctx #2") == [
            "read r at 2",
            "read s at 2",
        ]

    def test_the_periodic_heartbeat_asks_again(self) -> None:
        assert leader("1 read r", "1 tick")[0].endswith("ctx #1")

    def test_an_answer_of_one_member_is_not_counted_twice(self) -> None:
        five = "voters 1,2,3,4,5 log 1:1 commit 1 term 1 prevote off quorum off"
        commands = (
            *ELECT,
            "3 to 1: VoteResponse term 2",
            "2 to 1: AppendResponse term 2 index 2",
            "3 to 1: AppendResponse term 2 index 2",
            "1 read r",
            "2 to 1: HeartbeatResponse term 2 ctx #1",
        )
        assert after(*commands, commands[-1], member=five) == ["nothing"]
        assert after(*commands, "3 to 1: HeartbeatResponse term 2 ctx #1", member=five) == [
            "read r at 2"
        ]

    def test_learners_confirm_nothing(self) -> None:
        learners = "voters 1,2,3 learners 4,5 log 1:1 commit 1 term 1 prevote off quorum off"
        echo = (
            "4 to 1: HeartbeatResponse term 2 ctx #1",
            "5 to 1: HeartbeatResponse term 2 ctx #1",
        )
        happened = leader("1 read r", *echo, member=learners)
        assert not [line for line in happened if line.startswith("read")]

    def test_reads_die_with_the_term(self) -> None:
        """spec/raft.md §7: nobody is told, and an echo of the old term confirms nothing."""
        again = (
            "2 to 1: Heartbeat term 3 commit 2",
            "1 timeout",
            "2 to 1: VoteResponse term 4",
            "2 to 1: AppendResponse term 4 index 3",
        )
        old_echo = "3 to 1: HeartbeatResponse term 2 ctx #1"
        assert leader("1 read r", *again, old_echo) == ["nothing"]
        happened = leader("1 read r", *again, "3 to 1: HeartbeatResponse term 4 ctx #1")
        assert not [line for line in happened if line.startswith("read")]


class TestPreVote:
    """§9.6"""

    def test_asks_before_it_raises_its_term(self) -> None:
        assert after("1 timeout", "1 state", member=THREE)[0].startswith("pre-candidate term 1")

    def test_without_a_majority_it_never_does(self) -> None:
        many = ["1 timeout"] * 5
        assert after(*many, "1 state", member=THREE)[0].startswith("pre-candidate term 1 vote 0")

    def test_a_pre_vote_binds_nobody(self) -> None:
        asked = ("2 to 1: PreVote term 2 last 1:1", "3 to 1: PreVote term 2 last 1:1")
        assert after(*asked, member=THREE) == ["to 3: PreVoteResponse term 2"]
        assert after(*asked, "1 state", member=THREE)[0].startswith("follower term 1 vote 0")

    def test_a_short_log_gets_none(self) -> None:
        assert after("2 to 1: PreVote term 2 last 0:0", member=THREE) == [
            "to 2: PreVoteResponse term 1 reject"
        ]

    def test_who_hears_a_leader_gives_none(self) -> None:
        heard = "2 to 1: Heartbeat term 1 commit 1"
        assert after(heard, "3 to 1: PreVote term 2 last 1:1", member=THREE) == ["nothing"]

    def test_a_grant_for_an_older_campaign_does_not_count(self) -> None:
        """A grant names the term it was asked for."""
        older = "voters 1,2,3 log 1:1 commit 1 term 5"
        assert after("1 timeout", "2 to 1: PreVoteResponse term 5", member=older) == ["nothing"]
        assert after("1 timeout", "2 to 1: PreVoteResponse term 6", member=older)[0] == (
            "candidate of term 6, leader 0"
        )

    def test_answers_of_the_other_kind_do_not_count(self) -> None:
        won = ("1 timeout", "2 to 1: PreVoteResponse term 2")
        assert after(*won, "3 to 1: PreVoteResponse term 2", member=THREE) == ["nothing"]
        assert after("1 timeout", "3 to 1: VoteResponse term 1", member=THREE) == ["nothing"]


class TestDisk:
    """§10.2"""

    def test_a_leader_writes_beside_its_followers_but_counts_when_it_is_done(self) -> None:
        """§10.2.1"""
        sent = leader("1 disk holds", "1 propose a")
        assert sent == [
            "to 2: Append term 2 prev 2:2 [3:2=a] commit 2",
            "to 3: Append term 2 prev 2:2 [3:2=a] commit 2",
        ]
        one_ack = ("1 disk holds", "1 propose a", "2 to 1: AppendResponse term 2 index 3")
        assert leader(*one_ack) == ["nothing"]
        assert "commit 3" in leader(*one_ack, "1 disk works")

    def test_it_may_commit_before_its_own_disk_but_applies_after(self) -> None:
        acks = ("2 to 1: AppendResponse term 2 index 3", "3 to 1: AppendResponse term 2 index 3")
        happened = leader("1 disk holds", "1 propose a", *acks)
        assert "to 3: Append term 2 prev 3:2 [] commit 3" in happened
        assert not [line for line in happened if line.startswith("apply")]
        assert leader("1 disk holds", "1 propose a", *acks, "1 disk works")[-1] == "apply 3:2=a"

    def test_a_follower_answers_when_its_disk_has_it(self) -> None:
        append = "2 to 1: Append term 1 prev 1:1 [2:1=a] commit 1"
        assert after("1 disk holds", append) == ["follower of term 1, leader 2"]
        assert after("1 disk holds", append, "1 disk works") == [
            "disk 2:1=a",
            "to 2: AppendResponse term 1 index 2",
        ]

    def test_an_answer_that_rests_on_an_earlier_write_waits_for_it(self) -> None:
        append = "2 to 1: Append term 1 prev 1:1 [2:1=a] commit 1"
        assert after("1 disk holds", append, append) == ["nothing"]
        assert (
            after("1 disk holds", append, append, "1 disk works").count(
                "to 2: AppendResponse term 1 index 2"
            )
            == 2
        )

    def test_a_vote_waits_for_the_disk(self) -> None:
        ask = "2 to 1: Vote term 2 last 1:1"
        assert after("1 disk holds", ask) == ["nothing"]
        assert after("1 disk holds", ask, "1 disk works")[-1] == "to 2: VoteResponse term 2"

    def test_appends_are_pipelined(self) -> None:
        """§10.2.2"""
        assert leader("1 propose a", "1 propose b")[0] == (
            "to 2: Append term 2 prev 3:2 [4:2=b] commit 2"
        )
