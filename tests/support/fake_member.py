"""A member without raft, for tests of the services: what is proposed is applied in the next turn.

The lessor, the hub and the transport are real; the clock stands still until a test moves it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio

from kvserver import errors
from kvserver.apply.command import Kind
from kvserver.lease import Lessor
from kvserver.membership.ids import RequestIds
from kvserver.proto import rpc_pb2
from kvserver.services.gate import error_status
from kvserver.transport import Method, Server
from kvserver.watch import Hub
from tests.watch.fakes import FakeHistory, encode_header

WAIT_SECONDS = 60.0
"""Only an upper bound for a test that hangs."""


class FakeNode:
    """What services ask of raft."""

    committed = 5
    promised = 0

    @property
    def vouched(self) -> int:
        return max(self.committed, self.promised)


class FakeClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class FakeMember:
    def __init__(self, *, checkpoints: bool = False) -> None:
        self.loop = asyncio.get_running_loop()
        self.clock = FakeClock()
        self.store = FakeHistory()
        self.header = encode_header
        self.hub = Hub(self.store, encode_header)
        self.lessor = Lessor(ttl_min=2, checkpoints=checkpoints)
        self.lessor.promote(self.clock.now, 0.0)
        self.request_ids = RequestIds(9, 0)
        self.node = FakeNode()
        self.applied_index = 5
        self.has_leader = True
        self.is_learner = False
        self.request_timeout_seconds = WAIT_SECONDS
        self.has_room = True
        self.proposed: list[tuple[Kind, Any]] = []
        self.holds_proposals = False
        self.has_stalled = False
        self.late: list[Callable[[], None]] = []
        """What is applied when a reader waits until everything committed is."""

    def check_quota(self, cost: int) -> None:
        if not self.has_room:
            raise errors.NoSpace

    def propose(
        self, kind: Kind, request: Any, body: bytes, waiter: Any, identity: Any = None
    ) -> None:
        assert type(request).FromString(body) == request
        self.proposed.append((kind, request))
        if not self.holds_proposals:
            self.loop.call_soon(self.apply, kind, request, waiter)

    def apply(self, kind: Kind, request: Any, waiter: Any) -> None:
        try:
            body = self._apply(kind, request)
        except errors.RequestError as error:
            waiter.fail(error.code, error.message)
        else:
            waiter.reply(encode_header(self.store.revision) + body)

    def _apply(self, kind: Kind, request: Any) -> bytes:
        now = self.clock.now
        if kind is Kind.LEASE_GRANT:
            ttl = self.lessor.grant(request.ID, request.TTL, now)
            return rpc_pb2.LeaseGrantResponse(ID=request.ID, TTL=ttl).SerializeToString()
        if kind is Kind.LEASE_REVOKE:
            keys = self.lessor.revoke(request.ID)
            if keys:
                self.commit(*((key, None) for key in keys))
            return b""
        assert kind is Kind.LEASE_CHECKPOINT
        for checkpoint in request.checkpoints:
            self.lessor.checkpoint(checkpoint.ID, checkpoint.remaining_TTL, now)
        return b""

    def commit(self, *changes: tuple[bytes, bytes | None]) -> None:
        events = self.store.commit(*changes)
        self.hub.notify(self.store.revision, events)

    def schedule_hub(self) -> None:
        self.loop.call_soon(self._step_hub)

    def _step_hub(self) -> None:
        if self.hub.step():
            self.schedule_hub()

    def leads_surely(self, now: float) -> bool:
        return not self.has_stalled

    async def confirm_leadership(self) -> None:
        await self.caught_up()
        self.has_stalled = False

    async def caught_up(self) -> None:
        for apply in self.late:
            apply()
        self.node.committed = self.applied_index = self.node.vouched


@asynccontextmanager
async def serving(methods: Iterable[Method]) -> AsyncIterator[grpc.aio.Channel]:
    """The methods on a port, and a client's channel to it."""
    problems: list[Any] = []

    def note(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        # grpcio's poller belongs to the loop of an earlier test and says so now and then.
        if "PollerCompletionQueue" not in context["message"]:
            problems.append(context)

    asyncio.get_running_loop().set_exception_handler(note)
    server = Server(methods, error_status=error_status)
    _, port = await server.listen_tcp("127.0.0.1", 0)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.drain(0)
    assert problems == [], problems


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until the condition holds."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():  # noqa: ASYNC110 - the condition is no event of ours
            await asyncio.sleep(0)
