"""Who learns when that an entry is committed (spec/raft.md §6, thesis §3.5).

A leader tells it with entries and heartbeats, or in an append of its own: at once, or when its
owner says so (`Config.tells_commits`). A promise lets a follower find it out without being told.
"""

from __future__ import annotations

from kvserver.raft import replication
from kvserver.raft.progress import ProgressState
from kvserver.raft.quorum import INFINITE_INDEX
from kvserver.raft.state import Raft
from kvserver.raft.types import PROMISE, Message, MessageType, Role


def known(raft: Raft) -> int:
    """Up to where every member that listens has been told what this leader committed."""
    committed = raft.log.committed
    lacking = [
        progress.sent_commit
        for member, progress in raft.tracker.progress.items()
        if member != raft.id and not progress.is_paused and progress.may_lack_commit(committed)
    ]
    return min(lacking, default=committed)


def tell_all(raft: Raft, lacking: int = INFINITE_INDEX) -> None:
    """Tell the commit index, in an append of its own, to everybody that does not know it, or not
    the index `lacking`."""
    index = min(lacking, raft.log.committed)
    for member, progress in raft.tracker.progress.items():
        if member != raft.id and progress.may_lack_commit(index):
            replication.maybe_send_append(raft, member, progress)


def tell(raft: Raft, member: int) -> None:
    """The same to one member, unless it is to find out from a promise what is committed."""
    progress = raft.tracker.progress.get(member)
    committed = raft.log.committed
    if (
        progress is not None
        and member != raft.id
        and progress.promised < committed
        and progress.may_lack_commit(committed)
    ):
        replication.maybe_send_append(raft, member, progress)


def promise(raft: Raft, to: int) -> Message | None:
    """A word to a member: what our disk has is committed once its own has it too. It then need not
    wait for us to hear that from it, or from a third member, and to tell it: a round trip less.

    Only where it is so: two voters are a majority, nothing changes who votes, and the last entry is
    of our own term (thesis §3.6.2). Whoever asks from now on from which index on a read is
    linearizable is given one that covers the promise.
    """
    log = raft.log
    index = log.persisted
    configuration = raft.configuration
    voters = configuration.voters
    progress = raft.tracker.progress.get(to)
    if (
        progress is None
        or progress.state is not ProgressState.REPLICATE
        or progress.is_paused_flow
        or not max(log.committed, progress.promised) < index < progress.next
        or len(voters) > 3
        or configuration.voters_outgoing
        or to not in voters
        or raft.id not in voters
        or raft.pending_conf_index > log.applied
        or log.term(index) != raft.term  # true of all that follows what we found at our election
    ):
        return None
    kind, committed = MessageType.APPEND, log.committed
    progress.sent(0, committed)
    progress.promised = index
    raft.promised = max(raft.promised, index)
    return Message(
        kind, to, raft.id, raft.term, raft.term, index, commit=committed, context=PROMISE
    )


def take_promise(raft: Raft) -> None:
    """What the leader's disk and ours have is committed (`promise`)."""
    log = raft.log
    log.commit_to(min(raft.promised, log.persisted))


def vouched(raft: Raft) -> int:
    """Up to where anybody, anywhere, may have seen the log's effects, as far as this member knows:
    it is committed, or somebody may find out that it is before this leader does."""
    return max(raft.log.committed, raft.promised if raft.role is Role.LEADER else 0)
