"""Planted bugs, each a classic, and the proof that the checker sees every one (rung 9).

A mutant is a wrong core or a wrong order of duties. It is caught when some seed, or the schedule
made for it, ends in a violation: of the checker's, or of the assertions the core carries.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kvserver.raft import (
    ConfChange,
    ConfChangeType,
    Entry,
    EntryType,
    Message,
    MessageType,
    Ready,
    election,
    leader,
    plan,
    replication,
    step,
)
from kvserver.raft.codec import encode_conf_change
from kvserver.raft.confchange import Configuration
from kvserver.raft.invariants import InvariantViolation
from kvserver.raft.log import RaftLog
from kvserver.raft.quorum import joint_index
from kvserver.raft.read_only import PendingRead, ReadOnly
from kvserver.raft.state import Raft
from kvserver.raft.tracker import ProgressTracker
from tests.support import promise_mutants
from tests.support.raft_checker import SafetyViolation
from tests.support.raft_cluster import Cluster, Faults
from tests.support.raft_member import SimMember

SEEDS_MAX = 150
EVENTS = 800
STORM = Faults(drop=0.1, reorder=0.5, duplicate=0.1, crash=1.0, partition=2.0, read=6.0)


def is_caught(plant: Callable[[Cluster], None] = lambda cluster: None, **settings: object) -> bool:
    """Whether a run of some seed ends in a violation."""
    settings.setdefault("faults", STORM)
    for seed in range(SEEDS_MAX):
        cluster = Cluster(seed, **settings)  # type: ignore[arg-type]
        plant(cluster)
        try:
            cluster.run(EVENTS)
        except (SafetyViolation, InvariantViolation):
            return True
    return False


def test_votes_twice_in_a_term(monkeypatch: pytest.MonkeyPatch) -> None:
    def vote_again(raft: Raft, message: Message) -> None:
        granted = raft.log.is_up_to_date(message.index, message.log_term)
        kind = MessageType(message.type + 1)
        if granted and message.type is MessageType.VOTE:
            raft.vote = message.from_
        term = message.term if granted else raft.term
        raft.send(Message(kind, to=message.from_, term=term, reject=not granted))

    monkeypatch.setitem(_step_table(), MessageType.VOTE, vote_again)
    assert is_caught(pre_vote=False, check_quorum=False)


def test_votes_for_a_shorter_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RaftLog, "is_up_to_date", lambda self, index, term: True)
    assert is_caught(pre_vote=False, check_quorum=False)


def test_acknowledges_before_the_disk_has_it() -> None:
    def hasty(ready: Ready) -> list[plan.Step]:
        steps = plan.plan_ready(ready)
        return [
            plan.SendMessages(step.messages) if isinstance(step, plan.SendAfterPersist) else step
            for step in steps
        ]

    assert is_caught(lambda cluster: setattr(cluster, "plan_ready", hasty))


def test_applies_before_its_disk_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RaftLog, "appliable", property(lambda log: log.committed))
    assert is_caught()


def test_reads_before_a_commit_of_its_term(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replication, "has_committed_in_term", lambda raft: True)
    assert is_caught()


def test_truncates_what_is_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every append replaces the tail, as if a shorter one meant a shorter log."""

    def merge(self: RaftLog, prev_index: int, entries: tuple[Entry, ...]) -> int:
        self.storage.truncate_from(prev_index + 1)
        self.last_index = prev_index
        self.persisted = min(self.persisted, prev_index)
        self.handed_over = min(self.handed_over, prev_index)
        self.append(entries)
        return prev_index + len(entries)

    monkeypatch.setattr(RaftLog, "merge", merge)
    assert is_caught()


def test_late_write_vouches_for_replaced_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handover that is not shortened by a truncation counts entries that are not written."""

    def persisted_up_to(self: RaftLog, number: int) -> object:
        finished = None
        while self.handovers and self.handovers[0].number <= number:
            finished = self.handovers.popleft()
            self.persisted = self.handed_over
        return finished

    monkeypatch.setattr(RaftLog, "persisted_up_to", persisted_up_to)
    assert is_caught()


def test_heartbeat_promises_more_than_the_follower_has(monkeypatch: pytest.MonkeyPatch) -> None:
    def broadcast(raft: Raft) -> None:
        for member in raft.tracker.progress:
            if member != raft.id:
                raft.send(
                    Message(
                        MessageType.HEARTBEAT, to=member, term=raft.term, commit=raft.log.committed
                    )
                )

    monkeypatch.setattr(replication, "broadcast_heartbeat", broadcast)
    assert is_caught()


def is_caught_with_promises(size: int) -> bool:
    faults = Faults(drop=0.005, crash=0.3, partition=0.3, read=6.0, promise=10.0)
    for seed in range(SEEDS_MAX):
        cluster = Cluster(seed, size, faults=faults)
        try:
            cluster.run(3 * EVENTS)
        except (SafetyViolation, InvariantViolation):
            return True
    return False


@pytest.mark.parametrize(
    ("plant", "size"),
    [
        (promise_mutants.reads_behind_its_promises, 3),
        (promise_mutants.promises_where_two_are_no_majority, 5),
        (promise_mutants.keeps_a_promise_of_another_term, 3),
    ],
)
def test_promises(
    monkeypatch: pytest.MonkeyPatch, plant: Callable[[pytest.MonkeyPatch], None], size: int
) -> None:
    plant(monkeypatch)
    assert is_caught_with_promises(size)


# -- bugs that need a schedule of their own


def quiet(size: int, **settings: object) -> Cluster:
    """A cluster in which nothing fails unless the test makes it."""
    no_faults = Faults(drop=0, duplicate=0, reorder=0)
    cluster = Cluster(1, size, faults=no_faults, pre_vote=False, check_quorum=False, **settings)
    cluster.quiesce()
    return cluster


def isolate(cluster: Cluster, *together: int) -> None:
    """Only these members reach each other; what was under way is lost."""
    members = cluster.members
    cluster.cuts = {(a, b) for a in members for b in members if not {a, b} <= set(together)}
    cluster.network.clear()


def run_until(cluster: Cluster, condition: Callable[[], bool]) -> None:
    """Everybody works and messages arrive one by one, until the condition holds."""
    for _ in range(500):
        for member in cluster.up():
            while member.has_work():
                cluster.work(member)
        if condition():
            return
        cluster.deliver()
        if condition():
            return
    raise AssertionError("the schedule never got there")


def elect(cluster: Cluster, member: SimMember) -> None:
    """Campaign until it leads; it has sent nothing as leader yet."""
    depose(cluster, member)
    for _ in range(5):
        member.node.campaign()
        for _ in range(100):
            for other in cluster.up():
                while other.has_work() and not member.node.is_leader:
                    cluster.work(other)
            if member.node.is_leader:
                return
            cluster.deliver()
    raise AssertionError(f"{member.id} does not win")


def depose(cluster: Cluster, member: SimMember) -> None:
    """Word of a later term reaches a leader that has missed it."""
    term = max(other.node.term for other in cluster.up())
    if member.node.is_leader and member.node.term < term:
        other = next(id for id in cluster.members if id != member.id)
        member.node.step(Message(MessageType.APPEND_RESPONSE, member.id, other, term))


def figure_3_8(cluster: Cluster) -> None:
    """An entry of term 2 is on a majority under a leader of term 4, and is overwritten later.

    1 leads term 2 and gets entry 7 to member 2 only. 5 leads term 3 with another entry 7, which
    it keeps to itself. 1 leads term 4 and brings its 7 to member 3: on a majority, yet not
    committed. 1 crashes; 5 leads again, with the votes of 3 and 4.
    """
    one, two, three, _, five = cluster.members.values()
    elect(cluster, one)
    cluster.quiesce()
    isolate(cluster, 1, 2)
    one.node.propose([b"old"])
    cluster.quiesce()
    assert two.node.last_index == 7
    isolate(cluster, 3, 4, 5)
    elect(cluster, five)
    isolate(cluster)
    cluster.quiesce()
    assert five.node.last_index == 7
    isolate(cluster, 1, 2, 3)
    elect(cluster, one)
    run_until(cluster, lambda: three.node.last_index == 7 and not three.has_work())
    run_until(cluster, lambda: one.node.status().progress[3].match == 7)
    one.crash()
    isolate(cluster, 3, 4, 5)
    elect(cluster, five)
    cluster.quiesce()


def test_figure_3_8_is_safe() -> None:
    """Thesis §3.6.2: only entries of the leader's own term are committed by counting."""
    cluster = quiet(5, append_bytes_max=1)
    figure_3_8(cluster)
    assert cluster.members[5].applied >= 7


def test_commits_an_entry_of_an_old_term(monkeypatch: pytest.MonkeyPatch) -> None:
    def commit_anything(raft: Raft) -> bool:
        return raft.log.commit_to(raft.tracker.committed_index())

    monkeypatch.setattr(replication, "maybe_commit", commit_anything)
    with pytest.raises(SafetyViolation, match="lacks committed 7:2"):
        figure_3_8(quiet(5, append_bytes_max=1))


def two_campaigns_and_a_crash(cluster: Cluster) -> None:
    """1 and 2 campaign in the same term; 3 votes for one, crashes, and is asked by the other."""
    one, two, three = cluster.members.values()
    one.node.campaign()
    two.node.campaign()
    assert one.node.term == two.node.term == 2
    isolate(cluster, 1, 3)
    run_until(cluster, lambda: one.node.is_leader)
    three.crash()
    three.start()
    isolate(cluster, 2, 3)
    two.node.step(Message(MessageType.VOTE_RESPONSE, 2, 1, 2, reject=True))
    cluster.send(Message(MessageType.VOTE, 3, 2, 2, log_term=1, index=3))
    cluster.quiesce()


def test_a_crash_keeps_the_vote() -> None:
    """Thesis §3.8: term and vote are on disk before the vote leaves."""
    cluster = quiet(3)
    two_campaigns_and_a_crash(cluster)
    assert not cluster.members[2].node.is_leader


def test_forgets_its_vote_in_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    start = SimMember.start

    def forgetful(self: SimMember) -> None:
        self.disk.hard_state = self.disk.hard_state._replace(vote=0)
        start(self)

    monkeypatch.setattr(SimMember, "start", forgetful)
    with pytest.raises(SafetyViolation, match="two leaders in term 2"):
        two_campaigns_and_a_crash(quiet(3))


def leader_loses_its_write(cluster: Cluster) -> None:
    """2 has an entry on disk, its leader 1 only in memory; 1 crashes and votes for 3."""
    one, _, three = cluster.members.values()
    elect(cluster, one)
    cluster.quiesce()
    isolate(cluster, 1, 2)
    one.node.propose([b"a"])
    one.take_ready()
    while one.steps:
        one.do_step()
    assert len(one.disk.queue) == 1
    while cluster.network or cluster.members[2].has_work():
        cluster.deliver()
        while cluster.members[2].has_work():
            cluster.work(cluster.members[2])
    one.disk.queue.clear()
    one.crash()
    one.start()
    isolate(cluster, 1, 3)
    elect(cluster, three)
    cluster.look(three)


def test_leader_may_lose_what_is_not_committed() -> None:
    """Thesis §10.2.1: the leader's write goes on beside its messages, but counts when done."""
    leader_loses_its_write(quiet(3))


def test_leader_counts_its_own_entries_before_its_disk_has_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    append_datas = replication.append_datas

    def counted(raft: Raft, *rest: object) -> None:
        append_datas(raft, *rest)  # type: ignore[arg-type]
        raft.tracker.progress[raft.id].acknowledged(raft.log.last_index)

    monkeypatch.setattr(replication, "append_datas", counted)
    with pytest.raises(SafetyViolation, match="lacks committed"):
        leader_loses_its_write(quiet(3))


def read_with_an_old_echo(cluster: Cluster) -> None:
    """An echo for an earlier read reaches a leader that has been replaced without knowing it.

    3's echo is late; the answer for the first read came from 2. Then 2 leads and commits.
    """
    one, two, _ = cluster.members.values()
    elect(cluster, one)
    cluster.quiesce()
    cluster.read(one)
    isolate(cluster, 1, 2)
    cluster.quiesce()
    assert cluster.checker.reads_served == 1
    isolate(cluster, 2, 3)
    elect(cluster, two)
    two.node.propose([b"newer"])
    cluster.quiesce()
    isolate(cluster, 1)
    cluster.read(one)
    one.node.step(Message(MessageType.HEARTBEAT_RESPONSE, 1, 3, 2, context=_number(1)))
    cluster.quiesce()


def read_in_a_minority(cluster: Cluster) -> None:
    """A replaced leader reaches one follower of four."""
    one, _, three, _, _ = cluster.members.values()
    elect(cluster, one)
    cluster.quiesce()
    isolate(cluster, 3, 4, 5)
    elect(cluster, three)
    cluster.quiesce()
    isolate(cluster, 1, 2)
    cluster.read(one)
    cluster.quiesce()


def _number(number: int) -> bytes:
    return number.to_bytes(8, "little")


def test_stale_leaders_serve_no_reads() -> None:
    """Thesis §6.4."""
    for schedule, size in ((read_with_an_old_echo, 3), (read_in_a_minority, 5)):
        cluster = quiet(size)
        schedule(cluster)
        assert cluster.members[1].node.is_leader
        assert cluster.checker.reads_served == (1 if size == 3 else 0)


def test_reuses_the_number_of_a_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def add(self: ReadOnly, from_: int, context: bytes, commit: int) -> None:
        self.requested = 1
        self._pending.append(PendingRead(1, from_, context, commit))

    monkeypatch.setattr(ReadOnly, "add", add)
    with pytest.raises(SafetyViolation, match="serves a read"):
        read_with_an_old_echo(quiet(3))


def test_reads_without_asking_a_quorum(monkeypatch: pytest.MonkeyPatch) -> None:
    def confirm(self: ReadOnly, configuration: Configuration, self_id: int) -> list[PendingRead]:
        reads, self._pending = list(self._pending), type(self._pending)()
        return reads

    monkeypatch.setattr(ReadOnly, "take_confirmed", confirm)
    with pytest.raises(SafetyViolation, match="serves a read"):
        read_in_a_minority(quiet(5))


def learners_alone(cluster: Cluster) -> None:
    """A leader cut off with two learners proposes; the other two voters elect another."""
    one, two, _, _, _ = cluster.members.values()
    elect(cluster, one)
    cluster.quiesce()
    for learner in (4, 5):
        change = ConfChange(0, ConfChangeType.ADD_LEARNER_NODE, learner)
        one.node.propose_conf_change(change)
        cluster.quiesce()
    isolate(cluster, 1, 4, 5)
    one.node.propose([b"a"])
    cluster.quiesce()
    isolate(cluster, 2, 3)
    elect(cluster, two)
    cluster.quiesce()


def test_learners_alone_commit_nothing() -> None:
    cluster = quiet(5, voters=3)
    learners_alone(cluster)
    assert cluster.members[4].node.last_index > cluster.members[4].node.committed


def test_counts_learners(monkeypatch: pytest.MonkeyPatch) -> None:
    def committed_index(self: ProgressTracker) -> int:
        return joint_index(self.configuration.members, (), lambda m: self.progress[m].match)

    monkeypatch.setattr(ProgressTracker, "committed_index", committed_index)
    with pytest.raises(SafetyViolation, match="lacks committed"):
        learners_alone(quiet(5, voters=3))


def two_changes_at_once(cluster: Cluster) -> None:
    """1 adds 4 and 5 in one proposal, and commits with 2, which is not told.

    Then 1, 4 and 5 go on alone, and 2, which still counts three voters, is elected by 3.
    """
    one, two, _, _, _ = cluster.members.values()
    elect(cluster, one)
    cluster.quiesce()
    isolate(cluster, 1, 2)
    changes = [ConfChange(0, ConfChangeType.ADD_NODE, voter) for voter in (4, 5)]
    both = tuple(
        Entry(0, 0, EntryType.CONF_CHANGE, encode_conf_change(change)) for change in changes
    )
    one.node.step(Message(MessageType.PROPOSE, 1, 1, entries=both))
    last = one.node.last_index
    run_until(cluster, lambda: one.node.committed == last)
    isolate(cluster, 1, 4, 5)
    cluster.quiesce()
    one.node.propose([b"a"])
    cluster.quiesce()
    isolate(cluster, 2, 3)
    elect(cluster, two)
    cluster.quiesce()


def test_one_change_at_a_time_is_safe() -> None:
    cluster = quiet(5, voters=3)
    two_changes_at_once(cluster)
    assert 5 not in cluster.members[1].conf_state.voters


def test_lets_two_changes_in_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thesis §4.1: majorities of configurations two voters apart need not overlap."""
    monkeypatch.setattr(leader, "_may_change_configuration", lambda raft, entry: True)
    with pytest.raises(SafetyViolation, match="lacks committed"):
        two_changes_at_once(quiet(5, voters=3))


def inherited_entry(cluster: Cluster) -> SimMember:
    """An entry reaches 3 and its leader dies; 3 leads. Nobody proposes anything more."""
    one, _, three = cluster.members.values()
    elect(cluster, one)
    cluster.quiesce()
    isolate(cluster, 1, 3)
    one.node.propose([b"a"])
    run_until(cluster, lambda: three.disk.last_index == one.node.last_index)
    one.crash()
    isolate(cluster, 2, 3)
    elect(cluster, three)
    cluster.quiesce()
    for _ in range(3):
        three.node.tick()
        cluster.quiesce()
    return three


def test_a_new_leader_commits_what_it_inherits() -> None:
    """Thesis §3.6.2, §6.4: its empty entry brings the older ones with it."""
    three = inherited_entry(quiet(3))
    assert three.applied == three.node.last_index


def test_skips_the_empty_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(election, "_take_office", Raft.become_leader)
    three = inherited_entry(quiet(3))
    assert three.applied < three.node.last_index


def _step_table() -> dict[MessageType, object]:
    return step._ANY_ROLE  # type: ignore[return-value]
