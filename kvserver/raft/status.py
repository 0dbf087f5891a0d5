"""A picture of a member for operators, metrics and tests; nothing decides by it."""

from __future__ import annotations

from dataclasses import dataclass

from kvserver.raft.confchange import Configuration
from kvserver.raft.progress import ProgressState
from kvserver.raft.state import Raft
from kvserver.raft.types import Role


@dataclass(frozen=True, slots=True)
class MemberProgress:
    """What the leader knows of a member (spec/raft.md §6.3)."""

    match: int
    next: int
    state: ProgressState
    is_learner: bool
    is_paused: bool
    is_recent_active: bool
    pending_snapshot: int
    inflight_appends: int


@dataclass(frozen=True, slots=True)
class Status:
    id: int
    term: int
    vote: int
    leader: int
    role: Role
    first_index: int
    last_index: int
    persisted: int
    committed: int
    applied: int
    transferee: int
    configuration: Configuration
    progress: dict[int, MemberProgress]
    """By member; empty unless this member leads."""


def status_of(raft: Raft) -> Status:
    log = raft.log
    progress = {}
    if raft.role is Role.LEADER:
        progress = {
            member: MemberProgress(
                match=known.match,
                next=known.next,
                state=known.state,
                is_learner=known.is_learner,
                is_paused=known.is_paused,
                is_recent_active=known.recent_active,
                pending_snapshot=known.pending_snapshot,
                inflight_appends=len(known.inflights),
            )
            for member, known in sorted(raft.tracker.progress.items())
        }
    return Status(
        id=raft.id,
        term=raft.term,
        vote=raft.vote,
        leader=raft.leader,
        role=raft.role,
        first_index=log.first_index,
        last_index=log.last_index,
        persisted=log.persisted,
        committed=log.committed,
        applied=log.applied,
        transferee=raft.transferee,
        configuration=raft.configuration,
        progress=progress,
    )
