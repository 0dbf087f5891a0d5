"""What a follower does with messages (spec/raft.md §6.1, §6.4, §7, §8).

The handlers of a leader's messages are used by candidates too, once they have given up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kvserver.raft import commits, confchange, election
from kvserver.raft.state import Raft
from kvserver.raft.types import (
    NO_ID,
    PROMISE,
    DropReason,
    Message,
    MessageType,
    ProposalDropped,
    ReadState,
    Snapshot,
)

# -- from the leader


def hear_leader(raft: Raft, message: Message) -> None:
    raft.election_elapsed = 0
    raft.leader = message.from_


def handle_append(raft: Raft, message: Message) -> None:
    # Hot, and with one put after the other it finds the caches cold: a call saved is 1 us.
    raft.election_elapsed = 0
    raft.leader = message.from_
    log = raft.log
    entries = message.entries
    if entries and entries[-1].index != message.index + len(entries):
        return  # Malformed: entries that do not follow each other.
    if message.index < log.committed:
        _acknowledge(raft, message.from_, log.committed)
    elif log.storage.term(message.index) == message.log_term:
        last_new = log.merge(message.index, entries)
        if message.commit > log.committed:
            log.commit_to(min(message.commit, last_new))
        if message.context == PROMISE:
            raft.promised = max(raft.promised, last_new)
            commits.take_promise(raft)
        _acknowledge(raft, message.from_, last_new)
    else:
        _refuse(raft, message)


def _acknowledge(raft: Raft, to: int, index: int) -> None:
    raft.send(Message(MessageType.APPEND_RESPONSE, to, raft.id, raft.term, 0, index))


def _refuse(raft: Raft, message: Message) -> None:
    """Our log differs before the append: hint at the last place where it may agree."""
    log = raft.log
    hint = log.last_index_with_term_up_to(min(message.index, log.last_index), message.log_term)
    raft.send(
        Message(
            MessageType.APPEND_RESPONSE,
            to=message.from_,
            from_=raft.id,
            term=raft.term,
            index=message.index,
            reject=True,
            reject_hint=hint,
            log_term=log.term(hint) or 0,
        )
    )


def handle_heartbeat(raft: Raft, message: Message) -> None:
    hear_leader(raft, message)
    raft.log.commit_to(message.commit)
    raft.send(
        Message(
            MessageType.HEARTBEAT_RESPONSE,
            to=message.from_,
            from_=raft.id,
            term=raft.term,
            context=message.context,
        )
    )


def handle_snapshot(raft: Raft, message: Message) -> None:
    hear_leader(raft, message)
    snapshot = message.snapshot
    if snapshot is not None and _restore(raft, snapshot):
        _acknowledge(raft, message.from_, raft.log.last_index)
    else:
        _acknowledge(raft, message.from_, raft.log.committed)


def _restore(raft: Raft, snapshot: Snapshot) -> bool:
    """Put a snapshot in the place of our log, if we need it; say whether we did."""
    log = raft.log
    if snapshot.index <= log.committed:
        return False
    state = snapshot.conf_state
    if raft.id not in (*state.voters, *state.learners, *state.voters_outgoing):
        return False
    if log.matches(snapshot.index, snapshot.term):
        log.commit_to(snapshot.index)
        return False
    log.restore(snapshot)
    raft.tracker.adopt(confchange.restore(state), log.last_index)
    return True


def handle_timeout_now(raft: Raft, message: Message) -> None:
    """The leader hands over to us (thesis §3.10)."""
    election.hup(raft, is_transfer=True)


# -- proposals and reads, passed on


def handle_propose(raft: Raft, message: Message) -> None:
    if raft.leader == NO_ID:
        raise ProposalDropped(DropReason.NO_LEADER)
    if not raft.config.forwards_proposals:
        raise ProposalDropped(DropReason.FORWARDING_DISABLED)
    raft.send(message._replace(to=raft.leader, term=0))


def handle_read_index(raft: Raft, message: Message) -> None:
    """Without a leader the read is lost; whoever waits asks again."""
    if raft.leader != NO_ID:
        raft.send(message._replace(to=raft.leader, term=0))


def handle_read_index_response(raft: Raft, message: Message) -> None:
    if len(message.entries) == 1:
        raft.read_states.append(ReadState(message.index, message.entries[0].data))


HANDLERS: Mapping[MessageType, Callable[[Raft, Message], None]] = {
    MessageType.APPEND: handle_append,
    MessageType.HEARTBEAT: handle_heartbeat,
    MessageType.SNAPSHOT: handle_snapshot,
    MessageType.TIMEOUT_NOW: handle_timeout_now,
    MessageType.PROPOSE: handle_propose,
    MessageType.READ_INDEX: handle_read_index,
    MessageType.READ_INDEX_RESPONSE: handle_read_index_response,
}
