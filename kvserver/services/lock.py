"""The Lock service (spec/concurrency.md §2)."""

from __future__ import annotations

from collections.abc import Iterator

from kvserver import errors
from kvserver.proto import lock_pb2, rpc_pb2
from kvserver.services.concurrency import (
    Queues,
    Ticket,
    created_at,
    first_of,
    method,
    participant_key,
    put,
    queue_prefix,
    read,
)
from kvserver.services.gate import Gate
from kvserver.transport import Call, Method

PREFIX = "/v3lockpb.Lock/"
SESSION_EXPIRED = "mutex: session is expired"


class LockService:
    """Handlers of `v3lockpb.Lock`."""

    def __init__(self, queues: Queues, gate: Gate) -> None:
        self._queues = queues
        self._client = queues.client
        self._gate = gate

    def methods(self, request_bytes_max: int) -> Iterator[Method]:
        gate, size = self._gate, request_bytes_max
        yield method(PREFIX + "Lock", gate, lock_pb2.LockRequest, self.lock, size)
        yield method(PREFIX + "Unlock", gate, lock_pb2.UnlockRequest, self.unlock, size)

    async def lock(self, call: Call, request: lock_pb2.LockRequest) -> lock_pb2.LockResponse:
        """Locking again with the lease that holds the lock changes nothing (L3)."""
        lease_id = await self._queues.session(call, request.lease)
        prefix = queue_prefix(request.name)
        key = participant_key(request.name, lease_id)
        first = read(first_of(prefix))
        taken = await self._queues.enter(
            call,
            Ticket(prefix, key, 0),
            rpc_pb2.TxnRequest(
                compare=[created_at(key, 0)],
                success=[put(key, b"", lease_id), first],
                failure=[read(rpc_pb2.RangeRequest(key=key)), first],
            ),
        )
        ticket = Ticket(prefix, key, _ticket_revision(taken))
        holders = taken.responses[1].response_range.kvs
        if not holders or holders[0].create_revision == ticket.revision:
            return lock_pb2.LockResponse(header=taken.header, key=key)
        await self._queues.wait(call, ticket)
        return lock_pb2.LockResponse(header=await self._still_there(call, ticket), key=key)

    async def _still_there(self, call: Call, ticket: Ticket) -> rpc_pb2.ResponseHeader:
        """A lease that ended while its owner waited took the lock with it (L4)."""
        own = await self._client.range_(call, rpc_pb2.RangeRequest(key=ticket.key))
        if not own.kvs:
            raise errors.RequestError(SESSION_EXPIRED)
        return own.header

    async def unlock(self, call: Call, request: lock_pb2.UnlockRequest) -> lock_pb2.UnlockResponse:
        """A plain delete: nobody asks whose key it is (L6)."""
        deleted = await self._client.delete(call, request.key)
        return lock_pb2.UnlockResponse(header=deleted.header)


def _ticket_revision(taken: rpc_pb2.TxnResponse) -> int:
    if taken.succeeded:
        return taken.header.revision
    return taken.responses[0].response_range.kvs[0].create_revision
