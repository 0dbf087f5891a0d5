"""Assertions that stay on in production: what must hold whatever messages arrive.

A violation means that our own state, or that of a peer that we believed, is wrong. Nothing can be
served truthfully after that, so it is fatal; nothing here repairs anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvserver.errors import FatalError
from kvserver.raft.types import NO_ID, HardState, Role

if TYPE_CHECKING:
    from kvserver.raft.log import RaftLog
    from kvserver.raft.state import Raft


class InvariantViolation(FatalError):
    """A safety property of Raft does not hold; the member must stop."""


def check(holds: bool, message: str, *values: object) -> None:
    """Stop unless `holds`; message is a %-format, only rendered on failure."""
    if not holds:
        raise violation(message, *values)


def violation(message: str, *values: object) -> InvariantViolation:
    """What a hot place raises, which looks by itself: a call less where all is well."""
    return InvariantViolation("raft: " + (message % values if values else message))


def check_hard_state(before: HardState, after: HardState) -> None:
    """Term and commit never go back, and a vote once given in a term is kept (thesis §3.4)."""
    if after.term == before.term and after.vote == before.vote and after.commit >= before.commit:
        return
    check(after.term >= before.term, "term went back from %d to %d", before.term, after.term)
    check(
        after.commit >= before.commit, "commit went back from %d to %d", before.commit, after.commit
    )
    check(
        after.term > before.term or before.vote in (NO_ID, after.vote),
        "vote of term %d changed from %x to %x",
        after.term,
        before.vote,
        after.vote,
    )


def check_cursors(log: RaftLog) -> None:
    """applied <= handed out for apply <= committed <= last; nothing unpersisted is applied."""
    # Hot: what holds is seen without a call.
    last, handed_over, persisted, applying = (
        log.last_index,
        log.handed_over,
        log.persisted,
        log.applying,
    )
    if (
        log.applied <= applying <= log.committed <= last
        and applying <= persisted <= handed_over <= last
    ):
        return
    check(
        log.applied <= log.applying <= log.committed <= log.last_index,
        "log cursors out of order: applied %d, applying %d, committed %d, last %d",
        log.applied,
        log.applying,
        log.committed,
        log.last_index,
    )
    check(
        log.persisted <= log.handed_over <= log.last_index,
        "log cursors out of order: persisted %d, handed over %d, last %d",
        log.persisted,
        log.handed_over,
        log.last_index,
    )
    check(
        log.applying <= log.persisted or log.pending_snapshot is not None,
        "entry %d is being applied but only %d are on disk",
        log.applying,
        log.persisted,
    )


def check_state(raft: Raft) -> None:
    """Every role's own facts; run once per Ready."""
    check_cursors(raft.log)
    if raft.role is Role.LEADER:
        check(raft.leader == raft.id, "a leader that follows %x", raft.leader)
    elif raft.role is not Role.FOLLOWER:
        check(raft.leader == NO_ID, "a candidate that follows %x", raft.leader)
    if raft.role is Role.CANDIDATE:
        check(raft.vote == raft.id, "a candidate that voted for %x", raft.vote)
