"""Clusters to which a test does things one by one: no faults but those it makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvserver.proto import rpc_pb2 as rpc
from tests.support.sim.calls import StreamPipe
from tests.support.sim.clients import Caller
from tests.support.sim.cluster import Cluster
from tests.support.sim.faults import Profile
from tests.support.sim.leases import KEEP_ALIVE
from tests.support.sim.machine import Machine, Process, Settings
from tests.support.sim.network import Link
from tests.support.sim.world import Violation

WAIT_SECONDS = 30.0


class Scripted:
    """A running cluster with a leader, and a client to ask it."""

    def __init__(self, size: int = 3, seed: int = 1, **settings: Any) -> None:
        profile = Profile(size, (), Settings(**settings), 1, 3, 1.0, False)
        self.cluster = Cluster(seed, profile=profile, keeps_trace=True)
        self.world = self.cluster.world
        self.fabric = self.cluster.fabric
        cluster = self.cluster
        self.client = Caller(cluster.world, cluster.fabric, cluster.loop, "c0", cluster.history)
        for machine in self.machines:
            machine.start()
        self.until(lambda: all(p.is_serving for p in cluster.processes()))

    @property
    def machines(self) -> list[Machine]:
        return list(self.cluster.machines.values())

    @property
    def leader(self) -> Process:
        leader = self.cluster.leader()
        assert leader is not None
        return leader

    @property
    def followers(self) -> list[Process]:
        leader = self.leader
        return [process for process in self.cluster.processes() if process is not leader]

    def run(self, seconds: float) -> None:
        self.world.run_until(self.world.now + seconds)

    def until(self, condition: Callable[[], bool], seconds: float = WAIT_SECONDS) -> None:
        """Let time pass until the condition holds, and no moment longer."""
        self.world.run_until(self.world.now + seconds, condition)
        if not condition():
            raise Violation("it never came to that")

    def begin(self, target: str, request: Any) -> list[Any]:
        """Ask; the answer appears in the list when it has come."""
        answers: list[Any] = []

        async def work() -> None:
            answers.append(await self.client.ask(target, request))

        self.world.call_soon(self.cluster.loop, self.cluster.loop.create_task, work())
        return answers

    def ask(self, target: str, request: Any) -> Any:
        answers = self.begin(target, request)
        self.until(lambda: bool(answers))
        return answers[0]

    def renew(self, target: str, lease_id: int) -> list[int]:
        """Send one keep-alive; the TTL of its answer appears in the list."""
        answers: list[int] = []
        pipe = StreamPipe(
            self.fabric,
            self.cluster.loop,
            self.client.name,
            target,
            KEEP_ALIVE,
            lambda body: answers.append(rpc.LeaseKeepAliveResponse.FromString(body).TTL),
            lambda reason: None,
        )
        pipe.send(rpc.LeaseKeepAliveRequest(ID=lease_id).SerializeToString())
        return answers

    def isolate(self, name: str) -> None:
        """Nobody hears this machine, and it hears nobody."""
        others = [other for other in self.cluster.machines if other != name]
        links: set[Link] = {(name, other) for other in others}
        self.fabric.set_cut(links | {(other, name) for other in others})

    def heal(self) -> None:
        self.fabric.set_cut(())

    def close(self) -> None:
        """Nothing happens any more."""
        self.cluster.close()
