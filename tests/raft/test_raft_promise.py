"""A leader's word that its disk has an entry makes it committed where another one's has it too,
when the two are a majority (raft/commits.py `promise`)."""

from __future__ import annotations

import pytest

from kvserver.raft import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeType,
    ConfChangeV2,
    Config,
    ConfState,
    MemoryStorage,
    Message,
    MessageType,
    RawNode,
    Ready,
    Role,
)
from kvserver.raft.types import PROMISE, TAKES_PROMISES

LEADER, OTHER, THIRD = 1, 2, 3


def node(member: int, state: ConfState, **settings: bool) -> RawNode:
    config = Config(
        id=member,
        random=lambda low, high: low,
        pre_vote=False,
        check_quorum=False,
        tells_commits=False,
        **settings,
    )
    return RawNode(config, MemoryStorage(conf_state=state))


class Pair:
    """A leader whose appends `other` has, and whose disk is written at once; nobody else answers,
    and what the two say to each other waits until it is delivered."""

    def __init__(
        self, voters: tuple[int, ...] = (LEADER, OTHER, THIRD), learners: tuple[int, ...] = ()
    ) -> None:
        state = ConfState(voters, learners)
        self.leader, self.other = node(LEADER, state), node(OTHER, state)
        self.sent: list[Message] = []
        self.applied: list[bytes] = []
        self.leader.campaign()
        self.turn()
        for voter in voters[1:]:
            self.leader.step(Message(MessageType.VOTE_RESPONSE, LEADER, voter, self.leader.term))
        self.turn()
        self.deliver(OTHER)
        self.write(self.other)
        self.deliver(LEADER)
        for voter in voters[2:]:
            self.acknowledge(voter)
        self.turn()
        self.sent.clear()

    def turn(self) -> None:
        """The leader does everything."""
        while self.leader.has_ready():
            ready = self.leader.ready()
            self.sent += ready.messages_now
            if ready.must_sync:
                self.leader.persisted(ready.number)
            self.sent += ready.messages_after_persist
            if ready.committed_entries:
                self.leader.applied(ready.committed_entries[-1].index)

    def write(self, node: RawNode) -> None:
        """All that the node has is on its disk; what is committed is applied."""
        while node.has_ready():
            self.written(node, node.ready())

    def written(self, node: RawNode, ready: Ready) -> None:
        if ready.must_sync:
            node.persisted(ready.number)
        self.sent += ready.messages_now + ready.messages_after_persist
        for entry in ready.committed_entries:
            if entry.data:
                self.applied.append(entry.data)
            node.applied(entry.index)

    def deliver(self, to: int) -> None:
        node = self.leader if to == LEADER else self.other
        for message in [message for message in self.sent if message.to == to]:
            self.sent.remove(message)
            node.step(message)

    def acknowledge(self, member: int) -> None:
        kind, index = MessageType.APPEND_RESPONSE, self.leader.last_index
        self.leader.step(Message(kind, LEADER, member, self.leader.term, index=index))

    def put(self, data: bytes = b"x") -> int:
        """The leader's disk has it, and it is on its way."""
        self.leader.propose([data])
        self.turn()
        assert self.leader.committed < self.leader.last_index
        return self.leader.last_index

    def promise(self, to: int = OTHER) -> Message:
        message = self.leader.promise(to)
        assert message is not None
        return message


@pytest.fixture
def pair() -> Pair:
    return Pair()


def test_what_both_disks_have_is_committed(pair: Pair) -> None:
    index = pair.put()
    message = pair.promise()
    assert message == Message(
        MessageType.APPEND, OTHER, LEADER, 1, 1, index, commit=index - 1, context=PROMISE
    )
    pair.deliver(OTHER)
    ready = pair.other.ready()
    pair.other.step(message)
    assert pair.other.committed == index - 1, "its own disk does not have it yet"
    pair.written(pair.other, ready)
    assert pair.other.committed == index
    pair.write(pair.other)
    assert pair.applied == [b"x"]
    assert pair.leader.committed == index - 1, "it has not heard of that"
    pair.deliver(LEADER)
    assert pair.leader.committed == index


def test_or_at_once_if_its_disk_was_quicker(pair: Pair) -> None:
    index = pair.put()
    pair.deliver(OTHER)
    pair.write(pair.other)
    assert pair.applied == []
    pair.other.step(pair.promise())
    assert pair.other.committed == index
    pair.write(pair.other)
    assert pair.applied == [b"x"]


def test_it_says_nothing_of_what_comes_later(pair: Pair) -> None:
    first = pair.put(b"1")
    message = pair.promise()
    pair.put(b"2")
    pair.deliver(OTHER)
    pair.write(pair.other)
    pair.other.step(message)
    assert pair.other.committed == first


def test_a_follower_whose_log_differs_refuses(pair: Pair) -> None:
    """The entry was lost on its way."""
    index = pair.put()
    pair.sent.clear()
    pair.other.step(pair.promise())
    pair.write(pair.other)
    assert pair.other.committed < index
    assert [message.reject for message in pair.sent] == [True]


def test_another_term_ends_it(pair: Pair) -> None:
    pair.put()
    message = pair.promise()
    pair.deliver(OTHER)
    ready = pair.other.ready()
    pair.other.step(message)
    pair.other.step(Message(MessageType.HEARTBEAT, OTHER, THIRD, term=2))
    before = pair.other.committed
    pair.written(pair.other, ready)
    assert pair.other.committed == before
    pair.other.step(message)
    pair.write(pair.other)
    assert pair.other.committed == before, "that leader leads no more"


def test_reads_wait_for_what_is_promised(pair: Pair) -> None:
    """The other one may have told its client."""
    index = pair.put()
    assert pair.leader.vouched == index - 1
    pair.promise()
    assert pair.leader.vouched == index
    pair.leader.read_index(b"r")
    pair.turn()
    (context,) = {m.context for m in pair.sent if m.type is MessageType.HEARTBEAT}
    kind = MessageType.HEARTBEAT_RESPONSE
    pair.leader.step(Message(kind, LEADER, THIRD, 1, context=context))
    ready = pair.leader.ready()
    assert [(read.index, read.context) for read in ready.read_states] == [(index, b"r")]
    assert pair.leader.committed == index - 1


def test_a_new_term_has_promised_nothing(pair: Pair) -> None:
    pair.put()
    pair.promise()
    pair.leader.step(Message(MessageType.HEARTBEAT, LEADER, THIRD, term=2))
    assert pair.leader.vouched == pair.leader.committed


def test_once_is_enough(pair: Pair) -> None:
    pair.put()
    pair.promise()
    assert pair.leader.promise(OTHER) is None
    pair.put()
    pair.promise()


def test_not_what_is_known_to_be_committed(pair: Pair) -> None:
    pair.put()
    pair.acknowledge(THIRD)
    assert pair.leader.promise(OTHER) is None


def test_not_what_is_not_on_its_own_disk(pair: Pair) -> None:
    pair.leader.propose([b"x"])
    ready = pair.leader.ready()
    assert pair.leader.promise(OTHER) is None
    pair.leader.persisted(ready.number)
    pair.promise()


def test_not_what_the_member_has_not_been_sent(pair: Pair) -> None:
    pair.put()
    pair.leader.report_unreachable(OTHER)
    assert pair.leader.promise(OTHER) is None, "who knows what it has"


def test_not_before_a_new_leaders_first_entry_is_applied(pair: Pair) -> None:
    """What it found may be replaced yet, whoever has it, and may change who votes (thesis §3.6.2,
    §4.1)."""
    found = pair.put()
    leader = pair.leader
    leader.step(Message(MessageType.HEARTBEAT, LEADER, THIRD, term=2))
    pair.write(leader)
    leader.campaign()
    pair.write(leader)
    leader.step(Message(MessageType.VOTE_RESPONSE, LEADER, OTHER, leader.term))
    assert leader.role is Role.LEADER
    kind, term = MessageType.APPEND_RESPONSE, leader.term
    leader.step(Message(kind, LEADER, OTHER, term, index=found))
    assert leader.promise(OTHER) is None
    pair.write(leader)
    assert leader.promise(OTHER) is None
    leader.step(Message(kind, LEADER, OTHER, term, index=leader.last_index))
    pair.turn()
    pair.put()
    pair.promise()


@pytest.mark.parametrize(
    ("voters", "learners", "is_promised"),
    [
        ((1, 2), (), True),
        ((1, 2, 3), (4,), True),
        ((1, 2, 3, 4), (), False),
        ((1, 2, 3, 4, 5), (), False),
        ((1, 3), (2,), False),
    ],
)
def test_only_where_two_voters_are_a_majority(
    voters: tuple[int, ...], learners: tuple[int, ...], is_promised: bool
) -> None:
    pair = Pair(voters, learners)
    pair.put()
    assert (pair.leader.promise(OTHER) is not None) is is_promised
    assert pair.leader.promise(9) is None, "a stranger"


@pytest.mark.parametrize("is_joint", [True, False])
def test_not_while_it_changes_who_votes(pair: Pair, is_joint: bool) -> None:
    single = ConfChangeSingle(ConfChangeType.ADD_NODE, 4)
    change = ConfChangeV2((single, ConfChangeSingle(ConfChangeType.REMOVE_NODE, THIRD)))
    pair.leader.propose_conf_change(
        change if is_joint else ConfChange(1, ConfChangeType.REMOVE_NODE, THIRD)
    )
    pair.turn()
    assert pair.leader.promise(OTHER) is None
    if is_joint:
        pair.acknowledge(OTHER)
        pair.leader.apply_conf_change(change)
        pair.turn()
        pair.put()
        assert pair.leader.conf_state.voters_outgoing
        assert pair.leader.promise(OTHER) is None


def test_only_a_leader_promises(pair: Pair) -> None:
    assert pair.other.promise(LEADER) is None


@pytest.mark.parametrize("takes_promises", [True, False])
def test_a_proposal_that_is_passed_on_says_who_takes_promises(takes_promises: bool) -> None:
    other = node(OTHER, ConfState((LEADER, OTHER, THIRD)), takes_promises=takes_promises)
    other.step(Message(MessageType.HEARTBEAT, OTHER, LEADER, term=1))
    other.propose([b"x"])
    (message,) = [m for m in other.ready().messages_now if m.type is MessageType.PROPOSE]
    assert message.context == (TAKES_PROMISES if takes_promises else b"")
