"""What a candidate and a pre-candidate do with messages (spec/raft.md §5).

Their tables differ in one row: each counts the answers to its own kind of vote only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kvserver.raft import election, follower
from kvserver.raft.state import Raft
from kvserver.raft.types import DropReason, Message, MessageType, ProposalDropped

Handler = Callable[[Raft, Message], None]


def _give_up_and(handler: Handler) -> Handler:
    """Somebody leads this term: follow, then handle the message as a follower does."""

    def handle(raft: Raft, message: Message) -> None:
        raft.become_follower(message.term, message.from_)
        handler(raft, message)

    return handle


def _count_vote(raft: Raft, message: Message) -> None:
    election.count_vote(raft, message.from_, not message.reject)


def _count_pre_vote(raft: Raft, message: Message) -> None:
    """A grant speaks of the term it was asked for; one for an older campaign is stale."""
    if message.reject or message.term == raft.term + 1:
        election.count_vote(raft, message.from_, not message.reject)


def _drop_proposal(raft: Raft, message: Message) -> None:
    raise ProposalDropped(DropReason.CANDIDATE)


_COMMON: Mapping[MessageType, Handler] = {
    MessageType.APPEND: _give_up_and(follower.handle_append),
    MessageType.HEARTBEAT: _give_up_and(follower.handle_heartbeat),
    MessageType.SNAPSHOT: _give_up_and(follower.handle_snapshot),
    MessageType.PROPOSE: _drop_proposal,
}
PRE_CANDIDATE_HANDLERS = {**_COMMON, MessageType.PRE_VOTE_RESPONSE: _count_pre_vote}
CANDIDATE_HANDLERS = {**_COMMON, MessageType.VOTE_RESPONSE: _count_vote}
