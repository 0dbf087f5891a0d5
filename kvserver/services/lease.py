"""The Lease service: grants and revokes go to the log, the rest asks the primary's lessor
(spec/lease.md).

A keep-alive is answered without a task or a future unless the lease is past its deadline, has a
checkpoint to clear, or there is no primary here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, Protocol

from kvserver import errors
from kvserver.apply.command import Kind, varint
from kvserver.auth.identity import NOBODY, Identity
from kvserver.lease import Lessor, NotPrimary
from kvserver.limits import LEASE_COST_BYTES
from kvserver.proto import internal_pb2, rpc_pb2
from kvserver.services.gate import Gate, parse
from kvserver.services.leader_guard import LeaderGuard
from kvserver.transport import Call, Method, Stream

PREFIX = "/etcdserverpb.Lease/"
APPLIED_WAIT_SECONDS_MAX = 1.0
"""How long a leader lets a lease call wait for what is committed to be applied (K7, T3)."""

Authorize = Callable[[Call | Stream, str, Iterable[bytes]], None]
"""(call, "read" or "write", keys of the lease): raises `RequestError` when the caller may not.
With no keys it asks only for a known caller (spec/lease.md G1, K11, T4, L2)."""


class LeaderLeases(Protocol):
    """The leader's lessor, as a member that is not the leader reaches it (K6, T1).

    Both raise `NoLeader` or `Timeout` when the leader cannot be asked, and return None when this
    member has become the leader meanwhile.
    """

    async def renew(self, lease_id: int) -> int | None: ...

    async def time_to_live(
        self, request: rpc_pb2.LeaseTimeToLiveRequest
    ) -> rpc_pb2.LeaseTimeToLiveResponse | None: ...


class LeaseMember(Protocol):
    """What the service asks of the member."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...
    @property
    def clock(self) -> Any: ...
    @property
    def store(self) -> Any: ...
    @property
    def lessor(self) -> Lessor: ...
    @property
    def request_ids(self) -> Any: ...
    @property
    def applied_index(self) -> int: ...
    @property
    def node(self) -> Any:
        """The raft node; `committed` and `vouched` are asked of it."""

    @property
    def request_timeout_seconds(self) -> float: ...
    @property
    def header(self) -> Callable[[int], bytes]: ...

    def check_quota(self, cost: int) -> None: ...

    def propose(
        self, kind: Kind, request: Any, body: bytes, waiter: Any, identity: Identity = NOBODY
    ) -> None: ...

    async def caught_up(self) -> None:
        """Returns when what was committed before is applied here. Raises `RequestError`."""

    def leads_surely(self, now: float) -> bool:
        """Whether a leader need not ask before it renews a lease (K7)."""

    async def confirm_leadership(self) -> None:
        """Ask a quorum whether this member still leads. Raises `RequestError`."""


class LeaseService:
    """Handlers of `etcdserverpb.Lease`."""

    def __init__(
        self,
        member: LeaseMember,
        gate: Gate,
        guard: LeaderGuard,
        leader: LeaderLeases | None = None,
        authorize: Authorize | None = None,
    ) -> None:
        self._member = member
        self._gate = gate
        self._guard = guard
        self._leader = leader
        self._authorize = authorize
        self._promotion: asyncio.Event | None = None

    def methods(self, request_bytes_max: int) -> Iterator[Method]:
        unary = {
            "LeaseGrant": self.grant,
            "LeaseRevoke": self.revoke,
            "LeaseTimeToLive": self.time_to_live,
            "LeaseLeases": self.leases,
        }
        for name, handler in unary.items():
            yield Method(PREFIX + name, "unary", self._gate.unary(handler), request_bytes_max)
        yield Method(PREFIX + "LeaseKeepAlive", "stream", self.keep_alive, request_bytes_max)

    # -- through the log

    def grant(self, call: Call, body: bytes) -> None:
        request = parse(rpc_pb2.LeaseGrantRequest, body)
        self._permit(call, "write", ())
        member = self._member
        member.check_quota(LEASE_COST_BYTES)
        if request.ID == 0:  # picked here, so that it is the same on every member (G2)
            while request.ID == 0 or member.lessor.exists(request.ID):
                request.ID = member.request_ids.next_lease_id()
            body = request.SerializeToString()
        member.propose(Kind.LEASE_GRANT, request, body, call, self._gate.identity(call))

    def revoke(self, call: Call, body: bytes) -> None:
        request = parse(rpc_pb2.LeaseRevokeRequest, body)
        self._permit(call, "write", ())
        identity = self._gate.identity(call)
        self._member.propose(Kind.LEASE_REVOKE, request, body, call, identity)

    # -- reads

    def leases(self, call: Call, body: bytes) -> bytes:
        """Of this member, without asking anybody (L1)."""
        parse(rpc_pb2.LeaseLeasesRequest, body)
        member = self._member
        ids = member.lessor.leases()
        if self._authorize is not None:
            for lease_id in ids:
                self._authorize(call, "read", member.lessor.keys(lease_id))
        response = rpc_pb2.LeaseLeasesResponse(
            leases=[rpc_pb2.LeaseStatus(ID=lease_id) for lease_id in ids]
        )
        return member.header(member.store.revision) + response.SerializeToString()

    def time_to_live(self, call: Call, body: bytes) -> bytes | None:
        request = parse(rpc_pb2.LeaseTimeToLiveRequest, body)
        member = self._member
        if member.lessor.is_primary and not self._is_behind():
            return self._time_to_live(call, request)
        task = member.loop.create_task(self._time_to_live_later(call, request))
        call.on_cancel = lambda: _cancel(task)
        return None

    def _time_to_live(self, call: Call, request: rpc_pb2.LeaseTimeToLiveRequest) -> bytes:
        member = self._member
        lease_id = request.ID
        ttl, granted = member.lessor.time_to_live(lease_id, member.clock.monotonic())
        response = rpc_pb2.LeaseTimeToLiveResponse(ID=lease_id, TTL=ttl, grantedTTL=granted)
        if request.keys:
            keys = member.lessor.keys(lease_id)
            self._permit(call, "read", keys)
            response.keys.extend(keys)
        return member.header(member.store.revision) + response.SerializeToString()

    async def _time_to_live_later(
        self, call: Call, request: rpc_pb2.LeaseTimeToLiveRequest
    ) -> None:
        member = self._member
        try:
            if not member.lessor.is_primary and self._leader is not None:
                response = await self._leader.time_to_live(request)
                if response is not None:
                    if request.keys:
                        self._permit(call, "read", response.keys)
                    response.ClearField("header")
                    header = member.header(member.store.revision)
                    call.reply(header + response.SerializeToString())
                    return
            await self._primary()
            await self._applied()
            call.reply(self._time_to_live(call, request))
        except NotPrimary:
            call.fail(errors.LeaderChanged.code, errors.LeaderChanged.message)
        except errors.RequestError as error:
            call.fail(error.code, error.message)

    # -- renewals

    async def keep_alive(self, stream: Stream) -> None:
        """One answer per request, in order (K1); ends well at the client's half-close (K9)."""
        gate = self._gate
        gate.open_stream(stream)
        if stream.metadata.get("hasleader") == "true":
            self._guard.add(stream)
        member = self._member
        lessor = member.lessor
        try:
            async for body in stream:
                lease_id = parse(rpc_pb2.LeaseKeepAliveRequest, body).ID
                header = member.header(member.store.revision)  # before the renewal (K5)
                ttl: int | None = None
                if lessor.is_primary and (self._authorize is None or gate.is_open):
                    # Hot: nearly every renewal is an addition to a deadline.
                    now = member.clock.monotonic()
                    if member.leads_surely(now) and not self._has_promised():
                        ttl = lessor.renew(lease_id, now)
                if not ttl:
                    ttl = await self._renew(stream, lease_id)
                stream.send(header + _keep_alive_answer(lease_id, ttl))
                if not stream.writable:
                    await stream.drain()
        finally:
            self._guard.discard(stream)

    async def _renew(self, stream: Stream, lease_id: int) -> int:
        """The granted TTL, or 0 for a lease that is not there (any more)."""
        member = self._member
        lessor = member.lessor
        if self._authorize is not None:
            await self._gate.settle(stream)
            self._authorize(stream, "write", lessor.keys(lease_id))
        while True:
            if lessor.is_primary:
                ttl = await self.renew_here(lease_id)
            else:
                ttl = None if self._leader is None else await self._leader.renew(lease_id)
                if ttl is None:
                    await self._primary()
            if ttl is not None:
                return ttl

    async def renew_here(self, lease_id: int) -> int | None:
        """The same at the primary; None when this member's lessor is not it."""
        member = self._member
        lessor = member.lessor
        if self._has_promised():  # another member may have seen the lease's end
            with suppress(errors.RequestError):
                await self._applied()
        while lessor.is_primary:
            now = member.clock.monotonic()
            if not member.leads_surely(now):
                with suppress(errors.LeaderChanged):
                    await member.confirm_leadership()
                continue
            ttl = lessor.renew(lease_id, now)
            if ttl:
                return ttl
            if ttl is None:
                await self._renewable(lease_id)
            elif self._is_behind():  # it may be in the entries not applied yet (K7)
                await self._applied()
            else:
                return 0
        return None

    async def _renewable(self, lease_id: int) -> None:
        """Wait until a lease that could not be renewed may be, or is gone (K4, K10)."""
        member = self._member
        ended: asyncio.Future[None] = member.loop.create_future()
        if member.lessor.is_expired(lease_id, member.clock.monotonic()):
            member.lessor.when_ended(lease_id, lambda: _settle(ended))
            await ended
            return
        request = internal_pb2.LeaseCheckpointRequest()
        request.checkpoints.add(ID=lease_id, remaining_TTL=0)
        waiter = _FutureWaiter(ended)
        member.propose(Kind.LEASE_CHECKPOINT, request, request.SerializeToString(), waiter)
        await ended

    # -- waiting

    async def _primary(self) -> None:
        """Wait until this member's lessor is primary; `NoLeader` after the request timeout (K6)."""
        if self._member.lessor.is_primary:
            return
        if self._promotion is None:  # one for all who wait
            self._promotion = asyncio.Event()
            self._member.lessor.when_primary(self._promotion.set)
        try:
            async with asyncio.timeout(self._member.request_timeout_seconds):
                await self._promotion.wait()
        except TimeoutError:
            raise errors.NoLeader from None
        self._promotion = None

    async def _applied(self) -> None:
        """Wait until everything committed is applied here (K7, T3)."""
        try:
            async with asyncio.timeout(APPLIED_WAIT_SECONDS_MAX):
                await self._member.caught_up()
        except TimeoutError:
            raise errors.TimeoutWaitAppliedIndex from None

    def _is_behind(self) -> bool:
        """Whether there may be effects of an entry that is not applied here yet, be it that another
        member knows earlier that it is committed."""
        return bool(self._member.node.vouched > self._member.applied_index)

    def _has_promised(self) -> bool:
        """Whether another member may know of a commit that this leader does not know of."""
        node = self._member.node
        return bool(node.vouched > node.committed)

    def _permit(self, call: Call | Stream, access: str, keys: Iterable[bytes]) -> None:
        if self._authorize is not None:
            self._authorize(call, access, keys)


def _keep_alive_answer(lease_id: int, ttl_seconds: int) -> bytes:
    """`LeaseKeepAliveResponse` without its header. By hand: a third of the message's own cost."""
    ttl = b"\x18" + varint(ttl_seconds) if ttl_seconds else b""
    return b"\x10" + varint(lease_id) + ttl if lease_id else ttl


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()


class _FutureWaiter:
    """A future that waits for a proposal's outcome."""

    __slots__ = ("_future",)

    def __init__(self, future: asyncio.Future[None]) -> None:
        self._future = future

    def reply(self, body: bytes) -> None:
        _settle(self._future)

    def fail(self, code: int, message: str) -> None:
        if not self._future.done():
            self._future.set_exception(errors.RequestError(message, errors.Code(code)))
