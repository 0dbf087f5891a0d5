"""What the leader knows of one member, and how fast it may send to it (spec/raft.md §6.3-§6.4).

A Progress owns its transitions: nobody else writes `state`, `match` or `next`. Invariants:
match < next; in REPLICATE everything below next has been sent; in SNAPSHOT nothing is sent.

Owner: the leader of the event loop's member; rebuilt at every role change.
"""

from __future__ import annotations

from enum import Enum

from kvserver.raft.inflights import Inflights


class ProgressState(Enum):
    PROBE = "probe"
    """One append at a time, until the follower says where its log agrees with ours."""
    REPLICATE = "replicate"
    """Appends are sent ahead of their answers."""
    SNAPSHOT = "snapshot"
    """A snapshot is under way."""


class Progress:
    __slots__ = (
        "inflights",
        "is_learner",
        "is_paused_flow",
        "match",
        "next",
        "pending_snapshot",
        "promised",
        "recent_active",
        "sent_commit",
        "state",
    )

    def __init__(self, next_index: int, inflights: Inflights, match: int = 0) -> None:
        self.match = match
        self.next = next_index
        self.state = ProgressState.PROBE
        self.is_paused_flow = False
        self.pending_snapshot = 0
        self.recent_active = False
        self.is_learner = False
        self.sent_commit = 0
        """Highest commit index this member has been told, as far as we know."""
        self.promised = 0
        """Up to where this member knows that our disk and its own make a majority."""
        self.inflights = inflights

    # -- transitions

    def become_probe(self) -> None:
        """Find out again where the logs agree; after a snapshot, begin behind it."""
        behind = self.pending_snapshot if self.state is ProgressState.SNAPSHOT else 0
        self._reset(ProgressState.PROBE)
        self.next = max(self.match, behind) + 1
        self.sent_commit = min(self.sent_commit, self.next - 1)

    def become_replicate(self) -> None:
        self._reset(ProgressState.REPLICATE)
        self.next = self.match + 1

    def become_snapshot(self, snapshot_index: int) -> None:
        self._reset(ProgressState.SNAPSHOT)
        self.pending_snapshot = snapshot_index
        self.next = snapshot_index + 1
        self.sent_commit = snapshot_index

    def snapshot_reported(self, is_success: bool) -> None:
        """The transport says how the snapshot went; wait for an answer before sending on."""
        if not is_success:
            self.pending_snapshot = 0
        self.become_probe()
        self.is_paused_flow = True

    def _reset(self, state: ProgressState) -> None:
        self.is_paused_flow = False
        self.pending_snapshot = 0
        self.state = state
        self.inflights.clear()

    # -- sending

    @property
    def is_paused(self) -> bool:
        """Whether no append may be sent now."""
        return self.state is ProgressState.SNAPSHOT or self.is_paused_flow

    @property
    def may_carry_entries(self) -> bool:
        """Whether an append that is sent may hold entries: not when the window is full."""
        return self.state is not ProgressState.REPLICATE or not self.inflights.is_full

    def sent(self, count: int, commit: int) -> None:
        """An append with so many entries from `next` on, and this commit index, has been sent."""
        if commit > self.sent_commit:
            self.sent_commit = commit
        if self.state is ProgressState.REPLICATE:
            if count:
                self.next += count
                self.inflights.add(self.next - 1)
            self.is_paused_flow = self.inflights.is_full
        elif count:
            self.is_paused_flow = True

    def told_commit(self, commit: int) -> None:
        if commit > self.sent_commit:
            self.sent_commit = commit

    def may_lack_commit(self, commit: int) -> bool:
        """Whether an empty append would tell the member of commits that it can use."""
        return commit > self.sent_commit and self.sent_commit < self.next - 1

    # -- answers

    def acknowledged(self, index: int) -> bool:
        """The member's log agrees with ours up to `index`; say whether that is news."""
        if index <= self.match:
            return False
        self.match = index
        self.next = max(self.next, index + 1)
        self.is_paused_flow = False
        return True

    def maybe_step_back(self, rejected: int, hint: int) -> bool:
        """The append after `rejected` was refused; try after `hint`. False if that is stale.

        A rejection is recognised as stale by its index, not by its order (spec/raft.md §13.5).
        """
        if self.state is ProgressState.REPLICATE:
            if rejected <= self.match:
                return False
            self.next = self.match + 1
        else:
            if rejected != self.next - 1:
                return False
            self.next = max(min(rejected, hint + 1), self.match + 1)
            self.is_paused_flow = False
        self.sent_commit = min(self.sent_commit, self.next - 1)
        return True

    def resume(self) -> None:
        """A heartbeat was answered: one more append may be tried."""
        self.is_paused_flow = False
