"""What locks and elections share: participants queue under a prefix (spec/concurrency.md §1).

A participant is a key attached to its lease; its create_revision is its ticket, and the smallest
ticket under the prefix holds the lock or leads. Everything is ordinary requests in the caller's
name. A participant whose caller goes away, or whose wait fails, leaves the queue (B5).

Kinder than etcd in three places: who goes while its place is being taken leaves no place behind; a
key is deleted in the name of its caller, so that this works with auth; and a compaction ends no
wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from kvserver import errors
from kvserver.proto import rpc_pb2
from kvserver.services.gate import Gate, parse
from kvserver.services.inner_client import InnerClient
from kvserver.transport import Call, Method

SESSION_TTL_SECONDS = 60
"""Of the lease that the server grants to a caller without one (B4)."""

_Compare = rpc_pb2.Compare
_Range = rpc_pb2.RangeRequest
Work = Callable[[Any, Any], Coroutine[Any, Any, Message]]


@dataclass(frozen=True, slots=True)
class Ticket:
    """A place in a queue."""

    prefix: bytes
    key: bytes
    revision: int
    """The key's create_revision."""


def queue_prefix(name: bytes) -> bytes:
    return name + b"/"


def participant_key(name: bytes, lease_id: int) -> bytes:
    """Lease ids in lower-case hex without padding, a minus sign before negative ones (B1)."""
    return b"%b/%b" % (name, f"{lease_id:x}".encode())


def first_of(prefix: bytes, **bounds: Any) -> rpc_pb2.RangeRequest:
    """The oldest participant (B2)."""
    return _ranked(prefix, _Range.ASCEND, **bounds)


def _ranked(prefix: bytes, order: Any, **bounds: Any) -> rpc_pb2.RangeRequest:
    end = prefix[:-1] + bytes((prefix[-1] + 1,))  # a queue's prefix ends in a slash
    return _Range(
        key=prefix,
        range_end=end,
        sort_order=order,
        sort_target=_Range.CREATE,
        limit=1,
        **bounds,
    )


def created_at(key: bytes, revision: int) -> rpc_pb2.Compare:
    """True while the key is the one created at `revision`; 0 means that there is none."""
    return _Compare(
        key=key, target=_Compare.CREATE, result=_Compare.EQUAL, create_revision=revision
    )


def read(request: rpc_pb2.RangeRequest) -> rpc_pb2.RequestOp:
    return rpc_pb2.RequestOp(request_range=request)


def put(key: bytes, value: bytes, lease_id: int) -> rpc_pb2.RequestOp:
    request = rpc_pb2.PutRequest(key=key, value=value, lease=lease_id)
    return rpc_pb2.RequestOp(request_put=request)


def deletion(ticket: Ticket) -> rpc_pb2.TxnRequest:
    """Gives the place up, unless it has been given up and taken again since."""
    request = rpc_pb2.DeleteRangeRequest(key=ticket.key)
    return rpc_pb2.TxnRequest(
        compare=[created_at(ticket.key, ticket.revision)],
        success=[rpc_pb2.RequestOp(request_delete_range=request)],
    )


class Queues:
    """Entering, waiting and leaving. Owner: the loop."""

    def __init__(self, client: InnerClient) -> None:
        self.client = client
        self._leaving: set[asyncio.Task[Any]] = set()

    async def session(self, call: Call, lease_id: int) -> int:
        """A lease to take part with: the caller's own, kept alive once, or a new one (B4)."""
        if not lease_id:
            return await self.client.grant(call, SESSION_TTL_SECONDS)
        await self.client.renew(call, lease_id)
        return lease_id

    async def enter(
        self, call: Call, ticket: Ticket, request: rpc_pb2.TxnRequest
    ) -> rpc_pb2.TxnResponse:
        """Run the transaction that takes a place. Should the caller go while it is under way, a
        place taken by it is given up again."""
        entering = self.client.start_txn(call, request)
        try:
            return await asyncio.shield(entering)
        except asyncio.CancelledError:
            entering.add_done_callback(lambda done: self._undo(call, ticket, done))
            raise

    def _undo(self, call: Call, ticket: Ticket, entering: asyncio.Task[Any]) -> None:
        if entering.cancelled() or entering.exception() is not None:
            return
        response = entering.result()
        if response.succeeded:
            revision = response.header.revision
            self.leave(call, Ticket(ticket.prefix, ticket.key, revision))

    async def wait(self, call: Call, ticket: Ticket) -> None:
        """Return when nobody is before `ticket`. Whoever waits watches its direct predecessor
        only, and looks again when that one is gone (B3)."""
        try:
            while True:
                bound = ticket.revision - 1
                request = _ranked(ticket.prefix, _Range.DESCEND, max_create_revision=bound)
                response = await self.client.range_(call, request)
                if not response.kvs:
                    return
                await self._gone(call, response.kvs[0].key, response.header.revision)
        except BaseException:
            self.leave(call, ticket)
            raise

    async def _gone(self, call: Call, key: bytes, revision: int) -> None:
        """Return when the key that was there at `revision` is deleted, or when that can no longer
        be told because of a compaction."""
        request = rpc_pb2.WatchCreateRequest(
            key=key, start_revision=revision + 1, filters=[rpc_pb2.WatchCreateRequest.NOPUT]
        )
        watch = self.client.watch(call, request)
        try:
            async for _ in watch:
                return
        finally:
            watch.close()

    def leave(self, call: Call, ticket: Ticket) -> None:
        """Delete the key without waiting for it, even when the caller has gone."""
        task = asyncio.ensure_future(self._leave(call, ticket))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _leave(self, call: Call, ticket: Ticket) -> None:
        with suppress(errors.RequestError):  # then the lease's end removes it
            await self.client.txn(call, deletion(ticket))


def method(
    path: str, gate: Gate, message: type[Message], work: Work, request_bytes_max: int
) -> Method:
    """A unary method in a task. Every refusal of an inner call leaves as UNKNOWN with its text
    (spec/wire-api.md §5.2); what the gate refuses keeps its code."""

    def begin(call: Call, body: bytes) -> Any:
        return work(call, parse(message, body))

    guarded: Callable[[Call, bytes], Any] = gate.unary(begin)

    async def handler(call: Call, body: bytes) -> bytes:
        working = guarded(call, body)
        try:
            response: Message = await working
        except errors.RequestError as error:
            raise unknown(error) from None
        return response.SerializeToString()

    return Method(path, "unary", handler, request_bytes_max)


def unknown(error: errors.RequestError) -> errors.RequestError:
    return errors.RequestError(error.message, errors.Code.UNKNOWN)
