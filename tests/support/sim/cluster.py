"""A whole cluster in one thread: machines, network, clients, faults, and whoever watches over it.

`Cluster(seed).run()` is one run. It ends well or with a `Violation`.
"""

from __future__ import annotations

import gc
from typing import Any

from kvserver import failpoints
from kvserver.proto import rpc_pb2 as rpc
from kvserver.raft import Role
from tests.support.linearizability import Operation, check
from tests.support.sim.admin import Admin
from tests.support.sim.clients import Client, History
from tests.support.sim.faults import Nemesis, Profile, profile_of
from tests.support.sim.leases import Lessee, lease_faults
from tests.support.sim.loop import SimClock, SimLoop
from tests.support.sim.machine import Machine, Process, name_of
from tests.support.sim.network import Fabric
from tests.support.sim.users import USERS, Accounts, Operator, User
from tests.support.sim.watching import Watching
from tests.support.sim.witness import Witness
from tests.support.sim.world import Violation, World

SECONDS = 60.0
ELECTION_SECONDS = 1.0
LIVENESS_SECONDS = 10 * ELECTION_SECONDS
"""After all is well every client makes progress within this."""
QUIET_SECONDS = 5.0
"""For the last events to arrive everywhere."""
REST_SECONDS = 0.3
"""Without a new revision, and all is where it belongs."""
FIRST_SECONDS = 3.0
"""To find a first leader and open the client ports."""


class Cluster:
    """One run. Owner: whoever runs it."""

    def __init__(
        self,
        seed: int,
        *,
        seconds: float = SECONDS,
        keeps_trace: bool = False,
        profile: Profile | None = None,
    ) -> None:
        self.seed = seed
        self.seconds = seconds
        self.profile = profile or profile_of(seed)
        self.world = World(seed, keeps_trace=keeps_trace)
        self.fabric = Fabric(self.world)
        self.fabric.encodes = self.profile.encodes
        self.witness = Witness(self.world)
        self.history = History()
        self.founders = [f"m{number}" for number in range(1, self.profile.size + 1)]
        self.machines: dict[str, Machine] = {}
        self.names_given = self.profile.size
        for name in self.founders:
            self.add_machine(name)
        self.loop = SimLoop(self.world, SimClock(self.world), self._client_failed, self._raise)
        around = self.world, self.fabric, self.loop
        self.clients = [
            Client(
                *around,
                f"c{number}",
                self.history,
                self.serving_names,
                self.profile.pause_seconds,
                self.profile.keys,
            )
            for number in range(1, self.profile.clients + 1)
        ]
        self.lessees = [
            Lessee(*around, f"l{number}", self.history, self.serving_names) for number in (1, 2)
        ]
        self.watches = [
            Watching(*around, f"w{number}", self.serving_names, lambda: self.witness.compacted)
            for number in range(1, 4)
        ]
        self.admins = [Admin(*around, f"adm{number}", self.history, self) for number in (1, 2)]
        self.accounts = Accounts()
        self.users: list[User] = []
        self.operators: list[Operator] = []
        if self.profile.has_auth:
            self._add_users()
        self.client_names = [
            *(caller.name for caller in (*self.clients, *self.lessees, *self.users)),
            *(watch.name for watch in self.watches),
        ]
        self.nemesis = Nemesis(self, self.profile)
        self._healed = 0.0

    def _add_users(self) -> None:
        around = self.world, self.fabric, self.loop
        callers = self.history, self.serving_names
        self.operators = [Operator(*around, "op", *callers, self.accounts)]
        self.users = [
            User(*around, f"u{number}", *callers, name, self.accounts, self.witness.auth)
            for number, name in enumerate((*USERS, USERS[0]), 1)
        ]
        self.witness.auth.users = frozenset(USERS)

    def _client_failed(self, reason: str) -> None:
        raise Violation(f"the clients died: {reason}")

    def _raise(self, error: BaseException) -> None:
        raise Violation(f"a client failed: {error!r}") from error

    # -- machines

    def add_machine(self, name: str) -> Machine:
        machine = Machine(
            self.world, self.fabric, self.witness, self.profile.settings, name, self.founders
        )
        self.machines[name] = machine
        return machine

    def new_name(self) -> str:
        """Of a machine that joins."""
        self.names_given += 1
        return f"m{self.names_given}"

    def start_missing(self) -> None:
        """Members that were added without their admin's knowing, or found nobody to join: somebody
        starts them in the end, or a cluster of one that took in a second voter would wait for
        ever."""
        for process in self.processes():
            for member in process.core.state.membership.members():
                name = name_of(member.peer_urls)
                self.restart(self.machines.get(name) or self.add_machine(name))

    def restart(self, machine: Machine) -> None:
        if not machine.is_up and not machine.is_removed:
            machine.start()

    def serving_names(self) -> list[str]:
        """Where clients look for members: everywhere one may be."""
        return sorted(name for name, m in self.machines.items() if not m.is_removed)

    def processes(self) -> list[Process]:
        return [machine.process for machine in self.machines.values() if machine.process]

    def leader(self) -> Process | None:
        """The leader of the highest term, if anybody leads."""
        leaders = [p for p in self.processes() if p.core.member.node.role is Role.LEADER]
        return max(leaders, key=lambda process: process.core.member.node.term, default=None)

    # -- the run

    def run(self) -> None:
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            self._run()
        finally:
            self.close()
            if was_enabled:
                gc.enable()

    def close(self) -> None:
        """Let go of what has not ended."""
        failpoints.disarm_all()
        for process in self.processes():
            process.loop.kill()
        self.loop.kill()

    def _run(self) -> None:
        world = self.world
        world.trace("*", f"seed {self.seed}: {self.profile}")
        for machine in self.machines.values():
            machine.start()
        world.run_until(FIRST_SECONDS)
        for client in (*self.clients, *self.lessees, *self.operators, *self.users):
            world.call_soon(self.loop, self.loop.create_task, client.run())
        for watch in self.watches:
            world.call_soon(self.loop, watch.open)
        self.nemesis.start()
        end_of_faults = max(self.seconds - LIVENESS_SECONDS - QUIET_SECONDS, FIRST_SECONDS + 1)
        world.run_until(end_of_faults)
        self.nemesis.stop()
        for seconds in (0.5, 2.0):
            world.call_later(seconds, self.fabric, self.start_missing)
        for watch in self.watches:
            watch.settle()
        self._check_progress()
        self._come_to_rest()
        self._judge()

    def _check_progress(self) -> None:
        """Liveness: every client gets something done (thesis §3.9)."""
        healed = self._healed = self.world.now

        def has_progress(name: str) -> bool:
            return any(
                operation.client == name
                and operation.is_acknowledged
                and operation.invoked >= healed
                for operation in reversed(self.history.operations[-2000:])
            )

        waiting = {client.name for client in self.clients}

        def all_done() -> bool:
            waiting.difference_update([name for name in waiting if has_progress(name)])
            return not waiting

        self.world.run_until(healed + LIVENESS_SECONDS)
        if not all_done():
            raise Violation(
                f"{sorted(waiting)} made no progress in {LIVENESS_SECONDS:.0f} s without faults"
            )
        if self.leader() is None:
            raise Violation("nobody leads although all is well")

    def _come_to_rest(self) -> None:
        for client in (*self.clients, *self.lessees, *self.operators, *self.users):
            client.is_stopped = True
        self.world.run_until(self.world.now + QUIET_SECONDS)
        for _ in range(20):  # a lease may end at any moment, this one too
            known = len(self.witness.events)
            self.world.run_until(self.world.now + REST_SECONDS)
            if len(self.witness.events) == known:
                return

    def _judge(self) -> None:
        leader = self.leader()
        assert leader is not None
        faults = [*self._unequal(leader), *self.witness.transfers.faults(self._healed)]
        truth = self.witness.truth()
        last = max(truth, default=1)
        for watch in self.watches:
            faults += watch.faults(truth, self.witness.compacted, last)
        faults += lease_faults(self.lessees, self.witness, self._healed)
        if faults:
            raise Violation("\n".join(faults[:5]))
        report = check(self._operations(), events=truth)
        if not report.is_linearizable:
            raise Violation(str(report)[:4000])

    def _unequal(self, leader: Process) -> list[str]:
        """Everybody has everything, and the same."""
        core = leader.core
        members = {
            member.id
            for member in core.state.membership.members()
            if any(url in self.fabric.urls for url in member.peer_urls)
        }
        here = {process.member_id: process for process in self.processes()}
        faults = []
        places = set()
        for member in sorted(members):
            process = here.get(member)
            if process is None and member in self.lost_members():
                continue
            if process is None:
                faults.append(f"member {member:x} of the cluster does not run")
                continue
            applied = process.core.member.applied_index
            if applied < core.member.node.committed:
                faults.append(
                    f"{process.name} has applied {applied} of {core.member.node.committed}"
                )
                continue
            places.add(self.witness.check_hash(process))
        if len(places) > 1:
            faults.append(f"members are at different revisions: {sorted(places)}")
        return faults

    def lost_members(self) -> set[int]:
        """Members whose disks are past saving."""
        return {member for member, name in self.fabric.names.items() if self.machines[name].is_lost}

    def _operations(self) -> list[Operation]:
        """What clients did; leases that expire are revokes that nobody asked for."""
        return [*self.history.operations, *expiries(self.history)]


def expiries(history: History) -> list[Operation]:
    found: list[Operation] = []
    for operation in history.operations:
        answer: Any = operation.response
        if isinstance(answer, rpc.LeaseGrantResponse):
            revoke = rpc.LeaseRevokeRequest(ID=answer.ID)
            found.append(Operation("expiry", operation.member, revoke, operation.invoked))
    return found
