"""The mutable state of one raft member, and the transitions between its roles.

`Raft` holds the state and the few operations that every role needs; the rules live beside it, one
module per role, as functions over it. Everything it wants done goes into the outboxes, from which
`RawNode.ready` takes it. Invariants: see invariants.py.

Owner: the event loop.
"""

from __future__ import annotations

from kvserver.raft import confchange
from kvserver.raft.confchange import Configuration
from kvserver.raft.config import Config
from kvserver.raft.log import RaftLog
from kvserver.raft.read_only import ReadOnly
from kvserver.raft.storage import MemoryStorage
from kvserver.raft.tracker import ProgressTracker
from kvserver.raft.types import NO_ID, HardState, Message, MessageType, ReadState, Role, SoftState

_AFTER_PERSIST = frozenset(
    {
        MessageType.APPEND_RESPONSE,
        MessageType.VOTE,
        MessageType.VOTE_RESPONSE,
        MessageType.PRE_VOTE_RESPONSE,
    }
)
"""Messages that vouch for what is on disk (spec/raft.md §2). A request for votes too: others may
elect us without our own vote, and a leader that forgets its term in a crash could be elected in it
again, with other entries (§5: on disk first)."""


class Raft:
    __slots__ = (
        "config",
        "election_elapsed",
        "election_timeout",
        "heartbeat_elapsed",
        "id",
        "leader",
        "log",
        "messages_after_persist",
        "messages_now",
        "pending_conf_index",
        "persisted_term",
        "persisted_vote",
        "promised",
        "read_only",
        "read_states",
        "role",
        "term",
        "tracker",
        "transferee",
        "uncommitted_bytes",
        "vote",
    )

    def __init__(self, config: Config, storage: MemoryStorage, applied: int) -> None:
        self.config = config
        self.id = config.id
        self.log = RaftLog(storage, applied)
        self.tracker = ProgressTracker(config.inflight_appends_max)
        self.term = self.persisted_term = storage.hard_state.term
        self.vote = self.persisted_vote = storage.hard_state.vote
        self.role = Role.FOLLOWER
        self.leader = NO_ID
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        self.election_timeout = 0
        """In ticks, drawn anew at every change of role or term (spec/raft.md §1)."""
        self.transferee = NO_ID
        self.pending_conf_index = 0
        """Index of the last conf change that may be unapplied (leader only)."""
        self.uncommitted_bytes = 0
        self.promised = 0
        """A leader's: how far somebody may take the log for committed before we know it to be. A
        follower's: how far the leader's disk has it, so that ours makes a majority."""
        self.read_only = ReadOnly()
        self.read_states: list[ReadState] = []
        self.messages_now: list[Message] = []
        self.messages_after_persist: list[Message] = []
        self.tracker.adopt(confchange.restore(storage.conf_state), self.log.last_index)
        self.become_follower(self.term, NO_ID)

    # -- views

    @property
    def hard_state(self) -> HardState:
        return HardState(self.term, self.vote, self.log.committed)

    @property
    def soft_state(self) -> SoftState:
        return SoftState(self.leader, self.role)

    @property
    def configuration(self) -> Configuration:
        return self.tracker.configuration

    @property
    def is_promotable(self) -> bool:
        """Whether this member may campaign: a voter with its state machine in place."""
        progress = self.tracker.progress.get(self.id)
        return (
            progress is not None and not progress.is_learner and self.log.pending_snapshot is None
        )

    @property
    def is_in_lease(self) -> bool:
        """Whether a live leader was heard from within the election timeout."""
        return (
            self.config.check_quorum
            and self.leader != NO_ID
            and self.election_elapsed < self.config.election_ticks
        )

    # -- sending

    def send(self, message: Message) -> None:
        """Queue a message, complete but for its sender; those that vouch for the disk wait."""
        if message.from_ == NO_ID:
            message = message._replace(from_=self.id)
        if message.type in _AFTER_PERSIST:
            self.messages_after_persist.append(message)
        else:
            self.messages_now.append(message)

    # -- transitions

    def become_follower(self, term: int, leader: int) -> None:
        self._reset(term)
        self.role = Role.FOLLOWER
        self.leader = leader

    def become_pre_candidate(self) -> None:
        """Ask around before disturbing anybody: term and vote stay (thesis §9.6)."""
        assert self.role is not Role.LEADER
        self.tracker.reset_votes()
        self.role = Role.PRE_CANDIDATE
        self.leader = NO_ID

    def become_candidate(self) -> None:
        assert self.role is not Role.LEADER
        self._reset(self.term + 1)
        self.vote = self.id
        self.role = Role.CANDIDATE

    def become_leader(self) -> None:
        """Lead from here on; the caller appends the empty entry of the new term."""
        assert self.role is Role.CANDIDATE
        self._reset(self.term)
        self.role = Role.LEADER
        self.leader = self.id
        ours = self.tracker.progress[self.id]
        ours.acknowledged(self.log.persisted)
        ours.become_replicate()
        ours.recent_active = True
        # Everything up to here may hold a conf change; finding out would mean reading it all.
        self.pending_conf_index = self.log.last_index

    def _reset(self, term: int) -> None:
        if term != self.term:
            self.term = term
            self.vote = NO_ID
        self.leader = NO_ID
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        ticks = self.config.election_ticks
        self.election_timeout = self.config.random(ticks, 2 * ticks - 1)
        self.transferee = NO_ID
        self.tracker.reset_votes()
        self.tracker.reset_progress(self.log.last_index)
        self.pending_conf_index = 0
        self.uncommitted_bytes = 0
        self.promised = 0
        self.read_only = ReadOnly()
