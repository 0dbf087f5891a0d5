"""One member of a simulated cluster: a RawNode, its disk, its state machine, its unfinished steps.

Every method does one small thing, so that the cluster may put anything between any two of them.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kvserver.raft import (
    ConfChange,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
    Entry,
    EntryType,
    HardState,
    MemoryStorage,
    MessageType,
    RawNode,
    Snapshot,
    confchange,
    plan,
)
from kvserver.raft.codec import decode_conf_change, encode_conf_change
from kvserver.raft.invariants import InvariantViolation
from tests.support.raft_checker import require

if TYPE_CHECKING:
    from tests.support.raft_cluster import Cluster


@dataclass
class Image:
    """The state machine as its own database keeps it: index and effects together."""

    index: int
    state: int
    conf_state: ConfState


@dataclass
class Disk:
    """A member's log on disk. Writes wait in a queue; a crash keeps a prefix of them."""

    image: Image
    hard_state: HardState = field(default_factory=HardState)
    snapshot: Snapshot = field(default_factory=lambda: Snapshot(0, 0, ConfState()))
    entries: list[Entry] = field(default_factory=list)
    queue: deque[plan.SaveSnapshot | plan.AppendEntries] = field(default_factory=deque)

    @property
    def last_index(self) -> int:
        return self.snapshot.index + len(self.entries)

    def finish_one(self) -> int:
        """Do the oldest write; return the number of the Ready to report, or 0."""
        step = self.queue.popleft()
        if isinstance(step, plan.SaveSnapshot):
            self.snapshot, self.entries = step.snapshot, []
            return 0
        self._write(step.entries)
        if step.hard_state is not None:
            self.hard_state = step.hard_state
        return step.number if step.must_sync else 0

    def _write(self, entries: list[Entry]) -> None:
        if entries:
            kept = entries[0].index - self.snapshot.index - 1
            require(0 <= kept <= len(self.entries), "a write leaves a gap in the log")
            self.entries[kept:] = entries

    def crash(self, rng: random.Random) -> None:
        """What was never synced may be there or not; entries come before the hard state."""
        for _ in range(rng.randint(0, len(self.queue))):
            self.finish_one()
        if self.queue and isinstance(self.queue[0], plan.AppendEntries):
            torn = self.queue[0].entries
            self._write(torn[: rng.randint(0, len(torn))])
        self.queue.clear()

    def compact(self, snapshot: Snapshot) -> None:
        del self.entries[: snapshot.index - self.snapshot.index]
        self.snapshot = snapshot


def bootstrap_entries(voters: Iterable[int]) -> list[Entry]:
    """Every initial member writes the same first entries (spec/raft-wire.md §4.1)."""
    return [
        Entry(
            index,
            1,
            EntryType.CONF_CHANGE,
            encode_conf_change(ConfChange(0, ConfChangeType.ADD_NODE, voter)),
        )
        for index, voter in enumerate(voters, 1)
    ]


def known(state: ConfState) -> tuple[int, ...]:
    return state.voters + state.learners + state.voters_outgoing


def initial_disk(entries: list[Entry]) -> Disk:
    """A founding member's disk; a joiner's is empty."""
    state = HardState(1, 0, len(entries)) if entries else HardState()
    return Disk(Image(0, 0, ConfState()), hard_state=state, entries=list(entries))


class SimMember:
    """One process: a RawNode, its disk, its state machine, and the steps it has not done yet."""

    def __init__(self, cluster: Cluster, member: int, disk: Disk) -> None:
        self.cluster = cluster
        self.id = member
        self.disk = disk
        self.start()

    def start(self) -> None:
        """From what the disk has; a snapshot that was saved but not installed is installed."""
        disk = self.disk
        if disk.snapshot.index > disk.image.index:
            disk.image = Image(
                disk.snapshot.index, int(disk.snapshot.data), disk.snapshot.conf_state
            )
        self.applied, self.state = disk.image.index, disk.image.state
        self.conf_state = disk.image.conf_state
        storage = MemoryStorage(
            snapshot=disk.snapshot,
            hard_state=disk.hard_state,
            entries=disk.entries,
            conf_state=self.conf_state,
        )
        self.node = RawNode(self.cluster.config(self.id), storage, self.applied)
        self.steps: deque[plan.Step] = deque()
        self.waiting: deque[plan.Step] = deque()
        self.finished: deque[int] = deque()
        self.persisted = 0
        self.seen_commit = 0
        self.led: tuple[int, int] = (0, 0)
        self.is_up = True

    def crash(self) -> None:
        self.is_up = False
        self.disk.crash(self.cluster.rng)

    # -- one thing at a time

    def take_ready(self) -> None:
        if self.node.has_ready():
            ready = self.node.ready()
            if ready.entries:
                self._check_written(ready.entries)
            self.steps.extend(self.cluster.plan_ready(ready))

    def _check_written(self, entries: list[Entry]) -> None:
        node = self.node
        led_term, led_last = self.led
        is_same_reign = node.is_leader and led_term == node.term
        self.cluster.checker.entries_written(
            self.id,
            entries,
            node.term_at(entries[0].index - 1),
            led_last if is_same_reign else None,
        )
        if node.is_leader:
            self.led = (node.term, node.last_index)

    def has_work(self) -> bool:
        return bool(self.steps or self.finished or self.disk.queue or self.node.has_ready())

    def do_step(self) -> None:
        step = self.steps.popleft()
        if step.after_persist > self.persisted:
            self.waiting.append(step)
        else:
            _DO[type(step)](self, step)

    def finish_write(self) -> None:
        number = self.disk.finish_one()
        if number:
            self.finished.append(number)

    def report_write(self) -> None:
        """The append thread's word reaches the loop; what waited for it may go on."""
        self.persisted = self.finished.popleft()
        self.node.persisted(self.persisted)
        if self.cluster.faults.promise:
            self.promise()
        while self.waiting and self.waiting[0].after_persist <= self.persisted:
            waited = self.waiting.popleft()
            _DO[type(waited)](self, waited)

    def promise(self) -> None:
        """To some of the others, if this one leads."""
        cluster = self.cluster
        for other in sorted(cluster.members.keys() - {self.id}):
            message = self.node.promise(other) if cluster.rng.random() < 0.7 else None
            if message is not None:
                cluster.checker.promises += 1
                cluster.send(message)

    def current_snapshot(self) -> Snapshot:
        """What is sent is newer than what raft has stored: the stored one may not know a joiner,
        who would refuse it (spec/raft.md §6.4)."""
        term = self.node.term_at(self.applied)
        assert term is not None
        return Snapshot(self.applied, term, self.conf_state, b"%d" % self.state)

    def take_snapshot(self) -> None:
        """Keep the state machine's image and shorten the log behind it."""
        if self.disk.queue or self.waiting or self.applied <= self.node.storage.snapshot.index:
            return
        self.disk.image = Image(self.applied, self.state, self.conf_state)
        storage = self.node.storage
        snapshot = storage.create_snapshot(self.applied, self.conf_state, b"%d" % self.state)
        storage.compact(self.applied)
        self.disk.compact(snapshot)

    # -- steps

    def send(self, step: plan.SendMessages | plan.SendAfterPersist) -> None:
        for message in step.messages:
            self.cluster.checker.sent(self.id, message, self.disk.hard_state, self.disk.last_index)
            if message.type is MessageType.SNAPSHOT:
                message = message._replace(snapshot=self.current_snapshot())
            self.cluster.send(message)

    def write(self, step: plan.SaveSnapshot | plan.AppendEntries) -> None:
        self.disk.queue.append(step)

    def apply(self, step: plan.ApplyEntries) -> None:
        for entry in step.entries:
            require(entry.index == self.applied + 1, f"{self.id} skipped to {entry.index}")
            self.state = self.cluster.checker.entry_applied(
                self.id, entry, self.state, self.disk.last_index
            )
            self.applied = entry.index
            if entry.type is not EntryType.NORMAL:
                self.conf_state = self.node.apply_conf_change(self._judged(entry))
        self.node.applied(self.applied)

    def _judged(self, entry: Entry) -> ConfChange | ConfChangeV2:
        """The application refuses a change that would leave no voter, by emptying it."""
        change = decode_conf_change(entry)
        try:
            confchange.change(confchange.restore(self.conf_state), change.as_v2())
        except InvariantViolation:
            return ConfChange(0, ConfChangeType.UPDATE_NODE, 0)
        return change

    def serve_reads(self, step: plan.NotifyReadStates) -> None:
        for read in step.read_states:
            self.cluster.checker.read_answered(self.id, read)

    def install(self, step: plan.InstallSnapshot) -> None:
        snapshot = step.snapshot
        self.applied, self.state = snapshot.index, int(snapshot.data)
        self.conf_state = snapshot.conf_state
        self.cluster.checker.snapshot_installed(self.id, self.applied, self.state)
        self.disk.image = Image(self.applied, self.state, self.conf_state)
        self.node.applied(self.applied)


_DO: dict[type, Callable[[SimMember, object], None]] = {
    plan.SendMessages: SimMember.send,  # type: ignore[dict-item]
    plan.SendAfterPersist: SimMember.send,  # type: ignore[dict-item]
    plan.SaveSnapshot: SimMember.write,  # type: ignore[dict-item]
    plan.AppendEntries: SimMember.write,  # type: ignore[dict-item]
    plan.ApplyEntries: SimMember.apply,  # type: ignore[dict-item]
    plan.NotifyReadStates: SimMember.serve_reads,  # type: ignore[dict-item]
    plan.InstallSnapshot: SimMember.install,  # type: ignore[dict-item]
}
