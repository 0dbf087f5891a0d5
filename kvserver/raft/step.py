"""Where a message enters: the term rule, then the table of the role (spec/raft.md §3).

Handlers are functions of (raft, message). Votes are asked of every role alike, so they are in a
table of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kvserver.raft import candidate, election, follower, leader
from kvserver.raft.state import Raft
from kvserver.raft.types import CAMPAIGN_TRANSFER, NO_ID, Message, MessageType, Role

Handler = Callable[[Raft, Message], None]

_ANY_ROLE: Mapping[MessageType, Handler] = {
    MessageType.VOTE: election.handle_vote_request,
    MessageType.PRE_VOTE: election.handle_vote_request,
}
_BY_ROLE: Mapping[Role, Mapping[MessageType, Handler]] = {
    Role.FOLLOWER: follower.HANDLERS,
    Role.PRE_CANDIDATE: candidate.PRE_CANDIDATE_HANDLERS,
    Role.CANDIDATE: candidate.CANDIDATE_HANDLERS,
    Role.LEADER: leader.HANDLERS,
}
_FROM_LEADER = frozenset({MessageType.APPEND, MessageType.HEARTBEAT, MessageType.SNAPSHOT})


def step(raft: Raft, message: Message) -> None:
    """Take in one message. Types that a role has no use for are ignored.

    Raises ProposalDropped for a proposal that goes nowhere.
    """
    if message.term != 0 and message.term != raft.term and not _agree_on_term(raft, message):
        return
    handler = _BY_ROLE[raft.role].get(message.type) or _ANY_ROLE.get(message.type)
    if handler is not None:
        handler(raft, message)


def _agree_on_term(raft: Raft, message: Message) -> bool:
    """Bring our term and the message's together; False if the message ends here."""
    if message.term < raft.term:
        _answer_stale(raft, message)
        return False
    kind = message.type
    # A member that hears its leader is not talked into an election by one that does not
    # (thesis §4.2.3), except when the leader itself wants one.
    is_vote = kind in (MessageType.VOTE, MessageType.PRE_VOTE)
    if is_vote and raft.is_in_lease and message.context != CAMPAIGN_TRANSFER:
        return False
    keeps_term = kind is MessageType.PRE_VOTE or (
        # Granted for the term we would campaign in: not reached before the real election.
        kind is MessageType.PRE_VOTE_RESPONSE and not message.reject
    )
    if not keeps_term:
        raft.become_follower(message.term, message.from_ if kind in _FROM_LEADER else NO_ID)
    return True


def _answer_stale(raft: Raft, message: Message) -> None:
    """Tell a sender that is behind our term, where it would otherwise be stuck."""
    if not (raft.config.check_quorum or raft.config.pre_vote):
        return
    if message.type in (MessageType.HEARTBEAT, MessageType.APPEND):
        # A leader that cannot reach us with its old term, nor we it by a vote in its lease.
        answer = Message(MessageType.APPEND_RESPONSE, to=message.from_, term=raft.term)
        raft.send(answer)
    elif message.type is MessageType.PRE_VOTE:
        raft.send(
            Message(MessageType.PRE_VOTE_RESPONSE, to=message.from_, term=raft.term, reject=True)
        )
