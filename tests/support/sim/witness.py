"""Who sees everything, as no member can, and keeps it over crashes: the invariants of the cluster.

Raft's (thesis figure 3.2) are those of `raft_checker`, here on the real log on the simulated disk;
beside them: nothing leaves a member that its disk does not have, a restart finds what was durable,
every member's state after the same entry is the same, and so are the events of each revision. The
history of revisions that comes of it is the truth for watches and for linearizability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kvserver.bootstrap import Recovered
from kvserver.errors import FatalError
from kvserver.mvcc.event import Event
from kvserver.proto import kv_pb2
from kvserver.raft import Entry, EntryType, HardState, Message, MessageType, RawNode, Ready, plan
from tests.support.raft_checker import Checker, SafetyViolation
from tests.support.sim.auth_witness import AuthWitness
from tests.support.sim.transfer_witness import TransferWitness
from tests.support.sim.world import Violation, World

if TYPE_CHECKING:
    from tests.support.sim.machine import Process


@dataclass
class Durable:
    """What a machine's log vouches for: written and synced, as far as the process was told."""

    hard_state: HardState
    last_index: int
    last_term: int


Meaning = tuple[HardState | None, int, int, bool]
"""Of a batch of the log: hard state, last index and its term (0: no entries), and whether it is the
record of a snapshot."""


class WatchedLog:
    """A WAL of which it is known what is on the disk."""

    def __init__(self, process: Process, wal: Any, durable: Durable) -> None:
        self._process = process
        self._wal = wal
        self._durable = durable
        self._meanings: dict[int, tuple[Any, Meaning]] = {}
        self._snapshot = 0, 0
        """Index and term of a received snapshot that is recorded and not yet vouched for."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wal, name)

    def encode(self, hard_state: HardState | None, entries: list[Entry], must_sync: bool) -> Any:
        batch = self._wal.encode(hard_state, entries, must_sync)
        index, term = (entries[-1].index, entries[-1].term) if entries else (0, 0)
        self._meanings[id(batch)] = batch, (hard_state, index, term, False)
        return batch

    def encode_snapshot(self, index: int, term: int, conf_state: Any) -> Any:
        batch = self._wal.encode_snapshot(index, term, conf_state)
        durable = self._durable
        is_received = self._process.core.member.node.last_index == index and (
            durable.last_index,
            durable.last_term,
        ) != (index, term)
        self._meanings[id(batch)] = batch, (None, index if is_received else 0, term, True)
        return batch

    def write(self, batch: Any) -> None:
        self._wal.write(batch)
        _, (hard_state, index, term, is_snapshot) = self._meanings.pop(id(batch))
        durable = self._durable
        if is_snapshot:  # it counts when the commit index covers it
            if index:
                self._snapshot = index, term
            return
        if hard_state is not None:
            durable.hard_state = hard_state
            if 0 < self._snapshot[0] <= hard_state.commit:
                (durable.last_index, durable.last_term), self._snapshot = self._snapshot, (0, 0)
        if index:
            durable.last_index, durable.last_term = index, term


class Witness:
    """Owner: the run."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.raft = Checker()
        self.durable: dict[str, Durable] = {}
        self.events: dict[int, list[Event]] = {}
        """The events of every revision, as the first member applied them."""
        self.digests: dict[int, tuple[Any, ...]] = {}
        """What the state machines look like after the entry at an index."""
        self.hashes: dict[tuple[int, int], tuple[int, str]] = {}
        """HashKV by revision and compact revision, and who had it first."""
        self.revoked: dict[int, float] = {}
        """When a lease was first gone on any member."""
        self.compacted = 0
        self.auth = AuthWitness(world)
        self.transfers = TransferWitness(world)

    # -- the life of a process

    def watch_log(self, process: Process, found: Recovered) -> Any:
        """A process starts from what its disk gave back."""
        storage = found.raft_storage
        state, last = storage.hard_state, storage.last_index
        term = storage.term(last) or 0
        known = self.durable.get(process.name)
        if known is not None:
            before = known.hard_state
            if state.term < before.term or (
                state.term == before.term and before.vote not in (0, state.vote)
            ):
                raise Violation(f"{process.name} restarts with {state}; {before} was on its disk")
            if last < known.last_index and term <= known.last_term:
                if process.machine.has_rotten:
                    # A bit of a frame's length: that looks like a torn tail, to etcd as well.
                    raise FatalError("the log is shorter than it was")
                raise Violation(
                    f"{process.name} restarts with entries up to {last}:{term}; "
                    f"{known.last_index}:{known.last_term} was on its disk"
                )
        durable = self.durable[process.name] = Durable(state, last, term)
        process.world.trace(
            process.name,
            f"finds term {state.term} vote {state.vote:x} commit {state.commit} last {last}:{term} "
            f"applied {found.applied_index} snapshot {found.snapshot_index}",
        )
        return WatchedLog(process, found.wal, durable)

    def watch_core(self, process: Process) -> None:
        core = process.core
        process.durable = self.durable[process.name]
        process.seen_commit = 0
        process.handed = process.applied_from = core.found.applied_index
        process.led = (0, 0)
        process.changed = 0
        hub, storage, lessor = core.member.hub, core.storage, core.state.lessor
        notify, note_applied, revoke = hub.notify, storage.note_applied, lessor.revoke

        def watched_notify(revision: int, events: Sequence[Event]) -> None:
            self._revision(process, revision, events)
            notify(revision, events)

        def watched_note(index: int, term: int) -> None:
            self._applied(process, index)
            note_applied(index, term)

        def watched_revoke(lease_id: int) -> list[bytes]:
            keys = revoke(lease_id)
            self.revoked.setdefault(lease_id, self.world.now)
            return keys

        hub.notify, storage.note_applied, lessor.revoke = (
            watched_notify,
            watched_note,
            watched_revoke,
        )
        self.auth.watch(process)
        self.transfers.watch(process)
        self._applied(process, core.found.applied_index)
        self.check_hash(process)

    def died(self, process: Process) -> None:
        """Nothing more is told by it."""
        self.transfers.died(process)

    # -- raft

    def ready(self, process: Process, ready: Ready) -> None:
        node = process.core.member.node
        try:
            before = process.seen_commit
            process.seen_commit = self.raft.observe(process.member_id, node, before)
            if node.is_leader and node.committed > before:
                self._check_commit(process, node)
            if ready.entries:
                self._check_written(process, ready.entries)
        except SafetyViolation as violation:
            raise Violation(str(violation)) from None
        if ready.soft_state is not None and self.world.lines is not None:
            leader = process.fabric.names.get(ready.soft_state.leader, "-")
            role = ready.soft_state.role.value
            self.world.trace(process.name, f"is {role} of term {node.term}, leader {leader}")

    def _check_commit(self, process: Process, node: RawNode) -> None:
        """A leader commits by counting only what ends in an entry of its own (thesis §3.6.2)."""
        if node.term_at(node.committed) != node.term:
            raise Violation(
                f"{process.name}, leader of term {node.term}, commits {node.committed}:"
                f"{node.term_at(node.committed)}"
            )

    def _check_written(self, process: Process, entries: list[Entry]) -> None:
        node = process.core.member.node
        led_term, led_last = process.led
        is_same_reign = node.is_leader and led_term == node.term
        self.raft.entries_written(
            process.member_id,
            entries,
            node.term_at(entries[0].index - 1),
            led_last if is_same_reign else None,
        )
        if node.is_leader:
            process.led = node.term, node.last_index
            self._check_changes(process, entries)

    def _check_changes(self, process: Process, entries: list[Entry]) -> None:
        """A leader takes one change of the configuration at a time (thesis §4.1)."""
        for entry in entries:
            if entry.type is not EntryType.NORMAL:
                if process.changed > process.core.member.node.applied_index:
                    raise Violation(
                        f"{process.name} takes change {entry.index} before it has applied "
                        f"{process.changed}"
                    )
                process.changed = entry.index

    def step(self, process: Process, step: plan.Step) -> None:
        if isinstance(step, plan.ApplyEntries):
            for entry in step.entries:
                self._handed_out(process, entry)
        elif isinstance(step, plan.InstallSnapshot):
            process.handed = process.applied_from = step.snapshot.index
            if step.snapshot.index > self.raft.applied_max:
                raise Violation(f"{process.name} installs a state that nobody has applied")

    def _handed_out(self, process: Process, entry: Entry) -> None:
        if entry.index != process.handed + 1:
            raise Violation(f"{process.name} applies {entry.index} after {process.handed}")
        process.handed = entry.index
        raft = self.raft
        before = raft.chain.get(entry.index - 1)
        if before is None:
            raise Violation(f"{process.name} applies {entry.index}, nobody {entry.index - 1}")
        try:
            raft.entry_applied(process.member_id, entry, before, process.durable.last_index)
        except SafetyViolation as violation:
            raise Violation(str(violation)) from None

    def database_received(self, process: Process, message: Message) -> None:
        self.transfers.received(process, message)

    def sent(self, process: Process, message: Message) -> None:
        if message.type is MessageType.SNAPSHOT:
            self.transfers.sent(process, message)
        durable = process.durable
        try:
            self.raft.sent(process.member_id, message, durable.hard_state, durable.last_index)
        except SafetyViolation as violation:
            raise Violation(str(violation)) from None

    # -- the state machines

    def _applied(self, process: Process, index: int) -> None:
        state = process.core.state
        store = state.store
        if index > process.core.member.node.committed:
            raise Violation(f"{process.name} has applied {index}, which it does not know committed")
        if state.alarms.has_corrupt:
            raise Violation(f"{process.name} knows a CORRUPT alarm, and nothing is corrupt")
        digest = (
            store.revision,
            store.compact_revision,
            len(store.index.newest),
            len(state.lessor),
            len(state.membership.members()),
            state.auth.revision,
        )
        known = self.digests.setdefault(index, digest)
        if known != digest:
            raise Violation(f"{process.name} is {digest} after entry {index}, others {known}")
        self.auth.applied(process, index)
        self.compacted = max(self.compacted, store.compact_revision)
        if self.world.lines is not None:
            self.world.trace(process.name, f"applied {index}, revision {store.revision}")

    def _revision(self, process: Process, revision: int, events: Sequence[Event]) -> None:
        self.auth.changed(process, revision, events)
        known = self.events.get(revision)
        if known is None:
            if revision != len(self.events) + 2:
                raise Violation(f"{process.name}: revision {revision} after {len(self.events) + 1}")
            self.events[revision] = list(events)
        elif known != list(events):
            raise Violation(
                f"{process.name}: revision {revision} is {events} here and {known} elsewhere"
            )

    def check_hash(self, process: Process) -> tuple[int, int]:
        """HashKV is equal at equal revisions; returns where this member is."""
        store = process.core.state.store
        job = store.hash_kv(0)
        while not job.step():
            continue
        assert job.hash is not None
        where = store.revision, store.compact_revision
        known, first = self.hashes.setdefault(where, (job.hash.hash, process.life))
        if known != job.hash.hash:
            raise Violation(
                f"HashKV of {process.life} at {where} is {job.hash.hash}, of {first} {known}"
            )
        return where

    # -- afterwards

    def truth(self) -> dict[int, list[kv_pb2.Event]]:
        """The events as clients see them, with the key's state one revision earlier."""
        truth: dict[int, list[kv_pb2.Event]] = {}
        newest: dict[bytes, bytes] = {}
        for revision in sorted(self.events):
            listed = []
            before: dict[bytes, bytes | None] = {}
            for event in self.events[revision]:
                kind = kv_pb2.Event.DELETE if event.is_delete else kv_pb2.Event.PUT
                shown = kv_pb2.Event(type=kind, kv=kv_pb2.KeyValue.FromString(event.kv))
                old = before.setdefault(event.key, newest.get(event.key))
                if old is not None and not event.is_create:
                    shown.prev_kv.ParseFromString(old)
                listed.append(shown)
                if event.is_delete:
                    newest.pop(event.key, None)
                else:
                    newest[event.key] = event.kv
            truth[revision] = listed
        return truth
