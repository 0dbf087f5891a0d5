"""Clients: each does one thing after the other at some member, and records what it was told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kvserver.errors import Code, RequestError
from kvserver.proto import rpc_pb2 as rpc
from tests.support.linearizability import Operation
from tests.support.outcomes import is_refusal
from tests.support.sim.calls import Refused, call
from tests.support.sim.loop import SimLoop
from tests.support.sim.network import Fabric
from tests.support.sim.world import World

KV = "/etcdserverpb.KV/"
LEASE = "/etcdserverpb.Lease/"
CLUSTER = "/etcdserverpb.Cluster/"
AUTH = "/etcdserverpb.Auth/"
ANSWERS: dict[type, tuple[str, type]] = {
    rpc.PutRequest: (KV + "Put", rpc.PutResponse),
    rpc.RangeRequest: (KV + "Range", rpc.RangeResponse),
    rpc.DeleteRangeRequest: (KV + "DeleteRange", rpc.DeleteRangeResponse),
    rpc.TxnRequest: (KV + "Txn", rpc.TxnResponse),
    rpc.CompactionRequest: (KV + "Compact", rpc.CompactionResponse),
    rpc.LeaseGrantRequest: (LEASE + "LeaseGrant", rpc.LeaseGrantResponse),
    rpc.LeaseRevokeRequest: (LEASE + "LeaseRevoke", rpc.LeaseRevokeResponse),
    rpc.LeaseTimeToLiveRequest: (LEASE + "LeaseTimeToLive", rpc.LeaseTimeToLiveResponse),
    rpc.MemberAddRequest: (CLUSTER + "MemberAdd", rpc.MemberAddResponse),
    rpc.MemberRemoveRequest: (CLUSTER + "MemberRemove", rpc.MemberRemoveResponse),
    rpc.MemberPromoteRequest: (CLUSTER + "MemberPromote", rpc.MemberPromoteResponse),
    rpc.AuthEnableRequest: (AUTH + "AuthEnable", rpc.AuthEnableResponse),
    rpc.AuthenticateRequest: (AUTH + "Authenticate", rpc.AuthenticateResponse),
    rpc.AuthUserAddRequest: (AUTH + "UserAdd", rpc.AuthUserAddResponse),
    rpc.AuthUserDeleteRequest: (AUTH + "UserDelete", rpc.AuthUserDeleteResponse),
    rpc.AuthUserChangePasswordRequest: (
        AUTH + "UserChangePassword",
        rpc.AuthUserChangePasswordResponse,
    ),
    rpc.AuthUserGrantRoleRequest: (AUTH + "UserGrantRole", rpc.AuthUserGrantRoleResponse),
    rpc.AuthUserRevokeRoleRequest: (AUTH + "UserRevokeRole", rpc.AuthUserRevokeRoleResponse),
    rpc.AuthRoleAddRequest: (AUTH + "RoleAdd", rpc.AuthRoleAddResponse),
    rpc.AuthRoleDeleteRequest: (AUTH + "RoleDelete", rpc.AuthRoleDeleteResponse),
    rpc.AuthRoleGrantPermissionRequest: (
        AUTH + "RoleGrantPermission",
        rpc.AuthRoleGrantPermissionResponse,
    ),
    rpc.AuthRoleRevokePermissionRequest: (
        AUTH + "RoleRevokePermission",
        rpc.AuthRoleRevokePermissionResponse,
    ),
}


@dataclass
class History:
    """What all clients did and heard."""

    operations: list[Operation] = field(default_factory=list)
    acknowledged: int = 0


class Caller:
    """Somebody with a name, who calls members and waits for so long."""

    def __init__(
        self, world: World, fabric: Fabric, loop: SimLoop, name: str, history: History
    ) -> None:
        self.world = world
        self.fabric = fabric
        self.loop = loop
        self.name = name
        self.history = history
        self.rng = world.chance(name)
        self.is_stopped = False
        self.timeout_seconds = 3.0
        self.token: str | None = None
        """None: this caller shows root's certificate."""

    async def ask(self, target: str, request: Any) -> Any:
        """The answer, or the exception that came instead; recorded either way."""
        path, kind = ANSWERS[type(request)]
        future: asyncio.Future[tuple[Any, str]] = self.loop.create_future()

        def settle(outcome: Any, life: str) -> None:
            if not future.done():
                future.set_result((outcome, life))

        invoked = self.world.now
        self.world.trace(self.name, f"asks {target}: {brief(request)}")
        cancel = call(
            self.fabric,
            self.loop,
            self.name,
            target,
            path,
            request.SerializeToString(),
            settle,
            self.token,
        )
        try:
            async with asyncio.timeout(self.timeout_seconds):
                outcome, life = await future
        except TimeoutError as late:
            cancel()
            outcome, life = late, target
        answer = kind.FromString(outcome) if isinstance(outcome, bytes) else None
        is_refused = answer is None and is_surely_refused(outcome)
        completed = None if answer is None and not is_refused else self.world.now
        self.history.operations.append(
            Operation(self.name, life, request, invoked, completed, answer, is_refused)
        )
        shown = brief(answer) if answer is not None else repr(outcome)
        self.world.trace(self.name, f"{life} answers: {shown}")
        if answer is None:
            return outcome
        self.history.acknowledged += 1
        return answer


def is_surely_refused(outcome: Any) -> bool:
    if isinstance(outcome, Refused):
        return True
    if not isinstance(outcome, RequestError):
        return False
    return is_refusal(Code(outcome.code).name, outcome.message)


def brief(message: Any) -> str:
    text = " ".join(str(message).split())
    return f"{type(message).__name__}({text[:160]})"


class Client(Caller):
    """Puts, deletes, txns and reads over a few keys, now and then at another member."""

    def __init__(
        self,
        world: World,
        fabric: Fabric,
        loop: SimLoop,
        name: str,
        history: History,
        targets: Callable[[], list[str]],
        pause_seconds: float,
        keys: int,
    ) -> None:
        super().__init__(world, fabric, loop, name, history)
        self._targets = targets
        self._pause_seconds = pause_seconds
        self._keys = [b"k%d" % number for number in range(keys)]
        self._count = 0
        self._seen: dict[bytes, int] = {}
        """The mod revision of each key as this client saw it last."""
        self._revision = 1
        self.leases: list[int] = []
        """Of others, to bind keys to."""
        self._acts: list[tuple[float, Callable[[random.Random], Any]]] = [
            (0.30, self._put),
            (0.06, self._delete),
            (0.14, self._compare_and_swap),
            (0.06, self._batch),
            (0.22, self._get),
            (0.12, self._get_local),
            (0.06, self._read_txn),
            (0.04, self._compact),
        ]

    async def run(self) -> None:
        target = self.rng.choice(self._targets())
        while not self.is_stopped:
            await asyncio.sleep(self.rng.expovariate(1 / self._pause_seconds))
            if self.is_stopped:
                return
            answer = await self.ask(target, self._next())
            if isinstance(answer, Exception):
                await asyncio.sleep(self.rng.uniform(0, 0.2))
                target = self.rng.choice(self._targets())
            else:
                self._learn(answer)
                if self.rng.random() < 0.1:
                    target = self.rng.choice(self._targets())

    def _next(self) -> Any:
        pick = self.rng.random()
        for share, act in self._acts:
            if pick < share:
                return act(self.rng)
            pick -= share
        return self._put(self.rng)

    def _learn(self, answer: Any) -> None:
        self._revision = max(self._revision, answer.header.revision)
        if isinstance(answer, rpc.RangeResponse):
            for kv in answer.kvs:
                self._seen[kv.key] = kv.mod_revision

    def _value(self) -> bytes:
        self._count += 1
        return b"%s.%d" % (self.name.encode(), self._count)

    def _put(self, rng: random.Random) -> Any:
        lease = rng.choice(self.leases) if self.leases and rng.random() < 0.2 else 0
        return rpc.PutRequest(
            key=rng.choice(self._keys),
            value=self._value(),
            lease=lease,
            prev_kv=rng.random() < 0.2,
        )

    def _delete(self, rng: random.Random) -> Any:
        key = rng.choice(self._keys)
        end = key + b"\xff" if rng.random() < 0.3 else b""
        return rpc.DeleteRangeRequest(key=key, range_end=end, prev_kv=rng.random() < 0.3)

    def _compare_and_swap(self, rng: random.Random) -> Any:
        key = rng.choice(self._keys)
        compare = rpc.Compare(
            key=key,
            target=rpc.Compare.MOD,
            result=rpc.Compare.EQUAL,
            mod_revision=self._seen.get(key, 0),
        )
        put = rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=self._value()))
        look = rpc.RequestOp(request_range=rpc.RangeRequest(key=key))
        return rpc.TxnRequest(compare=[compare], success=[put, look], failure=[look])

    def _batch(self, rng: random.Random) -> Any:
        keys = rng.sample(self._keys, min(3, len(self._keys)))
        ops = [
            rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=self._value())) for key in keys
        ]
        if rng.random() < 0.3:
            ops[-1] = rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=keys[-1]))
        return rpc.TxnRequest(success=ops)

    def _get(self, rng: random.Random) -> Any:
        if rng.random() < 0.3:
            return rpc.RangeRequest(key=b"k", range_end=b"l", limit=rng.choice((0, 0, 3)))
        return rpc.RangeRequest(key=rng.choice(self._keys))

    def _get_local(self, rng: random.Random) -> Any:
        request = self._get(rng)
        request.serializable = True
        return request

    def _read_txn(self, rng: random.Random) -> Any:
        keys = rng.sample(self._keys, min(2, len(self._keys)))
        ops = [rpc.RequestOp(request_range=rpc.RangeRequest(key=key)) for key in keys]
        return rpc.TxnRequest(success=ops)

    def _compact(self, rng: random.Random) -> Any:
        revision = max(1, self._revision - rng.randint(0, 40))
        return rpc.CompactionRequest(revision=revision, physical=rng.random() < 0.2)
