"""The interface of the core: one member, driven by its owner.

The owner calls step, tick, propose and so on; whenever has_ready() it takes ready(), and does the
steps of plan_ready in order, reporting back with persisted(number) and applied(index). ready()
may be called again before earlier writes are done.

Invariants checked on every Ready, in production too: those of invariants.py.

Owner: the event loop. Nothing here blocks, waits, or reads a clock.
"""

from __future__ import annotations

from collections.abc import Sequence

from kvserver.raft import (
    codec,
    commits,
    election,
    invariants,
    leader,
    reconfigure,
    replication,
    status,
)
from kvserver.raft.config import Config
from kvserver.raft.quorum import INFINITE_INDEX
from kvserver.raft.ready import Ready
from kvserver.raft.state import Raft
from kvserver.raft.step import step
from kvserver.raft.storage import MemoryStorage
from kvserver.raft.types import (
    TAKES_PROMISES,
    ConfChange,
    ConfChangeV2,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    Role,
)

_LOCAL_TYPES = frozenset(
    {
        MessageType.HUP,
        MessageType.BEAT,
        MessageType.UNREACHABLE,
        MessageType.SNAPSHOT_STATUS,
        MessageType.CHECK_QUORUM,
        MessageType.TRANSFER_LEADER,
        MessageType.STORAGE_APPEND,
        MessageType.STORAGE_APPEND_RESPONSE,
        MessageType.STORAGE_APPLY,
        MessageType.STORAGE_APPLY_RESPONSE,
        MessageType.FORGET_LEADER,
    }
)
"""Dropped when they come from the network (spec/raft-wire.md §1)."""
_WITHOUT_TERM = frozenset({MessageType.PROPOSE, MessageType.READ_INDEX})
_RESPONSES = frozenset(
    {
        MessageType.APPEND_RESPONSE,
        MessageType.VOTE_RESPONSE,
        MessageType.PRE_VOTE_RESPONSE,
        MessageType.HEARTBEAT_RESPONSE,
        MessageType.READ_INDEX_RESPONSE,
    }
)
"""Only listened to from members (spec/raft.md §3)."""


class RawNode:
    """A member that starts from what `storage` holds; `applied` is the state machine's index."""

    __slots__ = ("_hard_state", "_number", "_raft", "_soft_state")

    def __init__(self, config: Config, storage: MemoryStorage, applied: int = 0) -> None:
        self._raft = Raft(config, storage, applied)
        self._hard_state = self._raft.hard_state
        self._soft_state = self._raft.soft_state
        self._number = 0

    # -- views

    @property
    def id(self) -> int:
        return self._raft.id

    @property
    def term(self) -> int:
        return self._raft.term

    @property
    def role(self) -> Role:
        return self._raft.role

    @property
    def is_leader(self) -> bool:
        return self._raft.role is Role.LEADER

    @property
    def leader(self) -> int:
        """The leader's ID as far as known, or 0."""
        return self._raft.leader

    @property
    def committed(self) -> int:
        return self._raft.log.committed

    @property
    def applied_index(self) -> int:
        return self._raft.log.applied

    @property
    def last_index(self) -> int:
        return self._raft.log.last_index

    @property
    def conf_state(self) -> ConfState:
        return self._raft.configuration.conf_state()

    @property
    def has_pending_conf_change(self) -> bool:
        """Whether a conf change that this leader took is not applied here."""
        return self._raft.pending_conf_index > self._raft.log.applied

    @property
    def storage(self) -> MemoryStorage:
        return self._raft.log.storage

    def term_at(self, index: int) -> int | None:
        """Term of the entry at `index`; None if it is compacted or not there yet."""
        return self._raft.log.term(index)

    def status(self) -> status.Status:
        return status.status_of(self._raft)

    # -- what happens

    def tick(self) -> None:
        """One heartbeat interval of the owner's clock has passed."""
        election.tick(self._raft)

    def step(self, message: Message) -> None:
        """Take in a message from the network.

        Raises ProposalDropped for a PROPOSE that goes nowhere; the sender is not told, so the
        owner may hold it until a leader is known, or forget it.
        """
        kind = message.type
        if kind in _LOCAL_TYPES or (message.term == 0 and kind not in _WITHOUT_TERM):
            return
        if kind in _RESPONSES and message.from_ not in self._raft.tracker.progress:
            return
        step(self._raft, message)

    def campaign(self) -> None:
        """Try to become leader now, without waiting for the election timeout."""
        election.hup(self._raft)

    def propose(self, datas: Sequence[bytes]) -> None:
        """Propose normal entries, in order. Raises ProposalDropped; then none was taken."""
        raft = self._raft
        if raft.role is Role.LEADER:
            leader.propose_datas(raft, datas)
        else:
            entries = tuple([Entry(0, 0, EntryType.NORMAL, data) for data in datas])
            context = TAKES_PROMISES if raft.config.takes_promises else b""
            kind, id_ = MessageType.PROPOSE, raft.id
            step(raft, Message(kind, from_=id_, entries=entries, context=context))

    def propose_conf_change(self, change: ConfChange | ConfChangeV2) -> None:
        """Propose a configuration; one at a time, else an empty entry takes its place."""
        kind = codec.conf_change_entry_type(change)
        entry = Entry(0, 0, kind, codec.encode_conf_change(change))
        raft = self._raft
        step(raft, Message(MessageType.PROPOSE, from_=raft.id, entries=(entry,)))

    def apply_conf_change(self, change: ConfChange | ConfChangeV2) -> ConfState:
        """A conf change has been applied: it takes effect now. Returns the configuration.

        An application that refuses the change passes it with node_id 0, which changes nothing.
        """
        reconfigure.apply_conf_change(self._raft, change.as_v2())
        return self.conf_state

    def read_index(self, context: bytes) -> None:
        """Ask from which applied index on a read is linearizable; see Ready.read_states.

        Contexts must be unique in the cluster. The answer never comes if the message is lost or
        the leader changes: the owner asks again with another context.
        """
        raft = self._raft
        entry = Entry(0, 0, EntryType.NORMAL, context)
        step(raft, Message(MessageType.READ_INDEX, from_=raft.id, entries=(entry,)))

    def read_index_now(self) -> int | None:
        """The index for a read if it needs nobody's confirmation, else None.

        Only a leader that is the sole voter, and has committed in its term, knows it at once.
        """
        raft = self._raft
        if raft.role is not Role.LEADER or raft.tracker.sole_voter != raft.id:
            return None
        return raft.log.committed if replication.has_committed_in_term(raft) else None

    def transfer_leader(self, transferee: int) -> None:
        """Hand leadership to a voter; nothing happens if it is not ours to give."""
        step(self._raft, Message(MessageType.TRANSFER_LEADER, from_=transferee))

    def report_unreachable(self, member: int) -> None:
        """A message to the member was dropped by the transport."""
        step(self._raft, Message(MessageType.UNREACHABLE, from_=member))

    def report_snapshot(self, member: int, is_success: bool) -> None:
        """How sending a snapshot ended; must be called once for each SNAPSHOT message."""
        step(
            self._raft,
            Message(MessageType.SNAPSHOT_STATUS, from_=member, reject=not is_success),
        )

    # -- telling commits

    @property
    def is_alone(self) -> bool:
        """Whether there is no other member, be it a learner."""
        return len(self._raft.tracker.progress) == 1

    def commit_known(self) -> int:
        """Up to where every member that listens has been told what this leader committed."""
        return commits.known(self._raft)

    def tell_commits(self, lacking: int = INFINITE_INDEX) -> None:
        """Tell the commit index, in an append of its own, to everybody that does not know it, or
        not the index `lacking`."""
        if self._raft.role is Role.LEADER:
            commits.tell_all(self._raft, lacking)

    def tell_commit(self, member: int) -> None:
        """The same to one member, unless it is to find out from a promise what is committed."""
        if self._raft.role is Role.LEADER:
            commits.tell(self._raft, member)

    def promise(self, member: int) -> Message | None:
        """What may be sent at once to a member that takes promises: how far our disk is. None if
        that does not help it to know what is committed: if the two are no majority."""
        if self._raft.role is not Role.LEADER:
            return None
        return commits.promise(self._raft, member)

    @property
    def vouched(self) -> int:
        """Up to where anybody, anywhere, may have seen the log's effects, as far as this member
        knows: it is committed, or somebody may find out that it is before this leader does."""
        return commits.vouched(self._raft)

    # -- what is to be done

    def has_ready(self) -> bool:
        raft = self._raft
        log = raft.log
        last, seen = self._hard_state, self._soft_state
        return bool(
            raft.messages_now
            or raft.messages_after_persist
            or raft.read_states
            or log.handed_over < log.last_index
            or log.committed != last.commit
            or (log.committed > log.applying and log.appliable > log.applying)
            or (log.pending_snapshot is not None and not log.snapshot_handed_over)
            or raft.term != last.term
            or raft.vote != last.vote
            or raft.leader != seen.leader
            or raft.role is not seen.role
        )

    def ready(self) -> Ready:
        """Everything that is to be done now, handed over: see Ready and plan_ready."""
        raft = self._raft
        log = raft.log
        invariants.check_state(raft)
        self._number += 1
        # Hot, and with one put after the other it finds the caches cold: a call saved is 1 us.
        entries = log.take_unpersisted() if log.handed_over < log.last_index else []
        snapshot = log.take_snapshot() if log.pending_snapshot is not None else None
        must_sync = bool(entries) or snapshot is not None
        hard_state = soft_state = None
        now, before = HardState(raft.term, raft.vote, log.committed), self._hard_state
        if now != before:
            hard_state = self._hard_state = now
            invariants.check_hard_state(before, now)
            must_sync |= now.term != before.term or now.vote != before.vote
        if raft.leader != self._soft_state.leader or raft.role is not self._soft_state.role:
            soft_state = self._soft_state = raft.soft_state
        if must_sync:
            log.record_handover(self._number, raft.term, raft.vote)
        committed: list[Entry] = []
        if log.committed > log.applying:
            committed = log.take_committed(raft.config.apply_bytes_max)
        if raft.uncommitted_bytes and committed:
            leader.release_uncommitted(raft, committed)
        ready = Ready(  # by position: names cost a lone write 1 us
            self._number,
            raft.role,
            soft_state,
            hard_state,
            snapshot,
            entries,
            must_sync,
            committed,
            raft.read_states,
            raft.messages_now,
            raft.messages_after_persist,
            log.newest_handover_number,
        )
        raft.read_states, raft.messages_now, raft.messages_after_persist = [], [], []
        return ready

    def persisted(self, number: int) -> None:
        """Everything of the Readys up to `number` is on the local disk."""
        raft = self._raft
        finished = raft.log.persisted_up_to(number)
        if finished is None:
            return
        raft.persisted_term, raft.persisted_vote = finished.term, finished.vote
        if raft.role is Role.LEADER:
            replication.entries_persisted(raft)
        elif raft.role is Role.CANDIDATE:
            election.vote_persisted(raft)
        elif raft.role is Role.FOLLOWER and raft.promised > raft.log.committed:
            commits.take_promise(raft)

    def applied(self, index: int) -> None:
        """The state machine has everything up to `index`, by entries or by a snapshot."""
        self._raft.log.applied_to(index)
        if self._raft.configuration.auto_leave:
            reconfigure.maybe_leave_joint(self._raft)
