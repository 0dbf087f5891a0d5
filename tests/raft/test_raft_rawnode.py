"""The interface: handing over, reporting back, proposals and reads (design D9, spec/raft.md)."""

from __future__ import annotations

import pytest

from kvserver.raft import (
    Config,
    ConfState,
    Entry,
    EntryType,
    HardState,
    MemoryStorage,
    Message,
    MessageType,
    ProposalDropped,
    RawNode,
    ReadState,
    Ready,
    Role,
    Snapshot,
    SoftState,
)
from kvserver.raft.invariants import InvariantViolation
from kvserver.raft.types import DropReason
from tests.support.raft_text import parse_change

FIRST = Entry(1, 1, EntryType.NORMAL, b"")


def node(*voters: int, **settings: object) -> RawNode:
    storage = MemoryStorage(
        hard_state=HardState(1, 0, 1), entries=[FIRST], conf_state=ConfState(voters)
    )
    config = Config(1, random=lambda low, high: low, **settings)  # type: ignore[arg-type]
    return RawNode(config, storage, applied=1)


def work(member: RawNode) -> list[Ready]:
    """Do everything at once, as an instant disk would."""
    done = []
    while member.has_ready():
        ready = member.ready()
        done.append(ready)
        member.persisted(ready.number)
        if ready.snapshot is not None:
            member.applied(ready.snapshot.index)
        if ready.committed_entries:
            member.applied(ready.committed_entries[-1].index)
    return done


def single_leader(**settings: object) -> RawNode:
    member = node(1, **settings)
    member.campaign()
    work(member)
    return member


def leader_of_three(**settings: object) -> RawNode:
    member = node(1, 2, 3, pre_vote=False, **settings)
    member.campaign()
    work(member)
    member.step(Message(MessageType.VOTE_RESPONSE, 1, 2, 2))
    work(member)
    member.step(Message(MessageType.APPEND_RESPONSE, 1, 2, 2, index=2))
    work(member)
    return member


def append(*entries: Entry, prev: int = 1, prev_term: int = 1, commit: int = 1) -> Message:
    return Message(
        MessageType.APPEND, 1, 2, 1, log_term=prev_term, index=prev, entries=entries, commit=commit
    )


def normal(index: int, term: int, data: bytes = b"") -> Entry:
    return Entry(index, term, EntryType.NORMAL, data)


class TestReady:
    def test_nothing_to_do_at_start(self) -> None:
        assert not node(1, 2, 3).has_ready()

    def test_a_single_voter_leads_when_its_vote_is_on_disk(self) -> None:
        """S21."""
        member = node(1)
        member.campaign()
        vote = member.ready()
        assert vote.hard_state == HardState(2, 1, 1)
        assert vote.must_sync and not vote.entries
        assert member.role is Role.CANDIDATE
        member.persisted(vote.number)
        assert member.is_leader
        empty = member.ready()
        assert empty.entries == [normal(2, 2)]
        assert empty.soft_state == SoftState(1, Role.LEADER)
        assert empty.hard_state is None and empty.must_sync
        member.persisted(empty.number)
        committed = member.ready()
        assert committed.committed_entries == [normal(2, 2)]
        assert committed.hard_state == HardState(2, 1, 2)
        assert not committed.must_sync
        member.applied(2)
        assert not member.has_ready()

    def test_everything_is_handed_over_once(self) -> None:
        member = leader_of_three()
        member.propose([b"a"])
        first = member.ready()
        assert first.entries and first.messages_now
        assert not member.has_ready()
        second = member.ready()
        assert not second.entries and not second.messages_now and second.hard_state is None

    def test_readys_may_be_taken_while_earlier_ones_are_written(self) -> None:
        member = single_leader()
        member.propose([b"a"])
        first = member.ready()
        member.propose([b"b"])
        second = member.ready()
        assert [entry.data for entry in second.entries] == [b"b"]
        assert member.committed == 2
        member.persisted(first.number)
        assert member.committed == 3
        assert [entry.data for entry in member.ready().committed_entries] == [b"a"]
        member.persisted(second.number)
        assert member.committed == 4

    def test_a_later_report_covers_the_earlier_ones(self) -> None:
        member = single_leader()
        member.propose([b"a"])
        member.ready()
        member.propose([b"b"])
        second = member.ready()
        member.persisted(second.number)
        assert member.committed == 4
        member.persisted(second.number)
        assert member.committed == 4

    def test_committed_entries_come_in_bounded_rounds(self) -> None:
        member = single_leader(apply_bytes_max=1)
        member.propose([b"a", b"b", b"c"])
        rounds = [ready.committed_entries for ready in work(member)]
        assert [len(entries) for entries in rounds if entries] == [1, 1, 1]

    def test_a_commit_alone_need_not_be_synced(self) -> None:
        member = node(1, 2, 3)
        member.step(append(normal(2, 1)))
        work(member)
        member.step(append(prev=2, commit=2))
        ready = member.ready()
        assert ready.hard_state == HardState(1, 0, 2)
        assert not ready.must_sync

    def test_answers_rest_on_the_newest_write(self) -> None:
        member = node(1, 2, 3)
        member.step(append(normal(2, 1)))
        first = member.ready()
        assert [message.type for message in first.messages_after_persist] == [
            MessageType.APPEND_RESPONSE
        ]
        assert first.rests_on == first.number
        member.step(append(normal(2, 1)))
        again = member.ready()
        assert not again.must_sync
        assert again.rests_on == first.number
        member.persisted(first.number)
        member.step(append(normal(2, 1)))
        assert member.ready().rests_on == 0

    def test_numbers_ascend(self) -> None:
        member = single_leader()
        numbers = [member.ready().number for _ in range(3)]
        assert numbers == [numbers[0], numbers[0] + 1, numbers[0] + 2]

    def test_applying_what_was_not_handed_out_is_fatal(self) -> None:
        with pytest.raises(InvariantViolation):
            single_leader().applied(9)

    def test_a_candidate_that_moved_on_does_not_count_the_old_vote(self) -> None:
        """Its own vote of term 2 reaches the disk when it campaigns in term 3 already."""
        member = node(1, pre_vote=False)
        member.campaign()
        first = member.ready()
        member.campaign()
        second = member.ready()
        member.persisted(first.number)
        assert member.role is Role.CANDIDATE
        member.persisted(second.number)
        assert member.is_leader and member.term == 3

    def test_state_properties(self) -> None:
        member = single_leader()
        assert (member.id, member.term, member.leader) == (1, 2, 1)
        assert (member.last_index, member.committed, member.applied_index) == (2, 2, 2)
        assert member.conf_state == ConfState((1,))
        assert member.term_at(2) == 2 and member.term_at(3) is None
        assert member.storage.last_index == 2


class TestRestart:
    def test_committed_entries_after_the_applied_index_come_again(self) -> None:
        storage = MemoryStorage(
            hard_state=HardState(3, 2, 3),
            entries=[normal(1, 1), normal(2, 1), normal(3, 3), normal(4, 3)],
            conf_state=ConfState((1, 2, 3)),
        )
        member = RawNode(Config(1, random=max), storage, applied=1)
        ready = member.ready()
        assert [entry.index for entry in ready.committed_entries] == [2, 3]
        assert ready.hard_state is None and ready.entries == []

    def test_from_a_snapshot(self) -> None:
        storage = MemoryStorage(
            snapshot=Snapshot(9, 2, ConfState((1,))),
            hard_state=HardState(2, 1, 9),
            entries=[normal(10, 2)],
        )
        member = RawNode(Config(1, random=max), storage)
        assert (member.applied_index, member.committed, member.last_index) == (9, 9, 10)
        member.campaign()
        work(member)
        assert member.is_leader and member.committed == 11


class TestProposals:
    @pytest.mark.parametrize(
        ("prepare", "reason"),
        [
            (lambda: node(1, 2, 3), DropReason.NO_LEADER),
            (lambda: _campaigning(), DropReason.CANDIDATE),
            (lambda: _transferring(), DropReason.TRANSFER),
            (lambda: _removed(), DropReason.REMOVED),
            (lambda: _following(forwards_proposals=False), DropReason.FORWARDING_DISABLED),
        ],
    )
    def test_dropped_with_a_reason(self, prepare: object, reason: DropReason) -> None:
        member = prepare()  # type: ignore[operator]
        last = member.last_index
        with pytest.raises(ProposalDropped) as dropped:
            member.propose([b"a"])
        assert dropped.value.reason is reason
        assert member.last_index == last

    def test_hundreds_at_once(self) -> None:
        member = single_leader()
        member.propose([b"%d" % n for n in range(500)])
        ready = member.ready()
        assert [entry.index for entry in ready.entries] == list(range(3, 503))
        assert {(entry.term, entry.type) for entry in ready.entries} == {(2, EntryType.NORMAL)}
        assert ready.entries[7].data == b"7"

    def test_a_forwarded_one_is_dropped_alike(self) -> None:
        forwarded = Message(MessageType.PROPOSE, 1, 2, entries=(normal(0, 0, b"a"),))
        with pytest.raises(ProposalDropped):
            node(1, 2, 3).step(forwarded)

    def test_a_follower_forwards(self) -> None:
        member = _following()
        member.propose([b"a", b"b"])
        (message,) = member.ready().messages_now
        assert (message.type, message.to, message.from_, message.term) == (
            MessageType.PROPOSE,
            2,
            1,
            0,
        )
        assert message.entries == (normal(0, 0, b"a"), normal(0, 0, b"b"))

    def test_uncommitted_bytes_are_limited(self) -> None:
        member = single_leader(uncommitted_bytes_max=10)
        member.propose([b"12345678901234567890"])
        with pytest.raises(ProposalDropped) as dropped:
            member.propose([b"a"])
        assert dropped.value.reason is DropReason.UNCOMMITTED_LIMIT
        member.propose([b""])
        work(member)
        member.propose([b"12345", b"67890"])
        with pytest.raises(ProposalDropped):
            member.propose([b"a"])
        work(member)
        member.propose([b"a"])

    def test_appends_are_limited_in_bytes_but_never_to_nothing(self) -> None:
        member = leader_of_three(append_bytes_max=1)
        member.propose([b"a", b"b"])
        sent = [m for m in member.ready().messages_now if m.to == 2]
        assert [[entry.data for entry in m.entries] for m in sent] == [[b"a"]]
        member.step(Message(MessageType.APPEND_RESPONSE, 1, 2, 2, index=3))
        sent = [m for m in member.ready().messages_now if m.to == 2]
        assert [[entry.data for entry in m.entries] for m in sent][-1] == [b"b"]


def _campaigning() -> RawNode:
    member = node(1, 2, 3)
    member.campaign()
    return member


def _transferring() -> RawNode:
    member = leader_of_three()
    member.transfer_leader(2)
    return member


def _following(**settings: object) -> RawNode:
    member = node(1, 2, 3, **settings)
    member.step(append())
    work(member)
    return member


def _removed() -> RawNode:
    member = leader_of_three()
    member.apply_conf_change(parse_change("remove(1)"))
    return member


class TestReads:
    def test_single_voter_answers_at_once(self) -> None:
        member = single_leader()
        member.read_index(b"r")
        assert member.ready().read_states == [ReadState(2, b"r")]
        assert member.read_index_now() == 2

    def test_but_not_before_a_commit_of_its_term(self) -> None:
        """The commit index read from disk may lag behind what was acknowledged."""
        member = node(1)
        member.campaign()
        member.persisted(member.ready().number)
        assert member.is_leader
        assert member.read_index_now() is None
        member.read_index(b"r")
        empty = member.ready()
        assert empty.read_states == []
        member.persisted(empty.number)
        assert member.ready().read_states == [ReadState(2, b"r")]

    def test_others_need_confirmation(self) -> None:
        assert leader_of_three().read_index_now() is None
        assert node(1).read_index_now() is None

    def test_a_remote_read_needs_exactly_one_context(self) -> None:
        member = leader_of_three()
        member.step(Message(MessageType.READ_INDEX, 1, 2))
        member.step(Message(MessageType.READ_INDEX_RESPONSE, 1, 2, 2, index=2))
        assert not member.has_ready()
        follower = _following()
        follower.step(Message(MessageType.READ_INDEX_RESPONSE, 1, 2, 1, index=1))
        assert not follower.has_ready()

    def test_removing_a_voter_may_confirm_a_read(self) -> None:
        member = leader_of_three()
        member.read_index(b"r")
        work(member)
        member.apply_conf_change(parse_change("remove(2)"))
        assert member.ready().read_states == []
        member.apply_conf_change(parse_change("remove(3)"))
        assert member.ready().read_states == [ReadState(2, b"r")]

    def test_echoes_of_other_lengths_or_numbers_confirm_nothing(self) -> None:
        member = leader_of_three()
        member.read_index(b"r")
        work(member)
        for context in (b"\x01", b"\x02" + bytes(7), b"\xff" * 8, b"\x01" + bytes(8)):
            member.step(Message(MessageType.HEARTBEAT_RESPONSE, 1, 2, 2, context=context))
        assert not any(ready.read_states for ready in work(member))


class TestNetwork:
    def test_messages_without_a_term_are_dropped(self) -> None:
        """Only proposals and reads travel without one (spec/raft-wire.md §1)."""
        member = _following()
        member.step(append(normal(2, 1))._replace(term=0))
        member.step(Message(MessageType.HEARTBEAT))
        assert not member.has_ready()

    @pytest.mark.parametrize(
        "kind",
        [
            MessageType.HUP,
            MessageType.BEAT,
            MessageType.UNREACHABLE,
            MessageType.SNAPSHOT_STATUS,
            MessageType.CHECK_QUORUM,
            MessageType.TRANSFER_LEADER,
            MessageType.STORAGE_APPEND,
            MessageType.STORAGE_APPLY_RESPONSE,
            MessageType.FORGET_LEADER,
        ],
    )
    def test_local_types_are_dropped(self, kind: MessageType) -> None:
        member = leader_of_three()
        before = member.status()
        member.step(Message(kind, 1, 2, 9))
        assert member.status() == before
        assert not member.has_ready()

    @pytest.mark.parametrize("kind", MessageType)
    @pytest.mark.parametrize(
        "prepare", [lambda: node(1, 2, 3), _following, _campaigning, leader_of_three]
    )
    def test_every_role_survives_every_message(self, prepare: object, kind: MessageType) -> None:
        """Of its own term, from a member and from a stranger, with nothing in it."""
        member = prepare()  # type: ignore[operator]
        term = member.term
        for sender in (2, 9):
            try:
                member.step(Message(kind, 1, sender, member.term))
            except ProposalDropped:
                assert kind is MessageType.PROPOSE
            work(member)
        assert member.term >= term

    def test_malformed_appends_are_ignored(self) -> None:
        member = _following()
        member.step(append(normal(2, 1), normal(9, 1)))
        member.step(append(normal(5, 1)))
        assert not member.has_ready()
        assert member.last_index == 1

    def test_nobody_has_more_than_the_leader(self) -> None:
        member = leader_of_three()
        member.step(Message(MessageType.APPEND_RESPONSE, 1, 3, 2, index=99))
        assert member.status().progress[3].match == 0

    def test_a_commit_beyond_the_log_is_fatal(self) -> None:
        """It means that we lost entries that we had acknowledged (spec/raft.md §4)."""
        with pytest.raises(InvariantViolation, match="lost entries"):
            _following().step(Message(MessageType.HEARTBEAT, 1, 2, 1, commit=5))

    def test_reports_about_strangers_are_ignored(self) -> None:
        member = leader_of_three()
        member.report_unreachable(9)
        member.report_snapshot(9, is_success=True)
        member.report_snapshot(2, is_success=True)
        assert not member.has_ready()

    def test_old_leaders_are_not_told_without_check_quorum_and_pre_vote(self) -> None:
        member = node(1, 2, 3, pre_vote=False, check_quorum=False)
        member.step(Message(MessageType.HEARTBEAT, 1, 2, 5))
        work(member)
        member.step(Message(MessageType.HEARTBEAT, 1, 3, 4))
        assert not member.has_ready()


class TestStatus:
    def test_leader_shows_progress(self) -> None:
        status = leader_of_three().status()
        assert status.role is Role.LEADER
        assert status.progress[2].match == 2
        assert status.progress[3].is_paused
        assert (status.first_index, status.last_index, status.persisted) == (1, 2, 2)

    def test_others_do_not(self) -> None:
        status = node(1, 2, 3).status()
        assert (status.role, status.leader, status.progress) == (Role.FOLLOWER, 0, {})
