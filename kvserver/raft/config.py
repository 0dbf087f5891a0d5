"""The settings of one raft member. Values of etcd: spec/raft.md §1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kvserver import limits


@dataclass(frozen=True, slots=True)
class Config:
    """Times are counted in ticks; the owner decides how long a tick is (100 ms in etcd)."""

    id: int
    random: Callable[[int, int], int]
    """An integer between both bounds, bounds included: the only source of chance."""
    election_ticks: int = 10
    heartbeat_ticks: int = 1
    pre_vote: bool = True
    check_quorum: bool = True
    forwards_proposals: bool = True
    tells_commits: bool = True
    """Whether a leader tells every commit at once, in appends without entries if need be. If not,
    its owner says when (`RawNode.tell_commit`); entries and heartbeats tell it anyway."""
    takes_promises: bool = False
    """Whether proposals that are forwarded say that a promise (`RawNode.promise`) is understood."""
    append_bytes_max: int = limits.APPEND_BYTES_MAX
    """Entries in one append message; at least one entry is sent whatever its size."""
    inflight_appends_max: int = limits.INFLIGHT_APPENDS_MAX
    """Append messages to one follower that may be unanswered."""
    apply_bytes_max: int = limits.APPLY_BYTES_MAX
    """Committed entries handed out in one Ready; at least one."""
    uncommitted_bytes_max: int = 0
    """Data proposed and not yet handed out for apply; 0 for no limit, as etcd has it."""

    def __post_init__(self) -> None:
        assert self.id > 0, "a member's ID is not 0"
        assert 0 < self.heartbeat_ticks < self.election_ticks
        assert self.append_bytes_max > 0 and self.apply_bytes_max > 0
        assert self.inflight_appends_max > 0
        assert self.uncommitted_bytes_max >= 0
