"""Somebody who changes the cluster: adds members as learners or voters, promotes, removes,
replaces."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from kvserver.proto import rpc_pb2 as rpc
from tests.support.sim.clients import Caller, History
from tests.support.sim.loop import SimLoop
from tests.support.sim.machine import peer_url
from tests.support.sim.network import Fabric
from tests.support.sim.world import World

if TYPE_CHECKING:
    from tests.support.sim.cluster import Cluster

MACHINES_MAX = 9


class Admin(Caller):
    """One change at a time."""

    def __init__(
        self,
        world: World,
        fabric: Fabric,
        loop: SimLoop,
        name: str,
        history: History,
        cluster: Cluster,
    ) -> None:
        super().__init__(world, fabric, loop, name, history)
        self._cluster = cluster
        self._is_busy = False
        self.timeout_seconds = 8.0

    def change_something(self) -> None:
        if not self._is_busy:
            self._is_busy = True
            self.world.call_soon(self.loop, self.loop.create_task, self._change())

    async def _change(self) -> None:
        try:
            leader = self._cluster.leader()
            if leader is None:
                return
            members = leader.core.state.membership.members()
            learners = [member for member in members if member.is_learner]
            voters = [member for member in members if not member.is_learner]
            target = self.rng.choice(self._cluster.serving_names())
            lost = [member.id for member in members if member.id in self._cluster.lost_members()]
            if lost:
                await self.ask(target, rpc.MemberRemoveRequest(ID=lost[0]))
                await self._add(target, is_learner=self.rng.random() < 0.7)
                return
            pick = self.rng.random()
            if learners and pick < 0.6:
                await self.ask(target, rpc.MemberPromoteRequest(ID=learners[0].id))
            elif len(voters) > 3 or (pick < 0.3 and len(voters) > 1):
                await self.ask(target, rpc.MemberRemoveRequest(ID=self.rng.choice(members).id))
            elif self._cluster.names_given < MACHINES_MAX:
                await self._add(target, is_learner=self.rng.random() < 0.7)
        finally:
            self._is_busy = False

    async def _add(self, target: str, *, is_learner: bool) -> None:
        """The new machine starts whatever the answer was: the change may have happened."""
        name = self._cluster.new_name()
        answer: Any = await self.ask(
            target, rpc.MemberAddRequest(peerURLs=[peer_url(name)], isLearner=is_learner)
        )
        if isinstance(answer, rpc.MemberAddResponse) or self._is_known(name):
            await asyncio.sleep(self.rng.uniform(0, 1.0))
            if name not in self._cluster.machines:
                self._cluster.restart(self._cluster.add_machine(name))

    def _is_known(self, name: str) -> bool:
        return any(
            peer_url(name) in member.peer_urls
            for process in self._cluster.processes()
            for member in process.core.state.membership.members()
        )
