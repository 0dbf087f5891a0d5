"""Applied conf changes: the configuration takes effect here (spec/raft.md §10, thesis §4)."""

from __future__ import annotations

from kvserver.raft import confchange, replication
from kvserver.raft.state import Raft
from kvserver.raft.types import NO_ID, ConfChangeV2, EntryType, Role


def apply_conf_change(raft: Raft, change: ConfChangeV2) -> None:
    """Go over to what the change makes of the configuration; a leader tells everybody."""
    raft.tracker.adopt(confchange.change(raft.configuration, change), raft.log.last_index)
    if raft.role is not Role.LEADER:
        return
    ours = raft.tracker.progress.get(raft.id)
    if ours is None or ours.is_learner:
        # Removed, it goes on until it is stopped: it counts no vote of its own and takes no
        # proposals, but the others must learn of the commit (spec/raft.md S20).
        _abandon_transfer(raft)
        return
    # A voter fewer may have made a majority of those who have an entry, or have echoed a read.
    if replication.maybe_commit(raft):
        replication.broadcast_append(raft)
    else:
        for member, progress in raft.tracker.progress.items():
            if member != raft.id:
                replication.maybe_send_append(raft, member, progress, sends_empty=False)
    replication.confirm_reads(raft)
    _abandon_transfer(raft)


def _abandon_transfer(raft: Raft) -> None:
    if raft.transferee not in raft.configuration.all_voters:
        raft.transferee = NO_ID


def maybe_leave_joint(raft: Raft) -> bool:
    """A leader proposes to leave a joint configuration by itself where that was asked for."""
    if (
        raft.role is not Role.LEADER
        or not raft.configuration.auto_leave
        or raft.pending_conf_index > raft.log.applied
        or raft.id not in raft.tracker.progress
    ):
        return False
    # An empty ConfChangeV2 is one without changes, which means to leave.
    replication.append_datas(raft, [b""], EntryType.CONF_CHANGE_V2)
    raft.pending_conf_index = raft.log.last_index
    replication.broadcast_append(raft)
    return True
