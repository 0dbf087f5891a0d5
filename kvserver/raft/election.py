"""Time, campaigns and votes (spec/raft.md §5, thesis §3.4, §4.2.3, §9.6)."""

from __future__ import annotations

from kvserver.raft import replication
from kvserver.raft.quorum import VoteResult
from kvserver.raft.state import Raft
from kvserver.raft.types import CAMPAIGN_TRANSFER, NO_ID, EntryType, Message, MessageType, Role


def tick(raft: Raft) -> None:
    """One tick of the owner's clock has passed."""
    raft.election_elapsed += 1
    if raft.role is Role.LEADER:
        _tick_leader(raft)
    elif raft.election_elapsed >= raft.election_timeout and raft.is_promotable:
        raft.election_elapsed = 0
        hup(raft)


def _tick_leader(raft: Raft) -> None:
    raft.heartbeat_elapsed += 1
    if raft.election_elapsed >= raft.config.election_ticks:
        raft.election_elapsed = 0
        if raft.config.check_quorum and not raft.tracker.take_quorum_active(raft.id):
            raft.become_follower(raft.term, NO_ID)
            return
        raft.transferee = NO_ID
    if raft.heartbeat_elapsed >= raft.config.heartbeat_ticks:
        raft.heartbeat_elapsed = 0
        replication.broadcast_heartbeat(raft)


# -- campaigns


def hup(raft: Raft, is_transfer: bool = False) -> None:
    """Campaign, if this member may. A transfer skips the pre-vote: the leader has asked for it."""
    if raft.role is Role.LEADER or not raft.is_promotable:
        return
    # Who votes is not settled while a committed change is not applied.
    if raft.log.has_unapplied_conf_change():
        return
    if raft.config.pre_vote and not is_transfer:
        _pre_campaign(raft)
    else:
        _campaign(raft, is_transfer)


def _pre_campaign(raft: Raft) -> None:
    raft.become_pre_candidate()
    # Our own consent rests on nothing that is not on disk, so it counts at once.
    if raft.tracker.record_vote(raft.id, True) is VoteResult.WON:
        _campaign(raft, is_transfer=False)
    else:
        _ask_for_votes(raft, MessageType.PRE_VOTE, raft.term + 1, b"")


def _campaign(raft: Raft, is_transfer: bool) -> None:
    """Our own vote is counted when it is on disk, by `vote_persisted`."""
    raft.become_candidate()
    context = CAMPAIGN_TRANSFER if is_transfer else b""
    _ask_for_votes(raft, MessageType.VOTE, raft.term, context)


def _ask_for_votes(raft: Raft, kind: MessageType, term: int, context: bytes) -> None:
    log = raft.log
    for voter in sorted(raft.configuration.all_voters):
        if voter != raft.id:
            raft.send(
                Message(
                    kind,
                    to=voter,
                    term=term,
                    log_term=log.last_term,
                    index=log.last_index,
                    context=context,
                )
            )


def vote_persisted(raft: Raft) -> None:
    """Term and vote have reached the disk; a candidate's own vote counts from here."""
    if (
        raft.role is Role.CANDIDATE
        and raft.persisted_term == raft.term
        and raft.persisted_vote == raft.id
    ):
        count_vote(raft, raft.id, True)


def count_vote(raft: Raft, voter: int, granted: bool) -> None:
    """Count an answer to the campaign that is going on, and act on a decision."""
    result = raft.tracker.record_vote(voter, granted)
    if result is VoteResult.LOST:
        raft.become_follower(raft.term, NO_ID)
    elif result is VoteResult.WON:
        if raft.role is Role.PRE_CANDIDATE:
            _campaign(raft, is_transfer=False)
        else:
            _take_office(raft)


def _take_office(raft: Raft) -> None:
    """Entries of older terms commit only together with one of ours: append an empty one."""
    raft.become_leader()
    replication.append_datas(raft, [b""], EntryType.NORMAL)
    replication.broadcast_append(raft)


# -- votes


def handle_vote_request(raft: Raft, message: Message) -> None:
    """Vote for whoever asks first in a term, if its log holds all that may be committed.

    A granted pre-vote is a guess about the future: it is not recorded and binds nobody. Learners
    vote too: they may have been promoted without knowing (spec/raft.md §5).
    """
    is_pre_vote = message.type is MessageType.PRE_VOTE
    may_vote = (
        raft.vote == message.from_
        or (raft.vote == NO_ID and raft.leader == NO_ID)
        or (is_pre_vote and message.term > raft.term)
    )
    granted = may_vote and raft.log.is_up_to_date(message.index, message.log_term)
    raft.send(
        Message(
            MessageType.PRE_VOTE_RESPONSE if is_pre_vote else MessageType.VOTE_RESPONSE,
            to=message.from_,
            # A grant speaks of the term asked for, a refusal of the voter's own.
            term=message.term if granted else raft.term,
            reject=not granted,
        )
    )
    if granted and not is_pre_vote:
        raft.election_elapsed = 0
        raft.vote = message.from_
