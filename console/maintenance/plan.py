"""What upkeep decides before it touches a member. No Django, no gRPC.

A rolling defragmentation goes over learners and followers first and the leader last, one member
at a time, because a member neither reads nor writes while it rewrites its database
(spec/maintenance.md D1). Between members the cluster has to be whole again: `gate` says what it
still waits for.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from console.overview.health import Health, Member, MemberStatus, Row

FRAGMENTED_PERCENT = 20
"""Below this share of free pages a rolling defragmentation passes a member over by default."""

KEEP_REVISIONS = 10_000
"""How much history a proposed compaction leaves."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """A database file, and how much of it holds data."""

    size_bytes: int
    in_use_bytes: int

    @classmethod
    def of(cls, status: MemberStatus) -> Sizes:
        return cls(status.db_size_bytes, status.db_in_use_bytes)

    @property
    def free_bytes(self) -> int:
        return max(0, self.size_bytes - self.in_use_bytes)

    @property
    def free_percent(self) -> int:
        return 100 * self.free_bytes // self.size_bytes if self.size_bytes > 0 else 0


def in_order(rows: Sequence[Row]) -> list[Row]:
    """Learners, followers, the leader."""
    return sorted(rows, key=lambda row: (row.is_leader, not row.member.is_learner))


def next_of(health: Health, waiting: Collection[int]) -> Row | None:
    """Whose turn it is, by the roles of now: leadership may have moved meanwhile."""
    return next((row for row in in_order(health.rows) if row.member.id in waiting), None)


def successor(health: Health, leader: Member) -> Member | None:
    """Who leads while the leader is busy with itself: a voter that is well and least behind."""
    fit = [
        row
        for row in health.rows
        if row.member.id != leader.id
        and not row.member.is_learner
        and row.member.status
        and row.state in {"healthy", "near quota"}
    ]
    return min(fit, key=lambda row: row.raft_lag).member if fit else None


def gate(health: Health) -> tuple[str, ...]:
    """What stands against taking one member away now; nothing when the cluster is whole."""
    reasons = [] if health.leader else ["there is no leader"]
    for row in health.rows:
        if row.member.status is None:
            reasons.append(f"{row.member.label} is {row.state}")
        elif row.state in {"behind", "no leader"}:
            reasons.append(f"{row.member.label}: {row.state}")
    reasons += [f"CORRUPT on {alarm.member}" for alarm in health.alarms if alarm.kind == "CORRUPT"]
    return tuple(reasons)


def stops_writes(health: Health, member: Member) -> bool:
    """Whether the cluster is without a quorum while this member is busy with itself."""
    if member.is_learner:
        return False
    others = [r for r in health.rows if not r.member.is_learner and r.member.id != member.id]
    return sum(1 for row in others if row.member.status) < health.quorum


def proposed_revision(newest: int, compacted: int) -> int:
    """Where to compact by default: the newest KEEP_REVISIONS stay, of a short window half."""
    if newest - compacted > KEEP_REVISIONS:
        return newest - KEEP_REVISIONS
    return max(1, compacted + max(1, (newest - compacted) // 2)) if newest > compacted else 0


@dataclass(frozen=True, slots=True)
class MemberHash:
    """HashKV of one member at the revision asked for, or why there is none."""

    label: str
    hash: int | None
    compacted: int
    failure: str = ""

    @property
    def hex(self) -> str:
        return "" if self.hash is None else f"{self.hash:08x}"


def verdict(hashes: Sequence[MemberHash]) -> tuple[str, str]:
    """A level and a sentence. Hashes compare only at one compact revision (spec/maintenance.md
    §5), so members elsewhere are undecided, not different."""
    told = [one for one in hashes if one.hash is not None]
    if not told:
        return "danger", "No member gave a hash."
    if len({one.compacted for one in told}) > 1:
        return "warn", "Members compacted at different revisions: their hashes do not compare yet."
    if len({one.hash for one in told}) > 1:
        return "danger", "The members hold different data."
    if len(told) < len(hashes):
        return "warn", f"{len(told)} of {len(hashes)} members gave a hash; those agree."
    if len(told) == 1:
        return "ok", "One member: there is nothing to compare it with."
    return "ok", f"All {len(told)} members hold the same data."
