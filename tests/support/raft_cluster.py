"""A whole cluster of RawNodes on a simulated network and disks: one seed is one run.

Every member executes the steps of plan_ready one at a time; between any two of them anything may
happen: a message arrives, is lost, doubled or overtaken, a disk finishes a write, a member
crashes and comes back with what its disk had. A `Checker` watches. After the faults the cluster
is healed and must make progress again.

Nothing here reads a clock; the order of events is the only time there is.
"""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import dataclass

from kvserver.raft import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeType,
    ConfChangeV2,
    Config,
    Message,
    MessageType,
    ProposalDropped,
    plan,
)
from kvserver.raft.codec import decode_message, encode_message
from tests.support.raft_checker import Checker, require
from tests.support.raft_member import SimMember, bootstrap_entries, initial_disk, known


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
    promise: float = 0.0
    """Besides, a leader promises a commit to some of the others after every write of its own."""


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
        change: ConfChange | ConfChangeV2 = ConfChange(0, kind, node_id)
        if self.rng.random() < 0.3:
            other = ConfChangeSingle(ConfChangeType.ADD_NODE, self.rng.choice(list(self.members)))
            change = ConfChangeV2((ConfChangeSingle(kind, node_id), other))
        with suppress(ProposalDropped):
            member.node.propose_conf_change(change)
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
            (faults.promise, member.promise),
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
