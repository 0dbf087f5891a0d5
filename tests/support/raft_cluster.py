"""A whole cluster of RawNodes on a simulated network and disks: one seed is one run.

Every member executes the steps of plan_ready one at a time; between any two of them anything may
happen: a message arrives, is lost, doubled or overtaken, a disk finishes a write, a member
crashes and comes back with what its disk had. A `Checker` watches. After the faults the cluster
is healed and must make progress again.

Nothing here reads a clock; the order of events is the only time there is.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from kvserver.raft import (
    ConfChange,
    ConfChangeType,
    Config,
    ConfState,
    Entry,
    EntryType,
    HardState,
    MemoryStorage,
    Message,
    MessageType,
    ProposalDropped,
    RawNode,
    Snapshot,
    plan,
)
from kvserver.raft.codec import (
    decode_conf_change,
    decode_message,
    encode_conf_change,
    encode_message,
)
from tests.support.raft_checker import Checker, require


@dataclass(frozen=True)
class Faults:
    """Weights of events relative to 100 ordinary ones, and shares of messages."""

    drop: float = 0.03
    duplicate: float = 0.03
    reorder: float = 0.2
    crash: float = 1.0
    partition: float = 1.0
    heal: float = 2.0
    conf_change: float = 0.0
    snapshot: float = 0.5
    transfer: float = 0.3
    read: float = 3.0


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
    return state.voters + state.learners


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
        while self.waiting and self.waiting[0].after_persist <= self.persisted:
            waited = self.waiting.popleft()
            _DO[type(waited)](self, waited)

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

    def _judged(self, entry: Entry) -> ConfChange:
        """The application refuses a change that would leave no voter, by emptying it."""
        change = decode_conf_change(entry)
        assert isinstance(change, ConfChange)
        is_gain = change.type is ConfChangeType.ADD_NODE
        if not is_gain and set(self.conf_state.voters) <= {change.node_id}:
            return ConfChange(change.id, change.type, 0)
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


class Cluster:
    """Members 1..size, of which the first `voters` vote at the beginning."""

    def __init__(
        self,
        seed: int,
        size: int = 3,
        voters: int | None = None,
        faults: Faults = Faults(),
        **settings: object,
    ) -> None:
        self.rng = random.Random(seed)
        self.faults = faults
        self.settings = settings
        self.checker = Checker()
        self.plan_ready = plan.plan_ready
        self.network: list[bytes] = []
        self.cuts: set[tuple[int, int]] = set()
        self.count = 0
        first = bootstrap_entries(range(1, (voters or size) + 1))
        self.members = {
            member: SimMember(self, member, initial_disk(first if member <= len(first) else []))
            for member in range(1, size + 1)
        }

    def config(self, member: int) -> Config:
        """Short timeouts: an election every few dozen events keeps a run short and eventful."""
        settings = {"election_ticks": 4, **self.settings}
        return Config(member, random=self.rng.randint, **settings)  # type: ignore[arg-type]

    def up(self) -> list[SimMember]:
        return [member for member in self.members.values() if member.is_up]

    def leaders(self) -> list[SimMember]:
        return [member for member in self.up() if member.node.is_leader]

    # -- network

    def send(self, message: Message) -> None:
        if message.to not in self.members:
            return
        is_lost = self.rng.random() < self.faults.drop
        if is_lost or (message.from_, message.to) in self.cuts:
            self._report(message, False)
            return
        body = encode_message(message)
        self.network.append(body)
        if self.rng.random() < self.faults.duplicate:
            self.network.append(body)

    def deliver(self) -> None:
        if not self.network:
            return
        if self.rng.random() < self.faults.reorder:
            body = self.network.pop(self.rng.randrange(len(self.network)))
        else:
            body = self.network.pop(0)
        message = decode_message(body)
        receiver = self.members[message.to]
        if receiver.is_up and (message.from_, message.to) not in self.cuts:
            with suppress(ProposalDropped):
                receiver.node.step(message)
            self.look(receiver)
            self._report(message, True)
        else:
            self._report(message, False)

    def _report(self, message: Message, is_success: bool) -> None:
        """The sender's transport knows what it could not deliver, and how a snapshot ended."""
        sender = self.members.get(message.from_)
        if sender is None or not sender.is_up:
            return
        if message.type is MessageType.SNAPSHOT:
            sender.node.report_snapshot(message.to, is_success)
        elif not is_success and self.rng.random() < 0.5:
            sender.node.report_unreachable(message.to)

    # -- events

    def look(self, member: SimMember) -> None:
        member.seen_commit = self.checker.observe(member.id, member.node, member.seen_commit)

    def work(self, member: SimMember) -> None:
        """One small thing that a running member has to do, if any."""
        if member.steps:
            member.do_step()
        elif member.finished and self.rng.random() < 0.5:
            member.report_write()
        elif member.disk.queue and self.rng.random() < 0.5:
            member.finish_write()
        else:
            member.take_ready()
        self.look(member)

    def propose(self, member: SimMember) -> None:
        self.count += 1
        datas = [b"%d.%d" % (self.count, i) for i in range(self.rng.randint(1, 3))]
        with suppress(ProposalDropped):
            member.node.propose(datas)
        self.look(member)

    def read(self, member: SimMember) -> None:
        self.count += 1
        context = b"%d" % self.count
        self.checker.read_requested(context)
        member.node.read_index(context)
        self.look(member)

    def change_configuration(self, member: SimMember) -> None:
        """Something sensible that keeps at least two voters."""
        state = member.node.conf_state
        node_id = self.rng.randint(1, len(self.members))
        kind = self.rng.choice(
            (
                ConfChangeType.ADD_NODE,
                ConfChangeType.ADD_NODE,
                ConfChangeType.ADD_LEARNER_NODE,
                ConfChangeType.REMOVE_NODE,
            )
        )
        if (
            kind is not ConfChangeType.ADD_NODE
            and node_id in state.voters
            and len(state.voters) < 3
        ):
            return
        with suppress(ProposalDropped):
            member.node.propose_conf_change(ConfChange(0, kind, node_id))
        self.look(member)

    def partition(self) -> None:
        """Split the members in two, or cut some links one way."""
        members = list(self.members)
        if self.rng.random() < 0.3:
            self.cuts = {(self.rng.choice(members), self.rng.choice(members)) for _ in range(4)}
            return
        side = set(self.rng.sample(members, self.rng.randint(1, len(members) - 1)))
        self.cuts = {(a, b) for a in members for b in members if (a in side) != (b in side)}

    def event(self) -> None:
        """One event, chosen by the seed."""
        rng, faults = self.rng, self.faults
        up = self.up()
        if not up or rng.random() * 100 < faults.crash * 2:
            down = [member for member in self.members.values() if not member.is_up]
            if down:
                rng.choice(down).start()
                return
        member = rng.choice(up)
        pick = rng.random() * 100
        for weight, act in (
            (faults.crash, member.crash),
            (faults.partition, self.partition),
            (faults.heal, self.cuts.clear),
            (faults.snapshot, member.take_snapshot),
            (faults.transfer, lambda: member.node.transfer_leader(rng.choice(up).id)),
            (faults.read, lambda: self.read(member)),
            (faults.conf_change, lambda: self.change_configuration(member)),
            (4, lambda: self.propose(member)),
            (6, member.node.tick),
            (40, self.deliver),
        ):
            if pick < weight:
                act()
                return
            pick -= weight
        self.work(rng.choice([member for member in up if member.has_work()] or up))

    def run(self, events: int) -> None:
        for _ in range(events):
            self.event()

    # -- afterwards

    def settle(self, rounds: int) -> None:
        """No faults: every member does all its work and every message arrives; then a tick."""
        self.faults = Faults(0, 0, 0, 0, 0, 0)
        self.cuts.clear()
        for member in self.members.values():
            if not member.is_up:
                member.start()
        for _ in range(rounds):
            self.quiesce()
            for member in self.up():
                # A removed leader goes on leading until its process ends (spec/raft.md §10).
                if member.node.is_leader and member.id not in known(member.conf_state):
                    member.crash()
                member.node.tick()

    def quiesce(self) -> None:
        while True:
            for member in self.members.values():
                while (
                    member.steps or member.disk.queue or member.finished or member.node.has_ready()
                ):
                    self.work(member)
            if not self.network:
                return
            while self.network:
                self.deliver()

    def heal_and_check_progress(self) -> None:
        """Liveness: within ten election timeouts everybody has everything, and new proposals."""
        self.settle(rounds=10 * 10)
        leaders = [m for m in self.leaders() if m.node.term == max(self.checker.leaders)]
        require(len(leaders) == 1, f"no leader after healing, terms {self.checker.leaders}")
        leader = leaders[0]
        leader.node.propose([b"the end"])
        self.quiesce()
        for _ in range(3):
            leader.node.tick()
            self.quiesce()
        state = leader.node.conf_state
        for member_id in state.voters + state.learners:
            member = self.members[member_id]
            require(
                member.applied == leader.node.last_index and member.state == leader.state,
                f"{member_id} has applied {member.applied} of {leader.node.last_index}",
            )
