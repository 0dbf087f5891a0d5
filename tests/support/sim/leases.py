"""Clients that hold leases, and the promise that they get: a lease whose renewal was acknowledged
does not end within its TTL (spec/lease.md K2, E3)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from kvserver.proto import rpc_pb2 as rpc
from tests.support.sim.calls import StreamPipe
from tests.support.sim.clients import Caller, History
from tests.support.sim.loop import SimLoop
from tests.support.sim.network import Fabric
from tests.support.sim.witness import Witness
from tests.support.sim.world import World

KEEP_ALIVE = "/etcdserverpb.Lease/LeaseKeepAlive"
SHORT_TTL_SECONDS = 5
"""Such a lease is over at the end of a run, even if its deadline began anew when all was well."""
CLOCK_RATE_MAX = 1.1
"""No machine's clock runs faster (faults.py)."""


class Lessee(Caller):
    """Grants itself a lease, puts a key under it, renews for a while, and lets go."""

    def __init__(
        self,
        world: World,
        fabric: Fabric,
        loop: SimLoop,
        name: str,
        history: History,
        targets: Callable[[], list[str]],
    ) -> None:
        super().__init__(world, fabric, loop, name, history)
        self.promised: dict[int, float] = {}
        """Until when each lease must last, in true seconds."""
        self.ttls: dict[int, int] = {}
        self.let_go: set[int] = set()
        """Leases this client has asked to revoke."""
        self.renewals = 0
        self._targets = targets

    async def run(self) -> None:
        count = 0
        while not self.is_stopped:
            await asyncio.sleep(self.rng.uniform(0.1, 1.0))
            target = self.rng.choice(self._targets())
            ttl = self.rng.choice((2, 2, 3, 5, 10))
            asked = self.world.now
            answer = await self.ask(target, rpc.LeaseGrantRequest(TTL=ttl))
            if not isinstance(answer, rpc.LeaseGrantResponse):
                continue
            self._promise(answer.ID, asked, answer.TTL)
            self.ttls[answer.ID] = answer.TTL
            count += 1
            key = b"k.%s.%d" % (self.name.encode(), count % 3)
            await self.ask(
                self.rng.choice(self._targets()),
                rpc.PutRequest(key=key, value=b"%d" % count, lease=answer.ID),
            )
            await self._keep_alive(answer.ID, answer.TTL)
            if self.rng.random() < 0.4:
                self.let_go.add(answer.ID)
                await self.ask(
                    self.rng.choice(self._targets()), rpc.LeaseRevokeRequest(ID=answer.ID)
                )

    def _promise(self, lease_id: int, asked: float, ttl_seconds: int) -> None:
        until = asked + ttl_seconds / CLOCK_RATE_MAX
        self.promised[lease_id] = max(self.promised.get(lease_id, 0.0), until)

    async def _keep_alive(self, lease_id: int, ttl_seconds: int) -> None:
        """Renewals at various members, for a few TTLs or until the lease is gone."""
        left = self.rng.randint(0, 12)
        while left > 0 and not self.is_stopped:
            target = self.rng.choice(self._targets())
            answers: asyncio.Future[Any] = self.loop.create_future()
            pipe = self._open(target, answers)
            for _ in range(self.rng.randint(1, 6)):
                left -= 1
                asked = self.world.now
                request = rpc.LeaseKeepAliveRequest(ID=lease_id)
                pipe.send(request.SerializeToString())
                try:
                    async with asyncio.timeout(self.timeout_seconds):
                        answer = await self._answer
                except TimeoutError:
                    break
                if answer is None:
                    break
                self.world.trace(self.name, f"lease {lease_id:x} has TTL {answer.TTL}")
                if answer.TTL <= 0:
                    pipe.close()
                    return
                self.renewals += 1
                self._promise(lease_id, asked, answer.TTL)
                self._answer = self.loop.create_future()
                await asyncio.sleep(self.rng.uniform(0.1, 0.6) * ttl_seconds)
            pipe.close()

    def _open(self, target: str, answers: asyncio.Future[Any]) -> StreamPipe:
        self._answer = answers

        def settle(answer: Any) -> None:
            if not self._answer.done():
                self._answer.set_result(answer)

        return StreamPipe(
            self.fabric,
            self.loop,
            self.name,
            target,
            KEEP_ALIVE,
            lambda body: settle(rpc.LeaseKeepAliveResponse.FromString(body)),
            lambda reason: settle(None),
        )


def lease_faults(lessees: Iterable[Lessee], witness: Witness, healed: float) -> list[str]:
    """Leases that ended too early, and short ones from before all was well (at `healed`) that have
    not ended at all."""
    faults = []
    for lessee in lessees:
        for lease_id, until in lessee.promised.items():
            ended = witness.revoked.get(lease_id)
            is_short = lessee.ttls[lease_id] <= SHORT_TTL_SECONDS
            if ended is None and is_short and until < healed:
                faults.append(f"lease {lease_id:x}, promised until {until:.3f}, never ends")
            if ended is not None and ended < until and lease_id not in lessee.let_go:
                faults.append(
                    f"lease {lease_id:x} of {lessee.name} ended at {ended:.3f}, "
                    f"promised until {until:.3f}"
                )
    return faults
