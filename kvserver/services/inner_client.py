"""KV, Lease and Watch of this member, used by the server itself in a caller's name.

Requests pass the same validation, quota and permission as the caller's own would, because they are
given to the same handlers with the caller's metadata and peer. They are not counted as requests of
clients.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Protocol

from kvserver.errors import RequestError
from kvserver.limits import WATCH_QUEUE_RESPONSES_MAX
from kvserver.proto import rpc_pb2
from kvserver.services.access import Access
from kvserver.services.in_process import Handler, InnerCall, InnerStream
from kvserver.services.kv import KVService
from kvserver.services.lease import LeaseService
from kvserver.transport import Call, Stream
from kvserver.watch import Hub

Caller = Call | Stream


class WatchMember(Protocol):
    """What a watch asks of the member."""

    @property
    def hub(self) -> Hub: ...

    def schedule_hub(self) -> None: ...


class InnerClient:
    """Every method takes the call in whose name it asks, and raises `RequestError`."""

    def __init__(
        self, member: WatchMember, kv: KVService, lease: LeaseService, access: Access
    ) -> None:
        self._member = member
        self._kv = kv
        self._lease = lease
        self._access = access

    async def txn(self, caller: Caller, request: rpc_pb2.TxnRequest) -> rpc_pb2.TxnResponse:
        reply = await self._ask(caller, self._kv.txn, request)
        return rpc_pb2.TxnResponse.FromString(reply)

    def start_txn(self, caller: Caller, request: rpc_pb2.TxnRequest) -> asyncio.Task[Any]:
        """The same as a task of its own, which the end of the caller does not end."""
        return asyncio.ensure_future(self.txn(caller, request))

    async def range_(self, caller: Caller, request: rpc_pb2.RangeRequest) -> rpc_pb2.RangeResponse:
        reply = await self._ask(caller, self._kv.range_, request)
        return rpc_pb2.RangeResponse.FromString(reply)

    async def delete(self, caller: Caller, key: bytes) -> rpc_pb2.DeleteRangeResponse:
        request = rpc_pb2.DeleteRangeRequest(key=key)
        reply = await self._ask(caller, self._kv.delete_range, request)
        return rpc_pb2.DeleteRangeResponse.FromString(reply)

    async def grant(self, caller: Caller, ttl_seconds: int) -> int:
        request = rpc_pb2.LeaseGrantRequest(TTL=ttl_seconds)
        reply = await self._ask(caller, self._lease.grant, request)
        return rpc_pb2.LeaseGrantResponse.FromString(reply).ID

    async def renew(self, caller: Caller, lease_id: int) -> None:
        """One keep-alive; whether the lease lives is found out by whoever uses it."""
        request = rpc_pb2.LeaseKeepAliveRequest(ID=lease_id)
        stream = InnerStream(caller.metadata, caller.peer, _once(request.SerializeToString()))
        with suppress(RequestError):
            await self._lease.keep_alive(stream)  # type: ignore[arg-type]

    def watch(self, caller: Caller, request: rpc_pb2.WatchCreateRequest) -> InnerWatch:
        self._access.permit_watch(caller, request.key, request.range_end)  # type: ignore[arg-type]
        return InnerWatch(self._member, request)

    async def _ask(self, caller: Caller, handler: Handler, request: Any) -> bytes:
        await self._access.settle(caller)  # type: ignore[arg-type]
        call = InnerCall(caller.metadata, caller.peer)
        return await call.ask(handler, request.SerializeToString())


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


class InnerWatch:
    """One watcher; a sink of the hub and an iterator of its responses with events.

    Ends when the watcher was cancelled, which only compaction does.
    """

    def __init__(self, member: WatchMember, request: rpc_pb2.WatchCreateRequest) -> None:
        self._member = member
        self._responses: deque[bytes] = deque()
        self._arrived = asyncio.Event()
        self._is_full = False
        self._watches = member.hub.open_stream(self)
        self._watches.request(rpc_pb2.WatchRequest(create_request=request))
        self._run_hub()

    # -- the hub's sink

    @property
    def writable(self) -> bool:
        return len(self._responses) < WATCH_QUEUE_RESPONSES_MAX

    def send_many(self, bodies: list[bytes]) -> None:
        for body in bodies:
            self.send(body)

    def send(self, body: bytes) -> None:
        self._responses.append(body)
        self._is_full = not self.writable
        self._arrived.set()

    # -- for the reader

    def __aiter__(self) -> InnerWatch:
        return self

    async def __anext__(self) -> rpc_pb2.WatchResponse:
        while True:
            while not self._responses:
                self._arrived.clear()
                await self._arrived.wait()
            response = rpc_pb2.WatchResponse.FromString(self._responses.popleft())
            if self._is_full and not self._responses:
                self._is_full = False
                self._watches.resume()
                self._run_hub()
            if response.canceled:
                raise StopAsyncIteration
            if response.events:
                return response

    def close(self) -> None:
        self._watches.close()

    def _run_hub(self) -> None:
        if self._member.hub.has_work:
            self._member.schedule_hub()
